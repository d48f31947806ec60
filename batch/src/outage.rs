//! When a run stops because keys no longer answer, and how long it is in doubt whether they do.
//!
//! What asks no key says nothing about one: most mail of an archive is not encrypted, and goes on well while the token is
//! away. So failures count by the token that the error names, until that answers, with whichever key. What else may pass by
//! itself, a directory of certificates say, and what speaks of one key alone, counts only where each message has that trouble.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use agent::Identity;
use smime::key::KeyError;

use crate::task::PAUSES;

/// Which key, among those of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyNumber(usize);

/// What became of the questions of one message, in all its tries.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The last answer.
    answered: Option<Answered>,
    /// The last question that got none.
    unanswered: Option<Unanswered>,
}

#[derive(Clone, Debug)]
struct Answered {
    key: KeyNumber,
    /// The tokens that have the key; none if that is not known.
    tokens: Vec<String>,
    at: Instant,
}

#[derive(Clone, Debug)]
struct Unanswered {
    key: KeyNumber,
    /// The token that the error names.
    token: String,
    /// When the key failed first.
    since: Instant,
}

impl Asked {
    /// Adds what came of a question.
    pub(crate) fn came<T>(&mut self, of: &Identity, answer: &Result<T, KeyError>, at: Instant) {
        // It stays where it is while there are runs.
        let key = KeyNumber(std::ptr::from_ref(of).addr());
        self.add(key, || of.signer().tokens(), answer, at);
    }

    fn add<T>(
        &mut self,
        key: KeyNumber,
        tokens: impl FnOnce() -> Vec<String>,
        answer: &Result<T, KeyError>,
        at: Instant,
    ) {
        let before = self.unanswered.take_if(|before| before.key == key);
        match answer {
            Ok(_) => self.answered = Some(Answered { key, tokens: tokens(), at }),
            Err(error) => match unanswering(error) {
                Some(token) => {
                    let since = before.map_or(at, |before| before.since);
                    self.unanswered = Some(Unanswered { key, token: token.to_owned(), since });
                }
                None => self.unanswered = self.unanswered.take().or(before),
            },
        }
    }
}

/// The token that is away, or may be, as an error says that speaks of no key and no question.
fn unanswering(error: &KeyError) -> Option<&str> {
    match error {
        KeyError::Unavailable { token, .. }
        | KeyError::QueueFull { token, .. }
        | KeyError::Deadline { token, .. } => Some(token),
        KeyError::Token { code, token, .. } => hsmpool::may_concern_token(code).then_some(token),
        _ => None,
    }
}

/// What is known of it while a run goes on, through all its inputs.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// The messages that had no answer, by the token that was named.
    tokens: HashMap<String, Streak>,
    /// Those of all tokens.
    all: Streak,
    /// When the last answer came of which nobody knows the token.
    somebody: Option<Instant>,
    /// How many failed, one behind the other, by something else that may pass.
    others: usize,
}

/// Messages that failed without an answer, and behind which none came.
#[derive(Debug, Default)]
struct Streak {
    /// Which key each asked, and since when it had no answer.
    failed: Vec<(KeyNumber, Instant)>,
    /// When the last answer came.
    answered: Option<Instant>,
}

impl Streak {
    /// Messages come in their order, and answers in another one: only what came later shows that a token is back.
    fn answered(&mut self, at: Instant) {
        let at = self.answered.map_or(at, |last| last.max(at));
        self.answered = Some(at);
        self.failed.retain(|(_, since)| *since + SLACK >= at);
    }

    /// How many failed behind the last answer. What did just before it is in doubt and does not count, or a key that never
    /// works would be an outage where all messages are asked for at once.
    fn failed(&mut self, key: KeyNumber, since: Instant) -> usize {
        if self.answered.is_none_or(|at| since + SLACK >= at) {
            self.failed.push((key, since));
        }
        let is_behind = |(_, since): &&(KeyNumber, Instant)| self.answered.is_none_or(|at| *since > at);
        self.failed.iter().filter(is_behind).count()
    }
}

impl Outage {
    /// Adds what became of a message: whether it failed in a way that may pass. Tells how many failed in a row, if that is
    /// an outage.
    pub(crate) fn add(&mut self, asked: &Asked, is_transient: bool) -> Option<usize> {
        if let Some(answered) = &asked.answered {
            self.answered(answered);
        }
        let failed = if let Some(Unanswered { key, token, since }) =
            asked.unanswered.as_ref().filter(|_| is_transient)
        {
            let streak = self.tokens.entry(token.clone()).or_default();
            if let Some(at) = self.somebody {
                streak.answered(at);
            }
            streak.failed(*key, *since).max(self.all.failed(*key, *since))
        } else {
            self.others = if is_transient { self.others + 1 } else { 0 };
            self.others
        };
        (failed >= OUTAGE).then_some(failed)
    }

