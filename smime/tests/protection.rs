//! Header protection: RFC 9788's examples, what is written here, and what must not count.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use smime::{
    cipher::ContentCipher,
    cms::RecipientKey,
    message::{AuthResult, SignedMessage, seal_signed, sign, verify},
    mime::{Canonical, Header, Message, MimeEntity, single_originator},
    profile::SealPlan,
    protection::{
        ConfidentialityPolicy, FieldProtection, HeaderChange, Payload, ProtectError, ProtectedHeader, Scheme,
        protect_encrypted, protect_signed, without_legacy_display,
    },
    testing::rfc9216::{certificate, key, opened, trust},
};

/// After the messages of appendix C were written.
fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_613_900_000)
}

fn data(name: &str) -> Message {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/rfc9788").join(name);
    Message::from_stored(&std::fs::read(path).unwrap())
}

fn verdict(message: &Message) -> AuthResult {
    let entity = message.entity();
    verify(&entity, single_originator(&entity), &trust("ca.rsa"), at()).0.result()
}

#[test]
fn the_signed_examples_of_appendix_c_verify_and_their_header_is_the_one_outside() {
    for (name, scheme) in [
        ("smime-one-part-hp", Scheme::Clear),
        ("smime-multipart-hp", Scheme::Clear),
        ("smime-multipart-complex-hp", Scheme::Clear),
        ("smime-multipart-complex-rfc8551hp", Scheme::Rfc8551),
    ] {
        let message = data(&format!("{name}.eml"));
        assert_eq!(verdict(&message), AuthResult::Pass, "{name}");
        let entity = message.entity();
        let payload = Payload::find(&entity).unwrap();
        let header = ProtectedHeader::read(&payload.entity(), &entity.header()).unwrap().unwrap();
        assert_eq!((header.scheme(), payload.layers()), (scheme, 1), "{name}");
        let names: Vec<_> = header.fields().iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["Subject", "Message-ID", "From", "To", "Date", "User-Agent"], "{name}");
        assert_eq!(header.values("subject").collect::<Vec<_>>(), [name]);
        assert_eq!(header.differences(&entity.header()).unwrap(), [], "{name}");
        for field in header.fields() {
            assert_eq!(header.protection(field, true, false), FieldProtection::SignedOnly, "{name}");
            assert_eq!(header.protection(field, false, false), FieldProtection::Unprotected, "{name}");
        }
        // A subject that was changed on the way is seen, and the signature still holds: it never covered that one.
        let changed = String::from_utf8(message.octets().to_vec()).unwrap();
        let changed =
            Message::from_stored(changed.replacen("Subject: smime", "Subject: forged", 1).as_bytes());
        assert_eq!(verdict(&changed), AuthResult::Pass, "{name}");
        let entity = changed.entity();
        let payload = Payload::find(&entity).unwrap();
        let header = ProtectedHeader::read(&payload.entity(), &entity.header()).unwrap().unwrap();
        let differences = header.differences(&entity.header()).unwrap();
        let found: Vec<_> = differences.iter().map(|d| (d.name.as_str(), d.by_sender)).collect();
        assert_eq!(found, [("Subject", false)], "{name}");
    }
}

/// A signed message as the whole of what is encrypted for bob.
fn sealed(signed: &SignedMessage) -> String {
    let recipients = vec![RecipientKey::new(certificate("bob.encrypt")).unwrap()];
    let sealed = seal_signed(signed, &SealPlan { cipher: ContentCipher::Aes256Gcm, recipients }).unwrap();
    let body = String::from_utf8(sealed.body).unwrap();
    format!("Content-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}", sealed.content_type)
}

fn signed(payload: &Canonical) -> SignedMessage {
    sign(payload, &key("alice.sign"), &[], at()).unwrap()
}

