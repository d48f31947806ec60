//! Keys on a token for the administrator: make, list.
//!
//! These calls block on the token and have no deadline; a person waits for them.

use std::{fmt, path::Path, sync::Arc};

use crate::{
    PoolError, TokenSettings,
    call::CallError,
    generate::{generate_pair, speaks_of_the_kind},
    index::{Object, PublicObjects, objects},
    login::LoginGate,
    module::Module,
    modules,
    public_key::{PublicKey, ec_info, key_identifier, rsa_info},
    session::{Access, OpenSession},
};
use cryptoki::{
    error::RvError,
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
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
    /// Elliptic curve P-521: signs and agrees on keys.
    P521,
    /// Ed25519: signs.
    Ed25519,
    /// X25519: agrees on keys. It cannot sign its own certificate request.
    X25519,
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa(bits) => return write!(f, "RSA {bits}"),
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Ed25519 => "Ed25519",
            Self::X25519 => "X25519",
        })
    }
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
    generate_in(&session, spec, label, id).map_err(|error| {
        if error.rv() == Some(RvError::DeviceMemory) {
            return PoolError::Full { label: settings.label.clone(), function: error.function };
        }
        if !speaks_of_the_kind(&error) {
            return failed(error);
        }
        let (label, kind, code) = (settings.label.clone(), spec.to_string(), error.code.to_string());
        PoolError::KeyKind { label, kind, code }
    })
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
    let gate = LoginGate::of_process(settings);
    gate.log_in(&session).map_err(|error| error.into_pool_error(&settings.label))?;
    Ok(session)
}

fn generate_in(
    session: &OpenSession,
    spec: KeySpec,
    label: &str,
    id: Option<&[u8]>,
) -> Result<GeneratedKey, CallError> {
    let mut common = vec![Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec())];
    common.extend(id.map(|id| Attribute::Id(id.to_vec())));
    let open = session.get()?;
    let [public, private] = generate_pair(open, spec, &common)?;
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
