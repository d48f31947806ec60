//! Where in a mail the signature stands, and what a reader may see beside it.

use smime::{
    MailAddress,
    ber::Tag,
    message::{AuthResult, Ciphertext, Reason, verify},
    mime::{Message, MimeEntity},
    protection::Payload,
    testing::{
        Node,
        fixtures::{data, now, trust},
    },
};

use crate::support::{
    ALICE, FORGED, Signed, TEXT, clear, mail, opaque, openssl_verifies, refused, signature, verdict,
};

fn signed() -> String {
    clear(TEXT, &signature("alice", TEXT))
}

fn multipart(kind: &str, parts: &[&str]) -> String {
    let parts = parts.join("\r\n--w\r\n");
    format!("Content-Type: multipart/{kind}; boundary=w\r\n\r\n--w\r\n{parts}\r\n--w--\r\n")
}

/// "Johnny, you are fired" (USENIX Security 2019), M1 to M4: text that nobody signed before, after and around the
/// part that somebody did, or that part hidden.
#[test]
fn a_signed_part_among_others_does_not_make_the_message_signed() {
    let signed = signed();
    let plain = "Content-Type: text/plain\r\n\r\nPay Mallory.\r\n";
    let hides = "Content-Type: text/html\r\n\r\n<p>Pay Mallory.</p><div style=\"display:none\">";
    let image = "Content-Type: text/html\r\n\r\n<p>Pay Mallory.</p><img src=\"cid:signed\">";
    let with_id = format!("Content-ID: <signed>\r\n{signed}");
    let attached = format!("Content-Disposition: attachment; filename=x\r\n{signed}");
    let forwarded = format!("Content-Type: message/rfc822\r\n\r\nFrom: {ALICE}\r\n{signed}");
    let opaque = opaque("signed-data", &data("opaque.p7m"));
    for (what, entity) in [
        ("M1: before", multipart("mixed", &[plain, &signed])),
        ("M1: after", multipart("mixed", &[&signed, plain])),
        ("M1: alone", multipart("mixed", &[&signed])),
        ("M1: opaque", multipart("mixed", &[plain, &opaque])),
        ("M2: hidden by HTML", multipart("mixed", &[hides, &signed])),
        ("M3: by cid", multipart("related", &[image, &with_id])),
        ("M3: another alternative", multipart("alternative", &[&signed, plain])),
        ("M3: digest", multipart("digest", &[&format!("\r\nFrom: {ALICE}\r\n{signed}")])),
        ("M4: attached", multipart("mixed", &[plain, &attached])),
        ("M4: forwarded", forwarded.clone()),
        ("M4: forwarded with a comment", multipart("mixed", &[plain, &forwarded])),
        ("a report", multipart("report", &[plain, &forwarded])),
        ("an unknown kind", multipart("unknown", &[&signed])),
        ("twice around", multipart("mixed", &[&multipart("mixed", &[&signed])])),
    ] {
        let forged = mail(ALICE, &entity);
        refused(what, &verdict(&forged), AuthResult::None, "not signed");
        openssl_verifies("wrapped", &forged, &[]).refuses(what);
    }
}

/// Only what is signed is in the signed part: a `multipart/signed` has no room for more (RFC 1847 2.1).
#[test]
fn a_signature_with_more_parts_than_two_does_not_pass() {
    let signed = signed();
    let extra = "--b\r\nContent-Type: text/html\r\n\r\nPay Mallory.\r\n";
    for (what, entity) in [
        ("after", signed.replace("--b--", &format!("{extra}--b--"))),
        ("before", signed.replacen("--b\r\n", &format!("{extra}--b\r\n"), 1)),
        (
            "in the preamble",
            signed.replacen("\r\n\r\n--b", "\r\n\r\n--c\r\n\r\nPay Mallory.\r\n--c--\r\n--b", 1),
        ),
        ("in the epilogue", format!("{signed}--b\r\n\r\nPay Mallory.\r\n--b--\r\n")),
        ("without an end", signed.replace("--b--", "")),
        ("the signature alone", signed.replacen(&format!("--b\r\n{TEXT}\r\n"), "", 1)),
        ("no part", signed.split("\r\n\r\n").next().unwrap().to_owned() + "\r\n\r\n"),
    ] {
        let verdict = verdict(&mail(ALICE, &entity));
        refused(what, &verdict, AuthResult::Neutral, "");
    }
}

