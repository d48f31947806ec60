//! What a worker does at the moment, for those who look from outside while it is in a call.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use smime::key::KeyError;

use crate::{answers::Answers, lanes::Slot, request::Watch};

/// How many times as long as others a call may take that these have overtaken, until it hangs all the same.
pub(crate) const OVERTAKEN: u32 = 4;

/// One worker, seen from outside.
#[derive(Debug)]
pub(crate) struct Activity {
    origin: Instant,
    /// Milliseconds from `origin`, plus one; 0 when idle.
    since: AtomicU64,
    /// The request that it works on.
    request: Mutex<Option<Task>>,
    /// Its right to have a request.
    pub(crate) slot: Slot,
    /// What it has done and not handed out yet.
    pub(crate) answers: Answers,
    /// Whether it has its session.
    opened: AtomicBool,
    /// Whether it was left behind in a call: it ends when that comes back.
    left: AtomicBool,
    /// Whether its thread is done, its session closed.
    ended: AtomicBool,
}

/// When a token last came back with anything that it was asked: one that does has not hung up, however long a single
/// call may stand behind others.
#[derive(Debug)]
pub(crate) struct Returns {
    origin: Instant,
    /// Milliseconds from `origin`.
    last: AtomicU64,
}

/// A request in work.
#[derive(Debug)]
struct Task {
    watch: Watch,
    /// Whether it has been told that its time is over.
    is_late: bool,
}

impl Default for Returns {
    fn default() -> Self {
        Self { origin: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Returns {
    /// A call for a request has come back.
    pub(crate) fn note(&self, now: Instant) {
        let at = u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(at, Ordering::Relaxed);
    }

    /// For how long none has.
    pub(crate) fn none_for(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.origin).saturating_sub(last)
    }
}

impl Activity {
    /// Of a worker whose session is being opened, which may take as long as any other call.
    pub(crate) fn opening() -> Self {
        let activity = Self {
            origin: Instant::now(),
            since: AtomicU64::new(0),
            request: Mutex::default(),
            slot: Slot::default(),
            answers: Answers::default(),
            opened: AtomicBool::new(false),
            left: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        };
        activity.begin();
        activity
    }

    /// It has its session, and waits for requests.
    pub(crate) fn opened(&self) {
        self.end();
        self.opened.store(true, Ordering::Release);
    }

    pub(crate) fn is_opened(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// A call begins that nobody waits for.
    pub(crate) fn begin(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(now + 1, Ordering::Relaxed);
    }

    /// Work on a request begins.
    pub(crate) fn begin_with(&self, request: Watch) {
        *self.lock() = Some(Task { watch: request, is_late: false });
        self.begin();
    }

    /// The call has come back. Tells whether there was a request, and if so, whether [`Self::expire`] has told
    /// that its time was over.
    pub(crate) fn end(&self) -> Option<bool> {
        self.since.store(0, Ordering::Relaxed);
        self.lock().take().map(|task| task.is_late)
    }

    /// For how long the present call has been running.
    pub(crate) fn busy_for(&self, now: Instant) -> Option<Duration> {
        let begun = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.origin + Duration::from_millis(begun)))
    }

    /// Whether the present call hangs: it has been running for longer than `limit`, and nobody waits for
    /// it any more. While other calls come back it has four times as long: a token that does one thing at a time lets each
    /// stand behind all others. What nobody ever waited for, opening a session or keeping one alive, has twice that time.
    pub(crate) fn hangs(&self, now: Instant, limit: Duration, others: &Returns) -> bool {
        let Some(busy) = self.busy_for(now) else { return false };
        let is_long = |limit: Duration| {
            busy > limit && (others.none_for(now) > limit || busy > limit.saturating_mul(OVERTAKEN))
        };
        match &*self.lock() {
            Some(task) => is_long(limit) && now >= task.watch.deadline,
            // Its request was ended by the watch, or there was none.
            None if self.is_opened() => is_long(limit),
            None => busy > limit.saturating_mul(2),
        }
    }

    /// For how long the request that it works on has been over.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Duration> {
        self.lock().as_ref().and_then(|task| now.checked_duration_since(task.watch.deadline))
    }

