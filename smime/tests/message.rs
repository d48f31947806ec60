//! Signed messages: what passes, and the word and reason for each way in which one must not.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

use const_oid::db::rfc5911;
use der::{Encode, asn1::ObjectIdentifier};
use smime::{
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    ber::{Element, Tag, Tree, write_header},
    cms::{self, Object},
    key::{SignatureInput, Signer},
    message::{
        AuthResult, OpaqueMessage, Reason, Verdict, certificates_only, sign, sign_opaque, verify,
        verify_within,
    },
    mime::{Canonical, Message, encode_base64, single_originator},
    path::{Budget, MAX_OPERATIONS, PathError, RevocationMode, Trust},
    testing::fixtures::{certificate, data, key, now, trust, trust_with_crls},
    testing::hostile,
};

fn verdict_with(message: &str, trust: &Trust) -> Verdict {
    let message = Message::from_stored(message.as_bytes());
    let entity = message.entity();
    verify(&entity, single_originator(&entity), trust, now()).0
}

fn verdict(message: &str) -> Verdict {
    verdict_with(message, &trust())
}

fn base64(octets: &[u8]) -> String {
    String::from_utf8(encode_base64(octets)).unwrap()
}

/// A multipart/signed around `content` with the signature in the file `object`.
fn clear(from: &str, content: &str, object: &[u8]) -> String {
    format!(
        "From: {from}\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\r\n\
         \r\n--b\r\n{content}\r\n--b\r\n\
         Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        base64(object)
    )
}

fn opaque(from: &str, object: &[u8]) -> String {
    format!(
        "From: {from}\r\nMIME-Version: 1.0\r\n\
         Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        base64(object)
    )
}

fn entity() -> String {
    String::from_utf8(data("entity.txt")).unwrap()
}

const ALICE: &str = "Alice <alice@example.org>";

#[test]
fn signatures_made_by_openssl_pass() {
    let entity = entity();
    for (from, object) in [
        (ALICE, "detached.p7s"),
        ("carol@example.org", "ec.p7s"),
        (ALICE, "keyid.p7s"),
        (ALICE, "pss.p7s"),
        // Any length of the salt is right (RFC 4055 3.1); OpenSSL by itself takes the longest.
        (ALICE, "pss-short.p7s"),
        (ALICE, "pss-zero.p7s"),
        (ALICE, "pss-max.p7s"),
        (ALICE, "pss-mask.p7s"),
        (ALICE, "below-pss.p7s"),
    ] {
        let verdict = verdict(&clear(from, &entity, &data(object)));
        assert_eq!(verdict.reason(), &Reason::RevocationNotChecked, "{object}");
        assert_eq!(verdict.result(), AuthResult::Pass);
        assert_eq!(verdict.part(), Some("2"));
    }
    for object in ["opaque.p7m", "opaque-ber.p7m"] {
        let verdict = verdict(&opaque(ALICE, &data(object)));
        assert_eq!((verdict.result(), verdict.part()), (AuthResult::Pass, Some("1")), "{object}");
        assert_eq!(verdict.identifier().unwrap().as_str(), "alice@example.org");
    }
}

#[test]
fn what_is_signed_here_passes_and_any_change_to_it_fails() {
    let message = Message::from_stored(
        "From: alice@example.org\nSubject: x\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\nGr\u{fc}\u{df}e \nFrom here on it is plain text, so it is quoted.\n"
            .as_bytes(),
    );
    for (name, from) in [("alice", "alice@example.org"), ("carol", "carol@example.org")] {
        let canonical = Canonical::from_entity(&message.entity()).unwrap();
        let signed = sign(&canonical, &key(name), &[certificate("ca")], now()).unwrap();
        let body = String::from_utf8(signed.body).unwrap();
        let whole = format!("From: {from}\r\nContent-Type: {}\r\n\r\n{body}", signed.content_type);
        assert_eq!(verdict(&whole).result(), AuthResult::Pass, "{whole}");
        let changed = whole.replace("=46rom here", "=46rom Here");
        assert_ne!(changed, whole);
        assert_eq!(verdict(&changed).reason(), &Reason::ContentChanged);
    }
}

