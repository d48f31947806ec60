//! Others in this process, and other processes: `C_Finalize` by somebody else, fork.

use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use hsmpool::{Pool, PoolError, TokenSettings, TokenState};
use smime::key::KeyError;
use testmodule::{Function, Rule};

use crate::support::{eventually, isolated, sign, status};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_module_that_somebody_else_finalised_or_made_new_is_used_again() {
    isolated(|lab| {
        lab.add_token("second");
        let other = TokenSettings { label: "second".into(), ..lab.settings(2) };
        // Two tokens of one module: the one that notices first is not the only user of it.
        let pool = Pool::start(&[lab.settings(2), other]).unwrap();
        pool.ready(LIMIT).unwrap();
        let key = pool.key(&lab.certificate);
        for again in [false, true, false] {
            let somebody = Pkcs11::new(&lab.module).unwrap();
            somebody.clone().finalize().unwrap();
            if again {
                somebody.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
            }
            for _ in 0..20 {
                sign(&key, b"afterwards").unwrap();
            }
            eventually("both are up", LIMIT, || {
                // Who is not asked notices nothing.
                sign(&key, b"for whom it is").is_ok()
                    && pool.status().iter().all(|status| status.state == TokenState::Up)
            });
        }
    });
}

#[test]
fn no_session_of_a_module_s_last_life_signs_with_another_token_s_key() {
    isolated(|lab| {
        let second_only = lab.add_token_with_another_key("second");
        let second = TokenSettings { label: "second".into(), ..lab.settings(2) };
        // The second token comes first, so it has the numbers that the other will have in the next life.
        let (second, second_key) = {
            let pool = Pool::start(&[second]).unwrap();
            pool.ready(LIMIT).unwrap();
            let key = pool.key(&second_only);
            (pool, key)
        };
        sign(&second_key, b"before").unwrap();
        let (_mail, mail_key) = lab.pool(&lab.settings(2));
        for _ in 0..3 {
            Pkcs11::new(&lab.module).unwrap().finalize().unwrap();
            // It notices, and has the module initialised again.
            sign(&mail_key, b"by the first that notices").unwrap();
            for _ in 0..8 {
                // A signature by the other token's key would not verify.
                sign(&second_key, b"by nobody else's key").unwrap();
            }
        }
        assert_eq!(status(&second).state, TokenState::Up);
    });
}

#[test]
fn a_call_that_outlives_its_module_s_life_does_no_harm_to_the_next() {
    isolated(|mut lab| {
        let second_only = lab.add_token_with_another_key("second");
        let deadline = Duration::from_millis(400);
        let second = TokenSettings { label: "second".into(), deadline, ..lab.settings(1) };
        let pool = Pool::start(&[second]).unwrap();
        pool.ready(LIMIT).unwrap();
        let (mail, mail_key) = lab.pool(&lab.settings(1));
        let hang = lab.control.add(Rule::hang().on([Function::Sign]).token("second")).unwrap();
        sign(&pool.key(&second_only), b"hangs").unwrap_err();
        eventually("a call hangs", LIMIT, || lab.counters().running(Function::Sign) > 0);
        Pkcs11::new(&lab.module).unwrap().finalize().unwrap();
        sign(&mail_key, b"in the next life").unwrap();
        let lost = mail.metrics().remove(0).lost;
        lab.control.remove(hang).unwrap();
        eventually("the call is back", LIMIT, || lab.counters().running(Function::Sign) == 0);
        for _ in 0..20 {
            sign(&mail_key, b"undisturbed").unwrap();
            sign(&pool.key(&second_only), b"by itself").unwrap();
        }
        assert_eq!(mail.metrics().remove(0).lost, lost, "nobody else has closed its session");
    });
}

#[expect(unsafe_code, reason = "there is no safe fork")]
mod libc {
    unsafe extern "C" {
        pub(super) fn fork() -> i32;
        pub(super) fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        pub(super) fn kill(process: i32, signal: i32) -> i32;
        pub(super) fn _exit(status: i32) -> !;
    }
}

/// Runs something in a child that is a fork of this process. `None`: it did not end in time.
#[expect(unsafe_code, reason = "there is no safe fork")]
fn in_fork(body: impl FnOnce() -> bool) -> Option<bool> {
    // SAFETY: the child calls nothing that the threads of its parent could have locked for ever, which is what
    // this is a test of; if they have, it is killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_well = body();
        // SAFETY: it does not return.
        unsafe { libc::_exit(i32::from(!is_well)) };
    }
    let end = Instant::now() + LIMIT;
    let mut status = 0;
    // SAFETY: a child of ours, a place for its status, WNOHANG.
    while unsafe { libc::waitpid(child, &raw mut status, 1) } == 0 {
        if Instant::now() >= end {
            // SAFETY: a child of ours that has not been waited for yet; SIGKILL.
            unsafe {
                libc::kill(child, 9);
                libc::waitpid(child, &raw mut status, 0);
            }
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(status == 0)
}

#[test]
fn a_pool_in_a_forked_child_says_so_at_once_and_lets_go_quickly() {
    isolated(|lab| {
        let (pool, key) = lab.pool(&lab.settings(2));
        sign(&key, b"in the parent").unwrap();
        let forked = in_fork(|| {
            let begun = Instant::now();
            let error = sign(&key, b"in the child");
            let says_so =
                matches!(&error, Err(KeyError::Unavailable { reason, .. }) if reason.contains("child"));
            let not_ready = matches!(pool.ready(LIMIT), Err(PoolError::Forked { .. }));
            let silent = pool.status().is_empty() && pool.metrics().is_empty();
            pool.close();
            says_so && not_ready && silent && begun.elapsed() < Duration::from_secs(2)
        });
        assert_eq!(forked, Some(true), "none: it hung");
        sign(&key, b"in the parent, afterwards").unwrap();
        assert_eq!(status(&pool).state, TokenState::Up);
    });
}
