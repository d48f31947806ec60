//! What hides from whom that a certificate was revoked: other OCSP responses, other paths, other signers of a CRL.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use der::{DateTime, Encode, asn1::GeneralizedTime};
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    ber::Tag,
    key::{Digest, SignatureInput, Signer},
    path::{Budget, Crl, PathError, Revocation, RevocationMode, Trust, ValidPath, validate, validate_within},
    revocation::{Evidence, OcspResponse, RevocationSource},
    testing::{
        authority::{Authority, Wanted},
        draft::{Draft, at, memory_key, name},
        fixtures::now,
        hostile::wrap,
    },
};
use x509_cert::ext::pkix::KeyUsages;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn root() -> Certificate {
    Draft::ca("Root", 1, "Root").sign(1)
}

fn leaf() -> Certificate {
    Draft::new("Alice", 2, "Root").sign(1)
}

/// A response about [`leaf`], which says that it is of `by`, signed with the key of this number.
fn response(key: u16, by: &str, is_revoked: bool, made: SystemTime) -> OcspResponse {
    let (leaf, issuer) = (leaf(), root());
    let time = |at: SystemTime| {
        GeneralizedTime::from_date_time(DateTime::from_system_time(at).unwrap()).to_der().unwrap()
    };
    let hash = |octets: &[u8]| {
        wrap(Tag::OCTET_STRING, &[Digest::of(DigestAlgorithm::Sha1, octets).as_bytes().to_vec()])
    };
    let sha1 = wrap(Tag::SEQUENCE, &[vec![6, 5, 0x2B, 14, 3, 2, 26]]);
    let serial = wrap(Tag::INTEGER, &[leaf.serial_number().to_vec()]);
    let hashes = [hash(&leaf.issuer().to_der().unwrap()), hash(issuer.public_key())].concat();
    let id = wrap(Tag::SEQUENCE, &[sha1, hashes, serial]);
    let status = if is_revoked { wrap(Tag(0xA1), &[time(made)]) } else { vec![0x80, 0] };
    let next = wrap(Tag(0xA0), &[time(made + 7 * DAY)]);
    let single = wrap(Tag::SEQUENCE, &[id, status, time(made), next]);
    let answers = wrap(Tag::SEQUENCE, &[single]);
    let data = wrap(Tag::SEQUENCE, &[wrap(Tag(0xA1), &[name(by)]), time(made), answers]);
    let algorithm = SignatureAlgorithm::Ed25519;
    let signature = memory_key(key, issuer).sign(&SignatureInput::of(algorithm, &data), algorithm).unwrap().0;
    let signature = wrap(Tag::BIT_STRING, &[vec![0], signature]);
    let basic = wrap(Tag::SEQUENCE, &[data, algorithm.identifier().to_der().unwrap(), signature]);
    let id_pkix_ocsp_basic = vec![6, 9, 0x2B, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let bytes = wrap(Tag::SEQUENCE, &[id_pkix_ocsp_basic, wrap(Tag::OCTET_STRING, &[basic])]);
    let whole = wrap(Tag::SEQUENCE, &[vec![10, 1, 0], wrap(Tag(0xA0), &[bytes])]);
    OcspResponse::from_der(&whole).unwrap()
}

/// Responses that say good, each a second newer than the one before.
fn forged(count: u64, by: &str) -> Vec<OcspResponse> {
    (0..count).map(|number| response(9, by, false, at() - Duration::from_secs(number))).collect()
}

fn with(ocsp: Vec<OcspResponse>, enclosed: Vec<OcspResponse>) -> Trust {
    Trust { anchors: vec![root()], ocsp, revocation: RevocationMode::SoftFail, ..Trust::default() }
        .with_evidence(Evidence { ocsp: enclosed, ..Evidence::default() })
}

fn is_revoked(found: &Result<ValidPath, PathError>) -> bool {
    matches!(found, Err(PathError::Revoked { .. }))
}

fn is_good(found: &Result<ValidPath, PathError>) -> bool {
    found.as_ref().is_ok_and(|path| matches!(path.revocation(), Revocation::Good { .. }))
}

#[derive(Debug)]
struct Source(OcspResponse);

impl RevocationSource for Source {
    fn evidence(&self, _: &Certificate, _: &Certificate, _: &mut Duration) -> Evidence {
        Evidence { ocsp: vec![self.0.clone()], ..Evidence::default() }
    }
}

#[test]
fn responses_of_anybody_do_not_hide_that_a_certificate_was_revoked_wherever_they_are() {
    let truth = || response(1, "Root", true, at() - HOUR);
    for (what, trust) in [
        ("alone", with(vec![truth()], Vec::new())),
        ("enclosed", with(Vec::new(), vec![truth()])),
        ("beside many of nobody", with([forged(50, "Nobody"), vec![truth()]].concat(), Vec::new())),
        ("among many of nobody", with(Vec::new(), [forged(50, "Nobody"), vec![truth()]].concat())),
        ("before many in its issuer's name", with(vec![truth()], forged(50, "Root"))),
        (
            "from a source",
            Trust {
                revocation_source: Some(Arc::new(Source(truth()))),
                ..with(Vec::new(), forged(50, "Root"))
            },
        ),
    ] {
        let mut budget = Budget::default();
        let found = validate_within(&mut budget, &leaf(), &[], &trust, at());
        assert!(is_revoked(&found), "{what}: {found:?}");
        // The leaf's signature and the response's.
        assert_eq!(budget.operations(), 2, "{what}");
    }
}

#[test]
fn more_responses_in_the_issuer_s_name_than_are_looked_at_are_too_many_and_never_skipped() {
    for is_revoked in [false, true] {
        for (count, is_too_many) in [(9, false), (10, true), (50, true)] {
            let truth = response(1, "Root", is_revoked, at() - HOUR);
            let trust = with(Vec::new(), [forged(count, "Root"), vec![truth]].concat());
            let mut budget = Budget::default();
            let found = validate_within(&mut budget, &leaf(), &[], &trust, at());
            let too_many = matches!(found, Err(PathError::TooManyChecks));
            assert_eq!((too_many, budget.is_exceeded()), (is_too_many, is_too_many), "{count}: {found:?}");
            assert!(is_too_many || is_good(&found) != is_revoked, "{count}: {found:?}");
        }
    }
}

#[test]
fn an_enclosed_response_counts_where_it_is_newer_than_the_one_at_hand() {
    let good = |age| response(1, "Root", false, at() - age);
    let revoked = |age| response(1, "Root", true, at() - age);
    for (what, at_hand, enclosed, expected) in [
        ("newer", good(2 * HOUR), revoked(HOUR), false),
        ("older", revoked(HOUR), good(2 * HOUR), false),
        ("newer, but revoked is for ever", revoked(2 * HOUR), good(HOUR), false),
        ("both good", good(2 * HOUR), good(HOUR), true),
    ] {
        let found = validate(&leaf(), &[], &with(vec![at_hand], vec![enclosed]), at());
        assert!(is_good(&found) == expected && is_revoked(&found) != expected, "{what}: {found:?}");
    }
}

/// A CA below two roots, with a CRL of each, in every order.
struct Crossed {
    one: Authority,
    two: Authority,
    ca: Authority,
    cross: Certificate,
    leaf: Certificate,
}

impl Crossed {
    fn new(usage: der::flagset::FlagSet<KeyUsages>) -> Self {
        let [one, two] = [("One", "bob"), ("Two", "mallory")].map(|(name, key)| Authority::root(name, key));
        let ca = one.intermediate("CA", "server");
        let wanted = Wanted { key: "server", name: "CA", serial: 77, usage, ..ca_certificate() };
        let cross = two.issue(&wanted);
        let leaf = ca.issue(&Wanted::default());
        Self { one, two, ca, cross, leaf }
    }

    fn each(&self, crls: &[Vec<u8>], check: impl Fn(Result<ValidPath, PathError>)) {
        let anchors = [self.one.certificate().clone(), self.two.certificate().clone()];
        let surplus = [self.ca.certificate().clone(), self.cross.clone()];
        for turns in [[0, 0], [0, 1], [1, 0], [1, 1]] {
            let (mut anchors, mut surplus) = (anchors.to_vec(), surplus.to_vec());
            anchors.rotate_left(turns[0]);
            surplus.rotate_left(turns[1]);
            let crls = crls.iter().map(|crl| Crl::from_der(crl).unwrap()).collect();
            let trust = Trust { anchors, crls, ..Trust::default() };
            assert_eq!(trust.revocation, RevocationMode::SoftFail);
            check(validate(&self.leaf, &surplus, &trust, now()));
        }
    }
}

fn ca_certificate() -> Wanted<'static> {
    Wanted {
        addresses: &[],
        usage: KeyUsages::KeyCertSign | KeyUsages::CRLSign,
        purposes: &[],
        is_ca: true,
        ..Wanted::default()
    }
}