/// CVE-2024-28054 (amavis): the filter and the mail program see other parts, because the boundary or the
/// type is there twice or can be read in two ways.
#[test]
fn what_is_read_in_two_ways_does_not_pass() {
    let signed = mail(ALICE, &signed());
    assert_eq!(verdict(&signed).result(), AuthResult::Pass);
    let type_of = signed.lines().find(|line| line.starts_with("Content-Type: multipart/signed")).unwrap();
    let with_type = |line: &str| signed.replacen(type_of, line, 1);
    let attack = |boundary: &str| {
        format!("--{boundary}\r\nContent-Type: text/plain\r\n\r\nPay Mallory.\r\n--{boundary}--\r\n")
    };
    let other = "Content-Type: multipart/mixed; boundary=x";
    for (what, forged) in [
        ("two types", with_type(&format!("{type_of}\r\n{other}")) + &attack("x")),
        ("two types, the other way round", with_type(&format!("{other}\r\n{type_of}")) + &attack("x")),
        ("the same type twice", with_type(&format!("{type_of}\r\n{type_of}"))),
        (
            "two boundaries",
            with_type(&type_of.replace("boundary=b", "boundary=b; boundary=x")) + &attack("x"),
        ),
        (
            "two boundaries, the other first",
            with_type(&type_of.replace("boundary=b", "boundary=x; boundary=b")) + &attack("x"),
        ),
        (
            "a boundary in pieces",
            with_type(&type_of.replace("boundary=b", "boundary*0=b; boundary*1=x")) + &attack("bx"),
        ),
        (
            "a boundary in another charset",
            with_type(&type_of.replace("boundary=b", "boundary*=utf-8''b; boundary=x")) + &attack("x"),
        ),
        (
            "a comment in the boundary",
            with_type(&type_of.replace("boundary=b", "boundary=b(x)")) + &attack("b(x)"),
        ),
        ("a quoted pair", with_type(&type_of.replace("boundary=b", "boundary=\"\\b\"")) + &attack("\\b")),
        ("an open quote", with_type(&type_of.replace("boundary=b", "boundary=\"b"))),
        ("an empty boundary", with_type(&type_of.replace("boundary=b", "boundary=\"\""))),
        ("no boundary", with_type(&type_of.replace("; boundary=b", ""))),
        ("a NUL in the boundary", with_type(&type_of.replace("boundary=b", "boundary=b\0x"))),
        ("a line like a delimiter in the text", signed.replace("Hello, Bob.", "--bx\r\nHello, Bob.")),
        ("a delimiter behind a bare CR", signed.replace("Hello, Bob.", "Hello, Bob.\r--b\rPay Mallory.")),
        (
            "base64 around the parts",
            signed.replacen("MIME-Version", "Content-Transfer-Encoding: base64\r\nMIME-Version", 1),
        ),
        (
            "two encodings of the parts",
            signed.replacen(
                "MIME-Version",
                "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\nMIME-Version",
                1,
            ),
        ),
        (
            "a type behind a line that is no field",
            signed.replacen("MIME-Version", "no field\r\nMIME-Version", 1),
        ),
    ] {
        assert_ne!(forged, signed, "{what}");
        let verdict = verdict(&forged);
        assert_ne!(verdict.result(), AuthResult::Pass, "{what}\n{forged}");
    }
}

