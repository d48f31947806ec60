//! Tokens that lack mechanisms, or fail while they are asked for them.

use std::time::Duration;

use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey,
};
use hsmpool::{
    Pool, RawTokenKey,
    keys::{self, KeySpec},
};
use smime::{
    algorithm::{DigestAlgorithm::Sha256, KeyEncryptionAlgorithm, SignatureAlgorithm::RsaPkcs1},
    key::{Digest, Unwrapped},
};
use testmodule::{Function, ReturnValue, Rule};

use crate::support::{Lab, isolated, sign};

const PATIENCE: Duration = Duration::from_secs(10);

fn rsa_key(lab: &Lab) -> Vec<u8> {
    keys::generate(&lab.settings(1), KeySpec::Rsa(2048), "rsa", None).unwrap().public_key_info_der
}

/// Both ways in which mail is encrypted to RSA keys, good and bad.
fn assert_decrypts(key: &RawTokenKey, info: &[u8]) {
    let public = || PublicEncryptingKey::from_der(info).unwrap();
    let oaep = KeyEncryptionAlgorithm::RsaOaep { hash: Sha256, mask_hash: Sha256, label: Vec::new() };
    for (algorithm, is_oaep) in [(KeyEncryptionAlgorithm::RsaPkcs1, false), (oaep, true)] {
        for len in [0, 16, 32, 100] {
            let mut room = vec![0; 256];
            let secret = vec![0xa5; len];
            let encrypted = if is_oaep {
                let key = OaepPublicEncryptingKey::new(public()).unwrap();
                key.encrypt(&OAEP_SHA256_MGF1SHA256, &secret, &mut room, None).unwrap().to_vec()
            } else {
                let key = Pkcs1PublicEncryptingKey::new(public()).unwrap();
                key.encrypt(&secret, &mut room).unwrap().to_vec()
            };
            let unwrapped = key.decrypt_key(&encrypted, &algorithm).unwrap();
            assert!(
                matches!(&unwrapped, Unwrapped::Key(key) if key.expose() == secret),
                "{algorithm:?} of {len}: {unwrapped:?}"
            );
        }
        for bad in [vec![0; 256], vec![1; 256], vec![0xff; 256], vec![1; 255]] {
            let unwrapped = key.decrypt_key(&bad, &algorithm).unwrap();
            assert!(matches!(unwrapped, Unwrapped::Rejected), "{algorithm:?}");
        }
    }
}

#[test]
fn a_token_that_says_it_lacks_all_mechanisms_is_named_and_tried_all_the_same() {
    isolated(|mut lab| {
        let info = rsa_key(&lab);
        let missing = Rule::fail(ReturnValue::CKR_MECHANISM_INVALID).on([Function::GetMechanismInfo]);
        lab.control.add(missing).unwrap();
        let (pool, key) = lab.pool(&lab.settings(2));
        let shortcomings = pool.shortcomings([&lab.certificate], PATIENCE).unwrap();
        let told: Vec<String> = shortcomings.iter().map(ToString::to_string).collect();
        let begins = format!("token \"mail\" has the key of {} but cannot do CKM_ECDSA", lab.certificate);
        assert_eq!(told[0], begins);
        sign(&key, b"all the same").unwrap();
        // Decryption goes by raw RSA then, and the padding is taken off here.
        assert_decrypts(&pool.key_by_public_key(&info), &info);
    });
}

/// Whatever the imported key itself may be used for.
fn assert_no_mechanism_lacks(pool: &Pool, lab: &Lab) {
    let told = pool.shortcomings([&lab.certificate], PATIENCE).unwrap();
    assert!(told.iter().all(|shortcoming| !shortcoming.to_string().contains("CKM_")), "{told:?}");
}

