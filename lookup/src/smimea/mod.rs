//! SMIMEA records (RFC 8162): certificates, or hashes of them, that the owner of a domain publishes in a signed zone.
//!
//! Only what DNSSEC proves counts. A zone that is proven to be unsigned publishes nothing, as for TLSA (RFC 7672
//! 2.1.1): that is absence, or else most of the world would be unknown. What is forged, or cannot be proven either way,
//! is unknown.
//!
//! The certificate usages, per record:
//!
//! | usage | here |
//! | --- | --- |
//! | 3, DANE-EE, and 1, PKIX-EE | the certificate (selector 0, matching type 0), or a pin. Trust is another matter: like every other certificate it must lead to an anchor of the configuration |
//! | 0, PKIX-TA, and 2, DANE-TA | not used: DNS appoints no authorities here |
//! | others | not used |

mod name;
mod resolver;

use std::{io, net::SocketAddr, path::Path, time::Instant};

use hickory_resolver::proto::{
    dnssec::TrustAnchors,
    rr::rdata::{
        SMIMEA,
        tlsa::{CertUsage, Matching, Selector as DnsSelector},
    },
};
use smime::{Certificate, MailAddress, algorithm::DigestAlgorithm};

use crate::{Answer, CertificateSource, Finding, Kind, LookupError, Pin, Selector};
use resolver::{Records, Resolver};

/// SMIMEA records.
#[derive(Debug)]
pub struct Smimea {
    name: String,
    resolver: Resolver,
}

/// How many records of a name are looked at.
const MAX_RECORDS: usize = 50;

/// The keys with which DNSSEC begins.
#[derive(Clone)]
pub struct Anchors(TrustAnchors);

impl Anchors {
    /// Those of the root, as IANA publishes them.
    pub fn root() -> Self {
        Self(TrustAnchors::default())
    }

    /// Those of a file with DNSKEY records, such as Debian's `/usr/share/dns/root.key`.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let anchors = TrustAnchors::from_file(path).map_err(|error| error.to_string())?;
        if anchors.is_empty() {
            Err("there is no DNSKEY record of the root in it".to_owned())
        } else {
            Ok(Self(anchors))
        }
    }
}

impl std::fmt::Debug for Anchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Anchors({} keys of the root)", self.0.len())
    }
}

impl Smimea {
    /// A source that asks these resolvers, or without any those of `/etc/resolv.conf`.
    pub fn new(name: impl Into<String>, servers: &[SocketAddr], anchors: Anchors) -> io::Result<Self> {
        Ok(Self { name: name.into(), resolver: Resolver::start(servers, anchors.0)? })
    }

    fn ask(&self, address: &MailAddress, deadline: Instant) -> Result<Option<Finding>, LookupError> {
        let lower = address.local().to_ascii_lowercase();
        let mut spellings = vec![address.local()];
        // RFC 8162 has no folding; that Alice is alice is known of nearly all domains, and asked second.
        if lower != address.local() {
            spellings.push(&lower);
        }
        for local in spellings {
            let Ok(owner) = name::owner(local, address) else {
                // What does not fit into the DNS is not in it.
                continue;
            };
            if let Records::Secure(records) = self.resolver.ask(owner, deadline)? {
                let finding = finding(&records, address);
                if !finding.certificates.is_empty() || !finding.pins.is_empty() {
                    return Ok(Some(finding));
                }
            }
        }
        Ok(None)
    }
}

impl CertificateSource for Smimea {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Smimea
    }

    fn find(&self, address: &MailAddress, deadline: Instant) -> Answer {
        match self.ask(address, deadline) {
            Ok(Some(finding)) => Answer::Found(finding),
            Ok(None) => Answer::Absent,
            Err(error) => Answer::Unknown(error),
        }
    }
}

/// What can be used of records: certificates that name the address, and pins. A record with a whole certificate is a pin
/// too, so that beside it no other certificate of the address counts.
fn finding(records: &[SMIMEA], address: &MailAddress) -> Finding {
    let mut finding = Finding::default();
    for SMIMEA(record) in records.iter().take(MAX_RECORDS) {
        if !matches!(record.cert_usage, CertUsage::DaneEe | CertUsage::PkixEe) {
            continue;
        }
        let selector = match record.selector {
            DnsSelector::Full => Selector::Certificate,
            DnsSelector::Spki => Selector::PublicKey,
            _ => continue,
        };
        let digest = match record.matching {
            Matching::Raw => None,
            Matching::Sha256 => Some(DigestAlgorithm::Sha256),
            Matching::Sha512 => Some(DigestAlgorithm::Sha512),
            _ => continue,
        };
        if selector == Selector::Certificate && digest.is_none() {
            match Certificate::from_der(&record.cert_data) {
                Ok(certificate) if certificate.addresses().contains(address) => {
                    finding.certificates.push(certificate);
                }
                _ => continue,
            }
        }
        finding.pins.push(Pin { selector, digest, data: record.cert_data.clone() });
    }
    finding
}

#[cfg(test)]
mod tests {
    use smime::{key::Digest, testing::fixtures};

    use super::*;

    #[test]
    fn only_end_entity_usages_count_and_pins_match_what_they_name() {
        let alice = fixtures::certificate("alice");
        let address = MailAddress::parse("alice@example.org").unwrap();
        let bob = fixtures::certificate("bob");
        let record = |usage: u8, selector: u8, matching: u8, data: &[u8]| {
            SMIMEA::new(usage.into(), selector.into(), matching.into(), data.to_vec())
        };
        let key = alice.public_key_info();
        let hash = |algorithm, octets: &[u8]| Digest::of(algorithm, octets).as_bytes().to_vec();
        let (sha256, sha512) = (DigestAlgorithm::Sha256, DigestAlgorithm::Sha512);
        for (what, record, certificates, pins) in [
            ("DANE-EE", record(3, 0, 0, alice.der()), 1, 1),
            ("PKIX-EE", record(1, 0, 0, alice.der()), 1, 1),
            ("of another address", record(3, 0, 0, bob.der()), 0, 0),
            ("no certificate", record(3, 0, 0, b"hello"), 0, 0),
            ("the key", record(3, 1, 0, &key), 0, 1),
            ("SHA-256", record(3, 0, 1, &hash(sha256, alice.der())), 0, 1),
            ("SHA-512 of the key", record(1, 1, 2, &hash(sha512, &key)), 0, 1),
            ("PKIX-TA", record(0, 0, 0, alice.der()), 0, 0),
            ("DANE-TA", record(2, 0, 0, alice.der()), 0, 0),
            ("a usage to come", record(4, 0, 0, alice.der()), 0, 0),
            ("a selector to come", record(3, 2, 0, alice.der()), 0, 0),
            ("a matching type to come", record(3, 0, 3, alice.der()), 0, 0),
        ] {
            let finding = finding(&[record], &address);
            assert_eq!((finding.certificates.len(), finding.pins.len()), (certificates, pins), "{what}");
            for pin in finding.pins {
                assert!(pin.matches(&alice), "{what}");
                assert!(!pin.matches(&bob), "{what}");
            }
        }
    }
}
