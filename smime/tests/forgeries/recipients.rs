//! RecipientInfos: keys that are oracles, points on no curve, and structures that crashed their readers.

use const_oid::db::rfc5912::ID_P_SPECIFIED;
use smime::{
    Fault,
    ber::Tag,
    cipher::ContentCipher,
    key::Decryptor as _,
    testing::{Node, enveloped_data, fixtures::data},
};

use crate::{
    opening::{Counting, Outcome, nothing_of_the_text, open, sealed},
    support::TEXT,
};

/// RFC 3218, CVE-2019-1563: which of several keys is right is not tried out. The key is asked once, for the
/// RecipientInfo that names its certificate.
#[test]
fn the_key_is_asked_once_for_the_recipient_info_that_names_it() {
    let (alice, bob) = (Counting::of("alice"), Counting::of("bob"));
    let object = data("two.p7m");
    for token in [&alice, &bob] {
        assert_eq!(open(&object, token), Outcome::Opened(TEXT.as_bytes().to_vec()));
    }
    // The keys change places: each is asked for the other's, once, and nobody tries the next one.
    let mut swapped = Node::parse(&object);
    let infos = swapped.at(&[1, 0, 1]).nodes();
    let key = |info: &Node| info.get(&[3]).clone();
    let (first, second) = (key(&infos[0]), key(&infos[1]));
    *infos[0].at(&[3]) = second;
    *infos[1].at(&[3]) = first;
    for token in [&alice, &bob] {
        nothing_of_the_text(&open(&swapped.to_der(), token), "swapped");
    }
    assert_eq!(open(&object, &Counting::of("revoked")), Outcome::NotForUs);
}

/// RFC 3218, the Marvin attack (CVE-2022-4304, RUSTSEC-2023-0071, CVE-2023-5992): every bad encrypted key has the
/// outcome of a wrong one.
#[test]
fn every_bad_encrypted_key_has_one_outcome() {
    let bob = Counting::of("bob");
    let base = sealed(ContentCipher::Aes256Gcm);
    let key_at = [1, 0, 1, 0, 3];
    let len = base.clone().at(&key_at).octets().len();
    for (what, octets) in [
        ("empty", vec![]),
        ("zero", vec![0; len]),
        ("one", [vec![0; len - 1], vec![1]].concat()),
        ("too large", vec![0xff; len]),
        ("too short", vec![7; len - 1]),
        ("too long", vec![7; len + 1]),
        ("of another key", sealed(ContentCipher::Aes128Cbc).at(&key_at).octets().clone()),
        ("very long", vec![7; 100_000]),
    ] {
        let mut forged = base.clone();
        *forged.at(&key_at).octets() = octets;
        assert_eq!(open(&forged.to_der(), &bob), Outcome::Undecryptable, "{what}");
    }
}

/// CVE-2026-63072 (lengths in the unwrapping of AES keys), and the checks of RFC 3394.
#[test]
fn wrapped_keys_of_every_length_and_value_are_survived_and_give_nothing() {
    let p256 = Counting::of("p256");
    let base = Node::parse(&data("agree-p256.p7m"));
    let wrapped = [1, 0, 1, 0, 3, 0, 1];
    assert_eq!(open(&base.to_der(), &p256), Outcome::Opened(TEXT.as_bytes().to_vec()));
    let original = base.get(&wrapped).clone().octets().clone();
    let lengths = (0..80).chain([255, 256, 4096, 65_536]).map(|len| {
        let mut octets = original.clone();
        octets.resize(len, 0xA6);
        octets
    });
    let values = (0..original.len()).map(|at| {
        let mut octets = original.clone();
        octets[at] ^= 1;
        octets
    });
    for octets in lengths.chain(values).filter(|octets| *octets != original) {
        let mut forged = base.clone();
        *forged.at(&wrapped).octets() = octets.clone();
        nothing_of_the_text(&open(&forged.to_der(), &p256), &format!("{} octets", octets.len()));
    }
}

/// Invalid curve points (Biehl et al. 2000; RFC 5753 7.1): the key is not asked about a point that is not on its curve.
#[test]
fn a_point_that_is_not_on_the_curve_does_not_reach_the_key() {
    let p256 = Counting::of("p256");
    let point = [1, 0, 1, 0, 1, 0, 1];
    let base = Node::parse(&data("agree-p256.p7m"));
    for (what, change) in [
        ("another y", (|octets| octets[65] ^= 1) as fn(&mut Vec<u8>)),
        ("another x", |octets| octets[1 + 5] ^= 1),
        ("zero", |octets| octets[2..].fill(0)),
        ("the point at infinity", |octets| {
            octets.truncate(2);
            octets[1] = 0;
        }),
        ("hybrid form", |octets| octets[1] = 6),
        ("cut", |octets| octets.truncate(40)),
        ("none", Vec::clear),
    ] {
        let mut forged = base.clone();
        change(forged.at(&point).octets());
        nothing_of_the_text(&open(&forged.to_der(), &p256), what);
        assert_eq!(p256.asked(), 0, "{what}");
    }
}

