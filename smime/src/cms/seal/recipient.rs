//! A recipient's key, checked, and the `KeyTransRecipientInfo` for it (RFC 5652 6.2.1).

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey,
};
use const_oid::db::rfc5912;
use der::{Encode, asn1::Null};
use x509_cert::ext::pkix::{KeyUsage, KeyUsages};

use super::{SealError, agreement};
use crate::{
    Certificate, Fault, agreement::AgreementCurve, algorithm::DigestAlgorithm, ber::Tag,
    cms::attributes::tlv, key::ContentEncryptionKey,
};

/// A certificate that content-encryption keys may be encrypted to: only [`Self::new`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientKey {
    certificate: Certificate,
    kind: Kind,
    transport: RsaTransport,
    by_key_identifier: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    Agreement(AgreementCurve),
}

/// How a key is encrypted with an RSA public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RsaTransport {
    /// RSAES-PKCS1-v1_5: what every reader knows.
    Pkcs1,
    /// RSAES-OAEP with this hash, MGF1 with the same, and no label.
    Oaep(DigestAlgorithm),
}

/// Why a certificate is none to encrypt to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientKeyError {
    /// keyUsage does not allow it (RFC 8550 4.4.2).
    #[error("the certificate {certificate} is not for encryption: keyUsage has no {missing}")]
    KeyUsage {
        /// The certificate's subject and serial number.
        certificate: String,
        /// The bit that should be there.
        missing: &'static str,
    },
    /// A kind of key, or a curve, that nothing is encrypted to here.
    #[error("the certificate {certificate} has a key that nothing is encrypted to here")]
    KeyNotTaken {
        /// The certificate's subject and serial number.
        certificate: String,
    },
    /// The RSA key is too short (RFC 8551 2.3).
    #[error("the RSA key of the certificate {certificate} has {bits} bits, fewer than {MIN_RSA_BITS}")]
    Short {
        /// The certificate's subject and serial number.
        certificate: String,
        /// Its length.
        bits: usize,
    },
    /// There is no subjectKeyIdentifier to name the recipient by.
    #[error("the certificate {certificate} has no subjectKeyIdentifier")]
    NoKeyIdentifier {
        /// The certificate's subject and serial number.
        certificate: String,
    },
    /// A key that cannot be wrapped after key agreement.
    #[error("a content-encryption key of {len} octets cannot be wrapped for {certificate}")]
    KeyLength {
        /// The certificate's subject and serial number.
        certificate: String,
        /// The key's length.
        len: usize,
    },
    /// The engine does not take the public key: it is malformed, or its point is not on the curve.
    #[error("the public key of the certificate {certificate} is bad")]
    BadKey {
        /// The certificate's subject and serial number.
        certificate: String,
    },
}

impl RecipientKeyError {
    /// Whose fault it is: another certificate would do.
    pub fn fault(&self) -> Fault {
        Fault::Policy
    }
}

/// The shortest RSA key that is encrypted to.
const MIN_RSA_BITS: usize = 2048;

impl RecipientKey {
    /// Takes an RSA key that keyUsage allows to encipher keys, or a key on a curve that it allows to agree on
    /// keys. Whether the certificate is valid, trusted and the recipient's is for the caller to know.
    ///
    /// The recipient is named by issuer and serial number, which every reader knows, and an RSA key is used with
    /// RSAES-PKCS1-v1_5.
    pub fn new(certificate: Certificate) -> Result<Self, RecipientKeyError> {
        let name = || certificate.to_string();
        let (kind, usage, missing) = if certificate.key_algorithm() == rfc5912::RSA_ENCRYPTION {
            let bits = certificate.rsa_modulus_bits();
            let bits = bits.ok_or_else(|| RecipientKeyError::BadKey { certificate: name() })?;
            if bits < MIN_RSA_BITS {
                return Err(RecipientKeyError::Short { certificate: name(), bits });
            }
            (Kind::Rsa, KeyUsages::KeyEncipherment, "keyEncipherment")
        } else if let Some(curve) = AgreementCurve::of(&certificate) {
            (Kind::Agreement(curve), KeyUsages::KeyAgreement, "keyAgreement")
        } else {
            return Err(RecipientKeyError::KeyNotTaken { certificate: name() });
        };
        let allowed = match certificate.extension::<KeyUsage>() {
            Ok(Some(allowed)) => allowed.0.contains(usage),
            Ok(None) => true,
            Err(_) => false,
        };
        if !allowed {
            return Err(RecipientKeyError::KeyUsage { certificate: name(), missing });
        }
        Ok(Self { certificate, kind, transport: RsaTransport::Pkcs1, by_key_identifier: false })
    }

    /// The same with another way to encrypt with an RSA key; with other keys it changes nothing.
    #[must_use]
    pub fn with_rsa_transport(self, transport: RsaTransport) -> Self {
        Self { transport, ..self }
    }

