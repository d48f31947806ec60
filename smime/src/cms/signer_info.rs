//! `SignerInfo` as received (RFC 5652 section 5.3).

use der::Decode;
use spki::AlgorithmIdentifierOwned;

use super::{AttributeError, CmsError, SignedAttributes};
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
    pub signed_attributes: Option<Result<SignedAttributes, AttributeError>>,
    /// The signature's algorithm.
    pub signature_algorithm: AlgorithmIdentifierOwned,
    /// The signature.
    pub signature: Vec<u8>,
}

impl SignerInfo {
    pub(super) fn read(element: Element<'_, '_>) -> Result<Self, CmsError> {
        let mut fields = element.expect(Tag::SEQUENCE, "SignerInfo")?.children();
        fields.required("version")?.expect(Tag::INTEGER, "version")?;
        let sid = decode(fields.required("sid")?, "sid")?;
        let digest_algorithm = decode(fields.required("digestAlgorithm")?, "digestAlgorithm")?;
        let signed_attributes = fields.optional_context(0).map(SignedAttributes::read);
        let signature_algorithm = decode(fields.required("signatureAlgorithm")?, "signatureAlgorithm")?;
        let signature = fields.required("signature")?.octet_string()?.concat();
        fields.optional_context(1);
        fields.end()?;
        Ok(Self { sid, digest_algorithm, signed_attributes, signature_algorithm, signature })
    }

    /// Whether `certificate` is the one that `sid` names.
    pub fn names(&self, certificate: &Certificate) -> bool {
        match &self.sid {
            SignerIdentifier::IssuerAndSerialNumber(name) => {
                name.issuer == *certificate.issuer()
                    && name.serial_number.as_bytes() == certificate.serial_number()
            }
            SignerIdentifier::SubjectKeyIdentifier(identifier) => {
                certificate.subject_key_identifier().as_deref() == Some(identifier.0.as_bytes())
            }
        }
    }
}

/// Decodes an element by one of the ASN.1 crates' types.
pub(super) fn decode<T: for<'a> Decode<'a>>(
    element: Element<'_, '_>,
    part: &'static str,
) -> Result<T, CmsError> {
    T::from_der(&element.to_der()?).map_err(|_| CmsError::Part { part })
}
