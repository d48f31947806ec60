//! NIST's PKITS: 224 paths and their mails, each with its settings and what it must come to.
//!
//! The data is in `tests/data/pkits`, the settings are in `table.txt`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the functions beside the tests are part of them")]

mod openssl;
mod page;
mod run;
mod table;

use std::collections::BTreeMap;

use run::{mail, path};
use smime::{
    message::{AuthResult, Reason},
    path::Strength,
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
            let (result, reason, finding) = mail(&case, part);
            let fits = match &found {
                Ok(path) if path.strength() == Strength::Legacy => reason == Reason::Weak,
                Ok(_) => matches!(reason, Reason::AllGood | Reason::OtherSender),
                // A DSA key is as bad as its path, or cannot be used at all.
                Err(_) => matches!(reason, Reason::Path(_) | Reason::Weak | Reason::UnknownAlgorithm(_)),
            };
            let is_refused = result != AuthResult::Pass || part.is_valid && found.is_ok();
            if !fits || !is_refused || finding.is_good() != found.is_ok() {
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

/// `cargo run -p smime --example pkits > docs/path-validation.md` makes the page.
#[test]
fn the_page_is_what_is_found_and_every_difference_is_explained() {
    let page = page::page();
    assert!(page.unexplained.is_empty(), "{:?}", page.unexplained);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/path-validation.md");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == page.text, "{path} is not what the command prints");
}
