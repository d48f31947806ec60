//! What one user may do so often only: what comes to nothing, and costs lines of the audit; and what tells of padding.
//!
//! A refusal, and what fails before the token has it, costs whoever asks nothing. Were each a line without more ado, a
//! client would have written over the record of what it did with a key in a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
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
    /// Uses that came to nothing.
    vain: Load,
    /// Encrypted keys that were rejected, and how many are under way that may be.
    rejected: Load,
    unwrapping: u32,
    /// When it was last told of that there were too many.
    told_of_rejections: Option<Instant>,
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

    /// Begins an unwrapping whose outcome tells of padding, if the user may have one more rejected; [`Self::unwrapped`] ends
    /// it.
    pub(crate) fn unwraps(&self, user: u32, now: Instant) -> bool {
        let mut users = self.lock();
        let of = users.entry(user).or_default();
        let all = of.rejected.at(now) + EACH_REJECTION.saturating_mul(of.unwrapping.saturating_add(1));
        let may = all <= EACH_REJECTION * MOST_REJECTIONS;
        if may {
            of.unwrapping += 1;
        } else if of
            .told_of_rejections
            .is_none_or(|told| now.saturating_duration_since(told) >= TELL_INTERVAL)
        {
            of.told_of_rejections = Some(now);
            warn!(
                user,
                fault = "operator",
                "so many of the encrypted keys that this client, which may not sign, had unwrapped were ill-formed that it may be \
                 out for a signature: it gets one a minute from now on"
            );
        }
        may
    }

    /// Notes that an encrypted key was rejected.
    pub(crate) fn rejected(&self, user: u32, now: Instant) {
        self.lock().entry(user).or_default().rejected.add(now, EACH_REJECTION);
    }

    /// Ends an unwrapping.
    pub(crate) fn unwrapped(&self, user: u32) {
        let mut users = self.lock();
        let user = users.entry(user).or_default();
        user.unwrapping = user.unwrapping.saturating_sub(1);
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
/// So many encrypted keys may be rejected at once, more than the damaged and forged ones of an archive; and then so often. A
/// signature by way of padding takes ten thousand at the very least, and mostly a hundred thousand, as what is to be signed must
/// be made to look padded first: a week, or two months.
const MOST_REJECTIONS: u32 = 2000;
const EACH_REJECTION: Duration = Duration::from_mins(1);
const TELL_INTERVAL: Duration = Duration::from_hours(1);
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
    fn so_many_rejections_and_no_more_are_learnt_at_once_and_then_one_a_minute() {
        let (restraint, now) = (Restraint::default(), Instant::now());
        for _ in 0..MOST_REJECTIONS - 1 {
            assert!(restraint.unwraps(1, now));
            restraint.rejected(1, now);
            restraint.unwrapped(1);
        }
        // However many are under way at a time, and whatever comes of them.
        assert!(restraint.unwraps(1, now) && !restraint.unwraps(1, now));
        restraint.unwrapped(1);
        assert!(restraint.unwraps(1, now));
        restraint.rejected(1, now);
        restraint.unwrapped(1);
        assert!(!restraint.unwraps(1, now) && restraint.unwraps(2, now));
        assert!(restraint.unwraps(1, now + EACH_REJECTION) && !restraint.unwraps(1, now + EACH_REJECTION));
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