#[test]
fn each_defect_has_its_word_and_reason() {
    let entity = entity();
    let changed = entity.replace("Bob", "Eve");
    let detached = data("detached.p7s");
    let two_from = clear(ALICE, &entity, &detached).replace("From: ", "From: eve@example.com\r\nFrom: ");
    let no_close = clear(ALICE, &entity, &detached).replace("--b--", "");
    let three_parts = clear(ALICE, &entity, &detached).replace("--b--", "--b\r\n\r\nmore\r\n--b--");
    let wrapped = format!(
        "From: {ALICE}\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\nPay now.\r\n--o\r\n{}\r\n--o--\r\n",
        clear(ALICE, &entity, &detached)
    );
    for (message, result, reason) in [
        ("From: alice@example.org\r\n\r\nplain\r\n".to_owned(), AuthResult::None, "not signed"),
        (wrapped, AuthResult::None, "not signed"),
        (clear(ALICE, &changed, &detached), AuthResult::Fail, "content was changed"),
        (clear(ALICE, &entity, &data("opaque.p7m")), AuthResult::Fail, "content of its own"),
        (clear(ALICE, &entity, &data("noattr.p7s")), AuthResult::Policy, "no signed attributes"),
        (clear(ALICE, &changed, &data("noattr.p7s")), AuthResult::Fail, "does not verify"),
        (clear(ALICE, &entity, &data("sha1.p7s")), AuthResult::Policy, "too weak"),
        (clear("bob@example.org", &entity, &detached), AuthResult::Policy, "not of the sender"),
        (
            clear("\"alice@example.org\" <eve@example.com>", &entity, &detached),
            AuthResult::Policy,
            "not of the sender",
        ),
        (clear("alice@example.org, eve@example.com", &entity, &detached), AuthResult::Policy, "not clear"),
        (two_from, AuthResult::Policy, "not clear"),
        (clear(ALICE, &entity, &data("der.p7m")), AuthResult::None, "encrypted"),
        (opaque(ALICE, &detached), AuthResult::Neutral, "no content"),
        (opaque(ALICE, b"garbage"), AuthResult::Neutral, "malformed"),
        (opaque(ALICE, b""), AuthResult::Neutral, "malformed"),
        (no_close, AuthResult::Neutral, "not clearly delimited"),
        (three_parts, AuthResult::Neutral, "3 parts"),
    ] {
        let verdict = verdict(&message);
        assert_eq!(verdict.result(), result, "{reason}: {}\n{message}", verdict.reason());
        assert!(verdict.reason().to_string().contains(reason), "{reason}: {}", verdict.reason());
    }
}

#[test]
fn every_signer_must_hold_and_one_must_be_the_sender() {
    let two = data("two.p7s");
    for from in [ALICE, "bob@example.org"] {
        let verdict = verdict(&clear(from, &entity(), &two));
        assert_eq!((verdict.result(), verdict.signers().len()), (AuthResult::Pass, 2));
        assert!(from.contains(verdict.identifier().unwrap().as_str()));
    }
    let other = verdict(&clear("carol@example.org", &entity(), &two));
    assert_eq!(other.reason(), &Reason::OtherSender);
    // One signer's certificate is taken away: the other's good signature does not save it.
    let bob = certificate("bob");
    let at = two.windows(bob.der().len()).position(|w| w == bob.der()).unwrap();
    let mut without_bob = two.clone();
    without_bob[at + 40] ^= 1;
    assert_ne!(verdict(&clear(ALICE, &entity(), &without_bob)).result(), AuthResult::Pass);
}

#[test]
fn a_signer_that_is_not_trusted_for_mail_never_passes() {
    let canonical = Canonical::from_signed_part(entity().as_bytes());
    let trust = trust_with_crls(RevocationMode::HardFail);
    for (signer, issuer, result, reason) in [
        ("alice", "ca", AuthResult::Pass, "agree"),
        ("mallory", "other-root", AuthResult::Policy, "no path"),
        ("server", "ca", AuthResult::Policy, "emailProtection"),
        ("encrypt-only", "ca", AuthResult::Policy, "not for signatures"),
        ("revoked", "ca", AuthResult::Fail, "revoked"),
        ("alice", "root", AuthResult::Policy, "no path"),
    ] {
        let signed = sign(&canonical, &key(signer), &[certificate(issuer)], now()).unwrap();
        let body = String::from_utf8(signed.body).unwrap();
        let whole = format!("From: {ALICE}\r\nContent-Type: {}\r\n\r\n{body}", signed.content_type);
        let verdict = verdict_with(&whole, &trust);
        assert_eq!(verdict.result(), result, "{signer}: {}", verdict.reason());
        assert!(verdict.reason().to_string().contains(reason), "{}", verdict.reason());
    }
}