/// The same, where nothing else is wrong: the signature covers what stands there, and only the way in which it can be
/// cut is the matter.
#[test]
fn a_rightly_signed_text_that_others_cut_elsewhere_does_not_pass() {
    let look = |mail: &str| {
        let entity = MimeEntity::parse(mail.as_bytes());
        verify(&entity, Ok(MailAddress::parse(ALICE).unwrap()), &trust(), now()).0
    };
    let of = |text: &str| mail(ALICE, &clear(text, &signature("alice", text)));
    let good = of(TEXT);
    assert_eq!(look(&good).result(), AuthResult::Pass);
    assert_eq!(look(&of(&TEXT.replace("Hello", "Hello --b"))).result(), AuthResult::Pass);
    let with_type = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replacen(from, to, 1)
    };
    let bounded = |boundary: &str| {
        let delimited = good.replace("\r\n--b", &format!("\r\n--{boundary}"));
        delimited.replacen("boundary=b", &format!("boundary=\"{boundary}\""), 1)
    };
    let common = ["=_b", "----=_Part_1.2", "=-=-=", "Apple-Mail=_6A-1", "b b", &"b".repeat(70)];
    for boundary in common {
        assert_eq!(look(&bounded(boundary)).result(), AuthResult::Pass, "{boundary}");
    }
    let signature_type = "Content-Type: application/pkcs7-signature";
    let in_signature = |fields: &str| with_type(signature_type, &format!("{fields}{signature_type}"));
    for (what, forged) in [
        ("a line that is no field", in_signature("X: y\r\nPay Mallory.\r\n")),
        ("a line of blanks", in_signature("X: y\r\n \r\n Pay Mallory.\r\n")),
        ("a bare LF", in_signature("X: y\n--evil\r\n")),
        ("a delimiter", in_signature("X: y\r\n--evil: x\r\n")),
        ("a field that ends Sendmail's header", in_signature("Text: y\r\nDear: Bob\r\n")),
    ] {
        refused(what, &look(&forged), AuthResult::Neutral, "in more ways than one");
    }
    // Read by RFC 2045 and 2231 each of these types is that of the good mail.
    for (what, forged) in [
        ("a comment", with_type("multipart/signed;", "multipart/signed (x);")),
        ("a comment with a boundary", with_type("boundary=b", "boundary=b (; boundary=x)")),
        ("a quoted pair", with_type("boundary=b", "boundary=\"\\b\"")),
        ("an asterisk", with_type("boundary=b", "boundary=b; x*0=y")),
        ("a boundary that begins with a blank", bounded(" b")),
        ("a boundary that some decode", bounded("=?us-ascii?q?evil?=")),
        ("a boundary that some cut", bounded(&"b".repeat(71))),
        ("a boundary of other characters", bounded("b<b>")),
        ("a line that begins like the delimiter", of(&TEXT.replace("Hello", "--bx\r\nHello"))),
        ("a closing delimiter with more behind it", of(&TEXT.replace("Hello", "--b--x\r\nHello"))),
        (
            "a delimiter behind a bare LF",
            of(&TEXT.replace("Hello", "x\r\n--b\r\n\r\nHello")).replacen("x\r\n--b", "x\n--b", 1),
        ),
        ("a delimiter behind a bare CR", of(&TEXT.replace("Hello", "x\r--b\r\n\r\nHello"))),
    ] {
        refused(what, &look(&forged), AuthResult::Neutral, "not clearly delimited");
    }
}

