//! Which certificates of our own, and of a rule, are encrypted to.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod support;

use std::{fs, sync::Arc};

use agent::{Agent, AgentError, Envelope, Identities, Settings, store_of};
use certcache::{Cache, Insertion, Source, TrustState};
use smime::{
    message::Wrapped,
    mime::Message,
    testing::{
        enveloped_data,
        fixtures::{certificate, data, now},
    },
};
use support::{TOKEN, folder, identity};

const PEOPLE: [&str; 3] = ["alice", "bob", "p384"];

/// To whom a letter of Alice's to her or to Bob is encrypted, both of whom are ours, with such lines of the rule; `distrusted` is in
/// the cache as what an administrator distrusts.
fn encrypted_to(to: &str, rule: &str, distrusted: &str) -> Result<Vec<&'static str>, AgentError> {
    let folder = folder(&PEOPLE);
    for name in ["root.pem", "ca.pem"] {
        fs::write(folder.path().join(name), data(name)).unwrap();
    }
    let text = format!(
        "{TOKEN}[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
         [cache]\npath = \"cache\"\n[trust]\nanchors = [\"root.pem\"]\nintermediates = [\"ca.pem\"]\n\
         revocation = \"off\"\n[[identity]]\ncertificate = \"alice.pem\"\n[[identity]]\ncertificate = \"bob.pem\"\n\
         [[rule]]\nsign = \"never\"\n{rule}\n"
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    let cache = Arc::new(Cache::open(settings.cache().unwrap()).unwrap());
    let certificates = PEOPLE.map(certificate);
    let insertions = certificates.each_ref().map(|one| Insertion::new(one, Source::Imported));
    cache.put(&insertions, now()).unwrap();
    if !distrusted.is_empty() {
        let fingerprint = *certificate(distrusted).fingerprint();
        assert!(cache.set_state(&fingerprint, TrustState::Distrusted, "its key was stolen", now()).unwrap());
    }
    let store = store_of(&settings, cache, settings.trust()).unwrap().unwrap();
    let identities = Identities::from_parts(["alice", "bob"].map(identity), "");
    let agent = Agent::with_identities(&settings, identities).with_certificates(store).with_copies();
    let envelope = Envelope {
        sender: "alice@example.org".to_owned(),
        recipients: vec![format!("{to}@example.org")],
        login: Some("alice".to_owned()),
        ..Envelope::default()
    };
    let message = format!("From: alice@example.org\r\nTo: {to}@example.org\r\n\r\nx\r\n");
    let message = Message::from_stored(message.as_bytes());
    let outcome = agent.treat(&envelope, &message, now())?;
    let message = outcome.edits.apply(&message);
    let Ok(Some(Wrapped::Opaque(object))) = Wrapped::read(&message.entity()) else { return Ok(vec![]) };
    let enveloped = enveloped_data(&object);
    let is_named = |name: &&str| enveloped.recipient_for(&certificate(name)).is_some();
    Ok(PEOPLE.into_iter().filter(is_named).collect())
}

#[test]
fn our_own_certificate_is_not_encrypted_to_once_it_is_distrusted() {
    let when_possible = "encrypt = \"when-possible\"\nencrypt-to-sender = true";
    for (distrusted, to_alice, to_bob) in [
        ("", vec!["alice"], vec!["alice", "bob"]),
        ("alice", vec![], vec!["bob"]),
        ("bob", vec!["alice"], vec![]),
    ] {
        assert_eq!(encrypted_to("alice", when_possible, distrusted).unwrap(), to_alice, "{distrusted}");
        assert_eq!(encrypted_to("bob", when_possible, distrusted).unwrap(), to_bob, "{distrusted}");
    }
    let error = encrypted_to("alice", "encrypt = \"required\"", "alice").unwrap_err();
    assert!(matches!(error, AgentError::NoCertificate { .. }), "{error}");
}

#[test]
fn mail_waits_where_a_certificate_that_its_rule_names_is_distrusted() {
    for level in ["when-possible", "required"] {
        let rule = format!("encrypt = \"{level}\"\nencrypt-to = [\"p384.pem\"]");
        assert_eq!(encrypted_to("bob", &rule, "").unwrap(), ["bob", "p384"]);
        let error = encrypted_to("bob", &rule, "p384").unwrap_err();
        assert!(matches!(error, AgentError::AlsoTo { .. }), "{error}");
        assert_eq!(error.fault(), smime::Fault::Operator);
    }
}
