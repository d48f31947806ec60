//! What an administrator should know of a configuration that is not wrong.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use hsmpool::server::modulus_sha256;
use ipnet::IpNet;
use lookup::ldap::Server;
use smime::{Certificate, MailAddress, path::RevocationMode};

use super::{
    AddressList, AddressPattern, Ending, IncomingRule, Listen, Peer, Place, Rule, Settings, SourceSettings,
    check::key_of,
};
use crate::config::{Level, Mixed};

/// Renewing takes people some time: from when on the end of a certificate is warned of.
pub const EXPIRES_SOON: Duration = Duration::from_hours(30 * 24);

/// Of how many addresses a warning tells.
const NAMED: usize = 3;

/// Something that is allowed, and may still not be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// No certificate of an address can sign now: all are expired, not yet valid or not for signing.
    CannotSign {
        /// The address.
        address: MailAddress,
        /// Its newest certificate.
        certificate: Certificate,
        /// Why that one cannot sign.
        reason: &'static str,
    },
    /// The last certificate with which an address can sign expires soon.
    ExpiresSoon {
        /// The address.
        address: MailAddress,
        /// Its certificate.
        certificate: Certificate,
        /// In how many whole days.
        days: u64,
    },
    /// Nothing can be trusted, because there is no anchor.
    NoAnchors,
    /// A rule requires signatures of an address that has no identity.
    NoIdentity {
        /// The rule's line.
        line: usize,
        /// The rule's senders.
        from: AddressList,
    },
    /// A rule requires signatures of whole domains, in which some have an identity.
    FewIdentities {
        /// The rule's line.
        line: usize,
        /// The domains.
        domains: Vec<AddressPattern>,
        /// Who has one.
        addresses: Vec<MailAddress>,
    },
    /// An earlier rule takes all mail of a rule.
    NeverReached {
        /// What it is: `rule` or `incoming`.
        title: &'static str,
        /// The rule's line.
        line: usize,
        /// The earlier rule's line.
        by: usize,
        /// Whether mail that could be anybody's is left: where it is not clear who the author is, all rules count that may be
        /// about it.
        but_unclear: bool,
    },
    /// A rule encrypts, and there is no cache with certificates.
    NoCache {
        /// The rule's line.
        line: usize,
    },
    /// Certificates of senders shall be kept, and nobody looks whether they are revoked.
    HarvestUnchecked,
    /// A rule would have copies made, and there is nowhere to send them.
    NoReinjection {
        /// The rule's line.
        line: usize,
    },
    /// All the world is a trusted network.
    TrustsEverybody {
        /// The network.
        network: IpNet,
    },
    /// Copies of strangers' mail come back from a trusted network.
    TrustsCopies {
        /// The network.
        network: IpNet,
    },
    /// A directory is asked in clear: that it has nothing is not believed.
    PlainDirectory {
        /// The source's name.
        name: String,
        /// Its server.
        server: Server,
    },
    /// Mail is decrypted, and how large it may be for the MTA is not known.
    UnknownSize,
    /// A client of `hsmime-keyd` may only decrypt, with RSA keys whose certificates sign.
    DecryptsWithSigningKeys {
        /// The client's line.
        line: usize,
        /// Who it is.
        client: Peer,
        /// The certificates.
        certificates: Vec<Certificate>,
        /// Whether others may sign with them, and nobody has said that it may decrypt with such: what is encrypted to them by
        /// PKCS #1 v1.5 it is refused.
        kept: bool,
    },
    /// The milter protocol has no login, and others can reach the socket.
    OpenListener {
        /// Where it listens.
        listen: Listen,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotSign { address, certificate, reason } => {
                write!(f, "nothing can be signed for {address}: its certificate {certificate} {reason}")
            }
            Self::ExpiresSoon { address, certificate, days } => {
                let when = match days {
                    0 => "in less than a day".to_owned(),
                    1 => "in a day".to_owned(),
                    _ => format!("in {days} days"),
                };
                write!(f, "{certificate}, the last that can sign for {address}, expires {when}")
            }
            Self::NoAnchors => {
                f.write_str("[trust] names no anchors: no signature will be found trustworthy")
            }
            Self::NoIdentity { line, from } => {
                write!(
                    f,
                    "the [[rule]] of line {line} requires signatures for {from}, but no [[identity]] has such an address"
                )
            }
            Self::FewIdentities { line, domains, addresses } => {
                let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
                let mut some: Vec<String> = addresses.iter().take(NAMED).map(ToString::to_string).collect();
                if let Some(more) = addresses.len().checked_sub(NAMED).filter(|more| *more > 0) {
                    some.push(format!("{more} more"));
                }
                let has = if addresses.len() == 1 { "has" } else { "have" };
                let (domains, some) = (domains.join(", "), some.join(", "));
                write!(
                    f,
                    "the [[rule]] of line {line} requires signatures for {domains}; only {some} there {has} an [[identity]]: the mail of all others waits (451)"
                )
            }
            Self::NeverReached { title, line, by, but_unclear: false } => {
                write!(
                    f,
                    "the [[{title}]] of line {line} is never reached: the one of line {by} takes all its mail"
                )
            }
            Self::NeverReached { title, line, by, but_unclear: true } => {
                write!(
                    f,
                    "the [[{title}]] of line {line} is reached only by mail without one clear From: the one of line {by} takes all its other mail"
                )
            }
            Self::NoCache { line } => {
                write!(
                    f,
                    "the [[rule]] of line {line} encrypts, but without a [cache] to our own people only"
                )
            }
            Self::HarvestUnchecked => f.write_str(
                "[cache] harvests, but `revocation` in [trust] is off: what is harvested is never used",
            ),
            Self::NoReinjection { line } => {
                write!(
                    f,
                    "the [[rule]] of line {line} splits mail, but [milter] has no `reinject`: what needs copies is deferred"
                )
            }
            Self::TrustsEverybody { network } => trusts(f, network, EVERYBODY),
            Self::TrustsCopies { network } => trusts(f, network, COPIES),
            Self::PlainDirectory { name, server } => {
                write!(
                    f,
                    "the [[source]] \"{name}\" asks {server} in clear: anybody on the way could say that it has no certificate, so mail to whom it has none waits; use ldaps:// or start-tls = true"
                )
            }
            Self::DecryptsWithSigningKeys { line, client, certificates, kept } => {
                let mut some: Vec<String> =
                    certificates.iter().take(NAMED).map(ToString::to_string).collect();
                if let Some(more) = certificates.len().checked_sub(NAMED).filter(|more| *more > 0) {
                    some.push(format!("{more} more"));
                }
                let some = some.join("; ");
                let client = format_args!("{client}, the [[keyd.client]] of line {line}, may decrypt and not sign");
                let why = "who may decrypt with one can make a signature of very many answers. Have another key for decryption";
                if *kept {
                    write!(
                        f,
                        "{client}: it is refused what is encrypted by PKCS #1 v1.5 to RSA keys that also sign ({some}), for {why}, or, \
                         where one key has to do both, write `allow-signing-keys = true` there"
                    )
                } else {
                    write!(f, "{client}, but with RSA keys that also sign ({some}): {why}")
                }
            }
            Self::UnknownSize => f.write_str(
                "[milter] has no `mta-message-bytes`: near the MTA's limit its answer may tell strangers whether ciphertext \
                 opened; write what it and all whom it hands mail to surely take (message_size_limit of Postfix)",
            ),
            Self::OpenListener { listen } => {
                write!(
                    f,
                    "{listen} can be reached from other machines, and whoever reaches it can have mail signed and decrypted"
                )
            }
        }
    }
}

