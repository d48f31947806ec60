//! `EnvelopedData` (RFC 5652 section 6) and `AuthEnvelopedData` (RFC 5083) written in DER.
//!
//! All lengths are known before the first octet is encrypted, so the object is laid out once and the content
//! encrypted into its place. Whom to encrypt to and by which algorithms is decided in [`crate::profile`].

mod agreement;
mod content;
mod recipient;

use const_oid::db::rfc5911;
use der::Encode;

#[cfg(test)]
pub(crate) use recipient::transport_identifier;
pub use recipient::{RecipientKey, RecipientKeyError, RsaTransport};

use super::{MAX_RECIPIENTS, attributes::tlv};
use crate::{
    Fault,
    ber::{Tag, header_len, write_header},
    cipher::ContentCipher,
    key::{ContentEncryptionKey, KeyError},
};
use content::ContentSeal;
pub(crate) use content::Plain;

/// Why nothing was encrypted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Nobody to encrypt to.
    #[error("there is no recipient to encrypt to")]
    NoRecipients,
    /// More recipients than anybody here would read.
    #[error("{0} recipients are more than {MAX_RECIPIENTS}")]
    TooManyRecipients(usize),
    /// A recipient's key cannot be used.
    #[error(transparent)]
    Recipient(#[from] RecipientKeyError),
    /// The system gave no random octets.
    #[error("no random octets from the system")]
    NoRandomness,
    /// The content is longer than the cipher may encrypt under one key.
    #[error("{0} octets are too many for one message")]
    TooLong(usize),
    /// A structure could not be encoded.
    #[error("the encrypted message could not be encoded: {0}")]
    Encoding(#[from] der::Error),
}

impl SealError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Recipient(error) => error.fault(),
            Self::TooManyRecipients(_) | Self::TooLong(_) => Fault::Message,
            Self::NoRecipients | Self::NoRandomness | Self::Encoding(_) => Fault::Internal,
        }
    }
}

impl From<KeyError> for SealError {
    /// Only drawing random octets fails this way here.
    fn from(_: KeyError) -> Self {
        Self::NoRandomness
    }
}

/// Encrypts content, given in segments that follow each other, for all recipients, and returns a `ContentInfo`
/// in DER: an `AuthEnvelopedData` where the cipher is authenticated, else an `EnvelopedData`.
///
/// The content is a MIME entity, so its type is id-data (RFC 8551 2.4.1), and an `AuthEnvelopedData` needs no
/// authenticated attributes (RFC 5083 2.1). Key and nonce are fresh; the key is wiped.
///
/// A recipient that is given twice is written once, as it was given first. The RecipientInfos are sorted by their octets: DER wants
/// so of a SET OF, and their order then says nothing of who stood in To and who in Cc, or was added last.
pub fn seal(
    content: &[&[u8]],
    cipher: ContentCipher,
    recipients: &[RecipientKey],
) -> Result<Vec<u8>, SealError> {
    let layout = Layout::new(Plain::Segments(content), cipher, recipients)?;
    let mut object = vec![0; layout.len()];
    layout.write(&mut object)?;
    Ok(object)
}

/// An object laid out: everything is known but the encrypted octets and their tag, so it can be written wherever there
/// is room for it.
pub(crate) struct Layout<'a> {
    /// What stands before the encrypted octets, with lengths that include them.
    head: Vec<u8>,
    content: ContentSeal<'a>,
    len: usize,
}

