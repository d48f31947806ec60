//! The page `docs/path-validation.md`: each test, what comes of it here and at OpenSSL.

use std::fmt::Write as _;

use smime::path::Strength;
use testkit::Workdir;

use crate::{
    openssl,
    run::{mail, path},
    table::cases,
};

/// Where we or OpenSSL say something else than NIST, and why.
const DIFFERENCES: [(&str, &str); 2] = [
    (
        "4.1.5",
        "The CA's DSA key has no parameters of its own, but those of the CA above it (RFC 5280 6.1.4 (f)). Neither of us \
         looks for them, and such a certificate is refused.",
    ),
    (
        "4.14.30",
        "An indirect CRL, whose issuer's own certificate nothing but that CRL could vouch for. OpenSSL refuses this circle; \
         we want the path of a CRL's issuer to be valid, and not its revocation known.",
    ),
];

pub(crate) struct Page {
    pub(crate) text: String,
    /// Differences without a reason, and reasons without a difference.
    pub(crate) unexplained: Vec<String>,
}

pub(crate) fn page() -> Page {
    let directory = Workdir::new("pkits-page").unwrap();
    let mut rows = String::new();
    let mut different: Vec<(&str, &str, String)> = Vec::new();
    let (mut parts, mut accepted, mut plain, mut false_accepts, mut theirs) = (0, 0, 0, 0, 0);
    let cases = cases();
    for case in &cases {
        let mut is_as_stated = true;
        for part in &case.parts {
            let ours = path(case, part);
            let other = openssl::path(&directory, case, part);
            let (result, _, _) = mail(case, part);
            let word = |is_valid: bool| if is_valid { "valid" } else { "invalid" };
            let strength = match &ours {
                Ok(path) if path.strength() == Strength::Legacy => "valid, weak",
                found => word(found.is_ok()),
            };
            let _ = writeln!(
                rows,
                "| {} | {} | {} | {} | {strength} | {} | {} |",
                case.number,
                case.name,
                if part.text.is_empty() { "any-policy" } else { part.text },
                word(part.is_valid),
                result.as_str(),
                word(other.is_ok()),
            );
            parts += 1;
            false_accepts += usize::from(ours.is_ok() && !part.is_valid);
            accepted += usize::from(ours.is_ok() && part.is_valid);
            is_as_stated &= ours.is_ok() == part.is_valid;
            theirs += usize::from(other.is_ok() == part.is_valid);
            if ours.is_ok() != part.is_valid || other.is_ok() != part.is_valid {
                let said = [("We", ours.err()), ("OpenSSL", other.err())]
                    .map(|(who, error)| format!("{who}: {}.", error.unwrap_or_else(|| "valid".into())));
                different.push((case.number, case.name, said.join(" ")));
            }
        }
        plain += usize::from(is_as_stated && case.name.starts_with("Valid"));
    }
    let mut explained = String::new();
    let mut unexplained: Vec<String> = Vec::new();
    for (number, name, said) in &different {
        match DIFFERENCES.iter().find(|(explained, _)| explained == number) {
            Some((_, why)) => drop(writeln!(explained, "- {number} {name}. {said} {why}")),
            None => unexplained.push(format!("{number} {name}: {said}")),
        }
    }
    let stale = DIFFERENCES.iter().filter(|(number, _)| !different.iter().any(|(found, ..)| found == number));
    unexplained.extend(stale.map(|(number, _)| format!("{number} is explained and no difference")));
    let valid = cases.iter().flat_map(|case| &case.parts).filter(|part| part.is_valid).count();
    let text = format!(
        "{HEAD}\n{} tests have {parts} settings. Of the {valid} that NIST calls valid {accepted} are accepted here, of the \
         others {false_accepts}.\nOf the 88 tests that are called valid, {plain} come out here as stated. OpenSSL agrees with \
         NIST in {theirs} of {parts}.\n\n## Differences\n\n{explained}\n## All tests\n\n{TABLE}{rows}",
        cases.len()
    );
    Page { text, unexplained }
}

const HEAD: &str = "\
# Path validation against NIST's PKITS

Made by `cargo run -p smime --example pkits > docs/path-validation.md`; a test holds it against the code. The tests, the
settings of each and what must come out are those of NIST's PKITS 1.0.1 (`smime/tests/data/pkits`). A number in the
settings is NIST-test-policy-N in the initial policy set, which is any-policy where there is none.

Every path is validated twice, each time as of 14 November 2023, with revocation in hard-fail mode and with the CRLs of the
test alone: the certificates by themselves, and the test's signed mail by the whole verifier, as mail. Most of NIST's
certificates have no address, so that it is not known whose they are: their mail is `policy` at best (RFC 8550 section 3).
Signatures that are weak today are accepted for this and marked, with which mail is never `pass`; by default they are refused.

OpenSSL's `verify` gets the same certificates, CRLs, time and settings, and
`-crl_check_all -use_deltas -extended_crl -policy_check -purpose any`.
";

const TABLE: &str = "\
| test | name | settings | NIST | here | mail | OpenSSL |
| --- | --- | --- | --- | --- | --- | --- |
";
