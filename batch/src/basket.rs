//! Where many threads put what one thread takes.
//!
//! To be woken costs that thread and whoever wakes it more than most of what it would do for one message. So it says
//! for how many things it is to be woken, and takes fewer after a while.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Holds things until they are taken.
pub(crate) struct Basket<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    things: Vec<T>,
    is_closed: bool,
    /// For how many things whoever takes them is to be woken, while he waits.
    worth: Option<usize>,
}

impl<T> Basket<T> {
    pub(crate) fn new() -> Self {
        let state = State { things: Vec::new(), is_closed: false, worth: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Puts things in, in their order.
    pub(crate) fn put(&self, things: impl IntoIterator<Item = T>) {
        let mut state = self.state();
        state.things.extend(things);
        let wakes = state.worth.is_some_and(|worth| state.things.len() >= worth);
        if wakes {
            state.worth = None;
        }
        // Who is woken shall find it unlocked.
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// Takes all that is there: nothing, if there is nothing before this time. When there is something, waits a moment
    /// for it to be `enough`. `None` when there is nothing and the basket is closed.
    pub(crate) fn take(&self, until: Option<Instant>, enough: usize) -> Option<Vec<T>> {
        let mut state = self.wait(self.state(), 1, until);
        if state.things.is_empty() {
            return (!state.is_closed).then(Vec::new);
        }
        if state.things.len() < enough {
            state = self.wait(state, enough, Some(Instant::now() + MOMENT));
        }
        Some(mem::take(&mut state.things))
    }

    /// Waits for so many things, until a time at most.
    fn wait<'s>(
        &self,
        mut state: MutexGuard<'s, State<T>>,
        worth: usize,
        until: Option<Instant>,
    ) -> MutexGuard<'s, State<T>> {
        while state.things.len() < worth && !state.is_closed {
            state.worth = Some(worth);
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.worth = None;
        state
    }

    /// Nobody shall wait for anything more.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Whole after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a few things wait for more at most: no longer than answers of a token do for each other.
const MOMENT: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_was_put_in_is_taken_in_its_order_and_all_at_once() {
        let basket = Basket::new();
        basket.put([1, 2]);
        basket.put([3]);
        assert_eq!(basket.take(None, 1), Some(vec![1, 2, 3]));
        assert_eq!(basket.take(Some(Instant::now()), 1), Some(vec![]));
    }

    #[test]
    fn a_few_things_wait_for_more_and_not_for_long() {
        let basket = Basket::new();
        thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let begun = Instant::now();
                let first = basket.take(None, usize::MAX);
                (first, begun.elapsed(), basket.take(None, 3))
            });
            basket.put([1]);
            while !taker.is_finished() {
                thread::sleep(Duration::from_millis(20));
                basket.put([2, 3, 4]);
            }
            let (first, took, second) = taker.join().unwrap();
            assert!(first.is_some_and(|first| first.starts_with(&[1])) && took < LONG);
            assert!(second.is_some_and(|second| second.starts_with(&[2, 3, 4])));
        });
    }

    #[test]
    fn who_waits_in_vain_is_told_when_it_is_closed() {
        let basket = Basket::<u8>::new();
        thread::scope(|scope| {
            let taker = scope.spawn(|| basket.take(Some(Instant::now() + LONG), 1));
            thread::sleep(Duration::from_millis(20));
            basket.close();
            assert_eq!(taker.join().unwrap(), None);
        });
        basket.put([1]);
        assert_eq!(basket.take(None, 9), Some(vec![1]), "what is there can be taken");
        assert_eq!(basket.take(None, 1), None);
    }
}
