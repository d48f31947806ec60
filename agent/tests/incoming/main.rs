//! Mail from elsewhere under `[[incoming]]` rules: what becomes of it, and in which forms.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

mod around;
mod beside;
mod envelope;
mod keys;
mod memory;
mod shown;
mod site;
mod size;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use agent::{
    Agent, AgentError, Copy, Disposition, Edits, Envelope, Identities, Identity, Outcome, Returned, Settings,
    Told, settings::Logins,
};
use smime::{
    Certificate, Fault,
    algorithm::KeyEncryptionAlgorithm,
    key::{Decryptor, KeyError, Unwrapped},
    message,
    mime::{Canonical, Message, encode_base64},
    profile::{Correspondent, Profile, plan},
    testing::{
        MemoryKey,
        fixtures::{certificate, data, key, now},
    },
};

use support::{TOKEN, folder, identity};

/// An agent for alice and bob with these rules; our post office gets reports on opened mail.
fn agent(rules: &str) -> Agent {
    agent_with("opened-mail-sender = \"post@example.org\"\n", rules)
}

fn agent_with(milter: &str, rules: &str) -> Agent {
    let identities = Identities::from_parts(["alice", "bob"].map(identity), "");
    Agent::with_identities(&settings(milter, rules), identities).with_copies()
}

fn settings(milter: &str, rules: &str) -> Settings {
    let folder = folder(&["root", "alice", "bob"]);
    let text = format!(
        "{TOKEN}[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n\
         [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
         reinject = \"inet:127.0.0.1:10025\"\nstate = \"state\"\n{milter}\
         [[identity]]\ncertificate = \"alice.pem\"\n[[identity]]\ncertificate = \"bob.pem\"\n{rules}"
    );
    Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap()
}

/// A key that counts its uses.
#[derive(Debug)]
struct Counted(MemoryKey, AtomicUsize);

impl Decryptor for Counted {
    fn certificate(&self) -> &Certificate {
        Decryptor::certificate(&self.0)
    }

    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.decrypt_key(encrypted_key, algorithm)
    }
}

#[test]
fn a_token_is_asked_once_for_a_message_however_many_forms_of_it_there_are() {
    let rules = "[[incoming]]\nto = \"bob+a@example.org\"\ndetails = true\n\
                 [[incoming]]\nto = \"bob+b@example.org\"\nsubject-tag = true\n\
                 [[incoming]]\nto = \"bob+c@example.org\"\non-unsigned = \"quarantine\"\n";
    let settings = settings("recipient-delimiter = \"+\"\n", rules);
    let bob = Arc::new(Counted(key("bob"), AtomicUsize::new(0)));
    let identity = Identity::new(
        certificate("bob"),
        vec![certificate("ca")],
        Logins::Address,
        Arc::new(key("bob")),
        Arc::clone(&bob) as Arc<dyn Decryptor>,
    );
    let agent = Agent::with_identities(&settings, Identities::from_parts([identity], "+")).with_copies();
    let mail = ciphertext(&data("signed.p7m"));
    let nested = {
        let inside = Message::from_stored(encrypted().as_bytes());
        let to = certificate("bob");
        let to = Correspondent { certificate: &to, capabilities: None, profile: &Profile::STANDARD };
        let sealed = message::seal(&Canonical::from_entity(&inside.entity()).unwrap(), &plan(&[to]).unwrap());
        format!(
            "{HEADER}Content-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
            sealed.as_ref().unwrap().content_type,
            String::from_utf8(sealed.as_ref().unwrap().body.clone()).unwrap()
        )
    };
    for (to, mail, copies, uses) in [
        (vec!["bob"], &mail, 0, 1),
        (vec!["bob", "bob+a", "bob+b", "alice"], &mail, 3, 1),
        // It is held for one, and so for all: looked at once more.
        (vec!["bob", "bob+c", "bob+a"], &encrypted(), 0, 1),
        // Two layers, each with a key of its own.
        (vec!["bob", "bob+a", "bob+b"], &nested, 2, 2),
    ] {
        bob.1.store(0, Ordering::SeqCst);
        let outcome = treat(&agent, &to, mail).unwrap();
        assert_eq!(outcome.copies.len(), copies, "{to:?} {outcome:?}");
        assert_eq!(bob.1.load(Ordering::SeqCst), uses, "{to:?}");
    }
}

