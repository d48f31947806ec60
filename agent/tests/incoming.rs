//! Mail from elsewhere under `[[incoming]]` rules: what becomes of it, and in which forms.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent::{
    Agent, AgentError, AsOf, Disposition, Envelope, Identities, Identity, Outcome, Returned, Settings,
    settings::Logins,
};
use smime::{
    Certificate, Fault,
    algorithm::KeyEncryptionAlgorithm,
    key::{Decryptor, KeyError, Unwrapped},
    message::{self, AuthResult, SealedMessage},
    mime::{Canonical, Message, encode_base64},
    profile::{Correspondent, Profile, plan},
    protection::{ConfidentialityPolicy, protect_encrypted, protect_signed},
    testing::{
        MemoryKey,
        fixtures::{certificate, data, key, now},
    },
};

/// An agent for alice and bob with these rules; our post office gets reports on opened mail.
fn agent(rules: &str) -> Agent {
    agent_with("opened-mail-sender = \"post@example.org\"\n", rules)
}

fn agent_with(milter: &str, rules: &str) -> Agent {
    let identity = |name| {
        let key = || Arc::new(key(name));
        Identity::new(certificate(name), vec![certificate("ca")], Logins::Address, key(), key())
    };
    let identities = Identities::from_parts(["alice", "bob"].map(identity), "");
    Agent::with_identities(&settings(milter, rules), identities).with_copies()
}

