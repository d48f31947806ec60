//! Private keys on tokens as the rest of the program sees them: [`TokenKey`] and [`RawTokenKey`].

use std::{fmt, sync::Arc};

use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
    question::{self, Question, Reply, UnderWay},
};

use crate::{
    Pool,
    public_key::{KeyName, PublicKey},
    request::{Answer, Operation, Outcome, Pending},
    router::Standing,
    token::Token,
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

/// What the key of a certificate can sign with, best first; empty for kinds of keys that are not used here. No token is
/// asked.
pub fn signature_algorithms(certificate: &Certificate) -> &'static [SignatureAlgorithm] {
    KeyName::of_certificate(certificate).public_key.as_ref().map_or(&[], PublicKey::signature_algorithms)
}

impl TokenKey {
    pub(crate) fn new(pool: Pool, certificate: &Certificate) -> Self {
        let name = KeyName::of_certificate(certificate);
        Self { certificate: certificate.clone(), key: RawTokenKey::new(pool, name) }
    }

    /// See [`RawTokenKey::submit_sign`].
    pub fn submit_sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
        reply: impl FnOnce(Result<SignatureValue, KeyError>) + Send + 'static,
    ) -> Pending {
        self.key.submit_sign(input, algorithm, reply)
    }

    /// See [`RawTokenKey::submit_decrypt_key`].
    pub fn submit_decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
        reply: impl FnOnce(Result<Unwrapped, KeyError>) + Send + 'static,
    ) -> Pending {
        self.key.submit_decrypt_key(encrypted_key, algorithm, reply)
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

    fn submit(&self, question: Question, reply: Reply) {
        self.key.submit_question(question, reply);
    }

    fn submit_at_once(&self, question: Question, reply: Reply) -> Option<UnderWay> {
        self.key.submit_question_at_once(question, reply)
    }

    fn tokens(&self) -> Vec<String> {
        self.key.tokens()
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

    fn submit(&self, question: Question, reply: Reply) {
        self.key.submit_question(question, reply);
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
    /// Blocks until the token has answered, at most for the pool's deadline. Where the queue is full the
    /// caller waits for a place within the same deadline ([`KeyError::QueueFull`] when there was none).
    pub fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        self.known(|| format!("{algorithm:?}"))?;
        let input = input.clone().into_owned();
        signature(self.pool.ask(&self.name, Operation::Sign { input, algorithm }))
    }

    /// Signs like [`Self::sign`], but gives the outcome to a function: once, by the deadline or a tenth of a
    /// second later, on a thread of the pool, where it must not take long. Blocks only while the queue is full.
    pub fn submit_sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
        reply: impl FnOnce(Result<SignatureValue, KeyError>) + Send + 'static,
    ) -> Pending {
        let operation = Operation::Sign { input: input.clone().into_owned(), algorithm };
        self.submit(operation, move |outcome| reply(signature(outcome)))
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
        unwrapped(self.pool.ask(&self.name, operation))
    }

    /// Unwraps like [`Self::decrypt_key`] and answers like [`Self::submit_sign`].
    pub fn submit_decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
        reply: impl FnOnce(Result<Unwrapped, KeyError>) + Send + 'static,
    ) -> Pending {
        let operation =
            Operation::Decrypt { encrypted_key: encrypted_key.to_vec(), algorithm: algorithm.clone() };
        self.submit(operation, move |outcome| reply(unwrapped(outcome)))
    }

    /// Makes a shared secret; see [`Decryptor::agree`]. Blocks like [`Self::sign`].
    pub fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        self.known(|| format!("key agreement on {:?}", originator.curve()))?;
        agreed(self.pool.ask(&self.name, Operation::Agree { originator: originator.clone() }))
    }

    /// Asks anything and answers like [`Self::submit_sign`].
    fn submit_question(&self, question: Question, reply: Reply) -> Pending {
        self.submit(operation_of(question), move |outcome| reply(outcome.map(answer_of)))
    }

    /// The same where nothing has to be waited for; else `None`, and there will be no answer.
    fn submit_question_at_once(&self, question: Question, reply: Reply) -> Option<UnderWay> {
        self.known(String::new).ok()?;
        let reply = Box::new(move |outcome: Outcome| reply(outcome.map(answer_of)));
        let pending = self.pool.submit_at_once(&self.name, operation_of(question), reply)?;
        Some(UnderWay::new(move || {
            pending.cancel();
        }))
    }

    fn submit(&self, operation: Operation, reply: impl FnOnce(Outcome) + Send + 'static) -> Pending {
        match self.known(|| format!("{operation:?}")) {
            Ok(()) => self.pool.submit(&self.name, operation, Box::new(reply)),
            Err(error) => {
                reply(Err(error));
                Pending::over()
            }
        }
    }

    fn tokens(&self) -> Vec<String> {
        // A server of keys may have many tokens, and its answers do not say which it was.
        if !self.pool.remotes().is_empty() {
            return Vec::new();
        }
        // One that is lost keeps its index, and has not answered.
        let labels = |is_one: &dyn Fn(&Token) -> bool| -> Vec<String> {
            let tokens = self.pool.tokens().iter().filter(|token| token.has_key(&self.name) && is_one(token));
            tokens.map(|token| token.label().to_owned()).collect()
        };
        let ready = labels(&|token| token.standing(&self.name) == Standing::Ready);
        if ready.is_empty() { labels(&|_| true) } else { ready }
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

fn operation_of(question: Question) -> Operation {
    match question {
        Question::Sign { input, algorithm } => Operation::Sign { input, algorithm },
        Question::Unwrap { encrypted_key, algorithm } => Operation::Decrypt { encrypted_key, algorithm },
        Question::Agree { originator } => Operation::Agree { originator },
    }
}

fn answer_of(answer: Answer) -> question::Answer {
    match answer {
        Answer::Signature(value) => question::Answer::Signature(value),
        Answer::Unwrapped(unwrapped) => question::Answer::Unwrapped(unwrapped),
        Answer::Agreed(agreed) => question::Answer::Agreed(agreed),
    }
}

fn signature(outcome: Outcome) -> Result<SignatureValue, KeyError> {
    match outcome? {
        Answer::Signature(value) => Ok(value),
        other => Err(other.unexpected()),
    }
}

fn unwrapped(outcome: Outcome) -> Result<Unwrapped, KeyError> {
    match outcome? {
        Answer::Unwrapped(unwrapped) => Ok(unwrapped),
        other => Err(other.unexpected()),
    }
}

fn agreed(outcome: Outcome) -> Result<Agreed, KeyError> {
    match outcome? {
        Answer::Agreed(agreed) => Ok(agreed),
        other => Err(other.unexpected()),
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
