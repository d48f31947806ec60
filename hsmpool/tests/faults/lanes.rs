//! What callers may rely on while the token is busy: lanes, cancellation, deadlines of continuations.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use hsmpool::{Lane, TokenKey, TokenSettings};
use smime::{
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, KeyError, SignatureValue, Signer as _},
    question::Question,
};
use testmodule::{Function, Rule};

use crate::support::{eventually, isolated, sign, status};

const ALGORITHM: SignatureAlgorithm = SignatureAlgorithm::Ecdsa(Sha256);
const LIMIT: Duration = Duration::from_secs(20);

/// When it came, and what.
type Answer = (Duration, Result<SignatureValue, KeyError>);

fn digest() -> smime::key::SignatureInput<'static> {
    Digest::of(Sha256, b"content").into()
}

/// Has a message signed and counts the answers.
fn submit(key: &TokenKey, answers: &Arc<AtomicU32>) -> hsmpool::Pending {
    let answers = Arc::clone(answers);
    key.submit_sign(&digest(), ALGORITHM, move |_| {
        answers.fetch_add(1, Ordering::SeqCst);
    })
}

#[test]
fn an_interactive_request_overtakes_ten_thousand_bulk_requests() {
    const BACKLOG: u32 = 10_000;
    const SESSIONS: u32 = 4;
    isolated(|mut lab| {
        let settings = TokenSettings {
            queue: 20_000,
            deadline: Duration::from_secs(90),
            ..lab.settings(SESSIONS as usize)
        };
        let (pool, key) = lab.pool(&settings);
        let delay = lab.control.add(Rule::delay(Duration::from_millis(2)).on([Function::Sign])).unwrap();
        let bulk = pool.lane(Lane::Bulk).key(&lab.certificate);
        let done = Arc::new(AtomicU32::new(0));
        for _ in 0..BACKLOG {
            submit(&bulk, &done);
        }
        let mut overtaken = Vec::new();
        for _ in 0..50 {
            let before = done.load(Ordering::SeqCst);
            // Counted on the worker's thread, where nothing comes between the answer and the look.
            let (tell, seen) = mpsc::channel();
            let count = Arc::clone(&done);
            key.submit_sign(&digest(), ALGORITHM, move |result| {
                tell.send(result.map(|_| count.load(Ordering::SeqCst))).unwrap();
            });
            overtaken.push(seen.recv().unwrap().unwrap() - before);
        }
        let waiting = pool.metrics().remove(0).bulk.waiting;
        assert!(waiting > BACKLOG as usize / 2, "there was a backlog all the time: {waiting}");
        // Those that ran when it came, and those that the other sessions finished while it ran. A thread that is
        // not woken at once lets others pass; mostly it is.
        overtaken.sort_unstable();
        assert!(overtaken[25] <= 2 * SESSIONS, "{overtaken:?}");
        assert!(overtaken[49] <= 16 * SESSIONS, "{overtaken:?}");
        lab.control.remove(delay).unwrap();
        eventually("all is done", Duration::from_secs(80), || done.load(Ordering::SeqCst) == BACKLOG);
        let metrics = pool.metrics().remove(0);
        assert_eq!(metrics.operations["sign"], u64::from(BACKLOG) + 50);
        assert_eq!((metrics.interactive.wait.count(), metrics.bulk.wait.count()), (50, u64::from(BACKLOG)));
        assert!(metrics.interactive.wait.quantile(0.5) < metrics.bulk.wait.quantile(0.5), "{metrics:?}");
    });
}

#[test]
fn what_was_cancelled_is_never_signed() {
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&lab.settings(1));
        let rule = lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
        let answers = Arc::new(AtomicU32::new(0));
        let first = submit(&key, &answers);
        eventually("it is in the call", LIMIT, || lab.counters().running(Function::Sign) == 1);
        let pending: Vec<_> = (0..10).map(|_| submit(&key, &answers)).collect();
        assert!(pending.iter().skip(1).all(hsmpool::Pending::cancel));
        // As much as dropped by those who must not wait.
        for _ in 0..10 {
            let question = Question::Sign { input: digest(), algorithm: ALGORITHM };
            let answers = Arc::clone(&answers);
            let reply = Box::new(move |_| {
                answers.fetch_add(1, Ordering::SeqCst);
            });
            drop(key.submit_at_once(question, reply).unwrap());
        }
        eventually("they leave the queue", LIMIT, || status(&pool).waiting == 1);
        lab.control.remove(rule).unwrap();
        sign(&key, b"behind them").unwrap();
        // The one that hung, the one that was not cancelled, and the last.
        assert_eq!(lab.counters().begun(Function::SignInit), 3);
        assert_eq!(answers.load(Ordering::SeqCst), 2);
        assert!(!first.cancel(), "it is done");
    });
}

