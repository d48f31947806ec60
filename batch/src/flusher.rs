//! Brings to the disk what has been written, while more is: so that a checkpoint, which waits for all of it, waits for
//! little.
//!
//! It promises nothing. That something is on the disk is known when the checkpoint's own `fdatasync` has said so.

use std::{
    fs::File,
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use rustix::fs::{OFlags, syncfs};

use crate::own;

/// Syncs a file, or all that is on a file system, again and again.
#[derive(Debug)]
pub(crate) struct Flusher {
    sender: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    written: u64,
}

impl Flusher {
    /// Of this file; `None` where there can be none, which costs time and nothing else.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        // With a description of its own: an error that was told to this one is told once more to the writer's.
        let file = own::open(path, OFlags::RDONLY).ok()?;
        Self::by(move || file.sync_data().is_ok())
    }

    /// Of many small files, on the file system of this folder.
    pub(crate) fn of_all(folder: &Path) -> Option<Self> {
        let folder = File::open(folder).ok()?;
        Self::by(move || syncfs(&folder).is_ok())
    }

    fn by(sync: impl Fn() -> bool + Send + 'static) -> Option<Self> {
        let (sender, receiver) = sync_channel(1);
        let flush = move || {
            while receiver.recv().is_ok() && sync() {}
        };
        let thread = thread::Builder::new().name("flusher".to_owned()).spawn(flush).ok()?;
        Some(Self { sender: Some(sender), thread: Some(thread), written: 0 })
    }

    /// So many octets more were written.
    pub(crate) fn wrote(&mut self, octets: u64) {
        self.written += octets;
        if self.written >= EACH
            && let Some(sender) = &self.sender
        {
            self.written = 0;
            // Who is still at work on the last ones does these as well.
            let _ = sender.try_send(());
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// After how many octets.
const EACH: u64 = 4 << 20;
