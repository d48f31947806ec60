//! What is found of each signer: aspect by aspect, and who signed his signature again.

use der::{Encode, asn1::ObjectIdentifier};
use smime::{
    Room,
    ber::{Element, Tag, Tree},
    message::{AuthResult, Finding, LayerReport, is_loose, sign},
    mime::{Canonical, MimeEntity, encode_base64},
    testing::{
        Node,
        fixtures::{certificate, data, key, now},
        hostile::wrap,
    },
};

use super::{TEXT, clear, embed, pkcs7, signed_object, verdict, verdict_from};

/// The names of the aspects that are good, and of those that are bad.
fn aspects(layer: &LayerReport) -> (Vec<&'static str>, Vec<&'static str>) {
    let findings = layer.signers[0].findings.aspects();
    let names = |wanted: fn(&Finding) -> bool| {
        findings.iter().filter(|(_, finding)| wanted(finding)).map(|(name, _)| *name).collect()
    };
    (names(Finding::is_good), names(|finding| matches!(finding, Finding::Bad(_))))
}

#[test]
fn each_aspect_of_a_signature_is_found_by_itself() {
    let detached = |object: &str, content: &str| {
        format!(
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\n\
             {content}\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
            String::from_utf8(encode_base64(&data(object))).unwrap()
        )
    };
    let by = |name: &str| {
        let canonical = Canonical::from_signed_part(TEXT.as_bytes());
        let signed = sign(&canonical, &key(name), &[certificate("ca")], now()).unwrap();
        format!("Content-Type: {}\r\n\r\n{}", signed.content_type, String::from_utf8(signed.body).unwrap())
    };
    let without_certificates = {
        let mut node = Node::parse(&signed_object(TEXT.as_bytes()));
        node.at(&[1, 0]).nodes().remove(3);
        pkcs7(
            "; smime-type=signed-data",
            &embed(&node.to_der(), Some(wrap(Tag::OCTET_STRING, &[TEXT.into()]))),
        )
    };
    let all = "signature attributes certificate strength path address";
    for (what, from, entity, good, bad) in [
        ("all well", "alice", clear(TEXT), all, ""),
        ("no certificate", "alice", without_certificates, "", "certificate"),
        ("another sender", "bob", clear(TEXT), "signature attributes certificate strength path", "address"),
        (
            "SHA-1",
            "alice",
            detached("sha1.p7s", TEXT),
            "signature attributes certificate path address",
            "strength",
        ),
        (
            "SHA-1 and another sender",
            "bob",
            detached("sha1.p7s", TEXT),
            "signature attributes certificate path",
            "strength address",
        ),
        (
            "changed content: the path is not looked for",
            "alice",
            detached("detached.p7s", &TEXT.replace("Bob", "Eve")),
            "attributes certificate strength address",
            "signature",
        ),
        (
            "no attributes",
            "alice",
            detached("noattr.p7s", TEXT),
            "signature certificate strength path address",
            "attributes",
        ),
        (
            "another certificate of the key, without its CA",
            "alice",
            detached("twin.p7s", TEXT),
            "signature attributes strength address",
            "certificate path",
        ),
        ("no anchor", "alice", by("mallory"), "signature attributes certificate strength address", "path"),
        (
            "a key not for signatures",
            "alice",
            by("encrypt-only"),
            "signature attributes strength path address",
            "certificate",
        ),
        (
            "small and nobody's",
            "alice",
            detached("rsa1024-md5.p7s", TEXT),
            "signature attributes certificate address",
            "strength path",
        ),
    ] {
        let verdict = verdict_from(&format!("{from}@example.org"), &entity);
        let (found_good, found_bad) = aspects(&verdict.layers()[0]);
        assert_eq!((found_good.join(" ").as_str(), found_bad.join(" ").as_str()), (good, bad), "{what}");
        assert_eq!(verdict.result() == AuthResult::Pass, bad.is_empty(), "{what}: {}", verdict.reason());
    }
}

#[test]
fn countersignatures_are_reported_and_mean_nothing() {
    let countersignature = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.6").to_der().unwrap();
    let object = signed_object(TEXT.as_bytes());
    let with = |unsigned: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let tree = Tree::parse(&object).unwrap();
        let der = |element: Element<'_, '_>| element.to_der().unwrap();
        let info: Vec<_> = tree.root().children().collect();
        let mut fields: Vec<_> = info[1].children().next().unwrap().children().map(der).collect();
        let signers =
            Tree::parse(&fields[4]).map(|tree| der(tree.root().children().next().unwrap())).unwrap();
        let tree = Tree::parse(&signers).unwrap();
        let mut signer: Vec<_> = tree.root().children().map(der).collect();
        signer.push(unsigned(signers.clone()));
        fields[4] = wrap(Tag::SET, &[wrap(Tag::SEQUENCE, &signer)]);
        let content = wrap(Tag::OCTET_STRING, &[TEXT.into()]);
        let object =
            wrap(Tag::SEQUENCE, &[der(info[0]), wrap(Tag::context(0), &[wrap(Tag::SEQUENCE, &fields)])]);
        let object = embed(&object, Some(content));
        // Below CBC they may be anything, where they are in no base64.
        let head = "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: ";
        let binary = [format!("{head}binary\r\n\r\n").as_bytes(), &object].concat();
        let base64 = [format!("{head}base64\r\n\r\n").as_bytes(), &encode_base64(&object)].concat();
        let is_loose = |entity: &[u8]| is_loose(&MimeEntity::parse(entity), Room::of(0));
        assert!(is_loose(&binary) && !is_loose(&base64));
        verdict(&pkcs7("", &object))
    };
    let attribute = |values: Vec<u8>| {
        wrap(Tag::context(1), &[wrap(Tag::SEQUENCE, &[countersignature.clone(), wrap(Tag::SET, &[values])])])
    };
    let one = with(&|signer| attribute(signer));
    assert_eq!((one.result(), one.signers()[0].countersigners.len()), (AuthResult::Pass, 1));
    let many = with(&|signer| attribute(signer.repeat(50)));
    assert_eq!((many.result(), many.signers()[0].countersigners.len()), (AuthResult::Pass, 20));
    for garbage in [vec![], vec![5, 0], vec![0x30, 0], vec![0x30, 3, 2, 1, 1]] {
        let verdict = with(&|_| attribute(garbage.clone()));
        assert_eq!((verdict.result(), verdict.signers()[0].countersigners.len()), (AuthResult::Pass, 0));
    }
}
