//! A PKCS#11 call that failed: the function and the return value by the names of the specification.

use std::fmt;

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};

/// A function of the module did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    /// The `C_` function.
    pub(crate) function: &'static str,
    /// What it returned.
    pub(crate) code: Code,
}

/// What a function returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// A `CKR_` value other than `CKR_OK`.
    Ckr(RvError),
    /// `CKR_OK`, but an answer that cannot be understood.
    Malformed(&'static str),
}

impl CallError {
    pub(crate) fn new(function: &'static str, rv: RvError) -> Self {
        Self { function, code: Code::Ckr(rv) }
    }

    pub(crate) fn malformed(function: &'static str, what: &'static str) -> Self {
        Self { function, code: Code::Malformed(what) }
    }

    /// The `CKR_` value, where there is one.
    pub(crate) fn rv(&self) -> Option<RvError> {
        match self.code {
            Code::Ckr(rv) => Some(rv),
            Code::Malformed(_) => None,
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let malformed = |what| Self::malformed("the PKCS#11 module", what);
        match error {
            Error::Pkcs11(rv, function) => Self::new(function_name(function), rv),
            Error::NullFunctionPointer => Self::new("the PKCS#11 module", RvError::FunctionNotSupported),
            Error::Utf8(_) | Error::NulError(_) => malformed("text that is not text"),
            Error::TryFromInt(_) | Error::TryFromSlice(_) | Error::ParseInt(_) => {
                malformed("a value of the wrong size")
            }
            _ => malformed("a value that PKCS#11 does not know"),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} returned {}", self.function, self.code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ckr(rv) => f.write_str(&ckr_name(*rv)),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

/// The name of a return value: `RvError::PinLenRange` is `CKR_PIN_LEN_RANGE`.
pub(crate) fn ckr_name(rv: RvError) -> String {
    match rv {
        RvError::VendorDefined(value) | RvError::UnknownErrorCode(value) => format!("CKR_{value:#010X}"),
        known => {
            let mut name = String::from("CKR");
            for character in format!("{known:?}").chars() {
                if character.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(character.to_ascii_uppercase());
            }
            name
        }
    }
}

fn function_name(function: Function) -> &'static str {
    match function {
        Function::Initialize => "C_Initialize",
        Function::Finalize => "C_Finalize",
        Function::GetFunctionList => "C_GetFunctionList",
        Function::GetInterface => "C_GetInterface",
        Function::GetInfo => "C_GetInfo",
        Function::GetSlotList => "C_GetSlotList",
        Function::GetSlotInfo => "C_GetSlotInfo",
        Function::GetTokenInfo => "C_GetTokenInfo",
        Function::GetMechanismList => "C_GetMechanismList",
        Function::OpenSession => "C_OpenSession",
        Function::CloseSession => "C_CloseSession",
        Function::GetSessionInfo => "C_GetSessionInfo",
        Function::Login => "C_Login",
        Function::FindObjectsInit => "C_FindObjectsInit",
        Function::FindObjects => "C_FindObjects",
        Function::GetAttributeValue => "C_GetAttributeValue",
        Function::SetAttributeValue => "C_SetAttributeValue",
        Function::SignInit => "C_SignInit",
        Function::Sign => "C_Sign",
        Function::DecryptInit => "C_DecryptInit",
        Function::Decrypt => "C_Decrypt",
        Function::DeriveKey => "C_DeriveKey",
        Function::DestroyObject => "C_DestroyObject",
        Function::GetMechanismInfo => "C_GetMechanismInfo",
        Function::GenerateKeyPair => "C_GenerateKeyPair",
        _ => "a PKCS#11 function",
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::object::KeyType;

    use super::*;

    #[test]
    fn return_values_have_the_names_of_the_specification() {
        for (rv, name) in [
            (RvError::GeneralError, "CKR_GENERAL_ERROR"),
            (RvError::PinLenRange, "CKR_PIN_LEN_RANGE"),
            (RvError::SlotIdInvalid, "CKR_SLOT_ID_INVALID"),
            (RvError::CryptokiNotInitialized, "CKR_CRYPTOKI_NOT_INITIALIZED"),
            (RvError::RandomNoRng, "CKR_RANDOM_NO_RNG"),
            (RvError::VendorDefined(0x8000_0031), "CKR_0x80000031"),
        ] {
            assert_eq!(ckr_name(rv), name);
        }
        let error = CallError::from(Error::Pkcs11(RvError::SessionCount, Function::OpenSession));
        assert_eq!(error.to_string(), "C_OpenSession returned CKR_SESSION_COUNT");
    }

    #[test]
    fn a_key_of_a_type_without_a_name_is_no_fault_of_the_module() {
        // CKK_HSS of PKCS #11 3.1, which cryptoki has no word for: it concerns that object, and not the token.
        let error = CallError::from(KeyType::try_from(0x46).unwrap_err());
        assert_eq!(error.rv(), None, "{error}");
    }
}
