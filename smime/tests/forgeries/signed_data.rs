//! SignedData: signatures moved, added, left out, emptied, and made to say something else.

use const_oid::db::rfc5911;
use der::asn1::ObjectIdentifier;
use smime::{
    ber::Tag,
    key::{SignatureInput, Signer},
    message::{AuthResult, Reason},
    testing::{
        Node,
        fixtures::{certificate, data, key},
        hostile, signed_data,
    },
};

use crate::support::{
    ALICE, FORGED, OpenSsl, Signed, TEXT, clear, mail, opaque, openssl_verifies, refused, signature, verdict,
};

/// draft-ietf-lamps-cms-euf-cma-signeddata: what is signed are the attributes; without them in the SignerInfo the
/// signature is one over their octets as content.
#[test]
fn signed_attributes_moved_into_the_content_do_not_pass() {
    let mut signed = Signed::of(&signature("alice", TEXT));
    let attributes = signed.signer()[3].tagged(Tag::SET).to_der();
    signed.signer().remove(3);
    let forged =
        mail(ALICE, &opaque("signed-data", &signed.clone().with_content(Some(&attributes)).to_der()));
    refused("attributes as content", &verdict(&forged), AuthResult::Policy, "no signed attributes");
    assert_eq!(openssl_verifies("attributes-dropped", &forged, &[]), OpenSsl::Accepts(attributes));
    println!("OpenSSL accepts attributes as content; refused here");
    // In multipart/signed these octets are no text that a transport leaves alone, and not the text either.
    let detached = mail(ALICE, &clear(TEXT, &signed.with_content(None).to_der()));
    refused("detached", &verdict(&detached), AuthResult::Fail, "does not verify");
}

/// Attributes are covered by the signature or worth nothing (AWS-LC CVE-2026-3338: a bypass with authenticated
/// attributes).
#[test]
fn attributes_that_the_signature_does_not_cover_do_not_pass() {
    // The signature of a text without attributes, with attributes for another text put beside it.
    let mut forged = Signed::of(&signature("mallory", FORGED));
    let mut bare = Signed::of(&data("noattr.p7s"));
    let (sid, value) = (bare.signer()[1].clone(), bare.signer().last().unwrap().clone());
    forged.signer()[1] = sid.clone();
    forged.signer()[5] = value;
    *forged.certificates() = bare.certificates().clone();
    // The digest replaced under an old signature.
    let mut replaced = Signed::of(&signature("alice", TEXT));
    let digest = Signed::of(&signature("alice", FORGED)).attribute(rfc5911::ID_MESSAGE_DIGEST).clone();
    *replaced.attribute(rfc5911::ID_MESSAGE_DIGEST) = digest;
    // The signature over the content itself, by a key that does sign that.
    let mut over_content = Signed::of(&signature("alice", TEXT));
    let alice = key("alice");
    let input = SignatureInput::of(alice.algorithms()[0], TEXT.as_bytes());
    let value = alice.sign(&input, alice.algorithms()[0]).unwrap();
    over_content.signer()[5] = Node::octet_string(value.0);
    // Attributes in an order that is not DER's, and the signature over that of another message.
    for (what, signed, content) in [
        ("another text's", forged, FORGED),
        ("digest", replaced, FORGED),
        ("over content", over_content, TEXT),
    ] {
        let forged = mail(ALICE, &clear(content, &signed.to_der()));
        refused(what, &verdict(&forged), AuthResult::Fail, "does not verify");
        openssl_verifies("attributes-replaced", &forged, &[]).refuses(what);
    }
}

/// CVE-2018-18509, CVE-2019-7284; "Johnny, you are fired" (USENIX Security 2019), C1.
#[test]
fn content_inside_a_detached_signature_does_not_pass_for_what_is_shown() {
    for (what, shown, embedded) in [
        ("the signed text embedded, another shown", FORGED, TEXT),
        ("the signed text shown, another embedded", TEXT, FORGED),
        ("the signed text in both places", TEXT, TEXT),
    ] {
        let object = Signed::of(&signature("alice", TEXT)).with_content(Some(embedded.as_bytes())).to_der();
        let forged = mail(ALICE, &clear(shown, &object));
        refused(what, &verdict(&forged), AuthResult::Fail, "a content of its own");
        // OpenSSL goes by what is shown.
        let openssl = openssl_verifies("embedded", &forged, &[]);
        if shown == TEXT { openssl.accepts(what, TEXT) } else { openssl.refuses(what) }
    }
}

