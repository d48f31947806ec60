//! `RecipientInfo` as received (RFC 5652 section 6.2).

use cms::enveloped_data as asn1;

use super::{CmsError, signer_info::decode};
use crate::{
    Certificate,
    algorithm::KeyEncryptionAlgorithm,
    ber::{Element, Tag},
};

/// Names a recipient's certificate.
pub use cms::enveloped_data::RecipientIdentifier;

/// One recipient of an `EnvelopedData`.
#[derive(Clone, Debug)]
pub enum Recipient {
    /// KeyTransRecipientInfo: the key is encrypted with the recipient's public key.
    KeyTransport(KeyTransport),
    /// A kind that is recognised and passed over: key agreement, KEK, password, others.
    Other(&'static str),
}

/// A `KeyTransRecipientInfo`.
#[derive(Clone, Debug)]
pub struct KeyTransport {
    rid: RecipientIdentifier,
    algorithm: Option<KeyEncryptionAlgorithm>,
    algorithm_oid: der::asn1::ObjectIdentifier,
    encrypted_key: Vec<u8>,
}

impl Recipient {
    pub(super) fn read(element: Element<'_, '_>) -> Result<Self, CmsError> {
        Ok(match element.tag() {
            Tag::SEQUENCE => Self::KeyTransport(KeyTransport::read(element)?),
            Tag(0xA1) => Self::Other("key agreement"),
            Tag(0xA2) => Self::Other("key-encryption key"),
            Tag(0xA3) => Self::Other("password"),
            Tag(0xA4) => Self::Other("other"),
            _ => return Err(element.unexpected("RecipientInfo").into()),
        })
    }
}

impl KeyTransport {
    fn read(element: Element<'_, '_>) -> Result<Self, CmsError> {
        let info: asn1::KeyTransRecipientInfo = decode(element, "KeyTransRecipientInfo")?;
        Ok(Self {
            rid: info.rid,
            algorithm: KeyEncryptionAlgorithm::from_identifier(&info.key_enc_alg),
            algorithm_oid: info.key_enc_alg.oid,
            encrypted_key: info.enc_key.into_bytes().into(),
        })
    }

    /// Whether `certificate` is exactly the one that is named: by issuer and serial number, or by its
    /// subjectKeyIdentifier extension.
    pub fn names(&self, certificate: &Certificate) -> bool {
        match &self.rid {
            RecipientIdentifier::IssuerAndSerialNumber(name) => {
                name.issuer == *certificate.issuer()
                    && name.serial_number.as_bytes() == certificate.serial_number()
            }
            RecipientIdentifier::SubjectKeyIdentifier(identifier) => {
                certificate.subject_key_identifier().as_deref() == Some(identifier.0.as_bytes())
            }
        }
    }

    /// How the key is encrypted; the object identifier where it is not known here.
    pub fn algorithm(&self) -> Result<&KeyEncryptionAlgorithm, der::asn1::ObjectIdentifier> {
        self.algorithm.as_ref().ok_or(self.algorithm_oid)
    }

    /// The encrypted key.
    pub fn encrypted_key(&self) -> &[u8] {
        &self.encrypted_key
    }
}
