//! Keys on a token for the administrator: make, list.
//!
//! These calls block on the token and have no deadline; a person waits for them.

use std::{path::Path, sync::Arc};

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
};
use der::Encode;

use crate::{
    PoolError, TokenSettings,
    call::CallError,
    index::{Object, PublicObjects, objects},
    login::LoginGate,
    module::Module,
    modules,
    public_key::{Curve, PublicKey, ec_info, key_identifier, rsa_info},
    session::{Access, OpenSession},
};

/// A kind of key to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySpec {
    /// RSA with a modulus of 2048, 3072 or 4096 bits: signs and decrypts.
    Rsa(u32),
    /// Elliptic curve P-256: signs and agrees on keys.
    P256,
    /// Elliptic curve P-384: signs and agrees on keys.
    P384,
}

/// A key that has been made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeneratedKey {
    /// `CKA_ID`.
    pub id: Vec<u8>,
    /// `SubjectPublicKeyInfo` in DER.
    pub public_key_info_der: Vec<u8>,
}

/// A private key on a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// `CKA_LABEL`; what is not UTF-8 is replaced.
    pub label: String,
    /// `CKA_ID` in hexadecimal.
    pub id: String,
    /// `RSA`, `EC`, `Ed25519`, `X25519`, or the number of another `CKK_` type.
    pub key_type: String,
    /// Bits of the modulus or of the curve's field, where known.
    pub size: Option<u32>,
    /// `CKA_SENSITIVE`, where the token tells.
    pub sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE`, where the token tells.
    pub extractable: Option<bool>,
    /// `CKA_ALWAYS_AUTHENTICATE`: the token wants the PIN at every use.
    pub always_authenticate: bool,
    /// `SubjectPublicKeyInfo` in DER, where the token shows the public key.
    pub public_key_info_der: Option<Vec<u8>>,
}

/// Makes a key pair on the token: sensitive, not extractable, for signing and for decrypting (RSA) or
/// deriving (EC). Without an `id`, `CKA_ID` becomes the SHA-1 of the public key, as certificates name it in
/// subjectKeyIdentifier (RFC 5280 4.2.1.2).
pub fn generate(
    settings: &TokenSettings,
    spec: KeySpec,
    label: &str,
    id: Option<&[u8]>,
) -> Result<GeneratedKey, PoolError> {
    if let KeySpec::Rsa(bits) = spec
        && ![2048, 3072, 4096].contains(&bits)
    {
        return Err(PoolError::KeySize { bits });
    }
    let session = log_in(settings, Access::ReadWrite)?;
    let failed = |error: CallError| PoolError::call(&settings.label, error);
    for object in objects(session.get().map_err(failed)?, ObjectClass::PRIVATE_KEY).map_err(failed)? {
        let exists =
            |attribute, value| PoolError::KeyExists { label: settings.label.clone(), attribute, value };
        if object.label == label.as_bytes() {
            return Err(exists("CKA_LABEL", label.to_owned()));
        }
        if id.is_some_and(|id| object.id == id) {
            return Err(exists("CKA_ID", data_encoding::HEXLOWER.encode(&object.id)));
        }
    }
    generate_in(&session, spec, label, id).map_err(failed)
}

/// All private keys of a token.
pub fn list(settings: &TokenSettings) -> Result<Vec<KeyInfo>, PoolError> {
    let session = log_in(settings, Access::ReadOnly)?;
    let failed = |error: CallError| PoolError::call(&settings.label, error);
    let session = session.get().map_err(failed)?;
    let private = objects(session, ObjectClass::PRIVATE_KEY).map_err(failed)?;
    let public = objects(session, ObjectClass::PUBLIC_KEY).map_err(failed)?;
    let public = PublicObjects::of(&public);
    Ok(private.iter().map(|object| describe(object, &public)).collect())
}

fn log_in(settings: &TokenSettings, access: Access) -> Result<OpenSession, PoolError> {
    let module: Arc<Module> = Module::open(Path::new(&settings.module))?;
    let (slot, _) = modules::find(&module, &settings.module, &settings.label)?;
    let session =
        OpenSession::open(&module, slot, access).map_err(|error| PoolError::call(&settings.label, error))?;
    let gate = LoginGate::new(&settings.label, &settings.pin);
    gate.log_in(&session).map_err(|error| error.into_pool_error(&settings.label))?;
    Ok(session)
}

fn generate_in(
    session: &OpenSession,
    spec: KeySpec,
    label: &str,
    id: Option<&[u8]>,
) -> Result<GeneratedKey, CallError> {
    let common = [Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec())];
    let given = id.map(|id| Attribute::Id(id.to_vec()));
    let mut public: Vec<Attribute> = common.iter().cloned().chain(given.clone()).collect();
    let mut private: Vec<Attribute> = common.into_iter().chain(given).collect();
    public.extend([Attribute::Private(false), Attribute::Verify(true)]);
    private.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Unwrap(false),
        // What is not said, some tokens allow.
        Attribute::Decrypt(matches!(spec, KeySpec::Rsa(_))),
        Attribute::Derive(!matches!(spec, KeySpec::Rsa(_))),
    ]);
    let mechanism = match spec {
        KeySpec::Rsa(bits) => {
            public.push(Attribute::ModulusBits(u64::from(bits).into()));
            public.push(Attribute::PublicExponent(vec![1, 0, 1]));
            public.push(Attribute::Encrypt(true));
            Mechanism::RsaPkcsKeyPairGen
        }
        KeySpec::P256 | KeySpec::P384 => {
            let curve = if spec == KeySpec::P256 { Curve::P256 } else { Curve::P384 };
            public.push(Attribute::EcParams(curve.oid().to_der().unwrap_or_default()));
            Mechanism::EccKeyPairGen
        }
    };
    let open = session.get()?;
    let (public, private) = open.generate_key_pair(&mechanism, &public, &private)?;
    let finished = finish(session, [public, private], id);
    if finished.is_err() {
        // Half a key would be in the way of the next try. If this fails too, the first error is told.
        let _ = open.destroy_object(private);
        let _ = open.destroy_object(public);
    }
    finished
}

/// Reads the public key and names the pair after it.
fn finish(
    session: &OpenSession,
    [public, private]: [ObjectHandle; 2],
    id: Option<&[u8]>,
) -> Result<GeneratedKey, CallError> {
    let open = session.get()?;
    let unreadable =
        || CallError::malformed("C_GenerateKeyPair", "a key pair whose public key cannot be read");
    let read = Object::read(open, public)?;
    let public_key_info_der = read.public_key_info().ok_or_else(unreadable)?;
    if let Some(id) = id {
        return Ok(GeneratedKey { id: id.to_vec(), public_key_info_der });
    }
    let id = key_identifier(&public_key_info_der).ok_or_else(unreadable)?;
    for object in [public, private] {
        open.update_attributes(object, &[Attribute::Id(id.clone())])?;
    }
    Ok(GeneratedKey { id, public_key_info_der })
}

fn describe(object: &Object, public: &PublicObjects<'_>) -> KeyInfo {
    let partner = || object.public_partner(public)?.public_key_info();
    let info = object.public_key_info().or_else(partner);
    let public_key = info.as_deref().and_then(PublicKey::from_info);
    KeyInfo {
        label: String::from_utf8_lossy(&object.label).into_owned(),
        id: data_encoding::HEXLOWER.encode(&object.id),
        key_type: match object.key_type {
            Some(KeyType::RSA) => "RSA".to_owned(),
            Some(KeyType::EC) => "EC".to_owned(),
            Some(KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => match public_key {
                Some(PublicKey::Ed25519(_)) => "Ed25519".to_owned(),
                Some(PublicKey::X25519(_)) => "X25519".to_owned(),
                _ => "Edwards or Montgomery".to_owned(),
            },
            Some(other) => other.to_string(),
            None => "unknown".to_owned(),
        },
        size: public_key.as_ref().map(PublicKey::bits),
        sensitive: object.sensitive,
        extractable: object.extractable,
        always_authenticate: object.always_authenticate,
        public_key_info_der: info,
    }
}

impl Object {
    /// The `SubjectPublicKeyInfo` that the object shows.
    pub(crate) fn public_key_info(&self) -> Option<Vec<u8>> {
        let given = self.public_key_info.clone().filter(|info| PublicKey::from_info(info).is_some());
        let from_rsa = || rsa_info(self.modulus.as_deref()?, self.exponent.as_deref()?);
        let from_ec = || ec_info(self.ec_parameters.as_deref()?, self.ec_point.as_deref()?);
        given.or_else(from_rsa).or_else(from_ec)
    }
}
