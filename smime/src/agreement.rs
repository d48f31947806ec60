//! Elliptic-curve Diffie-Hellman as CMS uses it: the curves, the originator's public key, the shared secret.
//!
//! RFC 5753 (P-256, P-384, P-521), RFC 8418 and 7748 (X25519). A private key only multiplies; the key
//! derivation and the AES key wrap that follow need no private key.

use std::fmt;

use aws_lc_rs::agreement::{self, ParsedPublicKey, PrivateKey, UnparsedPublicKey};
use const_oid::db::{
    rfc5912::{ID_EC_PUBLIC_KEY, SECP_256_R_1, SECP_384_R_1, SECP_521_R_1},
    rfc8410::ID_X_25519,
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Certificate;

/// A curve on which keys are agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgreementCurve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
    /// Curve25519 (RFC 7748).
    X25519,
}

impl AgreementCurve {
    /// The curve of a certificate's public key. `None` for other kinds of keys.
    pub fn of(certificate: &Certificate) -> Option<Self> {
        match certificate.key_algorithm() {
            ID_X_25519 => Some(Self::X25519),
            ID_EC_PUBLIC_KEY => match certificate.curve()? {
                SECP_256_R_1 => Some(Self::P256),
                SECP_384_R_1 => Some(Self::P384),
                SECP_521_R_1 => Some(Self::P521),
                _ => None,
            },
            _ => None,
        }
    }

    /// Octets of a coordinate, which are also those of the shared secret.
    pub fn field_len(self) -> usize {
        match self {
            Self::P256 | Self::X25519 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The engine's algorithm.
    pub fn engine(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
            Self::P521 => &agreement::ECDH_P521,
            Self::X25519 => &agreement::X25519,
        }
    }
}

/// The public key of a message's originator, on the recipient's curve. Only [`Self::new`] makes one, so
/// whoever has one knows that the point is on the curve, and not of small order: with points of other curves
/// a private key is found piece by piece (the invalid-curve attack), and tokens fail with points that lead to
/// no secret as they do when they are broken.
#[derive(Clone, PartialEq, Eq)]
pub struct OriginatorPublicKey {
    curve: AgreementCurve,
    octets: Vec<u8>,
}

impl OriginatorPublicKey {
    /// Takes the octets of an `OriginatorPublicKey`'s BIT STRING: an uncompressed point (RFC 5480 2.2), which is
    /// what RFC 5753 wants everybody to write, or with X25519 the 32 octets of RFC 7748 5. `None` for other
    /// forms and lengths, the point at infinity, points that are not on the curve, and those that make zero with
    /// every key (RFC 7748 6.1).
    pub fn new(curve: AgreementCurve, octets: &[u8]) -> Option<Self> {
        let has_form = match curve {
            AgreementCurve::X25519 => octets.len() == curve.field_len(),
            _ => octets.first() == Some(&4) && octets.len() == 1 + 2 * curve.field_len(),
        };
        if !has_form {
            return None;
        }
        let parsed = ParsedPublicKey::try_from(&UnparsedPublicKey::new(curve.engine(), octets)).ok()?;
        if curve == AgreementCurve::X25519 {
            // A private key is a multiple of eight below eight times either curve's order, so its product with a
            // point is zero for all of them or for none; the engine tells zero.
            let any = PrivateKey::from_private_key(curve.engine(), &[9; 32]).ok()?;
            agreement::agree(&any, parsed, (), |_| Ok(())).ok()?;
        }
        Some(Self { curve, octets: octets.to_vec() })
    }

    /// The curve.
    pub fn curve(&self) -> AgreementCurve {
        self.curve
    }

    /// The octets as they were given.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

impl fmt::Debug for OriginatorPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginatorPublicKey({:?})", self.curve)
    }
}

/// What two keys agreed on: the x-coordinate of their product. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret(Zeroizing<Vec<u8>>);

