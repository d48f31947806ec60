//! Outgoing mail that is encrypted: who gets which form of it, opened with the recipients' own keys.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the functions beside the tests are part of them")]

mod copies;
#[path = "../support/mod.rs"]
mod support;

use std::{fmt::Write as _, sync::Arc, time::SystemTime};

use agent::{Agent, AgentError, Envelope, Identities, Outcome, Settings};
use smime::{
    Fault, MailAddress,
    cms::Object,
    message::{Wrapped, verify},
    mime::{Message, MimeEntity, encode_base64, single_originator},
    store::{Lookup, RecipientCertificates, StoreError, Waited},
    testing::fixtures::{certificate, data, key, now, trust},
};

use support::{TOKEN, folder, identity};

/// Certificates of people at example.net, whatever address is in them.
struct Store;

impl RecipientCertificates for Store {
    fn lookup(&self, address: &MailAddress, _: SystemTime, _: &mut Waited) -> Result<Lookup, StoreError> {
        let found = |names: &[&str]| Ok(Lookup::Found(names.iter().map(|name| certificate(name)).collect()));
        match address.local() {
            "p256" => found(&["p256"]),
            "p384" => found(&["p384"]),
            // Somebody else than p384.
            "x25519" | "P384" => found(&["x25519"]),
            "two" => found(&["carol", "p521", "encrypt-only"]),
            "signs" => found(&["carol"]),
            "absent" => Ok(Lookup::Absent),
            "spent" => Ok(Lookup::Unusable("expired".to_owned())),
            "down" => Ok(Lookup::Unknown),
            "broken" => Err(StoreError { path: "cache".to_owned(), reason: "it is damaged".to_owned() }),
            _ => Ok(Lookup::Unlisted),
        }
    }
}

const NAMES: [&str; 7] = ["alice", "bob", "p256", "p384", "p521", "x25519", "encrypt-only"];

/// Alice's and bob's agent, with the lines of its one rule.
fn agent(rule: &str) -> Agent {
    agent_alone(rule).with_copies()
}

