//! The joint: what every source of certificates is.

use std::{fmt, time::Instant};

use smime::MailAddress;

use crate::Answer;

/// Somebody who may know the certificates of an address.
///
/// Asking blocks, at most until the deadline; whoever knows nothing by then answers
/// [`Answer::Unknown`]. Many threads ask at the same time.
pub trait CertificateSource: fmt::Debug + Send + Sync {
    /// Its name in the configuration, in logs and tables.
    fn name(&self) -> &str;

    /// What it is.
    fn kind(&self) -> Kind;

    /// Asks for the certificates of an address.
    fn find(&self, address: &MailAddress, deadline: Instant) -> Answer;
}

/// The kinds of sources there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A folder of files.
    Directory,
    /// An LDAP directory (RFC 4523, RFC 2798).
    Ldap,
    /// SMIMEA records in signed zones of the DNS (RFC 8162).
    Smimea,
}

impl Kind {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Ldap => "ldap",
            Self::Smimea => "smimea",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
