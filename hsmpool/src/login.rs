//! Logging in, once per token and never twice with a PIN that was rejected.
//!
//! PKCS #11 counts wrong PINs, and after a few (often three) the token is locked. All logins of a token,
//! the supervisor's and the workers', therefore pass one gate that remembers what was rejected. They pass one after
//! the other, but one that hangs keeps no other back for ever. A PIN that was right before is not held for wrong
//! because the token fails.

mod record;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use self::record::Rejection;
pub(crate) use self::record::{PinRecord, Witness};
use crate::{
    PinSource, PoolError, TokenSettings,
    call::CallError,
    modules::{self, TokenInfo},
    pin::{Pin, PinHash, PinSalt},
    session::OpenSession,
    supervisor::Pauses,
};
use cryptoki::{error::RvError, session::SessionState, session::UserType};

/// After two logins in a row that failed for no clear reason though the PIN was right before: the first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest. If the PIN has been changed, and the token says nothing of that, each of them may cost a try.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A PIN that is another than before is read twice, so far apart: the file may be about to be written.
const SETTLING: Duration = Duration::from_millis(250);
/// How often.
const READINGS: usize = 4;

/// The one way to log in to a token.
pub(crate) struct LoginGate {
    label: String,
    source: PinSource,
    /// For how long a login keeps others back.
    limit: Duration,
    state: Mutex<State>,
    /// A login is over.
    passed: Condvar,
}

#[derive(Default)]
struct State {
    salt: PinSalt,
    record: PinRecord,
    witness: Option<Witness>,
    /// The login that is under way: its number, and since when.
    under_way: Option<(u64, Instant)>,
    /// The number of the last.
    last: u64,
    trouble: Option<Trouble>,
}

/// Logins with a PIN that was right before fail.
struct Trouble {
    error: CallError,
    not_before: Instant,
    pauses: Pauses,
}

/// The turn of one login.
struct Turn<'a> {
    gate: &'a LoginGate,
    number: u64,
    /// Whether another login hangs meanwhile.
    is_beside_another: bool,
}

/// Why a login failed.
#[derive(Debug)]
pub(crate) enum LoginError {
    /// The operator must act.
    Refused(PoolError),
    /// The session or the token did not work.
    Call(CallError),
}

impl From<CallError> for LoginError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl LoginError {
    pub(crate) fn into_pool_error(self, label: &str) -> PoolError {
        match self {
            Self::Refused(error) => error,
            Self::Call(error) => PoolError::call(label, error),
        }
    }
}

impl LoginGate {
    pub(crate) fn new(settings: &TokenSettings) -> Self {
        let state = State { salt: PinSalt::random(), ..State::default() };
        Self {
            label: settings.label.clone(),
            source: settings.pin.clone(),
            limit: settings.deadline,
            state: Mutex::new(state),
            passed: Condvar::new(),
        }
    }

    /// The gate of a token for the pools of this process: one, so that a pool that is started anew knows what
    /// the one before it was told about the PIN.
    pub(crate) fn of_process(settings: &TokenSettings) -> Arc<Self> {
        type Gates = HashMap<(PathBuf, String, PinSource), Arc<LoginGate>>;
        static GATES: Mutex<Option<Gates>> = Mutex::new(None);
        let TokenSettings { module, label, pin, .. } = settings;
        let module = module.canonicalize().unwrap_or_else(|_| module.clone());
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.get_or_insert_default().entry((module, label.clone(), pin.clone()));
        Arc::clone(gate.or_insert_with(|| Arc::new(Self::new(settings))))
    }

    /// Goes on with what an earlier process knew, and tells of what this one learns.
    pub(crate) fn remember(&self, salt: PinSalt, record: PinRecord, witness: Witness) {
        let mut state = self.lock();
        state.salt = salt;
        state.record = record;
        state.witness = Some(witness);
    }

    /// Makes sure that the user is logged in. Login is per process and token, so that of another session
    /// counts (PKCS #11 2.40 5.6 C_Login).
    pub(crate) fn log_in(&self, session: &OpenSession) -> Result<(), LoginError> {
        if is_logged_in(session)? {
            return Ok(());
        }
        let turn = self.wait_for_turn()?;
        if is_logged_in(session)? {
            return Ok(());
        }
        let token = modules::info(session.module(), session.slot())?;
        if !token.login_required {
            return Ok(());
        }
        let (pin, hash) = self.pin_to_try(&turn)?;
        self.refuse_last_try(&token)?;
        self.give(&turn, session, UserType::User, &pin, hash)
    }

