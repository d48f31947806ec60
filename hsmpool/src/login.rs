//! Logging in, once per token and never twice with a PIN that was rejected.
//!
//! PKCS #11 counts wrong PINs, and after a few (often three) the token is locked. All logins of a token,
//! the supervisor's and the workers', therefore pass one gate that remembers what was rejected.

use std::sync::{Mutex, PoisonError};

use cryptoki::{error::RvError, session::SessionState, session::UserType};

use crate::{
    PinSource, PoolError,
    call::CallError,
    modules,
    pin::{self, Pin},
    session::OpenSession,
};

/// The one way to log in to a token.
#[derive(Debug)]
pub(crate) struct LoginGate {
    label: String,
    source: PinSource,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The PIN that must not be tried again, and why.
    rejected: Option<(Pin, PoolError)>,
    /// A PIN whose login failed in a way that may have counted as a wrong PIN.
    doubtful: Option<Pin>,
    warned: bool,
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
        Self { label: label.to_owned(), source: source.clone(), state: Mutex::default() }
    }

    /// Makes sure that the user is logged in. Login is per process and token, so that of another session
    /// counts (PKCS #11 2.40 5.6 C_Login).
    pub(crate) fn log_in(&self, session: &OpenSession) -> Result<(), LoginError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if is_logged_in(session)? {
            return Ok(());
        }
        let token = modules::info(session.module(), session.slot())?;
        if !token.login_required {
            return Ok(());
        }
        let pin = self.read_pin(&mut state).map_err(LoginError::Refused)?;
        if let Some((rejected, reason)) = &state.rejected
            && *rejected == pin
        {
            return Err(LoginError::Refused(reason.clone()));
        }
        // These flags cost nothing to ask for, a login may cost the last try.
        let (label, path) = (self.label.clone(), self.source.path().to_owned());
        let warning = if token.pin_locked {
            Some(PoolError::PinLocked { label, path })
        } else if token.pin_final_try {
            Some(PoolError::PinFinalTry { label, path })
        } else {
            None
        };
        if let Some(error) = warning {
            return Err(LoginError::Refused(error));
        }
        let result = session.get()?.login_with_raw(UserType::User, &pin.to_auth_pin());
        self.judge(&mut state, session, pin, result.map_err(CallError::from))
    }

    fn judge(
        &self,
        state: &mut State,
        session: &OpenSession,
        pin: Pin,
        result: Result<(), CallError>,
    ) -> Result<(), LoginError> {
        let Err(error) = result else {
            state.rejected = None;
            state.doubtful = None;
            return Ok(());
        };
        let (label, path) = (self.label.clone(), self.source.path().to_owned());
        let code = error.code.to_string();
        let reason = match error.rv() {
            Some(RvError::UserAlreadyLoggedIn) => return Ok(()),
            Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => {
                PoolError::WrongPin { label, path }
            }
            Some(RvError::PinLocked) => PoolError::PinLocked { label, path },
            Some(RvError::PinExpired) => PoolError::PinExpired { label, path },
            Some(RvError::UserPinNotInitialized) => {
                return Err(LoginError::Refused(PoolError::PinNotInitialized { label }));
            }
            Some(rv) if says_nothing_of_the_pin(rv) => return Err(error.into()),
            // Anything else may have cost a try. If the token tells that it did, or at the second time,
            // the PIN is held for wrong: of three tries one is left to the operator.
            _ => {
                let counted = modules::info(session.module(), session.slot())
                    .is_ok_and(|token| token.pin_count_low || token.pin_locked);
                if !counted && state.doubtful.as_ref() != Some(&pin) {
                    state.doubtful = Some(pin);
                    return Err(error.into());
                }
                PoolError::LoginRefused { label, code, path }
            }
        };
        state.rejected = Some((pin, reason.clone()));
        Err(LoginError::Refused(reason))
    }

    /// Whether a PIN was rejected, so that only another one may be tried.
    pub(crate) fn holds_a_rejected_pin(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).rejected.is_some()
    }

    /// The PIN as it stands now, if it is another than the rejected one.
    pub(crate) fn new_pin(&self) -> Option<Pin> {
        let pin = Pin::read(&self.source).ok()?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.rejected {
            Some((rejected, _)) if *rejected == pin => None,
            _ => Some(pin),
        }
    }

    fn read_pin(&self, state: &mut State) -> Result<Pin, PoolError> {
        if !state.warned && pin::is_world_readable(&self.source) {
            state.warned = true;
            let path = self.source.path().display();
            tracing::warn!(token = self.label, %path, "everybody may read the PIN file: chmod o-r");
        }
        Pin::read(&self.source)
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
            | RvError::SessionReadOnlyExists
            | RvError::UserAnotherAlreadyLoggedIn
            | RvError::UserTooManyTypes
    )
}
