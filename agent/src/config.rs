//! The configuration file as it is written: TOML sections with the lines they stand in.
//!
//! Nothing is opened or resolved in here; [`crate::Settings`] does that. Every section, key and default
//! of the file is in this one place.

mod incoming;
mod problem;
mod reader;
mod revocation;
mod rule;
mod source;
mod trust;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use audit::AuditFile;
use certcache::Take;
use hsmpool::{Lane, server::Permission};
pub(crate) use incoming::IncomingSection;
pub use incoming::{Action, Actions};
pub use problem::{Complaint, ConfigError, Problem};
pub use reader::At;
pub(crate) use reader::Report;
use reader::{Document, Section};
pub(crate) use revocation::RevocationSection;
pub(crate) use rule::{ConditionKeys, RuleSection};
pub use rule::{HeaderProtection, Level, Mixed, NoCertificate, SignatureForm, WhenUnknown};
pub(crate) use source::{LdapSection, LookupSection, PlaceSection, SourceSection};
pub(crate) use trust::{TrustSection, revocation_word};

/// Whether the last line of a file has an end. One that is being written, and is cut off inside a line, may still be TOML: with
/// fewer rules, or clients that may do more.
pub fn is_whole(path: &Path) -> io::Result<bool> {
    Ok(fs::read(path)?.last().is_none_or(|last| *last == b'\n'))
}

/// All sections. Sections with a mistake are left out and complained of.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) tokens: Vec<TokenSection>,
    /// `[pool]`: the socket of `hsmime-keyd`.
    pub(crate) pool: Option<At<PathBuf>>,
    pub(crate) keyd: Option<KeydSection>,
    pub(crate) cache: Option<CacheSection>,
    pub(crate) trust: TrustSection,
    pub(crate) sources: Vec<SourceSection>,
    pub(crate) lookup: LookupSection,
    pub(crate) revocation: RevocationSection,
    pub(crate) milter: Option<MilterSection>,
    pub(crate) limits: LimitsSection,
    pub(crate) metrics: Option<MetricsSection>,
    pub(crate) identities: Vec<IdentitySection>,
    pub(crate) rules: Vec<RuleSection>,
    pub(crate) incoming: Vec<IncomingSection>,
    pub(crate) log: LogSection,
}

/// `[[token]]`: a PKCS#11 token.
#[derive(Debug)]
pub(crate) struct TokenSection {
    pub(crate) module: At<PathBuf>,
    pub(crate) label: At<String>,
    pub(crate) pin: PinPlace,
    /// None: as the token likes.
    pub(crate) sessions: Option<u64>,
    pub(crate) queue: u64,
    pub(crate) deadline_ms: u64,
}

/// Where a token's PIN is: `pin-file` or `pin-credential`.
#[derive(Debug)]
pub(crate) enum PinPlace {
    File(At<PathBuf>),
    Credential(At<String>),
}

/// `[keyd]`: how `hsmime-keyd` serves.
#[derive(Debug)]
pub(crate) struct KeydSection {
    pub(crate) line: usize,
    pub(crate) socket_mode: Option<At<String>>,
    pub(crate) socket_group: Option<String>,
    pub(crate) audit: Option<AuditSection>,
    pub(crate) max_connections: u64,
    pub(crate) clients: Vec<ClientSection>,
}

/// `audit` and its limits, in `[keyd]` and `[milter]`.
#[derive(Debug)]
pub(crate) struct AuditSection {
    pub(crate) path: PathBuf,
    pub(crate) max_bytes: u64,
    pub(crate) files: u64,
}

/// `[[keyd.client]]`: whom it serves, and with what.
#[derive(Debug)]
pub(crate) struct ClientSection {
    pub(crate) line: usize,
    pub(crate) user: Option<At<String>>,
    pub(crate) group: Option<At<String>>,
    pub(crate) operations: Vec<Permission>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) certificates: Vec<At<PathBuf>>,
    pub(crate) allow_signing_keys: bool,
}

const OPERATIONS: [(&str, Permission); 2] = [("sign", Permission::Sign), ("decrypt", Permission::Decrypt)];
const LANES: [(&str, Lane); 2] = [("interactive", Lane::Interactive), ("bulk", Lane::Bulk)];

/// `[cache]`: where recipients' certificates are kept, and whether mail brings some.
#[derive(Debug)]
pub(crate) struct CacheSection {
    pub(crate) path: At<PathBuf>,
    pub(crate) harvest: bool,
    pub(crate) take: Take,
}

/// Which of a recipient's certificates are taken.
const TAKES: [(&str, Take); 2] = [("newest", Take::Newest), ("all", Take::All)];

