//! `RecipientInfo` as received (RFC 5652 section 6.2).

use cms::enveloped_data as asn1;
use const_oid::db::{
    rfc5912::ID_EC_PUBLIC_KEY,
    rfc8410::{ID_ED_25519, ID_X_25519},
};

use super::{CmsError, KeyAgreement, OpenError, signer_info::decode};
use crate::{
    Certificate,
    algorithm::KeyEncryptionAlgorithm,
    ber::{Element, Tag},
    key::Unwrapped,
    question::{Answer, Question},
};

/// Names a recipient's certificate.
pub use cms::enveloped_data::RecipientIdentifier;

/// One `RecipientInfo` of an `EnvelopedData`.
#[derive(Clone, Debug)]
pub enum Recipient {
    /// KeyTransRecipientInfo: the key is encrypted with the recipient's public key.
    KeyTransport(KeyTransport),
    /// KeyAgreeRecipientInfo: the key is wrapped with one that is agreed on.
    KeyAgreement(KeyAgreement),
    /// A kind that is recognised and passed over: KEK, password, others, and key agreement in a form that
    /// S/MIME does not have.
    Other(&'static str),
}

/// The encrypted key that a certificate's owner can use, found by the certificate.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum EncryptedKey<'e> {
    /// In a `KeyTransRecipientInfo`.
    Transported(&'e KeyTransport),
    /// In a `KeyAgreeRecipientInfo`: the info, and the wrapped key in it.
    Agreed(&'e KeyAgreement, &'e [u8]),
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
            // Key agreement has forms that no mail uses. One of them for somebody else spoils nothing.
            Tag(0xA1) => KeyAgreement::read(element).map_or(Self::Other("key agreement"), Self::KeyAgreement),
            Tag(0xA2) => Self::Other("key-encryption key"),
            Tag(0xA3) => Self::Other("password"),
            Tag(0xA4) => Self::Other("other"),
            _ => return Err(element.unexpected("RecipientInfo").into()),
        })
    }

    /// The keys for `certificate`, if this names it.
    pub(super) fn keys_for(&self, certificate: &Certificate) -> impl Iterator<Item = EncryptedKey<'_>> {
        let (transported, agreed) = match self {
            Self::KeyTransport(info) => (info.names(certificate).then_some(info), None),
            Self::KeyAgreement(info) => (None, Some(info)),
            Self::Other(_) => (None, None),
        };
        let agreed = agreed.into_iter().flat_map(|info| {
            info.encrypted_keys_for(certificate).map(move |key| EncryptedKey::Agreed(info, key))
        });
        transported.map(EncryptedKey::Transported).into_iter().chain(agreed)
    }
}

impl EncryptedKey<'_> {
    /// What to ask the private key of `certificate`, once. `None`: it can do nothing with this, as a token would say
    /// in its own words, and [`Self::unwrapped`] is to be told so.
    pub(super) fn question(&self, certificate: &Certificate) -> Result<Option<Question>, OpenError> {
        match self {
            Self::Transported(info) => {
                let unsupported = |oid| OpenError::Unsupported { what: "key-encryption", oid };
                let algorithm = info.algorithm().map_err(unsupported)?;
                if let KeyEncryptionAlgorithm::RsaOaep { label, .. } = algorithm
                    && label.len() > MAX_LABEL
                {
                    return Err(OpenError::Label { octets: label.len(), limit: MAX_LABEL });
                }
                // A token asked to decrypt with a key on a curve would say that something is wrong with it.
                let key = certificate.key_algorithm();
                if matches!(key, ID_EC_PUBLIC_KEY | ID_X_25519 | ID_ED_25519) {
                    return Ok(None);
                }
                let encrypted_key = info.encrypted_key().to_vec();
                Ok(Some(Question::Unwrap { encrypted_key, algorithm: algorithm.clone() }))
            }
            Self::Agreed(info, _) => info.question(certificate),
        }
    }

    /// The key, by the answer. What is wrong with the encrypted key is [`Unwrapped::Rejected`], or a key that is none.
    pub(super) fn unwrapped(&self, answer: Option<Answer>) -> Result<Unwrapped, OpenError> {
        match (self, answer) {
            (Self::Transported(_), Some(Answer::Unwrapped(unwrapped))) => Ok(unwrapped),
            (Self::Agreed(info, encrypted_key), Some(Answer::Agreed(agreed))) => {
                info.unwrapped(encrypted_key, &agreed)
            }
            // No answer, or one to something else.
            _ => Ok(Unwrapped::Rejected),
        }
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
        names(&self.rid, certificate)
    }

    /// The name of the recipient's certificate.
    pub fn identifier(&self) -> &RecipientIdentifier {
        &self.rid
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

/// Whether `rid` is exactly that of `certificate`.
pub(super) fn names(rid: &RecipientIdentifier, certificate: &Certificate) -> bool {
    match rid {
        RecipientIdentifier::IssuerAndSerialNumber(name) => {
            name.issuer == *certificate.issuer()
                && name.serial_number.as_bytes() == certificate.serial_number()
        }
        RecipientIdentifier::SubjectKeyIdentifier(identifier) => {
            certificate.subject_key_identifier().as_deref() == Some(identifier.0.as_bytes())
        }
    }
}

/// How long a label of RSAES-OAEP may be: it is the sender's, and goes to the token with the key.
const MAX_LABEL: usize = 256;
