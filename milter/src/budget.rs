//! A number that all connections together must not exceed: octets in memory, octets on the disk, messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The whole.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    taken: AtomicU64,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Budget>,
    taken: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, taken: AtomicU64::new(0) })
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { of: Arc::clone(self), taken: 0 }
    }

    /// How much is taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Takes more, if there is as much.
    #[must_use]
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let limit = self.of.limit;
        let sum = |taken: u64| taken.checked_add(more).filter(|sum| *sum <= limit);
        let grown = self.of.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        if grown {
            self.taken += more;
        }
        grown
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self) {
        self.of.taken.fetch_sub(self.taken, Ordering::Relaxed);
        self.taken = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_all_is_given_back() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.grow(60) && other.grow(40));
        assert!(!one.grow(1) && other.grow(0) && !other.grow(usize::MAX));
        assert_eq!(budget.taken(), 100);
        one.clear();
        assert!(other.grow(60) && !one.grow(1));
        drop(other);
        assert_eq!(budget.taken(), 0);
    }
}
