//! What a program needs of a configuration that administers tokens, and nothing else: keys are made before there are
//! certificates, and so before the rest of it can be right.

use std::path::{Path, PathBuf};

use hsmpool::TokenSettings;

use super::{IdentitySettings, Settings, read};
use crate::config::{Complaint, ConfigError};

/// The tokens of a configuration whose `[[token]]`s are checked, whatever is wrong elsewhere.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    configured: Vec<TokenSettings>,
    identities: Vec<IdentitySettings>,
    elsewhere: Vec<Complaint>,
    pool_socket: Option<PathBuf>,
}

impl Tokens {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// Reads the text of a configuration file.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let (settings, complaints) = Settings::parts(text, path, false)?;
        let (complaints, elsewhere): (Vec<_>, Vec<_>) =
            complaints.into_iter().partition(|complaint| complaint.problem.is_of("[[token]]"));
        if !complaints.is_empty() {
            return Err(ConfigError::Invalid { path: settings.path, complaints });
        }
        let Settings { path, tokens, identities, pool_socket, .. } = settings;
        Ok(Self { path, configured: tokens, identities, elsewhere, pool_socket })
    }

    /// The file all this came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens.
    pub fn tokens(&self) -> &[TokenSettings] {
        &self.configured
    }

    /// The certificates of ours that can be read.
    pub fn identities(&self) -> &[IdentitySettings] {
        &self.identities
    }

    /// What is wrong in other sections: the milter would not start.
    pub fn elsewhere(&self) -> &[Complaint] {
        &self.elsewhere
    }

    /// Where `hsmime-keyd` serves keys to the others, if it does; whoever administers a token needs the token itself.
    pub fn pool_socket(&self) -> Option<&Path> {
        self.pool_socket.as_deref()
    }
}
