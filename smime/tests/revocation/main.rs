//! Revocation over the whole validation of paths, by CRLs and OCSP responses that are made here. What PKITS has of it is in
//! `pkits`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the functions beside the tests are part of them")]

mod crl;
mod mail;
mod ocsp;
mod remembered;
mod source;

use smime::{
    Certificate,
    path::{PathError, Revocation, RevocationMode, Trust, validate},
    revocation::{Crl, OcspResponse},
    testing::draft::{Draft, at},
};

/// The key of the CA.
const CA: u16 = 1;
/// The key of Alice.
const ALICE: u16 = 2;

/// The anchor.
fn ca() -> Certificate {
    Draft::ca("CA", CA, "CA").sign(CA)
}

fn alice() -> Certificate {
    Draft::new("Alice", ALICE, "CA").numbered(10).sign(CA)
}

fn trust(crls: &[Crl], ocsp: &[OcspResponse]) -> Trust {
    Trust { anchors: vec![ca()], crls: crls.to_vec(), ocsp: ocsp.to_vec(), ..Trust::default() }
}

/// What is found of a certificate: `good`, `revoked`, or why nothing is known. The modes differ in one thing only: where
/// nothing is known there is no path, or one that says so.
fn found(leaf: &Certificate, others: &[Certificate], trust: &Trust) -> String {
    let [hard, soft] = [RevocationMode::HardFail, RevocationMode::SoftFail].map(|revocation| {
        let path = validate(leaf, others, &Trust { revocation, ..trust.clone() }, at());
        path.map(|path| path.revocation().clone())
    });
    match (hard, soft) {
        (Ok(hard @ Revocation::Good { .. }), Ok(soft)) if hard == soft => "good".into(),
        (Err(PathError::Revoked { .. }), Err(PathError::Revoked { .. })) => "revoked".into(),
        (Err(PathError::RevocationUnknown { reason, .. }), Ok(Revocation::Unknown(soft))) => {
            assert!(soft.ends_with(&reason), "{soft} is not {reason}");
            reason
        }
        other => panic!("{other:?}"),
    }
}

/// Whether what is found is what is expected: the whole of `good` and `revoked`, a part of any other reason.
fn fits(found: &str, expected: &str) -> bool {
    if ["good", "revoked"].contains(&expected) { found == expected } else { found.contains(expected) }
}

/// Holds what is found of Alice against what is expected of it, case by case.
fn check(cases: &[(&str, Trust, &str)]) {
    for (what, trust, expected) in cases {
        let found = found(&alice(), &[], trust);
        assert!(fits(&found, expected), "{what}: {found}, not {expected}");
    }
}
