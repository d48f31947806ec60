//! What a server is asked about its tokens: whether they are ready, how they are doing, which keys they have.

use std::{
    sync::PoisonError,
    thread,
    time::{Duration, Instant},
};

use super::{Phase, Remote};
use crate::{
    PoolError, TokenMetrics, TokenState, TokenStatus,
    public_key::KeyName,
    remote::{
        outbox::flush_corked,
        report::{Inquiry, MOST_KEYS, Report, WireKey, WireNeed},
    },
    shortcomings::{Finding, Need},
};

impl Remote {
    /// Waits until there is a connection, or none can be had.
    fn wait_until_settled(&self, deadline: Instant) -> Option<Result<(), PoolError>> {
        let mut phase = self.lock_phase();
        loop {
            match &*phase {
                Phase::Up => return Some(Ok(())),
                Phase::Down(reason) => return Some(Err(reason.clone())),
                Phase::Connecting => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            phase = self.phase_changed.wait_timeout(phase, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the server's tokens have been tried once; see [`crate::Pool::ready`].
    pub(crate) fn ready(&self, deadline: Instant, waited: Duration) -> Result<(), PoolError> {
        let not_ready = || PoolError::NotReady {
            label: self.label().to_owned(),
            module: self.connector.place().to_owned(),
            waited,
        };
        loop {
            self.wait_until_settled(deadline).ok_or_else(not_ready)??;
            // Whoever does not wait wants an answer all the same.
            match self.inquire(Inquiry::Status, deadline.max(Instant::now() + STATUS_LIMIT)) {
                Ok(Report::Status(status)) => {
                    let status: Vec<TokenStatus> = status.0.into_iter().map(TokenStatus::from).collect();
                    if let Some(reason) = status.iter().find_map(outage) {
                        return Err(PoolError::Server { reason: reason.to_owned(), transient: false });
                    }
                    if status.iter().all(|token| token.state != TokenState::Connecting) {
                        return Ok(());
                    }
                }
                // The connection may have been lost just now.
                Ok(Report::Metrics(_) | Report::Missing(_) | Report::Findings(_)) | Err(_) => {}
            }
            if Instant::now() + READY_INTERVAL >= deadline {
                return Err(not_ready());
            }
            thread::sleep(READY_INTERVAL);
        }
    }

    /// How the server's tokens are doing; if it cannot be asked, it is shown as one that is down.
    pub(crate) fn status(&self) -> Vec<TokenStatus> {
        let report = self.inquire(Inquiry::Status, Instant::now() + STATUS_LIMIT);
        let state = match report {
            Ok(Report::Status(status)) => return status.0.into_iter().map(TokenStatus::from).collect(),
            Ok(_) => TokenState::Connecting,
            Err(_) if !self.is_out() => TokenState::Connecting,
            Err(error) => TokenState::Down { reason: error.to_string() },
        };
        let (label, module) = (self.label().to_owned(), self.connector.place().to_owned());
        vec![TokenStatus { label, module, state, sessions: 0, wanted: 0, waiting: 0, hanging: 0 }]
    }

    /// What the server's tokens have done; if it cannot be asked, it is shown as one that is down.
    pub(crate) fn metrics(&self) -> Vec<TokenMetrics> {
        if let Ok(Report::Metrics(metrics)) = self.inquire(Inquiry::Metrics, Instant::now() + STATUS_LIMIT) {
            return metrics.0;
        }
        let (label, module) = (self.label().to_owned(), self.connector.place().to_owned());
        vec![TokenMetrics { label, module, ..TokenMetrics::default() }]
    }

    /// For each of these keys, whether no token of the server has it.
    pub(crate) fn lacks(&self, keys: &[KeyName], deadline: Instant) -> Result<Vec<bool>, PoolError> {
        let mut all = Vec::with_capacity(keys.len());
        for some in keys.chunks(MOST_KEYS) {
            let keys = || some.iter().map(WireKey::from).collect();
            match self.insist(|| Inquiry::Missing { keys: keys() }, deadline)? {
                Report::Missing(Some(missing)) if missing.0.len() == some.len() => all.extend(missing.0),
                Report::Missing(None) => {
                    return Err(self.unreachable("a token of its is not there at the moment"));
                }
                _ => return Err(self.unreachable("it answered another question")),
            }
        }
        Ok(all)
    }

    /// How the server's tokens that have these keys stand to what they are needed for.
    pub(crate) fn findings(&self, needs: &[Need], deadline: Instant) -> Result<Vec<Finding>, PoolError> {
        let mut all = Vec::new();
        let mut before = 0;
        // Each has several findings for each token.
        for some in needs.chunks(MOST_KEYS / 4) {
            let needs = || some.iter().map(WireNeed::from).collect();
            match self.insist(|| Inquiry::Needs { needs: needs() }, deadline)? {
                Report::Findings(Some(found)) => {
                    all.extend(
                        found.0.into_iter().map(|it| Finding { need: it.need.saturating_add(before), ..it }),
                    );
                }
                Report::Findings(None) => {
                    return Err(self.unreachable("a token of its is not there at the moment"));
                }
                _ => return Err(self.unreachable("it answered another question")),
            }
            before += some.len();
        }
        Ok(all)
    }

    /// Asks until it is known, as long as there is time.
    fn insist<'a>(&self, inquiry: impl Fn() -> Inquiry<'a>, deadline: Instant) -> Result<Report, PoolError> {
        loop {
            let report = self.inquire(inquiry(), deadline)?;
            let known = !matches!(report, Report::Missing(None) | Report::Findings(None));
            if known || Instant::now() + READY_INTERVAL >= deadline {
                return Ok(report);
            }
            thread::sleep(READY_INTERVAL);
        }
    }

    fn inquire(&self, inquiry: Inquiry<'_>, deadline: Instant) -> Result<Report, PoolError> {
        let (reply, report) = crossbeam_channel::bounded(1);
        let Some(id) = self.interactive.inquire(inquiry, reply) else {
            return Err(self
                .reason()
                .unwrap_or_else(|| self.unreachable("there is no connection at the moment")));
        };
        // The question itself must not wait for this thread to be done.
        flush_corked();
        report.recv_deadline(deadline).map_err(|_| {
            self.interactive.forget(id);
            self.unreachable("it gave no answer in time")
        })
    }
}

fn outage(token: &TokenStatus) -> Option<&str> {
    match &token.state {
        TokenState::Down { reason } => Some(reason),
        TokenState::Connecting | TokenState::Up => None,
    }
}

/// How often a server is asked whether its tokens are ready.
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// How long a server may take to say how its tokens are doing.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
