//! Triple-DES Key Wrap (RFC 3217 section 3), to read only: OpenSSL wraps the key of Triple-DES content with it
//! after key agreement.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    error::Unspecified,
};
use cbc::{
    Decryptor,
    cipher::{BlockModeDecrypt, InnerIvInit, KeyInit, block_padding::NoPadding},
};
use der::asn1::ObjectIdentifier;
use des::TdesEde3;
use zeroize::Zeroizing;

use crate::key::ContentEncryptionKey;

/// id-alg-CMS3DESwrap (RFC 3370 4.3.1).
pub(super) const OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.6");

/// Octets of a key-encryption key, and of the only keys that are wrapped.
pub(super) const KEY_LEN: usize = 24;

/// The IV of the second encryption.
const IV: [u8; 8] = [0x4A, 0xDD, 0xA2, 0x2C, 0x79, 0xE8, 0x21, 0x05];

/// Unwraps a Triple-DES key; an error where the key-encryption key is another or an octet was changed.
pub(super) fn unwrap(kek: &[u8], wrapped: &[u8]) -> Result<ContentEncryptionKey, Unspecified> {
    if wrapped.len() != 8 + KEY_LEN + 8 {
        return Err(Unspecified);
    }
    let mut reversed = decrypt(kek, &IV, wrapped)?;
    reversed.reverse();
    let (iv, rest) = reversed.split_at_checked(8).ok_or(Unspecified)?;
    let both = decrypt(kek, iv, rest)?;
    let (key, checksum) = both.split_at_checked(KEY_LEN).ok_or(Unspecified)?;
    let expected = digest(&SHA1_FOR_LEGACY_USE_ONLY, key);
    verify_slices_are_equal(expected.as_ref().get(..8).ok_or(Unspecified)?, checksum)?;
    Ok(ContentEncryptionKey::new(key.to_vec()))
}

fn decrypt(kek: &[u8], iv: &[u8], octets: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let cipher = TdesEde3::new_from_slice(kek).map_err(|_| Unspecified)?;
    let mode = Decryptor::inner_iv_slice_init(cipher, iv).map_err(|_| Unspecified)?;
    let mut octets = Zeroizing::new(octets.to_vec());
    mode.decrypt_padded::<NoPadding>(&mut octets).map_err(|_| Unspecified)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_example_of_rfc_3217_section_3_4_is_unwrapped_and_any_change_refused() {
        let kek = hex("255e0d1c07b646dfb3134cc843ba8aa71f025b7c0838251f");
        let wrapped = hex("690107618ef092b3b48ca1796b234ae9fa33ebb4159604037db5d6a84eb3aac2768c632775a467d4");
        let key = unwrap(&kek, &wrapped).unwrap();
        assert_eq!(key.expose(), hex("2923bf85e06dd6ae529149f1f1bae9eab3a7da3d860d3e98"));
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(unwrap(&kek, &changed).is_err(), "octet {at}");
        }
        for len in (0..80).filter(|len| *len != wrapped.len()) {
            assert!(unwrap(&kek, &vec![7; len]).is_err(), "{len} octets");
        }
        assert!(unwrap(&kek[8..], &wrapped).is_err());
    }
}
