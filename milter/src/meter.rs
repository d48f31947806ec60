//! What the milter counts: messages by direction, outcome and verdict, how long they took, and what is under way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counters of one milter, written by all its connections.
#[derive(Debug, Default)]
pub struct Meter {
    messages: Mutex<BTreeMap<Labels, u64>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
    in_flight: AtomicI64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

/// What a message is counted by. All are words of this program, so that there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) direction: &'static str,
    /// What was done, or the code of the reply.
    pub(crate) outcome: &'static str,
    /// RFC 7281's word, or nothing.
    pub(crate) verdict: &'static str,
}

/// A message under way, counted once when it is answered.
#[derive(Debug)]
pub(crate) struct UnderWay<'m> {
    meter: &'m Meter,
    since: Instant,
}

impl Meter {
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay { meter: self, since: Instant::now() }
    }

    /// Counts what is refused before it is a whole message.
    pub(crate) fn refused(&self, code: &'static str) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// Counts a reading of the configuration.
    pub fn reloaded(&self, succeeded: bool) {
        let counter = if succeeded { &self.reloads } else { &self.failed_reloads };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// As text for Prometheus (exposition format 0.0.4).
    pub fn text(&self) -> String {
        let mut page = String::new();
        // Writing into a String does not fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        head(page, "messages_total", "counter", "Messages that were answered.")?;
        for (Labels { direction, outcome, verdict }, count) in
            self.messages.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            writeln!(
                page,
                "hsmime_milter_messages_total{{direction=\"{direction}\",outcome=\"{outcome}\",verdict=\"{verdict}\"}} {count}"
            )?;
        }
        head(page, "refusals_total", "counter", "Commands refused before the end of a message, by reply.")?;
        for (code, count) in self.refusals.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(page, "hsmime_milter_refusals_total{{code=\"{code}\"}} {count}")?;
        }
        head(page, "seconds", "histogram", "From the end of a message to its answer.")?;
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let bound = bound.as_secs_f64();
            writeln!(page, "hsmime_milter_seconds_bucket{{le=\"{bound}\"}} {below}")?;
        }
        // A message that is counted in between must not make a bucket larger than all.
        let count = self.count.load(Ordering::Relaxed).max(below);
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)).as_secs_f64();
        writeln!(page, "hsmime_milter_seconds_bucket{{le=\"+Inf\"}} {count}")?;
        writeln!(page, "hsmime_milter_seconds_sum {sum}\nhsmime_milter_seconds_count {count}")?;
        gauge(
            page,
            "in_flight",
            "Messages between their end and the answer.",
            self.in_flight.load(Ordering::Relaxed),
        )?;
        head(page, "reloads_total", "counter", "Readings of the configuration.")?;
        for (result, counter) in [("read", &self.reloads), ("failed", &self.failed_reloads)] {
            let count = counter.load(Ordering::Relaxed);
            writeln!(page, "hsmime_milter_reloads_total{{result=\"{result}\"}} {count}")?;
        }
        Ok(())
    }
}

impl UnderWay<'_> {
    /// Counts the message.
    pub(crate) fn answered(self, labels: Labels) {
        let meter = self.meter;
        let took = self.since.elapsed();
        *meter.messages.lock().unwrap_or_else(PoisonError::into_inner).entry(labels).or_default() += 1;
        if let Some((_, bucket)) = BOUNDS.iter().zip(&meter.buckets).find(|(bound, _)| took <= **bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        meter.sum_micros.fetch_add(micros, Ordering::Relaxed);
        meter.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.meter.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(page, "# HELP hsmime_milter_{name} {help}\n# TYPE hsmime_milter_{name} {kind}")
}

/// Adds a number that goes up and down.
pub fn gauge(page: &mut String, name: &str, help: &str, value: impl std::fmt::Display) -> std::fmt::Result {
    head(page, name, "gauge", help)?;
    writeln!(page, "hsmime_milter_{name} {value}")
}

/// Adds a row of such numbers, each with the value of its label.
pub fn gauges(
    page: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (impl std::fmt::Display, impl std::fmt::Display)>,
) -> std::fmt::Result {
    head(page, name, "gauge", help)?;
    for (of, value) in values {
        writeln!(page, "hsmime_milter_{name}{{{label}=\"{of}\"}} {value}")?;
    }
    Ok(())
}

/// The upper ends of the histogram's buckets.
const BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
    Duration::from_mins(1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_flight_until_it_is_answered_or_given_up_and_counted_once() {
        let meter = Meter::default();
        let labels = Labels { direction: "incoming", outcome: "decrypted", verdict: "pass" };
        let (first, second, given_up) = (meter.begin(), meter.begin(), meter.begin());
        assert!(meter.text().contains("hsmime_milter_in_flight 3\n"));
        drop(given_up);
        first.answered(labels);
        second.answered(labels);
        meter.refused("552");
        meter.reloaded(true);
        let text = meter.text();
        for line in [
            "hsmime_milter_messages_total{direction=\"incoming\",outcome=\"decrypted\",verdict=\"pass\"} 2",
            "hsmime_milter_refusals_total{code=\"552\"} 1",
            "hsmime_milter_seconds_bucket{le=\"60\"} 2",
            "hsmime_milter_seconds_bucket{le=\"+Inf\"} 2",
            "hsmime_milter_seconds_count 2",
            "hsmime_milter_in_flight 0",
            "hsmime_milter_reloads_total{result=\"read\"} 1",
            "hsmime_milter_reloads_total{result=\"failed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
