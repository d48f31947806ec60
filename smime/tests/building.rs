//! What PKITS lacks: paths for mail, found among many certificates and within limits, of newer names and algorithms.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::time::Instant;

use const_oid::db::rfc5280::ANY_POLICY;
use der::Encode;
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    ber::Tag,
    path::{
        Budget, MAX_OPERATIONS, MAX_PATH, PathError, PolicySettings, RevocationMode, Strength, Trust,
        ValidPath, validate, validate_within,
    },
    testing::{
        draft::{
            Draft, alternative_names, at, extension, key_identifiers, key_purposes, name, name_constraints,
            rfc822_name, smtp_utf8_name,
        },
        fixtures::key,
        hostile::wrap,
    },
};

const EMAIL_PROTECTION: &str = "1.3.6.1.5.5.7.3.4";
const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";

fn trust(anchors: &[Certificate]) -> Trust {
    Trust { anchors: anchors.to_vec(), revocation: RevocationMode::Off, ..Trust::default() }
}

fn root() -> Certificate {
    Draft::ca("Root", 1, "Root").sign(1)
}

fn leaf() -> Draft {
    Draft::new("Alice", 100, "CA")
}

/// A leaf below `CA`, whose certificate by `Root` this is.
fn below(ca: &Draft, leaf: &Draft) -> Result<ValidPath, PathError> {
    validate(&leaf.sign(ca.key), &[ca.sign(1)], &trust(&[root()]), at())
}

/// The same certificates in another order for each seed.
fn shuffled(mut all: Vec<Certificate>, seed: u64) -> Vec<Certificate> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for last in (1..all.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % (u64::try_from(last).unwrap() + 1)).unwrap();
        all.swap(last, other);
    }
    all
}

/// RFC 8550 2.3: any number of certificates, in any order, and roots that nobody trusts.
#[test]
fn of_200_shuffled_certificates_the_right_ones_are_found_and_an_attackers_root_is_not_trusted() {
    let alice = leaf().sign(3);
    let mut all = vec![
        Draft::ca("CA", 3, "Sub").sign(2),
        Draft::ca("Sub", 2, "Root").sign(1),
        // The attacker's, with everybody's names.
        Draft::ca("Root", 900, "Root").sign(900),
        Draft::ca("Sub", 901, "Root").sign(900),
        Draft::ca("CA", 902, "Sub").sign(901),
    ];
    // Namesakes that signed nothing, and people whom nobody asks for.
    all.extend((10..30).map(|number| Draft::ca("CA", number, "Sub").numbered(number).sign(901)));
    all.extend((30..40).map(|number| Draft::ca("Sub", number, "Root").numbered(number).sign(900)));
    all.extend((40..205).map(|number| Draft::new("Bob", number, "CA").numbered(number).sign(3)));
    assert_eq!(all.len(), 200);
    let mallory = leaf().sign(902);
    for seed in 1..=20 {
        let surplus = shuffled(all.clone(), seed);
        let mut budget = Budget::default();
        let path = validate_within(&mut budget, &alice, &surplus, &trust(&[root()]), at()).unwrap();
        assert_eq!(path.chain().last(), Some(&root()));
        assert_eq!(path.chain().len(), 4);
        assert!(budget.operations() <= 40, "{seed}: {}", budget.operations());
        let mut budget = Budget::default();
        let error = validate_within(&mut budget, &mallory, &surplus, &trust(&[root()]), at()).unwrap_err();
        assert!(!matches!(error, PathError::TooManyChecks), "{seed}: {error}");
        assert!(budget.operations() <= 60, "{seed}: {}", budget.operations());
    }
}

