//! Content encrypted into its place in the object.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, AES_192, AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    error::Unspecified,
    iv::FixedLength,
    rand,
};
use der::Encode;

use super::SealError;
use crate::{ber::Tag, cipher::ContentCipher, cms::attributes::tlv, key::ContentEncryptionKey};

/// Octets of a GCM or Poly1305 tag. RFC 5084 allows GCM tags from 12; nobody gains by shorter ones.
const TAG_LEN: u8 = 16;
const BLOCK_LEN: usize = 16;

/// The most that one key may encrypt: what we read are objects of up to 4 GiB, recipients and all, and nobody shall encrypt what
/// nobody opens. GCM's counter of 32 bits allows more (RFC 5084 1.1).
const MAX_LEN: u64 = (4 << 30) - (64 << 20);

/// How much the engine is given at a time; it counts in 31 bits.
const CHUNK: usize = 1 << 20;

/// How much is encrypted in place at a time: it stays in the processor's cache.
const PIECE: usize = 8 << 10;

/// Where the content is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plain<'a> {
    /// In segments that follow each other.
    Segments(&'a [&'a [u8]]),
    /// So many octets, which stand already where the encrypted ones belong.
    InPlace(usize),
}

/// One message's content with its key and a fresh nonce.
pub(super) struct ContentSeal<'a> {
    cipher: ContentCipher,
    key: ContentEncryptionKey,
    plain: Plain<'a>,
    plain_len: usize,
    /// The IV of CBC; the first 12 octets are the nonce of the others.
    nonce: [u8; 16],
}

