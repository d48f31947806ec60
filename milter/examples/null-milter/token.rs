//! A token asked by nothing but its own functions: `C_SignInit` and `C_Sign`, or `C_DecryptInit` and `C_Decrypt`, in
//! sessions that are logged in from the start.
#![expect(unsafe_code, reason = "a PKCS#11 module is a C library, and here nothing stands before it")]

use std::path::Path;
use std::{mem, ptr};

use anyhow::{Context as _, Result, anyhow, ensure};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_MECHANISM, CK_MECHANISM_TYPE, CK_OBJECT_CLASS,
    CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_TRUE, CK_ULONG, CKA_CLASS, CKA_LABEL, CKF_OS_LOCKING_OK,
    CKF_SERIAL_SESSION, CKO_PRIVATE_KEY, CKR_OK, CKU_USER, Pkcs11,
};

/// A session with the key that it uses.
pub(crate) struct Session {
    /// The module's, which stays loaded.
    functions: &'static CK_FUNCTION_LIST,
    handle: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    answer: [u8; 512],
}

/// Calls a function of the module, and names it if it fails.
macro_rules! call {
    ($functions:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let function = $functions.$name.context(concat!(stringify!($name), " is missing"))?;
        // SAFETY: the arguments are those of the specification; pointers are to places that live until
        // the function returns, with room for the length that stands beside them.
        check(stringify!($name), unsafe { function($($argument),*) })?;
    }};
}

/// So many sessions with the first token of a module, each with the key of this label.
pub(crate) fn sessions(
    module: &Path,
    pin: &str,
    label: &str,
    mechanism: CK_MECHANISM_TYPE,
    count: usize,
) -> Result<Vec<Session>> {
    // SAFETY: loading a library runs its initialisers; whoever names a PKCS#11 module trusts it.
    let library = unsafe { Pkcs11::new(module) }.with_context(|| module.display().to_string())?;
    let get = *library.C_GetFunctionList.as_ref().map_err(|error| anyhow!("{error}"))?;
    // What the pointers lead into stays as long as the process.
    mem::forget(library);
    let mut list = ptr::null_mut();
    // SAFETY: the function has this signature by the specification and writes one pointer.
    check("C_GetFunctionList", unsafe { get(&raw mut list) })?;
    // SAFETY: null or the module's list, which stands as long as it is loaded.
    let functions: &'static CK_FUNCTION_LIST = unsafe { list.as_ref() }.context("no functions")?;
    let mut arguments = CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..Default::default() };
    call!(functions, C_Initialize((&raw mut arguments).cast()));
    let (mut slots, mut found) = ([0; 64], 64);
    call!(functions, C_GetSlotList(CK_TRUE, slots.as_mut_ptr(), &raw mut found));
    let [slot, ..] = slots;
    let mut sessions = Vec::new();
    for number in 0..count {
        let mut handle = 0;
        call!(functions, C_OpenSession(slot, CKF_SERIAL_SESSION, ptr::null_mut(), None, &raw mut handle));
        if number == 0 {
            let mut pin = pin.as_bytes().to_vec();
            call!(functions, C_Login(handle, CKU_USER, pin.as_mut_ptr(), length(&pin)));
        }
        let key = find(functions, handle, label)?;
        sessions.push(Session { functions, handle, key, mechanism, answer: [0; 512] });
    }
    Ok(sessions)
}

impl Session {
    /// Has this signed.
    pub(crate) fn sign(&mut self, data: &[u8]) -> Result<&[u8]> {
        let (mut mechanism, mut data) = (self.mechanism(), data.to_vec());
        let mut written = self.answer.len() as CK_ULONG;
        call!(self.functions, C_SignInit(self.handle, &raw mut mechanism, self.key));
        call!(
            self.functions,
            C_Sign(self.handle, data.as_mut_ptr(), length(&data), self.answer.as_mut_ptr(), &raw mut written)
        );
        self.answered(written)
    }

    /// Has this decrypted.
    pub(crate) fn decrypt(&mut self, data: &[u8]) -> Result<&[u8]> {
        let (mut mechanism, mut data) = (self.mechanism(), data.to_vec());
        let mut written = self.answer.len() as CK_ULONG;
        call!(self.functions, C_DecryptInit(self.handle, &raw mut mechanism, self.key));
        call!(
            self.functions,
            C_Decrypt(
                self.handle,
                data.as_mut_ptr(),
                length(&data),
                self.answer.as_mut_ptr(),
                &raw mut written
            )
        );
        self.answered(written)
    }

    fn mechanism(&self) -> CK_MECHANISM {
        CK_MECHANISM { mechanism: self.mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 }
    }

    fn answered(&self, written: CK_ULONG) -> Result<&[u8]> {
        let answer = self.answer.get(..usize::try_from(written)?).unwrap_or_default();
        ensure!(answer.len() >= 32, "{} octets came back", answer.len());
        Ok(answer)
    }
}

fn find(functions: &CK_FUNCTION_LIST, handle: CK_SESSION_HANDLE, label: &str) -> Result<CK_OBJECT_HANDLE> {
    let (mut class, mut name): (CK_OBJECT_CLASS, _) = (CKO_PRIVATE_KEY, label.as_bytes().to_vec());
    let mut template = [
        CK_ATTRIBUTE {
            type_: CKA_CLASS,
            pValue: (&raw mut class).cast(),
            ulValueLen: size_of::<CK_OBJECT_CLASS>() as CK_ULONG,
        },
        CK_ATTRIBUTE { type_: CKA_LABEL, pValue: name.as_mut_ptr().cast(), ulValueLen: length(&name) },
    ];
    let (mut key, mut found) = (0, 0);
    call!(functions, C_FindObjectsInit(handle, template.as_mut_ptr(), template.len() as CK_ULONG));
    call!(functions, C_FindObjects(handle, &raw mut key, 1, &raw mut found));
    call!(functions, C_FindObjectsFinal(handle));
    ensure!(found == 1, "there is no private key {label:?}");
    Ok(key)
}

fn check(function: &str, value: CK_RV) -> Result<()> {
    ensure!(value == CKR_OK, "{function} returned {value:#x}");
    Ok(())
}

fn length(octets: &[u8]) -> CK_ULONG {
    octets.len() as CK_ULONG
}
