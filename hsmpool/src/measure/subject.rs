//! What a token is measured with: keys, and what is done with them.

use std::fmt;

use aws_lc_rs::{
    agreement,
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey},
};
use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::Attribute,
};
use smime::{
    Certificate,
    agreement::{AgreementCurve, OriginatorPublicKey},
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::{ContentEncryptionKey, SignatureInput},
};

use crate::{
    agree::agree,
    call::CallError,
    generate::generate_pair,
    index::{Index, KeyObject, Object, Permissions, Purpose},
    keys::KeySpec,
    private_key::{OperationError, PrivateKey},
    public_key::{KeyName, PublicKey},
    session::OpenSession,
    sign::sign,
};

/// A kind of key and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subject {
    /// Such as `RSA 2048`.
    pub key: String,
    /// What is done.
    pub used: Use,
}

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// RSASSA-PKCS1-v1_5 (`CKM_RSA_PKCS`) or ECDSA (`CKM_ECDSA`) over a digest, or Ed25519 (`CKM_EDDSA`).
    Sign,
    /// RSASSA-PSS (`CKM_RSA_PKCS_PSS`) over a digest.
    SignPss,
    /// RSAES-PKCS1-v1_5 (`CKM_RSA_PKCS`).
    Decrypt,
    /// RSAES-OAEP (`CKM_RSA_PKCS_OAEP`) with SHA-1, the only hash that all tokens have.
    DecryptOaep,
    /// Diffie-Hellman on an elliptic curve (`CKM_ECDH1_DERIVE`), and the secret read out.
    Agree,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sign => "sign",
            Self::SignPss => "sign PSS",
            Self::Decrypt => "decrypt",
            Self::DecryptOaep => "decrypt OAEP",
            Self::Agree => "agree",
        })
    }
}

/// A subject, and how to ask for it; or why that cannot be.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) subject: Subject,
    pub(super) work: Result<Work, String>,
}

/// One operation, to be asked for again and again.
#[derive(Debug)]
pub(super) struct Work {
    key: KeyObject,
    public_key: PublicKey,
    question: Question,
}

#[derive(Debug)]
enum Question {
    Sign(SignatureInput<'static>, SignatureAlgorithm),
    Decrypt(Vec<u8>),
    DecryptOaep(Vec<u8>),
    Agree(OriginatorPublicKey),
}

impl Question {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Sign(..) => Purpose::Sign,
            Self::Decrypt(_) | Self::DecryptOaep(_) => Purpose::Decrypt,
            Self::Agree(_) => Purpose::Derive,
        }
    }
}

impl Work {
    /// Asks the token once.
    pub(super) fn ask(&self, session: &OpenSession) -> Result<(), CallError> {
        let key = PrivateKey { gate: None, session, object: self.key };
        let answered = match &self.question {
            Question::Sign(input, algorithm) => sign(key, &self.public_key, input, *algorithm).map(drop),
            Question::Decrypt(octets) => key.decrypt(&Mechanism::RsaPkcs, octets, octets.len()).map(drop),
            Question::DecryptOaep(octets) => {
                let parameters =
                    PkcsOaepParams::new(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, PkcsOaepSource::empty());
                key.decrypt(&Mechanism::RsaPkcsOaep(parameters), octets, octets.len()).map(drop)
            }
            Question::Agree(originator) => agree(key, &self.public_key, originator).map(drop),
        };
        answered.map_err(|error| match error {
            OperationError::Call(error) => error,
            OperationError::Unsupported(_) | OperationError::Refused(_) => {
                CallError::malformed("C_SignInit", "that it cannot do this")
            }
        })
    }
}

/// The keys of these certificates that are on the token, the first of each kind and size.
pub(super) fn on_the_token(
    session: &OpenSession,
    certificates: &[&Certificate],
) -> Result<Vec<Prepared>, CallError> {
    let index = Index::read(session.get()?)?;
    let mut prepared: Vec<Prepared> = Vec::new();
    for certificate in certificates {
        let name = KeyName::of_certificate(certificate);
        let Some(public_key) = name.public_key.clone().filter(|_| index.has(&name)) else { continue };
        let key = |purpose| index.find(&name, purpose);
        let kind = kind(&public_key);
        if prepared.iter().all(|other| other.subject.key != kind) {
            let info = certificate.public_key_info();
            prepared.extend(uses(
                &key,
                &public_key,
                &info,
                certificate.may_sign(),
                certificate.may_encrypt(),
            ));
        }
    }
    Ok(prepared)
}

