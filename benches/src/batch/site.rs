//! The token, whose keys are on it, and the configurations that lead to it.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use testkit::{
    Workdir,
    pki::{Key, Person, Pki, Profile},
    programs,
    softhsm::SoftHsm,
};
use testmodule::{Control, Function, Rule};

use super::{least, material::SENDER, peers::Deed, signers};
use crate::pool::{
    child::{Job, Task, run_in},
    contender::{Contender, Shape},
    load::Measured,
    operation::Operation,
    site::Place,
};

/// How long the emulated token takes for each operation, beside SoftHSM's own time.
pub const LATENCY: Duration = Duration::from_millis(2);

/// How long the first message waits for its signature, where it is to wait.
pub const FIRST_WAITS: Duration = Duration::from_secs(3);

/// How the token is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reached {
    /// SoftHSM as it is, a session for each processor.
    Directly,
    /// Behind [`LATENCY`], with 32 sessions side by side.
    FromFar,
}

impl Reached {
    /// How many sessions there are.
    pub fn sessions(self) -> usize {
        match self {
            Self::Directly => cores(),
            Self::FromFar => 32,
        }
    }

    /// How many operations in a second all sessions can do together if they take no more than their latency.
    #[expect(clippy::cast_precision_loss, reason = "few sessions")]
    pub fn allowed(self) -> Option<f64> {
        match self {
            Self::Directly => None,
            Self::FromFar => Some(self.sessions() as f64 / LATENCY.as_secs_f64()),
        }
    }
}

/// How many processors there are.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// SoftHSM with two keys of the same sender, and a certification authority.
#[derive(Debug)]
pub struct Site {
    workdir: Workdir,
    softhsm: SoftHsm,
    pki: Pki,
    /// Whose key is RSA-2048.
    pub rsa: Person,
    /// Whose key is on P-256.
    pub elliptic: Person,
    /// To whom is rekeyed.
    pub heir: Person,
}

