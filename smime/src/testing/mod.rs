//! A private key in memory, for tests only: production keys stay on their token.

pub mod authority;
pub mod draft;
pub mod evidence;
pub mod fixtures;
pub mod hostile;
pub mod large;
mod node;
mod object;
pub mod rfc9216;

pub use node::Node;
pub use object::{enveloped_data, signed_data};

use aws_lc_rs::{
    agreement::{self, UnparsedPublicKey},
    rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
        OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey,
    },
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    },
};

use crate::{
    Certificate,
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey, SharedSecret},
    algorithm::{
        DigestAlgorithm::{self, Sha256, Sha384, Sha512},
        KeyEncryptionAlgorithm, SignatureAlgorithm,
    },
    key::{ContentEncryptionKey, Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
};

/// A key pair and its certificate.
#[derive(Debug)]
pub struct MemoryKey {
    certificate: Certificate,
    key: Key,
    /// Whether the certificate was found to be this key's.
    is_matched: bool,
}

enum Key {
    Rsa { signing: Box<RsaKeyPair>, pkcs1: Pkcs1PrivateDecryptingKey, oaep: OaepPrivateDecryptingKey },
    Ec { signing: EcdsaKeyPair, curve: AgreementCurve, agreeing: agreement::PrivateKey },
    Ed25519(Ed25519KeyPair),
    X25519(agreement::PrivateKey),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Key {
    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        if let Ok(signing) = RsaKeyPair::from_pkcs8(pkcs8) {
            let decrypting = || PrivateDecryptingKey::from_pkcs8(pkcs8).ok();
            let pkcs1 = Pkcs1PrivateDecryptingKey::new(decrypting()?).ok()?;
            let oaep = OaepPrivateDecryptingKey::new(decrypting()?).ok()?;
            return Some(Self::Rsa { signing: Box::new(signing), pkcs1, oaep });
        }
        for (curve, algorithm) in [
            (AgreementCurve::P256, &ECDSA_P256_SHA256_ASN1_SIGNING),
            (AgreementCurve::P384, &ECDSA_P384_SHA384_ASN1_SIGNING),
            (AgreementCurve::P521, &ECDSA_P521_SHA512_ASN1_SIGNING),
        ] {
            if let Ok(signing) = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8) {
                let agreeing = agreement::PrivateKey::from_private_key_der(curve.engine(), pkcs8).ok()?;
                return Some(Self::Ec { signing, curve, agreeing });
            }
        }
        if let Some(scalar) = pkcs8.strip_prefix(X25519_PKCS8) {
            return agreement::PrivateKey::from_private_key(&agreement::X25519, scalar)
                .ok()
                .map(Self::X25519);
        }
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok().map(Self::Ed25519)
    }

    /// The public key of those that sign, as a certificate has it.
    fn public_key(&self) -> Option<&[u8]> {
        match self {
            Self::Rsa { signing, .. } => Some(signing.public_key().as_ref()),
            Self::Ec { signing, .. } => Some(signing.public_key().as_ref()),
            Self::Ed25519(pair) => Some(pair.public_key().as_ref()),
            Self::X25519(_) => None,
        }
    }
}

/// What stands before the 32 octets of an X25519 private key (RFC 8410 7).
const X25519_PKCS8: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20";

impl MemoryKey {
    /// A key from PKCS#8 octets: RSA, EC on P-256, P-384 or P-521, Ed25519, X25519. `None` where it is none.
    pub fn from_pkcs8(pkcs8: &[u8], certificate: Certificate) -> Option<Self> {
        let key = Key::from_pkcs8(pkcs8)?;
        let is_matched = key.public_key() == Some(certificate.public_key());
        Some(Self { certificate, key, is_matched })
    }

    fn unsupported(&self, operation: impl std::fmt::Debug) -> KeyError {
        KeyError::Unsupported {
            certificate: self.certificate.to_string(),
            operation: format!("{operation:?}"),
        }
    }
}

