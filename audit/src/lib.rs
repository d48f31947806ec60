//! The audit: one line of JSON for every use of a private key, numbered without a gap, in a file and those before it.
//!
//! ```text
//! AuditLog (what is owed, when to try again) ─ writer (one file, its lock, its numbers) ─ rotated (those before it)
//!          └─ line (facts as JSON that has room)
//! ```
//!
//! What a line says of a use is the caller's. Whoever uses keys writes the line before the result leaves, and withholds
//! the result where it cannot be written. Nothing is signed in here: a line that is missing between two others shows; that
//! the last ones are gone, or that all were written anew, does not.
//!
//! ```
//! use std::{fs, time::Duration};
//! use audit::{AuditFile, AuditLog, Found, Owe, check};
//! use serde_json::json;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("audit.jsonl");
//! let log = AuditLog::open(&AuditFile::at(&path), Duration::ZERO)?;
//! log.record(&json!({ "operation": "sign", "queue_id": "4dX1" }), Owe::Always)?;
//! log.record(&json!({ "operation": "sign", "queue_id": "4dX2" }), Owe::Always)?;
//! drop(log);
//!
//! // The first line says that it was opened.
//! let found = check(&[path.clone()])?.remove(0).found;
//! assert_eq!(found, Found::Whole { lines: 3, first: 1, last: 3, torn: 0 });
//! let text = fs::read_to_string(&path)?;
//! let others = text.split_inclusive('\n').filter(|line| !line.contains("4dX1"));
//! fs::write(&path, others.collect::<String>())?;
//! assert!(matches!(check(&[path])?.remove(0).found, Found::Wrong { line: 2, .. }));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Where to read on: [`AuditLog`] for what is owed and until when, [`check`](check()) for what is looked for, [`AuditFile`]
//! for how large it becomes.

mod check;
mod end;
mod line;
mod log;
mod rotated;
mod time;
mod writer;

use std::path::PathBuf;

pub use check::{Checked, Found, check};
pub use log::{AuditLog, Owe};

/// Where an audit is, and how large it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    /// The file that is written to. Full ones have their last number after this name.
    pub path: PathBuf,
    /// How long it becomes, in octets, before another is begun.
    pub max_bytes: u64,
    /// How many full ones are kept; older ones are removed.
    pub files: usize,
}

impl AuditFile {
    /// 64 MiB: some hundred thousand uses.
    pub const MAX_BYTES: u64 = 64 << 20;
    /// With [`Self::MAX_BYTES`] 2 GiB in all.
    pub const FILES: usize = 31;

    /// With the usual limits.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), max_bytes: Self::MAX_BYTES, files: Self::FILES }
    }
}