#[test]
fn a_loop_of_cross_certificates_ends_and_a_way_out_of_it_is_found() {
    // Each of five CAs was certified by each other.
    let name = |number: u16| format!("CA {number}");
    let cross: Vec<Certificate> = (1..=5)
        .flat_map(|subject| (1..=5).map(move |issuer| (subject, issuer)))
        .filter(|(subject, issuer)| subject != issuer)
        .map(|(subject, issuer)| {
            Draft::ca(&name(subject), 10 + subject, &name(issuer))
                .numbered(subject * 10 + issuer)
                .sign(10 + issuer)
        })
        .collect();
    let alice = Draft::new("Alice", 100, &name(1)).sign(11);
    let mut budget = Budget::default();
    let error = validate_within(&mut budget, &alice, &cross, &trust(&[root()]), at()).unwrap_err();
    assert!(matches!(error, PathError::NoPath { .. }), "{error}");
    // One for the leaf, and one for each cross certificate and key that might have signed it.
    assert!(budget.operations() <= 1 + cross.len(), "{}", budget.operations());
    let mut out = cross.clone();
    out.push(Draft::ca(&name(4), 14, "Root").sign(1));
    for seed in 1..=10 {
        let path = validate(&alice, &shuffled(out.clone(), seed), &trust(&[root()]), at()).unwrap();
        assert_eq!(path.chain().last(), Some(&root()), "{seed}");
        assert!(path.chain().len() <= MAX_PATH);
    }
}

/// Long certificates in a mesh, where the search comes by each of them again and again.
#[test]
fn what_a_certificate_says_is_decoded_once_for_a_message_however_often_it_is_come_by() {
    let name = |number: u16| format!("CA {number}");
    let addresses: Vec<_> = (0..400).map(|number| rfc822_name(&format!("u{number}@example.org"))).collect();
    let mesh: Vec<Certificate> = (1..=6)
        .flat_map(|subject| (1..=6).map(move |issuer| (subject, issuer)))
        .filter(|(subject, issuer)| subject != issuer)
        .map(|(subject, issuer)| {
            let mut draft =
                Draft::ca(&name(subject), 10 + subject, &name(issuer)).numbered(subject * 10 + issuer);
            draft.extensions.push(alternative_names(false, &addresses));
            draft.sign(10 + issuer)
        })
        .collect();
    // The way to the anchor by the names, which did not sign it.
    let mut surplus = mesh;
    surplus.push(Draft::ca(&name(6), 16, "Root").sign(900));
    let alice = Draft::new("Alice", 100, &name(1)).sign(11);
    let mut budget = Budget::default();
    let found = validate_within(&mut budget, &alice, &surplus, &trust(&[root()]), at());
    assert!(found.is_err());
    assert!(budget.operations() > 6, "{}", budget.operations());
    let all: usize = surplus.iter().chain([&alice, &root()]).map(|it| it.der().len()).sum();
    assert!(all > 200_000, "{all}");
    assert!((all / 2..=all).contains(&budget.decoded()), "{} of {all}", budget.decoded());
}

#[test]
fn a_cross_certified_ca_leads_to_whichever_root_is_trusted() {
    let other = Draft::ca("Other", 5, "Other").sign(5);
    let mut expired = Draft::ca("CA", 3, "Root");
    expired.validity[1] = wrap(Tag(0x17), &[b"210101000000Z".to_vec()]);
    let surplus = [expired.sign(1), Draft::ca("CA", 3, "Other").sign(5)];
    let alice = leaf().sign(3);
    for anchors in [vec![other.clone()], vec![root(), other.clone()], vec![other.clone(), root()]] {
        let path = validate(&alice, &surplus, &trust(&anchors), at()).unwrap();
        assert_eq!(path.chain().last(), Some(&other));
    }
    let error = validate(&alice, &surplus, &trust(&[root()]), at()).unwrap_err();
    assert!(matches!(error, PathError::Expired { .. }), "{error}");
    // As of the time when it was valid.
    let then = at() - std::time::Duration::from_hours(24 * 365 * 3);
    assert!(validate(&alice, &surplus, &trust(&[root()]), then).is_ok());
}

