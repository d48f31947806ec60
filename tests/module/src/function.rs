//! The functions of PKCS #11 2.40, in the order of `CK_FUNCTION_LIST`.

use std::{fmt, str::FromStr};

macro_rules! functions {
    ($($name:ident,)*) => {
        /// A function of a PKCS#11 module, named without its `C_`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are those of the specification")]
        pub enum Function { $($name,)* }

        impl Function {
            /// All of them; each stands at the place of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name of the specification, like `C_Sign`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => concat!("C_", stringify!($name)),)* }
            }
        }
    };
}

functions! {
    Initialize,
    Finalize,
    GetInfo,
    GetFunctionList,
    GetSlotList,
    GetSlotInfo,
    GetTokenInfo,
    GetMechanismList,
    GetMechanismInfo,
    InitToken,
    InitPIN,
    SetPIN,
    OpenSession,
    CloseSession,
    CloseAllSessions,
    GetSessionInfo,
    GetOperationState,
    SetOperationState,
    Login,
    Logout,
    CreateObject,
    CopyObject,
    DestroyObject,
    GetObjectSize,
    GetAttributeValue,
    SetAttributeValue,
    FindObjectsInit,
    FindObjects,
    FindObjectsFinal,
    EncryptInit,
    Encrypt,
    EncryptUpdate,
    EncryptFinal,
    DecryptInit,
    Decrypt,
    DecryptUpdate,
    DecryptFinal,
    DigestInit,
    Digest,
    DigestUpdate,
    DigestKey,
    DigestFinal,
    SignInit,
    Sign,
    SignUpdate,
    SignFinal,
    SignRecoverInit,
    SignRecover,
    VerifyInit,
    Verify,
    VerifyUpdate,
    VerifyFinal,
    VerifyRecoverInit,
    VerifyRecover,
    DigestEncryptUpdate,
    DecryptDigestUpdate,
    SignEncryptUpdate,
    DecryptVerifyUpdate,
    GenerateKey,
    GenerateKeyPair,
    WrapKey,
    UnwrapKey,
    DeriveKey,
    SeedRandom,
    GenerateRandom,
    GetFunctionStatus,
    CancelFunction,
    WaitForSlotEvent,
}

impl Function {
    /// Its place in [`Self::ALL`].
    pub(crate) fn number(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Function {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|function| function.name() == name);
        found.copied().ok_or_else(|| format!("PKCS #11 2.40 has no function {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_name_and_number() {
        assert_eq!(Function::ALL.len(), 68);
        for (number, function) in Function::ALL.iter().enumerate() {
            assert_eq!(function.number(), number);
            assert_eq!(function.name().parse(), Ok(*function));
        }
        assert!("Sign".parse::<Function>().is_err());
    }
}
