//! The router and the lanes of its tokens, without a module.

use std::{
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32},
        mpsc::{self, Receiver},
    },
    thread,
};

use smime::{
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, SignatureInput},
};

use super::*;
use crate::{
    PinSource, TokenSettings,
    lanes::{Next, Slot},
    request::{Operation, tests::counted},
    token::Phase,
};

const LONG: Duration = Duration::from_mins(1);

/// Tokens that work, by their queues and sessions.
fn router(tokens: &[(usize, usize)]) -> (Arc<Router>, Vec<Arc<Token>>) {
    let settings = |queue| TokenSettings {
        module: PathBuf::from("module.so"),
        label: "mail".into(),
        pin: PinSource::File("pin".into()),
        sessions: None,
        queue,
        deadline: LONG,
    };
    let router = Arc::new_cyclic(|router| {
        let of = |(number, (queue, _)): (usize, &(usize, usize))| {
            Backend::Token(Arc::new(Token::new(&settings(*queue), number, Weak::clone(router))))
        };
        Router::new(tokens.iter().enumerate().map(of).collect())
    });
    let of = |backend: &Backend| match backend {
        Backend::Token(token) => Arc::clone(token),
        Backend::Remote(_) => unreachable!("there are none"),
    };
    let started: Vec<_> = router.backends.iter().map(of).collect();
    for (token, (_, sessions)) in started.iter().zip(tokens) {
        token.set_phase(&Phase::Up { sessions: *sessions });
    }
    (router, started)
}

fn lose_connection(token: &Token) {
    token.set_phase(&Phase::Connecting);
    token.set_phase(&Phase::Up { sessions: 1 });
}

/// What a worker gets next.
fn served(token: &Token) -> Box<Request> {
    match token.lanes.pop(LONG, &AtomicBool::new(false), &Slot::default(), || {}) {
        Next::Serve(request, ..) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_keep_their_order_and_number_when_a_connection_is_lost() {
    // The other of two is out of use, so all come back to where they were.
    for others in [0, 1] {
        let (router, tokens) = router(&[(4, 1), (4, 1)][..=others]);
        for other in &tokens[1..] {
            other.set_phase(&Phase::Down(PoolError::Closed));
        }
        let first: Vec<_> = (0..4)
            .map(|_| {
                let (request, _) = counted(Lane::Interactive, LONG);
                let submitted = request.submitted;
                router.submit(request);
                submitted
            })
            .collect();
        let begun = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    begun.fetch_add(1, Ordering::Relaxed);
                    router.submit(counted(Lane::Interactive, LONG).0);
                });
            }
            while begun.load(Ordering::Relaxed) < 20 {
                thread::sleep(Duration::from_millis(1));
            }
            for _ in 0..10 {
                lose_connection(&tokens[0]);
                // Time for those who wait for room to take it, if there were any.
                thread::sleep(Duration::from_millis(10));
                assert_eq!(tokens[0].waiting_in(Lane::Interactive), 4);
            }
            let order: Vec<_> = (0..4).map(|_| served(&tokens[0]).submitted).collect();
            for _ in 0..20 {
                served(&tokens[0]);
            }
            assert_eq!(order, first, "with {others} others");
        });
    }
}

fn waiting(tokens: &[Arc<Token>]) -> Vec<usize> {
    tokens.iter().map(|token| token.waiting_in(Lane::Interactive)).collect()
}

fn put(token: &Token, lane: Lane, count: usize) {
    for _ in 0..count {
        token.lanes.push(counted(lane, LONG).0, |_| false).unwrap();
    }
}

#[test]
fn an_interactive_request_does_not_avoid_a_token_for_its_bulk_backlog() {
    let (router, tokens) = router(&[(10_000, 4), (10_000, 4)]);
    // A backlog for a key that only the first has.
    put(&tokens[0], Lane::Bulk, 1000);
    for _ in 0..500 {
        router.submit(counted(Lane::Interactive, LONG).0);
    }
    assert_eq!(waiting(&tokens), [250, 250]);
    // Bulk requests do: they are served behind it.
    router.submit(counted(Lane::Bulk, LONG).0);
    assert_eq!(tokens[1].waiting_in(Lane::Bulk), 1);
}

