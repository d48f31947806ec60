//! Work that needs a private key on its way, in pieces: what comes before a question, and what comes after its answer.
//!
//! Whoever has one message at a time calls [`Turn::wait`]. Whoever has an archive lets other messages take their turn
//! while a token thinks. It is the same work either way.

use std::fmt;

use smime::{
    key::KeyError,
    mime::Message,
    question::{Answer, Question},
};

use crate::Identity;

/// Work that is done, or that waits for a private key.
pub enum Turn<'a, T> {
    /// It is done.
    Done(T),
    /// It waits.
    Asks(Asks<'a, T>),
}

/// What is asked, of whom, and how it goes on.
pub struct Asks<'a, T> {
    /// Whose key is asked.
    pub identity: &'a Identity,
    /// What it is asked.
    pub question: Question,
    /// What is done with the answer, and with the message that the work began with: it is not kept here.
    pub then: Then<'a, T>,
}

/// Goes on with an answer.
pub type Then<'a, T> = Box<dyn FnOnce(&Message, Result<Answer, KeyError>) -> Turn<'a, T> + Send + 'a>;

impl<'a, T: 'a> Turn<'a, T> {
    /// Asks a key, and goes on with its answer.
    pub fn asking(
        identity: &'a Identity,
        question: Question,
        then: impl FnOnce(&Message, Result<Answer, KeyError>) -> Turn<'a, T> + Send + 'a,
    ) -> Self {
        Self::Asks(Asks { identity, question, then: Box::new(then) })
    }

    /// The same work, with something done to what comes out.
    pub fn map<U: 'a>(
        self,
        last: impl FnOnce(&Message, T) -> U + Send + 'a,
        message: &Message,
    ) -> Turn<'a, U> {
        match self {
            Self::Done(done) => Turn::Done(last(message, done)),
            Self::Asks(Asks { identity, question, then }) => {
                Turn::asking(identity, question, move |message, answer| {
                    then(message, answer).map(last, message)
                })
            }
        }
    }

    /// Waits for each answer until it is done. The message must be the one that the work began with.
    pub fn wait(self, message: &Message) -> T {
        self.wait_asking(message, |identity, question| question.ask(identity.signer(), identity.decryptor()))
    }

    /// The same with questions put by somebody else.
    pub(crate) fn wait_asking(
        self,
        message: &Message,
        ask: impl Fn(&Identity, &Question) -> Result<Answer, KeyError>,
    ) -> T {
        let mut turn = self;
        loop {
            match turn {
                Self::Done(done) => return done,
                Self::Asks(Asks { identity, question, then }) => {
                    turn = then(message, ask(identity, &question));
                }
            }
        }
    }
}

impl<'a, T: 'a, E: 'a> Turn<'a, Result<T, E>> {
    /// Work that may fail before it asks anything.
    pub fn of(begun: Result<Self, E>) -> Self {
        begun.unwrap_or_else(|error| Self::Done(Err(error)))
    }
}

impl<T: fmt::Debug> fmt::Debug for Turn<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(done) => f.debug_tuple("Done").field(done).finish(),
            Self::Asks(Asks { question, .. }) => f.debug_tuple("Asks").field(question).finish(),
        }
    }
}
