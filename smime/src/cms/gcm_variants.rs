//! AES-GCM as BouncyCastle's and PKI.js's generators of `EnvelopedData` write it: read, never written.
//!
//! RFC 5084 has it in `AuthEnvelopedData` only. Both put it into an `EnvelopedData`, with the tag behind the
//! ciphertext as their engines give it (bc-java issue 1838, PKI.js issues 287 and 531); PKI.js also writes its
//! nonce of 16 octets bare in the place of GCMParameters. The tag protects the content there as well, so this is
//! no way around anything: what must not be believed is a cipher without a tag in the place of one (RFC 9709).

use aes_gcm::{
    AesGcm,
    aead::{Aead, KeyInit, Payload, consts::U16},
    aes::{Aes128, Aes192, Aes256},
};

use super::{OpenError, enveloped_data::Authentication};
use crate::key::ContentEncryptionKey;

/// Takes the tag of so many octets off the end of a content, which may be cut anywhere.
pub(super) fn split_tag<'a>(segments: &[&'a [u8]], len: usize) -> Option<(Vec<&'a [u8]>, Authentication)> {
    let mut segments = segments.to_vec();
    let mut mac = Vec::with_capacity(len);
    while mac.len() < len {
        let last = segments.pop()?;
        let (rest, tail) = last.split_at(last.len().saturating_sub(len - mac.len()));
        mac.splice(0..0, tail.iter().copied());
        if !rest.is_empty() {
            segments.push(rest);
        }
    }
    Some((segments, Authentication { attributes: Vec::new(), mac }))
}

/// AES-GCM with a nonce of 16 octets, which is hashed first (NIST SP 800-38D 7.1), and a tag of 16.
pub(super) fn open_long_nonce(
    key: &ContentEncryptionKey,
    nonce: [u8; 16],
    segments: &[&[u8]],
    authentication: &Authentication,
) -> Result<Vec<u8>, OpenError> {
    if authentication.mac.len() != 16 {
        return Err(OpenError::Undecryptable);
    }
    let sealed = [segments, &[&authentication.mac]].concat().concat();
    let payload = Payload { msg: &sealed, aad: &authentication.attributes };
    let (key, nonce) = (key.expose(), nonce.into());
    let opened = match key.len() {
        16 => AesGcm::<Aes128, U16>::new_from_slice(key).ok().map(|key| key.decrypt(&nonce, payload)),
        24 => AesGcm::<Aes192, U16>::new_from_slice(key).ok().map(|key| key.decrypt(&nonce, payload)),
        _ => AesGcm::<Aes256, U16>::new_from_slice(key).ok().map(|key| key.decrypt(&nonce, payload)),
    };
    opened.and_then(Result::ok).ok_or(OpenError::Undecryptable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_taken_off_wherever_the_content_is_cut() {
        let octets: Vec<u8> = (0..40).collect();
        for size in 1..=41 {
            let segments: Vec<&[u8]> = octets.chunks(size).collect();
            for len in [12, 16, 40] {
                let (content, tag) = split_tag(&segments, len).unwrap();
                assert_eq!(content.concat(), octets[..40 - len], "{size}, {len}");
                assert_eq!(tag.mac, octets[40 - len..], "{size}, {len}");
            }
            assert!(split_tag(&segments, 41).is_none());
        }
        assert!(split_tag(&[], 16).is_none());
        assert!(split_tag(&[&[][..], &[]], 16).is_none());
    }
}
