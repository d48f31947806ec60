//! How many calls a token is given at a time: no more than it brings back in a part of the time that callers have.
//!
//! A token that does one thing at a time (a smart card, a small HSM) has each call stand behind those of all other
//! sessions, where no mail overtakes an archive and nobody hears that a caller has gone. There it is better to wait in
//! the pool. What tells is how long it takes from one call that comes back to the next while several are under way:
//! by as many as there are sessions that grows with a token of that kind, and stays below its limit with all others.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The pace of a token.
#[derive(Debug)]
pub(crate) struct Pace {
    origin: Instant,
    /// How long callers wait.
    deadline: Duration,
    /// When a call last came back, in microseconds from `origin`.
    last: AtomicU64,
    /// Microseconds from one that comes back to the next, on average of the last few.
    each: AtomicU64,
    /// How many have come back in a row while there were more sessions than calls at a time.
    slow: AtomicU32,
    told: AtomicBool,
}

impl Pace {
    pub(crate) fn new(deadline: Duration) -> Self {
        let (last, each) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            origin: Instant::now(),
            deadline,
            last,
            each,
            slow: AtomicU32::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// A call has come back. `counts`: others were under way beside it, or there is only one session.
    pub(crate) fn note(&self, begun: Instant, ended: Instant, counts: bool) {
        let [begun, ended] = [begun, ended].map(|at| micros(at.saturating_duration_since(self.origin)));
        let last = self.last.fetch_max(ended, Ordering::Relaxed);
        if counts {
            // What is as long as this was no work.
            let took = ended.saturating_sub(last.max(begun)).min(micros(self.deadline / 2));
            let each = self.each.load(Ordering::Relaxed);
            self.each.store(each - each / MEMORY + took / MEMORY, Ordering::Relaxed);
        }
    }

    /// How many calls the token is to have at a time: two at least, or it could not be seen that it takes more.
    pub(crate) fn at_a_time(&self) -> usize {
        let part = micros(self.deadline / PART);
        let many = part.checked_div(self.each.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        usize::try_from(many).unwrap_or(usize::MAX).max(2)
    }

    /// Whether a call that begins now, beside so many others, is expected back by the deadline of who asks. Yes if
    /// nothing has come back for long: that must be found out again.
    pub(crate) fn is_in_time(&self, others: usize, now: Instant, deadline: Instant) -> bool {
        let before = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        let takes = Duration::from_micros(self.each.load(Ordering::Relaxed)).saturating_mul(before);
        let last = self.origin + Duration::from_micros(self.last.load(Ordering::Relaxed));
        now + takes <= deadline || now.saturating_duration_since(last) >= self.deadline
    }

    /// Whether it is to be told that the token is slower than its sessions want; once.
    pub(crate) fn is_to_be_told(&self, at_a_time: usize, sessions: usize) -> bool {
        if at_a_time >= sessions {
            self.slow.store(0, Ordering::Relaxed);
            return false;
        }
        self.slow.fetch_add(1, Ordering::Relaxed) >= SURELY && !self.told.swap(true, Ordering::Relaxed)
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

/// Of so many that come back the average is made, the latest first.
const MEMORY: u64 = 8;
/// For such a part of its caller's time a call may stand behind others within the token.
const PART: u32 = 4;
/// After so many in a row it is no passing trouble.
const SURELY: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A token that works on so many things at a time, each of which takes it so long, with all sessions busy.
    fn pace(wide: u32, takes: Duration, calls: u32) -> (Pace, Instant) {
        let pace = Pace::new(DEADLINE);
        let begun = pace.origin;
        for call in 0..calls {
            let ended = begun + takes * (call / wide + 1);
            pace.note(begun, ended, true);
        }
        (pace, begun + takes * (calls / wide))
    }

    #[test]
    fn only_a_token_that_is_slow_for_all_its_sessions_gets_fewer_calls_at_a_time() {
        let ms = Duration::from_millis;
        for (wide, takes, least, most) in [
            (1, ms(1400), 3, 4),
            (1, ms(5000), 2, 2),
            (1, ms(30_000), 2, 2),
            (1, ms(100), 16, 60),
            (16, ms(2), 1000, usize::MAX),
            (16, ms(2000), 16, usize::MAX),
            (16, ms(4000), 16, usize::MAX),
        ] {
            let at_a_time = pace(wide, takes, 64).0.at_a_time();
            assert!((least..=most).contains(&at_a_time), "{wide} of {takes:?}: {at_a_time}");
        }
        assert_eq!(Pace::new(DEADLINE).at_a_time(), usize::MAX, "nothing is known");
    }

    #[test]
    fn a_token_that_stood_still_for_a_while_gets_all_its_calls_again() {
        let (pace, now) = pace(16, Duration::from_millis(20), 64);
        let back = now + Duration::from_secs(10);
        pace.note(now, back, true);
        for call in 1..40 {
            pace.note(back, back + Duration::from_millis(call), true);
        }
        assert!(pace.at_a_time() > 16, "{}", pace.at_a_time());
    }

    #[test]
    fn what_would_come_back_too_late_is_not_begun_unless_long_nothing_has_come_back() {
        let (pace, now) = pace(1, Duration::from_secs(2), 64);
        for (others, left, in_time) in [(0, 3, true), (0, 1, false), (4, 9, false), (4, 11, true)] {
            let deadline = now + Duration::from_secs(left);
            assert_eq!(pace.is_in_time(others, now, deadline), in_time, "{others} before, {left} s left");
        }
        let later = now + DEADLINE;
        assert!(pace.is_in_time(0, later, later + Duration::from_secs(1)));
    }

    #[test]
    fn that_a_token_is_slow_is_told_once_and_not_of_a_passing_trouble() {
        let pace = Pace::new(DEADLINE);
        let told = |at_a_time| (0..40).filter(|_| pace.is_to_be_told(at_a_time, 16)).count();
        assert_eq!(told(16), 0);
        assert!((0..10).all(|_| !pace.is_to_be_told(3, 16)));
        assert_eq!(told(16), 0);
        assert_eq!([told(3), told(3)], [1, 0]);
    }
}
