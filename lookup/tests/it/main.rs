//! The sources against real servers on loopback: Debian's `slapd`, and Knot with zones signed beforehand.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod ldap;
mod smimea;

use std::time::{Duration, Instant};

use lookup::{Answer, CertificateSource, LookupError};
use smime::{Certificate, MailAddress, testing::hostile};

fn address(text: &str) -> MailAddress {
    MailAddress::parse(text).unwrap()
}

/// A certificate that names an address. Nothing else about it is good, and no source looks at that.
fn certificate(mailbox: &str) -> Certificate {
    hostile::of_mailbox(mailbox)
}

fn ask(source: &dyn CertificateSource, text: &str) -> Answer {
    source.find(&address(text), Instant::now() + Duration::from_secs(10))
}

fn found(source: &dyn CertificateSource, text: &str) -> Vec<Certificate> {
    match ask(source, text) {
        Answer::Found(finding) => finding.certificates,
        other => panic!("{text}: {other:?}"),
    }
}

fn unknown(source: &dyn CertificateSource, text: &str) -> LookupError {
    match ask(source, text) {
        Answer::Unknown(error) => error,
        other => panic!("{text}: {other:?}"),
    }
}

fn is_absent(source: &dyn CertificateSource, text: &str) -> bool {
    matches!(ask(source, text), Answer::Absent)
}
