//! Signatures checked with a certificate's public key.

mod dsa;
mod rsa;

use std::{ptr, sync::OnceLock};

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use const_oid::db::{rfc5912, rfc8410::ID_ED_25519};
use der::asn1::ObjectIdentifier;

use crate::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::SignatureInput,
};

/// Why a signature was not found good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The signature is not this key's over this input.
    #[error("the signature does not verify")]
    Mismatch,
    /// The key is not of the algorithm's kind, or of a curve or size that is not taken.
    #[error("{algorithm:?} is not taken with this public key")]
    KeyNotTaken {
        /// The signature's algorithm.
        algorithm: SignatureAlgorithm,
    },
}

/// What was found out of a certificate's public key: it is the same each time, and archives ask a thousand times.
#[derive(Default)]
pub(crate) struct KnownKey {
    rsa_modulus_bits: OnceLock<Option<usize>>,
    /// As the engine wants it, for the first algorithm that a signature was checked by; `None` where it wants none.
    parsed: OnceLock<Option<ParsedPublicKey>>,
}

impl KnownKey {
    /// The key for this algorithm; `None` where it is to be parsed.
    fn parsed(&self, engine: &'static dyn VerificationAlgorithm, octets: &[u8]) -> Option<&ParsedPublicKey> {
        let parsed = self.parsed.get_or_init(|| ParsedPublicKey::new(engine, octets).ok());
        parsed.as_ref().filter(|parsed| ptr::addr_eq(parsed.algorithm(), engine))
    }
}