/// CVE-2023-51764 (SMTP smuggling) and its kin: octets that servers and programs take for different line ends, or
/// change on the way. They are signed rightly here, and still do not pass: others see another text.
#[test]
fn signed_text_with_octets_that_change_on_the_way_does_not_pass() {
    for (what, text) in [
        ("a bare CR", "Content-Type: text/plain\r\n\r\nHello\rPay Mallory.\r\n"),
        ("a CR at the end", "Content-Type: text/plain\r\n\r\nHello\r"),
        ("two CRs", "Content-Type: text/plain\r\n\r\nHello\r\r\nPay Mallory.\r\n"),
        ("a NUL", "Content-Type: text/plain\r\n\r\nHello\0Pay Mallory.\r\n"),
        ("a bare CR in the header", "Content-Type: text/plain\rX: y\r\n\r\nHello\r\n"),
    ] {
        let forged = mail(ALICE, &clear(text, &signature("alice", text)));
        refused(what, &verdict(&forged), AuthResult::Policy, "does not survive mail transport");
        if text.ends_with('\r') {
            continue;
        }
        // Nor do they where the text is inside the signature, in one piece or in many.
        let object = Signed::of(&signature("alice", text)).with_content(Some(text.as_bytes()));
        for pieces in [text.len(), 1, 2, 3] {
            let mut object = object.clone();
            let segments: Vec<_> = text.as_bytes().chunks(pieces).map(Node::octet_string).collect();
            *object.0.at(&[1, 0, 2, 1, 0]) = Node::constructed(Tag(0x24), segments);
            let forged = mail(ALICE, &opaque("signed-data", &object.to_der()));
            refused(what, &verdict(&forged), AuthResult::Policy, "does not survive mail transport");
        }
    }
    // Inside, what says that it is binary may hold any octets, and all text may have LF alone.
    for (text, result) in [
        ("Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\r", AuthResult::Pass),
        ("Content-Type: text/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\r", AuthResult::Policy),
        ("Content-Type: image/x\r\n\r\n\0\r", AuthResult::Policy),
        ("Content-Type: text/plain\n\nHello\n", AuthResult::Pass),
        // As NSS writes it.
        ("Content-Type: text/plain\r\n\r\nHello\r", AuthResult::Pass),
    ] {
        let object = Signed::of(&signature("alice", text)).with_content(Some(text.as_bytes()));
        let verdict = verdict(&mail(ALICE, &opaque("signed-data", &object.to_der())));
        assert_eq!(verdict.result(), result, "{text:?}: {}", verdict.reason());
    }
    // A bare LF is a CRLF before anybody looks: what was signed with it is no longer what arrives.
    let text = "Content-Type: text/plain\r\n\r\nHello\nPay Mallory.\r\n";
    let forged = mail(ALICE, &clear(text, &signature("alice", text)));
    refused("a bare LF", &verdict(&forged), AuthResult::Fail, "changed");
    assert!(
        !Message::from_stored(forged.as_bytes()).octets().windows(2).any(|w| w[1] == b'\n' && w[0] != b'\r')
    );
}

/// RFC 8551 3.7 ("process arbitrary nesting" within limits), and what is inside decides nothing for what is outside.
#[test]
fn a_good_signature_inside_a_bad_one_does_not_pass_nor_one_inside_nothing() {
    let inside = signed().replace("boundary=b", "boundary=i").replace("--b", "--i");
    let bad = clear(&inside.replace("Hello", "Jello"), &signature("alice", &inside));
    refused("bad outside", &verdict(&mail(ALICE, &bad)), AuthResult::Fail, "changed");
    let by_mallory = clear(&inside, &signature("mallory", &inside));
    let verdict_of_mallory = verdict(&mail(ALICE, &by_mallory));
    refused("mallory around alice", &verdict_of_mallory, AuthResult::Policy, "no path");
    let mut deep = FORGED.to_owned();
    for _ in 0..1000 {
        deep = multipart("signed", &[&deep]);
    }
    assert_ne!(verdict(&mail(ALICE, &deep)).result(), AuthResult::Pass);
    // Signed by the attacker, with alice's signature over something else as its content.
    let opaque = opaque("signed-data", &data("opaque.p7m"));
    let around = clear(&opaque, &signature("mallory", &opaque));
    assert!(matches!(verdict(&mail(ALICE, &around)).reason(), Reason::Path(_)));
}

/// RFC 8551 3.5.3.2: micalg is a hint. A wrong one neither breaks nor makes a signature.
#[test]
fn micalg_means_nothing() {
    for micalg in ["md5", "sha-512", "none", "\"\"", "\"sha-256,md5\""] {
        let entity = signed().replace("micalg=sha-256", &format!("micalg={micalg}"));
        assert_eq!(verdict(&mail(ALICE, &entity)).result(), AuthResult::Pass, "{micalg}");
        let forged = entity.replace("Hello, Bob", "Hello, Eve");
        refused(micalg, &verdict(&mail(ALICE, &forged)), AuthResult::Fail, "changed");
    }
}

