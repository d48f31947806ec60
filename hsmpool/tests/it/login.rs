//! A PIN that was rejected is not tried again. The witness is the spy, which counts `C_Login`.

use std::{fs, thread, time::Duration};

use hsmpool::{TokenSettings, TokenState};
use smime::key::KeyError;

use crate::support::{
    Log, PIN, Through, assert_signs, eventually, isolated, pool_of, reset, sign, start, state,
};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_wrong_pin_is_tried_once_until_the_file_changes() {
    isolated(Through::Spy, |token| {
        let log = Log::start();
        let certificate = token.import_key("mail", "rsa:2048", "01");
        fs::write(token.pin_file(), "86753091").unwrap();
        let pool = start(&[TokenSettings { sessions: Some(8), ..token.settings() }]).unwrap();
        let error = pool.ready(LIMIT).unwrap_err();
        assert!(error.to_string().contains("rejected the PIN"), "{error}");
        let key = pool.key(&certificate);
        // Long enough for several rounds of back-off and of looking at the file.
        for _ in 0..8 {
            thread::sleep(Duration::from_millis(500));
            let error = sign(&key).unwrap_err();
            assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        }
        assert_eq!(token.count("C_Login"), 1);
        // Written again, with the newline that an editor adds, it is still the same PIN.
        fs::write(token.pin_file(), "86753091\n").unwrap();
        thread::sleep(Duration::from_millis(3500));
        assert_eq!(token.count("C_Login"), 1);
        // An empty file, as in the middle of being written, is no PIN.
        fs::write(token.pin_file(), "").unwrap();
        thread::sleep(Duration::from_millis(3500));
        assert_eq!(token.count("C_Login"), 1);
        // Content that is still changing is not tried either.
        for part in 0..12 {
            fs::write(token.pin_file(), format!("86753091{part}")).unwrap();
            thread::sleep(Duration::from_millis(300));
        }
        assert_eq!(token.count("C_Login"), 1);
        fs::write(token.pin_file(), format!("{PIN}\n")).unwrap();
        eventually("the token is up", LIMIT, || state(&pool) == TokenState::Up);
        assert_eq!(token.count("C_Login"), 2);
        assert_signs(&key);

        assert_eq!(log.count(&["ERROR", "rejected the PIN"]), 1, "{}", log.text());
        assert_eq!(log.count(&["INFO", "token is back"]), 1, "{}", log.text());
        let told =
            log.text() + &error.to_string() + &format!("{error:?} {pool:?} {key:?} {:?}", pool.status());
        assert!(!told.contains("86753091") && !told.contains(&format!("\"{PIN}\"")), "{told}");
    });
}

#[test]
fn many_workers_that_lost_their_login_share_one_try() {
    isolated(Through::Spy, |token| {
        let certificate = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&TokenSettings { sessions: Some(4), ..token.settings() });
        let key = pool.key(&certificate);
        assert_signs(&key);
        assert_eq!(token.count("C_Login"), 1);
        reset(&token.module);
        let sign_at_once = || {
            thread::scope(|scope| {
                let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| sign(&key))).collect();
                callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
            })
        };
        for result in sign_at_once() {
            result.unwrap();
        }
        assert_eq!(token.count("C_Login"), 2);

        // And when the PIN does not fit any more, it is still one try for all.
        fs::write(token.pin_file(), "86753091").unwrap();
        reset(&token.module);
        for result in sign_at_once() {
            let error = result.unwrap_err();
            assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        }
        thread::sleep(Duration::from_secs(3));
        assert_eq!(token.count("C_Login"), 3);
        let TokenState::Down { reason } = state(&pool) else { panic!("{:?}", pool.status()) };
        assert!(reason.contains("rejected the PIN"), "{reason}");
        fs::write(token.pin_file(), PIN).unwrap();
        eventually("the token is up", LIMIT, || state(&pool) == TokenState::Up);
        assert_signs(&key);
    });
}
