//! Messages made around their entity without a copy are those that are made with one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the function beside the tests is part of them"
)]

use smime::{
    cipher::ContentCipher,
    cms::{Object, RecipientKey},
    message::{
        AuthResult, SignedMessage, Wrapped, seal_in_place, seal_signed_in_place, sign, sign_in_place,
        sign_opaque, sign_opaque_in_place, verify,
    },
    mime::{Canonical, Message, MimeEntity, single_originator},
    profile::SealPlan,
    testing::fixtures::{certificate, key, now, trust},
};

/// The entity inside, if the signature passes.
fn content(signed: &SignedMessage) -> Vec<u8> {
    let header = format!("From: alice@example.org\r\nContent-Type: {}\r\n\r\n", signed.content_type);
    let message = Message::from_stored(&[header.as_bytes(), &signed.body].concat());
    assert_eq!(message.body(), signed.body);
    let entity = message.entity();
    let (verdict, _) = verify(&entity, single_originator(&entity), &trust(), now());
    assert_eq!(verdict.result(), AuthResult::Pass, "{}", verdict.reason());
    let multipart = entity.multipart().unwrap();
    assert!(multipart.preamble.is_empty() && multipart.epilogue.is_empty() && multipart.closed);
    multipart.parts[0].to_vec()
}

#[test]
fn what_is_signed_in_place_is_what_is_signed_with_a_copy() {
    // More certificates than there is room left for beside a short message.
    let many =
        ["ca", "bob", "carol", "mallory", "p256", "p384", "p521", "root", "subca", "revoked", "server"];
    for chain in [&many[..1], &many] {
        let chain: Vec<_> = chain.iter().copied().map(certificate).collect();
        for text in ["", "\n", "Content-Type: text/plain\n\nHello.\n", "\nno end"] {
            let stored = Message::from_stored(text.as_bytes());
            for canonical in [
                Canonical::from_entity(&stored.entity()).unwrap(),
                Canonical::from_signed_part(stored.octets()),
            ] {
                let octets = canonical.octets().to_vec();
                assert_eq!(canonical.clone().into_octets(), octets);
                let signed = sign(&canonical, &key("alice"), &chain, now()).unwrap();
                assert_eq!(content(&signed), octets, "{text:?}");
                let in_place = sign_in_place(canonical, &key("alice"), &chain, now()).unwrap();
                assert_eq!(content(&in_place), octets, "{text:?}");
                assert_eq!(in_place.body.len(), signed.body.len(), "{text:?}");
            }
        }
    }
}

#[test]
fn signing_in_place_keeps_the_delimiter_in_its_room() {
    let canonical = Canonical::from_signed_part(b"\r\nHello.\r\n");
    let signed = sign_in_place(canonical, &key("p256"), &[], now()).unwrap();
    let boundary = signed.content_type.split('"').rev().nth(1).unwrap();
    assert!(
        signed.body.starts_with(format!("--{boundary}\r\n\r\nHello.\r\n\r\n--{boundary}\r\n").as_bytes())
    );
}

/// What is in an encrypted body for bob.
fn opened(body: &[u8]) -> Vec<u8> {
    let octets =
        [&b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n"[..], body]
            .concat();
    let Some(Wrapped::Opaque(object)) = Wrapped::read(&MimeEntity::parse(&octets)).unwrap() else {
        unreachable!("no object")
    };
    let Object::EnvelopedData(enveloped) = Object::parse(&object).unwrap() else {
        unreachable!("nothing encrypted")
    };
    enveloped.open(enveloped.recipient_for(&certificate("bob")).unwrap(), &key("bob")).unwrap()
}

#[test]
fn what_is_encrypted_in_place_comes_out_whole_with_and_without_room() {
    let recipients = vec![RecipientKey::new(certificate("bob")).unwrap()];
    // Beside whole blocks and the pieces in which they are encrypted.
    for len in (0..18).chain((1..3).flat_map(|pieces| pieces * (8 << 10) - 44..pieces * (8 << 10) - 24)) {
        let text: String =
            b"abcdefghijklmnopqrstuvw\n".iter().cycle().take(len).map(|octet| char::from(*octet)).collect();
        let stored = Message::from_stored(format!("Content-Type: text/plain\n\n{text}").as_bytes());
        let (with, without) = (
            Canonical::to_be_enclosed(&stored.entity()).unwrap(),
            Canonical::from_entity(&stored.entity()).unwrap(),
        );
        assert_eq!(with.octets(), without.octets());
        for cipher in [ContentCipher::Aes128Cbc, ContentCipher::Aes256Gcm] {
            let plan = SealPlan { cipher, recipients: recipients.clone() };
            for canonical in [&with, &without] {
                let sealed = seal_in_place(canonical.clone(), &plan).unwrap();
                assert!(opened(&sealed.body) == canonical.octets(), "{len}, {cipher:?}");
            }
        }
    }
}

#[test]
fn what_is_signed_and_encrypted_in_place_is_what_was_signed() {
    let stored = Message::from_stored("Content-Type: text/plain; charset=utf-8\n\nПтица\n".as_bytes());
    for canonical in [Canonical::to_be_enclosed(&stored.entity()), Canonical::from_entity(&stored.entity())] {
        let canonical = canonical.unwrap();
        for cipher in [ContentCipher::Aes256Cbc, ContentCipher::ChaCha20Poly1305] {
            let signed =
                sign_in_place(canonical.clone(), &key("alice"), &[certificate("ca")], now()).unwrap();
            let whole =
                [format!("Content-Type: {}\r\n\r\n", signed.content_type).as_bytes(), &signed.body].concat();
            assert_eq!(content(&signed), canonical.octets());
            let plan = SealPlan { cipher, recipients: vec![RecipientKey::new(certificate("bob")).unwrap()] };
            assert_eq!(opened(&seal_signed_in_place(signed, &plan).unwrap().body), whole);
        }
        let copied = sign_opaque(&canonical, &key("alice"), &[certificate("ca")], now()).unwrap();
        let in_place = sign_opaque_in_place(canonical, &key("alice"), &[certificate("ca")], now()).unwrap();
        assert_eq!(in_place, copied);
    }
}
