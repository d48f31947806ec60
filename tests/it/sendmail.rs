//! What only Sendmail can show: whom it removes when it is told to, and what becomes of addresses that are refused.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta as _;
use testkit::peers::Recipient;
use testkit::pki::{Key, Profile};
use testkit::sendmail::Sendmail;
use testkit::sink::Delivered;
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

const NOBODY: &str = "nobody@partner.example";
const PATIENCE: Duration = Duration::from_mins(1);

/// A lab with copies.
fn lab(name: &str) -> Lab {
    let mut lab = Lab::new(name).unwrap();
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab
}

/// What arrived, once so much has and nothing comes behind it.
#[track_caller]
fn arrived(running: &Running<Sendmail>, count: usize) -> Vec<Delivered> {
    let mails = running.sink.wait_for(count, PATIENCE);
    mails.unwrap_or_else(|error| panic!("{error}\n{}\n{}", running.milter.log(), running.postfix.log()));
    std::thread::sleep(Duration::from_millis(500));
    let mails = running.sink.mails();
    assert_eq!(mails.len(), count, "{mails:?}");
    mails
}

#[test]
fn recipients_of_copies_are_removed_from_the_form_that_stays() {
    let mut lab = lab("sendmail-copies");
    let dora = lab.pki.issue(&Profile::new("dora", "Dora@Partner.Example", Key::Rsa2048)).unwrap();
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.first_rules =
        "\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"when-possible\"\n"
            .to_owned();
    let files = [&lab.erin, &dora].map(|person| person.certificate.to_str().unwrap().to_owned());
    let imported = lab.admin(&["cert", "import", &files[0], &files[1]]).unwrap();
    assert!(imported.success(), "{imported:?}");
    let running = lab.start_sendmail().unwrap();
    let (alice, erin) = (running.lab.alice.address.as_str(), running.lab.erin.address.as_str());
    let sent = Letter { from: alice, to: erin, subject: "Split" }.text("the plan");
    let all = [erin, &dora.address, NOBODY];
    let reply = running.send(&Origin::login(alice), alice, &all, &sent).unwrap();
    assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
    let openssl = running.lab.openssl().unwrap();
    let mails = arrived(&running, 3);
    for (person, address) in [(&running.lab.erin, erin), (&dora, dora.address.as_str())] {
        let is_its = |mail: &&Delivered| mail.to.iter().any(|to| to.eq_ignore_ascii_case(address));
        let its: Vec<_> = mails.iter().filter(is_its).collect();
        assert_eq!((its.len(), its[0].to.len()), (1, 1), "{address}: {mails:?}");
        assert!(mime::find(&its[0].octets, b"the plan").is_none(), "{mails:?}");
        openssl.verify(&openssl.decrypt(&its[0].octets, person).unwrap()).unwrap();
    }
    let plain = mails.iter().find(|mail| mail.to == [NOBODY]).unwrap();
    openssl.verify(&plain.octets).unwrap();
}

#[test]
fn sendmail_gives_opened_text_to_nobody_who_may_not_be_removed() {
    let running = lab("sendmail-removal").start_sendmail().unwrap();
    let lab = &running.lab;
    let (erin, bob) = (lab.erin.address.as_str(), lab.bob.address.as_str());
    let text = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";
    let entity = lab.openssl().unwrap().encrypt(text, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let mut count = 0;
    for (number, (other, code)) in [
        (&b"<mallory@example.org>"[..], 250),
        (b"<Mallory@Example.ORG>", 250),
        (b"<@relay.invalid:mallory@example.org>", 553),
        // Sendmail itself refuses this one.
        (b"Mallory <mallory@example.org>", 555),
        (b"<g:mallory@example.org;>", 553),
        // And this one.
        (b"<mallory+\xff@example.org>", 501),
        (b"<\"mallory\"@example.org>", 250),
        (b"<mallory@example.org.>", 250),
        (b"<mallory@example.org(x)>", 250),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = other.escape_ascii();
        let subject = format!("Removed {number}");
        let sent = Letter { from: erin, to: bob, subject: &subject }.carrying(&entity);
        let mut client = running.postfix.connect(&Origin::remote()).unwrap();
        client.command(&format!("MAIL FROM:<{erin}>")).unwrap();
        assert!(client.command(&format!("RCPT TO:<{bob}>")).unwrap().is_positive());
        client.raw(&[b"RCPT TO:", other, b"\r\n"].concat()).unwrap();
        let reply = client.reply().unwrap();
        assert_eq!(reply.code, code, "{shown} {reply:?}");
        assert_eq!(client.command("DATA").unwrap().code, 354);
        client.raw(&sent).unwrap();
        let reply = client.command(".").unwrap();
        assert_eq!(reply.code, 250, "{shown} {reply:?} {}", running.milter.log());
        // Bob alone; both; or each a form of his own.
        let is_plain = [&b"<mallory@example.org>"[..], b"<Mallory@Example.ORG>"].contains(&other);
        let before = count;
        count += if is_plain { 2 } else { 1 };
        let mails = arrived(&running, count);
        let mails = &mails[before..];
        let is_open = |mail: &&Delivered| mime::find(&mail.octets, b"for bob only").is_some();
        for mail in mails.iter().filter(is_open) {
            assert_eq!(mail.to, [bob], "{shown} {mail:?}");
        }
        let is_any_open = mails.iter().any(|mail| is_open(&mail));
        assert_eq!(is_any_open, is_plain || code != 250, "{shown} {mails:?}");
    }
}
