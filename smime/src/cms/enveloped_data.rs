//! `EnvelopedData` (RFC 5652 section 6) and `AuthEnvelopedData` (RFC 5083) as received, and opened.

use const_oid::db::rfc5911::ID_DATA;
use der::asn1::ObjectIdentifier;
use spki::AlgorithmIdentifierOwned;

use super::{
    CmsError, EncryptedKey, MAX_RECIPIENTS, Recipient,
    decrypt::{decrypt, prove},
    signer_info::decode,
};
use crate::{
    Certificate, Fault,
    algorithm::ContentEncryptionAlgorithm,
    ber::{Children, Element, Tag},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    question::{Answer, Question},
};

/// An `EnvelopedData` or `AuthEnvelopedData` whose content stays in the octets it was read from.
#[derive(Debug)]
pub struct EnvelopedData<'a> {
    recipients: Vec<Recipient>,
    content_type: ObjectIdentifier,
    algorithm: AlgorithmIdentifierOwned,
    content: Vec<&'a [u8]>,
    authentication: Option<Authentication>,
}

/// What a recipient has for the content.
#[derive(Debug)]
pub struct Unlocked {
    /// The key, or one in its place.
    pub key: ContentEncryptionKey,
    /// Whether it is a random one, because there was none.
    pub is_decoy: bool,
}

/// What makes an `AuthEnvelopedData` one.
#[derive(Debug)]
pub(super) struct Authentication {
    /// The authAttrs as a SET OF in DER; empty where there are none (RFC 5083 2.2).
    pub(super) attributes: Vec<u8>,
    pub(super) mac: Vec<u8>,
}

/// Why an `EnvelopedData` was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key could not be used; nothing is known of the message.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An algorithm or content that is not supported here.
    #[error("the {what} type {oid} is not supported")]
    Unsupported {
        /// Of what.
        what: &'static str,
        /// Which.
        oid: ObjectIdentifier,
    },
    /// A label of RSAES-OAEP that no token would be asked with (RFC 4055 4.1 sets no limit; mail has none).
    #[error(
        "the key is encrypted with an RSAES-OAEP label of {octets} octets, of which {limit} at most are taken"
    )]
    Label {
        /// How long it is.
        octets: usize,
        /// The limit.
        limit: usize,
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
            Self::Unsupported { .. } | Self::Label { .. } | Self::Undecryptable => Fault::Message,
        }
    }
}

impl<'a> EnvelopedData<'a> {
    pub(super) fn read(element: Element<'_, 'a>) -> Result<Self, CmsError> {
        let mut fields = element.expect(Tag::SEQUENCE, "EnvelopedData")?.children();
        let enveloped = Self::read_common(&mut fields)?;
        fields.optional_context(1);
        fields.end()?;
        Ok(enveloped)
    }

    /// Reads an `AuthEnvelopedData` (RFC 5083 section 2.1).
    pub(super) fn read_authenticated(element: Element<'_, 'a>) -> Result<Self, CmsError> {
        let mut fields = element.expect(Tag::SEQUENCE, "AuthEnvelopedData")?.children();
        let mut enveloped = Self::read_common(&mut fields)?;
        let attributes = match fields.optional_context(1) {
            Some(attributes) => attributes.to_der_as(Tag::SET)?,
            None => Vec::new(),
        };
        let mac = fields.required("mac")?.octet_string()?.concat();
        fields.optional_context(2);
        fields.end()?;
        enveloped.authentication = Some(Authentication { attributes, mac });
        Ok(enveloped)
    }

    /// What both begin with: version, originatorInfo, recipientInfos, and the encrypted content.
    fn read_common(fields: &mut Children<'_, 'a>) -> Result<Self, CmsError> {
        fields.required("version")?.expect(Tag::INTEGER, "version")?;
        fields.optional_context(0);
        let infos = fields.required("recipientInfos")?.expect(Tag::SET, "recipientInfos")?;
        if infos.children().count() > MAX_RECIPIENTS {
            return Err(CmsError::TooMany { part: "recipients", limit: MAX_RECIPIENTS });
        }
        let recipients = infos.children().map(Recipient::read).collect::<Result<_, _>>()?;
        let encrypted = fields.required("encryptedContentInfo")?;
        let mut encrypted = encrypted.expect(Tag::SEQUENCE, "encryptedContentInfo")?.children();
        let content_type = encrypted.required("contentType")?.object_identifier()?;
        let algorithm =
            decode(encrypted.required("contentEncryptionAlgorithm")?, "contentEncryptionAlgorithm")?;
        let content = match encrypted.optional_context(0) {
            Some(content) => content.string_segments()?,
            None => return Err(CmsError::Part { part: "encryptedContent" }),
        };
        encrypted.end()?;
        Ok(Self { recipients, content_type, algorithm, content, authentication: None })
    }

