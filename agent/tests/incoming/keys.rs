//! Who gets opened text: those whose keys open it, whoever is named.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent::{Agent, Envelope, Identities, Identity, Outcome, Returned, Told, settings::Logins};
use smime::{
    Certificate, Fault,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::KeyEncryptionAlgorithm,
    cipher::ContentCipher,
    cms::{self, Keep, Proof, RecipientKey},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    mime::{Message, encode_base64},
    testing::{
        MemoryKey, Node,
        authority::{Authority, Wanted},
        fixtures::{certificate, key, now},
    },
};

use super::{HEADER, TEXT, around::signed_around, fate, settings};

/// A key that counts its uses, and may be away.
#[derive(Debug)]
struct Asked {
    key: MemoryKey,
    uses: Arc<AtomicUsize>,
    away: Arc<Mutex<Vec<Certificate>>>,
}

impl Asked {
    fn once<T>(&self, answer: impl FnOnce(&MemoryKey) -> Result<T, KeyError>) -> Result<T, KeyError> {
        self.uses.fetch_add(1, Ordering::SeqCst);
        if self.away.lock().unwrap().contains(Decryptor::certificate(&self.key)) {
            return Err(KeyError::Unavailable { token: "mail".to_owned(), reason: "lost".to_owned() });
        }
        answer(&self.key)
    }
}

impl Decryptor for Asked {
    fn certificate(&self) -> &Certificate {
        Decryptor::certificate(&self.key)
    }

    fn decrypt_key(&self, key: &[u8], algorithm: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        self.once(|memory| memory.decrypt_key(key, algorithm))
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        self.once(|memory| memory.agree(originator))
    }
}

/// Whoever answers in Alice's place with a key of his own: what he encrypts to others is not hers.
#[derive(Debug)]
struct Liar(Certificate);

impl Decryptor for Liar {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok(Unwrapped::Key(ContentEncryptionKey::new(vec![0x5a; 32])))
    }
}

/// A site with alice, bob, his key of before, p256, a mailbox that alice and bob share, and two whose certificates have one key.
struct Site {
    agent: Agent,
    uses: Arc<AtomicUsize>,
    away: Arc<Mutex<Vec<Certificate>>>,
}

/// A certificate of an authority here: by its own name, or a fixture's.
fn of(name: &str) -> Certificate {
    Decryptor::certificate(&owned(name)).clone()
}

fn owned(name: &str) -> MemoryKey {
    let issued = |key, serial, addresses: &[&str]| {
        let wanted = Wanted { key, name, addresses, serial, ..Wanted::default() };
        Authority::root("Root", "alice").issue_key(&wanted)
    };
    match name {
        "before" => issued("revoked", 70, &["bob@example.org"]),
        "shared" => issued("mallory", 71, &["alice@example.org", "bob@example.org", "p256@example.org"]),
        "twin" => issued("bob", 72, &["twin@example.org"]),
        "other-twin" => issued("bob", 73, &["other-twin@example.org"]),
        other => key(other),
    }
}

fn site(milter: &str, rules: &str, has_copies: bool) -> Site {
    let (uses, away) = (Arc::default(), Arc::default());
    let identity = |name| {
        let asked = Asked { key: owned(name), uses: Arc::clone(&uses), away: Arc::clone(&away) };
        let certificate = Decryptor::certificate(&asked).clone();
        Identity::new(certificate, Vec::new(), Logins::Address, Arc::new(owned(name)), Arc::new(asked))
    };
    let identities = ["alice", "before", "bob", "p256", "shared", "twin", "other-twin"].map(identity);
    let agent = Agent::with_identities(&settings(milter, rules), Identities::from_parts(identities, "+"));
    Site { agent: if has_copies { agent.with_copies() } else { agent }, uses, away }
}

fn keys(names: &[&str]) -> Vec<RecipientKey> {
    names.iter().map(|name| RecipientKey::new(of(name)).unwrap()).collect()
}

fn sealed(entity: &str, to: &[&str]) -> Vec<u8> {
    sealed_by(ContentCipher::Aes256Gcm, entity, to)
}

