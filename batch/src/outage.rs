//! When a run stops because keys no longer answer, and how long it is in doubt whether they do.
//!
//! What asks no key says nothing about one: most mail of an archive is not encrypted, and goes on well while the token is
//! away. So a key's failures count until that key answers. What else may pass by itself, a directory of certificates say,
//! counts only where each message has that trouble.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use agent::Identity;
use smime::key::KeyError;

use crate::task::PAUSES;

/// Which key, among those of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyNumber(usize);

impl KeyNumber {
    /// Where it is: it stays there while there are runs.
    pub(crate) fn of(identity: &Identity) -> Self {
        Self(std::ptr::from_ref(identity).addr())
    }
}

/// What became of the questions of one message, in all its tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The last key that answered, and when.
    answered: Option<(KeyNumber, Instant)>,
    /// The last one that gave no answer, and since when.
    unanswered: Option<(KeyNumber, Instant)>,
}

impl Asked {
    /// Adds what came of a question.
    pub(crate) fn came<T>(&mut self, of: KeyNumber, answer: &Result<T, KeyError>, at: Instant) {
        let since = self.unanswered.filter(|(key, _)| *key == of);
        match answer {
            Ok(_) => {
                self.answered = Some((of, at));
                if since.is_some() {
                    self.unanswered = None;
                }
            }
            Err(error) if is_no_answer(error) => self.unanswered = since.or(Some((of, at))),
            Err(_) => {}
        }
    }
}

/// Whether an error says that the token is away, or may be, and nothing of this key or this question.
fn is_no_answer(error: &KeyError) -> bool {
    match error {
        KeyError::Unavailable { .. } | KeyError::QueueFull { .. } | KeyError::Deadline { .. } => true,
        KeyError::Token { code, .. } => !OF_QUESTIONS.iter().any(|prefix| code.starts_with(prefix)),
        _ => false,
    }
}

/// What codes begin with that speak of a key, a mechanism or data (PKCS #11 2.40, 5.1.6): such a key fails each time, and
/// the token is well.
const OF_QUESTIONS: [&str; 10] = [
    "CKR_ARGUMENTS_BAD",
    "CKR_ATTRIBUTE_",
    "CKR_BUFFER_TOO_SMALL",
    "CKR_DATA_",
    "CKR_ENCRYPTED_DATA_",
    "CKR_FUNCTION_NOT_SUPPORTED",
    "CKR_HOST_MEMORY",
    "CKR_KEY_",
    "CKR_MECHANISM_",
    "CKR_TEMPLATE_",
];

/// What is known of it while a run goes on, through all its inputs.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// The messages of each key that had no answer.
    keys: HashMap<KeyNumber, Streak>,
    /// Those of all keys.
    all: Streak,
    /// How many failed, one behind the other, by something else that may pass.
    others: usize,
}

/// Messages that failed without an answer, and behind which none came.
#[derive(Debug, Default)]
struct Streak {
    /// Since when each had none.
    failed: Vec<Instant>,
    /// When the last answer came.
    answered: Option<Instant>,
}

impl Streak {
    /// Messages come in their order, and answers in another one: only what came later shows that a token is back.
    fn answered(&mut self, at: Instant) {
        let at = self.answered.map_or(at, |last| last.max(at));
        self.answered = Some(at);
        self.failed.retain(|since| *since + SLACK >= at);
    }

    fn failed(&mut self, since: Instant) -> usize {
        if self.answered.is_none_or(|at| since + SLACK >= at) {
            self.failed.push(since);
        }
        self.failed.len()
    }
}

impl Outage {
    /// Adds what became of a message: whether it failed in a way that may pass. Tells how many failed in a row, if that is
    /// an outage.
    pub(crate) fn add(&mut self, asked: Asked, is_transient: bool) -> Option<usize> {
        if let Some((key, at)) = asked.answered {
            self.keys.entry(key).or_default().answered(at);
            self.all.answered(at);
        }
        let failed = if let Some((key, since)) = asked.unanswered.filter(|_| is_transient) {
            self.keys.entry(key).or_default().failed(since).max(self.all.failed(since))
        } else {
            self.others = if is_transient { self.others + 1 } else { 0 };
            self.others
        };
        (failed >= OUTAGE).then_some(failed)
    }