impl<'a> ContentSeal<'a> {
    /// Draws a nonce. The key is given away, so that it is used once only.
    pub(super) fn new(
        cipher: ContentCipher,
        key: ContentEncryptionKey,
        plain: Plain<'a>,
    ) -> Result<Self, SealError> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let plain_len = match plain {
            Plain::Segments(segments) => segments.iter().map(|segment| segment.len()).sum(),
            Plain::InPlace(len) => len,
        };
        if u64::try_from(plain_len).is_ok_and(|len| len > MAX_LEN) {
            return Err(SealError::TooLong(plain_len));
        }
        Ok(Self { cipher, key, plain, plain_len, nonce })
    }

    /// The length of the encrypted content: with CBC up to the next whole block, a full one if need be.
    pub(super) fn len(&self) -> usize {
        if self.cipher.is_authenticated() {
            self.plain_len
        } else {
            (self.plain_len / BLOCK_LEN + 1) * BLOCK_LEN
        }
    }

    /// The length of the tag, or 0 where there is none.
    pub(super) fn tag_len(&self) -> usize {
        if self.cipher.is_authenticated() { usize::from(TAG_LEN) } else { 0 }
    }

    /// The contentEncryptionAlgorithm. aes-ICVlen is always written: its default is 12 (RFC 5084 3.2).
    pub(super) fn identifier(&self) -> Result<Vec<u8>, der::Error> {
        let parameters = match self.cipher {
            ContentCipher::Aes128Cbc | ContentCipher::Aes192Cbc | ContentCipher::Aes256Cbc => {
                tlv(Tag::OCTET_STRING, &self.nonce)
            }
            ContentCipher::Aes128Gcm | ContentCipher::Aes256Gcm => {
                let nonce = tlv(Tag::OCTET_STRING, &self.short_nonce());
                tlv(Tag::SEQUENCE, &[nonce, TAG_LEN.to_der()?].concat())
            }
            ContentCipher::ChaCha20Poly1305 => tlv(Tag::OCTET_STRING, &self.short_nonce()),
        };
        Ok(tlv(Tag::SEQUENCE, &[self.cipher.oid().to_der()?, parameters].concat()))
    }

    fn short_nonce(&self) -> [u8; 12] {
        let [nonce @ .., _, _, _, _] = self.nonce;
        nonce
    }

    /// Encrypts into `out`, which is [`Self::len`] octets long, and gives the tag, empty with CBC.
    pub(super) fn encrypt_into(self, out: &mut [u8]) -> Result<Vec<u8>, SealError> {
        let sealed = match self.cipher {
            ContentCipher::Aes128Cbc => self.cbc(&AES_128, out),
            ContentCipher::Aes192Cbc => self.cbc(&AES_192, out),
            ContentCipher::Aes256Cbc => self.cbc(&AES_256, out),
            ContentCipher::Aes128Gcm => self.aead(&AES_128_GCM, out),
            ContentCipher::Aes256Gcm => self.aead(&AES_256_GCM, out),
            ContentCipher::ChaCha20Poly1305 => self.aead(&CHACHA20_POLY1305, out),
        };
        sealed.map_err(|Unspecified| SealError::Encoding(der::ErrorKind::Failed.into()))
    }

    fn cbc(
        &self,
        engine: &'static aws_lc_rs::cipher::Algorithm,
        out: &mut [u8],
    ) -> Result<Vec<u8>, Unspecified> {
        let key = UnboundCipherKey::new(engine, self.key.expose())?;
        let start = EncryptionContext::Iv128(FixedLength::from(self.nonce));
        let mut stream = StreamingEncryptingKey::less_safe_cbc_pkcs7(key, start)?;
        let mut written = 0;
        match self.plain {
            Plain::Segments(segments) => {
                for chunk in segments.iter().flat_map(|segment| segment.chunks(CHUNK)) {
                    // What is left is whole blocks and at least as long as what is still to come, as this call wants it.
                    let room = out.get_mut(written..).ok_or(Unspecified)?;
                    written += stream.less_safe_update(chunk, room)?.written().len();
                }
            }
            Plain::InPlace(len) => {
                let (mut plain, mut encrypted) = ([0; PIECE], [0; PIECE + BLOCK_LEN]);
                for start in (0..len).step_by(PIECE) {
                    let end = len.min(start + PIECE);
                    let plain = plain.get_mut(..end - start).ok_or(Unspecified)?;
                    plain.copy_from_slice(out.get(start..end).ok_or(Unspecified)?);
                    // Never more than was read so far.
                    let update = stream.less_safe_update(plain, &mut encrypted)?;
                    let encrypted = update.written();
                    let place = out.get_mut(written..written + encrypted.len()).ok_or(Unspecified)?;
                    place.copy_from_slice(encrypted);
                    written += encrypted.len();
                }
            }
        }
        let room = out.get_mut(written..).ok_or(Unspecified)?;
        let (_, last) = stream.finish(room)?;
        written += last.written().len();
        if written == out.len() { Ok(Vec::new()) } else { Err(Unspecified) }
    }

    /// There are no authenticated attributes, so there is no additional data (RFC 5083 2.2).
    fn aead(
        &self,
        engine: &'static aws_lc_rs::aead::Algorithm,
        out: &mut [u8],
    ) -> Result<Vec<u8>, Unspecified> {
        let key = LessSafeKey::new(UnboundKey::new(engine, self.key.expose())?);
        let nonce = Nonce::assume_unique_for_key(self.short_nonce());
        let segments = match self.plain {
            Plain::Segments(segments) => segments,
            // It stands in its place, all but the padding that there is none of.
            Plain::InPlace(_) => &[],
        };
        if let [whole] = segments {
            let mut tag = vec![0; usize::from(TAG_LEN)];
            key.seal_out_of_place_scatter(nonce, Aad::empty(), whole, out, &[], &mut tag)?;
            return Ok(tag);
        }
        let mut rest = &mut *out;
        for segment in segments {
            let (place, after) = rest.split_at_mut_checked(segment.len()).ok_or(Unspecified)?;
            place.copy_from_slice(segment);
            rest = after;
        }
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), out)?;
        Ok(tag.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_become_an_object_that_nobody_here_reads_is_not_encrypted() {
        for (len, is_too_long) in [(100 << 20, false), ((4 << 30) - (64 << 20) + 1, true), (4 << 30, true)] {
            let key = ContentEncryptionKey::random(16).unwrap();
            let seal = ContentSeal::new(ContentCipher::Aes128Gcm, key, Plain::InPlace(len));
            assert_eq!(matches!(seal, Err(SealError::TooLong(_))), is_too_long, "{len}");
        }
    }
}
