//! SMIMEEncryptionKeyPreference (RFC 8551 section 2.5.3): which certificate a signer wants to be encrypted to.

use cms::cert::IssuerAndSerialNumber;
use der::{Decode, asn1::OctetString};
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use super::{SignerIdentifier, signer_info::is_named_by};
use crate::{
    Certificate,
    ber::{BerError, Element, Tag},
};

/// The name of the certificate that a signer wants to be encrypted to.
///
/// It is a name only: the certificate may be any that has it, and must be found good by itself, with its own path and
/// address, before anything is encrypted to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionKeyPreference {
    named: SignerIdentifier,
}

impl EncryptionKeyPreference {
    /// Reads the attribute's value. Its three forms are implicitly tagged.
    pub(super) fn read(value: Element<'_, '_>) -> Result<Self, BerError> {
        const PART: &str = "encryptionKeyPreference";
        let named = match value.tag() {
            // Microsoft's attribute has the name without a tag of its own.
            Tag(0xA0) | Tag::SEQUENCE => {
                let octets = value.to_der_as(Tag::SEQUENCE)?;
                let name = IssuerAndSerialNumber::from_der(&octets).map_err(|_| value.unexpected(PART))?;
                SignerIdentifier::IssuerAndSerialNumber(name)
            }
            // RecipientKeyIdentifier: the date and the other attribute are for keys that nobody has in mail.
            Tag(0xA1) => by_key(&value.children().required("subjectKeyIdentifier")?.octet_string()?.concat())
                .ok_or_else(|| value.unexpected(PART))?,
            Tag(0x82 | 0xA2) => {
                by_key(&value.string_segments()?.concat()).ok_or_else(|| value.unexpected(PART))?
            }
            _ => return Err(value.unexpected(PART)),
        };
        Ok(Self { named })
    }

    /// Whether it names `certificate`: by its issuer and serial number, or by its key identifier.
    pub fn names(&self, certificate: &Certificate) -> bool {
        is_named_by(&self.named, certificate)
    }
}

fn by_key(identifier: &[u8]) -> Option<SignerIdentifier> {
    Some(SignerIdentifier::SubjectKeyIdentifier(SubjectKeyIdentifier(OctetString::new(identifier).ok()?)))
}
