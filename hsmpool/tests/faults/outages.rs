//! Sessions and tokens that go away, or give less than asked, or lie.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use cryptoki::context::Pkcs11;
use hsmpool::{Pool, TokenSettings, TokenState};
use smime::{
    cms::{self, SignError},
    key::{Digest, KeyError, Signer},
};
use testmodule::{Action, Function, ReturnValue, Rule};

use crate::support::{eventually, isolated, sign, status};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn lost_sessions_cost_no_request() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(4));
        // One after the other, then all at once.
        for _ in 0..6 {
            lab.control.add(Rule::new(Action::LoseSession).on([Function::SignInit]).next(1)).unwrap();
            sign(&key, b"one lost").unwrap();
        }
        assert_eq!(lab.counters().begun(Function::Login), 1, "the others kept the login");
        lab.lose_all_sessions();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| sign(&key, b"all lost").unwrap()));
            }
        });
        assert_eq!(status(&pool).sessions, 4);
        let invalid = ReturnValue::CKR_SESSION_HANDLE_INVALID;
        assert!(lab.counters().returned_with(Function::SignInit, invalid) >= 6, "{}", lab.counters());
    });
}

#[test]
fn a_refusal_of_a_session_without_login_is_not_believed() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(1));
        sign(&key, b"before").unwrap();
        let refused = ReturnValue::CKR_KEY_TYPE_INCONSISTENT;
        // With the login it is what it says it is.
        lab.control.add(Rule::new(Action::Fail(refused)).on([Function::SignInit]).next(1)).unwrap();
        let error = sign(&key, b"refused").unwrap_err();
        assert!(matches!(error, KeyError::Unsupported { .. }), "{error:?}");

        log_out(&lab.module);
        lab.control.add(Rule::new(Action::Fail(refused)).on([Function::SignInit]).next(1)).unwrap();
        sign(&key, b"after").unwrap();
        assert_eq!(lab.counters().begun(Function::Login), 2);
        assert_eq!(status(&pool).state, TokenState::Up);
    });
}

/// What another user of the module may do; it holds for all sessions.
fn log_out(module: &Path) {
    let slot = hsmpool::modules::tokens(module).unwrap().into_iter().find(|token| token.label == "mail");
    let slot = slot.unwrap().slot.try_into().unwrap();
    let session = Pkcs11::new(module).unwrap().open_ro_session(slot).unwrap();
    session.logout().unwrap();
}

#[test]
fn a_token_that_was_removed_is_used_again_when_it_is_back() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(4));
        sign(&key, b"before").unwrap();
        let removed = lab.control.add(Rule::new(Action::Absent)).unwrap();
        let error = sign(&key, b"while it is away").unwrap_err();
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        let TokenState::Down { reason } = status(&pool).state else { panic!("{:?}", status(&pool)) };
        assert!(reason.contains("no initialised token") || reason.contains("CKR_"), "{reason}");
        thread::sleep(Duration::from_secs(1));
        assert_eq!(lab.counters().begun(Function::Login), 1, "there is nothing to log in to");
        lab.control.remove(removed).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        sign(&key, b"after").unwrap();
        assert_eq!(lab.counters().begun(Function::Login), 2);
    });
}

#[test]
fn one_of_two_tokens_is_removed_three_times_and_no_request_fails() {
    isolated(|mut lab| {
        lab.add_token("second");
        let mail = TokenSettings { deadline: Duration::from_secs(10), ..lab.settings(4) };
        let second = TokenSettings { label: "second".into(), ..mail.clone() };
        let pool = Pool::start(&[mail, second]).unwrap();
        pool.ready(LIMIT).unwrap();
        let key = pool.key(&lab.certificate);
        let (done, signed) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for caller in 0..8 {
                let (key, done, signed) = (&key, &done, &signed);
                scope.spawn(move || {
                    for number in 0_u32.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let result = sign(key, format!("{caller} {number}").as_bytes());
                        if result.is_err() {
                            done.store(true, Ordering::Relaxed);
                        }
                        result.unwrap();
                        signed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..3 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let removed = lab.control.add(Rule::new(Action::Absent).token("mail")).unwrap();
                thread::sleep(Duration::from_millis(300));
                lab.control.remove(removed).unwrap();
                eventually("the token is back", LIMIT, || {
                    done.load(Ordering::Relaxed) || status(&pool).state == TokenState::Up
                });
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(pool.metrics().remove(0).lost >= 3, "{}", lab.counters());
        assert!(signed.into_inner() > 100);
    });
}

#[test]
fn a_key_of_two_tokens_names_those_that_can_have_answered_and_no_lost_one() {
    isolated(|mut lab| {
        lab.add_token("second");
        let other = lab.add_token_with_another_key("third");
        let mail = TokenSettings { deadline: Duration::from_secs(10), ..lab.settings(1) };
        let more = ["second", "third"].map(|label| TokenSettings { label: label.into(), ..mail.clone() });
        let pool = Pool::start(&[&[mail][..], &more].concat()).unwrap();
        pool.ready(LIMIT).unwrap();
        let key = pool.key(&lab.certificate);
        assert_eq!(key.tokens(), ["mail", "second"]);
        assert_eq!(pool.key(&other).tokens(), ["third"]);
        assert_eq!(pool.key(&lab.a_key_of_no_token("none")).tokens(), Vec::<String>::new());
        // Of a lost one it is known still that it has the key; it has not answered.
        let removed = lab.control.add(Rule::new(Action::Absent).token("mail")).unwrap();
        eventually("its loss is noticed", LIMIT, || {
            sign(&key, b"by the second").unwrap();
            status(&pool).state != TokenState::Up
        });
        assert_eq!(key.tokens(), ["second"]);
        lab.control.remove(removed).unwrap();
        eventually("the token is back", LIMIT, || status(&pool).state == TokenState::Up);
        eventually("it can answer", LIMIT, || key.tokens() == ["mail", "second"]);
    });
}

#[test]
fn one_of_two_tokens_that_fails_three_times_before_it_is_given_up_fails_no_request() {
    isolated(|mut lab| {
        lab.add_token("second");
        let mail = TokenSettings { deadline: Duration::from_secs(10), ..lab.settings(4) };
        let second = TokenSettings { label: "second".into(), ..mail.clone() };
        let pool = Pool::start(&[mail, second]).unwrap();
        pool.ready(LIMIT).unwrap();
        let key = pool.key(&lab.certificate);
        for round in 1..=3 {
            // Sessions can be opened still, so it takes some requests to see that it is the token.
            let broken = Rule::fail(ReturnValue::CKR_DEVICE_ERROR).on([Function::SignInit, Function::Sign]);
            let broken = lab.control.add(broken.token("mail")).unwrap();
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| (0..50).for_each(|_| sign(&key, b"by the other").unwrap()));
                }
            });
            lab.control.remove(broken).unwrap();
            let metrics = || pool.metrics().remove(0);
            let errors = metrics().errors;
            let failed = errors.iter().filter(|(error, _)| error.ends_with("CKR_DEVICE_ERROR"));
            assert!(failed.map(|(_, times)| times).sum::<u64>() >= 2 * round, "{errors:?}");
            let before = metrics().operations["sign"];
            eventually("it signs again", LIMIT, || {
                thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| sign(&key, b"by both").unwrap());
                    }
                });
                metrics().operations["sign"] > before
            });
        }
    });
}