fn trusts(f: &mut fmt::Formatter<'_>, network: &IpNet, why: &str) -> fmt::Result {
    write!(f, "trusted-networks holds {network}{why}")
}

const EVERYBODY: &str = ": everybody may have mail signed";
const COPIES: &str = ", from where `reinject` hands on copies of mail from elsewhere, too: what is altered on its way \
    waits (451), and if it loses its X-Hsmime-Copy as well, it is taken for ours, and signed; have them come from ::1 \
    (reinject = \"inet6:[::1]:10025\", with ::1 in that server's mynetworks), and trust 127.0.0.1 alone";

impl Settings {
    /// What looks odd at a time. An old certificate beside a newer one is not odd: it still decrypts, and the newest signs.
    pub fn warnings(&self, now: SystemTime) -> Vec<Warning> {
        let mut warnings = Vec::new();
        self.warn_of_milter(&mut warnings);
        self.warn_of_clients(&mut warnings);
        if self.trust.anchors.is_empty() {
            warnings.push(Warning::NoAnchors);
        }
        if self.harvest && self.trust.revocation == RevocationMode::Off {
            warnings.push(Warning::HarvestUnchecked);
        }
        for SourceSettings { name, place } in &self.lookup.sources {
            if let Place::Ldap(place) = place
                && !place.server.is_proven()
            {
                warnings.push(Warning::PlainDirectory { name: name.clone(), server: place.server.clone() });
            }
        }
        self.warn_of_certificates(now, &mut warnings);
        self.warn_of_rules(&mut warnings);
        self.warn_of_incoming(&mut warnings);
        warnings
    }

