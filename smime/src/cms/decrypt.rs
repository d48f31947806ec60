//! Content decrypted: nothing leaves here unless all of it is right.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    cipher::{
        AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey,
    },
    constant_time::verify_slices_are_equal,
    iv::FixedLength,
};
use zeroize::Zeroizing;

use super::{
    OpenError,
    enveloped_data::Authentication,
    gcm_variants::{open_long_nonce, split_tag},
    legacy,
};
use crate::{algorithm::ContentEncryptionAlgorithm, key::ContentEncryptionKey};

/// Decrypts segments of content. Whatever is wrong, the error is the same (RFC 3218).
pub(super) fn decrypt(
    cipher: &ContentEncryptionAlgorithm,
    key: &ContentEncryptionKey,
    segments: &[&[u8]],
    authentication: Option<&Authentication>,
) -> Result<Vec<u8>, OpenError> {
    let (segments, appended) = match (cipher.appended_tag_len(), authentication) {
        (Some(len), None) => {
            let (content, tag) = split_tag(segments, len).ok_or(OpenError::Undecryptable)?;
            (content, Some(tag))
        }
        _ => (segments.to_vec(), None),
    };
    let (segments, authentication) = (segments.as_slice(), authentication.or(appended.as_ref()));
    match (cipher, authentication) {
        (ContentEncryptionAlgorithm::AesCbc { iv, .. }, None) => cbc(key, *iv, segments),
        (ContentEncryptionAlgorithm::AesGcm { nonce, tag_len, .. }, Some(authentication)) => {
            gcm(key, *nonce, *tag_len, segments, authentication)
        }
        (ContentEncryptionAlgorithm::AesGcmLongNonce { nonce, .. }, Some(authentication)) => {
            open_long_nonce(key, *nonce, segments, authentication)
        }
        (ContentEncryptionAlgorithm::ChaCha20Poly1305 { nonce }, Some(authentication)) => {
            chacha20_poly1305(key, *nonce, segments, authentication)
        }
        (ContentEncryptionAlgorithm::Legacy { cipher, iv }, None) => {
            legacy::decrypt(*cipher, key, *iv, segments)
        }
        _ => Err(OpenError::Undecryptable),
    }
}

/// Whether [`decrypt`] would decrypt the segments. What is decrypted to find that out is wiped.
pub(super) fn prove(
    cipher: &ContentEncryptionAlgorithm,
    key: &ContentEncryptionKey,
    segments: &[&[u8]],
    authentication: Option<&Authentication>,
) -> Result<(), OpenError> {
    // In CBC mode all that can be wrong is the padding, and that stands in the last block, for which one block more is
    // needed (NIST SP 800-38A 6.2).
    let plain = match (cipher, authentication) {
        (ContentEncryptionAlgorithm::AesCbc { iv, .. }, None) => {
            let (iv, block) = last_block(*iv, segments).ok_or(OpenError::Undecryptable)?;
            cbc(key, iv, &[&block])
        }
        (ContentEncryptionAlgorithm::Legacy { cipher, iv }, None) => {
            let (iv, block) = last_block(*iv, segments).ok_or(OpenError::Undecryptable)?;
            legacy::decrypt(*cipher, key, iv, &[&block])
        }
        _ => decrypt(cipher, key, segments, authentication),
    };
    plain.map(|plain| drop(Zeroizing::new(plain)))
}

/// The last block of ciphertext in CBC mode, and what it is chained to: the block before it, or the initialization
/// vector. `None` if there are no blocks, or not whole ones.
fn last_block<const LEN: usize>(iv: [u8; LEN], segments: &[&[u8]]) -> Option<([u8; LEN], [u8; LEN])> {
    let len: usize = segments.iter().map(|segment| segment.len()).sum();
    if len == 0 || !len.is_multiple_of(LEN) {
        return None;
    }
    let mut backwards = segments.iter().rev().flat_map(|segment| segment.iter().rev()).copied();
    let mut block = || {
        let mut block = [0; LEN];
        for place in block.iter_mut().rev() {
            *place = backwards.next()?;
        }
        Some(block)
    };
    let last = block()?;
    Some((block().unwrap_or(iv), last))
}

fn undecryptable(_: aws_lc_rs::error::Unspecified) -> OpenError {
    OpenError::Undecryptable
}

fn cbc(key: &ContentEncryptionKey, iv: [u8; 16], segments: &[&[u8]]) -> Result<Vec<u8>, OpenError> {
    let engine = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        _ => &AES_256,
    };
    let key = UnboundCipherKey::new(engine, key.expose()).map_err(undecryptable)?;
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let mut stream = StreamingDecryptingKey::cbc_pkcs7(key, context).map_err(undecryptable)?;
    let len: usize = segments.iter().map(|segment| segment.len()).sum();
    // Memory that is asked for as zeros may be fresh pages each time, which takes longer than the cipher.
    let mut plain = Vec::with_capacity(len);
    let mut piece = Zeroizing::new([0; PIECE + BLOCK]);
    for part in segments.iter().flat_map(|segment| segment.chunks(PIECE)) {
        plain.extend_from_slice(stream.update(part, &mut *piece).map_err(undecryptable)?.written());
    }
    plain.extend_from_slice(stream.finish(&mut *piece).map_err(undecryptable)?.written());
    Ok(plain)
}

/// How many octets are decrypted at a time: few enough for the processor's nearest cache.
const PIECE: usize = 8 << 10;
/// AES has blocks of so many octets; one may be left over from the piece before.
const BLOCK: usize = 16;

