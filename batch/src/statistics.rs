//! What a run counts for its summary for people. It does not grow with the archive, whatever is written in its mail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::report::Record;

/// How many messages there are of each kind, and when they were done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Statistics {
    /// How many messages were counted.
    pub(crate) messages: u64,
    /// Messages and octets in each step of time.
    pub(crate) steps: Vec<(u64, u64)>,
    /// How long a step is.
    pub(crate) step: Duration,
    /// By what verification said.
    pub(crate) verdicts: BTreeMap<String, u64>,
    /// By who signed.
    pub(crate) signers: BTreeMap<String, u64>,
    /// By whose private key was used.
    pub(crate) keys: BTreeMap<String, u64>,
    /// By the year of the message, 0 if there is none, and the algorithm.
    pub(crate) years: BTreeMap<u64, BTreeMap<String, u64>>,
    /// By why it failed.
    pub(crate) errors: BTreeMap<String, u64>,
    /// The first ones that failed.
    pub(crate) failures: Vec<Failure>,
}

/// A message that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) index: u64,
    pub(crate) source: String,
    pub(crate) message_id: String,
    pub(crate) reason: String,
}

impl Statistics {
    /// Nothing is counted yet.
    pub(crate) fn new() -> Self {
        Self {
            messages: 0,
            steps: vec![(0, 0)],
            step: FIRST_STEP,
            verdicts: BTreeMap::new(),
            signers: BTreeMap::new(),
            keys: BTreeMap::new(),
            years: BTreeMap::new(),
            errors: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Counts a message that was done after the run had worked so long.
    pub(crate) fn add(&mut self, record: &Record, elapsed: Duration) {
        self.messages += 1;
        self.add_to_step(record.input.size, elapsed);
        record.verdict.iter().for_each(|verdict| count(&mut self.verdicts, verdict));
        record.signers.iter().for_each(|signer| count(&mut self.signers, signer));
        // A message counts once for each key.
        for key in record.key.iter().chain(&record.keys).collect::<BTreeSet<_>>() {
            count(&mut self.keys, key);
        }
        let algorithms: BTreeSet<&String> =
            record.layers.iter().flat_map(|layer| &layer.algorithms).collect();
        if !algorithms.is_empty() {
            let year = record.year.unwrap_or(0);
            let is_known = self.years.len() < MAX_YEARS || self.years.contains_key(&year);
            let of_year = self.years.entry(if is_known { year } else { 0 }).or_default();
            for algorithm in algorithms {
                count(of_year, algorithm);
            }
        }
        if let Some(error) = &record.error {
            count(&mut self.errors, &error.reason);
            if self.failures.len() < MAX_FAILURES {
                self.failures.push(Failure {
                    index: record.index,
                    source: short(&record.source.to_string()),
                    message_id: short(record.message_id.as_deref().unwrap_or_default()),
                    reason: short(&error.reason),
                });
            }
        }
    }

    /// Steps become longer as a run does, so that there are never many.
    fn add_to_step(&mut self, octets: u64, elapsed: Duration) {
        while elapsed.as_nanos() / self.step.as_nanos() >= MAX_STEPS as u128 {
            self.step *= 2;
            let pairs = self.steps.chunks(2);
            self.steps = pairs.map(|pair| pair.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))).collect();
        }
        let at = usize::try_from(elapsed.as_nanos() / self.step.as_nanos()).unwrap_or(MAX_STEPS);
        if self.steps.len() <= at {
            self.steps.resize(at + 1, (0, 0));
        }
        if let Some(step) = self.steps.get_mut(at) {
            *step = (step.0 + 1, step.1 + octets);
        }
    }
}

/// Counts one more of this name; those of which there are too many are counted together.
fn count(of: &mut BTreeMap<String, u64>, name: &str) {
    let name = short(name);
    let is_known = of.len() < MAX_ROWS || of.contains_key(&name);
    *of.entry(if is_known { name } else { OTHERS.to_owned() }).or_default() += 1;
}

/// A text that is not longer than a line.
fn short(text: &str) -> String {
    if text.chars().nth(MAX_TEXT).is_none() {
        return text.to_owned();
    }
    text.chars().take(MAX_TEXT).chain(['…']).collect()
}

/// The name of what there is too much of.
const OTHERS: &str = "(others)";
const FIRST_STEP: Duration = Duration::from_millis(100);
const MAX_STEPS: usize = 240;
const MAX_ROWS: usize = 50;
const MAX_YEARS: usize = 60;
const MAX_FAILURES: usize = 50;
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::tests::record;

    #[test]
    fn each_key_that_opened_a_message_is_counted_by_itself() {
        let mut statistics = Statistics::new();
        let [outer, inner] = ["outer", "inner"].map(str::to_owned);
        let one = Record { key: Some(outer.clone()), ..record(None, "a", "v", None) };
        let both = Record { keys: vec![outer.clone(), inner.clone(), outer.clone()], ..one.clone() };
        for of in [&one, &both] {
            statistics.add(of, Duration::ZERO);
        }
        assert_eq!(statistics.keys, [(outer, 2), (inner, 1)].into());
    }

    #[test]
    fn memory_is_bounded_whatever_messages_are_called_and_however_long_it_takes() {
        let mut statistics = Statistics::new();
        for number in 0..5_000 {
            let name = format!("{number} {}", "x".repeat(1_000));
            let of = record(Some(number), &name, &name, Some(&name));
            statistics.add(&of, Duration::from_secs(number * number));
        }
        let Statistics { messages, steps, verdicts, signers, years, errors, failures, .. } = &statistics;
        assert_eq!(steps.iter().map(|(messages, _)| messages).sum::<u64>(), *messages);
        assert_eq!(verdicts.values().sum::<u64>(), *messages);
        assert_eq!(years.values().flat_map(BTreeMap::values).sum::<u64>(), *messages);
        assert!(steps.len() <= MAX_STEPS && verdicts.len() <= MAX_ROWS + 1 && signers.len() <= MAX_ROWS + 1);
        assert!(years.len() <= MAX_YEARS + 1 && errors.len() <= MAX_ROWS + 1);
        assert_eq!(failures.len(), MAX_FAILURES);
        let text = serde_json::to_string(&statistics).unwrap();
        assert!(text.len() < 200_000, "{} octets in the journal", text.len());
    }
}
