//! Captured ciphertext below a signature of whoever sends it.

use super::*;

/// Ciphertext, as an entity that alice signed.
fn signed_around(mail: &str) -> String {
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
