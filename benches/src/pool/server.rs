//! `hsmime-keyd`, the real program, for those who ask through its socket.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use testkit::{programs, wait};

use super::site::{LABEL, Place, Site};

/// How long it may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The program.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
}

/// It runs, until dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    socket: PathBuf,
}

impl Server {
    /// Has cargo build it, with the profile of this program, and finds it.
    pub fn find() -> Result<Self> {
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--package", "keyd", "--bin", "hsmime-keyd"]);
            if !cfg!(debug_assertions) {
                build.arg("--release");
            }
            build.status().context("cargo cannot be run")?;
        }
        Ok(Self { program: programs::find("hsmime-keyd")? })
    }

    /// Starts it for a token, with lanes of this length.
    pub fn start(&self, site: &Site, place: &Place, queue: usize) -> Result<Running> {
        let directory = site.directory();
        let socket = directory.join("keyd.sock");
        let configuration = directory.join("keyd.toml");
        let text = format!(
            "[[token]]\nmodule = \"{}\"\nlabel = \"{LABEL}\"\npin-file = \"{}\"\nsessions = {}\nqueue = {queue}\n\
             deadline-ms = 300000\n\n[pool]\nsocket = \"{}\"\n\n[keyd]\naudit = \"{}\"\n\n\
             [[keyd.client]]\nuser = \"{}\"\noperations = [\"sign\", \"decrypt\"]\n\
             lanes = [\"interactive\", \"bulk\"]\ncertificates = [\"*\"]\n",
            place.module.display(),
            place.pin_file.display(),
            place.sessions,
            socket.display(),
            directory.join("audit.log").display(),
            rustix::process::getuid().as_raw(),
        );
        fs::write(&configuration, text)?;
        let log = fs::File::create(directory.join("keyd.log"))?;
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(configuration).envs(site.environment()?);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut running = Running { child, socket };
        wait::until("hsmime-keyd to listen", START_LIMIT, || {
            if let Some(status) = running.child.try_wait()? {
                let log = fs::read_to_string(directory.join("keyd.log")).unwrap_or_default();
                anyhow::bail!("hsmime-keyd ended with {status}: {log}");
            }
            Ok(std::os::unix::net::UnixStream::connect(&running.socket).is_ok().then_some(()))
        })?;
        Ok(running)
    }
}

impl Running {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let ended = rustix::process::Pid::from_child(&self.child);
        // Asked to end, so that it closes its sessions; waited for, so that it does not disturb what comes.
        let _ = rustix::process::kill_process(ended, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