    /// Gives the PIN once more, for the operation that the session has begun with a key that wants it at every
    /// use (`CKU_CONTEXT_SPECIFIC`, PKCS #11 2.40 5.6 C_Login). Sessions do so one after the other: a PIN that is
    /// rejected for one must not be tried by the others, nor for a login, which the token counts alike.
    pub(crate) fn authenticate(&self, session: &OpenSession) -> Result<(), LoginError> {
        let turn = self.wait_for_turn()?;
        let (pin, hash) = self.pin_to_try(&turn)?;
        // The PIN that was taken the last time locks nothing, and this is done for every message.
        if self.lock().record.accepted.as_ref() != Some(&hash) {
            self.refuse_last_try(&modules::info(session.module(), session.slot())?)?;
        }
        self.give(&turn, session, UserType::ContextSpecific, &pin, hash)
    }

    /// Waits for the end of another login. One that hangs has a deadline, as everything has. After it a PIN that
    /// was right before may be given beside it; another PIN may not, as the first try may have been one too many.
    fn wait_for_turn(&self) -> Result<Turn<'_>, LoginError> {
        let mut state = self.lock();
        while let Some((_, since)) = state.under_way {
            let left = self.limit.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            let woken = self.passed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_beside_another = state.under_way.is_some();
        if is_beside_another && state.record.accepted.is_none() {
            return Err(no_answer_yet());
        }
        state.last += 1;
        let number = state.last;
        state.under_way = Some((number, Instant::now()));
        Ok(Turn { gate: self, number, is_beside_another })
    }

    /// The PIN, if it may be tried.
    fn pin_to_try(&self, turn: &Turn<'_>) -> Result<(Pin, PinHash), LoginError> {
        let (pin, hash) = self.read_pin().map_err(LoginError::Refused)?;
        let state = self.lock();
        if turn.is_beside_another && state.record.accepted.as_ref() != Some(&hash) {
            return Err(no_answer_yet());
        }
        if let Some((rejected, reason)) = &state.record.rejected
            && *rejected == hash
        {
            return Err(LoginError::Refused(self.error(reason)));
        }
        match &state.trouble {
            Some(trouble) if Instant::now() < trouble.not_before => Err(trouble.error.into()),
            _ => Ok((pin, hash)),
        }
    }

    /// `C_Login`, and what is to be remembered of it.
    fn give(
        &self,
        turn: &Turn<'_>,
        session: &OpenSession,
        user: UserType,
        pin: &Pin,
        hash: PinHash,
    ) -> Result<(), LoginError> {
        let before = {
            let mut state = self.lock();
            let before = state.record.clone();
            if !state.note(before.clone().after_doubt(&hash, "no answer")) {
                state.note(before);
                return Err(LoginError::Refused(PoolError::PinUnrecorded { label: self.label.clone() }));
            }
            before
        };
        let result = session.get()?.login_with_raw(user, &pin.to_auth_pin()).map_err(CallError::from);
        let counted = result.is_err()
            && modules::info(session.module(), session.slot())
                .is_ok_and(|token| token.pin_count_low || token.pin_locked);
        let mut state = self.lock();
        let in_turn = state.under_way.is_some_and(|(number, _)| number == turn.number);
        let before = if in_turn { before } else { state.record.clone() };
        let (record, result) = self.judge(before, hash, counted, result);
        match &result {
            Ok(()) => state.trouble = None,
            Err(LoginError::Call(error)) if !error.rv().is_some_and(says_nothing_of_the_pin) => {
                state.is_in_trouble(*error);
            }
            Err(_) => {}
        }
        state.note(record);
        result
    }

    /// The token's flags cost nothing to ask for, a login may cost the last try.
    fn refuse_last_try(&self, token: &TokenInfo) -> Result<(), LoginError> {
        let (label, path) = (self.label.clone(), self.source.place());
        if token.pin_locked {
            Err(LoginError::Refused(PoolError::PinLocked { label, path }))
        } else if token.pin_final_try {
            Err(LoginError::Refused(PoolError::PinFinalTry { label, path }))
        } else {
            Ok(())
        }
    }