#[test]
fn revocation_that_is_not_known_is_never_a_bare_pass() {
    let message = clear(ALICE, &entity(), &data("detached.p7s"));
    let unknown = |revocation| Trust { revocation, ..trust() };
    let hard = verdict_with(&message, &unknown(RevocationMode::HardFail));
    assert_eq!(hard.result(), AuthResult::TempError);
    let soft = verdict_with(&message, &unknown(RevocationMode::SoftFail));
    assert!(matches!(soft.reason(), Reason::RevocationUnknown(_)));
    let known = verdict_with(&message, &trust_with_crls(RevocationMode::HardFail));
    assert_eq!(known.reason(), &Reason::AllGood);
}

#[test]
fn signed_attributes_moved_into_the_content_do_not_pass() {
    // The DER of the signed attributes is itself covered by the signature; without attributes it would
    // verify as content (draft-ietf-lamps-cms-euf-cma-signeddata).
    let verdict = verdict(&opaque(ALICE, &drop_attributes(&data("detached.p7s"))));
    assert_eq!(verdict.reason(), &Reason::NoSignedAttributes);
    assert_eq!(verdict.result(), AuthResult::Policy);
}

/// An object of OpenSSL's taken apart, to be put together otherwise.
struct Parts {
    content_type: Vec<u8>,
    /// version, digestAlgorithms, encapContentInfo, certificates
    signed_data: Vec<Vec<u8>>,
    /// version, sid, digestAlgorithm, attributes, signatureAlgorithm, signature
    signer: Vec<Vec<u8>>,
    attributes: Vec<Vec<u8>>,
}

impl Parts {
    fn of(object: &[u8]) -> Self {
        let tree = Tree::parse(object).unwrap();
        let der = |element: Element<'_, '_>| element.to_der().unwrap();
        let info: Vec<_> = tree.root().children().collect();
        let signed_data: Vec<_> = info[1].children().next().unwrap().children().collect();
        let signer: Vec<_> = signed_data[4].children().next().unwrap().children().collect();
        Self {
            content_type: der(info[0]),
            signed_data: signed_data[..4].iter().copied().map(der).collect(),
            attributes: signer[3].children().map(der).collect(),
            signer: signer.into_iter().map(der).collect(),
        }
    }

    fn put_together(&self) -> Vec<u8> {
        let signers = wrap(Tag::SET, &[wrap(Tag::SEQUENCE, &self.signer)]);
        let signed_data = wrap(Tag::SEQUENCE, &[self.signed_data.concat(), signers]);
        wrap(Tag::SEQUENCE, &[self.content_type.clone(), wrap(Tag::context(0), &[signed_data])])
    }

    /// Signs the attributes as they are now with alice's key.
    fn sign_again(&mut self) -> Vec<u8> {
        self.attributes.sort();
        let alice = key("alice");
        let algorithm = alice.algorithms()[0];
        let attributes = wrap(Tag::SET, &self.attributes);
        let signature = alice.sign(&SignatureInput::of(algorithm, &attributes), algorithm).unwrap();
        self.signer[3] = wrap(Tag::context(0), &self.attributes);
        self.signer[5] = wrap(Tag::OCTET_STRING, &[signature.0]);
        self.put_together()
    }

    /// Adds CMSAlgorithmProtection.
    fn protect(&mut self, algorithms: &[Vec<u8>]) {
        let oid = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52").to_der().unwrap();
        let value = wrap(Tag::SET, &[wrap(Tag::SEQUENCE, algorithms)]);
        self.attributes.push(wrap(Tag::SEQUENCE, &[oid, value]));
    }

    fn attribute(&mut self, oid: ObjectIdentifier) -> &mut Vec<u8> {
        let oid = oid.to_der().unwrap();
        self.attributes.iter_mut().find(|a| a.windows(oid.len()).any(|w| w == oid)).unwrap()
    }
}

fn retagged(element: &[u8], tag: Tag) -> Vec<u8> {
    [&[tag.0], &element[1..]].concat()
}

fn wrap(tag: Tag, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = Vec::new();
    write_header(tag, content.len(), &mut out);
    out.extend(content);
    out
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
    }
}

#[test]
fn a_certificate_of_the_same_key_is_not_taken_for_the_one_that_signed() {
    let verdict = verdict(&clear(ALICE, &entity(), &data("twin.p7s")));
    assert_eq!(verdict.certificate(), Some(&certificate("alice-twin")));
    assert_eq!(verdict.reason(), &Reason::OtherCertificate);
}

