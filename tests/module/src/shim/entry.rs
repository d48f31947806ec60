//! The C functions: each tells [`call`] what it is about and how to forward it.
#![expect(unsafe_code, reason = "functions of a C library get pointers and hand them on")]
#![expect(non_snake_case, reason = "the names are those of the specification")]
#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "a list of most of PKCS #11 would tell nothing")
)]

mod plain;

use std::{ffi::c_void, ptr};

use cryptoki_sys::*;

use self::plain::*;
use super::{Effect, Target, call};
use crate::{Function, ReturnValue};

/// The list that callers get.
static FUNCTIONS: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
    version: CK_VERSION { major: 2, minor: 40 },
    C_Initialize: Some(C_Initialize),
    C_Finalize: Some(C_Finalize),
    C_GetInfo: Some(C_GetInfo),
    C_GetFunctionList: Some(C_GetFunctionList),
    C_GetSlotList: Some(C_GetSlotList),
    C_GetSlotInfo: Some(C_GetSlotInfo),
    C_GetTokenInfo: Some(C_GetTokenInfo),
    C_GetMechanismList: Some(C_GetMechanismList),
    C_GetMechanismInfo: Some(C_GetMechanismInfo),
    C_InitToken: Some(C_InitToken),
    C_InitPIN: Some(C_InitPIN),
    C_SetPIN: Some(C_SetPIN),
    C_OpenSession: Some(C_OpenSession),
    C_CloseSession: Some(C_CloseSession),
    C_CloseAllSessions: Some(C_CloseAllSessions),
    C_GetSessionInfo: Some(C_GetSessionInfo),
    C_GetOperationState: Some(C_GetOperationState),
    C_SetOperationState: Some(C_SetOperationState),
    C_Login: Some(C_Login),
    C_Logout: Some(C_Logout),
    C_CreateObject: Some(C_CreateObject),
    C_CopyObject: Some(C_CopyObject),
    C_DestroyObject: Some(C_DestroyObject),
    C_GetObjectSize: Some(C_GetObjectSize),
    C_GetAttributeValue: Some(C_GetAttributeValue),
    C_SetAttributeValue: Some(C_SetAttributeValue),
    C_FindObjectsInit: Some(C_FindObjectsInit),
    C_FindObjects: Some(C_FindObjects),
    C_FindObjectsFinal: Some(C_FindObjectsFinal),
    C_EncryptInit: Some(C_EncryptInit),
    C_Encrypt: Some(C_Encrypt),
    C_EncryptUpdate: Some(C_EncryptUpdate),
    C_EncryptFinal: Some(C_EncryptFinal),
    C_DecryptInit: Some(C_DecryptInit),
    C_Decrypt: Some(C_Decrypt),
    C_DecryptUpdate: Some(C_DecryptUpdate),
    C_DecryptFinal: Some(C_DecryptFinal),
    C_DigestInit: Some(C_DigestInit),
    C_Digest: Some(C_Digest),
    C_DigestUpdate: Some(C_DigestUpdate),
    C_DigestKey: Some(C_DigestKey),
    C_DigestFinal: Some(C_DigestFinal),
    C_SignInit: Some(C_SignInit),
    C_Sign: Some(C_Sign),
    C_SignUpdate: Some(C_SignUpdate),
    C_SignFinal: Some(C_SignFinal),
    C_SignRecoverInit: Some(C_SignRecoverInit),
    C_SignRecover: Some(C_SignRecover),
    C_VerifyInit: Some(C_VerifyInit),
    C_Verify: Some(C_Verify),
    C_VerifyUpdate: Some(C_VerifyUpdate),
    C_VerifyFinal: Some(C_VerifyFinal),
    C_VerifyRecoverInit: Some(C_VerifyRecoverInit),
    C_VerifyRecover: Some(C_VerifyRecover),
    C_DigestEncryptUpdate: Some(C_DigestEncryptUpdate),
    C_DecryptDigestUpdate: Some(C_DecryptDigestUpdate),
    C_SignEncryptUpdate: Some(C_SignEncryptUpdate),
    C_DecryptVerifyUpdate: Some(C_DecryptVerifyUpdate),
    C_GenerateKey: Some(C_GenerateKey),
    C_GenerateKeyPair: Some(C_GenerateKeyPair),
    C_WrapKey: Some(C_WrapKey),
    C_UnwrapKey: Some(C_UnwrapKey),
    C_DeriveKey: Some(C_DeriveKey),
    C_SeedRandom: Some(C_SeedRandom),
    C_GenerateRandom: Some(C_GenerateRandom),
    C_GetFunctionStatus: Some(C_GetFunctionStatus),
    C_CancelFunction: Some(C_CancelFunction),
    C_WaitForSlotEvent: Some(C_WaitForSlotEvent),
};

