//! What was found out is remembered in the cache: choices by address, path results by certificate.
//!
//! It is written by a thread of its own, many results in one transaction: a look-up never waits for another
//! process that writes. Nothing is written that was found out from what has changed since.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, SystemTime},
};

use heed::RoTxn;
use smime::{Certificate, MailAddress, algorithm::DigestAlgorithm, key::Digest};

use super::{
    Identity,
    candidate::DOMAIN_AUTHORITY,
    judge::{Outcome, PathResult},
};
use crate::{
    Cache, CacheError, Entry,
    codec::{Reader, Writer},
    env::{Tried, Trouble},
    key,
    record::Fingerprint,
    tables::{Tables, suffixes},
};

/// How many results may wait to be written. What finds no room is found out again.
const QUEUE: usize = 4096;
/// How many results are written in one transaction.
const BATCH: usize = 256;
/// How long the first result of a batch waits for others.
const GATHER: Duration = Duration::from_millis(50);

const CHOICE_VERSION: u8 = 1;
const PATH_VERSION: u8 = 1;

/// A remembered choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// These are to be encrypted to.
    Chosen(Vec<Certificate>),
    /// There is nothing to encrypt to.
    Nothing,
}

/// What a choice was made from; another value means that something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    generation: u64,
    /// How many CRLs had come.
    crls: u64,
    /// Over the fingerprints, and the check sums of what is known of each.
    digest: [u8; 32],
}

/// All entries of an address.
pub(crate) struct Gathered {
    pub(crate) entries: Vec<Entry>,
    pub(crate) damaged: Option<CacheError>,
    pub(crate) inputs: Inputs,
}

/// What was found out of an address.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) address: MailAddress,
    pub(super) identity: Identity,
    pub(super) inputs: Inputs,
    pub(super) results: Vec<(Fingerprint, PathResult)>,
    pub(super) chosen: Vec<Fingerprint>,
    /// Whether every entry of the address could be read, and looked at as long as it takes.
    pub(super) is_whole: bool,
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

enum Job {
    Remember(Box<Found>),
    Flush(SyncSender<()>),
}

/// Writes down what is found out.
#[derive(Debug)]
pub(super) struct Memory {
    jobs: Option<SyncSender<Job>>,
}

impl Memory {
    pub(super) fn new(cache: Arc<Cache>) -> Self {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        // Without the thread everything is found out each time.
        let thread = thread::Builder::new().name("certcache".to_owned());
        let started = thread.spawn(move || run(&cache, &receiver));
        Self { jobs: started.is_ok().then_some(sender) }
    }

    pub(super) fn remember(&self, found: Found) {
        if let Some(jobs) = &self.jobs {
            match jobs.try_send(Job::Remember(Box::new(found))) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    pub(super) fn flush(&self, within: Duration) -> bool {
        let (done, wait) = mpsc::sync_channel(1);
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job::Flush(done)).is_ok());
        sent && wait.recv_timeout(within).is_ok()
    }
}