/// `[milter]`: where to listen and whom to serve.
#[derive(Debug)]
pub(crate) struct MilterSection {
    pub(crate) listen: At<String>,
    pub(crate) control: Option<At<PathBuf>>,
    pub(crate) user: Option<String>,
    pub(crate) socket_mode: Option<At<String>>,
    pub(crate) authserv_id: At<String>,
    pub(crate) trusted_networks: Vec<At<String>>,
    pub(crate) recipient_delimiter: Option<At<String>>,
    pub(crate) opened_mail_sender: Option<At<String>>,
    pub(crate) reinject: Option<At<String>>,
    pub(crate) state: Option<At<PathBuf>>,
    pub(crate) max_connections: u64,
    pub(crate) max_message_bytes: u64,
    pub(crate) mta_message_bytes: Option<u64>,
    pub(crate) workers: Option<u64>,
    pub(crate) audit: Option<AuditSection>,
}

/// `[limits]`: how much the milter takes on.
#[derive(Debug)]
pub(crate) struct LimitsSection {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) folder: PathBuf,
    pub(crate) messages: Option<u64>,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self { memory: 1 << 30, disk: 8 << 30, folder: PathBuf::from("/var/tmp"), messages: None }
    }
}

/// `[metrics]`: where the milter tells how it is.
#[derive(Debug)]
pub(crate) struct MetricsSection {
    pub(crate) listen: At<String>,
    pub(crate) allow_remote: bool,
}

/// `[[identity]]`: a certificate of ours.
#[derive(Debug)]
pub(crate) struct IdentitySection {
    pub(crate) certificate: At<PathBuf>,
    pub(crate) chain: Option<At<PathBuf>>,
    pub(crate) logins: Vec<At<String>>,
}

