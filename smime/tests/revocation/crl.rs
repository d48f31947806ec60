//! CRLs: which is the newest, what a delta changes, whose entries they are, for which reasons (RFC 5280 section 6.3).

use der::{Encode, asn1::GeneralizedTime};
use smime::{
    Certificate,
    ber::Tag,
    path::{PathError, Revocation, Trust, validate},
    revocation::Witness,
    testing::{
        draft::{Draft, at, extension, key_identifiers, name},
        evidence::{List, Single, Status, answer, hour, reason},
        hostile::wrap,
    },
};

use crate::{ALICE, CA, alice, ca, check, fits, found, trust};

fn list() -> List {
    List::by("CA", CA)
}

fn with(lists: &[List]) -> Trust {
    trust(&lists.iter().map(List::sign).collect::<Vec<_>>(), &[])
}

const HOLD: u8 = 6;
const REMOVE: u8 = 8;

#[test]
fn the_newest_list_of_the_issuer_counts() {
    let bad = || list().listing(&alice(), &[]);
    let held = || list().listing(&alice(), &[reason(HOLD)]);
    check(&[
        ("none", with(&[]), "no CRL of its issuer"),
        ("without her", with(&[list().listing_number(&[1, 0, 11], &[])]), "good"),
        ("with her", with(&[bad()]), "revoked"),
        ("on hold", with(&[held()]), "revoked"),
        ("an older one without her", with(&[list().from(-9, Some(24)), bad()]), "revoked"),
        ("an older one that holds her", with(&[held().from(-9, Some(24)), list()]), "good"),
        ("ended", with(&[list().from(-9, Some(-1))]), "nextUpdate has passed"),
        ("without an end", with(&[list().from(-9, None)]), "no nextUpdate"),
        // For ever is for ever, but a hold may be over.
        ("ended, with her", with(&[bad().from(-9, Some(-1))]), "revoked"),
        ("ended, on hold", with(&[held().from(-9, Some(-1))]), "nextUpdate has passed"),
        ("of another key", with(&[List::by("CA", 9)]), "signature does not verify"),
        ("of another issuer", with(&[List::by("Other", CA)]), "no CRL of its issuer"),
        // What cannot be used does not stand before what can.
        ("of another key, newer", with(&[List::by("CA", 9).from(0, Some(24)), bad()]), "revoked"),
    ]);
}

#[test]
fn a_ca_whose_key_is_not_for_crls_signs_none() {
    // keyCertSign alone, and with cRLSign.
    for (usage, expected) in [([2, 0x04], "has no cRLSign"), ([1, 0x06], "good")] {
        let usage = extension("2.5.29.15", true, &wrap(Tag::BIT_STRING, &[usage.to_vec()]));
        let anchor = Draft::ca("CA", CA, "CA").with(usage).sign(CA);
        let found = found(&alice(), &[], &Trust { anchors: vec![anchor], ..with(&[list()]) });
        assert!(fits(&found, expected), "{found}");
    }
}

#[test]
fn a_list_that_names_another_key_of_its_issuer_is_not_of_this_one() {
    for (key, expected) in [(b"right", "good"), (b"wrong", "no certificate of who signed it")] {
        let [identifier, _] = key_identifiers(b"right", b"right");
        let [_, of_signer] = key_identifiers(key, key);
        let anchor = Draft::ca("CA", CA, "CA").with(identifier).sign(CA);
        let trust = Trust { anchors: vec![anchor], ..with(&[list().with(of_signer)]) };
        let found = found(&alice(), &[], &trust);
        assert!(fits(&found, expected), "{found}");
    }
}

