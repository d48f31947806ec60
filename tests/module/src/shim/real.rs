//! The real module: loaded, and asked for what the shim itself wants to know.
#![expect(unsafe_code, reason = "a PKCS#11 module is a C library")]

use std::{ffi::OsStr, mem::MaybeUninit, ptr, sync::Arc};

use cryptoki_sys::{
    CK_FALSE, CK_FUNCTION_LIST, CK_SESSION_HANDLE, CK_SLOT_ID, CK_TOKEN_INFO, CK_TRUE, CKR_OK, Pkcs11,
};

/// Its functions. It stays loaded as long as the process lives.
pub(super) struct Real {
    pub(super) functions: CK_FUNCTION_LIST,
    _library: Pkcs11,
}

impl Real {
    pub(super) fn load(path: &OsStr) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        // SAFETY: loading a library runs its initialisers; whoever names a PKCS#11 module trusts it.
        let library = unsafe { Pkcs11::new(path) }.map_err(|error| named(&error))?;
        let get = library.C_GetFunctionList.as_ref().map_err(|error| named(error))?;
        let mut list = ptr::null_mut();
        // SAFETY: the function has this signature by the specification and writes one pointer.
        let value = unsafe { get(&raw mut list) };
        if value != CKR_OK || list.is_null() {
            return Err(named(&format!("C_GetFunctionList returned {value:#x}")));
        }
        // SAFETY: the module gave a pointer to its list, which stands as long as it is loaded. Every
        // version 2 has all functions of 2.40, each at its place.
        let functions = unsafe { *list };
        if functions.version.major != 2 {
            return Err(named(&format!("its functions have version {}", functions.version.major)));
        }
        Ok(Self { functions, _library: library })
    }

    /// The label of the token in a slot, without its padding.
    pub(super) fn token_label(&self, slot: CK_SLOT_ID) -> Option<Arc<str>> {
        let get = self.functions.C_GetTokenInfo?;
        let mut info = MaybeUninit::<CK_TOKEN_INFO>::zeroed();
        // SAFETY: `info` has room for what the function writes.
        if unsafe { get(slot, info.as_mut_ptr()) } != CKR_OK {
            return None;
        }
        // SAFETY: numbers and octets only, for which zeros are values too.
        let info = unsafe { info.assume_init() };
        Some(String::from_utf8_lossy(&info.label).trim_end().into())
    }

    /// All slots, with or without a token.
    pub(super) fn slots(&self, with_token: bool) -> Result<Vec<CK_SLOT_ID>, u64> {
        let get = self.functions.C_GetSlotList.ok_or(cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED)?;
        let mut slots = vec![0; 256];
        let mut count = slots.len() as u64;
        let present = if with_token { CK_TRUE } else { CK_FALSE };
        // SAFETY: `slots` has room for `count` numbers, and `count` says so.
        match unsafe { get(present, slots.as_mut_ptr(), &raw mut count) } {
            CKR_OK => {
                slots.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                Ok(slots)
            }
            value => Err(value),
        }
    }

    /// Closes a session that the caller has lost. Nobody may be using it.
    pub(super) fn close_session(&self, handle: CK_SESSION_HANDLE) {
        if let Some(close) = self.functions.C_CloseSession {
            // SAFETY: the function takes a number; if it names no session any more, it says so.
            unsafe { close(handle) };
        }
    }
}
