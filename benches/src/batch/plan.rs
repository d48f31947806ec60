//! What is measured, in which order, on what.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use testkit::{command, pki::Person};

use super::{
    material::{self, Archive},
    peers::{self, Deed},
    process::{self, Cost},
    punch,
    results::{Limit, Memory, Peer, Results, Row, Scaling},
    sample, signers,
    site::{FIRST_WAITS, LATENCY, Reached, Site, cores},
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
/// The share of the token's rate that is wanted, or of what else is the limit.
const OF_TOKEN: f64 = 0.9;
/// The share of the rate of `cp`, or of a hash.
const OF_DISK: f64 = 0.5;
/// From outputs of longer archives what was written is taken away again meanwhile: not every disk has room for both.
const WRITTEN: u64 = 9_000_000_000;
/// How many signers the mail of many has.
const SIGNERS: u64 = 1_000;
/// How long large mails are, before they are encrypted.
const LARGE: usize = 3_700_000;

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

    /// Beside the bare token, and beside what each message needs besides.
    fn beside_token(&mut self, part: Part, reached: Reached, deed: Deed, operation: Operation) -> Result<()> {
        let (person, key) = match operation {
            Operation::P256Sign => (self.site.elliptic.clone(), "P-256"),
            _ => (self.site.rsa.clone(), "RSA-2048"),
        };
        let name = deed.name();
        let archive = self.input(name, &person)?;
        let sessions = reached.sessions();
        let what = match reached {
            Reached::Directly => format!("{name}, {key}"),
            Reached::FromFar => {
                format!("{name}, {key}, {} ms latency, {sessions} sessions", LATENCY.as_millis())
            }
        };
        let (mut ours, mut bare, mut least) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.plan.rounds {
            self.tell(&format!("{what}, round {}", round + 1));
            in_turn(
                round,
                || {
                    settle()?;
                    let raw = self.site.raw(reached, operation, sessions, RAW_SECONDS)?;
                    bare.push(Peer { rate: raw.rate, cpu: raw.cpu });
                    settle()?;
                    let to = self.folder.join("least");
                    let cost =
                        process::run(&mut self.site.least(reached, deed, operation, &archive.path, &to)?)?;
                    least.push(peer_of(cost, archive.messages));
                    Ok(fs::remove_dir_all(&to)?)
                },
                || {
                    let command = self.site.batch(reached, &person)?;
                    ours.push(self.rewrite(command, name, &archive)?);
                    Ok(())
                },
            )?;
        }
        if let Some(by_latency) = reached.allowed() {
            let (cores, latency) = (cores(), LATENCY.as_millis());
            let peer = format!(
                "the smaller of what {sessions} sessions of {latency} ms each and {cores} processors at the µs of the \
                 least allow"
            );
            let allowed = least.iter().map(|least| least.allowed(by_latency, cores)).collect();
            self.add(part, &what, &archive, ours.clone(), peer, allowed, Some(Limit::OfPeer(OF_TOKEN)));
        }
        // The loop meets latency and processors, and does nothing beside.
        for (peer, costs) in [("bare token loop", bare), ("the least", least)] {
            let peer = format!("{peer}, {sessions} threads");
            self.add(part, &what, &archive, ours.clone(), peer, costs, Some(Limit::OfPeer(OF_TOKEN)));
        }
        Ok(())
    }

    /// Large mails in a Maildir, and a copy of it.
    fn rekey(&mut self) -> Result<()> {
        let count = (self.plan.streamed / 10_000_000).max(20);
        let plain = material::maildir(&self.folder.join("large"), count, LARGE)?;
        let encrypted = self.encrypted(&plain, "large-encrypted")?;
        fs::remove_dir_all(&plain.path)?;
        let archive = material::of_tree(&encrypted)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..self.plan.rounds {
            self.tell(&format!("rekey, round {}", round + 1));
            in_turn(
                round,
                || {
                    let copy = self.folder.join("copy");
                    settle()?;
                    let cost = peers::copy(&archive.path, &copy)?;
                    theirs.push(peer_of(cost, archive.messages));
                    Ok(fs::remove_dir_all(&copy)?)
                },
                || {
                    let mut command = self.site.batch(Reached::Directly, &self.site.rsa)?;
                    command.arg("rekey").arg("--to-certificate").arg(&self.site.heir.certificate);
                    ours.push(self.write_from(command, "rekey", &archive)?);
                    Ok(())
                },
            )?;
        }
        fs::remove_dir_all(&archive.path)?;
        let limit = Some(Limit::OfPeer(OF_DISK));
        let what = "rekey, mails of 5 MB in a Maildir";
        self.add(Part::Rekey, what, &archive, ours, "cp -r and sync -f".into(), theirs, limit);
        Ok(())
    }

    /// What is only read, and a hash of it.
    fn beside_hash(&mut self, part: Part, deed: &str, one: &Archive, whose: &str) -> Result<()> {
        let archive = material::repeated(&self.folder.join("long"), one, self.plan.streamed)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..self.plan.rounds {
            self.tell(&format!("{deed}, round {}", round + 1));
            in_turn(
                round,
                || {
                    settle()?;
                    theirs.push(peer_of(peers::hash(&archive.path)?, archive.messages));
                    Ok(())
                },
                || {
                    let command = self.site.batch(Reached::Directly, &self.site.rsa)?;
                    ours.push(self.look(command, deed, &archive)?);
                    Ok(())
                },
            )?;
        }
        fs::remove_file(&archive.path)?;
        let limit = Some(Limit::OfPeer(OF_DISK));
        let what = format!("{deed}, all signed, {whose}");
        self.add(part, &what, &archive, ours, "openssl dgst -sha256".into(), theirs, limit);
        Ok(())
    }

    /// Mail that was signed by many in turns.
    fn by_many(&mut self) -> Result<Archive> {
        self.tell(&format!("making mail of {SIGNERS} signers"));
        let plain = self.folder.join("plain-of-many.mbox");
        let sender = |number| signers::address(number % SIGNERS);
        let archive = material::mbox_from(&plain, self.plan.messages, sender)?;
        let target = self.folder.join("signed-of-many.mbox");
        let mut command = self.site.batch_of_many(&self.site.rsa, SIGNERS)?;
        process::run(command.arg("sign").arg(&plain).arg("--output").arg(&target))?;
        fs::remove_file(&plain)?;
        let octets = fs::metadata(&target)?.len();
        Ok(Archive { path: target, octets, ..archive })
    }

    /// A folder of files, and loops over it.
    fn loops(&mut self, deed: Deed) -> Result<()> {
        let name = deed.name();
        let count = (self.plan.messages / 10).max(100);
        let mut archive = self.small_tree(count)?;
        if deed == Deed::Decrypt {
            let encrypted = self.encrypted(&archive, "tree-encrypted")?;
            fs::remove_dir_all(&archive.path)?;
            archive = material::of_tree(&encrypted)?;
        }
        let (mut ours, mut shell, mut python) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.plan.rounds {
            self.tell(&format!("loops, {name}, round {}", round + 1));
            for (peer, costs) in [(peers::openssl as Loop, &mut shell), (peers::python as Loop, &mut python)]
            {
                let to = self.folder.join("loop");
                fs::create_dir(&to)?;
                let cost = peer(&self.site, deed, &archive.path.join("cur"), &to)?;
                ensure!(fs::read_dir(&to)?.count() as u64 == archive.messages, "a loop lost mails");
                costs.push(peer_of(cost, archive.messages));
                fs::remove_dir_all(&to)?;
            }
            let mut command = self.site.batch(Reached::Directly, &self.site.rsa)?;
            command.arg(name);
            ours.push(self.write_from(command, name, &archive)?);
        }
        fs::remove_dir_all(&archive.path)?;
        let what = format!("{name}, RSA-2048, a Maildir");
        for (peer, costs) in [
            ("`openssl cms` for each, key in a file", shell),
            ("Python, `cryptography`, key in a file", python),
        ] {
            self.add(Part::Loops, &what, &archive, ours.clone(), peer.into(), costs, None);
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

    /// What a deed is done to: plain, signed or encrypted mail in an mbox. Made once for each key.
    fn input(&mut self, deed: &str, person: &Person) -> Result<Archive> {
        let plain = self.folder.join("plain.mbox");
        let archive = if plain.exists() {
            let octets = fs::metadata(&plain)?.len();
            Archive { path: plain.clone(), messages: self.plan.messages, octets }
        } else {
            material::mbox(&plain, self.plan.messages)?
        };
        let (target, how): (PathBuf, &[&str]) = match deed {
            "decrypt" => (self.folder.join(format!("encrypted-{}.mbox", person.name)), &["encrypt"]),
            "verify" => (self.folder.join(format!("signed-{}.mbox", person.name)), &["sign"]),
            _ => return Ok(archive),
        };
        if !target.exists() {
            self.tell(&format!("making {}", target.display()));
            let mut command = self.site.batch(Reached::Directly, person)?;
            command.args(how).arg(&plain).arg("--output").arg(&target);
            if deed == "decrypt" {
                command.arg("--to-certificate").arg(&person.certificate);
            }
            process::run(&mut command)?;
        }
        let octets = fs::metadata(&target)?.len();
        Ok(Archive { path: target, octets, ..archive })
    }

    fn small_tree(&self, count: u64) -> Result<Archive> {
        material::maildir(&self.folder.join("tree"), count, 20_000)
    }

    fn encrypted(&self, plain: &Archive, name: &str) -> Result<PathBuf> {
        let made = self.folder.join(name);
        let mut command = self.site.batch(Reached::Directly, &self.site.rsa)?;
        command.arg("encrypt").arg(&plain.path).arg("--output").arg(&made);
        command.arg("--to-certificate").arg(&self.site.rsa.certificate);
        process::run(&mut command)?;
        Ok(made)
    }

    /// Writes an archive anew.
    fn rewrite(&self, mut command: Command, deed: &str, archive: &Archive) -> Result<Cost> {
        command.arg(deed);
        self.write_from(command, deed, archive)
    }

    fn write_from(&self, mut command: Command, deed: &str, archive: &Archive) -> Result<Cost> {
        let (output, report) = (self.folder.join("output"), self.folder.join("report.jsonl"));
        command.arg(&archive.path).arg("--output").arg(&output).arg("--report").arg(&report);
        settle()?;
        let cost = if archive.octets > WRITTEN {
            punch::while_written(&output, || process::run(&mut command))?
        } else {
            process::run(&mut command)?
        };
        Self::check(&report, archive)?;
        if archive.octets <= WRITTEN {
            match deed {
                "sign" => sample::is_signed(&output, &self.site.root(), &self.folder)?,
                "rekey" => sample::is_encrypted_to(&output, &self.site.heir, &self.folder)?,
                "decrypt" if output.is_file() => {
                    sample::has_body_of(&output, &self.folder.join("plain.mbox"))?;
                }
                _ => {}
            }
        }
        if output.is_dir() {
            fs::remove_dir_all(&output)?;
        } else {
            fs::remove_file(&output)?;
        }
        Ok(cost)
    }

    /// Reads an archive.
    fn look(&self, mut command: Command, deed: &str, archive: &Archive) -> Result<Cost> {
        let report = self.folder.join("report.jsonl");
        command.arg(deed).arg(&archive.path).arg("--report").arg(&report);
        settle()?;
        let cost = process::run(&mut command)?;
        Self::check(&report, archive)?;
        Ok(cost)
    }

    /// That something was done to each message, by the report.
    fn check(report: &Path, archive: &Archive) -> Result<()> {
        let text = fs::read(report)?;
        let lines = memchr::memchr_iter(b'\n', &text).count() as u64;
        ensure!(lines == archive.messages, "the report has {lines} lines for {} messages", archive.messages);
        for word in ["\"action\":\"kept\"", "\"action\":\"failed\""] {
            let kept = memchr::memmem::find_iter(&text, word).count();
            ensure!(kept == 0, "{kept} messages with {word} in {}", report.display());
        }
        Ok(fs::remove_file(report)?)
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

/// One before the other, in every second round the other way round: who comes second may find files in memory, and what
/// is still being written.
fn in_turn(
    round: usize,
    first: impl FnOnce() -> Result<()>,
    second: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if round.is_multiple_of(2) {
        first()?;
        second()
    } else {
        second()?;
        first()
    }
}

/// A loop over a folder of files.
type Loop = fn(&Site, Deed, &Path, &Path) -> Result<Cost>;

#[expect(clippy::cast_precision_loss, reason = "no archive has 2^52 messages")]
fn peer_of(cost: Cost, messages: u64) -> Peer {
    Peer { rate: messages as f64 / cost.seconds, cpu: cost.cpu * 1e6 / messages.max(1) as f64 }
}

/// What was written before is on the disk, and does not get into what is measured next.
fn settle() -> Result<()> {
    command::succeed("coreutils", &mut Command::new("sync")).map(drop)
}

/// The file system of a folder.
fn file_system(folder: &Path) -> Result<String> {
    let mut command = Command::new("df");
    let told = command::succeed("coreutils", command.arg("--output=fstype").arg(folder))?;
    Ok(told.text().lines().last().unwrap_or_default().trim().to_owned())
}
