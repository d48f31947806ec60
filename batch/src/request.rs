//! What is asked of a run. A run goes on only with what another began that was asked for the same.

use std::{io, os::unix::ffi::OsStrExt, path::Path};

use serde::{Deserialize, Serialize};

use crate::digest::Summed;

/// What is asked for. On which input, and to where, is the journal's own business: of several inputs each has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is done with each message, in any words.
    pub what: String,
    /// Which file the report is, by the SHA-256 of its path.
    report: Option<String>,
    /// The SHA-256 of the configuration. Another one is no other request: somebody whose token is gone may have to
    /// name another, and the archive must not stay half done.
    configuration: String,
}

impl Request {
    /// For something to be done by this configuration.
    pub fn new(what: String, report: Option<&Path>, configuration: &[u8]) -> io::Result<Self> {
        let report = report.map(std::path::absolute).transpose()?;
        let report = report.map(|path| Summed::of(path.as_os_str().as_bytes()).sha256);
        Ok(Self { what, report, configuration: Summed::of(configuration).sha256 })
    }

    /// Why this is not what was asked for before, if so.
    pub(crate) fn differs_from(&self, before: &Self) -> Option<&'static str> {
        if self.what == before.what {
            (self.report != before.report).then_some("it was begun with another --report")
        } else {
            Some("it was begun with other arguments")
        }
    }

    /// Whether it is now to be done by another configuration.
    pub(crate) fn is_otherwise_configured(&self, before: &Self) -> bool {
        self.configuration != before.configuration
    }
}

impl From<&str> for Request {
    fn from(what: &str) -> Self {
        Self { what: what.to_owned(), ..Self::default() }
    }
}
