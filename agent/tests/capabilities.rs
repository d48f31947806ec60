//! Mail to people whose signed mail has told what they can open.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{
    fs, io,
    sync::{Arc, Mutex},
};

use agent::{Agent, AgentError, Envelope, Identities, Outcome, Recipient, Settings, store_of};
use certcache::{Announced, Cache, Insertion, Source};
use smime::{
    message::Wrapped,
    mime::Message,
    profile::Profile,
    store::RecipientCertificates,
    testing::{
        enveloped_data,
        fixtures::{certificate, data, now},
    },
};

/// SMIMECapabilities of ciphers under 2.16.840.1.101.3.4.1, by their last number.
fn ciphers(last: &[u8]) -> Vec<u8> {
    let octets = last.iter().flat_map(|last| [0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, *last]);
    let octets: Vec<u8> = octets.collect();
    [&[0x30, u8::try_from(octets.len()).unwrap()], octets.as_slice()].concat()
}

const AES_128_CBC: u8 = 2;
const AES_128_GCM: u8 = 6;
const AES_256_GCM: u8 = 46;

/// The agent of a rule that encrypts when possible, and a store that has these people, each with what was announced.
fn agent(rule: &str, people: &[(&str, Option<Vec<u8>>)]) -> (Agent, Arc<dyn RecipientCertificates>) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["root.pem", "ca.pem", "carol.pem", "p384.pem"] {
        fs::write(folder.path().join(name), data(name)).unwrap();
    }
    let text = format!(
        "[cache]\npath = \"cache\"\ntake = \"all\"\n[trust]\nanchors = [\"root.pem\"]\nintermediates = [\"ca.pem\"]\n\
         revocation = \"off\"\n[[rule]]\nsign = \"never\"\nencrypt = \"when-possible\"\n{rule}\n"
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    let cache = Arc::new(Cache::open(settings.cache().unwrap()).unwrap());
    for (name, capabilities) in people {
        let announced = capabilities.clone().map(|capabilities| Announced { at: now(), capabilities });
        let certificate = certificate(name);
        let insertion = Insertion { announced, ..Insertion::new(&certificate, Source::Imported) };
        cache.put(&[insertion], now()).unwrap();
    }
    let store = store_of(&settings, cache, settings.trust()).unwrap().unwrap();
    let agent = Agent::with_identities(&settings, Identities::default())
        .with_certificates(Arc::clone(&store))
        .with_copies();
    (agent, store)
}

fn addresses(people: &[(&str, Option<Vec<u8>>)]) -> Vec<String> {
    people.iter().map(|(name, _)| format!("{name}@example.org")).collect()
}

/// A letter to these.
fn letter(people: &[(&str, Option<Vec<u8>>)]) -> Message {
    let to = addresses(people).join(", ");
    Message::from_stored(format!("From: carol@example.org\r\nTo: {to}\r\n\r\nx\r\n").as_bytes())
}

/// What becomes of it.
fn treated(agent: &Agent, people: &[(&str, Option<Vec<u8>>)]) -> Result<(Message, Outcome), AgentError> {
    let envelope = Envelope {
        sender: "carol@example.org".to_owned(),
        recipients: addresses(people),
        login: Some("carol".to_owned()),
        ..Envelope::default()
    };
    let message = letter(people);
    let outcome = agent.treat(&envelope, &message, now())?;
    Ok((outcome.edits.apply(&message), outcome))
}

/// The cipher of a message, and for how many it is.
fn sealed(message: &Message) -> Option<(String, usize)> {
    let Ok(Some(Wrapped::Opaque(object))) = Wrapped::read(&message.entity()) else { return None };
    let enveloped = enveloped_data(&object);
    Some((enveloped.algorithm().unwrap().name().to_owned(), enveloped.recipients().len()))
}

/// The cipher of a letter to these.
fn cipher(profile: &str, people: &[(&str, Option<Vec<u8>>)]) -> String {
    let (agent, store) = agent(&format!("profile = \"{profile}\""), people);
    let letter = letter(people);
    let (message, outcome) = treated(&agent, people).unwrap();
    assert!(outcome.copies.is_empty());
    let Some((cipher, count)) = sealed(&message) else { return "plain".to_owned() };
    assert_eq!(count, people.len());
    // An archive is encrypted to them as mail is.
    let people: Vec<_> =
        people.iter().map(|(name, _)| Recipient::of(certificate(name), Some(&*store))).collect();
    let stored = Agent::encrypt_stored(&letter, &people, &Profile::named(profile).unwrap()).unwrap();
    assert_eq!(stored.reason, cipher);
    cipher
}

#[test]
fn the_cipher_is_the_best_that_all_who_get_it_have_announced() {
    let gcm = || Some(ciphers(&[AES_128_CBC, AES_256_GCM]));
    let cbc = || Some(ciphers(&[AES_128_CBC]));
    for (profile, people, expected) in [
        ("standard", vec![("alice", None)], "AES-256-CBC"),
        ("standard", vec![("alice", gcm())], "AES-256-GCM"),
        ("standard", vec![("alice", cbc())], "AES-128-CBC"),
        ("standard", vec![("alice", gcm()), ("bob", gcm())], "AES-256-GCM"),
        ("standard", vec![("alice", gcm()), ("bob", None)], "AES-128-CBC"),
        ("standard", vec![("alice", Some(b"what is none".to_vec()))], "AES-256-CBC"),
        ("authenticated", vec![("alice", None)], "AES-256-GCM"),
        ("compatible", vec![("alice", gcm())], "AES-128-CBC"),
    ] {
        assert_eq!(cipher(profile, &people), expected, "{profile} {people:?}");
    }
}

