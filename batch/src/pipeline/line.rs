//! Where a run ends that somebody stops: what is finished, what is dropped.
//!
//! A slow token takes minutes for what was read ahead. So what has not asked it its first question is dropped, and the
//! writer ends at the first message that was. What comes before one that has asked is finished as well, or that one would have
//! asked for nothing; the same is so of what comes before one that is begun.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The messages of one pass, by their places in the order.
#[derive(Debug)]
pub(super) struct Line<'s> {
    stop: &'s AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Before which message all are begun, or will be.
    begun: u64,
    /// The same of those that have asked.
    asked: u64,
    /// How many have asked and are not finished.
    under_way: u64,
    /// How many have asked and are finished.
    finished: u64,
    /// When the first one asked.
    since: Option<Instant>,
}

impl<'s> Line<'s> {
    /// Ends when this is set.
    pub(super) fn new(stop: &'s AtomicBool) -> Self {
        Self { stop, state: Mutex::default() }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether these messages are to be begun.
    pub(super) fn begins(&self, first: u64, last: u64) -> bool {
        let mut state = self.state();
        if self.is_stopped() && first >= state.begun {
            return false;
        }
        state.begun = state.begun.max(last + 1);
        true
    }

    /// Whether somebody has stopped the run, and nothing that comes after this piece is begun.
    pub(super) fn ends_before(&self, sequence: u64) -> bool {
        self.is_stopped() && sequence >= self.state().begun
    }

    /// Whether a message is to ask its first question.
    pub(super) fn asks(&self, sequence: u64) -> bool {
        let mut state = self.state();
        if self.is_stopped() && sequence >= state.asked {
            return false;
        }
        state.asked = state.asked.max(sequence + 1);
        state.under_way += 1;
        state.since.get_or_insert_with(Instant::now);
        true
    }

    /// A message that has asked needs nothing more.
    pub(super) fn finished(&self) {
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        state.finished += 1;
    }

    /// How many have asked and are not finished, and how long that takes if they go on as they did.
    pub(super) fn under_way(&self) -> (u64, Option<Duration>) {
        let state = self.state();
        let [under_way, finished] =
            [state.under_way, state.finished].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let took = state.since.map(|since| since.elapsed());
        let each = took.and_then(|took| took.checked_div(finished));
        (state.under_way, each.map(|each| each.saturating_mul(under_way)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopped_ends_behind_the_last_message_that_has_asked() {
        let stop = AtomicBool::new(false);
        let line = Line::new(&stop);
        assert!(line.begins(0, 9) && line.begins(20, 29) && line.asks(3) && line.asks(7));
        assert_eq!(line.under_way(), (2, None), "nothing is known of how long it takes");
        line.finished();
        stop.store(true, Ordering::Relaxed);
        assert!(line.begins(10, 19), "others behind it are begun");
        assert!(!line.begins(30, 39) && !line.begins(40, 49));
        assert!(line.ends_before(30) && !line.ends_before(29));
        assert!(line.asks(5), "another behind it has asked");
        assert!(!line.asks(8) && !line.asks(15));
        assert_eq!(line.under_way().0, 2);
        assert!(line.under_way().1.is_some());
    }
}
