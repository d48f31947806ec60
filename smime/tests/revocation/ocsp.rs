//! OCSP responses: about whom they are, how old, and who may answer (RFC 6960 sections 3.2 and 4.2.2).

use der::{Encode, asn1::ObjectIdentifier};
use smime::{
    Certificate,
    algorithm::DigestAlgorithm,
    ber::Tag,
    key::Digest,
    path::{Strength, Trust, validate},
    revocation::{OcspError, OcspResponse, crl_urls, delta_crl_urls, ocsp_urls},
    testing::{
        draft::{Draft, at, extension, key_purposes},
        hostile::wrap,
    },
};

use smime::testing::evidence::{List, Single, Status, answer, hour, odd_response, response};

use crate::{ALICE, CA, alice, ca, check, fits, trust};

const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

fn single(status: Status) -> Single {
    Single::of(&alice(), &ca(), status)
}

/// What the CA itself answers.
fn says(singles: &[Single]) -> Trust {
    trust(&[], &[answer(&ca(), CA, singles, &[])])
}

#[test]
fn an_answer_counts_for_the_certificate_it_is_about() {
    let bob = Draft::new("Bob", 3, "CA").numbered(11).sign(CA);
    // Another CA of the same name.
    let namesake = Draft::ca("CA", 9, "CA").sign(9);
    let with = |hash| Single { hash, ..single(Status::Good) };
    let odd = |is_critical| Single {
        extensions: vec![extension("1.2.3.4", is_critical, &[5, 0])],
        ..single(Status::Good)
    };
    check(&[
        ("good", says(&[single(Status::Good)]), "good"),
        ("revoked", says(&[single(Status::Revoked)]), "revoked"),
        ("on hold", says(&[single(Status::Held)]), "revoked"),
        ("unknown", says(&[single(Status::Unknown)]), "does not know it"),
        ("nobody", says(&[]), "no CRL of its issuer"),
        ("SHA-256", says(&[with(DigestAlgorithm::Sha256)]), "good"),
        ("SHA-512", says(&[with(DigestAlgorithm::Sha512)]), "good"),
        ("MD5", says(&[with(DigestAlgorithm::Md5)]), "no CRL of its issuer"),
        ("another's", says(&[Single::of(&bob, &ca(), Status::Good)]), "no CRL of its issuer"),
        (
            "by a key of that name",
            says(&[Single::of(&alice(), &namesake, Status::Good)]),
            "no CRL of its issuer",
        ),
        (
            "hers behind another's",
            says(&[Single::of(&bob, &ca(), Status::Good), single(Status::Revoked)]),
            "revoked",
        ),
        (
            "hers before another's",
            says(&[single(Status::Good), Single::of(&bob, &ca(), Status::Revoked)]),
            "good",
        ),
        (
            "twice hers, the newer counts",
            says(&[Single { from: -5, ..single(Status::Good) }, single(Status::Revoked)]),
            "revoked",
        ),
        ("what is critical", says(&[odd(true)]), "1.2.3.4 is not supported"),
        ("what is not", says(&[odd(false)]), "good"),
    ]);
}

#[test]
fn an_answer_counts_until_its_end_or_for_a_day() {
    let with = |from, until, status| Single { from, until, ..single(status) };
    let mut brief = Draft::new("Alice", ALICE, "CA").numbered(10);
    brief.validity = [b"\x17\x0d200101000000Z".to_vec(), b"\x17\x0d231115000000Z".to_vec()];
    check(&[
        ("at its end", says(&[with(-9, Some(0), Status::Good)]), "good"),
        ("behind its end", says(&[with(-9, Some(-1), Status::Good)]), "nextUpdate has passed"),
        ("without an end", says(&[with(-24, None, Status::Good)]), "good"),
        ("without an end, after a day", says(&[with(-25, None, Status::Good)]), "nextUpdate has passed"),
        ("revoked is for ever", says(&[with(-99, Some(-1), Status::Revoked)]), "revoked"),
        ("a hold is not", says(&[with(-99, Some(-1), Status::Held)]), "nextUpdate has passed"),
        // Mail is verified as of its time as well: whoever answers later knows more.
        ("from later", says(&[with(2, Some(9), Status::Good)]), "good"),
        ("from later, revoked before", says(&[with(2, Some(9), Status::Revoked)]), "revoked"),
    ]);
    // Once it has expired, a responder may have forgotten it.
    let (brief, ca) = (brief.sign(CA), ca());
    let later = Single { from: 99, until: Some(120), ..Single::of(&brief, &ca, Status::Good) };
    let found = crate::found(&brief, &[], &trust(&[], &[answer(&ca, CA, &[later], &[])]));
    assert!(found.contains("after the certificate had expired"), "{found}");
}

