//! What is announced in an object that is signed for its attributes, and by whom (RFC 2798 2.8).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

use der::asn1::ObjectIdentifier;
use smime::{
    ber::Tag,
    cipher::ContentCipher,
    cms,
    key::{Digest, SignatureInput, Signer},
    message::announcements,
    path::Budget,
    testing::{
        Node,
        fixtures::{certificate, data, key, now, trust},
    },
};

const PREFERENCE: &str = "1.2.840.113549.1.9.16.2.11";
const CAPABILITIES: &str = "1.2.840.113549.1.9.15";

/// Who announces what about whose certificate: subjects, and how many ciphers.
fn announced(octets: &[u8]) -> Vec<(String, String, usize)> {
    let all = announcements(&mut Budget::default(), octets, &trust());
    let name = |certificate: &smime::Certificate| certificate.subject().to_string();
    let all =
        all.iter().map(|it| (name(it.signer()), name(it.certificate()), it.capabilities().ciphers().count()));
    all.collect()
}

/// The attributes of the only signer.
fn attributes(root: &mut Node) -> &mut Vec<Node> {
    root.at(&[1, 0, 4, 0, 3]).nodes()
}

/// Alice's signature over nothing, with attributes and certificates changed before she signs.
fn signed(change: impl FnOnce(&mut Node)) -> Node {
    let digest = |algorithm| Digest::of(algorithm, b"");
    let mut root = Node::parse(&cms::sign(digest, &key("alice"), &[certificate("ca")], now()).unwrap());
    change(&mut root);
    attributes(&mut root).sort_by_key(Node::to_der);
    let signer = root.at(&[1, 0, 4, 0]).nodes();
    let key = key("alice");
    let algorithm = key.algorithms()[0];
    let octets = signer[3].tagged(Tag::SET).to_der();
    signer[5] = Node::octet_string(key.sign(&SignatureInput::of(algorithm, &octets), algorithm).unwrap().0);
    root
}

fn is(oid: &str, attribute: &Node) -> bool {
    *attribute.get(&[0]) == Node::oid(ObjectIdentifier::new_unwrap(oid))
}

#[test]
fn what_is_announced_is_what_a_good_signature_covers() {
    let alice = certificate("alice").subject().to_string();
    let mine = |ciphers| vec![(alice.clone(), alice.clone(), ciphers)];
    // By OpenSSL, over a content that is not here; and by us, over none.
    assert_eq!(announced(&data("detached.p7s")), mine(3));
    let own = announced(&signed(|_| {}).to_der());
    assert!(own.len() == 1 && own[0].2 > 0, "{own:?}");
    // Whatever else is changed afterwards, it is not theirs any more.
    let mut changed = signed(|_| {});
    let aes_128 = |node: &mut Node| {
        let list = attributes(node).iter_mut().find(|it| is(CAPABILITIES, it)).unwrap();
        let kept = Node::oid(ContentCipher::Aes128Cbc.oid());
        *list.at(&[1, 0]).nodes() = vec![Node::sequence([kept])];
    };
    aes_128(&mut changed);
    assert_eq!(announced(&changed.to_der()), []);
    assert_eq!(announced(&signed(aes_128).to_der()), mine(1));
    // A content that is there must be the one that was signed.
    for (content, expected) in [(&b""[..], own), (b"hello", Vec::new())] {
        let mut with_content = signed(|_| {});
        let content = Node::constructed(Tag::context(0), [Node::octet_string(content)]);
        with_content.at(&[1, 0, 2]).nodes().push(content);
        assert_eq!(announced(&with_content.to_der()), expected);
    }
    let without = |oid: &'static str| signed(move |node| attributes(node).retain(|it| !is(oid, it))).to_der();
    assert_eq!(announced(&without(CAPABILITIES)), []);
    for octets in [
        cms::certificates_only(&[certificate("alice")]).unwrap(),
        data("sha1.p7s"),
        data("noattr.p7s"),
        data("der.p7m"),
        data("alice.pem"),
        Vec::new(),
    ] {
        assert_eq!(announced(&octets), []);
    }
}

#[test]
fn of_two_keys_the_one_that_is_preferred_is_meant() {
    let other = certificate("encrypt-only");
    let node = Node::parse(other.der());
    let name = Node::sequence([node.get(&[0, 3]).clone(), node.get(&[0, 1]).clone()]);
    let prefers = |root: &mut Node| {
        let value = name.tagged(Tag::context(0));
        attributes(root).retain(|it| !is(PREFERENCE, it));
        attributes(root).push(Node::attribute(ObjectIdentifier::new_unwrap(PREFERENCE), [value]));
    };
    let both = signed(|root| {
        prefers(root);
        root.at(&[1, 0, 3]).nodes().push(node.clone());
    });
    let found = announced(&both.to_der());
    let expected = [certificate("alice"), other].map(|it| it.subject().to_string());
    assert_eq!(found.len(), 1);
    assert_eq!([&found[0].0, &found[0].1], [&expected[0], &expected[1]]);
    // Of one that is not there nothing is known, and it is not the signer's own either.
    assert_eq!(announced(&signed(prefers).to_der()), []);
}