fn run(cache: &Cache, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH && !matches!(batch.last(), Some(Job::Flush(_))) {
            match jobs.recv_timeout(GATHER) {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let found = || {
            batch.iter().filter_map(|job| match job {
                Job::Remember(found) => Some(found.as_ref()),
                Job::Flush(_) => None,
            })
        };
        if found().next().is_some() {
            // What cannot be written is found out again next time; whoever looks up meets the same error.
            let _ = cache.write(|tables, transaction| {
                for found in found() {
                    if inputs(tables, transaction, &found.address)? == found.inputs {
                        write(tables, transaction, found)?;
                    }
                }
                Ok(())
            });
        }
        for job in batch {
            if let Job::Flush(done) = job {
                let _ = done.send(());
            }
        }
    }
}

fn write(tables: &Tables, transaction: &mut heed::RwTxn<'_>, found: &Found) -> Tried<()> {
    for (fingerprint, result) in &found.results {
        for issuer in &result.above {
            tables.note_issues_issuers(transaction, issuer)?;
        }
        let value = encode_result(found, result);
        tables.path.put(transaction, &[fingerprint.as_slice(), &found.identity].concat(), &value)?;
    }
    if let Some(address) = key::address(&found.address).filter(|_| found.is_whole) {
        let mut writer = Writer::new(CHOICE_VERSION)
            .u64(found.inputs.generation)
            .time(found.from)
            .time(found.until)
            .u16(u16::try_from(found.chosen.len()).unwrap_or(u16::MAX));
        for fingerprint in &found.chosen {
            writer = writer.array(fingerprint);
        }
        tables.choice.put(transaction, &key::pair(&address, &found.identity), &writer.finish())?;
    }
    Ok(())
}

fn encode_result(found: &Found, result: &PathResult) -> Vec<u8> {
    let writer = Writer::new(PATH_VERSION).u64(found.inputs.generation).time(found.from).time(result.until);
    match &result.outcome {
        Outcome::Good => writer.u8(0),
        Outcome::Unchecked(why) => writer.u8(1).text(why),
        Outcome::Unknown(why) => writer.u8(2).text(why),
        Outcome::Revoked(why) => writer.u8(3).text(why),
        Outcome::Untrusted(why) => writer.u8(4).text(why),
        Outcome::Rule(number, comment) => writer.u8(5).u64(*number).text(comment),
        Outcome::Undecided(why) => writer.u8(6).text(why),
    }
    .finish()
}

fn decode_result(value: &[u8], generation: u64, at: SystemTime) -> Option<PathResult> {
    let mut reader = Reader::new(value, PATH_VERSION)?;
    let (found, from, until) = (reader.u64()?, reader.time()?, reader.time()?);
    let kind = reader.u8()?;
    let mut why = || reader.text().map(str::to_owned);
    let outcome = match kind {
        0 => Outcome::Good,
        1 => Outcome::Unchecked(why()?),
        2 => Outcome::Unknown(why()?),
        3 => Outcome::Revoked(why()?),
        4 => Outcome::Untrusted(why()?),
        5 => Outcome::Rule(reader.u64()?, reader.text()?.to_owned()),
        6 => Outcome::Undecided(why()?),
        _ => return None,
    };
    // What is above it was noted when this was written.
    let result = PathResult { outcome, until, above: Vec::new() };
    (found == generation && from <= at && at < until).then_some(result)
}

impl Cache {
    /// The choice that is remembered of an address under an identity, if it still counts.
    pub(crate) fn remembered(
        &self,
        address: &MailAddress,
        identity: &Identity,
        at: SystemTime,
    ) -> Result<Option<Remembered>, CacheError> {
        let chosen = self.remembered_octets(address, identity, at, <[u8]>::to_vec)?;
        let Some(chosen) = chosen else { return Ok(None) };
        let mut certificates = Vec::with_capacity(chosen.len());
        for (fingerprint, der) in chosen {
            // The key is the check sum of the octets.
            match Certificate::decode(der) {
                Ok(certificate) if *certificate.fingerprint() == fingerprint => {
                    if !certificate.addresses().contains(address) && !self.is_given(&fingerprint, address)? {
                        return Ok(None);
                    }
                    certificates.push(certificate);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(if certificates.is_empty() { Remembered::Nothing } else { Remembered::Chosen(certificates) }))
    }

    /// Whether the certificate of a fingerprint is an address's by its record.
    fn is_given(&self, fingerprint: &Fingerprint, address: &MailAddress) -> Result<bool, CacheError> {
        Ok(self.by_fingerprint(fingerprint)?.is_some_and(|entry| entry.is_of(address)))
    }

    /// The read of [`Self::remembered`] alone: a choice, and for each certificate what `take` makes of its octets.
    pub(crate) fn remembered_octets<T>(
        &self,
        address: &MailAddress,
        identity: &Identity,
        at: SystemTime,
        mut take: impl FnMut(&[u8]) -> T,
    ) -> Result<Option<Vec<(Fingerprint, T)>>, CacheError> {
        let Some(address) = key::address(address) else { return Ok(None) };
        let key = key::pair(&address, identity);
        self.read(|tables, transaction| {
            let Some(value) = tables.choice.get(transaction, &key)? else { return Ok(None) };
            let generation = tables.generation(transaction)?;
            let Some(fingerprints) = decode_choice(value, generation, at) else { return Ok(None) };
            let mut chosen = Vec::with_capacity(fingerprints.len());
            for fingerprint in fingerprints {
                let Some(der) = tables.der.get(transaction, &fingerprint)? else { return Ok(None) };
                chosen.push((fingerprint, take(der)));
            }
            Ok(Some(chosen))
        })
    }

    /// What is remembered of a certificate's path under an identity.
    pub(crate) fn path_result(
        &self,
        fingerprint: &Fingerprint,
        identity: &Identity,
        at: SystemTime,
    ) -> Result<Option<PathResult>, CacheError> {
        let key = [fingerprint.as_slice(), identity].concat();
        self.read(|tables, transaction| {
            let generation = tables.generation(transaction)?;
            Ok(tables.path.get(transaction, &key)?.and_then(|value| decode_result(value, generation, at)))
        })
    }

    /// All entries of an address, of its domain, and of the domain's authority, with what tells whether they change.
    pub(crate) fn gather(&self, address: &MailAddress) -> Result<Gathered, CacheError> {
        self.read(|tables, transaction| {
            let (mut entries, damaged) = self.entries_in(tables, transaction, address)?;
            for fingerprint in domain_authorities(tables, transaction, address)? {
                match self.entry(tables, transaction, &fingerprint) {
                    Ok(Some(entry)) if entries.iter().all(|it| it.certificate != entry.certificate) => {
                        entries.push(entry);
                    }
                    // It is listed for people; damage in it is its own address's.
                    Ok(_) | Err(Trouble::Cache(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(Gathered { entries, damaged, inputs: inputs(tables, transaction, address)? })
        })
    }
}

fn inputs(tables: &Tables, transaction: &RoTxn<'_>, address: &MailAddress) -> Tried<Inputs> {
    let mut octets = Vec::new();
    for part in [key::address(address), key::domain(address)].into_iter().flatten() {
        let found: Vec<Fingerprint> = suffixes(tables.by_addr, transaction, &key::prefix(&part), usize::MAX)?;
        for fingerprint in found {
            octets.extend(fingerprint);
            for table in [tables.cert, tables.ocsp] {
                // A check sum over values that end in their own would be the same for all of them.
                let value = table.get(transaction, &fingerprint)?.unwrap_or_default();
                octets.extend(value.last_chunk::<4>().copied().unwrap_or_default());
            }
        }
    }
    let digest = Digest::of(DigestAlgorithm::Sha256, &octets).as_bytes().try_into().unwrap_or([0; 32]);
    Ok(Inputs { generation: tables.generation(transaction)?, crls: tables.crls(transaction)?, digest })
}

fn domain_authorities(
    tables: &Tables,
    transaction: &RoTxn<'_>,
    address: &MailAddress,
) -> Tried<HashSet<Fingerprint>> {
    let authority = key::text(&format!("{DOMAIN_AUTHORITY}@{}", address.ascii_domain()));
    let Some(authority) = authority else { return Ok(HashSet::new()) };
    let found = suffixes(tables.by_addr, transaction, &key::prefix(&authority), 20)?;
    Ok(found.into_iter().collect())
}

fn decode_choice(value: &[u8], generation: u64, at: SystemTime) -> Option<Vec<Fingerprint>> {
    let mut reader = Reader::new(value, CHOICE_VERSION)?;
    let (found, from, until, count) = (reader.u64()?, reader.time()?, reader.time()?, reader.u16()?);
    let fingerprints = (0..count).map(|_| reader.array()).collect::<Option<_>>()?;
    reader.end()?;
    (found == generation && from <= at && at < until).then_some(fingerprints)
}
