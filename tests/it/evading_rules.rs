//! Mail that means what a rule is about, and says it otherwise: the rule counts all the same.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::Recipient;
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

const NOBODY: &str = "nobody@partner.example";

/// A milter that has to encrypt mail of which the conditions hold, and signs none of the rest.
fn lab(name: &str, conditions: &str) -> Lab {
    let mut lab = Lab::new(name).unwrap();
    lab.config.first_rules = format!(
        "\n[[rule]]\n{conditions}\nsign = \"required\"\nencrypt = \"required\"\n[[rule]]\nsign = \"never\"\n"
    );
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab
}

/// The reply to a mail of alice's, and what became of it.
fn reply(running: &Running, to: &str, subject: &str) -> u16 {
    let alice = running.lab.alice.address.as_str();
    let sent = Letter { from: alice, to: NOBODY, subject }.text("the plan");
    let mut client = running.postfix.connect(&Origin::login(alice)).unwrap();
    let parameters = if to.is_ascii() { "BODY=8BITMIME" } else { "BODY=8BITMIME SMTPUTF8" };
    client.send_with(alice, parameters, &[to], &sent).unwrap().code
}

/// The number of mails that arrived, once there are no more.
#[track_caller]
fn assert_nothing_left(running: &Running, but: usize) {
    let arrived = || Ok(running.postfix.queue()?.is_empty().then_some(()));
    wait::until("an empty queue", Duration::from_secs(30), arrived).unwrap();
    let mails = running.sink.mails();
    assert_eq!(mails.len(), but, "{mails:?}");
}

#[test]
fn a_trigger_in_the_subject_is_seen_in_encoded_words() {
    let running = lab("evade-subject", "header = \"Subject: [secure]*\"").start().unwrap();
    for (subject, code) in [
        ("[secure] plan", 451),
        ("=?UTF-8?Q?[secure]_Gr=C3=BC=C3=9Fe?=", 451),
        ("=?UTF-8?B?W3NlY3VyZV0gR3LDvMOfZQ==?=", 451),
        ("=?UTF-8?Q?[sec?=\r\n =?UTF-8?Q?ure]_Gr=C3=BC=C3=9Fe?=", 451),
        ("=?koi8-u?Q?[Secure]_=D0=CC=C1=CE?=", 451),
        ("=?UTF-8?Q?secure_Gr=C3=BC=C3=9Fe?=", 250),
    ] {
        assert_eq!(reply(&running, NOBODY, subject), code, "{subject} {}", running.milter.log());
    }
    assert_nothing_left(&running, 1);
}

#[test]
fn a_rule_for_a_domain_is_about_all_spellings_of_it() {
    let to = "to = [\"*@m\u{fc}nchen.example\", \"*@xn--kln-sna.example\"]";
    let running = lab("evade-domain", to).start().unwrap();
    for (domain, code) in [
        ("m\u{fc}nchen.example", 451),
        ("M\u{dc}NCHEN.example", 451),
        ("xn--mnchen-3ya.example", 451),
        ("XN--KLN-SNA.example", 451),
        ("k\u{f6}ln.example", 451),
        ("koln.example", 250),
    ] {
        assert_eq!(reply(&running, &format!("nobody@{domain}"), "Plan"), code, "{domain}");
    }
    assert_nothing_left(&running, 1);
}

#[test]
fn a_rule_for_a_recipient_counts_however_the_recipient_is_written() {
    let running = lab("evade-recipient", "to = \"*@partner.example\"").start().unwrap();
    for (to, code) in [
        (NOBODY, 451),
        ("nobody@partner.example.", 451),
        ("\"nobody\"@partner.example", 451),
        ("nobody@partner.example(x)", 451),
        ("\"no body\"@partner.example", 550),
        ("nobody%partner.example", 550),
        ("partner.example!nobody", 550),
        ("@r.invalid:nobody@partner.example", 553),
        ("x@elsewhere.example", 250),
        ("\"x\"@elsewhere.example", 250),
    ] {
        assert_eq!(reply(&running, to, "Plan"), code, "{to} {}", running.milter.log());
    }
    assert_nothing_left(&running, 2);
}

/// Postfix removes only whom it finds under the name that we know, and says nothing else.
#[test]
fn opened_text_is_not_for_a_recipient_who_may_not_be_removed() {
    let mut lab = Lab::new("evade-removal").unwrap();
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    let running = lab.start().unwrap();
    running.postfix.set("smtputf8_enable = no").unwrap();
    let lab = &running.lab;
    let (erin, bob) = (lab.erin.address.as_str(), lab.bob.address.as_str());
    let text = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";
    let entity = lab.openssl().unwrap().encrypt(text, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let sent = Letter { from: erin, to: bob, subject: "Removed" }.carrying(&entity);
    let mut arrived = 0;
    for (other, code) in [
        (&b"mallory@example.org"[..], 250),
        (b"@relay.invalid:mallory@example.org", 553),
        (b"Mallory <mallory@example.org>", 553),
        (b"g:mallory@example.org;", 553),
        (b"mallory+\xff@example.org", 553),
        (b"\"mallory\"@example.org", 250),
        (b"mallory@example.org.", 250),
        (b"mallory@example.org(x)", 250),
    ] {
        let mut client = running.postfix.connect(&Origin::remote()).unwrap();
        client.command(&format!("MAIL FROM:<{erin}>")).unwrap();
        assert!(client.command(&format!("RCPT TO:<{bob}>")).unwrap().is_positive());
        client.raw(&[b"RCPT TO:<", other, b">\r\n"].concat()).unwrap();
        let reply = client.reply().unwrap();
        assert_eq!(reply.code, code, "{} {reply:?}", other.escape_ascii());
        assert!(client.command("DATA").unwrap().code == 354);
        client.raw(&sent).unwrap();
        assert_eq!(client.command(".").unwrap().code, 250);
        // Bob alone; bob and mallory; or each a form of his own.
        let is_plain = other == b"mallory@example.org";
        arrived += if is_plain { 2 } else { 1 };
        let mails = running.sink.wait_for(arrived, Duration::from_mins(1)).unwrap();
        for mail in mails.iter().filter(|mail| mail.to.iter().any(|to| to.contains("mallory"))) {
            assert!(mime::find(&mail.octets, b"for bob only").is_none(), "{} {mail:?}", other.escape_ascii());
        }
        let is_open = mime::find(&mails[arrived - 1].octets, b"for bob only").is_some();
        assert!(is_plain || is_open == (code == 553), "{}", other.escape_ascii());
    }
    assert_nothing_left(&running, arrived);
}
