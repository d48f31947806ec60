//! `C_Sign` and `C_Decrypt` called directly, with room for the answer, so that an operation is two calls.
//!
//! The wrapper's single-part functions make three calls (Init, a question for the size, the operation), and
//! between Init and the operation there is no place for `C_Login(CKU_CONTEXT_SPECIFIC)`. So the module's list
//! of functions is asked for a second time here; the library is loaded already, and the loader gives the same
//! instance. A module may give every asker an instance of its own (p11-kit's proxy does): [`Raw::knows`] finds
//! out, and then the wrapper's functions are used.
#![expect(unsafe_code, reason = "functions of a C library; each call says why it is sound")]

use std::{path::Path, ptr};

use cryptoki::{
    context::Function,
    error::{Rv, RvError},
    session::Session,
    slot::Slot,
};
use cryptoki_sys::{
    CK_BYTE, CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID, CK_TOKEN_INFO,
    CK_ULONG, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_SESSION_HANDLE_INVALID,
};
use zeroize::Zeroizing;

use crate::call::CallError;

/// The functions of a loaded module.
pub(crate) struct Raw {
    sign: SinglePart,
    decrypt: SinglePart,
    session_info: unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_SESSION_INFO) -> CK_RV,
    token_info: unsafe extern "C" fn(CK_SLOT_ID, *mut CK_TOKEN_INFO) -> CK_RV,
    /// The pointers above lead into it.
    _library: cryptoki_sys::Pkcs11,
}

/// The type that `C_Sign` and `C_Decrypt` share.
type SinglePart =
    unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG) -> CK_RV;

/// No signature or unwrapped key is longer: an RSA modulus has up to 16,384 bits.
const MAX_LEN: usize = 4096;

impl Raw {
    /// The functions of the module, which the wrapper has loaded before. `None` where it does not give them.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        // SAFETY: the same library is loaded in this process, so this runs no initialiser for the first time.
        // The symbols have the types of the specification, or it is no PKCS#11 module.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.ok()?;
        let list = function_list(&library)?;
        // SAFETY: the module gave this pointer to a list that is valid as long as the library is loaded
        // (PKCS #11 2.40 5.4 C_GetFunctionList), and nothing writes to it.
        let list = unsafe { list.as_ref() }?;
        Some(Self {
            sign: list.C_Sign?,
            decrypt: list.C_Decrypt?,
            session_info: list.C_GetSessionInfo?,
            token_info: list.C_GetTokenInfo?,
            _library: library,
        })
    }

    /// Whether a session that the wrapper opened is one of this list of functions too.
    pub(crate) fn knows(&self, session: &Session) -> bool {
        let mut info = CK_SESSION_INFO::default();
        // SAFETY: `info` is a place for the answer; what else may be wrong with the handle, the module tells.
        let value = unsafe { (self.session_info)(session.handle(), &raw mut info) };
        !matches!(value, CKR_CRYPTOKI_NOT_INITIALIZED | CKR_SESSION_HANDLE_INVALID)
    }

    /// `C_GetTokenInfo`, whose answer the wrapper gives only where it can read all of it. opencryptoki tells its
    /// time in another form than the specification's, and would not be seen for that.
    pub(crate) fn token_info(&self, slot: Slot) -> Result<CK_TOKEN_INFO, CallError> {
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: `info` is a place for the answer; a slot that there is not, the module tells.
        match Rv::from(unsafe { (self.token_info)(slot.id(), &raw mut info) }) {
            Rv::Ok => Ok(info),
            Rv::Error(error) => Err(failed(Function::GetTokenInfo, error)),
        }
    }

    /// `C_Sign`, after a `C_SignInit` in this session. `expected` is the usual length of the signature.
    pub(crate) fn sign(
        &self,
        session: &Session,
        data: &[u8],
        expected: usize,
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        call(self.sign, Function::Sign, session, data, expected)
    }

    /// `C_Decrypt`, after a `C_DecryptInit` in this session. `expected` is the greatest length of the plaintext.
    pub(crate) fn decrypt(
        &self,
        session: &Session,
        ciphertext: &[u8],
        expected: usize,
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        call(self.decrypt, Function::Decrypt, session, ciphertext, expected)
    }
}

