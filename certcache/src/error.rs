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
    /// Its folder cannot be made.
    #[error("certificate cache {}: the folder cannot be made: {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// Another version of this program made it.
    #[error(
        "certificate cache {}: its schema is {}, this program knows {expected}; move the folder away and import again",
        path.display(),
        found.map_or_else(|| "none".to_owned(), |schema| schema.to_string())
    )]
    Schema {
        /// The folder.
        path: PathBuf,
        /// Its schema, if it has one.
        found: Option<u32>,
        /// The schema of this program.
        expected: u32,
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
    /// A record is not what was written.
    #[error("certificate cache {}: the record of {fingerprint} is damaged; move the folder away and import again", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The record's key in hexadecimal.
        fingerprint: String,
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
            Self::NoAddress { .. } => Fault::Message,
            _ => Fault::Operator,
        }
    }

    pub(crate) fn from_heed(path: &Path, error: heed::Error) -> Self {
        let path = path.to_owned();
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full { path },
            heed::Error::EnvAlreadyOpened => Self::OpenTwice { path },
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
