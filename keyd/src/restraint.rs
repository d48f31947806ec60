//! What one user may do so often only: what comes to nothing, and costs lines of the audit; and what tells of padding.
//!
//! A refusal, and what fails before the token has it, costs whoever asks nothing. Were each a line without more ado, a
//! client would have written over the record of what it did with a key in a minute.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use tracing::{error, warn};

use crate::rejections;

/// What is known of all users; those that are no clients are never asked about.
#[derive(Debug, Default)]
pub(crate) struct Restraint {
    users: Mutex<HashMap<u32, User>>,
    /// Where it is kept how many encrypted keys were rejected: who can end this process would have as many again.
    file: Option<PathBuf>,
    /// Whether the log says that it cannot be written.
    told: AtomicBool,
}

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
    /// Encrypted keys that were rejected, and that it was told of.
    rejected: Load,
    /// Until when the file says that rejections take up time.
    kept: Option<Instant>,
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
    /// Goes on with what a file holds.
    pub(crate) fn kept_in(file: PathBuf, now: Instant) -> Result<Self> {
        let read = || format!("how many encrypted keys were rejected cannot be read from {}", file.display());
        let today = SystemTime::now();
        let of = |(user, until): (u32, SystemTime)| {
            let left = until.duration_since(today).unwrap_or_default();
            // A clock that was set back makes nobody wait longer than that.
            let until = Some(now + left.min(EACH_REJECTION * MOST_REJECTIONS));
            (user, User { rejected: Load { until }, kept: until, ..User::default() })
        };
        let users = rejections::read(&file).with_context(read)?.into_iter().map(of).collect();
        Ok(Self { users: Mutex::new(users), file: Some(file), told: AtomicBool::new(false) })
    }

    /// Writes down how many keys were rejected, if the file does not say so yet; some more, so that this is seldom. `false`:
    /// it cannot be.
    fn keep(&self, users: &mut HashMap<u32, User>, now: Instant) -> bool {
        let Some(file) = &self.file else { return true };
        if users.values().all(|user| user.rejected.at(now).is_zero() || user.kept >= user.rejected.until) {
            return true;
        }
        let (today, ahead) = (SystemTime::now(), EACH_REJECTION * WRITTEN_AHEAD);
        let all =
            users.iter().map(|(user, of)| (*user, of.rejected.at(now))).filter(|(_, left)| !left.is_zero());
        let written = rejections::write(file, all.map(|(user, left)| (user, today + left + ahead)));
        let told = self.told.swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written {
            let path = file.display();
            if !told {
                error!(%path, %error, fault = "operator", "how many encrypted keys were rejected cannot be written: clients that \
                    may not sign are told of no more");
            }
            return false;
        }
        for user in users.values_mut() {
            user.kept = user.rejected.until.filter(|until| *until > now).map(|until| until + ahead);
        }
        true
    }

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

    /// Notes that an encrypted key was rejected. Whether the user may get to know of it: of so many and no more, and of none
    /// that cannot be written down before.
    pub(crate) fn rejected(&self, user: u32, now: Instant) -> bool {
        let mut users = self.lock();
        let of = users.entry(user).or_default();
        let may = of.rejected.at(now) + EACH_REJECTION <= EACH_REJECTION * MOST_REJECTIONS;
        if may {
            of.rejected.add(now, EACH_REJECTION);
            return self.keep(&mut users, now);
        }
        if of.told_of_rejections.is_none_or(|told| now.saturating_duration_since(told) >= TELL_INTERVAL) {
            of.told_of_rejections = Some(now);
            warn!(
                user,
                fault = "operator",
                "so many of the encrypted keys that this client, which may not sign, had unwrapped were ill-formed that it may be \
                 out for a signature: it is told of one a minute from now on"
            );
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many refusals of a user get a line each second.
const LINES_IN_A_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// Of what comes to nothing there may be so many at once, which is a token that fails under full load; and then so often.
const MOST_IN_VAIN: u32 = 10_000;
const EACH_IN_VAIN: Duration = Duration::from_millis(5);
/// Of so many rejected keys a client may be told at once, and then so often. A signature by way of padding takes ten thousand at
/// the very least, and mostly a hundred thousand, as what is to be signed must be made to look padded first: a week, or two months.
const MOST_REJECTIONS: u32 = 200;
const EACH_REJECTION: Duration = Duration::from_mins(1);
/// So many more than there were are in the file, for those that come next.
const WRITTEN_AHEAD: u32 = 10;
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
        assert!((0..MOST_REJECTIONS).all(|_| restraint.rejected(1, now)));
        assert!(!restraint.rejected(1, now) && restraint.rejected(2, now), "another user's are another's");
        let later = now + EACH_REJECTION;
        assert!(restraint.rejected(1, later) && !restraint.rejected(1, later));
    }

    #[test]
    fn who_is_started_anew_is_told_of_no_more_and_of_none_that_is_not_written() {
        let (directory, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let file = directory.path().join("rejections");
        let begun = || Restraint::kept_in(file.clone(), now).unwrap();
        let told = |restraint: &Restraint| (0..150).filter(|_| restraint.rejected(1, now)).count();
        assert_eq!(told(&begun()), 150);
        // The file was ahead of the last ones.
        let rest = told(&begun());
        assert!((39..=50).contains(&rest), "{rest}");
        assert_eq!(told(&begun()), 0);
        assert!(begun().rejected(2, now), "another user's are another's");

        std::fs::write(&file, "1 tomorrow\n").unwrap();
        let error = Restraint::kept_in(file.clone(), now).unwrap_err();
        assert!(format!("{error:#}").contains("remove it"), "{error:#}");
        let restraint = Restraint::kept_in(directory.path().join("gone").join("file"), now).unwrap();
        assert!(!restraint.rejected(1, now) && !restraint.rejected(2, now));
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
