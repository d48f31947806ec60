//! The raw loop: what a token gives to a program that does nothing but call it. Two calls per operation,
//! through the module's own function pointers, one session per thread.
#![expect(unsafe_code, reason = "a PKCS#11 module is a C library, and here nothing stands before it")]

use std::{ffi::c_void, mem::MaybeUninit, path::Path, ptr};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_C_INITIALIZE_ARGS, CK_FALSE, CK_FLAGS, CK_FUNCTION_LIST, CK_MECHANISM,
    CK_MECHANISM_TYPE, CK_OBJECT_CLASS, CK_OBJECT_HANDLE, CK_RSA_PKCS_OAEP_PARAMS, CK_RV, CK_SESSION_HANDLE,
    CK_SLOT_ID, CK_TOKEN_INFO, CK_TRUE, CK_ULONG, CKA_CLASS, CKA_EC_PARAMS, CKA_ID, CKA_LABEL, CKA_PRIVATE,
    CKA_SENSITIVE, CKA_SIGN, CKA_TOKEN, CKA_VERIFY, CKF_OS_LOCKING_OK, CKF_RW_SESSION, CKF_SERIAL_SESSION,
    CKG_MGF1_SHA1, CKM_EC_KEY_PAIR_GEN, CKM_ECDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_OAEP, CKM_SHA_1,
    CKO_PRIVATE_KEY, CKR_OK, CKU_USER, CKZ_DATA_SPECIFIED, Pkcs11,
};
use smime::{
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    key::Digest,
};

use super::operation::{Question, SECRET};

/// A module that this process has initialised, and a token of it that it is logged in to.
pub struct Token {
    functions: CK_FUNCTION_LIST,
    slot: CK_SLOT_ID,
    /// Keeps the login: it lasts while any session is open.
    _login: CK_SESSION_HANDLE,
    _library: Pkcs11,
}

/// A session with the key that it uses; not closed, because the process ends soon.
pub struct Session<'t> {
    token: &'t Token,
    handle: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    call: Call,
    output: [u8; 512],
    written: usize,
}

/// An operation with its parameters in C's form.
enum Call {
    Sign { mechanism: CK_MECHANISM_TYPE, data: Vec<u8> },
    Decrypt { mechanism: CK_MECHANISM_TYPE, oaep: Box<CK_RSA_PKCS_OAEP_PARAMS>, data: Vec<u8> },
}

// SAFETY: the only pointers within are those of the OAEP parameters, and they are null.
unsafe impl Send for Session<'_> {}

/// Calls a function of the module, and names it if it fails.
macro_rules! call {
    ($functions:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let function = $functions.$name.context(concat!(stringify!($name), " is missing"))?;
        // SAFETY: the arguments are those of the specification; pointers are to places that live until
        // the function returns, with room for the length that stands beside them.
        check(stringify!($name), unsafe { function($($argument),*) })?;
    }};
}

