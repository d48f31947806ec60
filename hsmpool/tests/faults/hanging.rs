//! Calls that do not come back.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use hsmpool::{Pool, PoolError, TokenKey, TokenSettings, TokenState};
use smime::{
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, KeyError},
};
use testmodule::{Function, ReturnValue, Rule};

use crate::support::{Lab, eventually, isolated, sign, status};

const DEADLINE: Duration = Duration::from_millis(400);
/// What a loaded machine may add.
const SLACK: Duration = Duration::from_millis(400);
const LIMIT: Duration = Duration::from_secs(20);

/// Fails, but not later than the deadline.
fn fails_in_time(key: &TokenKey) -> KeyError {
    let begun = Instant::now();
    let error = sign(key, b"never signed").unwrap_err();
    assert!(begun.elapsed() < DEADLINE + SLACK, "{:?}: {error:?}", begun.elapsed());
    error
}

#[test]
fn while_one_worker_hangs_the_others_go_on() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, ..lab.settings(4) });
        let rule = lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
        let error = fails_in_time(&key);
        assert!(matches!(error, KeyError::Deadline { .. }), "{error:?}");
        // For longer than it takes to find a whole token hanging.
        let begun = Instant::now();
        let mut signed = 0;
        while begun.elapsed() < 5 * DEADLINE {
            sign(&key, b"by another worker").unwrap();
            signed += 1;
        }
        assert!(signed > 50, "{signed}");
        assert_eq!(lab.counters().running(Function::Sign), 1);
        assert_eq!(status(&pool).state, TokenState::Up);
        lab.control.remove(rule).unwrap();
        eventually("the call is back", LIMIT, || lab.counters().running(Function::Sign) == 0);

        // Three more hang: with the fourth that is back, it is still a pool.
        lab.control.add(Rule::hang().on([Function::Sign]).next(3)).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| fails_in_time(&key));
            }
        });
        assert_eq!(lab.counters().running(Function::Sign), 3);
        for _ in 0..20 {
            sign(&key, b"by the only one left").unwrap();
        }
        lab.control.clear().unwrap();
        // The module's destructors must not run under calls that have just been let go.
        eventually("the calls are back", LIMIT, || status(&pool).hanging == 0);
    });
}

#[test]
fn when_all_workers_hang_requests_fail_in_time_until_the_token_is_back() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, queue: 4, ..lab.settings(4) });
        lab.control.add(Rule::hang().on([Function::Sign])).unwrap();
        // Four hang, four wait, eight find no place.
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let error = fails_in_time(&key);
                    let is_typed = matches!(error, KeyError::Deadline { .. } | KeyError::QueueFull { .. });
                    assert!(is_typed, "{error:?}");
                });
            }
        });
        // Some more sessions are tried. When those hang too, it is the token that hangs, and nobody waits for it.
        eventually("nobody waits any more", LIMIT, || {
            let begun = Instant::now();
            matches!(fails_in_time(&key), KeyError::Unavailable { .. }) && begun.elapsed() < DEADLINE / 2
        });
        let TokenState::Down { reason } = status(&pool).state else { panic!("{:?}", status(&pool)) };
        assert!(reason.contains("hanging"), "{reason}");
        let running = lab.counters().running(Function::Sign);
        assert!((5..=8).contains(&running), "at most as many more as there were: {running}");

        lab.control.clear().unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        for _ in 0..20 {
            sign(&key, b"back again").unwrap();
        }
        eventually("all sessions are at work", LIMIT, || status(&pool).sessions == 4);
    });
}

#[test]
fn what_nobody_waits_for_any_more_is_not_signed_afterwards() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: 4 * DEADLINE, ..lab.settings(1) });
        let impatient = pool.with_deadline(DEADLINE).key(&lab.certificate);
        let rule = lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
        thread::scope(|scope| {
            let hanging = scope.spawn(|| sign(&key, b"never signed").unwrap_err());
            eventually("one hangs", LIMIT, || lab.counters().running(Function::Sign) == 1);
            // Three wait behind it, and have gone before another session takes its place.
            for _ in 0..3 {
                scope.spawn(|| fails_in_time(&impatient));
            }
            hanging.join().unwrap();
        });
        assert_eq!(lab.counters().begun(Function::SignInit), 1);
        lab.control.remove(rule).unwrap();
        sign(&key, b"behind them").unwrap();
        assert_eq!(lab.counters().begun(Function::SignInit), 2);
    });
}

#[test]
fn a_token_that_hangs_at_the_start_keeps_nobody_waiting_and_is_used_when_it_answers() {
    isolated(|mut lab| {
        lab.control.add(Rule::hang().on([Function::Login])).unwrap();
        let pool = Pool::start(&[TokenSettings { deadline: DEADLINE, ..lab.settings(2) }]).unwrap();
        let error = pool.ready(DEADLINE).unwrap_err();
        assert!(matches!(error, PoolError::NotReady { .. }), "{error:?}");
        let key = pool.key(&lab.certificate);
        fails_in_time(&key);
        lab.control.clear().unwrap();
        pool.ready(LIMIT).unwrap();
        sign(&key, b"at last").unwrap();
    });
}

