//! The supervisor of a token: one thread that connects, watches, and connects again after trouble.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, select_biased};

use crate::{
    PoolError,
    connection::Connection,
    token::{Phase, Token},
};

/// How often the workers are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How often the PIN file is looked at while its content is known to be wrong.
const PIN_INTERVAL: Duration = Duration::from_secs(1);
/// The first pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs until `shutdown` is disconnected.
pub(crate) fn supervise(token: &Arc<Token>, shutdown: &Receiver<()>) {
    let mut supervisor =
        Supervisor { token, shutdown, pauses: Pauses::new(), outage: Outage::None, last_at_once: None };
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
    pauses: Pauses,
    outage: Outage,
    /// When a lost connection was made again without a pause.
    last_at_once: Option<Instant>,
}

enum Next {
    Connect,
    End,
}

impl Supervisor<'_> {
    /// From a connection that stands to the end of it.
    fn use_connection(&mut self, connection: Connection) -> Next {
        let token = self.token;
        let since = Instant::now();
        let sessions = connection.sessions();
        token.failures.store(0, Ordering::Relaxed);
        self.outage.end(token, sessions);
        token.set_phase(&Phase::Up { sessions });
        let Some(reason) = watch(token, &connection, &mut self.outage, self.shutdown) else {
            token.set_phase(&Phase::Down(PoolError::Closed));
            connection.close(token);
            return Next::End;
        };
        // Dead sessions are mostly all that is wrong. So those who ask wait for one more try, which is made
        // at once; but not again and again.
        let at_once = self.last_at_once.is_none_or(|last| last.elapsed() > LONGEST_PAUSE);
        token.set_phase(&if at_once { Phase::Connecting } else { Phase::Down(reason.clone()) });
        connection.close(token);
        if since.elapsed() > LONGEST_PAUSE {
            self.pauses = Pauses::new();
        }
        if !at_once {
            return self.be_down(&reason);
        }
        tracing::warn!(token = token.label(), %reason, "connection lost, connecting again");
        self.last_at_once = Some(Instant::now());
        if is_disconnected(self.shutdown) { Next::End } else { Next::Connect }
    }

    /// Waits until it makes sense to connect again.
    fn be_down(&mut self, error: &PoolError) -> Next {
        let token = self.token;
        self.outage.begin(token, error);
        token.set_phase(&Phase::Down(error.clone()));
        let go_on = if error.awaits_another_pin() && token.gate.holds_a_rejected_pin() {
            self.pauses = Pauses::new();
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
    connection: &Connection,
    outage: &mut Outage,
    shutdown: &Receiver<()>,
) -> Option<PoolError> {
    // A call that takes three times as long as any caller waits is not slow, it hangs.
    let limit = token.settings.deadline.saturating_mul(3);
    let workers = connection.sessions();
    loop {
        let hangs = connection.hangs_for(limit);
        let hanging = PoolError::Hanging { label: token.label().to_owned(), workers, for_at_least: limit };
        match (hangs, outage.is_open()) {
            (true, false) => {
                outage.begin(token, &hanging);
                token.set_phase(&Phase::Down(hanging));
            }
            (false, true) => {
                outage.end(token, workers);
                token.set_phase(&Phase::Up { sessions: workers });
            }
            _ => {}
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

fn is_disconnected(shutdown: &Receiver<()>) -> bool {
    shutdown.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Disconnected)
}

/// 250 ms, 500 ms, 1 s, … 5 s.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
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
        let mut pauses = Pauses::new();
        let lengths: Vec<u128> = (0..8).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(lengths, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    }
}
