//! Layers of S/MIME: which one decides, what is found of each, and where a ciphertext may be opened.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

use const_oid::db::rfc5911;
use der::{Encode, asn1::ObjectIdentifier};
use smime::{
    ber::{Element, Tag, Tree},
    cipher::ContentCipher,
    cms::{self, RecipientKey},
    key::Digest,
    message::{
        AuthResult, Ciphertext, CompressedMessage, Finding, Form, LayerReport, Reason, Verdict, compress,
        sign, verify,
    },
    mime::{Canonical, Message, MimeEntity, encode_base64, single_originator},
    protection::Payload,
    testing::{
        Node,
        fixtures::{certificate, data, key, now, trust},
        hostile::wrap,
    },
};

const TEXT: &str = "Content-Type: text/plain\r\n\r\nHello, Bob.\r\n";

fn verdict(entity: &str) -> Verdict {
    verdict_from("alice@example.org", entity)
}

fn verdict_from(from: &str, entity: &str) -> Verdict {
    let message = Message::from_stored(format!("From: {from}\r\n{entity}").as_bytes());
    let entity = message.entity();
    verify(&entity, single_originator(&entity), &trust(), now()).0
}

fn pkcs7(smime_type: &str, object: &[u8]) -> String {
    format!(
        "Content-Type: application/pkcs7-mime{smime_type}; name=smime.p7m\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        String::from_utf8(encode_base64(object)).unwrap()
    )
}

/// `multipart/signed` around an entity.
fn clear(entity: &str) -> String {
    let canonical = Canonical::from_signed_part(entity.as_bytes());
    let signed = sign(&canonical, &key("alice"), &[certificate("ca")], now()).unwrap();
    format!("Content-Type: {}\r\n\r\n{}", signed.content_type, String::from_utf8(signed.body).unwrap())
}

/// A detached signature with this content in it.
fn embed(object: &[u8], content: Option<Vec<u8>>) -> Vec<u8> {
    let tree = Tree::parse(object).unwrap();
    let der = |element: Element<'_, '_>| element.to_der().unwrap();
    let info: Vec<_> = tree.root().children().collect();
    let mut fields: Vec<_> = info[1].children().next().unwrap().children().map(der).collect();
    let content = content.map(|content| wrap(Tag::context(0), &[content])).unwrap_or_default();
    fields[2] = wrap(Tag::SEQUENCE, &[rfc5911::ID_DATA.to_der().unwrap(), content]);
    let signed_data = wrap(Tag::SEQUENCE, &fields);
    wrap(Tag::SEQUENCE, &[der(info[0]), wrap(Tag::context(0), &[signed_data])])
}

fn signed_object(content: &[u8]) -> Vec<u8> {
    let chain = [certificate("ca")];
    cms::sign(|algorithm| Digest::of(algorithm, content), &key("alice"), &chain, now()).unwrap()
}

/// `application/pkcs7-mime` with SignedData around an entity.
fn opaque(entity: &str) -> String {
    let content = wrap(Tag::OCTET_STRING, &[entity.into()]);
    pkcs7("; smime-type=signed-data", &embed(&signed_object(entity.as_bytes()), Some(content)))
}

fn compressed(entity: &str) -> String {
    let message = compress(&Canonical::from_signed_part(entity.as_bytes())).unwrap();
    let body = String::from_utf8(message.body).unwrap();
    let encoding = CompressedMessage::TRANSFER_ENCODING;
    format!("Content-Type: {}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}", message.content_type)
}

/// A ciphertext for bob.
fn sealed() -> String {
    pkcs7("; smime-type=enveloped-data", &data("der.p7m"))
}