fn treat(agent: &Agent, to: &[&str], message: &str) -> Result<Outcome, AgentError> {
    treat_from("friend@example.net", agent, to, message)
}

fn treat_from(sender: &str, agent: &Agent, to: &[&str], message: &str) -> Result<Outcome, AgentError> {
    treat_whole(sender, agent, to, &Message::from_stored(message.as_bytes()))
}

fn treat_octets(agent: &Agent, to: &[&str], message: &Message) -> Result<Outcome, AgentError> {
    treat_whole("friend@example.net", agent, to, message)
}

fn treat_whole(sender: &str, agent: &Agent, to: &[&str], message: &Message) -> Result<Outcome, AgentError> {
    let envelope = Envelope {
        sender: sender.to_owned(),
        recipients: to.iter().map(|name| format!("{name}@example.org")).collect(),
        client: "192.0.2.7".parse().ok(),
        ..Envelope::default()
    };
    agent.treat(&envelope, message, now())
}

fn applied(outcome: &Outcome, message: &str) -> String {
    let message = outcome.edits.apply(&Message::from_stored(message.as_bytes()));
    String::from_utf8(message.octets().to_vec()).unwrap()
}

const HEADER: &str =
    "From: alice@example.org\r\nTo: bob@example.org\r\nSubject: The plan\r\nMIME-Version: 1.0\r\n";

const TEXT: &str = "Content-Type: text/plain\r\n\r\nHello.\r\n";

fn plain() -> String {
    format!("{HEADER}{TEXT}")
}

/// A message that alice signed, the payload as it is given.
fn signed_payload(payload: &Canonical) -> String {
    let signed = message::sign(payload, &key("alice"), &[certificate("ca")], now()).unwrap();
    let body = String::from_utf8(signed.body).unwrap();
    format!("{HEADER}Content-Type: {}\r\n\r\n{body}", signed.content_type)
}

fn signed() -> String {
    signed_payload(&Canonical::from_entity(&Message::from_stored(TEXT.as_bytes()).entity()).unwrap())
}

fn broken() -> String {
    signed().replace("Hello.", "Hullo.")
}

fn ciphertext(octets: &[u8]) -> String {
    format!(
        "{HEADER}Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        String::from_utf8(encode_base64(octets)).unwrap()
    )
}

/// Encrypted to bob.
fn encrypted() -> String {
    ciphertext(&data("der.p7m"))
}

/// Encrypted to bob, and changed in its last block.
fn encrypted_badly() -> String {
    let mut octets = data("der.p7m");
    let at = octets.len() - 3;
    octets[at] ^= 1;
    ciphertext(&octets)
}

/// What becomes of a message, in a word and a tag.
fn fate(result: &Result<Outcome, AgentError>) -> String {
    match result {
        Ok(outcome) => {
            let tag = outcome.edits.prepend.iter().find(|(name, _)| name == "X-Hsmime-Tag");
            let tag = tag.map(|(_, value)| format!(" tagged {value}")).unwrap_or_default();
            let word = match outcome.disposition {
                Disposition::Deliver => "delivered",
                Disposition::Quarantine => "held",
                Disposition::Discard => "discarded",
                Disposition::Replace => "replaced",
            };
            format!("{word}{tag}")
        }
        Err(error) => match error.fault() {
            Fault::Policy => "refused".to_owned(),
            Fault::Transient => "deferred".to_owned(),
            _ => error.to_string(),
        },
    }
}

