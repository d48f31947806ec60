//! What one user costs others by what comes to nothing: lines of the audit.
//!
//! A refusal, and what fails before the token has it, costs whoever asks nothing. Were each a line without more ado, a
//! client would have written over the record of what it did with a key in a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

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
    /// Uses that came to nothing.
    vain: Load,
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
