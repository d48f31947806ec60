//! `SignerInfo` as received (RFC 5652 section 5.3).

use std::sync::Arc;

use der::{Decode, asn1::ObjectIdentifier};
use spki::AlgorithmIdentifierOwned;

use super::{AttributeError, CmsError, MAX_SIGNERS, SignedAttributes};
use crate::{
    Certificate,
    ber::{Element, Tag},
};

/// Whose signature it is said to be.
pub use cms::signed_data::SignerIdentifier;

/// One signer's part of a `SignedData`.
#[derive(Debug, PartialEq, Eq)]
pub struct SignerInfo {
    /// Names the signer's certificate.
    pub sid: SignerIdentifier,
    /// The digest over content and attributes.
    pub digest_algorithm: AlgorithmIdentifierOwned,
    /// The signed attributes; what is wrong with them; or that there are none.
    pub signed_attributes: Option<Result<Arc<SignedAttributes>, AttributeError>>,
    /// The signature's algorithm.
    pub signature_algorithm: AlgorithmIdentifierOwned,
    /// The signature.
    pub signature: Vec<u8>,
    /// Who is said to have countersigned, where that can be read. Not checked, and covered by nothing.
    pub countersigners: Vec<SignerIdentifier>,
    /// Whether there are attributes that it does not cover.
    pub has_unsigned_attributes: bool,
}

/// id-countersignature (RFC 5652 11.4).
const COUNTERSIGNATURE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.6");

impl SignerInfo {
    pub(super) fn read(element: Element<'_, '_>) -> Result<Self, CmsError> {
        let mut fields = element.expect(Tag::SEQUENCE, "SignerInfo")?.children();
        fields.required("version")?.expect(Tag::INTEGER, "version")?;
        let sid = decode(fields.required("sid")?, "sid")?;
        let digest_algorithm = decode(fields.required("digestAlgorithm")?, "digestAlgorithm")?;
        let signed_attributes =
            fields.optional_context(0).map(|attributes| SignedAttributes::read(attributes).map(Arc::new));
        let signature_algorithm = decode(fields.required("signatureAlgorithm")?, "signatureAlgorithm")?;
        let signature = fields.required("signature")?.octet_string()?.concat();
        let unsigned = fields.optional_context(1);
        let has_unsigned_attributes = unsigned.is_some();
        let countersigners = unsigned.map(countersigners).unwrap_or_default();
        fields.end()?;
        Ok(Self {
            sid,
            digest_algorithm,
            signed_attributes,
            signature_algorithm,
            signature,
            countersigners,
            has_unsigned_attributes,
        })
    }

    /// Whether `other` is the same signature, whatever unsigned attributes it has.
    pub(crate) fn is_same_signature(&self, other: &Self) -> bool {
        self.signature == other.signature
            && self.sid == other.sid
            && self.digest_algorithm == other.digest_algorithm
            && self.signature_algorithm == other.signature_algorithm
            && self.signed_attributes == other.signed_attributes
    }

    /// Whether `certificate` is the one that `sid` names.
    pub fn names(&self, certificate: &Certificate) -> bool {
        is_named_by(&self.sid, certificate)
    }
}

/// Whether `certificate` is one that has this name.
pub(super) fn is_named_by(name: &SignerIdentifier, certificate: &Certificate) -> bool {
    match name {
        SignerIdentifier::IssuerAndSerialNumber(name) => {
            name.issuer == *certificate.issuer()
                && name.serial_number.as_bytes() == certificate.serial_number()
        }
        SignerIdentifier::SubjectKeyIdentifier(identifier) => {
            certificate.subject_key_identifier().as_deref() == Some(identifier.0.as_bytes())
        }
    }
}

/// The signers of the countersignatures among unsigned attributes. Nobody signs these, so what does not decode
/// is passed over, and no more are taken than an object may have signers.
fn countersigners(attributes: Element<'_, '_>) -> Vec<SignerIdentifier> {
    let mut found = Vec::new();
    for attribute in attributes.children() {
        let mut fields = attribute.children();
        let is_one = fields.next().is_some_and(|oid| oid.object_identifier() == Ok(COUNTERSIGNATURE));
        let values = fields.next().filter(|_| is_one);
        for value in values.iter().flat_map(Element::children) {
            if found.len() >= MAX_SIGNERS {
                return found;
            }
            found.extend(value.children().nth(1).and_then(|sid| decode(sid, "sid").ok()));
        }
    }
    found
}

/// Decodes an element by one of the ASN.1 crates' types.
pub(super) fn decode<T: for<'a> Decode<'a>>(
    element: Element<'_, '_>,
    part: &'static str,
) -> Result<T, CmsError> {
    T::from_der(&element.to_der()?).map_err(|_| CmsError::Part { part })
}
