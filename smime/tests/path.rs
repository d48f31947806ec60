//! Certification paths: which are valid, and the reason that is given where one is not.

use std::time::Duration;

use smime::path::{Budget, PathError, Revocation, RevocationMode, Trust, validate, validate_within};
use smime::revocation::{Crl, Witness};
use smime::testing::{
    fixtures::{certificate, data, now, trust, trust_with_crls},
    hostile,
};

#[test]
fn a_leaf_below_two_cas_has_a_valid_path_whatever_the_order_of_surplus_certificates() {
    let surplus = ["mallory", "bob", "ca", "other-root", "root"].map(certificate);
    let path = validate(&certificate("alice"), &surplus, &trust(), now()).unwrap();
    let names: Vec<_> = path.chain().iter().map(|c| c.subject().to_string()).collect();
    assert_eq!(names, ["CN=Alice", "CN=Test Issuing CA", "CN=Test Root"]);
}

#[test]
fn each_defect_of_a_path_has_its_reason() {
    let surplus = ["ca", "other-root", "alice", "constrained", "subca"].map(certificate);
    let reason = |name| validate(&certificate(name), &surplus, &trust(), now()).map(|_| ()).unwrap_err();
    assert!(matches!(reason("mallory"), PathError::NoPath { .. }));
    assert!(matches!(reason("server"), PathError::Usage { .. }));
    assert!(matches!(reason("below-alice"), PathError::NotAnIssuer { .. }));
    assert!(matches!(reason("too-deep"), PathError::NotAnIssuer { .. }));
    assert!(matches!(reason("outside"), PathError::NameConstraints { .. }));
    assert!(matches!(reason("critical"), PathError::Extension { .. }));
    assert!(validate(&certificate("inside"), &surplus, &trust(), now()).is_ok());
}

#[test]
fn a_root_that_came_with_the_message_is_not_trusted() {
    let surplus = ["other-root"].map(certificate);
    let error = validate(&certificate("mallory"), &surplus, &trust(), now()).unwrap_err();
    assert!(matches!(error, PathError::NoPath { .. }));
}

#[test]
fn a_path_is_valid_only_in_its_time() {
    let surplus = [certificate("ca")];
    let century = Duration::from_hours(100 * 365 * 24);
    let at = |time| validate(&certificate("alice"), &surplus, &trust(), time).map(|_| ());
    assert!(matches!(at(now() - Duration::from_hours(240)), Err(PathError::NotYetValid { .. })));
    assert!(matches!(at(now() + century), Err(PathError::Expired { .. })));
}

#[test]
fn a_changed_certificate_is_not_accepted() {
    let mut der = certificate("alice").der().to_vec();
    let at = der.windows(5).position(|w| w == b"Alice").unwrap();
    der[at] = b'B';
    let forged = smime::Certificate::from_der(&der).unwrap();
    let error = validate(&forged, &[certificate("ca")], &trust(), now()).unwrap_err();
    assert!(matches!(error, PathError::Signature { .. }), "{error}");
}

#[test]
fn crls_tell_revoked_good_and_unknown_apart() {
    let surplus = [certificate("ca")];
    for mode in [RevocationMode::HardFail, RevocationMode::SoftFail] {
        let trust = trust_with_crls(mode);
        let error = validate(&certificate("revoked"), &surplus, &trust, now()).unwrap_err();
        assert!(matches!(error, PathError::Revoked { .. }), "{error}");
        let path = validate(&certificate("alice"), &surplus, &trust, now()).unwrap();
        assert!(matches!(path.revocation(), Revocation::Good { until: Some(_), by: Some(Witness::Crl) }));
    }
    let no_crls = |revocation| Trust { revocation, ..trust() };
    let hard = validate(&certificate("alice"), &surplus, &no_crls(RevocationMode::HardFail), now());
    assert!(matches!(hard, Err(PathError::RevocationUnknown { .. })));
    let soft = validate(&certificate("alice"), &surplus, &no_crls(RevocationMode::SoftFail), now()).unwrap();
    assert!(matches!(soft.revocation(), Revocation::Unknown(_)));
}