#[test]
fn the_outermost_signature_decides_and_every_layer_is_reported() {
    use Form::{CompressedData, EnvelopedData, MultipartSigned, SignedData};
    for (entity, result, forms, deciding) in [
        (TEXT.to_owned(), AuthResult::None, &[][..], None),
        (clear(TEXT), AuthResult::Pass, &[MultipartSigned], Some(0)),
        (opaque(TEXT), AuthResult::Pass, &[SignedData], Some(0)),
        (compressed(TEXT), AuthResult::None, &[CompressedData], None),
        (compressed(&clear(TEXT)), AuthResult::Pass, &[CompressedData, MultipartSigned], Some(1)),
        (compressed(&opaque(TEXT)), AuthResult::Pass, &[CompressedData, SignedData], Some(1)),
        (clear(&compressed(TEXT)), AuthResult::Pass, &[MultipartSigned, CompressedData], Some(0)),
        (opaque(&clear(TEXT)), AuthResult::Pass, &[SignedData, MultipartSigned], Some(0)),
        (clear(&opaque(TEXT)), AuthResult::Pass, &[MultipartSigned, SignedData], Some(0)),
        (sealed(), AuthResult::None, &[EnvelopedData], None),
        (clear(&sealed()), AuthResult::Pass, &[MultipartSigned, EnvelopedData], Some(0)),
        (opaque(&sealed()), AuthResult::Pass, &[SignedData, EnvelopedData], Some(0)),
        (
            opaque(&compressed(&sealed())),
            AuthResult::Pass,
            &[SignedData, CompressedData, EnvelopedData],
            Some(0),
        ),
    ] {
        let verdict = verdict(&entity);
        assert_eq!(verdict.result(), result, "{}: {entity}", verdict.reason());
        let found: Vec<_> = verdict.layers().iter().map(|layer| layer.form).collect();
        assert_eq!(found, forms, "{entity}");
        assert_eq!(verdict.layers().iter().position(|layer| layer.decides), deciding, "{entity}");
        assert_eq!(verdict.signers().len(), usize::from(deciding.is_some()));
    }
}

#[test]
fn a_good_signature_inside_does_not_save_a_bad_one_outside_nor_the_other_way_round() {
    let changed = |entity: &str| entity.replacen("Hello", "Jello", 1);
    let inside = clear(&changed(&clear(TEXT)));
    let outside = changed(&clear(&clear(TEXT)));
    let reasons = |verdict: &Verdict| verdict.layers().iter().map(|l| l.reason.clone()).collect::<Vec<_>>();
    let good = Reason::RevocationNotChecked;
    let inside = verdict(&inside);
    assert_eq!(inside.result(), AuthResult::Pass);
    assert_eq!(reasons(&inside), [good.clone(), Reason::ContentChanged]);
    let outside = verdict(&outside);
    assert_eq!(outside.reason(), &Reason::ContentChanged);
    assert_eq!(reasons(&outside), [Reason::ContentChanged, Reason::ContentChanged]);
    // A header of the part between belongs to the outer signature alone.
    let between = clear(&clear(TEXT)).replacen(
        "\r\nContent-Type: multipart/signed",
        "\r\nX: y\r\nContent-Type: multipart/signed",
        1,
    );
    let between = verdict(&between);
    assert_eq!(between.result(), AuthResult::Fail);
    assert_eq!(reasons(&between), [Reason::ContentChanged, good]);
}

#[test]
fn layers_are_taken_off_to_a_depth_and_no_further() {
    let nested = |count: usize, layer: fn(&str) -> String, inner: String| {
        (0..count).fold(inner, |entity, _| layer(&entity))
    };
    assert_eq!(verdict(&nested(9, compressed, clear(TEXT))).result(), AuthResult::Pass);
    let deep = verdict(&nested(10, compressed, clear(TEXT)));
    assert_eq!(deep.result(), AuthResult::Neutral);
    assert!(deep.reason().to_string().contains("nested deeper than 10"), "{}", deep.reason());
    // The outermost signature covers whatever is in there.
    let signed = verdict(&nested(12, clear, TEXT.to_owned()));
    assert_eq!((signed.result(), signed.layers().len()), (AuthResult::Pass, 10));
    assert!(Ciphertext::find(&MimeEntity::parse(nested(9, compressed, sealed()).as_bytes())).is_some());
    assert!(Ciphertext::find(&MimeEntity::parse(nested(10, compressed, sealed()).as_bytes())).is_none());
}

