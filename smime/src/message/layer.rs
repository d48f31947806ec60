//! The layers of S/MIME around a message's content (RFC 8551 section 3.7, RFC 2634 section 1.1).

use super::{Reason, SignerReport, Wrapped, signed_octets};
use crate::{
    NoRoom, Room,
    cms::Object,
    mime::{MAX_DEPTH, MAX_HEADER_OCTETS, MimeEntity, TransferEncoding, count_bare_lfs, with_crlf},
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
    /// Finds it. `None` where the message holds none in its place, is nested too deep or would grow too large.
    pub fn find(entity: &MimeEntity<'_>) -> Option<Self> {
        Self::find_within(entity, Room::of(entity.octets().len()))
    }

    /// Like [`Self::find`], in the room that is left of the message that the entity was found in.
    pub fn find_within(entity: &MimeEntity<'_>, room: Room) -> Option<Self> {
        Self::find_below(entity, false, 0, room)
    }

    fn find_below(entity: &MimeEntity<'_>, is_signed: bool, depth: usize, before: Room) -> Option<Self> {
        let mut room = before;
        let wrapped = Wrapped::read_within(entity, &mut room).ok()??;
        if depth >= MAX_DEPTH {
            return None;
        }
        match wrapped {
            Wrapped::Clear { content, object } => match Object::parse_within(&object, room) {
                Ok(Object::SignedData(signed))
                    if signed.content().is_none() && !signed.signer_infos().is_empty() =>
                {
                    let signed = signed_octets(&content, &mut room).ok()?;
                    Self::find_below(&MimeEntity::parse(&signed), true, depth + 1, room)
                }
                _ => None,
            },
            Wrapped::Opaque(object) => {
                let content = match Object::parse_within(&object, room).ok()? {
                    Object::EnvelopedData(_) => None,
                    Object::SignedData(signed) if !signed.signer_infos().is_empty() => {
                        Some((joined_if_smime(signed.content()?, room).ok()??, true))
                    }
                    Object::SignedData(_) => return None,
                    Object::CompressedData(compressed) => {
                        let content = compressed.decompress_within(&mut room).ok()?;
                        Some((kept_if_smime(content, room).ok()??, is_signed))
                    }
                };
                match content {
                    None => Some(Self { object, is_signed }),
                    Some((content, is_signed)) => {
                        drop(object);
                        let room = before.without(content.len());
                        Self::find_below(&MimeEntity::parse(&content), is_signed, depth + 1, room)
                    }
                }
            }
        }
    }
}

/// The header of a content with its empty line, in one piece; or nothing but its start where it is of more octets than
/// any header that is met. What is behind it need not be in one piece for it to be read.
pub(super) fn head(segments: &[&[u8]], mut room: Room) -> Result<Vec<u8>, NoRoom> {
    let mut head = Vec::new();
    let pieces = segments.iter().flat_map(|segment| segment.chunks(PIECE));
    for piece in pieces {
        if head.len() + piece.len() > MAX_HEADER_OCTETS {
            break;
        }
        // Its end may lie between two pieces.
        let before = head.len().saturating_sub(3);
        // It may grow by as much while it is extended, and become twice as long in CRLF.
        room.take(4 * piece.len())?;
        head.extend_from_slice(piece);
        if head.get(before..).is_some_and(ends_header) {
            break;
        }
    }
    normalised(head, room)
}

fn ends_header(octets: &[u8]) -> bool {
    [&b"\r\n\r\n"[..], b"\n\n"].iter().any(|end| memchr::memmem::find(octets, end).is_some())
}

/// How much of a content is looked at at a time to find the end of its header.
const PIECE: usize = 4 << 10;

/// The content in one piece if by its header it may be S/MIME; large content of another kind is not copied.
pub(super) fn joined_if_smime(segments: &[&[u8]], mut room: Room) -> Result<Option<Vec<u8>>, NoRoom> {
    if !is_claimed(segments, room)? {
        return Ok(None);
    }
    let joined = room.joined(segments)?;
    normalised(joined, room).map(Some)
}

/// The content if by its header it may be S/MIME; large content of another kind is left alone.
pub(super) fn kept_if_smime(octets: Vec<u8>, room: Room) -> Result<Option<Vec<u8>>, NoRoom> {
    if is_claimed(&[&octets], room)? { normalised(octets, room).map(Some) } else { Ok(None) }
}

fn is_claimed(segments: &[&[u8]], room: Room) -> Result<bool, NoRoom> {
    Ok(Wrapped::is_claimed(&MimeEntity::parse(&head(segments, room)?)))
}

