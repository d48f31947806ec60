//! What S/MIME is in a message, as far as it can be told without a key: layers, algorithms, recipients.
//!
//! Parts are looked into as well: what is encrypted in an attached message needs its key as much as the root does.

mod issuers;

use serde::Serialize;
use smime::{
    Room,
    algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
    cms::{EnvelopedData, Object, Recipient, RecipientIdentifier, SignedData, SignerIdentifier, SignerInfo},
    message::{Signature, Wrapped, WrappedError},
    mime::{ContentType, MAX_DEPTH, MimeEntity},
};
use x509_cert::name::Name;

use issuers::shown_issuer;

/// The S/MIME in a message, from outside in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The layers.
    pub layers: Vec<Layer>,
    /// Whether something in it was not looked into, which may be encrypted: it cannot be read, or there is too much of it.
    pub is_cut: bool,
}

/// One layer of S/MIME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Its form, in the words of RFC 8551 3.2.2; `unreadable` for what cannot be read.
    pub form: &'static str,
    /// The content cipher, or how it is signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// The keys that open it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<RecipientName>,
    /// Whose signatures it is said to have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<KeyName>,
    /// Whether it is in a part or an attached message, and not the message itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
}

/// A key by the name of its certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum KeyName {
    /// Of the certificate that this authority gave this number.
    Issued {
        /// The issuer, in the notation of RFC 4514.
        issuer: String,
        /// The serial number in hexadecimal.
        serial: String,
    },
    /// Of the certificate with this subjectKeyIdentifier, in hexadecimal.
    Identifier {
        /// The identifier.
        key_identifier: String,
    },
    /// There is no certificate: a password, or a key that both have.
    Other {
        /// What kind it is.
        kind: &'static str,
    },
}

/// A recipient, and what its key must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecipientName {
    /// Whose key.
    #[serde(flatten)]
    pub key: KeyName,
    /// The operation on a token.
    pub operation: &'static str,
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Issued { issuer, serial } => write!(f, "{serial} of {issuer}"),
            Self::Identifier { key_identifier } => write!(f, "key identifier {key_identifier}"),
            Self::Other { kind } => f.write_str(kind),
        }
    }
}

impl KeyName {
    /// What of it is in hexadecimal: the serial number or the key identifier.
    pub(crate) fn hex(&self) -> Option<&str> {
        match self {
            Self::Issued { serial: hex, .. } | Self::Identifier { key_identifier: hex } => Some(hex),
            Self::Other { .. } => None,
        }
    }

    /// The names that a certificate's key can have.
    pub fn of_certificate(certificate: &smime::Certificate) -> Vec<Self> {
        let issued =
            Self::Issued { issuer: shown_issuer(certificate.issuer()), serial: certificate.serial_hex() };
        let identifier = certificate.subject_key_identifier();
        let identifier = identifier.map(|octets| Self::Identifier { key_identifier: hex(&octets) });
        [issued].into_iter().chain(identifier).collect()
    }
}

impl Contents {
    /// Looks at a message.
    pub fn of(message: &MimeEntity<'_>) -> Self {
        let mut walk = Walk { contents: Self::default(), visited: 0 };
        walk.look(message, 0, false);
        walk.contents
    }

    /// Looks at an object that is the body of a message.
    pub fn of_object(object: &[u8]) -> Self {
        let mut walk = Walk { contents: Self::default(), visited: 1 };
        walk.look_at_object(object, 0, false);
        walk.contents
    }

    /// The same of a message whose outermost layer was read before, and the signature there.
    pub(crate) fn of_read(
        message: &MimeEntity<'_>,
        content_type: &ContentType,
        wrapped: &Result<Option<Wrapped<'_>>, WrappedError>,
        signature: Option<&Signature<'_, '_>>,
    ) -> Self {
        let mut walk = Walk { contents: Self::default(), visited: 1 };
        match wrapped {
            Ok(None) => walk.look_into_parts(message, content_type, 0),
            Ok(Some(wrapped)) => walk.look_at(wrapped, signature, 0, false),
            Err(_) => walk.unreadable(false),
        }
        walk.contents
    }

    /// Of a message whose type may depend on who reads it.
    pub(crate) fn of_no_type(message: &MimeEntity<'_>) -> Self {
        Self { layers: Vec::new(), is_cut: may_hide(message) }
    }

    /// How many octets of memory it takes, about.
    pub(crate) fn len(&self) -> usize {
        let key = |key: &KeyName| match key {
            KeyName::Issued { issuer, serial } => issuer.capacity() + serial.capacity(),
            KeyName::Identifier { key_identifier } => key_identifier.capacity(),
            KeyName::Other { .. } => 0,
        };
        let layer = |layer: &Layer| {
            let algorithms = layer.algorithms.iter().map(|name| size_of::<String>() + name.capacity());
            let recipients = layer.recipients.iter().map(|of| size_of::<RecipientName>() + key(&of.key));
            let signers = layer.signers.iter().map(|signer| size_of::<KeyName>() + key(signer));
            size_of::<Layer>() + algorithms.chain(recipients).chain(signers).sum::<usize>()
        };
        self.layers.iter().map(layer).sum()
    }