#[test]
fn all_layers_of_a_message_have_one_budget() {
    use smime::{message::verify_within, path::Budget};
    let entity = format!("From: alice@example.org\r\n{}", clear(&clear(TEXT)));
    let message = Message::from_stored(entity.as_bytes());
    let entity = message.entity();
    for (limit, result) in [(10, AuthResult::Pass), (3, AuthResult::Policy), (1, AuthResult::Policy)] {
        let mut budget = Budget::of(limit);
        let (verdict, _) = verify_within(
            &mut budget,
            smime::Room::of(4000),
            &entity,
            single_originator(&entity),
            &trust(),
            now(),
        );
        assert_eq!(verdict.result(), result, "{limit}: {}", verdict.reason());
    }
}

#[test]
fn what_bouncycastle_compresses_is_read() {
    let octets = data("bc.p7z");
    let Ok(cms::Object::CompressedData(compressed)) = cms::Object::parse(&octets).map_err(drop) else {
        unreachable!()
    };
    assert_eq!(compressed.decompress().unwrap(), data("entity.txt"));
}

#[test]
fn bombs_are_not_looked_into_however_they_are_packed() {
    let text = |len: usize| format!("Content-Type: text/plain\r\n\r\n{}", "a".repeat(len));
    // Each layer is harmless by itself, and all of them together are not.
    let padded = |entity: &str| format!("X-Padding: {}\r\n{entity}", "a".repeat(200_000));
    let nested = |layers: &[fn(&str) -> String]| {
        (0..9).fold(compressed(&text(1000)), |entity, at| layers[at % layers.len()](&padded(&entity)))
    };
    for bomb in [
        compressed(&text(4 << 20)),
        nested(&[compressed]),
        nested(&[compressed, opaque]),
        compressed(&nested(&[compressed, clear])),
    ] {
        assert!(bomb.len() < 50_000, "{}", bomb.len());
        let verdict = verdict(&bomb);
        assert_eq!(verdict.result(), AuthResult::Neutral, "{}", verdict.reason());
        assert!(verdict.reason().to_string().contains("more than is taken"), "{}", verdict.reason());
        assert!(Ciphertext::find(&MimeEntity::parse(bomb.as_bytes())).is_none());
        assert!(Payload::find(&MimeEntity::parse(bomb.as_bytes())).is_none());
    }
}

#[test]
fn what_shrinks_well_is_read_though_it_grows() {
    let lines = |count: usize| {
        let line = |at| {
            format!("2026-11-21T09:{:02}:{:02}Z mx postfix/smtpd[{at}]: connect\r\n", at / 60 % 60, at % 60)
        };
        (0..count).map(line).collect::<String>()
    };
    let log = format!("Content-Type: text/plain; name=mail.log\r\n\r\n{}", lines(6000));
    let signed = compressed(&clear(&log));
    assert!(log.len() > 300_000 && signed.len() < log.len() / 6, "{} of {}", signed.len(), log.len());
    assert_eq!(verdict(&signed).result(), AuthResult::Pass, "{}", verdict(&signed).reason());
    assert_eq!(verdict(&compressed(&opaque(&log))).result(), AuthResult::Pass);
    // In both orders, and where mail programs compress again what is compressed.
    assert_eq!(verdict(&clear(&compressed(&log))).result(), AuthResult::Pass);
    assert_eq!(verdict(&compressed(&compressed(&clear(&log)))).result(), AuthResult::Pass);
    // The same lines of LF.
    assert_eq!(verdict(&compressed(&clear(&log).replace("\r\n", "\n"))).result(), AuthResult::Pass);
    let payload = Payload::find(&MimeEntity::parse(signed.as_bytes())).unwrap();
    assert_eq!(payload.entity().octets(), log.as_bytes());
    let empty = format!("Content-Type: text/csv\r\n\r\n{}", ";;;;;;;;\r\n".repeat(30_000));
    let signed = compressed(&clear(&empty));
    assert!(signed.len() < empty.len() / 30);
    assert_eq!(verdict(&signed).result(), AuthResult::Pass, "{}", verdict(&signed).reason());
}

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
    let unsigned = {
        // SignedData without a signer: nobody vouches for anything.
        let object = embed(&signed_object(b""), Some(wrap(Tag::OCTET_STRING, &[sealed().into()])));
        let tree = Tree::parse(&object).unwrap();
        let fields: Vec<_> =
            tree.root().children().nth(1).unwrap().children().next().unwrap().children().collect();
        let mut fields: Vec<_> = fields.into_iter().map(|field| field.to_der().unwrap()).collect();
        *fields.last_mut().unwrap() = wrap(Tag::SET, &[]);
        let oid = rfc5911::ID_SIGNED_DATA.to_der().unwrap();
        let object = wrap(Tag::SEQUENCE, &[oid, wrap(Tag::context(0), &[wrap(Tag::SEQUENCE, &fields)])]);
        pkcs7("; smime-type=signed-data", &object)
    };
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
        ("SignedData without signers", unsigned, None),
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
    let of_nobody = {
        let tree_of = embed(&signed_object(b""), Some(content.clone()));
        let mut node = Node::parse(&tree_of);
        node.at(&[1, 0]).nodes().last_mut().unwrap().nodes().clear();
        node.to_der()
    };
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
        ("a content that nobody signed", pkcs7("; smime-type=signed-data", &of_nobody), None),
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

