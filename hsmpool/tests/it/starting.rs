//! Starting: what is wrong is said clearly, and nothing waits for a token that does not answer.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use hsmpool::{PinSource, PoolError, TokenSettings, TokenState};
use smime::{Fault, key::KeyError};

use crate::support::{
    Through, assert_finalised, assert_signs, eventually, isolated, pool_of, sign, start, state, until_closed,
};

const LIMIT: Duration = Duration::from_secs(20);

fn error_of(settings: TokenSettings) -> PoolError {
    let pool = start(&[settings]).unwrap();
    let error = pool.ready(LIMIT).unwrap_err();
    assert_eq!(state(&pool), TokenState::Down { reason: error.to_string() });
    error
}

#[test]
fn what_is_wrong_is_said_with_place_and_remedy() {
    isolated(Through::Nothing, |token| {
        token.init_token("other", "4711");
        let good = token.settings();
        let check = |error: PoolError, parts: &[&str]| {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            assert_eq!(error.fault(), Fault::Operator, "{text}");
        };
        let settings = TokenSettings { module: "/nonexistent/libhsm.so".into(), ..good.clone() };
        check(error_of(settings), &["/nonexistent/libhsm.so", "`module`"]);
        let settings = TokenSettings { label: "mial".into(), ..good.clone() };
        check(error_of(settings), &["\"mial\"", "\"mail\"", "\"other\"", "`label`"]);
        let settings = TokenSettings { pin: PinSource::File("/nonexistent/pin".into()), ..good.clone() };
        check(error_of(settings), &["/nonexistent/pin", "No such file"]);
        let empty = token.directory.join("empty");
        crate::support::write_pin(&empty, "\n");
        let settings = TokenSettings { pin: PinSource::File(empty), ..good.clone() };
        check(error_of(settings), &["empty"]);
        fs::write(token.pin_file(), "999999").unwrap();
        check(error_of(good), &["\"mail\"", "rejected the PIN", "pin", "tried once"]);
    });
}

#[test]
fn a_module_that_does_not_initialise_is_named() {
    isolated(Through::Nothing, |token| {
        token.spoil();
        let error = error_of(token.settings());
        let text = error.to_string();
        let named = format!("{} does not start: ", token.module.display());
        assert!(text.contains(&named), "{text}");
    });
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    isolated(Through::Nothing, |token| {
        let good = token.settings();
        let twice = start(&[good.clone(), good.clone()]).unwrap_err();
        assert!(matches!(twice, PoolError::DuplicateToken { .. }), "{twice:?}");
        for settings in [
            TokenSettings { sessions: Some(0), ..good.clone() },
            TokenSettings { queue: 0, ..good.clone() },
            TokenSettings { deadline: Duration::ZERO, ..good },
        ] {
            let error = start(&[settings]).unwrap_err();
            assert!(matches!(error, PoolError::Setting { .. }), "{error:?}");
        }
    });
}

#[test]
fn nobody_waits_for_a_module_that_hangs_at_start() {
    // Nobody reads the FIFO, so loading or initialising the module does not come back.
    isolated(Through::Fifo, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let settings = TokenSettings { deadline: Duration::from_millis(300), ..token.settings() };
        let begun = Instant::now();
        let pool = start(&[settings]).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let error = pool.ready(Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, PoolError::NotReady { .. }), "{error:?}");
        assert_eq!(error.fault(), Fault::Transient);
        assert_eq!(state(&pool), TokenState::Connecting);
        let error = sign(&pool.key(&certificate)).unwrap_err();
        assert!(matches!(error, KeyError::Deadline { .. }), "{error:?}");
        let begun = Instant::now();
        drop(pool);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_token_that_appears_later_is_used() {
    isolated(Through::Nothing, |token| {
        let Some(folder) = token.removable() else { return };
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let away = token.directory.join("away");
        fs::rename(&folder, &away).unwrap();
        fs::create_dir(&folder).unwrap();
        let pool = start(&[token.settings()]).unwrap();
        let error = pool.ready(LIMIT).unwrap_err();
        assert!(error.to_string().contains("has no token \"mail\""), "{error}");
        let key = pool.key(&certificate);
        let begun = Instant::now();
        let error = sign(&key).unwrap_err();
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "a token that is down answers at once");
        fs::remove_dir(&folder).unwrap();
        fs::rename(away, &folder).unwrap();
        eventually("the token is up", LIMIT, || state(&pool) == TokenState::Up);
        assert_signs(&key);
        pool.ready(Duration::ZERO).unwrap();
    });
}

