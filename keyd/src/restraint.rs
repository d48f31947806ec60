//! What one user may do so often only: what comes to nothing, and costs lines of the audit; and what tells of padding.
//!
//! A refusal, and what fails before the token has it, costs whoever asks nothing. Were each a line without more ado, a
//! client would have written over the record of what it did with a key in a minute.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
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

/// Why nothing is unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    TooMany,
    Unwritten,
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
    /// Encrypted keys that were rejected, and how many are under way that may be.
    rejected: Load,
    unwrapping: u32,
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

    /// What to remove for all to begin anew.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
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
                    may not sign have none unwrapped");
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

    /// Begins an unwrapping whose outcome tells of padding, if the user may have one more rejected; [`Self::unwrapped`] ends
    /// it.
    pub(crate) fn unwraps(&self, user: u32, now: Instant) -> Result<(), Withheld> {
        let mut users = self.lock();
        if !self.keep(&mut users, now) {
            return Err(Withheld::Unwritten);
        }
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
        if may { Ok(()) } else { Err(Withheld::TooMany) }
    }

    /// Notes that an encrypted key was rejected, before anybody is told.
    pub(crate) fn rejected(&self, user: u32, now: Instant) {
        let mut users = self.lock();
        users.entry(user).or_default().rejected.add(now, EACH_REJECTION);
        // Where that fails the next one finds out, before there is anything to tell.
        self.keep(&mut users, now);
    }

    /// Ends an unwrapping.
    pub(crate) fn unwrapped(&self, user: u32) {
        let mut users = self.lock();
        let user = users.entry(user).or_default();
        user.unwrapping = user.unwrapping.saturating_sub(1);
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
/// So many encrypted keys may be rejected at once, more than the damaged and forged ones of an archive; and then so often. A
/// signature by way of padding takes ten thousand at the very least, and mostly a hundred thousand, as what is to be signed must
/// be made to look padded first: a week, or two months.
const MOST_REJECTIONS: u32 = 2000;
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
        for _ in 0..MOST_REJECTIONS - 1 {
            assert!(restraint.unwraps(1, now).is_ok());
            restraint.rejected(1, now);
            restraint.unwrapped(1);
        }
        // However many are under way at a time, and whatever comes of them.
        assert!(restraint.unwraps(1, now).is_ok() && restraint.unwraps(1, now).is_err());
        restraint.unwrapped(1);
        assert!(restraint.unwraps(1, now).is_ok());
        restraint.rejected(1, now);
        restraint.unwrapped(1);
        assert!(restraint.unwraps(1, now).is_err() && restraint.unwraps(2, now).is_ok());
        assert!(
            restraint.unwraps(1, now + EACH_REJECTION).is_ok()
                && restraint.unwraps(1, now + EACH_REJECTION).is_err()
        );
    }

    #[test]
    fn rejections_are_known_after_a_restart_and_where_they_cannot_be_kept_there_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let (file, now) = (directory.path().join("rejections"), Instant::now());
        for ended in 0..4 {
            // As if the process were killed each time.
            let restraint = Restraint::kept_in(file.clone(), now).unwrap();
            let mut had = 0;
            while restraint.unwraps(1, now).is_ok() && had < 600 {
                restraint.rejected(1, now);
                restraint.unwrapped(1);
                had += 1;
            }
            let all = ended * 600 + had;
            assert!(all <= MOST_REJECTIONS && (had == 600 || all > MOST_REJECTIONS - 50), "{all}");
            assert!(restraint.unwraps(2, now).is_ok(), "another user's are another's");
        }
        std::fs::write(&file, "1 tomorrow\n").unwrap();
        let error = Restraint::kept_in(file.clone(), now).unwrap_err();
        assert!(format!("{error:#}").contains("remove it"), "{error:#}");

        let restraint = Restraint::kept_in(directory.path().join("gone").join("file"), now).unwrap();
        assert!(restraint.unwraps(1, now).is_ok());
        restraint.rejected(1, now);
        assert!(restraint.unwraps(1, now) == Err(Withheld::Unwritten) && restraint.unwraps(2, now).is_err());
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
