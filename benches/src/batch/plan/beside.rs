//! The program beside its peers, in the same rounds.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::{Bench, Part, RAW_SECONDS, peer_of};
use crate::{
    batch::{
        material::{self, Archive},
        peers::{self, Deed},
        process::{self, Cost},
        rest,
        results::{Limit, Peer},
        site::{LATENCY, Reached, Site, cores},
    },
    pool::operation::Operation,
};

impl Bench<'_> {
    /// Beside the bare token, and beside what each message needs besides.
    pub(super) fn beside_token(
        &mut self,
        part: Part,
        reached: Reached,
        deed: Deed,
        operation: Operation,
    ) -> Result<()> {
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
                    rest::settle()?;
                    let raw = self.site.raw(reached, operation, sessions, RAW_SECONDS)?;
                    bare.push(Peer { rate: raw.rate, cpu: raw.cpu });
                    rest::settle_before(&archive)?;
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
    pub(super) fn rekey(&mut self) -> Result<()> {
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
                    rest::settle_before(&archive)?;
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
    pub(super) fn beside_hash(&mut self, part: Part, deed: &str, one: &Archive, whose: &str) -> Result<()> {
        let archive = material::repeated(&self.folder.join("long"), one, self.plan.streamed)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..self.plan.rounds {
            self.tell(&format!("{deed}, round {}", round + 1));
            in_turn(
                round,
                || {
                    rest::settle_before(&archive)?;
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

    /// A folder of files, and loops over it.
    pub(super) fn loops(&mut self, deed: Deed) -> Result<()> {
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

/// The share of the token's rate that is wanted, or of what else is the limit.
const OF_TOKEN: f64 = 0.9;
/// The share of the rate of `cp`, or of a hash.
const OF_DISK: f64 = 0.5;
/// How long large mails are, before they are encrypted.
const LARGE: usize = 3_700_000;
