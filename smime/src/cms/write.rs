//! `SignedData` written in DER (RFC 5652 section 5).

use std::time::SystemTime;

use const_oid::db::rfc5911;
use der::{Encode, asn1::OctetString};

use super::attributes::{self, retagged, tlv};
use crate::{
    Certificate, Fault,
    algorithm::DigestAlgorithm,
    ber::{Tag, header_len, write_header},
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
/// checked before it is returned, unless the signer [needs no check](Signer::must_be_checked): a faulty token must not
/// send out bad signatures, and an RSA signature with one wrong half gives the private key away.
pub fn sign(
    digest_of: impl FnOnce(DigestAlgorithm) -> Digest,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<Vec<u8>, SignError> {
    let parts = SignerParts::make(digest_of, signer, at)?;
    let certificates = certificate_set(chain.iter().chain([signer.certificate()]));
    Ok(Frame::new(&parts.digest_algorithm, None, &certificates, &parts.signer_info)?.around(b""))
}

/// Like [`sign`], with the content inside: an opaque signature.
pub fn sign_opaque(
    content: &[u8],
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<Vec<u8>, SignError> {
    Ok(frame_of_opaque(content, signer, chain, at)?.around(content))
}

/// An opaque signature without its content, which may be large and need not be copied to be put into its place.
pub(crate) fn frame_of_opaque(
    content: &[u8],
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<Frame, SignError> {
    let parts = SignerParts::make(|algorithm| Digest::of(algorithm, content), signer, at)?;
    let certificates = certificate_set(chain.iter().chain([signer.certificate()]));
    Frame::new(&parts.digest_algorithm, Some(content.len()), &certificates, &parts.signer_info)
}

/// A `SignedData` that nobody signed, for the certificates in it (RFC 8551 3.8).
pub fn certificates_only(certificates: &[Certificate]) -> Result<Vec<u8>, SignError> {
    Ok(Frame::new(&[], None, &certificate_set(certificates), &[])?.around(b""))
}

/// A `SignerInfo`, and its digest's identifier, which stands before the content too.
struct SignerParts {
    digest_algorithm: Vec<u8>,
    signer_info: Vec<u8>,
}

impl SignerParts {
    fn make(
        digest_of: impl FnOnce(DigestAlgorithm) -> Digest,
        signer: &dyn Signer,
        at: SystemTime,
    ) -> Result<Self, SignError> {
        let certificate = signer.certificate();
        let Some(&algorithm) = signer.algorithms().first() else {
            return Err(SignError::NoAlgorithm { certificate: certificate.to_string() });
        };
        let content_digest = digest_of(algorithm.digest());
        let attributes = attributes::write(rfc5911::ID_DATA, &content_digest, algorithm, certificate, at)?;
        let input = SignatureInput::of(algorithm, &attributes);
        let SignatureValue(signature) = signer.sign(&input, algorithm)?;
        if signer.must_be_checked() {
            public_key::verify(certificate, algorithm, &input, &signature)
                .map_err(|_| SignError::Faulty { certificate: certificate.to_string() })?;
        }

        let digest_algorithm = algorithm.digest().identifier().to_der()?;
        let signer_info = tlv(
            Tag::SEQUENCE,
            &[
                1_u8.to_der()?,
                attributes::issuer_and_serial_number(certificate)?,
                digest_algorithm.clone(),
                retagged(&attributes, Tag::context(0)),
                algorithm.identifier().to_der()?,
                OctetString::new(signature)?.to_der()?,
            ]
            .concat(),
        );
        Ok(Self { digest_algorithm, signer_info })
    }
}

/// What stands before and behind the octets of the content in a `ContentInfo` with a `SignedData`.
pub(crate) struct Frame {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: Vec<u8>,
}

impl Frame {
    /// Around content of a length, or around none. The version is 1: the content is id-data and signers are named by
    /// issuer and serial number (RFC 5652 5.1).
    fn new(
        digest_algorithm: &[u8],
        content_len: Option<usize>,
        certificates: &[u8],
        signer_info: &[u8],
    ) -> Result<Self, SignError> {
        let before = [1_u8.to_der()?, tlv(Tag::SET, digest_algorithm)].concat();
        let content_type = rfc5911::ID_DATA.to_der()?;
        let tail = [tlv(Tag::context(0), certificates), tlv(Tag::SET, signer_info)].concat();
        let oid = rfc5911::ID_SIGNED_DATA.to_der()?;

        // Lengths from the inside outwards.
        let tlv_len = |len| header_len(len) + len;
        let encapsulated_len = content_type.len() + content_len.map_or(0, |len| tlv_len(tlv_len(len)));
        let data_len = before.len() + tlv_len(encapsulated_len) + tail.len();
        let object_len = oid.len() + tlv_len(tlv_len(data_len));

        let mut head = Vec::with_capacity(128);
        write_header(Tag::SEQUENCE, object_len, &mut head);
        head.extend(oid);
        write_header(Tag::context(0), tlv_len(data_len), &mut head);
        write_header(Tag::SEQUENCE, data_len, &mut head);
        head.extend(before);
        write_header(Tag::SEQUENCE, encapsulated_len, &mut head);
        head.extend(content_type);
        if let Some(len) = content_len {
            write_header(Tag::context(0), tlv_len(len), &mut head);
            write_header(Tag::OCTET_STRING, len, &mut head);
        }
        Ok(Self { head, tail })
    }

    /// The object, with the content in its place.
    fn around(&self, content: &[u8]) -> Vec<u8> {
        [&self.head, content, &self.tail].concat()
    }
}

/// The certificates, each once, in DER's order for a SET OF.
fn certificate_set<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Vec<u8> {
    let mut members: Vec<&[u8]> = certificates.into_iter().map(Certificate::der).collect();
    members.sort_unstable();
    members.dedup();
    members.concat()
}
