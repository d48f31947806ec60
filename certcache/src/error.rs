//! Why the cache could not do what was asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use smime::{Fault, store::StoreError};

/// Why the cache could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Its folder cannot be made, or what is in it cannot be looked at or written.
    #[error("certificate cache {}: its folder cannot be made or used: {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// A newer version of this program made it.
    #[error(
        "certificate cache {}: its schema is {found}, this program knows {expected}; use the newer program, \
         or move the folder away and import again",
        path.display()
    )]
    Schema {
        /// The folder.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The schema of this program.
        expected: u32,
    },
    /// Its file system is not one whose locks and shared memory hold between processes.
    #[error(
        "certificate cache {}: its file system (type {kind:#x}) is a network or user-space one, or unknown, and \
         would damage it; put it on a local disk (ext4, xfs, btrfs, zfs or tmpfs)",
        path.display()
    )]
    FileSystem {
        /// The folder.
        path: PathBuf,
        /// statfs(2)'s number.
        kind: u64,
    },
    /// Everybody could put certificates in.
    #[error(
        "certificate cache {}: everybody may write to {}; take that right away (chmod o-w)",
        path.display(), file.display()
    )]
    WritableByAll {
        /// The folder.
        path: PathBuf,
        /// What is open.
        file: PathBuf,
    },
    /// It is another user's, and this process root's.
    #[error(
        "certificate cache {}: {user} may write to it, and root opens no such cache: whoever writes to it could do what root \
         may. Run it as: runuser -u {user} -- …",
        path.display()
    )]
    OfAnother {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        user: String,
    },
    /// A group may write to it, and this process is root's.
    #[error(
        "certificate cache {}: others may write to {}, and root opens no such cache: whoever writes to it could do what root \
         may; take that right away (chmod g-w), or give the folder to one user (chown -R) and work as that one",
        path.display(), file.display()
    )]
    WritableByGroup {
        /// The folder.
        path: PathBuf,
        /// What they may write to.
        file: PathBuf,
    },
    /// This user may not use it.
    #[error(
        "certificate cache {}: no permission; its folder, data.mdb and lock.mdb must be writable for this user or \
         group, also to read (chown -R the milter's user, or chgrp and chmod g+rw)",
        path.display()
    )]
    Permission {
        /// The folder.
        path: PathBuf,
    },
    /// The data file is cut off, or no cache at all.
    #[error(
        "certificate cache {}: data.mdb is cut off or damaged; restore it from a backup, or move the folder away \
         and import again",
        path.display()
    )]
    Truncated {
        /// The folder.
        path: PathBuf,
    },
    /// It has grown to the size of its map.
    #[error("certificate cache {}: it is full (MDB_MAP_FULL); nothing was written, look-ups go on", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// This process has it open already.
    #[error("certificate cache {}: this process has it open already", path.display())]
    OpenTwice {
        /// The folder.
        path: PathBuf,
    },
    /// A certificate without a mail address is nobody's.
    #[error("certificate cache {}: {certificate} names no mail address", path.display())]
    NoAddress {
        /// The folder.
        path: PathBuf,
        /// The certificate.
        certificate: String,
    },
    /// What was to be assigned is neither an address nor `@domain`.
    #[error("certificate cache {}: {text:?} is neither an address nor @ and a domain", path.display())]
    NotAnAddress {
        /// The folder.
        path: PathBuf,
        /// What was given.
        text: String,
    },
    /// More octets than one entry may have.
    #[error("certificate cache {}: {len} octets are more than the {limit} one entry may have", path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        len: usize,
        /// How many there may be.
        limit: usize,
    },
    /// There can be no more rules.
    #[error("certificate cache {}: there are as many distrust rules as there can be", path.display())]
    TooManyRules {
        /// The folder.
        path: PathBuf,
    },
    /// A line of an export cannot be taken.
    #[error("certificate cache {}: line {line} of the export: {reason}", path.display())]
    Import {
        /// The folder.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A new cache would begin without what an administrator decided.
    #[error(
        "what an administrator decided is in {}, and cannot be taken into the new cache: {reason}; mend it, or move \
         it away to begin without it",
        path.display()
    )]
    Decided {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record is not what was written.
    #[error(
        "certificate cache {}: the entry {key} of {table} is damaged; run `hsmime cache check`",
        path.display()
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// Its table.
        table: &'static str,
        /// Its key in hexadecimal.
        key: String,
    },
    /// LMDB or the system failed.
    #[error("certificate cache {}: {reason}", path.display())]
    Lmdb {
        /// The folder.
        path: PathBuf,
        /// LMDB's words.
        reason: heed::Error,
    },
}

impl CacheError {
    /// Whose fault it is: a cache that does not work needs its operator.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoAddress { .. } | Self::NotAnAddress { .. } | Self::TooLarge { .. } => Fault::Message,
            _ => Fault::Operator,
        }
    }

    pub(crate) fn from_heed(path: &Path, error: heed::Error) -> Self {
        let path = path.to_owned();
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full { path },
            heed::Error::EnvAlreadyOpened => Self::OpenTwice { path },
            heed::Error::Mdb(
                heed::MdbError::Invalid | heed::MdbError::Corrupted | heed::MdbError::PageNotFound,
            ) => Self::Truncated { path },
            heed::Error::Io(reason) if reason.kind() == io::ErrorKind::PermissionDenied => {
                Self::Permission { path }
            }
            reason => Self::Lmdb { path, reason },
        }
    }

    /// The error of the joint to the agents, which names the folder by itself.
    pub(crate) fn into_store_error(self, path: &Path) -> StoreError {
        let path = path.display().to_string();
        let text = self.to_string();
        let prefix = format!("certificate cache {path}: ");
        let reason = text.strip_prefix(&prefix).map_or_else(|| text.clone(), str::to_owned);
        StoreError { path, reason }
    }
}
