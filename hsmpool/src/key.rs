//! Private keys on tokens as the rest of the program sees them: [`TokenKey`] and [`RawTokenKey`].

use std::{fmt, sync::Arc};

use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
};

use crate::{
    Pool,
    public_key::{KeyName, PublicKey},
    request::{Answer, Operation},
};

/// A private key on a token, named by its certificate. It is looked for when it is used.
#[derive(Clone)]
pub struct TokenKey {
    certificate: Certificate,
    key: RawTokenKey,
}

/// A private key on a token, named by its public key.
#[derive(Clone)]
pub struct RawTokenKey {
    pool: Pool,
    name: Arc<KeyName>,
}

impl TokenKey {
    pub(crate) fn new(pool: Pool, certificate: &Certificate) -> Self {
        let name = KeyName::of_certificate(certificate);
        Self { certificate: certificate.clone(), key: RawTokenKey::new(pool, name) }
    }
}

impl Signer for TokenKey {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        self.key.algorithms()
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        self.key.sign(input, algorithm)
    }
}

impl Decryptor for TokenKey {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        self.key.decrypt_key(encrypted_key, algorithm)
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        self.key.agree(originator)
    }
}

impl RawTokenKey {
    pub(crate) fn new(pool: Pool, name: KeyName) -> Self {
        Self { pool, name: Arc::new(name) }
    }

    /// What the key can sign with, best first; empty for kinds of keys that are not used here.
    pub fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        self.name.public_key.as_ref().map_or(&[], PublicKey::signature_algorithms)
    }

    /// Signs what [`SignatureInput::of`] makes for the algorithm. ECDSA values are DER `Ecdsa-Sig-Value`s, as certificates and requests want them
    /// too.
    ///
    /// Blocks until the token has answered, at most for the token's deadline. Where the queue is full the
    /// caller waits for a place within the same deadline ([`KeyError::QueueFull`] when there was none).
    pub fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        self.known(|| format!("{algorithm:?}"))?;
        let input = input.clone().into_owned();
        match self.pool.ask(&self.name, &Operation::Sign { input, algorithm })? {
            Answer::Signature(value) => Ok(value),
            _ => Err(self.unsupported(format!("{algorithm:?}"))),
        }
    }

    /// Unwraps an encrypted key; see [`Decryptor::decrypt_key`]. Blocks like [`Self::sign`].
    pub fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        self.known(|| format!("{algorithm:?}"))?;
        let operation =
            Operation::Decrypt { encrypted_key: encrypted_key.to_vec(), algorithm: algorithm.clone() };
        match self.pool.ask(&self.name, &operation)? {
            Answer::Unwrapped(unwrapped) => Ok(unwrapped),
            _ => Err(self.unsupported(format!("{algorithm:?}"))),
        }
    }

    /// Makes a shared secret; see [`Decryptor::agree`]. Blocks like [`Self::sign`].
    pub fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        let operation = || format!("key agreement on {:?}", originator.curve());
        self.known(operation)?;
        match self.pool.ask(&self.name, &Operation::Agree { originator: originator.clone() })? {
            Answer::Agreed(agreed) => Ok(agreed),
            _ => Err(self.unsupported(operation())),
        }
    }

    fn known(&self, operation: impl FnOnce() -> String) -> Result<(), KeyError> {
        match self.name.public_key {
            Some(_) => Ok(()),
            None => Err(self.unsupported(operation())),
        }
    }

    fn unsupported(&self, operation: String) -> KeyError {
        KeyError::Unsupported { certificate: self.name.description.clone(), operation }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.certificate)
    }
}

impl fmt::Debug for RawTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTokenKey({})", self.name.description)
    }
}
