//! Logging in, once per token and never twice with a PIN that was rejected.
//!
//! PKCS #11 counts wrong PINs, and after a few (often three) the token is locked. All logins of a token,
//! the supervisor's and the workers', therefore pass one gate that remembers what was rejected.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cryptoki::{error::RvError, session::SessionState, session::UserType};
use serde::{Deserialize, Serialize};

use crate::{
    PinSource, PoolError, TokenSettings,
    call::CallError,
    modules::{self, TokenInfo},
    pin::{self, Pin, PinHash, PinSalt},
    session::OpenSession,
};

/// The one way to log in to a token.
pub(crate) struct LoginGate {
    label: String,
    source: PinSource,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    salt: PinSalt,
    record: PinRecord,
    witness: Option<Witness>,
    warned: bool,
}

/// Told of each change of a record, before it matters: once it returns, the record is kept even if this process
/// ends at once.
pub(crate) type Witness = Arc<dyn Fn(&PinRecord) + Send + Sync>;

/// What is known of the PINs that were tried, without the PINs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinRecord {
    /// The PIN that must not be tried again, and why.
    rejected: Option<(PinHash, Rejection)>,
    /// A PIN whose login failed in a way that may have counted as a wrong PIN, or never ended.
    doubtful: Option<PinHash>,
    /// The last PIN that was right.
    accepted: Option<PinHash>,
}

/// Why a PIN must not be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Rejection {
    Wrong,
    Locked,
    Expired,
    /// The token refused the login without saying that the PIN is wrong.
    Refused {
        code: String,
    },
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
    pub(crate) fn new(label: &str, source: &PinSource) -> Self {
        let state = State { salt: PinSalt::random(), ..State::default() };
        Self { label: label.to_owned(), source: source.clone(), state: Mutex::new(state) }
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
        Arc::clone(gate.or_insert_with(|| Arc::new(Self::new(label, pin))))
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
        let mut state = self.lock();
        if is_logged_in(session)? {
            return Ok(());
        }
        let token = modules::info(session.module(), session.slot())?;
        if !token.login_required {
            return Ok(());
        }
        let pin = self.read_pin(&mut state).map_err(LoginError::Refused)?;
        let hash = pin.hash(&state.salt);
        self.refuse_rejected(&state, &hash)?;
        self.refuse_last_try(&token)?;
        self.give(&mut state, session, UserType::User, &pin, hash)
    }

    /// Gives the PIN once more, for the operation that the session has begun with a key that wants it at every
    /// use (`CKU_CONTEXT_SPECIFIC`, PKCS #11 2.40 5.6 C_Login). Sessions do so one after the other: a PIN that is
    /// rejected for one must not be tried by the others, nor for a login, which the token counts alike.
    pub(crate) fn authenticate(&self, session: &OpenSession) -> Result<(), LoginError> {
        let mut state = self.lock();
        let pin = self.read_pin(&mut state).map_err(LoginError::Refused)?;
        let hash = pin.hash(&state.salt);
        self.refuse_rejected(&state, &hash)?;
        // The PIN that was taken the last time locks nothing, and this is done for every message.
        if state.record.accepted.as_ref() != Some(&hash) {
            self.refuse_last_try(&modules::info(session.module(), session.slot())?)?;
        }
        self.give(&mut state, session, UserType::ContextSpecific, &pin, hash)
    }

    /// `C_Login`, and what is to be remembered of it.
    fn give(
        &self,
        state: &mut State,
        session: &OpenSession,
        user: UserType,
        pin: &Pin,
        hash: PinHash,
    ) -> Result<(), LoginError> {
        let before = state.record.clone();
        let unless_it_returns = before.clone().after_doubt(&hash, "no answer");
        state.note(unless_it_returns);
        let result = session.get()?.login_with_raw(user, &pin.to_auth_pin());
        let (record, result) = self.judge(before, session, hash, result.map_err(CallError::from));
        state.note(record);
        result
    }

    fn refuse_rejected(&self, state: &State, hash: &PinHash) -> Result<(), LoginError> {
        match &state.record.rejected {
            Some((rejected, reason)) if rejected == hash => Err(LoginError::Refused(self.error(reason))),
            _ => Ok(()),
        }
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

    /// What a login's result makes of the record, and of the login.
    fn judge(
        &self,
        before: PinRecord,
        session: &OpenSession,
        hash: PinHash,
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
            // the PIN is held for wrong: of three tries one is left to the operator.
            _ => {
                let code = error.code.to_string();
                let counted = modules::info(session.module(), session.slot())
                    .is_ok_and(|token| token.pin_count_low || token.pin_locked);
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

    fn read_pin(&self, state: &mut State) -> Result<Pin, PoolError> {
        if !state.warned && pin::is_world_readable(&self.source) {
            state.warned = true;
            let path = self.source.place();
            let path = path.display();
            tracing::warn!(token = self.label, %path, "everybody may read the PIN file: chmod o-r");
        }
        Pin::read(&self.source)
    }
}

impl fmt::Debug for LoginGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginGate").field("label", &self.label).finish_non_exhaustive()
    }
}