/// "Johnny, you are fired", C2; AWS-LC CVE-2026-3336: the chain of the last signer only was checked.
#[test]
fn one_good_signer_does_not_save_the_others_in_any_order() {
    let signer = |name: &str, text: &str| Signed::of(&signature(name, text));
    // Who signed the forged text (bob is in good standing, mallory in nobody's), and alice's of another text.
    for (what, signers, from, result, reason) in [
        (
            "an old signature beside",
            vec![("bob", FORGED), ("alice", TEXT)],
            ALICE,
            AuthResult::Fail,
            "changed",
        ),
        (
            "somebody unknown beside",
            vec![("alice", FORGED), ("mallory", FORGED)],
            ALICE,
            AuthResult::Policy,
            "no path",
        ),
        (
            "the sender is the unknown one",
            vec![("mallory", FORGED), ("bob", FORGED)],
            ALICE,
            AuthResult::Policy,
            "no path",
        ),
        (
            "three",
            vec![("mallory", FORGED), ("alice", TEXT), ("bob", FORGED)],
            ALICE,
            AuthResult::Fail,
            "changed",
        ),
        (
            "others only",
            vec![("bob", FORGED), ("carol", FORGED)],
            ALICE,
            AuthResult::Policy,
            "not of the sender",
        ),
    ] {
        for turn in 0..signers.len() {
            let mut order = signers.clone();
            order.rotate_left(turn);
            let mut all: Vec<_> = order.iter().map(|(name, text)| signer(name, text)).collect();
            let (mut infos, mut certificates) = (Vec::new(), Vec::new());
            for signed in &mut all {
                infos.append(signed.signers());
                certificates.append(signed.certificates());
            }
            let mut object = signer("bob", FORGED);
            (*object.signers(), *object.certificates()) = (infos, certificates);
            let mail = mail(from, &clear(FORGED, &object.to_der()));
            refused(what, &verdict(&mail), result, reason);
            if result == AuthResult::Fail || what.contains("unknown") {
                openssl_verifies("signers", &mail, &[]).refuses(what);
            }
        }
    }
}

/// RFC 5652 5.3: a signer that cannot be checked is not left out of the count.
#[test]
fn a_signer_with_unknown_algorithms_beside_a_good_one_does_not_pass() {
    let mut signed = Signed::of(&signature("alice", TEXT));
    let mut other = signed.signers()[0].clone();
    *other.at(&[4, 0]) = Node::oid(ObjectIdentifier::new_unwrap("1.2.3.4"));
    signed.signers().push(other);
    let verdict = verdict(&mail(ALICE, &clear(TEXT, &signed.to_der())));
    refused("1.2.3.4", &verdict, AuthResult::Policy, "1.2.3.4 is not supported");
}

/// "Johnny, you are fired", C3; RFC 8551 3.8.
#[test]
fn certificates_without_a_signer_are_no_signature() {
    let mut signed = Signed::of(&signature("alice", TEXT));
    signed.signers().clear();
    for (what, entity) in [
        ("detached", clear(FORGED, &signed.to_der())),
        ("opaque", opaque("signed-data", &signed.clone().with_content(Some(FORGED.as_bytes())).to_der())),
        ("certs-only", opaque("certs-only", &signed.to_der())),
    ] {
        let forged = mail(ALICE, &entity);
        refused(what, &verdict(&forged), AuthResult::None, "no signature");
        openssl_verifies("no-signers", &forged, &[]).refuses(what);
    }
}

/// "Johnny, you are fired", C4; RFC 8550 2.3.
#[test]
fn certificates_in_a_message_are_no_anchors() {
    // Mallory's root comes along; a certificate that signed itself; a CA of the right name with another key.
    let with_root = |root: &str| {
        let mut signed = Signed::of(&signature("mallory", FORGED));
        signed.certificates().push(Node::parse(certificate(root).der()));
        signed
    };
    let mut self_signed = Signed::of(&signature("alice", FORGED));
    let own = hostile::of_one_key(7);
    *self_signed.certificates() = vec![Node::parse(own.der())];
    let mut fields = Node::parse(own.der());
    let (issuer, serial) = (fields.at(&[0, 3]).clone(), fields.at(&[0, 1]).clone());
    self_signed.signer()[1] = Node::sequence([issuer, serial]);
    self_signed
        .attributes()
        .retain(|attribute| attribute.get(&[0]) != &Node::oid(rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2));
    for (what, signed) in [
        ("mallory's root", with_root("other-root")),
        ("a CA of the right name", with_root("false-ca")),
        ("self-signed", self_signed.sign_again("alice")),
    ] {
        let forged = mail(ALICE, &clear(FORGED, &signed.to_der()));
        let verdict = verdict(&forged);
        refused(what, &verdict, AuthResult::Policy, "");
        assert!(matches!(verdict.reason(), Reason::Path(_)), "{what}: {}", verdict.reason());
        openssl_verifies("anchors", &forged, &[]).refuses(what);
    }
}