#[test]
fn a_header_with_a_line_that_is_no_field_never_passes() {
    let signed = clear("alice@example.org", &entity(), &data("detached.p7s"));
    assert_eq!(verdict(&signed).result(), AuthResult::Pass);
    for message in [format!("no field\r\n{signed}"), signed.replacen("MIME-V", "no field\r\nMIME-V", 1)] {
        let verdict = verdict(&message);
        assert_ne!(verdict.result(), AuthResult::Pass, "{message}");
        assert!(verdict.reason().to_string().contains("in more ways than one"), "{verdict:?}");
    }
}

#[test]
fn parts_that_depend_on_who_reads_them_are_not_verified() {
    let signed = clear(ALICE, &entity(), &data("detached.p7s"));
    let attack = "Content-Type: text/plain\r\n\r\nPAY MALLORY NOW.\r\n";
    let whole_boundary =
        |boundary: &str| signed.replace("boundary=b\r\n", &format!("boundary={boundary}\r\n"));
    for (what, message) in [
        ("a line that begins like the delimiter", signed.replace("Hello, Bob.", "--bogus\r\nHello, Bob.")),
        (
            "a comment that some take for a part of the boundary",
            whole_boundary("b (x)") + &format!("--b (x)\r\n{attack}--b (x)--\r\n"),
        ),
        (
            "a quoted pair that some do not undo",
            whole_boundary("\"\\b\"").replacen(
                "\r\n\r\n",
                &format!("\r\n\r\n--\\b\r\n{attack}--\\b--\r\n"),
                1,
            ),
        ),
        (
            "a boundary in RFC 2231's form",
            whole_boundary("b").replace("boundary=b\r\n", "boundary*=us-ascii''b\r\n"),
        ),
        ("parts behind the closing delimiter", signed.clone() + &format!("--b\r\n{attack}--b--\r\n")),
        (
            "parts of another boundary before",
            signed.replacen("\r\n\r\n", &format!("\r\n\r\n--x\r\n{attack}--x--\r\n"), 1),
        ),
    ] {
        assert_ne!(message, signed, "{what}");
        assert_eq!(verdict(&message).result(), AuthResult::Neutral, "{what}\n{message}");
    }
    let harmless = signed.replacen("\r\n\r\n", "\r\n\r\nThis is signed (S/MIME).\r\n", 1);
    assert_eq!(verdict(&harmless).result(), AuthResult::Pass);
}

#[test]
fn mutations_of_a_signed_message_never_panic_and_never_pass_with_other_content() {
    let message = clear(ALICE, &entity(), &data("detached.p7s"));
    let content_at = message.find("Hello").unwrap();
    for at in (0..message.len()).step_by(3) {
        let mut octets = message.clone().into_bytes();
        octets[at] ^= 0x15;
        let mutant = Message::from_stored(&octets);
        let entity = mutant.entity();
        let (verdict, _) = verify(&entity, single_originator(&entity), &trust(), now());
        if (content_at..content_at + 11).contains(&at) {
            assert_ne!(verdict.result(), AuthResult::Pass, "octet {at}");
        }
    }
}

/// A detached signature of alice's with these certificates, and as many SignerInfos as there are seconds
/// given: each is signed at its own, by the key identifier.
fn many_signers(seconds: &[u8], certificates: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = Parts::of(&data("keyid.p7s"));
    let mut signers = Vec::new();
    for second in seconds {
        let time = parts.attribute(rfc5911::ID_SIGNING_TIME);
        let digits = time.len() - 3;
        time.splice(digits..digits + 2, format!("{second:02}").into_bytes());
        parts.sign_again();
        signers.push(wrap(Tag::SEQUENCE, &parts.signer));
    }
    parts.signed_data[3] = wrap(Tag::context(0), certificates);
    let signed_data = wrap(Tag::SEQUENCE, &[parts.signed_data.concat(), wrap(Tag::SET, &signers)]);
    wrap(Tag::SEQUENCE, &[parts.content_type.clone(), wrap(Tag::context(0), &[signed_data])])
}

fn verdict_within(budget: &mut Budget, object: &[u8], trust: &Trust) -> Verdict {
    let message = clear(ALICE, &entity(), object);
    let message = Message::from_stored(message.as_bytes());
    let entity = message.entity();
    verify_within(budget, smime::Room::of(0), &entity, single_originator(&entity), trust, now()).0
}

