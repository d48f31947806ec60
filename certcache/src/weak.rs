//! RSA keys that are weak whatever their length: small exponents and ROCA (CVE-2017-15361).

use smime::{Certificate, ber::Tree};

/// The primes of ROCA's fingerprint: a modulus made by the faulty library is a power of 65537 modulo each.
const PRIMES: [u64; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Whether an RSA key is weak whatever its length: an exponent that encrypts nothing, or ROCA (CVE-2017-15361).
pub fn is_weak(certificate: &Certificate) -> bool {
    check(certificate).is_err()
}

/// Why a key is weak in a way that its length does not show.
pub(crate) fn check(certificate: &Certificate) -> Result<(), &'static str> {
    if certificate.rsa_modulus_bits().is_none() {
        return Ok(());
    }
    let Ok(tree) = Tree::parse(certificate.public_key()) else {
        return Err("its RSA key cannot be read");
    };
    let mut numbers = tree.root().children().map(|number| number.content().to_vec());
    let (Some(modulus), Some(exponent)) = (numbers.next(), numbers.next()) else {
        return Err("its RSA key cannot be read");
    };
    let exponent_is_small = exponent.iter().skip_while(|octet| **octet == 0).eq(&[1]);
    if exponent_is_small || exponent.last().is_none_or(|last| last % 2 == 0) {
        return Err("its RSA exponent encrypts nothing");
    }
    if is_roca(&modulus) { Err("its RSA key is of a kind that can be factored (ROCA)") } else { Ok(()) }
}

/// Of other moduli about one in 2^27 looks so.
fn is_roca(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, octet| (rest * 256 + u64::from(*octet)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65_537 % prime;
            power == rest
        })
    })
}

#[cfg(test)]
mod tests {
    use smime::testing::fixtures::certificate;

    use super::*;

    /// The product of small primes M and numbers k, a so that k·M + 65537^a mod M has ROCA's form for all of them.
    #[test]
    fn moduli_of_the_form_of_roca_are_told_from_others() {
        let product: u128 = PRIMES.iter().map(|prime| u128::from(*prime)).product();
        let power = (0..20).fold(1, |power: u128, _| mul(power, 65_537, product));
        assert!(is_roca(&power.to_be_bytes()));
        assert!(!is_roca(&(power + 2).to_be_bytes()));
        for name in ["alice", "bob", "carol"] {
            assert_eq!(check(&certificate(name)), Ok(()), "{name}");
        }
    }

    /// a·b mod m without overflow.
    fn mul(a: u128, b: u128, m: u128) -> u128 {
        let (mut sum, mut a, mut b) = (0, a % m, b);
        while b > 0 {
            if b & 1 == 1 {
                sum = (sum + a) % m;
            }
            a = a * 2 % m;
            b >>= 1;
        }
        sum
    }
}
