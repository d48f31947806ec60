//! Sessions, modules and tokens that go away, and come back.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use hsmpool::{TokenSettings, TokenState};
use smime::{Fault, key::KeyError};

use crate::support::{
    Log, Through, assert_signs, eventually, finalise, isolated, pool_of, reset, sign, start, state,
};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_lone_session_is_opened_again_by_its_worker() {
    isolated(Through::Spy, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&TokenSettings { sessions: Some(1), ..token.settings() });
        let key = pool.key(&certificate);
        assert_signs(&key);
        for round in 1..=3 {
            reset(&token.module);
            assert_signs(&key);
            assert_signs(&key);
            assert_eq!(token.count("C_Login"), 1 + round);
            assert_eq!(token.count("C_Initialize"), 1 + round, "only by the test itself");
        }
        assert_eq!(state(&pool), TokenState::Up);
    });
}

#[test]
fn when_all_sessions_are_lost_callers_wait_for_new_ones() {
    isolated(Through::Nothing, |token| {
        let log = Log::start();
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let other = token.import_key("mail", "rsa:2048", "02");
        let pool = pool_of(&TokenSettings { sessions: Some(4), ..token.settings() });
        let key = pool.key(&certificate);
        for lose in [reset, finalise] {
            lose(&token.module);
            // Handles have changed: a signature by another key than the caller's would show here.
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| assert_signs(&key));
                    scope.spawn(|| assert_signs(&pool.key(&other)));
                }
            });
            // Made at once only every few seconds.
            thread::sleep(Duration::from_millis(5200));
        }
        assert_eq!(log.count(&["WARN", "connection lost"]), 2, "{}", log.text());
        assert_eq!(log.count(&["ERROR hsmpool"]), 0, "{}", log.text());
    });
}

#[test]
fn a_connection_that_breaks_again_and_again_fails_nobody_whom_the_next_one_serves() {
    isolated(Through::Spy, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&token.settings());
        let key = pool.key(&certificate);
        for _ in 0..20 {
            finalise(&token.module);
            // Whoever asks now meets the broken connection.
            assert_signs(&key);
        }
        eventually("the token is up", LIMIT, || state(&pool) == TokenState::Up);
    });
}

#[test]
fn a_token_that_goes_away_and_comes_back_is_used_again() {
    isolated(Through::Spy, |token| {
        let Some(folder) = token.removable() else { return };
        let log = Log::start();
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&token.settings());
        let key = pool.key(&certificate);
        assert_signs(&key);
        let away = token.directory.join("away");
        for outage in 1..=2 {
            fs::rename(&folder, &away).unwrap();
            fs::create_dir(&folder).unwrap();
            eventually("the loss is noticed", LIMIT, || match sign(&key) {
                Ok(_) => false,
                Err(error) => {
                    assert_eq!(error.fault(), Fault::Transient, "{error:?}");
                    true
                }
            });
            // While it is away, everybody is answered at once, and the token is not asked all the time.
            let calls = token.count("C_Initialize");
            let end = Instant::now() + Duration::from_secs(3);
            let mut refused = 0;
            while Instant::now() < end {
                let begun = Instant::now();
                let error = sign(&key).unwrap_err();
                assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
                assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
                refused += 1;
                thread::sleep(Duration::from_millis(10));
            }
            assert!(refused > 50, "{refused}");
            let tries = token.count("C_Initialize") - calls;
            assert!(tries <= 6, "{tries} tries in 3 seconds");

            fs::remove_dir(&folder).unwrap();
            fs::rename(&away, &folder).unwrap();
            eventually("signatures again", LIMIT, || sign(&key).is_ok());
            assert_signs(&key);
            assert_eq!(log.count(&["ERROR"]), outage, "{}", log.text());
            assert_eq!(log.count(&["INFO", "token is back"]), outage, "{}", log.text());
        }
    });
}

#[test]
fn callers_in_the_middle_of_an_outage_all_get_an_answer() {
    isolated(Through::Nothing, |token| {
        let Some(folder) = token.removable() else { return };
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let settings = TokenSettings {
            sessions: Some(4),
            queue: 4,
            deadline: Duration::from_secs(3),
            ..token.settings()
        };
        let pool = pool_of(&settings);
        let key = pool.key(&certificate);
        let away = token.directory.join("away");
        let end = Instant::now() + Duration::from_secs(6);
        let (signed, failed) = thread::scope(|scope| {
            let callers: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut signed, mut failed) = (0, 0);
                        while Instant::now() < end {
                            let begun = Instant::now();
                            match sign(&key) {
                                Ok(_) => signed += 1,
                                Err(error) => {
                                    assert_eq!(error.fault(), Fault::Transient, "{error:?}");
                                    failed += 1;
                                    thread::sleep(Duration::from_millis(5));
                                }
                            }
                            assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
                        }
                        (signed, failed)
                    })
                })
                .collect();
            for _ in 0..2 {
                thread::sleep(Duration::from_secs(1));
                fs::rename(&folder, &away).unwrap();
                thread::sleep(Duration::from_millis(500));
                fs::rename(&away, &folder).unwrap();
            }
            let sums = callers.into_iter().map(|caller| caller.join().unwrap());
            sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        });
        assert!(signed > 100 && failed > 0, "{signed} signed, {failed} failed");
        eventually("signatures again", LIMIT, || sign(&key).is_ok());
        assert_signs(&key);
    });
}

#[test]
fn the_same_key_on_another_token_takes_over() {
    isolated(Through::Nothing, |token| {
        if token.mixes_up_tokens() {
            return;
        }
        token.init_token("second", "4711");
        let certificate = token.import_key("mail", "rsa:2048", "01");
        token.import_file("second", "4711", "01", "01");
        let second_pin = token.directory.join("second-pin");
        crate::support::write_pin(&second_pin, "4711");
        fs::write(token.pin_file(), "wrong").unwrap();
        let second = TokenSettings {
            label: "second".into(),
            pin: hsmpool::PinSource::File(second_pin),
            ..token.settings()
        };
        let pool = start(&[token.settings(), second]).unwrap();
        pool.ready(LIMIT).unwrap_err();
        eventually("one token is up", LIMIT, || pool.status().remove(1).state == TokenState::Up);
        assert_signs(&pool.key(&certificate));
        // Of a key that none of those in reach has, the one out of reach may know.
        let unknown = token.import_key("mail", "rsa:2048", "02");
        let error = sign(&pool.key(&unknown)).unwrap_err();
        assert!(matches!(&error, KeyError::Unavailable { token, .. } if token == "mail"), "{error:?}");
    });
}