/// New keys of these kinds that end with the session.
pub(super) fn temporary(session: &OpenSession, kinds: &[KeySpec]) -> Result<Vec<Prepared>, CallError> {
    let mut prepared = Vec::new();
    for kind in kinds {
        let [public, private] = generate_pair(session.get()?, *kind, &[Attribute::Token(false)])?;
        let unreadable =
            || CallError::malformed("C_GenerateKeyPair", "a key pair whose public key cannot be read");
        let object = Object::read(session.get()?, public)?;
        let info = object.public_key_info().ok_or_else(unreadable)?;
        let public_key = PublicKey::from_info(&info).ok_or_else(unreadable)?;
        let key =
            KeyObject { handle: private, always_authenticate: false, permissions: Permissions::default() };
        prepared.extend(uses(&|_| Some(key), &public_key, &info, true, true));
    }
    Ok(prepared)
}

/// What can be done with a key; `key` gives its object for that.
fn uses(
    key: &dyn Fn(Purpose) -> Option<KeyObject>,
    public_key: &PublicKey,
    info: &[u8],
    may_sign: bool,
    may_decrypt: bool,
) -> Vec<Prepared> {
    let prepared = |used, question: Result<Question, String>| {
        let subject = Subject { key: kind(public_key), used };
        let work = question.and_then(|question| {
            let key = key(question.purpose()).ok_or("the key is not there any more")?;
            Ok(Work { key, public_key: public_key.clone(), question })
        });
        Prepared { subject, work }
    };
    let sign = |algorithm| Ok(Question::Sign(SignatureInput::of(algorithm, b"measured"), algorithm));
    let mut all = Vec::new();
    if may_sign {
        let first = public_key.signature_algorithms().first();
        all.extend(first.map(|algorithm| prepared(Use::Sign, sign(*algorithm))));
        let pss = SignatureAlgorithm::RsaPss(DigestAlgorithm::Sha256);
        if public_key.signature_algorithms().contains(&pss) {
            all.push(prepared(Use::SignPss, sign(pss)));
        }
    }
    if may_decrypt && matches!(public_key, PublicKey::Rsa { .. }) {
        let ciphertext =
            |octets: Option<Vec<u8>>| octets.ok_or("nothing can be encrypted to the public key".to_owned());
        let (pkcs1, oaep) = (encrypt_pkcs1(info), encrypt_oaep(info));
        all.push(prepared(Use::Decrypt, ciphertext(pkcs1).map(Question::Decrypt)));
        all.push(prepared(Use::DecryptOaep, ciphertext(oaep).map(Question::DecryptOaep)));
    }
    if may_decrypt && let Some(curve) = public_key.agreement_curve() {
        let originator = originator(curve).ok_or("no key can be made to agree with".to_owned());
        all.push(prepared(Use::Agree, originator.map(Question::Agree)));
    }
    all
}

fn kind(public_key: &PublicKey) -> String {
    match public_key {
        PublicKey::Rsa { .. } => format!("RSA {}", public_key.bits()),
        PublicKey::Ec { .. } => format!("EC P-{}", public_key.bits()),
        PublicKey::Ed25519(_) => "Ed25519".to_owned(),
        PublicKey::X25519(_) => "X25519".to_owned(),
    }
}

/// A random key, encrypted by RSAES-PKCS1-v1_5.
fn encrypt_pkcs1(public_key_info: &[u8]) -> Option<Vec<u8>> {
    let secret = ContentEncryptionKey::random(32).ok()?;
    let public = PublicEncryptingKey::from_der(public_key_info).ok()?;
    let mut room = vec![0; public.key_size_bytes()];
    let written = Pkcs1PublicEncryptingKey::new(public).ok()?.encrypt(secret.expose(), &mut room).ok()?.len();
    room.truncate(written);
    Some(room)
}

/// A random key, encrypted by RSAES-OAEP.
fn encrypt_oaep(public_key_info: &[u8]) -> Option<Vec<u8>> {
    let secret = ContentEncryptionKey::random(32).ok()?;
    let public = PublicEncryptingKey::from_der(public_key_info).ok()?;
    let mut room = vec![0; public.key_size_bytes()];
    let public = OaepPublicEncryptingKey::new(public).ok()?;
    let written = public.encrypt(&OAEP_SHA1_MGF1SHA1, secret.expose(), &mut room, None).ok()?.len();
    room.truncate(written);
    Some(room)
}

/// The public half of a new key.
fn originator(curve: AgreementCurve) -> Option<OriginatorPublicKey> {
    let algorithm = match curve {
        AgreementCurve::P256 => &agreement::ECDH_P256,
        AgreementCurve::P384 => &agreement::ECDH_P384,
        AgreementCurve::P521 => &agreement::ECDH_P521,
        AgreementCurve::X25519 => &agreement::X25519,
    };
    let private = agreement::PrivateKey::generate(algorithm).ok()?;
    OriginatorPublicKey::new(curve, private.compute_public_key().ok()?.as_ref())
}
