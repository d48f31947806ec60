//! `SignedData` written in DER (RFC 5652 section 5).

use std::time::SystemTime;

use const_oid::db::rfc5911;
use der::{Encode, asn1::OctetString};

use super::attributes::{self, tlv};
use crate::{
    Certificate, Fault,
    ber::Tag,
    key::{Digest, KeyError, SignatureInput, SignatureValue, Signer},
    mime::BoundaryError,
    public_key,
};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key could not be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key has no signature algorithm that is supported here.
    #[error("the key of {certificate} has no signature algorithm that is supported")]
    NoAlgorithm {
        /// The certificate's subject and serial number.
        certificate: String,
    },
    /// The token's signature does not verify with the certificate's public key.
    #[error(
        "the token's signature does not verify with the certificate {certificate}: wrong key or faulty token"
    )]
    Faulty {
        /// The certificate's subject and serial number.
        certificate: String,
    },
    /// No boundary could be drawn.
    #[error(transparent)]
    Boundary(#[from] BoundaryError),
    /// A structure could not be encoded.
    #[error("the signature could not be encoded: {0}")]
    Encoding(#[from] der::Error),
}

impl SignError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Key(error) => error.fault(),
            Self::NoAlgorithm { .. } | Self::Faulty { .. } => Fault::Operator,
            Self::Boundary(error) => error.fault(),
            Self::Encoding(_) => Fault::Internal,
        }
    }
}

/// Signs content by its digest and returns a detached `SignedData` in a `ContentInfo`, with the
/// signer's certificate and `chain` in it.
///
/// `digest_of` gives the content's digest by the algorithm that the key signs with. The signature is
/// checked before it is returned: a faulty token must not send out bad signatures, and an RSA
/// signature with one wrong half gives the private key away.
pub fn sign(
    digest_of: impl FnOnce(crate::algorithm::DigestAlgorithm) -> Digest,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<Vec<u8>, SignError> {
    let certificate = signer.certificate();
    let Some(&algorithm) = signer.algorithms().first() else {
        return Err(SignError::NoAlgorithm { certificate: certificate.to_string() });
    };
    let content_digest = digest_of(algorithm.digest());
    let attributes = attributes::write(rfc5911::ID_DATA, &content_digest, certificate, at)?;
    let input = SignatureInput::of(algorithm, &attributes);
    let SignatureValue(signature) = signer.sign(&input, algorithm)?;
    public_key::verify(certificate, algorithm, &input, &signature)
        .map_err(|_| SignError::Faulty { certificate: certificate.to_string() })?;

    let sid = cms::cert::IssuerAndSerialNumber {
        issuer: certificate.issuer().clone(),
        serial_number: certificate.decoded().tbs_certificate().serial_number().clone(),
    };
    let digest_algorithm = algorithm.digest().identifier().to_der()?;
    let signer_info = tlv(
        Tag::SEQUENCE,
        &[
            1_u8.to_der()?,
            sid.to_der()?,
            digest_algorithm.clone(),
            retagged(&attributes, Tag::context(0)),
            algorithm.identifier().to_der()?,
            OctetString::new(signature)?.to_der()?,
        ]
        .concat(),
    );
    let signed_data = tlv(
        Tag::SEQUENCE,
        &[
            1_u8.to_der()?,
            tlv(Tag::SET, &digest_algorithm),
            tlv(Tag::SEQUENCE, &rfc5911::ID_DATA.to_der()?),
            tlv(Tag::context(0), &certificate_set(certificate, chain)),
            tlv(Tag::SET, &signer_info),
        ]
        .concat(),
    );
    let content = [rfc5911::ID_SIGNED_DATA.to_der()?, tlv(Tag::context(0), &signed_data)].concat();
    Ok(tlv(Tag::SEQUENCE, &content))
}

/// A SET OF's octets under an implicit tag.
fn retagged(set: &[u8], tag: Tag) -> Vec<u8> {
    let mut out = set.to_vec();
    if let Some(first) = out.first_mut() {
        *first = tag.0;
    }
    out
}

/// The certificates, each once, in DER's order for a SET OF.
fn certificate_set(signer: &Certificate, chain: &[Certificate]) -> Vec<u8> {
    let mut members: Vec<&[u8]> = chain.iter().chain([signer]).map(Certificate::der).collect();
    members.sort_unstable();
    members.dedup();
    members.concat()
}
