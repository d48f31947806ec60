//! Mail that somebody sends in the name of another: signed by whom Sender names, and not From.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod support;

use std::{fs, path::Path, sync::Arc};

use agent::{
    Agent, Envelope, Identities, Recipient, Settings,
    harvest::{Filter, Harvested, Harvester, harvest},
};
use certcache::{Cache, Chooser, Take};
use smime::{
    MailAddress,
    message::{AuthResult, sign},
    mime::{Canonical, Message},
    path::Trust,
    profile::Profile,
    testing::fixtures::{certificate, data, key, now},
};
use tempfile::TempDir;

use support::identity;

fn agent(folder: &Path, cache: &Arc<Cache>, keys: &str) -> Agent {
    let text = format!(
        "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n{keys}\n\
         [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n"
    );
    fs::write(folder.join("root.pem"), data("root.pem")).unwrap();
    let settings = Settings::parse(&text, &folder.join("hsmime.toml")).unwrap();
    let harvester = Harvester::start(chooser(cache, settings.trust()), settings.trust().clone()).unwrap();
    Agent::with_identities(&settings, Identities::from_parts(Vec::new(), "")).with_harvester(harvester)
}

fn chooser(cache: &Arc<Cache>, trust: &Trust) -> Chooser {
    Chooser::new(Arc::clone(cache), trust.clone(), Take::Newest)
}

fn folder() -> (TempDir, Arc<Cache>) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
    (folder, cache)
}

/// Signed by bob, with these fields.
fn letter(fields: &str) -> Message {
    let entity = Canonical::from_signed_part(b"Content-Type: text/plain\r\n\r\nI speak for Alice.\r\n");
    let signed = sign(&entity, &key("bob"), &[certificate("ca")], now()).unwrap();
    let body = String::from_utf8(signed.body).unwrap();
    let text = format!("{fields}MIME-Version: 1.0\r\nContent-Type: {}\r\n\r\n{body}", signed.content_type);
    Message::from_stored(text.as_bytes())
}

fn incoming() -> Envelope {
    Envelope {
        sender: "bob@example.org".to_owned(),
        recipients: vec!["carol@example.net".to_owned()],
        ..Envelope::default()
    }
}

const FOR_ALICE: &str = "From: alice@example.org\r\nSender: bob@example.org\r\n";

#[test]
fn whom_sender_names_may_sign_only_where_the_configuration_says_so() {
    use AuthResult::{Pass, Policy};
    let (folder, cache) = folder();
    for (keys, fields, expected) in [
        ("", FOR_ALICE, Policy),
        ("sender-header = false", FOR_ALICE, Policy),
        ("sender-header = true", FOR_ALICE, Pass),
        ("sender-header = true", "From: bob@example.org\r\n", Pass),
        ("sender-header = true", "From: alice@example.org\r\n", Policy),
        ("sender-header = true", "From: alice@example.org\r\nSender: carol@example.org\r\n", Policy),
        (
            "sender-header = true",
            "From: alice@example.org\r\nSender: bob@example.org\r\nSender: bob@example.org\r\n",
            Policy,
        ),
    ] {
        let agent = agent(folder.path(), &cache, keys);
        let message = letter(fields);
        let outcome = agent.treat(&incoming(), &message, now()).unwrap();
        let verdict = outcome.verdict.unwrap();
        assert_eq!(verdict.result(), expected, "{keys} {fields}: {}", verdict.reason());
        assert_eq!(agent.receiving().verify(&message, now()).result(), expected, "{keys} {fields}");
    }
}

#[test]
fn so_may_who_signed_around_what_is_encrypted() {
    for (keys, expected) in [("", AuthResult::Policy), ("sender-header = true", AuthResult::Pass)] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("root.pem"), data("root.pem")).unwrap();
        let text = format!("[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n{keys}\n");
        let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
        let agent = Agent::with_identities(&settings, Identities::from_parts([identity("bob")], ""));
        let inside = String::from_utf8(smime::mime::encode_base64(&data("signed.p7m"))).unwrap();
        let entity = format!(
            "Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n{inside}"
        );
        let signed =
            sign(&Canonical::from_signed_part(entity.as_bytes()), &key("bob"), &[certificate("ca")], now());
        let signed = signed.unwrap();
        let body = String::from_utf8(signed.body).unwrap();
        let text =
            format!("{FOR_ALICE}MIME-Version: 1.0\r\nContent-Type: {}\r\n\r\n{body}", signed.content_type);
        let message = Message::from_stored(text.as_bytes());
        let treated = agent.reencrypt_stored(
            &message,
            &[Recipient::of(certificate("alice"), None)],
            &Profile::STANDARD,
            now(),
        );
        let treated = treated.wait(&message).unwrap();
        assert_eq!(treated.verdict.unwrap().result(), expected, "{keys}");
    }
}

#[test]
fn who_signs_for_another_puts_nothing_into_the_cache_under_the_name_of_either() {
    let (folder, cache) = folder();
    let agent = agent(folder.path(), &cache, "sender-header = true");
    let outcome = agent.treat(&incoming(), &letter(FOR_ALICE), now()).unwrap();
    let signed = outcome.signed.unwrap();
    let mail = signed.mail();
    assert_eq!((mail.verdict.result(), mail.sender.as_str()), (AuthResult::Pass, "alice@example.org"));
    let chooser = chooser(&cache, agent.trust());
    let harvested = harvest(&chooser, agent.trust(), &mail, now()).unwrap();
    assert_eq!(harvested, Harvested::Refused(Filter::Verdict));
    for address in ["alice@example.org", "bob@example.org"] {
        let address = MailAddress::parse(address).unwrap();
        assert!(chooser.cache().by_address(&address).unwrap().is_empty(), "{address}");
    }
}
