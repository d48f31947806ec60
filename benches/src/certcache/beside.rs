//! Readers in processes of their own, alone and beside a process that writes.
//!
//! On few processors five processes are in each other's way whatever they do, and a transaction that is synced wakes the
//! kernel's threads as well. So there are two controls: the same readers beside the same writer with another file, and
//! readers that do nothing but `mdb_get` of the same records.

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use certcache::{Cache, Source};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use smime::store::{Lookup, RecipientCertificates, Waited};

use super::{
    contender::Bare,
    material::{Material, certificate, chooser, template, time},
};
use crate::statistics::Spread;

/// How many processes read.
pub const READERS: usize = 4;
/// How many entries the writer writes in a second, in so many transactions.
pub const WRITES: u32 = 1000;
const TRANSACTIONS: u32 = 100;
/// How many look-ups each reader makes in a second.
pub const READS: u32 = 2000;
/// How many look-ups a reader makes before: a program that has run for a while has met most of the file.
const WARM_UP: usize = 50_000;
/// How long the processes have to get so far.
const START: Duration = Duration::from_secs(4);

/// How the readers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum By {
    /// `Chooser::lookup`.
    Lookup,
    /// `mdb_get` of the two records.
    Lmdb,
}

/// Who else runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// A writer with a copy of the cache.
    OtherFile,
    /// A writer with the cache that is read.
    SameFile,
}

/// Readers and who is beside them, over all rounds; times in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latencies {
    /// How they read.
    pub by: By,
    /// Who else ran.
    pub beside: Beside,
    /// How many look-ups there were.
    pub lookups: usize,
    /// 50 in 100.
    pub p50: Spread,
    /// 99 in 100.
    pub p99: Spread,
    /// 9,999 in 10,000.
    pub p9999: Spread,
    /// How many times as long as the same readers beside the writer of another file: 99 in 100, round by round.
    pub ratio: Spread,
    /// Page faults in a thousand look-ups.
    pub faults: Spread,
    /// How often a thousand look-ups were interrupted by another process.
    pub preempted: Spread,
    /// Entries written meanwhile, in a second.
    pub written: Spread,
}

/// What one round gave.
#[derive(Clone, Copy, Debug)]
struct Round {
    lookups: usize,
    p50: f64,
    p99: f64,
    p9999: f64,
    faults: f64,
    preempted: f64,
    written: f64,
}

/// What a reader says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Read {
    /// Nanoseconds.
    times: Vec<u32>,
    faults: u64,
    preempted: u64,
}

/// All pairs of readers and who is beside them, in every round.
pub fn measure(material: &Material, seconds: u64, rounds: usize) -> Result<Vec<Latencies>> {
    let pairs: Vec<(By, Beside)> = [By::Lookup, By::Lmdb]
        .into_iter()
        .flat_map(|by| [Beside::Nobody, Beside::OtherFile, Beside::SameFile].map(|beside| (by, beside)))
        .collect();
    let mut all: Vec<Vec<Round>> = vec![Vec::new(); pairs.len()];
    for _ in 0..rounds {
        for ((by, beside), all) in pairs.iter().zip(&mut all) {
            all.push(round(material, seconds, *by, *beside)?);
        }
    }
    let latencies = pairs.iter().zip(&all).map(|((by, beside), rounds)| {
        let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
        let other = pairs.iter().position(|pair| *pair == (*by, Beside::OtherFile));
        let other = other.and_then(|at| all.get(at)).map(Vec::as_slice).unwrap_or_default();
        Latencies {
            by: *by,
            beside: *beside,
            lookups: rounds.iter().map(|round| round.lookups).sum(),
            p50: spread(|round| round.p50),
            p99: spread(|round| round.p99),
            p9999: spread(|round| round.p9999),
            ratio: Spread::of(rounds.iter().zip(other).map(|(own, other)| own.p99 / other.p99)),
            faults: spread(|round| round.faults),
            preempted: spread(|round| round.preempted),
            written: spread(|round| round.written),
        }
    });
    Ok(latencies.collect())
}

#[expect(clippy::cast_precision_loss, reason = "there are not so many")]
fn round(material: &Material, seconds: u64, by: By, beside: Beside) -> Result<Round> {
    let start = |what: &str, number: usize| -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([what, "--seconds", &seconds.to_string(), "--number", &number.to_string()]);
        for (name, value) in [("--by", by.to_possible_value()), ("--beside", beside.to_possible_value())] {
            command.args([name, value.context("no word")?.get_name()]);
        }
        command.args(["--entries", &material.entries.to_string(), "--data"]);
        command.arg(material.cache().parent().and_then(|it| it.parent()).context("no folder")?);
        Ok(command.stdout(Stdio::piped()).spawn()?)
    };
    let writer = (beside != Beside::Nobody).then(|| start("writer", 0)).transpose()?;
    let readers: Vec<Child> = (0..READERS).map(|number| start("reader", number)).collect::<Result<_>>()?;
    let (mut times, mut faults, mut preempted) = (Vec::new(), 0, 0);
    for reader in readers {
        let part: Read = serde_json::from_slice(&output(reader)?)?;
        times.extend(part.times);
        faults += part.faults;
        preempted += part.preempted;
    }
    let written: u32 =
        writer.map_or(Ok(0), |writer| anyhow::Ok(serde_json::from_slice(&output(writer)?)?))?;
    times.sort_unstable();
    let at = |share: usize| {
        let index = (times.len() * share / 10_000).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |nanoseconds| f64::from(*nanoseconds) / 1000.0)
    };
    let thousands = times.len().max(1) as f64 / 1000.0;
    Ok(Round {
        lookups: times.len(),
        p50: at(5000),
        p99: at(9900),
        p9999: at(9999),
        faults: faults as f64 / thousands,
        preempted: preempted as f64 / thousands,
        written: f64::from(written) / seconds as f64,
    })
}