#[test]
fn each_verdict_has_the_fate_that_its_rule_says() {
    let incoming = |keys: &str| format!("[[incoming]]\n{keys}\n");
    for (keys, message, expected) in [
        ("", broken(), "delivered"),
        ("", plain(), "delivered"),
        ("on-fail = \"tag\"", broken(), "delivered tagged fail"),
        ("on-fail = \"tag\"", signed(), "delivered"),
        ("on-fail = \"quarantine\"", broken(), "held tagged fail"),
        ("on-fail = \"reject\"", broken(), "refused"),
        ("on-fail = \"reject\"", plain(), "delivered"),
        ("on-fail = \"discard-silently\"", broken(), "discarded tagged fail"),
        ("require-signed = true", plain(), "refused"),
        ("require-signed = true", broken(), "refused"),
        ("require-signed = true", signed(), "delivered"),
        ("require-signed = true\non-unsigned = \"tag\"", plain(), "delivered tagged none"),
        ("require-encrypted = true", signed(), "refused"),
        ("require-encrypted = true", encrypted(), "delivered"),
        ("require-encrypted = true", encrypted_badly(), "delivered"),
        ("on-undecrypted = \"tag\"", encrypted_badly(), "delivered tagged undecrypted"),
        ("on-undecrypted = \"tag\"\ndecrypt = false", encrypted(), "delivered tagged undecrypted"),
        // The reply to ciphertext says nothing of what was in it.
        ("require-signed = true", encrypted(), "held tagged encrypted"),
        ("require-signed = true", encrypted_badly(), "held tagged encrypted"),
        ("on-unsigned = \"reject\"", encrypted(), "held tagged encrypted"),
        ("from = \"*@example.net\"\nrequire-signed = true", plain(), "delivered"),
        ("from = \"alice@example.org\"\nrequire-signed = true", plain(), "refused"),
        ("sender = \"<>\"\nrequire-signed = true", plain(), "delivered"),
        ("network = \"192.0.2.0/24\"\nrequire-signed = true", plain(), "refused"),
        ("larger-than = 100000\nrequire-signed = true", plain(), "delivered"),
    ] {
        assert_eq!(fate(&treat(&agent(&incoming(keys)), &["bob"], &message)), expected, "{keys}: {message}");
    }
}

#[test]
fn whoever_may_be_shown_as_the_author_has_the_rules_for_him_counted() {
    let rules = "[[incoming]]\nfrom = \"friend@example.net\"\n\
                 [[incoming]]\nfrom = \"some@example.net\"\nrequire-signed = true\non-unsigned = \"tag\"\n\
                 [[incoming]]\nfrom = \"*@bank.example\"\nrequire-signed = true\n\
                 [[incoming]]\nfrom = \"*@spam.example\"\non-unsigned = \"discard-silently\"\n";
    let (rules, none) = (agent(rules), agent("[[incoming]]\non-unsigned = \"tag\"\n"));
    let header = "To: bob@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n";
    for (from, expected) in [
        ("From: a@bank.example\r\n", "refused"),
        ("From: friend@example.net\r\n", "delivered"),
        ("From: some@example.net\r\n", "delivered tagged none"),
        ("From: a@spam.example\r\n", "discarded tagged none"),
        ("From: eve@evil.example\r\n", "delivered"),
        // Several fields.
        ("From: a@bank.example\r\nFrom: eve@evil.example\r\n", "refused"),
        ("From: eve@evil.example\r\nfrom : a@bank.example\r\n", "refused"),
        ("From: friend@example.net\r\nFrom: a@bank.example\r\n", "refused"),
        ("From: some@example.net\r\nFrom: a@bank.example\r\n", "refused"),
        ("From: some@example.net\r\nFrom: eve@evil.example\r\n", "delivered tagged none"),
        ("From: a@spam.example\r\nFrom: eve@evil.example\r\n", "held tagged none"),
        ("From: friend@example.net\r\nFrom: eve@evil.example\r\n", "delivered"),
        ("From: friend@example.net\r\nFrom: bank: a@x.example;\r\n", "refused"),
        // Several mailboxes.
        ("From: a@bank.example, eve@evil.example\r\n", "refused"),
        ("From: eve@evil.example, mallory@evil.example\r\n", "delivered"),
        // Nobody who can be read: it may be anybody.
        ("", "refused"),
        ("From:\r\n", "refused"),
        ("From: bank: eve@evil.example;\r\n", "refused"),
        ("From: a..b@bank.example\r\n", "refused"),
        ("From: a@bank.example (\r\n", "refused"),
        ("From: eve@evil.example\r\nno field\r\n", "refused"),
    ] {
        let message = format!("{from}{header}{TEXT}");
        assert_eq!(fate(&treat(&rules, &["bob"], &message)), expected, "{from:?}");
        assert_eq!(fate(&treat(&none, &["bob"], &message)), "delivered tagged none", "{from:?}");
    }
}

