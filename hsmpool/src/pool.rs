//! The pool: all configured tokens behind one handle.

use std::{
    collections::HashSet,
    fmt, io, mem,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use smime::Certificate;

use crate::{
    PoolError, RawTokenKey, TokenKey, TokenMetrics, TokenSettings,
    connection::END_LIMIT,
    public_key::KeyName,
    remote::Remote,
    request::{Caller, Lane, Operation, Outcome, Pending, Request, end_of, in_reply},
    router::{Backend, Router},
    supervisor::supervise,
    token::{Phase, Token},
};

/// How long closing waits for a supervisor: its workers' limit, and some time to close sessions.
const CLOSE_LIMIT: Duration = END_LIMIT.saturating_add(Duration::from_secs(1));

/// How often requests are looked for whose time is over.
const WATCH_TICK: Duration = Duration::from_millis(50);

/// Workers for all configured tokens. Cloning shares them; with the last clone (every key holds one) they
/// end, sessions are closed and modules finalised.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
    lane: Lane,
    deadline: Duration,
}

struct Inner {
    router: Arc<Router>,
    tokens: Vec<Arc<Token>>,
    /// Servers of keys that are asked instead of tokens of this process.
    remotes: Vec<Arc<Remote>>,
    running: Mutex<Option<Running>>,
}

/// The supervisors' threads.
struct Running {
    /// Dropped to end them.
    shutdown: Sender<()>,
    /// Disconnected when the last has ended.
    ended: Receiver<()>,
    supervisors: Vec<JoinHandle<()>>,
}

/// How a token is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenStatus {
    /// Its label.
    pub label: String,
    /// Its module.
    pub module: PathBuf,
    /// Whether it can be used.
    pub state: TokenState,
    /// Sessions that work for it now.
    pub sessions: usize,
    /// Sessions that were asked for, or that the token allows.
    pub wanted: usize,
    /// Requests that wait for a session.
    pub waiting: usize,
    /// Calls that are still running though their callers' deadlines are over.
    pub hanging: usize,
}

/// Whether a token can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenState {
    /// A connection is being made; requests wait for it until their deadline.
    Connecting,
    /// It works.
    Up,
    /// It does not; requests fail at once.
    Down {
        /// What happened, where, what to do.
        reason: String,
    },
}

impl Pool {
    /// Starts a supervisor for every token and returns at once; the tokens are spoken to in their own
    /// threads. Errors are those of the settings and of the system. No token at all is allowed.
    pub fn start(settings: &[TokenSettings]) -> Result<Self, PoolError> {
        Self::start_with(settings, |_, _| {})
    }

    /// As [`Self::start`]; what is given sees each token, and its number, before anything is done with it.
    pub(crate) fn start_with(
        settings: &[TokenSettings],
        prepare: impl Fn(usize, &Arc<Token>),
    ) -> Result<Self, PoolError> {
        check_all(settings)?;
        let router = Arc::new_cyclic(|router| {
            let of = |(number, settings)| Arc::new(Token::new(settings, number, Weak::clone(router)));
            Router::new(settings.iter().enumerate().map(of).map(Backend::Token).collect())
        });
        for (number, backend) in router.backends.iter().enumerate() {
            if let Backend::Token(token) = backend {
                prepare(number, token);
            }
        }
        let deadline = settings.iter().map(|token| token.deadline).max().unwrap_or_default();
        Self::launch(router, deadline)
    }