/// AES-GCM (RFC 5084 3.2). The tag must have the length that its parameters say.
fn gcm(
    key: &ContentEncryptionKey,
    nonce: [u8; 12],
    tag_len: usize,
    segments: &[&[u8]],
    authentication: &Authentication,
) -> Result<Vec<u8>, OpenError> {
    let (engine, cipher) = match key.len() {
        16 => (&AES_128_GCM, &AES_128),
        24 => (&AES_192_GCM, &AES_192),
        _ => (&AES_256_GCM, &AES_256),
    };
    let mac = &authentication.mac;
    if mac.len() != tag_len {
        return Err(OpenError::Undecryptable);
    }
    let sealed = LessSafeKey::new(UnboundKey::new(engine, key.expose()).map_err(undecryptable)?);
    let aad = Aad::from(&authentication.attributes);
    if tag_len == 16 {
        return open(&sealed, nonce, segments, authentication);
    }
    let mut content = Zeroizing::new(segments.concat());
    // The engine knows whole tags only. So: decrypt in counter mode, seal again, compare the beginning of the tag.
    let mut counter = [0; 16];
    for (to, from) in counter.iter_mut().zip(nonce.iter().chain(&[0, 0, 0, 2])) {
        *to = *from;
    }
    let unbound = UnboundCipherKey::new(cipher, key.expose()).map_err(undecryptable)?;
    let start = DecryptionContext::Iv128(FixedLength::from(counter));
    DecryptingKey::ctr(unbound)
        .and_then(|key| key.decrypt(content.as_mut_slice(), start).map(drop))
        .map_err(undecryptable)?;
    let mut plain = content.clone();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = sealed.seal_in_place_separate_tag(nonce, aad, content.as_mut_slice()).map_err(undecryptable)?;
    let beginning = tag.as_ref().get(..tag_len).ok_or(OpenError::Undecryptable)?;
    verify_slices_are_equal(beginning, mac).map_err(undecryptable)?;
    Ok(std::mem::take(&mut *plain))
}

/// ChaCha20-Poly1305 (RFC 8103 section 3), whose tag has always 16 octets; the engine takes no other.
fn chacha20_poly1305(
    key: &ContentEncryptionKey,
    nonce: [u8; 12],
    segments: &[&[u8]],
    authentication: &Authentication,
) -> Result<Vec<u8>, OpenError> {
    if authentication.mac.len() != CHACHA20_POLY1305.tag_len() {
        return Err(OpenError::Undecryptable);
    }
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).map_err(undecryptable)?;
    open(&LessSafeKey::new(key), nonce, segments, authentication)
}

/// Opens content with a whole tag. Content in one piece is read where it is. What was decrypted and is not right is
/// wiped: the engine leaves that to us.
fn open(
    key: &LessSafeKey,
    nonce: [u8; 12],
    segments: &[&[u8]],
    authentication: &Authentication,
) -> Result<Vec<u8>, OpenError> {
    let Authentication { attributes, mac } = authentication;
    let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(attributes));
    if let [whole] = segments {
        let mut content = Zeroizing::new(vec![0; whole.len()]);
        key.open_separate_gather(nonce, aad, whole, mac, &mut content).map_err(undecryptable)?;
        return Ok(std::mem::take(&mut *content));
    }
    let mut content = Zeroizing::new(segments.concat());
    key.open_in_place_separate_tag(nonce, aad, mac, content.as_mut_slice()).map_err(undecryptable)?;
    Ok(std::mem::take(&mut *content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        algorithm::{DigestAlgorithm, LegacyCipher},
        key::Digest,
    };

    #[test]
    fn the_last_block_proves_what_all_of_the_content_would() {
        let ciphers = [
            (ContentEncryptionAlgorithm::AesCbc { key_len: 16, iv: [7; 16] }, 16),
            (ContentEncryptionAlgorithm::AesCbc { key_len: 32, iv: [7; 16] }, 32),
            (ContentEncryptionAlgorithm::Legacy { cipher: LegacyCipher::TripleDes, iv: [7; 8] }, 24),
            (ContentEncryptionAlgorithm::Legacy { cipher: LegacyCipher::Rc2_128, iv: [7; 8] }, 16),
        ];
        for (cipher, key_len) in ciphers {
            let (mut opened, mut closed) = (0, 0);
            // A wrong key's padding is good by chance: of one octet once in 256 times.
            for round in 0..4_000_u32 {
                let random = Digest::of(DigestAlgorithm::Sha256, &round.to_le_bytes());
                let key = ContentEncryptionKey::new(random.as_bytes()[..key_len].to_vec());
                let len = [16, 32, 48, 0, 17, 24, 64][round as usize % 7];
                let content: Vec<u8> =
                    (0..len).map(|at: u32| (at * 37 + round / 7).to_le_bytes()[0]).collect();
                let (one, other) = content.split_at(content.len() / 3);
                for segments in [&[content.as_slice()][..], &[one, b"", other]] {
                    let whole = decrypt(&cipher, &key, segments, None).is_ok();
                    assert_eq!(prove(&cipher, &key, segments, None).is_ok(), whole, "{cipher:?} {content:?}");
                    if whole { opened += 1 } else { closed += 1 }
                }
            }
            assert!(opened > 0 && closed > 0, "{cipher:?}: {opened} opened, {closed} not");
        }
    }
}