#[test]
fn a_token_that_does_not_tell_its_mechanisms_has_no_shortcomings_and_works() {
    isolated(|mut lab| {
        let info = rsa_key(&lab);
        for value in [ReturnValue::CKR_GENERAL_ERROR, ReturnValue::CKR_FUNCTION_NOT_SUPPORTED] {
            let silent = Rule::fail(value).on([Function::GetMechanismInfo]);
            let rule = lab.control.add(silent).unwrap();
            let (pool, key) = lab.pool(&lab.settings(2));
            assert_no_mechanism_lacks(&pool, &lab);
            sign(&key, b"signed").unwrap();
            assert_decrypts(&pool.key_by_public_key(&info), &info);
            pool.close();
            lab.control.remove(rule).unwrap();
        }
    });
}

#[test]
fn a_trial_that_fails_for_other_reasons_decides_nothing() {
    isolated(|mut lab| {
        let info = rsa_key(&lab);
        for (function, value, times) in [
            (Function::DecryptInit, ReturnValue::CKR_DEVICE_ERROR, 4),
            (Function::Decrypt, ReturnValue::CKR_DEVICE_MEMORY, 1),
        ] {
            let fault = lab.control.add(Rule::fail(value).on([function]).next(times)).unwrap();
            let (pool, _) = lab.pool(&lab.settings(1));
            assert_eq!(lab.counters().applied(fault), times);
            assert_no_mechanism_lacks(&pool, &lab);
            assert_decrypts(&pool.key_by_public_key(&info), &info);
            pool.close();
        }
    });
}

#[test]
fn what_one_of_two_tokens_can_do_is_no_shortcoming() {
    isolated(|mut lab| {
        lab.add_token("spare");
        let missing = Rule::fail(ReturnValue::CKR_MECHANISM_INVALID);
        lab.control.add(missing.on([Function::GetMechanismInfo]).token("mail")).unwrap();
        let spare = hsmpool::TokenSettings { label: "spare".into(), ..lab.settings(1) };
        let pool = Pool::start(&[lab.settings(1), spare]).unwrap();
        assert_no_mechanism_lacks(&pool, &lab);
    });
}

#[test]
fn an_operation_is_two_calls_to_the_token() {
    isolated(|lab| {
        let info = rsa_key(&lab);
        let (pool, key) = lab.pool(&lab.settings(1));
        let rsa = pool.key_by_public_key(&info);
        // The first asks whether the functions that are called directly know the sessions.
        sign(&key, b"first").unwrap();
        let before = lab.counters();
        sign(&key, b"second").unwrap();
        rsa.sign(&Digest::of(Sha256, b"third").into(), RsaPkcs1(Sha256)).unwrap();
        let after = lab.counters();
        let calls = |function| after.begun(function) - before.begun(function);
        assert_eq!((calls(Function::SignInit), calls(Function::Sign)), (2, 2));
        let all: u64 = Function::ALL.iter().map(|function| calls(*function)).sum();
        assert_eq!(all, 4, "{after}");
    });
}

#[test]
fn an_answer_that_needs_more_room_is_asked_for_once_more() {
    isolated(|mut lab| {
        let (_pool, key) = lab.pool(&lab.settings(1));
        let small = Rule::fail(ReturnValue::CKR_BUFFER_TOO_SMALL).on([Function::Sign]).next(1);
        lab.control.add(small).unwrap();
        for _ in 0..3 {
            sign(&key, b"signed").unwrap();
        }
        let counters = lab.counters();
        assert_eq!((counters.begun(Function::SignInit), counters.begun(Function::Sign)), (3, 4));
        let never = Rule::fail(ReturnValue::CKR_BUFFER_TOO_SMALL).on([Function::Sign]).next(2);
        lab.control.add(never).unwrap();
        let error = sign(&key, b"never enough").unwrap_err();
        assert!(error.to_string().contains("CKR_BUFFER_TOO_SMALL"), "{error}");
        // The operation goes on then, so the session is given up for a new one.
        sign(&key, b"signed").unwrap();
    });
}
