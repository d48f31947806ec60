//! What a caller asks of a token, and how the answer comes back: once, whatever happens.

use std::{
    cell::Cell,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use smime::{
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{KeyError, SignatureInput, SignatureValue, Unwrapped},
};

use crate::{index::Purpose, public_key::KeyName};

/// Who asks: somebody who waits, or an archive. Nothing of the bulk lane begins while anything of the
/// interactive lane waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lane {
    /// In-line mail.
    #[default]
    Interactive,
    /// Bulk work.
    Bulk,
}

/// The longest that anybody may wait: whoever says "without end" means it no longer than this.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// The end of a wait that begins now.
pub(crate) fn end_of(wait: Duration) -> Instant {
    Instant::now() + wait.min(LONGEST_WAIT)
}

/// One operation with one private key.
#[derive(Clone)]
pub(crate) enum Operation {
    Sign { input: SignatureInput<'static>, algorithm: SignatureAlgorithm },
    Decrypt { encrypted_key: Vec<u8>, algorithm: KeyEncryptionAlgorithm },
    Agree { originator: OriginatorPublicKey },
}

impl Operation {
    /// What it wants the private key for.
    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Self::Sign { .. } => Purpose::Sign,
            Self::Decrypt { .. } => Purpose::Decrypt,
            Self::Agree { .. } => Purpose::Derive,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Signature(SignatureValue),
    Unwrapped(Unwrapped),
    Agreed(Agreed),
}

impl Answer {
    /// The error for an answer of another kind than was asked for.
    pub(crate) fn unexpected(&self) -> KeyError {
        let kind = match self {
            Self::Signature(_) => "a signature",
            Self::Unwrapped(_) => "an unwrapped key",
            Self::Agreed(_) => "a shared secret",
        };
        let reason = format!("{kind} came back that was not asked for; this is a defect of the program");
        KeyError::Unavailable { token: "(unknown)".to_owned(), reason }
    }
}

/// What a request ends with.
pub(crate) type Outcome = Result<Answer, KeyError>;

/// An operation on its way to a token.
pub(crate) struct Request {
    pub(crate) key: Arc<KeyName>,
    pub(crate) operation: Operation,
    pub(crate) lane: Lane,
    pub(crate) submitted: Instant,
    /// Until then the caller waits.
    pub(crate) deadline: Instant,
    pub(crate) history: History,
    reply: Reply,
}

/// What a request has met so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The backends that gave an answer, an error; they are not asked again.
    pub(crate) refused: Vec<usize>,
    /// How many connections were lost under it.
    pub(crate) losses: u32,
    /// The error that says most, so far, and the backend it is from.
    pub(crate) error: Option<(usize, KeyError)>,
}

/// The right and the duty to answer. Dropped without an answer, it answers that the token is not available.
struct Reply(Arc<Ticket>);

/// Where the answer is waited for: shared by the request, its caller and those who watch the clock.
struct Ticket {
    waiter: Mutex<Waiter>,
    /// The backend that the request is at, for messages.
    backend: AtomicUsize,
}

enum Waiter {
    /// A thread that waits for the answer.
    Caller(Thread),
    /// A function to call with the answer.
    Continuation(Box<dyn FnOnce(Outcome) + Send>),
    /// The answer, before its caller has seen it.
    Answered(Outcome),
    /// Nobody waits any more.
    Nobody,
}

/// The caller's end of a request.
pub(crate) struct Caller(Arc<Ticket>);

/// A look at a request from outside: whether it is still wanted, and an end to it.
#[derive(Clone)]
pub(crate) struct Watch {
    ticket: Arc<Ticket>,
    submitted: Instant,
    pub(crate) deadline: Instant,
}

/// A request that was submitted; its reply comes by itself.
#[derive(Clone, Debug)]
pub struct Pending(Option<Watch>);

impl Request {
    /// A request whose caller waits for it on this thread.
    pub(crate) fn of_caller(
        key: Arc<KeyName>,
        operation: Operation,
        lane: Lane,
        allowed: Duration,
    ) -> (Box<Self>, Caller) {
        let request = Self::new(key, operation, lane, allowed, Waiter::Caller(thread::current()));
        let caller = Caller(Arc::clone(&request.reply.0));
        (request, caller)
    }

    /// A request whose answer is given to a function, on the thread that has it.
    pub(crate) fn with_continuation(
        key: Arc<KeyName>,
        operation: Operation,
        lane: Lane,
        allowed: Duration,
        reply: Box<dyn FnOnce(Outcome) + Send>,
    ) -> Box<Self> {
        Self::new(key, operation, lane, allowed, Waiter::Continuation(reply))
    }

    fn new(
        key: Arc<KeyName>,
        operation: Operation,
        lane: Lane,
        allowed: Duration,
        waiter: Waiter,
    ) -> Box<Self> {
        let submitted = Instant::now();
        let deadline = submitted + allowed.min(LONGEST_WAIT);
        let reply = Reply(Arc::new(Ticket { waiter: Mutex::new(waiter), backend: AtomicUsize::new(0) }));
        Box::new(Self { key, operation, lane, submitted, deadline, history: History::default(), reply })
    }

