//! Who gets opened text: those whose keys open it, whoever is named.

use std::sync::atomic::Ordering;

use agent::{Envelope, Told};
use smime::{
    Fault,
    cipher::ContentCipher,
    mime::Message,
    testing::{Node, fixtures::now},
};

use super::{
    HEADER, TEXT,
    around::signed_around,
    fate,
    site::{
        INFOS, by_no_known_algorithm, entity, forged, mail, of, scribbled, sealed, sealed_by, site, twice,
    },
};

#[test]
fn text_is_for_those_whose_keys_open_it_whoever_is_named() {
    let (alone, both) = (sealed(TEXT, &["alice"]), sealed(TEXT, &["alice", "bob"]));
    let nested = |inner: &[u8], to: &[&str]| sealed(&entity(inner), to);
    let [with, without] = [true, false].map(|has_copies| site("", "", has_copies));
    for (what, object, to, readers, uses) in [
        ("both keys are right", both.clone(), &["alice", "bob"][..], &["alice", "bob"][..], 2),
        ("another key for bob", forged(&alone, &["bob"]), &["alice", "bob"], &["alice"], 2),
        ("another before his", twice(&sealed(TEXT, &["bob"]), "bob", 1), &["bob"], &["bob"], 2),
        ("three of them", twice(&both, "bob", 3), &["alice", "bob"], &["alice", "bob"], 5),
        ("too many", twice(&both, "bob", 4), &["alice", "bob"], &["alice"], 5),
        ("twice by agreement", twice(&sealed(TEXT, &["p256"]), "p256", 1), &["p256"], &["p256"], 2),
        ("twice, and none is right", twice(&forged(&alone, &["bob"]), "bob", 1), &["bob"], &[], 2),
        ("no key for bob", scribbled(both.clone(), "bob"), &["alice", "bob"], &["alice"], 2),
        ("no key for alice", scribbled(both.clone(), "alice"), &["alice", "bob"], &["bob"], 2),
        ("another by agreement", forged(&alone, &["p256"]), &["p256", "alice"], &["alice"], 2),
        ("by agreement and not", sealed(TEXT, &["alice", "p256"]), &["p256", "alice"], &["alice", "p256"], 2),
        ("two are forged", forged(&alone, &["bob", "p256"]), &["bob", "alice", "p256"], &["alice"], 3),
        (
            "one of three is",
            forged(&sealed(TEXT, &["alice", "p256"]), &["bob"]),
            &["bob", "p256", "alice"],
            &["alice", "p256"],
            3,
        ),
        ("named twice", forged(&alone, &["bob"]), &["bob", "alice", "bob"], &["alice"], 2),
        ("alone", forged(&alone, &["bob"]), &["bob"], &[], 1),
        ("alone and right", alone.clone(), &["alice"], &["alice"], 1),
        ("his key of before", sealed(TEXT, &["alice", "before"]), &["alice", "bob"], &["alice", "bob"], 2),
        ("that is forged", forged(&both, &["before"]), &["bob", "alice"], &["alice", "bob"], 3),
        ("and the other", forged(&sealed(TEXT, &["alice", "before"]), &["bob"]), &["bob"], &["bob"], 2),
        ("a key that they share", sealed(TEXT, &["shared"]), &["bob", "alice"], &["alice", "bob"], 1),
        ("nor is that one", forged(&alone, &["shared"]), &["bob", "alice"], &["alice"], 2),
        ("inside", nested(&forged(&alone, &["bob"]), &["alice", "bob"]), &["bob", "alice"], &["alice"], 4),
        ("outside", forged(&nested(&both, &["alice"]), &["bob"]), &["bob", "alice"], &["alice"], 4),
        ("in both", nested(&both, &["alice", "bob"]), &["bob", "alice"], &["alice", "bob"], 4),
    ] {
        let mail = mail(&object);
        let turned: Vec<_> = to.iter().rev().copied().collect();
        for to in [to, &turned] {
            assert_eq!(with.readers(to, &mail).0, readers, "{what} {to:?}");
            // One text for all: then nobody may be among them who cannot open it.
            let all: &[&str] = if readers.len() == to.len() { readers } else { &[] };
            assert_eq!(without.readers(to, &mail).0, all, "{what} {to:?}, no copies");
        }
        let is_nested = ["inside", "outside", "in both"].contains(&what);
        let (_, asked) = with.readers(to, &mail);
        // Keys of a layer are asked whatever comes of them.
        assert!(asked == uses || (is_nested && asked <= uses), "{what}: {asked} of {uses}");
    }
}

