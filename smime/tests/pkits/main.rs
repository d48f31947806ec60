//! NIST's PKITS: 224 paths and their mails, each with its settings and what it must come to.
//!
//! The data is in `tests/data/pkits`, the settings are in `table.txt`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the functions beside the tests are part of them")]

mod table;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use smime::{
    Certificate,
    message::{AuthResult, Finding, Reason, verify},
    mime::{Message, single_originator},
    path::{Crl, LegacySignatures, RevocationMode, Trust, ValidPath, validate},
};
use table::{Case, Part, cases};

/// Valid paths that are not accepted: a DSA key with the parameters of its issuer's.
const REFUSED: [&str; 1] = ["4.1.5"];

fn data(folder: &str, file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/pkits").join(folder).join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn certificate(name: &str) -> Result<Certificate, String> {
    Certificate::from_der(&data("certs", &format!("{name}.crt"))).map_err(|error| error.to_string())
}

/// While all is valid, but for what is not meant to be.
fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn trust(case: &Case, part: &Part) -> Trust {
    let crl = |name: &&str| Crl::from_der(&data("crls", &format!("{name}.crl"))).ok();
    Trust {
        anchors: vec![certificate("TrustAnchorRootCertificate").unwrap()],
        crls: case.crls.iter().filter_map(crl).collect(),
        revocation: RevocationMode::HardFail,
        policies: part.policies.clone(),
        legacy: LegacySignatures::Marked,
        ..Trust::default()
    }
}

/// The path of a case, of its certificates in an order of no use.
fn path(case: &Case, part: &Part) -> Result<ValidPath, String> {
    let leaf = certificate(case.leaf())?;
    let mut surplus: Vec<Certificate> =
        case.certificates.iter().filter_map(|name| certificate(name).ok()).collect();
    surplus.sort_by_key(|certificate| *certificate.fingerprint());
    validate(&leaf, &surplus, &trust(case, part), at()).map_err(|error| error.to_string())
}

/// The verdict on the mail of a case, with the finding on its signer's path.
fn mail(case: &Case, part: &Part) -> (AuthResult, Reason, Finding) {
    let octets = data("smime", &format!("Signed{}.eml", case.name));
    let message = Message::from_stored(&octets);
    let entity = message.entity();
    let (verdict, _) = verify(&entity, single_originator(&entity), &trust(case, part), at());
    let path = verdict.signers().first().map_or(Finding::NotReached, |signer| signer.findings.path.clone());
    (verdict.result(), verdict.reason().clone(), path)
}

#[test]
fn the_table_has_all_224_tests_of_the_sixteen_sections() {
    let cases = cases();
    let mut sections: BTreeMap<u32, u32> = BTreeMap::new();
    for case in &cases {
        let (section, _) = case.number.strip_prefix("4.").unwrap().split_once('.').unwrap();
        *sections.entry(section.parse().unwrap()).or_default() += 1;
        assert!(!case.parts.is_empty(), "{}", case.number);
        // The parts of a test whose name says what comes out are all of that kind, but for policies.
        if case.name.starts_with("Invalid") {
            assert!(case.parts.iter().all(|part| !part.is_valid), "{}", case.number);
        }
        if case.name.starts_with("Valid") {
            assert!(case.parts.iter().any(|part| part.is_valid), "{}", case.number);
        }
    }
    let counts: Vec<u32> = sections.into_values().collect();
    assert_eq!(counts, [6, 8, 11, 21, 8, 17, 5, 20, 8, 14, 11, 10, 38, 35, 10, 2]);
    let named = |word: &str| cases.iter().filter(|case| case.name.starts_with(word)).count();
    assert_eq!((named("Valid"), named("Invalid")), (88, 114));
    assert_eq!(cases.iter().map(|case| case.parts.len()).sum::<usize>(), 247);
}

#[test]
fn every_path_is_valid_or_not_as_nist_says() {
    let mut wrong = Vec::new();
    for case in cases() {
        for part in &case.parts {
            let expected = part.is_valid && !REFUSED.contains(&case.number);
            let found = path(&case, part);
            if found.is_ok() != expected {
                let why = found.err().unwrap_or_else(|| "valid".into());
                wrong.push(format!("{} {} {:?}: {why}", case.number, case.name, part.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_mail_has_the_verdict_of_its_path() {
    let mut wrong = Vec::new();
    for case in cases() {
        for part in &case.parts {
            let is_valid = path(&case, part).is_ok();
            let (result, reason, finding) = mail(&case, part);
            if finding.is_good() != is_valid || result == AuthResult::Pass && !is_valid {
                wrong.push(format!(
                    "{} {} {:?}: {result:?} {reason}, {finding:?}",
                    case.number, case.name, part.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
