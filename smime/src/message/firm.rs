//! Whether there is anything in signed content that no signature covers and anybody could have changed.
//!
//! Whoever captured mail that is signed, and encrypted by a cipher without authentication (CBC), can change it: at a place of
//! his choice he gets sixteen octets that nobody knows, and sixteen that differ from captured ones as he likes. Where no
//! signature covers these, the mail still passes; and if it passes or not as they are, whoever sees it delivered or held has an
//! oracle (RFC 3218). At the end they are enough for one of paddings: blocks behind the last boundary open just where the last
//! one's padding is good. Before that they are one for each octet that makes it unreadable: a line end, a NUL, a dash.
//!
//! So nothing may stand there that sixteen unknown octets could be. The end is strict: behind the closing delimiter and behind base64
//! there are blanks and line ends alone, behind an object nothing but zeros, and an object that is not in base64 must not end in
//! unsigned attributes. Before the first boundary there may be a sentence that is known by heart, such as OpenSSL's "This is an S/MIME
//! signed message", and no other text: of random blocks one in some hundred thousand is UTF-8 without control characters, and who
//! knows much of what he captured, a picture or a program, knows as many blocks, and what comes out where he joins two of them.
//! In a header there is printable ASCII, which one block in millions is; in base64 it is less than one in a thousand
//! millions; in an object that is not, what is unsigned in front are certificates and CRLs, each of which must decode there. That
//! is not the whole: whether one that no path needs decodes tells an octet to who knows the five beside it in a place that decoders
//! look at, with noise where they do not. Only its signature would tell nothing, and there is none at hand for each.
//!
//! All that is for blocks of sixteen octets. Of eight, as Triple-DES has, one in two thousand is text and one in forty thousand
//! base64: below such ciphers nothing that is signed is to pass ([`Reason::ShortBlocks`](super::Reason::ShortBlocks)).

use super::{Wrapped, WrappedError, layer};
use crate::{
    Room,
    ber::BerError,
    cms::{CmsError, DecompressError, Object, SignedData},
    mime::{MAX_DEPTH, MimeEntity, TransferEncoding},
    revocation::Evidence,
};

/// Whether content that is signed, or holds ciphertext, has room for what neither signature nor structure tells. It is not
/// for what is no S/MIME, or cannot be read as such: that passes in no case.
pub fn is_loose(entity: &MimeEntity<'_>, room: Room) -> bool {
    is_loose_below(entity, 0, room)
}

fn is_loose_below(entity: &MimeEntity<'_>, depth: usize, before: Room) -> bool {
    let mut room = before;
    let wrapped = match Wrapped::read_within(entity, &mut room) {
        Ok(Some(wrapped)) => wrapped,
        // Where there is more room it may be read.
        Err(WrappedError::NoRoom(_)) => return true,
        Ok(None) | Err(_) => return false,
    };
    if depth >= MAX_DEPTH {
        return false;
    }
    if !entity.header_octets().iter().copied().all(is_text) {
        return true;
    }
    let (object, clear, is_base64) = match wrapped {
        Wrapped::Opaque(object) => (object, None, is_base64(entity)),
        Wrapped::Clear { content, object } => match around(entity) {
            Some(is_base64) => (object, Some(content), is_base64),
            None => return true,
        },
    };
    let inside = match Object::parse_within(&object, room) {
        Ok(Object::SignedData(signed)) => {
            if !is_base64 && (has_unsigned_attributes(&signed) || !has_readable_evidence(&signed, room)) {
                return true;
            }
            match (&clear, signed.content()) {
                // It is signed. But if it is ciphertext, that signature is not the one that counts.
                (Some(content), _) => return is_loose_below(content, depth + 1, room),
                (None, Some(content)) => layer::joined_if_smime(content, room),
                (None, None) => return false,
            }
        }
        // What is not protected ends it.
        Ok(Object::EnvelopedData(_)) => return !is_base64,
        Ok(Object::CompressedData(compressed)) => match compressed.decompress_within(&mut room) {
            Ok(content) => layer::kept_if_smime(content, room),
            Err(error) => return matches!(error, DecompressError::TooLarge { .. }),
        },
        Err(error) => {
            return matches!(error, CmsError::TooLarge | CmsError::Structure(BerError::TooMany { .. }));
        }
    };
    drop(object);
    match inside {
        Ok(Some(content)) => {
            is_loose_below(&MimeEntity::parse(&content), depth + 1, before.without(content.len()))
        }
        Ok(None) => false,
        Err(_) => true,
    }
}

fn has_unsigned_attributes(signed: &SignedData<'_>) -> bool {
    signed.signer_infos().iter().any(|signer| signer.has_unsigned_attributes)
}

/// Whether each certificate and each CRL or OCSP response can be read: what others put over the border of two leaves one that cannot.
fn has_readable_evidence(signed: &SignedData<'_>, mut room: Room) -> bool {
    let has_all = signed.has_readable_certificates(&mut room);
    let crls = signed.crls_within(&mut room);
    has_all && crls.len() == signed.crls().len() && Evidence::is_all(&crls)
}

/// What is around the parts of a `multipart/signed` that was read: `None` if anything could be there, else whether the
/// signature is in base64.
fn around(entity: &MimeEntity<'_>) -> Option<bool> {
    let content_type = entity.content_type().ok()?;
    let multipart = entity.multipart_of(&content_type).ok()?;
    let closing = format!("--{}--", content_type.parameter("boundary")?);
    let body = entity.body();
    let blanks = body.iter().rev().take_while(|octet| b" \t\r\n".contains(octet)).count();
    let last = body.get(..body.len() - blanks)?.rsplit(|octet| *octet == b'\n').next()?;
    let ends = last == closing.as_bytes() && multipart.epilogue.len() <= blanks;
    let signature = MimeEntity::parse(multipart.parts.get(1)?);
    let is_firm =
        ends && is_known(multipart.preamble) && signature.header_octets().iter().copied().all(is_text);
    is_firm.then(|| is_base64(&signature))
}

fn is_base64(entity: &MimeEntity<'_>) -> bool {
    entity.transfer_encoding() == Ok(TransferEncoding::Base64)
}

/// What programs write before the first boundary for those that know no MIME.
const PREAMBLES: [&str; 12] = [
    "This is an S/MIME signed message",
    "This is an S/MIME signed message.",
    "This is a cryptographically signed message in MIME format.",
    "This is a signed message in MIME format.",
    "This is a multi-part message in MIME format.",
    "This is a multipart message in MIME format.",
    "This is a message with multiple parts in MIME format.",
    "This is a MIME-encapsulated message.",
    "This message is in MIME format.",
    // MIME-tools, Exchange's Internet Mail Service, and Outlook for Mac.
    "This is a multi-part message in MIME format...",
    "This message is in MIME format. Since your mail reader does not understand this format, some or all of this message may \
     not be legible.",
    "> This message is in MIME format. Since your mail reader does not understand this format, some or all of this message \
     may not be legible.",
];

/// One of them, however it is broken into lines, or nothing.
fn is_known(preamble: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(preamble) else { return false };
    let mut words = text.split_ascii_whitespace().peekable();
    if words.peek().is_none() {
        return true;
    }
    PREAMBLES.iter().any(|known| known.split(' ').eq(words.clone()))
}

fn is_text(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | b'\t' | b'\r' | b'\n')
}
