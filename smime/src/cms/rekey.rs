//! Other RecipientInfos for the same encrypted content: one use of a private key, no octet of content changed.
//!
//! The content-encryption key is unwrapped once and encrypted to others. All else stays in the octets received,
//! BER or not: the encrypted content, its algorithm, originatorInfo, attributes and tag, which do not depend on
//! the RecipientInfos (RFC 5652 6.1, RFC 5083 2.2).

use std::ops::Range;

use const_oid::db::rfc5911;
use der::Encode;

use super::{
    CmsError, EncryptedKey, EnvelopedData, MAX_RECIPIENTS, Object, OpenError, Recipient, RecipientKey,
    SealError, attributes::tlv, seal::recipient_infos,
};
use crate::{
    Certificate, Fault,
    ber::{Element, Tag, Tree, header_len, write_header},
    key::{ContentEncryptionKey, Decryptor, Unwrapped},
    question::{Answer, Question},
};

/// What becomes of the RecipientInfos that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All stay: recipients are added.
    All,
    /// All but those of the key that is used: it is replaced, as when keys are rotated.
    Others,
    /// None stays: only the new recipients can open the message.
    None,
}

/// How sure to be of the key before the old RecipientInfos are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The key has the right length, and was good where wrapping tells: after key agreement and OAEP. After
    /// PKCS #1 v1.5 some tokens answer bad ciphertext with a random key.
    Key,
    /// The content opens with it. It is decrypted in memory, looked at by nobody, and wiped: all of it where there is a
    /// tag; the last block in CBC mode, where nothing but its padding can tell.
    Content,
}

/// Why a message was not given other recipients.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// The object is malformed.
    #[error(transparent)]
    Object(#[from] CmsError),
    /// It is not encrypted.
    #[error("the CMS object is not encrypted")]
    NotEncrypted,
    /// It is not encrypted to the key that should be used.
    #[error("the message is not encrypted to {certificate}")]
    NotNamed {
        /// The certificate's subject and serial number.
        certificate: String,
    },
    /// The key could not be used, or is no key to this content.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new recipients' keys could not be used.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl RekeyError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Object(_) | Self::NotEncrypted | Self::NotNamed { .. } => Fault::Message,
            Self::Open(error) => error.fault(),
            Self::Seal(error) => error.fault(),
        }
    }
}

/// Encrypts the content-encryption key of a `ContentInfo` with `EnvelopedData` or `AuthEnvelopedData` to
/// `recipients`, with one use of `decryptor`. A recipient who has an info already gets a new one in its place.
///
/// Unlike [`EnvelopedData::open`] this tells a bad key from a good one, so it is for stored mail and whoever
/// looks after it, and not for mail that a stranger sends and gets an answer to (RFC 3218).
pub fn rekey(
    octets: &[u8],
    decryptor: &dyn Decryptor,
    recipients: &[RecipientKey],
    keep: Keep,
    proof: Proof,
) -> Result<Vec<u8>, RekeyError> {
    let certificate = decryptor.certificate();
    let question = rekey_question(octets, certificate)?;
    let answer =
        question.map(|question| question.ask_decryptor(decryptor)).transpose().map_err(OpenError::from)?;
    rekey_with(octets, certificate, answer, recipients, keep, proof)
}

/// The first half of [`rekey`]: what to ask the private key of `certificate`. `None`: nothing, and [`rekey_in_parts`] is to
/// be told so.
pub fn rekey_question(octets: &[u8], certificate: &Certificate) -> Result<Option<Question>, RekeyError> {
    let enveloped = enveloped(octets)?;
    enveloped.algorithm()?;
    Ok(key_for(&enveloped, certificate)?.question(certificate)?)
}

/// The second half of [`rekey`]: the rest, by the answer of the private key of `certificate`.
pub(crate) fn rekey_with(
    octets: &[u8],
    certificate: &Certificate,
    answer: Option<Answer>,
    recipients: &[RecipientKey],
    keep: Keep,
    proof: Proof,
) -> Result<Vec<u8>, RekeyError> {
    let rekeyed = rekey_in_parts(octets, certificate, answer, recipients, keep, proof)?;
    Ok(rekeyed.segments(octets).concat())
}

