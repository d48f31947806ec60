//! Whole messages through the agents, with keys in memory and certificates made by OpenSSL.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod support;

use std::sync::Arc;

use agent::{
    Agent, AgentError, AsOf, Disposition, Entitled, Envelope, Identities, Identity, Outcome, Returned,
    Settings, settings::Logins,
};
use smime::{
    Certificate, Fault, MailAddress,
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::{Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
    message::AuthResult,
    mime::{Message, encode_base64},
    testing::fixtures::{certificate, data, now},
};

use support::{TOKEN, folder, identity};

/// A key whose token has gone.
#[derive(Debug)]
struct Gone(Certificate);

impl Gone {
    fn error(&self) -> KeyError {
        KeyError::Unavailable { token: "mail".into(), reason: format!("no key for {}", self.0) }
    }
}

impl Signer for Gone {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &[SignatureAlgorithm::RsaPkcs1(smime::algorithm::DigestAlgorithm::Sha256)]
    }

    fn sign(&self, _: &SignatureInput<'_>, _: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        Err(self.error())
    }
}

impl Decryptor for Gone {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Err(self.error())
    }
}

/// An agent for alice and bob; everybody at example.org must sign.
fn agent(identity: impl Fn(&str) -> Identity) -> Agent {
    agent_with("", identity)
}

