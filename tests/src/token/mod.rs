//! Software tokens of several makers, each of its own below a directory: one interface for all of them.
//!
//! Which maker's is chosen by [`KIND`] in the environment, so one suite runs with each. A PKCS#11 module
//! is one per process and reads its configuration when it is initialised: see [`crate::isolated`].

mod kryoptic;
mod opencryptoki;
mod pkcs11_tool;
mod softhsm;
mod softokn;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Names the maker: `softhsm` (also if it is not set), `kryoptic`, `softokn` or `opencryptoki`.
pub const KIND: &str = "HSMIME_TEST_TOKEN";

/// A maker of software tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SoftHSM 2.
    SoftHsm,
    /// Kryoptic, built by `scripts/prepare`.
    Kryoptic,
    /// NSS's softokn. It wants its parameters in `C_Initialize`, which `testmodule` hands on.
    Softokn,
    /// opencryptoki's soft token, with a slot daemon of its own in namespaces of its own.
    OpenCryptoki,
}

impl Kind {
    /// The one that the environment names.
    pub fn chosen() -> Result<Self> {
        let Some(name) = env::var_os(KIND) else { return Ok(Self::SoftHsm) };
        Ok(match name.to_str() {
            Some("softhsm" | "") => Self::SoftHsm,
            Some("kryoptic") => Self::Kryoptic,
            Some("softokn") => Self::Softokn,
            Some("opencryptoki") => Self::OpenCryptoki,
            _ => bail!("{KIND}={} is none of softhsm, kryoptic, softokn, opencryptoki", name.display()),
        })
    }

    /// The maker's own module, installed on this machine.
    pub fn real_module(self) -> Result<PathBuf> {
        match self {
            Self::SoftHsm => library("softhsm/libsofthsm2.so", "softhsm2"),
            Self::Kryoptic => kryoptic::module(),
            Self::Softokn => library("libsoftokn3.so", "libnss3"),
            Self::OpenCryptoki => library("opencryptoki/libopencryptoki.so.0", "opencryptoki"),
        }
    }
}

/// Tokens of one maker below one directory.
#[derive(Clone, Debug)]
pub struct Tokens {
    kind: Kind,
    directory: PathBuf,
}

impl Tokens {
    /// Writes the configuration. There is no initialised token yet.
    pub fn new(kind: Kind, directory: &Path) -> Result<Self> {
        let tokens = Self::open(kind, directory);
        match kind {
            Kind::SoftHsm => softhsm::configure(directory),
            Kind::Kryoptic => kryoptic::configure(directory),
            Kind::Softokn => softokn::configure(directory),
            Kind::OpenCryptoki => opencryptoki::configure(directory),
        }?;
        fs::write(tokens.labels_file(), "")?;
        Ok(tokens)
    }

    /// Those whose configuration [`Tokens::new`] wrote, maybe in another process.
    pub fn open(kind: Kind, directory: &Path) -> Self {
        Self { kind, directory: directory.to_owned() }
    }

    /// Whose they are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The module to load.
    pub fn module(&self) -> Result<PathBuf> {
        match self.kind {
            Kind::Softokn => Ok(testmodule::library()?),
            kind => kind.real_module(),
        }
    }

    /// A module that knows PKCS #11 2.40 only: OpenSC 0.23's spy hands out the functions of newer ones as they
    /// are, and sees no call.
    pub fn module_for_spy(&self) -> Result<PathBuf> {
        match self.kind {
            Kind::Kryoptic => Ok(testmodule::library()?),
            _ => self.module(),
        }
    }

