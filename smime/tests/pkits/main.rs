//! NIST's PKITS: 224 paths and their mails, each with its settings and what it must come to.
//!
//! The data is in `tests/data/pkits`, the settings are in `table.txt`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the functions beside the tests are part of them")]

mod openssl;
mod page;
mod run;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use run::{certificate, crl, mail, path, path_with};
use smime::{
    message::{AuthResult, Reason},
    path::{LegacySignatures, PathError, Revocation, RevocationMode, Strength},
};
use table::cases;

/// Valid paths that are not accepted: a DSA key with the parameters of its issuer's.
const REFUSED: [&str; 1] = ["4.1.5"];

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

/// Most of the certificates have no address, so that it is not known whose they are (RFC 8550 section 3).
#[test]
fn every_mail_has_the_verdict_of_its_path_and_passes_only_with_the_sender_s_address() {
    let (mut passed, mut wrong) = (Vec::new(), Vec::new());
    for case in cases() {
        for part in &case.parts {
            let found = path(&case, part);
            let (result, reason, findings) = mail(&case, part);
            let is_path_good = findings.is_some_and(|findings| findings.path.is_good());
            let fits = match &found {
                Ok(path) if path.strength() == Strength::Legacy => reason == Reason::Weak,
                Ok(_) => matches!(reason, Reason::AllGood | Reason::OtherSender),
                // A DSA key is as bad as its path, or cannot be used at all.
                Err(_) => matches!(reason, Reason::Path(_) | Reason::Weak | Reason::UnknownAlgorithm(_)),
            };
            let is_refused = result != AuthResult::Pass || part.is_valid && found.is_ok();
            if !fits || !is_refused || is_path_good != found.is_ok() {
                wrong.push(format!("{} {} {:?}: {result:?} {reason}", case.number, case.name, part.text));
            }
            if result == AuthResult::Pass {
                passed.push(case.number);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}:
{}",
        wrong.len(),
        wrong.join(
            "
"
        )
    );
    assert_eq!(passed, ["4.13.4", "4.13.14", "4.13.21", "4.13.23", "4.13.25", "4.13.27"]);
}

/// Whose mail it is put aside, every aspect of every valid mail is good, but for what is too weak.
#[test]
fn every_valid_mail_has_nothing_against_it_but_that_nobody_s_address_is_in_it() {
    let mut flaws = Vec::new();
    for case in cases() {
        for part in case.parts.iter().filter(|part| part.is_valid) {
            let (_, _, findings) = mail(&case, part);
            let findings = findings.unwrap_or_else(|| panic!("{} has no signer", case.number));
            let aspects = findings.aspects();
            let bad = aspects.iter().filter(|(aspect, finding)| *aspect != "address" && !finding.is_good());
            let bad: Vec<&str> = bad.map(|(aspect, _)| *aspect).collect();
            if !bad.is_empty() {
                flaws.push((case.number, bad));
            }
        }
    }
    assert_eq!(flaws, WEAK.map(|(number, bad)| (number, bad.to_vec())));
}

/// What is wrong with valid mails beside their sender: DSA.
const WEAK: [(&str, &[&str]); 2] = [("4.1.4", &["strength"]), ("4.1.5", &["signature", "strength", "path"])];

/// Invalid ones of which soft-fail says only that revocation is not known: their CRL is not there, is unreadable or of
/// another, its signer may not sign it, it is out of date, has unknown critical extensions, or is about others.
const SOFT: [&str; 24] = [
    "4.4.1", "4.4.4", "4.4.5", "4.4.6", "4.4.8", "4.4.9", "4.4.10", "4.4.11", "4.4.12", "4.4.21", "4.7.4",
    "4.7.5", "4.14.3", "4.14.8", "4.14.9", "4.14.11", "4.14.12", "4.14.14", "4.14.17", "4.14.26", "4.14.27",
    "4.14.35", "4.15.1", "4.15.10",
];

/// As the milter and batch verify, where nothing else is configured.
#[test]
fn where_revocation_need_not_be_known_nothing_invalid_is_good_and_nothing_revoked_is_taken() {
    let (mut soft, mut wrong) = (Vec::new(), Vec::new());
    for case in cases() {
        for part in &case.parts {
            let found = |revocation, legacy| path_with(&case, part, revocation, legacy);
            for legacy in [LegacySignatures::Marked, LegacySignatures::Refused] {
                let Ok(found_soft) = found(RevocationMode::SoftFail, legacy) else { continue };
                let found_hard = found(RevocationMode::HardFail, legacy).unwrap();
                let fits = match (&found_hard, &found_soft) {
                    (Ok(_), Ok(path)) => matches!(path.revocation(), Revocation::Good { .. }),
                    (Err(PathError::RevocationUnknown { .. }), Ok(path)) => {
                        soft.push(case.number);
                        matches!(path.revocation(), Revocation::Unknown(_))
                    }
                    (Err(hard), Err(soft)) => std::mem::discriminant(hard) == std::mem::discriminant(soft),
                    _ => false,
                };
                if !fits {
                    wrong.push(format!("{} {:?}: {found_hard:?} {found_soft:?}", case.number, part.text));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    soft.dedup();
    assert_eq!(soft, SOFT);
}

#[test]
fn what_is_signed_too_weakly_has_a_path_only_where_that_is_asked_for() {
    let mut weak = Vec::new();
    for case in cases() {
        for part in case.parts.iter().filter(|part| part.is_valid) {
            let found = |legacy| path_with(&case, part, RevocationMode::HardFail, legacy).unwrap();
            let (refused, marked) = (found(LegacySignatures::Refused), found(LegacySignatures::Marked));
            if marked.is_ok_and(|path| path.strength() == Strength::Legacy) {
                assert!(matches!(refused, Err(PathError::Algorithm { .. })), "{}: {refused:?}", case.number);
                weak.push(case.number);
            }
        }
    }
    assert_eq!(weak, ["4.1.4"]);
}

/// The list whose signature is bad: what is wrong with it is the number of unused bits.
const UNREADABLE: [&str; 1] = ["BadCRLSignatureCACRL"];

/// What cannot be read is left out of a test, which must not be why its path is invalid.
#[test]
fn everything_that_a_test_is_about_can_be_read_but_for_these() {
    let (mut certificates, mut crls) = (BTreeSet::new(), BTreeSet::new());
    for case in cases() {
        certificates.extend(case.certificates.iter().copied().filter(|name| certificate(name).is_err()));
        crls.extend(case.crls.iter().copied().filter(|name| crl(name).is_none()));
    }
    assert!(certificates.is_empty(), "{certificates:?}");
    assert_eq!(crls.into_iter().collect::<Vec<_>>(), UNREADABLE);
}

#[test]
fn a_list_tells_all_of_a_certificate_only_if_it_is_for_it_and_for_every_reason() {
    for (list, of, tells_all) in [
        ("GoodCACRL", "ValidCertificatePathTest1EE", true),
        ("GoodCACRL", "GoodCACert", false),
        ("TrustAnchorRootCRL", "GoodCACert", true),
        ("onlyContainsUserCertsCACRL", "InvalidonlyContainsUserCertsTest11EE", false),
        ("onlyContainsCACertsCACRL", "InvalidonlyContainsCACertsTest12EE", false),
        ("onlyContainsCACertsCACRL", "ValidonlyContainsCACertsTest13EE", true),
        ("onlySomeReasonsCA1compromiseCRL", "InvalidonlySomeReasonsTest15EE", false),
    ] {
        let (crl, certificate) = (crl(list).unwrap(), certificate(of).unwrap());
        assert_eq!(crl.tells_all_of(&certificate), tells_all, "{list} {of}");
    }
}

/// `cargo run -p smime --example pkits > docs/path-validation.md` makes the page.
#[test]
fn the_page_is_what_is_found_and_every_difference_is_explained() {
    let page = page::page();
    assert!(page.unexplained.is_empty(), "{:?}", page.unexplained);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/path-validation.md");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == page.text, "{path} is not what the command prints");
}
