//! What is asked of a run. A run goes on only with what another began that was asked for the same.

use std::{io, os::unix::ffi::OsStrExt, path::Path};

use serde::{Deserialize, Serialize};

use crate::digest::Summed;

/// What is asked for. On which input, and to where, is the journal's own business: of several inputs each has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is done with each message: a line for each argument that matters, the command first.
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
    pub(crate) fn differs_from(&self, before: &Self) -> Option<String> {
        if self.what == before.what {
            return (self.report != before.report).then(|| "it was begun with another --report".to_owned());
        }
        let lacks = |what: &str, wanted: &str| what.lines().all(|line| line != wanted);
        let old = before.what.lines().find(|line| lacks(&self.what, line));
        let new = self.what.lines().find(|line| lacks(&before.what, line));
        let name =
            |line: &str| line.split(' ').next().filter(|name| name.starts_with("--")).map(str::to_owned);
        Some(match (old, new) {
            (Some(old), Some(new)) if name(old) == name(new) => format!("it was begun with {old}, not {new}"),
            (Some(old), _) => format!("it was begun with {old}"),
            (None, Some(new)) => format!("it was begun without {new}"),
            (None, None) => "it was begun with other arguments".to_owned(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_another_request_is_named() {
        for (before, now, said) in [
            ("sign", "verify", "it was begun with sign, not verify"),
            ("rekey\n--keep all", "rekey\n--keep none", "it was begun with --keep all, not --keep none"),
            ("sign\n--in-place", "sign", "it was begun with --in-place"),
            ("sign", "sign\n--key AB", "it was begun without --key AB"),
            ("sign\n--since 2024-01-01", "sign\n--key AB", "it was begun with --since 2024-01-01"),
        ] {
            assert_eq!(Request::from(now).differs_from(&before.into()).as_deref(), Some(said));
        }
        assert_eq!(Request::from("sign").differs_from(&"sign".into()), None);
    }
}