#[test]
fn what_came_of_a_key_shows_in_no_reply_and_in_no_count_of_operations() {
    let alone = sealed(TEXT, &["alice"]);
    let objects = [
        sealed(TEXT, &["alice", "bob"]),
        forged(&alone, &["bob"]),
        scribbled(sealed(TEXT, &["alice", "bob"]), "bob"),
        scribbled(scribbled(sealed(TEXT, &["alice", "bob"]), "bob"), "alice"),
    ];
    for rules in [
        "[[incoming]]\non-undecrypted = \"tag\"\n",
        "[[incoming]]\non-unsigned = \"reject\"\n",
        "[[incoming]]\nto = \"bob@example.org\"\non-neutral = \"quarantine\"\n",
    ] {
        for has_copies in [true, false] {
            let site = site("", rules, has_copies);
            let told: Vec<_> = objects
                .iter()
                .map(|object| {
                    let result = site.treat(&["bob", "alice"], &mail(object));
                    let word = fate(&result).split(' ').next().map(str::to_owned);
                    (word, site.uses.load(Ordering::SeqCst))
                })
                .collect();
            assert!(told.iter().all(|one| *one == told[0] && one.1 == 2), "{rules} {told:?}");
        }
    }
}

#[test]
fn how_many_copies_there_are_does_not_tell_whether_ciphertext_opened() {
    let alone = sealed_by(ContentCipher::Aes256Cbc, TEXT, &["alice"]);
    let both = sealed_by(ContentCipher::Aes256Cbc, TEXT, &["alice", "bob"]);
    let nested = |inner: &[u8]| sealed_by(ContentCipher::Aes256Cbc, &entity(inner), &["alice", "bob"]);
    let rule = |name: &str| format!("[[incoming]]\nto = \"{name}@example.org\"\n");
    let tags = format!("{}subject-tag = true\n", rule("bob"));
    for (rules, object, forms) in [
        ("", &both, 1),
        ("", &forged(&alone, &["bob"]), 2),
        ("", &scribbled(both.clone(), "bob"), 2),
        ("", &scribbled(forged(&alone, &["bob", "p256"]), "bob"), 3),
        ("", &nested(&forged(&sealed(TEXT, &["alice"]), &["bob"])), 1),
        ("", &nested(&sealed(TEXT, &["alice"])), 1),
        (&tags, &both, 2),
        (&format!("{tags}strip-signature = true\n"), &both, 2),
        (&format!("{}{}", rule("bob"), rule("alice")), &both, 1),
    ] {
        let site = site("", rules, true);
        for to in [["alice", "bob", "p256"], ["p256", "bob", "alice"]] {
            let to: Vec<_> = to.into_iter().filter(|to| forms == 3 || *to != "p256").collect();
            for is_changed in [false, true] {
                let mut object = object.clone();
                // In CBC the last octet of the block before the last one decides over the padding.
                let at = object.len() - 17;
                object[at] ^= u8::from(is_changed);
                let outcome = site.treat(&to, &mail(&object)).unwrap();
                assert_eq!(outcome.copies.len() + 1, forms, "{rules}{to:?}, {is_changed}: {outcome:?}");
                // By a key that the sender made up noise opens, once in some 256 times: that he knows before.
                let shows = |octets: &[u8]| octets.windows(6).any(|six| six == b"Hello.");
                let is_opened = outcome.edits.body.as_deref().is_some_and(shows)
                    || outcome.copies.iter().any(|copy| shows(&copy.octets));
                assert!(!is_changed || !is_opened, "{rules}{to:?}: {outcome:?}");
            }
        }
    }
}

#[test]
fn nor_how_many_there_are_for_two_certificates_of_one_key() {
    let site = site("", "", true);
    for cipher in [ContentCipher::Aes256Cbc, ContentCipher::Aes256Gcm] {
        let mut node = Node::parse(&sealed_by(cipher, TEXT, &["twin", "other-twin"]));
        let key = node.at(&INFOS).get(&[0, 3]).clone();
        let bad = Node::primitive(key.tag, vec![0x5a; 256]);
        for (keys, readers, forms) in [
            ([&key, &key], &["other-twin", "twin"][..], 1),
            ([&bad, &bad], &[], 1),
            ([&bad, &key], &["twin"], 2),
        ] {
            for (at, key) in keys.into_iter().enumerate() {
                node.at(&INFOS).nodes()[at].nodes()[3] = key.clone();
            }
            let mail = mail(&node.to_der());
            let outcome = site.treat(&["twin", "other-twin"], &mail).unwrap();
            assert_eq!(outcome.copies.len() + 1, forms, "{cipher:?} {readers:?}: {outcome:?}");
            let found = site.readers(&["twin", "other-twin"], &mail).0;
            assert!(
                found == readers || (forms == 2 && found.len() == 1),
                "{cipher:?} {readers:?}: {found:?}"
            );
        }
    }
}

