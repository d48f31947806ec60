//! Keys on curves other than P-256: signatures of Ed25519 (RFC 8419), P-384 and P-521, and shared secrets.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::time::{Duration, SystemTime};

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, agree};
use smime::{
    Fault,
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey},
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    cms::{self},
    key::{Decryptor, Digest, KeyError, SignatureInput, Signer},
    message::{AuthResult, Reason, sign, verify},
    mime::{Canonical, Message, single_originator},
    path::{RevocationMode, Trust},
    public_key::{self, VerifyError},
    testing::{
        fixtures::{certificate, data, key},
        signed_data,
    },
};

/// A day after `make-curves.sh` ran.
fn now() -> SystemTime {
    let validity = *certificate("ed25519").decoded().tbs_certificate().validity();
    validity.not_before.to_system_time() + Duration::from_hours(24)
}

fn trust() -> Trust {
    Trust { anchors: vec![certificate("curves-root")], revocation: RevocationMode::Off, ..Trust::default() }
}

#[test]
fn what_keys_on_other_curves_sign_passes_and_changed_does_not() {
    for (name, micalg) in [("ed25519", "sha-512"), ("p384", "sha-384"), ("p521", "sha-512")] {
        let text = String::from_utf8(data("entity.txt")).unwrap();
        let message = Message::from_stored(text.as_bytes());
        let canonical = Canonical::from_entity(&message.entity()).unwrap();
        let signed = sign(&canonical, &key(name), &[], now()).unwrap();
        let body = String::from_utf8(signed.body).unwrap();
        let signed = format!("Content-Type: {}\r\n\r\n{body}", signed.content_type);
        assert!(signed.contains(&format!("micalg={micalg}")), "{signed}");
        for (what, text, expected) in [
            ("as it is", signed.clone(), AuthResult::Pass),
            ("changed", signed.replacen("Hello, Bob", "Hello, Eve", 1), AuthResult::Fail),
        ] {
            let text = format!("From: {name}@example.org\r\n{text}");
            let message = Message::from_stored(text.as_bytes());
            let entity = message.entity();
            let (verdict, _) = verify(&entity, single_originator(&entity), &trust(), now());
            assert_eq!(verdict.result(), expected, "{name} {what}: {:?}", verdict.reason());
        }
    }
}

#[test]
fn an_ed25519_signature_is_over_the_attributes_and_names_sha_512() {
    let content = |algorithm| Digest::of(algorithm, b"content");
    let octets = cms::sign(content, &key("ed25519"), &[], now()).unwrap();
    let object = signed_data(&octets);
    let info = object.signer_infos().first().unwrap();
    assert_eq!(DigestAlgorithm::from_identifier(&info.digest_algorithm), Some(DigestAlgorithm::Sha512));
    assert_eq!(info.signature_algorithm, SignatureAlgorithm::Ed25519.identifier());
    let attributes = info.signed_attributes.as_ref().unwrap().as_ref().unwrap();
    let digest = Digest::of(DigestAlgorithm::Sha512, b"content");
    assert_eq!(attributes.message_digest(), digest.as_bytes());
    let signed = attributes.signed_octets().next().unwrap();
    let ed25519 = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ED25519,
        certificate("ed25519").public_key().to_vec(),
    );
    ed25519.verify(signed, &info.signature).unwrap();
}

#[test]
fn ed25519_takes_octets_and_no_digest_and_the_others_the_reverse() {
    let octets = b"signed attributes";
    for name in ["ed25519", "p384", "p521", "carol", "alice"] {
        let key = key(name);
        let algorithm = *key.algorithms().first().unwrap();
        let right = SignatureInput::of(algorithm, octets);
        let value = key.sign(&right, algorithm).unwrap();
        let certificate = certificate(name);
        public_key::verify(&certificate, algorithm, &right, &value.0).unwrap();
        let wrong = if algorithm.signs_octets() {
            SignatureInput::Digest(Digest::of(algorithm.digest(), octets))
        } else {
            SignatureInput::Octets(octets.into())
        };
        let verified = public_key::verify(&certificate, algorithm, &wrong, &value.0);
        assert_eq!(verified, Err(VerifyError::Mismatch), "{name}");
        let error = key.sign(&wrong, algorithm).unwrap_err();
        assert!(matches!(error, KeyError::Unsupported { .. }), "{name}: {error}");
    }
    let input = SignatureInput::of(SignatureAlgorithm::Ed25519, octets);
    let value = key("ed25519").sign(&input, SignatureAlgorithm::Ed25519).unwrap();
    let verified = public_key::verify(&certificate("carol"), SignatureAlgorithm::Ed25519, &input, &value.0);
    assert!(matches!(verified, Err(VerifyError::KeyNotTaken { .. })), "{verified:?}");
}

