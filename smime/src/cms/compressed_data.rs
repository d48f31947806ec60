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
    Fault,
    ber::{Element, Tag, write_header},
};

/// A `CompressedData` whose content stays in the octets it was read from.
#[derive(Debug)]
pub struct CompressedData<'a> {
    algorithm: ObjectIdentifier,
    content_type: ObjectIdentifier,
    content: Content<'a>,
}

/// Content is never decompressed to more octets than these.
pub const MAX_DECOMPRESSED: usize = 128 << 20;

/// … nor, beyond [`UNSUSPICIOUS`], to more than so many times its length. Mail seldom shrinks to a
/// twentieth; zlib at its best to a thousandth.
pub const MAX_EXPANSION: usize = 32;

/// Content of so many octets may come of any few.
pub const UNSUSPICIOUS: usize = 256 << 10;

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

    /// The content: a MIME entity. It is made piece by piece, and not beyond the limits.
    pub fn decompress(&self) -> Result<Vec<u8>, DecompressError> {
        if self.algorithm != ZLIB_COMPRESS {
            return Err(DecompressError::Unsupported { what: "compression", oid: self.algorithm });
        }
        if self.content_type != ID_DATA {
            return Err(DecompressError::Unsupported { what: "content", oid: self.content_type });
        }
        inflate(self.content.as_deref().ok_or(DecompressError::NoContent)?)
    }
}

fn inflate(segments: &[&[u8]]) -> Result<Vec<u8>, DecompressError> {
    let compressed: usize = segments.iter().map(|segment| segment.len()).sum();
    let limit = compressed.saturating_mul(MAX_EXPANSION).clamp(UNSUSPICIOUS, MAX_DECOMPRESSED);
    let mut stream = Decompress::new(true);
    let mut content = Vec::new();
    let mut piece = vec![0; PIECE];
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
            let before = (stream.total_in(), stream.total_out());
            let status = stream
                .decompress(rest, &mut piece, FlushDecompress::None)
                .map_err(|_| DecompressError::Damaged)?;
            let used = usize::try_from(stream.total_in() - before.0).unwrap_or(usize::MAX);
            let made = usize::try_from(stream.total_out() - before.1).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            if content.len() + made > limit {
                return Err(DecompressError::TooLarge { limit });
            }
            content.extend_from_slice(piece.get(..made).unwrap_or_default());
            ended = status == Status::StreamEnd;
            if !ended && rest.is_empty() && made < PIECE {
                break;
            }
            if !ended && used == 0 && made == 0 {
                return Err(DecompressError::Damaged);
            }
        }
    }
    if ended { Ok(content) } else { Err(DecompressError::Damaged) }
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
    use crate::cms::Object;

    fn decompressed(object: &[u8]) -> Result<Vec<u8>, DecompressError> {
        match Object::parse(object) {
            Ok(Object::CompressedData(compressed)) => compressed.decompress(),
            other => panic!("{other:?}"),
        }
    }

    fn deflate(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_compressed_comes_back_whatever_its_size() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 2 * UNSUSPICIOUS] {
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
    fn bombs_are_given_up_at_the_limit() {
        let bomb = deflate(&vec![0; 8 << 20]);
        let limit = UNSUSPICIOUS.max(MAX_EXPANSION * bomb.len());
        assert!(limit < 1 << 19, "{limit}");
        assert_eq!(inflate(&[&bomb]), Err(DecompressError::TooLarge { limit }));
        // Nor does what cannot be compressed buy a hundred times its length.
        let mut state = 1_u32;
        let mut bought: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(20_000)
        .collect();
        bought.resize(1_000_000, b'\n');
        let bought = deflate(&bought);
        assert!(bought.len() > 20_000);
        assert_eq!(
            inflate(&[&bought]),
            Err(DecompressError::TooLarge { limit: MAX_EXPANSION * bought.len() })
        );
        // Small content may repeat itself as it likes.
        let small = vec![0; UNSUSPICIOUS];
        assert_eq!(inflate(&[&deflate(&small)]).unwrap().len(), UNSUSPICIOUS);
        let more = vec![0; UNSUSPICIOUS + 1];
        assert!(matches!(inflate(&[&deflate(&more)]), Err(DecompressError::TooLarge { .. })));
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
