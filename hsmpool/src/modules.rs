//! The tokens of a module: for the administrator's list, and to find one by its label.

use std::path::Path;

use cryptoki::slot::{Limit, Slot};
use cryptoki_sys::{
    CK_EFFECTIVELY_INFINITE, CK_TOKEN_INFO, CK_UNAVAILABLE_INFORMATION, CKF_LOGIN_REQUIRED,
    CKF_TOKEN_INITIALIZED, CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_INITIALIZED,
    CKF_USER_PIN_LOCKED,
};

use crate::{PoolError, call::CallError, module::Module};

/// A token, as its module describes it (`CK_TOKEN_INFO`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "CK_TOKEN_INFO.flags, each by its own name")]
pub struct TokenInfo {
    /// The slot that holds it.
    pub slot: u64,
    /// Its label.
    pub label: String,
    /// The manufacturer's name.
    pub manufacturer: String,
    /// The model.
    pub model: String,
    /// The serial number.
    pub serial: String,
    /// `CKF_TOKEN_INITIALIZED`.
    pub initialised: bool,
    /// `CKF_LOGIN_REQUIRED`.
    pub login_required: bool,
    /// `CKF_USER_PIN_INITIALIZED`.
    pub pin_initialised: bool,
    /// `CKF_USER_PIN_COUNT_LOW`: a wrong PIN was given since the last login.
    pub pin_count_low: bool,
    /// `CKF_USER_PIN_FINAL_TRY`: one more wrong PIN locks the token.
    pub pin_final_try: bool,
    /// `CKF_USER_PIN_LOCKED`.
    pub pin_locked: bool,
    /// Sessions that this process has open, where the token tells.
    pub sessions: Option<u64>,
    /// How many a process may open. `None`: no limit, or none that is told.
    pub max_sessions: Option<u64>,
}

/// All slots of a module that hold a token, initialised or not.
pub fn tokens(module: &Path) -> Result<Vec<TokenInfo>, PoolError> {
    let opened = Module::open(module)?;
    Ok(slots(&opened, module)?.into_iter().map(|(_, info)| info).collect())
}

/// The slot of the token of that label.
pub(crate) fn find(module: &Module, path: &Path, label: &str) -> Result<(Slot, TokenInfo), PoolError> {
    let (mut matching, others): (Vec<_>, Vec<_>) = slots(module, path)?
        .into_iter()
        .filter(|(_, info)| info.initialised)
        .partition(|(_, info)| info.label == label);
    match (matching.pop(), matching.len()) {
        (Some(found), 0) => Ok(found),
        (Some(_), more) => Err(PoolError::AmbiguousToken {
            module: path.to_owned(),
            label: label.to_owned(),
            count: more + 1,
        }),
        (None, _) => Err(PoolError::NoSuchToken {
            module: path.to_owned(),
            label: label.to_owned(),
            found: others.into_iter().map(|(_, info)| info.label).collect(),
        }),
    }
}

/// The token in a slot, as it is now.
pub(crate) fn info(module: &Module, slot: Slot) -> Result<TokenInfo, CallError> {
    let unreadable = match module.pkcs11().get_token_info(slot).map_err(CallError::from) {
        Ok(info) => return Ok(TokenInfo::new(slot, &info)),
        Err(error) if error.rv().is_some() => return Err(error),
        Err(error) => error,
    };
    let info = module.any_raw().and_then(|raw| raw.token_info(slot).ok());
    Ok(TokenInfo::from_raw(slot, &info.ok_or(unreadable)?))
}

impl TokenInfo {
    fn new(slot: Slot, info: &cryptoki::slot::TokenInfo) -> Self {
        let most = match info.max_session_count() {
            Limit::Max(most) => most,
            Limit::Infinite | Limit::Unavailable => CK_EFFECTIVELY_INFINITE,
        };
        Self {
            slot: slot.id(),
            label: info.label().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            serial: info.serial_number().to_owned(),
            initialised: info.token_initialized(),
            login_required: info.login_required(),
            pin_initialised: info.user_pin_initialized(),
            pin_count_low: info.user_pin_count_low(),
            pin_final_try: info.user_pin_final_try(),
            pin_locked: info.user_pin_locked(),
            sessions: info.session_count(),
            max_sessions: limit(most),
        }
    }

    fn from_raw(slot: Slot, info: &CK_TOKEN_INFO) -> Self {
        let has = |flag| info.flags & flag != 0;
        let told = |number| Some(number).filter(|number| *number != CK_UNAVAILABLE_INFORMATION);
        Self {
            slot: slot.id(),
            label: text(&info.label),
            manufacturer: text(&info.manufacturerID),
            model: text(&info.model),
            serial: text(&info.serialNumber),
            initialised: has(CKF_TOKEN_INITIALIZED),
            login_required: has(CKF_LOGIN_REQUIRED),
            pin_initialised: has(CKF_USER_PIN_INITIALIZED),
            pin_count_low: has(CKF_USER_PIN_COUNT_LOW),
            pin_final_try: has(CKF_USER_PIN_FINAL_TRY),
            pin_locked: has(CKF_USER_PIN_LOCKED),
            sessions: told(info.ulSessionCount),
            max_sessions: limit(info.ulMaxSessionCount),
        }
    }
}

/// A limit that is one. opencryptoki's soft token says 2^64 - 2 for none.
fn limit(most: u64) -> Option<u64> {
    Some(most).filter(|most| *most != CK_EFFECTIVELY_INFINITE && u32::try_from(*most).is_ok())
}

/// Text padded with blanks (PKCS #11 2.40 3.2).
fn text(padded: &[u8]) -> String {
    String::from_utf8_lossy(padded).trim_end_matches(' ').to_owned()
}

fn slots(module: &Module, path: &Path) -> Result<Vec<(Slot, TokenInfo)>, PoolError> {
    let slots = module.pkcs11().get_slots_with_token().map_err(|error| {
        let CallError { function, code } = error.into();
        PoolError::ModuleInitialize { path: path.to_owned(), function, code: code.to_string() }
    })?;
    // A slot whose token does not answer hides no other slot.
    Ok(slots.into_iter().filter_map(|slot| Some((slot, info(module, slot).ok()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_whose_clock_cannot_be_read_is_described_all_the_same() {
        let mut raw = CK_TOKEN_INFO {
            label: *b"mail                            ",
            manufacturerID: *b"IBM Corp.                       ",
            model: *b"IBM SoftTok     ",
            serialNumber: *b"123             ",
            flags: CKF_TOKEN_INITIALIZED | CKF_LOGIN_REQUIRED | CKF_USER_PIN_LOCKED,
            ulSessionCount: 3,
            ulMaxSessionCount: 9,
            ..CK_TOKEN_INFO::default()
        };
        let slot = Slot::try_from(7_u64).unwrap();
        let info = TokenInfo::from_raw(slot, &raw);
        assert_eq!((info.slot, info.label.as_str(), info.model.as_str()), (7, "mail", "IBM SoftTok"));
        assert_eq!((info.manufacturer.as_str(), info.serial.as_str()), ("IBM Corp.", "123"));
        assert!(info.initialised && info.login_required && info.pin_locked);
        assert!(!info.pin_initialised && !info.pin_count_low && !info.pin_final_try);
        assert_eq!((info.sessions, info.max_sessions), (Some(3), Some(9)));
        for unlimited in [CK_EFFECTIVELY_INFINITE, CK_UNAVAILABLE_INFORMATION, u64::MAX - 1] {
            raw.ulMaxSessionCount = unlimited;
            assert_eq!(TokenInfo::from_raw(slot, &raw).max_sessions, None);
        }
    }
}
