//! A key signs for those who may use it, and for nobody else.

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::smtp::Origin;
use testkit::{Lab, mime};

use crate::common::{assert_untouched, with_every_mta};

with_every_mta! {
    in lab;
    whoever_may_use_the_key_gets_a_signature_and_nobody_else_does
    a_stranger_with_our_address_in_from_gets_no_signature
    mail_that_must_be_signed_but_names_no_or_two_senders_is_refused
    mail_that_no_rule_matches_leaves_as_it_is
}

const TO: &str = "friend@partner.example";

fn lab() -> Lab {
    let mut lab = Lab::new("senders").unwrap();
    lab.config.identities[1].logins = vec!["secretary".to_owned()];
    lab
}

fn whoever_may_use_the_key_gets_a_signature_and_nobody_else_does<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let [alice, bob] = [lab.alice.address.as_str(), lab.bob.address.as_str()];
    for (origin, from, may_sign) in [
        (Origin::login(alice), alice, true),
        (Origin::login("alice"), alice, true),
        (Origin::login("ALICE@Example.ORG"), alice, true),
        (Origin::host([192, 0, 2, 77]), alice, true),
        (Origin::login("secretary"), bob, true),
        (Origin::login(bob), bob, false),
        (Origin::login(bob), alice, false),
        (Origin::login("alic"), alice, false),
        (Origin::login("mallory"), alice, false),
    ] {
        let sent = Letter { from, to: TO, subject: "Who" }.text("hello");
        let (reply, mail) = running.attempt(&origin, from, &[TO], &sent).unwrap();
        match (may_sign, mail) {
            (true, Some(mail)) => drop(lab.openssl().unwrap().verify(&mail.octets).unwrap()),
            (false, None) => {
                let code = (reply.code, reply.text.get(..5));
                assert_eq!(code, (550, Some("5.7.1")), "{origin:?} as {from}: {reply:?}");
            }
            (_, mail) => panic!("{origin:?} as {from}: {reply:?}, {mail:?}"),
        }
    }
}

fn a_stranger_with_our_address_in_from_gets_no_signature<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let sent =
        Letter { from: &lab.alice.address, to: &lab.bob.address, subject: "Me" }.text("it is really me");
    let mail = running.deliver(&Origin::remote(), &lab.alice.address, &[&lab.bob.address], &sent).unwrap();
    assert_untouched(&mail, &sent);
    assert!(mime::signed(&mail.octets).is_err());
}

fn mail_that_must_be_signed_but_names_no_or_two_senders_is_refused<M: Mta>(running: &mut Running<M>) {
    let (lab, before) = (&running.lab, running.sink.mails().len());
    let letter = Letter { from: &lab.alice.address, to: TO, subject: "Two" };
    let one = String::from_utf8(letter.text("hello")).unwrap();
    let from = format!("From: {}\r\n", lab.alice.address);
    for (what, sent) in [
        ("no From", one.replace(&from, "")),
        ("two From fields", one.replace(&from, &format!("{from}{from}"))),
        ("two mailboxes", one.replace(&from, &format!("From: {}, x@example.net\r\n", lab.alice.address))),
        ("a group", one.replace(&from, "From: nobody:;\r\n")),
    ] {
        let reply =
            running.send(&Origin::login("alice"), &lab.alice.address, &[TO], sent.as_bytes()).unwrap();
        assert_eq!(reply.code, 550, "{what}: {reply:?}");
    }
    assert_eq!(running.sink.mails().len(), before);
}

fn mail_that_no_rule_matches_leaves_as_it_is<M: Mta>(running: &mut Running<M>) {
    let sent = Letter { from: "x@elsewhere.example", to: TO, subject: "Other" }.text("hello");
    let mail = running.deliver(&Origin::login("x"), "x@elsewhere.example", &[TO], &sent).unwrap();
    assert_untouched(&mail, &sent);
}
