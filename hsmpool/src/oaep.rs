//! EME-OAEP decoding (RFC 8017 7.1.2 step 3) for tokens that do only part of OAEP, in constant time.
//!
//! Whether the first octet, the label's hash or the padding is wrong must not show (Manger's attack): all of
//! it is computed whatever comes, without branches or indices that depend on it, and one bit comes out.

use std::hint::black_box;

use smime::{
    algorithm::DigestAlgorithm,
    key::{ContentEncryptionKey, Digest, Unwrapped},
};
use zeroize::Zeroizing;

use crate::constant_time::equal;

/// Decodes `EM`, which is as long as the modulus. Only that length decides whether it is tried at all.
pub(crate) fn decode(
    encoded: &[u8],
    hash: DigestAlgorithm,
    mask_hash: DigestAlgorithm,
    label: &[u8],
) -> Unwrapped {
    let label_hash = Digest::of(hash, label);
    let hash_len = label_hash.as_bytes().len();
    if encoded.len() < 2 * hash_len + 2 {
        return Unwrapped::Rejected;
    }
    let Some((first, masked)) = encoded.split_first() else { return Unwrapped::Rejected };
    let (masked_seed, masked_block) = masked.split_at(hash_len);
    let mut seed = Zeroizing::new(masked_seed.to_vec());
    unmask(&mut seed, masked_block, mask_hash);
    let mut block = Zeroizing::new(masked_block.to_vec());
    unmask(&mut block, &seed, mask_hash);

    // DB = lHash || PS (zeros) || 01 || M.
    let (hash_found, rest) = block.split_at(hash_len);
    let mut good = equal(usize::from(*first), 0);
    for (found, expected) in hash_found.iter().zip(label_hash.as_bytes()) {
        good &= equal(usize::from(found ^ expected), 0);
    }
    let mut separator_seen = 0;
    let mut start = 0;
    for (position, octet) in rest.iter().enumerate() {
        let zero = equal(usize::from(*octet), 0);
        let one = equal(usize::from(*octet), 1);
        let here = one & !separator_seen;
        start |= here & (position + 1);
        good &= zero | one | separator_seen;
        separator_seen |= here;
    }
    good &= separator_seen;
    match rest.get(start..) {
        Some(message) if black_box(good) != 0 => Unwrapped::Key(ContentEncryptionKey::new(message.to_vec())),
        _ => Unwrapped::Rejected,
    }
}

/// XORs MGF1 (RFC 8017 B.2.1) of `seed` over `target`.
fn unmask(target: &mut [u8], seed: &[u8], hash: DigestAlgorithm) {
    let hash_len = Digest::of(hash, &[]).as_bytes().len();
    for (counter, chunk) in (0_u32..).zip(target.chunks_mut(hash_len)) {
        let mask = Digest::of_segments(hash, [seed, &counter.to_be_bytes()]);
        for (octet, mask) in chunk.iter_mut().zip(mask.as_bytes()) {
            *octet ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512};

    use super::*;

    const LEN: usize = 256;

    /// EME-OAEP encoding (RFC 8017 7.1.1 step 2) of a data block made by the caller.
    fn encode(first: u8, block: &[u8], hash: DigestAlgorithm, mask_hash: DigestAlgorithm) -> Vec<u8> {
        let mut seed = vec![0x5a; Digest::of(hash, &[]).as_bytes().len()];
        let mut block = block.to_vec();
        unmask(&mut block, &seed, mask_hash);
        unmask(&mut seed, &block, mask_hash);
        [vec![first], seed, block].concat()
    }

    fn block(hash: DigestAlgorithm, label: &[u8], message: &[u8]) -> Vec<u8> {
        let hash = Digest::of(hash, label).as_bytes().to_vec();
        let zeros = LEN - 1 - 2 * hash.len() - 1 - message.len();
        [hash, vec![0; zeros], vec![1], message.to_vec()].concat()
    }

    fn message(unwrapped: Unwrapped) -> Option<Vec<u8>> {
        match unwrapped {
            Unwrapped::Key(key) => Some(key.expose().to_vec()),
            Unwrapped::Rejected => None,
        }
    }

    #[test]
    fn what_was_encoded_comes_back() {
        for hash in [Sha1, Sha256, Sha384, Sha512] {
            for mask_hash in [Sha1, Sha256] {
                let longest = LEN - 2 - 2 * Digest::of(hash, &[]).as_bytes().len();
                for text in [vec![], vec![7; 32], vec![0; 16], vec![1; 16], vec![9; longest]] {
                    let encoded = encode(0, &block(hash, b"label", &text), hash, mask_hash);
                    assert_eq!(message(decode(&encoded, hash, mask_hash, b"label")), Some(text));
                }
            }
        }
    }

    #[test]
    fn every_fault_is_rejected() {
        let good = block(Sha256, b"", &[7; 32]);
        let mut wrong_hash = good.clone();
        wrong_hash[31] ^= 1;
        let mut dirty_padding = good.clone();
        dirty_padding[40] = 2;
        let no_separator = [&good[..32], &vec![0; good.len() - 32]].concat();
        for (what, first, block) in [
            ("first octet", 1, &good),
            ("first octet", 0x80, &good),
            ("hash of the label", 0, &wrong_hash),
            ("padding", 0, &dirty_padding),
            ("separator", 0, &no_separator),
        ] {
            assert_eq!(
                message(decode(&encode(first, block, Sha256, Sha256), Sha256, Sha256, b"")),
                None,
                "{what}"
            );
        }
        let encoded = encode(0, &good, Sha256, Sha256);
        assert_eq!(message(decode(&encoded, Sha256, Sha256, b"")), Some(vec![7; 32]));
        assert_eq!(message(decode(&encoded, Sha256, Sha256, b"other")), None);
        assert_eq!(message(decode(&encoded, Sha256, Sha1, b"")), None);
        assert_eq!(message(decode(&encoded, Sha512, Sha256, b"")), None);
        for len in [0, 1, 32, 65] {
            assert_eq!(message(decode(&encoded[..len], Sha256, Sha256, b"")), None);
        }
    }
}