impl SharedSecret {
    /// Takes over the octets that a key made on a curve. `None` where they are all zero, which with X25519
    /// means a point of small order (RFC 7748 6.1), or not as many as the curve's field has.
    pub fn new(curve: AgreementCurve, octets: Vec<u8>) -> Option<Self> {
        let octets = Zeroizing::new(octets);
        // All octets are looked at, whatever they are.
        let any = octets.iter().fold(0, |any, octet| any | octet);
        (octets.len() == curve.field_len() && any != 0).then_some(Self(octets))
    }

    /// The octets; every use of this is worth a look.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret([redacted])")
    }
}

/// What a private key made of an originator's public key.
#[derive(Clone, Debug)]
pub enum Agreed {
    /// The shared secret.
    Secret(SharedSecret),
    /// There is none with such a point.
    Rejected,
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsBigEndian, EcPublicKeyCompressedBin};

    use super::*;

    const PRIME_CURVES: [AgreementCurve; 3] =
        [AgreementCurve::P256, AgreementCurve::P384, AgreementCurve::P521];

    #[test]
    fn only_points_on_the_curve_are_taken() {
        for curve in PRIME_CURVES {
            let key = PrivateKey::generate(curve.engine()).unwrap().compute_public_key().unwrap();
            let good = key.as_ref().to_vec();
            assert_eq!(OriginatorPublicKey::new(curve, &good).unwrap().octets(), good);

            let mut off = good.clone();
            *off.last_mut().unwrap() ^= 1;
            let mut hybrid = good.clone();
            hybrid[0] = 6 + (good.last().unwrap() & 1);
            let compressed: EcPublicKeyCompressedBin<'_> = key.as_be_bytes().unwrap();
            let mut beyond = vec![0xff; good.len()];
            beyond[0] = 4;
            let mut origin = vec![0; good.len()];
            origin[0] = 4;
            for (what, octets) in [
                ("off the curve", &off[..]),
                ("of hybrid form", &hybrid),
                ("compressed", compressed.as_ref()),
                ("with coordinates beyond the field", &beyond),
                ("at the origin", &origin),
                ("at infinity", &[0]),
                ("too short", &good[..good.len() - 1]),
                ("too long", &[&good[..], &[0]].concat()),
                ("empty", &[]),
            ] {
                assert_eq!(OriginatorPublicKey::new(curve, octets), None, "{curve:?}: a point {what}");
            }
            for other in PRIME_CURVES.into_iter().filter(|other| *other != curve) {
                assert_eq!(OriginatorPublicKey::new(other, &good), None, "{curve:?} taken for {other:?}");
            }
        }
        assert!(OriginatorPublicKey::new(AgreementCurve::X25519, &[9; 32]).is_some());
        for len in [0, 31, 33, 65] {
            assert_eq!(OriginatorPublicKey::new(AgreementCurve::X25519, &vec![4; len]), None, "{len}");
        }
    }

    /// All points of small order on Curve25519 and its twist, also written beyond the field's prime.
    #[test]
    fn points_of_small_order_are_not_taken() {
        for point in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000080",
        ] {
            let octets = data_encoding::HEXLOWER.decode(point.as_bytes()).unwrap();
            assert_eq!(OriginatorPublicKey::new(AgreementCurve::X25519, &octets), None, "{point}");
        }
    }

    #[test]
    fn a_shared_secret_is_as_long_as_the_field_and_not_zero() {
        for curve in PRIME_CURVES.into_iter().chain([AgreementCurve::X25519]) {
            let len = curve.field_len();
            assert!(SharedSecret::new(curve, vec![0; len]).is_none());
            assert!(SharedSecret::new(curve, vec![1; len - 1]).is_none());
            let secret = SharedSecret::new(curve, vec![0x5a; len]).unwrap();
            assert_eq!(secret.expose(), vec![0x5a; len]);
            assert_eq!(format!("{secret:?}"), "SharedSecret([redacted])");
        }
    }
}
