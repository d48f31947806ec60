//! What a good signature tells for the next message to its signer: when it was made, and which certificate to encrypt to.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

use der::asn1::ObjectIdentifier;
use smime::{
    Certificate,
    ber::Tag,
    cms,
    key::{Digest, SignatureInput, Signer},
    message::{AuthResult, VerifiedSigner, verify},
    mime::{Message, encode_base64, single_originator},
    testing::{
        Node,
        fixtures::{certificate, key, now, trust},
    },
};

const TEXT: &str = "Content-Type: text/plain\r\n\r\nHello, Bob.\r\n";
const STANDARD: &str = "1.2.840.113549.1.9.16.2.11";
const MICROSOFT: &str = "1.3.6.1.4.1.311.16.4";

/// Alice's signature with other attributes of preference than she writes, signed again, and more certificates.
fn signed(preferences: &[(&str, Node)], more: &[Certificate]) -> Vec<u8> {
    let digest = |algorithm| Digest::of(algorithm, TEXT.as_bytes());
    let mut root = Node::parse(&cms::sign(digest, &key("alice"), &[certificate("ca")], now()).unwrap());
    let signed_data = root.at(&[1, 0]);
    signed_data.at(&[3]).nodes().extend(more.iter().map(|certificate| Node::parse(certificate.der())));
    let signer = signed_data.at(&[4, 0]).nodes();
    let attributes = signer[3].nodes();
    attributes.retain(|attribute| *attribute.get(&[0]) != Node::oid(ObjectIdentifier::new_unwrap(STANDARD)));
    let added = preferences
        .iter()
        .map(|(oid, value)| Node::attribute(ObjectIdentifier::new_unwrap(oid), [value.clone()]));
    attributes.extend(added);
    attributes.sort_by_key(Node::to_der);
    let key = key("alice");
    let algorithm = key.algorithms()[0];
    let octets = signer[3].tagged(Tag::SET).to_der();
    signer[5] = Node::octet_string(key.sign(&SignatureInput::of(algorithm, &octets), algorithm).unwrap().0);
    root.to_der()
}

fn verified(object: &[u8]) -> VerifiedSigner {
    let base64 = String::from_utf8(encode_base64(object)).unwrap();
    let mail = format!(
        "From: alice@example.org\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; \
         boundary=b\r\n\r\n--b\r\n{TEXT}\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{base64}\r\n--b--\r\n"
    );
    let message = Message::from_stored(mail.as_bytes());
    let entity = message.entity();
    let (verdict, mut signers) = verify(&entity, single_originator(&entity), &trust(), now());
    assert_eq!(verdict.result(), AuthResult::Pass, "{}", verdict.reason());
    signers.remove(0)
}

/// issuer and serialNumber of a certificate, as IssuerAndSerialNumber.
fn issuer_and_serial_number(name: &str) -> Node {
    let certificate = Node::parse(certificate(name).der());
    Node::sequence([certificate.get(&[0, 3]).clone(), certificate.get(&[0, 1]).clone()])
}

#[test]
fn the_certificate_that_a_signer_wants_to_be_encrypted_to_is_found_in_each_form_of_its_name() {
    let wanted = certificate("encrypt-only");
    let identifier = wanted.subject_key_identifier().unwrap();
    let by_number = issuer_and_serial_number("encrypt-only").tagged(Tag::context(0));
    let by_key = Node::constructed(Tag::context(1), [Node::octet_string(identifier.clone())]);
    let by_key_alone = Node::primitive(Tag(0x82), identifier);
    let older = issuer_and_serial_number("encrypt-only");
    let other = issuer_and_serial_number("carol");
    for (what, preferences) in [
        ("issuerAndSerialNumber", vec![(STANDARD, by_number.clone())]),
        ("receipentKeyId", vec![(STANDARD, by_key)]),
        ("subjectAltKeyIdentifier", vec![(STANDARD, by_key_alone)]),
        ("Microsoft's", vec![(MICROSOFT, older)]),
        ("the standard's before Microsoft's", vec![(MICROSOFT, other), (STANDARD, by_number)]),
    ] {
        let signer = verified(&signed(&preferences, std::slice::from_ref(&wanted)));
        assert_eq!(signer.encryption_certificates(), std::slice::from_ref(&wanted), "{what}");
        // The name is known also where the certificate is not in the message.
        let signer = verified(&signed(&preferences, &[]));
        assert!(signer.encryption_certificates().is_empty(), "{what}");
        let named = signer.encryption_key_preference().unwrap();
        assert!(named.names(&wanted) && !named.names(&certificate("carol")), "{what}");
    }
}

#[test]
fn what_is_no_preference_names_nobody_and_harms_no_signature() {
    let malformed = [
        Node::octet_string([1, 2, 3]),
        Node::constructed(Tag::context(0), []),
        Node::constructed(Tag::context(0), [Node::octet_string([1])]),
        Node::constructed(Tag::context(1), []),
        Node::constructed(Tag::context(7), []),
    ];
    for value in malformed {
        for oid in [STANDARD, MICROSOFT] {
            let signer = verified(&signed(&[(oid, value.clone())], &[]));
            assert_eq!(signer.encryption_key_preference(), None, "{value:?}");
            assert!(signer.encryption_certificates().is_empty(), "{value:?}");
        }
    }
    let signer = verified(&signed(&[], &[certificate("carol")]));
    assert!(signer.encryption_certificates().is_empty(), "nobody said so");
}

#[test]
fn who_signs_here_names_its_own_certificate_and_the_time() {
    let digest = |algorithm| Digest::of(algorithm, TEXT.as_bytes());
    let signer = verified(&cms::sign(digest, &key("alice"), &[certificate("ca")], now()).unwrap());
    assert_eq!(signer.encryption_certificates(), [certificate("alice")]);
    assert_eq!(signer.signing_time(), Some(now()));
}

#[test]
fn a_settled_signer_answers_as_before_and_keeps_nothing_else_of_the_message() {
    let wanted = certificate("encrypt-only");
    let by_number = issuer_and_serial_number("encrypt-only").tagged(Tag::context(0));
    let more: Vec<_> = std::iter::once(wanted.clone()).chain(vec![certificate("carol"); 40]).collect();
    let signer = verified(&signed(&[(STANDARD, by_number)], &more));
    let settled = signer.clone().settled();
    assert_eq!(settled.encryption_certificates(), std::slice::from_ref(&wanted));
    assert_eq!(settled.encryption_key_preference(), signer.encryption_key_preference());
    assert_eq!(settled.capabilities(), signer.capabilities());
    assert_eq!(settled.signing_time(), signer.signing_time());
    assert!(settled.capabilities().is_some() && settled.signing_time().is_some());
    let holds_carol = |signer: &VerifiedSigner| format!("{signer:?}").to_lowercase().contains("carol");
    assert!(holds_carol(&signer) && !holds_carol(&settled), "{settled:?}");
}

#[test]
fn a_preference_far_longer_than_a_name_is_none_and_costs_nothing() {
    let long = Node::sequence(vec![Node::octet_string([]); 20_000]);
    let signer = verified(&signed(&[(STANDARD, long)], &[]));
    assert_eq!(signer.encryption_key_preference(), None);
    assert!(signer.encryption_certificates().is_empty());
}