#[test]
fn a_list_says_what_it_is() {
    let indirect = || list().about(&[wrap(Tag(0x84), &[vec![0xFF]])]);
    let fresh =
        extension("2.5.29.46", false, &wrap(Tag::SEQUENCE, &[wrap(Tag::SEQUENCE, &[point("http://a/d")])]));
    for (what, list, expected) in [
        ("empty", list(), (None, false, false, 0)),
        ("numbered", list().numbered(5), (Some(&[5][..]), false, false, 0)),
        ("a delta", list().numbered(6).delta_to(5), (Some(&[6]), true, false, 0)),
        ("indirect", indirect(), (None, false, true, 0)),
        ("with an entry", list().listing(&alice(), &[]), (None, false, false, 1)),
    ] {
        let crl = list.sign();
        assert_eq!((crl.number(), crl.is_delta(), crl.is_indirect(), crl.len()), expected, "{what}");
        assert_eq!((crl.is_empty(), crl.der()), (expected.3 == 0, list.der().as_slice()), "{what}");
        // Asked twice: what was found is remembered of one key.
        let other = Draft::ca("CA", 9, "CA").sign(9);
        for _ in 0..2 {
            assert!(crl.is_signed_by(&ca()) && !crl.is_signed_by(&other), "{what}");
        }
    }
    assert!(list().sign().freshest().is_empty());
    assert_eq!(list().with(fresh).sign().freshest(), ["http://a/d"]);
}

#[test]
fn a_delta_changes_the_list_that_it_fits_and_no_other() {
    let base = || list().from(-9, Some(24)).numbered(5);
    let held = || base().listing(&alice(), &[reason(HOLD)]);
    let delta = |to, number| list().numbered(number).delta_to(to).listing(&alice(), &[]);
    let removing = |to| list().numbered(6).delta_to(to).listing(&alice(), &[reason(REMOVE)]);
    let holding = || list().numbered(6).delta_to(5).listing(&alice(), &[reason(HOLD)]);
    let ended = || base().from(-9, Some(-1));
    let users = || wrap(Tag(0x81), &[vec![0xFF]]);
    check(&[
        ("to this one", with(&[base(), delta(5, 6)]), "revoked"),
        ("to one before", with(&[base(), delta(3, 6)]), "revoked"),
        ("to one that comes", with(&[base(), delta(6, 7)]), "good"),
        ("that is not newer", with(&[base(), delta(4, 5)]), "good"),
        ("without its list", with(&[delta(5, 6)]), "no CRL of its issuer"),
        ("to a list without a number", with(&[list().from(-9, Some(24)), delta(5, 6)]), "good"),
        ("about others", with(&[base(), delta(5, 6).about(&[users()])]), "good"),
        // For ever is for ever in a delta as well, and what ends may not be said by one that has ended.
        ("that has ended", with(&[base(), delta(5, 6).from(-8, Some(-1))]), "revoked"),
        ("that has ended behind its list", with(&[ended(), delta(5, 6).from(-8, Some(-1))]), "revoked"),
        ("that has ended, with a hold", with(&[base(), holding().from(-8, Some(-1))]), "good"),
        ("that has ended, removing her", with(&[held(), removing(5).from(-8, Some(-1))]), "revoked"),
        (
            "that has ended before another",
            with(&[base(), delta(5, 6).from(-8, Some(-1)), list().numbered(7).delta_to(5)]),
            "good",
        ),
        (
            "of another key",
            with(&[base(), List::by("CA", 9).numbered(6).delta_to(5).listing(&alice(), &[])]),
            "good",
        ),
        ("without her", with(&[held(), list().numbered(6).delta_to(5)]), "revoked"),
        ("that removes her", with(&[held(), removing(5)]), "good"),
        ("that removes her from another list", with(&[held(), removing(6)]), "revoked"),
        // The list has ended, and the delta brings it up to date.
        ("behind the end", with(&[base().from(-9, Some(-1)), list().numbered(6).delta_to(5)]), "good"),
    ]);
}

