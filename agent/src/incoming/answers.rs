//! What keys have answered about one message, so that no token is asked twice for what several forms of it need, nor more than
//! an honest message needs.

use std::cell::RefCell;

use smime::{
    cms::MAX_RECIPIENTS,
    key::{KeyError, Unwrapped},
    question::{Answer, Question},
};

use crate::Identity;

/// Answers by key and question. They are wiped with it, as they are wherever they are used.
#[derive(Default)]
pub(super) struct Answers(RefCell<Vec<Known>>);

struct Known {
    key: [u8; 32],
    question: Question,
    answer: Answer,
}

/// How often keys are asked for a message: once for each recipient of one layer, or of several that have fewer.
const MAX_ANSWERS: usize = MAX_RECIPIENTS;
/// How long an encrypted key may be. None that a key here can open is longer.
const MAX_ENCRYPTED_KEY: usize = 4096;

impl Answers {
    /// The answer that is known, or else what `ask` finds out. An error is asked for again: it may pass. What is beyond the
    /// limits is not asked, and answered as a token would answer what is bad; its sender knows them.
    pub(super) fn or_ask(
        &self,
        identity: &Identity,
        question: &Question,
        ask: impl FnOnce() -> Result<Answer, KeyError>,
    ) -> Result<Answer, KeyError> {
        let key = *identity.certificate().fingerprint();
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.iter().find(|known| known.key == key && known.question == *question) {
            return Ok(known.answer.clone());
        }
        let is_long = matches!(question, Question::Unwrap { encrypted_key, .. }
            if encrypted_key.len() > MAX_ENCRYPTED_KEY);
        if is_long || all.len() == MAX_ANSWERS {
            return Ok(Answer::Unwrapped(Unwrapped::Rejected));
        }
        let answer = ask()?;
        all.push(Known { key, question: question.clone(), answer: answer.clone() });
        Ok(answer)
    }
}
