//! Public keys, as far as a private key on a token has to be recognised by them.
//!
//! `SubjectPublicKeyInfo`: RFC 5280 4.1.2.7; `RSAPublicKey`: RFC 8017 A.1.1; EC points: RFC 5480 2.2; Ed25519 and
//! X25519: RFC 8410.

use const_oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SECP_521_R_1};
pub(crate) use const_oid::db::rfc8410::{ID_ED_25519, ID_X_25519};
use der::{
    Decode, Encode,
    asn1::{
        Any, BitString, BitStringRef, Null, ObjectIdentifier, OctetStringRef, PrintableStringRef, UintRef,
    },
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
    /// The encoded point of RFC 8032 5.1.2.
    Ed25519([u8; 32]),
    /// The u-coordinate of RFC 7748 5.
    X25519([u8; 32]),
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
            ID_ED_25519 => Some(Self::Ed25519(key.try_into().ok()?)),
            ID_X_25519 => Some(Self::X25519(key.try_into().ok()?)),
            _ => None,
        }
    }

    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        Self::Rsa { modulus: without_zeros(modulus).to_vec(), exponent: without_zeros(exponent).to_vec() }
    }

    /// A key from `CKA_EC_PARAMS` and `CKA_EC_POINT`.
    pub(crate) fn from_ec_attributes(parameters: &[u8], point: &[u8]) -> Option<Self> {
        match Group::from_attribute(parameters)? {
            Group::Prime(curve) => Self::ec(curve, &raw_point(curve, point)),
            Group::Edwards => Some(Self::Ed25519(raw_25519(point)?)),
            Group::Montgomery => Some(Self::X25519(raw_25519(point)?)),
        }
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
            Self::Ed25519(_) | Self::X25519(_) => 255,
            Self::Ec { curve: Curve::P384, .. } => 384,
            Self::Ec { curve: Curve::P521, .. } => 521,
        }
    }

    /// The curve on which such a key agrees on others.
    pub(crate) fn agreement_curve(&self) -> Option<AgreementCurve> {
        match self {
            Self::Rsa { .. } | Self::Ed25519(_) => None,
            Self::X25519(_) => Some(AgreementCurve::X25519),
            Self::Ec { curve: Curve::P256, .. } => Some(AgreementCurve::P256),
            Self::Ec { curve: Curve::P384, .. } => Some(AgreementCurve::P384),
            Self::Ec { curve: Curve::P521, .. } => Some(AgreementCurve::P521),
        }
    }

    /// What such a key signs with, best first.
    pub(crate) fn signature_algorithms(&self) -> &'static [SignatureAlgorithm] {
        use DigestAlgorithm::{Sha256, Sha384, Sha512};
        use SignatureAlgorithm::{Ecdsa, Ed25519, RsaPkcs1, RsaPss};
        match self {
            // RFC 8551 2.2: PSS is what senders should use, but what all receivers know comes first.
            Self::Rsa { .. } => &[
                RsaPkcs1(Sha256),
                RsaPkcs1(Sha384),
                RsaPkcs1(Sha512),
                RsaPss(Sha256),
                RsaPss(Sha384),
                RsaPss(Sha512),
            ],
            Self::Ed25519(_) => &[Ed25519],
            Self::X25519(_) => &[],
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
    /// The `SubjectPublicKeyInfo` in DER.
    pub(crate) info: Vec<u8>,
    /// A digest of what a token may know it by.
    pub(crate) tag: [u8; 32],
    /// One of that and the description.
    pub(crate) tag_with_description: [u8; 32],
}

impl KeyName {
    pub(crate) fn of_certificate(certificate: &Certificate) -> Self {
        let info = certificate.public_key_info();
        let mut name = Self::of_public_key_info(&info);
        name.ids.extend(certificate.subject_key_identifier());
        name.ids.dedup();
        Self::of_parts(&info, name.ids, certificate.to_string())
    }

    pub(crate) fn of_public_key_info(info: &[u8]) -> Self {
        let digest = Digest::of(DigestAlgorithm::Sha256, info);
        let hex = data_encoding::HEXLOWER.encode(digest.as_bytes());
        let ids = key_identifier(info).into_iter().collect();
        Self::of_parts(info, ids, format!("public key SHA-256:{hex}"))
    }

