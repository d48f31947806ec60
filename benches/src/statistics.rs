//! Medians, spreads and percentiles.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The median of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The one in the middle; of an even number, halfway between the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these values; all zero if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        Self { median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), min: at(0), max: at(last) }
    }
}

/// The least value that at least this share of the values does not exceed ("nearest rank"), in milliseconds.
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a length is an index"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// A median with its spread, for readers.
pub fn spread(value: Spread, digits: usize, unit: &str) -> String {
    let Spread { median, min, max } = value;
    format!("{median:.digits$}{unit} ({min:.digits$}..{max:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 9.0]);
        assert_eq!(spread, Spread { median: 4.0, min: 1.0, max: 9.0 });
        assert_eq!(Spread::of([2.0, 1.0]), Spread { median: 1.5, min: 1.0, max: 2.0 });
        assert_eq!(Spread::of([4.0, 8.0, 1.0, 3.0]), Spread { median: 3.5, min: 1.0, max: 8.0 });
        assert_eq!(Spread::of([7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        for (share, expected) in [(0.5, 100.0), (0.99, 198.0), (0.991, 199.0), (1.0, 200.0), (0.001, 1.0)] {
            assert!((percentile(&times, share) - expected).abs() < 1e-9, "{share}");
        }
        assert!(percentile(&[], 0.5).abs() < 1e-9);
    }
}