#[test]
fn a_token_that_loses_every_connection_is_not_connected_to_in_a_loop() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: Duration::from_secs(1), ..lab.settings(2) });
        let removed = Rule::fail(ReturnValue::CKR_DEVICE_REMOVED).on([Function::SignInit]);
        let rule = lab.control.add(removed).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            // The token answers all else, so it is never out of use: whoever asks waits for the next connection.
            let error = sign(&key, b"never").unwrap_err();
            assert!(matches!(error, KeyError::Deadline { .. }), "{error:?}");
        }
        let made = lab.counters().begun(Function::Initialize);
        // After 50, 100, 200, 400, 800 ms, and then one each second.
        assert!((5..=12).contains(&made), "{made}");
        lab.control.remove(rule).unwrap();
        eventually("signatures again", LIMIT, || sign(&key, b"after").is_ok());
        assert!(pool.metrics().remove(0).lost >= 4);
    });
}

#[test]
fn a_token_with_one_session_is_a_pool_of_one() {
    isolated(|mut lab| {
        lab.control.add(Rule::new(Action::Limit(1))).unwrap();
        let (pool, key) = lab.pool(&lab.settings(8));
        assert_eq!(status(&pool).sessions, 1);
        let sign_by_eight = || {
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| (0..10).for_each(|_| sign(&key, b"in turn").unwrap()));
                }
            });
        };
        sign_by_eight();
        // Only after the old session is closed there is room for a new one; and the login went with it.
        lab.control.add(Rule::new(Action::LoseSession).on([Function::SignInit]).next(1)).unwrap();
        sign_by_eight();
        lab.control.add(Rule::fail(ReturnValue::CKR_DEVICE_ERROR).on([Function::Sign]).next(1)).unwrap();
        sign_by_eight();
        assert_eq!(status(&pool).sessions, 1);
        assert_eq!(lab.counters().begun(Function::Login), 3);
    });
}

#[test]
fn a_corrupted_signature_never_leaves() {
    isolated(|mut lab| {
        let (_pool, key) = lab.pool(&lab.settings(2));
        let content = |algorithm| Digest::of(algorithm, b"content");
        let signed = || cms::sign(content, &key, &[], SystemTime::now());
        let rule = lab.control.add(Rule::new(Action::Corrupt).chance(0.5)).unwrap();
        let (good, bad): (Vec<_>, Vec<_>) = (0..60).map(|_| signed()).partition(Result::is_ok);
        assert_eq!(bad.len() as u64, lab.counters().applied(rule));
        assert!(good.len() > 10 && bad.len() > 10, "{} good, {} bad", good.len(), bad.len());
        for error in bad {
            assert!(matches!(error, Err(SignError::Faulty { .. })), "{error:?}");
        }
        lab.control.clear().unwrap();
        signed().unwrap();
    });
}

#[test]
fn a_module_that_cannot_be_initialised_twice_costs_the_token_but_no_deadline() {
    isolated(|mut lab| {
        let second = Rule::fail(ReturnValue::CKR_GENERAL_ERROR).on([Function::Initialize]).from(2);
        let broken = lab.control.add(second).unwrap();
        let (pool, key) = lab.pool(&lab.settings(2));
        lab.control
            .add(Rule::fail(ReturnValue::CKR_DEVICE_REMOVED).on([Function::SignInit]).next(1))
            .unwrap();
        let begun = Instant::now();
        let error = sign(&key, b"while it is broken").unwrap_err();
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(error.to_string().contains("C_Initialize"), "{error}");
        lab.control.remove(broken).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        sign(&key, b"after").unwrap();
    });
}
