//! Content in old ciphers decrypted (RFC 3370 section 5), padding as in RFC 5652 6.3.

use cbc::{
    Decryptor,
    cipher::{BlockCipherDecrypt, BlockModeDecrypt, InnerIvInit, KeyInit, block_padding::Pkcs7},
};
use des::{Des, TdesEde3};
use rc2::Rc2;

use super::OpenError;
use crate::{algorithm::LegacyCipher, key::ContentEncryptionKey};

/// Decrypts segments of content. Whatever is wrong, the error is the same (RFC 3218).
pub(super) fn decrypt(
    cipher: LegacyCipher,
    key: &ContentEncryptionKey,
    iv: [u8; 8],
    segments: &[&[u8]],
) -> Result<Vec<u8>, OpenError> {
    if key.len() != cipher.key_len() {
        return Err(OpenError::Undecryptable);
    }
    let wrong_len = |_| OpenError::Undecryptable;
    let octets = key.expose();
    match cipher {
        LegacyCipher::Des => cbc(Des::new_from_slice(octets).map_err(wrong_len)?, iv, segments),
        LegacyCipher::TripleDes => cbc(TdesEde3::new_from_slice(octets).map_err(wrong_len)?, iv, segments),
        LegacyCipher::Rc2_40 | LegacyCipher::Rc2_64 | LegacyCipher::Rc2_128 => {
            cbc(Rc2::new_with_eff_key_len(octets, octets.len() * 8), iv, segments)
        }
    }
}

fn cbc<C: BlockCipherDecrypt>(cipher: C, iv: [u8; 8], segments: &[&[u8]]) -> Result<Vec<u8>, OpenError> {
    let mode = Decryptor::inner_iv_slice_init(cipher, &iv).map_err(|_| OpenError::Undecryptable)?;
    let mut content = segments.concat();
    let len = mode.decrypt_padded::<Pkcs7>(&mut content).map_err(|_| OpenError::Undecryptable)?.len();
    content.truncate(len);
    Ok(content)
}