#[test]
fn revoked_outlives_the_certificate_of_whom_the_issuer_appointed_to_say_so() {
    let mut responder = Draft::new("Responder", 4, "CA")
        .numbered(40)
        .with(key_purposes(&[OCSP_SIGNING]))
        .with(extension("1.3.6.1.5.5.7.48.1.5", false, &[5, 0]));
    // From 300 days before the time of all tests.
    let ends = hour(-24 * 100);
    let utc = |time| der::asn1::UtcTime::from_system_time(time).unwrap().to_der().unwrap();
    responder.validity = [utc(hour(-24 * 300)), utc(ends)];
    let responder = responder.sign(CA);
    let said = |status, from: i64| {
        let single = Single { from, until: Some(from + 24), ..single(status) };
        trust(&[], &[answer(&responder, 4, &[single], std::slice::from_ref(&responder))])
    };
    check(&[
        ("revoked", said(Status::Revoked, -24 * 200), "revoked"),
        ("on hold", said(Status::Held, -24 * 200), "nextUpdate has passed"),
        ("revoked, said after the end", said(Status::Revoked, -24 * 50), "expired"),
        ("good, said after the end", said(Status::Good, -1), "expired"),
    ]);
}

#[test]
fn an_answer_says_by_itself_what_is_final_and_what_decides_nothing() {
    let (alice, ca) = (alice(), ca());
    for (status, is_final, decides) in [
        (Status::Good, false, true),
        (Status::Revoked, true, true),
        (Status::Held, false, true),
        (Status::Unknown, false, false),
    ] {
        let answer = answer(&ca, CA, &[single(status)], &[]);
        let found = (answer.is_final_for(&alice, &ca), answer.has_final(), answer.decides(&alice, &ca));
        assert_eq!(found, (is_final, is_final, decides), "{status:?}");
        let bob = Draft::new("Bob", 3, "CA").numbered(11).sign(CA);
        assert!(!answer.is_final_for(&bob, &ca) && !answer.decides(&bob, &ca), "{status:?}");
    }
    let late = Single { from: 24 * 365 * 99, until: None, ..single(Status::Good) };
    assert!(!answer(&ca, CA, &[late], &[]).decides(&alice, &ca));
    let odd = Single { extensions: vec![extension("1.2.3.4", true, &[5, 0])], ..single(Status::Revoked) };
    assert!(!answer(&ca, CA, &[odd], &[]).decides(&alice, &ca));
}

