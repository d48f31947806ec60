//! The asking half: a [`Remote`] is one of a router's backends, and what it is asked a server answers.
//!
//! Each lane has a connection of its own, made by a thread of its own, which then hands out the answers; so no
//! backlog of one lane can be in the way of the other. A lost connection is made again by itself: at once, then
//! after growing pauses. What was under way is asked once more, if there is time left.

mod inquire;
mod lane;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use smime::key::KeyError;

use super::{connector::Connector, frame::FrameError, link::Link};
use crate::{
    PoolError,
    lanes::Refused,
    public_key::KeyName,
    request::{Lane, Request},
    router::{Failed, Load, Router, Standing},
};

/// A server of keys as a backend.
pub(crate) struct Remote {
    connector: Box<dyn Connector>,
    /// Its number among the router's backends.
    number: usize,
    router: Weak<Router>,
    own: Weak<Self>,
    interactive: Link,
    bulk: Link,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    /// Which keys it is known to have, or to lack.
    keys: RwLock<HashMap<[u8; 32], bool>>,
    threads: Mutex<Threads>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Threads {
    interactive: Option<JoinHandle<()>>,
    bulk: Option<JoinHandle<()>>,
}

/// How the interactive lane's connection is doing.
#[derive(Clone, Debug)]
enum Phase {
    Connecting,
    Up,
    Down(PoolError),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("it was closed")]
    Closed,
    #[error("{what} cannot be understood, or has more in it than there can be: {error}")]
    Message { what: &'static str, error: FrameError },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Unasked(#[from] super::link::Unasked),
}

impl Remote {
    /// A backend of that number of that router; [`Self::start`] begins to connect.
    pub(crate) fn new(connector: Box<dyn Connector>, number: usize, router: Weak<Router>) -> Arc<Self> {
        let (most, described) = (connector.most_requests(), connector.is_told_descriptions());
        Arc::new_cyclic(|own| Self {
            connector,
            number,
            router,
            own: Weak::clone(own),
            interactive: Link::new(Lane::Interactive, most, described),
            bulk: Link::new(Lane::Bulk, most, described),
            phase: Mutex::new(Phase::Connecting),
            phase_changed: Condvar::new(),
            keys: RwLock::default(),
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn start(&self) -> Result<(), PoolError> {
        self.start_lane(Lane::Interactive)
    }

    pub(crate) fn label(&self) -> &str {
        self.connector.label()
    }

    /// How it stands to a key.
    pub(crate) fn standing(&self, key: &KeyName) -> Standing {
        let stands = match &*self.lock_phase() {
            Phase::Down(_) => return Standing::Out,
            Phase::Up => Standing::Ready,
            Phase::Connecting => Standing::Coming,
        };
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if keys.get(&key.tag) == Some(&true) { stands } else { Standing::Unsure }
    }

    pub(crate) fn is_out(&self) -> bool {
        matches!(*self.lock_phase(), Phase::Down(_))
    }

    /// Why it is out of use.
    pub(crate) fn reason(&self) -> Option<PoolError> {
        match &*self.lock_phase() {
            Phase::Down(reason) => Some(reason.clone()),
            Phase::Connecting | Phase::Up => None,
        }
    }

    /// What a new request of that lane would stand behind, of those without an answer: of the bulk lane's only
    /// what the sessions behind it are working on holds an interactive one up.
    pub(crate) fn load(&self, lane: Lane) -> Load {
        let sessions = self.connector.sessions().max(1);
        let (interactive, bulk) = (self.interactive.in_use(), self.bulk.in_use());
        let requests = match lane {
            Lane::Interactive => interactive + bulk.min(sessions),
            Lane::Bulk => interactive + bulk,
        };
        Load { is_full: self.link(lane).is_full(), before: requests.saturating_mul(1000) / sessions }
    }

    pub(crate) fn waiting_in(&self, lane: Lane) -> usize {
        self.link(lane).in_use()
    }

    pub(crate) fn push(&self, request: Box<Request>, patience: Instant) -> Result<(), Refused> {
        self.use_lane(request.lane);
        self.link(request.lane).push(request, patience)
    }

    pub(crate) fn restore(&self, request: Box<Request>) -> Result<(), Refused> {
        self.use_lane(request.lane);
        self.link(request.lane).restore(request)
    }

    /// Gives up what is over, and gives it back. A server that owes answers for too long is told to its
    /// connector.
    pub(crate) fn expire(&self, now: Instant) -> VecDeque<Box<Request>> {
        let (mut over, owed) = self.interactive.expire(now);
        let (bulk, bulk_owed) = self.bulk.expire(now);
        over.extend(bulk);
        if owed.max(bulk_owed).is_some_and(|owed| owed >= OVERDUE) && self.connector.overdue() {
            self.interactive.hang_up();
            self.bulk.hang_up();
        }
        over
    }

    /// Takes nothing in from now on; a process of ours lets nothing begin any more. What runs goes on.
    pub(crate) fn begin_no_more(&self) {
        for link in [&self.interactive, &self.bulk] {
            self.turn_away(link, &PoolError::Closed);
            if self.connector.is_ours() {
                link.begin_no_more();
            }
        }
    }

    /// Ends the connections. What waits for an answer gets [`PoolError::Closed`].
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.set_phase(Phase::Down(PoolError::Closed));
        self.turn_away(&self.interactive, &PoolError::Closed);
        self.turn_away(&self.bulk, &PoolError::Closed);
        self.interactive.hang_up();
        self.bulk.hang_up();
        self.connector.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in [threads.interactive, threads.bulk].into_iter().flatten() {
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }

    fn link(&self, lane: Lane) -> &Link {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }

    /// The connection of the bulk lane is made with its first request.
    fn use_lane(&self, lane: Lane) {
        if lane == Lane::Bulk
            && let Err(error) = self.start_lane(lane)
        {
            self.turn_away(&self.bulk, &error);
            self.bulk.admit();
        }
    }

    fn start_lane(&self, lane: Lane) -> Result<(), PoolError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match lane {
            Lane::Interactive => &mut threads.interactive,
            Lane::Bulk => &mut threads.bulk,
        };
        let Some(own) = self.own.upgrade().filter(|_| place.is_none()) else { return Ok(()) };
        if self.closed.load(Ordering::Acquire) {
            return Err(PoolError::Closed);
        }
        let label = self.label().to_owned();
        let spawned = thread::Builder::new().name("key-client".into()).spawn(move || own.run(lane));
        *place = Some(spawned.map_err(|error| PoolError::Thread { label, reason: error.to_string() })?);
        Ok(())
    }

    /// What was under way when the connection ended is asked once more.
    fn lose(&self, link: &Link, ended: &Ended) {
        let left = link.disconnect();
        let closed = self.closed.load(Ordering::Acquire);
        if !closed {
            let (lane, under_way) = (link.lane, left.len());
            tracing::warn!(server = self.label(), ?lane, %ended, under_way, "connection to the server of keys lost");
        }
        for request in left {
            let reason = if closed { PoolError::Closed } else { self.unreachable(&ended.to_string()) };
            let error = self.unavailable(&reason);
            // Twice is no accident: it may be this very request that ends the server.
            let failed = if closed || request.history.losses > 0 {
                Failed::Refused(error)
            } else {
                Failed::Lost(error)
            };
            self.hand_back(request, failed);
        }
    }

    /// Takes nothing in until there is a connection again.
    fn turn_away_from(&self, lane: Lane, link: &Link, reason: &PoolError) {
        match lane {
            Lane::Interactive => {
                self.set_phase(Phase::Down(reason.clone()));
                self.turn_away(&self.bulk, reason);
                self.turn_away(link, reason);
            }
            // The other lane tells whether the server is there; this one may come back at any time.
            Lane::Bulk => {
                self.turn_away(link, reason);
                link.admit();
            }
        }
    }

    fn turn_away(&self, link: &Link, reason: &PoolError) {
        for request in link.refuse() {
            self.hand_back(request, Failed::Refused(self.unavailable(reason)));
        }
    }

    fn hand_back(&self, request: Box<Request>, failed: Failed) {
        match (self.router.upgrade(), failed) {
            (Some(router), failed) => router.take_back(request, self.number, failed),
            (None, Failed::Refused(error) | Failed::Lost(error)) => request.answer(Err(error)),
            (None, Failed::NotBegun) => request.answer(Err(self.unavailable(&PoolError::Closed))),
        }
    }

    fn know(&self, key: &KeyName, is_there: bool) {
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&key.tag).copied();
        if known != Some(is_there) {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if keys.len() >= MOST_KNOWN {
                keys.clear();
            }
            keys.insert(key.tag, is_there);
        }
    }

    fn pause(&self, length: Duration) {
        let until = Instant::now() + length;
        let mut phase = self.lock_phase();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.closed.load(Ordering::Acquire) {
                return;
            }
            phase = self.phase_changed.wait_timeout(phase, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn set_phase(&self, phase: Phase) {
        *self.lock_phase() = phase;
        self.phase_changed.notify_all();
    }

    fn unreachable(&self, reason: &str) -> PoolError {
        PoolError::Server { reason: format!("{}: {reason}", self.label()), transient: true }
    }

    fn unavailable(&self, reason: &PoolError) -> KeyError {
        KeyError::Unavailable { token: self.label().to_owned(), reason: reason.to_string() }
    }

    fn lock_phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("label", &self.label()).finish_non_exhaustive()
    }
}

/// A server that has not answered so long after its time was over does not answer any more.
const OVERDUE: Duration = Duration::from_millis(500);
/// How many keys are known to be there or not.
const MOST_KNOWN: usize = 100_000;
