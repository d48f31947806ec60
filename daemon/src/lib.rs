//! What `hsmime-milter` and `hsmime-keyd` have alike because both run for long: their log, the opening of their audits,
//! and what systemd hears of them. It knows neither mail nor tokens, and what it does is said by the configuration.

pub mod logging;
pub mod systemd;

use std::{io, path::PathBuf, time::Duration};

use audit::{AuditFile, AuditLog};

/// Nothing is done with keys that cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[error("the audit {} cannot be written", path.display())]
pub struct AuditNotWritable {
    path: PathBuf,
    source: io::Error,
}

/// Opens an audit, if need be when another process that is ending has let go of it, as long as there is patience.
pub fn open_audit(to: &AuditFile, patience: Duration) -> Result<AuditLog, AuditNotWritable> {
    AuditLog::open(to, patience).map_err(|source| AuditNotWritable { path: to.path.clone(), source })
}
