//! What a caller asks of a worker, and how the answer comes back.

use std::{sync::Arc, time::Instant};

use crossbeam_channel::{Receiver, Sender};
use smime::{
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{KeyError, SignatureInput, SignatureValue, Unwrapped},
};

use crate::public_key::KeyName;

/// One operation with one private key.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Sign { input: SignatureInput<'static>, algorithm: SignatureAlgorithm },
    Decrypt { encrypted_key: Vec<u8>, algorithm: KeyEncryptionAlgorithm },
    Agree { originator: OriginatorPublicKey },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Signature(SignatureValue),
    Unwrapped(Unwrapped),
    Agreed(Agreed),
}

/// An operation on its way to a worker.
pub(crate) struct Request {
    pub(crate) key: Arc<KeyName>,
    pub(crate) operation: Operation,
    /// Until then the caller waits; callers leave at no other time, so this also tells who has gone.
    pub(crate) deadline: Instant,
    /// Whether it has met a lost token before.
    pub(crate) second_try: bool,
    reply: Sender<Result<Answer, KeyError>>,
}

impl Request {
    pub(crate) fn new(
        key: Arc<KeyName>,
        operation: Operation,
        deadline: Instant,
    ) -> (Self, Receiver<Result<Answer, KeyError>>) {
        // Room for the one answer: a worker never waits for its caller.
        let (reply, answer) = crossbeam_channel::bounded(1);
        (Self { key, operation, deadline, second_try: false, reply }, answer)
    }

    pub(crate) fn is_expired(&self) -> bool {
        Instant::now() >= self.deadline
    }

    pub(crate) fn answer(self, result: Result<Answer, KeyError>) {
        // The caller may have gone; then nobody wants the answer.
        let _ = self.reply.send(result);
    }
}
