//! The pool beside the raw token: rates, latencies, waiting, lanes, many keys.
//!
//! ```text
//! cargo run --release -p benches --bin pool              # about 12 minutes, on a quiet machine
//! cargo run --release -p benches --bin pool -- --quick   # 3 minutes, to see that it works
//! ```
//!
//! Writes `results.md`, `results.json` and pictures, and ends with an error if anything that it compares with
//! is missing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the table")]

use std::{env, fs, path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use benches::{
    pool::{
        child,
        contender::Contender,
        operation::Operation,
        plan::{Part, Plan},
        site::Token,
    },
    results,
};
use clap::{Parser, ValueEnum as _};

/// Measures the pool beside a loop of bare PKCS#11 calls and `openssl speed`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer and shorter measurements of less.
    #[arg(long)]
    quick: bool,
    /// Only these operations, such as rsa2048-sign.
    #[arg(long, value_delimiter = ',', value_parser = Operation::named)]
    operation: Vec<Operation>,
    /// Only this token: plain or emulated.
    #[arg(long, value_delimiter = ',')]
    token: Vec<Token>,
    /// Without the pool in hsmime-keyd.
    #[arg(long)]
    without_keyd: bool,
    /// Only these parts.
    #[arg(long, value_delimiter = ',')]
    part: Vec<Part>,
    /// How often to measure everything.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long to measure each rate, in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Where results go; a new directory below benches/results if absent.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let result = match (arguments.next(), arguments.next()) {
        (Some(first), Some(job)) if first == child::ARGUMENT => child::main(&job),
        _ => run(&Arguments::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pool: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let measured = arguments.plan().carry_out(&mut |what| eprintln!("{what}"))?;
    let directory = match &arguments.output {
        Some(directory) => directory.clone(),
        None => results::default_directory("pool", &measured.date),
    };
    let markdown = measured.markdown();
    results::write(&directory, &markdown, &measured)?;
    for (name, picture) in measured.pictures() {
        fs::write(directory.join(name), picture)?;
    }
    println!("{markdown}");
    eprintln!("written to {}", directory.display());
    ensure!(measured.failures.is_empty(), "not all could be measured: {}", measured.failures.join("; "));
    Ok(())
}

impl Arguments {
    fn plan(&self) -> Plan {
        let or = |given: &[Operation], all: &[Operation]| {
            if given.is_empty() { all.to_vec() } else { given.to_vec() }
        };
        let quick = [Operation::Rsa2048Sign, Operation::P256Sign, Operation::Rsa2048Decrypt];
        let mut contenders = Contender::ALL.to_vec();
        contenders.retain(|contender| !(self.without_keyd && *contender == Contender::Keyd));
        let plan = Plan {
            operations: or(&self.operation, &Operation::ALL),
            tokens: if self.token.is_empty() { Token::ALL.to_vec() } else { self.token.clone() },
            contenders,
            parts: if self.part.is_empty() { Part::value_variants().to_vec() } else { self.part.clone() },
            rounds: self.rounds.unwrap_or(5),
            seconds: self.seconds.unwrap_or(0.25),
            callers: vec![1, 2, 4, 8, 16, 32, 64],
            threads: vec![1, 2, 4, 8, 16],
            backlog: 10_000,
            keys: 10_000,
        };
        if !self.quick {
            return plan;
        }
        Plan {
            operations: or(&self.operation, &quick),
            rounds: self.rounds.unwrap_or(2),
            callers: vec![1, 16, 64],
            threads: vec![1, 2, 16],
            keys: 1000,
            ..plan
        }
    }
}
