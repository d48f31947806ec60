//! A connection to a token: from loading the module to running workers, and back.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use cryptoki::{error::RvError, slot::Slot};

use crate::{
    PoolError,
    activity::Activity,
    call::{CallError, Code},
    login::{self, LoginError},
    module::Module,
    modules,
    recovery::{Recovery, recovery},
    session::{Access, OpenSession},
    settings::DEFAULT_SESSIONS,
    supervisor::{FIRST_PAUSE, LONGEST_PAUSE, Pauses},
    token::Token,
    worker::Worker,
};

/// How long workers may take to end before they are left to themselves: they hang in the module.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(2);

/// Sessions of a token, each with its worker, over one life of the module.
///
/// A worker that hangs in a call is left behind, once nobody waits for that call any more, and another takes
/// its place with a session of its own. It ends when its call comes back. At most as many as the connection
/// has sessions are left behind at a time. Where all hang, one more is tried; if that hangs too, it is the token
/// that hangs, and nothing more is thrown after it until a call comes back.
pub(crate) struct Connection {
    token: Arc<Token>,
    /// Those at work, and those that open their sessions.
    crew: Vec<Hand>,
    /// Those left behind in a call.
    left: Vec<Hand>,
    /// How many sessions the token gave at first.
    size: usize,
    /// That all were hanging and one more has been tried, after so many operations. Forgotten when any call
    /// comes back.
    last_try: Option<u64>,
    /// Not earlier is another session opened, and what comes after that.
    not_before: Instant,
    pauses: Pauses,
    /// Where workers report that the token is lost.
    pub(crate) losses: Receiver<PoolError>,
    report_loss: Sender<PoolError>,
    /// Set to end the workers.
    stop: Arc<AtomicBool>,
    openings: Arc<Openings>,
    slot: Slot,
    /// Dropped last: `C_Finalize` after all sessions are closed.
    module: Arc<Module>,
}

/// A worker's thread, seen from outside.
struct Hand {
    thread: JoinHandle<()>,
    activity: Arc<Activity>,
}

/// Sessions in the place of others that could not be opened, one after the other.
#[derive(Debug, Default)]
struct Openings {
    failed: AtomicUsize,
    reason: Mutex<Option<PoolError>>,
}

/// How a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// So many sessions are at work.
    Working(usize),
    /// All hang.
    Hanging(usize),
    /// A session is being opened, and it will show.
    Unclear,
}

impl Connection {
    /// Loads the module, finds the token, logs in, reads the keys, opens the sessions and starts the
    /// workers. Blocks as long as the module does.
    pub(crate) fn open(token: &Arc<Token>) -> Result<Self, PoolError> {
        let settings = &token.settings;
        let label = token.label();
        let module = Module::open(&settings.module)?;
        let (slot, info) = modules::find(&module, &settings.module, label)?;
        let wanted = settings.sessions.unwrap_or_else(|| default_sessions(info.max_sessions));
        token.wanted.store(wanted, Ordering::Relaxed);
        let first = OpenSession::open(&module, slot, Access::ReadOnly).map_err(|error| match error.rv() {
            Some(RvError::SessionCount) => PoolError::TooManySessions { label: label.to_owned() },
            _ => PoolError::call(label, error),
        })?;
        token.gate.log_in(&first).map_err(|error| error.into_pool_error(label))?;
        read_keys(token, &first)?;
        // Once: the trials take time, and others wait for a connection that is made again.
        if !token.abilities().is_known() {
            token.find_abilities(&first);
        }
        // The first session works too: while any session is open the login lasts, and there are tokens
        // that give only one.
        let mut sessions = vec![first];
        while sessions.len() < wanted {
            match OpenSession::open(&module, slot, Access::ReadOnly) {
                Ok(session) => sessions.push(session),
                Err(error) => {
                    fewer_sessions(token, sessions.len(), wanted, &error)?;
                    break;
                }
            }
        }
        let (report_loss, losses) = crossbeam_channel::unbounded();
        let mut connection = Self {
            token: Arc::clone(token),
            crew: Vec::new(),
            left: Vec::new(),
            size: sessions.len(),
            last_try: None,
            not_before: Instant::now(),
            pauses: Pauses::new(FIRST_PAUSE, LONGEST_PAUSE),
            losses,
            report_loss,
            stop: Arc::new(AtomicBool::new(false)),
            openings: Arc::default(),
            slot,
            module,
        };
        for session in sessions {
            match connection.start(Some(session)) {
                Ok(()) => {}
                // A smaller pool is better than none.
                Err(error) if !connection.crew.is_empty() => {
                    let sessions = connection.crew.len();
                    tracing::warn!(token = label, sessions, %error, "no thread for more workers");
                    connection.size = sessions;
                    break;
                }
                Err(error) => {
                    return Err(PoolError::Thread { label: label.to_owned(), reason: error.to_string() });
                }
            }
        }
        Ok(connection)
    }

