//! What the fault-injecting module promises, seen through PKCS#11 itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Function as Called, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, SessionState, UserType},
    slot::{Limit, Slot},
    types::AuthPin,
};
use testmodule::{Action, Function, ReturnValue, Rule};

use crate::support::{Lab, PIN, eventually, in_child, isolated, tell};

struct Token {
    pkcs11: Pkcs11,
    slot: Slot,
}

fn initialize(pkcs11: &Pkcs11) -> Result<(), Error> {
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
}

fn token(lab: &Lab) -> Token {
    let pkcs11 = Pkcs11::new(&lab.module).unwrap();
    initialize(&pkcs11).unwrap();
    let slot = find(&pkcs11, "mail").unwrap();
    Token { pkcs11, slot }
}

fn find(pkcs11: &Pkcs11, label: &str) -> Option<Slot> {
    let slots = pkcs11.get_slots_with_token().unwrap();
    slots.into_iter().find(|slot| pkcs11.get_token_info(*slot).unwrap().label() == label)
}

impl Token {
    fn open(&self) -> Result<Session, Error> {
        self.pkcs11.open_ro_session_no_drop(self.slot)
    }

    fn log_in(&self) -> (Session, ObjectHandle) {
        let session = self.open().unwrap();
        session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
        let key = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap().remove(0);
        (session, key)
    }
}

fn sign(session: &Session, key: ObjectHandle) -> Result<Vec<u8>, RvError> {
    session.sign(&Mechanism::Ecdsa, key, &[7; 32]).map_err(code)
}

