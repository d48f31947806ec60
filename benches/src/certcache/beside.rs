//! Readers in processes of their own, alone and beside a process that writes.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use certcache::{Cache, Source};
use serde::{Deserialize, Serialize};
use smime::store::{Lookup, RecipientCertificates, Waited};

use super::material::{Material, certificate, chooser, template, time};

/// How many processes read.
pub const READERS: usize = 4;
/// How many entries the writer writes in a second, in so many transactions.
pub const WRITES: u32 = 1000;
const TRANSACTIONS: u32 = 100;
/// How many look-ups each reader makes in a second.
pub const READS: u32 = 2000;

/// How long look-ups took, in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latencies {
    /// How many there were.
    pub lookups: usize,
    /// 50 in 100.
    pub p50: f64,
    /// 99 in 100.
    pub p99: f64,
    /// 9,999 in 10,000.
    pub p9999: f64,
    /// Entries written meanwhile, in a second.
    pub written: f64,
}

/// Starts readers, with or without a writer, and gathers how long their look-ups took.
pub fn measure(material: &Material, seconds: u64, with_writer: bool) -> Result<Latencies> {
    let start = |what: &str, number: usize| -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([what, "--seconds", &seconds.to_string(), "--number", &number.to_string()]);
        command.args(["--entries", &material.entries.to_string(), "--data"]);
        command.arg(material.cache().parent().and_then(|it| it.parent()).context("no folder")?);
        Ok(command.stdout(Stdio::piped()).spawn()?)
    };
    let writer = with_writer.then(|| start("writer", 0)).transpose()?;
    let readers: Vec<Child> = (0..READERS).map(|number| start("reader", number)).collect::<Result<_>>()?;
    let mut times = Vec::new();
    for reader in readers {
        let part: Vec<u32> = serde_json::from_slice(&output(reader)?)?;
        times.extend(part);
    }
    let written: u32 =
        writer.map_or(Ok(0), |writer| anyhow::Ok(serde_json::from_slice(&output(writer)?)?))?;
    times.sort_unstable();
    let at = |share: usize| {
        let index = (times.len() * share / 10_000).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |nanoseconds| f64::from(*nanoseconds) / 1000.0)
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds are few")]
    let written = f64::from(written) / seconds as f64;
    Ok(Latencies { lookups: times.len(), p50: at(5000), p99: at(9900), p9999: at(9999), written })
}

fn output(mut child: Child) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    child.stdout.take().context("no output")?.read_to_end(&mut octets)?;
    ensure!(child.wait()?.success(), "a process failed");
    Ok(octets)
}

/// A reader's process: the time of each look-up in nanoseconds.
pub fn read(material: &Material, seconds: u64, number: usize) -> Result<Vec<u32>> {
    let cache = Arc::new(Cache::open(&material.cache())?);
    let chooser = chooser(&cache);
    let mut random = number as u64 + 1;
    let (begin, pause) = (Instant::now(), Duration::from_secs(1) / READS);
    let mut times = Vec::new();
    while begin.elapsed() < Duration::from_secs(seconds) {
        let address = Material::address(next(&mut random, material.entries)?)?;
        let start = Instant::now();
        let found = chooser.lookup(&address, time(), &mut Waited::default())?;
        times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        ensure!(matches!(found, Lookup::Found(_)), "not found");
        sleep(pause.saturating_sub(start.elapsed()));
    }
    Ok(times)
}

/// The writer's process: how many entries it wrote.
pub fn write(material: &Material, seconds: u64) -> Result<u32> {
    let cache = Cache::open(&material.cache())?;
    let template = template();
    let per_transaction = WRITES / TRANSACTIONS;
    let (begin, mut written) = (Instant::now(), 0);
    // New addresses, behind those that are read.
    let base = 900_000_000 + usize::try_from(std::process::id() % 1000)? * 100_000;
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
    for number in 0..usize::try_from(written)? {
        cache.remove(certificate(&template, base + number)?.fingerprint())?;
    }
    Ok(written)
}

/// Numbers that look like chance, the same each time.
pub fn next(state: &mut u64, below: usize) -> Result<usize> {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let below = u64::try_from(below)?.max(1);
    Ok(usize::try_from((*state >> 33) % below)?)
}
