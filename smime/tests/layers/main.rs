//! Layers of S/MIME: which one decides, what is found of each, and where a ciphertext may be opened.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

mod aspects;
mod compressed;
mod found;
mod types;

use const_oid::db::rfc5911;
use der::Encode;
use smime::{
    ber::{Element, Tag, Tree},
    cms,
    key::Digest,
    message::{AuthResult, Ciphertext, CompressedMessage, Form, Reason, Verdict, compress, sign, verify},
    mime::{Canonical, Message, MimeEntity, encode_base64, single_originator},
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

/// SignedData around an entity, and nobody who signed it.
fn of_nobody(entity: &str) -> String {
    let content = wrap(Tag::OCTET_STRING, &[entity.into()]);
    let mut node = Node::parse(&embed(&signed_object(b""), Some(content)));
    node.at(&[1, 0]).nodes().last_mut().unwrap().nodes().clear();
    pkcs7("; smime-type=signed-data", &node.to_der())
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
        (of_nobody(&clear(TEXT)), AuthResult::None, &[], None),
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
    for layer in [compressed as fn(&str) -> String, clear, opaque] {
        for (count, is_found) in [(9, true), (10, false)] {
            let found = Ciphertext::find(&MimeEntity::parse(nested(count, layer, sealed()).as_bytes()));
            assert_eq!(found.is_some(), is_found, "{count}");
        }
    }
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
    let reasons: Vec<_> = verdict.layers().iter().map(|layer| &layer.reason).collect();
    let signed = &Reason::RevocationNotChecked;
    assert_eq!(reasons, [signed, &Reason::NotSigned, signed], "what is open is not encrypted");
    assert!(none().inside(outer_pass()).identifier().is_none());
}
