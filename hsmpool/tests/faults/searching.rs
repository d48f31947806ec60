//! Searches for keys that are unknown, or whose handle is not valid.

use std::{
    thread,
    time::{Duration, Instant},
};

use hsmpool::{TokenSettings, TokenState};
use smime::{
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, KeyError},
};
use testmodule::{Function, ReturnValue, Rule};

use crate::support::{eventually, isolated, sign, status};

const DEADLINE: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_search_for_an_unknown_key_that_hangs_costs_its_session_only() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, ..lab.settings(4) });
        let unknown = pool.key(&lab.a_key_of_no_token("unknown"));
        lab.control.add(Rule::hang().on([Function::FindObjectsInit]).next(1)).unwrap();
        let error = sign(&unknown, b"nobody").unwrap_err();
        assert!(matches!(error, KeyError::Deadline { .. }), "{error:?}");
        // Nobody waits for that search, nor is told what it has not found yet.
        for _ in 0..20 {
            let error = sign(&unknown, b"nobody").unwrap_err();
            assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        }
        sign(&key, b"known").unwrap();
        // Neither does a new connection.
        let removed = Rule::fail(ReturnValue::CKR_DEVICE_REMOVED).on([Function::SignInit]).next(1);
        lab.control.add(removed).unwrap();
        let _ = sign(&key, b"meets the loss");
        eventually("the token is up", LIMIT, || {
            status(&pool).state == TokenState::Up && sign(&key, b"known").is_ok()
        });
        assert_eq!(lab.counters().running(Function::FindObjectsInit), 1, "all that with one that hangs");
    });
}

#[test]
fn nobody_is_told_that_a_key_is_not_there_while_it_is_looked_for() {
    isolated(|mut lab| {
        let (pool, _) = lab.pool(&lab.settings(4));
        let unknown = pool.key(&lab.a_key_of_no_token("unknown"));
        let rule = lab.control.add(Rule::hang().on([Function::FindObjectsInit])).unwrap();
        thread::scope(|scope| {
            let first = scope.spawn(|| sign(&unknown, b"the first"));
            eventually("one is looking", LIMIT, || lab.counters().running(Function::FindObjectsInit) > 0);
            let error = sign(&unknown, b"the second").unwrap_err();
            assert!(
                matches!(error, KeyError::Unavailable { .. }),
                "what may get better is waited for: {error:?}"
            );
            lab.control.remove(rule).unwrap();
            let error = first.join().unwrap().unwrap_err();
            assert!(matches!(error, KeyError::NoSuchKey { .. }), "it has looked: {error:?}");
        });
        let error = sign(&unknown, b"afterwards").unwrap_err();
        assert!(matches!(error, KeyError::NoSuchKey { .. }), "{error:?}");
    });
}

#[test]
fn a_slow_search_for_an_unknown_key_holds_one_session_only() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(4));
        let unknown = pool.key(&lab.a_key_of_no_token("unknown"));
        let rule = lab.control.add(Rule::hang().on([Function::FindObjectsInit])).unwrap();
        let digest = Digest::of(Sha256, b"nobody").into();
        for _ in 0..8 {
            drop(unknown.submit_sign(&digest, SignatureAlgorithm::Ecdsa(Sha256), |_| {}));
        }
        eventually("one is looking", LIMIT, || lab.counters().running(Function::FindObjectsInit) > 0);
        for _ in 0..20 {
            sign(&key, b"known").unwrap();
        }
        assert_eq!(lab.counters().applied(rule), 1);
        lab.control.remove(rule).unwrap();
        eventually("it is done", LIMIT, || lab.counters().running(Function::FindObjectsInit) == 0);
    });
}

#[test]
fn a_key_whose_handle_is_never_valid_has_all_keys_read_once() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(4));
        let searched = lab.counters().begun(Function::FindObjectsInit);
        let invalid = Rule::fail(ReturnValue::CKR_KEY_HANDLE_INVALID).on([Function::SignInit]);
        let rule = lab.control.add(invalid).unwrap();
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let error = sign(&key, b"never").unwrap_err();
                        assert!(matches!(error, KeyError::Token { .. }), "{error:?}");
                    }
                });
            }
        });
        // Another, for the few that met it at the same time as the first, in each ten seconds.
        let rounds = 1 + begun.elapsed().as_secs() / 10;
        let read = lab.counters().begun(Function::FindObjectsInit) - searched;
        assert!(read <= 5 * rounds, "{read} for 160 requests");
        assert_eq!(lab.counters().begun(Function::Initialize), 1);
        assert_eq!(pool.metrics().remove(0).lost, 0);
        lab.control.remove(rule).unwrap();
        eventually("it is used again", LIMIT, || sign(&key, b"afterwards").is_ok());
    });
}