/// An object with other RecipientInfos: octets of its own, and then octets of the object that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rekeyed {
    /// Up to the RecipientInfos.
    pub head: Vec<u8>,
    /// Where in the old object the rest is: encryptedContentInfo and everything after it.
    pub rest: Range<usize>,
}

impl Rekeyed {
    /// The object in two pieces, by the one that it was.
    pub fn segments<'o>(&'o self, old: &'o [u8]) -> [&'o [u8]; 2] {
        [&self.head, old.get(self.rest.clone()).unwrap_or_default()]
    }
}

/// The same without a copy of the content.
pub fn rekey_in_parts(
    octets: &[u8],
    certificate: &Certificate,
    answer: Option<Answer>,
    recipients: &[RecipientKey],
    keep: Keep,
    proof: Proof,
) -> Result<Rekeyed, RekeyError> {
    let enveloped = enveloped(octets)?;
    let key = content_key(&enveloped, certificate, answer, proof)?;
    let tree = Tree::parse(octets).map_err(CmsError::from)?;
    let parts = Parts::of(&tree)?;

    let mut gone: Vec<&Certificate> = recipients.iter().map(RecipientKey::certificate).collect();
    if keep == Keep::Others {
        gone.push(certificate);
    }
    let mut infos = recipient_infos(recipients, &key)?;
    if keep != Keep::None {
        for info in parts.infos.children() {
            infos.extend(without(info, &gone)?);
        }
    }
    if infos.len() > MAX_RECIPIENTS {
        return Err(SealError::TooManyRecipients(infos.len()).into());
    }
    infos.sort_unstable();
    let head = parts.head_with(&infos)?;
    // They follow each other without a gap.
    let ends = parts.rest.first().zip(parts.rest.last());
    let rest = ends.map_or(0..0, |(first, last)| first.range().start..last.range().end);
    Ok(Rekeyed { head, rest })
}

fn enveloped(octets: &[u8]) -> Result<EnvelopedData<'_>, RekeyError> {
    match Object::parse(octets)? {
        Object::EnvelopedData(enveloped) => Ok(enveloped),
        _ => Err(RekeyError::NotEncrypted),
    }
}

fn key_for<'e>(
    enveloped: &'e EnvelopedData<'_>,
    certificate: &Certificate,
) -> Result<EncryptedKey<'e>, RekeyError> {
    let named = enveloped.recipient_for(certificate);
    named.ok_or_else(|| RekeyError::NotNamed { certificate: certificate.to_string() })
}

/// The content-encryption key, by the answer of the private key.
fn content_key(
    enveloped: &EnvelopedData<'_>,
    certificate: &Certificate,
    answer: Option<Answer>,
    proof: Proof,
) -> Result<ContentEncryptionKey, RekeyError> {
    let encrypted = key_for(enveloped, certificate)?;
    let key_len = enveloped.algorithm()?.key_len();
    let key = match encrypted.unwrapped(answer)? {
        Unwrapped::Key(key) if key.len() == key_len => key,
        Unwrapped::Key(_) | Unwrapped::Rejected => return Err(OpenError::Undecryptable.into()),
    };
    if proof == Proof::Content {
        enveloped.prove(&key)?;
    }
    Ok(key)
}

/// A RecipientInfo without the keys of these certificates: as it stands, with fewer keys, or not at all.
fn without(info: Element<'_, '_>, gone: &[&Certificate]) -> Result<Option<Vec<u8>>, CmsError> {
    match Recipient::read(info)? {
        Recipient::KeyTransport(transport) if gone.iter().any(|c| transport.names(c)) => Ok(None),
        Recipient::KeyAgreement(agreement) => {
            let stays: Vec<bool> = agreement.keys_without(gone).collect();
            if stays.iter().all(|stays| *stays) {
                return Ok(Some(info.octets().to_vec()));
            }
            // The recipientEncryptedKeys come last; each is wrapped by itself.
            let mut fields: Vec<_> = info.children().collect();
            let Some(keys) = fields.pop() else { return Ok(None) };
            let kept = keys.children().zip(stays).filter(|(_, stays)| *stays);
            let kept: Vec<u8> = kept.flat_map(|(key, _)| key.octets()).copied().collect();
            let mut content: Vec<u8> = fields.iter().flat_map(Element::octets).copied().collect();
            content.extend(tlv(Tag::SEQUENCE, &kept));
            Ok((!kept.is_empty()).then(|| tlv(info.tag(), &content)))
        }
        _ => Ok(Some(info.octets().to_vec())),
    }
}