    /// Starts what the router's backends need.
    pub(crate) fn launch(router: Arc<Router>, deadline: Duration) -> Result<Self, PoolError> {
        let (mut tokens, mut remotes) = (Vec::new(), Vec::new());
        for backend in &router.backends {
            match backend {
                Backend::Token(token) => tokens.push(Arc::clone(token)),
                Backend::Remote(remote) => remotes.push(Arc::clone(remote)),
            }
        }
        let (shutdown, closed) = crossbeam_channel::bounded::<()>(0);
        let (alive, ended) = crossbeam_channel::bounded::<()>(0);
        let no_thread = |label: &str, error: io::Error| PoolError::Thread {
            label: label.to_owned(),
            reason: error.to_string(),
        };
        let mut supervisors = Vec::new();
        for token in &tokens {
            let (token, closed, alive) = (Arc::clone(token), closed.clone(), alive.clone());
            let label = token.label().to_owned();
            let spawned = thread::Builder::new().name("token-supervisor".into()).spawn(move || {
                supervise(&token, &closed);
                drop(alive);
            });
            supervisors.push(spawned.map_err(|error| no_thread(&label, error))?);
        }
        if let Some(first) = router.backends.first() {
            let label = first.label().to_owned();
            let router = Arc::clone(&router);
            let watch = move || {
                while closed.recv_timeout(WATCH_TICK) == Err(RecvTimeoutError::Timeout) {
                    router.expire(Instant::now());
                }
                drop(alive);
            };
            let spawned = thread::Builder::new().name("token-watch".into()).spawn(watch);
            supervisors.push(spawned.map_err(|error| no_thread(&label, error))?);
        }
        let running = Mutex::new(Some(Running { shutdown, ended, supervisors }));
        let inner = Arc::new(Inner { router, tokens, remotes, running });
        // From here on dropping it ends what has begun.
        inner.remotes.iter().try_for_each(|remote| remote.start())?;
        Ok(Self { inner, lane: Lane::default(), deadline })
    }

