//! Signed messages: what passes, and the word and reason for each way in which one must not.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

mod attributes;
mod cost;
mod opaque;
mod parts;

use smime::{
    message::{AuthResult, Finding, Reason, Verdict, sign, verify},
    mime::{Canonical, Message, encode_base64, single_originator},
    path::{RevocationMode, Trust},
    testing::fixtures::{certificate, data, key, now, trust, trust_with_crls},
};

use parts::Parts;

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
fn signers_with_different_digests_are_each_held_against_their_own() {
    let other = Parts::of(&data("sha1.p7s"));
    let mut parts = Parts::of(&data("detached.p7s"));
    parts.signed_data[0] = other.signed_data[0].clone();
    let object = parts.put_together_with(&other);
    let verdict = verdict(&clear(ALICE, &entity(), &object));
    let signatures: Vec<_> = verdict.signers().iter().map(|signer| &signer.findings.signature).collect();
    assert_eq!(signatures, [&Finding::Good, &Finding::Good], "{}", verdict.reason());
}

/// What was found of a signer counts for the same signature alone: everybody can copy one under another name.
#[test]
fn a_copied_signature_of_somebody_else_is_not_found_as_good_as_the_first() {
    let mut copy = Parts::of(&data("detached.p7s"));
    copy.signer[1] = Parts::of(&data("ec.p7s")).signer[1].clone();
    let object = Parts::of(&data("detached.p7s")).put_together_with(&copy);
    let verdict = verdict(&clear(ALICE, &entity(), &object));
    assert_eq!((verdict.result(), verdict.reason()), (AuthResult::PermError, &Reason::NoCertificate));
    // The verdict is about the one who decided it, and there is no certificate of his.
    assert_eq!((verdict.signers().len(), verdict.certificate()), (2, None));
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
