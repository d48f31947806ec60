//! What others write at the edge of what is taken, and beyond it.

use testkit::der::Node;
use testkit::mail::Letter;
use testkit::peers::{Recipient, multipart_signed, pkcs7_mime};
use testkit::sink::Delivered;
use testkit::{Lab, mime};

use crate::common::{assert_same_content, assert_untouched, our_results, verdict};

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";

/// What is to become of a mail.
enum Fate {
    Opened,
    /// What is inside is closed still.
    OpenedTo(Vec<u8>),
    /// It stays as it came, octet by octet, and nobody vouches for it.
    Closed,
    /// It stays as it came, and who signed it vouches for it.
    Passes,
}

fn object(entity: &[u8]) -> Node {
    Node::parse(&mime::leaves(&mime::crlf(entity)).unwrap().pop().unwrap().octets).unwrap()
}

/// An object with so many elements in a set, more of the first one.
fn as_many(object: &Node, set: &[usize], count: usize) -> Vec<u8> {
    let mut object = object.clone();
    let nodes = object.at(set).unwrap().nodes().unwrap();
    let one = nodes[0].clone();
    nodes.resize(count, one);
    object.to_der()
}

/// AES-GCM with the first octets of its tag, said to be so many; 12 where nothing is said (RFC 5084 3.2).
fn with_tag(object: &Node, length: usize, said: Option<u8>) -> Vec<u8> {
    let mut object = object.clone();
    let parameters = object.at(&[1, 0, 2, 1, 1]).unwrap().nodes().unwrap();
    parameters.truncate(1);
    parameters.extend(said.map(Node::integer));
    object.at(&[1, 0, 3]).unwrap().octets().unwrap().truncate(length);
    object.to_der()
}

fn assert_fate(what: &str, mail: &Delivered, sent: &[u8], fate: Fate) {
    let is_opened = mime::find(&mail.octets, b"for bob only").is_some();
    match fate {
        Fate::Opened => assert!(is_opened, "{what}: {mail:?}"),
        Fate::OpenedTo(entity) => assert_same_content(&mail.octets, &entity),
        Fate::Closed => {
            assert_untouched(mail, sent);
            assert!(!our_results(mail).concat().contains("smime=pass"), "{what}: {mail:?}");
        }
        Fate::Passes => {
            assert_untouched(mail, sent);
            assert_eq!(verdict(mail), "pass", "{what}: {mail:?}");
        }
    }
}

#[test]
fn tags_recipients_certificates_and_layers_count_up_to_their_limits_and_nothing_beyond_passes() {
    let running = Lab::new("edges").unwrap().start().unwrap();
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let to = [Recipient::pkcs1(&lab.bob)];
    let mut cases: Vec<(String, Vec<u8>, Fate)> = Vec::new();

    let gcm = object(&openssl.encrypt(TEXT, &to, &["-aes-256-gcm"]).unwrap());
    let right = [(12, None), (12, Some(12)), (13, Some(13)), (14, Some(14)), (15, Some(15)), (16, Some(16))];
    let wrong = [
        (0, Some(0)),
        (0, None),
        (1, Some(1)),
        (4, Some(4)),
        (4, None),
        (4, Some(16)),
        (8, Some(8)),
        (11, Some(11)),
        (11, None),
        (12, Some(16)),
        (15, Some(14)),
        (16, Some(12)),
        (16, Some(17)),
        (16, None),
    ];
    for (tags, is_right) in [(&right[..], true), (&wrong, false)] {
        for &(length, said) in tags {
            let fate = if is_right { Fate::Opened } else { Fate::Closed };
            let entity = pkcs7_mime("authEnveloped-data", &with_tag(&gcm, length, said));
            cases.push((format!("a tag of {length} octets said to be {said:?}"), entity, fate));
        }
    }

    let cbc = object(&openssl.encrypt(TEXT, &to, &[]).unwrap());
    for (kind, object) in [("enveloped-data", &cbc), ("authEnveloped-data", &gcm)] {
        for (count, fate) in [(500, Fate::Opened), (501, Fate::Closed)] {
            let many = as_many(object, &[1, 0, 1], count);
            cases.push((format!("{count} recipients in {kind}"), pkcs7_mime(kind, &many), fate));
        }
    }

    let signature = object(&openssl.sign(TEXT, &lab.erin).unwrap());
    let certificates = |count| multipart_signed(TEXT, &as_many(&signature, &[1, 0, 3], count));
    cases.push(("100 certificates".to_owned(), certificates(100), Fate::Passes));
    cases.push(("101 certificates".to_owned(), certificates(101), Fate::Closed));

    let sealed = mime::crlf(&openssl.encrypt(TEXT, &to, &[]).unwrap());
    let nested = |layers: usize, layer: &dyn Fn(&[u8]) -> Vec<u8>| {
        (0..layers).fold(sealed.clone(), |inner, _| mime::crlf(&layer(&inner)))
    };
    let seal = |inner: &[u8]| openssl.encrypt(inner, &to, &[]).unwrap();
    let sign = |inner: &[u8]| openssl.sign_with(inner, &lab.erin, &["-nodetach"]).unwrap();
    cases.push(("10 ciphertexts".to_owned(), nested(9, &seal), Fate::Opened));
    cases.push(("11 ciphertexts".to_owned(), nested(10, &seal), Fate::OpenedTo(sealed.clone())));
    cases.push(("a ciphertext in 9 signatures".to_owned(), nested(9, &sign), Fate::Opened));
    cases.push(("a ciphertext in 10 signatures".to_owned(), nested(10, &sign), Fate::Passes));

    let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "Edge" };
    for (what, entity, fate) in cases {
        let sent = letter.carrying(&entity);
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        assert_fate(&what, &mail, &sent, fate);
    }
}