#[test]
fn copies_are_made_of_what_is_held_as_of_what_is_delivered() {
    let bobs = "[[incoming]]\nto = \"bob@example.org\"\n";
    let mail = mail(&sealed_by(ContentCipher::Aes256Cbc, TEXT, &["alice", "bob"]));
    let mail = Message::from_stored(mail.as_bytes());
    for (more, action, is_sent) in
        [("subject-tag = true\n", "opened", true), ("on-unsigned = \"quarantine\"\n", "quarantined", false)]
    {
        let site = site("", &format!("{bobs}{more}"), true);
        for (told, copies) in [(Told::AsWritten, 1), (Told::Rewritten, 2)] {
            let envelope = Envelope {
                sender: "friend@example.net".to_owned(),
                recipients: ["alice", "bob"].map(|name| format!("{name}@example.org")).to_vec(),
                client: "192.0.2.7".parse().ok(),
                told,
                ..Envelope::default()
            };
            let mut made = 0;
            let mut keep = |_: agent::Copy| {
                made += 1;
                Ok(())
            };
            let outcome = site.agent.treat_and_keep(&envelope, &mail, now(), &mut keep).unwrap();
            assert_eq!((outcome.action, outcome.disposition.sends_copies(), made), (action, is_sent, copies));
            let sent = site.agent.treat(&envelope, &mail, now()).unwrap().copies.len();
            assert_eq!(sent, if is_sent { copies } else { 0 });
        }
    }
}

#[test]
fn nothing_that_anybody_can_change_is_opened_where_its_readers_keys_differ() {
    let site = site("", "", true);
    let cbc = |to: &[&str]| sealed_by(ContentCipher::Aes256Cbc, TEXT, to);
    // As captured, and with bad padding: what a key that somebody added gives is the same each time.
    let broken = |mut object: Vec<u8>| {
        let at = object.len() - 17;
        object[at] ^= 1;
        object
    };
    for (what, object, readers) in [
        ("named once", cbc(&["bob"]), &["bob"][..]),
        ("named by both of his", cbc(&["before", "bob"]), &["bob"]),
        ("another key before", twice(&cbc(&["bob"]), "bob", 1), &[]),
        ("three of them", twice(&cbc(&["bob"]), "bob", 3), &[]),
        ("no key beside it", scribbled(twice(&cbc(&["bob"]), "bob", 1), "bob"), &[]),
        ("another for his key of before", forged(&cbc(&["alice", "bob"]), &["before"]), &[]),
        ("no key for that", scribbled(cbc(&["before", "bob"]), "before"), &[]),
        ("one that is for nobody", by_no_known_algorithm(twice(&cbc(&["bob"]), "bob", 1), "bob"), &["bob"]),
    ] {
        assert_eq!(site.readers(&["bob"], &mail(&object)).0, readers, "{what}");
        let asked = site.uses.load(Ordering::SeqCst);
        let outcomes = [object.clone(), broken(object)].map(|object| {
            let outcome = site.treat(&["bob"], &mail(&object)).unwrap();
            assert_eq!(site.uses.load(Ordering::SeqCst), asked, "{what}");
            (outcome.action, outcome.edits.body.is_some(), outcome.edits.returned, outcome.edits.append)
        });
        assert!(outcomes[0] == outcomes[1] || !readers.is_empty(), "{what}: {outcomes:?}");
    }
    // Whoever owns another key only is no matter.
    let others = forged(&cbc(&["alice"]), &["bob"]);
    assert_eq!(site.readers(&["bob", "alice"], &mail(&others)).0, ["alice"]);
}

#[test]
fn what_might_not_come_back_as_a_copy_in_one_of_its_forms_is_put_to_no_key() {
    let object = forged(&sealed(TEXT, &["alice"]), &["bob"]);
    let mail = |fields: usize| format!("{}{}", "X-A: b\r\n".repeat(fields), mail(&object));
    for (has_copies, fields, readers) in [(true, 700, &["alice"][..]), (true, 800, &[]), (false, 800, &[])] {
        let site = site("", "", has_copies);
        assert_eq!(site.readers(&["alice", "bob"], &mail(fields)).0, readers, "{has_copies} {fields}");
        // Where nobody sends copies none come back.
        let asked = site.uses.load(Ordering::SeqCst);
        assert_eq!(asked > 0, fields == 700 || !has_copies, "{has_copies} {fields}: {asked}");
    }
}

