//! A worker: one thread, one session for life, one request after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use cryptoki::error::RvError;
use smime::key::KeyError;

use crate::{
    PoolError,
    activity::Activity,
    agree::agree,
    answers::Crowd,
    call::CallError,
    decrypt::decrypt,
    index::Index,
    lanes::Next as Job,
    login::{self, LoginError},
    private_key::{OperationError, PrivateKey},
    recovery::{Recovery, recovery},
    request::{Answer, Operation, Request},
    router::Failed,
    searches::UnderWay,
    session::OpenSession,
    sign::sign,
    token::Token,
};

/// An idle session is asked for its state that often, so that firewalls keep its connection and its
/// death is found before a request finds it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A worker's thread, before it runs.
pub(crate) struct Worker {
    pub(crate) token: Arc<Token>,
    pub(crate) session: OpenSession,
    pub(crate) activity: Arc<Activity>,
    /// Whether this is the only session of the connection.
    pub(crate) alone: bool,
    /// Set when all workers of the connection are to end.
    pub(crate) stop: Arc<AtomicBool>,
    /// Where the worker says that the token is lost.
    pub(crate) losses: Sender<PoolError>,
}

/// What a worker does next.
enum Next {
    Continue,
    End,
}

/// Why a request failed.
enum Failure {
    /// It concerns the request.
    Request(KeyError),
    /// It concerns the token, and so the other workers too.
    TokenLost(PoolError),
}

/// What has been tried for a request; each helps once or not at all.
#[derive(Default)]
struct Tried {
    reopening: bool,
    login: bool,
    search: bool,
}

impl Worker {
    /// Works until it is to stop or the token is lost.
    pub(crate) fn run(mut self) {
        let mut guard = PanicGuard {
            token: Arc::clone(&self.token),
            activity: Arc::clone(&self.activity),
            stop: Arc::clone(&self.stop),
            losses: self.losses.clone(),
            armed: true,
        };
        loop {
            let hand_out = || self.activity.answers.release();
            let next = match self.token.lanes.pop(KEEP_ALIVE, &self.stop, &self.activity.slot, hand_out) {
                Job::Serve(request, behind, others) => self.serve(request, behind, others),
                Job::Idle => self.keep_alive(),
                Job::Stop => Next::End,
            };
            if matches!(next, Next::End) {
                self.activity.answers.release();
                break;
            }
        }
        guard.armed = false;
    }

    fn serve(&mut self, request: Box<Request>, behind: usize, others: usize) -> Next {
        let begun = Instant::now();
        let meter = &self.token.meter;
        // Its caller has gone; the token's time belongs to those who still wait.
        if request.is_over(begun) {
            meter.expired.fetch_add(1, Ordering::Relaxed);
            let error = self.deadline(&request);
            request.answer(Err(error));
            return Next::Continue;
        }
        // It would have gone when the call comes back.
        if !self.token.pace.is_in_time(others, begun, request.deadline) {
            meter.expired.fetch_add(1, Ordering::Relaxed);
            let error = self.deadline(&request);
            self.token.hand_back(request, Failed::Refused(error));
            return Next::Continue;
        }
        self.token.running.fetch_add(1, Ordering::Relaxed);
        self.activity.begin_with(request.watch());
        let result = self.carry_out(&request);
        let told_late = self.activity.end().unwrap_or_default();
        let beside = self.token.running.fetch_sub(1, Ordering::Relaxed).saturating_sub(1).max(others);
        let meter = &self.token.meter;
        let ended = Instant::now();
        self.token.returns.note(ended);
        self.keep_pace(begun, ended, beside);
        let is_late = told_late || ended >= request.deadline;
        if is_late && !told_late {
            meter.expired.fetch_add(1, Ordering::Relaxed);
        }
        let service = ended - begun;
        meter.served(request.lane, begun.saturating_duration_since(request.submitted), service);
        let left = self.activity.is_left();
        match result {
            Ok(answer) => {
                self.token.failures.store(0, Ordering::Relaxed);
                self.token.searches.has_worked(request.key.public_key.as_ref());
                if !is_late {
                    meter.succeeded(&request.operation);
                }
                let crowd = Crowd { waiting: behind / self.token.sessions(), service };
                self.activity.answers.give(request, Ok(answer), crowd, ended);
            }
            Err(Failure::Request(error)) => self.token.hand_back(request, Failed::Refused(error)),
            Err(Failure::TokenLost(reason)) => {
                // First of all, so that no other worker of this connection takes it again. The connection
                // of a worker that was left behind is not its own any more.
                if !left {
                    self.lose(&reason);
                }
                let error = self.token.unavailable(&reason);
                self.token.hand_back(request, Failed::Lost(error));
                return Next::End;
            }
        }
        if left { Next::End } else { Next::Continue }
    }

