//! One token as the router, its workers and its supervisor share it: lanes, state, index.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cryptoki::session::Session;
use smime::key::KeyError;

use crate::{
    PoolError, TokenSettings,
    activity::{Activity, OVERTAKEN, Returns},
    call::CallError,
    index::Index,
    lanes::Lanes,
    login::LoginGate,
    mechanisms::Abilities,
    metrics::{Meter, TokenMetrics},
    pace::Pace,
    public_key::KeyName,
    request::{Lane, Request},
    router::{Failed, Load, Router, Standing},
    searches::Searches,
    session::OpenSession,
};

/// Connecting reads all keys, which takes some tokens long.
const OPENING_LIMIT: Duration = Duration::from_mins(1);

/// Connecting again is waited for, but not for that long by everybody who asks.
const AGAIN_LIMIT: Duration = Duration::from_secs(5);

/// A token and its queue.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) settings: TokenSettings,
    pub(crate) gate: Arc<LoginGate>,
    pub(crate) lanes: Lanes,
    /// Its number among the router's backends, and the router.
    number: usize,
    router: Weak<Router>,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    /// The phase once more, for the router's quick look.
    stands: AtomicU8,
    sessions: AtomicUsize,
    /// How many sessions were asked for, by the settings or by the token's own limit.
    pub(crate) wanted: AtomicUsize,
    pub(crate) meter: Meter,
    index: RwLock<Arc<Index>>,
    abilities: RwLock<Arc<Abilities>>,
    pub(crate) searches: Searches,
    pub(crate) returns: Returns,
    pub(crate) pace: Pace,
    /// What the workers do at the moment.
    activities: Mutex<Vec<Weak<Activity>>>,
    /// Since when a connection is being opened.
    opening: Mutex<Option<Instant>>,
    /// Requests that workers have taken.
    pub(crate) running: AtomicUsize,
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

const CONNECTING: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