#[test]
fn a_rule_for_an_address_is_about_what_its_owner_adds_to_it() {
    let rule = "[[incoming]]\nto = \"bob@example.org\"\nrequire-signed = true\n";
    let (plus, none) = (agent_with("recipient-delimiter = \"+-\"\n", rule), agent(rule));
    for (to, with_delimiter, without) in [
        ("bob", "refused", "refused"),
        ("Bob+x", "refused", "delivered"),
        ("bob-x+y", "refused", "delivered"),
        ("bobby+x", "delivered", "delivered"),
        ("zoe+bob", "delivered", "delivered"),
        ("+bob", "delivered", "delivered"),
    ] {
        assert_eq!(fate(&treat(&plus, &[to], &plain())), with_delimiter, "{to}");
        assert_eq!(fate(&treat(&none, &[to], &plain())), without, "{to}");
    }
}

#[test]
fn of_several_recipients_the_strictest_rule_answers_for_all() {
    let rules = "[[incoming]]\nto = \"bob@example.org\"\non-unsigned = \"ACTION\"\n\
                 [[incoming]]\nto = \"alice@example.org\"\non-unsigned = \"tag\"\n";
    for (action, to, expected) in [
        ("reject", &["bob", "alice"][..], "refused"),
        ("reject", &["alice"], "delivered tagged none"),
        ("quarantine", &["alice", "bob"], "held tagged none"),
        ("discard-silently", &["alice", "bob"], "held tagged none"),
        ("discard-silently", &["bob"], "discarded tagged none"),
        ("deliver", &["bob"], "delivered"),
    ] {
        let result = treat(&agent(&rules.replace("ACTION", action)), to, &plain());
        assert_eq!(fate(&result), expected, "{action} {to:?}");
        if let Ok(outcome) = &result {
            assert!(outcome.copies.is_empty(), "what is held or thrown away leaves in no copy");
        }
    }
    // Delivered to both, in two forms.
    let outcome = treat(&agent(&rules.replace("ACTION", "deliver")), &["bob", "alice"], &plain()).unwrap();
    let copy = &outcome.copies[0];
    assert_eq!(copy.recipients, ["alice@example.org"]);
    assert!(String::from_utf8_lossy(&copy.octets).contains("X-Hsmime-Tag: none\r\n"));
    assert!(!applied(&outcome, &plain()).contains("X-Hsmime-Tag"));
}

#[test]
fn text_is_opened_for_those_who_own_a_key_and_stays_closed_in_the_copy_for_all_others() {
    let agent = agent("");
    let message = encrypted();
    let outcome = treat(&agent, &["zoe", "bob", "alice"], &message).unwrap();
    assert!(applied(&outcome, &message).ends_with("\r\n\r\nHello, Bob.\r\n"));
    assert_eq!(outcome.edits.remove_recipients, ["zoe@example.org", "alice@example.org"]);
    let [copy] = &outcome.copies[..] else { panic!("{outcome:?}") };
    assert_eq!(copy.recipients, ["zoe@example.org", "alice@example.org"]);
    let closed = String::from_utf8_lossy(&copy.octets);
    assert!(!closed.contains("Hello") && closed.contains("application/pkcs7-mime"), "{closed}");
    assert_eq!(closed.matches("mx.example.org;").count(), 1, "one field of ours: {closed}");
    assert_eq!((copy.returned, &copy.sender), (Returned::Full, &None));
    // Of a message that nobody owns there is one form, and so of one that all own.
    assert!(treat(&agent, &["zoe", "alice"], &message).unwrap().copies.is_empty());
    let two = ciphertext(&data("two.p7m"));
    let opened = treat(&agent, &["bob", "alice"], &two).unwrap();
    assert!(opened.copies.is_empty() && opened.edits.body.is_some());
    // What cannot be opened is split all the same: nobody can tell.
    let bad = treat(&agent, &["zoe", "bob"], &encrypted_badly()).unwrap();
    assert_eq!(bad.copies.len(), 1);
}

#[test]
fn what_is_held_for_one_of_them_is_held_as_the_rules_of_all_have_it() {
    let rule = |to: &str, keys: &str| format!("[[incoming]]\nto = \"{to}@example.org\"\n{keys}\n");
    let two = ciphertext(&data("two.p7m"));
    for (other, is_open) in [("details = true", true), ("decrypt = false", false)] {
        let agent = agent(&[rule("alice", other), rule("bob", "on-unsigned = \"quarantine\"")].concat());
        for to in [["alice", "bob"], ["bob", "alice"]] {
            let outcome = treat(&agent, &to, &two).unwrap();
            assert_eq!((outcome.disposition, outcome.copies.len()), (Disposition::Quarantine, 0), "{other}");
            assert_eq!(outcome.edits.body.is_some(), is_open, "{other} {to:?}");
        }
    }
    for (other, is_stripped) in [("strip-signature = true", true), ("details = true", false)] {
        let keys = "strip-signature = true\non-unencrypted = \"quarantine\"";
        let agent = agent(&[rule("alice", other), rule("bob", keys)].concat());
        let outcome = treat(&agent, &["alice", "bob"], &signed()).unwrap();
        assert_eq!(outcome.disposition, Disposition::Quarantine, "{other}");
        assert_eq!(outcome.edits.body.is_some(), is_stripped, "{other}");
    }
}

