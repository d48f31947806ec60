//! What a sender hears of mail that was delivered, who asked to hear of it (`NOTIFY=SUCCESS` of RFC 3461).

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::peers::{Recipient, pkcs7_mime};
use testkit::sink::Delivered;
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";

/// Sends a mail from erin with such a `RCPT TO:`, waits until Postfix has nothing more to do, and gives what left it.
fn sent(running: &Running, recipient: &str, mail: &[u8]) -> Vec<Delivered> {
    running.sink.take();
    let mut client = running.postfix.connect(&Origin::remote()).unwrap();
    let mail = std::str::from_utf8(mail).unwrap();
    for line in [
        &format!("MAIL FROM:<{}> ENVID=seven", running.lab.erin.address),
        &format!("RCPT TO:{recipient}"),
        "DATA",
        &format!("{mail}."),
    ] {
        let reply = client.command(line).unwrap();
        assert!(reply.is_positive(), "{recipient}: {reply:?}");
    }
    // A report is in the queue before the mail that it is about has left it.
    let idle = || Ok(running.postfix.queue()?.is_empty().then_some(()));
    wait::until("an empty queue", Duration::from_mins(1), idle).unwrap();
    running.sink.take()
}

/// Good ciphertext for bob, and such that no key and no padding of it is right.
fn tries(lab: &Lab) -> [(&'static str, Vec<u8>); 3] {
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Captured" };
    let good = lab.openssl().unwrap().encrypt(TEXT, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let good = letter.carrying(&good);
    let octets = mime::leaves(&good).unwrap().remove(0).octets;
    let key = mime::find(&octets, &[0x04, 0x82, 0x01, 0x00]).unwrap() + 4;
    let changed = |at: usize| {
        let mut bad = octets.clone();
        bad[at] ^= 0x55;
        letter.carrying(&pkcs7_mime("enveloped-data", &bad))
    };
    [("good", good), ("a bad key", changed(key + 10)), ("bad padding", changed(octets.len() - 1))]
}

#[test]
fn no_report_of_success_tells_what_became_of_ciphertext() {
    let running = Lab::new("reports").unwrap().start().unwrap();
    let lab = &running.lab;
    let (bob, erin) = (lab.bob.address.as_str(), lab.erin.address.as_str());
    let plain = Letter { from: erin, to: bob, subject: "Clear" }.text("Hello.");
    let [mail, report] = &sent(&running, &format!("<{bob}> NOTIFY=SUCCESS"), &plain)[..] else {
        panic!("of mail in clear there is a report")
    };
    let (mail, report) = if mail.from.is_empty() { (report, mail) } else { (mail, report) };
    assert_eq!((mail.to.as_slice(), report.to.as_slice()), (&[bob.to_owned()][..], &[erin.to_owned()][..]));

    for (name, mail) in tries(lab) {
        for recipient in [
            format!("<{bob}> NOTIFY=SUCCESS"),
            format!("<{bob}> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;{bob}"),
            format!("<{}> notify=success", bob.to_uppercase()),
            format!("{bob} NOTIFY=SUCCESS"),
        ] {
            let arrived = sent(&running, &recipient, &mail);
            let [mail] = &arrived[..] else { panic!("{name}, {recipient}: {arrived:?}") };
            assert_eq!(mail.from, erin, "{name}, {recipient}");
            let [to] = &mail.to[..] else { panic!("{name}, {recipient}: {mail:?}") };
            assert!(to.eq_ignore_ascii_case(bob), "{name}, {recipient}: {to}");
        }
    }
}

#[test]
fn who_is_named_again_for_the_sake_of_reports_gets_one_mail_and_failures_are_told() {
    let running = Lab::new("again").unwrap().start().unwrap();
    let lab = &running.lab;
    let (bob, erin) = (lab.bob.address.as_str(), lab.erin.address.as_str());
    running.postfix.set(&format!("virtual_alias_maps = inline:{{{bob}=bob@store.example}}")).unwrap();
    let recipient = format!("<{bob}> NOTIFY=SUCCESS,FAILURE");
    for (name, mail) in tries(lab) {
        // That the alias was expanded, Postfix has noted before it asks about the message, and it reports that.
        let arrived = sent(&running, &recipient, &mail);
        let mails: Vec<_> = arrived.iter().filter(|mail| !mail.from.is_empty()).collect();
        let [mail] = &mails[..] else { panic!("{name}: {arrived:?}") };
        assert_eq!(mail.to, ["bob@store.example"], "{name}");
    }
    running.postfix.set("virtual_alias_maps =").unwrap();
    running.sink.fill(bob);
    for (name, mail) in tries(lab) {
        let arrived = sent(&running, &recipient, &mail);
        let [bounce] = &arrived[..] else { panic!("{name}: {arrived:?}") };
        assert_eq!((bounce.from.as_str(), bounce.to.as_slice()), ("", &[erin.to_owned()][..]), "{name}");
        for told in ["552 5.2.2", "text/rfc822-headers", "Original-Envelope-Id: seven"] {
            assert!(mime::find(&bounce.octets, told.as_bytes()).is_some(), "{name}, {told}: {bounce:?}");
        }
    }
}