#[test]
fn the_payload_of_appendix_c_3_says_what_it_hides() {
    let payload = data("smime-signed-enc-hp-baseline.payload");
    let envelope = "From: Alice <alice@smime.example>\r\nTo: Bob <bob@smime.example>\r\nSubject: [...]\r\n\
                    Message-ID: <smime-signed-enc-hp-baseline@example>\r\n\
                    Date: Sat, 20 Feb 2021 10:09:02 -0500\r\nUser-Agent: Sample MUA Version 1.0\r\n";
    let body = sealed(&signed(&Canonical::from_signed_part(payload.octets())));
    let message = Message::from_stored(format!("{envelope}{body}").as_bytes());
    let entity = message.entity();
    assert_eq!(Payload::find(&entity), None, "it is to be opened first");
    let inside = opened(&entity);
    let found = Payload::find(&inside.entity()).unwrap();
    assert_eq!(found.entity().octets(), payload.octets());
    let header = ProtectedHeader::read(&found.entity(), &entity.header()).unwrap().unwrap();
    assert_eq!((header.scheme(), header.outer().len()), (Scheme::Cipher, 6));
    assert_eq!(header.confidential().collect::<Vec<_>>(), ["Subject"]);
    assert_eq!(header.originator().unwrap().as_str(), "alice@smime.example");
    for field in header.fields() {
        let is_subject = field.is("Subject");
        let expected =
            if is_subject { FieldProtection::SignedAndEncrypted } else { FieldProtection::SignedOnly };
        assert_eq!(header.protection(field, true, true), expected, "{}", field.name);
        let expected = if is_subject { FieldProtection::EncryptedOnly } else { FieldProtection::Unprotected };
        assert_eq!(header.protection(field, false, true), expected, "{}", field.name);
        // The word "cipher" hides nothing: who signed what was once encrypted has not encrypted it.
        assert_eq!(header.protection(field, true, false), FieldProtection::SignedOnly, "{}", field.name);
    }
    let differences = header.differences(&entity.header()).unwrap();
    let found: Vec<_> = differences.iter().map(|d| (d.name.as_str(), d.by_sender)).collect();
    assert_eq!(found, [("Subject", true)]);
}

#[test]
fn the_legacy_display_elements_of_appendix_e_are_taken_off() {
    for name in ["text-plain-legacy-display", "text-html-legacy-display"] {
        let payload = data(&format!("{name}.payload"));
        let header = ProtectedHeader::read(&payload.entity(), &Header::parse(b"")).unwrap().unwrap();
        assert_eq!(header.confidential().collect::<Vec<_>>(), ["Subject"], "{name}");
        let text = String::from_utf8(without_legacy_display(&payload.entity()).unwrap()).unwrap();
        assert!(!text.contains("Dinner plans") && text.contains("Roti Shop at 8pm"), "{text}");
        if name.contains("plain") {
            assert!(text.starts_with("Let's meet"), "{text}");
        }
    }
}

const MESSAGE: &str = "Received: from a by b; Sat, 20 Feb 2021 10:00:00 -0500\r\n\
    Authentication-Results: mx.example.org; smime=pass\r\n\
    From: Alice <alice@smime.example>\r\nTo: Bob\r\n <bob@smime.example>\r\nCc: dana@smime.example\r\n\
    Bcc: carlos@smime.example\r\nSubject: The =?utf-8?q?=C3=BCber?= secret plan\r\nDate: Sat, 20 Feb 2021 10:00:00 -0500\r\n\
    Message-ID: <1@smime.example>\r\nKeywords: plan, secret\r\nX-Internal: not for you\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8;\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e\r\n";

