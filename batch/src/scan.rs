//! What is in an archive: layers, algorithms, the keys it is encrypted to, and what would be lost without one of them.
//!
//! No private key is used. What the tokens have and how fast they are is for the caller to find out.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agent::Identities;
use smime::Certificate;

use crate::{
    inspect::{Contents, KeyName, Layer},
    instant,
    task::{Done, Failed, Task, Work},
};

/// Looks at each message and counts.
#[derive(Debug)]
pub struct Scan {
    /// Our certificates.
    ours: Vec<Certificate>,
    /// Which of them a name means.
    names: HashMap<KeyName, usize>,
    /// The messages that these keys alone open are to be named.
    lost: Vec<String>,
    found: Mutex<Found>,
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many messages were looked at.
    pub messages: u64,
    /// How many of them are encrypted, as a whole or in a part.
    pub encrypted: u64,
    /// How many are encrypted and have a ciphertext that no key of ours opens.
    pub closed: u64,
    /// The keys that something is encrypted to.
    pub keys: BTreeMap<KeyName, KeyUse>,
    /// How many messages of each year have each algorithm; 0 is for those without a date.
    pub algorithms: BTreeMap<(u64, String), u64>,
}

/// What a key is needed for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// Messages that are encrypted to it.
    pub messages: u64,
    /// How many operations of each kind would open them all with it.
    pub operations: BTreeMap<&'static str, u64>,
    /// Messages that would be lost with it: it alone opens something in them, or it alone of ours does.
    pub alone: u64,
    /// Its place among our certificates.
    pub ours: Option<usize>,
}

impl Scan {
    /// Counts for the owner of these identities; `lost` are keys, by serial number or key identifier, whose loss is to
    /// be shown message by message.
    pub fn new(identities: &Identities, lost: Vec<String>) -> Self {
        let ours: Vec<Certificate> =
            identities.iter().map(|identity| identity.certificate().clone()).collect();
        let names = ours.iter().enumerate();
        let names = names
            .flat_map(|(place, of)| KeyName::of_certificate(of).into_iter().map(move |name| (name, place)));
        Self { names: names.collect(), ours, lost, found: Mutex::default() }
    }

    /// Our certificates, in the order that [`KeyUse::ours`] counts by.
    pub fn ours(&self) -> &[Certificate] {
        &self.ours
    }

    /// What was found so far.
    pub fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which of the names of a layer's keys its content is lost with.
    fn alone<'l>(&self, layer: &'l Layer) -> Vec<&'l KeyName> {
        let is_ours = |name: &&KeyName| self.names.contains_key(*name);
        let names = || layer.recipients.iter().map(|recipient| &recipient.key);
        let ours: Vec<&KeyName> = names().filter(is_ours).collect();
        match (ours.as_slice(), layer.recipients.as_slice()) {
            ([], [only]) => vec![&only.key],
            // Two names may be one key's.
            ([first, rest @ ..], _)
                if rest.iter().all(|name| self.names.get(*name) == self.names.get(*first)) =>
            {
                ours
            }
            _ => Vec::new(),
        }
    }

    fn count(&self, contents: &Contents, year: u64) {
        let mut guard = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let found = &mut *guard;
        found.messages += 1;
        let mut algorithms: Vec<&String> =
            contents.layers.iter().flat_map(|layer| &layer.algorithms).collect();
        algorithms.sort();
        algorithms.dedup();
        for algorithm in algorithms {
            *found.algorithms.entry((year, algorithm.clone())).or_default() += 1;
        }
        let encrypted: Vec<&Layer> = contents.layers.iter().filter(|layer| layer.is_encrypted()).collect();
        found.encrypted += u64::from(!encrypted.is_empty());
        let opens = |layer: &&Layer| layer.recipients.iter().any(|r| self.names.contains_key(&r.key));
        found.closed += u64::from(!encrypted.iter().all(opens));
        let mut seen: Vec<&KeyName> = Vec::new();
        let mut alone: Vec<&KeyName> = Vec::new();
        for layer in encrypted {
            for recipient in &layer.recipients {
                // Whoever writes names of keys at random shall not fill the memory.
                if found.keys.len() >= MAX_KEYS && !found.keys.contains_key(&recipient.key) {
                    continue;
                }
                let key = found.keys.entry(recipient.key.clone()).or_default();
                key.ours = self.names.get(&recipient.key).copied();
                *key.operations.entry(recipient.operation).or_default() += 1;
                if !seen.contains(&&recipient.key) {
                    seen.push(&recipient.key);
                    key.messages += 1;
                }
            }
            alone.extend(self.alone(layer));
        }
        alone.sort();
        alone.dedup();
        for name in alone {
            if let Some(key) = found.keys.get_mut(name) {
                key.alone += 1;
            }
        }
    }
}

