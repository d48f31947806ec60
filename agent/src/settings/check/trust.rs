//! `[trust]` checked: the files it names, and what encryption wants beyond verification.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use der::asn1::ObjectIdentifier;
use smime::{
    Certificate,
    path::{PolicySettings, RevocationMode, Trust},
    revocation::Crl,
};
use x509_cert::ext::pkix::BasicConstraints;

use super::{Checker, pem};
use crate::{
    config::{At, TrustSection},
    settings::EncryptionTrust,
};

const TITLE: &str = "[trust]";

impl Checker<'_> {
    pub(super) fn trust(&mut self, section: TrustSection) -> (Trust, EncryptionTrust) {
        let mut anchors: Vec<Certificate> = Vec::new();
        for path in section.anchors {
            anchors.extend(self.certificates(TITLE, "anchors", &path));
        }
        let mut intermediates: Vec<Certificate> = Vec::new();
        for path in section.intermediates {
            let found = self.certificates(TITLE, "intermediates", &path);
            self.expect_cas(&path, &found);
            intermediates.extend(found);
        }
        let mut crls = Vec::new();
        for path in section.crls {
            let Some(octets) = self.octets(TITLE, "crls", &path) else {
                continue;
            };
            match revocation_lists(&octets) {
                Ok(lists) => crls.extend(lists),
                Err(reason) => self.file(TITLE, "crls", self.resolved(&path).as_deref(), reason),
            }
        }
        let policies = self.policies(&section.policies);
        let revocation = section.revocation;
        let for_encryption = section.encrypt_revocation.unwrap_or(match revocation {
            RevocationMode::Off => RevocationMode::Off,
            RevocationMode::HardFail | RevocationMode::SoftFail => RevocationMode::HardFail,
        });
        let grace = Duration::from_hours(section.encrypt_grace_hours);
        let trust = Trust {
            anchors,
            intermediates,
            crls,
            revocation,
            policies,
            legacy: section.legacy,
            ..Trust::default()
        };
        (trust, EncryptionTrust { revocation: for_encryption, grace })
    }

    /// Complains of what cannot stand between a person's certificate and an anchor: whoever put it there means something
    /// else by it.
    fn expect_cas(&mut self, path: &At<PathBuf>, found: &[Certificate]) {
        for (at, certificate) in found.iter().enumerate() {
            if certificate.extension::<BasicConstraints>().is_ok_and(|it| it.is_some_and(|it| it.ca)) {
                continue;
            }
            let which = if found.len() > 1 { format!("entry {}: ", at + 1) } else { String::new() };
            let reason = format!(
                "{which}{certificate} is not a CA's (basicConstraints), so that nothing leads through it; take it out, or \
                 put it into the cache with `hsmime cert import` if mail is to be encrypted to it"
            );
            self.file(TITLE, "intermediates", self.resolved(path).as_deref(), reason);
        }
    }

    /// Those of the policies that a path must be valid for one of; where none is wanted, any will do.
    fn policies(&mut self, listed: &[At<String>]) -> PolicySettings {
        let mut wanted = BTreeSet::new();
        for policy in listed {
            if let Ok(oid) = policy.value.parse::<ObjectIdentifier>() {
                wanted.insert(oid);
            } else {
                let reason = "it is an object identifier of digits and dots, like 2.23.140.1.5.3.3; `openssl x509 \
                                  -text` shows those of a certificate";
                self.wrong(TITLE, "policies", policy, reason);
            }
        }
        if listed.is_empty() {
            return PolicySettings::default();
        }
        PolicySettings {
            initial_policy_set: Some(wanted),
            explicit_policy: true,
            ..PolicySettings::default()
        }
    }
}

/// The revocation lists of a file, DER or PEM.
fn revocation_lists(octets: &[u8]) -> Result<Vec<Crl>, String> {
    if octets.first() == Some(&0x30) {
        return Ok(vec![Crl::from_der(octets).map_err(|error| error.to_string())?]);
    }
    let read = |text: &str| {
        let der = der_of(text)?;
        Crl::from_vec(der).map(|crl| vec![crl]).map_err(|error| error.to_string())
    };
    pem::entries(&String::from_utf8_lossy(octets), BEGIN, read)
}

const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";

/// The octets of one PEM block.
fn der_of(text: &str) -> Result<Vec<u8>, String> {
    let block = text
        .split_once(BEGIN)
        .ok_or("no BEGIN X509 CRL line: this is not a PEM file of revocation lists")?
        .1
        .split_once(END)
        .ok_or("a BEGIN X509 CRL line without its END X509 CRL")?
        .0;
    let packed: Vec<u8> = block.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    data_encoding::BASE64
        .decode(&packed)
        .map_err(|error| format!("between BEGIN X509 CRL and END X509 CRL is no base64: {error}"))
}