impl Signer for MemoryKey {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        match &self.key {
            Key::Rsa { .. } => &[SignatureAlgorithm::RsaPkcs1(Sha256), SignatureAlgorithm::RsaPss(Sha256)],
            Key::Ec { curve: AgreementCurve::P384, .. } => &[SignatureAlgorithm::Ecdsa(Sha384)],
            Key::Ec { curve: AgreementCurve::P521, .. } => &[SignatureAlgorithm::Ecdsa(Sha512)],
            Key::Ec { .. } => &[SignatureAlgorithm::Ecdsa(Sha256)],
            Key::Ed25519(_) => &[SignatureAlgorithm::Ed25519],
            Key::X25519(_) => &[],
        }
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        let failed = |_| self.unsupported(algorithm);
        if !self.algorithms().contains(&algorithm) {
            return Err(self.unsupported(algorithm));
        }
        match (&self.key, input) {
            (Key::Rsa { signing, .. }, SignatureInput::Digest(digest)) => {
                let imported = digest.imported().ok_or_else(|| self.unsupported(algorithm))?;
                let mut signature = vec![0; signing.public_modulus_len()];
                let encoding = match algorithm {
                    SignatureAlgorithm::RsaPss(_) => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                signing.sign_digest(encoding, &imported, &mut signature).map_err(failed)?;
                Ok(SignatureValue(signature))
            }
            (Key::Ec { signing, .. }, SignatureInput::Digest(digest)) => {
                let imported = digest.imported().ok_or_else(|| self.unsupported(algorithm))?;
                let signature = signing.sign_digest(&imported).map_err(failed)?;
                Ok(SignatureValue(signature.as_ref().to_vec()))
            }
            (Key::Ed25519(pair), SignatureInput::Octets(octets)) => {
                Ok(SignatureValue(pair.try_sign(octets).map_err(failed)?.as_ref().to_vec()))
            }
            _ => Err(self.unsupported(algorithm)),
        }
    }

    /// The engine checks what it calculates with RSA, by the same means as this crate would; for other keys there is no
    /// more to a fault than to any other in this process's memory.
    fn must_be_checked(&self) -> bool {
        !self.is_matched
    }
}

impl Decryptor for MemoryKey {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        let Key::Rsa { pkcs1, oaep, .. } = &self.key else { return Err(self.unsupported(algorithm)) };
        let mut plain = vec![0; pkcs1.key_size_bytes()];
        let unwrapped = match algorithm {
            KeyEncryptionAlgorithm::RsaPkcs1 => {
                pkcs1.decrypt(encrypted_key, &mut plain).map(|key| key.to_vec())
            }
            KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label } if hash == mask_hash => {
                let encoding = match hash {
                    DigestAlgorithm::Sha1 => &OAEP_SHA1_MGF1SHA1,
                    Sha256 => &OAEP_SHA256_MGF1SHA256,
                    Sha384 => &OAEP_SHA384_MGF1SHA384,
                    Sha512 => &OAEP_SHA512_MGF1SHA512,
                    DigestAlgorithm::Md5 | DigestAlgorithm::Sha224 => {
                        return Err(self.unsupported(algorithm));
                    }
                };
                oaep.decrypt(encoding, encrypted_key, &mut plain, Some(label)).map(|key| key.to_vec())
            }
            KeyEncryptionAlgorithm::RsaOaep { .. } => return Err(self.unsupported(algorithm)),
        };
        Ok(unwrapped.map_or(Unwrapped::Rejected, |key| Unwrapped::Key(ContentEncryptionKey::new(key))))
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        let (curve, key) = match &self.key {
            Key::Ec { curve, agreeing, .. } => (*curve, agreeing),
            Key::X25519(key) => (AgreementCurve::X25519, key),
            _ => return Err(self.unsupported("key agreement")),
        };
        if originator.curve() != curve {
            return Err(self.unsupported(originator));
        }
        let public = UnparsedPublicKey::new(curve.engine(), originator.octets());
        let secret = agreement::agree(key, public, (), |octets| Ok(octets.to_vec()));
        let secret = secret.ok().and_then(|octets| SharedSecret::new(curve, octets));
        Ok(secret.map_or(Agreed::Rejected, Agreed::Secret))
    }
}
