//! A private key in memory, for tests only: production keys stay on their token.

pub mod fixtures;
pub mod hostile;

use aws_lc_rs::{
    digest,
    rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey,
        PrivateDecryptingKey,
    },
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair},
};

use crate::{
    Certificate,
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{ContentEncryptionKey, Decryptor, Digest, KeyError, SignatureValue, Signer, Unwrapped},
};

/// A key pair and its certificate.
#[derive(Debug)]
pub struct MemoryKey {
    certificate: Certificate,
    key: Key,
}

enum Key {
    Rsa { signing: Box<RsaKeyPair>, pkcs8: Vec<u8> },
    Ec(EcdsaKeyPair),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl MemoryKey {
    /// A key from PKCS#8 octets: RSA, or EC on P-256. `None` where it is neither.
    pub fn from_pkcs8(pkcs8: &[u8], certificate: Certificate) -> Option<Self> {
        let key = if let Ok(signing) = RsaKeyPair::from_pkcs8(pkcs8) {
            Key::Rsa { signing: Box::new(signing), pkcs8: pkcs8.to_vec() }
        } else {
            Key::Ec(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?)
        };
        Some(Self { certificate, key })
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
        match self.key {
            Key::Rsa { .. } => &[
                SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha256),
                SignatureAlgorithm::RsaPss(DigestAlgorithm::Sha256),
            ],
            Key::Ec(_) => &[SignatureAlgorithm::Ecdsa(DigestAlgorithm::Sha256)],
        }
    }

    fn sign(&self, digest: &Digest, algorithm: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        let failed = |_| self.unsupported(algorithm);
        let imported = digest::Digest::import_less_safe(digest.as_bytes(), digest.algorithm().engine());
        let imported = imported.map_err(failed)?;
        match &self.key {
            Key::Rsa { signing, .. } => {
                let mut signature = vec![0; signing.public_modulus_len()];
                let encoding = match algorithm {
                    SignatureAlgorithm::RsaPss(_) => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                signing.sign_digest(encoding, &imported, &mut signature).map_err(failed)?;
                Ok(SignatureValue(signature))
            }
            Key::Ec(pair) => {
                pair.sign_digest(&imported).map(|s| SignatureValue(s.as_ref().to_vec())).map_err(failed)
            }
        }
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
        let Key::Rsa { pkcs8, .. } = &self.key else { return Err(self.unsupported(algorithm)) };
        let failed = |_| self.unsupported(algorithm);
        let key = PrivateDecryptingKey::from_pkcs8(pkcs8).map_err(|_| self.unsupported(algorithm))?;
        let mut plain = vec![0; key.key_size_bytes()];
        let unwrapped = match algorithm {
            KeyEncryptionAlgorithm::RsaPkcs1 => Pkcs1PrivateDecryptingKey::new(key)
                .map_err(failed)?
                .decrypt(encrypted_key, &mut plain)
                .map(|key| key.to_vec()),
            KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label } if hash == mask_hash => {
                let oaep = match hash {
                    DigestAlgorithm::Sha1 => &OAEP_SHA1_MGF1SHA1,
                    DigestAlgorithm::Sha256 => &OAEP_SHA256_MGF1SHA256,
                    _ => return Err(self.unsupported(algorithm)),
                };
                OaepPrivateDecryptingKey::new(key)
                    .map_err(failed)?
                    .decrypt(oaep, encrypted_key, &mut plain, Some(label))
                    .map(|key| key.to_vec())
            }
            KeyEncryptionAlgorithm::RsaOaep { .. } => return Err(self.unsupported(algorithm)),
        };
        Ok(unwrapped.map_or(Unwrapped::Rejected, |key| Unwrapped::Key(ContentEncryptionKey::new(key))))
    }
}