fn crl(of: &Authority, revoked: &[&Certificate]) -> Vec<u8> {
    of.crl(revoked, now() - DAY, now() + DAY)
}

#[test]
fn a_cross_certificate_does_not_turn_revoked_into_unknown() {
    // Below the second root nobody may sign the CA's CRL.
    let world = Crossed::new(KeyUsages::KeyCertSign.into());
    let crls = [crl(&world.ca, &[&world.leaf]), crl(&world.one, &[]), crl(&world.two, &[])];
    world.each(&crls, |found| assert!(is_revoked(&found), "{found:?}"));
}

#[test]
fn a_path_that_is_known_to_be_good_is_taken_before_one_that_is_not() {
    let world = Crossed::new(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
    let crls = [crl(&world.ca, &[]), crl(&world.one, &[])];
    world.each(&crls, |found| {
        assert!(is_good(&found), "{found:?}");
        assert_eq!(found.unwrap().chain().last().unwrap(), world.one.certificate());
    });
    world.each(&crls[..1], |found| {
        assert!(matches!(found.unwrap().revocation(), Revocation::Unknown(_)));
    });
}

#[test]
fn a_revoked_ca_is_not_made_unknown_by_its_cross_certificate_but_may_have_a_good_one() {
    let world = Crossed::new(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
    let mut crls = vec![crl(&world.ca, &[]), crl(&world.one, &[world.ca.certificate()])];
    world.each(&crls, |found| assert!(is_revoked(&found), "{found:?}"));
    crls.push(crl(&world.two, &[]));
    world.each(&crls, |found| assert!(is_good(&found), "{found:?}"));
}

#[test]
fn what_was_revoked_of_a_ca_is_one_certificate_and_not_all_of_that_issuer() {
    let root = Authority::root("Root", "bob");
    let ca = root.intermediate("CA", "server");
    let other = root.issue(&Wanted { key: "server", name: "CA", serial: 78, ..ca_certificate() });
    let leaf = ca.issue(&Wanted::default());
    for (revoked, is_valid) in [(&[ca.certificate()][..], true), (&[ca.certificate(), &other], false)] {
        let trust = Trust {
            anchors: vec![root.certificate().clone()],
            crls: [crl(&ca, &[]), crl(&root, revoked)]
                .iter()
                .map(|crl| Crl::from_der(crl).unwrap())
                .collect(),
            ..Trust::default()
        };
        for surplus in [[ca.certificate(), &other], [&other, ca.certificate()]] {
            let found = validate(&leaf, &surplus.map(Clone::clone), &trust, now());
            assert!(is_good(&found) == is_valid && is_revoked(&found) != is_valid, "{found:?}");
        }
    }
}

#[test]
fn an_expired_certificate_of_the_crl_s_signer_does_not_hide_the_one_that_is_valid() {
    let root = Authority::root("Root", "bob");
    let ca = root.intermediate("CA", "server");
    // The CA's other key, for CRLs.
    let signer = root.intermediate("CA", "mallory");
    let ended = Wanted { key: "mallory", name: "CA", serial: 5, until: now() - HOUR, ..ca_certificate() };
    let ended = root.issue(&ended);
    let leaf = ca.issue(&Wanted::default());
    let crls = [crl(&signer, &[&leaf]), crl(&root, &[])];
    let trust = Trust {
        anchors: vec![root.certificate().clone()],
        crls: crls.iter().map(|crl| Crl::from_der(crl).unwrap()).collect(),
        ..Trust::default()
    };
    for others in [[&ended, signer.certificate()], [signer.certificate(), &ended]] {
        let surplus = [ca.certificate().clone(), others[0].clone(), others[1].clone()];
        let found = validate(&leaf, &surplus, &trust, now());
        assert!(is_revoked(&found), "{found:?}");
    }
}