/// `[log]`: how to write the log.
#[derive(Debug)]
pub(crate) struct LogSection {
    pub(crate) format: LogFormat,
    pub(crate) filter: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

impl LogFormat {
    const WORDS: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

impl Config {
    /// Reads the text of a configuration file, and reports all that is wrong with it.
    pub(crate) fn parse(text: &str, report: &mut Report) -> Self {
        let mut document = Document::parse(text, report);
        let config = Self {
            tokens: document.sections("[[token]]", report, token),
            pool: document.section("[pool]", report, |section| {
                let socket = section.path("socket");
                section.required("socket", socket)
            }),
            keyd: document.section("[keyd]", report, |section| Some(keyd(section))),
            cache: document.section("[cache]", report, cache),
            trust: document
                .section("[trust]", report, |section| Some(trust::trust(section)))
                .unwrap_or_default(),
            sources: document.sections("[[source]]", report, source::source),
            lookup: document
                .section("[lookup]", report, |section| Some(source::lookup(section)))
                .unwrap_or_default(),
            revocation: document
                .section("[revocation]", report, |section| Some(revocation::revocation(section)))
                .unwrap_or_default(),
            milter: document.section("[milter]", report, milter),
            limits: document.section("[limits]", report, |section| Some(limits(section))).unwrap_or_default(),
            metrics: document.section("[metrics]", report, metrics),
            identities: document.sections("[[identity]]", report, identity),
            rules: document.sections("[[rule]]", report, rule::rule),
            incoming: document.sections("[[incoming]]", report, |section| Some(incoming::incoming(section))),
            log: document.section("[log]", report, |section| Some(log(section))).unwrap_or_default(),
        };
        document.finish(report);
        config
    }
}

fn token(section: &mut Section<'_, '_>) -> Option<TokenSection> {
    let module = section.path("module");
    let module = section.required("module", module);
    let label = section.string("label");
    let label = section.required("label", label);
    let pin = pin(section);
    let sessions = section.number("sessions", 1..=1000).map(|n| n.value);
    let queue = section.number("queue", 1..=1_000_000).map_or(1024, |n| n.value);
    let deadline_ms = section.number("deadline-ms", 100..=600_000).map_or(20_000, |n| n.value);
    Some(TokenSection { module: module?, label: label?, pin: pin?, sessions, queue, deadline_ms })
}

fn pin(section: &mut Section<'_, '_>) -> Option<PinPlace> {
    let file = section.path("pin-file").map(PinPlace::File);
    let Some(credential) = section.string("pin-credential") else {
        section.required_either("pin-file", "pin-credential");
        return file;
    };
    if file.is_some() {
        section.wrong("pin-credential", &credential, "the PIN is in `pin-file` already; give one of them");
    } else if credential.value.is_empty() || credential.value.contains('/') {
        section.wrong("pin-credential", &credential, "it is a name, as in LoadCredential=name:path");
    } else {
        return Some(PinPlace::Credential(credential));
    }
    None
}

fn keyd(section: &mut Section<'_, '_>) -> KeydSection {
    KeydSection {
        line: section.line(),
        socket_mode: section.string("socket-mode"),
        socket_group: section.string("socket-group").map(|group| group.value),
        audit: audit(section),
        max_connections: section.number("max-connections", 1..=100_000).map_or(512, |n| n.value),
        clients: section.sections("[[keyd.client]]", "client", |section| Some(client(section))),
    }
}

fn audit(section: &mut Section<'_, '_>) -> Option<AuditSection> {
    let path = section.path("audit");
    let max_bytes = section.number("audit-max-bytes", (64 << 10)..=(1 << 40));
    let files = section.number("audit-files", 1..=100_000);
    if path.is_none() {
        let limits = [("audit-max-bytes", max_bytes), ("audit-files", files)];
        for (key, At { line, .. }) in limits.into_iter().filter_map(|(key, limit)| Some((key, limit?))) {
            section.contradiction(line, format!("`{key}` needs `audit`: without it nothing is written"));
        }
        return None;
    }
    Some(AuditSection {
        path: path?.value,
        max_bytes: max_bytes.map_or(AuditFile::MAX_BYTES, |n| n.value),
        files: files.map_or(AuditFile::FILES as u64, |n| n.value),
    })
}

fn client(section: &mut Section<'_, '_>) -> ClientSection {
    section.not_empty("certificates");
    ClientSection {
        line: section.line(),
        user: section.string("user"),
        group: section.string("group"),
        operations: section.words("operations", &OPERATIONS),
        lanes: section.words("lanes", &LANES),
        certificates: section.paths("certificates"),
        allow_signing_keys: section.boolean("allow-signing-keys").is_some_and(|allow| allow.value),
    }
}

fn cache(section: &mut Section<'_, '_>) -> Option<CacheSection> {
    let path = section.path("path");
    let path = section.required("path", path);
    let harvest = section.boolean("harvest").is_some_and(|harvest| harvest.value);
    let take = section.word("take", &TAKES).map_or_else(Take::default, |word| word.value);
    Some(CacheSection { path: path?, harvest, take })
}

fn milter(section: &mut Section<'_, '_>) -> Option<MilterSection> {
    let listen = section.string("listen");
    let listen = section.required("listen", listen);
    let control = section.path("control");
    let user = section.string("user").map(|user| user.value);
    let socket_mode = section.string("socket-mode");
    let authserv_id = section.string("authserv-id");
    let authserv_id = section.required("authserv-id", authserv_id);
    let trusted_networks = section.strings("trusted-networks");
    let recipient_delimiter = section.string("recipient-delimiter");
    let opened_mail_sender = section.string("opened-mail-sender");
    let reinject = section.string("reinject");
    let state = section.path("state");
    let max_connections = section.number("max-connections", 1..=100_000).map_or(1024, |n| n.value);
    let bytes = section.number("max-message-bytes", 1024..=(4 << 30));
    let max_message_bytes = bytes.map_or(100 << 20, |n| n.value);
    let mta_message_bytes = section.number("mta-message-bytes", 1024..=(4 << 30)).map(|n| n.value);
    let workers = section.number("workers", 1..=10_000).map(|n| n.value);
    let audit = audit(section);
    Some(MilterSection {
        listen: listen?,
        control,
        user,
        socket_mode,
        authserv_id: authserv_id?,
        trusted_networks,
        recipient_delimiter,
        opened_mail_sender,
        reinject,
        state,
        max_connections,
        max_message_bytes,
        mta_message_bytes,
        workers,
        audit,
    })
}

fn limits(section: &mut Section<'_, '_>) -> LimitsSection {
    let absent = LimitsSection::default();
    LimitsSection {
        memory: section.number("memory", (16 << 20)..=(1 << 40)).map_or(absent.memory, |n| n.value),
        disk: section.number("disk", 0..=(1 << 50)).map_or(absent.disk, |n| n.value),
        folder: section.path("folder").map_or(absent.folder, |path| path.value),
        messages: section.number("messages", 1..=100_000).map(|n| n.value),
    }
}

fn metrics(section: &mut Section<'_, '_>) -> Option<MetricsSection> {
    let listen = section.string("listen");
    let listen = section.required("listen", listen);
    let allow_remote = section.boolean("allow-remote").is_some_and(|allowed| allowed.value);
    Some(MetricsSection { listen: listen?, allow_remote })
}

fn identity(section: &mut Section<'_, '_>) -> Option<IdentitySection> {
    let certificate = section.path("certificate");
    let certificate = section.required("certificate", certificate);
    let chain = section.path("chain");
    let logins = section.strings("logins");
    Some(IdentitySection { certificate: certificate?, chain, logins })
}

fn log(section: &mut Section<'_, '_>) -> LogSection {
    let format = section.word("format", &LogFormat::WORDS).map_or_else(LogFormat::default, |w| w.value);
    let filter = section.string("filter").map_or_else(|| LogSection::default().filter, |f| f.value);
    LogSection { format, filter }
}

fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    words.iter().find(|(_, known)| *known == meaning).map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests;
