//! Certification paths at the bounds of what is allowed: the first and last moment, the last comparison, octet and step, and
//! the reason that is told of several.

use std::time::{Duration, Instant};

use der::{Encode, asn1::ObjectIdentifier};
use smime::{
    Certificate,
    ber::Tag,
    path::{Budget, MAX_OPERATIONS, PathError, RevocationMode, Trust, ValidPath, validate, validate_within},
    testing::{
        draft::{Draft, alternative_names, at, extension, key_purposes, name, name_constraints, rfc822_name},
        hostile::wrap,
    },
};

fn trust() -> Trust {
    let root = Draft::ca("Root", 1, "Root").sign(1);
    Trust { anchors: vec![root], revocation: RevocationMode::Off, ..Trust::default() }
}

fn leaf() -> Draft {
    Draft::new("Alice", 100, "CA")
}

fn ca() -> Draft {
    Draft::ca("CA", 3, "Root")
}

#[test]
fn a_certificate_is_valid_in_its_first_and_last_moment_and_in_none_before_and_after() {
    let (alice, ca) = (leaf().sign(3), ca().sign(1));
    let at = |time| validate(&alice, std::slice::from_ref(&ca), &trust(), time).map(|_| ());
    let moment = Duration::from_nanos(1);
    assert_eq!(at(alice.not_before()), Ok(()));
    assert_eq!(at(alice.not_after()), Ok(()));
    assert!(matches!(at(alice.not_before() - moment), Err(PathError::NotYetValid { .. })));
    assert!(matches!(at(alice.not_after() + moment), Err(PathError::Expired { .. })));
}

/// Who is as far on the way to an anchor as anybody says why it ended there, wherever others ended before.
#[test]
fn the_reason_is_that_of_the_path_that_came_furthest_whichever_was_tried_first() {
    let (alice, good) = (leaf().with(key_purposes(&["1.3.6.1.5.5.7.3.1"])).sign(3), ca().sign(1));
    let namesake = Draft::ca("CA", 4, "Root").sign(1);
    for surplus in [[good.clone(), namesake.clone()], [namesake, good]] {
        let error = validate(&alice, &surplus, &trust(), at()).unwrap_err();
        assert!(matches!(error, PathError::Usage { .. }), "{error}");
    }
}

/// Subtrees of `CA`, some permitted and some excluded, and so many names of a leaf below, its subject among them.
fn compared(permitted: u16, excluded: u16, names: u16) -> [Certificate; 2] {
    let tree = |number| rfc822_name(&format!("x{number}.example.net"));
    let mut permitted: Vec<_> = (1..permitted).map(tree).collect();
    permitted.push(rfc822_name("example.org"));
    let excluded: Vec<_> = (0..excluded).map(tree).collect();
    let mailboxes: Vec<_> = (1..names).map(|number| rfc822_name(&format!("a{number}@example.org"))).collect();
    let ca = ca().with(name_constraints(&permitted, &excluded)).sign(1);
    [leaf().with(alternative_names(false, &mailboxes)).sign(3), ca]
}

#[test]
fn names_are_compared_with_constraints_so_often_for_a_certificate_and_no_more() {
    for (permitted, excluded, names, is_valid) in
        [(60, 40, 100, true), (61, 40, 100, false), (60, 40, 101, false)]
    {
        let [alice, ca] = compared(permitted, excluded, names);
        let path = validate(&alice, &[ca], &trust(), at());
        assert_eq!(path.is_ok(), is_valid, "{permitted} {excluded} {names}: {path:?}");
        assert!(is_valid || matches!(path, Err(PathError::NameConstraints { .. })), "{path:?}");
    }
}

/// How often a path is found in one budget, before there is too much.
fn found(budget: &mut Budget, leaf: &Certificate, surplus: &[Certificate]) -> usize {
    let mut find =
        || -> Result<ValidPath, PathError> { validate_within(budget, leaf, surplus, &trust(), at()) };
    let found = (0..200).take_while(|_| find().is_ok()).count();
    assert_eq!(find().err(), Some(PathError::TooManyChecks));
    assert!(budget.is_exceeded());
    found
}

#[test]
fn names_are_compared_and_decoded_for_a_message_so_often_and_no_more() {
    // 10,000 comparisons each time, of half a million.
    let [alice, issuer] = compared(60, 40, 100);
    assert_eq!(found(&mut Budget::default(), &alice, &[issuer]), 50);
    // Three MiB and what is around them each time, of 64 MiB, and once more to look at them.
    let large = extension("1.3.6.1.4.1.99999.1", false, &vec![0; 3 << 20]);
    let issuer = ca().with(name_constraints(&[rfc822_name("example.org")], &[])).sign(1);
    let mut budget = Budget::default();
    assert_eq!(found(&mut budget, &leaf().with(large).sign(3), &[issuer]), 20);
    assert!(budget.decoded() > 64 << 20, "{}", budget.decoded());
}