pub(super) fn sealed_by(cipher: ContentCipher, entity: &str, to: &[&str]) -> Vec<u8> {
    cms::seal(&[entity.as_bytes()], cipher, &keys(to)).unwrap()
}

/// The same with RecipientInfos that somebody wrote for these, who cannot open it.
fn forged(object: &[u8], names: &[&str]) -> Vec<u8> {
    cms::rekey(object, &Liar(certificate("alice")), &keys(names), Keep::All, Proof::Key).unwrap()
}

/// The same with octets for somebody that are no key at all.
fn scribbled(mut object: Vec<u8>, name: &str) -> Vec<u8> {
    let serial = of(name).serial_number().to_vec();
    let at = object.windows(serial.len()).position(|octets| octets == serial).unwrap();
    let key = at + object[at..].windows(4).position(|octets| octets == [4, 0x82, 1, 0]).unwrap() + 4;
    object[key..key + 256].fill(0x5a);
    object
}

/// The same object with a key for somebody by an algorithm that nobody knows: sha1WithRSAEncryption.
fn by_no_known_algorithm(mut object: Vec<u8>, name: &str) -> Vec<u8> {
    let serial = of(name).serial_number().to_vec();
    let at = object.windows(serial.len()).position(|octets| octets == serial).unwrap();
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let algorithm = at + object[at..].windows(rsa.len()).position(|octets| octets == rsa).unwrap();
    object[algorithm + rsa.len() - 1] = 5;
    object
}

/// The place of the RecipientInfos in an object.
const INFOS: [usize; 3] = [1, 0, 1];

/// The same with so many other RecipientInfos in front of somebody's, which name the same certificate and do not open it.
fn twice(object: &[u8], name: &str, others: usize) -> Vec<u8> {
    let mut node = Node::parse(object);
    for _ in 0..others {
        let other = Node::parse(&sealed("Content-Type: text/plain\r\n\r\nAnother.\r\n", &[name]));
        node.at(&INFOS).nodes().insert(0, other.get(&INFOS).get(&[0]).clone());
    }
    node.to_der()
}

fn entity(object: &[u8]) -> String {
    format!(
        "Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data; name=smime.p7m\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        String::from_utf8(encode_base64(object)).unwrap()
    )
}

fn mail(object: &[u8]) -> String {
    format!("{HEADER}{}", entity(object))
}

impl Site {
    fn treat(&self, to: &[&str], mail: &str) -> Result<Outcome, agent::AgentError> {
        self.uses.store(0, Ordering::SeqCst);
        super::treat(&self.agent, to, mail)
    }

    /// Who gets the text, and how often keys were asked.
    fn readers(&self, to: &[&str], mail: &str) -> (Vec<String>, usize) {
        let outcome = self.treat(to, mail).unwrap();
        let uses = self.uses.load(Ordering::SeqCst);
        let mut readers = Vec::new();
        let mut count = 0;
        let mut look = |recipients: &[String], octets: &[u8], returned| {
            count += recipients.len();
            // Whether a key was right shows in no bounce.
            assert_eq!(returned, Returned::HeadersOnly, "{recipients:?} of {to:?}");
            if octets.windows(6).any(|octets| octets == b"Hello.") {
                readers.extend(recipients.iter().map(|to| to.replace("@example.org", "")));
            }
        };
        let removed = &outcome.edits.remove_recipients;
        let once: BTreeSet<&str> = to.iter().copied().collect();
        let stay: Vec<_> = once.iter().map(|to| format!("{to}@example.org")).collect();
        let stay: Vec<_> = stay.into_iter().filter(|to| !removed.contains(to)).collect();
        let kept = outcome.edits.apply(&Message::from_stored(mail.as_bytes()));
        look(&stay, kept.octets(), outcome.edits.returned);
        for copy in &outcome.copies {
            look(&copy.recipients, &copy.octets, copy.returned);
        }
        assert_eq!(count, once.len(), "each has one form: {outcome:?}");
        readers.sort();
        (readers, uses)
    }
}

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