#[test]
fn a_signed_message_has_its_authors_fields_in_its_payload_and_none_of_the_carriers() {
    let message = Message::from_stored(MESSAGE.as_bytes());
    let payload = protect_signed(&message.entity()).unwrap();
    let text = String::from_utf8(payload.octets().to_vec()).unwrap();
    assert!(text.is_ascii(), "{text}");
    let header = ProtectedHeader::read(&MimeEntity::parse(payload.octets()), &message.entity().header())
        .unwrap()
        .unwrap();
    assert_eq!(header.scheme(), Scheme::Clear);
    let names: Vec<_> = header.fields().iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["From", "To", "Cc", "Subject", "Date", "Message-ID", "Keywords"]);
    assert_eq!(header.values("To").collect::<Vec<_>>(), ["Bob <bob@smime.example>"]);
    let part = MimeEntity::parse(payload.octets());
    assert_eq!(part.content_type().unwrap().parameter("charset"), Some("utf-8"));
    assert_eq!(part.decoded_body().unwrap().as_ref(), "Gr\u{fc}\u{df}e\r\n".as_bytes());
    let signed = signed(&payload);
    let body = String::from_utf8(signed.body).unwrap();
    let mail = format!(
        "From: alice@smime.example\r\nSubject: another\r\nContent-Type: {}\r\n\r\n{body}",
        signed.content_type
    );
    let mail = Message::from_stored(mail.as_bytes());
    assert_eq!(verdict(&mail), AuthResult::Pass);
    assert_eq!(Payload::find(&mail.entity()).unwrap().entity().octets(), payload.octets());
}

#[test]
fn an_encrypted_message_hides_by_its_policy_and_says_what_it_showed() {
    let message = Message::from_stored(MESSAGE.as_bytes());
    for (policy, hidden) in
        [(ConfidentialityPolicy::None, &[][..]), (ConfidentialityPolicy::Baseline, &["Subject", "Keywords"])]
    {
        let written = protect_encrypted(&message.entity(), policy).unwrap();
        let changes: Vec<_> = written.outer.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(changes, hidden);
        // The header outside with the changes made.
        let mut outside = String::new();
        for field in message.entity().header().fields() {
            match written.outer.iter().find(|change| field.is(&change.name)) {
                Some(HeaderChange { value: Some(value), .. }) => {
                    outside += &["Subject: ", value, "\r\n"].concat();
                }
                Some(HeaderChange { value: None, .. }) => {}
                None => outside += std::str::from_utf8(field.octets()).unwrap(),
            }
        }
        let body = sealed(&signed(&written.payload));
        let fields: String =
            outside.split_inclusive("\r\n").filter(|line| !line.starts_with("Content-")).collect();
        let mail = format!("{fields}{body}");
        if policy == ConfidentialityPolicy::Baseline {
            assert!(!mail.contains("secret"), "{mail}");
        }
        let mail = Message::from_stored(mail.as_bytes());
        let entity = mail.entity();
        let inside = opened(&entity);
        let payload = Payload::find(&inside.entity()).unwrap();
        let header = ProtectedHeader::read(&payload.entity(), &entity.header()).unwrap().unwrap();
        assert_eq!(header.confidential().collect::<Vec<_>>(), hidden);
        assert!(header.fields().iter().chain(header.outer()).all(|field| !field.is("Bcc")));
        let differences = header.differences(&entity.header()).unwrap();
        for name in hidden {
            assert!(differences.iter().any(|d| d.name == *name && d.by_sender), "{differences:?}");
        }
        // What carriers and the author's own machine added is outside only; nothing else differs.
        let others: Vec<_> = differences.iter().filter(|d| !d.inner.is_empty()).map(|d| &d.name).collect();
        assert_eq!(others, hidden);
        // Somebody on the way names another recipient outside.
        let forged = String::from_utf8(mail.octets().to_vec()).unwrap();
        let forged = Message::from_stored(forged.replacen("Cc: dana", "Cc: mallory", 1).as_bytes());
        let differences = header.differences(&forged.entity().header()).unwrap();
        assert!(differences.iter().any(|d| d.name == "Cc" && !d.by_sender), "{differences:?}");
    }
}