#[test]
fn what_one_has_announced_is_nobody_elses_misfortune() {
    let cbc = || Some(ciphers(&[AES_128_CBC]));
    let gcm = || Some(ciphers(&[AES_128_CBC, AES_256_GCM]));
    for bob in [gcm(), None] {
        for order in [0, 1] {
            let mut people = vec![("bob", bob.clone()), ("alice", cbc())];
            people.rotate_left(order);
            // Alice alone has no certificate that the profile can use.
            let (split, _) = agent("profile = \"authenticated\"", &people);
            let (message, outcome) = treated(&split, &people).unwrap();
            let [copy] = outcome.copies.as_slice() else { panic!("{people:?}: {outcome:?}") };
            let copied = sealed(&Message::from_stored(&copy.octets));
            assert_ne!(copied.is_some(), sealed(&message).is_some(), "{people:?}");
            assert_eq!(copied.is_some(), copy.recipients == ["bob@example.org"], "{people:?}");
            assert_eq!(copied.is_none(), copy.recipients == ["alice@example.org"], "{people:?}");
            let sealed = copied.or(sealed(&message));
            assert_eq!(sealed, Some(("AES-256-GCM".to_owned(), 1)), "{people:?}");
            let (deferred, _) = agent("profile = \"authenticated\"\nmixed = \"defer\"", &people);
            let error = treated(&deferred, &people).unwrap_err();
            assert!(matches!(error, AgentError::Mixed { is_final: false, .. }), "{error}");
        }
    }
}

#[test]
fn a_device_that_opens_nothing_of_the_profile_has_no_mail_leave_in_clear() {
    let cbc = || Some(ciphers(&[AES_128_CBC]));
    let both_gcm = Some(("AES-256-GCM".to_owned(), 2));
    let one_gcm = Some(("AES-256-GCM".to_owned(), 1));
    // Both are alice's.
    for (phone, pc, expected) in
        [(None, None, both_gcm), (cbc(), None, one_gcm.clone()), (None, cbc(), one_gcm), (cbc(), cbc(), None)]
    {
        let devices = [("alice", phone), ("encrypt-only", pc)];
        let (agent, _) = agent("profile = \"authenticated\"", &devices);
        let (message, outcome) = treated(&agent, &devices[..1]).unwrap();
        assert!(outcome.copies.is_empty());
        assert_eq!(sealed(&message), expected, "{devices:?}");
    }
}

#[test]
fn a_device_that_opens_nothing_of_what_the_rule_adds_is_left_out_and_so_is_one_of_the_senders() {
    let (one, other) = (|| Some(ciphers(&[AES_128_CBC, AES_128_GCM])), || Some(ciphers(&[AES_256_GCM])));
    // Alice has two, of which the archive has something in common with the first alone.
    let people =
        [("alice", Some(ciphers(&[AES_128_GCM, AES_256_GCM]))), ("encrypt-only", other()), ("p384", one())];
    for rule in ["encrypt-to = [\"p384.pem\"]", "encrypt-to = [\"p384.pem\"]\nunknown = \"defer\""] {
        let (agent, _) = agent(&format!("profile = \"authenticated\"\n{rule}"), &people);
        let (message, outcome) = treated(&agent, &people[..1]).unwrap();
        assert!(outcome.copies.is_empty());
        assert_eq!(sealed(&message), Some(("AES-128-GCM".to_owned(), 2)), "{rule}");
    }
    // She writes to Bob, and reads on one of hers what she sent.
    let people = [("bob", one()), ("alice", one()), ("encrypt-only", other())];
    let (agent, _) = agent("profile = \"authenticated\"\nencrypt-to-sender = true", &people);
    let envelope = Envelope {
        sender: "alice@example.org".to_owned(),
        recipients: addresses(&people[..1]),
        login: Some("alice".to_owned()),
        ..Envelope::default()
    };
    let text = b"From: alice@example.org\r\nTo: bob@example.org\r\n\r\nx\r\n";
    let message = Message::from_stored(text);
    let outcome = agent.treat(&envelope, &message, now()).unwrap();
    assert_eq!(sealed(&outcome.edits.apply(&message)), Some(("AES-128-GCM".to_owned(), 2)));
}

#[test]
fn a_certificate_of_the_rule_with_which_nothing_can_be_encrypted_puts_nothing_in_clear() {
    let people = [("bob", None), ("p384", Some(ciphers(&[AES_128_CBC])))];
    for (profile, fits) in [("standard", true), ("authenticated", false)] {
        let rule = format!("profile = \"{profile}\"\nencrypt-to = [\"p384.pem\"]");
        match treated(&agent(&rule, &people).0, &people[..1]) {
            Ok((message, _)) => assert!(fits && sealed(&message) == Some(("AES-128-CBC".to_owned(), 2))),
            Err(error) => assert!(!fits && matches!(error, AgentError::SealPlan(_)), "{error}"),
        }
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_says_why_somebody_is_not_encrypted_to() {
    let people = [("bob", None), ("alice", Some(ciphers(&[AES_128_CBC])))];
    let (agent, _) = agent("profile = \"authenticated\"", &people);
    let written = Written::default();
    let writer = written.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(log, || treated(&agent, &people).unwrap());
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    for told in [" INFO ", "cannot be encrypted to", "recipient=\"alice@example.org\"", "announces no cipher"]
    {
        assert!(line.contains(told), "{told}: {line}");
    }
}
