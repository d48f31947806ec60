//! The milter beside a null milter, the least that is due for each message, and Postfix alone; and under a client that speaks its
//! protocol.
//!
//! ```text
//! cargo build --release -p milter --bins --examples
//! cargo run --release -p benches --bin milter              # 12 minutes, as root, on a quiet machine
//! cargo run --release -p benches --bin milter -- --quick   # 2 minutes, to see that it works
//! ```
//!
//! Postfix's queue is below `TMPDIR`: on a disk its `fsync`s are most of what is measured, on a tmpfs (`/dev/shm`) they are
//! not. Where others were at work before (a load average above 0.5), its first line says so, and so do the results. Writes `results.md`, `results.json` and a picture.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the table")]

use std::{env, fs, path::PathBuf, time::Duration};

use anyhow::Result;
use benches::{
    milter::{plan::Plan, site::Socket, token},
    results,
};
use clap::Parser;

/// Measures the milter beside a null milter and Postfix alone.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer and shorter measurements.
    #[arg(long)]
    quick: bool,
    /// Only messages of about so many octets.
    #[arg(long, value_delimiter = ',')]
    size: Vec<usize>,
    /// Only so many connections.
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// How often to measure everything.
    #[arg(long)]
    rounds: Option<usize>,
    /// How many messages go through Postfix each time.
    #[arg(long)]
    messages: Option<usize>,
    /// What Postfix and the milters speak through.
    #[arg(long, default_value = "unix")]
    socket: Socket,
    /// Where results go; a new directory below benches/results if absent.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == token::ARGUMENT
    {
        return token::main(rest);
    }
    let arguments = Arguments::parse();
    let measured = arguments.plan().carry_out(&mut |what| eprintln!("{what}"))?;
    let directory = match &arguments.output {
        Some(directory) => directory.clone(),
        None => results::default_directory("milter", &measured.date),
    };
    let markdown = measured.markdown();
    results::write(&directory, &markdown, &measured)?;
    fs::write(directory.join("rates.svg"), measured.picture())?;
    println!("{markdown}");
    eprintln!("written to {}", directory.display());
    Ok(())
}

impl Arguments {
    fn plan(&self) -> Plan {
        let or =
            |given: &[usize], all: &[usize]| if given.is_empty() { all.to_vec() } else { given.to_vec() };
        let (rounds, messages, millis, timed) =
            if self.quick { (2, 200, 200, 500) } else { (3, 1000, 600, 2000) };
        Plan {
            sizes: or(&self.size, &[4_000, 64_000]),
            connections: or(&self.connections, &[1, 8, 20]),
            rounds: self.rounds.unwrap_or(rounds),
            messages: self.messages.unwrap_or(messages),
            length: Duration::from_millis(millis),
            timed,
            socket: self.socket,
        }
    }
}
