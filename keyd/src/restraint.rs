//! What one user may do so often only, as it comes to nothing and costs lines of the audit; and what the operator is warned of.
//!
//! A refusal, and what fails before the token has it, costs whoever asks nothing. Were each a line without more ado, a
//! client would have written over the record of what it did with a key in a minute.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use tracing::warn;

/// What is known of all users; those that are no clients are never asked about.
#[derive(Debug, Default)]
pub(crate) struct Restraint(Mutex<HashMap<u32, User>>);

#[derive(Debug, Default)]
struct User {
    /// The second whose refusals are counted, and how many of them have lines.
    second: Option<Instant>,
    told: u32,
    /// How many have none, and are to be told of with the next.
    untold: u64,
    /// Octets of the keys that it has defined.
    defined: Arc<AtomicUsize>,
    /// Uses that came to nothing.
    vain: Load,
    /// Encrypted keys that were rejected.
    rejected: Load,
    /// When the log last said that there were too many.
    warned: Option<Instant>,
}

/// Something that happens so often and no more: each time it takes up a length of time, one after the other.
#[derive(Debug, Default)]
struct Load {
    until: Option<Instant>,
}

impl Load {
    fn add(&mut self, now: Instant, each: Duration) {
        self.until = Some(self.until.map_or(now, |until| until.max(now)) + each);
    }

    /// How much time is taken up.
    fn at(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

impl Restraint {
    /// Notes a refusal. It gets a line if there is a number: of how many others before it that have none.
    pub(crate) fn refused(&self, user: u32, now: Instant) -> Option<u64> {
        let mut users = self.lock();
        let user = users.entry(user).or_default();
        if user.second.is_none_or(|second| now.saturating_duration_since(second) >= SECOND) {
            (user.second, user.told) = (Some(now), 0);
        }
        if user.told >= LINES_IN_A_SECOND {
            user.untold = user.untold.saturating_add(1);
            return None;
        }
        user.told += 1;
        Some(std::mem::take(&mut user.untold))
    }

    /// The octets of keys that a user has defined.
    pub(crate) fn defined(&self, user: u32) -> Arc<AtomicUsize> {
        Arc::clone(&self.lock().entry(user).or_default().defined)
    }

    /// Notes a use that came to nothing.
    pub(crate) fn in_vain(&self, user: u32, now: Instant) {
        self.lock().entry(user).or_default().vain.add(now, EACH_IN_VAIN);
    }

    /// How long the user's next use has to wait, since so many came to nothing.
    pub(crate) fn pause(&self, user: u32, now: Instant) -> Duration {
        let users = self.lock();
        let vain = users.get(&user).map_or(Duration::ZERO, |user| user.vain.at(now));
        vain.saturating_sub(EACH_IN_VAIN * MOST_IN_VAIN).min(LONGEST_PAUSE)
    }

    /// Notes that an encrypted key of one who may not sign was rejected. Whether the log now says that there were many.
    ///
    /// They are not limited: in mail they are written by strangers, who could bring it about that good ones are refused, too.
    pub(crate) fn rejected(&self, user: u32, now: Instant) -> bool {
        let mut users = self.lock();
        let of = users.entry(user).or_default();
        of.rejected.add(now, EACH_REJECTION);
        let is_due = of.warned.is_none_or(|warned| now.saturating_duration_since(warned) >= WARN_INTERVAL);
        if !is_due || of.rejected.at(now) <= EACH_REJECTION * MOST_REJECTIONS {
            return false;
        }
        of.warned = Some(now);
        warn!(
            user,
            fault = "operator",
            "so many of the encrypted keys that this client, which may not sign, had unwrapped were ill-formed that somebody may be \
             out for a signature: look whether it is mail that has them, and have another key for decryption"
        );
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, User>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many refusals of a user get a line each second.
const LINES_IN_A_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// Of what comes to nothing there may be so many at once, which is a token that fails under full load; and then so often.
const MOST_IN_VAIN: u32 = 10_000;
const EACH_IN_VAIN: Duration = Duration::from_millis(5);
/// More than so many rejected keys, and then one a minute, are told of: archives and mail have fewer, and a signature by way of padding
/// takes millions.
const MOST_REJECTIONS: u32 = 2000;
const EACH_REJECTION: Duration = Duration::from_mins(1);
const WARN_INTERVAL: Duration = Duration::from_hours(1);
/// So long nobody is kept from hearing that all ends.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_a_few_have_lines_and_those_tell_of_the_others() {
        let (restraint, begun) = (Restraint::default(), Instant::now());
        let lines = (0..1000).filter_map(|_| restraint.refused(1, begun));
        assert_eq!(lines.collect::<Vec<_>>(), [0; 10]);
        assert_eq!(restraint.refused(2, begun), Some(0), "another user's are another's");
        assert_eq!(restraint.refused(1, begun + SECOND), Some(990));
        assert_eq!(restraint.refused(1, begun + SECOND), Some(0));
    }

    #[test]
    fn of_very_many_rejected_keys_the_log_tells_once_an_hour() {
        let (restraint, now) = (Restraint::default(), Instant::now());
        assert!(!(0..MOST_REJECTIONS).any(|_| restraint.rejected(1, now)));
        assert!(restraint.rejected(1, now) && !restraint.rejected(1, now) && !restraint.rejected(2, now));
        let later = now + WARN_INTERVAL;
        assert!(!restraint.rejected(1, later), "those of before have been worked off in part");
        assert!((0..60).any(|_| restraint.rejected(1, later)), "and have become too many again");
    }

    #[test]
    fn who_asks_in_vain_all_the_time_waits() {
        let (restraint, now) = (Restraint::default(), Instant::now());
        (0..MOST_IN_VAIN).for_each(|_| restraint.in_vain(1, now));
        assert_eq!(restraint.pause(1, now), Duration::ZERO);
        (0..10).for_each(|_| restraint.in_vain(1, now));
        assert_eq!(restraint.pause(1, now), 10 * EACH_IN_VAIN);
        assert_eq!(restraint.pause(2, now), Duration::ZERO);
        assert_eq!(restraint.pause(1, now + SECOND), Duration::ZERO);
    }
}
