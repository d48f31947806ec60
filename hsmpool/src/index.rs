//! Which private keys a token has: one pass of `C_FindObjects`, looked up by public key.
//!
//! A private key is recognised by its public part, wherever the token shows it: in the private key
//! object, or in the public key object of the same `CKA_ID`. Only where it shows none at all, `CKA_ID`
//! itself decides: by convention it is the subjectKeyIdentifier or the SHA-1 of the public key.
//!
//! One private key may be several objects, of which one may sign and another decrypt.

use std::collections::HashMap;

use cryptoki::{
    error::RvError,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};

use crate::{
    call::CallError,
    public_key::{KeyName, PublicKey},
};

/// The private keys of a token at one time.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Grows with every pass that is kept; tells whether somebody has looked again meanwhile.
    pub(crate) generation: u64,
    by_public_key: HashMap<PublicKey, Vec<KeyObject>>,
    /// RSA keys whose object shows a modulus but no exponent.
    by_modulus: HashMap<Vec<u8>, Vec<KeyObject>>,
    /// Keys that show no public part, by kind and `CKA_ID`.
    by_id: HashMap<(Kind, Vec<u8>), Vec<KeyObject>>,
}

/// What a private key is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Sign,
    Decrypt,
    Derive,
}

/// A private key object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyObject {
    pub(crate) handle: ObjectHandle,
    /// `CKA_ALWAYS_AUTHENTICATE`: the token asks for the PIN at every use.
    pub(crate) always_authenticate: bool,
    pub(crate) permissions: Permissions,
}

/// What a key may be used for, where the token tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Permissions {
    /// `CKA_SIGN`.
    pub(crate) sign: Option<bool>,
    /// `CKA_DECRYPT`.
    pub(crate) decrypt: Option<bool>,
    /// `CKA_DERIVE`.
    pub(crate) derive: Option<bool>,
}

