//! Signed attributes: what must be there, once, and covered by the signature.

use const_oid::db::rfc5911;
use der::{Encode, asn1::ObjectIdentifier};
use smime::{
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    ber::Tag,
    cms::{self},
    message::{AuthResult, Finding, Reason},
    testing::{
        fixtures::{certificate, data, key, now},
        hostile::wrap,
        signed_data,
    },
};

use super::{ALICE, clear, entity, opaque, parts::Parts, verdict};

#[test]
fn attributes_are_signed_as_der_sorts_them_or_as_they_are_sent_and_in_no_other_order() {
    for (order, result) in
        [("sorted", AuthResult::Pass), ("as sent", AuthResult::Pass), ("another", AuthResult::Fail)]
    {
        let mut parts = Parts::of(&data("detached.p7s"));
        parts.attributes.sort();
        let mut signed = parts.attributes.clone();
        parts.attributes.reverse();
        match order {
            "as sent" => signed.reverse(),
            "another" => signed.rotate_left(1),
            _ => {}
        }
        let object = parts.sign_over(&signed);
        assert_eq!(verdict(&clear(ALICE, &entity(), &object)).result(), result, "{order}");
    }
}

#[test]
fn signed_attributes_moved_into_the_content_do_not_pass() {
    // The DER of the signed attributes is itself covered by the signature; without attributes it would
    // verify as content (draft-ietf-lamps-cms-euf-cma-signeddata).
    let verdict = verdict(&opaque(ALICE, &drop_attributes(&data("detached.p7s"))));
    assert_eq!(verdict.reason(), &Reason::NoSignedAttributes);
    assert_eq!(verdict.result(), AuthResult::Policy);
}

fn retagged(element: &[u8], tag: Tag) -> Vec<u8> {
    [&[tag.0], &element[1..]].concat()
}

/// Makes the signed attributes the content and leaves a SignerInfo without attributes.
fn drop_attributes(object: &[u8]) -> Vec<u8> {
    let mut parts = Parts::of(object);
    let attributes = wrap(Tag::SET, &parts.attributes);
    let content = wrap(Tag::context(0), &[wrap(Tag::OCTET_STRING, &[attributes])]);
    parts.signed_data[2] = wrap(Tag::SEQUENCE, &[rfc5911::ID_DATA.to_der().unwrap(), content]);
    parts.signer.remove(3);
    parts.put_together()
}

#[test]
fn signed_attributes_must_be_right_once_and_covered_by_the_signature() {
    type Change = fn(&mut Parts) -> Vec<u8>;
    let cases: [(&str, Change); 10] = [
        ("agree", Parts::sign_again),
        ("agree", |parts| {
            let named = [parts.signer[2].clone(), retagged(&parts.signer[4], Tag::context(1))];
            parts.protect(&named);
            parts.sign_again()
        }),
        ("other algorithms", |parts| {
            let ecdsa = SignatureAlgorithm::Ecdsa(DigestAlgorithm::Sha256).identifier().to_der().unwrap();
            let named = [parts.signer[2].clone(), retagged(&ecdsa, Tag::context(1))];
            parts.protect(&named);
            parts.sign_again()
        }),
        ("does not verify", |parts| {
            *parts.signer[5].last_mut().unwrap() ^= 1;
            parts.put_together()
        }),
        ("more than one message-digest", |parts| {
            let double = parts.attribute(rfc5911::ID_MESSAGE_DIGEST).clone();
            parts.attributes.push(double);
            parts.sign_again()
        }),
        ("more than one content-type", |parts| {
            let double = parts.attribute(rfc5911::ID_CONTENT_TYPE).clone();
            parts.attributes.push(double);
            parts.sign_again()
        }),
        ("more than one SMIMECapabilities", |parts| {
            let double = parts.attribute(rfc5911::SMIME_CAPABILITIES).clone();
            parts.attributes.push(double);
            parts.sign_again()
        }),
        ("no message-digest", |parts| {
            let gone = parts.attribute(rfc5911::ID_MESSAGE_DIGEST).clone();
            parts.attributes.retain(|attribute| *attribute != gone);
            parts.sign_again()
        }),
        ("no content-type", |parts| {
            let gone = parts.attribute(rfc5911::ID_CONTENT_TYPE).clone();
            parts.attributes.retain(|attribute| *attribute != gone);
            parts.sign_again()
        }),
        ("content type is not", |parts| {
            // id-data becomes id-signedData: the last octet of the attribute.
            *parts.attribute(rfc5911::ID_CONTENT_TYPE).last_mut().unwrap() = 2;
            parts.sign_again()
        }),
    ];
    for (reason, change) in cases {
        let object = change(&mut Parts::of(&data("detached.p7s")));
        let verdict = verdict(&clear(ALICE, &entity(), &object));
        assert!(verdict.reason().to_string().contains(reason), "{reason}: {}", verdict.reason());
        let expected = if reason == "agree" { AuthResult::Pass } else { AuthResult::Fail };
        assert_eq!(verdict.result(), expected, "{reason}");
        // What is signed cannot be told from attributes that cannot be read.
        let is_unread = reason.starts_with("more than one") || reason.starts_with("no ");
        let is_reached = verdict.signers()[0].findings.signature != Finding::NotReached;
        assert_eq!(is_reached, !is_unread, "{reason}");
    }
}

