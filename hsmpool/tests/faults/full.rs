//! A token that has no memory left.

use std::time::{Duration, Instant};

use hsmpool::{
    PoolError, TokenState,
    keys::{self, KeySpec},
};
use smime::{
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey},
    key::{Decryptor, KeyError},
};
use testmodule::{Function, ReturnValue, Rule};

use crate::support::{isolated, sign, status};

#[test]
fn a_full_token_opens_nothing_by_key_agreement_and_signs_as_ever() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(2));
        let peer = aws_lc_rs::agreement::PrivateKey::generate(AgreementCurve::P256.engine()).unwrap();
        let point = peer.compute_public_key().unwrap();
        let originator = OriginatorPublicKey::new(AgreementCurve::P256, point.as_ref()).unwrap();
        let full = Rule::fail(ReturnValue::CKR_DEVICE_MEMORY).on([Function::DeriveKey]);
        let full = lab.control.add(full).unwrap();
        let begun = Instant::now();
        for round in 0..8_u8 {
            let error = key.agree(&originator).unwrap_err();
            assert!(
                matches!(&error, KeyError::Token { function, code, .. }
                    if function == "C_DeriveKey" && code == "CKR_DEVICE_MEMORY"),
                "{error}"
            );
            sign(&key, &[round]).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        // Nor if nothing else is asked between.
        for _ in 0..12 {
            key.agree(&originator).unwrap_err();
        }
        sign(&key, b"afterwards").unwrap();
        assert_eq!(lab.counters().begun(Function::Initialize), 1, "the module was made new");
        assert_eq!(status(&pool).state, TokenState::Up);
        lab.control.remove(full).unwrap();
        assert!(matches!(key.agree(&originator).unwrap(), Agreed::Secret(_)));
    });
}

#[test]
fn what_a_session_s_objects_take_of_the_memory_is_free_again_with_a_new_session() {
    isolated(|mut lab| {
        let (_pool, key) = lab.pool(&lab.settings(1));
        lab.control.add(Rule::fail(ReturnValue::CKR_DEVICE_MEMORY).on([Function::SignInit]).next(1)).unwrap();
        let sessions = lab.counters().begun(Function::OpenSession);
        sign(&key, b"by another session").unwrap();
        assert_eq!(lab.counters().begun(Function::OpenSession), sessions + 1);
        assert_eq!(lab.counters().begun(Function::Initialize), 1);
    });
}

#[test]
fn a_key_that_finds_no_room_says_so() {
    isolated(|mut lab| {
        for (value, expected) in [
            (ReturnValue::CKR_DEVICE_MEMORY, "CKR_DEVICE_MEMORY: it is full, or"),
            // SoftHSM's answer on a full disk.
            (
                ReturnValue::CKR_FUNCTION_FAILED,
                "Choose another kind; if it has such keys already, it may be full",
            ),
        ] {
            let full = lab.control.add(Rule::fail(value).on([Function::GenerateKeyPair])).unwrap();
            let error: PoolError =
                keys::generate(&lab.settings(1), KeySpec::Rsa(2048), "new", None).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            lab.control.remove(full).unwrap();
        }
    });
}
