//! What keys have answered about one message, so that no token is asked twice for what several forms of it need.

use std::cell::RefCell;

use smime::{
    key::KeyError,
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

/// How many answers are kept: for each layer that of one key, as a rule.
const MAX_ANSWERS: usize = 100;
/// How long an encrypted key may be whose answer is kept. None that a key here can open is longer.
const MAX_ENCRYPTED_KEY: usize = 4096;

impl Answers {
    /// The answer that is known, or else what `ask` finds out. An error is asked for again: it may pass.
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
        let answer = ask()?;
        let is_long = matches!(question, Question::Unwrap { encrypted_key, .. }
            if encrypted_key.len() > MAX_ENCRYPTED_KEY);
        if !is_long && all.len() < MAX_ANSWERS {
            all.push(Known { key, question: question.clone(), answer: answer.clone() });
        }
        Ok(answer)
    }
}
