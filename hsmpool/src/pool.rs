//! The pool: all configured tokens behind one handle.

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use smime::{Certificate, key::KeyError};

use crate::{
    PoolError, RawTokenKey, TokenKey, TokenSettings,
    connection::END_LIMIT,
    public_key::KeyName,
    request::{Answer, Operation},
    supervisor::supervise,
    token::{Phase, Token},
};

/// How long closing waits for a supervisor: its workers' limit, and some time to close sessions.
const CLOSE_LIMIT: Duration = END_LIMIT.saturating_add(Duration::from_secs(1));

/// Workers for all configured tokens. Cloning shares them; with the last clone (every key holds one) they
/// end, sessions are closed and modules finalised.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    tokens: Vec<Arc<Token>>,
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
    /// Requests that wait for a session.
    pub waiting: usize,
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
        let mut seen = HashSet::new();
        for token in settings {
            check(token)?;
            if !seen.insert((&token.module, &token.label)) {
                let (module, label) = (token.module.clone(), token.label.clone());
                return Err(PoolError::DuplicateToken { module, label });
            }
        }
        let tokens: Vec<Arc<Token>> =
            settings.iter().map(|settings| Arc::new(Token::new(settings))).collect();
        let (shutdown, closed) = crossbeam_channel::bounded::<()>(0);
        let (alive, ended) = crossbeam_channel::bounded::<()>(0);
        let mut supervisors = Vec::new();
        for token in &tokens {
            let (token, closed, alive) = (Arc::clone(token), closed.clone(), alive.clone());
            let label = token.label().to_owned();
            let spawned = thread::Builder::new().name("token-supervisor".into()).spawn(move || {
                supervise(&token, &closed);
                drop(alive);
            });
            let thread = spawned.map_err(|error| PoolError::Thread { label, reason: error.to_string() })?;
            supervisors.push(thread);
        }
        let running = Mutex::new(Some(Running { shutdown, ended, supervisors }));
        Ok(Self { inner: Arc::new(Inner { tokens, running }) })
    }

    /// Waits until every token has been tried once, and tells how things stand then: the first token's
    /// error where one is down, [`PoolError::NotReady`] where one has not answered yet. A token that is
    /// down is tried again in the background whatever is returned here.
    pub fn ready(&self, timeout: Duration) -> Result<(), PoolError> {
        let deadline = Instant::now() + timeout;
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
        Ok(())
    }

    /// Which of these certificates' keys no token has. That is known only when every token is up: the error
    /// is [`Pool::ready`]'s.
    pub fn missing_keys<'c>(
        &self,
        certificates: impl IntoIterator<Item = &'c Certificate>,
        timeout: Duration,
    ) -> Result<Vec<&'c Certificate>, PoolError> {
        self.ready(timeout)?;
        let is_missing = |certificate: &&Certificate| {
            let name = KeyName::of_certificate(certificate);
            self.inner.tokens.iter().all(|token| token.find_key(&name).is_none())
        };
        Ok(certificates.into_iter().filter(is_missing).collect())
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

    /// How every token is doing.
    pub fn status(&self) -> Vec<TokenStatus> {
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
                waiting: token.waiting(),
            }
        };
        self.inner.tokens.iter().map(of).collect()
    }

    /// Ends the workers, closes the sessions, finalises the modules. Requests that wait end with
    /// [`KeyError::Unavailable`], later ones too. A call that hangs in a module is waited for a few seconds
    /// only. Dropping the last clone does the same.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Has a token that holds the key carry out an operation: one that is known to have it first, the
    /// least busy of those first.
    pub(crate) fn ask(&self, key: &Arc<KeyName>, operation: &Operation) -> Result<Answer, KeyError> {
        let start = Instant::now();
        let mut tokens: Vec<&Arc<Token>> = self.inner.tokens.iter().collect();
        tokens.sort_by_key(|token| {
            let usable = !matches!(token.phase(), Phase::Down(_));
            let has_key = token.find_key(key).is_some();
            (!(usable && has_key), !usable, token.waiting())
        });
        let mut last = KeyError::NoSuchKey {
            token: "(none configured)".to_owned(),
            certificate: key.description.clone(),
        };
        for token in tokens {
            match token.ask(key, operation.clone(), start + token.settings.deadline) {
                // "I could not look" outweighs "I have looked, there is none".
                Err(error @ KeyError::Unavailable { .. }) => last = error,
                Err(error @ KeyError::NoSuchKey { .. }) => {
                    if !matches!(last, KeyError::Unavailable { .. }) {
                        last = error;
                    }
                }
                result => return result,
            }
        }
        Err(last)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&str> = self.inner.tokens.iter().map(|token| token.label()).collect();
        f.debug_struct("Pool").field("tokens", &labels).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { shutdown, ended, supervisors }) = running else { return };
        drop(shutdown);
        if ended.recv_timeout(CLOSE_LIMIT) == Err(RecvTimeoutError::Timeout) {
            let hanging = supervisors.iter().filter(|supervisor| !supervisor.is_finished()).count();
            tracing::warn!(hanging, "tokens do not answer: left behind without closing their sessions");
            return;
        }
        for supervisor in supervisors {
            let _ = supervisor.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn check(token: &TokenSettings) -> Result<(), PoolError> {
    let wrong =
        |name, value, minimum| Err(PoolError::Setting { label: token.label.clone(), name, value, minimum });
    if token.sessions == 0 {
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