#[test]
fn a_hundred_signed_attributes_are_read_and_not_one_more() {
    for (count, result) in [(100, AuthResult::Pass), (101, AuthResult::Fail), (150, AuthResult::Fail)] {
        let mut parts = Parts::of(&data("detached.p7s"));
        let more = u32::try_from(count - parts.attributes.len()).unwrap();
        for number in 0..more {
            let oid =
                ObjectIdentifier::new(&format!("1.3.6.1.4.1.99999.{number}")).unwrap().to_der().unwrap();
            parts.attributes.push(wrap(Tag::SEQUENCE, &[oid, wrap(Tag::SET, &[vec![5, 0]])]));
        }
        let verdict = verdict(&clear(ALICE, &entity(), &parts.sign_again()));
        assert_eq!(verdict.result(), result, "{count}: {}", verdict.reason());
    }
}

#[test]
fn signed_attributes_are_those_of_rfc_8551_once_each() {
    // Alice's certificate is for encryption too; Ed25519 never is.
    for (name, preferred) in [("alice", 1), ("ed25519", 0)] {
        let object = cms::sign_opaque(b"x", &key(name), &[], now()).unwrap();
        let signed = signed_data(&object);
        assert_eq!(signed.signer_infos().len(), 1);
        let once = [
            "1.2.840.113549.1.9.3",       // content-type
            "1.2.840.113549.1.9.4",       // message-digest
            "1.2.840.113549.1.9.5",       // signing-time
            "1.2.840.113549.1.9.15",      // SMIMECapabilities
            "1.2.840.113549.1.9.16.2.47", // signingCertificateV2
            "1.2.840.113549.1.9.52",      // CMSAlgorithmProtection
        ];
        for (oid, count) in
            once.map(|oid| (oid, 1)).into_iter().chain([("1.2.840.113549.1.9.16.2.11", preferred)])
        {
            let oid = ObjectIdentifier::new(oid).unwrap().to_der().unwrap();
            assert_eq!(memchr::memmem::find_iter(&object, &oid).count(), count, "{name}: {oid:?}");
        }
    }
}

#[test]
fn other_algorithms_than_the_protected_ones_are_refused() {
    let object = cms::sign(
        |algorithm| smime::key::Digest::of(algorithm, entity().as_bytes()),
        &key("alice"),
        &[certificate("ca")],
        now(),
    )
    .unwrap();
    let good = verdict(&clear("alice@example.org", &entity(), &object));
    assert_eq!(good.result(), AuthResult::Pass, "{}", good.reason());
    // signatureAlgorithm after the attributes: rsaEncryption becomes sha256WithRSAEncryption, which means the same.
    let at = memchr::memmem::rfind(&object, b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01").unwrap();
    let mut other = object;
    other[at + 8] = 11;
    let other = verdict(&clear("alice@example.org", &entity(), &other));
    assert_eq!(other.reason(), &Reason::OtherAlgorithms);
}
