//! Look-ups in the certificate cache, beside bare LMDB and SQLite, and beside a writer.
//!
//! ```text
//! cargo run --release -p benches --bin certcache -- prepare    # 10 minutes, once; 9 GB in the data folder
//! cargo run --release -p benches --bin certcache               # 8 minutes, on a quiet machine
//! cargo run --release -p benches --bin certcache -- --entries 10000 measure
//! ```
//!
//! Writes `results.md` and `results.json`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the table")]

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use benches::{
    certcache::{
        beside::{self, Beside, By},
        contender::{Contender, open_when_free},
        material::{self, Material},
        results::{Results, Size, Times},
    },
    machine, results,
    statistics::{Spread, percentile},
};
use clap::{Parser, ValueEnum};

/// Measures look-ups in the certificate cache.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to do.
    #[arg(value_enum, default_value = "measure")]
    step: Step,
    /// How many certificates.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    entries: Vec<usize>,
    /// Where the caches are.
    #[arg(long, default_value = "target/bench-certcache")]
    data: PathBuf,
    /// How often to measure everything.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How many look-ups each contender makes in a round.
    #[arg(long, default_value_t = 50_000)]
    lookups: usize,
    /// How long the processes read beside each other; 0 for not at all.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often the processes read beside each other, six ways each time.
    #[arg(long, default_value_t = 3)]
    beside_rounds: usize,
    /// The number of a reader.
    #[arg(long, default_value_t = 0)]
    number: usize,
    /// How a reader reads.
    #[arg(long, value_enum, default_value = "lookup")]
    by: By,
    /// Whose file a writer writes.
    #[arg(long, value_enum, default_value = "same-file")]
    beside: Beside,
    /// Where results go; a new directory below benches/results if absent.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Step {
    /// Makes the caches.
    Prepare,
    /// Makes those that are missing, and measures.
    Measure,
    /// A process that reads, for `measure`.
    Reader,
    /// A process that writes, for `measure`.
    Writer,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let materials: Vec<_> =
        arguments.entries.iter().map(|entries| Material::new(&arguments.data, *entries)).collect();
    let first = materials.first().context("no entries")?;
    match arguments.step {
        Step::Prepare => materials.iter().try_for_each(|it| it.prepare(&mut |what| eprintln!("{what}"))),
        Step::Measure => arguments.measure(&materials),
        Step::Reader => {
            let times = beside::read(first, arguments.seconds, arguments.number, arguments.by)?;
            println!("{}", serde_json::to_string(&times)?);
            Ok(())
        }
        Step::Writer => {
            println!("{}", beside::write(first, arguments.seconds, arguments.beside)?);
            Ok(())
        }
    }
}

impl Arguments {
    fn measure(&self, materials: &[Material]) -> Result<()> {
        let mut measured = Results {
            machine: machine(),
            date: results::date()?,
            load_before: results::load_average(),
            rounds: self.rounds,
            lookups: self.lookups,
            sizes: Vec::new(),
        };
        for material in materials {
            material.prepare(&mut |what| eprintln!("{what}"))?;
            measured.sizes.push(self.measure_size(material)?);
        }
        let markdown = measured.markdown();
        let directory = match &self.output {
            Some(directory) => directory.clone(),
            None => results::default_directory("certcache", &measured.date),
        };
        results::write(&directory, &markdown, &measured)?;
        fs::write(directory.join("lookups.svg"), measured.picture())?;
        println!("{markdown}");
        eprintln!("written to {}", directory.display());
        Ok(())
    }

    fn measure_size(&self, material: &Material) -> Result<Size> {
        eprintln!("{} certificates", material.entries);
        let mut random = 7;
        let mut rounds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); Contender::ALL.len()];
        for round in 0..=self.rounds {
            let numbers = (0..self.lookups).map(|_| beside::next(&mut random, material.entries));
            let numbers: Vec<_> = numbers.collect::<Result<_>>()?;
            for (contender, rounds) in Contender::ALL.into_iter().zip(&mut rounds) {
                let mut times = contender.run(material, &numbers)?;
                // The first round is for the caches.
                if round > 0 {
                    #[expect(clippy::cast_precision_loss, reason = "there are not so many")]
                    let mean = times.iter().map(std::time::Duration::as_secs_f64).sum::<f64>() * 1e6
                        / times.len() as f64;
                    times.sort_unstable();
                    rounds.push((mean, percentile(&times, 0.99) * 1e3));
                }
            }
        }
        let lmdb = Contender::ALL.iter().position(|it| *it == Contender::Lmdb).and_then(|at| rounds.get(at));
        let lmdb = lmdb.context("no rounds")?.clone();
        let times = Contender::ALL.into_iter().zip(&rounds).map(|(contender, rounds)| Times {
            contender,
            mean: Spread::of(rounds.iter().map(|(mean, _)| *mean)),
            p99: Spread::of(rounds.iter().map(|(_, p99)| *p99)),
            ratio: Spread::of(rounds.iter().zip(&lmdb).map(|((own, _), (lmdb, _))| own / lmdb)),
        });
        let beside = if self.seconds == 0 {
            Vec::new()
        } else {
            beside::measure(material, self.seconds, self.beside_rounds)?
        };
        Ok(Size {
            entries: material.entries,
            certificate: material::template().len(),
            file: open_when_free(material)?.stat()?.file_octets,
            sqlite: fs::metadata(material.sqlite())?.len(),
            times: times.collect(),
            beside,
        })
    }
}