#[test]
fn while_the_key_of_one_of_them_is_away_all_wait() {
    for has_copies in [true, false] {
        let site = site("", "", has_copies);
        for object in [sealed(TEXT, &["alice", "bob"]), forged(&sealed(TEXT, &["alice"]), &["bob"])] {
            for away in ["alice", "bob"] {
                *site.away.lock().unwrap() = vec![of(away)];
                for to in [["alice", "bob"], ["bob", "alice"]] {
                    let error = site.treat(&to, &mail(&object)).unwrap_err();
                    assert_eq!(error.fault(), Fault::Transient, "{away} of {to:?}");
                }
            }
            // Whose key is not asked is not waited for.
            *site.away.lock().unwrap() = vec![of("p256")];
            site.treat(&["alice", "bob"], &mail(&object)).unwrap();
        }
    }
}

#[test]
fn a_key_that_is_away_below_an_opened_layer_keeps_no_mail_waiting() {
    let inside = entity(&sealed(TEXT, &["before"]));
    let right = sealed(&inside, &["alice", "bob"]);
    let scribbled = |name| scribbled(sealed(&inside, &["alice", "bob"]), name);
    for has_copies in [true, false] {
        let site = site("", "", has_copies);
        *site.away.lock().unwrap() = vec![of("before")];
        // Whether the outer one opens shows in no reply; it is opened for those whose keys do.
        for (object, count) in [(&right, 2), (&scribbled("alice"), 1), (&scribbled("bob"), 1)] {
            let mail = mail(object);
            let outcome = site.treat(&["alice", "bob"], &mail).unwrap();
            let kept = outcome.edits.apply(&Message::from_stored(mail.as_bytes()));
            let is_open = |octets: &[u8]| !octets.windows(64).any(|octets| mail.as_bytes().ends_with(octets));
            let stay = 2 - outcome.edits.remove_recipients.len();
            let copies = outcome.copies.iter().filter(|copy| is_open(&copy.octets));
            let opened: usize = copies.map(|copy| copy.recipients.len()).sum();
            let opened = opened + if is_open(kept.octets()) { stay } else { 0 };
            assert_eq!(opened, if has_copies || count == 2 { count } else { 0 }, "{outcome:?}");
        }
        *site.away.lock().unwrap() = vec![of("bob")];
        site.treat(&["alice", "bob"], &mail(&right)).unwrap_err();
    }
}

#[test]
fn nor_does_a_signature_around_that_layer_pass() {
    let site = site("", "[[incoming]]\nrequire-signed = true\n", true);
    let inside = signed_around(&mail(&sealed(TEXT, &["before"])));
    let mail = mail(&sealed(inside.strip_prefix(HEADER).unwrap(), &["bob"]));
    for away in [vec![], vec![of("before")]] {
        *site.away.lock().unwrap() = away;
        let outcome = site.treat(&["bob"], &mail);
        assert_eq!(fate(&outcome), "held tagged encrypted");
        assert_eq!(outcome.unwrap().verdict.unwrap().result().as_str(), "policy");
    }
}

#[test]
fn so_it_is_with_ciphertext_for_us_that_one_of_us_sends() {
    let site = site("", "", true);
    let mail = mail(&forged(&sealed(TEXT, &["alice"]), &["bob"]));
    let message = Message::from_stored(mail.as_bytes());
    let envelope = Envelope {
        sender: "bob@example.org".to_owned(),
        recipients: ["bob@example.org", "alice@example.org"].map(str::to_owned).to_vec(),
        client: "192.0.2.7".parse().ok(),
        login: Some("bob".to_owned()),
        ..Envelope::default()
    };
    let outcome = site.agent.treat(&envelope, &message, now()).unwrap();
    let kept = outcome.edits.apply(&message);
    let is_open = |octets: &[u8]| octets.windows(6).any(|octets| octets == b"Hello.");
    let [copy] = &outcome.copies[..] else { panic!("{outcome:?}") };
    assert_eq!(outcome.edits.remove_recipients, copy.recipients);
    for (recipients, octets) in
        [(&copy.recipients[..], &copy.octets[..]), (&envelope.recipients, kept.octets())]
    {
        let names: Vec<_> =
            recipients.iter().filter(|to| octets == copy.octets || !copy.recipients.contains(to)).collect();
        assert_eq!(is_open(octets), names == ["alice@example.org"], "{names:?}");
    }
}
