//! Outgoing mail leaves signed, and what others verify is what was sent.

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::sink::{Delivered, Offer};
use testkit::smtp::Origin;
use testkit::{Lab, mime};

use crate::common::{assert_same_content, assert_untouched, with_every_mta};

with_every_mta! {
    in "outgoing";
    a_big_ugly_mail_leaves_signed_and_openssl_gpgsm_and_nss_verify_it
    mail_of_every_shape_leaves_signed
    a_mail_without_body_is_signed_as_one_empty_line
    mail_that_is_signed_encrypted_or_pgp_already_is_left_alone
    a_notice_from_the_null_sender_is_left_alone
}

with_every_mta! {
    a_next_hop_without_8bitmime_does_not_break_the_signature
}

const TO: &str = "friend@partner.example";

/// Everything the signed form promises, judged by OpenSSL.
#[track_caller]
fn assert_signed(lab: &Lab, mail: &Delivered, sent: &[u8]) {
    let content = lab.openssl().unwrap().verify(&mail.octets).unwrap();
    assert_same_content(&content, sent);
    let signed = mime::signed(&mail.octets).unwrap();
    assert_eq!(mime::crlf(&content), signed.content, "what was verified is what is shown");
    assert_nothing_around_parts(mail);
    for line in signed.content.split(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line).into_owned();
        assert!(line.is_ascii() && line.len() <= 998, "not safe for 7 bits: {text}");
        assert!(!line.starts_with(b"From "), "an mbox would change: {text}");
        assert!(!line.ends_with(b" ") && !line.ends_with(b"\t"), "a gateway would trim: {text:?}");
    }
    for name in ["mime-version", "content-type"] {
        assert_eq!(mime::values(&mail.octets, name).len(), 1, "one {name} outside");
    }
    for name in ["content-transfer-encoding", "content-disposition"] {
        assert_eq!(mime::values(&mail.octets, name), Vec::<String>::new(), "no {name} outside");
    }
    for name in ["from", "to", "subject", "date", "message-id"] {
        assert_eq!(mime::values(&mail.octets, name), mime::values(sent, name), "{name} stays outside");
    }
}

/// What some agents show, or drop, and others sign: nothing stands before the first and behind the last boundary, neither
/// around the signature nor in what is signed.
fn assert_nothing_around_parts(mail: &Delivered) {
    let text = String::from_utf8_lossy(&mail.octets);
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let boundary = body.lines().next().unwrap();
    assert!(boundary.starts_with("--") && boundary.len() > 10, "{mail:?}");
    assert!(body.ends_with(&format!("\r\n{boundary}--\r\n")), "{mail:?}");
    for around in testkit::mail::AROUND_PARTS {
        assert!(!text.contains(around), "{around}: {mail:?}");
    }
}

/// By an RSA key, and by one of a curve.
fn a_big_ugly_mail_leaves_signed_and_openssl_gpgsm_and_nss_verify_it<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let (gpgsm, nss) = (lab.gpgsm().unwrap(), lab.nss().unwrap());
    for (person, octets) in [(&lab.alice, 5_000_000), (&lab.carol, 1_000)] {
        let sent = Letter { from: &person.address, to: TO, subject: "Big and ugly" }.ugly(octets);
        let mail = running.outgoing(person, TO, &sent).unwrap();
        assert_signed(lab, &mail, &sent);
        let signed = mime::signed(&mail.octets).unwrap();
        gpgsm.verify(&signed).unwrap();
        nss.verify(&signed).unwrap();
    }
}

