//! The checks that make [`Settings`] out of a [`Config`]: files, addresses, networks, and what must fit together.

mod incoming;
mod keyd;
mod pem;
mod rule;
mod trust;

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use certcache::Take;
use hsmpool::{PinSource, TokenSettings, why_not_secret};
use ipnet::IpNet;
pub(crate) use keyd::key_of;
use smime::{Certificate, MailAddress};

use super::{IdentitySettings, Listen, Log, Logins, Milter, Reinject, Settings};
use crate::config::{
    At, Config, IdentitySection, LimitsSection, MetricsSection, MilterSection, PinPlace, Problem, Report,
    TokenSection,
};

/// No file named in a configuration is longer than this; revocation lists can be long.
const MAX_FILE: u64 = 256 << 20;

/// Checks sections and reports what is wrong with them.
pub(super) struct Checker<'a> {
    pub(super) folder: &'a Path,
    /// Whether the program loads the modules and reads the PINs itself.
    uses_tokens: bool,
    pub(super) report: &'a mut Report,
}

impl<'a> Checker<'a> {
    /// Relative paths begin in `folder`.
    pub(super) fn new(folder: &'a Path, uses_tokens: bool, report: &'a mut Report) -> Self {
        Self { folder, uses_tokens, report }
    }

    /// What can be made of the sections. It is a [`Settings`] only if nothing was reported.
    pub(super) fn settings(mut self, config: Config, path: &Path) -> Settings {
        let tokens = self.tokens(config.tokens);
        let identities = self.identities(config.identities);
        let keyd = config.keyd.and_then(|section| self.keyd(section, config.pool.is_some(), &identities));
        if !identities.is_empty() && tokens.is_empty() && self.uses_tokens {
            let reason = "there is an [[identity]] but no usable [[token]] that could hold its key";
            self.report.add(0, Problem::Contradiction { reason: reason.to_owned() });
        }
        let rules = config.rules.into_iter().filter_map(|section| self.rule(section, &identities)).collect();
        let sender_rule = config.trust.sender_rule;
        let (trust, for_encryption) = self.trust(config.trust);
        let can_split = config.milter.as_ref().is_some_and(|section| section.reinject.is_some());
        let incoming =
            config.incoming.into_iter().filter_map(|section| self.incoming(section, can_split)).collect();
        Settings {
            path: path.to_owned(),
            tokens,
            pool_socket: config.pool.map(|socket| self.folder.join(socket.value)),
            keyd,
            harvest: config.cache.as_ref().is_some_and(|section| section.harvest),
            take: config.cache.as_ref().map_or_else(Take::default, |section| section.take),
            cache: self.cache(config.cache.map(|section| section.path)),
            trust,
            for_encryption,
            sender_rule,
            lookup: self.lookup(config.sources, config.lookup),
            fetch: self.revocation(config.revocation),
            metrics: config.metrics.and_then(|section| self.metrics(&section)),
            milter: config.milter.and_then(|section| self.milter(section, config.limits)),
            identities,
            rules,
            incoming,
            log: Log { format: config.log.format, filter: config.log.filter },
        }
    }

    fn tokens(&mut self, sections: Vec<TokenSection>) -> Vec<TokenSettings> {
        let section = "[[token]]";
        let mut tokens: Vec<TokenSettings> = Vec::new();
        for TokenSection { module, label, pin, sessions, queue, deadline_ms } in sections {
            let module = self.token_file(section, "module", &module);
            let pin = match pin {
                PinPlace::File(path) => self.pin_file(section, &path).map(PinSource::File),
                PinPlace::Credential(name) => Some(PinSource::Credential(name.value)),
            };
            if label.value.trim().is_empty() || label.value.len() > 32 {
                let reason = "a token's label has 1 to 32 octets";
                self.wrong(section, "label", &label, reason);
                continue;
            }
            let (Some(module), Some(pin)) = (module, pin) else {
                continue;
            };
            if tokens.iter().any(|other| other.module == module && other.label == label.value) {
                self.wrong(section, "label", &label, "another [[token]] is the same token");
                continue;
            }
            tokens.push(TokenSettings {
                module,
                label: label.value,
                pin,
                sessions: sessions.map(to_usize),
                queue: to_usize(queue),
                deadline: Duration::from_millis(deadline_ms),
            });
        }
        tokens
    }

    /// A file with a PIN that is still a secret.
    fn pin_file(&mut self, section: &'static str, path: &At<PathBuf>) -> Option<PathBuf> {
        let file = self.token_file(section, "pin-file", path)?;
        if self.uses_tokens
            && let Ok(found) = fs::metadata(&file)
            && let Some(reason) = why_not_secret(found.permissions().mode())
        {
            self.file(section, "pin-file", At { line: path.line, value: &file }, reason);
            return None;
        }
        Some(file)
    }

    /// A file that belongs to whoever uses the tokens; for others it may be out of sight.
    fn token_file(
        &mut self,
        section: &'static str,
        key: &'static str,
        path: &At<PathBuf>,
    ) -> Option<PathBuf> {
        if self.uses_tokens { self.existing(section, key, path) } else { Some(self.resolved(path).value) }
    }

