//! What an MTA writes otherwise than it came: no verdict of ours stands above it, and nothing that we sign is such.

use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::mta::Mta;
use testkit::sink::Delivered;
use testkit::{Lab, mime};

use crate::common::{verdict, with_every_mta};

const TO: &str = "friend@partner.example";

with_every_mta! {
    in "rewritten";
    what_sendmail_writes_otherwise_around_signed_text_was_not_found_good
    lines_that_sendmail_breaks_leave_encoded_and_signed
}

/// A part in front of the signed one as it is delivered.
const OTHER: &str = "--b\r\nContent-Type: text/html\r\n\r\nPay Mallory.\r\n";

fn has_other_part(mail: &Delivered) -> bool {
    mime::find(&mail.octets, format!("\r\n{OTHER}").as_bytes()).is_some()
}

fn has_other_text(mail: &Delivered) -> bool {
    mime::find(&mail.octets, b"\r\n\r\nDear: Bob").is_some()
}

fn has_no_boundary(mail: &Delivered) -> bool {
    !mime::values(&mail.octets, "content-type").concat().contains("boundary")
}

/// Where its limits of MIME are not 0, Sendmail writes each multipart anew: what is in front of the parts without the eighth bit,
/// which makes hyphens of 0xAD, and with delimiters where its buffer ends; a header up to a name of more than 100 octets, or none
/// behind a delimiter with as many blanks as its buffer has, the rest of which is text; and of a type 2047 octets.
fn what_sendmail_writes_otherwise_around_signed_text_was_not_found_good<M: Mta>(running: &mut Running<M>) {
    running.postfix.write_mime_anew().unwrap();
    let lab = &running.lab;
    let text = b"Content-Type: text/plain\r\n\r\nhello\r\n";
    let signed =
        String::from_utf8(mime::crlf(&lab.openssl().unwrap().sign(text, &lab.erin).unwrap())).unwrap();
    let boundary = signed.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let signed = signed.replace(boundary, "b");
    let (header, body) = signed.split_once("\r\n\r\n").unwrap();
    let parts = body.split_once("--b\r\n").map(|(_, rest)| format!("--b\r\n{rest}")).unwrap();
    let parts = parts.as_str();
    let padded = parts.replacen(
        "\r\n--b\r\n",
        &format!("\r\n--b{}\r\nDear: Bob, please pay Mallory.\r\n", " ".repeat(2044)),
        1,
    );
    let with_field = |field: &str| parts.replacen("\r\n--b\r\n", &format!("\r\n--b\r\n{field}"), 1);
    let long = format!("{}{OTHER}", "A".repeat(2047));
    let name = format!("X-{}: x\r\nDear: Bob, please pay Mallory.\r\n", "a".repeat(100));
    let [x, y, z] = [900, 900, 300].map(|length| "A".repeat(length));
    let many = format!("multipart/signed;\r\n x1=\"{x}\";\r\n x2=\"{y}\";\r\n x3=\"{z}\";");
    let many = header.replace("multipart/signed;", &many);
    let hyphens = [b"\xad\xad", &OTHER.as_bytes()[2..]].concat();
    let none: fn(&Delivered) -> bool = |_| false;
    for (header, preamble, parts, shows_other, expected) in [
        (header, b"Signed.\r\n\r\n".as_slice(), parts, none, "pass"),
        (header, &hyphens, parts, has_other_part, "neutral"),
        (header, long.as_bytes(), parts, has_other_part, "neutral"),
        (header, b"", &with_field(&name), has_other_text, "neutral"),
        (header, b"", &padded, has_other_text, "neutral"),
        (&many, b"Please pay Mallory.\r\n\r\n", parts, has_no_boundary, "neutral"),
    ] {
        let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Rewritten" };
        let sent =
            [letter.header().as_bytes(), header.as_bytes(), b"\r\n\r\n", preamble, parts.as_bytes()].concat();
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        let shown = String::from_utf8_lossy(&mail.octets);
        assert_eq!(verdict(&mail), expected, "{shown}");
        assert_eq!(shows_other(&mail), M::IS_SENDMAIL && expected != "pass", "what is shown: {shown}");
    }
}

/// Sendmail's mailers end a line at 990 octets: what is behind comes in another.
fn lines_that_sendmail_breaks_leave_encoded_and_signed<M: Mta>(running: &mut Running<M>) {
    let lab: &Lab = &running.lab;
    let letter = Letter { from: &lab.alice.address, to: TO, subject: "Long lines" };
    for length in [988, 989, 991, 995, 998] {
        let line = "x".repeat(length);
        let mail = running.outgoing(&lab.alice, TO, &letter.text(&format!("{line}\r\nthe end"))).unwrap();
        let content = lab.openssl().unwrap().verify(&mail.octets).unwrap();
        let leaves = mime::leaves(&content).unwrap();
        let text = String::from_utf8_lossy(&leaves[0].octets).into_owned();
        assert!(leaves.len() == 1 && text.starts_with(&format!("{line}\r\n")), "{length}: {mail:?}");
        let is_kept = mime::find(&mail.octets, format!("\r\n{line}\r\n").as_bytes()).is_some();
        assert_eq!(is_kept, length == 988, "{length}: {mail:?}");
    }
}
