//! RSA signatures that the engine does not check: old digests, small keys, RSASSA-PSS with any salt and mask.
//!
//! RFC 8017 sections 5.2.2, 8.1.2, 8.2.2 and 9. Everything here is public, so nothing need be constant in time.
//! Whether what is right is also strong enough is asked elsewhere.

use der::{
    Encode,
    asn1::{Any, Null, OctetStringRef},
};
use num_bigint::BigUint;
use spki::AlgorithmIdentifierOwned;

use crate::{
    algorithm::{DigestAlgorithm, PssParameters, SignatureAlgorithm},
    ber::{Element, Tag, Tree},
    key::Digest,
};

/// Longer moduli are not calculated with.
const MAX_BITS: u64 = 8192;
/// Public exponents up to this are taken; the engine does so too. Each bit costs a multiplication.
const MAX_EXPONENT_BITS: u64 = 33;

/// Whether `signature` is that of the key, an RSAPublicKey in DER, over the digest. `None` where it cannot be
/// told: no RSA algorithm, or a key that is none or too large.
pub(super) fn verify(
    key: &[u8],
    algorithm: SignatureAlgorithm,
    digest: &Digest,
    signature: &[u8],
) -> Option<bool> {
    let tree = Tree::parse(key).ok()?;
    let mut fields = tree.root().expect(Tag::SEQUENCE, "RSAPublicKey").ok()?.children();
    let modulus = integer(fields.next()?)?;
    let exponent = integer(fields.next()?)?;
    let is_taken = modulus.bits() <= MAX_BITS
        && modulus.bit(0)
        && exponent.bit(0)
        && (2..=MAX_EXPONENT_BITS).contains(&exponent.bits());
    if !is_taken {
        return None;
    }
    let parameters = match algorithm {
        SignatureAlgorithm::RsaPkcs1(_) => None,
        SignatureAlgorithm::RsaPss(hash) => Some(PssParameters::usual(hash)),
        SignatureAlgorithm::RsaPssOf(parameters) => Some(parameters),
        _ => return None,
    };
    let len = usize::try_from(modulus.bits().div_ceil(8)).ok()?;
    let signature_number = BigUint::from_bytes_be(signature);
    if signature.len() != len || signature_number >= modulus {
        return Some(false);
    }
    let message = signature_number.modpow(&exponent, &modulus).to_bytes_be();
    let mut encoded = vec![0; len.saturating_sub(message.len())];
    encoded.extend(message);
    Some(match parameters {
        None => encoded == pkcs1(digest, len)?,
        Some(parameters) => pss(digest, parameters, &encoded, modulus.bits()).is_some(),
    })
}

/// A positive INTEGER.
pub(super) fn integer(element: Element<'_, '_>) -> Option<BigUint> {
    let octets = element.expect(Tag::INTEGER, "INTEGER").ok()?.content();
    let number = BigUint::from_bytes_be(octets);
    (octets.first()? & 0x80 == 0 && number.bits() > 1).then_some(number)
}

/// EMSA-PKCS1-v1_5 (RFC 8017 9.2): the one encoding of a digest in so many octets. It is made and compared,
/// never taken apart: that is how signatures get forged (CVE-2006-4339).
fn pkcs1(digest: &Digest, len: usize) -> Option<Vec<u8>> {
    let identifier =
        AlgorithmIdentifierOwned { oid: digest.algorithm().oid(), parameters: Some(Any::from(Null)) };
    let info = [identifier.to_der().ok()?, OctetStringRef::new(digest.as_bytes()).ok()?.to_der().ok()?];
    let mut info_der = Vec::new();
    crate::ber::write_header(Tag::SEQUENCE, info.iter().map(Vec::len).sum(), &mut info_der);
    info_der.extend(info.concat());
    let padding = len.checked_sub(info_der.len() + 3).filter(|padding| *padding >= 8)?;
    let mut encoded = vec![0, 1];
    encoded.resize(2 + padding, 0xFF);
    encoded.push(0);
    encoded.extend(info_der);
    Some(encoded)
}

/// EMSA-PSS-VERIFY (RFC 8017 9.1.2), with the steps' numbers. `None`: the signature is wrong.
fn pss(digest: &Digest, parameters: PssParameters, encoded: &[u8], modulus_bits: u64) -> Option<()> {
    let bits = usize::try_from(modulus_bits - 1).ok()?;
    let len = bits.div_ceil(8);
    // A modulus of 8n + 1 bits leaves an octet over, which must be zero (8.1.2, step 2c).
    let (over, encoded) = encoded.split_at_checked(encoded.len().checked_sub(len)?)?;
    let is = |holds: bool| holds.then_some(());
    is(over.iter().all(|octet| *octet == 0) && digest.algorithm() == parameters.hash)?;
    let hash_len = digest.as_bytes().len();
    // 3, 4
    let padding_len = len.checked_sub(hash_len + usize::from(parameters.salt_len) + 2)?;
    let (&trailer, encoded) = encoded.split_last()?;
    is(trailer == 0xBC)?;
    // 5, 6
    let (masked, hash) = encoded.split_at_checked(len - hash_len - 1)?;
    let unused = 8 * len - bits;
    let top = 0xFF_u8 >> unused;
    is(masked.first()? & !top == 0)?;
    // 7 to 9
    let mask = mgf1(parameters.mask_hash, hash, masked.len());
    let mut block: Vec<u8> = masked.iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect();
    *block.first_mut()? &= top;
    // 10, 11
    let (padding, rest) = block.split_at_checked(padding_len)?;
    let (&one, salt) = rest.split_first()?;
    is(padding.iter().all(|octet| *octet == 0) && one == 1)?;
    // 12 to 14
    let expected = Digest::of_segments(parameters.hash, [&[0; 8][..], digest.as_bytes(), salt]);
    is(expected.as_bytes() == hash)
}