    fn cache(&mut self, path: Option<At<PathBuf>>) -> Option<PathBuf> {
        let At { line, value } = path?;
        let path = self.folder.join(&value);
        let reason = match (fs::metadata(&path), path.parent().map(fs::metadata)) {
            (Ok(found), _) if found.is_dir() => return Some(path),
            (Ok(_), _) => "the cache is a folder, and this is none",
            (Err(_), Some(Ok(parent))) if parent.is_dir() => return Some(path),
            (Err(_), _) => "the folder it would be made in is not there",
        };
        self.file("[cache]", "path", At { line, value: &path }, reason.to_owned());
        None
    }

    fn milter(&mut self, section: MilterSection, limits: LimitsSection) -> Option<Milter> {
        let title = "[milter]";
        let listen = self.listen(&section);
        let authserv_id = section.authserv_id;
        let id_is_sane = is_authserv_id(&authserv_id.value);
        if !id_is_sane {
            let reason = "it is a name like mx.example.org: letters, digits, dots and hyphens (RFC 8601 2.5)";
            self.wrong(title, "authserv-id", &authserv_id, reason);
        }
        let mut trusted_networks = Vec::new();
        for network in &section.trusted_networks {
            match parse_network(&network.value) {
                Ok(parsed) => trusted_networks.push(parsed),
                Err(reason) => self.wrong(title, "trusted-networks", network, &reason),
            }
        }
        let delimiter = section.recipient_delimiter;
        if let Some(delimiter) = &delimiter {
            let is_usable = |c: char| c.is_ascii_punctuation() && !matches!(c, '@' | '.');
            if !delimiter.value.chars().all(is_usable) {
                let reason = "it holds characters like + or -, as Postfix's recipient_delimiter does";
                self.wrong(title, "recipient-delimiter", delimiter, reason);
            }
        }
        let opened_mail_sender = section.opened_mail_sender.and_then(|sender| {
            let parsed = MailAddress::parse(&sender.value);
            parsed.map_err(|error| self.wrong(title, "opened-mail-sender", &sender, error.reason)).ok()
        });
        let reinject = self.reinject(section.reinject, section.state);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Some(Milter {
            listen: listen?,
            control: section.control.map(|path| self.resolved(&path).value),
            user: section.user,
            authserv_id: authserv_id.value,
            trusted_networks,
            recipient_delimiter: delimiter.map_or_else(String::new, |d| d.value),
            opened_mail_sender,
            reinject,
            max_connections: to_usize(section.max_connections),
            max_message_bytes: to_usize(section.max_message_bytes),
            mta_message_bytes: section.mta_message_bytes.map(to_usize),
            workers: section.workers.map_or(2 * cores, to_usize),
            messages: to_usize(limits.messages.unwrap_or(section.max_connections)),
            memory: to_usize(limits.memory),
            disk: limits.disk,
            folder: self.folder.join(limits.folder),
            audit: section.audit.map(|section| self.audit(section)),
        })
    }

    fn reinject(&mut self, to: Option<At<String>>, state: Option<At<PathBuf>>) -> Option<Reinject> {
        let to = to?;
        let Some(state) = state else {
            let reason =
                "`reinject` needs `state`: the folder where copies are kept until they are taken".to_owned();
            self.report.add(to.line, Problem::Contradiction { reason });
            return None;
        };
        match Listen::parse(&to.value) {
            Ok(server) => Some(Reinject { server, state: self.resolved(&state).value }),
            Err(reason) => {
                self.wrong("[milter]", "reinject", &to, &reason);
                None
            }
        }
    }

    fn listen(&mut self, section: &MilterSection) -> Option<Listen> {
        let title = "[milter]";
        let mut listen = match Listen::parse(&section.listen.value) {
            Ok(listen) => listen,
            Err(reason) => {
                self.wrong(title, "listen", &section.listen, &reason);
                return None;
            }
        };
        if let Some(text) = &section.socket_mode {
            let parsed = parse_mode(&text.value);
            match (&mut listen, parsed) {
                (Listen::Unix { mode, .. }, Some(bits)) => *mode = Some(bits),
                (Listen::Unix { .. }, None) => {
                    self.wrong(title, "socket-mode", text, MODE_REASON);
                }
                (Listen::Tcp { .. }, _) => {
                    self.wrong(title, "socket-mode", text, "only a unix: socket has permissions");
                }
            }
        }
        Some(listen)
    }

    /// What it tells is nobody's business: others than this machine's are kept out.
    fn metrics(&mut self, section: &MetricsSection) -> Option<Listen> {
        let reason = match Listen::parse(&section.listen.value) {
            Ok(listen) if listen.is_local() || section.allow_remote => return Some(listen),
            Ok(_) => "others can reach it; if they shall, say `allow-remote = true`".to_owned(),
            Err(reason) => reason,
        };
        self.wrong("[metrics]", "listen", &section.listen, &reason);
        None
    }

