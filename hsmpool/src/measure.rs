//! How fast a token is by itself: operations per second by mechanism and number of threads, one session
//! each, past all queues. From that follows how many sessions are worth having.
//!
//! This works the token as hard as it can be worked; whoever else uses it at that time waits longer.

mod subject;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use cryptoki::error::RvError;
use smime::Certificate;

pub use self::subject::{Subject, Use};
use crate::{
    PoolError, TokenSettings,
    call::CallError,
    keys::KeySpec,
    login::LoginGate,
    measure::subject::Prepared,
    module::Module,
    modules::{self, TokenInfo},
    session::{Access, OpenSession},
};

/// How many threads are tried, as far as the token gives as many sessions.
const THREADS: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
/// A rate that is so near to the best is as good.
const AS_GOOD: f64 = 0.97;
/// So many steps without a better rate end a measurement.
const STEPS_IN_VAIN: usize = 2;
/// How long one call may take before the token is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which keys to measure with.
#[derive(Clone, Debug)]
pub enum Keys<'a> {
    /// Those of these certificates that are on the token, one of each kind and size.
    Of(Vec<&'a Certificate>),
    /// New ones of these kinds, as session objects (`CKA_TOKEN` false): the token forgets them when the
    /// measurement ends, however it ends.
    Temporary(Vec<KeySpec>),
}

/// One rate.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// Threads at a time, each with a session of its own.
    pub threads: usize,
    /// Operations per second.
    pub rate: f64,
    /// Half of the operations took at most that long.
    pub p50: Duration,
    /// 99 of 100 did.
    pub p99: Duration,
}

/// What was found out about one use of one key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Series {
    /// The key and its use.
    pub subject: Subject,
    /// Rates by number of threads, fewest first.
    pub points: Vec<Point>,
    /// Why it ended early, in the token's words.
    pub failure: Option<String>,
}

/// What was found out about a token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The token.
    pub token: TokenInfo,
    /// By use; of one that was interrupted, what was measured until then.
    pub series: Vec<Series>,
    /// How many sessions the token gave, where it gave fewer than were asked for.
    pub session_limit: Option<usize>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