impl Token {
    /// Loads and initialises a module and logs in to its token of that label.
    pub fn open(module: &Path, label: &str, pin: &str) -> Result<Self> {
        // SAFETY: loading a library runs its initialisers; whoever names a PKCS#11 module trusts it.
        let library = unsafe { Pkcs11::new(module) }.with_context(|| module.display().to_string())?;
        let get = library.C_GetFunctionList.as_ref().map_err(|error| anyhow!("{error}"))?;
        let mut list = ptr::null_mut();
        // SAFETY: the function has this signature by the specification and writes one pointer.
        check("C_GetFunctionList", unsafe { get(&raw mut list) })?;
        ensure!(!list.is_null(), "C_GetFunctionList gave nothing");
        // SAFETY: the module gave a pointer to its list, which stands as long as it is loaded.
        let functions = unsafe { *list };
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: ptr::null_mut(),
        };
        call!(functions, C_Initialize((&raw mut arguments).cast()));
        let slot = find(&functions, label)?;
        let login = open(&functions, slot, CKF_SERIAL_SESSION)?;
        let mut pin = pin.as_bytes().to_vec();
        call!(functions, C_Login(login, CKU_USER, pin.as_mut_ptr(), length(&pin)));
        Ok(Self { functions, slot, _login: login, _library: library })
    }

    /// Makes so many P-256 keys on the token, in a session of its own.
    pub fn fill(&self, keys: usize) -> Result<()> {
        let handle = open(&self.functions, self.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)?;
        let mut mechanism = plain(CKM_EC_KEY_PAIR_GEN);
        // The object identifier of P-256 (RFC 5480 2.1.1.1) in DER.
        let mut curve = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let (mut yes, mut no) = (CK_TRUE, CK_FALSE);
        for number in 0..keys {
            let mut id = number.to_be_bytes();
            let mut label = format!("filling {number}").into_bytes();
            let attribute = |type_, value: &mut [u8]| CK_ATTRIBUTE {
                type_,
                pValue: value.as_mut_ptr().cast(),
                ulValueLen: length(value),
            };
            let mut flag = |type_, value: bool| {
                let value = if value { &raw mut yes } else { &raw mut no };
                CK_ATTRIBUTE { type_, pValue: value.cast(), ulValueLen: 1 }
            };
            let mut public = [
                flag(CKA_TOKEN, true),
                flag(CKA_PRIVATE, false),
                flag(CKA_VERIFY, true),
                attribute(CKA_EC_PARAMS, &mut curve),
                attribute(CKA_ID, &mut id),
                attribute(CKA_LABEL, &mut label),
            ];
            let mut private = [
                flag(CKA_TOKEN, true),
                flag(CKA_PRIVATE, true),
                flag(CKA_SENSITIVE, true),
                flag(CKA_SIGN, true),
                attribute(CKA_ID, &mut id),
                attribute(CKA_LABEL, &mut label),
            ];
            let (mut public_key, mut private_key) = (0, 0);
            call!(
                self.functions,
                C_GenerateKeyPair(
                    handle,
                    &raw mut mechanism,
                    public.as_mut_ptr(),
                    public.len() as CK_ULONG,
                    private.as_mut_ptr(),
                    private.len() as CK_ULONG,
                    &raw mut public_key,
                    &raw mut private_key,
                )
            );
        }
        Ok(())
    }

    /// A new session that asks the key of this label one question again and again.
    pub fn session(&self, label: &str, question: &Question) -> Result<Session<'_>> {
        let handle = open(&self.functions, self.slot, CKF_SERIAL_SESSION)?;
        let mut class: CK_OBJECT_CLASS = CKO_PRIVATE_KEY;
        let mut label = label.as_bytes().to_vec();
        let mut template = [
            CK_ATTRIBUTE {
                type_: CKA_CLASS,
                pValue: (&raw mut class).cast(),
                ulValueLen: size_of::<CK_OBJECT_CLASS>() as CK_ULONG,
            },
            CK_ATTRIBUTE { type_: CKA_LABEL, pValue: label.as_mut_ptr().cast(), ulValueLen: length(&label) },
        ];
        let mut key = 0;
        let mut found = 0;
        call!(self.functions, C_FindObjectsInit(handle, template.as_mut_ptr(), 2));
        call!(self.functions, C_FindObjects(handle, &raw mut key, 1, &raw mut found));
        call!(self.functions, C_FindObjectsFinal(handle));
        ensure!(found == 1, "there is no private key {:?}", String::from_utf8_lossy(&label));
        Ok(Session { token: self, handle, key, call: Call::of(question)?, output: [0; 512], written: 0 })
    }
}

