//! Archives to measure on, and single runs of the program whose output is looked at.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use testkit::pki::Person;

use super::{Bench, SIGNERS};
use crate::batch::{
    material::{self, Archive},
    process::{self, Cost},
    punch, rest, sample, signers,
    site::Reached,
};

impl Bench<'_> {
    /// Mail that was signed by many in turns.
    pub(super) fn by_many(&mut self) -> Result<Archive> {
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

    /// What a deed is done to: plain, signed or encrypted mail in an mbox. Made once for each key.
    pub(super) fn input(&mut self, deed: &str, person: &Person) -> Result<Archive> {
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

    pub(super) fn small_tree(&self, count: u64) -> Result<Archive> {
        material::maildir(&self.folder.join("tree"), count, 20_000)
    }

    pub(super) fn encrypted(&self, plain: &Archive, name: &str) -> Result<PathBuf> {
        let made = self.folder.join(name);
        let mut command = self.site.batch(Reached::Directly, &self.site.rsa)?;
        command.arg("encrypt").arg(&plain.path).arg("--output").arg(&made);
        command.arg("--to-certificate").arg(&self.site.rsa.certificate);
        process::run(&mut command)?;
        Ok(made)
    }

    /// Writes an archive anew.
    pub(super) fn rewrite(&self, mut command: Command, deed: &str, archive: &Archive) -> Result<Cost> {
        command.arg(deed);
        self.write_from(command, deed, archive)
    }

    pub(super) fn write_from(&self, mut command: Command, deed: &str, archive: &Archive) -> Result<Cost> {
        let (output, report) = (self.folder.join("output"), self.folder.join("report.jsonl"));
        command.arg(&archive.path).arg("--output").arg(&output).arg("--report").arg(&report);
        rest::settle_before(archive)?;
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
    pub(super) fn look(&self, mut command: Command, deed: &str, archive: &Archive) -> Result<Cost> {
        let report = self.folder.join("report.jsonl");
        command.arg(deed).arg(&archive.path).arg("--report").arg(&report);
        rest::settle_before(archive)?;
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
}

/// From outputs of longer archives what was written is taken away again meanwhile: not every disk has room for both.
const WRITTEN: u64 = 9_000_000_000;
