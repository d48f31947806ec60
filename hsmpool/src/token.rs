//! One token as its callers, its workers and its supervisor share it: queue, state, index.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use cryptoki::session::Session;
use smime::key::KeyError;

use crate::{
    PoolError, TokenSettings,
    call::CallError,
    index::{Index, KeyObject},
    login::LoginGate,
    public_key::KeyName,
    request::{Answer, Operation, Request},
};

/// Looking for an unknown key reads all keys of the token; hostile mail must not make that a habit.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// A token and its queue.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) settings: TokenSettings,
    pub(crate) gate: LoginGate,
    pub(crate) requests: Receiver<Request>,
    queue: Sender<Request>,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    index: RwLock<Arc<Index>>,
    last_refresh: Mutex<Option<Instant>>,
    /// Errors in a row that a fresh session did not mend.
    pub(crate) failures: AtomicU32,
    /// Whether this token reports bad ciphertexts by codes that could mean anything; see `decrypt`.
    pub(crate) checks_decryption: AtomicBool,
}

/// What a token is doing.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// A connection is being made; requests wait for it.
    Connecting,
    Up {
        sessions: usize,
    },
    Down(PoolError),
}

impl Token {
    pub(crate) fn new(settings: &TokenSettings) -> Self {
        let (queue, requests) = crossbeam_channel::bounded(settings.queue);
        Self {
            gate: LoginGate::new(&settings.label, &settings.pin),
            settings: settings.clone(),
            requests,
            queue,
            phase: Mutex::new(Phase::Connecting),
            phase_changed: Condvar::new(),
            index: RwLock::default(),
            last_refresh: Mutex::default(),
            failures: AtomicU32::new(0),
            checks_decryption: AtomicBool::new(false),
        }
    }

    pub(crate) fn label(&self) -> &str {
        &self.settings.label
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock_phase().clone()
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        *self.lock_phase() = phase;
        self.phase_changed.notify_all();
    }

    /// Waits for the end of the attempt to connect, then tells how things stand.
    pub(crate) fn wait_until_settled(&self, deadline: Instant) -> Option<Result<(), PoolError>> {
        let mut phase = self.lock_phase();
        loop {
            match &*phase {
                Phase::Up { .. } => return Some(Ok(())),
                Phase::Down(error) => return Some(Err(error.clone())),
                Phase::Connecting => {}
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let waited = self.phase_changed.wait_timeout(phase, left);
            phase = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// Has a worker carry out an operation, and waits for that until the deadline.
    pub(crate) fn ask(
        &self,
        key: &Arc<KeyName>,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Answer, KeyError> {
        if let Phase::Down(reason) = self.phase() {
            return Err(self.unavailable(&reason));
        }
        let (request, answer) = Request::new(Arc::clone(key), operation, deadline);
        if self.queue.send_deadline(request, deadline).is_err() {
            return Err(KeyError::QueueFull { token: self.label().to_owned(), waiting: self.waiting() });
        }
        match answer.recv_deadline(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(self.deadline()),
            // The worker was lost with the request.
            Err(RecvTimeoutError::Disconnected) if Instant::now() >= deadline => Err(self.deadline()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(self.unavailable(&PoolError::WorkerEnded { label: self.label().to_owned() }))
            }
        }
    }

    /// Puts requests back into the queue that met the end of the connection before.
    pub(crate) fn ask_again(&self, requests: Vec<Request>, reason: &PoolError) {
        for mut request in requests {
            request.second_try = true;
            if let Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) =
                self.queue.try_send(request)
            {
                request.answer(Err(self.unavailable(reason)));
            }
        }
    }

    pub(crate) fn unavailable(&self, reason: &PoolError) -> KeyError {
        KeyError::Unavailable { token: self.label().to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn deadline(&self) -> KeyError {
        KeyError::Deadline { token: self.label().to_owned(), deadline: self.settings.deadline }
    }

    /// The keys as they were last seen.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn find_key(&self, key: &KeyName) -> Option<KeyObject> {
        self.index().find(key)
    }

    /// Looks at the token's keys again, unless somebody has since generation `seen`.
    ///
    /// A token that loses its connection, or its login, often shows no object at all instead of an error. An
    /// index without keys where there were some is therefore given back, but not kept.
    pub(crate) fn refresh_index(&self, session: &Session, seen: u64) -> Result<Arc<Index>, CallError> {
        let mut last = self.last_refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.index();
        if current.generation != seen {
            return Ok(current);
        }
        let index = Arc::new(Index::read(session, seen.wrapping_add(1))?);
        // The first look, at the start of a connection, is nobody's habit.
        if seen != 0 {
            *last = Some(Instant::now());
        }
        if index.len() > 0 || current.len() == 0 {
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&index);
        }
        Ok(index)
    }

    /// Whether it is long enough ago that the keys were looked at to do so for an unknown one.
    pub(crate) fn may_look_again(&self) -> bool {
        let last = self.last_refresh.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|at| at.elapsed() >= REFRESH_INTERVAL)
    }

    /// Counts an error that a fresh session did not mend; `true` when there were too many in a row.
    pub(crate) fn count_failure(&self) -> bool {
        const TOO_MANY: u32 = 5;
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= TOO_MANY
    }

    fn lock_phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