#[test]
fn words_in_other_places_protect_nothing() {
    let read = |payload: &str| {
        let payload = payload.replace('\n', "\r\n");
        let outer = Header::parse(b"From: a@b.example\r\nMessage-ID: <1@b.example>\r\n");
        ProtectedHeader::read(&MimeEntity::parse(payload.as_bytes()), &outer).unwrap()
    };
    let fields = "Subject: x\nFrom: a@b.example\nMessage-ID: <1@b.example>\n";
    assert!(read(&format!("{fields}Content-Type: text/plain; hp=\"clear\"\n\n")).is_some());
    for nothing in [
        format!("{fields}\nx"),
        format!("{fields}Content-Type: text/plain\n\nx"),
        format!("{fields}Content-Type: text/plain; hp=\"other\"\n\nx"),
        format!("{fields}Content-Type: text/plain; hp=clear; hp=cipher\n\nx"),
        format!("{fields}Content-Type: text/plain; protected-headers=v2\n\nx"),
        format!(
            "{fields}Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/plain; hp=clear\n\n--a--"
        ),
        // A forwarded message: another Message-ID, none, or two.
        format!("Content-Type: message/rfc822\n\n{}\nx", fields.replace("<1@", "<2@")),
        "Content-Type: message/rfc822\n\nSubject: x\n\nx".to_owned(),
        format!("Content-Type: message/rfc822\n\n{fields}Message-ID: <1@b.example>\n\nx"),
    ] {
        assert_eq!(read(&nothing), None, "{nothing}");
    }
    // HP-Outer means nothing where nothing was encrypted, and never names a field of the part itself.
    let clear =
        read(&format!("{fields}HP-Outer: Subject: y\nContent-Type: text/plain; hp=clear\n\n")).unwrap();
    assert!(clear.outer().is_empty() && clear.confidential().next().is_none());
    let odd = "HP-Outer: Content-Type: a/b\nHP-Outer: MIME-Version: 2\nHP-Outer: no field\nHP-Outer: : x\n";
    let cipher = read(&format!("{fields}{odd}Content-Type: text/plain; hp=CIPHER\n\n")).unwrap();
    assert!(cipher.outer().is_empty());
    assert_eq!(cipher.confidential().count(), 3);
    // Who it is from is unclear inside: that is said, and nobody is named.
    let two = read(&format!("{fields}From: c@d.example\nContent-Type: text/plain; hp=clear\n\n")).unwrap();
    assert!(two.originator().is_err());
}

#[test]
fn a_message_whose_header_cannot_be_protected_is_refused_by_name() {
    let refused = |message: &str| {
        let message = Message::from_stored(message.as_bytes());
        protect_signed(&message.entity()).unwrap_err()
    };
    let from = "From: alice@smime.example\n";
    for (message, error) in [
        (
            format!(
                "{from}Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n--b\n"
            ),
            ProtectError::Cryptographic,
        ),
        (format!("{from}Content-Type: application/pkcs7-mime\n\nMIIB\n"), ProtectError::Cryptographic),
        (format!("{from}Content-Type: text/plain; hp=\"clear\"\n\nx\n"), ProtectError::Claimed),
        (format!("{from}Content-Type: text/plain; protected-headers=v1\n\nx\n"), ProtectError::Claimed),
        (format!("{from}HP-Outer: Subject: x\n\nx\n"), ProtectError::Claimed),
        (format!("{from}no field\nSubject: x\n\nx\n"), ProtectError::HeaderLine),
    ] {
        assert_eq!(refused(&message), error, "{message}");
    }
    // Raw octets outside of us-ascii would be written otherwise inside, and then seem to differ.
    for subject in ["a\0b", "\u{fc}", "a\rb"] {
        let error = refused(&format!("{from}Subject: {subject}\n\nx\n"));
        assert!(matches!(error, ProtectError::Field { .. }), "{subject:?}: {error}");
    }
    // Without any Content-Type, with a comment at its end, and with very long fields it is done.
    for message in [
        format!("{from}\nx\n"),
        format!("{from}Content-Type: text/plain (text)\n\nx\n"),
        format!("{from}Subject: {}\n\nx\n", "word ".repeat(500)),
    ] {
        let message = Message::from_stored(message.as_bytes());
        let written = protect_encrypted(&message.entity(), ConfidentialityPolicy::None).unwrap();
        let payload = MimeEntity::parse(written.payload.octets());
        let header = ProtectedHeader::read(&payload, &message.entity().header()).unwrap().unwrap();
        assert_eq!(header.confidential().count(), 0, "{}", String::from_utf8_lossy(payload.octets()));
        assert!(payload.octets().split(|octet| *octet == b'\n').all(|line| line.len() <= 999));
    }
}