#[test]
fn one_message_costs_no_more_than_its_budget_and_does_not_pass_beyond_it() {
    let good = [certificate("alice").der().to_vec(), certificate("ca").der().to_vec()];
    let signer = hostile::of_one_key(0).der().to_vec();
    let namesakes = (1..=99).map(|number| hostile::namesake(number).der().to_vec());
    let namesakes: Vec<_> = [signer].into_iter().chain(namesakes).collect();
    let all_different: Vec<u8> = (0..20).collect();
    for (name, seconds, certificates, limit, operations, result) in [
        ("one signer", &[1][..], &good[..], MAX_OPERATIONS, 3, AuthResult::Pass),
        ("just enough", &[1], &good, 3, 3, AuthResult::Pass),
        ("one too few", &[1], &good, 2, 2, AuthResult::Policy),
        ("the same signer again", &[1; 20], &good, MAX_OPERATIONS, 3, AuthResult::Pass),
        ("twenty signers", &all_different, &good, MAX_OPERATIONS, 22, AuthResult::Pass),
        ("the last of twenty", &all_different, &good, 21, 21, AuthResult::Policy),
        ("hostile", &all_different, &namesakes, MAX_OPERATIONS, MAX_OPERATIONS, AuthResult::Policy),
    ] {
        let mut budget = Budget::of(limit);
        let verdict = verdict_within(&mut budget, &many_signers(seconds, certificates), &trust());
        assert_eq!(budget.operations(), operations, "{name}: {}", verdict.reason());
        assert_eq!(verdict.result(), result, "{name}: {}", verdict.reason());
        assert_eq!(verdict.signers().len(), seconds.len());
        assert_eq!(
            *verdict.reason() == Reason::Path(PathError::TooManyChecks),
            budget.is_exceeded(),
            "{name}"
        );
    }
}

#[test]
fn three_certificates_of_one_key_identifier_are_tried_for_a_signer() {
    // With alice's name on all of them but without a CA's signature on any but the last.
    for (decoys, result) in [(2, AuthResult::Pass), (3, AuthResult::Policy)] {
        let mut certificates: Vec<_> = (0..decoys).map(|n| hostile::of_one_key(n).der().to_vec()).collect();
        // One that is there twice counts once.
        certificates.extend([certificates[0].clone()]);
        certificates.extend(["alice", "ca"].map(|name| certificate(name).der().to_vec()));
        let object = many_signers(&[1], &certificates);
        assert_eq!(verdict_within(&mut Budget::default(), &object, &trust()).result(), result, "{decoys}");
    }
}

#[test]
fn a_signer_with_an_rsa_key_over_4096_bits_is_not_verified() {
    for (octets, operations) in [(512, 1), (513, 0), (1024, 0)] {
        let signer = hostile::of_key_len(octets);
        let mut parts = Parts::of(&data("detached.p7s"));
        let tree = Tree::parse(signer.der()).unwrap();
        let fields: Vec<_> = tree.root().children().next().unwrap().children().collect();
        parts.signer[1] = wrap(Tag::SEQUENCE, &[fields[3].to_der().unwrap(), fields[1].to_der().unwrap()]);
        parts.signed_data[3] = wrap(Tag::context(0), &[signer.der().to_vec()]);
        let mut budget = Budget::default();
        let verdict = verdict_within(&mut budget, &parts.put_together(), &trust());
        assert_eq!(budget.operations(), operations, "{octets}: {}", verdict.reason());
        let refused = matches!(verdict.reason(), Reason::UnknownAlgorithm(_));
        assert_eq!(refused, operations == 0, "{octets}: {}", verdict.reason());
    }
}

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
    let Ok(Object::SignedData(signed)) = Object::parse(&object) else { unreachable!() };
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
    let Ok(Object::SignedData(signed)) = Object::parse(&object) else { unreachable!() };
    let mut received = signed.certificates();
    received.sort_by_key(|certificate| *certificate.fingerprint());
    let mut sent = certificates[..2].to_vec();
    sent.sort_by_key(|certificate| *certificate.fingerprint());
    assert_eq!(received, sent);
}

#[test]
fn signed_attributes_are_those_of_rfc_8551_once_each() {
    // Alice's certificate is for encryption too; Ed25519 never is.
    for (name, preferred) in [("alice", 1), ("ed25519", 0)] {
        let object = cms::sign_opaque(b"x", &key(name), &[], now()).unwrap();
        let Ok(Object::SignedData(signed)) = Object::parse(&object) else { unreachable!() };
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
