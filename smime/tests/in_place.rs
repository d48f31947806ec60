//! Messages made around their entity without a copy are those that are made with one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the function beside the tests is part of them"
)]

use smime::{
    message::{AuthResult, SignedMessage, sign, sign_in_place, verify},
    mime::{Canonical, Message, single_originator},
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