#[test]
fn a_pool_with_hanging_workers_can_be_closed() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, ..lab.settings(2) });
        lab.control.add(Rule::hang().on([Function::Sign])).unwrap();
        fails_in_time(&key);
        let begun = Instant::now();
        pool.close();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        // A module is not finalised under a call.
        assert_eq!(lab.counters().begun(Function::Finalize), 0);
        let error = fails_in_time(&key);
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
    });
}

/// Closes the pool while a call hangs for which requests wait whose deadline is far.
fn all_are_answered_at_the_end(lab: &Lab, pool: &Pool, hanging: Function) {
    let key = pool.key(&lab.certificate);
    let (told, answers) = mpsc::channel();
    for _ in 0..3 {
        let told = told.clone();
        let digest = Digest::of(Sha256, b"never signed").into();
        let reply = move |outcome| told.send(outcome).unwrap();
        drop(key.submit_sign(&digest, SignatureAlgorithm::Ecdsa(Sha256), reply));
    }
    eventually("a call hangs", LIMIT, || lab.counters().running(hanging) == 1);
    pool.close();
    for _ in 0..3 {
        let outcome = answers.recv_timeout(DEADLINE).unwrap();
        assert!(matches!(outcome, Err(KeyError::Unavailable { .. })), "{outcome:?}");
    }
}

#[test]
fn whoever_waits_for_a_session_that_hangs_is_told_when_the_pool_is_closed() {
    isolated(|mut lab| {
        let (pool, _) = lab.pool(&TokenSettings { deadline: Duration::from_mins(5), ..lab.settings(1) });
        lab.control.add(Rule::hang().on([Function::Sign])).unwrap();
        all_are_answered_at_the_end(&lab, &pool, Function::Sign);
    });
}

#[test]
fn whoever_waits_for_a_connection_that_hangs_is_told_when_the_pool_is_closed() {
    isolated(|mut lab| {
        lab.control.add(Rule::hang().on([Function::Login])).unwrap();
        let settings = TokenSettings { deadline: Duration::from_mins(5), ..lab.settings(1) };
        let pool = Pool::start(&[settings]).unwrap();
        all_are_answered_at_the_end(&lab, &pool, Function::Login);
    });
}

#[test]
fn a_lone_session_that_hung_while_its_token_was_lost_is_connected_again() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, ..lab.settings(1) });
        let hang = lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
        // No session can be opened before C_Finalize and C_Initialize (yubihsm-shell 541).
        let removed = Rule::fail(ReturnValue::CKR_DEVICE_REMOVED).on([Function::OpenSession]);
        let removed = lab.control.add(removed).unwrap();
        fails_in_time(&key);
        eventually("a session in its place is tried", LIMIT, || lab.counters().applied(removed) > 0);
        lab.control.remove(hang).unwrap();
        eventually("the call is back", LIMIT, || lab.counters().running(Function::Sign) == 0);
        eventually("the module is initialised anew", LIMIT, || {
            lab.counters().begun(Function::Initialize) > 1
        });
        lab.control.remove(removed).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        sign(&key, b"back again").unwrap();
    });
}

#[test]
fn a_lone_session_that_hung_is_replaced_though_sessions_could_not_be_opened_for_a_while() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, ..lab.settings(1) });
        let hang = lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
        let broken = Rule::fail(ReturnValue::CKR_GENERAL_ERROR).on([Function::OpenSession]);
        let broken = lab.control.add(broken).unwrap();
        fails_in_time(&key);
        eventually("a session in its place is tried", LIMIT, || lab.counters().applied(broken) > 0);
        lab.control.remove(hang).unwrap();
        // Nothing hangs any more, and that is not said of it.
        eventually(
            "the reason is told",
            LIMIT,
            || matches!(status(&pool).state, TokenState::Down { reason } if reason.contains("CKR_GENERAL_ERROR")),
        );
        lab.control.remove(broken).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        sign(&key, b"back again").unwrap();
    });
}

#[test]
fn a_token_that_hangs_while_it_is_connected_again_is_out_of_use_until_it_answers() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, ..lab.settings(2) });
        let hang = lab.control.add(Rule::hang().on([Function::Login])).unwrap();
        lab.lose_all_sessions();
        fails_in_time(&key);
        eventually("it is out of use", LIMIT, || matches!(status(&pool).state, TokenState::Down { .. }));
        let TokenState::Down { reason } = status(&pool).state else { panic!("{:?}", status(&pool)) };
        assert!(reason.contains("connecting has been hanging"), "{reason}");
        let error = fails_in_time(&key);
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        lab.control.remove(hang).unwrap();
        eventually("the token is up", LIMIT, || status(&pool).state == TokenState::Up);
        sign(&key, b"back again").unwrap();
    });
}