#[test]
fn a_full_lane_is_not_waited_for_while_another_token_has_room() {
    let (router, tokens) = router(&[(64, 1), (8, 16)]);
    put(&tokens[0], Lane::Interactive, 1);
    put(&tokens[1], Lane::Interactive, 8);
    // The second is less loaded by far, but has no room.
    router.submit(counted(Lane::Interactive, Duration::from_secs(20)).0);
    assert_eq!(waiting(&tokens), [2, 8]);
}

#[test]
fn who_waits_for_room_goes_to_another_token_that_has_some() {
    let (router, tokens) = router(&[(2, 1), (2, 1)]);
    put(&tokens[0], Lane::Interactive, 2);
    put(&tokens[1], Lane::Interactive, 2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| router.submit(counted(Lane::Interactive, LONG).0));
        // For longer than it takes to reconsider.
        thread::sleep(3 * RECONSIDER);
        assert!(!waits.is_finished());
        served(&tokens[1]);
        waits.join().unwrap();
    });
    assert_eq!(waiting(&tokens), [2, 2]);
}

#[test]
fn who_must_not_wait_is_taken_in_where_there_is_room_and_else_gets_no_answer() {
    let (router, tokens) = router(&[(2, 1)]);
    let at_once = || {
        let (request, answers) = counted(Lane::Interactive, LONG);
        (router.submit_at_once(request).map_err(drop), answers)
    };
    assert!(at_once().0.is_ok() && at_once().0.is_ok());
    let begun = Instant::now();
    assert!(at_once().0.is_err(), "the queue is full");
    assert!(begun.elapsed() < RECONSIDER, "it waited for room");
    drop(served(&tokens[0]));
    let (taken, answers) = at_once();
    assert!(taken.is_ok());
    drop((served(&tokens[0]), served(&tokens[0])));
    assert_eq!(answers.load(Ordering::Relaxed), 1);
    tokens[0].set_phase(&Phase::Down(PoolError::Closed));
    assert!(at_once().0.is_err(), "no token works");
}

/// A request, and what becomes of it.
fn told() -> (Box<Request>, Receiver<Outcome>) {
    let (tell, told) = mpsc::channel();
    let key = Arc::new(KeyName::of_public_key_info(b"no key"));
    let input = SignatureInput::Digest(Digest::of(Sha256, b""));
    let operation = Operation::Sign { input, algorithm: SignatureAlgorithm::Ecdsa(Sha256) };
    let reply = Box::new(move |outcome| tell.send(outcome).unwrap());
    (Request::with_continuation(key, operation, Lane::Interactive, LONG, reply), told)
}

#[test]
fn what_one_token_lacks_is_no_answer_for_another_that_was_never_asked() {
    let certificate = || "nobody's".to_owned();
    let lacks = || KeyError::NoSuchKey { token: "first".into(), certificate: certificate() };
    let cannot = || KeyError::Unsupported { certificate: certificate(), operation: "this".into() };
    let fails = || KeyError::Token { function: "C_Sign".into(), code: "CKR".into(), token: "first".into() };
    for (error, counts) in [(lacks(), false), (cannot(), false), (fails(), true)] {
        let (router, tokens) = router(&[(4, 1), (4, 1)]);
        let (request, outcome) = told();
        router.submit(request);
        router.take_back(served(&tokens[0]), 0, Failed::Refused(error.clone()));
        assert_eq!(waiting(&tokens), [0, 1]);
        router.begin_no_more();
        let outcome = outcome.try_recv().unwrap().unwrap_err();
        let is_closed = matches!(&outcome, KeyError::Unavailable { .. });
        assert_eq!(is_closed, !counts, "{error}: {outcome}");
    }
    // What all have said counts, also then.
    let (router, tokens) = router(&[(4, 1), (4, 1)]);
    let (request, outcome) = told();
    router.submit(request);
    router.take_back(served(&tokens[0]), 0, Failed::Refused(lacks()));
    let second = served(&tokens[1]);
    router.begin_no_more();
    router.take_back(second, 1, Failed::Refused(lacks()));
    assert!(matches!(outcome.try_recv().unwrap(), Err(KeyError::NoSuchKey { .. })));
}