    /// All keys that open something.
    pub fn recipients(&self) -> impl Iterator<Item = &RecipientName> {
        self.layers.iter().flat_map(|layer| &layer.recipients)
    }

    /// Whether the message itself is encrypted, whatever is around the ciphertext.
    pub fn is_encrypted_as_a_whole(&self) -> bool {
        self.layers.iter().any(|layer| !layer.attached && layer.is_encrypted())
    }

    /// Whether the message itself is encrypted, or may be and cannot be read.
    pub fn may_be_encrypted(&self) -> bool {
        self.is_encrypted_as_a_whole()
            || self.layers.iter().any(|layer| !layer.attached && layer.form == UNREADABLE)
    }
}

struct Walk {
    contents: Contents,
    visited: usize,
}

impl Walk {
    fn look(&mut self, entity: &MimeEntity<'_>, depth: usize, attached: bool) {
        self.visited += 1;
        if depth > MAX_DEPTH || self.visited > MAX_VISITED || self.contents.layers.len() >= MAX_LAYERS {
            self.contents.is_cut = true;
            return;
        }
        // What the type is may depend on who reads it: it is nothing for us then, and has no parts.
        let Ok(content_type) = entity.content_type() else {
            self.contents.is_cut |= may_hide(entity);
            return;
        };
        match Wrapped::read_typed(entity, &content_type, &mut Room::of(entity.octets().len())) {
            Ok(None) => self.look_into_parts(entity, &content_type, depth),
            Ok(Some(wrapped)) => self.look_at(&wrapped, None, depth, attached),
            Err(_) => self.unreadable(attached),
        }
    }

    fn look_at(
        &mut self,
        wrapped: &Wrapped<'_>,
        signature: Option<&Signature<'_, '_>>,
        depth: usize,
        attached: bool,
    ) {
        match wrapped {
            Wrapped::Clear { content, object } => {
                self.look_at_signature(signature, object, attached);
                self.look(content, depth + 1, attached);
            }
            Wrapped::Opaque(object) => self.look_at_object(object, depth, attached),
        }
    }

    fn look_at_object(&mut self, object: &[u8], depth: usize, attached: bool) {
        match Object::parse(object) {
            Ok(Object::SignedData(signed)) => {
                self.signed("signed-data", &signed, attached);
                if let Some(content) = signed.content() {
                    self.look(&MimeEntity::parse(&content.concat()), depth + 1, attached);
                }
            }
            Ok(Object::EnvelopedData(enveloped)) => self.enveloped(&enveloped, attached),
            Ok(Object::CompressedData(compressed)) => {
                self.contents.layers.push(Layer::plain("compressed-data", attached));
                match compressed.decompress() {
                    Ok(content) => self.look(&MimeEntity::parse(&content), depth + 1, attached),
                    Err(_) => self.contents.is_cut = true,
                }
            }
            _ => self.unreadable(attached),
        }
    }

    fn look_at_signature(&mut self, signature: Option<&Signature<'_, '_>>, object: &[u8], attached: bool) {
        match signature.map(Signature::object) {
            Some(Ok(Object::SignedData(signed))) => self.signed("multipart/signed", signed, attached),
            // There may have been no room for it. A signature that cannot be read hides nothing.
            _ => match Object::parse(object) {
                Ok(Object::SignedData(signed)) => self.signed("multipart/signed", &signed, attached),
                _ => self.contents.layers.push(Layer::plain(UNREADABLE, attached)),
            },
        }
    }

    fn look_into_parts(&mut self, entity: &MimeEntity<'_>, content_type: &ContentType, depth: usize) {
        if content_type.is("message/rfc822") || content_type.is("message/global") {
            match entity.decoded_body() {
                Ok(embedded) => self.look(&MimeEntity::parse(&embedded), depth + 1, true),
                Err(_) => self.contents.is_cut = true,
            }
        } else if content_type.media().starts_with("multipart/") {
            let parts = entity.parts_of(content_type);
            self.contents.is_cut |= parts.is_err();
            for part in parts.unwrap_or_default() {
                self.look(&part, depth + 1, true);
            }
        }
    }

    fn unreadable(&mut self, attached: bool) {
        self.contents.is_cut = true;
        self.contents.layers.push(Layer::plain(UNREADABLE, attached));
    }

    fn signed(&mut self, form: &'static str, signed: &SignedData<'_>, attached: bool) {
        let infos = signed.signer_infos();
        let signers = infos.iter().map(|info| match &info.sid {
            SignerIdentifier::IssuerAndSerialNumber(name) => {
                issued(&name.issuer, name.serial_number.as_bytes())
            }
            SignerIdentifier::SubjectKeyIdentifier(identifier) => identified(identifier.0.as_bytes()),
        });
        self.contents.layers.push(Layer {
            algorithms: infos.iter().map(signature_algorithm).collect(),
            signers: signers.collect(),
            ..Layer::plain(form, attached)
        });
    }