#[test]
fn what_is_opened_inside_a_signature_is_worth_what_is_signed_inside() {
    let none = || verdict(TEXT);
    let pass = || verdict(&clear(TEXT));
    let fail = || verdict(&clear(TEXT).replacen("Hello", "Jello", 1));
    let other = || verdict_from("carol@example.org", &clear(TEXT));
    let outer_pass = || verdict(&clear(&sealed()));
    let outer_fail = || verdict(&clear(&sealed()).replacen("name=smime.p7m", "name=smime.p7n", 1));
    let outer_other = || verdict_from("carol@example.org", &clear(&sealed()));
    for (what, inner, outer, result) in [
        ("signed by nobody inside, by the sender outside", none(), outer_pass(), AuthResult::Policy),
        ("signed by nobody inside, by another outside", none(), outer_other(), AuthResult::Policy),
        ("signed by nobody at all", none(), none(), AuthResult::None),
        ("all well", pass(), outer_pass(), AuthResult::Pass),
        ("a list signs outside", pass(), outer_other(), AuthResult::Pass),
        ("the ciphertext was changed", pass(), outer_fail(), AuthResult::Fail),
        ("the ciphertext was changed, and nobody signs inside", none(), outer_fail(), AuthResult::Fail),
        ("the text was changed", fail(), outer_pass(), AuthResult::Fail),
        ("another signs inside", other(), outer_pass(), AuthResult::Policy),
    ] {
        let signed_inside = inner.signers().len();
        let verdict = inner.inside(outer);
        assert_eq!(verdict.result(), result, "{what}: {}", verdict.reason());
        assert_eq!(verdict.signers().len(), signed_inside, "{what}");
        if verdict.result() != AuthResult::Pass {
            // Who did not sign the text is not said to have.
            assert_ne!(verdict.reason(), &Reason::RevocationNotChecked, "{what}");
        }
    }
    let verdict = pass().inside(outer_pass());
    let forms: Vec<_> = verdict.layers().iter().map(|layer| (layer.form, layer.decides)).collect();
    let expected =
        [(Form::MultipartSigned, false), (Form::EnvelopedData, false), (Form::MultipartSigned, true)];
    assert_eq!(forms, expected);
    assert!(none().inside(outer_pass()).identifier().is_none());
}

/// The names of the aspects that are good, and of those that are bad.
fn aspects(layer: &LayerReport) -> (Vec<&'static str>, Vec<&'static str>) {
    let findings = layer.signers[0].findings.aspects();
    let names = |wanted: fn(&Finding) -> bool| {
        findings.iter().filter(|(_, finding)| wanted(finding)).map(|(name, _)| *name).collect()
    };
    (names(Finding::is_good), names(|finding| matches!(finding, Finding::Bad(_))))
}

