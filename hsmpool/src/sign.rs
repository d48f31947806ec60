//! Signing on the token: single-part `C_Sign` over a digest, or over the octets with Ed25519.
//!
//! RSASSA-PKCS1-v1_5 as `CKM_RSA_PKCS` over a DigestInfo that is built here (RFC 8017 9.2), RSASSA-PSS as
//! `CKM_RSA_PKCS_PSS` and ECDSA as `CKM_ECDSA` over the bare digest; the token's `r || s` becomes an
//! Ecdsa-Sig-Value (RFC 3279 2.2.3). Ed25519 as `CKM_EDDSA` without parameters, which is PureEdDSA (PKCS #11 3.0
//! 2.3.14).

use cryptoki::{
    error::RvError,
    mechanism::{
        Mechanism,
        eddsa::{EddsaParams, EddsaSignatureScheme},
        rsa::PkcsPssParams,
    },
};
use smime::{
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::{Digest, SignatureInput, SignatureValue},
};

use crate::{
    call::CallError,
    decrypt::names,
    private_key::{OperationError, PrivateKey},
    public_key::{Curve, PublicKey},
};

/// More octets than signed attributes and certificate requests ever have; a message is not signed itself.
pub(crate) const MAX_OCTETS: usize = 64 << 10;

/// Signs a digest, or the octets that an algorithm wants instead.
pub(crate) fn sign(
    key: PrivateKey<'_>,
    public_key: &PublicKey,
    input: &SignatureInput<'_>,
    algorithm: SignatureAlgorithm,
) -> Result<SignatureValue, OperationError> {
    let unsupported = || OperationError::Unsupported(format!("{algorithm:?} of {input:?}"));
    let call = |mechanism: &Mechanism<'_>, data: &[u8], expected: usize| {
        key.sign(mechanism, data, expected).map_err(|error| or_unsupported(error, &format!("{algorithm:?}")))
    };
    let digest = match input {
        SignatureInput::Octets(octets) => {
            return match (public_key, algorithm) {
                (PublicKey::Ed25519 { .. }, SignatureAlgorithm::Ed25519) if octets.len() <= MAX_OCTETS => {
                    let pure = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
                    Ok(SignatureValue(ed25519_value(call(&pure, octets, ED25519_LEN)?)?))
                }
                _ => Err(unsupported()),
            };
        }
        SignatureInput::Digest(digest) => digest,
    };
    if digest.algorithm() != algorithm.digest() || !digest.algorithm().is_strong() {
        return Err(unsupported());
    }
    match (public_key, algorithm) {
        (PublicKey::Rsa { modulus, .. }, SignatureAlgorithm::RsaPkcs1(_)) => {
            let info = digest_info(digest).ok_or_else(unsupported)?;
            let signature = call(&Mechanism::RsaPkcs, &info, modulus.len())?;
            Ok(SignatureValue(padded(signature, modulus.len())?))
        }
        (PublicKey::Rsa { modulus, .. }, SignatureAlgorithm::RsaPss(_)) => {
            let pss = Mechanism::RsaPkcsPss(pss(digest).ok_or_else(unsupported)?);
            let signature = call(&pss, digest.as_bytes(), modulus.len())?;
            Ok(SignatureValue(padded(signature, modulus.len())?))
        }
        (PublicKey::Ec { curve, .. }, SignatureAlgorithm::Ecdsa(_)) => {
            let data = leftmost(digest.as_bytes(), *curve);
            let signature = call(&Mechanism::Ecdsa, data, 2 * curve.field_len())?;
            Ok(SignatureValue(ecdsa_value(&signature, *curve)?))
        }
        _ => Err(unsupported()),
    }
}

/// Errors of an `Init` function that speak of key, mechanism and parameters only.
pub(crate) fn or_unsupported(error: OperationError, what: &str) -> OperationError {
    let OperationError::Call(error) = error else { return error };
    let init = matches!(error.function, "C_SignInit" | "C_DecryptInit");
    match error.rv() {
        Some(
            RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::KeySizeRange
            | RvError::CurveNotSupported
            | RvError::FunctionNotSupported
            | RvError::ArgumentsBad,
        ) if init => OperationError::Unsupported(format!("{what}: {error}")),
        _ => OperationError::Call(error),
    }
}

/// MGF1 with the digest itself and a salt of its length (RFC 4056 3; RFC 8551 2.2 leaves no other choice).
fn pss(digest: &Digest) -> Option<PkcsPssParams> {
    let (hash_alg, mgf) = names(digest.algorithm())?;
    let s_len = u64::try_from(digest.as_bytes().len()).ok()?.into();
    Some(PkcsPssParams { hash_alg, mgf, s_len })
}

/// RFC 8032 5.1.6.
const ED25519_LEN: usize = 64;

fn ed25519_value(signature: Vec<u8>) -> Result<Vec<u8>, CallError> {
    match signature.len() {
        ED25519_LEN => Ok(signature),
        _ => Err(CallError::malformed("C_Sign", "an Ed25519 signature of the wrong length")),
    }
}