/// RFC 5652 11.1 and 11.2, RFC 8551 2.5; type confusion of attribute values: CVE-2026-22796, CVE-2026-63076.
/// The attacker here is a signer who wants readers to disagree: everything is signed again.
#[test]
fn signed_attributes_doubled_missing_or_of_another_type_do_not_pass() {
    let wrong = [
        Node::primitive(Tag(5), []),
        Node::primitive(Tag::INTEGER, [0]),
        Node::primitive(Tag(1), [0xff]),
        Node::primitive(Tag::BIT_STRING, [0]),
        Node::sequence([]),
        Node::set([]),
    ];
    for (oid, name) in
        [(rfc5911::ID_CONTENT_TYPE, "content-type"), (rfc5911::ID_MESSAGE_DIGEST, "message-digest")]
    {
        let base = Signed::of(&signature("alice", TEXT));
        let original = base.clone().attribute(oid).clone();
        let value = original.get(&[1, 0]).clone();
        let mut cases = vec![
            ("is missing", vec![]),
            ("is there twice", vec![original.clone(), original.clone()]),
            ("has no value", vec![Node::attribute(oid, [])]),
            ("has two values", vec![Node::attribute(oid, [value.clone(), value.clone()])]),
        ];
        cases.extend(
            wrong.iter().map(|wrong| ("is of another type", vec![Node::attribute(oid, [wrong.clone()])])),
        );
        for (how, attributes) in cases {
            let mut signed = base.clone();
            signed.attributes().retain(|attribute| *attribute != original);
            signed.attributes().extend(attributes.clone());
            let mail = mail(ALICE, &clear(TEXT, &signed.sign_again("alice").to_der()));
            refused(&format!("{name} {how}: {attributes:02x?}"), &verdict(&mail), AuthResult::Fail, "");
        }
    }
    // The others of RFC 8551 2.5, RFC 5035 and RFC 6211 may be absent, but not twice, and not of another type.
    for oid in [
        rfc5911::ID_SIGNING_TIME,
        rfc5911::SMIME_CAPABILITIES,
        rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2,
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.11"),
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52"),
    ] {
        let mut signed = Signed::of(&signature("alice", TEXT));
        signed.attributes().retain(|attribute| attribute.get(&[0]) != &Node::oid(oid));
        for values in [vec![], vec![Node::sequence([]), Node::sequence([])]] {
            let mut signed = signed.clone();
            signed.attributes().push(Node::attribute(oid, values.clone()));
            let mail = mail(ALICE, &clear(TEXT, &signed.sign_again("alice").to_der()));
            refused(&format!("{oid} with {} values", values.len()), &verdict(&mail), AuthResult::Fail, "");
        }
    }
}

