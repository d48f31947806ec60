//! Single flight: of many who ask the same at the same time, one asks and all get the answer.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Questions that are being asked.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    under_way: Mutex<HashMap<String, Arc<Flight<T>>>>,
}

#[derive(Debug)]
struct Flight<T> {
    state: Mutex<State<T>>,
    landed: Condvar,
}

#[derive(Debug)]
enum State<T> {
    UnderWay,
    Landed(Arc<T>),
    /// Whoever asked did not come back.
    Lost,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

impl<T> Flights<T> {
    /// The answer to a question: somebody else's, if it is being asked, or that of `ask`. `None` at the deadline, or
    /// if the other one was lost.
    pub(crate) fn join(&self, question: &str, deadline: Instant, ask: impl FnOnce() -> T) -> Option<Arc<T>> {
        let (flight, is_ours) = {
            let mut under_way = lock(&self.under_way);
            if let Some(flight) = under_way.get(question) {
                (Arc::clone(flight), false)
            } else {
                let flight = Arc::new(Flight { state: Mutex::new(State::UnderWay), landed: Condvar::new() });
                under_way.insert(question.to_owned(), Arc::clone(&flight));
                (flight, true)
            }
        };
        if !is_ours {
            return flight.wait(deadline);
        }
        let mut landing = Landing { flights: self, question, flight: &flight, answer: None };
        let answer = Arc::new(ask());
        landing.answer = Some(Arc::clone(&answer));
        drop(landing);
        Some(answer)
    }
}

impl<T> Flight<T> {
    fn wait(&self, deadline: Instant) -> Option<Arc<T>> {
        let mut state = lock(&self.state);
        loop {
            match &*state {
                State::Landed(answer) => return Some(Arc::clone(answer)),
                State::Lost => return None,
                State::UnderWay => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            (state, _) = self.landed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Lands a flight when it is dropped, also by a panic.
struct Landing<'f, T> {
    flights: &'f Flights<T>,
    question: &'f str,
    flight: &'f Flight<T>,
    answer: Option<Arc<T>>,
}

impl<T> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        lock(&self.flights.under_way).remove(self.question);
        *lock(&self.flight.state) = self.answer.take().map_or(State::Lost, State::Landed);
        self.flight.landed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicUsize, Ordering},
        thread,
        time::Duration,
    };

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn of_many_one_asks_and_all_get_the_answer() {
        let flights = Flights::default();
        let asked = AtomicUsize::new(0);
        let waiting = AtomicUsize::new(0);
        let ask = || {
            asked.fetch_add(1, Ordering::SeqCst);
            while waiting.load(Ordering::SeqCst) < 8 {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(50));
            7
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    waiting.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(flights.join("a", soon(), ask).as_deref(), Some(&7));
                });
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // What is asked later is asked again.
        assert_eq!(flights.join("a", soon(), || 8).as_deref(), Some(&8));
    }

    #[test]
    fn nobody_waits_for_one_who_is_late_or_lost() {
        let flights = Flights::default();
        let _ = catch_unwind(AssertUnwindSafe(|| flights.join("a", soon(), || panic!("on purpose"))));
        assert_eq!(flights.join("a", soon(), || 1).as_deref(), Some(&1));
        thread::scope(|scope| {
            let started = Arc::new(AtomicUsize::new(0));
            let begun = Arc::clone(&started);
            let flights = &flights;
            scope.spawn(move || {
                flights.join("a", soon(), || {
                    begun.store(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(500));
                    1
                })
            });
            while started.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            let late = flights.join("a", Instant::now() + Duration::from_millis(20), || 2);
            assert_eq!(late, None);
        });
    }
}