#[test]
fn only_the_issuer_answers_and_whom_it_appointed() {
    let no_check = || extension("1.3.6.1.5.5.7.48.1.5", false, &[5, 0]);
    let delegate = |issuer| Draft::new("Responder", 4, issuer).numbered(40);
    let appointed = |issuer| delegate(issuer).with(key_purposes(&[OCSP_SIGNING])).with(no_check());
    let other = Draft::ca("Other", 9, "Other").sign(9);
    let mut expired = appointed("CA");
    expired.validity = [b"\x17\x0d200101000000Z".to_vec(), b"\x17\x0d210101000000Z".to_vec()];
    let good = || [single(Status::Good)];
    let by = |delegate: Certificate, key| {
        trust(&[], &[answer(&delegate, key, &good(), std::slice::from_ref(&delegate))])
    };
    let mail = "1.3.6.1.5.5.7.3.4";
    let with_usage = |unused, bits| {
        let usage = wrap(Tag::BIT_STRING, &[vec![unused, bits]]);
        appointed("CA").with(extension("2.5.29.15", true, &usage)).sign(CA)
    };
    let checked = delegate("CA").with(key_purposes(&[OCSP_SIGNING])).sign(CA);
    let not_signed = |key| trust(&[], &[answer(&ca(), key, &good(), &[])]);
    check(&[
        ("appointed", by(appointed("CA").sign(CA), 4), "good"),
        ("without a purpose", by(delegate("CA").with(no_check()).sign(CA), 4), "no OCSPSigning"),
        (
            "for mail",
            by(delegate("CA").with(key_purposes(&[mail])).with(no_check()).sign(CA), 4),
            "no OCSPSigning",
        ),
        ("of another CA", by(appointed("Other").sign(9), 4), "whom the issuer appointed"),
        ("of another CA, in the name of this one", by(appointed("CA").sign(9), 4), "signature"),
        ("expired", by(expired.sign(CA), 4), "expired"),
        ("another key than the delegate's", by(appointed("CA").sign(CA), 5), "signature does not verify"),
        (
            "another CA",
            trust(&[], &[answer(&other, 9, &good(), std::slice::from_ref(&other))]),
            "whom the issuer appointed",
        ),
        ("another key in the CA's name", not_signed(9), "not signed by the issuer"),
        ("herself", by(alice(), ALICE), "no OCSPSigning"),
        ("for signatures", by(with_usage(7, 0x80), 4), "good"),
        ("for content", by(with_usage(6, 0x40), 4), "good"),
        ("for keys", by(with_usage(5, 0x20), 4), "no digitalSignature"),
        (
            "in the CA's name",
            trust(&[], &[answer(&ca(), 4, &good(), &[appointed("CA").sign(CA)])]),
            "not signed by",
        ),
        ("whose revocation is not known", by(checked, 4), "whether that was revoked"),
    ]);
}

#[test]
fn of_a_list_and_an_answer_the_newer_counts_and_revoked_always() {
    let both = |list: List, single| trust(&[list.sign()], &[answer(&ca(), CA, &[single], &[])]);
    let list = |from| List::by("CA", CA).from(from, Some(24));
    let held = |from| list(from).listing(&alice(), &[smime::testing::evidence::reason(6)]);
    let at = |from, status| Single { from, ..single(status) };
    check(&[
        ("a newer list", both(list(-1).listing(&alice(), &[]), at(-5, Status::Good)), "revoked"),
        ("an older list", both(list(-5).listing(&alice(), &[]), at(-1, Status::Good)), "revoked"),
        ("a newer answer", both(list(-5), at(-1, Status::Revoked)), "revoked"),
        ("an older answer", both(list(-1), at(-5, Status::Revoked)), "revoked"),
        ("an older hold", both(held(-5), at(-1, Status::Good)), "good"),
        ("a newer hold", both(held(-1), at(-5, Status::Good)), "revoked"),
        ("a list for who is not known", both(list(-1), at(-1, Status::Unknown)), "good"),
    ]);
}