    /// How long the caller was willing to wait.
    pub(crate) fn allowed(&self) -> Duration {
        self.deadline.saturating_duration_since(self.submitted)
    }

    /// Whether its time is over, or its caller has gone: nothing needs to be done for it any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || !self.reply.0.is_wanted()
    }

    /// For those who watch the clock while a call runs.
    pub(crate) fn watch(&self) -> Watch {
        Watch { ticket: Arc::clone(&self.reply.0), submitted: self.submitted, deadline: self.deadline }
    }

    /// Notes which backend has the request.
    pub(crate) fn is_at(&self, backend: usize) {
        self.reply.0.backend.store(backend, Ordering::Relaxed);
    }

    /// The backend that had it last.
    pub(crate) fn backend(&self) -> usize {
        self.reply.0.backend.load(Ordering::Relaxed)
    }

    /// Ends the request. Whoever has been answered already, or has gone, is told nothing.
    pub(crate) fn answer(self, outcome: Outcome) {
        self.reply.0.answer(outcome);
    }
}

impl History {
    /// Keeps the error that tells the caller most.
    pub(crate) fn remember(&mut self, backend: usize, error: KeyError) {
        let weight = |error: &KeyError| match error {
            KeyError::NoSuchKey { .. } => 0,
            KeyError::Unsupported { .. } => 1,
            KeyError::Unavailable { .. } => 2,
            _ => 3,
        };
        // What a backend says later is truer than what it said before.
        let is_better =
            |(from, known): &(usize, KeyError)| *from == backend || weight(known) <= weight(&error);
        if self.error.as_ref().is_none_or(is_better) {
            self.error = Some((backend, error));
        }
    }

    /// Whether the error that is kept holds whatever backends say that were not asked.
    pub(crate) fn says_enough(&self) -> bool {
        self.error.as_ref().is_some_and(|(_, error)| {
            !matches!(error, KeyError::NoSuchKey { .. } | KeyError::Unsupported { .. })
        })
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.answer_with(|| {
            let reason = "the request was given up; this is a defect of the program".to_owned();
            Err(KeyError::Unavailable { token: "(unknown)".to_owned(), reason })
        });
    }
}

impl Ticket {
    fn is_wanted(&self) -> bool {
        matches!(*self.lock(), Waiter::Caller(_) | Waiter::Continuation(_))
    }

    fn answer(&self, outcome: Outcome) -> bool {
        self.answer_with(|| outcome)
    }

