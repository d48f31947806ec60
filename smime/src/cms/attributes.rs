//! Signed attributes: read with the rules of RFC 5652 section 11 and RFC 8551 section 2.5, and written.

use std::{sync::OnceLock, time::SystemTime};

use const_oid::db::rfc5911;
use der::{Decode, Encode, asn1::ObjectIdentifier};
use spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::{EncryptionKeyPreference, RecipientKey};
use crate::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    ber::{BerError, Element, Tag, Tree},
    capabilities::Capabilities,
    cipher::ContentCipher,
    key::Digest,
};

/// id-smime-encryptionKeyPreference (RFC 8551 2.5.3).
const ENCRYPTION_KEY_PREFERENCE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.11");

/// Microsoft's attribute for the same, older than the standard's and still written beside it or alone.
const MICROSOFT_ENCRYPTION_KEY_PREFERENCE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.16.4");

/// id-aa-cmsAlgorithmProtect (RFC 6211 2).
const ALGORITHM_PROTECTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52");

/// The signed attributes of one signer, with the octets that the signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAttributes {
    /// As a SET OF in the order received; RFC 5652 5.4 wants it re-tagged and in DER.
    received: Vec<u8>,
    /// The members sorted as DER wants them, where the order received is another.
    sorted: Option<Vec<u8>>,
    content_type: ObjectIdentifier,
    message_digest: Vec<u8>,
    signing_time: Option<SystemTime>,
    signing_certificate: Option<CertificateHash>,
    /// SMIMECapabilities.
    capabilities: Option<Unread<Capabilities>>,
    /// SMIMEEncryptionKeyPreference, or Microsoft's.
    key_preference: Option<Unread<EncryptionKeyPreference>>,
    /// CMSAlgorithmProtection: digest and signature algorithm (RFC 6211).
    protected: Option<(AlgorithmIdentifierOwned, AlgorithmIdentifierOwned)>,
}

/// What a signingCertificate attribute says of the first certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CertificateHash {
    algorithm: DigestAlgorithm,
    hash: Vec<u8>,
}