/// DigestInfo in DER (RFC 8017 9.2 note 1); its parameters are NULL, unlike those of CMS.
fn digest_info(digest: &Digest) -> Option<Vec<u8>> {
    // id-sha256, id-sha384, id-sha512 are 2.16.840.1.101.3.4.2.{1, 2, 3}.
    let last_arc = match digest.algorithm() {
        DigestAlgorithm::Sha256 => 1,
        DigestAlgorithm::Sha384 => 2,
        DigestAlgorithm::Sha512 => 3,
        DigestAlgorithm::Md5 | DigestAlgorithm::Sha1 | DigestAlgorithm::Sha224 => return None,
    };
    let value = digest.as_bytes();
    let len = u8::try_from(value.len()).ok()?;
    let algorithm =
        [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last_arc, 0x05, 0x00];
    Some([&[0x30, 0x11 + len], &algorithm[..], &[0x04, len], value].concat())
}

/// An RSA signature is as long as the modulus (RFC 8017 8.2.1); some tokens drop leading zeros.
fn padded(signature: Vec<u8>, len: usize) -> Result<Vec<u8>, CallError> {
    match len.checked_sub(signature.len()) {
        Some(0) => Ok(signature),
        Some(missing) if !signature.is_empty() => Ok([vec![0; missing], signature].concat()),
        _ => Err(CallError::malformed("C_Sign", "an RSA signature of the wrong length")),
    }
}

/// ECDSA uses as many leftmost bits of the digest as the order has (FIPS 186-5 6.4.1). Not all tokens
/// cut by themselves.
fn leftmost(digest: &[u8], curve: Curve) -> &[u8] {
    digest.get(..curve.field_len()).unwrap_or(digest)
}

/// `r || s`, halves of equal length, as SEQUENCE of two INTEGERs in minimal form.
fn ecdsa_value(signature: &[u8], curve: Curve) -> Result<Vec<u8>, CallError> {
    let wrong = || CallError::malformed("C_Sign", "an ECDSA signature of the wrong length");
    let half = signature.len() / 2;
    if !signature.len().is_multiple_of(2) || half > curve.field_len() {
        return Err(wrong());
    }
    let (r, s) = signature.split_at(half);
    // Neither number is ever zero (FIPS 186-5 6.4.1).
    if [r, s].iter().any(|number| number.iter().all(|octet| *octet == 0)) {
        return Err(wrong());
    }
    let integer = |number| der::asn1::UintRef::new(number).ok();
    let (Some(r), Some(s)) = (integer(r), integer(s)) else { return Err(wrong()) };
    der::Encode::to_der(&EcdsaSigValue { r, s }).map_err(|_| wrong())
}

#[derive(der::Sequence)]
struct EcdsaSigValue<'a> {
    r: der::asn1::UintRef<'a>,
    s: der::asn1::UintRef<'a>,
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn digest_infos_are_those_of_rfc_8017() {
        for (algorithm, prefix) in [
            (DigestAlgorithm::Sha256, "3031300d060960864801650304020105000420"),
            (DigestAlgorithm::Sha384, "3041300d060960864801650304020205000430"),
            (DigestAlgorithm::Sha512, "3051300d060960864801650304020305000440"),
        ] {
            let digest = Digest::of(algorithm, b"abc");
            let expected = prefix.to_owned() + &HEXLOWER.encode(digest.as_bytes());
            assert_eq!(HEXLOWER.encode(&digest_info(&digest).unwrap()), expected);
        }
        assert_eq!(digest_info(&Digest::of(DigestAlgorithm::Sha1, b"abc")), None);
    }

    #[test]
    fn ecdsa_integers_are_minimal() {
        let number = |last: &[u8]| [&vec![0; 32 - last.len()], last].concat();
        for (r, s, expected) in [
            (&[1][..], &[2][..], "3006020101020102"),
            (&[0x80], &[0x7f], "300702020080 02017f"),
            (&[0xff, 0x00], &[0x01, 0x00], "3009020300ff0002020100"),
        ] {
            let value = ecdsa_value(&[number(r), number(s)].concat(), Curve::P256).unwrap();
            assert_eq!(HEXLOWER.encode(&value), expected.replace(' ', ""));
        }
    }

    #[test]
    fn ecdsa_values_of_wrong_length_or_zero_are_errors() {
        for bad in [vec![], vec![1; 63], vec![1; 66], vec![0; 64], [vec![0; 32], vec![1; 32]].concat()] {
            assert!(ecdsa_value(&bad, Curve::P256).is_err(), "{} octets", bad.len());
        }
        assert!(ecdsa_value(&[1; 132], Curve::P521).is_ok());
    }

    #[test]
    fn the_salt_of_pss_is_as_long_as_the_digest() {
        for (algorithm, len) in
            [(DigestAlgorithm::Sha256, 32_u64), (DigestAlgorithm::Sha384, 48), (DigestAlgorithm::Sha512, 64)]
        {
            assert_eq!(pss(&Digest::of(algorithm, b"")).unwrap().s_len, len.into());
        }
    }

    #[test]
    fn rsa_signatures_are_as_long_as_the_modulus() {
        assert_eq!(padded(vec![1; 4], 4).unwrap(), [1; 4]);
        assert_eq!(padded(vec![1; 3], 4).unwrap(), [0, 1, 1, 1]);
        assert!(padded(vec![1; 5], 4).is_err());
        assert!(padded(vec![], 4).is_err());
    }
}
