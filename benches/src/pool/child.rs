//! What a measuring process does: one contender, one key, one task; its answer is JSON on stdout.

use std::{
    ffi::OsString,
    io::Write as _,
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hsmpool::Lane;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    contender::{Client, Contender, Shape, raw_rates, start},
    load::{Ask, Failures, Measured, open},
    operation::Operation,
    raw,
    site::{LABEL, Place, Site},
};

/// The command line of a measuring process begins with this.
pub const ARGUMENT: &str = "--measuring-process";
/// Threads that carry out requests that arrive by themselves.
const HANDS: usize = 64;
/// How long a lane is where nothing is said about it.
const QUEUE: usize = 1024;

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Who does the work.
    pub contender: Contender,
    /// What work.
    pub operation: Operation,
    /// On which token.
    pub place: Place,
    /// How much of it.
    pub task: Task,
}

/// How to ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// In these ways, one after the other, for so many seconds each. Gives a [`Measured`] for each.
    Rates(Vec<Shape>, f64),
    /// By requests that arrive at this rate, for so many seconds. Gives the [`Times`].
    Arrivals(f64, f64),
    /// By interactive requests that arrive at this rate, first for so many seconds beside nothing, then until a
    /// backlog of so many bulk requests is done. Gives [`Lanes`].
    Backlog(f64, f64, usize),
    /// How long it takes until the token can be used, then as [`Task::Rates`]. Gives [`Start`].
    Start(Vec<Shape>, f64),
    /// Makes so many P-256 keys on the token. Gives the seconds it took.
    Fill(usize),
}

/// How long requests took, in milliseconds.
pub type Times = Vec<f64>;

/// Interactive requests beside nothing and beside bulk work.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lanes {
    /// Beside nothing.
    pub idle: Times,
    /// Beside the backlog.
    pub busy: Times,
    /// Bulk requests per second meanwhile.
    pub bulk_rate: f64,
}

/// A start, and what came after it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Start {
    /// Milliseconds until the token could be used.
    pub ready: f64,
    /// After that.
    pub rates: Vec<Measured>,
}

/// Runs a job in a process of its own.
pub fn run<T: DeserializeOwned>(job: &Job, site: &Site) -> Result<T> {
    run_in(job, site.environment()?)
}

/// Runs a job in a process of its own that has these variables.
pub fn run_in<T: DeserializeOwned>(job: &Job, environment: Vec<(&'static str, OsString)>) -> Result<T> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).arg(serde_json::to_string(job)?).envs(environment);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let (contender, operation) = (job.contender.name(), job.operation.name());
    ensure!(output.status.success(), "{contender}, {operation}, {:?}: {}", job.task, output.status);
    serde_json::from_slice(&output.stdout).context("a measuring process gave something else")
}

/// The measuring process itself.
pub fn main(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    let Job { contender, operation, ref place, ref task } = job;
    let client = |queue| Client::new(&start(contender, place, queue)?, Lane::Interactive, place, operation);
    let answer = match task {
        Task::Rates(shapes, seconds) if contender == Contender::Raw => {
            serde_json::to_vec(&raw_rates(place, operation, shapes, Duration::from_secs_f64(*seconds))?)
        }
        Task::Rates(shapes, seconds) => {
            serde_json::to_vec(&client(QUEUE)?.rates(shapes, Duration::from_secs_f64(*seconds))?)
        }
        Task::Arrivals(rate, seconds) => {
            serde_json::to_vec(&arrivals(&client(QUEUE)?, *rate, Duration::from_secs_f64(*seconds))?)
        }
        Task::Backlog(rate, seconds, backlog) => {
            let seconds = Duration::from_secs_f64(*seconds);
            serde_json::to_vec(&lanes(&job, *rate, seconds, *backlog)?)
        }
        Task::Start(shapes, seconds) => {
            let length = Duration::from_secs_f64(*seconds);
            let begun = Instant::now();
            if contender == Contender::Raw {
                serde_json::to_vec(&Start { ready: 0.0, rates: raw_rates(place, operation, shapes, length)? })
            } else {
                let pool = start(contender, place, QUEUE)?;
                let ready = milliseconds(begun.elapsed());
                let client = Client::new(&pool, Lane::Interactive, place, operation)?;
                serde_json::to_vec(&Start { ready, rates: client.rates(shapes, length)? })
            }
        }
        Task::Fill(keys) => {
            let begun = Instant::now();
            raw::Token::open(&place.module, LABEL, &place.pin()?)?.fill(*keys)?;
            serde_json::to_vec(&begun.elapsed().as_secs_f64())
        }
    };
    Ok(std::io::stdout().write_all(&answer?)?)
}

fn arrivals(client: &Client, rate: f64, length: Duration) -> Result<Times> {
    let stop = AtomicBool::new(false);
    let make = || {
        let client = client.clone();
        let ask: Ask<'_> = Box::new(move || client.ask());
        Ok(ask)
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(length);
            stop.store(true, Ordering::Relaxed);
        });
        let times = open(HANDS, rate, &stop, &make)?;
        Ok(times.into_iter().map(milliseconds).collect())
    })
}

fn lanes(job: &Job, rate: f64, idle: Duration, backlog: usize) -> Result<Lanes> {
    let Job { contender, operation, place, .. } = job;
    let pool = start(*contender, place, backlog)?;
    // An archive's program has a connection of its own.
    let other = if *contender == Contender::Keyd { start(*contender, place, backlog)? } else { pool.clone() };
    let interactive = Client::new(&pool, Lane::Interactive, place, *operation)?;
    let bulk = Client::new(&other, Lane::Bulk, place, *operation)?;
    let idle = arrivals(&interactive, rate, idle)?;

    let (failures, stop) = (Arc::new(Failures::default()), AtomicBool::new(false));
    let left = Arc::new((Mutex::new(backlog), Condvar::new()));
    let begun = Instant::now();
    for _ in 0..backlog {
        let (failures, left) = (Arc::clone(&failures), Arc::clone(&left));
        bulk.submit(move |outcome| {
            if let Err(error) = outcome {
                failures.note(&error);
            }
            let mut count = left.0.lock().unwrap_or_else(PoisonError::into_inner);
            *count -= 1;
            if *count == 0 {
                left.1.notify_all();
            }
        });
    }
    let busy = thread::scope(|scope| {
        scope.spawn(|| {
            let count = left.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(left.1.wait_while(count, |count| *count > 0));
            stop.store(true, Ordering::Relaxed);
        });
        let make = || {
            let client = interactive.clone();
            let ask: Ask<'_> = Box::new(move || client.ask());
            Ok(ask)
        };
        open(HANDS, rate, &stop, &make)
    })?;
    let took = begun.elapsed();
    failures.check()?;
    #[expect(clippy::cast_precision_loss, reason = "no backlog has 2^52 requests")]
    let bulk_rate = backlog as f64 / took.as_secs_f64();
    Ok(Lanes { idle, busy: busy.into_iter().map(milliseconds).collect(), bulk_rate })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