    /// Whether messages failed of which it is not known yet whether they are part of one.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.others > 0 || self.keys.values().chain([&self.all]).any(|streak| !streak.failed.is_empty())
    }
}

/// A token's threads may still tell good things when another has told that it is lost; whoever had no answer asks again then.
const SLACK: Duration = PAUSES[0];

/// After how many such failures in a row a run stops. Each was tried three times.
const OUTAGE: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> KeyError {
        KeyError::Unavailable { token: "mail".into(), reason: "lost".into() }
    }

    fn code(code: &str) -> KeyError {
        KeyError::Token { function: "C_Decrypt".into(), code: code.into(), token: "mail".into() }
    }

    /// What comes of a message: which key it asks, what that says, whether it fails.
    type Message = (Option<(usize, Result<(), KeyError>)>, bool);

    /// A message that is done so long after the run began.
    fn add(outage: &mut Outage, began: Instant, at: u64, (answer, failed): &Message) -> Option<usize> {
        let mut asked = Asked::default();
        if let Some((key, answer)) = answer {
            asked.came(KeyNumber(*key), answer, began + Duration::from_secs(at));
        }
        outage.add(asked, *failed)
    }

    /// After how many rounds of these messages, a second each, there is an outage, if within a hundred.
    fn rounds(messages: &[Message]) -> Option<u64> {
        let (mut outage, began, mut at) = (Outage::default(), Instant::now(), 0);
        (1..=100).find(|_| {
            messages.iter().any(|message| {
                at += 1;
                add(&mut outage, began, at, message).is_some()
            })
        })
    }

    #[test]
    fn a_key_is_away_until_it_answers_whatever_comes_between() {
        let plain = || (None, false);
        let lost = |key| (Some((key, Err(away()))), true);
        let good = |key| (Some((key, Ok(()))), false);
        for (messages, expected) in [
            (vec![lost(1)], Some(20)),
            (vec![lost(1), plain(), plain()], Some(20)),
            // Of two tokens one is there.
            (vec![lost(1), good(2)], Some(20)),
            (vec![lost(1), lost(2)], Some(10)),
            (vec![lost(1), good(1)], None),
            // A certificate that is not found is no token's fault, and none is where others are found.
            (vec![(None, true)], Some(20)),
            (vec![(None, true), plain()], None),
            // Nor is a key that never works.
            (vec![(Some((1, Err(code("CKR_KEY_FUNCTION_NOT_PERMITTED")))), true), plain()], None),
            (vec![(Some((1, Err(code("CKR_DEVICE_ERROR")))), true), plain()], Some(20)),
            // Another key opened it.
            (vec![(Some((1, Err(away()))), false)], None),
        ] {
            assert_eq!(rounds(&messages), expected, "{messages:?}");
        }
    }

    #[test]
    fn it_is_in_doubt_until_a_key_that_failed_answers_later_in_whatever_order_messages_come() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        let deadline = KeyError::Deadline { token: "mail".into(), deadline: Duration::ZERO };
        let good = |key| (Some((key, Ok(()))), false);
        add(&mut outage, began, 5, &(Some((1, Err(deadline))), true));
        for (at, message) in [(9, (None, false)), (9, good(2)), (4, good(1)), (5, good(1))] {
            add(&mut outage, began, at, &message);
            assert!(outage.is_in_doubt(), "{at}: {message:?}");
        }
        add(&mut outage, began, 6, &good(1));
        assert!(!outage.is_in_doubt());
        // It has answered since.
        add(&mut outage, began, 5, &(Some((1, Err(away()))), true));
        assert!(!outage.is_in_doubt());
    }
}
