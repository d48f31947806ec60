//! Keys for which the token wants the PIN at every use (`CKA_ALWAYS_AUTHENTICATE`), with a spy that counts.

use std::{fs, thread};

use crate::support::{MESSAGE, PIN, TestToken, Through, digest, isolated, pool_of, run};
use aws_lc_rs::{
    rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey},
    signature::{self, UnparsedPublicKey},
};
use hsmpool::{RawTokenKey, TokenSettings};
use smime::{
    Fault,
    algorithm::{
        DigestAlgorithm::Sha256,
        KeyEncryptionAlgorithm,
        SignatureAlgorithm::{RsaPkcs1, RsaPss},
    },
    key::{Decryptor, KeyError, Unwrapped},
};
use testkit::isolated::not_applicable;

/// A key like that, made by `pkcs11-tool`; gives its public key. None, and says so, where the token knows no such
/// keys, or keeps the attribute and does not care; the pool uses such keys all the same.
fn careful_key(token: &TestToken) -> Option<Vec<u8>> {
    let mut generate = token.pkcs11_tool();
    generate.args(["--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "careful"]);
    run(generate.arg("--always-auth"), "opensc");
    let listed = hsmpool::keys::list(&token.settings()).unwrap().remove(0);
    if !listed.always_authenticate {
        not_applicable("the token makes no keys with CKA_ALWAYS_AUTHENTICATE");
        return None;
    }
    let info = listed.public_key_info_der.unwrap();
    if !token.wants_a_login_for_each_use("careful") {
        let pool = pool_of(&token.settings());
        sign(&pool.key_by_public_key(&info)).unwrap();
        not_applicable("the token keeps CKA_ALWAYS_AUTHENTICATE and does not ask for the PIN");
        return None;
    }
    Some(info)
}

fn sign(key: &RawTokenKey) -> Result<(), KeyError> {
    let value = key.sign(&digest(Sha256), RsaPkcs1(Sha256))?;
    assert_eq!(value.0.len(), 256);
    Ok(())
}

#[test]
fn each_use_gives_the_pin_once_and_works() {
    isolated(Through::Spy, |token| {
        let Some(info) = careful_key(token) else { return };
        let pool = pool_of(&token.settings());
        let key = pool.key_by_public_key(&info);
        let public = PublicEncryptingKey::from_der(&info).unwrap();
        let mut room = vec![0; 256];
        let before = token.count("C_Login");

        let pkcs1 = key.sign(&digest(Sha256), RsaPkcs1(Sha256)).unwrap();
        let pss = key.sign(&digest(Sha256), RsaPss(Sha256)).unwrap();
        // The RSAPublicKey at the end of a SubjectPublicKeyInfo of an RSA key of 2048 bits.
        let rsa = info[24..].to_vec();
        UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &rsa)
            .verify(MESSAGE, &pkcs1.0)
            .unwrap();
        UnparsedPublicKey::new(&signature::RSA_PSS_2048_8192_SHA256, &rsa).verify(MESSAGE, &pss.0).unwrap();
        let encrypted = Pkcs1PublicEncryptingKey::new(public).unwrap();
        let encrypted = encrypted.encrypt(&[7; 32], &mut room).unwrap();
        let unwrapped = key.decrypt_key(encrypted, &KeyEncryptionAlgorithm::RsaPkcs1).unwrap();
        assert!(matches!(unwrapped, Unwrapped::Key(key) if key.expose() == [7; 32]));
        assert_eq!(token.count("C_Login"), before + 3, "one for each use");
        assert_eq!(token.count("C_Sign"), 2, "and one call for each signature");

        // A bad ciphertext is no other error, and the session serves the next request.
        let rejected = key.decrypt_key(&[1; 256], &KeyEncryptionAlgorithm::RsaPkcs1).unwrap();
        assert!(matches!(rejected, Unwrapped::Rejected));
        sign(&key).unwrap();
    });
}

#[test]
fn a_pin_that_is_rejected_at_a_use_is_tried_once_by_all_sessions_together_and_for_nothing_else() {
    isolated(Through::Spy, |token| {
        let Some(info) = careful_key(token) else { return };
        let other = token.import_key("mail", "rsa:2048", "02");
        let pool = pool_of(&TokenSettings { sessions: Some(8), ..token.settings() });
        let key = pool.key_by_public_key(&info);
        sign(&key).unwrap();
        fs::write(token.pin_file(), "4321").unwrap();
        let before = token.count("C_Login");
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let error = sign(&key).unwrap_err();
                    assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
                    assert!(error.to_string().contains("PIN"), "{error}");
                    assert_eq!(error.fault(), Fault::Transient);
                });
            }
        });
        assert_eq!(token.count("C_Login"), before + 1);
        // Other keys go on, in all sessions.
        for _ in 0..16 {
            crate::support::assert_signs(&pool.key(&other));
        }
        assert_eq!(token.count("C_Login"), before + 1);
        fs::write(token.pin_file(), PIN).unwrap();
        for _ in 0..8 {
            sign(&key).unwrap();
        }
        assert_eq!(token.count("C_Login"), before + 9);
    });
}

#[test]
fn a_module_that_gives_each_caller_an_instance_serves_all_keys_but_these() {
    isolated(Through::Nothing, |token| {
        let Some(module) = token.proxy() else { return };
        let Some(info) = careful_key(token) else { return };
        let other = token.import_key("mail", "rsa:2048", "02");
        let pool = pool_of(&TokenSettings { module, ..token.settings() });
        crate::support::assert_signs(&pool.key(&other));
        let encrypted = token.encrypt_to("02", &[7; 32], &["rsa_padding_mode:pkcs1"]);
        let unwrapped = pool.key(&other).decrypt_key(&encrypted, &KeyEncryptionAlgorithm::RsaPkcs1).unwrap();
        assert!(matches!(unwrapped, Unwrapped::Key(key) if key.expose() == [7; 32]));
        let error = sign(&pool.key_by_public_key(&info)).unwrap_err();
        assert!(matches!(error, KeyError::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains("CKA_ALWAYS_AUTHENTICATE"), "{error}");
    });
}
