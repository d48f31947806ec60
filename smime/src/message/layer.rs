//! The layers of S/MIME around a message's content (RFC 8551 section 3.7, RFC 2634 section 1.1).

use super::{Reason, SignerReport, Wrapped};
use crate::{
    cms::Object,
    mime::{Canonical, MAX_DEPTH, MimeEntity},
};

/// The form of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `multipart/signed`.
    MultipartSigned,
    /// `application/pkcs7-mime` with SignedData.
    SignedData,
    /// `application/pkcs7-mime` with EnvelopedData or AuthEnvelopedData.
    EnvelopedData,
    /// `application/pkcs7-mime` with CompressedData.
    CompressedData,
}

/// What was found of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// Its form.
    pub form: Form,
    /// What its signature is worth, or that it has none.
    pub reason: Reason,
    /// Each of its signers.
    pub signers: Vec<SignerReport>,
    /// Whether the message's verdict is this layer's.
    pub decides: bool,
}

impl LayerReport {
    pub(super) fn without_signers(form: Form, reason: Reason) -> Self {
        Self { form, reason, signers: Vec::new(), decides: false }
    }
}

/// A ciphertext that is the root of a message, or all that a signature or a compression at the root covers.
///
/// A ciphertext beside anything else is never found: whoever puts text next to it would have it opened in the
/// reader's eyes or program (EFAIL). A `multipart/signed` has its signature beside it, which is why its form
/// is looked at so closely in [`Wrapped::read`]; in the place of the whole only the ciphertext's content may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// The CMS object.
    pub object: Vec<u8>,
    /// Whether there is a signature around it. Anybody can put one there.
    pub is_signed: bool,
}

impl Ciphertext {
    /// Finds it. `None` where the message holds none in its place, or is nested too deep.
    pub fn find(entity: &MimeEntity<'_>) -> Option<Self> {
        Self::find_below(entity, false, 0)
    }

    fn find_below(entity: &MimeEntity<'_>, is_signed: bool, depth: usize) -> Option<Self> {
        let wrapped = Wrapped::read(entity).ok()??;
        if depth >= MAX_DEPTH {
            return None;
        }
        match wrapped {
            Wrapped::Clear { content, object } => match Object::parse(&object) {
                Ok(Object::SignedData(signed))
                    if signed.content().is_none() && !signed.signer_infos().is_empty() =>
                {
                    Self::find_below(&content, true, depth + 1)
                }
                _ => None,
            },
            Wrapped::Opaque(object) => {
                let content = match Object::parse(&object).ok()? {
                    Object::EnvelopedData(_) => None,
                    Object::SignedData(signed) if !signed.signer_infos().is_empty() => {
                        Some((joined_if_smime(signed.content()?)?, true))
                    }
                    Object::SignedData(_) => return None,
                    Object::CompressedData(compressed) => {
                        Some((with_crlf(compressed.decompress().ok()?), is_signed))
                    }
                };
                match content {
                    None => Some(Self { object, is_signed }),
                    Some((content, is_signed)) => {
                        Self::find_below(&MimeEntity::parse(&content), is_signed, depth + 1)
                    }
                }
            }
        }
    }
}

/// How much of a content is looked at to see whether it may be S/MIME: a header is shorter.
const MAX_HEADER: usize = 16 << 10;

/// The content in one piece if by its header it may be S/MIME; large content of another kind is not copied.
pub(super) fn joined_if_smime(segments: &[&[u8]]) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    for segment in segments {
        let room = MAX_HEADER.saturating_sub(head.len());
        head.extend_from_slice(segment.get(..room).unwrap_or(segment));
        if head.len() >= MAX_HEADER {
            break;
        }
    }
    Wrapped::is_claimed(&MimeEntity::parse(&with_crlf(head))).then(|| with_crlf(segments.concat()))
}

/// The content of an object with CRLF for every line end. NSS and others sign, encrypt and compress text with LF alone,
/// and nothing between here and there has mended it.
pub(super) fn with_crlf(octets: Vec<u8>) -> Vec<u8> {
    let is_bare = |at: usize| at.checked_sub(1).is_none_or(|before| octets.get(before) != Some(&b'\r'));
    if memchr::memchr_iter(b'\n', &octets).any(is_bare) {
        Canonical::from_signed_part(&octets).into_octets()
    } else {
        octets
    }
}