/// The same where nobody sends copies.
fn agent_alone(rule: &str) -> Agent {
    let folder = folder(&NAMES);
    let text = format!(
        "{TOKEN}[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
         [[identity]]\ncertificate = \"alice.pem\"\n[[identity]]\ncertificate = \"bob.pem\"\n[[rule]]\n{rule}\n"
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    let identities = Identities::from_parts(["alice", "bob"].map(identity), "");
    Agent::with_identities(&settings, identities).with_certificates(Arc::new(Store))
}

fn envelope(recipients: &[&str]) -> Envelope {
    let address = |local: &&str| {
        if local.contains('@') { (*local).to_owned() } else { format!("{local}@example.net") }
    };
    Envelope {
        sender: "alice@example.org".to_owned(),
        recipients: recipients.iter().map(address).collect(),
        login: Some("alice".to_owned()),
        ..Envelope::default()
    }
}

/// A message to people at example.net.
fn letter(to: &[&str], cc: &[&str]) -> String {
    let list = |people: &[&str]| {
        let all: Vec<String> = people.iter().map(|name| format!("The {name} <{name}@example.net>")).collect();
        all.join(", ")
    };
    let cc = if cc.is_empty() { String::new() } else { format!("Cc: {}\n", list(cc)) };
    format!(
        "From: Alice <alice@example.org>\nTo: {}\n{cc}Subject: x\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße.\n",
        list(to)
    )
}

fn treat(agent: &Agent, envelope: &Envelope, message: &str) -> Result<Outcome, AgentError> {
    agent.treat(envelope, &Message::from_stored(message.as_bytes()), now())
}

/// What a message is to who receives it: whom it is encrypted to, and what is inside, opened by each of them.
fn form(octets: &[u8]) -> String {
    let entity = MimeEntity::parse(octets);
    let header = String::from_utf8_lossy(entity.header_octets()).to_lowercase();
    for name in ["content-type:", "mime-version:"] {
        assert!(header.matches(name).count() <= 1, "{header}");
    }
    let opaque = match Wrapped::read(&entity) {
        Ok(Some(Wrapped::Opaque(object))) => object,
        Ok(Some(Wrapped::Clear { .. })) => return "signed".to_owned(),
        _ => {
            assert!(shows_the_text(octets));
            return "plain".to_owned();
        }
    };
    let enveloped = match Object::parse(&opaque).unwrap() {
        Object::SignedData(_) => return "opaque".to_owned(),
        Object::EnvelopedData(enveloped) => enveloped,
        other => panic!("{other:?}"),
    };
    assert!(!shows_the_text(octets));
    let mut named = Vec::new();
    let mut inside = Vec::new();
    for name in NAMES {
        if let Some(encrypted_key) = enveloped.recipient_for(&certificate(name)) {
            named.push(name);
            inside.push(enveloped.open(encrypted_key, &key(name)).unwrap());
        }
    }
    assert_eq!(named.len(), enveloped.recipients().len(), "somebody else can read it");
    let first = inside.pop().unwrap();
    assert!(inside.iter().all(|content| *content == first));
    let whole = [b"From: alice@example.org\r\n", first.as_slice()].concat();
    let kind = form(&whole);
    if kind == "signed" || kind == "opaque" {
        let whole = MimeEntity::parse(&whole);
        let (verdict, _) = verify(&whole, single_originator(&whole), &trust(), now());
        assert_eq!(verdict.result().as_str(), "pass", "{}", verdict.reason());
    }
    format!("sealed for {} ({kind})", named.join(" "))
}

/// Whether the text of [`letter`] can be read.
fn shows_the_text(octets: &[u8]) -> bool {
    let body = MimeEntity::parse(octets).decoded_body().unwrap();
    [octets, &*body].iter().any(|text| String::from_utf8_lossy(text).contains("Grüße."))
}

/// Each form with who gets it, the one that stays first, or whose fault it is that there is none.
fn forms(agent: &Agent, envelope: &Envelope, message: &str) -> String {
    let outcome = match treat(agent, envelope, message) {
        Ok(outcome) => outcome,
        Err(error) => return format!("{}: {error}", error.fault()),
    };
    let local = |recipient: &String| recipient.split('@').next().unwrap().to_owned();
    let edited = outcome.edits.apply(&Message::from_stored(message.as_bytes()));
    let mut kept = envelope.recipients.clone();
    kept.retain(|recipient| !outcome.edits.remove_recipients.contains(recipient));
    let mut text = String::new();
    let stays = (kept, edited.octets().to_vec());
    let mut copied = Vec::new();
    for (recipients, octets) in
        [stays].into_iter().chain(outcome.copies.into_iter().map(|copy| (copy.recipients, copy.octets)))
    {
        let names: Vec<String> = recipients.iter().map(local).collect();
        let separator = if text.is_empty() { "" } else { "; " };
        write!(text, "{separator}{}: {}", names.join(" "), form(&octets)).unwrap();
        copied.extend(recipients);
    }
    copied.sort();
    let mut all = envelope.recipients.clone();
    all.sort();
    assert_eq!(copied, all, "everybody gets it once");
    text
}

const REQUIRED: &str = "sign = \"required\"\nencrypt = \"required\"\n";
const WISHED: &str = "sign = \"required\"\nencrypt = \"when-possible\"\n";

#[test]
fn whoever_is_named_gets_one_message_and_whoever_is_not_one_of_their_own() {
    for (rule, recipients, to, cc, expected) in [
        (REQUIRED, &["p256"][..], &["p256"][..], &[][..], "p256: sealed for p256 (signed)"),
        (
            REQUIRED,
            &["p256", "p384", "x25519"],
            &["p256"],
            &["x25519", "p384"],
            "p256 p384 x25519: sealed for p256 p384 x25519 (signed)",
        ),
        // Bcc, each alone, and nobody else learns of them.
        (
            REQUIRED,
            &["p256", "p384", "x25519"],
            &["p256"],
            &[],
            "p256: sealed for p256 (signed); p384: sealed for p384 (signed); x25519: sealed for x25519 (signed)",
        ),
        (
            REQUIRED,
            &["p256", "x25519", "p384"],
            &["p256"],
            &["p384"],
            "p256 p384: sealed for p256 p384 (signed); x25519: sealed for x25519 (signed)",
        ),
        // All of their certificates that can be encrypted to.
        (REQUIRED, &["two"], &["two"], &[], "two: sealed for p521 encrypt-only (signed)"),
        // Our own people need no store.
        (REQUIRED, &["bob@example.org"], &[], &[], "bob: sealed for bob (signed)"),
        (
            "sign = \"never\"\nencrypt = \"required\"",
            &["p256"],
            &["p256"],
            &[],
            "p256: sealed for p256 (plain)",
        ),
        (
            "sign = \"required\"\nsignature = \"opaque\"\nencrypt = \"required\"",
            &["p256"],
            &["p256"],
            &[],
            "p256: sealed for p256 (opaque)",
        ),
        (
            "sign = \"required\"\nencrypt = \"required\"\nencrypt-to-sender = true\nencrypt-to = [\"p521.pem\"]",
            &["p256", "x25519"],
            &["p256"],
            &[],
            "p256: sealed for alice p256 p521 (signed); x25519: sealed for alice p521 x25519 (signed)",
        ),
        // Some can read ciphertext, some cannot.
        (
            WISHED,
            &["p256", "nobody", "absent", "signs"],
            &["p256", "nobody"],
            &[],
            "nobody absent signs: signed; p256: sealed for p256 (signed)",
        ),
        (WISHED, &["nobody", "absent"], &["nobody"], &[], "nobody absent: signed"),
        (
            "sign = \"never\"\nencrypt = \"when-possible\"",
            &["p256", "nobody"],
            &["p256"],
            &[],
            "p256: sealed for p256 (plain); nobody: plain",
        ),
        (
            "sign = \"required\"\nencrypt = \"when-possible\"\nmixed = \"plain\"",
            &["p256", "nobody"],
            &["p256"],
            &[],
            "p256 nobody: signed",
        ),
        (
            "sign = \"required\"\nencrypt = \"when-possible\"\nmixed = \"plain\"",
            &["p256", "p384"],
            &["p256", "p384"],
            &[],
            "p256 p384: sealed for p256 p384 (signed)",
        ),
        // Somebody in Bcc gets a message of their own, and is no reason to send all of them in clear.
        (
            "sign = \"required\"\nencrypt = \"when-possible\"\nmixed = \"plain\"",
            &["p256", "p384"],
            &["p256"],
            &[],
            "p256: sealed for p256 (signed); p384: sealed for p384 (signed)",
        ),
        (
            "sign = \"required\"\nencrypt = \"when-possible\"\nmixed = \"plain\"",
            &["p256", "p384", "nobody"],
            &["p256"],
            &[],
            "p256 p384 nobody: signed",
        ),
    ] {
        assert_eq!(
            forms(&agent(rule), &envelope(recipients), &letter(to, cc)),
            expected,
            "{rule} {recipients:?}"
        );
    }
}

#[test]
fn mail_that_must_be_encrypted_never_leaves_otherwise() {
    let unknown = |who: &str| {
        format!(
            "transient: not encrypted: no certificate of {who}@example.net is known to be good, nor that there is none"
        )
    };
    let defer = format!("{REQUIRED}no-certificate = \"defer\"");
    let absent = "not encrypted: there is no certificate of absent@example.net";
    let spent = "not encrypted: there is no certificate of spent@example.net that can be used (expired)";
    for (rule, recipients, expected) in [
        (REQUIRED, &["nobody"][..], unknown("nobody")),
        (REQUIRED, &["p256", "nobody"], unknown("nobody")),
        (REQUIRED, &["down"], unknown("down")),
        (
            REQUIRED,
            &["signs"],
            "policy: not encrypted: there is no certificate of signs@example.net that can be used (not valid now, or not \
             for encrypting)"
                .to_owned(),
        ),
        (REQUIRED, &["spent"], format!("policy: {spent}")),
        (&defer, &["spent"], format!("transient: {spent}")),
        (REQUIRED, &["absent"], format!("policy: {absent}")),
        (&defer, &["p256", "absent"], format!("transient: {absent}")),
        (REQUIRED, &["absent", "nobody"], unknown("nobody")),
        (REQUIRED, &["broken"], "operator: not encrypted: certificate store cache: it is damaged".to_owned()),
        // Not even where it is only wished for: what the store would say is not known.
        (WISHED, &["broken"], "operator: not encrypted: certificate store cache: it is damaged".to_owned()),
        (
            "sign = \"required\"\nencrypt = \"required\"\nmixed = \"defer\"",
            &["p256", "p384"],
            "transient: its 2 groups of recipients cannot get the same message".to_owned(),
        ),
        (
            "sign = \"required\"\nencrypt = \"when-possible\"\nmixed = \"refuse\"",
            &["p256", "nobody"],
            "policy: its 2 groups of recipients cannot get the same message".to_owned(),
        ),
    ] {
        let found = forms(&agent(rule), &envelope(recipients), &letter(&["p256"], &[]));
        assert_eq!(found, expected, "{rule} {recipients:?}");
    }
    let envelope = envelope(&["p256", "p384"]);
    let mut plain = agent(REQUIRED);
    let all = treat(&plain, &envelope, &letter(&["p256"], &[])).unwrap();
    assert_eq!(all.copies.len(), 1);
    plain = agent_that_sends_no_copies();
    let error = treat(&plain, &envelope, &letter(&["p256"], &[])).unwrap_err();
    assert!(matches!(error, AgentError::CannotSplit { forms: 2 }), "{error}");
    assert_eq!(error.fault(), Fault::Operator);
}

#[test]
fn where_it_could_not_be_found_out_mail_waits_and_leaves_in_clear_only_if_the_rule_says_so() {
    let plain = format!("{WISHED}unknown = \"plain\"");
    let said = format!("{WISHED}unknown = \"defer\"");
    let together = format!("{WISHED}mixed = \"plain\"");
    let unknown = "transient: not encrypted: no certificate of down@example.net is known to be good, nor that there is none";
    for (rule, recipients, expected) in [
        (WISHED, &["down"][..], unknown),
        (&said, &["down"], unknown),
        (WISHED, &["p256", "down"], unknown),
        (WISHED, &["absent", "down"], unknown),
        (&together, &["p256", "down"], unknown),
        ("sign = \"never\"\nencrypt = \"when-possible\"", &["down"], unknown),
        (&plain, &["down"], "down: signed"),
        (&plain, &["p256", "down"], "p256: sealed for p256 (signed); down: signed"),
        // Of these it was found out, or there is nobody to ask.
        (WISHED, &["absent"], "absent: signed"),
        (WISHED, &["spent"], "spent: signed"),
        (WISHED, &["signs"], "signs: signed"),
        (WISHED, &["nobody"], "nobody: signed"),
        (WISHED, &["\"no plain address\"@example.net"], "\"no plain address\": signed"),
    ] {
        let found = forms(&agent(rule), &envelope(recipients), &letter(&["p256"], &[]));
        assert_eq!(found, expected, "{rule} {recipients:?}");
    }
}

fn agent_that_sends_no_copies() -> Agent {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[[rule]]\n{}\n[milter]\nlisten = \"inet:h:1\"\nauthserv-id = \"mx\"\n",
        "sign = \"never\"\nencrypt = \"required\""
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    Agent::with_identities(&settings, Identities::default()).with_certificates(Arc::new(Store))
}

#[test]
fn what_the_author_signed_is_encrypted_octet_for_octet() {
    let plain = letter(&["p256"], &[]);
    let signed = treat(&agent("sign = \"required\""), &envelope(&["p256"]), &plain).unwrap();
    let signed = signed.edits.apply(&Message::from_stored(plain.as_bytes()));
    let text = String::from_utf8(signed.octets().to_vec()).unwrap();
    // Its signature would break if a single octet were other; `form` verifies it.
    assert_eq!(forms(&agent(REQUIRED), &envelope(&["p256"]), &text), "p256: sealed for p256 (signed)");
    let opaque = format!(
        "From: alice@example.org\nMIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=signed-data\n\
         Content-Transfer-Encoding: base64\n\n{}\n",
        String::from_utf8(encode_base64(&data("opaque.p7m"))).unwrap()
    );
    let outcome = treat(&agent(REQUIRED), &envelope(&["p256"]), &opaque).unwrap();
    assert_eq!(outcome.action, "encrypted");
}

#[test]
fn an_expired_certificate_is_not_encrypted_to() {
    let after = certificate("p256").not_after() + std::time::Duration::from_secs(1);
    let agent = agent("sign = \"never\"\nencrypt = \"required\"");
    let message = Message::from_stored(letter(&["p256"], &[]).as_bytes());
    let error = agent.treat(&envelope(&["p256"]), &message, after).unwrap_err();
    assert!(matches!(error, AgentError::NoCertificate { is_final: true, .. }), "{error}");
}
