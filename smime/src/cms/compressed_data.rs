//! `CompressedData` (RFC 3274): read within limits, and written.

use std::io::Write as _;

use const_oid::db::rfc5911::ID_DATA;
use der::{Encode, asn1::ObjectIdentifier};
use flate2::{Compression, Decompress, FlushDecompress, Status, write::ZlibEncoder};

use super::{
    CmsError,
    attributes::tlv,
    signed_data::{Content, read_content},
    signer_info::decode,
};
use crate::{
    Fault, NoRoom, Room,
    ber::{Element, Tag, write_header},
};

/// A `CompressedData` whose content stays in the octets it was read from.
#[derive(Debug)]
pub struct CompressedData<'a> {
    algorithm: ObjectIdentifier,
    content_type: ObjectIdentifier,
    content: Content<'a>,
}

/// Content is never decompressed to more octets than these, whatever [`Room`] there is.
pub const MAX_DECOMPRESSED: usize = 128 << 20;

/// Why content was not decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// An algorithm or content that is not supported here.
    #[error("the {what} type {oid} is not supported")]
    Unsupported {
        /// Of what.
        what: &'static str,
        /// Which.
        oid: ObjectIdentifier,
    },
    /// There is no content.
    #[error("the compressed object has no content")]
    NoContent,
    /// It is no zlib stream, ends inside one, or goes on after it.
    #[error("the compressed content is damaged")]
    Damaged,
    /// More comes out than is taken.
    #[error("the compressed content is of more than {limit} octets, which is more than is taken")]
    TooLarge {
        /// How much is taken for this object.
        limit: usize,
    },
}

impl From<NoRoom> for DecompressError {
    fn from(error: NoRoom) -> Self {
        Self::TooLarge { limit: error.limit }
    }
}

impl DecompressError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        Fault::Message
    }
}

impl<'a> CompressedData<'a> {
    pub(super) fn read(element: Element<'_, 'a>) -> Result<Self, CmsError> {
        let mut fields = element.expect(Tag::SEQUENCE, "CompressedData")?.children();
        fields.required("version")?.expect(Tag::INTEGER, "version")?;
        let algorithm: spki::AlgorithmIdentifierOwned =
            decode(fields.required("compressionAlgorithm")?, "compressionAlgorithm")?;
        let (content_type, content) = read_content(fields.required("encapContentInfo")?)?;
        fields.end()?;
        Ok(Self { algorithm: algorithm.oid, content_type, content })
    }

    /// The content: a MIME entity, in the room of a message of nothing but this object.
    pub fn decompress(&self) -> Result<Vec<u8>, DecompressError> {
        let segments = self.content.iter().flatten();
        self.decompress_within(&mut Room::of(segments.map(|segment| segment.len()).sum()))
    }

    /// The content: a MIME entity, in the room that is left of the message around it, from which it takes its own. For
    /// what has none nothing is made.
    pub fn decompress_within(&self, room: &mut Room) -> Result<Vec<u8>, DecompressError> {
        if self.algorithm != ZLIB_COMPRESS {
            return Err(DecompressError::Unsupported { what: "compression", oid: self.algorithm });
        }
        if self.content_type != ID_DATA {
            return Err(DecompressError::Unsupported { what: "content", oid: self.content_type });
        }
        let segments = self.content.as_deref().ok_or(DecompressError::NoContent)?;
        room.take(size_of_val(segments))?;
        let limit = room.left().min(MAX_DECOMPRESSED);
        let len = inflated_len(segments, limit)?;
        room.take(len)?;
        inflate(segments, len)
    }
}

/// The length of the content, of which nothing is kept.
fn inflated_len(segments: &[&[u8]], limit: usize) -> Result<usize, DecompressError> {
    let mut len = 0;
    let mut piece = Vec::with_capacity(PIECE);
    run(segments, |stream, rest| {
        piece.clear();
        let status = stream.decompress_vec(rest, &mut piece, FlushDecompress::None)?;
        len += piece.len();
        Ok((status, piece.len(), len <= limit))
    })
    .and_then(|within| if within { Ok(len) } else { Err(DecompressError::TooLarge { limit }) })
}

