//! What stands between a client and the keys: a gate is asked before each use of a key, and told of its outcome
//! before the client gets to know it.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use smime::{
    algorithm::KeyEncryptionAlgorithm,
    key::{Digest, KeyError, SignatureInput, Unwrapped},
};

use crate::request::{Answer, Lane, Operation, Outcome};

/// Admits uses of keys, and keeps the record of them. One gate stands for one connection's peer.
pub trait Gate: Send + Sync {
    /// Whether a key may be used so. What is returned is called exactly once, with the outcome, and says what of it the client
    /// gets to know; if it cannot keep the record of that, its error is all that the client gets.
    fn begin(&self, usage: &KeyUse<'_>) -> Result<Closing, KeyError>;

    /// How long the peer's next use has to wait, with all that its connection brings behind it.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    /// How many octets the keys take that the peer has defined, over all its connections; more than a limit end the one they
    /// come over. `None`: nobody counts them.
    fn defined(&self) -> Option<Arc<AtomicUsize>> {
        None
    }

    /// Whether the peer may say which `CKA_ID` a public key has. One that may could name a key that it has no
    /// permission for; for the others it is the SHA-1 of the public key.
    fn believes_ids(&self) -> bool {
        false
    }

    /// Whether the peer may know of a key, by the SHA-256 of its `SubjectPublicKeyInfo`: whether it is there, and
    /// what its token can do. What it defines of another key is not kept; [`Self::begin`] refuses to use that.
    fn shows(&self, key: &[u8; 32]) -> bool;
}

/// See [`Gate::begin`].
pub type Closing = Box<dyn FnOnce(Ended<'_>) -> Result<Told, KeyError> + Send>;

/// What a client gets to know of an outcome.
#[derive(Debug)]
pub enum Told {
    /// What it is.
    AsItIs,
    /// That the encrypted key was ill-formed, whatever it was.
    Rejected,
}

/// How a use ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    /// It was done.
    Done,
    /// It was done, and so many octets were in the encrypted key.
    Unwrapped(usize),
    /// It was done, and the encrypted key was ill-formed ([`smime::key::Unwrapped::Rejected`]).
    Rejected,
    /// It was not done, or nobody can know.
    Failed(&'a KeyError),
}

impl<'a> Ended<'a> {
    pub(super) fn of(outcome: &'a Outcome) -> Self {
        match outcome {
            Ok(Answer::Unwrapped(Unwrapped::Rejected)) => Self::Rejected,
            Ok(Answer::Unwrapped(Unwrapped::Key(key))) => Self::Unwrapped(key.len()),
            Ok(_) => Self::Done,
            Err(error) => Self::Failed(error),
        }
    }
}

/// A use of a private key.
#[derive(Clone, Copy, Debug)]
pub struct KeyUse<'a> {
    /// How urgent it is.
    pub lane: Lane,
    /// The SHA-256 of the key's `SubjectPublicKeyInfo` ([`key_sha256`](crate::server::key_sha256)).
    pub key: &'a [u8; 32],
    /// The SHA-256 of an RSA key's modulus ([`modulus_sha256`](crate::server::modulus_sha256)).
    pub modulus: Option<&'a [u8; 32]>,
    /// What the client calls the key. It may call it whatever it likes.
    pub description: &'a str,
    pub(super) operation: &'a Operation,
}

/// What is done with a key, as far as permissions are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Signing.
    Sign,
    /// Unwrapping keys, agreeing on keys.
    Decrypt,
}

impl Permission {
    /// The word in configuration and audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Decrypt => "decrypt",
        }
    }
}

impl KeyUse<'_> {
    /// What the client needs to be permitted.
    pub fn permission(&self) -> Permission {
        match self.operation {
            Operation::Sign { .. } => Permission::Sign,
            Operation::Decrypt { .. } | Operation::Agree { .. } => Permission::Decrypt,
        }
    }

    /// `sign`, `decrypt` or `agree`.
    pub fn operation(&self) -> &'static str {
        match self.operation {
            Operation::Sign { .. } => "sign",
            Operation::Decrypt { .. } => "decrypt",
            Operation::Agree { .. } => "agree",
        }
    }

    /// Whether its outcome tells of the padding of PKCS #1 v1.5: by very many of such answers an RSA key signs (Bleichenbacher
    /// 1998). Those of OAEP tell nothing of use, as all that can be wrong with it is one thing.
    pub fn tells_of_padding(&self) -> bool {
        matches!(self.operation, Operation::Decrypt { algorithm: KeyEncryptionAlgorithm::RsaPkcs1, .. })
    }

    /// The algorithm, as the code names it; of a label its length only.
    pub fn algorithm(&self) -> String {
        match self.operation {
            Operation::Sign { algorithm, .. } => format!("{algorithm:?}"),
            Operation::Decrypt { algorithm, .. } => algorithm.to_string(),
            Operation::Agree { originator } => format!("Ecdh({:?})", originator.curve()),
        }
    }

    /// What the key is applied to: a digest or the octets to sign, an encrypted key, a public key.
    pub fn input(&self) -> &[u8] {
        match self.operation {
            Operation::Sign { input: SignatureInput::Digest(digest), .. } => Digest::as_bytes(digest),
            Operation::Sign { input: SignatureInput::Octets(octets), .. } => octets,
            Operation::Decrypt { encrypted_key, .. } => encrypted_key,
            Operation::Agree { originator } => originator.octets(),
        }
    }
}

/// Admits everything and records nothing: for a process that serves its parent.
pub(crate) struct Open;

impl Gate for Open {
    fn begin(&self, _usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
        Ok(Box::new(|_| Ok(Told::AsItIs)))
    }

    fn believes_ids(&self) -> bool {
        true
    }

    fn shows(&self, _key: &[u8; 32]) -> bool {
        true
    }
}
