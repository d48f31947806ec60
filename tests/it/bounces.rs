//! What goes back to the sender of mail that was taken and opened, and cannot be delivered later.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::peers::Recipient;
use testkit::sink::{Delivered, Offer};
use testkit::smtp::Origin;
use testkit::{Lab, mime};

use crate::common::{assert_untouched, with_every_mta};

with_every_mta! {
    in "bounces";
    the_text_of_an_opened_mail_never_goes_back_in_a_bounce
    mail_that_was_not_opened_goes_back_whole
}

with_every_mta! {
    bounces_of_opened_mail_go_to_whom_the_configuration_names
}

/// A multiple of three octets, so that its base64 is the same wherever a line of it begins.
const SECRET: &str = "the secret that is for bob alone ";

/// The secret as a text in each transfer encoding.
fn entities() -> [(&'static str, String); 3] {
    let base64 = data_encoding::BASE64.encode(SECRET.repeat(3).as_bytes());
    let entity = |encoding: &str, body: &str| {
        format!("Content-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}\r\n")
    };
    [
        ("7bit", entity("7bit", SECRET)),
        ("quoted-printable", entity("quoted-printable", &SECRET.replace("for", "f=6F=\r\nr"))),
        ("base64", entity("base64", &base64)),
    ]
}

/// Whether the secret can be read from the octets, however it is encoded.
fn tells_the_secret(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    let packed: String = text.split_whitespace().collect();
    let plain = packed.replace("=6F", "o").replace('=', "");
    plain.contains(&SECRET.replace(' ', ""))
        || packed.contains(&data_encoding::BASE64.encode(SECRET.as_bytes()))
}

/// Has a mail from erin to bob taken, refused by the next hop and bounced; erin asks for all of it back.
fn bounce<M: Mta>(running: &Running<M>, mail: &[u8]) -> Delivered {
    let before = running.sink.mails().len();
    let (erin, bob) = (&running.lab.erin.address, &running.lab.bob.address);
    let mut client = running.postfix.connect(&Origin::remote()).unwrap();
    let reply = client.send_with(erin, "BODY=8BITMIME RET=FULL ENVID=seven", &[bob], mail).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let mails = running.sink.wait_for(before + 1, Duration::from_mins(1)).unwrap();
    let [bounce] = &mails[before..] else { panic!("{mails:?}") };
    assert_eq!(bounce.from, "", "not a bounce: {bounce:?}");
    bounce.clone()
}

fn letter(lab: &Lab) -> Letter<'_> {
    Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Captured" }
}

fn sealed(lab: &Lab, entity: &str) -> Vec<u8> {
    let entity = lab.openssl().unwrap().encrypt(entity.as_bytes(), &[Recipient::pkcs1(&lab.bob)], &[]);
    letter(lab).carrying(&entity.unwrap())
}

fn the_text_of_an_opened_mail_never_goes_back_in_a_bounce<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let (erin, bob) = (lab.erin.address.as_str(), lab.bob.address.as_str());
    for (encoding, entity) in entities() {
        let arrived = running.incoming(&[bob], &sealed(lab, &entity)).unwrap();
        assert_eq!(arrived.from, erin);
        assert!(tells_the_secret(&arrived.octets), "{encoding}: {arrived:?}");
    }
    running.sink.fill(bob);
    for (encoding, entity) in entities() {
        let bounce = bounce(running, &sealed(lab, &entity));
        assert_eq!(bounce.to, [erin], "{encoding}");
        assert!(!tells_the_secret(&bounce.octets), "{encoding}: {bounce:?}");
        // It is a bounce like any other, but for the text.
        // Sendmail forgets ENVID when it is told another RET.
        let id = if M::IS_SENDMAIL { "Action: failed" } else { "Original-Envelope-Id: seven" };
        for told in ["552 5.2.2", "Subject: Captured", id, "text/rfc822-headers"] {
            assert!(mime::find(&bounce.octets, told.as_bytes()).is_some(), "{encoding}, {told}: {bounce:?}");
        }
    }
}

fn mail_that_was_not_opened_goes_back_whole<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    running.sink.fill(&lab.bob.address);
    for (encoding, entity) in entities() {
        let bounce = bounce(running, &letter(lab).carrying(entity.as_bytes()));
        assert_eq!(bounce.to, [lab.erin.address.as_str()]);
        assert!(tells_the_secret(&bounce.octets), "{encoding}: {bounce:?}");
        assert!(mime::find(&bounce.octets, b"message/rfc822").is_some(), "{bounce:?}");
    }
}

fn bounces_of_opened_mail_go_to_whom_the_configuration_names<M: Mta>() {
    let mut lab = Lab::new("redirected").unwrap();
    lab.config.opened_mail_sender = Some("postmaster@example.org".to_owned());
    let running = M::start(lab, Offer::EightBit).unwrap();
    let lab = &running.lab;
    let bob = lab.bob.address.as_str();
    let [(_, entity), ..] = entities();
    let opened = running.incoming(&[bob], &sealed(lab, &entity)).unwrap();
    assert_eq!(opened.from, "postmaster@example.org");
    let plain = letter(lab).text("Hello.");
    let untouched = running.incoming(&[bob], &plain).unwrap();
    assert_eq!(untouched.from, lab.erin.address);
    assert_untouched(&untouched, &plain);
    let answer = running.deliver(&Origin::remote(), "", &[bob], &sealed(lab, &entity)).unwrap();
    assert_eq!(answer.from, "", "what is never bounced must stay so");
    running.sink.fill(bob);
    let bounce = bounce(&running, &sealed(lab, &entity));
    assert_eq!(bounce.to, ["postmaster@example.org"]);
    assert!(!tells_the_secret(&bounce.octets), "{bounce:?}");
}
