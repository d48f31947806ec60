//! Calls that do not return: callers have their deadline, queues their length, the process its end.

use std::{
    thread,
    time::{Duration, Instant},
};

use hsmpool::{TokenKey, TokenSettings, TokenState};
use smime::{Fault, key::KeyError};

use crate::support::{Tap, Through, assert_signs, eventually, isolated, pool_of, sign, state};

const DEADLINE: Duration = Duration::from_secs(1);

/// Signs until a call hangs; the caller of that one has left then. Gives how many were answered.
fn until_it_hangs(tap: &Tap, key: &TokenKey) -> usize {
    tap.close();
    let end = Instant::now() + Duration::from_secs(20);
    let mut answered = 0;
    while Instant::now() < end {
        match sign(key) {
            Ok(_) => answered += 1,
            Err(KeyError::Deadline { .. }) => return answered,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the module never hung");
}

#[test]
fn callers_of_a_hanging_token_get_their_answer_within_the_deadline() {
    isolated(Through::Fifo, |token| {
        let tap = Tap::new(token);
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool =
            pool_of(&TokenSettings { sessions: Some(1), queue: 2, deadline: DEADLINE, ..token.settings() });
        let key = pool.key(&certificate);
        until_it_hangs(&tap, &key);
        // Two find a place in the queue, one does not.
        let begun = Instant::now();
        let errors: Vec<KeyError> = thread::scope(|scope| {
            let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| sign(&key).unwrap_err())).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        assert!(begun.elapsed() < 2 * DEADLINE, "{:?}", begun.elapsed());
        let full = errors.iter().filter(|error| matches!(error, KeyError::QueueFull { waiting: 2, .. }));
        // Through a socket the caller's clock may be faster than the answer that the queue is full.
        assert!(full.count() == 1 || crate::SERVED, "{errors:?}");
        assert!(errors.iter().all(|error| error.fault() == Fault::Transient), "{errors:?}");

        // Then all calls have been hanging for longer than anybody waits: that is said at once.
        eventually(
            "the token is down",
            Duration::from_secs(5),
            || matches!(state(&pool), TokenState::Down { reason } if reason.contains("hanging")),
        );
        let begun = Instant::now();
        let error = sign(&key).unwrap_err();
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());

        // It comes back without being asked.
        tap.open();
        eventually("the token is up", Duration::from_secs(5), || state(&pool) == TokenState::Up);
        assert_signs(&key);
    });
}

#[test]
fn a_request_whose_caller_has_left_never_reaches_the_token() {
    isolated(Through::Fifo, |token| {
        let tap = Tap::new(token);
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool =
            pool_of(&TokenSettings { sessions: Some(1), queue: 8, deadline: DEADLINE, ..token.settings() });
        let key = pool.key(&certificate);
        let answered = until_it_hangs(&tap, &key);
        let left = thread::scope(|scope| {
            let callers: Vec<_> = (0..6).map(|_| scope.spawn(|| sign(&key).unwrap_err())).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(left.len(), 6);
        // While the call still hangs, they give their room back.
        eventually("the queue is empty", Duration::from_secs(5), || pool.status().remove(0).waiting == 0);
        tap.open();
        eventually("signatures again", Duration::from_secs(5), || sign(&key).is_ok());
        // All that was signed was signed for somebody who got it, but for the one that hung, and one that the
        // session in its place may have begun in time.
        eventually("the spy has written all", Duration::from_secs(5), || {
            token.count("C_SignInit") >= answered + 2
        });
        thread::sleep(Duration::from_millis(300));
        let begun = token.count("C_SignInit");
        assert!(begun <= answered + 3, "{begun} begun, {answered} answered");
    });
}

#[test]
fn a_hanging_worker_does_not_keep_the_process_from_ending() {
    isolated(Through::Fifo, |token| {
        let tap = Tap::new(token);
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&TokenSettings { sessions: Some(2), deadline: DEADLINE, ..token.settings() });
        let key = pool.key(&certificate);
        until_it_hangs(&tap, &key);
        let begun = Instant::now();
        drop((key, pool));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
        // When the call comes back after all, the worker cleans up behind itself.
        tap.open();
        eventually("the module is finalised", Duration::from_secs(5), || token.count("C_Finalize") == 1);
    });
}