/// A ContentInfo taken apart around the RecipientInfos.
struct Parts<'t, 'a> {
    content_type: Element<'t, 'a>,
    version: Element<'t, 'a>,
    originator: Option<Element<'t, 'a>>,
    infos: Element<'t, 'a>,
    /// encryptedContentInfo and everything after it.
    rest: Vec<Element<'t, 'a>>,
}

impl<'t, 'a> Parts<'t, 'a> {
    /// The object was read before, so its parts are there.
    fn of(tree: &'t Tree<'a>) -> Result<Self, CmsError> {
        let mut fields = tree.root().children();
        let content_type = fields.required("contentType")?;
        let data = fields.required("content")?.children().required("content")?;
        let mut fields = data.children();
        let version = fields.required("version")?;
        let originator = fields.optional_context(0);
        let infos = fields.required("recipientInfos")?;
        Ok(Self { content_type, version, originator, infos, rest: fields.collect() })
    }

    /// The object with other RecipientInfos, up to where `rest` follows, lengths outside of that definite.
    fn head_with(&self, infos: &[Vec<u8>]) -> Result<Vec<u8>, RekeyError> {
        let version = self.version_with(infos).map_err(SealError::from)?;
        let set_len = infos.iter().map(Vec::len).sum();
        let originator = self.originator.as_ref().map(Element::octets).unwrap_or_default();
        let rest_len: usize = self.rest.iter().map(|part| part.octets().len()).sum();
        let data_len = version.len() + originator.len() + header_len(set_len) + set_len + rest_len;
        let explicit_len = header_len(data_len) + data_len;
        let content_type = self.content_type.octets();
        let object_len = content_type.len() + header_len(explicit_len) + explicit_len;

        let mut out = Vec::with_capacity(header_len(object_len) + object_len - rest_len);
        write_header(Tag::SEQUENCE, object_len, &mut out);
        out.extend_from_slice(content_type);
        write_header(Tag::context(0), explicit_len, &mut out);
        write_header(Tag::SEQUENCE, data_len, &mut out);
        out.extend_from_slice(&version);
        out.extend_from_slice(originator);
        write_header(Tag::SET, set_len, &mut out);
        out.extend(infos.iter().flatten());
        Ok(out)
    }

    /// The version that the RecipientInfos ask for (RFC 5652 6.1). That of an `AuthEnvelopedData` is always
    /// the same; with originatorInfo it may be higher for what is in there, and then it stays.
    fn version_with(&self, infos: &[Vec<u8>]) -> Result<Vec<u8>, der::Error> {
        let is_authenticated =
            self.content_type.object_identifier() == Ok(rfc5911::ID_CT_AUTH_ENVELOPED_DATA);
        let has_attributes = self.rest.len() > 1;
        let stays = self.originator.is_some() && matches!(self.version.content(), [3 | 4]);
        if is_authenticated || stays {
            return Ok(self.version.octets().to_vec());
        }
        let version: u8 = if infos.iter().any(|info| matches!(info.first(), Some(0xA3 | 0xA4))) {
            3
        } else if self.originator.is_none() && !has_attributes && infos.iter().all(|info| is_version_0(info))
        {
            0
        } else {
            2
        };
        version.to_der()
    }
}

/// Whether a RecipientInfo is a `KeyTransRecipientInfo` of version 0.
fn is_version_0(info: &[u8]) -> bool {
    Tree::parse(info).is_ok_and(|tree| {
        let version = tree.root().children().next();
        tree.root().tag() == Tag::SEQUENCE && version.is_some_and(|version| version.content() == [0])
    })
}
