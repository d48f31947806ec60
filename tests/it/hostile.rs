//! Mail that wants to do harm is delivered, and harms nobody but itself.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use testkit::lab::Running;
use testkit::mail::{Letter, Noise};
use testkit::mta::Mta;
use testkit::peers::{multipart_signed, pkcs7_mime};
use testkit::smtp::Origin;
use testkit::{Lab, mime};

use crate::common::{assert_untouched, our_results, with_every_mta};

with_every_mta! {
    in "hostile";
    hostile_mail_from_outside_arrives_untouched_and_never_passes
    hostile_mail_of_our_users_leaves_signed_or_not_at_all_or_was_secured_before
}

const TO: &str = "friend@partner.example";

fn nested(media_type: &str, depth: usize) -> Vec<u8> {
    let mut entity = String::new();
    for level in 0..depth {
        write!(entity, "Content-Type: {media_type}; boundary=b{level}\r\n\r\n--b{level}\r\n").unwrap();
    }
    entity.push_str("Content-Type: text/plain\r\n\r\nat the bottom\r\n");
    for level in (0..depth).rev() {
        write!(entity, "\r\n--b{level}--\r\n").unwrap();
    }
    entity.into_bytes()
}

/// Each hostile mail with a name; `letter` gives the fields that are not about the content.
fn hostile_mails(lab: &Lab, letter: &Letter<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let openssl = lab.openssl().unwrap();
    let content = b"Content-Type: text/plain\r\n\r\nhello\r\n";
    let opaque = openssl.sign_with(content, &lab.erin, &["-nodetach"]).unwrap();
    let opaque = mime::leaves(&mime::crlf(&opaque)).unwrap().remove(0).octets;
    let mut noise = Noise(7);
    let garbage: Vec<u8> = (0..5_000).map(|_| u8::try_from(noise.below(256)).unwrap()).collect();
    let indefinite = [[0x30, 0x80].repeat(100_000), vec![0; 1000]].concat();
    let definite: Vec<u8> = (0..30_000).flat_map(|_| [0x30, 0x84, 0x7f, 0xff, 0xff, 0xff]).collect();
    let enveloped = |object: &[u8]| letter.carrying(&pkcs7_mime("enveloped-data", object));
    let signed = |object: &[u8]| letter.carrying(&pkcs7_mime("signed-data", object));
    let text = |text: &str| letter.carrying(text.as_bytes());
    let pkcs7 = "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n";
    vec![
        ("empty", Vec::new()),
        ("an empty line", b"\r\n".to_vec()),
        ("no header", b"hello\r\n".to_vec()),
        ("a colon", b":\r\n\r\n:\r\n".to_vec()),
        ("200 nested multiparts", letter.carrying(&nested("multipart/mixed", 200))),
        ("200 nested signatures", letter.carrying(&nested("multipart/signed", 200))),
        ("200 nested messages", text(&"Content-Type: message/rfc822\r\n\r\n".repeat(200))),
        (
            "5,000 parts",
            text(&format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
                "--b\r\n\r\nx\r\n".repeat(5_000)
            )),
        ),
        ("truncated base64", text(&format!("{pkcs7}MIIBgQYJKoZIhvcNAQcDoIIBcjCCAW4CAQAxggE\r\n"))),
        ("base64 that is none", text(&format!("{pkcs7}M=I=I=*&%\u{fc}\r\n"))),
        ("no base64 at all", text(pkcs7)),
        ("garbage for EnvelopedData", enveloped(&garbage)),
        ("garbage for SignedData", signed(&garbage)),
        ("garbage for a signature", letter.carrying(&multipart_signed(content, &garbage))),
        ("an empty signature", letter.carrying(&multipart_signed(content, b""))),
        ("an object cut in two", signed(&opaque[..opaque.len() / 2])),
        ("100,000 indefinite lengths", signed(&indefinite)),
        ("30,000 huge lengths", enveloped(&definite)),
        ("multipart without boundary", text("Content-Type: multipart/signed\r\n\r\n--\r\n\r\n----\r\n")),
        (
            "an empty boundary",
            text("Content-Type: multipart/signed; boundary=\"\"\r\n\r\n--\r\n\r\n----\r\n"),
        ),
        (
            "signed with one part",
            text("Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"),
        ),
        ("Content-Type of nonsense", text("Content-Type: ;;=;\"\\\r\n\r\nx\r\n")),
        (
            "2,000 parameters",
            text(&format!("Content-Type: text/plain{}\r\n\r\nx\r\n", ";\r\n a=b".repeat(2_000))),
        ),
        (
            "ten Content-Types",
            text(&format!("{}\r\nx\r\n", "Content-Type: multipart/signed; boundary=b\r\n".repeat(10))),
        ),
        ("900 fields", text(&format!("{}\r\nx\r\n", "X-A: b\r\n".repeat(900)))),
        ("control characters", text("X-A: \u{1}\u{7f}\u{1b}[31m %s%n\r\n\r\n\u{1}\u{8}\u{7f}\r\n")),
    ]
}

fn assert_alive<M: Mta>(running: &mut Running<M>) {
    assert!(running.milter.is_running());
    let log = running.milter.log();
    assert!(!log.contains("panicked"), "{log}");
    let lab = &running.lab;
    let sent = Letter { from: &lab.alice.address, to: TO, subject: "Still alive" }.text("hello");
    let mail = running.outgoing(&lab.alice, TO, &sent).unwrap();
    lab.openssl().unwrap().verify(&mail.octets).unwrap();
}

fn hostile_mail_from_outside_arrives_untouched_and_never_passes<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Hostile" };
    for (what, sent) in hostile_mails(lab, &letter) {
        let started = Instant::now();
        let delivered = running.incoming(&[&lab.bob.address], &sent);
        let mail = delivered.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(started.elapsed() < Duration::from_secs(10), "{what}: took {:?}", started.elapsed());
        if M::IS_SENDMAIL && mime::values(&sent, "from").is_empty() {
            // It gives an author, a date and an identifier to what has none.
            assert!(mail.octets.ends_with(&sent), "{what}: {mail:?}");
        } else {
            assert_untouched(&mail, &sent);
        }
        assert!(!our_results(&mail).iter().any(|result| result.contains("smime=pass")), "{what}: {mail:?}");
    }
    assert_alive(running);
}

fn hostile_mail_of_our_users_leaves_signed_or_not_at_all_or_was_secured_before<M: Mta>(
    running: &mut Running<M>,
) {
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let letter = Letter { from: &lab.alice.address, to: TO, subject: "Hostile" };
    for (what, sent) in hostile_mails(lab, &letter) {
        let started = Instant::now();
        let (reply, mail) =
            running.attempt(&Origin::login("alice"), &lab.alice.address, &[TO], &sent).unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{what}: took {:?}", started.elapsed());
        let Some(mail) = mail else {
            assert_eq!(reply.code / 100, 5, "{what} is refused for good: {reply:?}");
            continue;
        };
        let types = mime::values(&sent, "content-type").concat();
        let claims =
            ["multipart/signed", "application/pkcs7-mime"].iter().any(|kind| types.starts_with(kind));
        if claims {
            assert_untouched(&mail, &sent);
        } else {
            openssl.verify(&mail.octets).unwrap_or_else(|error| panic!("{what} left unsigned: {error}"));
        }
    }
    assert_alive(running);
}