/// Gives the list of functions (PKCS #11 2.40 5.4).
///
/// # Safety
///
/// `list` is null or a place for a pointer.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    call(Function::GetFunctionList, Target::Module, |_, effect| {
        failing(effect).unwrap_or_else(|| {
            // SAFETY: the caller gave a place for a pointer. The list is never written to, by nobody: the
            // specification has no `const` only because it is older than that habit.
            unsafe { list.write((&raw const FUNCTIONS).cast_mut()) };
            CKR_OK
        })
    })
}

/// What a call returns if it is not to be forwarded.
fn failing(effect: &Effect) -> Option<CK_RV> {
    effect.fail.map(|ReturnValue(value)| value)
}

/// Calls a function of the real module, if it has that.
macro_rules! forward {
    ($shim:expr, $name:ident($($argument:expr),*)) => {
        match $shim.real.functions.$name {
            // SAFETY: the arguments are those that the caller gave for the same function, or have their
            // types and lengths.
            Some(real) => unsafe { real($($argument),*) },
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
use forward;

unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
    call(Function::Initialize, Target::Module, |shim, effect| {
        failing(effect).unwrap_or_else(|| {
            let Some(parameters) = shim.parameters() else {
                return forward!(shim, C_Initialize(arguments));
            };
            let mut own = CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..Default::default() };
            if !arguments.is_null() {
                // SAFETY: what is given here has this type (PKCS #11 2.40 5.4 C_Initialize).
                own = unsafe { *arguments.cast::<CK_C_INITIALIZE_ARGS>() };
            }
            own.pReserved = parameters.as_ptr().cast_mut().cast();
            forward!(shim, C_Initialize((&raw mut own).cast()))
        })
    })
}

unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
    call(Function::Finalize, Target::Module, |shim, effect| {
        let value = failing(effect).unwrap_or_else(|| forward!(shim, C_Finalize(reserved)));
        if value == CKR_OK {
            shim.sessions.all_closed(None);
        }
        value
    })
}

unsafe extern "C" fn C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    call(Function::GetSlotList, Target::Module, |shim, effect| {
        if let Some(value) = failing(effect) {
            return value;
        }
        if present == CK_FALSE || count.is_null() {
            return forward!(shim, C_GetSlotList(present, slots, count));
        }
        let mut found = match shim.real.slots(true) {
            Ok(found) => found,
            Err(value) => return value,
        };
        found.retain(|slot| !shim.is_absent(*slot));
        // SAFETY: the caller gave a place for a number, which says how much room `slots` has.
        let room = unsafe { count.replace(found.len() as CK_ULONG) };
        if slots.is_null() {
            return CKR_OK;
        }
        if room < found.len() as CK_ULONG {
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: `slots` has room for that many, and is the caller's own.
        unsafe { ptr::copy_nonoverlapping(found.as_ptr(), slots, found.len()) };
        CKR_OK
    })
}

