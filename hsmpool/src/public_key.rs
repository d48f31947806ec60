//! Public keys, as far as a private key on a token has to be recognised by them.
//!
//! `SubjectPublicKeyInfo`: RFC 5280 4.1.2.7; `RSAPublicKey`: RFC 8017 A.1.1; EC points: RFC 5480 2.2.

use const_oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SECP_521_R_1};
use der::{
    Decode, Encode,
    asn1::{Any, BitString, Null, ObjectIdentifier, OctetStringRef, UintRef},
};
use smime::{
    Certificate,
    agreement::AgreementCurve,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::Digest,
};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};

/// A public key of a kind that is used here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PublicKey {
    /// Both numbers big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// The point in compressed form, so that both forms of one point are equal.
    Ec { curve: Curve, point: Vec<u8> },
}

/// The curves of RFC 5480 2.1.1.1 that S/MIME uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => SECP_256_R_1,
            Self::P384 => SECP_384_R_1,
            Self::P521 => SECP_521_R_1,
        }
    }

    /// Octets of a coordinate, and of a number below the order.
    pub(crate) fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.oid() == oid)
    }
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`. `None` for kinds that are not used here, among them RSA keys that
    /// are restricted to PSS.
    pub(crate) fn from_info(der: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        let key = info.subject_public_key.as_bytes()?;
        match info.algorithm.oid {
            RSA_ENCRYPTION => {
                let RsaPublicKey { modulus, exponent } = RsaPublicKey::from_der(key).ok()?;
                Some(Self::rsa(modulus.as_bytes(), exponent.as_bytes()))
            }
            ID_EC_PUBLIC_KEY => {
                let curve = Curve::from_oid(info.algorithm.parameters?.decode_as().ok()?)?;
                Self::ec(curve, key)
            }
            _ => None,
        }
    }

    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        Self::Rsa { modulus: without_zeros(modulus).to_vec(), exponent: without_zeros(exponent).to_vec() }
    }

    /// A key from `CKA_EC_PARAMS` and `CKA_EC_POINT`.
    pub(crate) fn from_ec_attributes(parameters: &[u8], point: &[u8]) -> Option<Self> {
        let curve = Curve::from_oid(ObjectIdentifier::from_der(parameters).ok()?)?;
        Self::ec(curve, &raw_point(curve, point))
    }

    fn ec(curve: Curve, point: &[u8]) -> Option<Self> {
        Some(Self::Ec { curve, point: compressed(curve, point)? })
    }

    /// Bits of the modulus, or of the curve's field.
    pub(crate) fn bits(&self) -> u32 {
        match self {
            Self::Rsa { modulus, .. } => {
                let unused = modulus.first().map_or(0, |first| first.leading_zeros());
                u32::try_from(modulus.len()).unwrap_or(0).saturating_mul(8).saturating_sub(unused)
            }
            Self::Ec { curve: Curve::P256, .. } => 256,
            Self::Ec { curve: Curve::P384, .. } => 384,
            Self::Ec { curve: Curve::P521, .. } => 521,
        }
    }

    /// The curve on which such a key agrees on others.
    pub(crate) fn agreement_curve(&self) -> Option<AgreementCurve> {
        match self {
            Self::Rsa { .. } => None,
            Self::Ec { curve: Curve::P256, .. } => Some(AgreementCurve::P256),
            Self::Ec { curve: Curve::P384, .. } => Some(AgreementCurve::P384),
            Self::Ec { curve: Curve::P521, .. } => Some(AgreementCurve::P521),
        }
    }

    /// What such a key signs with, best first.
    pub(crate) fn signature_algorithms(&self) -> &'static [SignatureAlgorithm] {
        use DigestAlgorithm::{Sha256, Sha384, Sha512};
        use SignatureAlgorithm::{Ecdsa, RsaPkcs1};
        match self {
            Self::Rsa { .. } => &[RsaPkcs1(Sha256), RsaPkcs1(Sha384), RsaPkcs1(Sha512)],
            // RFC 5480 4: a digest as strong as the curve.
            Self::Ec { curve: Curve::P256, .. } => &[Ecdsa(Sha256)],
            Self::Ec { curve: Curve::P384, .. } => &[Ecdsa(Sha384)],
            Self::Ec { curve: Curve::P521, .. } => &[Ecdsa(Sha512)],
        }
    }
}

#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// The key that a caller means, by all that a token may know it by.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyName {
    /// `None` for a kind of key that is not used here.
    pub(crate) public_key: Option<PublicKey>,
    /// What `CKA_ID` is by convention: subjectKeyIdentifier, SHA-1 of the public key.
    pub(crate) ids: Vec<Vec<u8>>,
    /// For messages.
    pub(crate) description: String,
}

impl KeyName {
    pub(crate) fn of_certificate(certificate: &Certificate) -> Self {
        let info = certificate.public_key_info();
        let mut name = Self::of_public_key_info(&info);
        name.ids.extend(certificate.subject_key_identifier());
        name.ids.dedup();
        name.description = certificate.to_string();
        name
    }

    pub(crate) fn of_public_key_info(info: &[u8]) -> Self {
        let digest = Digest::of(DigestAlgorithm::Sha256, info);
        let hex = data_encoding::HEXLOWER.encode(digest.as_bytes());
        Self {
            public_key: PublicKey::from_info(info),
            ids: key_identifier(info).into_iter().collect(),
            description: format!("public key SHA-256:{hex}"),
        }
    }
}

/// Method 1 of RFC 5280 4.2.1.2: SHA-1 over the octets of the BIT STRING.
pub(crate) fn key_identifier(info: &[u8]) -> Option<Vec<u8>> {
    let info = SubjectPublicKeyInfoRef::from_der(info).ok()?;
    let digest = Digest::of(DigestAlgorithm::Sha1, info.subject_public_key.raw_bytes());
    Some(digest.as_bytes().to_vec())
}

/// A `SubjectPublicKeyInfo` from `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`.
pub(crate) fn rsa_info(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let key = RsaPublicKey { modulus: UintRef::new(modulus).ok()?, exponent: UintRef::new(exponent).ok()? };
    info(RSA_ENCRYPTION, Any::from(Null), &key.to_der().ok()?)
}

/// A `SubjectPublicKeyInfo` from `CKA_EC_PARAMS` and `CKA_EC_POINT`.
pub(crate) fn ec_info(parameters: &[u8], point: &[u8]) -> Option<Vec<u8>> {
    let curve = Curve::from_oid(ObjectIdentifier::from_der(parameters).ok()?)?;
    info(ID_EC_PUBLIC_KEY, Any::from_der(parameters).ok()?, &raw_point(curve, point))
}

fn info(oid: ObjectIdentifier, parameters: Any, key: &[u8]) -> Option<Vec<u8>> {
    let algorithm = AlgorithmIdentifierOwned { oid, parameters: Some(parameters) };
    SubjectPublicKeyInfoOwned { algorithm, subject_public_key: BitString::from_bytes(key).ok()? }
        .to_der()
        .ok()
}

/// PKCS #11 (3.1 6.3.3) wants a DER OCTET STRING around the point; many tokens give the bare point.
fn raw_point(curve: Curve, attribute: &[u8]) -> Vec<u8> {
    if compressed(curve, attribute).is_some() {
        return attribute.to_vec();
    }
    match <&OctetStringRef>::from_der(attribute) {
        Ok(wrapped) => wrapped.as_bytes().to_vec(),
        Err(_) => attribute.to_vec(),
    }
}

/// SEC 1 2.3.3: `04 x y` or `02|03 x`, as `02|03 x`. `None` for anything else.
fn compressed(curve: Curve, point: &[u8]) -> Option<Vec<u8>> {
    let (form, coordinates) = point.split_first()?;
    match form {
        2 | 3 if coordinates.len() == curve.field_len() => Some(point.to_vec()),
        4 if coordinates.len() == 2 * curve.field_len() => {
            let (x, y) = coordinates.split_at(curve.field_len());
            let parity = y.last()? & 1;
            Some([&[2 + parity], x].concat())
        }
        _ => None,
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(curve: Curve, y_last: u8) -> Vec<u8> {
        let mut point = vec![4];
        point.extend(vec![0x11; curve.field_len()]);
        point.extend(vec![0x22; curve.field_len() - 1]);
        point.push(y_last);
        point
    }

    #[test]
    fn a_point_is_the_same_wrapped_raw_and_compressed() {
        for curve in Curve::ALL {
            let parameters = curve.oid().to_der().unwrap();
            let raw = point(curve, 0x23);
            let wrapped = OctetStringRef::new(&raw).unwrap().to_der().unwrap();
            let squeezed = [&[3], &raw[1..=curve.field_len()]].concat();
            let expected = PublicKey::from_ec_attributes(&parameters, &raw).unwrap();
            for form in [&wrapped, &squeezed] {
                assert_eq!(
                    PublicKey::from_ec_attributes(&parameters, form),
                    Some(expected.clone()),
                    "{curve:?}"
                );
            }
            let info = ec_info(&parameters, &wrapped).unwrap();
            assert_eq!(PublicKey::from_info(&info), Some(expected.clone()));
            let other = PublicKey::from_ec_attributes(&parameters, &point(curve, 0x24)).unwrap();
            assert_ne!(other, expected, "the sign of y counts");
        }
    }

    #[test]
    fn leading_zeros_of_a_modulus_do_not_count() {
        assert_eq!(PublicKey::rsa(&[0, 0, 0xc1, 2], &[0, 1, 0, 1]), PublicKey::rsa(&[0xc1, 2], &[1, 0, 1]));
        let info = rsa_info(&[0xc1; 256], &[1, 0, 1]).unwrap();
        assert_eq!(PublicKey::from_info(&info), Some(PublicKey::rsa(&[0xc1; 256], &[1, 0, 1])));
    }

    #[test]
    fn malformed_points_and_unknown_curves_are_no_keys() {
        let p256 = Curve::P256.oid().to_der().unwrap();
        for bad in [&[][..], &[4], &[4; 64], &[5; 65], &[2; 32], &[0x04, 0x41]] {
            assert_eq!(PublicKey::from_ec_attributes(&p256, bad), None, "{bad:?}");
        }
        let secp256k1 = ObjectIdentifier::new_unwrap("1.3.132.0.10").to_der().unwrap();
        assert_eq!(PublicKey::from_ec_attributes(&secp256k1, &point(Curve::P256, 1)), None);
        assert_eq!(PublicKey::from_ec_attributes(&[], &[]), None);
    }
}