#[test]
fn tokens_of_one_module_share_its_initialisation() {
    isolated(Through::Spy, |token| {
        if token.mixes_up_tokens() {
            return;
        }
        token.init_token("second", crate::support::PIN);
        let first = token.import_key("mail", "rsa:2048", "01");
        let second = token.import_key("second", "rsa:2048", "02");
        let label = "second".to_owned();
        let pool = start(&[token.settings(), TokenSettings { label, ..token.settings() }]).unwrap();
        pool.ready(LIMIT).unwrap();
        assert_signs(&pool.key(&first));
        assert_signs(&pool.key(&second));
        assert_eq!(token.count("C_Initialize"), 1);
        assert_eq!(token.count("C_Login"), 2);
        pool.close();
        assert_finalised(token);
        assert_eq!(token.count("C_OpenSession"), token.count("C_CloseSession"));
        let error = sign(&pool.key(&first)).unwrap_err();
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        pool.close();
    });
}

#[test]
fn one_session_serves_many_callers() {
    isolated(Through::Spy, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&TokenSettings { sessions: Some(1), queue: 4, ..token.settings() });
        let key = pool.key(&certificate);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| (0..5).for_each(|_| assert_signs(&key)));
            }
        });
        assert_eq!(token.count("C_OpenSession"), 1);
        assert_eq!(token.count("C_SignInit"), 60);
        assert_eq!(pool.status().remove(0).sessions, 1);
    });
}

#[test]
fn the_pool_lives_as_long_as_a_key_and_ends_with_it() {
    isolated(Through::Spy, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&token.settings());
        let key = pool.key(&certificate);
        drop(pool);
        assert_signs(&key);
        assert_eq!(token.count("C_Finalize"), 0);
        drop(key);
        assert_finalised(token);
        // And it can be started again.
        assert_signs(&pool_of(&token.settings()).key(&certificate));
    });
}

#[test]
fn a_pin_file_that_everybody_may_read_is_refused() {
    isolated(Through::Nothing, |token| {
        fs::set_permissions(token.pin_file(), fs::Permissions::from_mode(0o640)).unwrap();
        drop(pool_of(&token.settings()));
        until_closed();
        fs::set_permissions(token.pin_file(), fs::Permissions::from_mode(0o644)).unwrap();
        let pool = start(&[token.settings()]).unwrap();
        let error = pool.ready(LIMIT).unwrap_err();
        assert!(error.to_string().contains("chmod o="), "{error}");
    });
}

#[test]
fn what_a_token_did_can_be_read() {
    isolated(Through::Nothing, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&token.settings());
        let key = pool.key(&certificate);
        (0..3).for_each(|_| assert_signs(&key));
        let metrics = pool.metrics();
        let [mail] = metrics.as_slice() else { panic!("{metrics:?}") };
        assert!(mail.up && mail.label == "mail", "{mail:?}");
        assert_eq!((mail.operations["sign"], mail.operations["decrypt"]), (3, 0), "{mail:?}");
        assert_eq!((mail.sessions, mail.wanted), (2, 2), "{mail:?}");
        assert_eq!(mail.interactive.service.count(), 3, "{mail:?}");
        assert!(mail.errors.is_empty(), "{mail:?}");
        let page = hsmpool::prometheus(&metrics);
        let line = "hsmime_token_operations_total{token=\"mail\",operation=\"sign\"} 3\n";
        assert!(page.contains(line), "{page}");
    });
}