    /// The same, named by its subjectKeyIdentifier.
    pub fn by_key_identifier(self) -> Result<Self, RecipientKeyError> {
        if self.certificate.subject_key_identifier().is_none() {
            return Err(RecipientKeyError::NoKeyIdentifier { certificate: self.certificate.to_string() });
        }
        Ok(Self { by_key_identifier: true, ..self })
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// How the key is encrypted; `None` where it is agreed on.
    pub fn rsa_transport(&self) -> Option<RsaTransport> {
        (self.kind == Kind::Rsa).then_some(self.transport)
    }

    /// Whether the RecipientInfo has version 0: key transport by issuer and serial number (RFC 5652 6.2.1).
    pub(super) fn is_version_0(&self) -> bool {
        self.kind == Kind::Rsa && !self.by_key_identifier
    }

    /// The RecipientInfo that gives `key` to this recipient.
    pub(super) fn info(&self, key: &ContentEncryptionKey) -> Result<Vec<u8>, SealError> {
        match self.kind {
            Kind::Rsa => self.key_transport(key),
            Kind::Agreement(curve) => agreement::info(self, curve, key),
        }
    }

    fn key_transport(&self, key: &ContentEncryptionKey) -> Result<Vec<u8>, SealError> {
        let encrypted = rsa_encrypt(&self.certificate.public_key_info(), self.transport, key);
        let encrypted = encrypted.map_err(|_| self.bad_key())?;
        let (version, rid) = match self.key_identifier() {
            Some(identifier) => (2_u8, tlv(Tag(0x80), &identifier)),
            None => (0, self.issuer_and_serial_number()?),
        };
        let algorithm = transport_identifier(self.transport)?;
        let parts = [version.to_der()?, rid, algorithm, tlv(Tag::OCTET_STRING, &encrypted)];
        Ok(tlv(Tag::SEQUENCE, &parts.concat()))
    }

    /// The key identifier, where the recipient is to be named by it.
    pub(super) fn key_identifier(&self) -> Option<Vec<u8>> {
        if self.by_key_identifier { self.certificate.subject_key_identifier() } else { None }
    }

    /// `IssuerAndSerialNumber` (RFC 5652 10.2.4) in the octets of the certificate.
    pub(super) fn issuer_and_serial_number(&self) -> Result<Vec<u8>, SealError> {
        Ok(self.certificate.issuer_and_serial_number().map_err(|_| self.bad_key())?)
    }

    pub(super) fn bad_key(&self) -> RecipientKeyError {
        RecipientKeyError::BadKey { certificate: self.certificate.to_string() }
    }
}

fn rsa_encrypt(
    info: &[u8],
    transport: RsaTransport,
    key: &ContentEncryptionKey,
) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    let public = PublicEncryptingKey::from_der(info)?;
    let mut out = vec![0; public.key_size_bytes()];
    match transport {
        RsaTransport::Pkcs1 => {
            Pkcs1PublicEncryptingKey::new(public)?.encrypt(key.expose(), &mut out)?;
        }
        RsaTransport::Oaep(hash) => {
            let algorithm = match hash {
                DigestAlgorithm::Sha1 => &OAEP_SHA1_MGF1SHA1,
                DigestAlgorithm::Sha256 => &OAEP_SHA256_MGF1SHA256,
                DigestAlgorithm::Sha384 => &OAEP_SHA384_MGF1SHA384,
                DigestAlgorithm::Sha512 => &OAEP_SHA512_MGF1SHA512,
                // Nothing is written with these.
                DigestAlgorithm::Md5 | DigestAlgorithm::Sha224 => return Err(aws_lc_rs::error::Unspecified),
            };
            OaepPublicEncryptingKey::new(public)?.encrypt(algorithm, key.expose(), &mut out, None)?;
        }
    }
    Ok(out)
}

/// The keyEncryptionAlgorithm: rsaEncryption with NULL (RFC 3370 4.2.1), or id-RSAES-OAEP with hash and mask
/// where they are not the default SHA-1, which DER leaves out; NULL inside (RFC 4055 2.1, 4.1).
pub(crate) fn transport_identifier(transport: RsaTransport) -> Result<Vec<u8>, der::Error> {
    let identifier = |oid: der::asn1::ObjectIdentifier, parameters: Vec<u8>| {
        Ok(tlv(Tag::SEQUENCE, &[oid.to_der()?, parameters].concat()))
    };
    let hash = match transport {
        RsaTransport::Pkcs1 => return identifier(rfc5912::RSA_ENCRYPTION, Null.to_der()?),
        RsaTransport::Oaep(DigestAlgorithm::Sha1) => {
            return identifier(rfc5912::ID_RSAES_OAEP, tlv(Tag::SEQUENCE, &[]));
        }
        RsaTransport::Oaep(hash) => identifier(hash.oid(), Null.to_der()?)?,
    };
    let mask = identifier(rfc5912::ID_MGF_1, hash.clone())?;
    let parameters = [tlv(Tag::context(0), &hash), tlv(Tag::context(1), &mask)].concat();
    identifier(rfc5912::ID_RSAES_OAEP, tlv(Tag::SEQUENCE, &parameters))
}

#[cfg(test)]
mod tests {
    use der::Decode;

    use super::*;
    use crate::algorithm::KeyEncryptionAlgorithm;

    #[test]
    fn key_transport_is_recognised_by_the_identifier_it_writes() {
        use DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512};
        let read = |transport| {
            let octets = transport_identifier(transport).unwrap();
            let identifier = spki::AlgorithmIdentifierOwned::from_der(&octets).unwrap();
            KeyEncryptionAlgorithm::from_identifier(&identifier).unwrap()
        };
        assert_eq!(read(RsaTransport::Pkcs1), KeyEncryptionAlgorithm::RsaPkcs1);
        for hash in [Sha1, Sha256, Sha384, Sha512] {
            let expected = KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash: hash, label: Vec::new() };
            assert_eq!(read(RsaTransport::Oaep(hash)), expected);
        }
    }
}
