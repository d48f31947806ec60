//! A histogram of durations that many threads write: atomic counters, eight to each power of two.
//!
//! From one microsecond to about an hour, with an error of at most an eighth.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::remote::few;

/// Buckets for each power of two, as a power of two.
const FINE: u32 = 3;
/// 2^32 µs are more than an hour; what takes longer counts as that.
const BUCKETS: usize = 30 << FINE;

/// The counters.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> Distribution {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets = counts
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(bucket, count)| (upper_end(bucket), count))
            .collect();
        Distribution { buckets, sum_micros: self.sum.load(Ordering::Relaxed) }
    }
}

/// How durations are distributed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// Microseconds, and how many took at most that long and longer than the entry before says.
    #[serde(deserialize_with = "few")]
    pub buckets: Vec<(u64, u64)>,
    /// All durations together.
    pub sum_micros: u64,
}

impl Distribution {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The duration that this share of them did not exceed, for instance 0.99; zero where there are none.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among fewer than 2^52, not negative"
    )]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        let at = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        at.map_or(Duration::ZERO, |(micros, _)| Duration::from_micros(*micros))
    }

    /// How many took at most so long.
    pub fn at_most(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.buckets.iter().filter(|(micros, _)| *micros <= limit).map(|(_, count)| count).sum()
    }
}

/// Up to 2^FINE microseconds each number has a bucket, then each power of two has 2^FINE.
fn bucket_of(micros: u64) -> usize {
    let power = micros.checked_ilog2().unwrap_or(0).saturating_sub(FINE);
    let within = micros >> power;
    usize::try_from((u64::from(power) << FINE) + within).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The largest number of microseconds that falls into a bucket.
fn upper_end(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let size = 1 << FINE;
    if bucket < 2 * size {
        return bucket;
    }
    let power = (bucket >> FINE) - 1;
    let within = (bucket & (size - 1)) + size;
    ((within + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_falls_into_a_bucket_that_is_at_most_an_eighth_too_long() {
        let mut last = None;
        for micros in (0..5000).chain((1..1000).map(|n| n * 3_456_789)) {
            let end = upper_end(bucket_of(micros));
            assert!(end >= micros && end - micros <= micros / 8, "{micros} in {end}");
            assert!(last <= Some(bucket_of(micros)), "buckets grow");
            last = Some(bucket_of(micros));
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.5), Duration::ZERO);
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let read = histogram.read();
        assert_eq!((read.count(), read.sum_micros), (100, 5_050_000));
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = read.quantile(share).as_secs_f64() * 1000.0;
            assert!((expected..=expected * 1.13).contains(&found), "{share}: {found} ms");
        }
        assert_eq!(read.at_most(Duration::from_secs(1)), 100);
        assert!((40..=50).contains(&read.at_most(Duration::from_millis(50))));
    }
}
