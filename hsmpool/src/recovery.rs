//! What to do after which return value: one table from `CKR_` to `Recovery`.
//!
//! Section numbers are those of PKCS #11 Base Specification 2.40, 5.1 "Function return values" (3.0: 5.1
//! too). Where the practice of real tokens differs, the project that reported it is named.

use std::{collections::HashSet, sync::LazyLock};

use cryptoki::error::{Rv, RvError};

use crate::call::{Code, ckr_name};

/// What helps after a failed call. The milder ones are tried by the worker that met the error, within
/// the deadline of the request; the others are the supervisor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Recovery {
    /// The error belongs to this request; session and token are well.
    Keep,
    /// The session, or an operation in it, is in doubt: close it, open another, ask once more.
    ReopenSession,
    /// Nobody is logged in any more: log in with the PIN that was accepted before, ask once more.
    LoginAgain,
    /// The handle names no object any more: look the keys up again, ask once more.
    FindKeysAgain,
    /// The token or the module is gone: drop everything, `C_Finalize`, `C_Initialize`, with back-off.
    Reinitialise,
    /// Only an operator can help, and trying again may do harm: the request fails, nothing else is done.
    GiveUp,
}

/// The table.
pub(crate) fn recovery(code: Code) -> Recovery {
    match code {
        Code::Ckr(rv) => of_return_value(rv),
        // An answer that cannot be read is this function's; the session did what it was asked.
        Code::Malformed(_) => Recovery::Keep,
    }
}

/// Whether the code of a [`KeyError::Token`](smime::key::KeyError::Token) may say that the token is not well. All others
/// speak of one key, or of what it was asked. Some may mean either.
pub fn may_concern_token(code: &str) -> bool {
    static NAMES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let concerns = |rv| match Rv::from(rv) {
            Rv::Ok => None,
            Rv::Error(rv) => {
                let is_narrow = matches!(of_return_value(rv), Recovery::Keep | Recovery::FindKeysAgain);
                (!is_narrow).then(|| ckr_name(rv))
            }
        };
        (0..=LAST).filter_map(concerns).collect()
    });
    // Vendors' own.
    NAMES.contains(code) || code.starts_with("CKR_0x")
}

/// Beyond the last value that PKCS #11 3.1 has given (0x204), but for vendors' own.
const LAST: cryptoki_sys::CK_RV = 0x3FF;

fn of_return_value(rv: RvError) -> Recovery {
    match rv {
        // 5.1.2: "the session was closed during the execution", "the handle was invalid at the time that
        // the function was invoked" - also what is left after a token was removed and inserted again.
        RvError::SessionClosed | RvError::SessionHandleInvalid
        // 5.1.6: an operation of an earlier request was never finished. 2.40 has no C_SessionCancel;
        // closing the session ends its operations (5.6 C_CloseSession).
        | RvError::OperationActive | RvError::OperationNotInitialized
        // 5.1.1: "some horrible, unrecoverable error"; in practice often one dead network connection
        // under one session (yubihsm-shell 541, Pkcs11Interop 214). One fresh session shows whether it is more.
        | RvError::GeneralError
        // 5.1.1: "it is possible that an attempt to make the exact same function call again would succeed".
        | RvError::FunctionFailed
        // 5.1.3: "some problem has occurred with the token and/or slot", which may be this session only.
        | RvError::DeviceError
        // 5.1.3: "the token does not have sufficient memory to perform the requested function". A session's objects hold some,
        // and end with it. What still finds none is this request's trouble: others may need less.
        | RvError::DeviceMemory
        // Vendors' own codes say nothing to us. A fresh session is cheap, a reinitialisation is not.
        | RvError::VendorDefined(_)
        | RvError::UnknownErrorCode(_) => Recovery::ReopenSession,

        // 5.1.6: "the desired action cannot be performed because the appropriate user is not logged in".
        // All sessions were closed meanwhile, or the token was reset.
        RvError::UserNotLoggedIn => Recovery::LoginAgain,

        // 5.1.6: handles do not outlive a login or a reinitialisation; SoftHSM gives these
        // also for an object whose file is gone.
        RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid => Recovery::FindKeysAgain,

        // 5.1.3, 5.1.6: "the token was removed from its slot during the execution of the function", "was
        // not present in its slot", "does not recognize the token in the slot".
        RvError::DeviceRemoved | RvError::TokenNotPresent | RvError::TokenNotRecognized
        // 5.1.6: slots are numbered at C_Initialize, so the number is of another life.
        | RvError::SlotIdInvalid
        // 5.1.6: somebody called C_Finalize, or the process was forked.
        | RvError::CryptokiNotInitialized
        // 5.1.6: self-tests run in C_Initialize; before that all calls fail.
        | RvError::FipsSelfTestFailed
        // 5.1.5: the module's own locks are broken.
        | RvError::MutexBad | RvError::MutexNotLocked
        // 5.1.6: sessions of this process that nobody holds any more are freed by C_Finalize only.
        | RvError::SessionCount => Recovery::Reinitialise,

        // 5.1.6: three of these and the token is locked for good: never again with the same PIN.
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange
        | RvError::PinExpired | RvError::PinLocked
        // 5.1.6: C_InitPIN has not been called; another user type holds the token.
        | RvError::UserPinNotInitialized
        | RvError::UserAnotherAlreadyLoggedIn | RvError::UserTooManyTypes => Recovery::GiveUp,

        // Everything else speaks of the arguments: key, mechanism, data, template, size of a buffer.
        // 5.1.1 CKR_HOST_MEMORY: the machine is short of memory; another session does not help.
        _ => Recovery::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trouble_has_its_recovery() {
        let table = [
            (RvError::SessionHandleInvalid, Recovery::ReopenSession),
            (RvError::OperationActive, Recovery::ReopenSession),
            (RvError::GeneralError, Recovery::ReopenSession),
            (RvError::DeviceMemory, Recovery::ReopenSession),
            (RvError::VendorDefined(0x8000_0001), Recovery::ReopenSession),
            (RvError::UserNotLoggedIn, Recovery::LoginAgain),
            (RvError::KeyHandleInvalid, Recovery::FindKeysAgain),
            (RvError::DeviceRemoved, Recovery::Reinitialise),
            (RvError::CryptokiNotInitialized, Recovery::Reinitialise),
            (RvError::PinIncorrect, Recovery::GiveUp),
            (RvError::PinLocked, Recovery::GiveUp),
            (RvError::MechanismInvalid, Recovery::Keep),
            (RvError::KeyFunctionNotPermitted, Recovery::Keep),
            (RvError::EncryptedDataInvalid, Recovery::Keep),
        ];
        for (rv, expected) in table {
            assert_eq!(recovery(Code::Ckr(rv)), expected, "{rv:?}");
            let is_narrow = matches!(expected, Recovery::Keep | Recovery::FindKeysAgain);
            assert_eq!(may_concern_token(&ckr_name(rv)), !is_narrow, "{rv:?}");
        }
        assert!(!may_concern_token("an Ed25519 signature of the wrong length"));
    }
}
