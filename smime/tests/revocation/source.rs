//! Who is asked for more: nobody, unless everything else about the path is good (RFC 8550 section 6).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use smime::{
    Certificate,
    path::{Budget, Trust, validate, validate_within},
    revocation::{Evidence, RevocationSource},
    testing::{
        draft::{Draft, at, extension, key_purposes, name_constraints, rfc822_name},
        hostile::wrap,
    },
};

use crate::{ALICE, CA, alice, ca};

/// Counts how often it is asked, and knows nothing.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl RevocationSource for Counting {
    fn evidence(&self, _: &Certificate, _: &Certificate, _: &mut Duration) -> Evidence {
        self.0.fetch_add(1, Ordering::Relaxed);
        Evidence::default()
    }
}

#[test]
fn nobody_is_asked_about_a_path_that_is_not_good_in_everything_else() {
    let locations = |draft: Draft| {
        let uri = |text: &str| wrap(smime::ber::Tag(0x86), &[text.into()]);
        let sequence = |parts: &[Vec<u8>]| wrap(smime::ber::Tag::SEQUENCE, parts);
        let context = |parts: &[Vec<u8>]| wrap(smime::ber::Tag::context(0), parts);
        let point = sequence(&[context(&[context(&[uri("http://tracker.example.net/crl")])])]);
        draft.with(extension("2.5.29.31", false, &sequence(&[point])))
    };
    let leaf = || locations(Draft::new("Alice", ALICE, "CA").numbered(10));
    let stranger = Draft::ca("Stranger", 9, "Stranger").sign(9);
    let below = |draft: Draft| locations(draft).sign(CA);
    let constrained =
        below(Draft::ca("Below", 3, "CA").with(name_constraints(&[rfc822_name("example.net")], &[])));
    let names = smime::testing::draft::alternative_names(false, &[rfc822_name("alice@example.org")]);
    let mut expired = leaf();
    expired.validity = [b"\x17\x0d200101000000Z".to_vec(), b"\x17\x0d210101000000Z".to_vec()];
    for (what, leaf, others, asked) in [
        ("a good one", leaf().sign(CA), vec![], 1),
        (
            "a good one below another",
            Draft::new("Alice", ALICE, "Below").sign(3),
            vec![below(Draft::ca("Below", 3, "CA"))],
            2,
        ),
        ("of a stranger", Draft::new("Alice", ALICE, "Stranger").sign(9), vec![stranger], 0),
        ("of nobody", locations(Draft::new("Alice", ALICE, "Nobody")).sign(8), vec![], 0),
        ("signed with another key", leaf().sign(9), vec![], 0),
        ("expired", expired.sign(CA), vec![], 0),
        ("for servers", leaf().with(key_purposes(&["1.3.6.1.5.5.7.3.1"])).sign(CA), vec![], 0),
        (
            "with an unknown critical extension",
            leaf().with(extension("1.2.3.4", true, &[5, 0])).sign(CA),
            vec![],
            0,
        ),
        (
            "outside of the names",
            Draft::new("Alice", ALICE, "Below").with(names).sign(3),
            vec![constrained],
            0,
        ),
        (
            "below a certificate of no CA",
            Draft::new("Alice", ALICE, "Below").sign(3),
            vec![below(Draft::new("Below", 3, "CA"))],
            0,
        ),
    ] {
        let source = Arc::new(Counting::default());
        let trust = Trust {
            anchors: vec![ca()],
            revocation_source: Some(Arc::<Counting>::clone(&source)),
            ..Trust::default()
        };
        let path = validate(&leaf, &others, &trust, at());
        assert_eq!(path.is_ok(), asked > 0, "{what}: {path:?}");
        assert_eq!(source.0.load(Ordering::Relaxed), asked, "{what}");
    }
    // alice's certificate is one of the good ones.
    assert_eq!(alice().subject(), leaf().sign(CA).subject());
}

/// Takes a second for each certificate, and says for how long others were waited for before.
#[derive(Debug, Default)]
struct Slow(Mutex<Vec<Duration>>);

impl RevocationSource for Slow {
    fn evidence(&self, _: &Certificate, _: &Certificate, waited: &mut Duration) -> Evidence {
        self.0.lock().unwrap().push(*waited);
        *waited += SECOND;
        Evidence::default()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_was_waited_for_a_message_is_told_whoever_is_asked_next_and_whoever_asked() {
    let source = Arc::new(Slow::default());
    let trust = Trust {
        anchors: vec![ca()],
        revocation_source: Some(Arc::<Slow>::clone(&source)),
        ..Trust::default()
    };
    let mut budget = Budget::default().having_waited(5 * SECOND);
    for leaf in [alice(), Draft::new("Alice", ALICE, "CA").numbered(11).sign(CA)] {
        validate_within(&mut budget, &leaf, &[], &trust, at()).unwrap();
    }
    assert_eq!(*source.0.lock().unwrap(), [5 * SECOND, 6 * SECOND]);
    assert_eq!(budget.waited(), 7 * SECOND);
}
