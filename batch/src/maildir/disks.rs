//! The file systems that a Maildir is on. Who moves a folder to another disk mounts it there, for links are not followed; and
//! `syncfs` makes durable what is on one file system alone.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, syncfs};

use super::files::Within;
use crate::{error::BatchError, own};

/// Those on which something was written, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Disks(BTreeMap<u64, Disk>);

#[derive(Debug)]
struct Disk {
    /// A folder there, open: `syncfs` tells the errors since then.
    open: File,
    path: PathBuf,
    keeps_files: bool,
}

impl Disks {
    /// That of the root.
    pub(super) fn of(root: &File, path: &Path) -> io::Result<Self> {
        let mut disks = Self::default();
        disks.take_in(root.metadata()?.dev(), root.try_clone()?, path);
        Ok(disks)
    }

    /// Takes in that of a folder, before anything is written there. Tells whether each file there is made durable by itself.
    pub(super) fn meet(&mut self, within: &Within, path: &Path) -> io::Result<bool> {
        if let Some(disk) = self.0.get(&within.disk()) {
            return Ok(disk.keeps_files);
        }
        let open = within.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(self.take_in(within.disk(), open, path))
    }

    fn take_in(&mut self, number: u64, open: File, path: &Path) -> bool {
        let keeps_files = own::keeps_files(&open);
        self.0.insert(number, Disk { open, path: path.to_owned(), keeps_files });
        keeps_files
    }

    /// Makes durable what was written on all of them.
    pub(super) fn sync(&self) -> Result<(), BatchError> {
        self.0.values().try_for_each(|Disk { open, path, .. }| {
            syncfs(open).map_err(|error| BatchError::Write { path: path.clone(), source: error.into() })
        })
    }
}