fn mail_of_every_shape_leaves_signed<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let letter = Letter { from: &lab.alice.address, to: TO, subject: "Shape" };
    let header = letter.header();
    let around = testkit::mail::AROUND_PARTS;
    let shapes: [(&str, String); 7] = [
        ("no MIME fields", format!("{header}\r\nhello\r\n")),
        ("only dots", format!("{header}\r\n.\r\n..\r\n...\r\n")),
        ("8-bit without MIME fields", format!("{header}\r\nGrüße\r\n")),
        (
            "base64 with a disposition",
            format!(
                "{header}MIME-Version: 1.0\r\nContent-Type: application/pdf; name=x.pdf\r\n\
                 Content-Disposition: attachment; filename=x.pdf\r\nContent-Transfer-Encoding: base64\r\n\
                 \r\nJVBERg==\r\n"
            ),
        ),
        (
            "folded Content-Type",
            format!(
                "{header}MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n\tcharset=\"utf-8\"\r\n\
                 Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =20\r\n"
            ),
        ),
        ("one very long line", format!("{header}\r\n{}\r\n", "x".repeat(20_000))),
        (
            "text around the parts of parts",
            format!(
                "{header}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n{0}\r\n--a\r\n\
                 Content-Type: multipart/alternative; boundary=b\r\n\r\n{0}\r\n--b\r\n\r\nhello\r\n--b--\r\n\
                 {1}\r\n--a--\r\n{1}\r\n",
                around[0], around[1]
            ),
        ),
    ];
    for (shape, sent) in shapes {
        let mail = running.outgoing(&lab.alice, TO, sent.as_bytes()).unwrap();
        let content = lab.openssl().unwrap().verify(&mail.octets);
        let content = content.unwrap_or_else(|error| panic!("{shape}: {error}"));
        assert_same_content(&content, sent.as_bytes());
        assert_nothing_around_parts(&mail);
    }
}

fn a_mail_without_body_is_signed_as_one_empty_line<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let letter = Letter { from: &lab.alice.address, to: TO, subject: "Empty" };
    for sent in [letter.header(), format!("{}\r\n", letter.header())] {
        let mail = running.outgoing(&lab.alice, TO, sent.as_bytes()).unwrap();
        let content = lab.openssl().unwrap().verify(&mail.octets).unwrap();
        assert_eq!(mime::leaves(&content).unwrap()[0].octets, b"\r\n", "{mail:?}");
    }
}

fn a_next_hop_without_8bitmime_does_not_break_the_signature<M: Mta>() {
    let running = M::start(Lab::new("seven").unwrap(), Offer::SevenBit).unwrap();
    let lab = &running.lab;
    let sent = Letter { from: &lab.alice.address, to: TO, subject: "Seven bits" }.ugly(10_000);
    let mail = running.outgoing(&lab.alice, TO, &sent).unwrap();
    assert_signed(lab, &mail, &sent);
}

#[test]
fn a_milter_at_a_unix_socket_serves_too() {
    let mut lab = Lab::new("unix").unwrap();
    lab.config.listen = format!("unix:{}", lab.workdir.join("m.sock").display());
    lab.config.socket_mode = Some("666".to_owned());
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let sent = Letter { from: &lab.alice.address, to: TO, subject: "By socket" }.text("hello");
    let mail = running.outgoing(&lab.alice, TO, &sent).unwrap();
    assert_signed(lab, &mail, &sent);
}

fn mail_that_is_signed_encrypted_or_pgp_already_is_left_alone<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let content = b"Content-Type: text/plain\r\n\r\nhello\r\n";
    let letter = Letter { from: &lab.alice.address, to: TO, subject: "Already" };
    let pgp =
        b"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\r\n\r\n\
        --b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\n\
        Content-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n\
        jA0ECQMCvKO7LDasqh//0jkBzbr0/QAO1u6f2hdvuLaClCUgEcrrv7yp1ZFg7mqg\r\n\
        JliNe2f+soL3vh5Nz3LxyETQ3HwdA2pErZY=\r\n=+wVK\r\n-----END PGP MESSAGE-----\r\n--b--\r\n";
    for entity in [
        openssl.sign(content, &lab.alice).unwrap(),
        openssl.sign_with(content, &lab.alice, &["-nodetach"]).unwrap(),
        openssl.encrypt(content, &[testkit::peers::Recipient::pkcs1(&lab.erin)], &[]).unwrap(),
        pgp.to_vec(),
    ] {
        let sent = letter.carrying(&entity);
        let mail = running.outgoing(&lab.alice, TO, &sent).unwrap();
        assert_untouched(&mail, &sent);
    }
}

fn a_notice_from_the_null_sender_is_left_alone<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let sent = Letter { from: &lab.alice.address, to: TO, subject: "Out of office" }.text("not here");
    let mail = running.deliver(&Origin::login(&lab.alice.address), "", &[TO], &sent).unwrap();
    assert_untouched(&mail, &sent);
}