fn code(error: Error) -> RvError {
    match error {
        Error::Pkcs11(value, _) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_forwarded_and_counted_by_function_and_value() {
    isolated(|lab| {
        let token = token(&lab);
        let (session, key) = token.log_in();
        let again = session.login(UserType::User, Some(&AuthPin::new("86753091".into()))).map_err(code);
        assert_eq!(again, Err(RvError::UserAlreadyLoggedIn));
        let signature = sign(&session, key).unwrap();
        session.verify(&Mechanism::Ecdsa, key, &[7; 32], &signature).unwrap_err();
        let counters = lab.counters();
        assert_eq!(counters.forwarded(Function::Login), 2);
        assert_eq!(counters.returned_with(Function::Login, ReturnValue::CKR_OK), 1);
        assert_eq!(counters.returned_with(Function::Login, ReturnValue::CKR_USER_ALREADY_LOGGED_IN), 1);
        assert_eq!(counters.returned_with(Function::Initialize, ReturnValue::CKR_OK), 1);
        // The first asks for the size only.
        assert_eq!(counters.returned_with(Function::Sign, ReturnValue::CKR_OK), 2);
        assert_eq!(counters.answered(Function::Sign), 1);
        assert_eq!(counters.begun(Function::Decrypt), 0);
    });
}

#[test]
fn a_rule_fails_the_calls_it_names_and_no_others() {
    isolated(|mut lab| {
        let token = token(&lab);
        let (session, key) = token.log_in();
        let rule = Rule::fail(ReturnValue::CKR_DEVICE_ERROR).on([Function::Sign]);
        let id = lab.control.add(rule.clone().next(2)).unwrap();
        // An operation that failed has ended, so that the next can begin.
        assert_eq!(sign(&session, key), Err(RvError::DeviceError));
        assert_eq!(sign(&session, key), Err(RvError::DeviceError));
        sign(&session, key).unwrap();
        assert_eq!(lab.counters().applied(id), 2);
        assert_eq!(lab.counters().returned_with(Function::Sign, ReturnValue::CKR_DEVICE_ERROR), 2);

        lab.control.clear().unwrap();
        lab.control.add(rule.clone().from(3)).unwrap();
        let results: Vec<bool> = (0..4).map(|_| sign(&session, key).is_ok()).collect();
        assert_eq!(results, [true, true, false, false]);

        lab.control.clear().unwrap();
        lab.control.add(rule.clone().chance(0.25)).unwrap();
        let failed = (0..400).filter(|_| sign(&session, key).is_err()).count();
        assert!((60..140).contains(&failed), "{failed} of 400");

        lab.control.clear().unwrap();
        lab.control.add(rule.token("other")).unwrap();
        sign(&session, key).unwrap();
    });
}

#[test]
fn delayed_sessions_sleep_side_by_side() {
    isolated(|mut lab| {
        let token = token(&lab);
        let (session, key) = token.log_in();
        let others: Vec<Session> = (0..7).map(|_| token.open().unwrap()).collect();
        let delay = Duration::from_millis(200);
        lab.control.add(Rule::delay(delay).on([Function::Sign])).unwrap();
        let begun = Instant::now();
        thread::scope(|scope| {
            for session in others.into_iter().chain([session]) {
                scope.spawn(move || sign(&session, key).unwrap());
            }
        });
        let took = begun.elapsed();
        assert!(took >= delay && took < 4 * delay, "{took:?}");
    });
}

#[test]
fn a_hanging_call_goes_on_when_its_rule_goes() {
    isolated(|mut lab| {
        let token = token(&lab);
        let (session, key) = token.log_in();
        let other = token.open().unwrap();
        let id = lab.control.add(Rule::hang().on([Function::Sign]).next(1)).unwrap();
        thread::scope(|scope| {
            let hanging = scope.spawn(move || sign(&session, key));
            eventually("the call hangs", Duration::from_secs(5), || lab.counters().applied(id) == 1);
            sign(&other, key).unwrap();
            thread::sleep(Duration::from_millis(100));
            assert_eq!(lab.counters().running(Function::Sign), 1);
            assert!(!hanging.is_finished());
            lab.control.remove(id).unwrap();
            hanging.join().unwrap().unwrap();
        });
        assert_eq!(lab.counters().running(Function::Sign), 0);
    });
}

#[test]
fn lost_sessions_stay_lost_and_take_the_login_with_them() {
    isolated(|mut lab| {
        let token = token(&lab);
        let (session, key) = token.log_in();
        let other = token.open().unwrap();
        lab.control.add(Rule::new(Action::LoseSession).on([Function::SignInit]).next(1)).unwrap();
        assert_eq!(sign(&session, key), Err(RvError::SessionHandleInvalid));
        assert_eq!(sign(&session, key), Err(RvError::SessionHandleInvalid));
        sign(&other, key).unwrap();

        lab.control.add(Rule::new(Action::LoseSessions).on([Function::SignInit]).next(1)).unwrap();
        assert_eq!(sign(&other, key), Err(RvError::SessionHandleInvalid));
        assert_eq!(other.get_session_info().map(|_| ()).map_err(code), Err(RvError::SessionHandleInvalid));
        let fresh = token.open().unwrap();
        let state = fresh.get_session_info().unwrap().session_state();
        assert!(matches!(state, SessionState::RoPublic), "{state:?}");
    });
}

#[test]
fn a_removed_token_is_not_seen_and_its_sessions_are_dead_when_it_is_back() {
    isolated(|mut lab| {
        lab.add_token("second");
        let token = token(&lab);
        let (session, key) = token.log_in();
        let second = find(&token.pkcs11, "second").unwrap();
        let other = token.pkcs11.open_ro_session_no_drop(second).unwrap();
        let id = lab.control.add(Rule::new(Action::Absent).token("mail")).unwrap();
        assert_eq!(sign(&session, key), Err(RvError::DeviceRemoved));
        assert_eq!(find(&token.pkcs11, "mail"), None);
        assert_eq!(token.open().map(|_| ()).map_err(code), Err(RvError::TokenNotPresent));
        assert!(!token.pkcs11.get_slot_info(token.slot).unwrap().token_present());
        assert_eq!(find(&token.pkcs11, "second"), Some(second));
        other.get_session_info().unwrap();

        lab.control.remove(id).unwrap();
        assert_eq!(find(&token.pkcs11, "mail"), Some(token.slot));
        assert_eq!(sign(&session, key), Err(RvError::SessionHandleInvalid));
        let (session, key) = token.log_in();
        sign(&session, key).unwrap();
    });
}

#[test]
fn no_more_sessions_open_than_the_limit() {
    isolated(|mut lab| {
        let token = token(&lab);
        let first = token.open().unwrap();
        lab.control.add(Rule::new(Action::Limit(2))).unwrap();
        let _second = token.open().unwrap();
        assert_eq!(token.open().map(|_| ()).map_err(code), Err(RvError::SessionCount));
        let info = token.pkcs11.get_token_info(token.slot).unwrap();
        assert!(matches!(info.max_session_count(), Limit::Max(2)));
        first.close().unwrap();
        token.open().unwrap();
    });
}

#[test]
fn a_corrupted_signature_is_well_formed_and_wrong() {
    isolated(|mut lab| {
        let token = token(&lab);
        let (session, key) = token.log_in();
        lab.control.add(Rule::new(Action::Corrupt)).unwrap();
        let signature = sign(&session, key).unwrap();
        assert_eq!(signature.len(), 64);
        let public = session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY)]).unwrap().remove(0);
        let verified = session.verify(&Mechanism::Ecdsa, public, &[7; 32], &signature);
        assert_eq!(verified.map_err(code), Err(RvError::SignatureInvalid));
        lab.control.clear().unwrap();
        let signature = sign(&session, key).unwrap();
        session.verify(&Mechanism::Ecdsa, public, &[7; 32], &signature).unwrap();
    });
}

#[test]
fn a_second_initialisation_fails_or_crashes() {
    let ended = in_child(|mut lab| {
        let fails = Rule::fail(ReturnValue::CKR_GENERAL_ERROR).on([Function::Initialize]).from(2);
        let id = lab.control.add(fails).unwrap();
        let token = token(&lab);
        token.pkcs11.clone().finalize().unwrap();
        assert!(matches!(
            initialize(&token.pkcs11),
            Err(Error::Pkcs11(RvError::GeneralError, Called::Initialize))
        ));
        lab.control.remove(id).unwrap();
        initialize(&token.pkcs11).unwrap();
        token.pkcs11.clone().finalize().unwrap();
        tell("so far so good");
        lab.control.add(Rule::new(Action::Abort).on([Function::Initialize])).unwrap();
        let _ = initialize(&token.pkcs11);
    });
    if let Some(ended) = ended {
        assert!(!ended.success && ended.text.contains("so far so good"), "{}", ended.text);
        assert_eq!(ended.signal, Some(6), "SIGABRT");
    }
}
