//! A running daemon, `hsmime-milter` or `hsmime-keyd`: started, stopped, killed, measured, and what it logged.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command;
use crate::wait;

/// The daemon; it is stopped when dropped.
#[derive(Debug)]
pub struct Milter {
    child: Option<Child>,
    log: PathBuf,
}

impl Milter {
    /// Starts `command` and waits until it listens at `listen` (`inet:127.0.0.1:PORT` or `unix:/path`).
    /// What it says is added to the file `log`.
    pub fn start(mut command: Command, listen: &str, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().map_err(|error| command::not_started("hsmime", &command, &error))?;
        let mut milter = Self { child: Some(child), log: log.to_owned() };
        wait::until("the milter to listen", PATIENCE, || {
            if let Some(status) = milter.child.as_mut().and_then(|child| child.try_wait().transpose()) {
                bail!("the milter ended with {}: {}", status?, milter.log());
            }
            Ok(is_listening(listen).then_some(()))
        })
        .with_context(|| milter.log())?;
        Ok(milter)
    }

    /// All it has logged, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let mut child = self.child.take().context("the milter is not running")?;
        let stopped = wait::until_whatever_signal("the milter to stop", PATIENCE, || Ok(child.try_wait()?));
        if stopped.is_err() {
            // Nothing may outlive its test.
            child.kill()?;
            child.wait()?;
        }
        stopped
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the milter is not running")?;
        child.kill()?;
        Ok(child.wait()?)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()?).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The most resident memory it ever used, in KiB (`VmHWM`).
    pub fn peak_memory(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// What it uses now.
    pub fn usage(&self) -> Result<Usage> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.id()?))?.count();
        Ok(Usage { resident_kib: self.status("VmRSS:")?, open_files: u64::try_from(files)? })
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
        Ok(number.parse()?)
    }

    /// What the system knows it by.
    pub fn id(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("the milter is not running")?.id())
    }
}

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory (`VmRSS`).
    pub resident_kib: u64,
    /// Open files.
    pub open_files: u64,
}

impl Drop for Milter {
    fn drop(&mut self) {
        if self.child.is_some() {
            // Either it stops, or `stop` has killed it.
            let _ = self.stop();
        }
    }
}

fn is_listening(listen: &str) -> bool {
    match listen.split_once(':') {
        Some(("inet", address)) => TcpStream::connect(address).is_ok(),
        Some(("unix", path)) => UnixStream::connect(path).is_ok(),
        _ => false,
    }
}

const PATIENCE: Duration = Duration::from_secs(40);
