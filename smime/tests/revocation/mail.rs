//! CRLs and OCSP responses that come inside of a mail's SignedData (RFC 5652 10.2.1, RFC 5940).

use smime::{
    ber::Tag,
    cms,
    key::Digest,
    message::{AuthResult, Reason, Verdict, verify},
    mime::{Message, encode_base64, single_originator},
    path::{RevocationMode, Trust},
    testing::{
        Node,
        draft::{Draft, alternative_names, at, memory_key, rfc822_name},
    },
};

use smime::testing::evidence::{List, Single, Status, response};

use crate::{ALICE, CA, ca, trust};

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nHello.\r\n";

fn alice() -> smime::Certificate {
    let names = alternative_names(false, &[rfc822_name("alice@example.org")]);
    Draft::new("Alice", ALICE, "CA").numbered(10).with(names).sign(CA)
}

/// The verdict on a mail by Alice that brings these along.
fn verdict(along: &[Node], trust: &Trust, revocation: RevocationMode) -> Verdict {
    let digest = |algorithm| Digest::of(algorithm, TEXT);
    let object = cms::sign(digest, &memory_key(ALICE, alice()), &[], at()).unwrap();
    let mut object = Node::parse(&object);
    let fields = object.at(&[1, 0]).nodes();
    if !along.is_empty() {
        let behind_certificates = fields.len() - 1;
        fields.insert(behind_certificates, Node::constructed(Tag::context(1), along));
    }
    let base64 = encode_base64(&object.to_der());
    let head = b"From: alice@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; \
        protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\n";
    let middle = b"\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n";
    let mail = [head.as_slice(), TEXT, middle, base64.as_slice(), b"\r\n--b--\r\n"].concat();
    let message = Message::from_stored(&mail);
    let entity = message.entity();
    let trust = Trust { revocation, ..trust.clone() };
    verify(&entity, single_originator(&entity), &trust, at()).0
}

/// `good`, `revoked` or `unknown`, alike in both modes.
fn found(along: &[Node], trust: &Trust) -> &'static str {
    let hard = verdict(along, trust, RevocationMode::HardFail);
    let soft = verdict(along, trust, RevocationMode::SoftFail);
    match (hard.result(), soft.result(), soft.reason()) {
        (AuthResult::Pass, AuthResult::Pass, Reason::AllGood) => "good",
        (AuthResult::Fail, AuthResult::Fail, _) => "revoked",
        // Never a pass that does not say what is missing.
        (AuthResult::TempError, AuthResult::Pass, Reason::RevocationUnknown(why)) => {
            assert!(soft.reason().to_string().contains(why), "{}", soft.reason());
            "unknown"
        }
        _ => panic!("{} and {}", hard.reason(), soft.reason()),
    }
}

fn list(from: i64) -> List {
    List::by("CA", CA).from(from, Some(24))
}

#[test]
fn a_sender_who_brings_an_older_list_does_not_hide_the_newer() {
    let bad = |from| list(from).listing(&alice(), &[]);
    let stapled = |list: List| [Node::parse(&list.der())];
    for (what, along, at_hand, expected) in [
        ("none", vec![], vec![], "unknown"),
        ("one along", stapled(list(-1)).to_vec(), vec![], "good"),
        ("one along that lists her", stapled(bad(-1)).to_vec(), vec![], "revoked"),
        ("an older one along", stapled(list(-9)).to_vec(), vec![bad(-1).sign()], "revoked"),
        ("a newer one along", stapled(bad(-1)).to_vec(), vec![list(-9).sign()], "revoked"),
        ("one of another key along", stapled(List::by("CA", 9)).to_vec(), vec![], "unknown"),
        (
            "a newer one of another key along",
            stapled(List::by("CA", 9).from(0, Some(24))).to_vec(),
            vec![bad(-1).sign()],
            "revoked",
        ),
    ] {
        assert_eq!(found(&along, &trust(&at_hand, &[])), expected, "{what}");
    }
}

/// OtherRevocationInfoFormat with id-ri-ocsp-response.
fn ocsp(response: &[u8]) -> Node {
    let format = Node::oid("1.3.6.1.5.5.7.16.2".parse().unwrap());
    Node::constructed(Tag::context(1), [format, Node::parse(response)])
}

#[test]
fn an_ocsp_response_that_a_mail_brings_is_checked_like_any_other() {
    let single = |status| Single::of(&alice(), &ca(), status);
    let by = |key, status| ocsp(&response(&ca(), key, &[single(status)], &[]));
    let other =
        Node::constructed(Tag::context(1), [Node::oid("1.2.3.4".parse().unwrap()), Node::sequence([])]);
    for (what, along, at_hand, expected) in [
        ("good", vec![by(CA, Status::Good)], vec![], "good"),
        ("revoked", vec![by(CA, Status::Revoked)], vec![], "revoked"),
        ("unknown", vec![by(CA, Status::Unknown)], vec![], "unknown"),
        ("signed by another", vec![by(9, Status::Good)], vec![], "unknown"),
        ("signed by herself", vec![by(ALICE, Status::Good)], vec![], "unknown"),
        (
            "good beside a list with her",
            vec![by(CA, Status::Good)],
            vec![list(-9).listing(&alice(), &[])],
            "revoked",
        ),
        ("of another format", vec![other.clone()], vec![], "unknown"),
        ("of another format, and good", vec![other, by(CA, Status::Good)], vec![], "good"),
    ] {
        let at_hand: Vec<_> = at_hand.iter().map(List::sign).collect();
        assert_eq!(found(&along, &trust(&at_hand, &[])), expected, "{what}");
    }
}