/// The list that the wrapper uses too: of the default interface where that is of version 3 (PKCS #11 3.0 5.4.6),
/// else the one and only. All versions begin with the functions of 2.40.
fn function_list(library: &cryptoki_sys::Pkcs11) -> Option<*const CK_FUNCTION_LIST> {
    if library.C_GetInterface.is_ok() {
        let mut interface = ptr::null_mut();
        // SAFETY: null asks for the default interface of any version; `interface` is a place for the answer.
        let value =
            unsafe { library.C_GetInterface(ptr::null_mut(), ptr::null_mut(), &raw mut interface, 0) };
        if let Rv::Error(_) = Rv::from(value) {
            return None;
        }
        // SAFETY: null or an interface, which the module keeps while it is loaded.
        let list =
            unsafe { interface.as_ref() }.map(|it| it.pFunctionList.cast::<CK_FUNCTION_LIST>().cast_const());
        // SAFETY: null or a list of functions, whose first field is the version in all versions.
        let is_new = list.and_then(|list| unsafe { list.as_ref() }).is_some_and(|it| it.version.major >= 3);
        if is_new {
            return list;
        }
    }
    if library.C_GetFunctionList.is_err() {
        return None;
    }
    let mut list = ptr::null_mut();
    // SAFETY: `list` is a place for the answer.
    let value = unsafe { library.C_GetFunctionList(&raw mut list) };
    matches!(Rv::from(value), Rv::Ok).then_some(list.cast_const())
}

fn call(
    function: SinglePart,
    name: Function,
    session: &Session,
    input: &[u8],
    expected: usize,
) -> Result<Zeroizing<Vec<u8>>, CallError> {
    match attempt(function, name, session, input, expected)? {
        Attempt::Done(output) => Ok(output),
        // The operation goes on after this one error (PKCS #11 2.40 5.2).
        Attempt::NeedsRoom(len) => match attempt(function, name, session, input, len)? {
            Attempt::Done(output) => Ok(output),
            Attempt::NeedsRoom(_) => Err(failed(name, RvError::BufferTooSmall)),
        },
    }
}

enum Attempt {
    Done(Zeroizing<Vec<u8>>),
    NeedsRoom(usize),
}

fn attempt(
    function: SinglePart,
    name: Function,
    session: &Session,
    input: &[u8],
    room: usize,
) -> Result<Attempt, CallError> {
    let too_small = || failed(name, RvError::BufferTooSmall);
    if room > MAX_LEN {
        return Err(too_small());
    }
    let mut output = Zeroizing::new(vec![0; room]);
    let input_len = CK_ULONG::try_from(input.len()).map_err(|_| failed(name, RvError::DataLenRange))?;
    let mut len = CK_ULONG::try_from(room).map_err(|_| too_small())?;
    // SAFETY: the functions are of the module that opened the session (`knows`), which is initialised with
    // its own locking as long as the session's owner holds it; `Session` is not `Sync`, so no other thread is
    // in this session. Input and output are live, with the lengths given; the module only reads the input
    // (the specification has no `const`), and writes no more than `len` octets.
    let value = unsafe {
        function(session.handle(), input.as_ptr().cast_mut(), input_len, output.as_mut_ptr(), &raw mut len)
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    match Rv::from(value) {
        Rv::Ok if len <= room => {
            output.truncate(len);
            Ok(Attempt::Done(output))
        }
        Rv::Ok => Err(CallError {
            code: crate::call::Code::Malformed("more octets than it had room for"),
            ..too_small()
        }),
        // Some do not tell how much is enough.
        Rv::Error(RvError::BufferTooSmall) if room < MAX_LEN => {
            Ok(Attempt::NeedsRoom(if len > room { len } else { MAX_LEN }))
        }
        Rv::Error(error) => Err(failed(name, error)),
    }
}

fn failed(function: Function, value: RvError) -> CallError {
    CallError::from(cryptoki::error::Error::Pkcs11(value, function))
}
