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
    let mut plain = vec![0; len + engine.block_len()];
    let mut written = 0;
    for segment in segments {
        let room = plain.get_mut(written..).unwrap_or_default();
        written += stream.update(segment, room).map_err(undecryptable)?.written().len();
    }
    let room = plain.get_mut(written..).unwrap_or_default();
    written += stream.finish(room).map_err(undecryptable)?.written().len();
    plain.truncate(written);
    Ok(plain)
}

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