    /// Finds out how many calls the token is to have at a time, now that one has come back.
    fn keep_pace(&self, begun: Instant, ended: Instant, beside: usize) {
        let (pace, sessions) = (&self.token.pace, self.token.sessions());
        pace.note(begun, ended, beside > 0 || sessions == 1);
        let at_a_time = pace.at_a_time();
        self.token.lanes.set_slots(if at_a_time >= sessions { usize::MAX } else { at_a_time });
        if pace.is_to_be_told(at_a_time, sessions) {
            tracing::warn!(
                token = self.token.label(),
                sessions,
                at_a_time,
                "the token takes long where several sessions ask at once, as one does that works on one thing at a \
                 time: it is asked for fewer; lower `sessions` to what `hsmime token bench` says"
            );
        }
    }

    /// Asks the token, mends what can be mended here, and asks again.
    fn carry_out(&mut self, request: &Request) -> Result<Answer, Failure> {
        let mut tried = Tried::default();
        loop {
            let index = self.token.index();
            let error = match self.attempt(request, &index) {
                Ok(answer) => return Ok(answer),
                Err(OperationError::Unsupported(operation)) => {
                    let Some(error) = self.doubt() else {
                        let certificate = request.key.description.clone();
                        return Err(Failure::Request(KeyError::Unsupported { certificate, operation }));
                    };
                    error
                }
                Err(OperationError::Refused(reason)) => {
                    return Err(Failure::Request(self.token.unavailable(&reason)));
                }
                Err(OperationError::Call(error)) => error,
            };
            if request.is_over(Instant::now()) {
                return Err(Failure::Request(self.deadline(request)));
            }
            tracing::debug!(token = self.token.label(), %error, "request met an error");
            self.token.meter.failed(&error);
            self.mend(error, &mut tried, request, &index)?;
            self.token.meter.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn attempt(&mut self, request: &Request, index: &Index) -> Result<Answer, OperationError> {
        let unknown = || CallError::new("C_FindObjects", RvError::KeyHandleInvalid);
        let object = index.find(&request.key, request.operation.purpose());
        let (Some(object), Some(public_key)) = (object, &request.key.public_key) else {
            return Err(unknown().into());
        };
        let key = PrivateKey { gate: Some(&self.token.gate), session: &self.session, object };
        let answer = match &request.operation {
            Operation::Sign { input, algorithm } => {
                sign(key, public_key, input, *algorithm).map(Answer::Signature)
            }
            Operation::Decrypt { encrypted_key, algorithm } => {
                decrypt(key, public_key, encrypted_key, algorithm, &self.token).map(Answer::Unwrapped)
            }
            Operation::Agree { originator } => agree(key, public_key, originator).map(Answer::Agreed),
        };
        // Between the calls of one operation the module may have been initialised anew.
        self.session.check_life()?;
        answer
    }

    /// Does what the table says, once each. `Ok`: ask again.
    fn mend(
        &mut self,
        error: CallError,
        tried: &mut Tried,
        request: &Request,
        index: &Index,
    ) -> Result<(), Failure> {
        match recovery(error.code) {
            Recovery::ReopenSession if !tried.reopening => {
                tried.reopening = true;
                self.reopen(index)
            }
            Recovery::LoginAgain if !tried.login => {
                tried.login = true;
                self.log_in_again(index)
            }
            Recovery::FindKeysAgain if !tried.search => {
                tried.search = true;
                self.find_key_again(error, request, index)
            }
            // To connect again, and to log in for that, mends neither the request nor the PIN.
            Recovery::Keep | Recovery::GiveUp => Err(Failure::Request(self.token_error(error))),
            // A fresh session, or a fresh handle, fails the same way. It may be this key or this request, so
            // the token is given up only when nothing else works either.
            // Memory that is lacking is not had by connecting again: what this session's objects took is free already.
            Recovery::ReopenSession
                if error.rv() == Some(RvError::DeviceMemory) || !self.token.count_failure() =>
            {
                Err(Failure::Request(self.token_error(error)))
            }
            // One key counts once, however many ask for it.
            Recovery::FindKeysAgain if !self.is_first_in_vain(request) || !self.token.count_failure() => {
                Err(Failure::Request(self.token_error(error)))
            }
            _ => Err(self.lost(error)),
        }
    }

    /// Why a refusal of the token is not to be believed. After a restart behind our back the session's number may
    /// stand for one that nobody has logged in to, and the key's for another object, which can do less: NSS's
    /// softokn then says `CKR_KEY_TYPE_INCONSISTENT`.
    fn doubt(&self) -> Option<CallError> {
        match login::is_open(&self.session) {
            Ok(true) => None,
            Ok(false) => Some(CallError::new("C_GetSessionInfo", RvError::UserNotLoggedIn)),
            Err(error) => Some(error),
        }
    }

    fn reopen(&mut self, seen: &Index) -> Result<(), Failure> {
        self.session.reopen().map_err(|error| self.lost(error))?;
        match login::is_open(&self.session) {
            Ok(true) => Ok(()),
            Ok(false) => self.log_in_again(seen),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// A login lasts while any session is open (PKCS #11 2.40 5.6 C_CloseSession). So where there are
    /// several, its end tells that all of them are dead, and then neither a session's handle nor a key's
    /// may be used any more: after a restart the same numbers may stand for others. Only the supervisor can
    /// mend that, when no worker is in a call. A lone worker can do it by itself.
    fn log_in_again(&mut self, seen: &Index) -> Result<(), Failure> {
        let logged_out = CallError::new("C_GetSessionInfo", RvError::UserNotLoggedIn);
        if !self.alone {
            return Err(self.lost(logged_out));
        }
        match self.token.gate.log_in(&self.session) {
            Ok(()) => {}
            Err(LoginError::Refused(reason)) => return Err(Failure::TokenLost(reason)),
            Err(LoginError::Call(error)) => return Err(self.lost(error)),
        }
        self.look_again(seen).map(|_| ())
    }

    /// The key is unknown, or its handle is not valid any more.
    fn find_key_again(&self, error: CallError, request: &Request, seen: &Index) -> Result<(), Failure> {
        let searches = &self.token.searches;
        let was_there = seen.has(&request.key);
        let no_such_key = || {
            let certificate = request.key.description.clone();
            Failure::Request(KeyError::NoSuchKey { token: self.token.label().to_owned(), certificate })
        };
        let search = if was_there {
            if request.key.public_key.as_ref().is_some_and(|key| searches.are_in_vain(key)) {
                return Err(Failure::Request(self.token_error(error)));
            }
            let search = searches.for_known_key(request.deadline);
            search.ok_or_else(|| Failure::Request(self.deadline(request)))?
        } else {
            match searches.for_unknown_key() {
                Ok(Some(search)) => search,
                // What another has found since is in the index before its search ends.
                Ok(None) | Err(UnderWay) if self.token.index().has(&request.key) => return Ok(()),
                Ok(None) => return Err(no_such_key()),
                // Who asks again a moment later knows whether it is there.
                Err(UnderWay) => return Err(Failure::Request(self.is_read())),
            }
        };
        let fresh = self.look_again(seen)?;
        search.succeeded();
        if fresh.has(&request.key) {
            return Ok(());
        }
        // It was there a moment ago: not a wrong certificate, but a token that lost an object.
        if was_there { Err(self.lost(no_objects())) } else { Err(no_such_key()) }
    }

    fn is_first_in_vain(&self, request: &Request) -> bool {
        request.key.public_key.as_ref().is_some_and(|key| self.token.searches.was_in_vain(key))
    }

    /// Reads the keys of the token. That there are none any more is no answer: sessions without login,
    /// and tokens without connection, often show nothing instead of reporting an error.
    fn look_again(&self, seen: &Index) -> Result<Arc<Index>, Failure> {
        let fresh = self.session.get().and_then(|session| self.token.refresh_index(session, seen.generation));
        match fresh.map_err(|error| self.lost(error))? {
            fresh if fresh.len() == 0 && seen.len() > 0 => Err(self.lost(no_objects())),
            fresh => Ok(fresh),
        }
    }

    fn keep_alive(&mut self) -> Next {
        self.activity.begin();
        let state = self.session.get().and_then(|session| Ok(session.get_session_info()?));
        let mended = match state {
            Ok(_) => Ok(()),
            Err(error) => match recovery(error.code) {
                Recovery::ReopenSession => self.reopen(&self.token.index()),
                Recovery::Keep | Recovery::GiveUp => Ok(()),
                _ => Err(self.lost(error)),
            },
        };
        self.activity.end();
        match mended {
            _ if self.activity.is_left() => Next::End,
            Err(Failure::TokenLost(reason)) => {
                self.lose(&reason);
                Next::End
            }
            Ok(()) | Err(Failure::Request(_)) => Next::Continue,
        }
    }

    /// Ends the connection.
    fn lose(&self, reason: &PoolError) {
        self.stop.store(true, Ordering::Release);
        let _ = self.losses.send(reason.clone());
    }

    fn deadline(&self, request: &Request) -> KeyError {
        KeyError::Deadline { token: self.token.label().to_owned(), deadline: request.allowed() }
    }

    fn is_read(&self) -> KeyError {
        let reason = "its keys are being read, and this one was not known before".to_owned();
        KeyError::Unavailable { token: self.token.label().to_owned(), reason }
    }

    fn lost(&self, error: CallError) -> Failure {
        Failure::TokenLost(PoolError::call(self.token.label(), error))
    }

    fn token_error(&self, error: CallError) -> KeyError {
        KeyError::Token {
            function: error.function.into(),
            code: error.code.to_string(),
            token: self.token.label().to_owned(),
        }
    }
}

fn no_objects() -> CallError {
    CallError::new("C_FindObjects", RvError::ObjectHandleInvalid)
}

/// Tells the supervisor when a worker ends by a panic.
struct PanicGuard {
    token: Arc<Token>,
    activity: Arc<Activity>,
    stop: Arc<AtomicBool>,
    losses: Sender<PoolError>,
    armed: bool,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        self.token.lanes.vacate(&self.activity.slot);
        if self.armed {
            if self.activity.end().is_some() {
                self.token.running.fetch_sub(1, Ordering::Relaxed);
            }
            self.stop.store(true, Ordering::Release);
            let reason = PoolError::WorkerEnded { label: self.token.label().to_owned() };
            let _ = self.losses.send(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Weak};

    use super::*;
    use crate::{
        PinSource, TokenSettings,
        request::{Lane, tests::counted},
    };

    #[test]
    fn a_worker_that_panics_says_so_and_is_not_counted_as_running() {
        let settings = TokenSettings {
            module: PathBuf::from("module.so"),
            label: "mail".into(),
            pin: PinSource::File("pin".into()),
            sessions: Some(2),
            queue: 1,
            deadline: Duration::from_secs(1),
        };
        let token = Arc::new(Token::new(&settings, 0, Weak::new()));
        let (report_loss, losses) = crossbeam_channel::unbounded();
        // In a request, and between two.
        for busy in [true, false] {
            let activity = Arc::new(Activity::opening());
            let guard = PanicGuard {
                token: Arc::clone(&token),
                activity: Arc::clone(&activity),
                stop: Arc::default(),
                losses: report_loss.clone(),
                armed: true,
            };
            if busy {
                activity.begin_with(counted(Lane::Bulk, KEEP_ALIVE).0.watch());
                token.running.fetch_add(1, Ordering::Relaxed);
            }
            drop(guard);
            assert_eq!(token.running.load(Ordering::Relaxed), 0);
            assert!(matches!(losses.try_recv(), Ok(PoolError::WorkerEnded { .. })));
        }
    }
}
