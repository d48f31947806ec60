//! Mail to people whose signed mail has told what they can open.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{fs, sync::Arc};

use agent::{Agent, Envelope, Identities, Recipient, Settings, store_of};
use certcache::{Announced, Cache, Insertion, Source};
use smime::{
    message::Wrapped,
    mime::Message,
    profile::Profile,
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
const AES_256_GCM: u8 = 46;

/// The cipher of a letter to these, each with what was announced.
fn cipher(profile: &str, people: &[(&str, Option<Vec<u8>>)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["root.pem", "ca.pem"] {
        fs::write(folder.path().join(name), data(name)).unwrap();
    }
    let text = format!(
        "[cache]\npath = \"cache\"\n[trust]\nanchors = [\"root.pem\"]\nintermediates = [\"ca.pem\"]\n\
         revocation = \"off\"\n[[rule]]\nsign = \"never\"\nencrypt = \"when-possible\"\nprofile = \"{profile}\"\n"
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
    let recipients: Vec<String> = people.iter().map(|(name, _)| format!("{name}@example.org")).collect();
    let message = format!("From: carol@example.org\r\nTo: {}\r\n\r\nx\r\n", recipients.join(", "));
    let envelope = Envelope {
        sender: "carol@example.org".to_owned(),
        recipients,
        login: Some("carol".to_owned()),
        ..Envelope::default()
    };
    let message = Message::from_stored(message.as_bytes());
    let outcome = agent.treat(&envelope, &message, now()).unwrap();
    assert!(outcome.copies.is_empty());
    let edited = outcome.edits.apply(&message);
    let Ok(Some(Wrapped::Opaque(object))) = Wrapped::read(&edited.entity()) else {
        return "plain".to_owned();
    };
    let enveloped = enveloped_data(&object);
    assert_eq!(enveloped.recipients().len(), people.len());
    let cipher = enveloped.algorithm().unwrap().name().to_owned();
    // An archive is encrypted to them as mail is.
    let people: Vec<_> =
        people.iter().map(|(name, _)| Recipient::of(certificate(name), Some(&*store))).collect();
    let stored = Agent::encrypt_stored(&message, &people, &Profile::named(profile).unwrap()).unwrap();
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
