//! What the gateway is for, with Postfix and with Sendmail: the same mail through both.

use testkit::lab::Running;
use testkit::mail::{Letter, ugly_entity};
use testkit::mta::Mta;
use testkit::peers::Recipient;
use testkit::smtp::Origin;
use testkit::{Lab, mime};

use crate::common::{assert_same_content, our_results, verdict, with_every_mta};

const TO: &str = "friend@partner.example";

with_every_mta! {
    in "every-mta";
    outgoing_mail_of_every_shape_leaves_signed
    incoming_ciphertext_is_opened_and_signatures_are_judged
    what_must_not_leave_waits_and_without_the_milter_all_waits
}

fn outgoing_mail_of_every_shape_leaves_signed<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let letter = Letter { from: &lab.alice.address, to: TO, subject: "Shapes" };
    let line = "twenty octets long\r\n";
    let mut shapes = vec![
        ("empty", String::new()),
        ("dots", ".\r\n..\r\n.a\r\n".to_owned()),
        ("8 bits", "K\u{f6}ln, \u{20ac} 5\r\n".repeat(100)),
        ("From lines", "From here\r\nFrom there  \r\n".to_owned()),
        ("large", line.repeat(150_000)),
    ];
    // The MTA sends the body in pieces of 65535 octets.
    for length in [65_534, 65_535, 65_536] {
        let text = format!("{}{}", line.repeat(length / 20), "x".repeat(length % 20));
        shapes.push(("around a piece", format!("{}\r\n", text.trim_end())));
    }
    for (shape, text) in shapes {
        let sent = letter.text(&text);
        let mail = running.outgoing(&lab.alice, TO, &sent).unwrap_or_else(|error| {
            panic!("{shape}: {error:#}\n{}\n{}", running.milter.log(), running.postfix.log())
        });
        let content = openssl.verify(&mail.octets).unwrap_or_else(|error| panic!("{shape}: {error:#}"));
        assert_same_content(&content, &sent);
        assert_eq!(mime::values(&mail.octets, "content-type").len(), 1, "{shape}");
        assert_eq!(mime::values(&mail.octets, "mime-version").len(), 1, "{shape}");
    }
}

fn incoming_ciphertext_is_opened_and_signatures_are_judged<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let bob = lab.bob.address.as_str();
    let letter = Letter { from: &lab.erin.address, to: bob, subject: "Incoming" };

    let content = mime::crlf(&ugly_entity(300_000));
    let entity = openssl.encrypt(&content, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let mail = running.incoming(&[bob], &letter.carrying(&entity)).unwrap();
    assert_same_content(&mail.octets, &content);
    assert!(mime::find(&mail.octets, b"smime.p7m").is_none(), "{mail:?}");

    let text = b"Content-Type: text/plain\r\n\r\nsigned by erin\r\n";
    let signed = openssl.sign(text, &lab.erin).unwrap();
    let forged = format!("Authentication-Results: {}; smime=pass\r\n", Lab::AUTHSERV_ID);
    let sent = [forged.repeat(3).into_bytes(), letter.carrying(&signed)].concat();
    let mail = running.incoming(&[bob], &sent).unwrap();
    assert_eq!(verdict(&mail), "pass", "{mail:?}");
    let plain = [forged.into_bytes(), letter.text("no signature at all")].concat();
    let mail = running.incoming(&[bob], &plain).unwrap();
    assert!(our_results(&mail).iter().all(|value| !value.contains("smime=pass")), "{mail:?}");
}

fn what_must_not_leave_waits_and_without_the_milter_all_waits<M: Mta>(running: &mut Running<M>) {
    let before = running.sink.mails().len();
    let nobody = "nobody@example.org";
    let letter = Letter { from: nobody, to: TO, subject: "No key" }.text("must be signed");
    let reply = running.send(&Origin::login("nobody"), nobody, &[TO], &letter).unwrap();
    assert_eq!((reply.code, reply.text.starts_with("4.3.2")), (451, true), "{reply:?}");
    // Nobody logs in where Sendmail misses its milter.
    let ours = &Origin::host([192, 0, 2, 7]);
    running.milter.stop().unwrap();
    let alice = running.lab.alice.address.clone();
    let letter = Letter { from: &alice, to: TO, subject: "Waits" }.text("signed or not at all");
    let reply = running.send(ours, &alice, &[TO], &letter).unwrap();
    assert_eq!(reply.code, 451, "{reply:?}");
    assert_eq!(running.sink.mails().len(), before);
    running.restart_milter().unwrap();
    let mail = running.deliver_in_time(ours, &alice, &[TO], &letter).unwrap();
    running.lab.openssl().unwrap().verify(&mail.octets).unwrap();
}
