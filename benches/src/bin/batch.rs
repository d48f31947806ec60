//! The archive tool beside the raw token, `cp`, a hash of the file, `openssl cms` and Python.
//!
//! ```text
//! cargo build --release -p batch -p testmodule
//! cargo run --release -p benches --bin batch              # about 30 minutes, on a quiet machine, 23 GB of disk
//! cargo run --release -p benches --bin batch -- --quick   # 2 minutes, to see that it works
//! cargo run --release -p benches --bin batch -- --part memory   # about 10 minutes: memory over archives of 1 to 20 GB
//! ```
//!
//! Writes `results.md`, `results.json` and pictures, and ends with an error if anything that it compares with
//! is missing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the table")]

use std::{env, fs, path::PathBuf, process::ExitCode};

use anyhow::Result;
use benches::{
    batch::{
        least,
        plan::{Part, Plan},
    },
    pool::child,
    results,
};
use clap::{Parser, ValueEnum as _};

/// Measures hsmime-batch on generated archives.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer rounds of shorter archives.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_delimiter = ',')]
    part: Vec<Part>,
    /// How often to measure everything but memory.
    #[arg(long)]
    rounds: Option<usize>,
    /// Where archives are made; what is made there is removed afterwards.
    #[arg(long, default_value = "target/bench-batch")]
    data: PathBuf,
    /// How many messages are signed or decrypted in a round.
    #[arg(long)]
    messages: Option<u64>,
    /// How long the archive is that is only read, in MB.
    #[arg(long)]
    megabytes: Option<u64>,
    /// Of which lengths an mbox is verified and signed for its memory, in GB, the shortest first.
    #[arg(long, value_delimiter = ',')]
    gigabytes: Vec<u64>,
    /// Where results go; a new directory below benches/results if absent.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let result = match (arguments.next(), arguments.next()) {
        (Some(first), Some(job)) if first == child::ARGUMENT => child::main(&job),
        (Some(first), Some(job)) if first == least::ARGUMENT => least::main(&job),
        _ => run(&Arguments::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("batch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let measured = arguments.plan().carry_out(&mut |what| eprintln!("{what}"))?;
    let directory = match &arguments.output {
        Some(directory) => directory.clone(),
        None => results::default_directory("batch", &measured.date),
    };
    let markdown = measured.markdown();
    results::write(&directory, &markdown, &measured)?;
    for (name, picture) in measured.pictures() {
        fs::write(directory.join(name), picture)?;
    }
    println!("{markdown}");
    eprintln!("written to {}", directory.display());
    Ok(())
}

impl Arguments {
    fn plan(&self) -> Plan {
        let (rounds, messages, megabytes, gigabytes): (_, _, _, &[u64]) =
            if self.quick { (2, 3_000, 1_000, &[1, 2]) } else { (3, 15_000, 2_000, &[1, 2, 4, 8, 20]) };
        Plan {
            parts: if self.part.is_empty() { Part::value_variants().to_vec() } else { self.part.clone() },
            rounds: self.rounds.unwrap_or(rounds),
            data: self.data.clone(),
            messages: self.messages.unwrap_or(messages),
            streamed: self.megabytes.unwrap_or(megabytes) * 1_000_000,
            lengths: if self.gigabytes.is_empty() { gigabytes.to_vec() } else { self.gigabytes.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_measured_over_the_lengths_that_are_promised_or_wished_for() {
        for (line, lengths) in [
            ("batch", &[1, 2, 4, 8, 20][..]),
            ("batch --part memory", &[1, 2, 4, 8, 20]),
            ("batch --quick", &[1, 2]),
            ("batch --part memory --gigabytes 4,8", &[4, 8]),
        ] {
            let plan = Arguments::parse_from(line.split(' ')).plan();
            assert_eq!(plan.lengths, lengths, "{line}");
            assert!(plan.parts.contains(&Part::Memory), "{line}");
        }
    }
}
