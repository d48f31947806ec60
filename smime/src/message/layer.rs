//! The layers of S/MIME around a message's content (RFC 8551 section 3.7, RFC 2634 section 1.1).

use super::{Reason, SignerReport, Wrapped, signed_octets};
use crate::{
    cms::Object,
    mime::{MAX_DEPTH, MimeEntity, TransferEncoding, crlf},
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
                    Self::find_below(&MimeEntity::parse(&signed_octets(&content)), true, depth + 1)
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
                        Some((kept_if_smime(compressed.decompress().ok()?)?, is_signed))
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

/// The start of a content in one piece, to read its header by.
pub(super) fn head(segments: &[&[u8]]) -> Vec<u8> {
    let mut head = Vec::new();
    for segment in segments {
        let room = MAX_HEADER.saturating_sub(head.len());
        head.extend_from_slice(segment.get(..room).unwrap_or(segment));
        if head.len() >= MAX_HEADER {
            break;
        }
    }
    normalised(head)
}

/// The content in one piece if by its header it may be S/MIME; large content of another kind is not copied.
pub(super) fn joined_if_smime(segments: &[&[u8]]) -> Option<Vec<u8>> {
    Wrapped::is_claimed(&MimeEntity::parse(&head(segments))).then(|| normalised(segments.concat()))
}

/// The content if by its header it may be S/MIME; large content of another kind is left alone.
pub(super) fn kept_if_smime(octets: Vec<u8>) -> Option<Vec<u8>> {
    Wrapped::is_claimed(&MimeEntity::parse(&head(&[&octets]))).then(|| normalised(octets))
}

/// The content of an object as an entity: with CRLF where its header has LF alone. NSS and others sign, encrypt and
/// compress text in that form, and nothing between here and there has mended it. Any other content stays as it is: inside
/// an object a body may be of any octets (RFC 8551 3.1.2), and an LF among them is no line end.
pub(crate) fn normalised(mut octets: Vec<u8>) -> Vec<u8> {
    let first = memchr::memchr2(b'\r', b'\n', &octets).and_then(|at| octets.get(at));
    if first != Some(&b'\n') {
        return octets;
    }
    let end = if octets.starts_with(b"\n") {
        1
    } else {
        memchr::memmem::find(&octets, b"\n\n").map_or(octets.len(), |at| at + 2)
    };
    let header = octets.get(..end).unwrap_or_default();
    if memchr::memchr(b'\r', header).is_some() {
        return octets;
    }
    let header = crlf(header).into_owned();
    match MimeEntity::parse(&header).transfer_encoding() {
        // Of any octets, or of lines that need no CR to be decoded.
        Ok(TransferEncoding::Binary | TransferEncoding::Base64) => {
            octets.splice(..end, header);
            octets
        }
        _ => crlf(&octets).into_owned(),
    }
}
