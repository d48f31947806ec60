//! A connection of the server, its requests without an answer, and the duty to answer each.

use std::{
    collections::HashMap,
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use smime::key::{KeyError, Unwrapped};

use super::{
    error::{Text, WireError},
    gate::{Closing, Ended, Gate, Told},
    outbox::{Outbox, flush_corked},
    wire::{FromServer, WireAnswer},
};
use crate::request::{Answer, Lane, Outcome, Pending};

/// A connection, for all who answer over it.
pub(super) struct Connection {
    pub(super) outbox: Arc<Outbox>,
    pub(super) stream: Arc<UnixStream>,
    pub(super) lane: Lane,
    pub(super) gate: Arc<dyn Gate>,
    outstanding: Mutex<Outstanding>,
    answered: Condvar,
    /// Whether the server stops, and lets nothing begin any more.
    leaves: AtomicBool,
}

/// Requests without an answer.
#[derive(Default)]
struct Outstanding {
    /// `None`: not submitted yet.
    requests: HashMap<u64, Option<Pending>>,
    /// Threads that wait for answers: to notify nobody is a system call too.
    waiting: usize,
}

/// The duty to answer a request, and to close its record.
pub(super) struct Duty {
    connection: Arc<Connection>,
    id: u64,
    closing: Option<Closing>,
}

impl Connection {
    pub(super) fn new(
        outbox: &Arc<Outbox>,
        stream: &Arc<UnixStream>,
        lane: Lane,
        gate: Arc<dyn Gate>,
    ) -> Arc<Self> {
        let (outbox, stream) = (Arc::clone(outbox), Arc::clone(stream));
        let (outstanding, answered, leaves) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        Arc::new(Self { outbox, stream, lane, gate, outstanding, answered, leaves })
    }

    /// Notes a request, once there is room for it. `false`: it is there already.
    pub(super) fn begin(&self, id: u64) -> bool {
        let mut outstanding = self.lock();
        while outstanding.requests.len() >= usize::try_from(WINDOW).unwrap_or(usize::MAX) {
            drop(outstanding);
            flush_corked();
            outstanding = self.lock();
            if outstanding.requests.len() >= usize::try_from(WINDOW).unwrap_or(usize::MAX) {
                outstanding.waiting += 1;
                outstanding = self.answered.wait(outstanding).unwrap_or_else(PoisonError::into_inner);
                outstanding.waiting -= 1;
            }
        }
        outstanding.requests.insert(id, None).is_none()
    }

    pub(super) fn submitted(&self, id: u64, pending: Pending) {
        // It may have been answered meanwhile.
        if let Some(place) = self.lock().requests.get_mut(&id) {
            *place = Some(pending);
        }
    }

    pub(super) fn cancel(&self, id: u64) {
        // Its duty is dropped with it, and so fulfilled.
        let pending = self.lock().requests.get_mut(&id).and_then(Option::take);
        if let Some(pending) = pending {
            pending.cancel();
        }
    }

    /// From now on what is not done is not answered: its client asks the next server.
    pub(super) fn leave(&self) {
        self.leaves.store(true, Ordering::Release);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.lock().requests.is_empty()
    }

    /// Nobody waits for answers any more.
    pub(super) fn give_up(&self) {
        let pending: Vec<Pending> = self.lock().requests.values_mut().filter_map(Option::take).collect();
        for pending in pending {
            pending.cancel();
        }
    }

    pub(super) fn answer(&self, id: u64, outcome: &Outcome) {
        let was_turned_away = matches!(outcome, Err(KeyError::Unavailable { .. }));
        if !(was_turned_away && self.leaves.load(Ordering::Acquire)) {
            self.say(id, outcome);
        }
        let mut outstanding = self.lock();
        outstanding.requests.remove(&id);
        let wake = outstanding.waiting > 0;
        drop(outstanding);
        if wake {
            self.answered.notify_all();
        }
        self.outbox.send_soon();
    }

    fn say(&self, id: u64, outcome: &Outcome) {
        let result = match outcome {
            Ok(answer) => Ok(WireAnswer::of(answer)),
            Err(error) => Err(WireError::from(error)),
        };
        if let Err(error) = self.outbox.append(&FromServer::Answer { id, result }) {
            let reason = Text::of(&error.to_string());
            let result = Err(WireError::Unavailable { token: Text::default(), reason });
            // That fits.
            let _ = self.outbox.append(&FromServer::Answer { id, result });
        }
    }

    pub(super) fn wait_until_answered(&self, until: Instant) {
        let mut outstanding = self.lock();
        while !outstanding.requests.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            outstanding.waiting += 1;
            outstanding =
                self.answered.wait_timeout(outstanding, left).unwrap_or_else(PoisonError::into_inner).0;
            outstanding.waiting -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outstanding> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Duty {
    pub(super) fn new(connection: &Arc<Connection>, id: u64, closing: Closing) -> Self {
        Self { connection: Arc::clone(connection), id, closing: Some(closing) }
    }

    pub(super) fn fulfil(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        let Some(closing) = self.closing.take() else { return };
        let told = closing(Ended::of(&outcome)).and_then(|told| match told {
            Told::AsItIs => outcome,
            Told::Rejected => Ok(Answer::Unwrapped(Unwrapped::Rejected)),
        });
        self.connection.answer(self.id, &told);
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        let reason = "its caller gave it up".to_owned();
        self.close(Err(KeyError::Unavailable { token: "(any)".to_owned(), reason }));
    }
}

/// How many requests of a connection may be without an answer.
pub(super) const WINDOW: u32 = 1024;