#[test]
fn each_aspect_of_a_signature_is_found_by_itself() {
    let detached = |object: &str, content: &str| {
        format!(
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\n\
             {content}\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
            String::from_utf8(encode_base64(&data(object))).unwrap()
        )
    };
    let by = |name: &str| {
        let canonical = Canonical::from_signed_part(TEXT.as_bytes());
        let signed = sign(&canonical, &key(name), &[certificate("ca")], now()).unwrap();
        format!("Content-Type: {}\r\n\r\n{}", signed.content_type, String::from_utf8(signed.body).unwrap())
    };
    let all = "signature attributes certificate strength path address";
    for (what, from, entity, good, bad) in [
        ("all well", "alice", clear(TEXT), all, ""),
        ("another sender", "bob", clear(TEXT), "signature attributes certificate strength path", "address"),
        (
            "SHA-1",
            "alice",
            detached("sha1.p7s", TEXT),
            "signature attributes certificate path address",
            "strength",
        ),
        (
            "SHA-1 and another sender",
            "bob",
            detached("sha1.p7s", TEXT),
            "signature attributes certificate path",
            "strength address",
        ),
        (
            "changed content: the path is not looked for",
            "alice",
            detached("detached.p7s", &TEXT.replace("Bob", "Eve")),
            "attributes certificate strength address",
            "signature",
        ),
        (
            "no attributes",
            "alice",
            detached("noattr.p7s", TEXT),
            "signature certificate strength path address",
            "attributes",
        ),
        (
            "another certificate of the key, without its CA",
            "alice",
            detached("twin.p7s", TEXT),
            "signature attributes strength address",
            "certificate path",
        ),
        ("no anchor", "alice", by("mallory"), "signature attributes certificate strength address", "path"),
        (
            "a key not for signatures",
            "alice",
            by("encrypt-only"),
            "signature attributes strength path address",
            "certificate",
        ),
        (
            "small and nobody's",
            "alice",
            detached("rsa1024-md5.p7s", TEXT),
            "signature attributes certificate address",
            "strength path",
        ),
    ] {
        let verdict = verdict_from(&format!("{from}@example.org"), &entity);
        let (found_good, found_bad) = aspects(&verdict.layers()[0]);
        assert_eq!((found_good.join(" ").as_str(), found_bad.join(" ").as_str()), (good, bad), "{what}");
        assert_eq!(verdict.result() == AuthResult::Pass, bad.is_empty(), "{what}: {}", verdict.reason());
    }
}

#[test]
fn countersignatures_are_reported_and_mean_nothing() {
    let countersignature = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.6").to_der().unwrap();
    let object = signed_object(TEXT.as_bytes());
    let with = |unsigned: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let tree = Tree::parse(&object).unwrap();
        let der = |element: Element<'_, '_>| element.to_der().unwrap();
        let info: Vec<_> = tree.root().children().collect();
        let mut fields: Vec<_> = info[1].children().next().unwrap().children().map(der).collect();
        let signers =
            Tree::parse(&fields[4]).map(|tree| der(tree.root().children().next().unwrap())).unwrap();
        let tree = Tree::parse(&signers).unwrap();
        let mut signer: Vec<_> = tree.root().children().map(der).collect();
        signer.push(unsigned(signers.clone()));
        fields[4] = wrap(Tag::SET, &[wrap(Tag::SEQUENCE, &signer)]);
        let content = wrap(Tag::OCTET_STRING, &[TEXT.into()]);
        let object =
            wrap(Tag::SEQUENCE, &[der(info[0]), wrap(Tag::context(0), &[wrap(Tag::SEQUENCE, &fields)])]);
        verdict(&pkcs7("", &embed(&object, Some(content))))
    };
    let attribute = |values: Vec<u8>| {
        wrap(Tag::context(1), &[wrap(Tag::SEQUENCE, &[countersignature.clone(), wrap(Tag::SET, &[values])])])
    };
    let one = with(&|signer| attribute(signer));
    assert_eq!((one.result(), one.signers()[0].countersigners.len()), (AuthResult::Pass, 1));
    let many = with(&|signer| attribute(signer.repeat(50)));
    assert_eq!((many.result(), many.signers()[0].countersigners.len()), (AuthResult::Pass, 20));
    for garbage in [vec![], vec![5, 0], vec![0x30, 0], vec![0x30, 3, 2, 1, 1]] {
        let verdict = with(&|_| attribute(garbage.clone()));
        assert_eq!((verdict.result(), verdict.signers()[0].countersigners.len()), (AuthResult::Pass, 0));
    }
}

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
    for (what, entity, result) in [
        ("old types", signed.replace("application/pkcs7-", "application/x-pkcs7-"), AuthResult::Pass),
        ("no protocol", signed.replace(protocol, ""), AuthResult::Pass),
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
