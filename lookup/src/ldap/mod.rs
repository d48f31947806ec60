//! LDAP directories: `userCertificate` (RFC 4523) and `userSMIMECertificate` (RFC 2798) of the entries of an address, the
//! latter with what its owner can open.
//!
//! Referrals are not followed: who may be asked is said by the configuration, not by a server. Who refers to others
//! does not know what those have. That there is none is believed only of this machine, or over TLS: anybody on the way could
//! say so, and what is there must lead to an anchor in any case.

mod connection;
mod filter;
mod message;
mod server;

use std::{sync::Arc, time::Instant};

use rustls::ClientConfig;
use smime::{Certificate, MailAddress};

pub use filter::FilterTemplate;
pub use server::{Password, Security, Server};

use crate::{Answer, CertificateSource, Finding, Kind, LookupError, files};
use connection::{Connection, Found};
use message::{LdapResult, Search};

/// What an LDAP source is made of.
#[derive(Clone, Debug)]
pub struct LdapSettings {
    /// The server.
    pub server: Server,
    /// Whose certificates TLS believes.
    pub authorities: Vec<Certificate>,
    /// Where in the tree to search (RFC 4514); everything below it is searched.
    pub base: String,
    /// What to search for.
    pub filter: FilterTemplate,
    /// The attributes that hold certificates, `;binary` where it belongs. Empty: the two of the RFCs.
    pub attributes: Vec<String>,
    /// The DN to bind with, and its password; without them nobody binds.
    pub bind: Option<(String, Password)>,
}

/// An LDAP directory.
#[derive(Debug)]
pub struct Ldap {
    name: String,
    settings: LdapSettings,
    tls: Option<Arc<ClientConfig>>,
}

/// How many entries a look-up may bring: several people share an address, but not many.
const MAX_ENTRIES: u32 = 50;
/// RFC 4523 2.1 wants `;binary` with `userCertificate`; `userSMIMECertificate` is met with and without.
const ATTRIBUTES: [&str; 3] =
    ["userCertificate;binary", "userSMIMECertificate;binary", "userSMIMECertificate"];

impl Ldap {
    /// A source of a directory's certificates. Nothing is connected yet.
    pub fn new(name: impl Into<String>, mut settings: LdapSettings) -> Result<Self, String> {
        let tls = match settings.server.security() {
            Security::Plain => None,
            Security::StartTls | Security::Tls => {
                settings.server.name()?;
                Some(server::tls(&settings.authorities)?)
            }
        };
        if settings.attributes.is_empty() {
            settings.attributes = ATTRIBUTES.map(str::to_owned).to_vec();
        }
        Ok(Self { name: name.into(), settings, tls })
    }

    fn ask(&self, address: &MailAddress, deadline: Instant) -> Result<Finding, LookupError> {
        let LdapSettings { server, base, filter, attributes, bind, .. } = &self.settings;
        let mut connection = Connection::open(server, self.tls.as_ref(), deadline)?;
        if let Some((name, password)) = bind {
            connection.bind(name, password)?;
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        let found = connection.search(&Search {
            base,
            filter: &filter.encode(address),
            attributes,
            size_limit: MAX_ENTRIES,
            time_limit: u32::try_from(left).unwrap_or(u32::MAX).max(1),
        })?;
        let mut finding = certificates(&found, address);
        let is_cut = found.is_referred || found.result.code == LdapResult::SIZE_LIMIT_EXCEEDED;
        finding.is_partial = is_cut || !server.is_proven();
        let answer = match found.result.code {
            LdapResult::SUCCESS if found.is_referred && finding.certificates.is_empty() => {
                Err(connection.refused("it refers to other servers for some, and is not followed"))
            }
            LdapResult::SUCCESS if finding.is_partial && finding.certificates.is_empty() => {
                Err(LookupError::Unproven { server: server.to_string() })
            }
            LdapResult::SUCCESS => Ok(finding),
            // Some is better than nothing; none of what is there, though, is not none.
            LdapResult::SIZE_LIMIT_EXCEEDED if !finding.certificates.is_empty() => Ok(finding),
            LdapResult::REFERRAL => {
                Err(connection.refused("it refers to another server, and is not followed"))
            }
            _ => Err(connection.refused(&found.result.describe())),
        };
        connection.close();
        answer
    }
}

impl CertificateSource for Ldap {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Ldap
    }

    fn find(&self, address: &MailAddress, deadline: Instant) -> Answer {
        match self.ask(address, deadline) {
            Ok(finding) if finding.certificates.is_empty() => Answer::Absent,
            Ok(finding) => Answer::Found(finding),
            Err(error) => Answer::Unknown(error),
        }
    }
}

/// All certificates of all entries. Both attributes are read by what is in them: a certificate, or `SignedData` with
/// certificates, which may be signed for what it announces. What does not decode is of no use to anybody.
fn certificates(found: &Found, address: &MailAddress) -> Finding {
    let (mut bag, mut signed) = (Vec::new(), Vec::new());
    for contents in found.entries.iter().flatten().filter_map(|value| files::read(value).ok()) {
        bag.extend(contents.certificates);
        signed.extend(contents.signed);
    }
    Finding::of(bag, signed, address)
}
