//! Captured ciphertext below a signature of whoever sends it.

use agent::Entitled;
use smime::cipher::ContentCipher;

use super::{site::sealed_by, *};

/// Ciphertext, as an entity that alice signed.
pub(super) fn signed_around(mail: &str) -> String {
    let entity = Message::from_stored(mail.strip_prefix(HEADER).unwrap().as_bytes());
    signed_payload(&Canonical::from_entity(&entity.entity()).unwrap())
}

#[test]
fn a_good_signature_around_ciphertext_does_not_tell_whether_that_opened() {
    let mails = [encrypted(), encrypted_badly()].map(|mail| signed_around(&mail));
    for (keys, fate_of_both) in [
        ("", "delivered"),
        ("require-signed = true", "held"),
        ("on-unsigned = \"quarantine\"", "held"),
        ("on-unsigned = \"discard-silently\"", "discarded"),
        ("on-unsigned = \"reject\"\nstrip-signature = true", "held"),
        ("on-policy = \"reject\"", "delivered"),
        ("on-policy = \"quarantine\"\non-undecrypted = \"tag\"", "delivered"),
        ("subject-tag = true", "delivered"),
    ] {
        let agent = agent(&format!("[[incoming]]\n{keys}\n"));
        for (mail, action) in mails.iter().zip(["opened", "verified"]) {
            let outcome = treat(&agent, &["bob"], mail);
            let word = fate(&outcome).split(' ').next().map(str::to_owned);
            assert_eq!(word.as_deref(), Some(fate_of_both), "{keys} {action}: {outcome:?}");
            let outcome = outcome.unwrap();
            assert!(fate_of_both != "delivered" || outcome.action == action, "{keys}: {outcome:?}");
            assert_eq!(outcome.verdict.unwrap().result().as_str(), "policy", "{keys} {action}");
            let subject = outcome.edits.append.iter().find(|(name, _)| name == "Subject");
            let tag = subject.map(|(_, value)| value.as_str());
            let expected =
                (keys == "subject-tag = true").then_some("[S/MIME: signature not trusted]\r\n The plan");
            assert_eq!(tag, expected, "{keys} {action}");
        }
    }
    // Whose keys are not asked, that his sender knows.
    let outcome = treat(&agent("[[incoming]]\nrequire-signed = true\n"), &["alice"], &mails[0]).unwrap();
    assert_eq!(outcome.verdict.unwrap().result().as_str(), "pass");
}

#[test]
fn nor_does_it_below_another_layer() {
    for cipher in [ContentCipher::Aes256Cbc, ContentCipher::Aes256Gcm] {
        // Whom it is for, too: the outer layer is anybody's, and may be captured.
        let of_alice = ciphertext(&sealed_by(ContentCipher::Aes256Gcm, TEXT, &["alice"]));
        for inside in [encrypted(), encrypted_badly(), of_alice] {
            let inside = signed_around(&inside);
            let mail = ciphertext(&sealed_by(cipher, inside.strip_prefix(HEADER).unwrap(), &["bob"]));
            for (rule, fate_of_all) in [
                ("require-signed = true", "held tagged encrypted"),
                ("on-unsigned = \"discard-silently\"", "discarded"),
                ("on-policy = \"quarantine\"", "delivered"),
            ] {
                let outcome = treat(&agent(&format!("[[incoming]]\n{rule}\n")), &["bob"], &mail);
                assert!(fate(&outcome).starts_with(fate_of_all), "{rule} {cipher:?}: {outcome:?}");
                assert_eq!(outcome.unwrap().verdict.unwrap().result().as_str(), "policy", "{cipher:?}");
            }
        }
    }
}

#[test]
fn nor_is_it_a_pass_in_an_archive() {
    let agent = agent("");
    let bad = Message::from_stored(signed_around(&encrypted_badly()).as_bytes());
    let below = signed_around(&encrypted_badly());
    let below =
        ciphertext(&sealed_by(ContentCipher::Aes256Gcm, below.strip_prefix(HEADER).unwrap(), &["bob"]));
    for mail in [bad, Message::from_stored(below.as_bytes())] {
        let received = agent.receiving().receive(&mail, Entitled::Owner, now()).unwrap();
        assert_eq!(received.verdict.result().as_str(), "policy", "{:?}", received.opening);
    }
}
