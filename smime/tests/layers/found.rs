//! Where a ciphertext and a payload are found: where they are all there is, and nowhere else.

use smime::{
    ber::Tag,
    cipher::ContentCipher,
    cms::{self, RecipientKey},
    message::{AuthResult, Ciphertext, Form},
    mime::{MimeEntity, encode_base64},
    protection::Payload,
    testing::{
        fixtures::{certificate, data, key, now},
        hostile::wrap,
    },
};

use super::{TEXT, clear, compressed, embed, of_nobody, opaque, pkcs7, sealed, signed_object, verdict};

#[test]
fn a_layer_is_seen_below_a_header_of_any_length_that_is_met() {
    let field = format!("X-Padding: {}\r\n", "a".repeat(980));
    for fields in [0, 3, 4, 17, 60, 200] {
        let long = |entity: &str| field.repeat(fields) + entity;
        let expected = [Form::CompressedData, Form::MultipartSigned];
        for entity in [compressed(&long(&clear(TEXT))), compressed(&long(&clear(TEXT)).replace("\r\n", "\n"))]
        {
            let verdict = verdict(&entity);
            assert_eq!(verdict.result(), AuthResult::Pass, "{fields}: {}", verdict.reason());
            assert_eq!(verdict.layers().iter().map(|layer| layer.form).collect::<Vec<_>>(), expected);
        }
        let inside = opaque(&long(&clear(TEXT)));
        assert_eq!(verdict(&inside).layers().len(), 2, "{fields}");
        assert!(Ciphertext::find(&MimeEntity::parse(opaque(&long(&sealed())).as_bytes())).is_some());
    }
}

#[test]
fn a_ciphertext_is_found_only_where_it_is_all_there_is() {
    let beside = |entity: &str| {
        format!(
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n<img src=\"//evil/\r\n--x\r\n{entity}\r\n--x--\r\n"
        )
    };
    let in_rfc822 = |entity: &str| format!("Content-Type: message/rfc822\r\n\r\n{entity}");
    let embedded = {
        let object =
            embed(&signed_object(sealed().as_bytes()), Some(wrap(Tag::OCTET_STRING, &[TEXT.into()])));
        let detached = clear(&sealed());
        let (before, rest) = detached.split_once("name=\"smime.p7s\"").unwrap();
        let (fields, rest) = rest.split_once("\r\n\r\n").unwrap();
        let (_, after) = rest.split_once("\r\n--").unwrap();
        let base64 = String::from_utf8(encode_base64(&object)).unwrap();
        format!("{before}name=\"smime.p7s\"{fields}\r\n\r\n{base64}\r\n--{after}")
    };
    let third_part = {
        let signed = clear(&sealed());
        let boundary = signed.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        signed.replace(&format!("--{boundary}--"), &format!("--{boundary}\r\n\r\nmore\r\n--{boundary}--"))
    };
    for (what, entity, found) in [
        ("the root", sealed(), Some(false)),
        ("in multipart/signed", clear(&sealed()), Some(true)),
        ("in SignedData", opaque(&sealed()), Some(true)),
        ("signed twice", clear(&opaque(&sealed())), Some(true)),
        ("in SignedData, with LF alone", opaque(&sealed().replace("\r\n", "\n")), Some(true)),
        ("compressed", compressed(&sealed()), Some(false)),
        ("signed and compressed", compressed(&clear(&sealed())), Some(true)),
        // The signature need not be right: anybody could take it off.
        ("changed", clear(&sealed()).replacen("name=smime.p7m", "name=smime.p7n", 1), Some(true)),
        ("text", TEXT.to_owned(), None),
        ("signed text", clear(TEXT), None),
        ("beside text", beside(&sealed()), None),
        ("beside text, signed", clear(&beside(&sealed())), None),
        ("beside text in SignedData", opaque(&beside(&sealed())), None),
        ("a message inside", in_rfc822(&sealed()), None),
        ("a message inside, signed", clear(&in_rfc822(&sealed())), None),
        ("SignedData without signers", of_nobody(&sealed()), None),
        ("a signature with a content of its own", embedded, None),
        ("multipart/signed with three parts", third_part, None),
        (
            "a preamble with a part",
            clear(&sealed()).replacen("\r\n\r\n", "\r\n\r\n--y\r\n\r\nx\r\n", 1),
            None,
        ),
    ] {
        let ciphertext = Ciphertext::find(&MimeEntity::parse(entity.as_bytes()));
        assert_eq!(ciphertext.as_ref().map(|c| c.is_signed), found, "{what}\n{entity}");
        if let Some(ciphertext) = ciphertext {
            assert_eq!(ciphertext.object, data("der.p7m"), "{what}");
        }
    }
}