/// CVE-2025-9230, CVE-2026-9076, CVE-2026-42766 (password recipients, RFC 3211): they are recognised and never used,
/// whatever they hold. The same for key-encryption keys.
#[test]
fn recipients_by_password_and_shared_key_are_passed_over_whatever_they_hold() {
    let (alice, bob) = (Counting::of("alice"), Counting::of("bob"));
    for name in ["pwri.p7m", "kek.p7m"] {
        // Beside theirs there is a key for bob.
        let base = Node::parse(&data(name));
        assert_eq!(open(&base.to_der(), &bob), Outcome::Opened(TEXT.as_bytes().to_vec()), "{name}");
        let infos = base.get(&[1, 0, 1]);
        let other = (0..2).find(|at| infos.get(&[*at]).tag != Tag::SEQUENCE).unwrap();
        let without_bob = base.without(&[1, 0, 1, 1 - other]);
        assert_eq!(open(&without_bob.to_der(), &bob), Outcome::NotForUs, "{name}");
        for path in base.paths().into_iter().filter(|path| path.starts_with(&[1, 0, 1, other])) {
            let change = |change: Node| {
                let mut forged = base.clone();
                *forged.at(&path) = change;
                forged
            };
            for forged in [
                change(Node::octet_string([])),
                change(Node::octet_string(vec![0; 5000])),
                change(Node::sequence([])),
                base.without(&path),
            ] {
                assert_eq!(open(&forged.to_der(), &alice), Outcome::NotForUs, "{name} {path:?}");
                match open(&forged.to_der(), &bob) {
                    Outcome::Opened(content) => assert_eq!(content, TEXT.as_bytes(), "{name} {path:?}"),
                    outcome => assert_eq!(outcome, Outcome::NotForUs, "{name} {path:?}"),
                }
            }
        }
    }
}

/// CVE-2026-28389 and CVE-2026-28390: crashes where parameters that are OPTIONAL are missing (key agreement, OAEP).
#[test]
fn recipients_without_their_optional_parameters_are_survived_and_give_no_other_text() {
    for (name, recipient) in [("agree-p256.p7m", "p256"), ("oaep256.p7m", "bob"), ("oaep.p7m", "bob")] {
        let token = Counting::of(recipient);
        let base = Node::parse(&data(name));
        for path in base.paths().into_iter().filter(|path| !path.is_empty()) {
            let outcome = open(&base.without(&path).to_der(), &token);
            if outcome != Outcome::Opened(TEXT.as_bytes().to_vec()) {
                nothing_of_the_text(&outcome, &format!("{name} without {path:?}"));
            }
            token.asked();
        }
    }
}

/// RFC 4055 4.1 lets a sender put a label of any length beside the key. It would go to the token and into records.
#[test]
fn a_key_under_a_long_oaep_label_is_refused_before_the_token_is_asked() {
    let bob = Counting::of("bob");
    let with_label = |octets| {
        let mut forged = Node::parse(&data("oaep256.p7m"));
        let label = Node::octet_string(vec![7; octets]);
        let source = Node::sequence([Node::oid(ID_P_SPECIFIED), label]);
        forged.at(&[1, 0, 1, 0, 2, 1]).nodes().push(Node::constructed(Tag::context(2), [source]));
        forged.to_der()
    };
    for octets in [1, 256] {
        // The decoy's padding is right by chance now and then.
        let outcome = open(&with_label(octets), &bob);
        assert_ne!(outcome, Outcome::Refused, "{octets}");
        nothing_of_the_text(&outcome, &octets.to_string());
    }
    for octets in [257, 10_000] {
        assert_eq!(open(&with_label(octets), &bob), Outcome::Refused, "{octets}");
    }
    let object = with_label(10_000);
    let enveloped = enveloped_data(&object);
    let error = enveloped.open(enveloped.recipient_for(bob.certificate()).unwrap(), &bob).unwrap_err();
    assert!(error.to_string().contains("label of 10000 octets"), "{error}");
    assert_eq!(error.fault(), Fault::Message);
}
