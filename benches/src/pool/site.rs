//! The token that is measured: SoftHSM in a directory of its own, as it is and behind a latency.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use smime::Certificate;
use testkit::{Workdir, command, softhsm::SoftHsm};
use testmodule::{Control, Function, Rule};

use super::operation::{KEYS, Key};

/// The token's label.
pub const LABEL: &str = SoftHsm::LABEL;

/// How long the emulated token takes for each operation, beside SoftHSM's own time.
pub const LATENCY: Duration = Duration::from_millis(2);

/// Which token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Token {
    /// SoftHSM as it is: the processor is its limit.
    Plain,
    /// SoftHSM with [`LATENCY`] added to `C_Sign` and `C_Decrypt`, once per operation, side by side in all
    /// sessions: a network HSM.
    Emulated,
}

impl Token {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Emulated];

    /// Short, for files and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Emulated => "emulated",
        }
    }

    /// For readers.
    pub fn title(self) -> String {
        let sessions = self.sessions();
        match self {
            Self::Plain => format!("SoftHSM as it is, {sessions} sessions"),
            Self::Emulated => {
                format!("SoftHSM with {} ms latency, {sessions} sessions", LATENCY.as_millis())
            }
        }
    }

    /// The sessions that it is given: one per processor where that is the limit.
    pub fn sessions(self) -> usize {
        match self {
            Self::Plain => thread::available_parallelism().map_or(1, std::num::NonZero::get),
            Self::Emulated => 16,
        }
    }
}

/// SoftHSM with a key of each kind, and the latency that is put before it.
#[derive(Debug)]
pub struct Site {
    workdir: Workdir,
    softhsm: SoftHsm,
}

/// What a child process must know of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Its module.
    pub module: PathBuf,
    /// The file with its PIN.
    pub pin_file: PathBuf,
    /// How many sessions to open.
    pub sessions: usize,
    /// Where certificates are.
    pub directory: PathBuf,
    /// The socket of hsmime-keyd, if it is to be asked through that.
    pub socket: Option<PathBuf>,
}

impl Site {
    /// Makes token, keys and certificates.
    ///
    /// In memory where there is a place for that: SoftHSM writes every attribute of a new key to the disk and
    /// waits for it.
    pub fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            // Only the first counts, and all say the same.
            let _ = tempfile::env::override_temp_dir(memory);
        }
        let workdir = Workdir::new("bench")?;
        let softhsm = SoftHsm::new(&workdir)?;
        for key in KEYS {
            make(&workdir, key)?;
            softhsm.import(&workdir.join(format!("{}.key", key.name)), key.name, &id(key))?;
        }
        let mut control = Control::new(workdir.path())?;
        control.add(Rule::delay(LATENCY).on([Function::Sign, Function::Decrypt]))?;
        Ok(Self { workdir, softhsm })
    }

    /// The directory with everything.
    pub fn directory(&self) -> &Path {
        self.workdir.path()
    }

    /// Where to find a token.
    pub fn place(&self, token: Token) -> Result<Place> {
        Ok(Place {
            module: match token {
                Token::Plain => SoftHsm::MODULE.into(),
                Token::Emulated => testmodule::library()?,
            },
            pin_file: self.softhsm.pin_file().to_owned(),
            sessions: token.sessions(),
            directory: self.directory().to_owned(),
            socket: None,
        })
    }

    /// The variables by which modules find their files.
    pub fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let mut variables = self.softhsm.environment()?;
        // Counters would be written by every call; nobody reads them here.
        let [control, _] = Control::environment(self.directory());
        variables.extend([control, (testmodule::MODULE, SoftHsm::MODULE.into())]);
        Ok(variables)
    }
}

impl Place {
    /// The PIN.
    pub fn pin(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.pin_file)?.trim_end().to_owned())
    }

    /// The certificate of a key.
    pub fn certificate(&self, key: Key) -> Result<Certificate> {
        let path = self.directory.join(format!("{}.pem", key.name));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let certificates = Certificate::from_pem(&text)?;
        certificates.into_iter().next().with_context(|| format!("no certificate in {}", path.display()))
    }
}

/// A self-signed certificate and its private key.
fn make(workdir: &Workdir, key: Key) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "30", "-newkey"]).args(key.recipe);
    command.args(["-subj", &format!("/CN={}", key.name)]);
    command.args(["-addext", &format!("subjectAltName=email:{}@example.org", key.name)]);
    command.args(["-addext", "keyUsage=critical,digitalSignature,keyEncipherment,keyAgreement"]);
    command.args(["-addext", "extendedKeyUsage=emailProtection"]);
    command.arg("-keyout").arg(workdir.join(format!("{}.key", key.name)));
    command.arg("-out").arg(workdir.join(format!("{}.pem", key.name)));
    let finished = command::succeed("openssl", &mut command)?;
    ensure!(finished.success(), "{finished:?}");
    Ok(())
}

/// A `CKA_ID` that differs from key to key.
fn id(key: Key) -> String {
    HEXLOWER.encode(key.name.as_bytes())
}
