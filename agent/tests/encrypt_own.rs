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

const PEOPLE: [&str; 4] = ["alice", "bob", "p384", "revoked"];

/// To whom a letter of Alice's to her or to Bob is encrypted, both of whom are ours, with such lines of the rule; `distrusted` is in
/// the cache as what an administrator distrusts.
fn encrypted_to(to: &str, rule: &str, distrusted: &str) -> Result<Vec<&'static str>, AgentError> {
    encrypted(to, rule, Some(distrusted), &["alice", "bob"])
}

/// The same for these identities; without a cache where nobody is given who may be distrusted.
fn encrypted(
    to: &str,
    rule: &str,
    distrusted: Option<&str>,
    ours: &[&str],
) -> Result<Vec<&'static str>, AgentError> {
    let folder = folder(&PEOPLE);
    for name in ["root.pem", "ca.pem", "ca.crl"] {
        fs::write(folder.path().join(name), data(name)).unwrap();
    }
    let cache = if distrusted.is_some() { "[cache]\npath = \"cache\"\n" } else { "" };
    let identities = ours.iter().map(|name| format!("[[identity]]\ncertificate = \"{name}.pem\"\n"));
    let identities = identities.collect::<Vec<_>>().concat();
    let text = format!(
        "{TOKEN}[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n{cache}\
         [trust]\nanchors = [\"root.pem\"]\nintermediates = [\"ca.pem\"]\ncrls = [\"ca.crl\"]\n\
         revocation = \"soft-fail\"\nencrypt-revocation = \"soft-fail\"\n[revocation]\nfetch = false\n\
         {identities}[[rule]]\nsign = \"never\"\n{rule}\n"
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    let identities = Identities::from_parts(ours.iter().map(|name| identity(name)), "");
    let mut agent = Agent::with_identities(&settings, identities).with_copies();
    if let Some(distrusted) = distrusted {
        let cache = Arc::new(Cache::open(settings.cache().unwrap()).unwrap());
        let certificates = PEOPLE.map(certificate);
        let insertions = certificates.each_ref().map(|one| Insertion::new(one, Source::Imported));
        cache.put(&insertions, now()).unwrap();
        if !distrusted.is_empty() {
            let distrusted = certificate(distrusted);
            cache.put(&[Insertion::new(&distrusted, Source::Imported)], now()).unwrap();
            let state = TrustState::Distrusted;
            assert!(cache.set_state(distrusted.fingerprint(), state, "its key was stolen", now()).unwrap());
        }
        agent = agent.with_certificates(store_of(&settings, cache, settings.trust()).unwrap().unwrap());
    }
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
        // Their issuer, and that one's: given as files, and distrusted in the cache.
        ("ca", vec![], vec![]),
        ("root", vec![], vec![]),
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

#[test]
fn what_is_revoked_by_a_file_is_not_encrypted_to_without_a_cache() {
    for (ours, found) in [("alice", vec!["alice"]), ("revoked", vec![])] {
        let rule = "encrypt = \"when-possible\"";
        assert_eq!(encrypted("alice", rule, None, &[ours]).unwrap(), found, "{ours}");
    }
    for (also, is_held) in [("p384", false), ("revoked", true)] {
        let rule = format!("encrypt = \"required\"\nencrypt-to = [\"{also}.pem\"]");
        let held = encrypted("alice", &rule, None, &["alice"]);
        assert_eq!(matches!(held, Err(AgentError::AlsoTo { .. })), is_held, "{held:?}");
    }
}