    /// Starts a worker; without a session it opens one itself, as that may hang too.
    fn start(&mut self, session: Option<OpenSession>) -> io::Result<()> {
        let activity = Arc::new(Activity::opening());
        if session.is_some() {
            activity.opened();
        }
        let (token, module, slot) = (Arc::clone(&self.token), Arc::clone(&self.module), self.slot);
        let (stop, losses, alone) = (Arc::clone(&self.stop), self.report_loss.clone(), self.size == 1);
        let openings = Arc::clone(&self.openings);
        let ending = Ending(Arc::clone(&activity));
        let at_work = Arc::clone(&activity);
        let thread = thread::Builder::new().name("token-worker".to_owned()).spawn(move || {
            let _ending = ending;
            let session = session.or_else(|| {
                let opened = open_another(&token, &module, slot);
                // Of one that was left behind meanwhile nobody wants to know.
                if at_work.is_left() { None } else { openings.note(&token, opened, &losses, &stop) }
            });
            if session.is_some() {
                at_work.opened();
            }
            drop(module);
            if let Some(session) = session {
                Worker { token, session, activity: at_work, alone, stop, losses }.run();
            }
        })?;
        self.token.register(&activity);
        self.crew.push(Hand { thread, activity });
        Ok(())
    }

    /// Whether the module has been initialised anew, for another token's sake.
    pub(crate) fn is_over(&self) -> bool {
        self.module.is_over()
    }

    /// How many workers are at work or will soon be.
    pub(crate) fn sessions(&self) -> usize {
        self.crew.len()
    }

    /// Leaves behind who hangs, and fills the places. Called every few milliseconds.
    pub(crate) fn tend(&mut self, now: Instant) -> Condition {
        let limit = self.token.settings.deadline;
        let successes = self.token.meter.successes();
        let left = self.left.len();
        self.left.retain(|hand| !hand.activity.has_ended());
        if self.left.len() < left || self.last_try.is_some_and(|before| successes > before) {
            self.last_try = None;
        }
        self.crew.retain(|hand| !hand.activity.has_ended());
        // Workers end by themselves only when the connection is lost, which they say first. Whoever opened a
        // session now would log in once more.
        if self.stop.load(Ordering::Acquire) {
            return Condition::Unclear;
        }
        let nobody_works = self.left.is_empty() && !self.crew.iter().any(|hand| hand.activity.is_opened());
        if let Some(reason) = self.openings.in_vain().filter(|_| nobody_works) {
            self.stop.store(true, Ordering::Release);
            let _ = self.report_loss.send(reason);
            return Condition::Unclear;
        }
        let hanging =
            self.crew.iter().filter(|hand| hand.activity.hangs(now, limit, &self.token.returns)).count();
        let mut may_leave = self.size.saturating_sub(self.left.len()).min(hanging);
        let all_hang = hanging == self.crew.len();
        if self.last_try.is_some() {
            may_leave = 0;
        } else if all_hang {
            may_leave = may_leave.min(1);
        }
        if may_leave > 0 && now >= self.not_before {
            if all_hang {
                self.last_try = Some(successes);
            }
            self.leave(may_leave, now);
        }
        if self.crew.len() < self.size && now >= self.not_before {
            self.not_before = now + self.pauses.next();
            while self.crew.len() < self.size && self.start(None).is_ok() {}
        } else if now > self.not_before + LONGEST_PAUSE {
            self.pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        }
        self.condition(now)
    }

