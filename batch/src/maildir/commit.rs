//! Messages on their way from `tmp` to their folder: made durable many at a time, then renamed.
//!
//! One `syncfs` for many files is several times faster than an `fsync` for each.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};

use crate::{
    direct,
    error::BatchError,
    flusher::Flusher,
    output::{self, sync_folder},
    own,
};

/// What is written into `tmp`, and not yet in its folder.
#[derive(Debug)]
pub(super) struct Batch {
    path: PathBuf,
    /// The root, open: what `syncfs` is asked on, so that it tells errors from now on.
    root: File,
    /// Whether each file is made durable by itself.
    keeps_files: bool,
    pending: Vec<Pending>,
    octets: u64,
    flusher: Option<Flusher>,
}

/// A file that is complete, but not yet durable.
#[derive(Debug)]
pub(super) struct Pending {
    /// Where it is, in `tmp`.
    pub(super) from: PathBuf,
    /// Where it is to be.
    pub(super) to: PathBuf,
}

impl Batch {
    /// For files below `root`, which nobody else may write with this program.
    pub(super) fn new(root: &Path, inode: Option<u64>) -> Result<Self, BatchError> {
        let failed = |source| BatchError::Write { path: root.to_owned(), source };
        let open = own::open_made_folder(root, inode).map_err(failed)?;
        output::lock(&open).map_err(failed)?;
        let flusher = Flusher::of_all(root);
        let keeps_files = own::keeps_files(&open);
        let path = root.to_owned();
        Ok(Self { path, root: open, keeps_files, pending: Vec::new(), octets: 0, flusher })
    }

    /// The root, as it was opened.
    pub(super) fn root(&self) -> &File {
        &self.root
    }

    /// Makes a file durable that is written, where the sync of all does not.
    pub(super) fn keep(&self, file: &File) -> io::Result<()> {
        if self.keeps_files { file.sync_all() } else { Ok(()) }
    }

    /// Takes one more file. True if there are many now.
    pub(super) fn add(&mut self, pending: Pending, octets: u64) -> bool {
        self.pending.push(pending);
        self.octets += octets;
        // What is long is with the disk already.
        if let Some(flusher) = self.flusher.as_mut().filter(|_| octets < direct::LONG as u64) {
            flusher.wrote(octets);
        }
        self.pending.len() >= BATCH || self.octets >= BATCH_OCTETS
    }

    /// Makes durable what is in `tmp`, and moves it to where it belongs.
    pub(super) fn commit(&mut self) -> Result<(), BatchError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.sync()?;
        self.rename()
    }

    fn rename(&mut self) -> Result<(), BatchError> {
        let failed = |path: &Path, source: io::Error| BatchError::Write { path: path.to_owned(), source };
        let mut folders = BTreeSet::new();
        for Pending { from, to } in &self.pending {
            rename_new(from, to).map_err(|source| failed(to, source))?;
            folders.insert(output::parent(to));
        }
        for folder in folders {
            sync_folder(folder).map_err(|source| failed(folder, source))?;
        }
        self.pending.clear();
        self.octets = 0;
        Ok(())
    }

    /// Waits until all that was written is on the disk.
    pub(super) fn sync(&self) -> Result<(), BatchError> {
        syncfs(&self.root)
            .map_err(|error| BatchError::Write { path: self.path.clone(), source: error.into() })
    }
}

/// Renames, but over nothing.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system does not know the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => fs::rename(from, to),
        renamed => renamed.map_err(io::Error::from),
    }
}

/// How many messages are made durable at once,
pub(super) const BATCH: usize = 256;
/// or how many octets.
pub(super) const BATCH_OCTETS: u64 = 64 << 20;
