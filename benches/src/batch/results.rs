//! Everything that was measured in one run, and what was wanted.

use serde::{Deserialize, Serialize};

use super::{plan::Part, process::Cost};
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
    /// Programs that took part.
    pub versions: Vec<String>,
    /// The system's load average before.
    pub load_before: String,
    /// On what file system the archives were.
    pub data: String,
    /// How often everything was measured.
    pub rounds: usize,
    /// What was compared.
    pub rows: Vec<Row>,
    /// How it grows with processors.
    pub scaling: Vec<Scaling>,
    /// How memory grows with the archive.
    pub memory: Vec<Memory>,
}

/// The program on an archive, and a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Of which part it is.
    pub part: Part,
    /// What was done.
    pub what: String,
    /// How many messages the archive has.
    pub messages: u64,
    /// How many octets.
    pub octets: u64,
    /// How many processors there were.
    pub cores: usize,
    /// The program, round by round.
    pub ours: Vec<Cost>,
    /// With whom it is compared.
    pub peer: String,
    /// The peer, round by round.
    pub theirs: Vec<Peer>,
    /// What is wanted of the ratio; `None` if it is only stated.
    pub limit: Option<Limit>,
}

/// What a peer reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Messages in a second.
    pub rate: f64,
    /// Microseconds of the processor for each, 0 if nobody looked.
    pub cpu: f64,
}

impl Peer {
    /// What both limits leave where this is the least that a message takes of the processor: the rate that sessions and
    /// their latency allow, and that at which so many processors do nothing but this. It says nothing of how busy whoever
    /// is held against it keeps them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "few processors")]
    pub fn allowed(self, by_latency: f64, cores: usize) -> Self {
        Self { rate: by_latency.min(cores as f64 * 1e6 / self.cpu), ..self }
    }
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// So much of the peer's rate.
    OfPeer(f64),
}

/// The program on so many processors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scaling {
    /// What was done.
    pub what: String,
    /// On how many processors.
    pub cores: usize,
    /// Messages in a second, round by round.
    pub rates: Vec<f64>,
    /// The same of the bare token on as many, where it is asked.
    pub raw: Vec<f64>,
}

/// The program on an archive of some length.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// What was done.
    pub what: String,
    /// The archive.
    pub octets: u64,
    /// What it took.
    pub cost: Cost,
}

/// The most that may be resident, in MiB.
pub const MEMORY_LIMIT: f64 = 128.0;
/// How much more a long archive may take than a short one: what the allocator does by chance.
pub const FLAT: f64 = 1.15;

#[expect(clippy::cast_precision_loss, reason = "no archive has 2^52 octets")]
impl Row {
    /// Messages in a second.
    pub fn rate(&self) -> Spread {
        Spread::of(self.ours.iter().map(|cost| self.messages as f64 / cost.seconds))
    }

    /// Megabytes of the input in a second.
    pub fn throughput(&self) -> Spread {
        Spread::of(self.ours.iter().map(|cost| self.octets as f64 / 1e6 / cost.seconds))
    }

    /// Microseconds of the processor for each message.
    pub fn cpu(&self) -> Spread {
        Spread::of(self.ours.iter().map(|cost| cost.cpu * 1e6 / self.messages.max(1) as f64))
    }

    /// How much of the time of all processors the program used, from its start to its end.
    pub fn busy(&self) -> Spread {
        Spread::of(self.ours.iter().map(|cost| cost.cpu / (cost.seconds * self.cores.max(1) as f64)))
    }

    /// The peer's messages in a second.
    pub fn peer_rate(&self) -> Spread {
        Spread::of(self.theirs.iter().map(|peer| peer.rate))
    }

    /// The program's rate in parts of the peer's, round by round.
    pub fn ratio(&self) -> Spread {
        let pairs = self.ours.iter().zip(&self.theirs);
        Spread::of(pairs.map(|(cost, peer)| self.messages as f64 / cost.seconds / peer.rate))
    }

    /// The most memory of any round, in MiB.
    pub fn peak(&self) -> f64 {
        self.ours.iter().map(|cost| cost.peak).fold(0.0, f64::max)
    }

