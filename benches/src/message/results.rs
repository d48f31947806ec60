//! Everything that was measured in one run, and what was wanted.

use serde::{Deserialize, Serialize};

use super::{
    contender::Contender,
    memory::Cost,
    operation::{Key, Operation},
};
use crate::{
    statistics::{Spread, spread},
    wanted::Wanted,
};

/// What was measured, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The processor and how many of them.
    pub machine: String,
    /// When it began, UTC.
    pub date: String,
    /// Programs and libraries that took part.
    pub versions: Vec<String>,
    /// The system's load average before.
    pub load_before: String,
    /// How often everything was measured.
    pub rounds: usize,
    /// How long each contender worked in a round.
    pub seconds: f64,
    /// The times.
    pub rows: Vec<Row>,
    /// The memory.
    pub memory: Vec<Cost>,
}

/// One operation on one message, by all contenders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The operation.
    pub operation: Operation,
    /// The key.
    pub key: Key,
    /// About how many octets were asked for.
    pub size: usize,
    /// How many octets went in.
    pub input_len: usize,
    /// Microseconds per message: the median of all rounds, and each of them.
    pub times: Vec<(Contender, Spread, Vec<f64>)>,
}

/// The most memory that may be used, in parts of the message that goes in.
pub const MEMORY_LIMIT: f64 = 2.5;

impl Row {
    /// A contender's microseconds per message.
    pub fn of(&self, contender: Contender) -> Option<Spread> {
        self.times.iter().find(|(one, ..)| *one == contender).map(|(_, spread, _)| *spread)
    }

    /// How many times as fast as another contender smime is, round by round.
    pub fn ratio(&self, other: Contender) -> Option<Spread> {
        let rounds = |contender| {
            self.times.iter().find(|(one, ..)| *one == contender).map(|(.., rounds)| rounds.iter())
        };
        let pairs = rounds(other)?.zip(rounds(Contender::Ours)?);
        Some(Spread::of(pairs.map(|(other, ours)| other / ours.max(f64::MIN_POSITIVE))))
    }

    fn wanted(&self) -> Option<Wanted> {
        let is_gcm = matches!(self.operation, Operation::EncryptGcm | Operation::DecryptGcm);
        let limit = if is_gcm && self.size >= 20_000_000 { 1.5 } else { 1.0 };
        // The faster of both, where it does as much: it checks no signature that it makes.
        let (others, which): (&[Contender], _) = match self.operation {
            Operation::SignChecked => (&[Contender::Openssl], "in its default form"),
            _ => (&[Contender::Openssl, Contender::OpensslBinary], "at its fastest"),
        };
        let ratios = others.iter().filter_map(|other| self.ratio(*other));
        let ratio = ratios.min_by(|one, other| one.median.total_cmp(&other.median))?;
        Some(Wanted {
            what: format!("{}, {}, {}", self.operation.title(), self.key.title(), size(self.size)),
            limit: format!("at least {limit:.1} times as fast as OpenSSL in the same process, {which}"),
            measured: format!("{}: {:.0} µs", spread(ratio, 2, ""), self.of(Contender::Ours)?.median),
            met: ratio.median >= limit,
        })
    }
}

impl Results {
    /// What is wanted of what was measured.
    pub fn wanted(&self) -> Vec<Wanted> {
        let memory = self.memory.iter().map(|cost| Wanted {
            what: format!("memory: {}, {}", cost.what, size(cost.input)),
            limit: format!("at most {MEMORY_LIMIT} times the message"),
            measured: format!("{:.2}", cost.ratio()),
            met: cost.ratio() <= MEMORY_LIMIT,
        });
        self.rows.iter().filter_map(Row::wanted).chain(memory).collect()
    }
}

/// A length for readers.
pub fn size(octets: usize) -> String {
    if octets >= 1_000_000 { format!("{} MB", octets / 1_000_000) } else { format!("{} KB", octets / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let times =
            |contender, rounds: &[f64]| (contender, Spread::of(rounds.iter().copied()), rounds.to_vec());
        let row = Row {
            operation: Operation::EncryptGcm,
            key: Key::P256,
            size: 20_000_000,
            input_len: 20_000_001,
            times: vec![
                times(Contender::Ours, &[10.0, 20.0, 10.0]),
                times(Contender::Openssl, &[14.0, 28.0, 30.0]),
            ],
        };
        assert_eq!(row.ratio(Contender::Openssl), Some(Spread { median: 1.4, min: 1.4, max: 3.0 }));
        assert_eq!(row.ratio(Contender::Process), None);
        assert!(!row.wanted().unwrap().met, "20 MB with GCM want 1.5");
        let mut row = Row { size: 20_000, ..row };
        assert!(row.wanted().unwrap().met, "less wants 1.0");
        row.times.push(times(Contender::OpensslBinary, &[9.0, 18.0, 9.0]));
        assert!(!row.wanted().unwrap().met, "the faster one counts");
        assert!(
            Row { operation: Operation::SignChecked, ..row }.wanted().unwrap().met,
            "which checks nothing"
        );
    }
}
