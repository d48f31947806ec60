//! Mozilla's NSS: `certutil` for its database, `cmsutil` for messages. What Thunderbird is built on.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;
use crate::mime::Signed;
use crate::pki::{PKCS12_PASSWORD, Person, Pki};
use crate::workdir::Workdir;

/// A database that trusts one root for mail.
#[derive(Debug)]
pub struct Nss {
    directory: PathBuf,
}

impl Nss {
    /// Makes the database.
    pub fn new(workdir: &Workdir, pki: &Pki) -> Result<Self> {
        Self::named("nss", workdir, pki)
    }

    /// The same in a directory of this name, for those who need another one.
    pub fn named(name: &str, workdir: &Workdir, pki: &Pki) -> Result<Self> {
        let nss = Self { directory: workdir.directory(name)? };
        command::succeed(PACKAGE, nss.command("certutil").args(["-N", "--empty-password"]))?;
        for (name, trust, file) in [("root", ",C,", pki.root()), ("issuing", ",,", pki.issuing())] {
            let mut add = nss.command("certutil");
            command::succeed(PACKAGE, add.args(["-A", "-n", name, "-t", trust, "-i"]).arg(file))?;
        }
        Ok(nss)
    }

    /// Brings a person's key in.
    pub fn import(&self, pki: &Pki, person: &Person) -> Result<()> {
        let mut import = self.command("pk12util");
        import.args(["-W", PKCS12_PASSWORD, "-K", "", "-i"]).arg(pki.pkcs12(person)?);
        command::succeed(PACKAGE, &mut import).map(drop)
    }

    /// Verifies a detached signature.
    pub fn verify(&self, signed: &Signed) -> Result<()> {
        let signature = self.directory.join("verify.p7s");
        let content = self.directory.join("verify.content");
        fs::write(&signature, &signed.signature)?;
        fs::write(&content, &signed.content)?;
        let mut decode = self.command("cmsutil");
        decode.args(["-D", "-h", "0", "-n", "-i"]).arg(signature).arg("-c").arg(content);
        // cmsutil ends with 0 even when the digest does not match; only its words tell.
        let finished = command::succeed(PACKAGE, &mut decode)?;
        ensure!(finished.text().contains("signer0.status=GoodSignature"), "cmsutil said {finished:?}");
        Ok(())
    }

    /// Makes a detached signature over canonical content, DER.
    pub fn sign(&self, content: &[u8], signer: &Person) -> Result<Vec<u8>> {
        let mut sign = self.command("cmsutil");
        sign.args(["-S", "-T", "-G", "-P", "-N", &signer.name]);
        Ok(command::succeed_with_input(PACKAGE, &mut sign, content)?.stdout)
    }

    /// Encrypts content for one person whose key was brought in, DER: AES-256-CBC where NSS takes it.
    pub fn encrypt(&self, content: &[u8], to: &Person) -> Result<Vec<u8>> {
        let mut encrypt = self.command("cmsutil");
        encrypt.args(["-E", "-r", &to.name]);
        Ok(command::succeed_with_input(PACKAGE, &mut encrypt, content)?.stdout)
    }

    /// Opens an object that is encrypted to a key that was brought in.
    pub fn decrypt(&self, object: &[u8]) -> Result<Vec<u8>> {
        let mut decode = self.command("cmsutil");
        Ok(command::succeed_with_input(PACKAGE, decode.arg("-D"), object)?.stdout)
    }

    /// Runs one of NSS's programs with the database and these arguments; however it ends.
    pub fn call(&self, program: &str, arguments: &[&OsStr]) -> Result<command::Finished> {
        command::finish(PACKAGE, self.command(program).args(arguments))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-d").arg(format!("sql:{}", self.directory.display()));
        command
    }
}

const PACKAGE: &str = "libnss3-tools";
