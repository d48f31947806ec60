//! Unwrapping keys on the token, without telling a sender what the token thought of the ciphertext.
//!
//! `C_Decrypt` is raw RSA with an unpadding step. Whoever learns whether the padding was right can decrypt
//! any message and forge signatures of that key by asking some 10,000 times (RFC 3218; Bleichenbacher for
//! PKCS #1 v1.5, Manger for OAEP). Three kinds of errors must be told apart:
//!
//! - Errors of `C_DecryptInit` speak of the key, the mechanism and its parameters. The ciphertext has
//!   not been shown yet, so they may be reported as what they are.
//! - Return values of `C_Decrypt` that mean "bad ciphertext" are [`Unwrapped::Rejected`], a value.
//! - Return values that mean anything (`CKR_GENERAL_ERROR`, which is SoftHSM's for bad padding,
//!   `CKR_FUNCTION_FAILED`, `CKR_DEVICE_ERROR`, vendors' own): taking them for token trouble would make
//!   token trouble an oracle, and taking them for a bad ciphertext would lose good mail when a token fails.
//!   So the token is asked for something else: is the session logged in, is the key object there? If both
//!   answers come, the token is well and it was the ciphertext.
//!
//! That question takes time, and asked only after failures it would be an oracle by the clock. A token that
//! once reported a bad ciphertext that way is therefore asked after every decryption, good or bad. Tokens
//! with honest codes are never asked. What the token's own clock tells is beyond us.

use std::sync::atomic::Ordering;

use cryptoki::{
    error::RvError,
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::AttributeType,
    session::SessionState,
};
use smime::{
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm},
    key::{ContentEncryptionKey, Unwrapped},
};
use zeroize::Zeroizing;

use crate::{
    call::CallError,
    oaep, pkcs1,
    private_key::{OperationError, PrivateKey},
    public_key::PublicKey,
    sign::or_unsupported,
    token::Token,
};

/// Unwraps an encrypted key.
pub(crate) fn decrypt(
    key: PrivateKey<'_>,
    public_key: &PublicKey,
    encrypted_key: &[u8],
    algorithm: &KeyEncryptionAlgorithm,
    token: &Token,
) -> Result<Unwrapped, OperationError> {
    let PublicKey::Rsa { modulus, .. } = public_key else {
        return Err(OperationError::Unsupported(format!("{algorithm:?} with an elliptic curve key")));
    };
    // RFC 8017 7.1.2 and 7.2.2, step 1. The length is seen by everybody, so the token need not be asked.
    if encrypted_key.len() != modulus.len() {
        return Ok(Unwrapped::Rejected);
    }
    let call = |mechanism: &Mechanism<'_>| {
        run(key, encrypted_key, mechanism, token).map_err(|error| or_unsupported(error, &name(algorithm)))
    };
    // Which way is taken depends on the token and on the algorithm in the message, not on the ciphertext.
    let refused = match token_mechanism(token, algorithm) {
        Some(mechanism) => match call(&mechanism) {
            Ok(octets) => return Ok(octets.map_or(Unwrapped::Rejected, unwrapped)),
            Err(error @ OperationError::Unsupported(_)) => Some(error),
            Err(error) => return Err(error),
        },
        None => None,
    };
    // The token does not take the padding off, or not this one. So it is done here.
    let octets = match call(&Mechanism::RsaX509) {
        // What is told is what became of the better way.
        Err(OperationError::Unsupported(reason)) => {
            return Err(refused.unwrap_or(OperationError::Unsupported(reason)));
        }
        octets => octets?,
    };
    let Some(octets) = octets else { return Ok(Unwrapped::Rejected) };
    let encoded = left_padded(&octets, modulus.len());
    match algorithm {
        KeyEncryptionAlgorithm::RsaPkcs1 => Ok(pkcs1::decode(&encoded)),
        KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label } => {
            Ok(oaep::decode(&encoded, *hash, *mask_hash, label))
        }
        other => Err(OperationError::Unsupported(name(other))),
    }
}

/// The mechanism by which the token takes the padding off itself, if it is worth asking for that.
fn token_mechanism(token: &Token, algorithm: &KeyEncryptionAlgorithm) -> Option<Mechanism<'static>> {
    let abilities = token.abilities();
    match algorithm {
        KeyEncryptionAlgorithm::RsaPkcs1 if abilities.may_decrypt_pkcs1() => Some(Mechanism::RsaPkcs),
        // SoftHSM 2.6.1 takes a label without a word and ignores it.
        KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label }
            if label.is_empty() && abilities.may_decrypt_oaep(*hash, *mask_hash) =>
        {
            oaep_mechanism(*hash, *mask_hash)
        }
        _ => None,
    }
}