#[test]
fn both_sides_agree_on_the_same_secret() {
    for name in ["carol", "p384", "p521", "x25519"] {
        let certificate = certificate(name);
        let curve = AgreementCurve::of(&certificate).unwrap();
        let ephemeral = PrivateKey::generate(curve.engine()).unwrap();
        let public = ephemeral.compute_public_key().unwrap();
        let originator = OriginatorPublicKey::new(curve, public.as_ref()).unwrap();
        let Agreed::Secret(secret) = key(name).agree(&originator).unwrap() else { unreachable!() };
        let theirs = UnparsedPublicKey::new(curve.engine(), certificate.public_key());
        let theirs = agree(&ephemeral, theirs, (), |octets| Ok(octets.to_vec())).unwrap();
        assert_eq!(secret.expose(), theirs, "{name}");
    }
}

#[test]
fn a_key_that_cannot_agree_says_so() {
    let originator = OriginatorPublicKey::new(AgreementCurve::X25519, &[9; 32]).unwrap();
    for name in ["alice", "ed25519", "p384"] {
        let error = key(name).agree(&originator).unwrap_err();
        assert_eq!(error.fault(), Fault::Operator, "{name}: {error}");
    }
}

/// Signed content without signed attributes is signed itself (RFC 8419 3.1), which has its own word.
#[test]
fn an_ed25519_signature_without_attributes_is_seen_for_what_it_is() {
    let reason = |good: bool| {
        let object = without_attributes(good);
        let text = format!(
            "From: ed25519@example.org\r\nMIME-Version: 1.0\r\n\
             Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            String::from_utf8(smime::mime::encode_base64(&object)).unwrap()
        );
        let message = Message::from_stored(text.as_bytes());
        let entity = message.entity();
        verify(&entity, single_originator(&entity), &trust(), now()).0.reason().clone()
    };
    assert!(matches!(reason(true), Reason::NoSignedAttributes), "{:?}", reason(true));
    assert!(matches!(reason(false), Reason::BadSignature), "{:?}", reason(false));
}

fn without_attributes(good: bool) -> Vec<u8> {
    use const_oid::db::rfc5911::{ID_DATA, ID_SIGNED_DATA};
    use der::Encode;
    use smime::{ber::Tag, testing::hostile::wrap};
    let content = b"Content-Type: text/plain\r\n\r\nHello.\r\n".to_vec();
    let ed25519 = key("ed25519");
    let mut signed = content.clone();
    if !good {
        signed.push(0);
    }
    let input = SignatureInput::of(SignatureAlgorithm::Ed25519, &signed);
    let signature = ed25519.sign(&input, SignatureAlgorithm::Ed25519).unwrap();
    let own = certificate("ed25519");
    let sid = ::cms::cert::IssuerAndSerialNumber {
        issuer: own.issuer().clone(),
        serial_number: own.decoded().tbs_certificate().serial_number().clone(),
    };
    let digest = DigestAlgorithm::Sha512.identifier().to_der().unwrap();
    let info = wrap(
        Tag::SEQUENCE,
        &[
            1_u8.to_der().unwrap(),
            sid.to_der().unwrap(),
            digest.clone(),
            SignatureAlgorithm::Ed25519.identifier().to_der().unwrap(),
            wrap(Tag::OCTET_STRING, &[signature.0]),
        ],
    );
    let content = wrap(Tag::context(0), &[wrap(Tag::OCTET_STRING, &[content])]);
    let signed_data = wrap(
        Tag::SEQUENCE,
        &[
            1_u8.to_der().unwrap(),
            wrap(Tag::SET, &[digest]),
            wrap(Tag::SEQUENCE, &[ID_DATA.to_der().unwrap(), content]),
            wrap(Tag::context(0), &[own.der().to_vec()]),
            wrap(Tag::SET, &[info]),
        ],
    );
    wrap(Tag::SEQUENCE, &[ID_SIGNED_DATA.to_der().unwrap(), wrap(Tag::context(0), &[signed_data])])
}