    fn wanted(&self) -> Option<Wanted> {
        let ratio = self.ratio();
        let Limit::OfPeer(share) = self.limit?;
        let limit = format!("at least {share} of {}", self.peer);
        let rates = format!("{:.0}/s beside {:.0}/s", self.rate().median, self.peer_rate().median);
        let measured = format!("{}: {rates}", spread(ratio, 2, ""));
        Some(Wanted { what: self.what.clone(), limit, measured, met: ratio.median >= share })
    }
}

impl Results {
    /// What is wanted of what was measured.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self.rows.iter().filter_map(Row::wanted).collect();
        for memory in &self.memory {
            wanted.push(Wanted {
                what: format!("memory: {}, {}", memory.what, gigabytes(memory.octets)),
                limit: format!("at most {MEMORY_LIMIT} MiB resident"),
                measured: format!("{:.1} MiB", memory.cost.peak),
                met: memory.cost.peak <= MEMORY_LIMIT,
            });
        }
        for what in self.remembered() {
            let of = |memory: &&Memory| memory.what == what;
            let peaks: Vec<&Memory> = self.memory.iter().filter(of).collect();
            let (Some(first), Some(last)) = (peaks.first(), peaks.last()) else { continue };
            if first.octets < last.octets {
                let ratio = last.cost.peak / first.cost.peak;
                wanted.push(Wanted {
                    what: format!(
                        "memory: {what}, {} to {}",
                        gigabytes(first.octets),
                        gigabytes(last.octets)
                    ),
                    limit: format!("flat: at most {FLAT} times as much"),
                    measured: format!("{ratio:.2}"),
                    met: ratio <= FLAT,
                });
            }
        }
        wanted
    }

    /// What memory was measured of, each once.
    pub fn remembered(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.memory.iter().map(|memory| memory.what.as_str()).collect();
        all.dedup();
        all
    }
}

/// A length for readers.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn gigabytes(octets: u64) -> String {
    if octets < 1_000_000_000 {
        format!("{:.0} MB", octets as f64 / 1e6)
    } else {
        format!("{:.1} GB", octets as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(limit: Limit, seconds: f64, cpu: f64) -> Row {
        Row {
            part: Part::Sign,
            what: "sign".into(),
            messages: 1000,
            octets: 1_000_000,
            cores: 2,
            ours: vec![Cost { seconds, cpu, peak: 10.0 }],
            peer: "them".into(),
            theirs: vec![Peer { rate: 1000.0, cpu: 0.0 }],
            limit: Some(limit),
        }
    }

    #[test]
    fn a_limit_is_met_or_short_by_the_ratio_of_the_same_round() {
        for (limit, seconds, cpu, met) in [
            (Limit::OfPeer(0.9), 1.0, 2.0, true),
            (Limit::OfPeer(0.9), 1.2, 2.0, false),
            // To keep all processors busy makes nothing better.
            (Limit::OfPeer(0.9), 1.2, 2.4, false),
        ] {
            assert_eq!(row(limit, seconds, cpu).wanted().unwrap().met, met, "{limit:?} {seconds} {cpu}");
        }
    }

    #[test]
    fn far_from_the_token_the_limit_is_that_of_the_latency_or_of_the_least_on_all_processors() {
        // Sessions that allow 4000 in a second, and a message that takes so many microseconds at least.
        for (least, allowed) in [(100.0, 4_000.0), (400.0, 4_000.0), (500.0, 4_000.0), (800.0, 2_500.0)] {
            let peer = Peer { rate: 1.0, cpu: least }.allowed(4_000.0, 2);
            assert_eq!(peer, Peer { rate: allowed, cpu: least });
            for (share, met) in [(0.91, true), (0.89, false)] {
                let seconds = 1000.0 / (share * allowed);
                // However busy a wasteful program keeps the processors, it is held against the same.
                for cpu in [0.1, 1.0, 2.0] {
                    let row = Row { theirs: vec![peer], ..row(Limit::OfPeer(0.9), seconds, cpu * seconds) };
                    assert_eq!(row.wanted().unwrap().met, met, "{least} {share} {cpu}");
                }
            }
        }
    }
}
