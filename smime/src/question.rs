//! What a private key is asked, and what it answers, as data: for those who do not wait for it.
//!
//! Everything that needs a private key is done in two halves: the first gives a [`Question`], the second takes the
//! [`Answer`]. Who waits in between puts [`Question::ask`] there, and nothing else.

use std::fmt;

use crate::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
};

/// One use of a private key.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// Of a [`Signer`].
    Sign {
        /// What to sign.
        input: SignatureInput<'static>,
        /// How.
        algorithm: SignatureAlgorithm,
    },
    /// Of a [`Decryptor`]: [`Decryptor::decrypt_key`].
    Unwrap {
        /// The `EncryptedKey` of a `KeyTransRecipientInfo`.
        encrypted_key: Vec<u8>,
        /// How it is encrypted.
        algorithm: KeyEncryptionAlgorithm,
    },
    /// Of a [`Decryptor`]: [`Decryptor::agree`].
    Agree {
        /// With whom.
        originator: OriginatorPublicKey,
    },
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A signature.
    Signature(SignatureValue),
    /// An unwrapped key.
    Unwrapped(Unwrapped),
    /// A shared secret.
    Agreed(Agreed),
}

/// Who is told the answer, once.
pub type Reply = Box<dyn FnOnce(Result<Answer, KeyError>) + Send>;

/// A question that was taken in without waiting. Dropped before the answer has come, it is withdrawn: nothing is done for it
/// that has not begun, and nobody is told.
#[must_use = "dropped, the question is withdrawn"]
pub struct UnderWay(Option<Box<dyn FnOnce() + Send>>);

impl UnderWay {
    /// A question that `withdraw` takes back, unless it was answered.
    pub fn new(withdraw: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(withdraw)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(withdraw) = self.0.take() {
            withdraw();
        }
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnderWay")
    }
}

impl Question {
    /// Asks, and waits for the answer.
    pub fn ask(&self, signer: &dyn Signer, decryptor: &dyn Decryptor) -> Result<Answer, KeyError> {
        match self {
            Self::Sign { .. } => self.ask_signer(signer),
            Self::Unwrap { .. } | Self::Agree { .. } => self.ask_decryptor(decryptor),
        }
    }

    /// Asks a key that signs, and can do nothing else.
    pub(crate) fn ask_signer<S: Signer + ?Sized>(&self, signer: &S) -> Result<Answer, KeyError> {
        match self {
            Self::Sign { input, algorithm } => signer.sign(input, *algorithm).map(Answer::Signature),
            Self::Unwrap { .. } | Self::Agree { .. } => Err(self.unsupported(signer.certificate())),
        }
    }

    /// Asks a key that decrypts, and can do nothing else.
    pub fn ask_decryptor<D: Decryptor + ?Sized>(&self, decryptor: &D) -> Result<Answer, KeyError> {
        match self {
            Self::Unwrap { encrypted_key, algorithm } => {
                decryptor.decrypt_key(encrypted_key, algorithm).map(Answer::Unwrapped)
            }
            Self::Agree { originator } => decryptor.agree(originator).map(Answer::Agreed),
            Self::Sign { .. } => Err(self.unsupported(decryptor.certificate())),
        }
    }

    /// A key that is not for this.
    pub fn unsupported(&self, certificate: &Certificate) -> KeyError {
        KeyError::Unsupported { certificate: certificate.to_string(), operation: format!("{self:?}") }
    }

    /// Asks, and does not wait: see [`Signer::submit`] and [`Decryptor::submit`].
    pub fn submit(self, signer: &dyn Signer, decryptor: &dyn Decryptor, reply: Reply) {
        match self {
            Self::Sign { .. } => signer.submit(self, reply),
            Self::Unwrap { .. } | Self::Agree { .. } => decryptor.submit(self, reply),
        }
    }

    /// Asks a key that signs without waiting for anything: see [`Signer::submit_at_once`]. What is not for one is not asked.
    pub fn submit_at_once(self, signer: &dyn Signer, reply: Reply) -> Option<UnderWay> {
        match self {
            Self::Sign { .. } => signer.submit_at_once(self, reply),
            Self::Unwrap { .. } | Self::Agree { .. } => None,
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sign { algorithm, .. } => write!(f, "Sign({algorithm:?})"),
            Self::Unwrap { algorithm, .. } => write!(f, "Unwrap({algorithm:?})"),
            Self::Agree { originator } => write!(f, "Agree({:?})", originator.curve()),
        }
    }
}

impl Answer {
    /// The signature. An error where something else came back.
    pub(crate) fn into_signature(self) -> Result<SignatureValue, KeyError> {
        match self {
            Self::Signature(value) => Ok(value),
            Self::Unwrapped(_) | Self::Agreed(_) => Err(KeyError::Unavailable {
                token: "(unknown)".to_owned(),
                reason: "the answer is to another question; this is a defect of the program".to_owned(),
            }),
        }
    }
}
