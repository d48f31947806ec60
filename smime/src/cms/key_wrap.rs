//! AES Key Wrap (RFC 3394) with keys of 128, 192 and 256 bits.
//!
//! The engine has it for 128 and 256 bits only, and OpenSSL writes 192 bits with AES-192-CBC. So one short
//! implementation over the engine's block cipher serves all three; the engine's own is its test.

use aws_lc_rs::{
    cipher::{
        AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
        UnboundCipherKey,
    },
    constant_time::verify_slices_are_equal,
    error::Unspecified,
};
use const_oid::db::rfc5911;
use der::asn1::ObjectIdentifier;
use zeroize::Zeroizing;

use crate::key::ContentEncryptionKey;

/// The default initial value (RFC 3394 2.2.3.1), which tells a good key from a bad one.
const INITIAL_VALUE: [u8; 8] = [0xA6; 8];

/// The longest key that is unwrapped: twice what any cipher here takes. It bounds the work, nothing else.
const MAX_KEY_LEN: usize = 64;

/// Wraps a key of 16, 24 or 32 octets with a key of 16, 24 or 32 octets.
pub(super) fn wrap(kek: &[u8], key: &ContentEncryptionKey) -> Result<Vec<u8>, Unspecified> {
    if key.len() < 16 || key.len() > MAX_KEY_LEN || !key.len().is_multiple_of(8) {
        return Err(Unspecified);
    }
    let cipher = EncryptingKey::ecb(unbound(kek)?)?;
    let mut register = INITIAL_VALUE;
    let mut blocks = Zeroizing::new(key.expose().to_vec());
    for round in 0..6 {
        let count = blocks.len() / 8;
        for (index, block) in blocks.chunks_exact_mut(8).enumerate() {
            let mut both = joined(&register, block);
            cipher.less_safe_encrypt(&mut *both, EncryptionContext::None)?;
            let (high, low) = both.split_at(8);
            register = count_in(high, count * round + index + 1)?;
            block.copy_from_slice(low);
        }
    }
    Ok([&register[..], &blocks].concat())
}

/// Unwraps what [`wrap`] made; an error where the key-encryption key is another or an octet was changed.
pub(super) fn unwrap(kek: &[u8], wrapped: &[u8]) -> Result<ContentEncryptionKey, Unspecified> {
    if wrapped.len() < 24 || wrapped.len() > MAX_KEY_LEN + 8 || !wrapped.len().is_multiple_of(8) {
        return Err(Unspecified);
    }
    let cipher = DecryptingKey::ecb(unbound(kek)?)?;
    let (register, blocks) = wrapped.split_at(8);
    let mut register: [u8; 8] = register.try_into().map_err(|_| Unspecified)?;
    let mut blocks = Zeroizing::new(blocks.to_vec());
    for round in (0..6).rev() {
        let count = blocks.len() / 8;
        for (index, block) in blocks.chunks_exact_mut(8).enumerate().rev() {
            let high = count_in(&register, count * round + index + 1)?;
            let mut both = joined(&high, block);
            cipher.decrypt(&mut *both, DecryptionContext::None)?;
            let (high, low) = both.split_at(8);
            register = high.try_into().map_err(|_| Unspecified)?;
            block.copy_from_slice(low);
        }
    }
    verify_slices_are_equal(&register, &INITIAL_VALUE)?;
    Ok(ContentEncryptionKey::new(blocks.to_vec()))
}

fn unbound(kek: &[u8]) -> Result<UnboundCipherKey, Unspecified> {
    let algorithm = match kek.len() {
        16 => &AES_128,
        24 => &AES_192,
        _ => &AES_256,
    };
    UnboundCipherKey::new(algorithm, kek)
}

/// Register and block, in a place that is wiped.
fn joined(register: &[u8], block: &[u8]) -> Zeroizing<[u8; 16]> {
    let mut both = Zeroizing::new([0; 16]);
    for (to, from) in both.iter_mut().zip(register.iter().chain(block)) {
        *to = *from;
    }
    both
}

/// The register with the step counted in.
fn count_in(register: &[u8], step: usize) -> Result<[u8; 8], Unspecified> {
    let register: [u8; 8] = register.try_into().map_err(|_| Unspecified)?;
    let step = u64::try_from(step).map_err(|_| Unspecified)?;
    Ok((u64::from_be_bytes(register) ^ step).to_be_bytes())
}

/// The identifier of the wrap with a key of so many octets (RFC 3565 2.3.2).
pub(super) fn oid(kek_len: usize) -> ObjectIdentifier {
    match kek_len {
        16 => rfc5911::ID_AES_128_WRAP,
        24 => rfc5911::ID_AES_192_WRAP,
        _ => rfc5911::ID_AES_256_WRAP,
    }
}

/// The length of the key-encryption key that an identifier wants.
pub(super) fn kek_len(oid: ObjectIdentifier) -> Option<usize> {
    [16, 24, 32].into_iter().find(|len| self::oid(*len) == oid)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap};

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXUPPER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_3394_section_4_are_wrapped_and_unwrapped() {
        let kek = hex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F");
        let key = hex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
        for (kek_len, key_len, wrapped) in [
            (16, 16, "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"),
            (24, 16, "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D"),
            (32, 16, "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"),
            (24, 24, "031D33264E15D33268F24EC260743EDCE1C6C7DDEE725A936BA814915C6762D2"),
            (32, 24, "A8F9BC1612C68B3FF6E6F4FBE30E71E4769C8B80A32CB8958CD5D17D6B254DA1"),
            (32, 32, "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"),
        ] {
            let key = ContentEncryptionKey::new(key[..key_len].to_vec());
            assert_eq!(wrap(&kek[..kek_len], &key).unwrap(), hex(wrapped), "{kek_len}, {key_len}");
            assert_eq!(unwrap(&kek[..kek_len], &hex(wrapped)).unwrap().expose(), key.expose());
        }
    }

    #[test]
    fn what_the_engine_wraps_is_unwrapped_and_the_reverse() {
        for (kek_len, algorithm) in [(16, &AES_128), (32, &AES_256)] {
            for key_len in [16, 24, 32] {
                let kek = ContentEncryptionKey::random(kek_len).unwrap();
                let key = ContentEncryptionKey::random(key_len).unwrap();
                let ours = wrap(kek.expose(), &key).unwrap();
                let mut out = vec![0; key_len + 8];
                let engine = AesKek::new(algorithm, kek.expose()).unwrap();
                assert_eq!(engine.wrap(key.expose(), &mut out).unwrap(), ours);
                assert_eq!(unwrap(kek.expose(), &out).unwrap().expose(), key.expose());
            }
        }
    }

    #[test]
    fn a_changed_octet_another_key_and_odd_lengths_are_refused() {
        let kek = ContentEncryptionKey::random(32).unwrap();
        let key = ContentEncryptionKey::random(32).unwrap();
        let wrapped = wrap(kek.expose(), &key).unwrap();
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(unwrap(kek.expose(), &changed).is_err(), "octet {at}");
        }
        let other = ContentEncryptionKey::random(32).unwrap();
        assert!(unwrap(other.expose(), &wrapped).is_err());
        for len in (0..=80).filter(|len| *len != wrapped.len()) {
            assert!(unwrap(kek.expose(), &vec![7; len]).is_err(), "{len} octets");
        }
        for len in [0, 8, 15, 17, 72] {
            let key = ContentEncryptionKey::new(vec![7; len]);
            assert!(wrap(kek.expose(), &key).is_err(), "a key of {len} octets");
        }
        assert!(unwrap(&[7; 8], &wrapped).is_err());
    }
}