    fn warn_of_milter(&self, warnings: &mut Vec<Warning>) {
        let Some(milter) = &self.milter else {
            return;
        };
        if !milter.listen.is_local() {
            warnings.push(Warning::OpenListener { listen: milter.listen.clone() });
        }
        let everybody = milter.trusted_networks.iter().filter(|network| network.prefix_len() == 0);
        warnings.extend(everybody.map(|network| Warning::TrustsEverybody { network: *network }));
        let from = milter.reinject.as_ref().map(|reinject| reinject.server.clients()).unwrap_or_default();
        let holds_one = |network: &&IpNet| {
            network.prefix_len() > 0 && from.iter().any(|address| network.contains(address))
        };
        let with_copies = milter.trusted_networks.iter().filter(holds_one);
        warnings.extend(with_copies.map(|network| Warning::TrustsCopies { network: *network }));
    }

    /// By the answers to PKCS #1 v1.5 that is decrypted, an RSA key signs (Bleichenbacher 1998).
    fn warn_of_clients(&self, warnings: &mut Vec<Warning>) {
        let Some(keyd) = &self.keyd else {
            return;
        };
        let signing_keys = keyd.signing_keys();
        let rsa: Vec<([u8; 32], [u8; 32], &Certificate)> = keyd
            .certificates
            .iter()
            .filter_map(|it| Some((modulus_sha256(&it.public_key_info())?, key_of(it), it)))
            .collect();
        for client in keyd.clients.iter().filter(|client| !client.may_sign()) {
            let own = rsa.iter().filter(|(_, key, _)| client.keys.contain(key));
            let (kept, others): (Vec<_>, Vec<_>) =
                own.partition(|(modulus, ..)| signing_keys.are_kept_from(client, modulus));
            for (of, kept) in [(kept, true), (others, false)] {
                let signs =
                    |(.., certificate): &&([u8; 32], [u8; 32], &Certificate)| kept || certificate.may_sign();
                let certificates: Vec<Certificate> =
                    of.into_iter().filter(signs).map(|(.., certificate)| (*certificate).clone()).collect();
                if !certificates.is_empty() {
                    let (line, client) = (client.line, client.peer.clone());
                    warnings.push(Warning::DecryptsWithSigningKeys { line, client, certificates, kept });
                }
            }
        }
    }

    fn warn_of_certificates(&self, now: SystemTime, warnings: &mut Vec<Warning>) {
        for (address, certificates) in self.certificates_by_address() {
            warnings.extend(warning_of(address, &certificates, now));
        }
    }

