//! Sweeping out what has ended, a little at a time: what strangers cause must not grow for ever, and nobody who looks up or
//! writes shall wait for it.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use smime::{path::Crl, revocation::OcspResponse};

use crate::{
    Cache, CacheError, Status,
    codec::{Reader, Writer},
    status,
    tables::{Table, Tables},
};

/// How long a CRL or OCSP answer that says of nobody that he is revoked is kept after it ended: somebody may want to know why.
const KEPT_AFTER_END: Duration = Duration::from_hours(7 * 24);
/// How many entries are looked at, and swept out at most, in one transaction.
const STEP: usize = 1000;
/// When a cache was last swept, in `meta`.
const SWEPT_KEY: &[u8] = b"swept";
/// How often a cache is swept, by whichever process comes first.
const EVERY: Duration = Duration::from_hours(24);
/// How long a program has run when it first looks whether that is due, and how often it looks.
const LOOK: Duration = Duration::from_mins(15);
/// How long others have the cache for themselves between two steps.
const PAUSE: Duration = Duration::from_millis(50);

/// What a look at some entries gave.
struct Look {
    /// The last key, unless it was the table's.
    last: Option<Vec<u8>>,
    /// The keys of those that have ended.
    ended: Vec<Vec<u8>>,
}

/// What its value says of an entry's end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It begins with its end.
    Until,
    /// It is a CRL. One that lists anybody has no end: revoked is for ever.
    List,
    /// It is an OCSP answer, and the same holds.
    Answer,
    /// It was found out from other entries: generation, from, until.
    Remembered,
}

impl End {
    fn has_come(self, value: &[u8], generation: u64, now: SystemTime) -> bool {
        match self {
            Self::Until => {
                Reader::new(value, 1).and_then(|mut reader| reader.time()).is_none_or(|until| until <= now)
            }
            Self::List | Self::Answer => {
                let before = now.checked_sub(KEPT_AFTER_END).unwrap_or(SystemTime::UNIX_EPOCH);
                status::ended(value, before)
                    && !Status::decode(value).is_some_and(|status| match self {
                        Self::List => Crl::from_vec(status.der).is_ok_and(|list| !list.is_empty()),
                        _ => OcspResponse::from_der(&status.der).is_ok_and(|answer| answer.has_final()),
                    })
            }
            Self::Remembered => {
                let read = Reader::new(value, 1).and_then(|mut reader| {
                    let found = reader.u64()?;
                    reader.time()?;
                    Some((found, reader.time()?))
                });
                read.is_none_or(|(found, until)| found != generation || until <= now)
            }
        }
    }
}

fn tables_that_end(tables: &Tables) -> [(Table, End); 7] {
    let Tables { neg, path, choice, crl, ocsp, fetch, cap, .. } = *tables;
    [
        (neg, End::Until),
        (fetch, End::Until),
        (cap, End::Until),
        (crl, End::List),
        (ocsp, End::Answer),
        (path, End::Remembered),
        (choice, End::Remembered),
    ]
}

impl Cache {
    /// Takes out what has ended: negative entries, choices, path results, CRLs and OCSP answers a week after their
    /// end, unless they say that somebody is revoked. Certificates stay. Says how many entries went.
    pub fn sweep(&self, now: SystemTime) -> Result<usize, CacheError> {
        self.sweep_while(now, &mut || true)
    }