#[test]
fn lists_for_some_reasons_are_enough_only_together() {
    let some = |bits: &[u8]| list().about(&[wrap(Tag(0x83), &[bits.to_vec()])]);
    // keyCompromise, and all others.
    let (compromise, others) = (|| some(&[6, 0x40]), || some(&[7, 0x3F, 0x80]));
    check(&[
        ("some", with(&[compromise()]), "no CRL tells of all reasons"),
        ("the others", with(&[others()]), "no CRL tells of all reasons"),
        ("both", with(&[compromise(), others()]), "good"),
        ("both, in the other order", with(&[others(), compromise()]), "good"),
        ("some, with her", with(&[compromise().listing(&alice(), &[reason(1)])]), "revoked"),
        ("both, with her in one", with(&[compromise(), others().listing(&alice(), &[reason(4)])]), "revoked"),
        ("both, and more than once", with(&[compromise(), others(), some(&[6, 0xC0])]), "good"),
        ("in parts that overlap", with(&[some(&[4, 0x70]), others()]), "good"),
        // Those for CAs, and for attribute certificates.
        ("for CAs", with(&[list().about(&[wrap(Tag(0x82), &[vec![0xFF]])])]), "about other certificates"),
        (
            "for attributes",
            with(&[list().about(&[wrap(Tag(0x85), &[vec![0xFF]])])]),
            "about other certificates",
        ),
        ("for users", with(&[list().about(&[wrap(Tag(0x81), &[vec![0xFF]])])]), "good"),
    ]);
}

#[test]
fn what_is_critical_and_not_understood_makes_a_list_useless() {
    let odd = |is_critical| extension("1.2.3.4", is_critical, &[5, 0]);
    let other = &[1, 0, 11];
    check(&[
        ("of the list", with(&[list().with(odd(true))]), "1.2.3.4 is not supported"),
        (
            "another name of the issuer",
            with(&[list().with(extension("2.5.29.18", true, &[0x30, 0]))]),
            "good",
        ),
        ("of the list, not critical", with(&[list().with(odd(false))]), "good"),
        ("of an entry", with(&[list().listing_number(other, &[odd(true)])]), "1.2.3.4 is not supported"),
        ("of an entry, not critical", with(&[list().listing_number(other, &[odd(false)])]), "good"),
        ("of her entry, not critical", with(&[list().listing(&alice(), &[odd(false)])]), "revoked"),
        ("twice", with(&[list().numbered(1).numbered(2)]), "an extension twice"),
        (
            "an entry of others in a list that is not indirect",
            with(&[list().listing_number(other, &[of_issuer("Other")])]),
            "not an indirect CRL",
        ),
    ]);
}

/// certificateIssuer (RFC 5280 5.3.3).
fn of_issuer(issuer: &str) -> Vec<u8> {
    extension("2.5.29.29", true, &wrap(Tag::SEQUENCE, &[wrap(Tag::context(4), &[name(issuer)])]))
}

/// A certificate whose revocation somebody else tells.
fn elsewhere() -> Certificate {
    let issuer = wrap(Tag::context(2), &[wrap(Tag::context(4), &[name("Lists")])]);
    let points = wrap(Tag::SEQUENCE, &[wrap(Tag::SEQUENCE, &[issuer])]);
    Draft::new("Alice", ALICE, "CA").numbered(10).with(extension("2.5.29.31", false, &points)).sign(CA)
}

#[test]
fn an_entry_is_of_the_issuer_that_was_named_last() {
    // Who issues the indirect list, appointed by the CA; and the CA's own list, which is about that one's certificate.
    let usage = extension("2.5.29.15", true, &wrap(Tag::BIT_STRING, &[vec![1, 0x02]]));
    let issuer = Draft::new("Lists", 5, "CA").numbered(50).with(usage).sign(CA);
    let own = || list().from(-3, Some(24));
    let indirect = || List::by("Lists", 5).about(&[wrap(Tag(0x84), &[vec![0xFF]])]);
    let (number, others) = (alice().serial_number().to_vec(), [[1, 0, 7], [1, 0, 8]]);
    let hers = |list: List| list.listing_number(&number, &[]);
    for (what, list, expected) in [
        ("empty", indirect(), "good"),
        ("of who issues the list", hers(indirect()), "good"),
        ("named at her entry", indirect().listing_number(&number, &[of_issuer("CA")]), "revoked"),
        (
            "inherited",
            hers(indirect().listing_number(&others[0], &[of_issuer("CA")]).listing_number(&others[1], &[])),
            "revoked",
        ),
        (
            "another in between",
            hers(
                indirect()
                    .listing_number(&others[0], &[of_issuer("CA")])
                    .listing_number(&others[1], &[of_issuer("Other")]),
            ),
            "good",
        ),
        ("of another", indirect().listing_number(&number, &[of_issuer("Other")]), "good"),
    ] {
        let found = found(&elsewhere(), std::slice::from_ref(&issuer), &with(&[list, own()]));
        assert_eq!(found, expected, "{what}");
    }
    // A list that does not say that it is indirect is about its own issuer's certificates only.
    let plain = found(&elsewhere(), std::slice::from_ref(&issuer), &with(&[List::by("Lists", 5)]));
    assert!(plain.contains("no CRL of its issuer"), "{plain}");
    // Who is revoked himself issues no list.
    let revoked = own().listing(&issuer, &[]).about(&[wrap(Tag(0x83), &[vec![6, 0x40]])]);
    let found = found(&elsewhere(), std::slice::from_ref(&issuer), &with(&[indirect(), revoked]));
    assert!(found.contains("was revoked"), "{found}");
    assert_eq!(ca().subject(), elsewhere().issuer());
}

