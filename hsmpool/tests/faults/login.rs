//! How many C_Login reach the token.

use std::{fs, thread, time::Duration};

use hsmpool::{Pool, PoolError, TokenState};
use smime::key::KeyError;
use testmodule::{Function, ReturnValue, Rule};

use crate::support::{Lab, PIN, eventually, isolated, sign, status};

const LIMIT: Duration = Duration::from_secs(20);

fn logins(lab: &Lab) -> u64 {
    lab.counters().forwarded(Function::Login)
}

#[test]
fn exactly_one_login_with_a_wrong_pin_reaches_the_token() {
    isolated(|lab| {
        fs::write(lab.pin_file(), "86753091").unwrap();
        let pool = Pool::start(&[lab.settings(8)]).unwrap();
        let error = pool.ready(LIMIT).unwrap_err();
        assert!(matches!(error, PoolError::WrongPin { .. }), "{error:?}");
        let key = pool.key(&lab.certificate);
        // Several ticks of the supervisor, with callers that go on asking and a file that is touched.
        for _ in 0..8 {
            thread::sleep(Duration::from_millis(400));
            let error = sign(&key, b"nobody signs this").unwrap_err();
            assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
            fs::write(lab.pin_file(), "86753091").unwrap();
        }
        assert_eq!(logins(&lab), 1);
        fs::write(lab.pin_file(), PIN).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        assert_eq!(logins(&lab), 2);
        assert_eq!(lab.counters().returned_with(Function::Login, ReturnValue::CKR_OK), 1);
        sign(&key, b"this is signed").unwrap();
    });
}

#[test]
fn a_pool_that_is_started_anew_does_not_try_a_rejected_pin_again() {
    isolated(|lab| {
        fs::write(lab.pin_file(), "86753091").unwrap();
        for _ in 0..3 {
            let pool = Pool::start(&[lab.settings(8)]).unwrap();
            let error = pool.ready(LIMIT).unwrap_err();
            assert!(matches!(error, PoolError::WrongPin { .. }), "{error:?}");
            pool.close();
            assert_eq!(logins(&lab), 1);
        }
        fs::write(lab.pin_file(), PIN).unwrap();
        let (_pool, key) = lab.pool(&lab.settings(8));
        sign(&key, b"this is signed").unwrap();
        assert_eq!(logins(&lab), 2);
    });
}

#[test]
fn eight_workers_that_lose_their_login_share_one() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(8));
        assert_eq!(logins(&lab), 1);
        // Once with the right PIN, then with a wrong one.
        for (pin, expected) in [(PIN, 2), ("86753091", 3)] {
            fs::write(lab.pin_file(), pin).unwrap();
            lab.lose_all_sessions();
            thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| assert_eq!(sign(&key, b"signed or not").is_ok(), pin == PIN));
                }
            });
            thread::sleep(Duration::from_secs(2));
            assert_eq!(logins(&lab), expected);
        }
        assert!(matches!(status(&pool).state, TokenState::Down { .. }));
        fs::write(lab.pin_file(), PIN).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        assert_eq!(logins(&lab), 4);
    });
}

#[test]
fn a_login_that_fails_for_no_clear_reason_is_tried_twice_at_most() {
    isolated(|mut lab| {
        lab.control.add(Rule::fail(ReturnValue::CKR_GENERAL_ERROR).on([Function::Login])).unwrap();
        let pool = Pool::start(&[lab.settings(8)]).unwrap();
        pool.ready(LIMIT).unwrap_err();
        let refused =
            || matches!(status(&pool).state, TokenState::Down { reason } if reason.contains("refused"));
        eventually("the PIN is held for wrong", LIMIT, refused);
        thread::sleep(Duration::from_secs(3));
        assert_eq!(lab.counters().begun(Function::Login), 2);
    });
}

#[test]
fn a_pin_that_was_right_is_not_held_for_wrong_because_the_token_fails_for_a_while() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(2));
        // What a network HSM says while it restarts.
        let rule = lab.control.add(Rule::fail(ReturnValue::CKR_DEVICE_ERROR).on([Function::Login])).unwrap();
        lab.lose_all_sessions();
        let error = sign(&key, b"meets the loss").unwrap_err();
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        thread::sleep(Duration::from_secs(3));
        let tries = lab.counters().applied(rule);
        assert!((2..=4).contains(&tries), "with pauses that grow: {tries}");
        lab.control.remove(rule).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        sign(&key, b"afterwards").unwrap();
    });
}

#[test]
fn what_only_an_operator_can_mend_costs_the_request_and_no_login() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(4));
        for (value, name) in
            [(0xA0, "CKR_PIN_INCORRECT"), (0xA3, "CKR_PIN_EXPIRED"), (0xA4, "CKR_PIN_LOCKED")]
        {
            let rule = lab.control.add(Rule::fail(ReturnValue(value)).on([Function::SignInit])).unwrap();
            for _ in 0..10 {
                let error = sign(&key, b"refused").unwrap_err();
                assert!(matches!(&error, KeyError::Token { code, .. } if code == name), "{error:?}");
            }
            lab.control.remove(rule).unwrap();
            sign(&key, b"afterwards").unwrap();
        }
        assert_eq!((logins(&lab), lab.counters().begun(Function::Initialize)), (1, 1));
        assert_eq!(pool.metrics().remove(0).lost, 0);
    });
}