    pub(crate) fn of_parts(info: &[u8], ids: Vec<Vec<u8>>, description: String) -> Self {
        let lengths: Vec<[u8; 8]> = ids.iter().map(|id| id.len().to_le_bytes()).collect();
        let ids_with_lengths = lengths.iter().zip(&ids).flat_map(|(len, id)| [&len[..], id]);
        let len = info.len().to_le_bytes();
        let segments = [&len[..], info].into_iter().chain(ids_with_lengths);
        let tag = sha256(segments);
        let tag_with_description = sha256([&tag[..], description.as_bytes()]);
        let (public_key, info) = (PublicKey::from_info(info), info.to_vec());
        Self { public_key, ids, description, info, tag, tag_with_description }
    }
}

/// What a key is known by to a gate, and in audits: the SHA-256 of its `SubjectPublicKeyInfo`.
pub fn key_sha256(info: &[u8]) -> [u8; 32] {
    sha256([info])
}

fn sha256<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let digest = Digest::of_segments(DigestAlgorithm::Sha256, segments);
    digest.as_bytes().try_into().unwrap_or_default()
}

/// Method 1 of RFC 5280 4.2.1.2: SHA-1 over the octets of the BIT STRING.
pub(crate) fn key_identifier(info: &[u8]) -> Option<Vec<u8>> {
    let info = SubjectPublicKeyInfoRef::from_der(info).ok()?;
    let digest = Digest::of(DigestAlgorithm::Sha1, info.subject_public_key.raw_bytes());
    Some(digest.as_bytes().to_vec())
}

/// The SHA-256 of an RSA key's modulus, which is the same however its `SubjectPublicKeyInfo` is written: with whatever name and
/// parameters of the algorithm, and with whatever exponent, as a token that does not tell it finds the key by any. `None` for other kinds.
pub fn modulus_sha256(info: &[u8]) -> Option<[u8; 32]> {
    let info = SubjectPublicKeyInfoRef::from_der(info).ok()?;
    let key = RsaPublicKey::from_der(info.subject_public_key.raw_bytes()).ok()?;
    Some(sha256([without_zeros(key.modulus.as_bytes())]))
}

/// A `SubjectPublicKeyInfo` from `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`.
pub(crate) fn rsa_info(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let key = RsaPublicKey { modulus: UintRef::new(modulus).ok()?, exponent: UintRef::new(exponent).ok()? };
    info(RSA_ENCRYPTION, Some(Any::from(Null)), &key.to_der().ok()?)
}

/// A `SubjectPublicKeyInfo` from `CKA_EC_PARAMS` and `CKA_EC_POINT`.
pub(crate) fn ec_info(parameters: &[u8], point: &[u8]) -> Option<Vec<u8>> {
    match Group::from_attribute(parameters)? {
        Group::Prime(curve) => info(ID_EC_PUBLIC_KEY, Some(Any::from(curve.oid())), &raw_point(curve, point)),
        // Their parameters are absent (RFC 8410 3).
        Group::Edwards => info(ID_ED_25519, None, &raw_25519(point)?),
        Group::Montgomery => info(ID_X_25519, None, &raw_25519(point)?),
    }
}

fn info(oid: ObjectIdentifier, parameters: Option<Any>, key: &[u8]) -> Option<Vec<u8>> {
    let algorithm = AlgorithmIdentifierOwned { oid, parameters };
    SubjectPublicKeyInfoOwned { algorithm, subject_public_key: BitString::from_bytes(key).ok()? }
        .to_der()
        .ok()
}

/// What `CKA_EC_PARAMS` names.
enum Group {
    Prime(Curve),
    Edwards,
    Montgomery,
}

impl Group {
    /// PKCS #11 3.0 2.3.5 and 2.3.7: an object identifier or a curve's name. The identifiers are those of
    /// RFC 8410 or, from before, of GnuPG and of Curve25519's own.
    fn from_attribute(parameters: &[u8]) -> Option<Self> {
        const GNUPG_ED_25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.15.1");
        const CURVE_25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3029.1.5.1");
        if let Ok(oid) = ObjectIdentifier::from_der(parameters) {
            return match oid {
                ID_ED_25519 | GNUPG_ED_25519 => Some(Self::Edwards),
                ID_X_25519 | CURVE_25519 => Some(Self::Montgomery),
                _ => Curve::from_oid(oid).map(Self::Prime),
            };
        }
        match PrintableStringRef::from_der(parameters).ok()?.as_str() {
            "edwards25519" => Some(Self::Edwards),
            "curve25519" => Some(Self::Montgomery),
            _ => None,
        }
    }
}

