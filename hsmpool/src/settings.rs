//! What a token is and how it is to be used, as the configuration says it.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// One token: where it is, how to log in, how hard it may be worked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSettings {
    /// The PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// The token's label (`CK_TOKEN_INFO.label`, without its padding).
    pub label: String,
    /// Where the user PIN stands.
    pub pin: PinSource,
    /// How many sessions to open: one worker thread each. At least 1; a token that gives fewer is used
    /// with those it gave. `None`: as many as the token allows (`CK_TOKEN_INFO.ulMaxSessionCount`), at most 16.
    pub sessions: Option<usize>,
    /// How many requests may wait in each lane, beside those that are being worked on.
    pub queue: usize,
    /// How long a caller waits for an answer at most, from asking to answer.
    pub deadline: Duration,
}

/// How many sessions are opened where nobody says how many, and the token has no limit of its own. Network
/// HSMs are busy with that many; soft tokens have no use for more than processors, but take no harm either.
pub(crate) const DEFAULT_SESSIONS: usize = 16;

impl TokenSettings {
    /// How many sessions there will be at most.
    pub(crate) fn most_sessions(&self) -> usize {
        self.sessions.unwrap_or(DEFAULT_SESSIONS)
    }
}

/// Where a PIN comes from: always a place, never the PIN itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PinSource {
    /// A file whose content is the PIN; one newline at its end does not count.
    File(PathBuf),
    /// A credential that systemd hands to the service under this name.
    Credential(String),
}
