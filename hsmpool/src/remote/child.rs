//! A module in a process of its own, seen from its parent: started, asked, killed, started again.
//!
//! The child's standard input and output are sockets: the interactive and the bulk lane. Standard error is the
//! log's. The first frame on the interactive one, [`Configure`], tells the child what it is to do.

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    buffer::Buffer,
    connector::{Connector, NoConnection},
    frame,
    pins::{PinMemory, PinNotice},
};
use crate::{TokenSettings, login::PinRecord, pin::PinSalt, request::Lane};

/// Gives the command that starts a child.
pub type Program = Arc<dyn Fn() -> Command + Send + Sync>;

/// A child's first frame.
#[derive(Serialize, Deserialize)]
pub(super) struct Configure {
    pub(super) tokens: Vec<TokenSettings>,
    pub(super) salt: PinSalt,
    /// What is known of each token's PIN.
    pub(super) pins: Vec<PinRecord>,
}

/// Starts the child of a module whenever its interactive lane needs a connection; the bulk lane gets the other
/// end of the same child.
pub(super) struct ChildConnector {
    module: PathBuf,
    label: String,
    tokens: Vec<TokenSettings>,
    program: Program,
    pins: Arc<PinMemory>,
    state: Mutex<State>,
    /// There is a new child, or there will be none.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// The bulk lane's end, until it is fetched.
    bulk: Option<UnixStream>,
    /// Killed children that the system had not ended yet when they were last looked at.
    lingering: Vec<Child>,
    closed: bool,
}

impl ChildConnector {
    pub(super) fn new(
        module: PathBuf,
        tokens: Vec<TokenSettings>,
        program: Program,
        pins: Arc<PinMemory>,
    ) -> Self {
        let label = format!("process of module {}", module.display());
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { module, label, tokens, program, pins, state, changed }
    }

    fn spawn(&self) -> Result<UnixStream, NoConnection> {
        let mut state = self.lock();
        state.bulk = None;
        if let Some(child) = state.child.take() {
            state.bury(child, KILL_LIMIT);
        }
        if state.closed {
            return Err(NoConnection::Refused { reason: "the pool is closed".into(), transient: false });
        }
        let (interactive, stdin) = UnixStream::pair()?;
        let (bulk, stdout) = UnixStream::pair()?;
        let mut command = (self.program)();
        command.stdin(Stdio::from(OwnedFd::from(stdin))).stdout(Stdio::from(OwnedFd::from(stdout)));
        let child = command.spawn()?;
        // The command holds the child's ends too.
        drop(command);
        tracing::debug!(module = %self.module.display(), pid = child.id(), "module process started");
        state.child = Some(child);
        let configure = Configure {
            tokens: self.tokens.clone(),
            salt: self.pins.salt.clone(),
            pins: self.pins.of(&self.tokens),
        };
        let mut buffer = Buffer::default();
        let unwritable = |error: frame::FrameError| NoConnection::Io(io::Error::other(error.to_string()));
        frame::append(&mut buffer, &configure).map_err(unwritable)?;
        (&interactive).write_all(buffer.as_slice())?;
        state.bulk = Some(bulk);
        drop(state);
        self.changed.notify_all();
        Ok(interactive)
    }

    /// The interactive lane starts children, since it has read all that the last one said.
    fn fetch_bulk(&self) -> Result<UnixStream, NoConnection> {
        let until = Instant::now() + BULK_LIMIT;
        let mut state = self.lock();
        loop {
            if let Some(bulk) = state.bulk.take() {
                return Ok(bulk);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connector for ChildConnector {
    fn label(&self) -> &str {
        &self.label
    }

    fn place(&self) -> &Path {
        &self.module
    }

    fn connect(&self, lane: Lane) -> Result<UnixStream, NoConnection> {
        match lane {
            Lane::Interactive => self.spawn(),
            Lane::Bulk => self.fetch_bulk(),
        }
    }

    fn pauses(&self) -> (Duration, Duration) {
        (Duration::from_millis(50), Duration::from_secs(5))
    }

    fn sessions(&self) -> usize {
        self.tokens.iter().map(TokenSettings::most_sessions).sum()
    }

    fn most_requests(&self) -> usize {
        let of = |token: &TokenSettings| token.queue.saturating_add(token.most_sessions());
        self.tokens.iter().map(of).fold(0, usize::saturating_add)
    }

    /// Names of a key that clients think up would each be another key for it.
    fn is_told_descriptions(&self) -> bool {
        false
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn overdue(&self) -> bool {
        let mut state = self.lock();
        let Some(child) = &mut state.child else { return false };
        tracing::error!(
            module = %self.module.display(),
            pid = child.id(),
            fault = "operator",
            "module process does not answer: killed"
        );
        // It may have ended by itself.
        let _ = child.kill();
        true
    }

    fn notice(&self, notice: PinNotice) -> Option<bool> {
        Some(self.pins.note(&self.tokens, notice))
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.bulk = None;
        if let Some(child) = state.child.take() {
            state.end(child);
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    /// Waits for a child that has been told to end, by the end of its standard input.
    fn end(&mut self, mut child: Child) {
        if wait(&mut child, END_LIMIT).is_none() {
            self.bury(child, KILL_LIMIT);
        }
    }

    /// Kills a child. One that the system cannot end, because it waits for a device, is left behind.
    fn bury(&mut self, mut child: Child, limit: Duration) {
        self.lingering.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        // It may have ended by itself.
        let _ = child.kill();
        match wait(&mut child, limit) {
            Some(status) => tracing::warn!(pid = child.id(), %status, "module process has ended"),
            None => self.lingering.push(child),
        }
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// How long a child may take to close its sessions.
const END_LIMIT: Duration = Duration::from_secs(4);
/// How long the system may take to end a process.
const KILL_LIMIT: Duration = Duration::from_millis(500);
/// How long the bulk lane waits for the interactive one to start a child.
const BULK_LIMIT: Duration = Duration::from_secs(2);