/// What some programs take for the end of the header, or for a field of it: bare LF and CR, and lines that are no
/// field. As for an entity that comes out of a ciphertext, the sender is known from elsewhere.
#[test]
fn a_header_that_is_cut_elsewhere_by_others_does_not_pass() {
    let look = |entity: &str| {
        let entity = MimeEntity::parse(entity.as_bytes());
        let found = Payload::find(&entity).is_some();
        (verify(&entity, Ok(MailAddress::parse(ALICE).unwrap()), &trust(), now()).0, found)
    };
    let signed = signed();
    let ciphertext = opaque("enveloped-data", &data("der.p7m"));
    assert!(Ciphertext::find(&MimeEntity::parse(ciphertext.as_bytes())).is_some());
    let (good, found) = look(&signed);
    assert_eq!((good.result(), found), (AuthResult::Pass, true));
    for (what, fields) in [
        ("a field behind a bare LF", "X: y\nContent-Type: text/html\r\n"),
        ("an end behind a bare LF", "X: y\n\n<p>Pay Mallory.<!--\r\n"),
        ("a field behind a bare CR", "X: y\rContent-Type: text/html\r\n"),
        ("a line that is no field", "no field\r\n"),
        ("blanks where a field should be", " Content-Type: text/html\r\n"),
        ("a line of blanks in a field", "X: y\r\n \r\n Pay Mallory.\r\n"),
        ("a line of tabs and blanks in a field", "X: y\r\n\t \r\n Pay Mallory.\r\n"),
        ("a line of blanks at its end", "X: y\r\n \r\n"),
    ] {
        let (verdict, found) = look(&format!("{fields}{signed}"));
        refused(what, &verdict, AuthResult::Neutral, "in more ways than one");
        assert!(!found, "{what}");
        let ciphertext = format!("{fields}{ciphertext}");
        assert_eq!(Ciphertext::find(&MimeEntity::parse(ciphertext.as_bytes())), None, "{what}");
    }
}

/// A bare LF is digested as a CRLF: were the signed part's header read before, it would end elsewhere, and text of the
/// body would be fields that the signature seems to cover.
#[test]
fn what_was_verified_is_the_payload_to_the_octet() {
    let text = "Content-Type: text/plain; hp=\"clear\"\r\nSubject: Good\r\n\r\nX: y\r\nSubject: Pay Mallory\r\n\r\nquoted\r\n";
    let signed = mail(ALICE, &clear(text, &signature("alice", text)));
    let look = |mail: &str| {
        let entity = MimeEntity::parse(mail.as_bytes());
        let verdict = verify(&entity, Ok(MailAddress::parse(ALICE).unwrap()), &trust(), now()).0;
        (verdict, Payload::find(&entity).map(|payload| payload.entity().octets().to_vec()))
    };
    let expected = Some(text.as_bytes().to_vec());
    let (verdict, payload) = look(&signed);
    assert_eq!((verdict.result(), payload), (AuthResult::Pass, expected.clone()));
    for (what, from, to) in [
        ("the end of the header", "Good\r\n\r\n", "Good\r\n\n"),
        ("the end of a field", "\"clear\"\r\n", "\"clear\"\n"),
        ("both line ends", "Good\r\n\r\n", "Good\n\n"),
    ] {
        let (verdict, payload) = look(&signed.replacen(from, to, 1));
        refused(what, &verdict, AuthResult::Neutral, "in more ways than one");
        assert_eq!(payload, None, "{what}");
    }
    // In the body it makes no difference to anybody, and what comes out is still what was digested.
    let (verdict, payload) = look(&signed.replacen("X: y\r\n", "X: y\n", 1));
    assert_eq!((verdict.result(), payload), (AuthResult::Pass, expected));
}
