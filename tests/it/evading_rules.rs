//! Mail that means what a rule is about, and says it otherwise: the rule counts all the same.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::smtp::Origin;
use testkit::{Lab, wait};

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

/// Nothing that arrived has the text.
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
