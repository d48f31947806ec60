//! Answers on their way out of a worker. Where many requests wait and each takes the token a fraction of a
//! millisecond, the dearest part is to wake whoever waits for an answer; then several go out together.
//!
//! An answer is held back only where its request has waited behind many others anyway, for a few operations of
//! the token. The watch lets go what a call that takes longer keeps.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    remote::Cork,
    request::{Lane, Outcome, Request},
};

/// Answers that a worker has and its callers have not.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Vec<(Box<Request>, Outcome)>>);

/// What an answer would leave behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Requests that wait in the same lane, for each session.
    pub(crate) waiting: usize,
    /// How long the token took for this one.
    pub(crate) service: Duration,
}

impl Crowd {
    /// How many answers go out together: never more than operations that any of these requests has waited for.
    fn batch(self, lane: Lane) -> usize {
        let in_time = hold_limit(lane).as_nanos() / self.service.as_nanos().max(1);
        let batch = self.waiting.min(MOST).min(usize::try_from(in_time).unwrap_or(MOST));
        if self.waiting >= MANY { batch } else { 0 }
    }
}

impl Answers {
    /// Gives an answer, now or with the next ones.
    pub(crate) fn give(&self, request: Box<Request>, outcome: Outcome, crowd: Crowd, now: Instant) {
        let mut held = self.lock();
        let wait = held.len() + 1 < crowd.batch(request.lane) && now + SPARE < request.deadline;
        if wait || !held.is_empty() {
            held.push((request, outcome));
            drop(held);
            if !wait {
                self.release();
            }
            return;
        }
        drop(held);
        request.answer(outcome);
    }

    /// Lets go all that is held back.
    pub(crate) fn release(&self) {
        let held = mem::take(&mut *self.lock());
        if held.is_empty() {
            return;
        }
        let _cork = Cork::new();
        for (request, outcome) in held {
            request.answer(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Box<Request>, Outcome)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.release();
    }
}

/// With fewer that wait for each session every answer goes out at once.
const MANY: usize = 4;
/// So many answers go out together at most …
const MOST: usize = 16;
/// … and fewer, where the first would be held back for longer than about this.
const fn hold_limit(lane: Lane) -> Duration {
    match lane {
        Lane::Interactive => Duration::from_millis(2),
        Lane::Bulk => Duration::from_millis(5),
    }
}
/// An answer whose time is over sooner is not held back.
const SPARE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use smime::key::KeyError;

    use super::*;
    use crate::request::{
        Lane::{self, Bulk, Interactive},
        tests::counted,
    };

    const LONG: Duration = Duration::from_mins(1);
    const CALM: Crowd = Crowd { waiting: MANY - 1, service: Duration::from_micros(50) };
    const CROWD: Crowd = Crowd { waiting: MANY, ..CALM };

    /// Gives so many answers; tells how many have gone out after each.
    fn given(answers: &Answers, lane: Lane, crowd: Crowd, allowed: Duration, count: usize) -> Vec<u32> {
        let mut out = Vec::new();
        let mut total = Vec::new();
        for _ in 0..count {
            let (request, answered) = counted(lane, allowed);
            answers.give(request, Err(KeyError::NoRandomness), crowd, Instant::now());
            total.push(answered);
            out.push(total.iter().map(|answered| answered.load(Relaxed)).sum());
        }
        out
    }

    #[test]
    fn answers_go_out_at_once_where_few_wait_the_token_is_slow_or_time_is_short() {
        for (lane, crowd, allowed) in [
            (Bulk, CALM, LONG),
            (Bulk, Crowd { waiting: 1000, service: hold_limit(Bulk) }, LONG),
            (Bulk, Crowd { waiting: 1000, ..CALM }, SPARE),
            (Interactive, Crowd { waiting: 1000, service: hold_limit(Interactive) }, LONG),
        ] {
            assert_eq!(given(&Answers::default(), lane, crowd, allowed, 3), [1, 2, 3], "{crowd:?}");
        }
    }

    #[test]
    fn in_a_crowd_as_many_go_out_together_as_wait_and_not_for_longer_than_the_limit() {
        assert_eq!(given(&Answers::default(), Bulk, CROWD, LONG, 9), [0, 0, 0, 4, 4, 4, 4, 8, 8]);
        for lane in [Interactive, Bulk] {
            let slow = Crowd { waiting: 1000, service: hold_limit(lane) / 3 };
            assert_eq!(given(&Answers::default(), lane, slow, LONG, 4), [0, 0, 3, 3]);
        }
        let crowd = Crowd { waiting: 1000, ..CALM };
        assert_eq!(given(&Answers::default(), Bulk, crowd, LONG, MOST).last(), Some(&16));
    }

    #[test]
    fn what_is_held_back_goes_out_when_asked_for_with_the_next_answer_and_at_the_end() {
        let answers = Answers::default();
        assert_eq!(given(&answers, Interactive, CROWD, LONG, 2), [0, 0]);
        let (request, answered) = counted(Interactive, LONG);
        answers.give(request, Err(KeyError::NoRandomness), CROWD, Instant::now());
        answers.release();
        assert_eq!(answered.load(Relaxed), 1);

        let (held, held_answered) = counted(Interactive, LONG);
        answers.give(held, Err(KeyError::NoRandomness), CROWD, Instant::now());
        assert_eq!(given(&answers, Interactive, CALM, LONG, 1), [1]);
        assert_eq!(held_answered.load(Relaxed), 1);

        let (request, answered) = counted(Interactive, LONG);
        answers.give(request, Err(KeyError::NoRandomness), CROWD, Instant::now());
        drop(answers);
        assert_eq!(answered.load(Relaxed), 1);
    }
}