impl Token {
    /// A token that is backend `number` of that router.
    pub(crate) fn new(settings: &TokenSettings, number: usize, router: Weak<Router>) -> Self {
        Self {
            gate: LoginGate::of_process(settings),
            settings: settings.clone(),
            lanes: Lanes::new(settings.queue),
            number,
            router,
            phase: Mutex::new(Phase::Connecting),
            phase_changed: Condvar::new(),
            stands: AtomicU8::new(CONNECTING),
            sessions: AtomicUsize::new(0),
            wanted: AtomicUsize::new(settings.sessions.unwrap_or(0)),
            meter: Meter::default(),
            index: RwLock::default(),
            abilities: RwLock::default(),
            searches: Searches::new(settings.deadline.max(OPENING_LIMIT)),
            returns: Returns::default(),
            pace: Pace::new(settings.deadline),
            activities: Mutex::default(),
            opening: Mutex::default(),
            running: AtomicUsize::new(0),
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

    /// Changes the phase. What waits for a token that is no longer up looks for another, if there are others.
    pub(crate) fn set_phase(&self, phase: &Phase) {
        self.settle(self.enter(phase));
    }

    /// What waits here and can no longer stay.
    fn enter(&self, phase: &Phase) -> VecDeque<Box<Request>> {
        let (stands, sessions) = match phase {
            Phase::Connecting => (CONNECTING, 0),
            Phase::Up { sessions } => (UP, *sessions),
            Phase::Down(_) => (DOWN, 0),
        };
        self.sessions.store(sessions, Ordering::Relaxed);
        // In this order, whoever finds the token out of use finds a reason too, and whoever finds it in use
        // is taken in.
        if stands != DOWN {
            self.lanes.admit();
        }
        *self.lock_phase() = phase.clone();
        self.stands.store(stands, Ordering::Release);
        let homeless = match phase {
            Phase::Up { .. } => VecDeque::new(),
            Phase::Connecting if self.is_alone() => VecDeque::new(),
            Phase::Connecting => self.lanes.drain(),
            Phase::Down(_) => self.lanes.refuse(),
        };
        self.phase_changed.notify_all();
        homeless
    }

    fn settle(&self, homeless: VecDeque<Box<Request>>) {
        for request in homeless {
            self.hand_back(request, Failed::NotBegun);
        }
        self.lanes.settle();
    }

    /// Whether there is no other that could be asked.
    fn is_alone(&self) -> bool {
        self.router.upgrade().is_some_and(|router| router.backends.len() == 1)
    }

    /// Gives a request that was not carried out here back to the router.
    pub(crate) fn hand_back(&self, request: Box<Request>, failed: Failed) {
        let retry = matches!(failed, Failed::Lost(_));
        self.meter.retries.fetch_add(u64::from(retry), Ordering::Relaxed);
        match (self.router.upgrade(), failed) {
            (Some(router), failed) => router.take_back(request, self.number, failed),
            (None, Failed::Refused(error) | Failed::Lost(error)) => request.answer(Err(error)),
            (None, Failed::NotBegun) => request.answer(Err(self.unavailable(&PoolError::Closed))),
        }
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

    /// How it stands to a key.
    pub(crate) fn standing(&self, key: &KeyName) -> Standing {
        match self.stands.load(Ordering::Acquire) {
            DOWN => Standing::Out,
            _ if !self.has_key(key) => Standing::Unsure,
            UP => Standing::Ready,
            _ => Standing::Coming,
        }
    }

    pub(crate) fn is_out(&self) -> bool {
        self.stands.load(Ordering::Acquire) == DOWN
    }

    /// Why it is out of use.
    pub(crate) fn reason(&self) -> Option<PoolError> {
        match &*self.lock_phase() {
            Phase::Down(reason) => Some(reason.clone()),
            Phase::Connecting | Phase::Up { .. } => None,
        }
    }

    /// Sessions that work for it, at least one.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed).max(1)
    }

    /// What a new request of that lane would stand behind: nothing of the bulk lane that waits holds an interactive
    /// one up.
    pub(crate) fn load(&self, lane: Lane) -> Load {
        let ([interactive, bulk], is_full) = self.lanes.look(lane);
        let waiting = match lane {
            Lane::Interactive => interactive,
            Lane::Bulk => interactive + bulk,
        };
        let requests = waiting + self.running.load(Ordering::Relaxed);
        Load { is_full, before: requests.saturating_mul(1000) / self.sessions() }
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lanes.waiting().iter().sum()
    }

    /// How many wait in a lane.
    pub(crate) fn waiting_in(&self, lane: Lane) -> usize {
        let [interactive, bulk] = self.lanes.waiting();
        match lane {
            Lane::Interactive => interactive,
            Lane::Bulk => bulk,
        }
    }

    /// Notes that a connection is being opened, or is not any more.
    pub(crate) fn is_opening(&self, since: Option<Instant>) {
        *self.opening.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether a call to the module does not come back, in words. One that others overtake may only stand behind them:
    /// each session of a token that does one thing at a time may be in front of it, with a call of its own.
    pub(crate) fn hangs(&self) -> Option<String> {
        let deadline = self.settings.deadline;
        let activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        let busiest =
            activities.iter().filter_map(Weak::upgrade).filter_map(|activity| activity.busy_for(now)).max();
        let others = u32::try_from(self.sessions()).unwrap_or(u32::MAX).max(OVERTAKEN);
        let is_long = |busy: Duration| {
            busy >= deadline
                && (self.returns.none_for(now) >= deadline || busy >= deadline.saturating_mul(others))
        };
        if let Some(busy) = busiest.filter(|busy| is_long(*busy)) {
            return Some(format!("a call to the module has not returned for {} ms", busy.as_millis()));
        }
        let opening = *self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = deadline.max(OPENING_LIMIT);
        let opening = opening.map(|since| since.elapsed()).filter(|opening| *opening >= limit);
        opening.map(|opening| format!("connecting to the token has taken {} ms", opening.as_millis()))
    }

    /// Has the watch look at a worker.
    pub(crate) fn register(&self, activity: &Arc<Activity>) {
        let mut activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        activities.retain(|other| other.strong_count() > 0);
        activities.push(Arc::downgrade(activity));
    }

    /// Ends what is over: gives back what waits, answers what runs.
    pub(crate) fn expire(
        &self,
        now: Instant,
        error: &dyn Fn(usize, Duration) -> KeyError,
    ) -> VecDeque<Box<Request>> {
        self.watch_opening();
        let activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ended =
            activities.iter().filter_map(Weak::upgrade).filter(|activity| activity.expire(now, error));
        let over = self.lanes.remove_over(now);
        let expired = u64::try_from(ended.count() + over.len()).unwrap_or(u64::MAX);
        self.meter.expired.fetch_add(expired, Ordering::Relaxed);
        over
    }

    /// Takes the token out of use when it takes too long to connect, until that has ended: whoever asks would wait
    /// his whole time for nothing.
    fn watch_opening(&self) {
        let is_first = self.index().generation == 0;
        let limit = self.settings.deadline.max(if is_first { OPENING_LIMIT } else { AGAIN_LIMIT });
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let for_at_least = opening.map(|since| since.elapsed()).filter(|opening| *opening >= limit);
        let Some(for_at_least) = for_at_least else { return };
        if !matches!(self.phase(), Phase::Connecting) {
            return;
        }
        let reason = PoolError::Connecting { label: self.label().to_owned(), for_at_least };
        let module = self.settings.module.display();
        tracing::error!(token = self.label(), %module, %reason, fault = %reason.fault(), "token is down");
        // With the lock: the supervisor tells that connecting has ended before it tells how.
        let homeless = self.enter(&Phase::Down(reason));
        drop(opening);
        self.settle(homeless);
    }

    /// Ends all that waits or runs: the pool is closed, and whoever hangs answers nobody.
    pub(crate) fn give_up_all(&self) {
        let closed = self.unavailable(&PoolError::Closed);
        for request in self.lanes.refuse() {
            request.answer(Err(closed.clone()));
        }
        let activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner).clone();
        activities.iter().filter_map(Weak::upgrade).for_each(|activity| activity.give_up(&closed));
    }

    /// For how long the calls have been overdue that are still running though nobody waits for them any more.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<Duration> {
        let activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        activities.iter().filter_map(Weak::upgrade).filter_map(|activity| activity.overdue(now)).collect()
    }

    /// What it has done, and does now.
    pub(crate) fn metrics(&self) -> TokenMetrics {
        let mut metrics = TokenMetrics {
            label: self.label().to_owned(),
            module: self.settings.module.clone(),
            up: self.stands.load(Ordering::Acquire) == UP,
            sessions: self.sessions.load(Ordering::Relaxed),
            wanted: self.wanted.load(Ordering::Relaxed),
            hanging: self.overdue(Instant::now()).len(),
            running: self.running.load(Ordering::Relaxed),
            ..TokenMetrics::default()
        };
        [metrics.interactive.waiting, metrics.bulk.waiting] = self.lanes.waiting();
        self.meter.read(&mut metrics);
        metrics
    }

    pub(crate) fn unavailable(&self, reason: &PoolError) -> KeyError {
        KeyError::Unavailable { token: self.label().to_owned(), reason: reason.to_string() }
    }

    /// The keys as they were last seen.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the token can do, as it was found at the last connection.
    pub(crate) fn abilities(&self) -> Arc<Abilities> {
        Arc::clone(&self.abilities.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds out what the token can do.
    pub(crate) fn find_abilities(&self, session: &OpenSession) {
        let found = Arc::new(Abilities::find_out(self, session, &self.index()));
        *self.abilities.write().unwrap_or_else(PoisonError::into_inner) = found;
    }

    pub(crate) fn has_key(&self, key: &KeyName) -> bool {
        self.index().has(key)
    }

    /// Looks at the token's keys at the start of a connection. Waits for nobody: whoever else looks may hang.
    pub(crate) fn read_index(&self, session: &Session) -> Result<Arc<Index>, CallError> {
        Ok(self.take_over(Index::read(session)?, None))
    }

    /// Looks at the token's keys again, unless somebody has since generation `seen`.
    pub(crate) fn refresh_index(&self, session: &Session, seen: u64) -> Result<Arc<Index>, CallError> {
        let current = self.index();
        if current.generation != seen {
            return Ok(current);
        }
        Ok(self.take_over(Index::read(session)?, Some(seen)))
    }

    /// Puts an index in the place of the one of generation `seen`. Where there is another by now, that is the truer
    /// one: a pass that took long may be of a connection that is over, and its handles of another login.
    ///
    /// A token that loses its connection, or its login, often shows no object at all instead of an error. An
    /// index without keys where there were some is therefore given back, but not kept.
    fn take_over(&self, mut index: Index, seen: Option<u64>) -> Arc<Index> {
        let mut current = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some_and(|seen| seen != current.generation) {
            return Arc::clone(&current);
        }
        index.generation = current.generation.wrapping_add(1);
        let index = Arc::new(index);
        if index.len() > 0 || current.len() == 0 {
            *current = Arc::clone(&index);
        }
        index
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