impl Permissions {
    /// Whether the key may be used for that, where the token tells.
    pub(crate) fn of(self, purpose: Purpose) -> Option<bool> {
        match purpose {
            Purpose::Sign => self.sign,
            Purpose::Decrypt => self.decrypt,
            Purpose::Derive => self.derive,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Rsa,
    Ec,
    /// Ed25519 and X25519: there are tokens (SoftHSM) that have both as `CKK_EC_EDWARDS`.
    Curve25519,
}

impl Index {
    /// Looks at all keys of the token.
    pub(crate) fn read(session: &Session) -> Result<Self, CallError> {
        let private = objects(session, ObjectClass::PRIVATE_KEY)?;
        let unclear = private.iter().any(|object| object.public_key().is_none());
        let public = if unclear { objects(session, ObjectClass::PUBLIC_KEY)? } else { Vec::new() };
        let public = PublicObjects::of(&public);
        let mut index = Self::default();
        for object in private {
            index.insert(&object, &public);
        }
        Ok(index)
    }

    /// The object to use a name's private key by: one that may do what is wanted rather than one that may not, one
    /// that shows the public key rather than one that is believed to be it, one that does not want the PIN for that.
    pub(crate) fn find(&self, name: &KeyName, purpose: Purpose) -> Option<KeyObject> {
        let objects = self.of(name).into_iter().enumerate();
        let objects = objects.flat_map(|(certainty, objects)| objects.iter().map(move |it| (certainty, it)));
        let best = objects.min_by_key(|(certainty, object)| {
            let permission = object.permissions.of(purpose);
            let (barred, untold) = (permission == Some(false), permission.is_none());
            (barred, *certainty, object.always_authenticate, untold, object.handle.handle())
        });
        best.map(|(_, object)| *object)
    }

    /// Whether there is an object of a name's private key, whatever it may do.
    pub(crate) fn has(&self, name: &KeyName) -> bool {
        self.of(name).iter().any(|objects| !objects.is_empty())
    }

    /// All objects of a name's private key, the surest first.
    fn of(&self, name: &KeyName) -> [&[KeyObject]; 3] {
        let Some(public_key) = &name.public_key else { return [&[]; 3] };
        let kind = match public_key {
            PublicKey::Rsa { .. } => Kind::Rsa,
            PublicKey::Ec { .. } => Kind::Ec,
            PublicKey::Ed25519(_) | PublicKey::X25519(_) => Kind::Curve25519,
        };
        let by_modulus = match public_key {
            PublicKey::Rsa { modulus, .. } => self.by_modulus.get(modulus),
            _ => None,
        };
        let by_id = || name.ids.iter().find_map(|id| self.by_id.get(&(kind, id.clone())));
        let by_id = if self.by_id.is_empty() { None } else { by_id() };
        [self.by_public_key.get(public_key), by_modulus, by_id]
            .map(|objects| objects.map_or(&[][..], Vec::as_slice))
    }

    /// An RSA key to try decryption with: the first that is large enough for every hash of OAEP, may decrypt and
    /// does not want the PIN for that.
    pub(crate) fn a_key_that_decrypts(&self) -> Option<(&PublicKey, KeyObject)> {
        let fits = |(public_key, object): &(&PublicKey, &KeyObject)| {
            matches!(public_key, PublicKey::Rsa { modulus, .. } if modulus.len() >= 256)
                && object.permissions.decrypt != Some(false)
                && !object.always_authenticate
        };
        let all =
            self.by_public_key.iter().flat_map(|(key, objects)| objects.iter().map(move |it| (key, it)));
        let first = all.filter(fits).min_by_key(|(_, object)| object.handle.handle());
        first.map(|(public_key, object)| (public_key, *object))
    }

    /// How many private key objects there are.
    pub(crate) fn len(&self) -> usize {
        let known = self.by_public_key.values().chain(self.by_modulus.values());
        known.chain(self.by_id.values()).map(Vec::len).sum()
    }

    fn insert(&mut self, object: &Object, public: &PublicObjects<'_>) {
        let Some(kind) = object.kind() else { return };
        let key = KeyObject {
            handle: object.handle,
            always_authenticate: object.always_authenticate,
            permissions: object.permissions,
        };
        if let Some(public_key) = object.public_key().or_else(|| object.public_partner(public)?.public_key())
        {
            self.by_public_key.entry(public_key).or_default().push(key);
        } else if let Some(modulus) = &object.modulus {
            if let PublicKey::Rsa { modulus, .. } = PublicKey::rsa(modulus, &[]) {
                self.by_modulus.entry(modulus).or_default().push(key);
            }
        } else if !object.id.is_empty() {
            self.by_id.entry((kind, object.id.clone())).or_default().push(key);
        }
    }
}

/// The attributes of a key object that matter here, and in the administrator's list.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) handle: ObjectHandle,
    pub(crate) id: Vec<u8>,
    pub(crate) label: Vec<u8>,
    pub(crate) key_type: Option<KeyType>,
    pub(crate) modulus: Option<Vec<u8>>,
    pub(crate) exponent: Option<Vec<u8>>,
    pub(crate) ec_parameters: Option<Vec<u8>>,
    pub(crate) ec_point: Option<Vec<u8>>,
    pub(crate) public_key_info: Option<Vec<u8>>,
    pub(crate) always_authenticate: bool,
    pub(crate) sensitive: Option<bool>,
    pub(crate) extractable: Option<bool>,
    pub(crate) permissions: Permissions,
}

impl Object {
    pub(crate) fn read(session: &Session, handle: ObjectHandle) -> Result<Self, CallError> {
        let mut object = Self {
            handle,
            id: Vec::new(),
            label: Vec::new(),
            key_type: None,
            modulus: None,
            exponent: None,
            ec_parameters: None,
            ec_point: None,
            public_key_info: None,
            always_authenticate: false,
            sensitive: None,
            extractable: None,
            permissions: Permissions::default(),
        };
        // One call for all. An attribute that an object does not have must not keep the token from
        // giving the others (PKCS #11 2.40 5.7.5 C_GetAttributeValue); where it does, they are asked for
        // one by one.
        object.ask(session, ATTRIBUTES)?;
        if object.key_type.is_none() {
            for attribute in ATTRIBUTES {
                object.ask(session, std::slice::from_ref(attribute))?;
            }
        }
        Ok(object)
    }