    /// The recipients in the order received.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The key for `certificate`. It is chosen by the certificate alone, never by trying keys: that one of
    /// several fits would tell an attacker something (RFC 3218, CVE-2019-1563). That there is one says nothing of its
    /// owner: RecipientInfos are covered by no tag and no signature, and anybody can write one.
    ///
    /// Of several the first one.
    pub fn recipient_for(&self, certificate: &Certificate) -> Option<EncryptedKey<'_>> {
        self.recipients_for(certificate).next()
    }

    /// All keys for `certificate`, in the order received. Who asks for one of them asks for all that he would ever ask for,
    /// whatever comes of the first.
    pub fn recipients_for(&self, certificate: &Certificate) -> impl Iterator<Item = EncryptedKey<'_>> {
        self.recipients.iter().flat_map(|recipient| recipient.keys_for(certificate))
    }

    /// How the content is encrypted. A cipher with a tag belongs into an `AuthEnvelopedData` and any other
    /// into an `EnvelopedData`: one under the name of the other is an attack (RFC 9709) or a mistake. Of these
    /// only AES-GCM in an `EnvelopedData` is read, with its tag behind the content: common programs write it.
    pub fn algorithm(&self) -> Result<ContentEncryptionAlgorithm, OpenError> {
        ContentEncryptionAlgorithm::from_identifier(&self.algorithm)
            .filter(|cipher| match self.authentication {
                Some(_) => cipher.is_authenticated(),
                None => !cipher.is_authenticated() || cipher.appended_tag_len().is_some(),
            })
            .ok_or(OpenError::Unsupported { what: "content-encryption", oid: self.algorithm.oid })
    }

    /// Decrypts the content with the key that `recipient` holds for `decryptor`: [`Self::question`],
    /// and [`Self::open_with`] the answer.
    pub fn open(&self, recipient: EncryptedKey<'_>, decryptor: &dyn Decryptor) -> Result<Vec<u8>, OpenError> {
        let question = self.question(recipient, decryptor.certificate())?;
        let answer = question.map(|question| question.ask_decryptor(decryptor)).transpose()?;
        self.open_with(recipient, answer)
    }

    /// What to ask the private key of `certificate`, so that the content can be opened with what `recipient` holds for
    /// it. `None`: nothing. That is no reason to be quicker: [`Self::open_with`] is to be told so.
    pub fn question(
        &self,
        recipient: EncryptedKey<'_>,
        certificate: &Certificate,
    ) -> Result<Option<Question>, OpenError> {
        self.cipher_of_an_entity()?;
        recipient.question(certificate)
    }

    /// Decrypts the content by the answer to [`Self::question`]: [`Self::key_with`] it, and [`Self::open_by`] that key. What a
    /// decoy opens is not given: one in 256 finds a good padding in CBC mode, and nothing but noise behind it.
    pub fn open_with(
        &self,
        recipient: EncryptedKey<'_>,
        answer: Option<Answer>,
    ) -> Result<Vec<u8>, OpenError> {
        let unlocked = self.key_with(recipient, answer)?;
        let content = self.open_by(&unlocked.key)?;
        if unlocked.is_decoy { Err(OpenError::Undecryptable) } else { Ok(content) }
    }

    /// The key that `recipient` holds for the content, by the answer to [`Self::question`].
    ///
    /// A random key is drawn before the answer is looked at, and given where the token rejects the encrypted
    /// key or gives one of another length: a bad key fails where every wrong key fails, and is nobody else's. Whoever
    /// answers strangers does the same work with it; what it opens is nobody's text.
    pub fn key_with(
        &self,
        recipient: EncryptedKey<'_>,
        answer: Option<Answer>,
    ) -> Result<Unlocked, OpenError> {
        let cipher = self.cipher_of_an_entity()?;
        let decoy = ContentEncryptionKey::random(cipher.key_len())?;
        Ok(match recipient.unwrapped(answer)? {
            Unwrapped::Key(key) if key.len() == cipher.key_len() => Unlocked { key, is_decoy: false },
            Unwrapped::Key(_) | Unwrapped::Rejected => Unlocked { key: decoy, is_decoy: true },
        })
    }

    /// Decrypts the content with a key of [`Self::key_with`].
    pub fn open_by(&self, key: &ContentEncryptionKey) -> Result<Vec<u8>, OpenError> {
        decrypt(&self.cipher_of_an_entity()?, key, &self.content, self.authentication.as_ref())
    }

    /// How the content is encrypted, if it is a MIME entity. Of S/MIME's contents only `id-data` is one (RFC 8551
    /// 2.4.1); anything else would need the content-type among the authAttrs, or be taken for what it is not (RFC 5083
    /// 2.1).
    fn cipher_of_an_entity(&self) -> Result<ContentEncryptionAlgorithm, OpenError> {
        let cipher = self.algorithm()?;
        if self.content_type != ID_DATA {
            return Err(OpenError::Unsupported { what: "content", oid: self.content_type });
        }
        Ok(cipher)
    }

    /// Whether the content opens with a key that is known already. What is decrypted for that is wiped.
    pub(super) fn prove(&self, key: &ContentEncryptionKey) -> Result<(), OpenError> {
        prove(&self.algorithm()?, key, &self.content, self.authentication.as_ref())
    }
}
