//! The configuration after every check: what all the rest of the program sees.
//!
//! Only [`Settings::load`] and [`Settings::parse`] give a [`Settings`] away, so whoever holds one knows that its
//! files exist and parse, and that its sections fit together. What may be intended but looks odd, such as
//! an expired certificate, is not an error but among [`Settings::warnings`].

mod check;
mod display;
mod endings;
mod incoming;
mod keyd;
mod listen;
mod lmdb;
mod pattern;
mod revocation;
mod rule;
mod signers;
mod source;
mod tokens;
mod trust;
mod warnings;

use std::{
    fs,
    path::{self, Path, PathBuf},
};

use audit::AuditFile;
use certcache::Take;
use hsmpool::TokenSettings;
use ipnet::IpNet;
use lookup::FetchSettings;
use smime::{Certificate, MailAddress, mime::SenderRule, path::Trust};

pub(crate) use check::key_of;
pub use endings::Ending;
pub use incoming::{Decision, IncomingRule};
pub use keyd::{Keyd, KeydClient, Keys, Peer, SigningKeys, start_pool};
pub use listen::Listen;
pub(crate) use pattern::About;
pub use pattern::{AddressFile, AddressList, AddressPattern};
pub(crate) use rule::contain;
pub use rule::{Conditions, HeaderPattern, Rule};
pub use signers::Signers;
pub use source::{LdapPlace, LookupSettings, Place, SourceSettings, SourcesError, start_sources};
pub use tokens::Tokens;
pub use trust::EncryptionTrust;
pub use warnings::{EXPIRES_SOON, Warning};

use crate::config::{Complaint, Config, ConfigError, LogFormat, Report};

/// Where the configuration is, if nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/hsmime/hsmime.toml";

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    path: PathBuf,
    tokens: Vec<TokenSettings>,
    pool_socket: Option<PathBuf>,
    keyd: Option<Keyd>,
    cache: Option<PathBuf>,
    harvest: bool,
    take: Take,
    trust: Trust,
    for_encryption: EncryptionTrust,
    sender_rule: SenderRule,
    lookup: LookupSettings,
    fetch: Option<FetchSettings>,
    milter: Option<Milter>,
    metrics: Option<Listen>,
    identities: Vec<IdentitySettings>,
    rules: Vec<Rule>,
    incoming: Vec<IncomingRule>,
    log: Log,
}

/// The milter's own section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milter {
    /// Where to listen.
    pub listen: Listen,
    /// The Unix socket that takes commands, if there is one.
    pub control: Option<PathBuf>,
    /// The user that a milter becomes that root starts.
    pub user: Option<String>,
    /// The name in `Authentication-Results` (RFC 8601 2.5).
    pub authserv_id: String,
    /// Networks whose mail is outgoing even without a login.
    pub trusted_networks: Vec<IpNet>,
    /// Characters that end the part of a recipient's local part that owns a key, as in `alice+tag`.
    pub recipient_delimiter: String,
    /// The envelope sender that opened mail gets, so that its bounces go there; `None` leaves it.
    pub opened_mail_sender: Option<MailAddress>,
    /// Where copies are handed back to the MTA, if they are.
    pub reinject: Option<Reinject>,
    /// How many connections of the MTA are served at once.
    pub max_connections: usize,
    /// The longest message that is taken.
    pub max_message_bytes: usize,
    /// What the MTA, and all whom it hands mail to, are known to take; `None`: opened mail may be no larger than what came.
    pub mta_message_bytes: Option<usize>,
    /// How many messages are worked on at once.
    pub workers: usize,
    /// How many may be under way, from `MAIL` to the answer.
    pub messages: usize,
    /// How many octets messages and what is made of them may have in memory.
    pub memory: usize,
    /// How many octets of bodies that are still coming may lie on the disk.
    pub disk: u64,
    /// The folder of these, on a disk.
    pub folder: PathBuf,
    /// The file that every use of a key is written to.
    pub audit: Option<AuditFile>,
}

/// How copies for some of a message's recipients go back to the MTA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reinject {
    /// Its SMTP server that gives mail to no content filter again.
    pub server: Listen,
    /// The folder where copies are kept until it has taken them.
    pub state: PathBuf,
}

/// A certificate of ours and who may use its key.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// The file it came from.
    pub path: PathBuf,
    /// The certificate.
    pub certificate: Certificate,
    /// Certificates between it and an anchor, to be sent along.
    pub chain: Vec<Certificate>,
    /// The certificate's addresses; at least one.
    pub addresses: Vec<MailAddress>,
    /// Who may sign with it.
    pub logins: Logins,
}

