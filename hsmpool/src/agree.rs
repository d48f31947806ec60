//! Key agreement on the token: `CKM_ECDH1_DERIVE` without a key derivation function (PKCS #11 2.40
//! mechanisms 2.3.12), and the derived secret read out.
//!
//! The secret becomes a session object that lives only as long as it takes to read it. The private key's point
//! multiplication is what needs the token; key derivation and AES key wrap are done outside, because tokens
//! differ in those much more than in this.

use cryptoki::{
    error::RvError,
    mechanism::{
        Mechanism,
        elliptic_curve::{EcKdf, Ecdh1DeriveParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use der::{Encode, asn1::OctetStringRef};
use smime::agreement::{Agreed, OriginatorPublicKey, SharedSecret};

use crate::{
    call::CallError,
    private_key::{OperationError, PrivateKey},
    public_key::PublicKey,
};

/// Makes the shared secret of a private key and an originator's public key, whose point is known to be on
/// the curve.
pub(crate) fn agree(
    key: PrivateKey<'_>,
    public_key: &PublicKey,
    originator: &OriginatorPublicKey,
) -> Result<Agreed, OperationError> {
    let curve = originator.curve();
    if public_key.agreement_curve() != Some(curve) {
        let what = format!("key agreement on {curve:?}: the key is of another kind");
        return Err(OperationError::Unsupported(what));
    }
    // C_DeriveKey is one call, with no place for the login (PKCS #11 2.40 4.9 speaks of signing and decrypting).
    if key.object.always_authenticate {
        return Err(OperationError::Unsupported(format!(
            "key agreement on {curve:?}: the token wants the PIN at every use (CKA_ALWAYS_AUTHENTICATE)"
        )));
    }
    let session = key.session.get()?;
    let key = key.object.handle;
    let derived = derive(session, key, originator, originator.octets());
    let derived = match derived {
        Err(error) if may_want_der(&error) => {
            let wrapped = OctetStringRef::new(originator.octets()).and_then(|octets| octets.to_der());
            match wrapped.map(|wrapped| derive(session, key, originator, &wrapped)) {
                Ok(Ok(derived)) => Ok(derived),
                // What is told is what the form that all tokens must take gave.
                _ => Err(error),
            }
        }
        other => other,
    };
    let object = derived.map_err(|error| unsupported_by_token(error, originator))?;
    let value = session.get_attributes(object, &[AttributeType::Value]).map_err(CallError::from);
    // An object that stays costs the token memory until the session ends; that it could not be destroyed
    // does not make the secret a wrong one.
    if let Err(error) = session.destroy_object(object).map_err(CallError::from) {
        tracing::debug!(%error, "a shared secret could not be destroyed");
    }
    let octets = value?.into_iter().find_map(|attribute| match attribute {
        Attribute::Value(octets) => Some(octets),
        _ => None,
    });
    let Some(octets) = octets else {
        return Err(OperationError::Unsupported(format!(
            "key agreement on {curve:?}: the token does not let the shared secret out (CKA_SENSITIVE)"
        )));
    };
    Ok(SharedSecret::new(curve, octets).map_or(Agreed::Rejected, Agreed::Secret))
}

fn derive(
    session: &Session,
    key: ObjectHandle,
    originator: &OriginatorPublicKey,
    point: &[u8],
) -> Result<ObjectHandle, CallError> {
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), point));
    let len = u64::try_from(originator.curve().field_len()).unwrap_or_default();
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::ValueLen(len.into()),
    ];
    Ok(session.derive_key(&mechanism, key, &template)?)
}

/// Whether the token may have refused the bare point and take a DER OCTET STRING: PKCS #11 wants the former
/// to be taken, and older tokens know the latter only.
fn may_want_der(error: &CallError) -> bool {
    matches!(
        error.rv(),
        Some(
            RvError::MechanismParamInvalid
                | RvError::ArgumentsBad
                | RvError::DomainParamsInvalid
                | RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::FunctionFailed
                | RvError::GeneralError
        )
    )
}

/// Errors that speak of what this key and token can do.
fn unsupported_by_token(error: CallError, originator: &OriginatorPublicKey) -> OperationError {
    match error.rv() {
        Some(
            RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::KeySizeRange
            | RvError::CurveNotSupported
            | RvError::FunctionNotSupported
            | RvError::DomainParamsInvalid
            | RvError::TemplateInconsistent
            | RvError::AttributeValueInvalid
            | RvError::AttributeTypeInvalid
            | RvError::AttributeReadOnly
            | RvError::ArgumentsBad,
        ) => OperationError::Unsupported(format!("key agreement on {:?}: {error}", originator.curve())),
        _ => OperationError::Call(error),
    }
}