/// RFC 8551 3.1.2: what is inside needs no transfer encoding, and its octets are what they are.
#[test]
fn layers_inside_may_be_binary() {
    let binary = |smime_type: &str, object: &[u8]| {
        let head = format!(
            "Content-Type: application/pkcs7-mime; smime-type={smime_type}\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        );
        [head.as_bytes(), object].concat()
    };
    let compressed = |entity: &[u8]| pkcs7("; smime-type=compressed-data", &cms::compress(entity).unwrap());
    let signed = |entity: &[u8]| {
        let object = cms::sign_opaque(entity, &key("alice"), &[certificate("ca")], now()).unwrap();
        pkcs7("; smime-type=signed-data", &object)
    };
    // A bare LF stands in the objects; nearly every large one has some.
    let text = format!("{TEXT}\n");
    let object = cms::sign_opaque(text.as_bytes(), &key("alice"), &[certificate("ca")], now()).unwrap();
    let entity = compressed(&binary("signed-data", &object));
    assert_eq!(verdict(&entity).result(), AuthResult::Pass, "{}", verdict(&entity).reason());
    let part: &[u8] = b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\na\nb\r\n";
    let signature = String::from_utf8(encode_base64(&signed_object(part))).unwrap();
    let multipart = format!(
        "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\n{}\r\n--b\r\n\
         Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n{signature}\r\n--b--\r\n",
        std::str::from_utf8(part).unwrap()
    );
    let entity = compressed(multipart.as_bytes());
    assert_eq!(verdict(&entity).result(), AuthResult::Pass, "{}", verdict(&entity).reason());
    let payload = Payload::find(&MimeEntity::parse(entity.as_bytes())).unwrap();
    assert_eq!(payload.entity().octets(), part);
    // An LF in each of these ciphertexts.
    let to = RecipientKey::new(certificate("bob")).unwrap();
    let with_lf = (0..200_u8).filter_map(|octet| {
        let cipher = ContentCipher::Aes256Gcm;
        let object = cms::seal(&[&[octet; 300]], cipher, std::slice::from_ref(&to)).unwrap();
        object.contains(&b'\n').then_some(object)
    });
    let mut looked = 0;
    for object in with_lf.take(5) {
        let inside = binary("authEnveloped-data", &object);
        let mut lf_alone = binary("authEnveloped-data", &[]);
        lf_alone.retain(|octet| *octet != b'\r');
        lf_alone.extend_from_slice(&object);
        for entity in [signed(&inside), compressed(&inside), signed(&lf_alone), compressed(&lf_alone)] {
            let found = Ciphertext::find(&MimeEntity::parse(entity.as_bytes()));
            assert_eq!(found.map(|found| found.object), Some(object.clone()));
        }
        looked += 1;
    }
    assert_eq!(looked, 5);
}

/// What readers take for different things is signed where it cannot change on its way: in an object, and if it is not text.
#[test]
fn octets_that_change_on_the_way_pass_only_where_they_are_on_no_way() {
    let part = |media: &str, encoding: &str, octet: &str| {
        format!("Content-Type: {media}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\na{octet}b\r\n")
    };
    let detached = |part: &str| {
        let signature = String::from_utf8(encode_base64(&signed_object(part.as_bytes()))).unwrap();
        format!(
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\n\
             {part}\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{signature}\r\n--b--\r\n"
        )
    };
    for octet in ["\0", "\0\0", "\r"] {
        let binary = part("image/x", "binary", octet);
        for (what, entity, result) in [
            ("on the way", detached(&binary), AuthResult::Policy),
            ("in an object", opaque(&binary), AuthResult::Pass),
            ("below compression", compressed(&detached(&binary)), AuthResult::Pass),
            ("text", opaque(&part("text/plain", "binary", octet)), AuthResult::Policy),
            ("not labelled", opaque(&part("image/x", "7bit", octet)), AuthResult::Policy),
            (
                "text below compression",
                compressed(&detached(&part("text/x", "binary", octet))),
                AuthResult::Policy,
            ),
            ("harmless", detached(&part("text/plain", "7bit", "-")), AuthResult::Pass),
        ] {
            let verdict = verdict(&entity);
            assert_eq!(verdict.result(), result, "{what} {octet:?}: {}", verdict.reason());
        }
    }
}

/// Only a signature with a signer, over what stands in its place, makes a cryptographic payload.
#[test]
fn what_protects_nothing_is_no_layer_of_a_payload() {
    let layers =
        |entity: &str| Payload::find(&MimeEntity::parse(entity.as_bytes())).map(|found| found.layers());
    let beside = |object: &[u8]| {
        format!(
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\n\
             {TEXT}\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
            String::from_utf8(encode_base64(object)).unwrap()
        )
    };
    let content = wrap(Tag::OCTET_STRING, &[TEXT.into()]);
    for (what, entity, found) in [
        ("nothing", TEXT.to_owned(), Some(0)),
        ("a signature", clear(TEXT), Some(1)),
        ("an opaque signature", opaque(TEXT), Some(1)),
        ("two signatures", clear(&opaque(TEXT)), Some(2)),
        ("compression", compressed(TEXT), Some(0)),
        ("compression around a signature", compressed(&clear(TEXT)), Some(1)),
        ("certificates beside", beside(&cms::certificates_only(&[certificate("ca")]).unwrap()), None),
        ("garbage beside", beside(b"garbage"), None),
        ("another content inside", beside(&embed(&signed_object(TEXT.as_bytes()), Some(content))), None),
        ("a content that nobody signed", of_nobody(TEXT), None),
        ("a signature beside", beside(&signed_object(TEXT.as_bytes())), Some(1)),
    ] {
        assert_eq!(layers(&entity), found, "{what}\n{entity}");
    }
    // Nor is a ciphertext found behind what nobody signed.
    let certificates =
        beside(&cms::certificates_only(&[certificate("ca")]).unwrap()).replacen(TEXT, &sealed(), 1);
    assert_eq!(Ciphertext::find(&MimeEntity::parse(certificates.as_bytes())), None);
    let signature = beside(&signed_object(TEXT.as_bytes())).replacen(TEXT, &sealed(), 1);
    assert!(Ciphertext::find(&MimeEntity::parse(signature.as_bytes())).is_some());
}