impl<'a> Layout<'a> {
    /// Draws key and nonce, and wraps the key for all recipients; see [`seal`].
    pub(crate) fn new(
        content: Plain<'a>,
        cipher: ContentCipher,
        recipients: &[RecipientKey],
    ) -> Result<Self, SealError> {
        let key = ContentEncryptionKey::random(cipher.key_len())?;
        let infos = recipient_infos(recipients, &key)?;
        let content = ContentSeal::new(cipher, key, content)?;

        // From the inside outwards.
        let encrypted_len = content.len();
        let tag_len = content.tag_len();
        let content_info_head = [rfc5911::ID_DATA.to_der()?, content.identifier()?].concat();
        let content_info_len = content_info_head.len() + header_len(encrypted_len) + encrypted_len;
        let version = version(cipher, recipients).to_der()?;
        let set_len = infos.iter().map(Vec::len).sum();
        let tag_field_len = if tag_len == 0 { 0 } else { header_len(tag_len) + tag_len };
        let data_len = version.len()
            + header_len(set_len)
            + set_len
            + header_len(content_info_len)
            + content_info_len
            + tag_field_len;
        let content_type = if cipher.is_authenticated() {
            rfc5911::ID_CT_AUTH_ENVELOPED_DATA.to_der()?
        } else {
            rfc5911::ID_ENVELOPED_DATA.to_der()?
        };
        let explicit_len = header_len(data_len) + data_len;
        let object_len = content_type.len() + header_len(explicit_len) + explicit_len;

        let mut head = Vec::with_capacity(set_len + 256);
        write_header(Tag::SEQUENCE, object_len, &mut head);
        head.extend_from_slice(&content_type);
        write_header(Tag::context(0), explicit_len, &mut head);
        write_header(Tag::SEQUENCE, data_len, &mut head);
        head.extend_from_slice(&version);
        write_header(Tag::SET, set_len, &mut head);
        head.extend(infos.iter().flatten());
        write_header(Tag::SEQUENCE, content_info_len, &mut head);
        head.extend_from_slice(&content_info_head);
        write_header(ENCRYPTED_CONTENT, encrypted_len, &mut head);
        Ok(Self { head, content, len: header_len(object_len) + object_len })
    }

    /// The length of the object.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where in the object the content begins.
    pub(crate) fn content_at(&self) -> usize {
        self.head.len()
    }

    /// Writes the object into its place, which is [`Self::len`] octets long; content that is encrypted in place is there.
    pub(crate) fn write(self, object: &mut [u8]) -> Result<(), SealError> {
        let (start, rest) = split(object, self.head.len())?;
        start.copy_from_slice(&self.head);
        let (encrypted, end) = split(rest, self.content.len())?;
        let tag = self.content.encrypt_into(encrypted)?;
        if !tag.is_empty() {
            let field = tlv(Tag::OCTET_STRING, &tag);
            split(end, field.len())?.0.copy_from_slice(&field);
        }
        Ok(())
    }
}

/// The lengths were counted above, so there is always room.
fn split(octets: &mut [u8], at: usize) -> Result<(&mut [u8], &mut [u8]), SealError> {
    octets.split_at_mut_checked(at).ok_or_else(|| SealError::Encoding(der::ErrorKind::Failed.into()))
}

/// The RecipientInfos for a key, each recipient once, as members of a SET OF in DER.
pub(super) fn recipient_infos(
    recipients: &[RecipientKey],
    key: &ContentEncryptionKey,
) -> Result<Vec<Vec<u8>>, SealError> {
    let mut once: Vec<&RecipientKey> = Vec::new();
    for recipient in recipients {
        if !once.iter().any(|other| other.certificate() == recipient.certificate()) {
            once.push(recipient);
        }
    }
    match once.len() {
        0 => return Err(SealError::NoRecipients),
        1..=MAX_RECIPIENTS => {}
        more => return Err(SealError::TooManyRecipients(more)),
    }
    let mut infos = once.into_iter().map(|recipient| recipient.info(key)).collect::<Result<Vec<_>, _>>()?;
    infos.sort_unstable();
    Ok(infos)
}

/// CMSVersion: always 0 of an `AuthEnvelopedData` (RFC 5083 2.1); of an `EnvelopedData` 0 where all
/// RecipientInfos are of version 0, and else 2 (RFC 5652 6.1).
fn version(cipher: ContentCipher, recipients: &[RecipientKey]) -> u8 {
    let simple = cipher.is_authenticated() || recipients.iter().all(RecipientKey::is_version_0);
    if simple { 0 } else { 2 }
}

/// `encryptedContent [0] IMPLICIT OCTET STRING`.
const ENCRYPTED_CONTENT: Tag = Tag(0x80);
