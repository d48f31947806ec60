//! What tokens do, in numbers: counted by the workers, read by whoever asks.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    call::CallError,
    histogram::{Distribution, Histogram},
    remote::few_of_map,
    request::{Lane, Operation},
};

/// How many kinds of errors are told apart.
const MOST_ERRORS: usize = 100;

/// The counters of one token.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    operations: [AtomicU64; 3],
    errors: Mutex<BTreeMap<String, u64>>,
    pub(crate) retries: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) lost: AtomicU64,
    interactive: Times,
    bulk: Times,
}

/// How long the requests of a lane took.
#[derive(Debug, Default)]
struct Times {
    wait: Histogram,
    service: Histogram,
}

/// What a token has done since the pool was started, and what it does now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMetrics {
    /// Its label.
    pub label: String,
    /// Its module.
    pub module: PathBuf,
    /// Whether it works.
    pub up: bool,
    /// Operations that gave a result in time, by kind: `sign`, `decrypt`, `agree`.
    #[serde(deserialize_with = "few_of_map")]
    pub operations: BTreeMap<String, u64>,
    /// Calls that failed, by function and `CKR_` name, also where another try helped.
    #[serde(deserialize_with = "few_of_map")]
    pub errors: BTreeMap<String, u64>,
    /// Further tries, here or on another token.
    pub retries: u64,
    /// Requests whose time was over before they were done.
    pub expired: u64,
    /// How often the connection was lost.
    pub lost: u64,
    /// Sessions that work.
    pub sessions: usize,
    /// Sessions that were asked for.
    pub wanted: usize,
    /// Calls that do not come back.
    pub hanging: usize,
    /// Requests that are being worked on.
    pub running: usize,
    /// In-line mail.
    pub interactive: LaneMetrics,
    /// Bulk work.
    pub bulk: LaneMetrics,
}

/// One lane of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneMetrics {
    /// Requests that wait.
    pub waiting: usize,
    /// How long requests have waited.
    pub wait: Distribution,
    /// How long the token has worked on them.
    pub service: Distribution,
}

impl Meter {
    /// An operation was carried out, or failed, after so long.
    pub(crate) fn served(&self, lane: Lane, wait: Duration, service: Duration) {
        let times = self.times(lane);
        times.wait.record(wait);
        times.service.record(service);
    }

    pub(crate) fn succeeded(&self, operation: &Operation) {
        let [sign, decrypt, agree] = &self.operations;
        let counter = match operation {
            Operation::Sign { .. } => sign,
            Operation::Decrypt { .. } => decrypt,
            Operation::Agree { .. } => agree,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many operations gave a result.
    pub(crate) fn successes(&self) -> u64 {
        self.operations.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn failed(&self, error: &CallError) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{} {}", error.function, error.code);
        // A module may return a new number at each call.
        let name =
            if errors.len() < MOST_ERRORS || errors.contains_key(&name) { name } else { "other".to_owned() };
        *errors.entry(name).or_default() += 1;
    }

    /// Fills in what is counted here.
    pub(crate) fn read(&self, metrics: &mut TokenMetrics) {
        let names = ["sign", "decrypt", "agree"];
        let counted = names.iter().zip(&self.operations);
        metrics.operations =
            counted.map(|(name, count)| ((*name).to_owned(), count.load(Ordering::Relaxed))).collect();
        metrics.errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        metrics.retries = self.retries.load(Ordering::Relaxed);
        metrics.expired = self.expired.load(Ordering::Relaxed);
        metrics.lost = self.lost.load(Ordering::Relaxed);
        for (lane, times) in [(&mut metrics.interactive, &self.interactive), (&mut metrics.bulk, &self.bulk)]
        {
            lane.wait = times.wait.read();
            lane.service = times.service.read();
        }
    }

    fn times(&self, lane: Lane) -> &Times {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }
}