    /// Answers, if somebody still waits. The continuation runs without the lock.
    fn answer_with(&self, outcome: impl FnOnce() -> Outcome) -> bool {
        let mut waiter = self.lock();
        match std::mem::replace(&mut *waiter, Waiter::Nobody) {
            Waiter::Caller(thread) => {
                *waiter = Waiter::Answered(outcome());
                drop(waiter);
                thread.unpark();
                true
            }
            Waiter::Continuation(reply) => {
                drop(waiter);
                call(reply, outcome());
                true
            }
            other => {
                *waiter = other;
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiter> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls a function of the caller's. It may be the watch that does, or a worker amid a batch of answers: a panic
/// there is the caller's defect, and nobody else's loss.
fn call(reply: Box<dyn FnOnce(Outcome) + Send>, outcome: Outcome) {
    let before = IN_REPLY.replace(true);
    if panic::catch_unwind(AssertUnwindSafe(|| reply(outcome))).is_err() {
        tracing::error!(
            "a function that was given to be called with an answer panicked; this is a defect of the program"
        );
    }
    IN_REPLY.set(before);
}

thread_local! {
    static IN_REPLY: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a function of a caller's. It may be one of the pool's, which must not wait for itself.
pub(crate) fn in_reply() -> bool {
    IN_REPLY.get()
}

impl Caller {
    /// Waits for the answer, at most until the deadline. `Err`: none came, from the backend of that number,
    /// and none will: the request is given up.
    pub(crate) fn wait(self, deadline: Instant) -> Result<Outcome, usize> {
        loop {
            let now = Instant::now();
            let mut waiter = self.0.lock();
            match &*waiter {
                Waiter::Caller(_) if now < deadline => {}
                _ => {
                    return match std::mem::replace(&mut *waiter, Waiter::Nobody) {
                        Waiter::Answered(outcome) => Ok(outcome),
                        _ => Err(self.0.backend.load(Ordering::Relaxed)),
                    };
                }
            }
            drop(waiter);
            thread::park_timeout(deadline.saturating_duration_since(now));
        }
    }
}

impl Watch {
    /// How long the caller was willing to wait.
    pub(crate) fn allowed(&self) -> Duration {
        self.deadline.saturating_duration_since(self.submitted)
    }

    /// Ends a request whose time is over. Blocking callers look at the clock themselves; this is for the others.
    pub(crate) fn expire(&self, error: impl FnOnce(usize) -> KeyError) -> bool {
        let backend = self.ticket.backend.load(Ordering::Relaxed);
        self.ticket.answer_with(|| Err(error(backend)))
    }
}

impl Pending {
    pub(crate) fn new(watch: Watch) -> Self {
        Self(Some(watch))
    }

    /// Of a request that has been answered already.
    pub(crate) fn over() -> Self {
        Self(None)
    }

    /// Gives the request up: it is not carried out any more, if it has not begun. `true`: its reply will not
    /// be called; `false`: it has been.
    #[expect(clippy::must_use_candidate, reason = "most who give up do not care")]
    pub fn cancel(&self) -> bool {
        let Some(watch) = &self.0 else { return false };
        let mut waiter = watch.ticket.lock();
        let given_up = std::mem::replace(&mut *waiter, Waiter::Nobody);
        drop(waiter);
        matches!(given_up, Waiter::Continuation(_) | Waiter::Caller(_))
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sign { algorithm, .. } => write!(f, "Sign({algorithm:?})"),
            Self::Decrypt { algorithm, .. } => write!(f, "Decrypt({algorithm:?})"),
            Self::Agree { originator } => write!(f, "Agree({:?})", originator.curve()),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("key", &self.key.description)
            .field("operation", &self.operation)
            .field("lane", &self.lane)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::AtomicU32;

    use smime::{algorithm::DigestAlgorithm::Sha256, key::Digest};

    use super::*;

    /// A request that counts its answers.
    pub(crate) fn counted(lane: Lane, allowed: Duration) -> (Box<Request>, Arc<AtomicU32>) {
        let answers = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&answers);
        let reply = Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (Request::with_continuation(name(), operation(), lane, allowed, reply), answers)
    }

    fn name() -> Arc<KeyName> {
        Arc::new(KeyName::of_public_key_info(b"no key"))
    }

    fn operation() -> Operation {
        let algorithm = SignatureAlgorithm::Ecdsa(Sha256);
        Operation::Sign { input: SignatureInput::Digest(Digest::of(Sha256, b"")), algorithm }
    }

    fn error() -> KeyError {
        KeyError::NoRandomness
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_request_is_answered_once_by_whoever_comes_first() {
        let (request, answers) = counted(Lane::Interactive, LONG);
        let watch = request.watch();
        request.answer(Err(error()));
        assert!(!watch.expire(|_| error()));
        assert_eq!(answers.load(Ordering::Relaxed), 1);

        let (request, answers) = counted(Lane::Interactive, LONG);
        assert!(request.watch().expire(|_| error()));
        assert!(request.is_over(Instant::now()));
        request.answer(Err(error()));
        assert_eq!(answers.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_request_that_is_dropped_is_answered_too() {
        let (request, answers) = counted(Lane::Bulk, LONG);
        drop(request);
        assert_eq!(answers.load(Ordering::Relaxed), 1);

        let (request, caller) = Request::of_caller(name(), operation(), Lane::Bulk, LONG);
        let deadline = request.deadline;
        drop(request);
        let outcome = caller.wait(deadline).unwrap();
        assert!(matches!(outcome, Err(KeyError::Unavailable { .. })), "{outcome:?}");
    }

    #[test]
    fn a_wait_without_end_has_one() {
        let (request, _) = counted(Lane::Bulk, Duration::MAX);
        assert_eq!(request.allowed(), LONGEST_WAIT);
        let pool = crate::Pool::start(&[]).unwrap();
        pool.ready(Duration::MAX).unwrap();
        assert_eq!(pool.missing_keys([], Duration::MAX).unwrap(), Vec::<&smime::Certificate>::new());
        assert!(pool.shortcomings([], Duration::MAX).unwrap().is_empty());
    }

    #[test]
    fn a_reply_that_panics_harms_nobody_but_its_caller() {
        let panics = || {
            let reply = Box::new(|_| panic!("a defect of the caller's"));
            Request::with_continuation(name(), operation(), Lane::Bulk, LONG, reply)
        };
        assert!(panics().watch().expire(|_| error()));
        panics().answer(Err(error()));
        drop(panics());
    }

    #[test]
    fn a_request_that_was_cancelled_is_over_and_its_reply_is_not_called() {
        let (request, answers) = counted(Lane::Bulk, LONG);
        let pending = Pending::new(request.watch());
        assert!(!request.is_over(Instant::now()));
        assert!(pending.cancel());
        assert!(request.is_over(Instant::now()));
        request.answer(Err(error()));
        assert_eq!(answers.load(Ordering::Relaxed), 0);
        assert!(!pending.cancel());
    }

    #[test]
    fn a_caller_waits_until_the_deadline_and_no_longer() {
        let allowed = Duration::from_millis(50);
        let (request, caller) = Request::of_caller(name(), operation(), Lane::Interactive, allowed);
        request.is_at(3);
        assert_eq!(caller.wait(request.deadline).unwrap_err(), 3);
        assert!(request.submitted.elapsed() >= allowed);
        assert!(request.is_over(request.submitted), "nobody waits for it any more");
    }
}
