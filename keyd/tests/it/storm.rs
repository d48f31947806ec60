//! Everything that can go wrong behind the socket, all at once: each request ends, once, in time, with a good
//! signature or a typed error, and has its line in the audit.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use hsmpool::{Lane, TokenKey};
use testmodule::{
    Action::{self, LoseSession, LoseSessions},
    Function, ReturnValue, Rule,
};

use crate::support::{LONG, Lab, eventually, sign};

const CALLERS: usize = 32;
const REQUESTS: usize = 20_000;
/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(1);

/// How requests ended.
#[derive(Debug, Default)]
struct Ends {
    signed: AtomicUsize,
    failed: AtomicUsize,
    late: AtomicUsize,
}

/// Has so many messages signed, half of them in each lane.
fn ask(keys: &[TokenKey; 2], requests: usize, deadline: Duration) -> Ends {
    let (ends, next) = (Ends::default(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (ends, next) = (&ends, &next);
            let key = &keys[caller % 2];
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        break;
                    }
                    let begun = Instant::now();
                    let place = match sign(key, format!("message {number}").as_bytes()) {
                        Ok(()) => &ends.signed,
                        Err(_) => &ends.failed,
                    };
                    place.fetch_add(1, Ordering::Relaxed);
                    if begun.elapsed() > deadline + SLACK {
                        ends.late.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    ends
}

#[test]
fn in_a_storm_behind_the_socket_every_request_ends_in_time_and_has_its_line() {
    let mut lab = Lab::new();
    (lab.sessions, lab.deadline_ms) = (8, 5000);
    let deadline = Duration::from_millis(lab.deadline_ms);
    let _server = lab.start();
    let pool = lab.pool();
    pool.ready(LONG).unwrap();
    let keys = [Lane::Interactive, Lane::Bulk].map(|lane| pool.lane(lane).key(&lab.certificate));
    let calm = |name: &str| {
        let begun = Instant::now();
        assert_eq!(ask(&keys, 2000, deadline).signed.into_inner(), 2000, "{name}");
        begun.elapsed()
    };
    let before = calm("before");

    for value in [
        ReturnValue::CKR_SESSION_CLOSED,
        ReturnValue::CKR_SESSION_HANDLE_INVALID,
        ReturnValue::CKR_OPERATION_ACTIVE,
        ReturnValue::CKR_GENERAL_ERROR,
        ReturnValue::CKR_FUNCTION_FAILED,
        ReturnValue::CKR_DEVICE_ERROR,
        ReturnValue::CKR_KEY_HANDLE_INVALID,
        ReturnValue::CKR_HOST_MEMORY,
        ReturnValue::CKR_DEVICE_REMOVED,
        ReturnValue::CKR_CRYPTOKI_NOT_INITIALIZED,
        ReturnValue(0x8000_0042),
    ] {
        lab.control.add(Rule::fail(value).on([Function::SignInit]).chance(0.01)).unwrap();
    }
    for action in [LoseSession, LoseSessions] {
        lab.control.add(Rule::new(action).on([Function::Sign]).chance(0.01)).unwrap();
    }
    lab.control.add(Rule::delay(Duration::from_millis(50)).on([Function::Sign]).chance(0.01)).unwrap();
    let ends = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&keys, REQUESTS, deadline));
        for round in 0..3 {
            thread::sleep(Duration::from_secs(1));
            let once = if round == 0 { Rule::hang() } else { Rule::new(Action::Abort) };
            lab.control.add(once.on([Function::Sign]).next(1)).unwrap();
            thread::sleep(Duration::from_secs(1));
            lab.control.add(Rule::new(Action::Kill).on([Function::Sign]).next(1)).unwrap();
        }
        asking.join().unwrap()
    });
    lab.control.clear().unwrap();
    let (signed, failed) = (ends.signed.into_inner(), ends.failed.into_inner());
    let told = format!("{signed} signed, {failed} failed");
    assert_eq!(signed + failed, REQUESTS);
    assert_eq!(ends.late.into_inner(), 0, "{told}");
    assert!(signed >= REQUESTS * 8 / 10, "{told}");

    eventually("all sessions are up", || pool.status().iter().all(|token| token.sessions == 8));
    let after = calm("after");
    assert!(after < 3 * before + SLACK, "{before:?} before, {after:?} after; {told}");

    let uses = lab.uses();
    assert_eq!(uses.len(), 2000 + REQUESTS + 2000, "{told}");
    // Who signed has his line; an answer that came too late for its caller may have one more.
    let done = uses.iter().filter(|line| line["outcome"] == "done").count();
    assert!((4000 + signed..=4000 + signed + failed).contains(&done), "{done} done, {told}");
    assert!(lab.check_audit().0.success());
}
