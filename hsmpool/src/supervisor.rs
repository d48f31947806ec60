//! The supervisor of a token: one thread that connects, watches, and connects again after trouble.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, select_biased};
use cryptoki::error::RvError;

use crate::{
    PoolError,
    call::CallError,
    connection::{Condition, Connection},
    token::{Phase, Token},
};

/// How often the workers are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How often the PIN file is looked at while its content is known to be wrong.
const PIN_INTERVAL: Duration = Duration::from_secs(1);
/// The first pause before trying again what failed.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The first pause before connecting again after a connection that served nobody; requests wait for it.
const FIRST_REST: Duration = Duration::from_millis(50);
/// The longest of these.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Runs until `shutdown` is disconnected.
pub(crate) fn supervise(token: &Arc<Token>, shutdown: &Receiver<()>) {
    let mut supervisor = Supervisor {
        token,
        shutdown,
        pauses: Pauses::new(FIRST_PAUSE, LONGEST_PAUSE),
        rests: Pauses::new(FIRST_REST, LONGEST_REST),
        outage: Outage::None,
        warned: None,
    };
    let mut next = Next::Connect;
    while matches!(next, Next::Connect) {
        token.is_opening(Some(Instant::now()));
        let opened = Connection::open(token);
        token.is_opening(None);
        next = match opened {
            Ok(connection) => supervisor.use_connection(connection),
            Err(error) => supervisor.be_down(&error),
        };
    }
    token.set_phase(&Phase::Down(PoolError::Closed));
}

struct Supervisor<'a> {
    token: &'a Arc<Token>,
    shutdown: &'a Receiver<()>,
    /// Between attempts to connect that failed.
    pauses: Pauses,
    /// Between connections that served nobody.
    rests: Pauses,
    outage: Outage,
    /// When a lost connection was last told of in the log.
    warned: Option<Instant>,
}

enum Next {
    Connect,
    End,
}

impl Supervisor<'_> {
    /// From a connection that stands to the end of it.
    ///
    /// Dead sessions are mostly all that is wrong, so those who ask wait for the next connection. It is made at
    /// once if this one was of use. If not, there is a growing pause before it: neither a token that loses
    /// every connection nor a request that costs one shall have modules finalised and initialised in a loop.
    fn use_connection(&mut self, mut connection: Connection) -> Next {
        let token = self.token;
        let successes = token.meter.successes();
        let since = Instant::now();
        let sessions = connection.sessions();
        token.failures.store(0, Ordering::Relaxed);
        self.outage.end(token, sessions);
        token.set_phase(&Phase::Up { sessions });
        let Some(reason) = watch(token, &mut connection, &mut self.outage, self.shutdown) else {
            token.set_phase(&Phase::Down(PoolError::Closed));
            connection.close();
            return Next::End;
        };
        token.meter.lost.fetch_add(1, Ordering::Relaxed);
        token.set_phase(&Phase::Connecting);
        connection.close();
        if self.warned.is_none_or(|last| last.elapsed() > LONGEST_PAUSE) {
            self.warned = Some(Instant::now());
            tracing::warn!(token = token.label(), %reason, "connection lost, connecting again");
        } else {
            tracing::debug!(token = token.label(), %reason, "connection lost once more");
        }
        if since.elapsed() > LONGEST_PAUSE {
            self.pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        }
        let rest = if token.meter.successes() > successes || since.elapsed() > LONGEST_PAUSE {
            self.rests = Pauses::new(FIRST_REST, LONGEST_REST);
            Duration::ZERO
        } else {
            self.rests.next()
        };
        if pause(rest, self.shutdown) { Next::Connect } else { Next::End }
    }

    /// Waits until it makes sense to connect again.
    fn be_down(&mut self, error: &PoolError) -> Next {
        let token = self.token;
        self.outage.begin(token, error);
        token.set_phase(&Phase::Down(error.clone()));
        let go_on = if error.awaits_another_pin() && token.gate.holds_a_rejected_pin() {
            self.pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
            wait_for_another_pin(token, self.shutdown)
        } else {
            pause(self.pauses.next(), self.shutdown)
        };
        if go_on { Next::Connect } else { Next::End }
    }
}

/// Watches a connection until the token is lost (`Some`) or the pool is closed (`None`).
fn watch(
    token: &Token,
    connection: &mut Connection,
    outage: &mut Outage,
    shutdown: &Receiver<()>,
) -> Option<PoolError> {
    let mut sessions = connection.sessions();
    loop {
        if connection.is_over() {
            let over = CallError::new("C_GetSessionInfo", RvError::CryptokiNotInitialized);
            return Some(PoolError::call(token.label(), over));
        }
        match connection.tend(Instant::now()) {
            Condition::Hanging(workers) if !outage.is_open() => {
                let for_at_least = token.settings.deadline;
                let hanging = PoolError::Hanging { label: token.label().to_owned(), workers, for_at_least };
                outage.begin(token, &hanging);
                token.set_phase(&Phase::Down(hanging));
            }
            Condition::Working(working) if outage.is_open() || working != sessions => {
                if outage.is_open() {
                    outage.end(token, working);
                }
                sessions = working;
                token.set_phase(&Phase::Up { sessions });
            }
            Condition::Hanging(_) | Condition::Working(_) | Condition::Unclear => {}
        }
        select_biased! {
            recv(shutdown) -> _ => return None,
            recv(connection.losses) -> loss => {
                return Some(loss.unwrap_or_else(|_| PoolError::WorkerEnded { label: token.label().to_owned() }));
            }
            default(WATCH_INTERVAL) => {}
        }
    }
}

/// Waits. `false`: the pool is closed.
fn pause(length: Duration, shutdown: &Receiver<()>) -> bool {
    shutdown.recv_timeout(length) == Err(RecvTimeoutError::Timeout)
}

/// Waits until the PIN file holds another PIN than the rejected one, twice in a row the same: a file
/// that is being written must not cost a try. `false`: the pool is closed.
fn wait_for_another_pin(token: &Token, shutdown: &Receiver<()>) -> bool {
    let mut candidate = None;
    while pause(PIN_INTERVAL, shutdown) {
        let seen = token.gate.new_pin();
        if seen.is_some() && seen == candidate {
            return true;
        }
        candidate = seen;
    }
    false
}

/// Pauses that double, up to the longest.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

/// An outage as the log tells it: one error when it begins, one line when it ends.
enum Outage {
    None,
    Open { since: Instant, reason: String },
}

impl Outage {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    fn begin(&mut self, token: &Token, error: &PoolError) {
        let text = error.to_string();
        let label = token.label();
        match self {
            Self::None => {
                let (module, fault) = (token.settings.module.display(), error.fault());
                tracing::error!(token = label, %module, reason = text, %fault, "token is down");
                *self = Self::Open { since: Instant::now(), reason: text };
            }
            Self::Open { reason, .. } if *reason != text => {
                tracing::warn!(token = label, reason = text, "token is still down, now for another reason");
                *reason = text;
            }
            Self::Open { .. } => {}
        }
    }

    fn end(&mut self, token: &Token, sessions: usize) {
        let label = token.label();
        match self {
            Self::None => tracing::info!(token = label, sessions, "token is up"),
            Self::Open { since, .. } => {
                let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(token = label, sessions, elapsed_ms, "token is back");
            }
        }
        *self = Self::None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        let lengths: Vec<u128> = (0..8).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(lengths, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    }
}
