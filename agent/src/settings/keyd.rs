//! `hsmime-keyd`'s part of the configuration: where it listens, whom it serves, and how a program gets at keys.

use std::{collections::HashMap, time::Duration};

use audit::AuditFile;
use hsmpool::{
    Lane, Pool, PoolError,
    server::{Permission, modulus_sha256},
};
use smime::Certificate;

use super::Settings;
use crate::settings::check::key_of;

/// `[keyd]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyd {
    /// The permissions of the socket.
    pub socket_mode: u32,
    /// The group of the socket.
    pub socket_group: Option<String>,
    /// The file that every use of a key is written to.
    pub audit: Option<AuditFile>,
    /// How many connections are served at once.
    pub max_connections: usize,
    /// Whom it serves. The first that matches a peer counts.
    pub clients: Vec<KeydClient>,
    /// The certificates that its keys are known by: those of all identities and of all clients, each once.
    pub(super) certificates: Vec<Certificate>,
}

impl Keyd {
    /// The RSA keys that some client may sign with.
    pub fn signing_keys(&self) -> SigningKeys {
        let signers = || self.clients.iter().filter(|client| client.may_sign());
        let all = signers().any(|client| client.keys == Keys::All);
        let mut known = HashMap::new();
        for certificate in &self.certificates {
            if let Some(modulus) = modulus_sha256(&certificate.public_key_info()) {
                let key = key_of(certificate);
                let signs = may_be_to_sign(certificate) && signers().any(|client| client.keys.contain(&key));
                *known.entry(modulus).or_default() |= signs;
            }
        }
        SigningKeys { known, all }
    }
}

/// Whether its key may be one to sign with: not where it is known to be for encryption only. Whose keyUsage cannot be read is, for all
/// that is known.
fn may_be_to_sign(certificate: &Certificate) -> bool {
    certificate.may_sign() || !certificate.may_encrypt()
}

/// RSA keys that some client may sign with, by [`modulus_sha256`]. Who may decrypt with one, by PKCS #1 v1.5, and not sign, could sign
/// all the same, by very many answers (Bleichenbacher 1998).
#[derive(Clone, Debug)]
pub struct SigningKeys {
    /// Those that have a certificate here: whether one of these is for signing and its key is somebody's to sign with.
    known: HashMap<[u8; 32], bool>,
    /// Whether the others are, as somebody may sign with every key.
    all: bool,
}

impl SigningKeys {
    /// Whether a key is kept from a client that asks for decryption by PKCS #1 v1.5.
    pub fn are_kept_from(&self, client: &KeydClient, modulus: &[u8; 32]) -> bool {
        let signs = || self.known.get(modulus).copied().unwrap_or(self.all);
        !client.may_sign() && !client.allow_signing_keys && signs()
    }
}

/// `[[keyd.client]]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeydClient {
    /// Where it stands in the file.
    pub line: usize,
    /// Who it is.
    pub peer: Peer,
    /// What it may do with keys; never empty.
    pub operations: Vec<Permission>,
    /// How urgent its work may be; never empty.
    pub lanes: Vec<Lane>,
    /// The keys it may use.
    pub keys: Keys,
    /// Whether it may decrypt with keys that others sign with.
    pub allow_signing_keys: bool,
}

impl KeydClient {
    /// Whether it may sign with all keys that it has.
    pub fn may_sign(&self) -> bool {
        self.operations.contains(&Permission::Sign)
    }
}

/// Keys that a client may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every key of the tokens: `"*"` in the list.
    All,
    /// These, by the SHA-256 of their `SubjectPublicKeyInfo`s.
    Listed(Vec<[u8; 32]>),
}

impl Keys {
    /// Whether a key is among them.
    pub fn contain(&self, key: &[u8; 32]) -> bool {
        match self {
            Self::All => true,
            Self::Listed(keys) => keys.contains(key),
        }
    }
}

impl std::fmt::Display for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("every key"),
            Self::Listed(keys) => write!(f, "{} keys", keys.len()),
        }
    }
}

/// Who a client is, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The user its process runs as.
    User(String),
    /// The group its process runs as.
    Group(String),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// The pool that these settings mean, asked in a lane: through `hsmime-keyd` where `[pool]` names its socket, else
/// in this process. The one place where that is decided.
pub fn start_pool(settings: &Settings, lane: Lane) -> Result<Pool, PoolError> {
    let pool = match settings.pool_socket() {
        Some(socket) => {
            let deadline = settings.tokens().iter().map(|token| token.deadline).max();
            Pool::connect(socket, deadline.unwrap_or(DEADLINE))?
        }
        None => Pool::start(settings.tokens())?,
    };
    Ok(pool.lane(lane))
}

/// How long a request may take where no token says it.
const DEADLINE: Duration = Duration::from_secs(20);
