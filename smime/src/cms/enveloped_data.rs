//! `EnvelopedData` as received, and opened (RFC 5652 section 6).

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use der::asn1::ObjectIdentifier;
use spki::AlgorithmIdentifierOwned;

use super::{CmsError, KeyTransport, MAX_RECIPIENTS, Recipient, signer_info::decode};
use crate::{
    Certificate, Fault,
    algorithm::ContentEncryptionAlgorithm,
    ber::{Element, Tag},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
};

/// An `EnvelopedData` whose content stays in the octets it was read from.
#[derive(Debug)]
pub struct EnvelopedData<'a> {
    recipients: Vec<Recipient>,
    algorithm: AlgorithmIdentifierOwned,
    content: Vec<&'a [u8]>,
}

/// Why an `EnvelopedData` was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key could not be used; nothing is known of the message.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An algorithm that is not supported here.
    #[error("{what} algorithm {oid} is not supported")]
    Unsupported {
        /// Of what.
        what: &'static str,
        /// Which.
        oid: ObjectIdentifier,
    },
    /// The ciphertext, its key or its padding is bad. One word for all of it: which one it was is what
    /// an attacker wants to know (RFC 3218).
    #[error("the content cannot be decrypted")]
    Undecryptable,
}

impl OpenError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Key(error) => error.fault(),
            Self::Unsupported { .. } | Self::Undecryptable => Fault::Message,
        }
    }
}

impl<'a> EnvelopedData<'a> {
    pub(super) fn read(element: Element<'_, 'a>) -> Result<Self, CmsError> {
        let mut fields = element.expect(Tag::SEQUENCE, "EnvelopedData")?.children();
        fields.required("version")?.expect(Tag::INTEGER, "version")?;
        fields.optional_context(0);
        let infos = fields.required("recipientInfos")?.expect(Tag::SET, "recipientInfos")?;
        if infos.children().count() > MAX_RECIPIENTS {
            return Err(CmsError::TooMany { part: "recipients", limit: MAX_RECIPIENTS });
        }
        let recipients = infos.children().map(Recipient::read).collect::<Result<_, _>>()?;
        let mut encrypted = fields
            .required("encryptedContentInfo")?
            .expect(Tag::SEQUENCE, "encryptedContentInfo")?
            .children();
        encrypted.required("contentType")?.object_identifier()?;
        let algorithm =
            decode(encrypted.required("contentEncryptionAlgorithm")?, "contentEncryptionAlgorithm")?;
        let content = match encrypted.optional_context(0) {
            Some(content) => content.string_segments()?,
            None => return Err(CmsError::Part { part: "encryptedContent" }),
        };
        encrypted.end()?;
        fields.optional_context(1);
        fields.end()?;
        Ok(Self { recipients, algorithm, content })
    }

    /// The recipients in the order received.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The recipient that names `certificate`. It is chosen by the certificate alone, never by trying
    /// keys: that one of several fits would tell an attacker something (RFC 3218, CVE-2019-1563).
    pub fn recipient_for(&self, certificate: &Certificate) -> Option<&KeyTransport> {
        self.recipients.iter().find_map(|recipient| match recipient {
            Recipient::KeyTransport(info) if info.names(certificate) => Some(info),
            _ => None,
        })
    }

    /// How the content is encrypted.
    pub fn algorithm(&self) -> Result<ContentEncryptionAlgorithm, OpenError> {
        ContentEncryptionAlgorithm::from_identifier(&self.algorithm)
            .ok_or(OpenError::Unsupported { what: "content-encryption", oid: self.algorithm.oid })
    }

    /// Decrypts the content with the key that `recipient` holds for `decryptor`.
    ///
    /// A random key is drawn before the token is asked, and used where the token rejects the encrypted
    /// key or gives one of another length: a bad key fails where every wrong key fails.
    pub fn open(&self, recipient: &KeyTransport, decryptor: &dyn Decryptor) -> Result<Vec<u8>, OpenError> {
        let cipher = self.algorithm()?;
        let algorithm =
            recipient.algorithm().map_err(|oid| OpenError::Unsupported { what: "key-encryption", oid })?;
        let decoy = ContentEncryptionKey::random(cipher.key_len())?;
        let key = match decryptor.decrypt_key(recipient.encrypted_key(), algorithm)? {
            Unwrapped::Key(key) if key.len() == cipher.key_len() => key,
            Unwrapped::Key(_) | Unwrapped::Rejected => decoy,
        };
        decrypt(&cipher, &key, &self.content)
    }
}

/// Decrypts segments of content. Nothing is returned unless all of it decrypts and the padding is right.
fn decrypt(
    cipher: &ContentEncryptionAlgorithm,
    key: &ContentEncryptionKey,
    segments: &[&[u8]],
) -> Result<Vec<u8>, OpenError> {
    let ContentEncryptionAlgorithm::AesCbc { key_len, iv } = cipher;
    let engine = match key_len {
        16 => &AES_128,
        24 => &AES_192,
        _ => &AES_256,
    };
    let undecryptable = |_| OpenError::Undecryptable;
    let key = UnboundCipherKey::new(engine, key.expose()).map_err(undecryptable)?;
    let context = DecryptionContext::Iv128(FixedLength::from(*iv));
    let mut stream = StreamingDecryptingKey::cbc_pkcs7(key, context).map_err(undecryptable)?;
    let len: usize = segments.iter().map(|segment| segment.len()).sum();
    let mut plain = vec![0; len + engine.block_len()];
    let mut written = 0;
    for segment in segments {
        let room = plain.get_mut(written..).unwrap_or_default();
        written += stream.update(segment, room).map_err(undecryptable)?.written().len();
    }
    let room = plain.get_mut(written..).unwrap_or_default();
    written += stream.finish(room).map_err(undecryptable)?.written().len();
    plain.truncate(written);
    Ok(plain)
}