unsafe extern "C" fn C_GetSlotInfo(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) -> CK_RV {
    call(Function::GetSlotInfo, Target::Slot(slot), |shim, effect| {
        let value = failing(effect).unwrap_or_else(|| forward!(shim, C_GetSlotInfo(slot, info)));
        if value == CKR_OK && effect.absent {
            // SAFETY: the real module has just filled it.
            unsafe { (*info).flags &= !CKF_TOKEN_PRESENT };
        }
        value
    })
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    call(Function::GetTokenInfo, Target::Slot(slot), |shim, effect| {
        let value = failing(effect).unwrap_or_else(|| forward!(shim, C_GetTokenInfo(slot, info)));
        if let (CKR_OK, Some(limit)) = (value, effect.session_limit) {
            // SAFETY: the real module has just filled it.
            unsafe {
                (*info).ulMaxSessionCount = limit;
                (*info).ulMaxRwSessionCount = limit;
            }
        }
        value
    })
}

unsafe extern "C" fn C_OpenSession(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    handle: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    call(Function::OpenSession, Target::Slot(slot), |shim, effect| {
        if let Some(value) = failing(effect) {
            return value;
        }
        shim.drain(slot);
        if !shim.sessions.reserve(slot, effect.session_limit) {
            return CKR_SESSION_COUNT;
        }
        let value = forward!(shim, C_OpenSession(slot, flags, application, notify, handle));
        // SAFETY: the real module has just filled it.
        let opened = (value == CKR_OK).then(|| unsafe { *handle });
        shim.sessions.opened(slot, shim.real.token_label(slot).unwrap_or_default(), opened);
        value
    })
}

unsafe extern "C" fn C_CloseSession(handle: CK_SESSION_HANDLE) -> CK_RV {
    call(Function::CloseSession, Target::Session(handle), |shim, effect| {
        let value = failing(effect).unwrap_or_else(|| forward!(shim, C_CloseSession(handle)));
        if value == CKR_OK {
            shim.sessions.closed(handle);
        }
        value
    })
}

unsafe extern "C" fn C_CloseAllSessions(slot: CK_SLOT_ID) -> CK_RV {
    call(Function::CloseAllSessions, Target::Slot(slot), |shim, effect| {
        let value = failing(effect).unwrap_or_else(|| forward!(shim, C_CloseAllSessions(slot)));
        if value == CKR_OK {
            shim.sessions.all_closed(Some(slot));
        }
        value
    })
}

/// Functions that make one output of one input and end the operation by that (PKCS #11 2.40 5.2).
macro_rules! single_part {
    ($($name:ident: $function:ident;)*) => {$(
        unsafe extern "C" fn $name(
            handle: CK_SESSION_HANDLE,
            input: *mut CK_BYTE,
            input_len: CK_ULONG,
            output: *mut CK_BYTE,
            output_len: *mut CK_ULONG,
        ) -> CK_RV {
            let target = if output.is_null() { Target::Size(handle) } else { Target::Session(handle) };
            call(Function::$function, target, |shim, effect| {
                if let Some(value) = failing(effect) {
                    // An error ends the operation too, except this one. So it is carried out into a bin.
                    if value != CKR_BUFFER_TOO_SMALL {
                        let mut bin = [0; 4096];
                        let mut len = bin.len() as CK_ULONG;
                        forward!(shim, $name(handle, input, input_len, bin.as_mut_ptr(), &raw mut len));
                    }
                    return value;
                }
                let value = forward!(shim, $name(handle, input, input_len, output, output_len));
                if value == CKR_OK && effect.corrupt {
                    // SAFETY: the real module has just written `output_len`, and so many octets to `output`.
                    unsafe {
                        if *output_len > 0
 && let Ok(middle) = usize::try_from(*output_len / 2) {
                            *output.add(middle) ^= 1;
                        }
                    }
                }
                value
            })
        }
    )*};
}

single_part! {
    C_Encrypt: Encrypt;
    C_Decrypt: Decrypt;
    C_Digest: Digest;
    C_Sign: Sign;
    C_SignRecover: SignRecover;
    C_VerifyRecover: VerifyRecover;
}
