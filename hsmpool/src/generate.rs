//! Key pairs made on a token: `C_GenerateKeyPair`, with the templates of each kind of key.

use cryptoki::{
    error::RvError,
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::Session,
};
use der::{Encode, asn1::PrintableStringRef};

use crate::{
    call::CallError,
    keys::KeySpec,
    public_key::{Curve, ID_ED_25519, ID_X_25519},
};

/// Makes a key pair, public and private: sensitive, not extractable, for what the kind of key is good for and
/// nothing else. `common` is said of both.
pub(crate) fn generate_pair(
    session: &Session,
    spec: KeySpec,
    common: &[Attribute],
) -> Result<[ObjectHandle; 2], CallError> {
    let is_rsa = matches!(spec, KeySpec::Rsa(_));
    let signs = spec != KeySpec::X25519;
    let mut private = common.to_vec();
    private.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        // What is not said, some tokens allow.
        Attribute::Sign(signs),
        Attribute::Unwrap(false),
        Attribute::Decrypt(is_rsa),
        Attribute::Derive(!is_rsa && spec != KeySpec::Ed25519),
    ]);
    let mut first_error = None;
    for (mechanism, parameters) in ways(spec) {
        let mut public = common.to_vec();
        public.extend([Attribute::Private(false), Attribute::Verify(signs)]);
        public.extend(parameters);
        match session.generate_key_pair(&mechanism, &public, &private).map_err(CallError::from) {
            Ok((public, private)) => return Ok([public, private]),
            Err(error) if speaks_of_the_kind(&error) => {
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(first_error.unwrap_or(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| CallError::new("C_GenerateKeyPair", RvError::MechanismInvalid)))
}

/// Mechanism and public attributes for a kind of key, in the order in which to try them: tokens differ in how they
/// want the curves named that came with PKCS #11 3.0, and SoftHSM 2.6.1 makes X25519 keys by the Edwards mechanism.
fn ways(spec: KeySpec) -> Vec<(Mechanism<'static>, Vec<Attribute>)> {
    let named =
        |name: &dyn Fn() -> der::Result<Vec<u8>>| vec![Attribute::EcParams(name().unwrap_or_default())];
    let prime = |curve: Curve| vec![(Mechanism::EccKeyPairGen, named(&|| curve.oid().to_der()))];
    let text = |text: &'static str| named(&|| PrintableStringRef::new(text)?.to_der());
    match spec {
        KeySpec::Rsa(bits) => vec![(
            Mechanism::RsaPkcsKeyPairGen,
            vec![
                Attribute::ModulusBits(u64::from(bits).into()),
                Attribute::PublicExponent(vec![1, 0, 1]),
                Attribute::Encrypt(true),
            ],
        )],
        KeySpec::P256 => prime(Curve::P256),
        KeySpec::P384 => prime(Curve::P384),
        KeySpec::P521 => prime(Curve::P521),
        KeySpec::Ed25519 => vec![
            (Mechanism::EccEdwardsKeyPairGen, named(&|| ID_ED_25519.to_der())),
            (Mechanism::EccEdwardsKeyPairGen, text("edwards25519")),
        ],
        KeySpec::X25519 => vec![
            (Mechanism::EccMontgomeryKeyPairGen, named(&|| ID_X_25519.to_der())),
            (Mechanism::EccMontgomeryKeyPairGen, text("curve25519")),
            (Mechanism::EccEdwardsKeyPairGen, named(&|| ID_X_25519.to_der())),
        ],
    }
}

/// Whether an error says that the token makes no such keys, or not if asked like this.
pub(crate) fn speaks_of_the_kind(error: &CallError) -> bool {
    error.function == "C_GenerateKeyPair"
        && matches!(
            error.rv(),
            Some(
                RvError::MechanismInvalid
                    | RvError::MechanismParamInvalid
                    | RvError::AttributeValueInvalid
                    | RvError::AttributeTypeInvalid
                    | RvError::TemplateInconsistent
                    | RvError::TemplateIncomplete
                    | RvError::DomainParamsInvalid
                    | RvError::CurveNotSupported
                    | RvError::KeySizeRange
                    | RvError::ArgumentsBad
                    | RvError::FunctionNotSupported
                    | RvError::GeneralError
                    | RvError::FunctionFailed
            )
        )
}