impl Site {
    /// Makes all of it, in memory where there is a place for that: SoftHSM waits for the disk with each attribute.
    pub fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            // Only the first counts, and all say the same.
            let _ = tempfile::env::override_temp_dir(memory);
        }
        let workdir = Workdir::new("batch")?;
        let pki = Pki::new(&workdir.directory("pki")?)?;
        let issue = |name, address, key| pki.issue(&Profile::new(name, address, key));
        // The raw loop finds keys by these names.
        let rsa = issue("rsa2048", SENDER, Key::Rsa2048)?;
        let elliptic = issue("p256", SENDER, Key::P256)?;
        let heir = issue("heir", "archive@example.org", Key::Rsa2048)?;
        let softhsm = SoftHsm::new(&workdir)?;
        softhsm.import(&rsa.key, "rsa2048", "a1")?;
        softhsm.import(&elliptic.key, "p256", "a2")?;
        let mut control = Control::new(workdir.path())?;
        control.add(Rule::delay(LATENCY).on([Function::Sign, Function::Decrypt]))?;
        Ok(Self { workdir, softhsm, pki, rsa, elliptic, heir })
    }

    /// The trust anchor.
    pub fn root(&self) -> PathBuf {
        self.pki.root()
    }

    /// The certificate of the authority below it.
    pub fn issuing(&self) -> PathBuf {
        self.pki.issuing()
    }

    /// `hsmime-batch` with this key.
    pub fn batch(&self, reached: Reached, person: &Person) -> Result<Command> {
        let program = programs::find("hsmime-batch")?;
        let configuration = self.configuration(reached, person)?;
        let mut command = Command::new(program);
        command.envs(self.environment()?).arg("--config").arg(configuration);
        Ok(command)
    }

    /// The same, but the first message that asks waits for [`FIRST_WAITS`]. Each call makes a first one again.
    pub fn batch_that_waits(&self, person: &Person) -> Result<Command> {
        let folder = self.workdir.directory("waits")?;
        let mut control = Control::new(&folder)?;
        control.add(Rule::delay(FIRST_WAITS).on([Function::Sign]).next(1))?;
        let mut command = self.batch(Reached::FromFar, person)?;
        command.envs(Control::environment(&folder));
        Ok(command)
    }

    /// `hsmime-batch` with this key for so many signers: see [`signers`].
    pub fn batch_of_many(&self, person: &Person, count: u64) -> Result<Command> {
        let folder = self.workdir.join("signers");
        let certificates = signers::issue(&folder, person, &self.pki.issuing(), count)?;
        let configuration = self.write_configuration("signers", Reached::Directly, &certificates)?;
        let mut command = Command::new(programs::find("hsmime-batch")?);
        command.envs(self.environment()?).arg("--config").arg(configuration);
        Ok(command)
    }

    /// The same on the first of the processors only.
    pub fn batch_on(&self, cores: usize, person: &Person) -> Result<Command> {
        let program = programs::find("hsmime-batch")?;
        let configuration = self.configuration(Reached::Directly, person)?;
        let mut command = Command::new("taskset");
        command.envs(self.environment()?).arg("-c").arg(format!("0-{}", cores.saturating_sub(1)));
        command.arg(program).arg("--config").arg(configuration);
        Ok(command)
    }

    fn configuration(&self, reached: Reached, person: &Person) -> Result<PathBuf> {
        self.write_configuration(&person.name, reached, std::slice::from_ref(&person.certificate))
    }

    fn write_configuration(&self, name: &str, reached: Reached, certificates: &[PathBuf]) -> Result<PathBuf> {
        let chain = self.pki.issuing();
        let mut identities = String::new();
        for of in certificates {
            let (of, chain) = (of.to_string_lossy(), chain.to_string_lossy());
            let _ = write!(identities, "[[identity]]\ncertificate = {of:?}\nchain = {chain:?}\n\n");
        }
        let text = format!(
            "[[token]]\nmodule = {:?}\nlabel = {:?}\npin-file = {:?}\nsessions = {}\n\n\
             [trust]\nanchors = [{:?}]\ncrls = [{:?}]\nrevocation = \"soft-fail\"\n\n\
             {identities}[[rule]]\nfrom = \"*@example.org\"\nsign = \"required\"\n",
            module(reached)?.to_string_lossy(),
            SoftHsm::LABEL,
            self.softhsm.pin_file().to_string_lossy(),
            reached.sessions(),
            self.pki.root().to_string_lossy(),
            self.pki.crl().to_string_lossy(),
        );
        let path = self.workdir.join(format!("{name}-{reached:?}.toml"));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The rate of the raw loop with so many threads, and the processor's time for each call.
    pub fn raw(
        &self,
        reached: Reached,
        operation: Operation,
        threads: usize,
        seconds: f64,
    ) -> Result<Measured> {
        let place = self.place(reached, threads)?;
        let task = Task::Rates(vec![Shape::Callers(threads)], seconds);
        let job = Job { contender: Contender::Raw, operation, place, task };
        let rates: Vec<Measured> = run_in(&job, self.environment()?)?;
        rates.into_iter().next().context("the raw loop gave nothing")
    }

    /// What each message needs, with so many threads, in a process of its own.
    pub fn least(
        &self,
        reached: Reached,
        deed: Deed,
        operation: Operation,
        from: &Path,
        to: &Path,
    ) -> Result<Command> {
        let place = self.place(reached, reached.sessions())?;
        let job = least::Job { deed, operation, place, from: from.to_owned(), to: to.to_owned() };
        let mut command = Command::new(env::current_exe()?);
        command.envs(self.environment()?).arg(least::ARGUMENT).arg(serde_json::to_string(&job)?);
        Ok(command)
    }

    fn place(&self, reached: Reached, sessions: usize) -> Result<Place> {
        Ok(Place {
            module: module(reached)?,
            pin_file: self.softhsm.pin_file().to_owned(),
            sessions,
            directory: self.workdir.join("pki"),
            socket: None,
        })
    }

    /// The same of the token itself on the first of the processors only, with as many threads.
    pub fn raw_on(&self, cores: usize, operation: Operation, seconds: f64) -> Result<Measured> {
        let me = Pid::from_raw(0);
        let all = sched_getaffinity(me)?;
        let mut some = CpuSet::new();
        for core in 0..cores {
            some.set(core)?;
        }
        // What this thread starts is kept on them as well.
        sched_setaffinity(me, &some)?;
        let measured = self.raw(Reached::Directly, operation, cores, seconds);
        sched_setaffinity(me, &all)?;
        measured
    }

    fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let mut variables = self.softhsm.environment()?;
        // Counters would be written by every call; nobody reads them here.
        let [control, _] = Control::environment(self.workdir.path());
        variables.extend([control, (testmodule::MODULE, SoftHsm::MODULE.into())]);
        Ok(variables)
    }
}

fn module(reached: Reached) -> Result<PathBuf> {
    Ok(match reached {
        Reached::Directly => SoftHsm::MODULE.into(),
        Reached::FromFar => testmodule::library()?,
    })
}