#[test]
fn a_ca_that_rolled_its_key_over_is_found_by_either_key() {
    let old = Draft::ca("Root", 1, "Root").sign(1);
    let surplus = [
        Draft::ca("Root", 7, "Root").numbered(7).sign(1),
        Draft::ca("Root", 1, "Root").numbered(8).sign(7),
        Draft::ca("CA", 3, "Root").sign(7),
    ];
    let new = Draft::ca("Root", 7, "Root").sign(7);
    let alice = leaf().sign(3);
    for anchors in [vec![old.clone()], vec![new.clone()], vec![old, new]] {
        assert!(validate(&alice, &surplus, &trust(&anchors), at()).is_ok());
    }
    // A self-issued certificate does not count against the length of a path (RFC 5280 4.2.1.9).
    let none_below = wrap(Tag::SEQUENCE, &[wrap(Tag(1), &[vec![0xFF]]), wrap(Tag::INTEGER, &[vec![0]])]);
    let mut strict = Draft::new("Root", 1, "Root");
    strict.extensions.push(extension("2.5.29.19", true, &none_below));
    let alice = Draft::new("Alice", 100, "Root").sign(7);
    assert!(validate(&alice, &surplus, &trust(&[strict.sign(1)]), at()).is_ok());
}

#[test]
fn key_identifiers_that_mislead_do_not_hide_the_issuer_and_right_ones_find_it_at_once() {
    let [own, issuer] = key_identifiers(b"alice", b"right");
    let alice = leaf().with(own).with(issuer).sign(3);
    let ca = |key: u16, identifier: &[u8]| {
        let [own, issuer] = key_identifiers(identifier, b"root");
        Draft::ca("CA", key, "Root").with(own).with(issuer).numbered(key).sign(1)
    };
    let decoys = |identifier: &[u8]| (200..280).map(|key| ca(key, identifier)).collect::<Vec<_>>();
    // (the CA's own identifier, that of its namesakes, how many checks at most)
    for (identifier, others, operations) in [(&b"right"[..], &b"wrong"[..], 2), (b"wrong", b"right", 82)] {
        let mut surplus = decoys(others);
        surplus.push(ca(3, identifier));
        let mut budget = Budget::default();
        let path = validate_within(&mut budget, &alice, &surplus, &trust(&[root()]), at());
        assert!(path.is_ok() && budget.operations() == operations, "{}", budget.operations());
    }
}

#[test]
fn intermediates_that_are_configured_help_and_are_not_trusted() {
    let alice = leaf().sign(3);
    let ca = Draft::ca("CA", 3, "Root").sign(1);
    let with = |anchors: &[Certificate]| Trust { intermediates: vec![ca.clone()], ..trust(anchors) };
    assert!(validate(&alice, &[], &with(&[root()]), at()).is_ok());
    for anchors in [&[][..], &[Draft::ca("Root", 9, "Root").sign(9)]] {
        assert!(validate(&alice, &[], &with(anchors), at()).is_err());
    }
}

#[test]
fn a_path_is_as_long_as_ten_certificates_and_no_longer() {
    for (between, is_valid) in [(8, true), (9, false)] {
        let name = |number: u16| if number == 0 { "Root".to_owned() } else { format!("CA {number}") };
        let surplus: Vec<_> =
            (1..=between).map(|n| Draft::ca(&name(n), n + 1, &name(n - 1)).sign(n)).collect();
        let alice = Draft::new("Alice", 100, &name(between)).sign(between + 1);
        let path = validate(&alice, &surplus, &trust(&[root()]), at());
        assert_eq!(path.is_ok(), is_valid, "{between}: {path:?}");
    }
}