    /// The same, as long as `go_on` says so, which is asked before each transaction.
    pub(crate) fn sweep_while(
        &self,
        now: SystemTime,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<usize, CacheError> {
        self.clear_stale_readers()?;
        let mut swept = 0;
        for number in 0.. {
            let Some((table, end)) =
                self.read(|tables, _| Ok(tables_that_end(tables).get(number).copied()))?
            else {
                break;
            };
            let mut after: Option<Vec<u8>> = None;
            loop {
                if !go_on() {
                    return Ok(swept);
                }
                let Look { last, ended } = self.ended_in(table, end, after.as_deref(), now)?;
                if !ended.is_empty() {
                    if !go_on() {
                        return Ok(swept);
                    }
                    swept += self.take_out_ended(table, end, &ended, now)?;
                }
                if last.is_none() {
                    break;
                }
                after = last;
            }
        }
        Ok(swept)
    }

    /// Looks at some entries behind a key.
    fn ended_in(
        &self,
        table: Table,
        end: End,
        after: Option<&[u8]>,
        now: SystemTime,
    ) -> Result<Look, CacheError> {
        self.read(|tables, transaction| {
            let generation = tables.generation(transaction)?;
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let range = (from, std::ops::Bound::<&[u8]>::Unbounded);
            let (mut seen, mut last, mut ended) = (0, None, Vec::new());
            for row in table.range(transaction, &range)? {
                let (key, value) = row?;
                if end.has_come(value, generation, now) {
                    ended.push(key.to_vec());
                }
                seen += 1;
                if seen == STEP {
                    last = Some(key.to_vec());
                    break;
                }
            }
            Ok(Look { last, ended })
        })
    }

    /// Takes these out, but for what was written anew in between.
    fn take_out_ended(
        &self,
        table: Table,
        end: End,
        keys: &[Vec<u8>],
        now: SystemTime,
    ) -> Result<usize, CacheError> {
        self.write(|tables, transaction| {
            let generation = tables.generation(transaction)?;
            let mut swept = 0;
            for key in keys {
                let has_come =
                    table.get(transaction, key)?.is_some_and(|it| end.has_come(it, generation, now));
                if has_come {
                    table.delete(transaction, key)?;
                    swept += 1;
                }
            }
            Ok(swept)
        })
    }

    /// Whether nobody has swept for a day; whoever hears so does it now.
    fn claim_sweep(&self, now: SystemTime) -> Result<bool, CacheError> {
        let is_due = |value: Option<&[u8]>| {
            let last = value.and_then(|value| Reader::new(value, 1)?.time());
            last.is_none_or(|last| now.duration_since(last).map_or(last > now + EVERY, |age| age >= EVERY))
        };
        // Most look without a lock.
        if !self.read(|tables, transaction| Ok(is_due(tables.meta.get(transaction, SWEPT_KEY)?)))? {
            return Ok(false);
        }
        self.write(|tables, transaction| {
            if !is_due(tables.meta.get(transaction, SWEPT_KEY)?) {
                return Ok(false);
            }
            tables.meta.put(transaction, SWEPT_KEY, &Writer::new(1).time(now).finish())?;
            Ok(true)
        })
    }
}

/// A thread that sweeps a cache once a day, for programs that run. It ends after this is dropped, at the latest when the
/// step that is under way is over.
#[derive(Debug)]
pub struct Sweeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts sweeping. `heard` is told how many entries went, or why it did not work.
    pub fn start(
        cache: Arc<Cache>,
        heard: impl Fn(Result<usize, CacheError>) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_looking(cache, LOOK, heard)
    }

    pub(crate) fn start_looking(
        cache: Arc<Cache>,
        look: Duration,
        heard: impl Fn(Result<usize, CacheError>) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("sweeper".into()).spawn(move || {
            while !waited(&stopped, look) {
                let now = SystemTime::now();
                let swept = match cache.claim_sweep(now) {
                    Ok(false) => continue,
                    Ok(true) => cache.sweep_while(now, &mut || !waited(&stopped, PAUSE)),
                    Err(error) => Err(error),
                };
                heard(swept);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        let (lock, condvar) = &*self.stop;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        condvar.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a time, and says whether the thread is to stop.
fn waited(stop: &(Mutex<bool>, Condvar), time: Duration) -> bool {
    let (lock, condvar) = stop;
    let stop = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = condvar.wait_timeout_while(stop, time, |stop| !*stop);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}