    fn identities(&mut self, sections: Vec<IdentitySection>) -> Vec<IdentitySettings> {
        let mut seen: HashMap<[u8; 32], usize> = HashMap::new();
        let mut identities = Vec::with_capacity(sections.len());
        for section in sections {
            let line = section.certificate.line;
            let Some(identity) = self.identity(section) else {
                continue;
            };
            if let Some(first) = seen.insert(*identity.certificate.fingerprint(), line) {
                let reason = format!("it is the certificate of line {first} again");
                self.file("[[identity]]", "certificate", At { line, value: &identity.path }, reason);
            }
            identities.push(identity);
        }
        identities
    }

    fn identity(&mut self, section: IdentitySection) -> Option<IdentitySettings> {
        let title = "[[identity]]";
        let mut certificates = self.certificates(title, "certificate", &section.certificate).into_iter();
        let further = section.chain.map(|path| self.certificates(title, "chain", &path));
        let certificate = certificates.next()?;
        let mut chain: Vec<Certificate> = certificates.collect();
        chain.extend(further.into_iter().flatten());
        let path = self.resolved(&section.certificate);
        let addresses = certificate.addresses();
        if addresses.is_empty() {
            let reason = format!("{certificate} names no mail address in its subjectAltName or subject");
            self.file(title, "certificate", path.as_deref(), reason);
            return None;
        }
        let logins = logins(section.logins);
        Some(IdentitySettings { path: path.value, certificate, chain, addresses, logins })
    }

    pub(super) fn resolved(&self, path: &At<PathBuf>) -> At<PathBuf> {
        At { line: path.line, value: self.folder.join(&path.value) }
    }

    /// The path, if a file is there.
    pub(super) fn existing(
        &mut self,
        section: &'static str,
        key: &'static str,
        path: &At<PathBuf>,
    ) -> Option<PathBuf> {
        let path = self.resolved(path);
        let reason = match fs::metadata(&path.value) {
            Ok(found) if found.is_dir() => "this is a folder".to_owned(),
            Ok(_) => return Some(path.value),
            Err(error) => error.to_string(),
        };
        self.file(section, key, path.as_deref(), reason);
        None
    }

    fn octets(&mut self, section: &'static str, key: &'static str, path: &At<PathBuf>) -> Option<Vec<u8>> {
        let path = self.resolved(path);
        let read = fs::metadata(&path.value).and_then(|found| match found.len() {
            0..=MAX_FILE => fs::read(&path.value).map(Ok),
            len => Ok(Err(format!("{len} octets are too many"))),
        });
        let reason = match read {
            Ok(Ok(octets)) => return Some(octets),
            Ok(Err(reason)) => reason,
            Err(error) => error.to_string(),
        };
        self.file(section, key, path.as_deref(), reason);
        None
    }

    pub(super) fn certificates(
        &mut self,
        section: &'static str,
        key: &'static str,
        path: &At<PathBuf>,
    ) -> Vec<Certificate> {
        let Some(octets) = self.octets(section, key, path) else {
            return Vec::new();
        };
        // A PEM file may hold comments in any encoding; DER begins with a SEQUENCE.
        let read = match octets.first() {
            Some(0x30) => Certificate::from_der(&octets)
                .map(|certificate| vec![certificate])
                .map_err(|error| error.to_string()),
            _ => pem::entries(&String::from_utf8_lossy(&octets), "-----BEGIN CERTIFICATE-----", |text| {
                Certificate::from_pem(text).map_err(|error| error.to_string())
            }),
        };
        read.unwrap_or_else(|reason| {
            self.file(section, key, self.resolved(path).as_deref(), reason);
            Vec::new()
        })
    }

    pub(super) fn wrong(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: &At<String>,
        reason: &str,
    ) {
        let (value, reason, line) = (format!("{:?}", value.value), reason.to_owned(), value.line);
        self.report.add(line, Problem::WrongValue { key, section, value, reason });
    }

    pub(super) fn file(&mut self, section: &'static str, key: &'static str, path: At<&Path>, reason: String) {
        self.report.add(path.line, Problem::File { key, section, path: path.value.to_owned(), reason });
    }
}

const MODE_REASON: &str = "it is three octal digits, like \"660\"";

fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777)
}

fn logins(listed: Vec<At<String>>) -> Logins {
    let logins: Vec<String> = listed.into_iter().map(|login| login.value).collect();
    match logins.as_slice() {
        [] => Logins::Address,
        some if some.iter().any(|login| login == "*") => Logins::Any,
        _ => Logins::Listed(logins),
    }
}

/// A value of RFC 8601 2.5 that needs no quoting.
fn is_authserv_id(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.len() <= 255 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_plain)
}

/// A network like `10.0.0.0/8`, or a single address.
pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    if let Ok(network) = text.parse::<IpNet>() {
        if network.addr() == network.network() {
            return Ok(network);
        }
        return Err(format!("there are bits beyond the prefix; did you mean {}?", network.trunc()));
    }
    let unbracketed = text.trim_matches(['[', ']']);
    let address = unbracketed.parse::<IpAddr>();
    address.map(IpNet::from).map_err(|_| "a network is written 10.0.0.0/8 or 2001:db8::/32".to_owned())
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
