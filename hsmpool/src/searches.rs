//! Searches of a token for keys, because a request met none or a handle that is not valid.
//!
//! A search reads all keys of the token, so there is one at a time, and hostile mail must not make a habit of it. It
//! may hang as every call: whoever waits for one waits until his own deadline, and after a while another may be begun.

use std::{
    collections::HashMap,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::public_key::PublicKey;

/// Not more often are the keys looked at for an unknown one, or again for one whose handle a search did not mend.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is known of the searches of a token.
#[derive(Debug)]
pub(crate) struct Searches {
    /// A search that takes longer than this hangs.
    limit: Duration,
    state: Mutex<State>,
    ended: Condvar,
    /// Whether any key is known as unusable; all others pay no more than this look.
    has_unusable: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The end of the last.
    last: Option<Instant>,
    /// The number of the one that is under way, and since when.
    under_way: Option<(u64, Instant)>,
    number: u64,
    /// Keys whose handle was not valid right after a search, and when.
    unusable: HashMap<PublicKey, Instant>,
}

/// The search of one worker, until dropped.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    searches: &'a Searches,
    number: u64,
}

/// Another worker reads all keys just now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnderWay;

impl Searches {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, state: Mutex::default(), ended: Condvar::new(), has_unusable: AtomicBool::new(false) }
    }

    /// For a key that is unknown: `None` soon after a search, which has not found it. Nor is there one while another looks,
    /// but that may find it.
    pub(crate) fn for_unknown_key(&self) -> Result<Option<Search<'_>>, UnderWay> {
        let state = self.lock();
        if self.is_under_way(&state) {
            return Err(UnderWay);
        }
        let is_due = state.last.is_none_or(|at| at.elapsed() >= INTERVAL);
        Ok(is_due.then(|| self.begin(state)))
    }

    /// For a key whose handle is not valid any more; after the search of another, which may have found it.
    pub(crate) fn for_known_key(&self, deadline: Instant) -> Option<Search<'_>> {
        let mut state = self.lock();
        while self.is_under_way(&state) {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let woken = self.ended.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(self.begin(state))
    }

    /// Whether a search a moment ago has not mended this key's handle, so that another would not either.
    pub(crate) fn are_in_vain(&self, key: &PublicKey) -> bool {
        self.lock().unusable.get(key).is_some_and(|at| at.elapsed() < INTERVAL)
    }

    /// Notes that a search has not mended this key's handle. `true`: that is new.
    pub(crate) fn was_in_vain(&self, key: &PublicKey) -> bool {
        let mut state = self.lock();
        state.unusable.retain(|_, at| at.elapsed() < INTERVAL);
        self.has_unusable.store(true, Ordering::Relaxed);
        state.unusable.insert(key.clone(), Instant::now()).is_none()
    }

    /// Notes that a key has worked: what went before was a passing trouble.
    pub(crate) fn has_worked(&self, key: Option<&PublicKey>) {
        if self.has_unusable.load(Ordering::Relaxed)
            && let Some(key) = key
        {
            let mut state = self.lock();
            state.unusable.remove(key);
            self.has_unusable.store(!state.unusable.is_empty(), Ordering::Relaxed);
        }
    }

    fn is_under_way(&self, state: &State) -> bool {
        state.under_way.is_some_and(|(_, since)| since.elapsed() < self.limit)
    }

    fn begin(&self, mut state: MutexGuard<'_, State>) -> Search<'_> {
        state.number += 1;
        state.under_way = Some((state.number, Instant::now()));
        Search { searches: self, number: state.number }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Search<'_> {
    /// The keys have been read.
    pub(crate) fn succeeded(self) {
        self.searches.lock().last = Some(Instant::now());
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        let mut state = self.searches.lock();
        if state.under_way.is_some_and(|(number, _)| number == self.number) {
            state.under_way = None;
            self.searches.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn there_is_one_search_at_a_time_and_none_soon_after_for_an_unknown_key() {
        let searches = Searches::new(LONG);
        let first = searches.for_unknown_key().unwrap().unwrap();
        assert_eq!(searches.for_unknown_key().unwrap_err(), UnderWay);
        assert!(searches.for_known_key(Instant::now() + SHORT).is_none(), "its time is over");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| searches.for_known_key(Instant::now() + LONG).is_some());
            std::thread::sleep(SHORT);
            first.succeeded();
            assert!(waits.join().unwrap());
        });
        assert!(searches.for_unknown_key().unwrap().is_none());
        assert!(searches.for_known_key(Instant::now()).is_some());
    }

    #[test]
    fn a_search_that_failed_counts_for_nothing_and_one_that_hangs_not_for_ever() {
        let searches = Searches::new(SHORT);
        drop(searches.for_unknown_key().unwrap().unwrap());
        let hangs = searches.for_unknown_key().unwrap().unwrap();
        std::thread::sleep(SHORT);
        let next = searches.for_unknown_key().unwrap().unwrap();
        drop(hangs);
        assert!(searches.lock().under_way.is_some(), "what comes back late ends no other search");
        drop(next);
        assert!(searches.lock().under_way.is_none());
    }

    #[test]
    fn a_key_that_a_search_did_not_mend_is_noted_once() {
        let searches = Searches::new(LONG);
        let [one, other] = [PublicKey::Ed25519([1; 32]), PublicKey::Ed25519([2; 32])];
        assert!(!searches.are_in_vain(&one));
        assert!(searches.was_in_vain(&one));
        assert!(!searches.was_in_vain(&one));
        assert!(searches.are_in_vain(&one) && !searches.are_in_vain(&other));
        searches.has_worked(Some(&one));
        assert!(!searches.are_in_vain(&one), "it was a passing trouble");
        assert!(searches.was_in_vain(&one));
    }
}