    /// Leaves so many of those behind that hang.
    fn leave(&mut self, mut count: usize, now: Instant) {
        let limit = self.token.settings.deadline;
        for hand in std::mem::take(&mut self.crew) {
            if count > 0 && hand.activity.hangs(now, limit, &self.token.returns) {
                count -= 1;
                hand.activity.leave();
                self.token.lanes.vacate(&hand.activity.slot);
                self.left.push(hand);
            } else {
                self.crew.push(hand);
            }
        }
        // What the pace was is nothing to go by now: whether the whole token hangs shows when all try.
        self.token.lanes.set_slots(usize::MAX);
        self.token.lanes.wake_workers();
        let (token, hanging) = (self.token.label(), self.left.len());
        tracing::warn!(token, hanging, "calls to the module do not come back: their sessions are replaced");
    }

    fn condition(&self, now: Instant) -> Condition {
        let limit = self.token.settings.deadline;
        let (hanging, others): (Vec<&Hand>, Vec<&Hand>) =
            self.crew.iter().partition(|hand| hand.activity.hangs(now, limit, &self.token.returns));
        match others.iter().filter(|hand| hand.activity.is_opened()).count() {
            0 if others.is_empty() && hanging.len() + self.left.len() > 0 => {
                Condition::Hanging(hanging.len() + self.left.len())
            }
            0 => Condition::Unclear,
            working => Condition::Working(working),
        }
    }

