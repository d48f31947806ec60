//! GnuPG's `gpgsm` with a home of its own, the root trusted and no CRL checks.
//!
//! Debian 12's version reads and writes RSA PKCS #1 v1.5 and AES-CBC only: no OAEP, no AES-GCM, no EC keys.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;
use crate::mime::Signed;
use crate::pki::{PKCS12_PASSWORD, Person, Pki};
use crate::workdir::Workdir;

/// A GnuPG home; its agent is stopped when this is dropped.
#[derive(Debug)]
pub struct Gpgsm {
    home: PathBuf,
}

impl Gpgsm {
    /// Makes the home, trusts the root and imports the CAs, and `own`'s key if there is one.
    pub fn new(workdir: &Workdir, pki: &Pki, own: Option<&Person>) -> Result<Self> {
        let home = workdir.directory("gnupg")?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        let mut fingerprint = Command::new("openssl");
        fingerprint.args(["x509", "-noout", "-fingerprint", "-sha1", "-in"]).arg(pki.root());
        let fingerprint = command::succeed("openssl", &mut fingerprint)?.text();
        let fingerprint = fingerprint.trim().rsplit('=').next().unwrap_or_default();
        fs::write(home.join("trustlist.txt"), format!("{fingerprint} S relax\n"))?;
        fs::write(home.join("gpgsm.conf"), "disable-crl-checks\ndisable-dirmngr\n")?;
        // Keys are only here for a test: few rounds over their password, or each use would take a tenth of a second.
        fs::write(home.join("gpg-agent.conf"), "allow-loopback-pinentry\ns2k-count 65536\n")?;
        let gpgsm = Self { home };
        gpgsm.run(|gpgsm| gpgsm.arg("--import").arg(pki.root()).arg(pki.issuing()), b"")?;
        if let Some(own) = own {
            gpgsm.import(pki, own)?;
        }
        Ok(gpgsm)
    }

    /// Brings a person's key in.
    ///
    /// gpgsm 2.2 cannot read a few good PKCS #12 files in a hundred, depending on their random salt; another
    /// file with the same key then goes in.
    pub fn import(&self, pki: &Pki, own: &Person) -> Result<()> {
        let mut imported = Ok(());
        for _ in 0..IMPORT_ATTEMPTS {
            let file = pki.pkcs12(own)?;
            imported = self.with_password(|gpgsm| gpgsm.arg("--import").arg(&file)).map(drop);
            if imported.is_ok() {
                break;
            }
        }
        imported
    }

    /// Makes a person's certificate known, to encrypt for.
    pub fn know(&self, person: &Person) -> Result<()> {
        self.run(|gpgsm| gpgsm.arg("--import").arg(&person.certificate), b"").map(drop)
    }

    /// Verifies a detached signature.
    pub fn verify(&self, signed: &Signed) -> Result<()> {
        let signature = self.file("verify.p7s", &signed.signature)?;
        let content = self.file("verify.content", &signed.content)?;
        let said = self.run(|gpgsm| gpgsm.arg("--verify").arg(signature).arg(content), b"")?.stderr;
        ensure!(said.contains("Good signature"), "gpgsm said {said}");
        Ok(())
    }

    /// Makes a detached signature over canonical content, DER.
    pub fn sign(&self, content: &[u8], signer: &Person) -> Result<Vec<u8>> {
        let content = self.file("sign.content", content)?;
        let finished =
            self.with_password(|gpgsm| gpgsm.args(["--detach-sign", "-u", &signer.address]).arg(content))?;
        Ok(finished.stdout)
    }

    /// Encrypts content, DER.
    pub fn encrypt(&self, content: &[u8], to: &[&Person]) -> Result<Vec<u8>> {
        let recipients = to.iter().flat_map(|person| ["-r", &person.address]);
        let finished = self.run(|gpgsm| gpgsm.arg("--encrypt").args(recipients), content)?;
        Ok(finished.stdout)
    }

    /// Opens an object that is encrypted to the own key.
    pub fn decrypt(&self, object: &[u8]) -> Result<Vec<u8>> {
        let object = self.file("decrypt.p7m", object)?;
        Ok(self.with_password(|gpgsm| gpgsm.arg("--decrypt").arg(object))?.stdout)
    }

    fn file(&self, name: &str, octets: &[u8]) -> Result<PathBuf> {
        let path = self.home.join(name);
        fs::write(&path, octets)?;
        Ok(path)
    }

    /// Where everything is kept.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs gpgsm with these arguments and the password at hand; however it ends.
    pub fn call(&self, arguments: &[&OsStr]) -> Result<command::Finished> {
        let mut gpgsm = self.command();
        gpgsm.args(["--pinentry-mode", "loopback", "--passphrase-fd", "0"]).args(arguments);
        command::finish_with_input(PACKAGE, &mut gpgsm, format!("{PKCS12_PASSWORD}\n").as_bytes())
    }

    fn with_password(
        &self,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<command::Finished> {
        let mut gpgsm = self.command();
        gpgsm.args(["--pinentry-mode", "loopback", "--passphrase-fd", "0"]);
        command::succeed_with_input(PACKAGE, arguments(&mut gpgsm), format!("{PKCS12_PASSWORD}\n").as_bytes())
    }

    fn run(
        &self,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
        input: &[u8],
    ) -> Result<command::Finished> {
        command::succeed_with_input(PACKAGE, arguments(&mut self.command()), input)
    }

    fn command(&self) -> Command {
        let mut gpgsm = Command::new("gpgsm");
        // Its words are looked at.
        gpgsm.env("LC_ALL", "C").arg("--homedir").arg(&self.home).arg("--batch");
        gpgsm
    }
}

impl Drop for Gpgsm {
    fn drop(&mut self) {
        let mut stop = Command::new("gpgconf");
        // Without its home the agent notices and ends by itself, only later.
        let _ = command::finish(PACKAGE, stop.arg("--homedir").arg(&self.home).args(["--kill", "all"]));
    }
}

const PACKAGE: &str = "gpgsm";
const IMPORT_ATTEMPTS: usize = 5;