/// MGF1 (RFC 8017 B.2.1).
fn mgf1(hash: DigestAlgorithm, seed: &[u8], len: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(len + 64);
    for counter in 0_u32.. {
        if mask.len() >= len {
            break;
        }
        let block = Digest::of_segments(hash, [seed, &counter.to_be_bytes()]);
        mask.extend_from_slice(block.as_bytes());
    }
    mask.truncate(len);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let integer = |octets: &[u8]| [&[2, u8::try_from(octets.len()).unwrap()], octets].concat();
        let content = [integer(modulus), integer(exponent)].concat();
        [&[0x30, u8::try_from(content.len()).unwrap()], &content[..]].concat()
    }

    #[test]
    fn keys_that_are_none_are_not_calculated_with() {
        let digest = Digest::of(DigestAlgorithm::Md5, b"");
        let modulus = [0x7F; 100];
        let verified = |key: &[u8]| {
            let algorithm = SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Md5);
            verify(key, algorithm, &digest, &[1; 100])
        };
        assert_eq!(verified(&key(&modulus, &[3])), Some(false));
        assert_eq!(verified(&key(&modulus, &[1, 0, 1])), Some(false));
        let even = [&modulus[..99], &[0x7E]].concat();
        for (what, key) in [
            ("no key", Vec::new()),
            ("an even modulus", key(&even, &[3])),
            ("a modulus of nothing", key(&[0], &[3])),
            ("no modulus", key(&[], &[3])),
            ("a modulus of one", key(&[1], &[3])),
            ("a negative modulus", key(&[0xFF; 100], &[3])),
            ("an exponent of one", key(&modulus, &[1])),
            ("an even exponent", key(&modulus, &[4])),
            ("a negative exponent", key(&modulus, &[0x81])),
            ("a large exponent", key(&modulus, &[3, 0, 0, 0, 1])),
        ] {
            assert_eq!(verified(&key), None, "{what}");
        }
    }

    #[test]
    fn a_digest_that_does_not_fit_has_no_encoding() {
        let digest = Digest::of(DigestAlgorithm::Sha512, b"");
        // 19 octets before the digest, and at least 11 of padding (RFC 8017 9.2).
        let shortest = 64 + 19 + 11;
        let encoded = pkcs1(&digest, shortest).unwrap();
        assert_eq!((encoded.len(), &encoded[..3], encoded[10]), (shortest, &[0, 1, 0xFF][..], 0));
        assert_eq!(pkcs1(&digest, shortest - 1), None);
    }

    #[test]
    fn every_octet_of_a_pss_encoding_counts() {
        let hash = DigestAlgorithm::Sha256;
        let digest = Digest::of(hash, b"message");
        // 1025 bits leave one octet over, 1024 leave one bit, 1017 none.
        for (bits, salt_len) in [(1025, 20), (1024, 0), (1024, 62), (1018, 20), (1017, 61)] {
            let parameters = PssParameters { hash, mask_hash: DigestAlgorithm::Sha1, salt_len };
            let encoded = encode(&digest, parameters, bits);
            assert!(pss(&digest, parameters, &encoded, bits).is_some(), "{bits}, {salt_len}");
            for at in 0..encoded.len() {
                for mask in [1, 0x80] {
                    let mut changed = encoded.clone();
                    changed[at] ^= mask;
                    assert!(pss(&digest, parameters, &changed, bits).is_none(), "{bits}, {salt_len}, {at}");
                }
            }
            let other = PssParameters { salt_len: salt_len + 1, ..parameters };
            assert!(pss(&digest, other, &encoded, bits).is_none());
            let other = PssParameters { mask_hash: hash, ..parameters };
            assert!(pss(&digest, other, &encoded, bits).is_none());
        }
        let too_long = PssParameters { salt_len: 94, ..PssParameters::usual(hash) };
        assert!(pss(&digest, too_long, &[0xBC; 128], 1024).is_none());
    }

    /// EMSA-PSS-ENCODE (RFC 8017 9.1.1) in as many octets as the modulus has.
    fn encode(digest: &Digest, parameters: PssParameters, modulus_bits: u64) -> Vec<u8> {
        let bits = usize::try_from(modulus_bits).unwrap() - 1;
        let (len, hash_len) = (bits.div_ceil(8), digest.as_bytes().len());
        let salt = vec![0x5A; usize::from(parameters.salt_len)];
        let hash = Digest::of_segments(parameters.hash, [&[0; 8][..], digest.as_bytes(), &salt]);
        let mut block = vec![0; len - hash_len - 2 - salt.len()];
        block.push(1);
        block.extend(salt);
        let mask = mgf1(parameters.mask_hash, hash.as_bytes(), block.len());
        block.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        block[0] &= 0xFF >> (8 * len - bits);
        let mut encoded = vec![0; usize::try_from(modulus_bits.div_ceil(8)).unwrap() - len];
        encoded.extend(block);
        encoded.extend(hash.as_bytes());
        encoded.push(0xBC);
        encoded
    }
}
