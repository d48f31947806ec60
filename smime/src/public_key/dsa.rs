//! DSA signatures, which some old certificates have (FIPS 186-4 section 4.7, RFC 3279 section 2.3.2).
//!
//! They are never strong enough for anything. Everything here is public, so nothing need be constant in time.

use num_bigint::BigUint;

use super::rsa::integer;
use crate::{
    Certificate,
    ber::{Element, Tag, Tree},
    key::Digest,
};

/// id-dsa (RFC 3279 2.3.2).
pub(super) const ID_DSA: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.10040.4.1");
/// Longer primes are not calculated with.
const MAX_BITS: u64 = 3072;

/// Whether `signature`, a Dss-Sig-Value, is that of the certificate's key over the digest. `None` where it cannot be
/// told: no DSA key, one without parameters of its own, or one that is too large.
pub(super) fn verify(certificate: &Certificate, digest: &Digest, signature: &[u8]) -> Option<bool> {
    let info = certificate.public_key_info();
    let tree = Tree::parse(&info).ok()?;
    let algorithm = tree.root().children().next()?;
    // Inherited parameters (RFC 5280 6.1.4 (f)) are not looked for.
    let parameters = algorithm.children().nth(1)?;
    let [prime, order, generator] = integers(parameters)?;
    let key = Tree::parse(certificate.public_key()).ok()?;
    let public = integer(key.root())?;
    let is_taken = prime.bits() <= MAX_BITS
        && (160..=256).contains(&order.bits())
        && prime.bit(0)
        && order.bit(0)
        && generator < prime
        && public < prime;
    if !is_taken {
        return None;
    }
    let Some([r, s]) = Tree::parse(signature).ok().and_then(|value| integers(value.root())) else {
        return Some(false);
    };
    if r >= order || s >= order {
        return Some(false);
    }
    let Some(inverse) = s.modinv(&order) else { return Some(false) };
    // The leftmost bits of the digest, as many as the order has.
    let digest_bits = u64::try_from(digest.as_bytes().len()).ok()? * 8;
    let hashed = BigUint::from_bytes_be(digest.as_bytes()) >> digest_bits.saturating_sub(order.bits());
    let (u1, u2) = (hashed * &inverse % &order, &r * inverse % &order);
    let found = generator.modpow(&u1, &prime) * public.modpow(&u2, &prime) % prime % order;
    Some(found == r)
}

/// How many bits the prime of a DSA key has.
pub(super) fn prime_bits(certificate: &Certificate) -> Option<u64> {
    let info = certificate.public_key_info();
    let tree = Tree::parse(&info).ok()?;
    let [prime, ..] = integers::<3>(tree.root().children().next()?.children().nth(1)?)?;
    Some(prime.bits())
}

/// A SEQUENCE of just so many positive INTEGERs.
fn integers<const N: usize>(element: Element<'_, '_>) -> Option<[BigUint; N]> {
    let sequence = element.expect(Tag::SEQUENCE, "SEQUENCE").ok()?;
    let integers: Option<Vec<BigUint>> = sequence.children().map(integer).collect();
    integers?.try_into().ok()
}