#[test]
fn signature_checks_have_a_limit_that_hostile_certificates_reach_and_no_more() {
    // Fifteen CAs of one name, each certified by each other: more ways than anybody can go.
    let mut all = Vec::new();
    for subject in 10..25 {
        for issuer in (10..25).filter(|issuer| *issuer != subject) {
            all.push(Draft::ca("CA", subject, "CA").numbered(subject * 100 + issuer).sign(issuer));
        }
    }
    assert_eq!(all.len(), 210);
    // By the names alone there is a way to the root from all of them.
    all.push(Draft::ca("CA", 25, "Root").sign(25));
    let alice = leaf().sign(10);
    let mut budget = Budget::default();
    let started = Instant::now();
    let error = validate_within(&mut budget, &alice, &all, &trust(&[root()]), at()).unwrap_err();
    assert_eq!(error, PathError::TooManyChecks);
    assert!(budget.is_exceeded() && budget.operations() <= MAX_OPERATIONS);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn rsassa_pss_and_ed25519_certificates_lead_to_their_roots() {
    let pss = SignatureAlgorithm::RsaPss(Sha256);
    // Alice's RSA key, as that of a CA: the draft's own key is not used.
    let ca_key = key("alice");
    let mut draft = leaf();
    draft.issuer = ca_key_name(&ca_key);
    let signed = draft.sign_with(&ca_key, pss);
    let anchor = smime::testing::hostile::of_public_key_ca(&ca_key);
    let path = validate(&signed, &[], &trust(std::slice::from_ref(&anchor)), anchor_time(&anchor));
    assert_eq!(path.map(|path| path.strength()).ok(), Some(Strength::Strong));
    // With another certificate's signature it does not hold.
    let mut other = draft.clone().numbered(77).sign_with(&ca_key, pss).der().to_vec();
    let at_serial = other.windows(2).position(|pair| pair == [0, 77]).unwrap();
    other[at_serial + 1] = 78;
    let other = Certificate::from_der(&other).unwrap();
    let error =
        validate(&other, &[], &trust(std::slice::from_ref(&anchor)), anchor_time(&anchor)).unwrap_err();
    assert!(matches!(error, PathError::Signature { .. }), "{error}");
    // Ed25519 is what all others here are signed with.
    assert!(below(&Draft::ca("CA", 3, "Root"), &leaf()).is_ok());
    let forged = validate(&leaf().sign(4), &[Draft::ca("CA", 3, "Root").sign(1)], &trust(&[root()]), at());
    assert!(matches!(forged, Err(PathError::Signature { .. })));
}

fn ca_key_name(key: &smime::testing::MemoryKey) -> Vec<u8> {
    use smime::key::Signer;
    key.certificate().subject().to_der().unwrap()
}

fn anchor_time(anchor: &Certificate) -> std::time::SystemTime {
    anchor.not_before() + std::time::Duration::from_hours(24)
}

#[test]
fn extended_key_usage_of_leaf_and_ca_must_allow_mail() {
    for (ca, leaf_purposes, is_valid) in [
        (None, None, true),
        (None, Some(&[EMAIL_PROTECTION][..]), true),
        (None, Some(&[SERVER_AUTH, "2.5.29.37.0"]), true),
        (None, Some(&[SERVER_AUTH]), false),
        (Some(&[SERVER_AUTH, EMAIL_PROTECTION][..]), Some(&[EMAIL_PROTECTION]), true),
        // A CA's is a constraint on what is below it.
        (Some(&[SERVER_AUTH]), Some(&[EMAIL_PROTECTION]), false),
        (Some(&[SERVER_AUTH]), None, false),
    ] {
        let with = |draft: Draft, oids: Option<&[&str]>| match oids {
            Some(oids) => draft.with(key_purposes(oids)),
            None => draft,
        };
        let path = below(&with(Draft::ca("CA", 3, "Root"), ca), &with(leaf(), leaf_purposes));
        assert_eq!(path.is_ok(), is_valid, "{ca:?} {leaf_purposes:?}: {path:?}");
    }
}

#[test]
fn certificates_that_break_the_rules_of_their_version_are_refused() {
    let names = |is_critical| alternative_names(is_critical, &[rfc822_name("alice@example.org")]);
    let purposes = || key_purposes(&[EMAIL_PROTECTION]);
    let without_subject = || Draft { subject: name(""), ..leaf() };
    let unknown = |is_critical| extension("1.3.6.1.4.1.99999.1", is_critical, b"\x05\x00");
    let with_time = |tag, text: &str| {
        let mut draft = leaf();
        draft.validity[0] = wrap(tag, &[text.into()]);
        draft
    };
    let identified = |version, numbers: &[u8]| {
        let identifier = |number: &u8| wrap(Tag(0x80 | number), &[vec![0, 0xA5]]);
        Draft { version, unique_identifiers: numbers.iter().map(identifier).collect(), ..leaf() }
    };
    for (what, draft, is_valid) in [
        ("plain", leaf(), true),
        ("version 2 with unique identifiers", identified(1, &[1, 2]), true),
        ("version 1 with unique identifiers", identified(0, &[1, 2]), false),
        ("version 1 with that of the issuer", identified(0, &[1]), false),
        ("version 1 with that of the subject", identified(0, &[2]), false),
        ("version 1", Draft { version: 0, ..leaf() }, true),
        ("version 2 with extensions", Draft { version: 1, ..leaf() }.with(names(false)), false),
        ("version 1 with extensions", Draft { version: 0, ..leaf() }.with(names(false)), false),
        ("an extension twice", leaf().with(purposes()).with(purposes()), false),
        ("an unknown extension twice", leaf().with(unknown(false)).with(unknown(false)), false),
        ("an unknown extension", leaf().with(unknown(false)), true),
        ("an unknown critical extension", leaf().with(unknown(true)), false),
        ("a malformed extension", leaf().with(extension("2.5.29.15", false, b"\x05\x00")), false),
        ("no subject, critical names", without_subject().with(names(true)), true),
        ("no subject, names", without_subject().with(names(false)), false),
        ("no subject, no names", without_subject(), false),
        ("a negative serial number", Draft { serial: vec![0x80], ..leaf() }, true),
        ("serial number zero", Draft { serial: vec![0], ..leaf() }, true),
        ("a serial number of 20 octets", Draft { serial: vec![0x7F; 20], ..leaf() }, true),
        ("a GeneralizedTime before 2050", with_time(Tag(0x18), "20200101000000Z"), true),
        ("a time before 1970", with_time(Tag(0x17), "500101000000Z"), true),
        ("a time before 1970, still to come", with_time(Tag(0x17), "490101000000Z"), false),
    ] {
        let path = below(&Draft::ca("CA", 3, "Root"), &draft);
        assert_eq!(path.is_ok(), is_valid, "{what}: {path:?}");
    }
    // Whoever has no name issues nothing.
    let ca = Draft { subject: name(""), ..Draft::ca("CA", 3, "Root") }.with(names(true));
    let path = below(&ca, &Draft { issuer: name(""), ..leaf() });
    assert!(path.is_err());
}

/// RFC 9598 section 6: constraints on mail are constraints on SmtpUTF8Mailboxes, by their domain.
#[test]
fn name_constraints_hold_for_addresses_beyond_ascii_and_in_the_subject() {
    let mail = |text: &str| alternative_names(false, &[rfc822_name(text)]);
    let utf8 = |text: &str| alternative_names(false, &[smtp_utf8_name(text)]);
    let dns = wrap(Tag(0x82), &[b"example.org".to_vec()]);
    let registered = wrap(Tag(0x88), &[vec![0x2A, 3]]);
    let permitted = |base: &str| name_constraints(&[rfc822_name(base)], &[]);
    let excluded = |base: &str| name_constraints(&[], &[rfc822_name(base)]);
    for (what, constraints, names, is_valid) in [
        ("inside", permitted("example.org"), mail("alice@example.org"), true),
        ("a subdomain", permitted("example.org"), mail("alice@a.example.org"), false),
        ("below", permitted(".example.org"), mail("alice@a.example.org"), true),
        ("the mailbox", permitted("alice@example.org"), mail("alice@example.org"), true),
        ("another mailbox", permitted("alice@example.org"), mail("bob@example.org"), false),
        ("the mailbox in another case", excluded("alice@example.org"), mail("Alice@example.org"), false),
        ("beyond ASCII, inside", permitted("example.org"), utf8("J\u{f6}rg@example.org"), true),
        ("beyond ASCII, outside", permitted("example.org"), utf8("J\u{f6}rg@example.net"), false),
        ("beyond ASCII, excluded", excluded("example.org"), utf8("J\u{f6}rg@example.org"), false),
        (
            "beyond ASCII, U-label",
            excluded("xn--mnchen-3ya.example"),
            utf8("J\u{f6}rg@m\u{fc}nchen.example"),
            false,
        ),
        ("beyond ASCII, no mailbox", permitted("joerg@example.org"), utf8("J\u{f6}rg@example.org"), false),
        ("beyond ASCII, malformed", permitted("example.org"), utf8("joerg@example.org"), false),
        (
            "SmtpUTF8Mailbox itself constrained",
            name_constraints(&[], &[smtp_utf8_name("x@example.net")]),
            utf8("J\u{f6}rg@example.org"),
            false,
        ),
        (
            "a kind that is not compared",
            name_constraints(&[], std::slice::from_ref(&registered)),
            alternative_names(false, std::slice::from_ref(&registered)),
            false,
        ),
        ("another kind", name_constraints(&[], &[registered]), mail("alice@example.org"), true),
        ("a host", name_constraints(std::slice::from_ref(&dns), &[]), mail("alice@example.net"), true),
        (
            "a host beside the mailbox",
            name_constraints(&[dns], &[]),
            alternative_names(
                false,
                &[rfc822_name("a@example.net"), wrap(Tag(0x82), &[b"example.net".to_vec()])],
            ),
            false,
        ),
    ] {
        let path = below(&Draft::ca("CA", 3, "Root").with(constraints), &leaf().with(names));
        assert_eq!(path.is_ok(), is_valid, "{what}: {path:?}");
        assert!(is_valid || matches!(path, Err(PathError::NameConstraints { .. })), "{what}: {path:?}");
    }
    // The emailAddress of the subject, also beside names that are permitted.
    let oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01".to_vec();
    for (address, is_valid) in [("alice@example.org", true), ("alice@example.net", false), ("alice", false)] {
        let attribute = wrap(Tag::SEQUENCE, &[oid.clone(), wrap(Tag(0x16), &[address.into()])]);
        let subject = wrap(Tag::SEQUENCE, &[wrap(Tag::SET, &[attribute])]);
        for names in [None, Some(mail("alice@example.org"))] {
            let mut draft = Draft { subject: subject.clone(), ..leaf() };
            draft.extensions.extend(names);
            let path = below(&Draft::ca("CA", 3, "Root").with(permitted("example.org")), &draft);
            assert_eq!(path.is_ok(), is_valid, "{address}: {path:?}");
        }
    }
}

/// RFC 9618: RFC 5280's tree would have more than 10^11 leaves here.
#[test]
fn policies_that_multiply_cost_no_more_than_they_are_long() {
    let oid =
        |number: u16| format!("1.3.6.1.4.1.99999.{number}").parse::<der::asn1::ObjectIdentifier>().unwrap();
    let numbers: Vec<Vec<u8>> = (0..25).map(|number| oid(number).to_der().unwrap()).collect();
    let policies: Vec<_> =
        numbers.iter().map(|policy| wrap(Tag::SEQUENCE, std::slice::from_ref(policy))).collect();
    let policies = extension("2.5.29.32", true, &wrap(Tag::SEQUENCE, &policies));
    let mappings: Vec<_> = numbers
        .iter()
        .flat_map(|from| numbers.iter().map(|to| wrap(Tag::SEQUENCE, &[from.clone(), to.clone()])))
        .collect();
    let mappings = extension("2.5.29.33", true, &wrap(Tag::SEQUENCE, &mappings));
    let name = |number: u16| if number == 0 { "Root".to_owned() } else { format!("CA {number}") };
    let ca = |n: u16| Draft::ca(&name(n), n + 1, &name(n - 1)).with(policies.clone()).with(mappings.clone());
    let surplus: Vec<_> = (1..=8).map(|n| ca(n).sign(n)).collect();
    let alice = Draft::new("Alice", 100, &name(8)).with(policies.clone()).sign(9);
    let with = |policies| Trust { policies, ..trust(&[root()]) };
    let explicit = |wanted| PolicySettings {
        explicit_policy: true,
        initial_policy_set: Some([oid(wanted)].into()),
        ..PolicySettings::default()
    };
    let started = Instant::now();
    let path = validate(&alice, &surplus, &with(explicit(3)), at()).unwrap();
    assert_eq!(path.policies().named, [oid(3)].into());
    let path = validate(&alice, &surplus, &with(PolicySettings::default()), at()).unwrap();
    assert_eq!(path.policies().named.len(), 25);
    assert!(!path.policies().any && !path.policies().named.contains(&ANY_POLICY));
    let error = validate(&alice, &surplus, &with(explicit(99)), at()).unwrap_err();
    assert!(matches!(error, PathError::Policy { .. }), "{error}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