fn unwrapped(mut octets: Zeroizing<Vec<u8>>) -> Unwrapped {
    Unwrapped::Key(ContentEncryptionKey::new(std::mem::take(&mut *octets)))
}

/// One `C_Decrypt`. `None`: the ciphertext is bad.
pub(crate) fn run(
    key: PrivateKey<'_>,
    encrypted_key: &[u8],
    mechanism: &Mechanism<'_>,
    token: &Token,
) -> Result<Option<Zeroizing<Vec<u8>>>, OperationError> {
    let result = key.decrypt(mechanism, encrypted_key, encrypted_key.len());
    let verdict = match &result {
        Ok(_) => None,
        Err(OperationError::Call(error)) => Some(verdict(error)),
        Err(_) => Some(Verdict::NotShown),
    };
    if verdict == Some(Verdict::NotShown) {
        return result.map(Some);
    }
    let checks = &token.checks_decryption;
    let checked = checks.load(Ordering::Relaxed).then(|| check(key));
    match verdict {
        Some(Verdict::Rejected) => Ok(None),
        Some(Verdict::Ambiguous) => {
            checked.unwrap_or_else(|| check(key))?;
            checks.store(true, Ordering::Relaxed);
            Ok(None)
        }
        None | Some(Verdict::Failed | Verdict::NotShown) => result.map(Some),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The token has not been shown the ciphertext.
    NotShown,
    /// The ciphertext is bad.
    Rejected,
    /// Session, token or key are; the ciphertext has no part in it.
    Failed,
    /// One of both.
    Ambiguous,
}

fn verdict(error: &CallError) -> Verdict {
    if error.function != "C_Decrypt" {
        return Verdict::NotShown;
    }
    let Some(rv) = error.rv() else { return Verdict::Ambiguous };
    match rv {
        // PKCS #11 2.40 5.1.6; CKR_DATA_* is for plaintexts, but what unpadding gives is one.
        RvError::EncryptedDataInvalid
        | RvError::EncryptedDataLenRange
        | RvError::DataInvalid
        | RvError::DataLenRange
        | RvError::WrappedKeyInvalid
        | RvError::WrappedKeyLenRange => Verdict::Rejected,
        // Found before any ciphertext is looked at, or whatever it is.
        RvError::SessionHandleInvalid
        | RvError::SessionClosed
        | RvError::UserNotLoggedIn
        | RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::OperationNotInitialized
        | RvError::OperationActive
        | RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::CryptokiNotInitialized
        | RvError::HostMemory
        | RvError::DeviceMemory
        | RvError::KeyFunctionNotPermitted
        | RvError::FunctionNotSupported => Verdict::Failed,
        _ => Verdict::Ambiguous,
    }
}

/// Whether the token still answers, knows us and has the key.
fn check(key: PrivateKey<'_>) -> Result<(), CallError> {
    let session = key.session.get()?;
    let state = session.get_session_info()?.session_state();
    let class = session.get_attributes(key.object.handle, &[AttributeType::Class])?;
    match state {
        SessionState::RoPublic | SessionState::RwPublic if class.is_empty() => {
            Err(CallError::new("C_GetSessionInfo", RvError::UserNotLoggedIn))
        }
        _ if class.is_empty() => Err(CallError::new("C_GetAttributeValue", RvError::ObjectHandleInvalid)),
        _ => Ok(()),
    }
}

pub(crate) fn oaep_mechanism(
    hash: DigestAlgorithm,
    mask_hash: DigestAlgorithm,
) -> Option<Mechanism<'static>> {
    let (hash, _) = names(hash)?;
    let (_, mask) = names(mask_hash)?;
    Some(Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty())))
}

/// `CKM_RSA_X_509` gives as many octets as the modulus has (PKCS #11 2.40 mechanisms 2.1.9), but some
/// tokens drop leading zeros. Copied in any case: whether the first octet is zero must not show by the clock.
fn left_padded(octets: &Zeroizing<Vec<u8>>, len: usize) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(Vec::with_capacity(len.max(octets.len())));
    padded.resize(len.saturating_sub(octets.len()), 0);
    padded.extend_from_slice(octets);
    padded
}

/// What PKCS #11 calls a hash and the mask by it. It has no mask by MD5.
pub(crate) fn names(digest: DigestAlgorithm) -> Option<(MechanismType, PkcsMgfType)> {
    Some(match digest {
        DigestAlgorithm::Md5 => return None,
        DigestAlgorithm::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        DigestAlgorithm::Sha224 => (MechanismType::SHA224, PkcsMgfType::MGF1_SHA224),
        DigestAlgorithm::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        DigestAlgorithm::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
        DigestAlgorithm::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
    })
}

fn name(algorithm: &KeyEncryptionAlgorithm) -> String {
    format!("decryption by {algorithm}")
}