/// Signatures that are known cost nothing, and the ways among those who signed each other are many.
#[test]
fn the_ways_through_a_mesh_are_gone_to_a_number_whatever_they_cost() {
    let name = |number: u16| format!("CA {number}");
    let pairs = (1..=9).flat_map(|subject| (1..=9).map(move |issuer| (subject, issuer)));
    let mut surplus: Vec<_> = pairs
        .filter(|(subject, issuer)| subject != issuer)
        .map(|(subject, issuer)| {
            let draft = Draft::ca(&name(subject), 10 + subject, &name(issuer));
            draft.numbered(subject * 10 + issuer).sign(10 + issuer)
        })
        .collect();
    // The way to the anchor by the names, which did not sign it.
    surplus.push(Draft::ca(&name(9), 19, "Root").sign(900));
    let alice = Draft::new("Alice", 100, &name(1)).sign(11);
    let mut budget = Budget::default();
    let started = Instant::now();
    let error = validate_within(&mut budget, &alice, &surplus, &trust(), at()).unwrap_err();
    assert_eq!(error, PathError::TooManyChecks);
    assert!(budget.is_exceeded() && budget.operations() < MAX_OPERATIONS, "{}", budget.operations());
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn a_doubt_counts_against_a_name_below_constraints_and_other_kinds_of_names_do_not() {
    let directory = |text: &str| wrap(Tag(0xA4), &[name(text)]);
    let address = |octets: &[u8]| wrap(Tag(0x87), &[octets.to_vec()]);
    let other_name = |oid: &str| {
        let oid = oid.parse::<ObjectIdentifier>().unwrap().to_der().unwrap();
        wrap(Tag::context(0), &[oid, wrap(Tag::context(0), &[wrap(Tag(0x0C), &[b"x".to_vec()])])])
    };
    let (net, here, there) =
        (address(&[10, 0, 0, 0, 255, 0, 0, 0]), address(&[10, 1, 2, 3]), address(&[11, 1, 2, 3]));
    let named = |text: &str| Draft { subject: name(text), ..leaf() };
    let with =
        |alternative: &Vec<u8>| leaf().with(alternative_names(false, std::slice::from_ref(alternative)));
    let permitted = |base: &Vec<u8>| name_constraints(std::slice::from_ref(base), &[]);
    let excluded = |base: &Vec<u8>| name_constraints(&[], std::slice::from_ref(base));
    // A base with fields behind it that have no meaning: minimum, and maximum.
    let counted = |fields: &[Vec<u8>]| {
        let tree = wrap(Tag::SEQUENCE, &[&[rfc822_name("example.org")], fields].concat());
        extension("2.5.29.30", true, &wrap(Tag::SEQUENCE, &[wrap(Tag::context(0), &[tree])]))
    };
    let mailbox = rfc822_name("alice@example.org");
    for (what, constraints, leaf, is_valid) in [
        ("below", permitted(&directory("Victim")), named("Victim"), true),
        ("perhaps below what is permitted", permitted(&directory("Victim")), named("Vic\u{ad}tim"), false),
        ("below what is excluded", excluded(&directory("Victim")), named("Victim"), false),
        ("perhaps below what is excluded", excluded(&directory("Victim")), named("Vic\u{ad}tim"), false),
        ("another", excluded(&directory("Victim")), named("Alice"), true),
        ("in the network", permitted(&net), with(&here), true),
        ("out of the network", permitted(&net), with(&there), false),
        ("in the network that is excluded", excluded(&net), with(&here), false),
        ("out of the network that is excluded", excluded(&net), with(&there), true),
        ("another kind of otherName", excluded(&other_name("1.2.3")), with(&other_name("1.2.4")), true),
        ("that kind of otherName", excluded(&other_name("1.2.3")), with(&other_name("1.2.3")), false),
        ("the whole subtree", counted(&[]), with(&mailbox), true),
        ("from a level", counted(&[wrap(Tag(0x80), &[vec![1]])]), with(&mailbox), false),
        ("to a level", counted(&[wrap(Tag(0x81), &[vec![5]])]), with(&mailbox), false),
    ] {
        let path = validate(&leaf.sign(3), &[ca().with(constraints).sign(1)], &trust(), at());
        assert_eq!(path.is_ok(), is_valid, "{what}: {path:?}");
        assert!(is_valid || matches!(path, Err(PathError::NameConstraints { .. })), "{what}: {path:?}");
    }
}
