//! Media types, file names and content types that an S/MIME entity is known by.

use smime::{
    ber::Tag,
    message::{AuthResult, Reason, Wrapped},
    mime::MimeEntity,
    testing::hostile::wrap,
};

use super::{TEXT, clear, embed, opaque, pkcs7, signed_object, verdict};

#[test]
fn opaque_messages_are_known_by_their_types_old_and_new_and_by_their_names() {
    let signed = opaque(TEXT);
    let start = "Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m";
    assert!(signed.starts_with(start));
    for (content_type, is_known) in [
        ("application/pkcs7-mime", true),
        ("application/pkcs7-mime; name=smime.p7m", true),
        ("Application/X-PKCS7-MIME; smime-type=signed-data", true),
        // What it is stands in the object.
        ("application/pkcs7-mime; smime-type=enveloped-data", true),
        ("application/pkcs7-mime; smime-type=certs-only", true),
        ("application/octet-stream; name=smime.p7m", true),
        ("application/octet-stream; name=\"SMIME.P7M \"", true),
        ("application/octet-stream\r\nContent-Disposition: attachment; filename=a.p7m", true),
        ("application/octet-stream; name=a.p7c", true),
        ("application/octet-stream; name=a.p7z", true),
        ("application/octet-stream; name=a.p7s", false),
        ("application/octet-stream; name=p7m", false),
        ("application/octet-stream", false),
        ("text/plain; name=smime.p7m", false),
    ] {
        let verdict = verdict(&signed.replacen(start, &format!("Content-Type: {content_type}"), 1));
        let expected = if is_known { AuthResult::Pass } else { AuthResult::None };
        assert_eq!(verdict.result(), expected, "{content_type}: {}", verdict.reason());
    }
}

#[test]
fn detached_signatures_are_known_by_their_types_old_and_new_and_by_their_name() {
    let signed = clear(TEXT);
    let part = "Content-Type: application/pkcs7-signature; name=\"smime.p7s\"";
    let protocol = "protocol=\"application/pkcs7-signature\";";
    assert!(signed.contains(part) && signed.contains(protocol));
    let (_, boundary) = signed.split_once("boundary=\"").unwrap();
    let (boundary, _) = boundary.split_once('"').unwrap();
    for (what, entity, result) in [
        ("old types", signed.replace("application/pkcs7-", "application/x-pkcs7-"), AuthResult::Pass),
        ("no protocol", signed.replace(protocol, ""), AuthResult::Pass),
        ("signs in a quoted boundary", signed.replace(boundary, "b(x)c"), AuthResult::Pass),
        (
            "a name",
            signed.replace(part, "Content-Type: application/octet-stream; name=smime.p7s"),
            AuthResult::Pass,
        ),
        (
            "another name",
            signed
                .replace(part, "Content-Type: application/octet-stream; name=smime.bin")
                .replace("filename=\"smime.p7s\"", "filename=x"),
            AuthResult::Neutral,
        ),
        ("a text", signed.replace(part, "Content-Type: text/plain; name=smime.p7s"), AuthResult::Neutral),
    ] {
        let verdict = verdict(&entity);
        assert_eq!(verdict.result(), result, "{what}: {}", verdict.reason());
    }
}

#[test]
fn content_that_pkcs_7_wraps_in_another_type_is_not_taken_for_data() {
    // PKCS #7 1.5 has any type there, and signs its contents octets alone (RFC 5652 5.2.1): what is shown would
    // depend on who reads it. Mail has always had an OCTET STRING.
    let object = signed_object(TEXT.as_bytes());
    for tag in [0x30, 0x31, 0x0C, 0x13, 0x03, 0xA0] {
        let content = wrap(Tag(tag), &[TEXT.into()]);
        let verdict = verdict(&pkcs7("", &embed(&object, Some(content))));
        assert_eq!(verdict.result(), AuthResult::Neutral, "{tag:02x}: {}", verdict.reason());
    }
    let content = wrap(Tag::OCTET_STRING, &[TEXT.into()]);
    assert_eq!(verdict(&pkcs7("", &embed(&object, Some(content)))).result(), AuthResult::Pass);
    assert_eq!(verdict(&pkcs7("", &embed(&object, None))).reason(), &Reason::NoContent);
}

#[test]
fn an_object_in_base64_is_known_by_a_header_that_can_be_read_in_one_way_only() {
    let base64 = "Content-Transfer-Encoding: base64\r\n";
    for (header, is_one) in [
        (format!("Content-Type: application/pkcs7-mime\r\n{base64}"), true),
        (format!("Content-Type: application/octet-stream; name=smime.p7m\r\n{base64}"), true),
        (format!("Content-Type: application/octet-stream; name=a.bin\r\n{base64}"), false),
        (format!("Content-Type: multipart/signed; boundary=b\r\n{base64}"), false),
        (format!("Content-Type: text/plain\r\n{base64}"), false),
        (format!("Content-Type: application/pkcs7-mime\r\nno field\r\n{base64}"), false),
        (format!("Content-Type: application/pkcs7-mime\r\nX: y\rZ: z\r\n{base64}"), false),
        (
            format!("Content-Type: application/pkcs7-mime\r\n{base64}Content-Transfer-Encoding: 7bit\r\n"),
            false,
        ),
        ("Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n".to_owned(), false),
        ("Content-Type: application/pkcs7-mime\r\n".to_owned(), false),
        ("Content-Type: text/plain\r\nno field\r\n".to_owned(), false),
        (base64.to_owned(), false),
    ] {
        let header = format!("{header}\r\n");
        let is_found = Wrapped::is_object_in_base64(&MimeEntity::parse(header.as_bytes()));
        assert_eq!(is_found, is_one, "{header}");
    }
}