#[test]
fn a_crl_that_is_forged_or_out_of_date_says_nothing() {
    let surplus = [certificate("ca")];
    let root_crl = Crl::from_der(&data("root.crl")).unwrap();
    for (name, reason) in [("forged.crl", "signature does not verify"), ("old.crl", "nextUpdate has passed")]
    {
        let crls = vec![root_crl.clone(), Crl::from_der(&data(name)).unwrap()];
        let trust = Trust { crls, revocation: RevocationMode::HardFail, ..trust() };
        let error = validate(&certificate("alice"), &surplus, &trust, now()).unwrap_err();
        assert!(matches!(error, PathError::RevocationUnknown { .. }), "{name}: {error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn namesakes_of_the_issuer_do_not_keep_the_search_busy() {
    let leaf = hostile::of_one_key(0);
    // (namesakes, the limit of operations, how many are made)
    for (count, limit, made) in [(200, 100, 100), (101, 100, 100), (100, 7, 7), (100, 100, 100), (9, 100, 9)]
    {
        let surplus: Vec<_> = (1..=count).map(hostile::namesake).collect();
        let mut budget = Budget::of(limit);
        let error = validate_within(&mut budget, &leaf, &surplus, &trust(), now()).unwrap_err();
        assert_eq!(budget.operations(), made, "{count}: {error}");
        let is_cut = usize::from(count) > limit;
        assert_eq!(error == PathError::TooManyChecks, is_cut, "{count}: {error}");
        assert_eq!(budget.is_exceeded(), is_cut);
    }
}

#[test]
fn a_signature_that_is_known_costs_nothing_and_an_empty_budget_finds_nothing() {
    let surplus = [certificate("ca")];
    let trust = trust_with_crls(RevocationMode::HardFail);
    let mut budget = Budget::default();
    // A CRL that was used before is not verified again: each of these has read its own.
    // alice, bob and the CA are signed, and so are two CRLs.
    for (name, operations) in [("alice", 4), ("alice", 4), ("bob", 5)] {
        validate_within(&mut budget, &certificate(name), &surplus, &trust, now()).unwrap();
        assert_eq!(budget.operations(), operations, "{name}");
    }
    for limit in 0..=4 {
        let mut budget = Budget::of(limit);
        let trust = trust_with_crls(RevocationMode::HardFail);
        let path = validate_within(&mut budget, &certificate("alice"), &surplus, &trust, now());
        assert_eq!(path.as_ref().err(), (limit < 4).then_some(&PathError::TooManyChecks), "{limit}");
        assert_eq!((budget.operations(), budget.is_exceeded()), (limit, limit < 4));
    }
}

#[test]
fn rsa_keys_over_4096_bits_are_used_only_where_they_are_anchors() {
    let leaf = hostile::of_one_key(0);
    for (octets, as_anchor, operations) in
        [(512, false, 1), (513, false, 0), (1024, false, 0), (1024, true, 1)]
    {
        let issuer = hostile::of_key_len(octets);
        let (mut budget, mut trust) = (Budget::default(), trust());
        if as_anchor {
            trust.anchors.push(issuer.clone());
        }
        let error = validate_within(&mut budget, &leaf, &[issuer], &trust, now()).unwrap_err();
        assert_eq!(budget.operations(), operations, "{octets}: {error}");
        assert_eq!(matches!(error, PathError::Algorithm { .. }), operations == 0, "{octets}: {error}");
    }
}

#[test]
fn name_constraints_hold_however_a_name_is_spelled() {
    let mut trust = trust();
    trust.anchors.push(certificate("nc-root"));
    let at = certificate("nc-root").not_before() + Duration::from_hours(24);
    let name = ["same", "case", "spaces", "printable", "teletex", "bmp", "other"];
    let mailbox = ["same", "case", "other"];
    for (issuer, spellings, valid) in [
        ("excluded-mailbox", &mailbox[..], &["other"][..]),
        ("permitted-mailbox", &mailbox, &["same"]),
        ("excluded-all", &mailbox, &[]),
        ("excluded-name", &name, &["other"]),
        ("permitted-name", &name, &["same", "case", "spaces", "printable", "teletex", "bmp"]),
    ] {
        let surplus = [certificate(&format!("nc-{issuer}"))];
        for spelling in spellings {
            let leaf = certificate(&format!("nc-{issuer}-{spelling}"));
            match validate(&leaf, &surplus, &trust, at) {
                Ok(_) => assert!(valid.contains(spelling), "{issuer} {spelling} is valid"),
                Err(error) => {
                    assert!(matches!(error, PathError::NameConstraints { .. }), "{error}");
                    assert!(!valid.contains(spelling), "{issuer} {spelling}: {error}");
                }
            }
        }
    }
}
