//! Signatures with their content inside, and messages of certificates.

use smime::{
    cms::{self},
    message::{AuthResult, OpaqueMessage, Reason, certificates_only, sign_opaque},
    mime::{Canonical, Message},
    testing::{
        fixtures::{certificate, key, now},
        signed_data,
    },
};

use super::{entity, opaque, verdict};

/// The message that an opaque one makes.
fn opaque_message(from: &str, message: &OpaqueMessage) -> String {
    format!(
        "From: {from}\r\nMIME-Version: 1.0\r\nContent-Type: {}\r\nContent-Transfer-Encoding: {}\r\n\
         Content-Disposition: {}\r\n\r\n{}",
        message.content_type,
        OpaqueMessage::TRANSFER_ENCODING,
        message.disposition,
        String::from_utf8(message.body.clone()).unwrap()
    )
}

#[test]
fn an_opaque_signature_passes_with_its_content_inside_and_changed_it_does_not() {
    let text = entity();
    let entity = Message::from_stored(text.as_bytes());
    let canonical = Canonical::from_entity(&entity.entity()).unwrap();
    let chain = [certificate("ca")];
    let message = sign_opaque(&canonical, &key("alice"), &chain, now()).unwrap();
    let good = verdict(&opaque_message("alice@example.org", &message));
    assert_eq!(good.result(), AuthResult::Pass, "{}", good.reason());

    let object = cms::sign_opaque(canonical.octets(), &key("alice"), &chain, now()).unwrap();
    let signed = signed_data(&object);
    assert_eq!(signed.content().unwrap().concat(), canonical.octets());
    let at = memchr::memmem::find(&object, canonical.octets()).unwrap();
    let mut changed = object.clone();
    changed[at + 40] ^= 1;
    let changed = verdict(&opaque("alice@example.org", &changed));
    assert_eq!(changed.reason(), &Reason::ContentChanged);
}

#[test]
fn a_message_of_certificates_has_each_once_and_no_verdict() {
    let certificates = ["alice", "ca", "alice"].map(certificate);
    let message = certificates_only(&certificates).unwrap();
    let verdict = verdict(&opaque_message("alice@example.org", &message));
    assert_eq!((verdict.result(), verdict.reason()), (AuthResult::None, &Reason::CertificatesOnly));
    let object = cms::certificates_only(&certificates).unwrap();
    let signed = signed_data(&object);
    let mut received = signed.certificates();
    received.sort_by_key(|certificate| *certificate.fingerprint());
    let mut sent = certificates[..2].to_vec();
    sent.sort_by_key(|certificate| *certificate.fingerprint());
    assert_eq!(received, sent);
}