    fn warn_of_rules(&self, warnings: &mut Vec<Warning>) {
        for (at, rule) in self.rules.iter().enumerate() {
            let covers = |earlier: &&Rule| earlier.conditions.cover(&rule.conditions);
            if let Some(earlier) = self.rules.iter().take(at).find(covers) {
                warnings.push(Warning::NeverReached {
                    title: "rule",
                    line: rule.line,
                    by: earlier.line,
                    but_unclear: false,
                });
            }
            if rule.encrypt != Level::Never && self.cache.is_none() {
                warnings.push(Warning::NoCache { line: rule.line });
            }
            let has_nowhere = self.milter.as_ref().is_some_and(|milter| milter.reinject.is_none());
            if rule.encrypt != Level::Never && rule.mixed == Mixed::Split && has_nowhere {
                warnings.push(Warning::NoReinjection { line: rule.line });
            }
            let mut addresses = self.identities.iter().flat_map(|identity| &identity.addresses);
            let from = &rule.conditions.from;
            if rule.sign == Level::Required && !addresses.any(|address| from.matches(address)) {
                warnings.push(Warning::NoIdentity { line: rule.line, from: from.clone() });
            }
        }
    }
}

impl Settings {
    /// What is worth a look while somebody looks at a configuration, and may be meant so: no log tells of it.
    pub fn hints(&self) -> Vec<Warning> {
        let of_rule = |rule: &Rule| {
            let domains = rule.conditions.from.of_domains();
            let is_there = |address: &&MailAddress| domains.iter().any(|domain| domain.matches(address));
            let mut addresses: Vec<MailAddress> = Vec::new();
            for address in self.identities.iter().flat_map(|identity| &identity.addresses).filter(is_there) {
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
            let is_hint = rule.sign == Level::Required && !addresses.is_empty();
            is_hint.then_some(Warning::FewIdentities { line: rule.line, domains, addresses })
        };
        let of_rules = self.rules.iter().filter_map(of_rule);
        of_rules.chain(self.is_size_missing().then_some(Warning::UnknownSize)).collect()
    }

    /// Whether mail is decrypted for an MTA of which it is not known how large mail may be.
    fn is_size_missing(&self) -> bool {
        let is_unknown = self.milter.as_ref().is_some_and(|milter| milter.mta_message_bytes.is_none());
        // The first rule that is about all mail has the last word.
        let is_of_all = |rule: &&IncomingRule| rule.conditions.cover(&IncomingRule::default().conditions);
        let decides = self.incoming.iter().find(|rule| rule.decrypt || is_of_all(rule));
        is_unknown && !self.identities.is_empty() && decides.is_none_or(|rule| rule.decrypt)
    }

    fn warn_of_incoming(&self, warnings: &mut Vec<Warning>) {
        for (at, rule) in self.incoming.iter().enumerate() {
            let earlier = || self.incoming.iter().take(at).filter(|it| it.conditions.cover(&rule.conditions));
            let is_of_all = |rule: &&IncomingRule| rule.conditions.from.matches_what_is_none();
            if let Some(by) = earlier().find(is_of_all).or_else(|| earlier().next()) {
                warnings.push(Warning::NeverReached {
                    title: "incoming",
                    line: rule.line,
                    by: by.line,
                    but_unclear: !is_of_all(&by),
                });
            }
        }
    }
}

fn warning_of(address: &MailAddress, certificates: &[&Certificate], now: SystemTime) -> Option<Warning> {
    let address = address.clone();
    let able = certificates.iter().filter(|c| crate::identity::signing_fault(c, now).is_none());
    if able.count() == 0 {
        let certificate = certificates.iter().max_by_key(|c| c.not_before())?;
        let reason = crate::identity::signing_fault(certificate, now)?;
        return Some(Warning::CannotSign { address, certificate: (*certificate).clone(), reason });
    }
    let ending = Ending::of(&address, certificates)?;
    let (left, last) = ending.end(now)?;
    (left < EXPIRES_SOON).then(|| Warning::ExpiresSoon {
        address,
        certificate: last.clone(),
        days: days_of(left),
    })
}

/// The whole days in a time.
pub(super) fn days_of(left: Duration) -> u64 {
    left.as_secs() / (24 * 60 * 60)
}