#[test]
fn a_continuation_is_answered_by_its_deadline_though_the_call_hangs() {
    const DEADLINE: Duration = Duration::from_millis(500);
    isolated(|mut lab| {
        let settings = TokenSettings { deadline: Duration::from_secs(10), ..lab.settings(2) };
        let (pool, _) = lab.pool(&settings);
        let key = pool.with_deadline(DEADLINE).key(&lab.certificate);
        lab.control.add(Rule::hang().on([Function::Sign])).unwrap();
        let answers: Arc<Mutex<Vec<Answer>>> = Arc::default();
        let begun = Instant::now();
        // Two hang, four wait.
        for _ in 0..6 {
            let answers = Arc::clone(&answers);
            key.submit_sign(&digest(), ALGORITHM, move |result| {
                answers.lock().unwrap().push((begun.elapsed(), result));
            });
        }
        eventually("all are answered", LIMIT, || answers.lock().unwrap().len() == 6);
        for (after, result) in answers.lock().unwrap().iter() {
            assert!(matches!(result, Err(KeyError::Deadline { deadline, .. }) if *deadline == DEADLINE));
            assert!((DEADLINE..DEADLINE + Duration::from_millis(600)).contains(after), "{after:?}");
        }
        assert_eq!(lab.counters().running(Function::Sign), 2);
        assert_eq!(pool.metrics().remove(0).expired, 6);
        assert!(pool.overdue().is_some());
        lab.control.clear().unwrap();
        sign(&key, b"afterwards").unwrap();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(answers.lock().unwrap().len(), 6, "none was answered twice");
    });
}

#[test]
fn a_session_that_hangs_is_replaced_and_its_own_closed_when_the_call_comes_back() {
    isolated(|mut lab| {
        let settings = TokenSettings { deadline: Duration::from_millis(400), ..lab.settings(1) };
        let (pool, key) = lab.pool(&settings);
        let rule = lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
        let error = sign(&key, b"hangs").unwrap_err();
        assert!(matches!(error, KeyError::Deadline { .. }), "{error:?}");
        eventually("the only session is replaced", LIMIT, || sign(&key, b"by another").is_ok());
        assert_eq!(lab.counters().running(Function::Sign), 1);
        assert_eq!(lab.counters().begun(Function::OpenSession), 2);
        assert_eq!(lab.counters().begun(Function::CloseSession), 0);
        assert_eq!(status(&pool).hanging, 1);
        lab.control.remove(rule).unwrap();
        eventually("the other is closed", LIMIT, || lab.counters().begun(Function::CloseSession) == 1);
        assert_eq!((status(&pool).sessions, status(&pool).hanging), (1, 0));
        sign(&key, b"afterwards").unwrap();
        assert_eq!(lab.counters().begun(Function::Login), 1);
    });
}

#[test]
fn a_reply_that_panics_costs_no_other_request_its_deadline() {
    const DEADLINE: Duration = Duration::from_millis(400);
    isolated(|mut lab| {
        let (pool, key) = lab.pool(&TokenSettings { deadline: DEADLINE, ..lab.settings(2) });
        lab.control.add(Rule::hang().on([Function::Sign])).unwrap();
        let panicked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&panicked);
        // The watch calls it.
        key.submit_sign(&digest(), ALGORITHM, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            panic!("a defect of the caller's");
        });
        eventually("it is called", LIMIT, || panicked.load(Ordering::SeqCst) == 1);
        let (told, answers) = mpsc::channel();
        key.submit_sign(&digest(), ALGORITHM, move |result| told.send(result).unwrap());
        let answer = answers.recv_timeout(LIMIT).unwrap();
        assert!(matches!(answer, Err(KeyError::Deadline { .. })), "{answer:?}");
        lab.control.clear().unwrap();
        eventually("the calls come back", LIMIT, || status(&pool).hanging == 0);
    });
}

#[test]
fn an_answer_that_comes_too_late_counts_as_expired_for_those_who_block_too() {
    const DEADLINE: Duration = Duration::from_millis(400);
    isolated(|mut lab| {
        let settings = TokenSettings { deadline: Duration::from_secs(10), ..lab.settings(2) };
        let (pool, _) = lab.pool(&settings);
        let key = pool.with_deadline(DEADLINE).key(&lab.certificate);
        let rule = lab.control.add(Rule::delay(2 * DEADLINE).on([Function::Sign])).unwrap();
        let error = sign(&key, b"too late").unwrap_err();
        assert!(matches!(error, KeyError::Deadline { .. }), "{error:?}");
        submit(&key, &Arc::default());
        eventually("both are done", LIMIT, || {
            lab.counters().answered(Function::Sign) == 2 && pool.metrics().remove(0).running == 0
        });
        lab.control.remove(rule).unwrap();
        let metrics = pool.metrics().remove(0);
        assert_eq!((metrics.expired, metrics.operations["sign"]), (2, 0));
    });
}

#[test]
fn the_last_pool_may_be_dropped_in_a_reply() {
    isolated(|mut lab| {
        let (pool, key) =
            lab.pool(&TokenSettings { deadline: Duration::from_millis(400), ..lab.settings(2) });
        lab.control.add(Rule::hang().on([Function::Sign])).unwrap();
        let (told, took) = mpsc::channel();
        // The watch calls it, which closing would wait for, for some seconds.
        key.submit_sign(&digest(), ALGORITHM, move |_| {
            let begun = Instant::now();
            drop(pool);
            told.send(begun.elapsed()).unwrap();
        });
        drop(key);
        let took = took.recv_timeout(LIMIT).unwrap();
        assert!(took < Duration::from_secs(2), "{took:?}");
        lab.control.clear().unwrap();
        // A process that ends inside that call may never end.
        eventually("the module is given back", LIMIT, || lab.counters().returned(Function::Finalize) == 1);
    });
}