/// The content, whose length is known.
fn inflate(segments: &[&[u8]], len: usize) -> Result<Vec<u8>, DecompressError> {
    // Without an octet to spare zlib does not see the end of its stream.
    let mut content = Vec::with_capacity(len + 1);
    run(segments, |stream, rest| {
        let before = content.len();
        let status = stream.decompress_vec(rest, &mut content, FlushDecompress::None)?;
        Ok((status, content.len() - before, true))
    })?;
    Ok(content)
}

/// Runs a stream over the segments to its end, or until a step says that there is more than is taken. A step returns the
/// status, how much it made, and whether to go on.
fn run(
    segments: &[&[u8]],
    mut step: impl FnMut(&mut Decompress, &[u8]) -> Result<(Status, usize, bool), flate2::DecompressError>,
) -> Result<bool, DecompressError> {
    let mut stream = Decompress::new(true);
    let mut ended = false;
    for segment in segments {
        let mut rest = *segment;
        // After the last octet of input there may still be output.
        loop {
            if ended {
                // What follows the stream some readers would take for more of it.
                if rest.is_empty() {
                    break;
                }
                return Err(DecompressError::Damaged);
            }
            let before = stream.total_in();
            let (status, made, goes_on) = step(&mut stream, rest).map_err(|_| DecompressError::Damaged)?;
            if !goes_on {
                return Ok(false);
            }
            let used = usize::try_from(stream.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            ended = status == Status::StreamEnd;
            if !ended && used == 0 && made == 0 {
                if rest.is_empty() {
                    break;
                }
                return Err(DecompressError::Damaged);
            }
        }
    }
    if ended { Ok(true) } else { Err(DecompressError::Damaged) }
}

/// Compresses content and returns a `CompressedData` in a `ContentInfo`, in DER.
///
/// What compresses well tells of its content by its length: compressing what an attacker may choose
/// beside a secret, and encrypting it, gives the secret away bit by bit (CRIME). So nothing here
/// compresses by itself.
pub fn compress(content: &[u8]) -> Result<Vec<u8>, der::Error> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let packed = encoder.write_all(content).and_then(|()| encoder.finish());
    let packed = packed.map_err(|_| der::ErrorKind::Failed)?;
    let mut content = Vec::with_capacity(packed.len() + 16);
    write_header(Tag::OCTET_STRING, packed.len(), &mut content);
    content.extend_from_slice(&packed);
    let encapsulated = [ID_DATA.to_der()?, tlv(Tag::context(0), &content)].concat();
    let compressed_data = tlv(
        Tag::SEQUENCE,
        &[
            0_u8.to_der()?,
            // Zlib has no parameters (RFC 3274 2).
            tlv(Tag::SEQUENCE, &ZLIB_COMPRESS.to_der()?),
            tlv(Tag::SEQUENCE, &encapsulated),
        ]
        .concat(),
    );
    let info = [ID_COMPRESSED_DATA.to_der()?, tlv(Tag::context(0), &compressed_data)].concat();
    Ok(tlv(Tag::SEQUENCE, &info))
}

/// How much is decompressed at a time.
const PIECE: usize = 64 << 10;