/// The 32 octets of a key on Curve25519, bare or in a DER OCTET STRING or BIT STRING: PKCS #11 3.0, 3.1 and
/// tokens differ.
fn raw_25519(attribute: &[u8]) -> Option<[u8; 32]> {
    if let Ok(bare) = attribute.try_into() {
        return Some(bare);
    }
    if let Ok(wrapped) = <&OctetStringRef>::from_der(attribute) {
        return wrapped.as_bytes().try_into().ok();
    }
    BitStringRef::from_der(attribute).ok()?.as_bytes()?.try_into().ok()
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
    fn a_key_on_curve_25519_is_the_same_however_a_token_writes_it() {
        let key = [0x5a; 32];
        let octet_string = [&[0x04, 32][..], &key].concat();
        let bit_string = [&[0x03, 33, 0][..], &key].concat();
        let name = |name: &str| PrintableStringRef::new(name).unwrap().to_der().unwrap();
        let oid = |oid: &str| ObjectIdentifier::new_unwrap(oid).to_der().unwrap();
        for (expected, names) in [
            (
                PublicKey::Ed25519(key),
                [oid("1.3.101.112"), oid("1.3.6.1.4.1.11591.15.1"), name("edwards25519")],
            ),
            (PublicKey::X25519(key), [oid("1.3.101.110"), oid("1.3.6.1.4.1.3029.1.5.1"), name("curve25519")]),
        ] {
            for parameters in &names {
                for point in [&key[..], &octet_string, &bit_string] {
                    let found = PublicKey::from_ec_attributes(parameters, point);
                    assert_eq!(found.as_ref(), Some(&expected), "{parameters:02x?} {point:02x?}");
                    let info = ec_info(parameters, point).unwrap();
                    assert_eq!(PublicKey::from_info(&info).as_ref(), Some(&expected));
                    assert_eq!(info.len(), 44, "RFC 8410 4: no parameters");
                }
                for bad in [&[][..], &key[1..], &[0x04, 31], &octet_string[..33]] {
                    assert_eq!(PublicKey::from_ec_attributes(parameters, bad), None, "{bad:02x?}");
                }
            }
        }
        // Ed448 and X448 are not used here.
        for other in [oid("1.3.101.113"), oid("1.3.101.111"), name("edwards448")] {
            assert_eq!(PublicKey::from_ec_attributes(&other, &key), None);
        }
    }

    #[test]
    fn leading_zeros_of_a_modulus_do_not_count() {
        assert_eq!(PublicKey::rsa(&[0, 0, 0xc1, 2], &[0, 1, 0, 1]), PublicKey::rsa(&[0xc1, 2], &[1, 0, 1]));
        let info = rsa_info(&[0xc1; 256], &[1, 0, 1]).unwrap();
        assert_eq!(PublicKey::from_info(&info), Some(PublicKey::rsa(&[0xc1; 256], &[1, 0, 1])));
    }

    #[test]
    fn a_modulus_is_the_same_however_its_key_is_written() {
        let key = |exponent: &[u8]| {
            let modulus = UintRef::new(&[0xc1; 256]).unwrap();
            RsaPublicKey { modulus, exponent: UintRef::new(exponent).unwrap() }.to_der().unwrap()
        };
        let usual = modulus_sha256(&rsa_info(&[0xc1; 256], &[1, 0, 1]).unwrap());
        assert_eq!(usual, Some(sha256([&[0xc1; 256][..]])));
        let pss = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
        for other in [
            info(RSA_ENCRYPTION, None, &key(&[1, 0, 1])),
            info(RSA_ENCRYPTION, Some(Any::from(pss)), &key(&[1, 0, 1])),
            info(RSA_ENCRYPTION, Some(Any::from(Null)), &key(&[3])),
            info(pss, None, &key(&[1, 0, 1])),
        ] {
            assert_eq!(modulus_sha256(&other.unwrap()), usual);
        }
        assert_ne!(modulus_sha256(&rsa_info(&[0xc3; 256], &[1, 0, 1]).unwrap()), usual);
        let ec = ec_info(&Curve::P256.oid().to_der().unwrap(), &point(Curve::P256, 1)).unwrap();
        assert_eq!((modulus_sha256(&ec), modulus_sha256(b"0")), (None, None));
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