impl Task for Scan {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let year = instant::of_message(work.message).map_or(0, instant::year);
        self.count(work.contents, year);
        let layers = || work.contents.layers.iter().filter(|layer| layer.is_encrypted());
        let is_lost = |name: &KeyName| self.lost.iter().any(|text| name.is_called(text));
        let lost = layers().flat_map(|layer| self.alone(layer)).any(is_lost);
        Ok(Done::unchanged(if lost { "lost" } else { "scanned" }))
    }
}

/// What was found, for people.
pub struct Summary<'a> {
    /// What was found.
    pub found: &'a Found,
    /// Our certificates.
    pub ours: &'a [Certificate],
    /// For each of them whether a token has its key, where one was asked.
    pub on_tokens: Option<&'a [bool]>,
    /// How many operations with a private key the tokens do in a second, where that was measured.
    pub rate: Option<f64>,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { messages, encrypted, closed, keys, algorithms } = self.found;
        writeln!(f, "{messages} messages, {encrypted} encrypted, {closed} not to any key of ours")?;
        if !keys.is_empty() {
            writeln!(f, "\n{:>9} {:>9}  key", "messages", "lost with")?;
        }
        let mut rows: Vec<_> = keys.iter().collect();
        rows.sort_by_key(|(_, key)| std::cmp::Reverse(key.messages));
        for (name, key) in rows.iter().take(MAX_ROWS) {
            let operations: Vec<String> =
                key.operations.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let operations = operations.join(", ");
            let whose = self.whose(key);
            writeln!(f, "{:>9} {:>9}  {name}: {operations}; {whose}", key.messages, key.alone)?;
        }
        if rows.len() > MAX_ROWS {
            writeln!(f, "{} more keys are in the report", rows.len() - MAX_ROWS)?;
        }
        if let Some(rate) = self.rate.filter(|rate| *rate > 0.0) {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let seconds = (encrypted - closed.min(encrypted)) as f64 / rate;
            let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            writeln!(
                f,
                "\nabout {:.1} h to open all that can be, at {rate:.0} operations/s as just measured",
                time.as_secs_f64() / 3_600.0
            )?;
        }
        if !algorithms.is_empty() {
            writeln!(f, "\n{:>6} {:>9}  algorithm", "year", "messages")?;
        }
        for ((year, algorithm), count) in algorithms {
            let year = if *year == 0 { "none".to_owned() } else { year.to_string() };
            writeln!(f, "{year:>6} {count:>9}  {algorithm}")?;
        }
        Ok(())
    }
}

impl Summary<'_> {
    fn whose(&self, key: &KeyUse) -> String {
        let Some(certificate) = key.ours.and_then(|place| self.ours.get(place)) else {
            return "not configured here".to_owned();
        };
        let has = key.ours.and_then(|place| self.on_tokens?.get(place).copied());
        match has {
            Some(true) => format!("{certificate}, on a token"),
            Some(false) => format!("{certificate}, MISSING on every token"),
            None => format!("{certificate}, configured; tokens were not asked"),
        }
    }
}

const MAX_KEYS: usize = 100_000;
const MAX_ROWS: usize = 100;