    /// What a process must have in its environment for the module to find these tokens, and for `testmodule` to
    /// find the module.
    pub fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let mut environment = match self.kind {
            Kind::SoftHsm => softhsm::environment(&self.directory),
            Kind::Kryoptic => kryoptic::environment(&self.directory),
            Kind::Softokn => softokn::environment(&self.directory),
            Kind::OpenCryptoki => Vec::new(),
        };
        environment.push((testmodule::MODULE, self.kind.real_module()?.into()));
        Ok(environment)
    }

    /// What a command line must begin with for the process to see these tokens.
    pub fn launcher(&self) -> Vec<OsString> {
        match self.kind {
            Kind::OpenCryptoki => opencryptoki::launcher(&self.directory),
            _ => Vec::new(),
        }
    }

    /// A program that sees these tokens, if this process does, and that `testmodule` does nothing to.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        command.envs(self.environment()?).current_dir(&self.directory);
        command.env_remove(testmodule::CONTROL).env_remove(testmodule::COUNTERS);
        Ok(command)
    }

    /// Initialises one more token.
    pub fn init(&self, label: &str, pin: &str) -> Result<()> {
        let mut labels = self.labels()?;
        match self.kind {
            Kind::SoftHsm => softhsm::init(self, label, pin),
            Kind::Kryoptic => kryoptic::init(self, labels.len(), label, pin),
            Kind::Softokn => softokn::init(self, &labels, label, pin),
            Kind::OpenCryptoki => opencryptoki::init(self, labels.len(), label, pin),
        }?;
        labels.push(label.to_owned());
        Ok(fs::write(self.labels_file(), labels.join("\n"))?)
    }

    /// Brings a key pair made by OpenSSL (PKCS #8, PEM) onto a token, as `key_label` with `CKA_ID` `id` (hex).
    pub fn import(&self, token: &str, pin: &str, key: &Path, key_label: &str, id: &str) -> Result<()> {
        match self.kind {
            // Its own tool takes more kinds of keys, but does not let EC keys agree.
            Kind::SoftHsm if !pkcs11_tool::is_ec(key)? => {
                softhsm::import(self, token, pin, key, key_label, id)
            }
            _ => pkcs11_tool::import(self, token, pin, key, key_label, id),
        }
    }

    /// Whether the module offers a mechanism on the first token, by pkcs11-tool's name (`ECDSA`) and what it is
    /// for (`sign`).
    pub fn offers(&self, mechanism: &str, for_what: &str) -> Result<bool> {
        pkcs11_tool::offers(self, mechanism, for_what)
    }

    /// Whether the flags of a token tell that a wrong PIN was given (`CKF_USER_PIN_COUNT_LOW`).
    pub fn tells_of_wrong_pins(&self) -> bool {
        matches!(self.kind, Kind::SoftHsm | Kind::OpenCryptoki)
    }

    /// Whether a process may use several of the maker's tokens at once. In opencryptoki 3.8 a login to one soft
    /// token is a login to all, and their objects are mixed up.
    pub fn keeps_tokens_apart(&self) -> bool {
        self.kind != Kind::OpenCryptoki
    }

    /// The folder whose absence is that of the tokens, for a module that notices it at once. Others hold
    /// their files open, or keep what they read.
    pub fn removable(&self) -> Option<PathBuf> {
        (self.kind == Kind::SoftHsm).then(|| softhsm::tokens(&self.directory))
    }

    /// Breaks the configuration, so that the module cannot be initialised.
    pub fn spoil(&self) -> Result<()> {
        match self.kind {
            Kind::SoftHsm => softhsm::spoil(&self.directory),
            Kind::Kryoptic => kryoptic::spoil(&self.directory),
            Kind::Softokn => softokn::spoil(&self.directory),
            Kind::OpenCryptoki => opencryptoki::spoil(),
        }
    }

    fn labels(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(self.labels_file())?.lines().map(str::to_owned).collect())
    }

    fn labels_file(&self) -> PathBuf {
        self.directory.join("labels")
    }
}

/// A library of a Debian package.
pub fn library(name: &str, package: &str) -> Result<PathBuf> {
    let folders = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    found.with_context(|| format!("{name} is not installed: apt-get install {package}"))
}

/// Runs a program to its end and gives its standard output as text.
fn said(package: &str, command: &mut Command) -> Result<String> {
    Ok(command::succeed(package, command)?.text())
}