/// A distribution point by its address.
fn point(uri: &str) -> Vec<u8> {
    let full_name = wrap(Tag::context(0), &[wrap(Tag(0x86), &[uri.into()])]);
    wrap(Tag::context(0), &[full_name])
}

/// cRLDistributionPoints of one.
fn points(uri: &str) -> Vec<u8> {
    extension("2.5.29.31", false, &wrap(Tag::SEQUENCE, &[wrap(Tag::SEQUENCE, &[point(uri)])]))
}

#[test]
fn a_list_of_a_distribution_point_is_for_those_that_name_it() {
    let named = Draft::new("Alice", ALICE, "CA").numbered(10).with(points("http://a.example/1")).sign(CA);
    for (leaf, uri, expected) in [
        (&named, "http://a.example/1", "good"),
        (&named, "http://a.example/2", "about other certificates"),
        (&alice(), "http://a.example/1", "about other certificates"),
    ] {
        let found = found(leaf, &[], &with(&[list().about(&[point(uri)])]));
        assert!(fits(&found, expected), "{uri}: {found}");
    }
}

#[test]
fn a_list_is_believed_of_its_own_signer_and_only_where_that_has_a_path() {
    let usage = || extension("2.5.29.15", true, &wrap(Tag::BIT_STRING, &[vec![1, 0x02]]));
    // The CA's other key, for lists: the same list tells of its certificate.
    let signer = Draft::new("CA", 7, "CA").numbered(70).with(usage()).sign(CA);
    let own = || List::by("CA", 7);
    assert_eq!(found(&alice(), std::slice::from_ref(&signer), &with(&[own()])), "good");
    let revoked = found(&alice(), std::slice::from_ref(&signer), &with(&[own().listing(&signer, &[])]));
    assert!(revoked.contains("was revoked"), "{revoked}");
    // Who issues an indirect list below a CA that is at hand here alone.
    let below = Draft::ca("Below", 6, "CA").numbered(60).sign(CA);
    let issuer = Draft::new("Lists", 5, "Below").numbered(50).with(usage()).sign(6);
    let indirect = List::by("Lists", 5).about(&[wrap(Tag(0x84), &[vec![0xFF]])]);
    // The CA's own list is about CAs alone.
    let of_cas = list().about(&[wrap(Tag(0x82), &[vec![0xFF]])]);
    let lists = with(&[indirect, of_cas, List::by("Below", 6)]);
    let mut expected = "no path";
    for intermediates in [vec![], vec![below]] {
        let found =
            found(&elsewhere(), std::slice::from_ref(&issuer), &Trust { intermediates, ..lists.clone() });
        assert!(fits(&found, expected), "{found}");
        expected = "good";
    }
}

#[test]
fn what_two_lists_say_together_is_as_old_as_the_older_and_ends_with_the_first() {
    let some =
        |bits: &[u8], from, until| list().from(from, Some(until)).about(&[wrap(Tag(0x83), &[bits.to_vec()])]);
    let both = |from, until| [some(&[6, 0x40], -1, 24), some(&[7, 0x3F, 0x80], from, until)];
    for until in [5, 48] {
        let path = validate(&alice(), &[], &with(&both(-1, until)), at()).unwrap();
        let expected = Revocation::Good { until: Some(hour(until.min(24))), by: Some(Witness::Crl) };
        assert_eq!(path.revocation(), &expected);
    }
    // An answer that is newer than one of them.
    let held = [answer(&ca(), CA, &[Single { from: -5, ..Single::of(&alice(), &ca(), Status::Held) }], &[])];
    for (from, expected) in [(-9, "revoked"), (-3, "good")] {
        let lists = both(from, 24).map(|list| list.sign());
        assert_eq!(found(&alice(), &[], &trust(&lists, &held)), expected, "{from}");
    }
}

