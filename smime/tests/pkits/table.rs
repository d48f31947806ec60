//! The tests of NIST's PKITS as `table.txt` has them.

use std::collections::BTreeSet;

use der::asn1::ObjectIdentifier;
use smime::path::PolicySettings;

/// One test: a path, and what it is under each setting.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) number: &'static str,
    /// That of its mail, less `Signed` and `.eml`.
    pub(crate) name: &'static str,
    /// Below the trust anchor, the leaf last; and others that the mail has.
    pub(crate) certificates: Vec<&'static str>,
    pub(crate) crls: Vec<&'static str>,
    pub(crate) parts: Vec<Part>,
}

/// One setting of a test.
#[derive(Debug)]
pub(crate) struct Part {
    /// As it is written in the table.
    pub(crate) text: &'static str,
    pub(crate) policies: PolicySettings,
    pub(crate) is_valid: bool,
}

impl Case {
    /// The file of the signer's certificate.
    pub(crate) fn leaf(&self) -> &'static str {
        self.certificates.iter().find(|name| name.ends_with("EE")).unwrap()
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in include_str!("table.txt").lines().map(str::trim) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "test" {
            let (number, name) = rest.split_once(' ').unwrap();
            let (certificates, crls, parts) = (Vec::new(), Vec::new(), Vec::new());
            cases.push(Case { number, name, certificates, crls, parts });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        match word {
            "" | "#" => {}
            "certificates" => case.certificates = rest.split(' ').collect(),
            "crls" => case.crls = rest.split(' ').collect(),
            "valid" | "invalid" => {
                let is_valid = word == "valid";
                case.parts.push(Part { text: rest, policies: settings(rest), is_valid });
            }
            _ => panic!("{line}"),
        }
    }
    cases
}

fn settings(text: &str) -> PolicySettings {
    let mut settings = PolicySettings::default();
    for word in text.split_whitespace() {
        match word {
            "explicit-policy" => settings.explicit_policy = true,
            "inhibit-policy-mapping" => settings.inhibit_policy_mapping = true,
            "inhibit-any-policy" => settings.inhibit_any_policy = true,
            numbers => {
                let policy = |number: &str| format!("2.16.840.1.101.3.2.1.48.{number}").parse().unwrap();
                let set: BTreeSet<ObjectIdentifier> = numbers.split(',').map(policy).collect();
                settings.initial_policy_set = Some(set);
            }
        }
    }
    settings
}
