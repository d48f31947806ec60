//! `SignedData` written in DER (RFC 5652 section 5).

use std::time::SystemTime;

use const_oid::db::rfc5911;
use der::{Encode, asn1::OctetString};

use super::attributes::{self, retagged, tlv};
use crate::{
    Certificate, Fault,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    ber::{Tag, header_len, write_header},
    key::{Digest, KeyError, SignatureInput, SignatureValue, Signer},
    mime::BoundaryError,
    public_key,
    question::{Answer, Question},
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
    let unsigned = Unsigned::of(digest_of, signer, chain, at)?;
    let answer = unsigned.question().ask_signer(signer)?;
    unsigned.signed(answer)
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
    let unsigned = Unsigned::of(|algorithm| Digest::of(algorithm, content), signer, chain, at)?;
    let answer = unsigned.question().ask_signer(signer)?;
    unsigned.frame(answer, Some(content.len()))
}

/// A `SignedData` that nobody signed, for the certificates in it (RFC 8551 3.8).
pub fn certificates_only(certificates: &[Certificate]) -> Result<Vec<u8>, SignError> {
    Ok(Frame::new(&[], None, &certificate_set(certificates), &[])?.around(b""))
}

/// A `SignedData` that lacks its signature, between the two halves of [`sign`].
#[derive(Debug)]
pub struct Unsigned {
    algorithm: SignatureAlgorithm,
    /// The signed attributes as a SET OF.
    attributes: Vec<u8>,
    certificate: Certificate,
    /// The certificate and its chain.
    certificates: Vec<u8>,
    is_checked: bool,
}

impl Unsigned {
    /// The first half of [`sign`]: all but the use of the key.
    pub fn of(
        digest_of: impl FnOnce(DigestAlgorithm) -> Digest,
        signer: &dyn Signer,
        chain: &[Certificate],
        at: SystemTime,
    ) -> Result<Self, SignError> {
        let certificate = signer.certificate();
        let Some(&algorithm) = signer.algorithms().first() else {
            return Err(SignError::NoAlgorithm { certificate: certificate.to_string() });
        };
        let content_digest = digest_of(algorithm.digest());
        Ok(Self {
            algorithm,
            attributes: attributes::write(rfc5911::ID_DATA, &content_digest, algorithm, certificate, at)?,
            certificate: certificate.clone(),
            certificates: certificate_set(chain.iter().chain([certificate])),
            is_checked: signer.must_be_checked(),
        })
    }

    /// What to ask the signer.
    pub fn question(&self) -> Question {
        let input = SignatureInput::of(self.algorithm, &self.attributes).into_owned();
        Question::Sign { input, algorithm: self.algorithm }
    }

    /// The second half of [`sign`]: the detached `SignedData`.
    pub fn signed(self, answer: Answer) -> Result<Vec<u8>, SignError> {
        Ok(self.frame(answer, None)?.around(b""))
    }

    fn frame(&self, answer: Answer, content_len: Option<usize>) -> Result<Frame, SignError> {
        let Self { algorithm, attributes, certificate, certificates, is_checked } = self;
        let SignatureValue(signature) = answer.into_signature()?;
        if *is_checked {
            let input = SignatureInput::of(*algorithm, attributes);
            public_key::verify(certificate, *algorithm, &input, &signature)
                .map_err(|_| SignError::Faulty { certificate: certificate.to_string() })?;
        }
        let digest_algorithm = algorithm.digest().identifier().to_der()?;
        let signer_info = tlv(
            Tag::SEQUENCE,
            &[
                1_u8.to_der()?,
                attributes::issuer_and_serial_number(certificate)?,
                digest_algorithm.clone(),
                retagged(attributes, Tag::context(0)),
                algorithm.identifier().to_der()?,
                OctetString::new(signature)?.to_der()?,
            ]
            .concat(),
        );
        Frame::new(&digest_algorithm, content_len, certificates, &signer_info)
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
