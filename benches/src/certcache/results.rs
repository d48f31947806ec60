//! Everything that was measured in one run, and what was wanted of it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{
    beside::{Beside, By, Latencies},
    contender::Contender,
};
use crate::{
    statistics::{Spread, spread},
    wanted::{self, Wanted},
};

/// What was measured, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The processor and how many of them.
    pub machine: String,
    /// When it began, UTC.
    pub date: String,
    /// The system's load average before.
    pub load_before: String,
    /// How often everything was measured.
    pub rounds: usize,
    /// How many look-ups each contender makes in a round.
    pub lookups: usize,
    /// By number of certificates.
    pub sizes: Vec<Size>,
}

/// A cache of one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Size {
    /// How many certificates.
    pub entries: usize,
    /// Octets of a certificate.
    pub certificate: usize,
    /// Octets of the cache's file.
    pub file: u64,
    /// Octets of the SQLite file.
    pub sqlite: u64,
    /// The times.
    pub times: Vec<Times>,
    /// Readers alone, and beside a writer.
    pub beside: Vec<Latencies>,
}

/// A contender's times, in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Times {
    /// Whose.
    pub contender: Contender,
    /// The mean of a round.
    pub mean: Spread,
    /// What 99 in 100 look-ups of a round do not exceed.
    pub p99: Spread,
    /// How many times as long as `mdb_get`, round by round.
    pub ratio: Spread,
}

impl Size {
    fn of(&self, contender: Contender) -> Option<&Times> {
        self.times.iter().find(|times| times.contender == contender)
    }
}

/// Readers are unharmed by a writer if its writing to their file costs no more than this beside its writing at all.
const UNHARMED: f64 = 1.25;

impl Results {
    /// All of it in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "# Certificate cache\n\n{}; {}. Look-ups by address with the decision remembered, addresses by chance, one \
             thread; medians of {} rounds of {} look-ups each (least..most), all contenders in the same rounds. Load \
             average before: {}.\n\n`mdb_get` reads the same two records of the same file, by keys made before, and \
             copies the certificate, a transaction for each. SQLite has the same records, a prepared statement, WAL \
             and a memory map.\n\n",
            self.machine, self.date, self.rounds, self.lookups, self.load_before
        );
        for size in &self.sizes {
            size.write(&mut out);
        }
        wanted::write(&self.wanted(), &mut out);
        out
    }

    /// What is wanted, and what came of it.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut all = Vec::new();
        for size in &self.sizes {
            if let Some(read) = size.of(Contender::Read) {
                all.push(Wanted {
                    what: format!("the read of a look-up, {} certificates", size.entries),
                    limit: "1.5 times mdb_get".to_owned(),
                    measured: spread(read.ratio, 2, ""),
                    met: read.ratio.median <= 1.5,
                });
            }
            if let Some(lookup) = size.of(Contender::Lookup) {
                all.push(Wanted {
                    what: format!("99 in 100 look-ups, {} certificates", size.entries),
                    limit: "50 µs".to_owned(),
                    measured: spread(lookup.p99, 1, " µs"),
                    met: lookup.p99.median < 50.0,
                });
            }
            let beside = |by, beside| size.beside.iter().find(|it| (it.by, it.beside) == (by, beside));
            if let Some(same) = beside(By::Lookup, Beside::SameFile) {
                all.push(Wanted {
                    what: format!("99 in 100 look-ups beside a writer, {} certificates", size.entries),
                    limit: format!("{UNHARMED} times beside the writer of another file"),
                    measured: spread(same.ratio, 2, ""),
                    met: same.ratio.median <= UNHARMED,
                });
            }
        }
        all
    }
}

impl Size {
    #[expect(clippy::cast_precision_loss, reason = "sizes are for people")]
    fn write(&self, out: &mut String) {
        let _ = write!(
            out,
            "## {} certificates of {} octets\n\ncertcache {:.0} MB ({:.2} times the certificates, with all indexes and \
             choices), SQLite {:.0} MB (certificates, one index, choices).\n\n| | mean µs | 99 in 100 µs | × mdb_get |\n\
             | --- | ---: | ---: | ---: |\n",
            self.entries,
            self.certificate,
            self.file as f64 / 1e6,
            self.file as f64 / (self.entries * self.certificate) as f64,
            self.sqlite as f64 / 1e6,
        );
        for times in &self.times {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                times.contender.title(),
                spread(times.mean, 2, ""),
                spread(times.p99, 2, ""),
                spread(times.ratio, 2, "")
            );
        }
        out.push('\n');
        if self.beside.is_empty() {
            return;
        }
        out.push_str(
            "Four processes, each with 2,000 look-ups a second, beside one that writes 1,000 entries a second in 100 \
             transactions, medians of rounds (least..most):\n\n| readers | beside | look-ups | p50 µs | p99 µs | \
             p99.99 µs | p99 × beside another file | page faults in 1,000 | preempted in 1,000 | entries written a \
             second |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for it in &self.beside {
            let by = match it.by {
                By::Lookup => "look-ups",
                By::Lmdb => "`mdb_get`",
            };
            let beside = match it.beside {
                Beside::Nobody => "nobody",
                Beside::OtherFile => "a writer of another cache",
                Beside::SameFile => "a writer of this cache",
            };
            let _ = writeln!(
                out,
                "| {by} | {beside} | {} | {} | {} | {} | {} | {:.0} | {:.1} | {:.0} |",
                it.lookups,
                spread(it.p50, 1, ""),
                spread(it.p99, 1, ""),
                spread(it.p9999, 0, ""),
                spread(it.ratio, 2, ""),
                it.faults.median,
                it.preempted.median,
                it.written.median
            );
        }
        out.push('\n');
    }
}