/// Which authenticated clients may sign with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logins {
    /// Whose login is the address itself, or its local part.
    Address,
    /// These.
    Listed(Vec<String>),
    /// Every authenticated client: `"*"` in the list.
    Any,
}

impl Logins {
    /// Whether a login may sign as an address. The case of ASCII letters does not matter; others must be
    /// the same, since several have the same small letter and a login could be made to look like another.
    pub fn allow(&self, login: &str, from: &MailAddress) -> bool {
        match self {
            _ if login.is_empty() => false,
            Self::Address => {
                login.eq_ignore_ascii_case(from.as_str()) || login.eq_ignore_ascii_case(from.local())
            }
            Self::Listed(logins) => logins.iter().any(|listed| listed.eq_ignore_ascii_case(login)),
            Self::Any => true,
        }
    }
}

/// How to write the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// Which lines, in the words of `tracing-subscriber`'s filter.
    pub filter: String,
}

impl Settings {
    /// Reads and checks a configuration file. Where `[pool]` has `hsmime-keyd` use the tokens, their modules and
    /// PINs are not this program's: whether they are there is not looked at.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// Reads and checks a configuration file for a program that uses the tokens itself.
    pub fn load_with_tokens(path: &Path) -> Result<Self, ConfigError> {
        Self::parse_for(&read(path)?, path, true)
    }

    /// Checks the text of a configuration file. Relative paths in it begin in the folder of `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::parse_for(text, path, false)
    }

    fn parse_for(text: &str, path: &Path, uses_tokens: bool) -> Result<Self, ConfigError> {
        let (settings, complaints) = Self::parts(text, path, uses_tokens)?;
        if complaints.is_empty() {
            Ok(settings)
        } else {
            Err(ConfigError::Invalid { path: settings.path, complaints })
        }
    }

    /// What can be made of a text, and what is wrong with it.
    fn parts(text: &str, path: &Path, uses_tokens: bool) -> Result<(Self, Vec<Complaint>), ConfigError> {
        let mut report = Report::default();
        let config = Config::parse(text, &mut report);
        // Without the current folder every path below would change its meaning when that changes, and the
        // folder of a bare file name is no path at all.
        let path = &path::absolute(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let settings = {
            let uses_tokens = uses_tokens || config.pool.is_none();
            check::Checker::new(folder, uses_tokens, &mut report).settings(config, path)
        };
        Ok((settings, report.into_complaints()))
    }

    /// The file all this came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens, as the pool wants them. Where several hold the same key, any of them is used.
    pub fn tokens(&self) -> &[TokenSettings] {
        &self.tokens
    }

    /// The socket of `hsmime-keyd`, if keys are used through it.
    pub fn pool_socket(&self) -> Option<&Path> {
        self.pool_socket.as_deref()
    }

    /// `hsmime-keyd`'s own section; the other programs do without.
    pub fn keyd(&self) -> Option<&Keyd> {
        self.keyd.as_ref()
    }

    /// The folder of the certificate cache, if there is one.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// Whether certificates of senders are put into the cache.
    pub fn harvest(&self) -> bool {
        self.harvest
    }

    /// Which of a recipient's certificates are encrypted to, of those that can be used.
    pub fn take(&self) -> Take {
        self.take
    }

    /// Whom to believe: anchors and revocation lists.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// How sure it must be that a certificate which is encrypted to is not revoked.
    pub fn for_encryption(&self) -> EncryptionTrust {
        self.for_encryption
    }

    /// Who the signer of a message may be.
    pub fn sender_rule(&self) -> SenderRule {
        self.sender_rule
    }

    /// Where certificates are looked up that the cache does not have.
    pub fn lookup(&self) -> &LookupSettings {
        &self.lookup
    }

    /// How CRLs and OCSP responses are fetched, if they are.
    pub fn fetch(&self) -> Option<&FetchSettings> {
        self.fetch.as_ref()
    }

    /// The milter's section; the other programs do without.
    pub fn milter(&self) -> Option<&Milter> {
        self.milter.as_ref()
    }

    /// Where the milter tells how it is, if it does.
    pub fn metrics(&self) -> Option<&Listen> {
        self.metrics.as_ref()
    }

    /// The certificates of ours, in the order of the file.
    pub fn identities(&self) -> &[IdentitySettings] {
        &self.identities
    }

    /// The rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules for mail from elsewhere, in the order of the file.
    pub fn incoming(&self) -> &[IncomingRule] {
        &self.incoming
    }

    /// How to write the log.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests;
