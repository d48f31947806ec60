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
use smime::{Certificate, Fault};

use crate::{
    error::BatchError,
    inspect::{Contents, ECDH, KeyName, Layer, RSA_OAEP, RSA_PKCS1},
    instant,
    keys::{self, KeyText, MAX_SEEN, Wanted},
    task::{Done, Failed, Task, Work},
    words,
};

/// Looks at each message and counts.
#[derive(Debug)]
pub struct Scan {
    /// Our certificates.
    ours: Vec<Certificate>,
    /// Which of them a name means.
    names: HashMap<KeyName, usize>,
    /// The messages that these keys alone open are to be named.
    lost: Vec<Wanted>,
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
    /// How many operations of each kind it takes to open all that can be, by the place of our certificate whose key is asked: of
    /// those that a ciphertext is for the first.
    pub asked: BTreeMap<(usize, &'static str), u64>,
    /// How many messages of each year have each algorithm; 0 is for those without a date.
    pub algorithms: BTreeMap<(u64, String), u64>,
    /// How many would be lost without each of the keys that were asked about.
    pub lost: Vec<u64>,
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
    /// Counts for the owner of these identities; `lost` are keys whose loss is to be shown message by message. An error if
    /// it is not clear which ones.
    pub fn new(identities: &Identities, lost: &[KeyText]) -> Result<Self, BatchError> {
        let ours: Vec<Certificate> =
            identities.iter().map(|identity| identity.certificate().clone()).collect();
        let lost = Wanted::among(lost, &ours)?;
        let found = Found { lost: vec![0; lost.len()], ..Found::default() };
        let names = ours.iter().enumerate();
        let names = names
            .flat_map(|(place, of)| KeyName::of_certificate(of).into_iter().map(move |name| (name, place)));
        Ok(Self { names: names.collect(), ours, lost, found: found.into() })
    }

    /// Our certificates, in the order that [`KeyUse::ours`] counts by.
    pub fn ours(&self) -> &[Certificate] {
        &self.ours
    }

    /// What was found so far.
    pub fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with the keys that were asked about, after all messages were looked at.
    pub fn problems(&self) -> Vec<String> {
        keys::problems("--lost", &self.lost, &self.found().keys.into_keys().collect())
    }

    /// How many messages would be lost without each key that was asked about, if there is such a key.
    pub fn lost(&self) -> Vec<(KeyName, u64)> {
        let Found { keys, lost, .. } = self.found();
        let lost = self.lost.iter().zip(lost);
        lost.filter_map(|(wanted, count)| Some((wanted.name(keys.keys())?.clone(), count))).collect()
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

    /// Counts a message; tells whether it would be lost without one of the keys that were asked about.
    fn count(&self, contents: &Contents, year: u64) -> bool {
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
            let ours = layer.recipients.iter();
            let ours = ours.filter(|of| OPENING.contains(&of.operation));
            let ours = ours.filter_map(|of| Some((*self.names.get(&of.key)?, of.operation)));
            if let Some(asked) = ours.min() {
                *found.asked.entry(asked).or_default() += 1;
            }
            for recipient in &layer.recipients {
                // Whoever writes names of keys at random shall not fill the memory.
                if found.keys.len() >= MAX_SEEN && !found.keys.contains_key(&recipient.key) {
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
        let mut is_lost = false;
        for (wanted, count) in self.lost.iter().zip(&mut found.lost) {
            if alone.iter().any(|name| wanted.is(name)) {
                *count += 1;
                is_lost = true;
            }
        }
        for name in alone {
            if let Some(key) = found.keys.get_mut(name) {
                key.alone += 1;
            }
        }
        is_lost
    }
}

impl Task for Scan {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let year = instant::of_message(work.message).map_or(0, instant::year);
        let is_lost = self.count(work.contents, year);
        if work.contents.is_cut {
            let lost = if is_lost { "lost; and " } else { "" };
            let reason =
                format!("{lost}something in it cannot be read, or is too much, and may be encrypted");
            return Err(Failed::new(Fault::Message, reason));
        }
        Ok(Done::unchanged(if is_lost { "lost" } else { "scanned" }))
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
    /// What it takes to open all that can be, where that was measured.
    pub effort: Option<&'a Effort>,
    /// How many messages could not be looked into, or not into all of them: nothing is counted of what was not seen.
    pub unseen: u64,
    /// How many messages would be lost without each key that was asked about.
    pub lost: &'a [(KeyName, u64)],
}

/// What the tokens have to do to open all that can be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effort {
    /// What was measured.
    pub measured: Vec<Measured>,
    /// How many operations are needed of which nobody knows how long they take.
    pub unknown: u64,
}

/// Operations of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// With what keys.
    pub kind: String,
    /// How many are needed.
    pub operations: u64,
    /// How many the tokens do in a second; more than none.
    pub rate: f64,
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds: f64 = self.measured.iter().map(|of| of.operations as f64 / of.rate).sum();
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let time = match time.as_secs() {
            seconds @ 0..120 => format!("{} s", seconds.max(1)),
            seconds @ 120..7_200 => format!("{} min", seconds / 60),
            _ => format!("{:.1} h", time.as_secs_f64() / 3_600.0),
        };
        let kinds = self.measured.iter().map(|Measured { kind, operations, rate }| {
            let digits = usize::from(*rate < 10.0);
            format!("{operations} x {kind} at {rate:.digits$}/s")
        });
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        if !self.measured.is_empty() {
            writeln!(f, "about {time} to open all that can be: {kinds}, as just measured")?;
        }
        if self.unknown > 0 {
            writeln!(
                f,
                "{} x a key that did not work when it was measured, so nobody knows how long that takes",
                self.unknown
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { messages, encrypted, closed, keys, algorithms, .. } = self.found;
        writeln!(
            f,
            "{}, {encrypted} encrypted, {closed} not to any key of ours",
            words::messages(*messages)
        )?;
        if self.unseen > 0 {
            writeln!(
                f,
                "{} could not be looked into, or not into all (the report says why): keys that they need may be missing here",
                self.unseen
            )?;
        }
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
        for (name, count) in self.lost {
            writeln!(f, "\n{count} of {messages} messages would be lost without {name}")?;
        }
        if let Some(effort) = self.effort.filter(|effort| **effort != Effort::default()) {
            write!(f, "\n{effort}")?;
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

/// What opens something, of what may be asked of a key.
const OPENING: [&str; 3] = [RSA_PKCS1, RSA_OAEP, ECDH];

const MAX_ROWS: usize = 100;
