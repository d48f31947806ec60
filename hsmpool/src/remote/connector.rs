//! How a connection to a server of keys comes about.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::pins::PinNotice;
use crate::request::Lane;

/// Makes connections.
pub(crate) trait Connector: Send + Sync {
    /// What is connected to, for messages.
    fn label(&self) -> &str;

    /// Where it is: a socket, a module.
    fn place(&self) -> &Path;

    /// Connects, and waits for that if it must.
    fn connect(&self, lane: Lane) -> Result<UnixStream, NoConnection>;

    /// The first and the longest pause between two attempts.
    fn pauses(&self) -> (Duration, Duration);

    /// Sessions behind it, as far as that is known.
    fn sessions(&self) -> usize {
        1
    }

    /// How many requests of a lane it may have at a time, as the configuration says.
    fn most_requests(&self) -> usize {
        usize::MAX
    }

    /// Whether it is told what its client calls a key, and not only which one it is.
    fn is_told_descriptions(&self) -> bool {
        true
    }

    /// Whether it is a process that serves us alone.
    fn is_ours(&self) -> bool {
        false
    }

    /// An answer is overdue. `true`: the connections are of no use any more.
    fn overdue(&self) -> bool {
        false
    }

    /// The server has told something unasked. Whether it is kept; `None`: that is none of its business.
    fn notice(&self, _notice: PinNotice) -> Option<bool> {
        None
    }

    /// No connection is wanted any more.
    fn close(&self) {}
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoConnection {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server does.
    #[error("{reason}")]
    Refused { reason: String, transient: bool },
}

impl NoConnection {
    /// Whether waiting for a moment is of no use.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Self::Refused { transient, .. } => !transient,
        }
    }
}

/// Connects to a Unix socket that `hsmime-keyd` listens on.
pub(crate) struct SocketConnector {
    path: PathBuf,
    label: String,
}

impl SocketConnector {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), label: format!("hsmime-keyd at {}", path.display()) }
    }
}

impl Connector for SocketConnector {
    fn label(&self) -> &str {
        &self.label
    }

    fn place(&self) -> &Path {
        &self.path
    }

    fn connect(&self, _lane: Lane) -> Result<UnixStream, NoConnection> {
        Ok(UnixStream::connect(&self.path)?)
    }

    fn pauses(&self) -> (Duration, Duration) {
        (Duration::from_millis(10), Duration::from_secs(1))
    }
}
