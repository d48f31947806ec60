//! The audit: one line of JSON for every use of a private key, numbered without a gap, in a file and those before it.
//!
//! ```text
//! AuditLog (what is owed, when to try again) ─ writer (one file, its lock, its numbers) ─ rotated (those before it)
//!          └─ line (facts as JSON that has room)
//! ```
//!
//! What a line says of a use is the caller's. Whoever uses keys writes the line before the result leaves, and withholds
//! the result where it cannot be written.

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