    /// Ends the workers, each after its present call, and closes the sessions. Workers that do not come
    /// back from the module are left behind; they keep it from being finalised under them.
    pub(crate) fn close(self) {
        self.stop.store(true, Ordering::Release);
        self.token.lanes.wake_workers();
        let until = Instant::now() + END_LIMIT;
        let limit = self.token.settings.deadline;
        let mut pause = Duration::from_micros(100);
        loop {
            let now = Instant::now();
            let busy = |hand: &&Hand| {
                !hand.activity.has_ended() && !hand.activity.hangs(now, limit, &self.token.returns)
            };
            if now >= until || !self.crew.iter().any(|hand| busy(&hand)) {
                break;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        let (ended, hanging): (Vec<Hand>, Vec<Hand>) =
            self.crew.into_iter().chain(self.left).partition(|hand| hand.activity.has_ended());
        for hand in ended {
            // A worker that panicked has been reported by its guard.
            let _ = hand.thread.join();
        }
        for hand in &hanging {
            self.token.lanes.vacate(&hand.activity.slot);
        }
        if !hanging.is_empty() {
            let (token, hanging) = (self.token.label(), hanging.len());
            tracing::warn!(token, hanging, "workers do not come back from the module: left behind");
        }
    }
}

/// Says that a worker's thread is done, however it ends.
struct Ending(Arc<Activity>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Openings {
    /// Notes how the opening of a session ended. An error that only a new connection mends is a loss like any
    /// worker's; otherwise it is one if that goes on and nobody else works.
    fn note(
        &self,
        token: &Token,
        opened: Result<OpenSession, NotOpened>,
        losses: &Sender<PoolError>,
        stop: &AtomicBool,
    ) -> Option<OpenSession> {
        let NotOpened { reason, code } = match opened {
            Ok(session) => {
                self.failed.store(0, Ordering::Relaxed);
                return Some(session);
            }
            Err(error) => error,
        };
        tracing::warn!(token = token.label(), %reason, "no session in the place of one that hangs");
        // The session that hangs may be the one too many; it is closed when its call comes back.
        let is_full = code == Some(Code::Ckr(RvError::SessionCount));
        if !is_full && code.is_some_and(|code| recovery(code) == Recovery::Reinitialise) {
            stop.store(true, Ordering::Release);
            let _ = losses.send(reason);
        } else {
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        None
    }

    /// Why, if the last few all failed.
    fn in_vain(&self) -> Option<PoolError> {
        const TOO_MANY: usize = 3;
        let are = self.failed.load(Ordering::Relaxed) >= TOO_MANY;
        are.then(|| self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone())?
    }
}

/// Why there is no session.
struct NotOpened {
    reason: PoolError,
    /// What the module returned, if it was the module.
    code: Option<Code>,
}

/// A session in the place of one that hangs. Mostly it finds the login that the others keep.
fn open_another(token: &Token, module: &Arc<Module>, slot: Slot) -> Result<OpenSession, NotOpened> {
    let label = token.label();
    let failed =
        |error: CallError| NotOpened { reason: PoolError::call(label, error), code: Some(error.code) };
    let session = OpenSession::open(module, slot, Access::ReadOnly).map_err(failed)?;
    if !login::is_open(&session).map_err(failed)? {
        // All others have come back meanwhile and are closed. Handles do not outlive a login.
        token.gate.log_in(&session).map_err(|error| match error {
            LoginError::Call(error) => failed(error),
            LoginError::Refused(reason) => NotOpened { reason, code: None },
        })?;
        read_keys(token, &session).map_err(|reason| NotOpened { reason, code: None })?;
    }
    Ok(session)
}

/// How many sessions to open where nobody says how many.
fn default_sessions(limit: Option<u64>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(DEFAULT_SESSIONS);
    limit.clamp(1, DEFAULT_SESSIONS)
}

fn read_keys(token: &Token, session: &OpenSession) -> Result<(), PoolError> {
    let label = token.label();
    let before = token.index();
    let index = session.get().and_then(|session| token.read_index(session));
    let index = index.map_err(|error| PoolError::call(label, error))?;
    if index.len() == 0 && before.len() > 0 {
        return Err(PoolError::KeysGone { label: label.to_owned(), before: before.len() });
    }
    tracing::debug!(token = label, keys = index.len(), "private keys found");
    Ok(())
}

/// Whether to go on with fewer sessions than asked for.
fn fewer_sessions(token: &Token, sessions: usize, wanted: usize, error: &CallError) -> Result<(), PoolError> {
    // CKR_SESSION_COUNT is the specified answer; smart cards and small tokens give others for "no more".
    match error.rv() {
        Some(
            RvError::SessionCount
            | RvError::HostMemory
            | RvError::DeviceMemory
            | RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::VendorDefined(_),
        ) => {
            tracing::warn!(token = token.label(), sessions, wanted, %error, "the token gives fewer sessions than asked");
            Ok(())
        }
        _ => Err(PoolError::call(token.label(), *error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Weak};

    use super::*;
    use crate::{PinSource, TokenSettings};

    #[test]
    fn the_token_s_own_limit_says_how_many_sessions_are_opened() {
        for (limit, sessions) in [(None, 16), (Some(1), 1), (Some(10), 10), (Some(1000), 16), (Some(0), 1)] {
            assert_eq!(default_sessions(limit), sessions, "{limit:?}");
        }
    }

    #[test]
    fn a_token_that_gives_fewer_sessions_is_used_with_those_but_a_lost_one_is_not() {
        let settings = TokenSettings {
            module: PathBuf::from("module.so"),
            label: "mail".into(),
            pin: PinSource::File("pin".into()),
            sessions: Some(8),
            queue: 1,
            deadline: Duration::from_secs(1),
        };
        let token = Token::new(&settings, 0, Weak::new());
        for (rv, goes_on) in [
            (RvError::SessionCount, true),
            (RvError::DeviceMemory, true),
            (RvError::DeviceRemoved, false),
            (RvError::TokenNotPresent, false),
            (RvError::CryptokiNotInitialized, false),
        ] {
            let result = fewer_sessions(&token, 3, 8, &CallError::new("C_OpenSession", rv));
            assert_eq!(result.is_ok(), goes_on, "{rv:?}");
        }
    }
}
