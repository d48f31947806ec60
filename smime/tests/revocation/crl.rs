//! CRLs: which is the newest, what a delta changes, whose entries they are, for which reasons (RFC 5280 section 6.3).

use smime::{
    Certificate,
    ber::Tag,
    path::Trust,
    testing::{
        draft::{Draft, extension, name},
        hostile::wrap,
    },
};

use smime::testing::evidence::{List, reason};

use crate::{ALICE, CA, alice, ca, check, found, trust};

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
        assert!(found == expected || (expected != "good" && found.contains(expected)), "{found}");
    }
}

#[test]
fn a_delta_changes_the_list_that_it_fits_and_no_other() {
    let base = || list().from(-9, Some(24)).numbered(5);
    let held = || base().listing(&alice(), &[reason(HOLD)]);
    let delta = |to, number| list().numbered(number).delta_to(to).listing(&alice(), &[]);
    let removing = |to| list().numbered(6).delta_to(to).listing(&alice(), &[reason(REMOVE)]);
    let users = || wrap(Tag(0x81), &[vec![0xFF]]);
    check(&[
        ("to this one", with(&[base(), delta(5, 6)]), "revoked"),
        ("to one before", with(&[base(), delta(3, 6)]), "revoked"),
        ("to one that comes", with(&[base(), delta(6, 7)]), "good"),
        ("that is not newer", with(&[base(), delta(4, 5)]), "good"),
        ("without its list", with(&[delta(5, 6)]), "no CRL of its issuer"),
        ("to a list without a number", with(&[list().from(-9, Some(24)), delta(5, 6)]), "good"),
        ("about others", with(&[base(), delta(5, 6).about(&[users()])]), "good"),
        ("that has ended", with(&[base(), delta(5, 6).from(-8, Some(-1))]), "good"),
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