    fn enveloped(&mut self, enveloped: &EnvelopedData<'_>, attached: bool) {
        let cipher = enveloped.algorithm();
        let form = match &cipher {
            Ok(cipher) if cipher.is_authenticated() => AUTH_ENVELOPED,
            _ => ENVELOPED,
        };
        let algorithm = match cipher {
            Ok(cipher) => cipher.name().to_owned(),
            Err(error) => error.to_string(),
        };
        self.contents.layers.push(Layer {
            algorithms: vec![algorithm],
            recipients: enveloped.recipients().iter().flat_map(recipient_names).collect(),
            ..Layer::plain(form, attached)
        });
    }
}

impl Layer {
    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.form == ENVELOPED || self.form == AUTH_ENVELOPED
    }

    fn plain(form: &'static str, attached: bool) -> Self {
        Self { form, algorithms: Vec::new(), recipients: Vec::new(), signers: Vec::new(), attached }
    }
}

/// Whether what has no type that all read alike may have ciphertext in it for one of them: much of what has none is plain text.
fn may_hide(entity: &MimeEntity<'_>) -> bool {
    entity.header().all("Content-Type").any(|field| {
        let value = field.value().to_ascii_lowercase();
        [&b"pkcs7"[..], b".p7", b"multipart", b"message"]
            .iter()
            .any(|what| memchr::memmem::find(&value, what).is_some())
    })
}

fn recipient_names(recipient: &Recipient) -> Vec<RecipientName> {
    match recipient {
        Recipient::KeyTransport(transport) => {
            let operation = match transport.algorithm() {
                Ok(KeyEncryptionAlgorithm::RsaPkcs1) => RSA_PKCS1,
                Ok(KeyEncryptionAlgorithm::RsaOaep { .. }) => RSA_OAEP,
                _ => "unknown",
            };
            vec![RecipientName { key: key_name(transport.identifier()), operation }]
        }
        Recipient::KeyAgreement(agreement) => agreement
            .identifiers()
            .map(|name| RecipientName { key: key_name(name), operation: ECDH })
            .collect(),
        Recipient::Other(kind) => {
            vec![RecipientName { key: KeyName::Other { kind }, operation: "none" }]
        }
    }
}

fn key_name(name: &RecipientIdentifier) -> KeyName {
    match name {
        RecipientIdentifier::IssuerAndSerialNumber(name) => {
            issued(&name.issuer, name.serial_number.as_bytes())
        }
        RecipientIdentifier::SubjectKeyIdentifier(identifier) => identified(identifier.0.as_bytes()),
    }
}

fn issued(issuer: &Name, serial: &[u8]) -> KeyName {
    KeyName::Issued { issuer: shown_issuer(issuer), serial: hex(serial) }
}

fn identified(octets: &[u8]) -> KeyName {
    KeyName::Identifier { key_identifier: hex(octets) }
}

fn hex(octets: &[u8]) -> String {
    data_encoding::HEXUPPER.encode(octets.get(..MAX_HEX).unwrap_or(octets))
}

/// A name that strangers wrote, on one line and not without end.
fn shown(name: &impl std::fmt::Display) -> String {
    name.to_string().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
}

fn signature_algorithm(info: &SignerInfo) -> String {
    let digest = smime::algorithm::DigestAlgorithm::from_identifier(&info.digest_algorithm);
    let known = digest.and_then(|d| SignatureAlgorithm::from_identifier(&info.signature_algorithm, d));
    match known {
        Some(SignatureAlgorithm::Ed25519) => "Ed25519".to_owned(),
        Some(SignatureAlgorithm::Ecdsa(digest)) => format!("ECDSA {}", digest.micalg()),
        Some(SignatureAlgorithm::RsaPss(digest)) => format!("RSA-PSS {}", digest.micalg()),
        Some(SignatureAlgorithm::RsaPkcs1(digest)) => format!("RSA {}", digest.micalg()),
        _ => format!("unknown {}", info.signature_algorithm.oid),
    }
}

/// What a key must do to open something.
pub(crate) const RSA_PKCS1: &str = "RSA-PKCS1";
pub(crate) const RSA_OAEP: &str = "RSA-OAEP";
pub(crate) const ECDH: &str = "ECDH";

const ENVELOPED: &str = "enveloped-data";
const UNREADABLE: &str = "unreadable";
const AUTH_ENVELOPED: &str = "authEnveloped-data";
/// How many parts are looked at.
const MAX_VISITED: usize = 1000;
/// How many layers are reported.
const MAX_LAYERS: usize = 100;
const MAX_NAME: usize = 300;
const MAX_HEX: usize = 64;
