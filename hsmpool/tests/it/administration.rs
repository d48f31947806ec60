//! Tokens and keys as the administrator's tool sees and makes them.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use hsmpool::{
    PinSource, PoolError, TokenSettings,
    keys::{self, KeySpec},
    modules,
};
use smime::{
    Fault,
    algorithm::{
        DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512},
        SignatureAlgorithm::{Ecdsa, Ed25519, RsaPkcs1},
    },
    key::{Digest, SignatureInput},
};

use crate::support::{MESSAGE, Through, isolated, pool_of, run};

#[test]
fn tokens_are_listed_with_their_flags() {
    isolated(Through::Nothing, |token| {
        let tokens = modules::tokens(&token.module).unwrap();
        let (mail, others) = tokens.split_first().unwrap();
        assert_eq!((mail.label.as_str(), mail.initialised, mail.login_required), ("mail", true, true));
        assert!(mail.pin_initialised && !mail.pin_locked && !mail.pin_count_low);
        for told in [&mail.manufacturer, &mail.serial, &mail.model] {
            assert!(!told.is_empty() && told.trim_end() == told, "{mail:?}");
        }
        assert!(others.iter().any(|blank| !blank.pin_initialised), "{others:?}");

        let wrong = token.directory.join("wrong");
        crate::support::write_pin(&wrong, "9999");
        let settings = TokenSettings { pin: PinSource::File(wrong), ..token.settings() };
        let error = keys::list(&settings).unwrap_err();
        assert!(matches!(error, PoolError::WrongPin { .. }), "{error:?}");
        let shows = modules::tokens(&token.module).unwrap()[0].pin_count_low;
        assert_eq!(shows, token.tells_of_wrong_pins(), "CKF_USER_PIN_COUNT_LOW");
    });
}

#[test]
fn made_keys_stay_on_the_token_and_sign() {
    isolated(Through::Nothing, |token| {
        let settings = token.settings();
        let cases: [(KeySpec, &str, u32, _, &'static dyn VerificationAlgorithm); 5] = [
            (KeySpec::Rsa(2048), "RSA", 2048, RsaPkcs1(Sha256), &signature::RSA_PKCS1_2048_8192_SHA256),
            (KeySpec::P256, "EC", 256, Ecdsa(Sha256), &signature::ECDSA_P256_SHA256_ASN1),
            (KeySpec::P384, "EC", 384, Ecdsa(Sha384), &signature::ECDSA_P384_SHA384_ASN1),
            (KeySpec::P521, "EC", 521, Ecdsa(Sha512), &signature::ECDSA_P521_SHA512_ASN1),
            (KeySpec::Ed25519, "Ed25519", 255, Ed25519, &signature::ED25519),
        ];
        let curves = if token.lacks("ECDSA", "sign") { 0 } else { 3 };
        let edwards = usize::from(curves == 3 && !token.lacks("EDDSA", "sign"));
        for (spec, key_type, size, algorithm, verifier) in cases.into_iter().take(1 + curves + edwards) {
            let label = format!("{spec:?}");
            let made = keys::generate(&settings, spec, &label, None).unwrap();
            let spki = x509_public_key(&made.public_key_info_der);
            assert_eq!(made.id, Digest::of(Sha1, &spki).as_bytes(), "CKA_ID is the subjectKeyIdentifier");

            let listed = keys::list(&settings).unwrap();
            let listed = listed.iter().find(|key| key.label == label).unwrap();
            assert_eq!(listed.id, data_encoding::HEXLOWER.encode(&made.id));
            assert_eq!((listed.key_type.as_str(), listed.size), (key_type, Some(size)));
            assert_eq!((listed.sensitive, listed.extractable), (Some(true), Some(false)));
            assert_eq!(listed.public_key_info_der.as_deref(), Some(&made.public_key_info_der[..]));

            let pool = pool_of(&settings);
            let key = pool.key_by_public_key(&made.public_key_info_der);
            assert_eq!(key.algorithms()[0], algorithm);
            let value = key.sign(&SignatureInput::of(algorithm, MESSAGE), algorithm).unwrap();
            UnparsedPublicKey::new(verifier, &spki).verify(MESSAGE, &value.0).unwrap();
        }
        // An independent witness for where the private keys may go.
        let mut list = token.pkcs11_tool();
        let text =
            String::from_utf8(run(list.args(["--list-objects", "--type", "privkey"]), "opensc")).unwrap();
        let access = "Access:     sensitive, always sensitive, never extractable";
        assert_eq!(text.matches(access).count(), 1 + curves + edwards, "{text}");
        assert_eq!(text.matches("Usage:      decrypt, sign").count(), 1, "{text}");
        assert_eq!(text.matches("Usage:      sign, derive").count(), curves, "{text}");
        assert_eq!(text.matches("Usage:      sign\n").count(), edwards, "{text}");
    });
}

/// The octets of subjectPublicKey.
fn x509_public_key(info: &[u8]) -> Vec<u8> {
    use der::Decode;
    let info = spki::SubjectPublicKeyInfoRef::from_der(info).unwrap();
    info.subject_public_key.raw_bytes().to_vec()
}

#[test]
fn a_given_id_is_kept_and_never_given_twice() {
    isolated(Through::Nothing, |token| {
        let settings = token.settings();
        let spec = if token.offers("ECDSA", "sign") { KeySpec::P256 } else { KeySpec::Rsa(2048) };
        let made = keys::generate(&settings, spec, "first", Some(&[0xab, 0xcd])).unwrap();
        assert_eq!(made.id, [0xab, 0xcd]);
        assert_eq!(keys::list(&settings).unwrap()[0].id, "abcd");
        for (label, id, attribute) in
            [("first", None, "CKA_LABEL"), ("second", Some(&[0xab, 0xcd][..]), "CKA_ID")]
        {
            let error = keys::generate(&settings, spec, label, id).unwrap_err();
            assert!(error.to_string().contains(attribute), "{error}");
            assert_eq!(error.fault(), Fault::Operator);
        }
        assert_eq!(keys::list(&settings).unwrap().len(), 1);
        for bits in [0, 512, 1024, 2047, 8192] {
            let error = keys::generate(&settings, KeySpec::Rsa(bits), "odd", None).unwrap_err();
            assert!(matches!(error, PoolError::KeySize { .. }), "{error:?}");
        }
    });
}