    /// An answer is one of each token that has the key, for it is served; where these are not known, of any.
    fn answered(&mut self, Answered { key, tokens, at }: &Answered) {
        self.all.answered(*at);
        for token in tokens {
            self.tokens.entry(token.clone()).or_default().answered(*at);
        }
        if tokens.is_empty() {
            self.somebody = self.somebody.max(Some(*at));
        }
        for (token, streak) in &mut self.tokens {
            if tokens.is_empty() {
                streak.answered(*at);
            } else if !tokens.contains(token) {
                streak.failed.retain(|(failed, since)| failed != key || *since > *at);
            }
        }
    }

    /// Whether messages failed of which it is not known yet whether they are part of one.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.others > 0 || self.tokens.values().chain([&self.all]).any(|streak| !streak.failed.is_empty())
    }
}

/// A token's threads may still tell good things when another has told that it is lost; whoever had no answer asks again then.
const SLACK: Duration = PAUSES[0];

/// After how many such failures in a row a run stops. Each was tried three times.
const OUTAGE: usize = 20;

/// That nothing is noted because of failures that may be the first of an outage: who goes on does these once more.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    since: Option<Instant>,
    /// It has lasted long enough, and what was held back could not be noted at that moment: it is at the next one.
    is_over: bool,
}

impl Hold {
    /// There are such failures.
    pub(crate) fn begin(&mut self) {
        if !self.is_over {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// There are none any more, or all of it was noted.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// It was to be noted, and could not be.
    pub(crate) fn failed(&mut self) {
        self.is_over |= self.since.take().is_some();
    }

    /// Whether nothing is noted yet, of so many files and octets.
    pub(crate) fn holds(&self, files: usize, octets: u64) -> bool {
        self.since.is_some_and(|since| may_hold(since.elapsed(), files, octets))
    }
}

/// For how long, and for how many files and octets. Where keys are asked so seldom that it is not known then, these failures
/// are as good as those of a run that goes on. In place, what is not noted is on the disk twice.
fn may_hold(time: Duration, files: usize, octets: u64) -> bool {
    time < Duration::from_mins(10) && files < 100_000 && octets < 1 << 30
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(token: &str) -> KeyError {
        KeyError::Unavailable { token: token.into(), reason: "lost".into() }
    }

    fn code(code: &str) -> KeyError {
        KeyError::Token { function: "C_Decrypt".into(), code: code.into(), token: "mail".into() }
    }

    /// What comes of a message: which key it asks and on which token that is, what it says, whether the message fails.
    type Message = (Option<(usize, &'static str, Result<(), KeyError>)>, bool);

    fn plain() -> Message {
        (None, false)
    }

    fn lost(key: usize, token: &'static str) -> Message {
        (Some((key, token, Err(away(token)))), true)
    }

    fn broken(key: usize, with: &str) -> Message {
        (Some((key, "mail", Err(code(with)))), true)
    }

    /// Of no known token, if that has no name.
    fn good(key: usize, token: &'static str) -> Message {
        (Some((key, token, Ok(()))), false)
    }

    /// A message that is done so many seconds after the run began.
    fn add(outage: &mut Outage, began: Instant, at: u64, message: &Message) -> Option<usize> {
        add_at(outage, began + Duration::from_secs(at), message)
    }

    fn add_at(outage: &mut Outage, at: Instant, (answer, failed): &Message) -> Option<usize> {
        let mut asked = Asked::default();
        if let Some((key, token, answer)) = answer {
            let tokens =
                || [*token].iter().filter(|token| !token.is_empty()).map(ToString::to_string).collect();
            asked.add(KeyNumber(*key), tokens, answer, at);
        }
        outage.add(&asked, *failed)
    }

    /// After how many rounds of these messages there is an outage, if within a hundred: the same for messages that take a
    /// second each, and for those that are asked for at once.
    fn rounds(messages: &[Message]) -> Option<u64> {
        let [slow, quick] = [1000, 1].map(|each| rounds_of(Duration::from_millis(each), messages));
        assert_eq!(slow, quick, "{messages:?}");
        slow
    }

    fn rounds_of(each: Duration, messages: &[Message]) -> Option<u64> {
        let (mut outage, mut at) = (Outage::default(), Instant::now());
        (1..=100).find(|_| {
            messages.iter().any(|message| {
                at += each;
                add_at(&mut outage, at, message).is_some()
            })
        })
    }

    #[test]
    fn a_token_is_away_until_it_answers_whatever_comes_between() {
        for (messages, expected) in [
            (vec![lost(1, "mail")], Some(20)),
            (vec![lost(1, "mail"), plain(), plain()], Some(20)),
            // Of two tokens one is there.
            (vec![lost(1, "mail"), good(2, "other")], Some(20)),
            (vec![lost(1, "mail"), lost(2, "other")], Some(10)),
            (vec![lost(1, "mail"), good(1, "mail")], None),
            // A key that answers is served, by whichever token.
            (vec![lost(1, "mail"), good(1, "other")], None),
            // Which token it was is not known: it may have been that one.
            (vec![lost(1, "mail"), good(2, "")], None),
            // A certificate that is not found is no token's fault, and none is where others are found.
            (vec![(None, true)], Some(20)),
            (vec![(None, true), plain()], None),
            // Another key opened it.
            (vec![(Some((1, "mail", Err(away("mail")))), false)], None),
        ] {
            assert_eq!(rounds(&messages), expected, "{messages:?}");
        }
    }

    #[test]
    fn a_lost_token_with_many_keys_is_noticed_beside_one_that_answers() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        let ended = (1..100).find(|at| {
            let at = *at;
            let key = 2 + usize::try_from(at).unwrap();
            add(&mut outage, began, 2 * at, &good(1, "other"));
            add(&mut outage, began, 2 * at + 1, &lost(key, "mail")).is_some()
        });
        assert_eq!(ended, Some(20));
    }

    #[test]
    fn a_key_that_never_works_is_no_outage_of_a_token_that_answers_others() {
        for with in [
            "CKR_KEY_FUNCTION_NOT_PERMITTED",
            "CKR_OBJECT_HANDLE_INVALID",
            "CKR_GENERAL_ERROR",
            "CKR_0x80000031",
            "an Ed25519 signature of the wrong length",
        ] {
            assert_eq!(rounds(&[broken(2, with), good(1, "mail")]), None, "{with}");
        }
        assert_eq!(rounds(&[lost(2, "mail"), good(1, "mail")]), None);
        // What speaks of a key alone does not count where no key answers either.
        assert_eq!(rounds(&[broken(1, "CKR_KEY_FUNCTION_NOT_PERMITTED"), plain()]), None);
        assert_eq!(rounds(&[broken(1, "CKR_CURVE_NOT_SUPPORTED"), plain()]), None);
        assert_eq!(rounds(&[broken(1, "CKR_DEVICE_ERROR"), plain()]), Some(20));
    }

    #[test]
    fn it_is_in_doubt_until_the_token_that_failed_answers_later_in_whatever_order_messages_come() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        let deadline = KeyError::Deadline { token: "mail".into(), deadline: Duration::ZERO };
        add(&mut outage, began, 5, &(Some((1, "mail", Err(deadline))), true));
        for (at, message) in [(9, plain()), (9, good(2, "other")), (4, good(1, "mail")), (5, good(1, "mail"))]
        {
            add(&mut outage, began, at, &message);
            assert!(outage.is_in_doubt(), "{at}: {message:?}");
        }
        add(&mut outage, began, 6, &good(3, "mail"));
        assert!(!outage.is_in_doubt());
        // It has answered since.
        add(&mut outage, began, 5, &lost(1, "mail"));
        assert!(!outage.is_in_doubt());
    }

    #[test]
    fn what_is_in_doubt_is_held_back_for_some_minutes_files_and_octets_at_most() {
        let minutes = Duration::from_mins;
        assert!(may_hold(minutes(9), 99_999, (1 << 30) - 1));
        assert!(!may_hold(minutes(10), 0, 0));
        assert!(!may_hold(minutes(0), 100_000, 0));
        assert!(!may_hold(minutes(0), 0, 1 << 30));
    }

    #[test]
    fn what_could_not_be_noted_when_that_was_due_is_not_held_back_once_more() {
        let mut hold = Hold::default();
        hold.begin();
        assert!(hold.holds(0, (1 << 30) - 1) && !hold.holds(0, 1 << 30));
        hold.failed();
        // Further failures hold nothing back before it is noted,
        hold.begin();
        assert!(!hold.holds(0, 0));
        hold.end();
        // and those after that do. Where nothing was held back, none is late.
        hold.failed();
        hold.begin();
        assert!(hold.holds(0, 0));
    }
}