#[test]
fn a_parameter_by_rfc_2231_does_not_say_that_a_header_is_protected() {
    for (parameter, says) in [
        ("hp=clear", true),
        ("hp*=us-ascii''clear", false),
        ("hp*0=cle; hp*1=ar", false),
        ("hp*0=clear", false),
    ] {
        let payload = format!("Content-Type: text/plain; {parameter}\r\nSubject: x\r\n\r\n");
        let read =
            ProtectedHeader::read(&MimeEntity::parse(payload.as_bytes()), &Header::parse(b"Subject: y\r\n"));
        assert_eq!(read.unwrap().is_some(), says, "{parameter}");
    }
}

#[test]
fn two_subjects_become_one_outside_and_one_in_what_is_said_of_it() {
    let message = Message::from_stored(b"From: a@b.example\nSubject: one\nSubject: two\n\nx\n");
    let written = protect_encrypted(&message.entity(), ConfidentialityPolicy::Baseline).unwrap();
    assert_eq!(written.outer.len(), 1);
    let outer = Header::parse(b"From: a@b.example\r\nSubject: [...]\r\n");
    let header =
        ProtectedHeader::read(&MimeEntity::parse(written.payload.octets()), &outer).unwrap().unwrap();
    let said: Vec<_> =
        header.outer().iter().map(|field| (field.name.as_str(), field.value.as_str())).collect();
    assert_eq!(said, [("From", "a@b.example"), ("Subject", "[...]")]);
    assert_eq!(header.values("Subject").collect::<Vec<_>>(), ["one", "two"]);
    assert!(header.differences(&outer).unwrap().iter().all(|difference| difference.by_sender));
}

#[test]
fn a_protected_header_larger_than_any_is_an_error_that_says_how_many_fields_it_has() {
    let outer = Header::parse(b"From: a@b.example\r\n");
    let payload = |count: usize| {
        format!("Content-Type: text/plain; hp=cipher\r\n{}\r\n", "a:\r\n".repeat(count)).into_bytes()
    };
    let read = |count: usize| {
        ProtectedHeader::read(&MimeEntity::parse(&payload(count)), &outer).map(|header| header.unwrap())
    };
    let header = read(9_999).unwrap();
    let said = "a header of 10001 fields, more than the 10000 that are taken";
    assert_eq!(read(10_000).unwrap_err().to_string(), said);
    let large = "b:\r\n".repeat(10_001);
    assert_eq!(header.differences(&Header::parse(large.as_bytes())).unwrap_err().to_string(), said);
    let message = format!("From: a@b.example\r\n{}\r\nx\r\n", "To:\r\n".repeat(10_000));
    let refused = protect_signed(&MimeEntity::parse(message.as_bytes())).unwrap_err();
    assert_eq!(refused.to_string(), said);
}

#[test]
fn ten_thousand_different_fields_are_compared_once_each() {
    let fields =
        |value: &str| (0..9_000).map(|at| format!("X-{at:x}: {value}\r\n")).collect::<Vec<_>>().concat();
    let payload = format!("Content-Type: text/plain; hp=cipher\r\n{}\r\n", fields("in"));
    let outer = fields("out");
    let outer = Header::parse(outer.as_bytes());
    let header = ProtectedHeader::read(&MimeEntity::parse(payload.as_bytes()), &outer).unwrap().unwrap();
    let start = Instant::now();
    let differences = header.differences(&outer).unwrap();
    assert_eq!((differences.len(), header.confidential().count()), (9_000, 9_000));
    let hidden = |field| header.protection(field, true, true) == FieldProtection::SignedAndEncrypted;
    assert!(header.fields().iter().all(hidden));
    // Each with each are 240 million, which take a debug build a minute.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