/// The content of an object as an entity: with CRLF where its header has LF alone. NSS and others sign, encrypt and
/// compress text in that form, and nothing between here and there has mended it. Any other content stays as it is: inside
/// an object a body may be of any octets (RFC 8551 3.1.2), and an LF among them is no line end.
pub(crate) fn normalised(octets: Vec<u8>, mut room: Room) -> Result<Vec<u8>, NoRoom> {
    let first = memchr::memchr2(b'\r', b'\n', &octets).and_then(|at| octets.get(at));
    if first != Some(&b'\n') {
        return Ok(octets);
    }
    let end = if octets.starts_with(b"\n") {
        1
    } else {
        memchr::memmem::find(&octets, b"\n\n").map_or(octets.len(), |at| at + 2)
    };
    let header = octets.get(..end).unwrap_or_default();
    if memchr::memchr(b'\r', header).is_some() {
        return Ok(octets);
    }
    room.take(2 * header.len())?;
    let header = with_crlf(header);
    // Of any octets, or of lines that need no CR to be decoded.
    let is_of_any_octets = match MimeEntity::parse(&header).transfer_encoding() {
        Ok(TransferEncoding::Binary | TransferEncoding::Base64) => true,
        Ok(encoding) => encoding.is_identity() && is_of_no_lines(&MimeEntity::parse(&header)),
        Err(_) => false,
    };
    if is_of_any_octets {
        room.take(octets.len() + header.len())?;
        Ok([&header, octets.get(end..).unwrap_or_default()].concat())
    } else {
        room.take(octets.len() + count_bare_lfs(&octets))?;
        Ok(with_crlf(&octets))
    }
}

/// Whether an entity is one file of no known lines, which may be of any octets whatever its label says.
fn is_of_no_lines(entity: &MimeEntity<'_>) -> bool {
    let has_lines =
        |media: &str| ["text/", "message/", "multipart/"].iter().any(|kind| media.starts_with(kind));
    entity.content_type().is_ok_and(|content_type| !has_lines(content_type.media()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_is_no_smime_by_its_header_is_neither_joined_nor_kept() {
        for (octets, is_claimed) in [
            ("Content-Type: application/pkcs7-mime\r\n\r\nx", true),
            ("Content-Type: multipart/signed; boundary=b\r\n\r\nx", true),
            ("Content-Type: multipart/mixed; boundary=b\r\n\r\nx", false),
            ("Content-Type: text/plain\r\n\r\nx", false),
            ("Content-Type: \r\n\r\nx", false),
        ] {
            let whole = is_claimed.then(|| octets.as_bytes().to_vec());
            let (head, rest) = octets.as_bytes().split_at(12);
            assert_eq!(joined_if_smime(&[head, rest], Room::of(0)), Ok(whole.clone()), "{octets}");
            assert_eq!(kept_if_smime(octets.as_bytes().to_vec(), Room::of(0)), Ok(whole), "{octets}");
        }
    }

    #[test]
    fn content_is_made_crlf_only_where_there_is_room_for_all_that_is_made_on_the_way() {
        for (media, rest, made) in [
            // The whole in CRLF, beside the header twice.
            ("text/x", "7bit\n\na\nb\n", "7bit\r\n\r\na\r\nb\r\n"),
            // A body that stays as it is.
            ("text/x", "binary\n\na\nb\n", "binary\r\n\r\na\nb\n"),
            ("text/x", "base64\n\nYQ==\n", "base64\r\n\r\nYQ==\n"),
            ("image/x", "8bit\n\na\nb\n", "8bit\r\n\r\na\nb\n"),
        ] {
            let header = format!("Content-Type: {media}\nContent-Transfer-Encoding: ");
            let (octets, made) =
                (format!("{header}{rest}"), format!("{}{made}", header.replace('\n', "\r\n")));
            let end = octets.find("\n\n").unwrap() + 2;
            let with_crlf = if rest.starts_with("7bit") { octets.matches('\n').count() } else { end + 3 };
            let needed = 2 * end + octets.len() + with_crlf;
            let within = |left: usize| {
                let room = Room::of(0);
                normalised(octets.clone().into_bytes(), room.without(room.left() - left))
            };
            assert_eq!(within(needed).as_deref(), Ok(made.as_bytes()));
            assert!(within(needed - 1).is_err(), "{rest}");
            // What is there already takes none.
            let room = Room::of(0);
            let kept = normalised(made.clone().into_bytes(), room.without(room.left()));
            assert_eq!(kept, Ok(made.into_bytes()));
        }
    }
}