    /// Ends the request that it works on, if its time is over; tells that once, also of a caller who looks at the
    /// clock himself. The call itself goes on. What the call keeps from being handed out is let go.
    pub(crate) fn expire(&self, now: Instant, error: &dyn Fn(usize, Duration) -> KeyError) -> bool {
        self.answers.release();
        let mut task = self.lock();
        let Some(late) = task.as_mut().filter(|task| now >= task.watch.deadline && !task.is_late) else {
            return false;
        };
        late.is_late = true;
        let watch = late.watch.clone();
        // Without the lock: a continuation runs.
        drop(task);
        watch.expire(|backend| error(backend, watch.allowed()));
        true
    }

    /// Ends the request that it works on, whenever its time is over: nobody will hear of its call any more.
    pub(crate) fn give_up(&self, error: &KeyError) {
        self.answers.release();
        let watch = self.lock().as_ref().map(|task| task.watch.clone());
        // Without the lock: a continuation runs.
        if let Some(watch) = watch {
            watch.expire(|_| error.clone());
        }
    }

    /// Leaves it behind.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// The thread is done.
    pub(crate) fn finish(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Task>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answers::Crowd,
        request::{Lane, tests::counted},
    };

    const LIMIT: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(100);

    #[test]
    fn a_call_hangs_only_after_the_limit_and_when_nobody_waits_for_it() {
        let (activity, none) = (Activity::opening(), Returns::default());
        let begun = Instant::now();
        assert!(!activity.hangs(begun + LIMIT + TICK, LIMIT, &none), "opening has twice the time");
        assert!(activity.hangs(begun + 2 * LIMIT + TICK, LIMIT, &none));
        activity.opened();
        assert!(!activity.hangs(begun + 9 * LIMIT, LIMIT, &none), "it is idle");

        let (request, answers) = counted(Lane::Interactive, 3 * LIMIT);
        activity.begin_with(request.watch());
        assert!(!activity.hangs(begun + 2 * LIMIT, LIMIT, &none), "its caller still waits");
        assert_eq!(activity.overdue(begun + 2 * LIMIT), None);
        let late = begun + 3 * LIMIT + TICK;
        assert!(activity.hangs(late, LIMIT, &none));
        assert!(activity.overdue(late).is_some());

        let error = |_: usize, _: Duration| KeyError::NoRandomness;
        let (done, done_answers) = counted(Lane::Interactive, 3 * LIMIT);
        let crowd = Crowd { waiting: 1000, service: Duration::from_micros(50) };
        activity.answers.give(done, Err(KeyError::NoRandomness), crowd, begun);
        assert_eq!(done_answers.load(Ordering::Relaxed), 0);
        assert!(!activity.expire(begun, &error));
        assert_eq!(done_answers.load(Ordering::Relaxed), 1, "the call keeps no other's answer");
        assert!(activity.expire(late, &error));
        assert!(!activity.expire(late, &error), "once");
        assert_eq!(answers.load(Ordering::Relaxed), 1);
        assert!(activity.hangs(late, LIMIT, &none), "the call has not come back for that");
        activity.end();
        assert!(!activity.hangs(late, LIMIT, &none));
    }

    #[test]
    fn a_call_that_stands_behind_others_hangs_when_these_stop_coming_back_or_long_after() {
        let (activity, others) = (Activity::opening(), Returns::default());
        activity.opened();
        let begun = Instant::now();
        activity.begin_with(counted(Lane::Bulk, LIMIT).0.watch());
        others.note(begun + 2 * LIMIT);
        assert!(!activity.hangs(begun + 2 * LIMIT + TICK, LIMIT, &others), "one came back a moment ago");
        assert!(activity.hangs(begun + 3 * LIMIT + TICK, LIMIT, &others), "now none does");
        others.note(begun + 4 * LIMIT);
        assert!(activity.hangs(begun + 4 * LIMIT + TICK, LIMIT, &others), "it was overtaken for too long");
    }
}