fn settings(milter: &str, rules: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[[token]]\nmodule = \"module.so\"\nlabel = \"mail\"\npin-file = \"pin\"\n\
         [trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n\
         [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
         reinject = \"inet:127.0.0.1:10025\"\nstate = \"state\"\n{milter}\
         [[identity]]\ncertificate = \"alice.pem\"\n[[identity]]\ncertificate = \"bob.pem\"\n{rules}"
    );
    for (name, octets) in [
        ("module.so", Vec::new()),
        ("pin", b"1234".to_vec()),
        ("root.pem", data("root.pem")),
        ("alice.pem", data("alice.pem")),
        ("bob.pem", data("bob.pem")),
    ] {
        fs::write(folder.path().join(name), octets).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
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
    let envelope = Envelope {
        sender: sender.to_owned(),
        recipients: to.iter().map(|name| format!("{name}@example.org")).collect(),
        client: "192.0.2.7".parse().ok(),
        ..Envelope::default()
    };
    agent.treat(&envelope, &Message::from_stored(message.as_bytes()), now())
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
fn opened_text_in_a_copy_is_in_no_bounce() {
    let agent = agent("[[incoming]]\nto = \"alice@example.org\"\ndetails = true\n");
    let outcome = treat(&agent, &["alice", "bob"], &ciphertext(&data("two.p7m"))).unwrap();
    let [copy] = &outcome.copies[..] else { panic!("{outcome:?}") };
    assert!(String::from_utf8_lossy(&copy.octets).ends_with("Hello, Bob.\r\n"));
    assert_eq!(copy.returned, Returned::HeadersOnly);
    assert_eq!(copy.sender.as_ref().unwrap().as_str(), "post@example.org");
}

#[test]
fn a_signature_that_passes_comes_off_where_a_rule_says_so_and_no_other() {
    let agent = agent("[[incoming]]\nstrip-signature = true\n");
    let stripped = applied(&treat(&agent, &["bob"], &signed()).unwrap(), &signed());
    assert!(stripped.ends_with("Content-Type: text/plain\r\n\r\nHello.\r\n"), "{stripped}");
    assert_eq!(stripped.matches("MIME-Version:").count(), 1, "{stripped}");
    assert!(stripped.contains("smime=pass") && !stripped.contains("pkcs7"), "{stripped}");
    for (kept, to) in [(broken(), "bob"), (plain(), "bob"), (signed().replace("alice@", "eve@"), "bob")] {
        let outcome = treat(&agent, &[to], &kept).unwrap();
        assert!(outcome.edits.body.is_none(), "{kept}");
    }
    let inside = ciphertext(&data("signed.p7m"));
    let opened = applied(&treat(&agent, &["bob"], &inside).unwrap(), &inside);
    assert!(opened.contains("smime=pass") && !opened.contains("pkcs7"), "{opened}");
    assert_eq!(opened.matches("Content-Type:").count(), 1, "{opened}");
}

#[test]
fn a_protected_subject_takes_the_outer_ones_place_only_by_the_list_and_the_same_author() {
    let promotes = agent("[[incoming]]\npromote = [\"Subject\"]\n");
    let written =
        Message::from_stored(plain().replace("The plan", "The true plan\r\nComments: hidden").as_bytes());
    let clear = signed_payload(&protect_signed(&written.entity()).unwrap());
    let cipher = protect_encrypted(&written.entity(), ConfidentialityPolicy::Baseline).unwrap();
    let cipher = signed_payload(&cipher.payload);
    let subject = |agent: &Agent, message: &str| {
        let text = applied(&treat(agent, &["bob"], message).unwrap(), message);
        let header = text.split("\r\n\r\n").next().unwrap().to_owned();
        assert_eq!(header.matches("Subject:").count(), 1, "{header}");
        assert!(!header.contains("hidden"), "{header}");
        let at = header.find("Subject: ").unwrap();
        header.split_at(at + 9).1.lines().next().unwrap().to_owned()
    };
    let both = "[[incoming]]\npromote = [\"Subject\"]\nsubject-tag = true\nstrip-signature = true\n";
    for (name, agent, message, expected) in [
        ("signed", &promotes, clear.clone(), "The true plan"),
        ("as if it had been encrypted", &promotes, cipher, "The true plan"),
        ("no rule", &agent(""), clear.clone(), "The plan"),
        ("no protection", &promotes, signed(), "The plan"),
        ("a broken signature", &promotes, clear.replace("Hello.", "Hullo."), "The plan"),
        ("another author outside", &promotes, clear.replacen("alice@", "eve@", 1), "The plan"),
        ("with a tag", &agent(both), clear, "[S/MIME: signed]"),
    ] {
        assert_eq!(subject(agent, &message), expected, "{name}");
    }
}

#[test]
fn what_was_decrypted_takes_a_place_in_the_header_only_if_signed_and_where_no_stranger_hears_of_it() {
    let rule = "[[incoming]]\npromote = [\"Subject\"]\n";
    let (redirects, asks) = (agent(rule), agent_with("", rule));
    let written = Message::from_stored(plain().replace("The plan", "The true plan").as_bytes());
    let payload = protect_encrypted(&written.entity(), ConfidentialityPolicy::Baseline).unwrap().payload;
    let bob = certificate("bob");
    let to_bob = Correspondent { certificate: &bob, capabilities: None, profile: &Profile::COMPATIBLE };
    let plan = plan(&[to_bob]).unwrap();
    let mail = |sealed: SealedMessage| {
        let body = String::from_utf8(sealed.body).unwrap();
        let fields = format!("Content-Type: {}\r\nContent-Transfer-Encoding: base64", sealed.content_type);
        format!("{HEADER}{fields}\r\n\r\n{body}").replace("The plan", "[...]")
    };
    let signed = message::sign(&payload, &key("alice"), &[certificate("ca")], now()).unwrap();
    let signed = mail(message::seal_signed(&signed, &plan).unwrap());
    let unsigned = mail(message::seal(&payload, &plan).unwrap());
    for (agent, sender, message, expected) in [
        (&asks, "alice@example.org", &signed, true),
        (&asks, "ALICE@example.org", &signed, true),
        (&asks, "", &signed, true),
        (&asks, "friend@example.net", &signed, false),
        (&asks, "alice", &signed, false),
        (&redirects, "friend@example.net", &signed, true),
        (&asks, "alice@example.org", &unsigned, false),
        (&asks, "", &unsigned, false),
        (&redirects, "friend@example.net", &unsigned, false),
    ] {
        let outcome = treat_from(sender, agent, &["bob"], message).unwrap();
        let text = applied(&outcome, message);
        assert!(text.contains("decrypted ") && text.contains("\r\n\r\nHello.\r\n"), "{text}");
        let is_promoted = text.split("\r\n\r\n").next().unwrap().contains("Subject: The true plan");
        assert_eq!(is_promoted, expected, "{sender:?}: {text}");
    }
}

#[test]
fn forged_fields_and_tags_are_gone_before_ours_are_written() {
    let agent = agent("[[incoming]]\nsubject-tag = true\ndetails = true\n");
    let forged = |message: String, subject: &str| {
        let header = format!("X-Hsmime-Details: smime=pass\r\nx-hsmime-tag: ok\r\nSubject: {subject}");
        message.replacen("Subject: The plan", &header, 1)
    };
    for (message, expected) in [
        (forged(plain(), "[S/MIME: signed] x"), "Subject: x\r\n"),
        (forged(plain(), "=?utf-8?Q?[S/MIME:_signed]?= x"), "Subject: x\r\n"),
        (forged(broken(), "[S/MIME: signed] x"), "Subject: [S/MIME: signature wrong]\r\n x\r\n"),
        (forged(signed(), "x"), "Subject: [S/MIME: signed]\r\n x\r\n"),
        (forged(encrypted(), "x"), "Subject: [S/MIME: encrypted]\r\n x\r\n"),
        (forged(encrypted_badly(), "x"), "Subject: x\r\n"),
    ] {
        let text = applied(&treat(&agent, &["bob"], &message).unwrap(), &message);
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(text.matches("Subject:").count(), 1, "{text}");
        assert_eq!(text.to_lowercase().matches("x-hsmime-").count(), 1, "{text}");
    }
}

#[test]
fn what_claims_to_be_found_by_us_comes_off_where_it_means_something() {
    let mail = "Authentication-Results: mx.example.org; smime=pass\r\nAuthentication-Results: x; spf=pass\r\n\
                X-Hsmime-Tag: x\r\nSubject: [S/MIME: signed] hello\r\n\r\nHi\r\n";
    let message = Message::from_stored(mail.as_bytes());
    for (rules, subject) in [
        ("[[incoming]]\nsubject-tag = true\n", "Subject: hello\r\n"),
        ("[[incoming]]\ndetails = true\n", "Subject: [S/MIME: signed] hello\r\n"),
    ] {
        let left = agent(rules).without_results(&message).apply(&message);
        let left = String::from_utf8_lossy(left.octets()).into_owned();
        assert!(left.starts_with("Authentication-Results: x; spf=pass\r\n"), "{left}");
        assert!(left.contains(subject) && left.ends_with("\r\n\r\nHi\r\n"), "{left}");
        assert!(!left.contains("smime=pass") && !left.contains("X-Hsmime-Tag"), "{left}");
    }
}

#[test]
fn details_and_the_log_name_every_layer() {
    let agent = agent("[[incoming]]\ndetails = true\n");
    let inside = ciphertext(&data("signed.p7m"));
    let outcome = treat(&agent, &["bob"], &inside).unwrap();
    let layers = outcome.layers.clone().unwrap();
    assert!(
        layers.starts_with("encrypted AES-") && layers.ends_with("multipart/signed pass (decides)"),
        "{layers}"
    );
    let text = applied(&outcome, &inside);
    let details = text.split_once("X-Hsmime-Details:").unwrap().1;
    for part in
        ["smime=pass;", "encryption=\"decrypted ", "layers=\"encrypted AES-", "signer=\"", "serial=\""]
    {
        assert!(details.contains(part), "{part}: {details}");
    }
    assert_eq!(treat(&agent, &["bob"], &plain()).unwrap().layers, None);
}

#[test]
fn what_is_stripped_can_be_verified_no_more_and_what_stays_can() {
    let stays = agent("[[incoming]]\ndetails = true\nsubject-tag = true\non-fail = \"reject\"\n");
    let text = applied(&treat(&stays, &["bob"], &signed()).unwrap(), &signed());
    let verdict = stays.verify_stored(&Message::from_stored(text.as_bytes()), AsOf::Time(now()));
    assert_eq!(verdict.result(), AuthResult::Pass, "{text}");
}

#[test]
fn no_more_forms_are_counted_than_there_are_kinds_of_recipients() {
    let to = |to: &str| format!("[[incoming]]\nto = \"{to}\"\nsubject-tag = true\n");
    let rules = [to("*@a.example"), to("*@b.example")].concat();
    for (rules, domains, expected) in [
        ("", &["a.example"][..], 2),
        (&rules, &["a.example"], 2),
        (&rules, &["c.example", "d.example"], 2),
        (&rules, &["a.example", "b.example", "c.example"], 6),
    ] {
        let people = |domain: &&str| (0..100).map(|at| format!("p{at}@{domain}")).collect::<Vec<_>>();
        let recipients: Vec<String> = domains.iter().flat_map(people).collect();
        let (agent, envelope) = (agent(rules), Envelope { recipients, ..Envelope::default() });
        assert_eq!(agent.opened_forms(&envelope), expected, "{rules} {domains:?}");
        let one = Envelope { recipients: vec!["p@a.example".to_owned()], ..Envelope::default() };
        assert_eq!(agent.opened_forms(&one), 1);
    }
}