impl Session<'_> {
    /// Asks once.
    pub fn ask(&mut self) -> Result<()> {
        let functions = &self.token.functions;
        let mut written = self.output.len() as CK_ULONG;
        let output = self.output.as_mut_ptr();
        match &mut self.call {
            Call::Sign { mechanism, data } => {
                let mut mechanism = plain(*mechanism);
                call!(functions, C_SignInit(self.handle, &raw mut mechanism, self.key));
                call!(
                    functions,
                    C_Sign(self.handle, data.as_mut_ptr(), length(data), output, &raw mut written)
                );
                ensure!(written >= 64, "a signature of {written} octets");
            }
            Call::Decrypt { mechanism, oaep, data } => {
                let mut mechanism = plain(*mechanism);
                if mechanism.mechanism == CKM_RSA_PKCS_OAEP {
                    mechanism.pParameter = (&raw mut **oaep).cast::<c_void>();
                    mechanism.ulParameterLen = size_of::<CK_RSA_PKCS_OAEP_PARAMS>() as CK_ULONG;
                }
                call!(functions, C_DecryptInit(self.handle, &raw mut mechanism, self.key));
                call!(
                    functions,
                    C_Decrypt(self.handle, data.as_mut_ptr(), length(data), output, &raw mut written)
                );
                ensure!(self.output.starts_with(&SECRET), "a decryption gave something else");
            }
        }
        self.written = usize::try_from(written)?;
        Ok(())
    }

    /// What it was told the last time.
    pub fn answer(&self) -> &[u8] {
        self.output.get(..self.written).unwrap_or_default()
    }
}

impl Call {
    fn of(question: &Question) -> Result<Self> {
        let oaep = || {
            Box::new(CK_RSA_PKCS_OAEP_PARAMS {
                hashAlg: CKM_SHA_1,
                mgf: CKG_MGF1_SHA1,
                source: CKZ_DATA_SPECIFIED,
                pSourceData: ptr::null_mut(),
                ulSourceDataLen: 0,
            })
        };
        match question {
            Question::Sign(digest, SignatureAlgorithm::Ecdsa(_)) => {
                Ok(Self::Sign { mechanism: CKM_ECDSA, data: digest.as_bytes().to_vec() })
            }
            Question::Sign(digest, SignatureAlgorithm::RsaPkcs1(_)) => {
                Ok(Self::Sign { mechanism: CKM_RSA_PKCS, data: digest_info(digest) })
            }
            Question::Decrypt(data, KeyEncryptionAlgorithm::RsaPkcs1) => {
                Ok(Self::Decrypt { mechanism: CKM_RSA_PKCS, oaep: oaep(), data: data.clone() })
            }
            Question::Decrypt(data, KeyEncryptionAlgorithm::RsaOaep { .. }) => {
                Ok(Self::Decrypt { mechanism: CKM_RSA_PKCS_OAEP, oaep: oaep(), data: data.clone() })
            }
            other => bail!("the raw loop has no {other:?}"),
        }
    }
}

fn find(functions: &CK_FUNCTION_LIST, label: &str) -> Result<CK_SLOT_ID> {
    let mut slots: [CK_SLOT_ID; 64] = [0; 64];
    let mut count = slots.len() as CK_ULONG;
    call!(functions, C_GetSlotList(CK_TRUE, slots.as_mut_ptr(), &raw mut count));
    for slot in slots.into_iter().take(usize::try_from(count)?) {
        let mut info = MaybeUninit::<CK_TOKEN_INFO>::zeroed();
        call!(functions, C_GetTokenInfo(slot, info.as_mut_ptr()));
        // SAFETY: numbers and octets only, for which zeros are values too.
        let info = unsafe { info.assume_init() };
        if String::from_utf8_lossy(&info.label).trim_end() == label {
            return Ok(slot);
        }
    }
    bail!("there is no token {label:?}")
}

fn open(functions: &CK_FUNCTION_LIST, slot: CK_SLOT_ID, flags: CK_FLAGS) -> Result<CK_SESSION_HANDLE> {
    let mut handle = 0;
    call!(functions, C_OpenSession(slot, flags, ptr::null_mut(), None, &raw mut handle));
    Ok(handle)
}

fn check(function: &str, value: CK_RV) -> Result<()> {
    ensure!(value == CKR_OK, "{function} returned {value:#x}");
    Ok(())
}

fn plain(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

fn length(octets: &[u8]) -> CK_ULONG {
    octets.len() as CK_ULONG
}

/// DigestInfo of a SHA-256 digest in DER (RFC 8017 9.2 note 1).
fn digest_info(digest: &Digest) -> Vec<u8> {
    let head = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
        0x04, 0x20,
    ];
    [&head[..], digest.as_bytes()].concat()
}