#[test]
fn a_key_that_is_known_to_others_is_so_since_the_day_that_the_list_says() {
    let since = |number: i64| {
        let time = GeneralizedTime::from_system_time(hour(number)).unwrap().to_der().unwrap();
        extension("2.5.29.24", false, &time)
    };
    let odd = extension("2.5.29.24", false, &[5, 0]);
    for (extensions, expected) in [
        (vec![reason(1)], Some(-2)),
        (vec![reason(1), since(-3)], None),
        (vec![reason(1), since(-9)], Some(-9)),
        (vec![since(-3), reason(1)], None),
        (vec![reason(1), odd], Some(-2)),
        (vec![extension("1.2.3.4", false, &[5, 0]), reason(1)], Some(-2)),
    ] {
        // Of a mail that came three hours before it was revoked.
        let path = validate(&alice(), &[], &with(&[list().listing(&alice(), &extensions)]), hour(-5));
        let found = match path {
            Ok(_) => None,
            Err(PathError::Revoked { since, .. }) => Some(since),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, expected.map(hour), "{extensions:?}");
    }
}

#[test]
fn what_changed_between_two_lists_is_told_by_number_where_they_can_be_compared() {
    let numbers: [&[u8]; 4] = [&[1, 0, 1], &[1, 0, 2], &[1, 0, 3], &[1, 0, 4]];
    let older = || list().from(-9, Some(24)).listing_number(numbers[0], &[]).listing_number(numbers[2], &[]);
    let changes = |newer: &List, older: &List, limit| newer.sign().changes_since(&older.sign(), limit);
    for (what, newer, expected) in [
        ("the same", list().listing_number(numbers[2], &[]).listing_number(numbers[0], &[]), vec![]),
        ("new at the end", older().listing_number(numbers[3], &[]), vec![numbers[3]]),
        ("new in between", older().listing_number(numbers[1], &[]), vec![numbers[1]]),
        ("gone at the end", list().listing_number(numbers[0], &[]), vec![numbers[2]]),
        ("gone at the beginning", list().listing_number(numbers[2], &[]), vec![numbers[0]]),
        ("all gone", list(), vec![numbers[0], numbers[2]]),
        (
            "another reason",
            list().listing_number(numbers[0], &[reason(1)]).listing_number(numbers[2], &[]),
            vec![numbers[0]],
        ),
        ("all others", list().listing_number(numbers[1], &[]), numbers[..3].to_vec()),
    ] {
        let expected: Vec<Vec<u8>> = expected.iter().map(|number| number.to_vec()).collect();
        let len = expected.len();
        assert_eq!(changes(&newer, &older(), len), Some(expected), "{what}");
        assert!(len == 0 || changes(&newer, &older(), len - 1).is_none(), "{what}");
    }
    let users = || wrap(Tag(0x81), &[vec![0xFF]]);
    let indirect = || list().about(&[wrap(Tag(0x84), &[vec![0xFF]])]);
    let unusable = || list().with(extension("1.2.3.4", true, &[5, 0]));
    for (what, newer, older) in [
        ("of another issuer", list(), List::by("Other", CA)),
        ("about others", list().about(&[users()]), list()),
        ("a delta", list().numbered(6).delta_to(5), list()),
        ("to a delta", list(), list().numbered(6).delta_to(5)),
        ("indirect", indirect(), indirect()),
        ("of no use", unusable(), list()),
        ("to one of no use", list(), unusable()),
    ] {
        assert_eq!(changes(&newer, &older, 9), None, "{what}");
    }
    assert_eq!(changes(&list().about(&[users()]), &list().about(&[users()]), 9), Some(Vec::new()));
}