/// As [`agent`], with further lines in `[milter]`.
fn agent_with(milter: &str, identity: impl Fn(&str) -> Identity) -> Agent {
    let folder = folder(&["root", "alice", "bob"]);
    let text = format!(
        "{TOKEN}[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n\
         [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
         trusted-networks = [\"10.0.0.0/8\"]\n{milter}\
         [[identity]]\ncertificate = \"alice.pem\"\n[[identity]]\ncertificate = \"bob.pem\"\n\
         [[rule]]\nfrom = \"bob@example.org\"\nsign = \"when-possible\"\n\
         [[rule]]\nfrom = \"*@example.org\"\nsign = \"required\"\n"
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    Agent::with_identities(&settings, Identities::from_parts(["alice", "bob"].map(identity), ""))
}

fn gone(name: &str) -> Identity {
    let key = || Arc::new(Gone(certificate(name)));
    Identity::new(certificate(name), Vec::new(), Logins::Address, key(), key())
}

fn outgoing(login: &str) -> Envelope {
    Envelope {
        sender: format!("{login}@example.org"),
        recipients: vec!["friend@example.net".to_owned()],
        client: "192.0.2.7".parse().ok(),
        login: Some(login.to_owned()),
        listener: None,
        queue_id: None,
        asked: agent::Asked::default(),
        told: agent::Told::AsWritten,
    }
}

fn incoming(recipients: &[&str]) -> Envelope {
    Envelope {
        sender: "friend@example.net".to_owned(),
        recipients: recipients.iter().map(|r| (*r).to_owned()).collect(),
        client: "192.0.2.7".parse().ok(),
        login: None,
        listener: None,
        queue_id: None,
        asked: agent::Asked::default(),
        told: agent::Told::AsWritten,
    }
}

fn applied(outcome: &Outcome, message: &str) -> String {
    let applied = outcome.edits.apply(&Message::from_stored(message.as_bytes()));
    String::from_utf8_lossy(applied.octets()).into_owned()
}

/// A stranger's mail that is handed on here, and what comes of that handed on once more: by a list, a Sieve script, another host.
#[test]
fn mail_from_elsewhere_is_never_signed_however_often_it_is_handed_on() {
    let agent = agent(gone);
    let envelope = Envelope { client: "10.0.0.7".parse().ok(), login: None, ..outgoing("x") };
    for (from, disposition) in [("bob", Disposition::Deliver), ("alice", Disposition::Quarantine)] {
        let mut mail = format!(
            "Authentication-Results: mx.example.org;\r\n smime=pass\r\nX-Hsmime-Tag: x\r\nReceived: by x\r\n\
             Authentication-Results: mx.example.org; dkim=pass\r\nFrom: {from}@example.org\r\n\r\nHi\r\n"
        );
        for _ in 0..3 {
            let outcome = treat(&agent, &envelope, &mail).unwrap();
            assert_eq!(outcome.disposition, disposition, "{}", outcome.reason);
            mail = applied(&outcome, &mail);
            // What it says was found is taken off, and not that it came from elsewhere.
            let expected = format!(
                "Authentication-Results: mx.example.org;\r\n smime=none (what was found before was taken off; not looked \
                 at again)\r\nReceived: by x\r\nFrom: {from}@example.org\r\n\r\nHi\r\n"
            );
            assert_eq!(mail, expected);
        }
    }
    // Alice's login does not take the sign off what she sends on in bob's name, whose redirect would be signed by his key.
    let mail = "Authentication-Results: mx.example.org; smime=none\r\nFrom: bob@example.org\r\n\r\nHi\r\n";
    let sent_on = applied(&treat(&agent, &outgoing("alice"), mail).unwrap(), mail);
    assert!(sent_on.contains("smime=none (what was found before was taken off"), "{sent_on}");
    let handed_on = treat(&agent, &envelope, &sent_on).unwrap();
    assert_eq!(applied(&handed_on, &sent_on), sent_on, "{}", handed_on.reason);
    // What has no results of ours gets none.
    let mail = "From: bob@example.org\r\n\r\nHi\r\n";
    let outcome = treat(&agent, &outgoing("alice"), mail).unwrap();
    assert_eq!(applied(&outcome, mail), mail);
}

const PLAIN: &str = "From: Alice <alice@example.org>\nSubject: x\nMIME-Version: 1.0\n\
     Content-Type: text/plain\n\nHello.\n";

fn treat(agent: &Agent, envelope: &Envelope, message: &str) -> Result<Outcome, AgentError> {
    let message = Message::from_stored(message.as_bytes());
    let treated = agent.treat(envelope, &message, now());
    // Whatever can be begun without waiting comes to the same end.
    if let Some(begun) = agent.begin(envelope, &message, now()) {
        let told = |done: &Result<Outcome, AgentError>| match done {
            Ok(Outcome { edits, action, reason, .. }) => {
                let fields: Vec<_> = edits.append.iter().map(|(name, _)| name.clone()).collect();
                let octets = edits.body.as_ref().map(Vec::len);
                format!("{action} {reason} {:?} {fields:?} {octets:?}", edits.remove)
            }
            Err(error) => format!("{:?} {error}", error.fault()),
        };
        assert_eq!(told(&begun.wait(&message)), told(&treated));
    }
    treated
}

/// The message after its edits.
fn delivered(agent: &Agent, envelope: &Envelope, message: &str) -> String {
    let outcome = treat(agent, envelope, message).unwrap();
    let edited = outcome.edits.apply(&Message::from_stored(message.as_bytes()));
    String::from_utf8(edited.octets().to_vec()).unwrap()
}

fn encrypted(object: &str) -> String {
    format!(
        "From: friend@example.net\nTo: bob@example.org\nMIME-Version: 1.0\n\
         Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n\
         Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=smime.p7m\n\n{}\n",
        String::from_utf8(encode_base64(&data(object))).unwrap()
    )
}

fn count(text: &str, what: &str) -> usize {
    text.to_lowercase().matches(&what.to_lowercase()).count()
}

#[test]
fn a_local_senders_mail_is_signed_once_and_what_comes_back_passes() {
    let agent = agent(identity);
    let signed = delivered(&agent, &outgoing("alice"), PLAIN);
    let header = signed.split("\r\n\r\n").next().unwrap();
    assert_eq!((count(header, "\r\nMIME-Version:"), count(header, "\r\nContent-Type:")), (1, 1), "{signed}");
    assert!(header.contains("Subject: x"));
    let again = treat(&agent, &outgoing("alice"), &signed).unwrap();
    assert!(again.edits.is_empty(), "signing twice is a bug: {again:?}");
    let back = treat(&agent, &incoming(&["bob@example.org"]), &signed).unwrap();
    assert_eq!(back.verdict.unwrap().result(), AuthResult::Pass);
}

#[test]
fn mail_that_must_be_signed_never_leaves_unsigned() {
    let without_token = agent(gone);
    let with_token = agent(identity);
    let two_from = PLAIN.replace("Subject", "From: eve@example.net\nSubject");
    for (agent, envelope, message, fault) in [
        (&without_token, outgoing("alice"), PLAIN.to_owned(), Fault::Transient),
        (&with_token, outgoing("bob"), PLAIN.to_owned(), Fault::Policy),
        (&with_token, outgoing("alice"), PLAIN.replace("alice", "zoe"), Fault::Operator),
        (&with_token, outgoing("alice"), two_from, Fault::Policy),
    ] {
        let error = treat(agent, &envelope, &message).unwrap_err();
        assert_eq!(error.fault(), fault, "{error}");
    }
}

#[test]
fn only_what_waits_for_nothing_but_a_key_that_signs_is_begun_without_waiting() {
    let (with_token, without_token) = (agent(identity), agent(gone));
    let is_begun = |agent: &Agent, envelope: &Envelope, message: &str| {
        agent.begin(envelope, &Message::from_stored(message.as_bytes()), now()).is_some()
    };
    let bob = PLAIN.replace("alice", "bob");
    let many: Vec<_> = (0..2_000).map(|number| format!("r{number}@example.net")).collect();
    for agent in [&with_token, &without_token] {
        assert!(is_begun(agent, &outgoing("alice"), PLAIN));
        assert!(is_begun(agent, &outgoing("bob"), &bob));
        for (envelope, message) in [
            (outgoing("bob"), PLAIN),
            (outgoing("alice"), &PLAIN.replace("alice", "zoe")),
            (incoming(&["bob@example.org"]), PLAIN),
            (incoming(&["bob@example.org"]), &encrypted("der.p7m")),
            // So many recipients are held against rules where that holds up nobody else.
            (Envelope { recipients: many.clone(), ..outgoing("alice") }, PLAIN),
        ] {
            assert!(!is_begun(agent, &envelope, message), "{envelope:?} {message}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = audit::AuditFile::at(folder.path().join("audit.jsonl"));
    let audit = Arc::new(audit::AuditLog::open(&file, std::time::Duration::ZERO).unwrap());
    assert!(!is_begun(&agent(identity).with_audit(audit), &outgoing("alice"), PLAIN));
}

#[test]
fn a_key_signs_only_for_its_owners_login_or_a_trusted_network() {
    let agent = agent(identity);
    let trusted = Envelope { login: None, client: "10.1.2.3".parse().ok(), ..outgoing("alice") };
    assert_eq!(treat(&agent, &trusted, PLAIN).unwrap().action, "signed");
    let stranger = Envelope { login: None, ..outgoing("alice") };
    assert_eq!(treat(&agent, &stranger, PLAIN).unwrap().action, "verified");
    assert!(matches!(treat(&agent, &outgoing("mallory"), PLAIN), Err(AgentError::Refused(_))));
}

#[test]
fn ciphertext_is_opened_for_its_owner_and_only_content_fields_come_out() {
    let agent = agent(identity);
    for object in ["der.p7m", "ber.p7m", "two.p7m"] {
        let opened = delivered(&agent, &incoming(&["bob@example.org"]), &encrypted(object));
        assert!(opened.ends_with("\r\n\r\nHello, Bob.\r\n"), "{opened}");
        assert!(opened.contains("smime=none (decrypted \\(AES-"), "{opened}");
        assert!(opened.contains("not authenticated"), "{opened}");
        assert_eq!((count(&opened, "pkcs7"), count(&opened, "MIME-Version")), (0, 1), "{opened}");
    }
    let sealed = delivered(&agent, &incoming(&["bob@example.org"]), &encrypted("gcm.p7m"));
    assert!(
        sealed.contains("(decrypted \\(AES-256-GCM\\);") && !sealed.contains("not authenticated"),
        "{sealed}"
    );
    let owners = incoming(&["bob@example.org", "Alice@example.org"]);
    assert!(delivered(&agent, &owners, &encrypted("two.p7m")).ends_with("Hello, Bob.\r\n"));
}

#[test]
fn bounces_of_opened_mail_may_not_hold_its_text_and_go_where_the_configuration_says() {
    let (as_it_came, redirecting) =
        (agent(identity), agent_with("opened-mail-sender = \"postmaster@example.org\"\n", identity));
    let bob = incoming(&["bob@example.org"]);
    let both = incoming(&["bob@example.org", "alice@example.org"]);
    let sealed = encrypted("der.p7m");
    for (case, envelope, message, opened) in [
        ("opened", &bob, sealed.as_str(), true),
        ("opened, authenticated", &bob, &encrypted("gcm.p7m"), true),
        ("not for all of them", &both, &sealed, false),
        ("not encrypted", &bob, PLAIN, false),
        ("signed by us", &outgoing("alice"), PLAIN, false),
    ] {
        let edits = treat(&as_it_came, envelope, message).unwrap().edits;
        let expected = if opened { Returned::HeadersOnly } else { Returned::Full };
        assert_eq!((edits.returned, edits.sender), (expected, None), "{case}");
        let edits = treat(&redirecting, envelope, message).unwrap().edits;
        let sender = opened.then_some("postmaster@example.org");
        let given = edits.sender.as_ref().map(MailAddress::as_str);
        assert_eq!((edits.returned, given), (expected, sender), "{case}");
    }
}

#[test]
fn what_is_inside_a_ciphertext_cannot_write_fields_outside() {
    let agent = agent(identity);
    let opened = delivered(&agent, &incoming(&["bob@example.org"]), &encrypted("hostile.p7m"));
    let (header, body) = opened.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "Hello.\r\n");
    for inner in ["Subject: inner", "smime=pass", "MIME-Version: 7.0", "\r\nBcc:", "\nBcc", "\r\nX-Evil"] {
        assert!(!header.contains(inner), "{inner:?} in {header}");
    }
    assert!(header.contains("Content-Description: x Bcc: eve@example.net X-Evil: 1"), "{header}");
}

#[test]
fn opened_content_is_made_fit_for_transport() {
    let agent = agent(identity);
    let lines = delivered(&agent, &incoming(&["bob@example.org"]), &encrypted("lf.p7m"));
    assert!(
        lines.contains("Content-Type: text/plain\r\n") && lines.ends_with("\r\n\r\nHello.\r\n"),
        "{lines}"
    );
    let binary = delivered(&agent, &incoming(&["bob@example.org"]), &encrypted("binary.p7m"));
    let binary = Message::from_stored(binary.as_bytes());
    assert_eq!(*binary.entity().decoded_body().unwrap(), *b"a\0b\nc\rd");
}

#[test]
fn content_without_a_mime_header_arrives_whole() {
    let agent = agent(identity);
    let opened = delivered(&agent, &incoming(&["bob@example.org"]), &encrypted("note.p7m"));
    assert!(opened.ends_with("\r\n\r\nDear Bob,\r\nthe price is 5.\r\n\r\nRegards\r\n"), "{opened}");
}

#[test]
fn a_signature_inside_a_ciphertext_passes_only_if_it_holds_and_will_hold_where_it_arrives() {
    let agent = agent(identity);
    for (object, result, marked) in [
        ("signed.p7m", AuthResult::Pass, false),
        ("signed-long.p7m", AuthResult::Policy, true),
        ("signed-changed.p7m", AuthResult::Fail, true),
    ] {
        let message = encrypted(object).replace("friend@example.net", "alice@example.org");
        let outcome = treat(&agent, &incoming(&["bob@example.org"]), &message).unwrap();
        assert_eq!(outcome.verdict.as_ref().unwrap().result(), result, "{object}: {}", outcome.reason);
        assert_eq!(outcome.reason.contains("not authenticated"), marked, "{object}: {}", outcome.reason);
        let arrived = outcome.edits.apply(&Message::from_stored(message.as_bytes()));
        if result == AuthResult::Pass {
            assert_eq!(
                agent.verify_stored(&arrived, AsOf::Time(now())).result(),
                AuthResult::Pass,
                "{object}"
            );
        }
    }
}

#[test]
fn a_signature_that_is_only_wished_for_does_not_hold_mail_back_unless_waiting_may_help() {
    let wish = PLAIN.replace("alice", "bob");
    let signed = treat(&agent(identity), &outgoing("bob"), &wish).unwrap();
    assert_eq!(signed.action, "signed");
    let waits = treat(&agent(gone), &outgoing("bob"), &wish).unwrap_err();
    assert_eq!(waits.fault(), Fault::Transient);
    // A signed part inside must not be changed, and as it is it would not survive transport.
    let unfit = "From: bob@example.org\nContent-Type: multipart/mixed; boundary=o\n\n--o\n\
         Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=i\n\n--i\n\
         Content-Transfer-Encoding: 8bit\n\n\u{fc}\n--i\nContent-Type: application/pgp-signature\n\nx\n--i--\n--o--\n";
    let passed = treat(&agent(identity), &outgoing("bob"), unfit).unwrap();
    assert_eq!((passed.action, passed.edits.is_empty()), ("passed", true), "{}", passed.reason);
    let refused = treat(&agent(identity), &outgoing("alice"), &unfit.replace("bob", "alice")).unwrap_err();
    assert_eq!(refused.fault(), Fault::Message);
}

#[test]
fn ciphertext_stays_closed_unless_every_recipient_owns_a_key_it_is_encrypted_to() {
    let agent = agent(identity);
    let message = encrypted("der.p7m");
    for recipients in [
        &["alice@example.org"][..],
        &["zoe@example.org"],
        &["bob@example.org", "alice@example.org"],
        &["bob@example.org", "zoe@example.org"],
        &["bob@example.org", "\"not an address\"@example.org"],
        &[],
    ] {
        let outcome = treat(&agent, &incoming(recipients), &message).unwrap();
        assert!(outcome.edits.body.is_none(), "{recipients:?}");
        assert!(outcome.reason.contains("not decrypted"), "{}", outcome.reason);
    }
}

#[test]
fn ciphertext_that_is_not_the_root_is_never_opened() {
    let agent = agent(identity);
    let inner = encrypted("der.p7m");
    let (_, part) = inner.split_once("MIME-Version: 1.0\n").unwrap();
    let message = format!(
        "From: friend@example.net\nContent-Type: multipart/mixed; boundary=b\n\n\
         --b\nContent-Type: text/html\n\n<img src=\"http://evil.example/\n--b\n{part}\n--b\n\
         Content-Type: text/html\n\n\">\n--b--\n"
    );
    let outcome = treat(&agent, &incoming(&["bob@example.org"]), &message).unwrap();
    assert!(outcome.edits.body.is_none());
}

#[test]
fn a_token_that_is_gone_defers_what_it_could_open_and_nothing_else() {
    let agent = agent(gone);
    let error = treat(&agent, &incoming(&["bob@example.org"]), &encrypted("der.p7m")).unwrap_err();
    assert_eq!(error.fault(), Fault::Transient);
    assert!(treat(&agent, &incoming(&["alice@example.org"]), &encrypted("der.p7m")).is_ok());
    assert!(treat(&agent, &incoming(&["bob@example.org"]), PLAIN).is_ok());
}

#[test]
fn bad_ciphertext_is_delivered_as_it_is_with_one_and_the_same_reason() {
    let agent = agent(identity);
    let der = data("der.p7m");
    let bob = certificate("bob");
    let serial = der.windows(bob.serial_number().len()).position(|w| w == bob.serial_number()).unwrap();
    let encode = |octets: &[u8]| {
        encrypted("der.p7m").replace(
            &String::from_utf8(encode_base64(&der)).unwrap(),
            &String::from_utf8(encode_base64(octets)).unwrap(),
        )
    };
    let mut reasons = Vec::new();
    // In the encrypted key; in the last block, where the padding is.
    for at in [serial + 80, der.len() - 3] {
        // One padding in 250 is right by chance; then the content is garbage and another octet is taken.
        let reason = (1..=8_u8).find_map(|bit| {
            let mut damaged = der.clone();
            damaged[at] ^= bit;
            let outcome = treat(&agent, &incoming(&["bob@example.org"]), &encode(&damaged)).unwrap();
            assert_eq!(outcome.edits.returned, Returned::HeadersOnly, "as if it had been opened");
            outcome.edits.body.is_none().then_some(outcome.reason)
        });
        reasons.push(reason.unwrap());
    }
    assert_eq!(reasons[0], reasons[1]);
    assert!(reasons[0].contains("cannot be decrypted"), "{}", reasons[0]);
}

#[test]
fn fields_that_claim_to_be_ours_are_removed_from_every_message() {
    let agent = agent(identity);
    let forged = "Authentication-Results: mx.example.org; smime=pass\n\
         Authentication-Results: other.example; spf=pass\n\
         authentication-results: (x) MX.example.ORG; smime=pass\n";
    for (envelope, message, ours) in [
        (
            incoming(&["bob@example.org"]),
            format!("{forged}{}", PLAIN.replace("example.org", "example.net")),
            1,
        ),
        (incoming(&["bob@example.org"]), format!("{forged}{}", encrypted("der.p7m")), 1),
        (outgoing("alice"), format!("{forged}{PLAIN}"), 0),
        // What she sends on unsigned may have been received here.
        (outgoing("alice"), format!("{forged}{}", PLAIN.replace("example.org", "example.net")), 1),
    ] {
        let out = delivered(&agent, &envelope, &message);
        assert_eq!(count(&out, "smime=pass"), 0, "{out}");
        assert_eq!(count(&out, "other.example; spf=pass"), 1, "{out}");
        assert_eq!(count(&out, "Results: mx.example.org"), ours, "{out}");
        assert!(ours == 0 || out.starts_with("Authentication-Results: mx.example.org;"), "{out}");
    }
}

#[test]
fn nothing_a_mail_may_hold_makes_it_fail_or_panic() {
    let agent = agent(identity);
    let level = |n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n");
    let nested =
        format!("From: friend@example.net\n{}\nx\n", (0..200).map(level).collect::<Vec<_>>().concat());
    let cut_base64 = encrypted("der.p7m").split_at(500).0.to_owned();
    let garbage = "From: a@example.net\nContent-Type: application/pkcs7-mime\n\n\u{0}\u{1}garbage";
    for message in ["", "\n", "no header at all\n", "From: x\n", &nested, &cut_base64, garbage] {
        let outcome = treat(&agent, &incoming(&["bob@example.org"]), message).unwrap();
        assert!(outcome.edits.body.is_none(), "{message}");
        let _ = treat(&agent, &outgoing("alice"), message);
    }
}

#[test]
fn stored_mail_is_signed_for_our_own_senders_and_opened_for_its_owner() {
    let agent = agent(identity);
    let stored = |text: &str| Message::from_stored(text.as_bytes());
    let signed = agent.sign_stored(&stored(PLAIN), now()).wait(&stored(PLAIN)).unwrap();
    assert_eq!(signed.action, "signed");
    let signed = signed.edits.apply(&stored(PLAIN));
    assert_eq!(agent.verify_stored(&signed, AsOf::Time(now())).result(), AuthResult::Pass);
    for message in [signed, stored(&PLAIN.replace("alice", "zoe")), stored(&encrypted("der.p7m"))] {
        assert!(agent.sign_stored(&message, now()).wait(&message).unwrap().edits.is_empty());
    }
    let opened = agent.receiving().receive(&stored(&encrypted("der.p7m")), Entitled::Owner, now()).unwrap();
    assert_eq!(opened.edits.body.unwrap(), b"Hello, Bob.\r\n");
    assert_eq!(
        agent.verify_stored(&stored(&encrypted("der.p7m")), AsOf::Time(now())).result(),
        AuthResult::None
    );
}
