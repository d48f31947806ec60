//! Cyrus SASL's password daemon that takes every password: whom an MTA's login asks.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Who answers at a socket, and ends when dropped.
#[derive(Debug)]
pub(crate) struct Saslauthd {
    socket: PathBuf,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Saslauthd {
    /// Answers at `socket`, one after the other.
    pub(crate) fn start(socket: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
        let stopped = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                // Who asks and goes away is refused by itself.
                let _ = stream.and_then(agree);
            }
        });
        Ok(Self { socket: socket.to_owned(), stopped, thread: Some(thread) })
    }
}

impl Drop for Saslauthd {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes it; when even this fails, it is not waiting any more.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads name, password, service and realm, each behind its length, and says yes.
fn agree(mut stream: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    for _ in 0..4 {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes(length))])?;
    }
    stream.write_all(b"\0\x02OK")
}