/// id-alg-zlibCompress (RFC 3274 2).
const ZLIB_COMPRESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.8");
/// id-ct-compressedData (RFC 3274 1.1).
pub(super) const ID_COMPRESSED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.9");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cms::Object, room};

    fn decompressed(object: &[u8]) -> Result<Vec<u8>, DecompressError> {
        match Object::parse(object) {
            Ok(Object::CompressedData(compressed)) => compressed.decompress(),
            other => panic!("{other:?}"),
        }
    }

    fn inflate(segments: &[&[u8]]) -> Result<Vec<u8>, DecompressError> {
        super::inflate(segments, inflated_len(segments, usize::MAX)?)
    }

    fn deflate(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_compressed_comes_back_whatever_its_size() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 10 * PIECE] {
            // Of octets that do not repeat soon.
            let mut state = 1_u32;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            };
            let content: Vec<u8> = (0..len).map(|_| next()).collect();
            let object = compress(&content).unwrap();
            assert!(decompressed(&object).unwrap() == content, "{len}");
        }
    }

    #[test]
    fn segments_may_be_cut_anywhere() {
        let content = b"Content-Type: text/plain\r\n\r\nHello, Bob.\r\n".repeat(100);
        let packed = deflate(&content);
        for size in [1, 2, 3, 50, packed.len() - 1, packed.len()] {
            let segments: Vec<&[u8]> = packed.chunks(size).collect();
            assert_eq!(inflate(&segments).unwrap(), content, "{size}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_changed_or_followed_by_more_is_damaged() {
        let content = b"Hello, Bob. ".repeat(10);
        let packed = deflate(&content);
        for len in 0..packed.len() {
            assert_eq!(inflate(&[&packed[..len]]), Err(DecompressError::Damaged), "cut at {len}");
        }
        for at in 0..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 0x10;
            // Adler-32 is at the end: other octets are the same stream said otherwise, or none.
            let read = inflate(&[&changed]);
            assert!(
                read == Err(DecompressError::Damaged) || read.as_ref() == Ok(&content),
                "changed at {at}"
            );
        }
        for more in [&b"\0"[..], &packed] {
            assert_eq!(inflate(&[&packed, more]), Err(DecompressError::Damaged));
            assert_eq!(inflate(&[&[&packed[..], more].concat()]), Err(DecompressError::Damaged));
        }
        assert_eq!(inflate(&[&packed, b""]).unwrap(), content);
        assert_eq!(inflate(&[]), Err(DecompressError::Damaged));
    }

    #[test]
    fn what_has_no_room_is_not_made() {
        let within = |content: &[u8], room: Room| {
            let object = compress(content).unwrap();
            let Ok(Object::CompressedData(compressed)) = Object::parse(&object) else { panic!("other") };
            let mut left = room;
            let made = compressed.decompress_within(&mut left);
            assert_eq!(left.left(), room.left() - size_of::<&[u8]>() - made.as_ref().map_or(0, Vec::len));
            made.map(|made| made.len())
        };
        let too_large = |limit| Err(DecompressError::TooLarge { limit });
        // Few octets become as many as any message may.
        let most = room::ALWAYS - size_of::<&[u8]>();
        assert_eq!(within(&vec![0; most], Room::of(2000)), Ok(most));
        assert_eq!(within(&vec![0; most + 1], Room::of(2000)), too_large(most));
        assert_eq!(within(&vec![0; 64 << 20], Room::of(90_000)), too_large(most));
        // What is there already counts.
        assert_eq!(within(&vec![0; most - 999], Room::of(2000).without(1000)), too_large(most - 1000));
        // Of more octets, for each so many.
        let len = 1 << 20;
        let most = len * room::EXPANSION - size_of::<&[u8]>();
        assert_eq!(within(&vec![0; most], Room::of(len)), Ok(most));
        assert_eq!(within(&vec![0; most + 1], Room::of(len)), too_large(most));
        // There is an end to it.
        assert_eq!(within(&vec![0; MAX_DECOMPRESSED + 1], Room::of(len << 8)), too_large(MAX_DECOMPRESSED));
    }

    #[test]
    fn only_zlib_of_data_is_decompressed() {
        let object = compress(b"content").unwrap();
        let changed = |oid: ObjectIdentifier| {
            let oid = oid.to_der().unwrap();
            let at = object.windows(oid.len()).position(|window| window == oid).unwrap();
            let mut changed = object.clone();
            changed[at + oid.len() - 1] ^= 0x40;
            decompressed(&changed)
        };
        for (oid, what) in [(ZLIB_COMPRESS, "compression"), (ID_DATA, "content")] {
            match changed(oid) {
                Err(DecompressError::Unsupported { what: found, .. }) => assert_eq!(found, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}