/// Checks that `signature` is the certificate's key's signature over `input`.
///
/// Weak keys and digests are not refused here but by whoever asks [`is_strong`]: an old signature may
/// be right and still not acceptable.
pub fn verify(
    certificate: &Certificate,
    algorithm: SignatureAlgorithm,
    input: &SignatureInput<'_>,
    signature: &[u8],
) -> Result<(), VerifyError> {
    let verified = match (input, engine(certificate, algorithm)) {
        (SignatureInput::Octets(octets), Some(engine)) if algorithm.signs_octets() => {
            match certificate.known_key().parsed(engine, certificate.public_key()) {
                Some(key) => key.verify_sig(octets, signature).is_ok(),
                None => {
                    UnparsedPublicKey::new(engine, certificate.public_key()).verify(octets, signature).is_ok()
                }
            }
        }
        (SignatureInput::Digest(digest), Some(engine)) if digest.algorithm() == algorithm.digest() => digest
            .imported()
            .is_some_and(|imported| match certificate.known_key().parsed(engine, certificate.public_key()) {
                Some(key) => key.verify_digest_sig(&imported, signature).is_ok(),
                None => UnparsedPublicKey::new(engine, certificate.public_key())
                    .verify_digest(&imported, signature)
                    .is_ok(),
            }),
        (SignatureInput::Digest(digest), None)
            if digest.algorithm() == algorithm.digest()
                && certificate.key_algorithm() == rfc5912::RSA_ENCRYPTION =>
        {
            rsa::verify(certificate.public_key(), algorithm, digest, signature)
                .ok_or(VerifyError::KeyNotTaken { algorithm })?
        }
        (SignatureInput::Digest(digest), None)
            if matches!(algorithm, SignatureAlgorithm::Dsa(_))
                && digest.algorithm() == algorithm.digest()
                && certificate.key_algorithm() == dsa::ID_DSA =>
        {
            dsa::verify(certificate, digest, signature).ok_or(VerifyError::KeyNotTaken { algorithm })?
        }
        (_, Some(_)) => false,
        (_, None) => return Err(VerifyError::KeyNotTaken { algorithm }),
    };
    if verified { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// Whether a signature of this algorithm by this key is acceptable today: SHA-2, RSA from 2048 bits
/// (RFC 8550 4.3), a curve from P-256, Ed25519.
pub fn is_strong(certificate: &Certificate, algorithm: SignatureAlgorithm) -> bool {
    let large = || certificate.rsa_modulus_bits().is_some_and(|bits| bits >= 2048);
    algorithm.digest().is_strong()
        && match algorithm {
            SignatureAlgorithm::RsaPkcs1(_) | SignatureAlgorithm::RsaPss(_) => large(),
            // A mask by SHA-1 is no weakness that is known; but who writes it has not chosen.
            SignatureAlgorithm::RsaPssOf(parameters) => parameters.mask_hash.is_strong() && large(),
            SignatureAlgorithm::Ecdsa(_) | SignatureAlgorithm::Ed25519 => true,
            SignatureAlgorithm::Dsa(_) => false,
        }
}

/// Whether a signature is too weak today, and was not for long: SHA-1 or SHA-224, RSA and DSA from 1024 bits. Everybody can forge
/// those with MD5 or smaller keys.
pub(crate) fn is_legacy(certificate: &Certificate, algorithm: SignatureAlgorithm) -> bool {
    let large = || certificate.rsa_modulus_bits().is_some_and(|bits| bits >= 1024);
    !is_strong(certificate, algorithm)
        && algorithm.digest() != DigestAlgorithm::Md5
        && match algorithm {
            SignatureAlgorithm::RsaPkcs1(_) | SignatureAlgorithm::RsaPss(_) => large(),
            SignatureAlgorithm::RsaPssOf(parameters) => {
                parameters.mask_hash != DigestAlgorithm::Md5 && large()
            }
            SignatureAlgorithm::Ecdsa(_) | SignatureAlgorithm::Ed25519 => true,
            SignatureAlgorithm::Dsa(_) => dsa::prime_bits(certificate).is_some_and(|bits| bits >= 1024),
        }
}

/// The engine's algorithm, where it checks signatures of this kind by this key. It has none for RSA below 1024
/// bits, and few below 2048.
fn engine(
    certificate: &Certificate,
    algorithm: SignatureAlgorithm,
) -> Option<&'static dyn VerificationAlgorithm> {
    use DigestAlgorithm::{Md5, Sha1, Sha224, Sha256, Sha384, Sha512};
    let key = certificate.key_algorithm();
    match algorithm {
        SignatureAlgorithm::RsaPkcs1(digest) if key == rfc5912::RSA_ENCRYPTION => {
            let bits = certificate.rsa_modulus_bits().filter(|bits| *bits >= 1024)?;
            Some(match (digest, bits >= 2048) {
                (Md5 | Sha224, _) | (Sha384, false) => return None,
                (Sha1, _) => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
                (Sha256, true) => &signature::RSA_PKCS1_2048_8192_SHA256,
                (Sha256, false) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
                (Sha384, true) => &signature::RSA_PKCS1_2048_8192_SHA384,
                (Sha512, true) => &signature::RSA_PKCS1_2048_8192_SHA512,
                (Sha512, false) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            })
        }
        SignatureAlgorithm::RsaPss(digest) if key == rfc5912::RSA_ENCRYPTION => {
            certificate.rsa_modulus_bits().filter(|bits| *bits >= 2048)?;
            Some(match digest {
                Md5 | Sha1 | Sha224 => return None,
                Sha256 => &signature::RSA_PSS_2048_8192_SHA256,
                Sha384 => &signature::RSA_PSS_2048_8192_SHA384,
                Sha512 => &signature::RSA_PSS_2048_8192_SHA512,
            })
        }
        SignatureAlgorithm::Ed25519 if key == ID_ED_25519 => Some(&signature::ED25519),
        SignatureAlgorithm::Ecdsa(digest) if key == rfc5912::ID_EC_PUBLIC_KEY => {
            Some(match (certificate.curve()?, digest) {
                (rfc5912::SECP_256_R_1, Sha1) => &signature::ECDSA_P256_SHA1_ASN1,
                (rfc5912::SECP_256_R_1, Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
                (rfc5912::SECP_256_R_1, Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
                (rfc5912::SECP_256_R_1, Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
                (rfc5912::SECP_384_R_1, Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
                (rfc5912::SECP_384_R_1, Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
                (rfc5912::SECP_384_R_1, Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
                (rfc5912::SECP_521_R_1, Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
                (rfc5912::SECP_521_R_1, Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
                (rfc5912::SECP_521_R_1, Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
                _ => return None,
            })
        }
        _ => None,
    }
}

impl Certificate {
    /// The named curve of an EC public key.
    pub fn curve(&self) -> Option<ObjectIdentifier> {
        let algorithm = &self.decoded().tbs_certificate().subject_public_key_info().algorithm;
        algorithm.parameters.as_ref()?.decode_as().ok()
    }

    /// The length of an RSA public key's modulus in bits.
    pub fn rsa_modulus_bits(&self) -> Option<usize> {
        *self.known_key().rsa_modulus_bits.get_or_init(|| self.count_rsa_modulus_bits())
    }

    fn count_rsa_modulus_bits(&self) -> Option<usize> {
        if self.key_algorithm() != rfc5912::RSA_ENCRYPTION {
            return None;
        }
        let tree = crate::ber::Tree::parse(self.public_key()).ok()?;
        let modulus = tree.root().children().next()?.content();
        let leading = modulus.iter().take_while(|octet| **octet == 0).count();
        let first = modulus.get(leading)?;
        Some((modulus.len() - leading) * 8 - usize::try_from(first.leading_zeros()).ok()?)
    }
}
