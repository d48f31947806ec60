//! CMS objects made by OpenSSL are read and opened; objects made here are right.

use smime::testing::fixtures::{certificate, data, key, now};
use smime::{
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm, SignatureAlgorithm},
    cms::{self, EnvelopedData, Object, OpenError, SignError, SignedData},
    key::{ContentEncryptionKey, Decryptor, Digest, KeyError, SignatureValue, Signer, Unwrapped},
};

fn enveloped(octets: &[u8]) -> Option<EnvelopedData<'_>> {
    match Object::parse(octets) {
        Ok(Object::EnvelopedData(enveloped)) => Some(enveloped),
        _ => None,
    }
}

fn signed(octets: &[u8]) -> Option<SignedData<'_>> {
    match Object::parse(octets) {
        Ok(Object::SignedData(signed)) => Some(signed),
        _ => None,
    }
}

#[test]
fn content_encrypted_by_openssl_is_opened_in_der_and_ber_by_every_way_to_name_the_recipient() {
    let bob = key("bob");
    for name in ["der.p7m", "ber.p7m", "aes192.p7m", "two.p7m", "oaep.p7m", "oaep256.p7m"] {
        let octets = data(name);
        let enveloped = enveloped(&octets).unwrap();
        let recipient = enveloped.recipient_for(&certificate("bob")).expect(name);
        assert_eq!(enveloped.open(recipient, &bob).expect(name), data("entity.txt"), "{name}");
    }
}

#[test]
fn a_certificate_that_is_not_named_is_no_recipient() {
    let octets = data("der.p7m");
    assert!(enveloped(&octets).unwrap().recipient_for(&certificate("alice")).is_none());
}

/// A token that answers as the test wants.
#[derive(Debug)]
struct Answers(smime::Certificate, fn() -> Unwrapped);

impl Decryptor for Answers {
    fn certificate(&self) -> &smime::Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok((self.1)())
    }
}

#[test]
fn every_bad_encrypted_key_has_the_outcome_of_a_wrong_key() {
    let octets = data("der.p7m");
    let enveloped = enveloped(&octets).unwrap();
    let recipient = enveloped.recipient_for(&certificate("bob")).unwrap();
    let answers: [fn() -> Unwrapped; 4] = [
        || Unwrapped::Rejected,
        || Unwrapped::Key(ContentEncryptionKey::new(vec![7; 32])),
        || Unwrapped::Key(ContentEncryptionKey::new(vec![7; 16])),
        || Unwrapped::Key(ContentEncryptionKey::new(Vec::new())),
    ];
    for answer in answers {
        // One in about 250 wrong keys gives valid padding by chance, and then garbage: with the decoy as
        // with any key. So the outcome of several tries is looked at.
        let outcomes = (0..8).map(|_| enveloped.open(recipient, &Answers(certificate("bob"), answer)));
        assert!(outcomes.into_iter().any(|outcome| matches!(outcome, Err(OpenError::Undecryptable))));
    }
}

#[test]
fn damaged_objects_never_panic_and_cut_ones_are_refused() {
    let bob = key("bob");
    let octets = data("ber.p7m");
    for at in 0..octets.len() {
        let mut damaged = octets.clone();
        damaged[at] ^= 0x41;
        let Some(enveloped) = enveloped(&damaged) else { continue };
        let Some(recipient) = enveloped.recipient_for(&certificate("bob")) else { continue };
        if at % 7 == 0 {
            let _ = enveloped.open(recipient, &bob);
        }
    }
    for len in 0..octets.len() {
        assert!(Object::parse(&octets[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn signed_data_of_openssl_is_read_with_its_parts() {
    let octets = data("opaque-ber.p7m");
    let opaque = signed(&octets).unwrap();
    assert_eq!(opaque.content().unwrap().concat(), data("entity.txt"));
    assert_eq!(opaque.signer_infos().len(), 1);
    assert!(opaque.certificates().contains(&certificate("ca")));
    let octets = data("two.p7s");
    let two = signed(&octets).unwrap();
    assert!(two.content().is_none());
    for name in ["alice", "bob"] {
        assert_eq!(two.signer_infos().iter().filter(|s| s.names(&certificate(name))).count(), 1);
    }
}

#[test]
fn what_is_signed_here_holds_the_attributes_and_the_chain() {
    for name in ["alice", "carol"] {
        let signer = key(name);
        let chain = [certificate("ca"), certificate(name), certificate("ca")];
        let octets =
            cms::sign(|algorithm| Digest::of(algorithm, b"content"), &signer, &chain, now()).unwrap();
        let object = signed(&octets).unwrap();
        assert!(object.content().is_none());
        assert_eq!(object.certificates().len(), 2, "each certificate once");
        let info = &object.signer_infos()[0];
        assert!(info.names(&certificate(name)));
        let attributes = info.signed_attributes.as_ref().unwrap().as_ref().unwrap();
        let digest = Digest::of(DigestAlgorithm::Sha256, b"content");
        assert_eq!(attributes.message_digest(), digest.as_bytes());
        assert_eq!(attributes.signing_time(), Some(now()));
        assert!(attributes.binds(&certificate(name)));
        assert!(!attributes.binds(&certificate("bob")));
        assert_eq!(attributes.signed_octets().count(), 1, "the attributes are in DER's order");
    }
}

/// A token whose signatures are not of its certificate's key.
#[derive(Debug)]
struct Faulty(smime::Certificate);

impl Signer for Faulty {
    fn certificate(&self) -> &smime::Certificate {
        &self.0
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &[SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha256)]
    }

    fn sign(&self, digest: &Digest, algorithm: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
        let mut signature = key("alice").sign(digest, algorithm)?;
        if let Some(octet) = signature.0.last_mut() {
            *octet ^= 1;
        }
        Ok(signature)
    }
}

#[test]
fn a_signature_that_does_not_verify_never_leaves() {
    let error =
        cms::sign(|a| Digest::of(a, b"content"), &Faulty(certificate("alice")), &[], now()).unwrap_err();
    assert!(matches!(error, SignError::Faulty { .. }), "{error}");
    assert_eq!(error.fault(), smime::Fault::Operator);
}