#[test]
fn a_responder_that_answers_nothing_is_told_from_what_is_no_answer() {
    let whole = response(&ca(), CA, &[single(Status::Good)], &[]);
    assert!(OcspResponse::from_der(&whole).is_ok());
    for (code, word) in [
        (1, "malformedRequest"),
        (2, "internalError"),
        (3, "tryLater"),
        (4, "something unknown"),
        (5, "sigRequired"),
        (6, "unauthorized"),
    ] {
        let refused = [0x30, 3, 0x0A, 1, code];
        assert_eq!(OcspResponse::from_der(&refused).unwrap_err(), OcspError::Status(word));
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(matches!(OcspResponse::from_der(&longer), Err(OcspError::Malformed(_))));
    for end in 0..whole.len() {
        assert!(OcspResponse::from_der(whole.get(..end).unwrap()).is_err(), "{end} octets");
    }
}

/// Whether a delegate was revoked is told by a list that is about nobody else here.
#[test]
fn a_delegate_that_was_revoked_answers_no_more() {
    let uri = wrap(Tag(0x86), &[b"http://a.example/delegates".to_vec()]);
    let point = wrap(Tag::context(0), &[wrap(Tag::context(0), &[uri])]);
    let points = wrap(Tag::SEQUENCE, &[wrap(Tag::SEQUENCE, std::slice::from_ref(&point))]);
    let delegate = Draft::new("Responder", 4, "CA")
        .numbered(40)
        .with(key_purposes(&[OCSP_SIGNING]))
        .with(extension("2.5.29.31", false, &points))
        .sign(CA);
    let list = || List::by("CA", CA).about(std::slice::from_ref(&point));
    let with = |list: List| {
        let along = std::slice::from_ref(&delegate);
        trust(&[list.sign()], &[answer(&delegate, 4, &[single(Status::Good)], along)])
    };
    check(&[
        ("good", with(list()), "good"),
        ("revoked", with(list().listing(&delegate, &[])), "was revoked"),
        ("another is", with(list().listing_number(&[1, 0, 41], &[])), "good"),
    ]);
    let path = validate(&alice(), &[], &with(list()), at()).unwrap();
    assert_eq!(path.strength(), Strength::Strong);
}

#[test]
fn an_answer_is_kept_only_of_who_may_give_it_whatever_is_known_of_him() {
    let no_check = || extension("1.3.6.1.5.5.7.48.1.5", false, &[5, 0]);
    let delegate = || Draft::new("Responder", 4, "CA").numbered(40).with(key_purposes(&[OCSP_SIGNING]));
    let by = |delegate: Certificate, key| {
        answer(&delegate, key, &[single(Status::Good)], std::slice::from_ref(&delegate))
    };
    for (what, answer, expected) in [
        ("the issuer", answer(&ca(), CA, &[single(Status::Revoked)], &[]), None),
        ("another key", answer(&ca(), 9, &[single(Status::Good)], &[]), Some("not signed by the issuer")),
        ("appointed", by(delegate().with(no_check()).sign(CA), 4), None),
        ("by himself", by(delegate().with(no_check()).sign(4), 4), Some("signature")),
        ("who may be revoked", by(delegate().sign(CA), 4), Some("not known whether that was revoked")),
    ] {
        let found = answer.check_responder(&alice(), &ca(), at()).err();
        let fits = match (&found, expected) {
            (Some(found), Some(expected)) => found.contains(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(fits, "{what}: {found:?}");
    }
}

#[test]
fn who_answers_is_named_or_has_a_key_and_what_else_a_response_says_is_read_or_makes_it_useless() {
    let name = || wrap(Tag::context(1), &[ca().subject().to_der().unwrap()]);
    let hash = |key: &[u8]| Digest::of(DigestAlgorithm::Sha1, key).as_bytes().to_vec();
    let by_key = |hash| wrap(Tag::context(2), &[wrap(Tag::OCTET_STRING, &[hash])]);
    let version = |number| wrap(Tag::context(0), &[wrap(Tag::INTEGER, &[vec![number]])]);
    let time = |end: &str| wrap(Tag(0x18), &[format!("20231114211320{end}").into_bytes()]);
    let odd = |is_critical| extension("1.2.3.4", is_critical, &[5, 0]);
    let nonce = |value: &[u8]| extension("1.3.6.1.5.5.7.48.1.2", true, value);
    let malformed = "no response";
    for (what, front, extensions, expected, has_nonce) in [
        ("by name", vec![name(), time("Z")], vec![], "good", None),
        ("by key", vec![by_key(hash(ca().public_key())), time("Z")], vec![], "good", None),
        (
            "by another key",
            vec![by_key(hash(alice().public_key())), time("Z")],
            vec![],
            "not signed by",
            None,
        ),
        ("by neither", vec![wrap(Tag::context(3), &[hash(b"")]), time("Z")], vec![], malformed, None),
        ("version 1", vec![version(0), name(), time("Z")], vec![], "good", None),
        ("version 2", vec![version(1), name(), time("Z")], vec![], malformed, None),
        ("a fraction", vec![name(), time(".25Z")], vec![], "good", None),
        ("no fraction", vec![name(), time(".Z")], vec![], malformed, None),
        ("a fraction of letters", vec![name(), time(".2xZ")], vec![], malformed, None),
        ("another zone", vec![name(), time("+0100")], vec![], malformed, None),
        ("what is critical", vec![name(), time("Z")], vec![odd(true)], "1.2.3.4 is not supported", None),
        ("what is not", vec![name(), time("Z")], vec![odd(false)], "good", None),
        ("a nonce", vec![name(), time("Z")], vec![nonce(&[4, 2, 7, 8])], "good", Some(&[7, 8][..])),
        ("a bare nonce", vec![name(), time("Z")], vec![odd(false), nonce(&[7, 8])], "good", Some(&[7, 8])),
    ] {
        let der = odd_response(&front, CA, &[single(Status::Good)], &extensions, &[]);
        let Ok(response) = OcspResponse::from_der(&der) else {
            assert_eq!(expected, malformed, "{what}");
            continue;
        };
        assert_eq!((response.nonce(), response.der()), (has_nonce, der.as_slice()), "{what}");
        assert_eq!(response.validity_for(&alice(), &ca()), Some((hour(-1), hour(24))), "{what}");
        assert_eq!(response.validity_for(&ca(), &ca()), None, "{what}");
        let found = crate::found(&alice(), &[], &trust(&[], &[response]));
        assert!(fits(&found, expected), "{what}: {found}");
    }
}

#[test]
fn revocation_is_asked_for_by_plain_http_alone_and_at_few_places() {
    let long = |len: usize| format!("http://{}", "a".repeat(len - 7));
    for (uris, expected) in [
        (vec!["http://a/1", "HTTP://b/2"], vec!["http://a/1", "HTTP://b/2"]),
        (vec!["https://a/1", "ldap://a/1", "file:///a", "http:/", "", "http://b/2"], vec!["http://b/2"]),
        (vec!["http://a/ 1", "http://a/\t", "http://a/\r\nX: y"], vec![]),
        (
            vec!["http://1", "http://2", "http://3", "http://4", "http://5"],
            vec!["http://1", "http://2", "http://3", "http://4"],
        ),
        (vec![&long(2048), &long(2049)], vec![&long(2048)]),
    ] {
        let name = |uri: &&str| wrap(Tag(0x86), &[uri.as_bytes().to_vec()]);
        let names: Vec<_> = uris.iter().map(name).collect();
        let point = wrap(Tag::context(0), &[wrap(Tag::context(0), &names)]);
        let points = wrap(Tag::SEQUENCE, &[wrap(Tag::SEQUENCE, &[point])]);
        let method = |method: &'static str| {
            move |name: &Vec<u8>| {
                let oid = method.parse::<ObjectIdentifier>().unwrap().to_der().unwrap();
                wrap(Tag::SEQUENCE, &[oid, name.clone()])
            }
        };
        // Where the issuer's certificates are is no responder.
        let issuers = [method("1.3.6.1.5.5.7.48.2")(&name(&"http://issuer/"))].into_iter();
        let access: Vec<_> = issuers.chain(names.iter().map(method("1.3.6.1.5.5.7.48.1"))).collect();
        let leaf = |extension| Draft::new("Alice", ALICE, "CA").with(extension).sign(CA);
        let with_lists = leaf(extension("2.5.29.31", false, &points));
        let with_deltas = leaf(extension("2.5.29.46", false, &points));
        let with_responders = leaf(extension("1.3.6.1.5.5.7.1.1", false, &wrap(Tag::SEQUENCE, &access)));
        let all = |leaf| [crl_urls(leaf), delta_crl_urls(leaf), ocsp_urls(leaf)];
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(all(&with_lists), [expected.clone(), vec![], vec![]], "{uris:?}");
        assert_eq!(all(&with_deltas), [vec![], expected.clone(), vec![]], "{uris:?}");
        assert_eq!(all(&with_responders), [vec![], vec![], expected], "{uris:?}");
    }
}