impl State {
    fn note(&mut self, record: PinRecord) {
        if self.record != record {
            self.record = record;
            if let Some(witness) = &self.witness {
                witness(&self.record);
            }
        }
    }
}

impl PinRecord {
    /// What must be known after a restart: that a PIN was right is found out again at no cost. `None`: nothing.
    pub(crate) fn to_keep(&self) -> Option<Self> {
        let kept = Self { accepted: None, ..self.clone() };
        (kept != Self::default()).then_some(kept)
    }

    /// What is to be known if a login with this PIN may have cost a try. One that was right before has not
    /// become wrong because a process ended.
    pub(crate) fn after_doubt(self, hash: &PinHash, code: &str) -> Self {
        if self.accepted.as_ref() == Some(hash) {
            self
        } else if self.doubtful.as_ref() == Some(hash) {
            let reason = Rejection::Refused { code: code.to_owned() };
            Self { rejected: Some((hash.clone(), reason)), ..self }
        } else {
            Self { doubtful: Some(hash.clone()), ..self }
        }
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_login_that_never_ended_counts_as_one_try_unless_the_pin_was_right_before() {
        let salt = PinSalt::default();
        let hash = |pin: &[u8]| Pin::of(pin).hash(&salt);
        let (one, other) = (hash(b"1234"), hash(b"4321"));
        let first = PinRecord::default().after_doubt(&one, "no answer");
        assert_eq!((&first.doubtful, &first.rejected), (&Some(one.clone()), &None));
        let second = first.clone().after_doubt(&one, "no answer");
        let refused = Rejection::Refused { code: "no answer".into() };
        assert_eq!(second.rejected, Some((one.clone(), refused)));
        assert_eq!(first.after_doubt(&other, "no answer").rejected, None, "another PIN has its own tries");

        let known = PinRecord { accepted: Some(one.clone()), ..PinRecord::default() };
        assert_eq!(known.clone().after_doubt(&one, "no answer"), known);
    }

    #[test]
    fn a_record_that_is_handed_over_is_gone_on_with_and_each_change_is_told() {
        let gate = LoginGate::new("mail", &PinSource::File("pin".into()));
        let salt = PinSalt::random();
        let rejected = Some((Pin::of(b"1").hash(&salt), Rejection::Wrong));
        let record = PinRecord { rejected, ..PinRecord::default() };
        let told = Arc::new(Mutex::new(Vec::new()));
        let witness = Arc::clone(&told);
        gate.remember(
            salt,
            record.clone(),
            Arc::new(move |record| witness.lock().unwrap().push(record.clone())),
        );
        assert!(gate.holds_a_rejected_pin());
        gate.lock().note(record);
        assert_eq!(told.lock().unwrap().len(), 0, "that was known");
        gate.lock().note(PinRecord::default());
        assert_eq!(*told.lock().unwrap(), [PinRecord::default()]);
    }
}