/// What is wrong with signed attributes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// They do not decode.
    #[error("malformed signed attributes: {0}")]
    Structure(#[from] BerError),
    /// One does not decode.
    #[error("malformed {0} attribute")]
    Malformed(&'static str),
    /// One that must be there is not.
    #[error("no {0} attribute")]
    Missing(&'static str),
    /// One that must be there once, with one value, is there more often.
    #[error("more than one {0} attribute or value")]
    Repeated(&'static str),
    /// More attributes than are taken.
    #[error("more than {MAX_ATTRIBUTES} signed attributes")]
    TooMany,
}

const MAX_ATTRIBUTES: usize = 100;

impl SignedAttributes {
    /// Reads the `[0]` of a `SignerInfo`.
    pub(super) fn read(element: Element<'_, '_>) -> Result<Self, AttributeError> {
        if element.children().count() > MAX_ATTRIBUTES {
            return Err(AttributeError::TooMany);
        }
        let received = element.to_der_as(Tag::SET)?;
        let in_order = element.is_der() && element.children().is_sorted_by_key(|child| child.octets());
        let sorted = if in_order { None } else { sorted(element)? };
        let element = &Attributes::of(element);

        let content_type = single(element, rfc5911::ID_CONTENT_TYPE, "content-type")?
            .ok_or(AttributeError::Missing("content-type"))?;
        let message_digest = single(element, rfc5911::ID_MESSAGE_DIGEST, "message-digest")?
            .ok_or(AttributeError::Missing("message-digest"))?;
        let signing_time = single(element, rfc5911::ID_SIGNING_TIME, "signing-time")?;
        // These must be single too, or the signature counts as bad (RFC 8551 2.5.2, 2.5.3).
        let capabilities = single(element, rfc5911::SMIME_CAPABILITIES, "SMIMECapabilities")?;
        let preferred = single(element, ENCRYPTION_KEY_PREFERENCE, "encryptionKeyPreference")?;
        // No standard says anything of this one, so nothing that is wrong with it matters.
        let older = || single(element, MICROSOFT_ENCRYPTION_KEY_PREFERENCE, "").ok().flatten();
        let key_preference = preferred.or_else(older);
        let v2 = single(element, rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2, "signingCertificateV2")?;
        let v1 = single(element, rfc5911::ID_AA_SIGNING_CERTIFICATE, "signingCertificate")?;
        let signing_certificate = match (v2, v1) {
            (Some(value), _) => Some(read_signing_certificate(value, "signingCertificateV2")?),
            (None, Some(value)) => Some(read_signing_certificate(value, "signingCertificate")?),
            (None, None) => None,
        };
        let protected = single(element, ALGORITHM_PROTECTION, "CMSAlgorithmProtection")?;
        let protected = protected.map(read_algorithm_protection).transpose()?;
        Ok(Self {
            received,
            sorted,
            content_type: content_type.object_identifier()?,
            message_digest: message_digest.expect(Tag::OCTET_STRING, "message-digest")?.content().to_vec(),
            signing_time: signing_time.map(read_time).transpose()?,
            signing_certificate,
            capabilities: capabilities.map(Unread::new),
            key_preference: key_preference.map(Unread::new),
            protected,
        })
    }

    /// The octets that may have been signed: in the order received, and sorted where that differs.
    /// Broken signers of both kinds exist.
    pub fn signed_octets(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.received.as_slice()).chain(self.sorted.as_deref())
    }

    /// The content-type attribute.
    pub fn content_type(&self) -> ObjectIdentifier {
        self.content_type
    }

    /// The message-digest attribute.
    pub fn message_digest(&self) -> &[u8] {
        &self.message_digest
    }

    /// When the signer says it signed. The signer chooses it freely.
    pub fn signing_time(&self) -> Option<SystemTime> {
        self.signing_time
    }

    /// The same once they were verified, without the octets that only that needs.
    pub(crate) fn settled(&self) -> Self {
        let Self { content_type, signing_time, capabilities, key_preference, .. } = self.clone();
        Self {
            received: Vec::new(),
            sorted: None,
            content_type,
            message_digest: Vec::new(),
            signing_time,
            signing_certificate: None,
            capabilities,
            key_preference,
            protected: None,
        }
    }

    /// What the signer says its mail program can open. It is worth something only once the signature is found
    /// good (RFC 8551 2.7.1).
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.capabilities.as_ref()?.read(|octets| Capabilities::read(octets).ok())
    }

    /// The certificate that the signer wants to be encrypted to, by its name. Like the capabilities it is worth
    /// something only once the signature is found good.
    pub fn encryption_key_preference(&self) -> Option<&EncryptionKeyPreference> {
        self.key_preference.as_ref()?.read(|octets| {
            let value = Tree::parse(octets).ok()?;
            EncryptionKeyPreference::read(value.root()).ok()
        })
    }

    /// Whether a CMSAlgorithmProtection attribute, if there is one, names these algorithms (RFC 6211 2).
    pub(crate) fn protects(
        &self,
        digest: &AlgorithmIdentifierOwned,
        signature: &AlgorithmIdentifierOwned,
    ) -> bool {
        // Digests come with NULL or without parameters; that says nothing.
        self.protected.as_ref().is_none_or(|(protected_digest, protected_signature)| {
            protected_digest.oid == digest.oid && protected_signature == signature
        })
    }

    /// Whether a signingCertificate attribute, if there is one, is of this certificate (RFC 5035).
    pub fn binds(&self, certificate: &Certificate) -> bool {
        self.signing_certificate.as_ref().is_none_or(|named| match named.algorithm {
            DigestAlgorithm::Sha256 => certificate.fingerprint().as_slice() == named.hash,
            algorithm => Digest::of(algorithm, certificate.der()).as_bytes() == named.hash,
        })
    }
}

/// The longest value that is kept to be read. Names and lists of capabilities have some hundred octets.
const MAX_UNREAD_OCTETS: usize = 16 * 1024;

/// The octets of a value that most who look at a signature do not ask for. It is read when somebody does.
#[derive(Clone, Debug)]
struct Unread<T> {
    octets: Vec<u8>,
    /// `None` where it cannot be read.
    read: OnceLock<Option<T>>,
}

impl<T> Unread<T> {
    fn new(value: Element<'_, '_>) -> Self {
        let octets = value.octets();
        if octets.len() > MAX_UNREAD_OCTETS {
            return Self { octets: Vec::new(), read: OnceLock::from(None) };
        }
        Self { octets: octets.to_vec(), read: OnceLock::new() }
    }

    fn read(&self, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<&T> {
        self.read.get_or_init(|| read(&self.octets)).as_ref()
    }
}

impl<T> PartialEq for Unread<T> {
    fn eq(&self, other: &Self) -> bool {
        self.octets == other.octets
    }
}

impl<T> Eq for Unread<T> {}

/// Members sorted as DER wants them, where they are in another order.
fn sorted(element: Element<'_, '_>) -> Result<Option<Vec<u8>>, AttributeError> {
    let mut members = element.children().map(|child| child.to_der()).collect::<Result<Vec<_>, _>>()?;
    let in_order = members.is_sorted();
    members.sort();
    Ok((!in_order).then(|| write_set(&members)))
}

/// The attributes with their types, read once for all that are looked for.
struct Attributes<'t, 'a> {
    all: Element<'t, 'a>,
    /// The octets of each type; `None` where one is not in its form.
    types: Option<Vec<(&'a [u8], Element<'t, 'a>)>>,
}

impl<'t, 'a> Attributes<'t, 'a> {
    fn of(all: Element<'t, 'a>) -> Self {
        let types = all.children().map(|attribute| {
            let oid = attribute.expect(Tag::SEQUENCE, "").ok()?.children().next()?;
            oid.object_identifier().ok().map(|_| (oid.content(), attribute))
        });
        Self { all, types: types.collect() }
    }
}

/// The one value of the one attribute of a type; `None` where there is no such attribute.
fn single<'t, 'a>(
    attributes: &Attributes<'t, 'a>,
    oid: ObjectIdentifier,
    name: &'static str,
) -> Result<Option<Element<'t, 'a>>, AttributeError> {
    let mut found = None;
    let mut add = |attribute: Element<'t, 'a>| {
        let mut fields = attribute.children();
        fields.required("attrType")?;
        let mut values = fields.required("attrValues")?.expect(Tag::SET, "attrValues")?.children();
        let value = values.next().ok_or(AttributeError::Malformed(name))?;
        if values.next().is_some() || found.is_some() {
            return Err(AttributeError::Repeated(name));
        }
        found = Some(value);
        Ok(())
    };
    match &attributes.types {
        Some(types) => {
            let of_type = types.iter().filter(|(known, _)| *known == oid.as_bytes());
            of_type.map(|(_, attribute)| *attribute).try_for_each(add)?;
        }
        None => {
            for attribute in attributes.all.children() {
                let mut fields = attribute.expect(Tag::SEQUENCE, "Attribute")?.children();
                if fields.required("attrType")?.object_identifier()? == oid {
                    add(attribute)?;
                }
            }
        }
    }
    Ok(found)
}

fn read_time(element: Element<'_, '_>) -> Result<SystemTime, AttributeError> {
    let time = Time::from_der(element.octets()).map_err(|_| AttributeError::Malformed("signing-time"))?;
    Ok(time.to_system_time())
}

/// CMSAlgorithmProtection (RFC 6211 2) for a signature: digestAlgorithm, `[1] signatureAlgorithm`.
fn read_algorithm_protection(
    value: Element<'_, '_>,
) -> Result<(AlgorithmIdentifierOwned, AlgorithmIdentifierOwned), AttributeError> {
    let malformed = |_| AttributeError::Malformed("CMSAlgorithmProtection");
    let mut fields = value.expect(Tag::SEQUENCE, "CMSAlgorithmProtection")?.children();
    let digest = fields.required("digestAlgorithm")?.to_der()?;
    let signature = fields.required("signatureAlgorithm")?;
    let signature = signature.expect(Tag::context(1), "signatureAlgorithm [1]")?.to_der_as(Tag::SEQUENCE)?;
    fields.end()?;
    Ok((
        AlgorithmIdentifierOwned::from_der(&digest).map_err(malformed)?,
        AlgorithmIdentifierOwned::from_der(&signature).map_err(malformed)?,
    ))
}

/// The first ESSCertID or ESSCertIDv2 (RFC 5035 sections 3 and 4).
fn read_signing_certificate(
    value: Element<'_, '_>,
    name: &'static str,
) -> Result<CertificateHash, AttributeError> {
    let malformed = || AttributeError::Malformed(name);
    let certificates = value.children().next().ok_or_else(malformed)?;
    let mut fields = certificates.children().next().ok_or_else(malformed)?.children();
    let first = fields.next().ok_or_else(malformed)?;
    let (algorithm, hash) = if first.tag() == Tag::SEQUENCE {
        let oid = first.children().next().ok_or_else(malformed)?.object_identifier()?;
        let identifier = AlgorithmIdentifierOwned { oid, parameters: None };
        let algorithm = DigestAlgorithm::from_identifier(&identifier).ok_or_else(malformed)?;
        (algorithm, fields.next().ok_or_else(malformed)?)
    } else if name == "signingCertificate" {
        (DigestAlgorithm::Sha1, first)
    } else {
        (DigestAlgorithm::Sha256, first)
    };
    let hash = hash.expect(Tag::OCTET_STRING, "certHash")?.content().to_vec();
    Ok(CertificateHash { algorithm, hash })
}

/// Writes the signed attributes of RFC 8551 section 2.5, one of each, as a SET OF in DER. A certificate that can
/// also be encrypted to is named as the one to encrypt to.
pub(super) fn write(
    content_type: ObjectIdentifier,
    digest: &Digest,
    algorithm: SignatureAlgorithm,
    signer: &Certificate,
    at: SystemTime,
) -> Result<Vec<u8>, der::Error> {
    let time = Time::try_from(at)?;
    let mut certificate_id =
        der::asn1::OctetString::new(Digest::of(DigestAlgorithm::Sha256, signer.der()).as_bytes())?
            .to_der()?;
    for _ in 0..3 {
        // SigningCertificateV2 { certs SEQUENCE OF ESSCertIDv2 { certHash } }, SHA-256 by default.
        certificate_id = tlv(Tag::SEQUENCE, &certificate_id);
    }
    let protection = [
        algorithm.digest().identifier().to_der()?,
        retagged(&algorithm.identifier().to_der()?, Tag::context(1)),
    ]
    .concat();
    let mut members = vec![
        attribute(rfc5911::ID_CONTENT_TYPE, &content_type.to_der()?)?,
        attribute(rfc5911::ID_SIGNING_TIME, &time.to_der()?)?,
        attribute(rfc5911::ID_MESSAGE_DIGEST, &der::asn1::OctetString::new(digest.as_bytes())?.to_der()?)?,
        attribute(rfc5911::SMIME_CAPABILITIES, &capabilities()?)?,
        attribute(rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2, &certificate_id)?,
        attribute(ALGORITHM_PROTECTION, &tlv(Tag::SEQUENCE, &protection))?,
    ];
    if RecipientKey::new(signer.clone()).is_ok() {
        let preferred = retagged(&issuer_and_serial_number(signer)?, Tag::context(0));
        members.push(attribute(ENCRYPTION_KEY_PREFERENCE, &preferred)?);
    }
    members.sort();
    Ok(write_set(&members))
}

/// `IssuerAndSerialNumber` in the octets of the certificate, which were decoded before.
pub(super) fn issuer_and_serial_number(certificate: &Certificate) -> Result<Vec<u8>, der::Error> {
    certificate.issuer_and_serial_number().map_err(|_| der::ErrorKind::Failed.into())
}

/// SMIMECapabilities (RFC 8551 2.5.2): what this crate can open and is not too weak, best first.
fn capabilities() -> Result<Vec<u8>, der::Error> {
    let ciphers = [
        ContentCipher::Aes256Gcm,
        ContentCipher::Aes128Gcm,
        ContentCipher::ChaCha20Poly1305,
        ContentCipher::Aes256Cbc,
        ContentCipher::Aes192Cbc,
        ContentCipher::Aes128Cbc,
    ];
    let mut list = Vec::new();
    for cipher in ciphers {
        list.extend(tlv(Tag::SEQUENCE, &cipher.oid().to_der()?));
    }
    Ok(tlv(Tag::SEQUENCE, &list))
}

fn attribute(oid: ObjectIdentifier, value: &[u8]) -> Result<Vec<u8>, der::Error> {
    let mut content = oid.to_der()?;
    content.extend(tlv(Tag::SET, value));
    Ok(tlv(Tag::SEQUENCE, &content))
}

fn write_set(members: &[Vec<u8>]) -> Vec<u8> {
    tlv(Tag::SET, &members.concat())
}

/// An element's octets under an implicit tag.
pub(super) fn retagged(element: &[u8], tag: Tag) -> Vec<u8> {
    let mut out = element.to_vec();
    if let Some(first) = out.first_mut() {
        *first = tag.0;
    }
    out
}

/// An element from its tag and its content.
pub(super) fn tlv(tag: Tag, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    crate::ber::write_header(tag, content.len(), &mut out);
    out.extend_from_slice(content);
    out
}