impl Series {
    /// The best rate.
    pub fn best(&self) -> Option<Point> {
        self.points.iter().copied().max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// The point with the fewest threads that is within 3 % of the best rate.
    pub fn recommended(&self) -> Option<Point> {
        let best = self.best()?;
        self.points.iter().copied().find(|point| point.rate >= best.rate * AS_GOOD)
    }
}

impl Report {
    /// How many sessions to open: enough for every use that was measured. None if nothing was.
    pub fn recommended_sessions(&self) -> Option<usize> {
        self.series.iter().filter_map(Series::recommended).map(|point| point.threads).max()
    }
}

/// Measures a token, with up to `most` threads, `length` for each rate. `progress` is told every rate as soon
/// as it is known. Ends soon after `stop` is set, with what it has.
pub fn measure(
    settings: &TokenSettings,
    keys: &Keys<'_>,
    most: usize,
    length: Duration,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Subject, &Point),
) -> Result<Report, PoolError> {
    let failed = |error: CallError| PoolError::call(&settings.label, error);
    let module = Module::open(&settings.module)?;
    let (slot, token) = modules::find(&module, &settings.module, &settings.label)?;
    // Temporary keys live as long as this session, and so does the login.
    let first = OpenSession::open(&module, slot, Access::ReadOnly).map_err(failed)?;
    let gate = LoginGate::of_process(settings);
    gate.log_in(&first).map_err(|error| error.into_pool_error(&settings.label))?;
    let prepared = match keys {
        Keys::Of(certificates) => subject::on_the_token(&first, certificates).map_err(failed)?,
        Keys::Temporary(kinds) => subject::temporary(&first, kinds).map_err(failed)?,
    };
    let mut sessions = vec![first];
    let mut session_limit = None;
    while sessions.len() < most {
        match OpenSession::open(&module, slot, Access::ReadOnly) {
            Ok(session) => sessions.push(session),
            Err(error) if error.rv() == Some(RvError::SessionCount) => {
                session_limit = Some(sessions.len());
                break;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    let mut crew = Crew { sessions, label: settings.label.clone(), length, stop: Arc::clone(stop) };
    let mut series = Vec::new();
    for prepared in prepared {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        series.push(crew.series(prepared, progress)?);
    }
    Ok(Report { token, series, session_limit, interrupted: stop.load(Ordering::Relaxed) })
}

/// The open sessions. Each goes to a thread and comes back.
struct Crew {
    sessions: Vec<OpenSession>,
    label: String,
    length: Duration,
    stop: Arc<AtomicBool>,
}

/// What a thread gives back.
struct Done {
    session: OpenSession,
    /// Of the operations that ended within the window.
    times: Vec<Duration>,
    failure: Option<CallError>,
}

impl Crew {
    fn series(
        &mut self,
        prepared: Prepared,
        progress: &mut dyn FnMut(&Subject, &Point),
    ) -> Result<Series, PoolError> {
        let Prepared { subject, work } = prepared;
        let mut series = Series { subject, points: Vec::new(), failure: None };
        let work = match work {
            Ok(work) => Arc::new(work),
            Err(reason) => return Ok(Series { failure: Some(reason), ..series }),
        };
        let mut in_vain = 0;
        let mut best = 0.0;
        // The last step is the token's own limit, whatever number that is.
        let most = self.sessions.len();
        let steps = THREADS.into_iter().filter(|threads| *threads < most).chain([most]);
        for threads in steps {
            let (point, failure) = self.point(&work, threads)?;
            if let Some(failure) = failure {
                series.failure = Some(failure.to_string());
                break;
            }
            // What was cut off is no rate.
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            progress(&series.subject, &point);
            series.points.push(point);
            in_vain = if point.rate * AS_GOOD > best { 0 } else { in_vain + 1 };
            best = point.rate.max(best);
            if in_vain == STEPS_IN_VAIN {
                break;
            }
        }
        Ok(series)
    }

    /// One rate. A token that does not answer at all is an error: its sessions cannot be used any more.
    fn point(
        &mut self,
        work: &Arc<subject::Work>,
        threads: usize,
    ) -> Result<(Point, Option<CallError>), PoolError> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let window = Window::of(self.length);
        for session in self.sessions.split_off(self.sessions.len().saturating_sub(threads)) {
            let (work, stop) = (Arc::clone(work), Arc::clone(&self.stop));
            let sender: Sender<Done> = sender.clone();
            let spawned = thread::Builder::new().name("measure".into()).spawn(move || {
                let _ = sender.send(run(session, &work, window, &stop));
            });
            if let Err(error) = spawned {
                return Err(PoolError::Thread { label: self.label.clone(), reason: error.to_string() });
            }
        }
        drop(sender);
        self.collect(&receiver, threads, window)
    }

    fn collect(
        &mut self,
        receiver: &Receiver<Done>,
        threads: usize,
        window: Window,
    ) -> Result<(Point, Option<CallError>), PoolError> {
        let deadline = window.end + PATIENCE;
        let (mut times, mut failure) = (Vec::new(), None);
        for _ in 0..threads {
            let done = receiver.recv_deadline(deadline).map_err(|_| PoolError::Hanging {
                label: self.label.clone(),
                workers: threads,
                for_at_least: PATIENCE,
            })?;
            times.extend(done.times);
            failure = failure.or(done.failure);
            self.sessions.push(done.session);
        }
        times.sort();
        #[expect(clippy::cast_precision_loss, reason = "nobody waits for 2^52 operations")]
        let rate = times.len() as f64 / self.length.as_secs_f64();
        let rank = |hundredth: usize| {
            let index = (times.len() * hundredth).div_ceil(100).saturating_sub(1);
            times.get(index).copied().unwrap_or_default()
        };
        Ok((Point { threads, rate, p50: rank(50), p99: rank(99) }, failure))
    }
}

/// A stretch of time: what ends within it counts. Before, everything gets going.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn of(length: Duration) -> Self {
        let begin = Instant::now() + length / 10;
        Self { begin, end: begin + length }
    }
}

/// Asks again and again.
fn run(session: OpenSession, work: &subject::Work, window: Window, stop: &AtomicBool) -> Done {
    let mut done = Done { session, times: Vec::new(), failure: None };
    let mut last = Instant::now();
    while last < window.end && !stop.load(Ordering::Relaxed) {
        if let Err(error) = work.ask(&done.session) {
            done.failure = Some(error);
            break;
        }
        let now = Instant::now();
        if (window.begin..window.end).contains(&now) {
            done.times.push(now - last);
        }
        last = now;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rates: &[(usize, f64)]) -> Series {
        let point = |&(threads, rate)| Point { threads, rate, p50: Duration::ZERO, p99: Duration::ZERO };
        let subject = Subject { key: "RSA 2048".into(), used: Use::Sign };
        Series { subject, points: rates.iter().map(point).collect(), failure: None }
    }

    #[test]
    fn the_fewest_threads_that_are_as_fast_as_the_most_are_recommended() {
        for (rates, expected) in [
            (&[(1, 100.0)][..], Some(1)),
            (&[(1, 100.0), (2, 198.0), (3, 200.0), (4, 199.0)], Some(2)),
            (&[(1, 100.0), (2, 190.0), (3, 200.0)], Some(3)),
            (&[(1, 98.0), (2, 100.0), (3, 60.0)], Some(1)),
            (&[], None),
        ] {
            assert_eq!(series(rates).recommended().map(|point| point.threads), expected, "{rates:?}");
        }
    }
}
