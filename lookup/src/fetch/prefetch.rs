//! CRLs renewed in the background, before they end and before somebody waits for them.
//!
//! Which ones: those that were asked for since the program began, and those of known issuers in the store. They are renewed in the second half of their life, at a
//! time that differs from list to list and program to program, and every day at least, as a CA that revokes does not wait
//! for the end of its list.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use smime::Certificate;
use tracing::debug;

use super::{Fetcher, crl::Known};

/// The thread that renews. It ends after this is dropped, at the latest when the fetch that is under way is over.
#[derive(Debug)]
pub struct Prefetch {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Starts renewing what `fetcher` has, and what its store has that one of `issuers` signed, looking every `interval`.
    pub fn start(fetcher: Arc<Fetcher>, issuers: Vec<Certificate>, interval: Duration) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("prefetch".into()).spawn(move || {
            fetcher.recall_all(&issuers);
            let seed = RandomState::new();
            let (lock, condvar) = &*stopped;
            let mut stop = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stop {
                (stop, _) = condvar.wait_timeout(stop, interval).unwrap_or_else(PoisonError::into_inner);
                if *stop {
                    break;
                }
                drop(stop);
                fetcher.renew(SystemTime::now(), &seed);
                stop = lock.lock().unwrap_or_else(PoisonError::into_inner);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Prefetch {
    /// Ends the thread, and waits for it.
    pub fn stop(mut self) {
        self.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn signal(&self) {
        let (lock, condvar) = &*self.stop;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        condvar.notify_all();
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.signal();
    }
}

impl Fetcher {
    /// Renews all CRLs that are due.
    fn renew(&self, now: SystemTime, seed: &RandomState) {
        let all: Vec<Known> = self.crls().values().cloned().collect();
        for known in all {
            let url = &known.url;
            if now < due(&known, jitter(url, seed)) || self.is_resting(url).is_some() {
                continue;
            }
            let deadline = Instant::now() + PATIENCE;
            let renewed = self.join_fetch(url, &known.issuer, deadline);
            if let Some(Err(reason)) = renewed.as_deref() {
                debug!(url, reason, "a CRL could not be renewed");
            }
        }
    }
}

/// When a CRL is to be renewed; `jitter` is from 0 to 1.
fn due(known: &Known, jitter: f64) -> SystemTime {
    let from = known.crl.this_update();
    let life = known.crl.next_update().and_then(|end| end.duration_since(from).ok()).unwrap_or_default();
    let in_second_half = from + life.mul_f64(0.5 + jitter / 4.0);
    in_second_half.min(known.fetched + A_DAY.mul_f64(0.75 + jitter / 4.0)).max(known.fetched + AT_LEAST)
}

/// A number from 0 to 1 that stays the same for a URL in this program.
fn jitter(url: &str, seed: &RandomState) -> f64 {
    let mut hasher = seed.build_hasher();
    hasher.write(url.as_bytes());
    let [first, second, ..] = hasher.finish().to_ne_bytes();
    f64::from(u16::from_ne_bytes([first, second])) / f64::from(u16::MAX)
}

const A_DAY: Duration = Duration::from_hours(24);
/// However short the life of a list is: its server shall not be asked all the time.
const AT_LEAST: Duration = Duration::from_mins(1);
/// How long a fetch may take for which nobody waits.
const PATIENCE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use smime::{revocation::Crl, testing::fixtures};

    use super::*;

    #[test]
    fn a_list_is_due_in_the_second_half_of_its_life_and_each_day() {
        // From 2026 for thirty years.
        let crl = Crl::from_der(&fixtures::data("ca.crl")).unwrap();
        let from = crl.this_update();
        let issuer = fixtures::certificate("ca");
        let known = |fetched| Known {
            crl: crl.clone(),
            etag: None,
            fetched,
            url: String::new(),
            issuer: issuer.clone(),
        };
        for jitter in [0.0, 0.3, 1.0] {
            let early = due(&known(from), jitter);
            assert!(early > from + A_DAY / 2 && early <= from + A_DAY, "{jitter}");
            // At the end of its life it is due at once, but not all the time.
            let late = from + Duration::from_hours(24 * 365 * 29);
            assert_eq!(due(&known(late), jitter), late + AT_LEAST);
        }
    }
}
