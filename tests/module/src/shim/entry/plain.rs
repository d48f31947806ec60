//! The functions that are only forwarded.

use std::ffi::c_void;

use cryptoki_sys::*;

use super::{call, failing, forward};
use crate::{Function, shim::Target};

macro_rules! plain {
    ($($name:ident: $function:ident, $target:expr, ($($argument:ident: $type:ty),*);)*) => {$(
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            call(Function::$function, $target, |shim, effect| {
                failing(effect).unwrap_or_else(|| forward!(shim, $name($($argument),*)))
            })
        }
    )*};
}

plain! {
    C_GetInfo: GetInfo, Target::Module, (a: *mut CK_INFO);
    C_WaitForSlotEvent: WaitForSlotEvent, Target::Module, (a: CK_FLAGS, b: *mut CK_SLOT_ID, c: *mut c_void);
    C_GetMechanismList: GetMechanismList, Target::Slot(slot), (slot: CK_SLOT_ID, b: *mut CK_MECHANISM_TYPE, c: *mut CK_ULONG);
    C_GetMechanismInfo: GetMechanismInfo, Target::Slot(slot), (slot: CK_SLOT_ID, b: CK_MECHANISM_TYPE, c: *mut CK_MECHANISM_INFO);
    C_InitToken: InitToken, Target::Slot(slot), (slot: CK_SLOT_ID, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR);
    C_InitPIN: InitPIN, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_UTF8CHAR, c: CK_ULONG);
    C_SetPIN: SetPIN, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR, e: CK_ULONG);
    C_GetSessionInfo: GetSessionInfo, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_SESSION_INFO);
    C_GetOperationState: GetOperationState, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_SetOperationState: SetOperationState, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: CK_OBJECT_HANDLE, e: CK_OBJECT_HANDLE);
    C_Login: Login, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: CK_USER_TYPE, c: *mut CK_UTF8CHAR, d: CK_ULONG);
    C_Logout: Logout, Target::Session(handle), (handle: CK_SESSION_HANDLE);
    C_CreateObject: CreateObject, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG, d: *mut CK_OBJECT_HANDLE);
    C_CopyObject: CopyObject, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_OBJECT_HANDLE);
    C_DestroyObject: DestroyObject, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    C_GetObjectSize: GetObjectSize, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ULONG);
    C_GetAttributeValue: GetAttributeValue, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG);
    C_SetAttributeValue: SetAttributeValue, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG);
    C_FindObjectsInit: FindObjectsInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG);
    C_FindObjects: FindObjects, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_OBJECT_HANDLE, c: CK_ULONG, d: *mut CK_ULONG);
    C_FindObjectsFinal: FindObjectsFinal, Target::Session(handle), (handle: CK_SESSION_HANDLE);
    C_EncryptInit: EncryptInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_EncryptUpdate: EncryptUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_EncryptFinal: EncryptFinal, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_DecryptInit: DecryptInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_DecryptUpdate: DecryptUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DecryptFinal: DecryptFinal, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_DigestInit: DigestInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM);
    C_DigestUpdate: DigestUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_DigestKey: DigestKey, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    C_DigestFinal: DigestFinal, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_SignInit: SignInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_SignUpdate: SignUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_SignFinal: SignFinal, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    C_SignRecoverInit: SignRecoverInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_VerifyInit: VerifyInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_Verify: Verify, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: CK_ULONG);
    C_VerifyUpdate: VerifyUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_VerifyFinal: VerifyFinal, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_VerifyRecoverInit: VerifyRecoverInit, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    C_DigestEncryptUpdate: DigestEncryptUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DecryptDigestUpdate: DecryptDigestUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_SignEncryptUpdate: SignEncryptUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_DecryptVerifyUpdate: DecryptVerifyUpdate, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_GenerateKey: GenerateKey, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_OBJECT_HANDLE);
    C_GenerateKeyPair: GenerateKeyPair, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_ATTRIBUTE, f: CK_ULONG, g: *mut CK_OBJECT_HANDLE, h: *mut CK_OBJECT_HANDLE);
    C_WrapKey: WrapKey, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: CK_OBJECT_HANDLE, e: *mut CK_BYTE, f: *mut CK_ULONG);
    C_UnwrapKey: UnwrapKey, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: *mut CK_BYTE, e: CK_ULONG, f: *mut CK_ATTRIBUTE, g: CK_ULONG, h: *mut CK_OBJECT_HANDLE);
    C_DeriveKey: DeriveKey, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: *mut CK_ATTRIBUTE, e: CK_ULONG, f: *mut CK_OBJECT_HANDLE);
    C_SeedRandom: SeedRandom, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_GenerateRandom: GenerateRandom, Target::Session(handle), (handle: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    C_GetFunctionStatus: GetFunctionStatus, Target::Session(handle), (handle: CK_SESSION_HANDLE);
    C_CancelFunction: CancelFunction, Target::Session(handle), (handle: CK_SESSION_HANDLE);
}
