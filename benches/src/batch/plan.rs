//! What is measured, in which order, on what.

mod beside;
mod runs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use testkit::command;

use super::{
    material::{self, Archive},
    peers::Deed,
    process::Cost,
    results::{Limit, Memory, Peer, Results, Row, Scaling},
    site::{FIRST_WAITS, Reached, Site, cores},
};
use crate::{pool::operation::Operation, python, results};

/// A part of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Signing beside the raw token.
    Sign,
    /// Decrypting beside the raw token.
    Decrypt,
    /// A token that is far away, with 32 sessions.
    Latency,
    /// Rekeying large mails beside `cp`.
    Rekey,
    /// Scanning beside a hash of the file.
    Scan,
    /// Verifying beside a hash of the file.
    Verify,
    /// Beside loops of `openssl cms` and in Python.
    Loops,
    /// On one and on more processors.
    Scaling,
    /// The memory that long archives take.
    Memory,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which parts.
    pub parts: Vec<Part>,
    /// How often.
    pub rounds: usize,
    /// Where archives are made.
    pub data: PathBuf,
    /// How many messages are signed or decrypted in a round.
    pub messages: u64,
    /// How many octets an archive has that is only read.
    pub streamed: u64,
    /// Of which lengths an mbox is signed for its memory, in GB.
    pub lengths: Vec<u64>,
}

/// How long the raw loop is measured in each round.
const RAW_SECONDS: f64 = 2.0;
/// How many signers the mail of many has.
const SIGNERS: u64 = 1_000;

/// A plan that is being carried out.
struct Bench<'p> {
    plan: &'p Plan,
    site: Site,
    folder: PathBuf,
    results: Results,
    say: &'p mut dyn FnMut(&str),
}

impl Plan {
    /// Measures all of it. What cannot be measured ends it: then nothing was compared.
    pub fn carry_out(&self, say: &mut dyn FnMut(&str)) -> Result<Results> {
        let folder = self.data.join(format!("archives-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let results = Results {
            machine: crate::machine(),
            date: results::date()?,
            versions: vec![results::openssl_version()?, python::cryptography()?],
            load_before: results::load_average(),
            data: file_system(&folder)?,
            rounds: self.rounds,
            rows: Vec::new(),
            scaling: Vec::new(),
            memory: Vec::new(),
        };
        let mut bench = Bench { plan: self, site: Site::new()?, folder: folder.clone(), results, say };
        let done = bench.all();
        let removed = fs::remove_dir_all(&folder);
        done?;
        removed?;
        Ok(bench.results)
    }
}

impl Bench<'_> {
    fn all(&mut self) -> Result<()> {
        let is_wanted = |part| self.plan.parts.contains(&part);
        let parts =
            Part::value_variants().iter().copied().filter(|part| is_wanted(*part)).collect::<Vec<_>>();
        for part in parts {
            match part {
                Part::Sign => {
                    self.beside_token(part, Reached::Directly, Deed::Sign, Operation::Rsa2048Sign)?;
                }
                Part::Decrypt => {
                    self.beside_token(part, Reached::Directly, Deed::Decrypt, Operation::Rsa2048Decrypt)?;
                }
                Part::Latency => {
                    let far = Reached::FromFar;
                    self.beside_token(part, far, Deed::Sign, Operation::Rsa2048Sign)?;
                    self.beside_token(part, far, Deed::Decrypt, Operation::Rsa2048Decrypt)?;
                    self.beside_token(part, far, Deed::Sign, Operation::P256Sign)?;
                }
                Part::Rekey => self.rekey()?,
                Part::Scan => {
                    let one = self.input("verify", &self.site.rsa.clone())?;
                    self.beside_hash(part, "scan", &one, "by one signer")?;
                }
                Part::Verify => {
                    let one = self.input("verify", &self.site.rsa.clone())?;
                    self.beside_hash(part, "verify", &one, "by one signer")?;
                    let many = self.by_many()?;
                    self.beside_hash(part, "verify", &many, &format!("by {SIGNERS} signers"))?;
                }
                Part::Loops => {
                    self.loops(Deed::Sign)?;
                    self.loops(Deed::Decrypt)?;
                }
                Part::Scaling => {
                    self.scaling("sign", Some(Operation::Rsa2048Sign))?;
                    self.scaling("decrypt", Some(Operation::Rsa2048Decrypt))?;
                    self.scaling("verify", None)?;
                }
                Part::Memory => self.memory()?,
            }
        }
        Ok(())
    }

    fn scaling(&mut self, deed: &str, operation: Option<Operation>) -> Result<()> {
        let archive = self.input(deed, &self.site.rsa.clone())?;
        for count in 1..=cores() {
            let (mut rates, mut raw) = (Vec::new(), Vec::new());
            for _ in 0..self.plan.rounds {
                self.tell(&format!("{deed} on {count} processors"));
                if let Some(operation) = operation {
                    raw.push(self.site.raw_on(count, operation, RAW_SECONDS)?.rate);
                }
                let command = self.site.batch_on(count, &self.site.rsa)?;
                let cost = match operation {
                    Some(_) => self.rewrite(command, deed, &archive)?,
                    None => self.look(command, deed, &archive)?,
                };
                rates.push(peer_of(cost, archive.messages).rate);
            }
            self.results.scaling.push(Scaling { what: deed.to_owned(), cores: count, rates, raw });
        }
        Ok(())
    }

    /// A long mbox that is only read, one that is signed, and one whose first message waits for its signature.
    fn memory(&mut self) -> Result<()> {
        let waits = format!("sign, the first waits {} s", FIRST_WAITS.as_secs());
        let person = self.site.elliptic.clone();
        for what in ["verify", "sign", &waits] {
            let deed = what.split(',').next().unwrap_or(what);
            let one = self.input(deed, &person)?;
            for gigabytes in &self.plan.lengths {
                self.tell(&format!("memory, {what}, {gigabytes} GB"));
                let long = self.folder.join("long");
                let archive = material::repeated(&long, &one, gigabytes * 1_000_000_000)?;
                let command = match deed {
                    "sign" if what == waits => self.site.batch_that_waits(&person)?,
                    _ => self.site.batch(Reached::Directly, &person)?,
                };
                let cost = if deed == "verify" {
                    self.look(command, deed, &archive)?
                } else {
                    self.rewrite(command, deed, &archive)?
                };
                fs::remove_file(&archive.path)?;
                self.results.memory.push(Memory { what: what.to_owned(), octets: archive.octets, cost });
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a row's fields, in the order of the table")]
    fn add(
        &mut self,
        part: Part,
        what: &str,
        archive: &Archive,
        ours: Vec<Cost>,
        peer: String,
        theirs: Vec<Peer>,
        limit: Option<Limit>,
    ) {
        let Archive { messages, octets, .. } = *archive;
        let what = what.to_owned();
        let cores = cores();
        self.results.rows.push(Row { part, what, messages, octets, cores, ours, peer, theirs, limit });
    }

    fn tell(&mut self, what: &str) {
        (self.say)(what);
    }
}

#[expect(clippy::cast_precision_loss, reason = "no archive has 2^52 messages")]
fn peer_of(cost: Cost, messages: u64) -> Peer {
    Peer { rate: messages as f64 / cost.seconds, cpu: cost.cpu * 1e6 / messages.max(1) as f64 }
}

/// The file system of a folder.
fn file_system(folder: &Path) -> Result<String> {
    let mut command = Command::new("df");
    let told = command::succeed("coreutils", command.arg("--output=fstype").arg(folder))?;
    Ok(told.text().lines().last().unwrap_or_default().trim().to_owned())
}
