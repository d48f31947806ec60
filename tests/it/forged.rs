//! Verdicts in our name that are not ours are gone at delivery.

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::peers::Recipient;
use testkit::{Lab, mime};

use crate::common::{our_results, verdict, with_every_mta};

const FOREIGN: &str = "mx.partner.example; smime=pass";

with_every_mta! {
    in "forged";
    forged_verdicts_are_gone_and_those_of_others_stay
    a_verdict_hidden_in_the_encrypted_entity_does_not_surface
    an_author_who_appears_where_sendmail_cuts_from_was_not_found_good
}

/// Header fields as an attacker would write them, and one of another server between them.
fn forged_fields() -> String {
    let ours = Lab::AUTHSERV_ID;
    format!(
        "Authentication-Results: {ours}; smime=pass forged=1\r\n\
         Authentication-Results: {FOREIGN}\r\n\
         AUTHENTICATION-results: {};\r\n\tsmime=pass forged=2\r\n\
         Authentication-Results:\r\n (a \\) comment (nested))\r\n {ours} 1; smime=pass forged=3\r\n\
         Authentication-Results: \"{ours}\"; smime=pass forged=4\r\n",
        ours.to_ascii_uppercase()
    )
}

fn forged_verdicts_are_gone_and_those_of_others_stay<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Forged" };
    let sent = [forged_fields().as_bytes(), &letter.text("trust me")].concat();
    let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
    assert!(mime::find(&mail.octets, b"forged").is_none(), "{mail:?}");
    assert_eq!(verdict(&mail), "none");
    let all = mime::values(&mail.octets, "authentication-results");
    assert_eq!(all.len(), 2, "{mail:?}");
    assert_eq!(all[1], FOREIGN);
    assert!(mail.octets.ends_with(&letter.text("trust me")), "{mail:?}");
}

#[test]
fn forged_tags_and_fields_of_ours_are_gone_before_ours_are_written_on_what_is_opened_too() {
    let mut lab = Lab::new("tags").unwrap();
    lab.config.first_rules = "\n[[incoming]]\nsubject-tag = true\ndetails = true\n".to_owned();
    let running = lab.start().unwrap();
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let forged = "X-Hsmime-Details: smime=pass forged\r\nx-HSMIME-tag: forged\r\n";
    let inside = format!("{forged}Subject: [S/MIME: forged]\r\nContent-Type: text/plain\r\n\r\nhello\r\n");
    let signed = openssl.sign(inside.as_bytes(), &lab.erin).unwrap();
    let seal = |entity: &[u8]| openssl.encrypt(entity, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let sealed = [seal(inside.as_bytes()), seal(&mime::crlf(&signed))];
    let changed = String::from_utf8(signed.clone()).unwrap().replace("hello", "hellO").into_bytes();
    for (entity, tag, details) in [
        (b"Content-Type: text/plain\r\n\r\nhello\r\n".to_vec(), "", "smime=none"),
        (signed, "[S/MIME: signed] ", "smime=pass"),
        (changed, "[S/MIME: signature wrong] ", "smime=fail"),
        (sealed[0].clone(), "[S/MIME: encrypted] ", "smime=none"),
        (sealed[1].clone(), "[S/MIME: signed, encrypted] ", "smime=pass"),
    ] {
        for subject in ["[S/MIME: signed] Hi", "=?utf-8?B?W1MvTUlNRTogc2lnbmVkXQ==?= [s/mime:x] Hi", "Hi"] {
            let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject };
            let sent = [forged.as_bytes(), &letter.carrying(&entity)].concat();
            let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
            let seen = mime::values(&mail.octets, "subject");
            assert_eq!(seen, [format!("{tag}Hi")], "{subject}: {mail:?}");
            let found = mime::values(&mail.octets, "x-hsmime-details");
            assert!(found.len() == 1 && found[0].starts_with(details), "{details}: {mail:?}");
            let names = mime::field_names(&mail.octets);
            assert_eq!(names.iter().filter(|name| name.starts_with("x-hsmime-")).count(), 1, "{mail:?}");
        }
    }
}

/// smtp(8) puts CRLF and a blank behind octet 998 of a line, here between a backslash and the quote behind it: the quoted string
/// ends there, and another author is read than was judged.
#[test]
fn an_author_who_appears_where_postfix_breaks_a_line_was_not_found_good() {
    let running = Lab::new("broken-from").unwrap().start().unwrap();
    let lab = &running.lab;
    let (alice, erin) = (lab.alice.address.as_str(), lab.erin.address.as_str());
    let text = b"Content-Type: text/plain\r\n\r\nhello\r\n";
    let signed = lab.openssl().unwrap().sign(text, &lab.erin).unwrap();
    for (backslash, expected) in [(100, "pass"), (998, "policy")] {
        let padding = "A".repeat(backslash - "From: () \"Alice\\".len());
        let from = format!("({padding}) \"Alice\\\" <{alice}> (\" <{erin}>");
        let letter = Letter { from: &from, to: &lab.bob.address, subject: "Broken" };
        let mail = running.incoming(&[&lab.bob.address], &letter.carrying(&signed)).unwrap();
        let is_broken = mime::find(&mail.octets, b"Alice\\\r\n \" <alice").is_some();
        assert_eq!((verdict(&mail).as_str(), is_broken), (expected, backslash == 998), "{mail:?}");
    }
}

/// Sendmail writes 256 octets of an address field and drops the rest, which may be the end of the author's domain.
fn an_author_who_appears_where_sendmail_cuts_from_was_not_found_good<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let erin = lab.erin.address.as_str();
    let text = b"Content-Type: text/plain\r\n\r\nhello\r\n";
    let signed = lab.openssl().unwrap().sign(text, &lab.erin).unwrap();
    for (length, letter, expected) in
        [(246, "A", "pass"), (260, "A", "policy"), (136, "\u{400}", "pass"), (236, "\u{400}", "policy")]
    {
        let padding = letter.repeat((length - format!("\"\" <{erin}>").len()) / letter.len());
        let from = format!("\"{padding}\" <{erin}>");
        let letter = Letter { from: &from, to: &lab.bob.address, subject: "Cut" };
        let mail = running.incoming(&[&lab.bob.address], &letter.carrying(&signed)).unwrap();
        let shown = mime::values(&mail.octets, "from").concat();
        let is_cut = M::IS_SENDMAIL && expected == "policy";
        assert_eq!((verdict(&mail).as_str(), shown != from), (expected, is_cut), "{mail:?}");
    }
}

fn a_verdict_hidden_in_the_encrypted_entity_does_not_surface<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Hidden" };
    let content = format!(
        "{}Subject: promoted\r\nFrom: boss@example.org\r\nReceived: forged\r\n\
         Content-Type: text/plain\r\n\r\nhello\r\n",
        forged_fields()
    );
    let openssl = lab.openssl().unwrap();
    let entity = openssl.encrypt(content.as_bytes(), &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let mail = running.incoming(&[&lab.bob.address], &letter.carrying(&entity)).unwrap();
    assert!(mime::find(&mail.octets, b"hello").is_some(), "opened: {mail:?}");
    assert!(mime::find(&mail.octets, b"forged").is_none(), "{mail:?}");
    assert_eq!(our_results(&mail).len(), 1, "{mail:?}");
    assert_eq!(mime::values(&mail.octets, "subject"), ["Hidden"]);
    assert_eq!(mime::values(&mail.octets, "from"), [lab.erin.address.as_str()]);
}
