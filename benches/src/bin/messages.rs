//! Whole messages beside OpenSSL, gpgsm and Python: signed, verified, encrypted, decrypted; and the memory that large ones take.
//!
//! ```text
//! cargo run --release -p benches --bin messages              # 2 minutes, on a quiet machine
//! cargo run --release -p benches --bin messages -- --quick   # half a minute, to see that it works
//! ```
//!
//! Writes `results.md`, `results.json` and pictures, and ends with an error if anything that it compares with is missing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the table")]

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Result;
use benches::{
    message::{
        contender::Contender,
        operation::{Key, Operation},
        plan::Plan,
    },
    results,
};
use clap::{Parser, ValueEnum};
use testkit::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures whole messages beside OpenSSL.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer and shorter measurements.
    #[arg(long)]
    quick: bool,
    /// Only these operations.
    #[arg(long, value_delimiter = ',')]
    operation: Vec<Operation>,
    /// Only these keys.
    #[arg(long, value_delimiter = ',')]
    key: Vec<Key>,
    /// Only these contenders.
    #[arg(long, value_delimiter = ',')]
    contender: Vec<Contender>,
    /// Only messages of about so many octets.
    #[arg(long, value_delimiter = ',')]
    size: Vec<usize>,
    /// How often to measure everything.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each contender works in a round, in milliseconds.
    #[arg(long)]
    milliseconds: Option<u64>,
    /// The length of the messages whose memory is measured; 0 for none.
    #[arg(long)]
    memory: Option<usize>,
    /// Where results go; a new directory below benches/results if absent.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let measured = arguments.plan().carry_out(&mut |what| eprintln!("{what}"))?;
    let directory = match &arguments.output {
        Some(directory) => directory.clone(),
        None => results::default_directory("messages", &measured.date),
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
        let (rounds, milliseconds) = if self.quick { (2, 5) } else { (5, 30) };
        Plan {
            operations: or_all(&self.operation),
            keys: or_all(&self.key),
            sizes: if self.size.is_empty() { vec![20_000, 200_000, 20_000_000] } else { self.size.clone() },
            contenders: or_all(&self.contender),
            rounds: self.rounds.unwrap_or(rounds),
            length: Duration::from_millis(self.milliseconds.unwrap_or(milliseconds)),
            memory: self.memory.unwrap_or(50_000_000),
        }
    }
}

/// What was asked for, or everything.
fn or_all<T: ValueEnum + Clone>(given: &[T]) -> Vec<T> {
    if given.is_empty() { T::value_variants().to_vec() } else { given.to_vec() }
}