    fn ask(&mut self, session: &Session, attributes: &[AttributeType]) -> Result<(), CallError> {
        let values = match session.get_attributes(self.handle, attributes).map_err(CallError::from) {
            Ok(values) => values,
            Err(error) if concerns_the_object(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let filled = |value: Vec<u8>| Some(value).filter(|value| !value.is_empty());
        for value in values {
            match value {
                Attribute::Id(value) => self.id = value,
                Attribute::Label(value) => self.label = value,
                Attribute::KeyType(value) => self.key_type = Some(value),
                Attribute::Modulus(value) => self.modulus = filled(value),
                Attribute::PublicExponent(value) => self.exponent = filled(value),
                Attribute::EcParams(value) => self.ec_parameters = filled(value),
                Attribute::EcPoint(value) => self.ec_point = filled(value),
                Attribute::PublicKeyInfo(value) => self.public_key_info = filled(value),
                Attribute::AlwaysAuthenticate(value) => self.always_authenticate = value,
                Attribute::Sensitive(value) => self.sensitive = Some(value),
                Attribute::Extractable(value) => self.extractable = Some(value),
                Attribute::Sign(value) => self.permissions.sign = Some(value),
                Attribute::Decrypt(value) => self.permissions.decrypt = Some(value),
                Attribute::Derive(value) => self.permissions.derive = Some(value),
                _ => {}
            }
        }
        Ok(())
    }

    fn kind(&self) -> Option<Kind> {
        match self.key_type {
            Some(KeyType::RSA) => Some(Kind::Rsa),
            Some(KeyType::EC) => Some(Kind::Ec),
            Some(KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => Some(Kind::Curve25519),
            _ => None,
        }
    }

    fn public_key(&self) -> Option<PublicKey> {
        let from_info = || PublicKey::from_info(self.public_key_info.as_deref()?);
        let from_rsa = || Some(PublicKey::rsa(self.modulus.as_deref()?, self.exponent.as_deref()?));
        let from_ec =
            || PublicKey::from_ec_attributes(self.ec_parameters.as_deref()?, self.ec_point.as_deref()?);
        from_info().or_else(from_rsa).or_else(from_ec)
    }

    /// The public key object of this private key. Where several share the `CKA_ID`, the label decides;
    /// where that does not decide either, there is none: a wrong one would make wrong signatures.
    pub(crate) fn public_partner<'a>(&self, public: &PublicObjects<'a>) -> Option<&'a Object> {
        let same_id = || public.0.get(self.id.as_slice()).into_iter().flatten().copied();
        let same_id = || same_id().filter(|other| other.kind() == self.kind());
        only(same_id()).or_else(|| only(same_id().filter(|other| other.label == self.label)))
    }
}

/// Public key objects by `CKA_ID`; those without one are nobody's partners.
pub(crate) struct PublicObjects<'a>(HashMap<&'a [u8], Vec<&'a Object>>);

impl<'a> PublicObjects<'a> {
    pub(crate) fn of(objects: &'a [Object]) -> Self {
        let mut by_id: HashMap<&[u8], Vec<&Object>> = HashMap::new();
        for object in objects.iter().filter(|object| !object.id.is_empty()) {
            by_id.entry(&object.id).or_default().push(object);
        }
        Self(by_id)
    }
}

/// All key objects of a class.
pub(crate) fn objects(session: &Session, class: ObjectClass) -> Result<Vec<Object>, CallError> {
    let handles = session.find_objects(&[Attribute::Class(class)])?;
    let mut objects = Vec::with_capacity(handles.len());
    for handle in handles {
        objects.push(Object::read(session, handle)?);
    }
    Ok(objects)
}

const ATTRIBUTES: &[AttributeType] = &[
    AttributeType::KeyType,
    AttributeType::Id,
    AttributeType::Label,
    AttributeType::PublicKeyInfo,
    AttributeType::Modulus,
    AttributeType::PublicExponent,
    AttributeType::EcParams,
    AttributeType::EcPoint,
    AttributeType::AlwaysAuthenticate,
    AttributeType::Sensitive,
    AttributeType::Extractable,
    AttributeType::Sign,
    AttributeType::Decrypt,
    AttributeType::Derive,
];

fn only<T>(mut candidates: impl Iterator<Item = T>) -> Option<T> {
    candidates.next().filter(|_| candidates.next().is_none())
}

/// Whether only this object is affected, for instance deleted since it was found.
fn concerns_the_object(error: &CallError) -> bool {
    match error.rv() {
        None => true,
        Some(rv) => matches!(
            rv,
            RvError::ObjectHandleInvalid
                | RvError::AttributeTypeInvalid
                | RvError::AttributeSensitive
                | RvError::AttributeValueInvalid
                | RvError::ArgumentsBad
        ),
    }
}
