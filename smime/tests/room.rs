//! What comes of messages that are made to grow: layers in layers, each of which grows as far as it may. One test of
//! hostile ones, so that nothing else in the process allocates.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use const_oid::db::rfc5911;
use smime::{
    ber::Tag,
    cms,
    key::Digest,
    message::{Ciphertext, verify},
    mime::{MimeEntity, encode_base64, single_originator},
    protection::Payload,
    room,
    testing::{
        Node,
        fixtures::{certificate, key, now, trust},
    },
};
use testkit::memory::{self, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory for each octet of a message …
const RATIO: usize = 10;
/// … and for any: what may be made of the shortest, and what zlib takes.
const CONSTANT: usize = room::ALWAYS + (128 << 10);

fn pkcs7(smime_type: &str, padding: &str, object: &[u8]) -> String {
    let base64 = String::from_utf8(encode_base64(object)).unwrap();
    format!(
        "Content-Type: application/pkcs7-mime; smime-type={smime_type}\r\n{padding}\
         Content-Transfer-Encoding: base64\r\n\r\n{base64}\r\n"
    )
}

fn compressed(entity: &str, padding: &str) -> String {
    pkcs7("compressed-data", padding, &cms::compress(entity.as_bytes()).unwrap())
}

fn signature(content: &str) -> Vec<u8> {
    let digest = |algorithm| Digest::of(algorithm, content.as_bytes());
    cms::sign(digest, &key("alice"), &[certificate("ca")], now()).unwrap()
}

fn opaque(entity: &str, padding: &str) -> String {
    let mut object = Node::parse(&signature(entity));
    let content = Node::constructed(Tag::context(0), [Node::octet_string(entity.as_bytes())]);
    *object.at(&[1, 0, 2]) = Node::sequence([Node::oid(rfc5911::ID_DATA), content]);
    pkcs7("signed-data", padding, &object.to_der())
}

fn clear(entity: &str, padding: &str) -> String {
    let base64 = String::from_utf8(encode_base64(&signature(entity))).unwrap();
    let boundary = format!("b{}", entity.len());
    format!(
        "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary={boundary}\r\n{padding}\r\n\
         --{boundary}\r\n{entity}\r\n--{boundary}\r\nContent-Type: application/pkcs7-signature\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{base64}\r\n--{boundary}--\r\n"
    )
}

fn text(body: &str) -> String {
    format!("Content-Type: text/plain\r\n\r\n{body}")
}

/// Text that does not shrink.
fn noise(len: usize) -> String {
    let mut state = 1_u32;
    let octets = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    String::from_utf8(encode_base64(&octets.take(len / 4 * 3).collect::<Vec<_>>()))
        .unwrap()
        .replace("\r\n", "")
}

fn mail(entity: &str) -> Vec<u8> {
    format!("From: alice@example.org\r\nMIME-Version: 1.0\r\n{entity}").into_bytes()
}

#[test]
fn what_is_made_to_grow_takes_no_more_than_ten_times_its_length() {
    let line = "Every line is like every other.\r\n";
    let field = format!("X-Padding: {}\r\n", "a".repeat(980));
    let padding = field.repeat(300);
    let ten = |layers: &[fn(&str, &str) -> String], padding: &str, inner: String| {
        // All but the outermost have a header that shrinks.
        (0..10)
            .fold(inner, |entity, at| layers[at % layers.len()](&entity, if at < 9 { padding } else { "" }))
    };
    // One grows as far as it may, beside what does not shrink.
    let large = format!("X-Noise: {}\r\n", noise(200_000));
    let nulls = [vec![0x30, 0x80], [5, 0].repeat(200_000), vec![0, 0]].concat();
    let of_nulls = pkcs7("signed-data", "", &nulls);
    let hello = text("Hello.\r\n");
    let mut signed = Node::parse(&signature(&hello));
    let content = Node::constructed(Tag::context(0), [Node::octet_string(hello.as_bytes())]);
    *signed.at(&[1, 0, 2]) = Node::sequence([Node::oid(rfc5911::ID_DATA), content]);
    let signed = signed.to_der();
    let mut crowd = Node::parse(&signed);
    let names = Node::sequence(vec![
        Node::set([Node::sequence([
            Node::oid(der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3")),
            Node::primitive(Tag(0x13), *b"as long as few as are"),
        ])]);
        1500
    ]);
    let mut large_name = Node::parse(certificate("alice").der());
    *large_name.at(&[0, 3]) = names.clone();
    crowd.at(&[1, 0, 3]).nodes().extend(vec![large_name; 12]);
    let mut signers = Node::parse(&signed);
    *signers.at(&[1, 0, 4, 0, 1, 0]) = names;
    let one = signers.get(&[1, 0, 4, 0]).clone();
    signers.at(&[1, 0, 4]).nodes().extend(vec![one; 12]);
    let certificates = pkcs7("signed-data", "", &crowd.to_der());
    let cases = [
        ("compressed ten times", ten(&[compressed], &padding, text(&line.repeat(20_000)))),
        ("compressed and signed", ten(&[compressed, opaque], &padding, text(&line.repeat(20_000)))),
        ("compressed and signed beside", ten(&[clear, compressed], &padding, text(&line.repeat(20_000)))),
        ("compressed, of LF", compressed(&ten(&[opaque], "", text("x")).replace("\r\n", "\n\n"), "")),
        ("only LF", compressed(&(opaque("\n", "") + &"\n".repeat(900_000)).replace("\r\n", "\n"), "")),
        ("elements in compression", compressed(&of_nulls, "")),
        ("certificates in compression", compressed(&certificates, "")),
        ("signers in compression", compressed(&pkcs7("signed-data", "", &signers.to_der()), "")),
        ("large, compressed ten times", ten(&[compressed], &large, text(&line.repeat(60_000)))),
        ("large, elements", compressed(&of_nulls, &large)),
        ("large, certificates", compressed(&(large.clone() + &certificates), "")),
        ("certificates", certificates.clone()),
        ("signers", pkcs7("signed-data", "", &signers.to_der())),
    ];
    for (what, entity) in cases {
        let mail = mail(&entity);
        let entity = MimeEntity::parse(&mail);
        let looks: [(&str, &dyn Fn()); 3] = [
            ("verified", &|| {
                drop(verify(&entity, single_originator(&entity), &trust(), now()));
            }),
            ("looked for ciphertext", &|| drop(Ciphertext::find(&entity))),
            ("looked for its payload", &|| drop(Payload::find(&entity))),
        ];
        for (how, look) in looks {
            let before = memory::mark();
            look();
            let peak = memory::peak() - before;
            assert!(peak <= RATIO * mail.len() + CONSTANT, "{what}, {how}: {peak} octets for {}", mail.len());
        }
    }
}