fn output(mut child: Child) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    child.stdout.take().context("no output")?.read_to_end(&mut octets)?;
    ensure!(child.wait()?.success(), "a process failed");
    Ok(octets)
}

/// A reader's process.
pub fn read(material: &Material, seconds: u64, number: usize, by: By) -> Result<Read> {
    let started = Instant::now();
    match by {
        By::Lookup => {
            let cache = Arc::new(Cache::open(&material.cache())?);
            let chooser = &chooser(&cache);
            paced(material, seconds, number, started, |number| {
                let address = Material::address(number)?;
                Ok(move || {
                    let found = chooser.lookup(&address, time(), &mut Waited::default())?;
                    ensure!(matches!(found, Lookup::Found(_)), "not found");
                    Ok(())
                })
            })
        }
        By::Lmdb => {
            let bare = Bare::open(material)?;
            paced(material, seconds, number, started, |number| {
                let key = bare.keys(&[number])?.pop().context("no key")?;
                let bare = &bare;
                Ok(move || {
                    ensure!(bare.get(&key)? > 100, "not found");
                    Ok(())
                })
            })
        }
    }
}

/// Makes look-ups at their times, and says how long each took.
fn paced<F: FnOnce() -> Result<()>>(
    material: &Material,
    seconds: u64,
    number: usize,
    started: Instant,
    prepare: impl Fn(usize) -> Result<F>,
) -> Result<Read> {
    let mut random = number as u64 + 1;
    for _ in 0..WARM_UP {
        prepare(next(&mut random, material.entries)?)?()?;
        if started.elapsed() >= START {
            break;
        }
    }
    sleep(START.saturating_sub(started.elapsed()));
    let before = Counts::now()?;
    let (begin, pause) = (Instant::now(), Duration::from_secs(1) / READS);
    let mut times = Vec::new();
    while begin.elapsed() < Duration::from_secs(seconds) {
        let lookup = prepare(next(&mut random, material.entries)?)?;
        let start = Instant::now();
        lookup()?;
        times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        sleep(pause.saturating_sub(start.elapsed()));
    }
    let after = Counts::now()?;
    let (faults, preempted) = (after.faults - before.faults, after.preempted - before.preempted);
    Ok(Read { times, faults, preempted })
}

/// What the kernel has counted of this process.
struct Counts {
    faults: u64,
    preempted: u64,
}

impl Counts {
    fn now() -> Result<Self> {
        // The tenth field, behind a name in parentheses; proc(5).
        let stat = fs::read_to_string("/proc/self/stat")?;
        let faults = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(7));
        let status = fs::read_to_string("/proc/thread-self/status")?;
        let preempted = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
        Ok(Self {
            faults: faults.context("no faults")?.parse()?,
            preempted: preempted.context("no switches")?.trim().parse()?,
        })
    }
}

/// The writer's process: how many entries it wrote.
pub fn write(material: &Material, seconds: u64, beside: Beside) -> Result<u32> {
    let started = Instant::now();
    let folder = if beside == Beside::SameFile { material.cache() } else { material.other() };
    let cache = Cache::open(&folder)?;
    let template = template();
    let per_transaction = WRITES / TRANSACTIONS;
    // New addresses, behind those that are read.
    let base = 900_000_000 + usize::try_from(std::process::id() % 1000)? * 100_000;
    sleep(START.saturating_sub(started.elapsed()));
    let (begin, mut written) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        let numbers = (0..per_transaction).map(|it| base + usize::try_from(written + it).unwrap_or_default());
        let certificates: Vec<_> =
            numbers.map(|number| certificate(&template, number)).collect::<Result<_>>()?;
        cache.insert_all(&certificates, Source::Harvested, time())?;
        written += per_transaction;
        let due = Duration::from_secs(1) * written / WRITES;
        sleep(due.saturating_sub(begin.elapsed()));
    }
    // What was written goes again: the next run finds the same cache.
    let all = (0..usize::try_from(written)?)
        .map(|number| Ok(*certificate(&template, base + number)?.fingerprint()))
        .collect::<Result<Vec<_>>>()?;
    cache.remove_all(&all, "", time())?;
    Ok(written)
}

/// Numbers that look like chance, the same each time.
pub fn next(state: &mut u64, below: usize) -> Result<usize> {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let below = u64::try_from(below)?.max(1);
    Ok(usize::try_from((*state >> 33) % below)?)
}