/// RFC 6211, RFC 8933: the algorithms that were signed with are among what is signed.
#[test]
fn a_signature_under_other_algorithms_than_it_names_does_not_pass() {
    let protection = |digest: Node, signature: Node| {
        let oid = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52");
        Node::attribute(oid, [Node::sequence([digest, signature.tagged(Tag::context(1))])])
    };
    let base = Signed::of(&signature("alice", TEXT));
    let (digest, algorithm) = (base.clone().signer()[2].clone(), base.clone().signer()[4].clone());
    let sha512 = Node::sequence([Node::oid(const_oid::db::rfc5912::ID_SHA_512)]);
    let pss = Node::sequence([Node::oid(const_oid::db::rfc5912::ID_RSASSA_PSS)]);
    for (what, digest, algorithm) in [("another digest", sha512, algorithm), ("another scheme", digest, pss)]
    {
        let mut signed = base.clone();
        signed.attributes().retain(|attribute| {
            attribute.get(&[0]) != &Node::oid(ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52"))
        });
        signed.attributes().push(protection(digest, algorithm));
        let mail = mail(ALICE, &clear(TEXT, &signed.sign_again("alice").to_der()));
        refused(what, &verdict(&mail), AuthResult::Fail, "other algorithms");
    }
}

/// RFC 5652 3, RFC 3161, RFC 2634 2: a time stamp or a receipt is rightly signed and leads to an anchor, and is no mail.
#[test]
fn what_was_signed_as_something_else_than_mail_does_not_pass() {
    let base = Signed::of(&signature("alice", FORGED)).with_content(Some(FORGED.as_bytes()));
    let typed = |inside: ObjectIdentifier, attribute: ObjectIdentifier| {
        let mut signed = base.clone();
        *signed.0.at(&[1, 0, 2, 0]) = Node::oid(inside);
        *signed.attribute(rfc5911::ID_CONTENT_TYPE) =
            Node::attribute(rfc5911::ID_CONTENT_TYPE, [Node::oid(attribute)]);
        verdict(&mail(ALICE, &opaque("signed-data", &signed.sign_again("alice").to_der())))
    };
    let data = rfc5911::ID_DATA;
    assert_eq!(typed(data, data).result(), AuthResult::Pass);
    for (what, oid) in [
        ("TSTInfo", "1.2.840.113549.1.9.16.1.4"),
        ("a receipt", "1.2.840.113549.1.9.16.1.1"),
        ("EnvelopedData", "1.2.840.113549.1.7.3"),
        ("SignedData", "1.2.840.113549.1.7.2"),
    ] {
        let oid = ObjectIdentifier::new_unwrap(oid);
        for (inside, attribute) in [(oid, oid), (oid, data), (data, oid)] {
            let verdict = typed(inside, attribute);
            refused(what, &verdict, AuthResult::Fail, "not that of a MIME message");
        }
    }
}

/// CVE-2026-45447 (a read after free in `PKCS7_verify` for an empty digestAlgorithms). An empty list is allowed
/// (RFC 5652 5.1); every other structure emptied spoils the signature, and none carries another text.
#[test]
fn empty_structures_lend_no_signature_to_another_text() {
    let mut signed = Signed::of(&signature("alice", TEXT));
    signed.digest_algorithms().clear();
    assert_eq!(verdict(&mail(ALICE, &clear(TEXT, &signed.to_der()))).result(), AuthResult::Pass);
    refused("", &verdict(&mail(ALICE, &clear(FORGED, &signed.to_der()))), AuthResult::Fail, "changed");
    let base = Node::parse(&signature("alice", TEXT));
    for path in base.paths() {
        for tag in [Tag::SET, Tag::SEQUENCE] {
            let mut emptied = base.clone();
            let own = emptied.at(&path).tag;
            *emptied.at(&path) = Node::constructed(if own.0 & 0x20 == 0 { tag } else { own }, []);
            let forged = verdict(&mail(ALICE, &clear(FORGED, &emptied.to_der())));
            assert_ne!(forged.result(), AuthResult::Pass, "{path:?}");
        }
    }
}

/// RFC 5035 (substitution of certificates): one key in two certificates, and a key identifier that an attacker's
/// certificate has too (RFC 8551 2.6).
#[test]
fn another_certificate_of_the_same_key_or_identifier_is_not_taken_for_the_signers() {
    let twin = mail(ALICE, &clear(TEXT, &data("twin.p7s")));
    refused("a twin", &verdict(&twin), AuthResult::Fail, "made with another certificate");
    // With the identifier of alice's key, but mallory's key: the signature is not checked with it.
    let mut signed = Signed::of(&data("keyid.p7s"));
    let mut mallory = Node::parse(certificate("mallory").der());
    let identifier = certificate("alice").subject_key_identifier().unwrap();
    let own = certificate("mallory").subject_key_identifier().unwrap();
    let at = mallory.paths().into_iter().find(|path| {
        let node = mallory.at(path);
        node.tag == Tag::OCTET_STRING && node.octets().ends_with(&own)
    });
    let value = mallory.at(&at.unwrap()).octets();
    let start = value.len() - own.len();
    value[start..].copy_from_slice(&identifier);
    signed.certificates().insert(0, mallory);
    let object = signed.to_der();
    assert_eq!(signed_data(&object).certificates().len(), 3);
    let verdict = verdict(&mail(ALICE, &clear(TEXT, &object)));
    assert_eq!(verdict.certificate(), Some(&certificate("alice")));
    assert_eq!(verdict.result(), AuthResult::Pass);
}

/// A countersignature is nobody's word (RFC 5652 11.4): attributes beside the signature change nothing.
#[test]
fn what_stands_beside_the_signature_lends_nothing_to_it() {
    let mut forged = Signed::of(&signature("mallory", FORGED));
    let good = Signed::of(&signature("alice", TEXT)).signers()[0].clone();
    let countersignature = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.6");
    let unsigned = Node::constructed(Tag::context(1), [Node::attribute(countersignature, [good])]);
    forged.signer().push(unsigned);
    let verdict = verdict(&mail(ALICE, &clear(FORGED, &forged.to_der())));
    assert_eq!(verdict.signers()[0].countersigners.len(), 1);
    refused("a countersignature", &verdict, AuthResult::Policy, "no path");
}