    /// The same pool, asked in that lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> Self {
        Self { lane, ..self.clone() }
    }

    /// The same pool, with another limit to how long a request may take. At first it is the longest of the
    /// tokens' own; it is never more than a day.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Waits until every token has been tried once, and tells how things stand then: the first token's
    /// error where one is down, [`PoolError::NotReady`] where one has not answered yet. A token that is
    /// down is tried again in the background whatever is returned here.
    pub fn ready(&self, timeout: Duration) -> Result<(), PoolError> {
        self.inner.router.forked()?;
        let deadline = end_of(timeout);
        for token in &self.inner.tokens {
            match token.wait_until_settled(deadline) {
                Some(result) => result?,
                None => {
                    return Err(PoolError::NotReady {
                        label: token.label().to_owned(),
                        module: token.settings.module.clone(),
                        waited: timeout,
                    });
                }
            }
        }
        for remote in &self.inner.remotes {
            remote.ready(deadline, timeout)?;
        }
        Ok(())
    }

    /// Which of these certificates' keys no token has. That is known only when every token is up: the error
    /// is [`Pool::ready`]'s.
    pub fn missing_keys<'c>(
        &self,
        certificates: impl IntoIterator<Item = &'c Certificate>,
        timeout: Duration,
    ) -> Result<Vec<&'c Certificate>, PoolError> {
        let deadline = end_of(timeout);
        let certificates: Vec<&Certificate> = certificates.into_iter().collect();
        let names: Vec<KeyName> =
            certificates.iter().map(|certificate| KeyName::of_certificate(certificate)).collect();
        let lacks = self.lacks(&names, deadline)?;
        let missing = certificates.into_iter().zip(lacks).filter(|(_, lacks)| *lacks);
        Ok(missing.map(|(certificate, _)| certificate).collect())
    }

    /// For each of these keys, whether nobody has it.
    pub(crate) fn lacks(&self, names: &[KeyName], deadline: Instant) -> Result<Vec<bool>, PoolError> {
        self.ready(deadline.saturating_duration_since(Instant::now()))?;
        let lacks = |name| self.inner.tokens.iter().all(|token| !token.has_key(name));
        let mut missing: Vec<bool> = names.iter().map(lacks).collect();
        for remote in &self.inner.remotes {
            let there = remote.lacks(names, deadline)?;
            for (missing, lacks) in missing.iter_mut().zip(there) {
                *missing &= lacks;
            }
        }
        Ok(missing)
    }

    /// The private key of a certificate. Never fails and asks no token: whether the key is there shows when it
    /// is used, and may change.
    pub fn key(&self, certificate: &Certificate) -> TokenKey {
        TokenKey::new(self.clone(), certificate)
    }

    /// The private key of a `SubjectPublicKeyInfo` in DER, for those who have no certificate yet.
    pub fn key_by_public_key(&self, public_key_info: &[u8]) -> RawTokenKey {
        RawTokenKey::new(self.clone(), KeyName::of_public_key_info(public_key_info))
    }

    pub(crate) fn tokens(&self) -> &[Arc<Token>] {
        &self.inner.tokens
    }

    pub(crate) fn remotes(&self) -> &[Arc<Remote>] {
        &self.inner.remotes
    }

    /// How every token is doing; nothing in a child of the process that started the pool.
    pub fn status(&self) -> Vec<TokenStatus> {
        if self.inner.router.forked().is_err() {
            return Vec::new();
        }
        let of = |token: &Arc<Token>| {
            let (state, sessions) = match token.phase() {
                Phase::Connecting => (TokenState::Connecting, 0),
                Phase::Up { sessions } => (TokenState::Up, sessions),
                Phase::Down(error) => (TokenState::Down { reason: error.to_string() }, 0),
            };
            TokenStatus {
                label: token.label().to_owned(),
                module: token.settings.module.clone(),
                state,
                sessions,
                wanted: token.wanted.load(Ordering::Relaxed),
                waiting: token.waiting(),
                hanging: token.overdue(Instant::now()).len(),
            }
        };
        let mut status: Vec<TokenStatus> = self.inner.tokens.iter().map(of).collect();
        for remote in &self.inner.remotes {
            status.extend(remote.status());
        }
        status
    }

    /// What every token has done, and does now; nothing in a child of the process that started the pool.
    pub fn metrics(&self) -> Vec<TokenMetrics> {
        if self.inner.router.forked().is_err() {
            return Vec::new();
        }
        let mut metrics: Vec<TokenMetrics> = self.inner.tokens.iter().map(|token| token.metrics()).collect();
        metrics.extend(self.inner.remotes.iter().flat_map(|remote| remote.metrics()));
        metrics
    }

    /// For how long a call has been running at most that nobody waits for any more: its caller's deadline
    /// is over by that much. `None`: there is no such call.
    pub fn overdue(&self) -> Option<Duration> {
        let now = Instant::now();
        self.inner.tokens.iter().flat_map(|token| token.overdue(now)).max()
    }

    /// Ends the workers, closes the sessions, finalises the modules. Requests that wait end with
    /// [`smime::key::KeyError::Unavailable`], later ones too. A call that hangs in a module is waited for a few seconds
    /// only; in a function that is called with an answer nothing is waited for. Dropping the last clone does the same.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Takes nothing in from now on. What waits ends as after [`Self::close`]; what runs has its answer yet.
    pub(crate) fn begin_no_more(&self) {
        if self.inner.router.forked().is_ok() {
            self.inner.router.begin_no_more();
        }
    }

    /// Has a token that holds the key carry out an operation, and waits for that.
    pub(crate) fn ask(&self, key: &Arc<KeyName>, operation: Operation) -> Outcome {
        let router = &self.inner.router;
        router.usable()?;
        let (request, caller): (_, Caller) =
            Request::of_caller(Arc::clone(key), operation, self.lane, self.deadline);
        let (allowed, deadline) = (request.allowed(), request.deadline);
        router.submit(request);
        caller.wait(deadline).unwrap_or_else(|backend| Err(router.deadline(backend, allowed)))
    }

    /// Has a token carry out an operation and gives the outcome to a function, on a thread of the pool.
    pub(crate) fn submit(
        &self,
        key: &Arc<KeyName>,
        operation: Operation,
        reply: Box<dyn FnOnce(Outcome) + Send>,
    ) -> Pending {
        let request = Request::with_continuation(Arc::clone(key), operation, self.lane, self.deadline, reply);
        let pending = Pending::new(request.watch());
        match self.inner.router.usable() {
            Ok(()) => self.inner.router.submit(request),
            Err(error) => request.answer(Err(error)),
        }
        pending
    }

    /// The same where nothing has to be waited for, not even for room in the queue; else `None`, and the function is not
    /// called.
    pub(crate) fn submit_at_once(
        &self,
        key: &Arc<KeyName>,
        operation: Operation,
        reply: Box<dyn FnOnce(Outcome) + Send>,
    ) -> Option<Pending> {
        let router = &self.inner.router;
        router.usable().ok()?;
        let request = Request::with_continuation(Arc::clone(key), operation, self.lane, self.deadline, reply);
        let pending = Pending::new(request.watch());
        match router.submit_at_once(request) {
            Ok(()) => Some(pending),
            Err(request) => {
                // Cancelled, so that its end is no answer. One that was answered all the same is not for another to answer.
                let is_cancelled = pending.cancel();
                drop(request);
                (!is_cancelled).then_some(pending)
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&str> = self.inner.router.backends.iter().map(Backend::label).collect();
        f.debug_struct("Pool").field("tokens", &labels).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        if self.router.forked().is_err() {
            // The threads are the other process's.
            return;
        }
        self.router.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        let (tokens, remotes) = (self.tokens.clone(), self.remotes.clone());
        if in_reply() {
            // This thread may be one of those that are waited for. Without another they end all the same, unseen.
            let _ = thread::Builder::new()
                .name("token-close".into())
                .spawn(move || running.end(&tokens, &remotes));
        } else {
            running.end(&tokens, &remotes);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.router.forked().is_ok() {
            self.close();
        } else {
            // Dropping a channel's end takes a lock, which a thread may hold that is not here.
            mem::forget(self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Running {
    /// Ends the threads and waits for them, not for long.
    fn end(self, tokens: &[Arc<Token>], remotes: &[Arc<Remote>]) {
        let Self { shutdown, ended, supervisors } = self;
        thread::scope(|scope| {
            for remote in remotes {
                if thread::Builder::new().spawn_scoped(scope, || remote.close()).is_err() {
                    remote.close();
                }
            }
        });
        drop(shutdown);
        if ended.recv_timeout(CLOSE_LIMIT) == Err(RecvTimeoutError::Timeout) {
            let hanging = supervisors.iter().filter(|supervisor| !supervisor.is_finished()).count();
            tracing::warn!(hanging, "tokens do not answer: left behind without closing their sessions");
        } else {
            for supervisor in supervisors {
                let _ = supervisor.join();
            }
        }
        // The watch has ended too, so what waits for calls that hang has nobody else.
        for token in tokens {
            token.give_up_all();
        }
    }
}

/// Whether these settings make sense.
pub(crate) fn check_all(settings: &[TokenSettings]) -> Result<(), PoolError> {
    let mut seen = HashSet::new();
    for token in settings {
        check(token)?;
        // However it is written: the same module under two names is the same module.
        let module = token.module.canonicalize().unwrap_or_else(|_| token.module.clone());
        if !seen.insert((module, &token.label)) {
            let (module, label) = (token.module.clone(), token.label.clone());
            return Err(PoolError::DuplicateToken { module, label });
        }
    }
    Ok(())
}

fn check(token: &TokenSettings) -> Result<(), PoolError> {
    let wrong =
        |name, value, minimum| Err(PoolError::Setting { label: token.label.clone(), name, value, minimum });
    if token.sessions == Some(0) {
        return wrong("sessions", "0".into(), "1");
    }
    if token.queue == 0 {
        return wrong("queue", "0".into(), "1");
    }
    if token.deadline.is_zero() {
        return wrong("deadline", format!("{:?}", token.deadline), "some milliseconds");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::TryRecvError;

    use super::*;
    use crate::PinSource;

    #[test]
    fn a_module_by_another_name_is_no_other_token() {
        let token = |module: PathBuf, label: &str| TokenSettings {
            module,
            label: label.into(),
            pin: PinSource::File("pin".into()),
            sessions: None,
            queue: 1,
            deadline: Duration::from_secs(1),
        };
        // A file that is there, and a link to it.
        let (file, link) = (std::env::current_exe().unwrap(), PathBuf::from("/proc/self/exe"));
        let twice = check_all(&[token(file.clone(), "mail"), token(link.clone(), "mail")]);
        assert!(matches!(twice, Err(PoolError::DuplicateToken { .. })), "{twice:?}");
        check_all(&[token(file, "mail"), token(link, "other")]).unwrap();
    }

    #[test]
    fn in_a_forked_child_the_threads_channels_are_left_alone() {
        for (router, sees) in [
            (Router::of_another_process(), TryRecvError::Empty),
            (Router::new(Vec::new()), TryRecvError::Disconnected),
        ] {
            let (shutdown, closed) = crossbeam_channel::bounded(0);
            let (_, ended) = crossbeam_channel::bounded(0);
            let running = Mutex::new(Some(Running { shutdown, ended, supervisors: Vec::new() }));
            drop(Inner { router: Arc::new(router), tokens: Vec::new(), remotes: Vec::new(), running });
            assert_eq!(closed.try_recv(), Err(sees));
        }
    }
}
