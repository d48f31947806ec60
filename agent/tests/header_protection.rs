//! Header fields that outgoing mail carries in its signature or ciphertext (RFC 9788), and that ours find there again.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod support;

use std::sync::Arc;

use agent::{Agent, AgentError, Envelope, Identities, Outcome, Settings, store_of};
use certcache::{Cache, Source};
use smime::{
    Fault,
    mime::Message,
    protection::ProtectedHeader,
    testing::fixtures::{certificate, now},
};
use tempfile::TempDir;

use support::{TOKEN, folder, identity};

const TO: [&str; 2] = ["bob@example.org", "carol@example.org"];
const MAIL: &str = "From: alice@example.org\r\nTo: bob@example.org\r\nSubject: The plan\r\n for two lines\r\n\
                    Comments: of the board\r\nThread-Topic: The plan\r\nX-Mailer: mailer\r\n\
                    Message-ID: <1@example.org>\r\nContent-Type: text/plain\r\n\r\nHello.\r\n";

/// An agent with the keys of these people, these rules, and bob in its cache; what comes in is promoted by the list.
fn agent(people: &[&str], rule: &str) -> (TempDir, Agent) {
    let folder = folder(&["root", "ca", "alice", "bob"]);
    let ours = people.iter().map(|name| format!("[[identity]]\ncertificate = \"{name}.pem\"\n"));
    let text = format!(
        "{TOKEN}[cache]\npath = \"cache\"\n\
         [trust]\nanchors = [\"root.pem\"]\nintermediates = [\"ca.pem\"]\nrevocation = \"off\"\n\
         [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
         {}{rule}[[incoming]]\npromote = [\"Subject\", \"Comments\"]\n",
        ours.collect::<String>()
    );
    let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
    let cache = Arc::new(Cache::open(settings.cache().unwrap()).unwrap());
    cache.insert(&certificate("bob"), Source::Imported, now()).unwrap();
    let identities = Identities::from_parts(people.iter().map(|name| identity(name)), "");
    let store = store_of(&settings, cache, settings.trust()).unwrap();
    let mut agent = Agent::with_identities(&settings, identities).with_copies();
    if let Some(store) = store {
        agent = agent.with_certificates(store);
    }
    (folder, agent)
}

fn treat(agent: &Agent, login: Option<&str>, to: &[&str], mail: &str) -> Result<Outcome, AgentError> {
    let envelope = Envelope {
        sender: "alice@example.org".to_owned(),
        recipients: to.iter().map(|&to| to.to_owned()).collect(),
        client: "192.0.2.7".parse().ok(),
        login: login.map(str::to_owned),
        ..Envelope::default()
    };
    agent.treat(&envelope, &Message::from_stored(mail.as_bytes()), now())
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// The forms of a mail that alice sends under a rule: what the MTA delivers, and the copies.
fn sent(rule: &str, to: &[&str]) -> Vec<String> {
    let (_folder, agent) = agent(&["alice"], &format!("[[rule]]\n{rule}\n"));
    let outcome = treat(&agent, Some("alice"), to, MAIL).unwrap();
    let main = outcome.edits.apply(&Message::from_stored(MAIL.as_bytes()));
    let copies = outcome.copies.iter().map(|copy| text(&copy.octets));
    [text(main.octets())].into_iter().chain(copies).collect()
}

/// What bob's own milter makes of it, and what it says of it.
fn received(mail: &str) -> String {
    let (_folder, agent) = agent(&["bob"], "");
    let outcome = treat(&agent, None, &["bob@example.org"], mail).unwrap();
    text(outcome.edits.apply(&Message::from_stored(mail.as_bytes())).octets())
}

/// The value of the one field of a name in the header.
fn field(mail: &str, name: &str) -> Option<String> {
    let message = Message::from_stored(mail.as_bytes());
    let entity = message.entity();
    let header = entity.header();
    let mut all = header.all(name);
    let value = all.next().map(|field| field.unfolded().trim().to_owned());
    assert!(all.next().is_none(), "{name} twice: {mail}");
    value
}

#[test]
fn what_a_rule_protects_ours_find_again_whatever_the_outer_header_says() {
    let encrypted = "encrypt = \"required\"\n";
    for (sign, encrypt, protection, outside, comments) in [
        ("required", "", "off", "The plan for two lines", true),
        ("required", "", "hcp-baseline", "The plan for two lines", true),
        ("required", encrypted, "off", "The plan for two lines", true),
        ("required", encrypted, "hcp-no-confidentiality", "The plan for two lines", true),
        ("required", encrypted, "hcp-baseline", "[...]", false),
        ("required\"\nsignature = \"opaque", encrypted, "hcp-baseline", "[...]", false),
        ("never", encrypted, "hcp-baseline", "[...]", false),
    ] {
        let rule = format!("sign = \"{sign}\"\n{encrypt}header-protection = \"{protection}\"\n");
        let [mail] = sent(&rule, &TO[..1]).try_into().unwrap();
        assert_eq!(field(&mail, "Subject").as_deref(), Some(outside), "{rule}{mail}");
        assert_eq!(field(&mail, "Comments").is_some(), comments, "{rule}{mail}");
        assert_eq!(field(&mail, "Thread-Topic").is_some(), comments, "{rule}{mail}");
        assert_eq!(field(&mail, "X-Mailer").as_deref(), Some("mailer"), "{rule}{mail}");
        if protection == "hcp-baseline" && !encrypt.is_empty() {
            assert!(!mail.contains("The plan") && !mail.contains("of the board"), "{rule}{mail}");
        }
        // On the way, somebody writes another subject outside.
        let changed =
            mail.replacen(&format!("Subject: {}", outside.split(" for").next().unwrap()), "Subject: x", 1);
        let found = received(&changed);
        let is_protected = protection != "off" && sign != "never";
        let subject = field(&found, "Subject").unwrap();
        assert_eq!(subject == "The plan for two lines", is_protected, "{rule}{found}");
        let passes = field(&found, "Authentication-Results").unwrap().contains("smime=pass");
        assert_eq!(passes, sign != "never", "{rule}{found}");
        assert!(found.ends_with("Hello.\r\n") || sign != "never", "{rule}{found}");
    }
}

#[test]
fn who_gets_it_encrypted_and_who_does_not_get_headers_of_their_own_kind() {
    let rule = "sign = \"required\"\nencrypt = \"when-possible\"\nheader-protection = \"hcp-baseline\"\n";
    let forms = sent(rule, &TO);
    let [sealed, clear]: [String; 2] = forms.try_into().unwrap();
    let (sealed, clear) = if sealed.contains("multipart/signed") { (clear, sealed) } else { (sealed, clear) };
    assert_eq!(field(&sealed, "Subject").as_deref(), Some("[...]"));
    assert_eq!(field(&clear, "Subject").as_deref(), Some("The plan for two lines"));
    assert!(clear.contains("hp=\"clear\"") && !clear.contains("hp=\"cipher\""), "{clear}");
    assert!(!clear.contains("HP-Outer"), "{clear}");
    let opened = received(&sealed);
    assert!(opened.contains("hp=\"cipher\"") && opened.contains("HP-Outer: Subject: [...]"), "{opened}");
    let message = Message::from_stored(opened.as_bytes());
    let payload = smime::protection::Payload::find(&message.entity()).unwrap();
    let outer = Message::from_stored(sealed.as_bytes());
    let protected = ProtectedHeader::read(&payload.entity(), &outer.entity().header()).unwrap().unwrap();
    assert_eq!(protected.values("Comments").collect::<Vec<_>>(), ["of the board"]);
}

#[test]
fn a_header_that_cannot_be_hidden_does_not_leave_and_one_that_cannot_be_signed_does() {
    let rule = |further: &str| {
        format!("[[rule]]\nsign = \"when-possible\"\n{further}header-protection = \"hcp-baseline\"\n")
    };
    let with = |text: &str| MAIL.replacen("X-Mailer", text, 1);
    for mail in [
        with("HP-Outer: Subject: x\r\nX-Mailer"),
        with("Keywords: \u{fc}\r\nX-Mailer"),
        MAIL.replacen("text/plain", "text/plain; hp=\"clear\"", 1),
    ] {
        for level in ["required", "when-possible"] {
            let (_folder, agent) = agent(&["alice"], &rule(&format!("encrypt = \"{level}\"\n")));
            let refused = treat(&agent, Some("alice"), &TO[..1], &mail).unwrap_err();
            assert_eq!(refused.fault(), Fault::Message, "{mail}");
        }
        let (_folder, agent) = agent(&["alice"], &rule(""));
        let outcome = treat(&agent, Some("alice"), &TO[..1], &mail).unwrap();
        assert_eq!(outcome.action, "signed", "{mail}");
    }
    // What its author signed is encrypted as it is.
    let [signed] = sent("sign = \"required\"\n", &TO[..1]).try_into().unwrap();
    let (_folder, agent) = agent(&["alice"], &rule("encrypt = \"required\"\n"));
    let outcome = treat(&agent, Some("alice"), &TO[..1], &signed).unwrap();
    let mail = text(outcome.edits.apply(&Message::from_stored(signed.as_bytes())).octets());
    assert_eq!(field(&mail, "Subject").as_deref(), Some("The plan for two lines"));
    assert!(!mail.contains("Hello."), "{mail}");
}

#[test]
fn the_log_says_where_a_subject_that_was_to_be_hidden_stays_readable() {
    let [signed] = sent("sign = \"required\"\n", &TO[..1]).try_into().unwrap();
    let protected = "header-protection = \"hcp-baseline\"\n";
    let both = "sign = \"required\"\nencrypt = \"required\"\n";
    let encrypted = "sign = \"never\"\nencrypt = \"required\"\n";
    for (mail, rule, stays) in [
        (signed.as_str(), format!("{both}{protected}"), true),
        (&signed, format!("{encrypted}{protected}"), true),
        (MAIL, format!("{both}{protected}"), false),
        (MAIL, format!("{encrypted}{protected}"), false),
        // Nothing was to be hidden.
        (&signed, encrypted.to_owned(), false),
        (&signed, format!("{encrypted}header-protection = \"hcp-no-confidentiality\"\n"), false),
        (&signed, format!("sign = \"required\"\n{protected}"), false),
    ] {
        let (_folder, agent) = agent(&["alice"], &format!("[[rule]]\n{rule}"));
        let outcome = treat(&agent, Some("alice"), &TO[..1], mail).unwrap();
        let reason = &outcome.reason;
        assert_eq!(
            reason.matches("its subject stays readable").count(),
            usize::from(stays),
            "{rule}{mail}{reason}"
        );
        let subject =
            field(&text(outcome.edits.apply(&Message::from_stored(mail.as_bytes())).octets()), "Subject");
        let is_hidden = subject.as_deref() == Some("[...]");
        assert!(!(stays && is_hidden), "{rule}{mail}");
    }
}