    /// What a login's result makes of the record, and of the login. `counted`: the token tells that a wrong PIN was
    /// given.
    fn judge(
        &self,
        before: PinRecord,
        hash: PinHash,
        counted: bool,
        result: Result<(), CallError>,
    ) -> (PinRecord, Result<(), LoginError>) {
        let Err(error) = result else {
            return (PinRecord { accepted: Some(hash), ..PinRecord::default() }, Ok(()));
        };
        let reason = match error.rv() {
            Some(RvError::UserAlreadyLoggedIn) => return (before, Ok(())),
            Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => Rejection::Wrong,
            Some(RvError::PinLocked) => Rejection::Locked,
            Some(RvError::PinExpired) => Rejection::Expired,
            Some(RvError::UserPinNotInitialized) => {
                let label = self.label.clone();
                return (before, Err(LoginError::Refused(PoolError::PinNotInitialized { label })));
            }
            Some(rv) if says_nothing_of_the_pin(rv) => return (before, Err(error.into())),
            // Anything else may have cost a try. If the token tells that it did, or at the second time,
            // the PIN is held for wrong: of three tries one is left to the operator. One that was right before
            // is so still: it is the token that fails.
            _ => {
                let code = error.code.to_string();
                if !counted && before.accepted.as_ref() == Some(&hash) {
                    return (before, Err(error.into()));
                }
                if !counted && before.doubtful.as_ref() != Some(&hash) {
                    return (PinRecord { doubtful: Some(hash), ..before }, Err(error.into()));
                }
                Rejection::Refused { code }
            }
        };
        let result = Err(LoginError::Refused(self.error(&reason)));
        (PinRecord { rejected: Some((hash, reason)), ..before }, result)
    }

    fn error(&self, reason: &Rejection) -> PoolError {
        let (label, path) = (self.label.clone(), self.source.place());
        match reason {
            Rejection::Wrong => PoolError::WrongPin { label, path },
            Rejection::Locked => PoolError::PinLocked { label, path },
            Rejection::Expired => PoolError::PinExpired { label, path },
            Rejection::Refused { code } => PoolError::LoginRefused { label, code: code.clone(), path },
        }
    }

    /// Whether a PIN was rejected, so that only another one may be tried.
    pub(crate) fn holds_a_rejected_pin(&self) -> bool {
        self.lock().record.rejected.is_some()
    }

    /// The PIN as it stands now, if it is another than the rejected one.
    pub(crate) fn new_pin(&self) -> Option<Pin> {
        let pin = Pin::read(&self.source).ok()?;
        let state = self.lock();
        match &state.record.rejected {
            Some((rejected, _)) if *rejected == pin.hash(&state.salt) => None,
            _ => Some(pin),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the PIN. If it is not one that has been tried, it must be the same twice: a file that is about to be
    /// written must not cost a try.
    fn read_pin(&self) -> Result<(Pin, PinHash), PoolError> {
        let mut pin = Pin::read(&self.source)?;
        for _ in 0..READINGS {
            let hash = {
                let state = self.lock();
                let hash = pin.hash(&state.salt);
                if !state.record.has_another_than(&hash) {
                    return Ok((pin, hash));
                }
                hash
            };
            thread::sleep(SETTLING);
            let again = Pin::read(&self.source)?;
            if again == pin {
                return Ok((pin, hash));
            }
            pin = again;
        }
        let reason = "it changes all the time".to_owned();
        Err(PoolError::PinFile { path: self.source.place(), reason })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if state.under_way.is_some_and(|(number, _)| number == self.number) {
            state.under_way = None;
            self.gate.passed.notify_one();
        }
    }
}

impl fmt::Debug for LoginGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginGate").field("label", &self.label).finish_non_exhaustive()
    }
}

impl State {
    /// Notes a change. `false`: it would not be known after the end of this process.
    fn note(&mut self, record: PinRecord) -> bool {
        if self.record == record {
            return true;
        }
        self.record = record;
        self.witness.as_ref().is_none_or(|witness| witness(&self.record))
    }

    /// The second time in a row there is a pause before the next.
    fn is_in_trouble(&mut self, error: CallError) {
        let now = Instant::now();
        if let Some(trouble) = &mut self.trouble {
            trouble.error = error;
            trouble.not_before = now + trouble.pauses.next();
        } else {
            let pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
            self.trouble = Some(Trouble { error, not_before: now, pauses });
        }
    }
}

/// Another session's login hangs.
fn no_answer_yet() -> LoginError {
    CallError::malformed("C_Login", "nothing yet to another session").into()
}

/// Whether private keys can be used without another login.
pub(crate) fn is_open(session: &OpenSession) -> Result<bool, CallError> {
    Ok(is_logged_in(session)? || !modules::info(session.module(), session.slot())?.login_required)
}

fn is_logged_in(session: &OpenSession) -> Result<bool, CallError> {
    let state = session.get()?.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RoUser | SessionState::RwUser))
}

/// Errors that a token gives before it looks at the PIN.
fn says_nothing_of_the_pin(rv: RvError) -> bool {
    matches!(
        rv,
        RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::DeviceRemoved
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::CryptokiNotInitialized
            | RvError::SlotIdInvalid
            | RvError::HostMemory
            | RvError::DeviceMemory
            | RvError::OperationActive
            | RvError::OperationNotInitialized
            | RvError::UserTypeInvalid
            | RvError::SessionReadOnlyExists
            | RvError::UserAnotherAlreadyLoggedIn
            | RvError::UserTooManyTypes
    )
}

#[cfg(test)]
mod tests;