#[test]
fn opened_text_in_a_copy_is_in_no_bounce() {
    let agent = agent("[[incoming]]\nto = \"alice@example.org\"\ndetails = true\n");
    let outcome = treat(&agent, &["alice", "bob"], &ciphertext(&data("two.p7m"))).unwrap();
    let [copy] = &outcome.copies[..] else { panic!("{outcome:?}") };
    assert!(String::from_utf8_lossy(&copy.octets).ends_with("Hello, Bob.\r\n"));
    assert_eq!(copy.returned, Returned::HeadersOnly);
    assert_eq!(copy.sender.as_ref().unwrap().as_str(), "post@example.org");
}

#[test]
fn no_more_forms_are_counted_than_there_are_kinds_of_recipients() {
    let to = |to: &str| format!("[[incoming]]\nto = \"{to}\"\nsubject-tag = true\n");
    let rules = [to("*@a.example"), to("*@b.example")].concat();
    for (rules, domains, expected) in [
        ("", &["a.example"][..], 2),
        (&rules, &["a.example"], 2),
        (&rules, &["c.example", "d.example"], 2),
        (&rules, &["a.example", "b.example", "c.example"], 3),
    ] {
        let people = |domain: &&str| (0..100).map(|at| format!("p{at}@{domain}")).collect::<Vec<_>>();
        let recipients: Vec<String> = domains.iter().flat_map(people).collect();
        let (agent, envelope) = (agent(rules), Envelope { recipients, ..Envelope::default() });
        assert_eq!(agent.opened_forms(&envelope), expected, "{rules} {domains:?}");
        let one = Envelope { recipients: vec!["p@a.example".to_owned()], ..Envelope::default() };
        assert_eq!(agent.opened_forms(&one), 1);
    }
}

/// Mallory takes what Alice signed, with an old mail of his in it, and gives the parts around another boundary.
#[test]
fn what_passes_after_opening_is_what_readers_find() {
    let agent = agent("");
    let text = "Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n\r\nI got this:\r\n--outer\r\n\
        Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\r\n\
        --a b\r\n\r\nEVIL\r\n--a b--\r\n\r\n--outer--\r\n";
    let inside = Message::from_stored(text.as_bytes());
    let payload = Canonical::from_entity(&inside.entity()).unwrap();
    let signed = message::sign(&payload, &key("alice"), &[certificate("ca")], now()).unwrap();
    let (_, boundary) = signed.content_type.split_once("boundary=\"").unwrap();
    let boundary = boundary.split('"').next().unwrap();
    let body = String::from_utf8(signed.body).unwrap().replace(boundary, "a  b");
    let to = certificate("bob");
    let to = Correspondent { certificate: &to, capabilities: None, profile: &Profile::STANDARD };
    for fold in ["a\r\n  b", "a \r\n b", "a\r\n \r\n b", "a  b"] {
        let entity = format!(
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256;\r\n \
             boundary=\"{fold}\"\r\n\r\n{body}"
        );
        let to = [Correspondent { ..to }];
        let sealed = message::seal(&Canonical::from_signed_part(entity.as_bytes()), &plan(&to).unwrap());
        let sealed = sealed.unwrap();
        let mail = format!(
            "{HEADER}Content-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
            sealed.content_type,
            String::from_utf8(sealed.body).unwrap()
        );
        let outcome = treat(&agent, &["bob"], &mail).unwrap();
        let delivered = Message::from_stored(applied(&outcome, &mail).as_bytes());
        let found = agent.receiving().verify(&delivered, now());
        assert_eq!(outcome.verdict.unwrap().result(), found.result(), "{fold:?}");
        let entity = delivered.entity();
        let parts = entity.parts().unwrap();
        assert!(!parts.iter().any(|part| part.octets().starts_with(b"\r\nEVIL")), "{fold:?}");
    }
}
