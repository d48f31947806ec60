//! Load on a key: callers that each wait for their answer, and requests that arrive whether others were
//! answered or not.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::statistics::percentile;

/// One operation, begun and waited for.
pub type Ask<'a> = Box<dyn FnMut() -> Result<()> + Send + 'a>;

/// What came of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Operations per second.
    pub rate: f64,
    /// Half of them took at most so many milliseconds.
    pub p50: f64,
    /// 99 of 100 did.
    pub p99: f64,
    /// Microseconds of this process's processor time for each.
    pub cpu: f64,
}

/// A stretch of time to measure in: what ends within it counts.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    /// Begins after a fifth of its length, for everything to get going.
    pub fn of(length: Duration) -> Self {
        let begin = Instant::now() + length / 5;
        Self { begin, end: begin + length }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Sleeps until its end; gives the processor time that the process took within it.
    pub fn watch(&self) -> Duration {
        sleep_until(self.begin);
        let before = cpu();
        sleep_until(self.end);
        cpu().saturating_sub(before)
    }

    /// What counts of operations, each with its end and its length.
    pub fn measured(&self, operations: &[(Instant, Duration)], cpu: Duration) -> Measured {
        let within = operations.iter().filter(|(at, _)| (self.begin..self.end).contains(at));
        let mut times: Vec<Duration> = within.map(|(_, time)| *time).collect();
        times.sort();
        #[expect(clippy::cast_precision_loss, reason = "no load has 2^52 operations")]
        let count = times.len() as f64;
        Measured {
            rate: count / (self.end - self.begin).as_secs_f64(),
            p50: percentile(&times, 0.5),
            p99: percentile(&times, 0.99),
            cpu: cpu.as_secs_f64() * 1e6 / count.max(1.0),
        }
    }
}

/// So many callers, each asking again as soon as it was answered. `make` is called once per caller.
pub fn closed<'a>(
    callers: usize,
    length: Duration,
    make: &(dyn Fn() -> Result<Ask<'a>> + Sync),
) -> Result<Measured> {
    let asks = (0..callers).map(|_| make()).collect::<Result<Vec<_>>>()?;
    let window = Window::of(length);
    thread::scope(|scope| {
        let run = |mut ask: Ask<'a>| {
            let mut operations = Vec::with_capacity(4096);
            while !window.is_over() {
                let begun = Instant::now();
                ask()?;
                let ended = Instant::now();
                operations.push((ended, ended - begun));
            }
            Ok(operations)
        };
        let threads: Vec<_> = asks.into_iter().map(|ask| scope.spawn(move || run(ask))).collect();
        let cpu = window.watch();
        let mut operations = Vec::new();
        for thread in threads {
            operations.extend(joined(thread.join())?);
        }
        Ok(window.measured(&operations, cpu))
    })
}

/// Requests that arrive independently of each other (a Poisson process), `rate` a second, until `stop`; gives
/// how long each took, from its arrival to its answer.
///
/// `hands` threads carry them out. A request for which no hand is free has arrived all the same: it has been
/// waiting since. That a hand wakes up late by itself does not count as waiting.
pub fn open<'a>(
    hands: usize,
    rate: f64,
    stop: &AtomicBool,
    make: &(dyn Fn() -> Result<Ask<'a>> + Sync),
) -> Result<Vec<Duration>> {
    let asks = (0..hands).map(|_| make()).collect::<Result<Vec<_>>>()?;
    let arrivals = Mutex::new(Arrivals::new(Instant::now(), rate));
    let run = |mut ask: Ask<'a>| {
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let arrival = arrivals.lock().unwrap_or_else(PoisonError::into_inner).next();
            let is_late = Instant::now() > arrival;
            sleep_until(arrival);
            let begun = if is_late { arrival } else { Instant::now() };
            ask()?;
            times.push(begun.elapsed());
        }
        Ok(times)
    };
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = asks.into_iter().map(|ask| scope.spawn(move || run(ask))).collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(joined(thread.join())?);
        }
        Ok(times)
    })
}

/// How long requests that arrive as those of [`open`] would take if nothing took time but so many servers, each so much
/// for one.
pub fn ideal(servers: usize, service: Duration, rate: f64, requests: usize) -> Vec<Duration> {
    let begin = Instant::now();
    let mut arrivals = Arrivals::new(begin, rate);
    let mut free = vec![begin; servers.max(1)];
    let times = (0..requests).map(|_| {
        let arrival = arrivals.next();
        let Some(first) = free.iter_mut().min() else { return service };
        *first = arrival.max(*first) + service;
        *first - arrival
    });
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times
}

/// The times of arrival, the same in every run.
struct Arrivals {
    next: Instant,
    state: u64,
    rate: f64,
}

impl Arrivals {
    fn new(begin: Instant, rate: f64) -> Self {
        Self { next: begin, state: 0x9e37_79b9_7f4a_7c15, rate }
    }

    fn next(&mut self) -> Instant {
        // xorshift64*; the upper 53 bits are a number from 0 to 1.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
        let uniform = (bits as f64 + 1.0) / (1_u64 << 53) as f64;
        self.next += Duration::from_secs_f64(-uniform.ln() / self.rate);
        self.next
    }
}

/// Counts answers of requests that were only handed in.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Option<String>>, AtomicUsize);

impl Failures {
    /// Remembers the first.
    pub fn note(&self, error: &anyhow::Error) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
    }

    /// An error if there were any.
    pub fn check(&self) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(first) => {
                Err(anyhow!("{} requests failed, the first: {first}", self.1.load(Ordering::Relaxed)))
            }
        }
    }
}

/// What a thread came to.
pub fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(anyhow!("a measuring thread panicked")))
}

fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// The processor time that this process has taken.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_their_rate_and_not_evenly() {
        let begin = Instant::now();
        let mut arrivals = Arrivals::new(begin, 1000.0);
        let times: Vec<Instant> = (0..20_000).map(|_| arrivals.next()).collect();
        let seconds = times.last().unwrap().duration_since(begin).as_secs_f64();
        assert!((19.0..21.0).contains(&seconds), "{seconds}");
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        let short = gaps.filter(|gap| *gap < Duration::from_micros(500)).count();
        // 1 - 1/sqrt(e) of all gaps are below half their mean.
        assert!((7_400..8_400).contains(&short), "{short}");
    }

    #[test]
    fn requests_wait_for_a_server_where_all_are_taken_and_not_otherwise() {
        let service = Duration::from_millis(1);
        let times = |servers, rate| ideal(servers, service, rate, 20_000);
        assert_eq!(times(100, 1000.0).last(), Some(&service));
        // M/D/1 at half load: half a service longer on average.
        let waited: f64 = times(1, 500.0).iter().map(|time| time.saturating_sub(service).as_secs_f64()).sum();
        assert!((0.45e-3..0.55e-3).contains(&(waited / 20_000.0)), "{waited}");
        assert!(times(2, 1000.0)[19_799] < times(1, 500.0)[19_799], "two that share a line wait less");
    }

    #[test]
    fn what_ends_outside_the_window_does_not_count() {
        let begin = Instant::now();
        let window = Window { begin, end: begin + Duration::from_secs(1) };
        let took = Duration::from_millis(3);
        let at = |ms| (begin + Duration::from_millis(ms), took);
        let measured = window.measured(&[at(0), at(500), at(999), at(1000), at(2000)], Duration::ZERO);
        assert!((measured.rate - 3.0).abs() < 1e-9 && (measured.p99 - 3.0).abs() < 1e-9, "{measured:?}");
    }
}
