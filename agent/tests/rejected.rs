//! Ciphertext whose key a token rejects: nobody gets noise in its place, and whoever sent it learns nothing.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod support;

use std::sync::Arc;

use agent::{Entitled, Identities, Identity, Opening, ReceivingAgent, settings::Logins};
use smime::{
    Certificate, MailAddress,
    algorithm::KeyEncryptionAlgorithm,
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    message::AuthResult,
    mime::{Message, SenderRule, encode_base64},
    testing::fixtures::{certificate, data, key, now, trust},
};

use support::identity;

/// A token that answers everything in this way.
#[derive(Debug)]
struct Answers(Certificate, fn() -> Unwrapped);

impl Decryptor for Answers {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok((self.1)())
    }
}

#[test]
fn what_a_random_key_opens_is_in_nobodys_mailbox() {
    let object = String::from_utf8(encode_base64(&data("der.p7m"))).unwrap();
    let text = format!(
        "From: alice@example.org\nTo: bob@example.org\nMIME-Version: 1.0\n\
         Content-Type: application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n{object}"
    );
    let message = Message::from_stored(text.as_bytes());
    let trust = trust();
    let receive = |bob: Identity, entitled: Entitled<'_>| {
        let identities = Identities::from_parts([bob], "");
        let agent = ReceivingAgent { identities: &identities, trust: &trust, sender_rule: SenderRule::From };
        agent.receive(&message, entitled, now()).unwrap()
    };
    let recipients = [MailAddress::parse("bob@example.org").ok()];
    assert!(matches!(receive(identity("bob"), Entitled::Owner).opening, Opening::Opened { .. }));
    let answers: [fn() -> Unwrapped; 2] =
        [|| Unwrapped::Rejected, || Unwrapped::Key(ContentEncryptionKey::new(vec![7; 5]))];
    for answer in answers {
        // One random key in 256 finds a good padding.
        for _ in 0..500 {
            for entitled in [Entitled::Owner, Entitled::Recipients(&recipients)] {
                let decryptor = Arc::new(Answers(certificate("bob"), answer));
                let bob = Identity::new(
                    certificate("bob"),
                    Vec::new(),
                    Logins::Address,
                    Arc::new(key("bob")),
                    decryptor,
                );
                let received = receive(bob, entitled);
                let told = Opening::Failed("the content cannot be decrypted".to_owned());
                assert_eq!(received.opening, told, "{entitled:?}");
                assert!(received.edits.is_empty() && received.ciphers.is_empty());
                assert_eq!(received.verdict.result(), AuthResult::None);
                assert_eq!(received.opening.returned(), agent::Returned::HeadersOnly);
            }
        }
    }
}
