//! `CertID` (RFC 6960 section 4.1.1), and the request that is made of one.

use super::{
    names::RawFields,
    ocsp::ID_PKIX_OCSP_NONCE,
    tlv::{self, Malformed, Tlv},
};
use crate::{
    Certificate,
    algorithm::DigestAlgorithm,
    ber::{Tag, write_header},
    key::Digest,
};

/// Which certificate an answer is about.
#[derive(Debug)]
pub(super) struct CertId {
    /// `None` where the digest is not known here.
    algorithm: Option<DigestAlgorithm>,
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    /// The content of the INTEGER.
    serial: Vec<u8>,
}

impl CertId {
    pub(super) fn read(id: Tlv<'_>) -> Result<Self, Malformed> {
        let mut fields = id.inside();
        let algorithm = fields.required(tlv::SEQUENCE, "no hashAlgorithm")?.inside();
        let oid = { algorithm }.required(tlv::OBJECT_IDENTIFIER, "no hashAlgorithm")?.content;
        let name_hash = fields.required(tlv::OCTET_STRING, "no issuerNameHash")?.content.to_vec();
        let key_hash = fields.required(tlv::OCTET_STRING, "no issuerKeyHash")?.content.to_vec();
        let serial = fields.required(tlv::INTEGER, "no serialNumber")?.content.to_vec();
        fields.end("something behind a serialNumber")?;
        let algorithm = ALGORITHMS.into_iter().find(|algorithm| algorithm.oid().as_bytes() == oid);
        Ok(Self { algorithm, name_hash, key_hash, serial })
    }

    /// Whether it is `certificate`, issued by `issuer`: name, key and number are the same.
    pub(super) fn is_of(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let (Some(algorithm), Ok(fields)) = (self.algorithm, RawFields::of(certificate)) else {
            return false;
        };
        self.serial == fields.serial
            && self.name_hash == Digest::of(algorithm, fields.issuer).as_bytes()
            && self.key_hash == Digest::of(algorithm, issuer.public_key()).as_bytes()
    }
}

/// An OCSP request for one certificate (RFC 6960 section 4.1), unsigned, with SHA-1 in its `CertID`: RFC 5019 2.1.1
/// and every responder want that, and nothing depends on its strength.
#[derive(Clone, Debug)]
pub struct OcspRequest {
    der: Vec<u8>,
    nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// Asks for `certificate`, which `issuer` issued. A nonce has 1 to 128 octets, better 32 (RFC 9654 2.1). `None` where
    /// the certificate cannot be read.
    pub fn new(certificate: &Certificate, issuer: &Certificate, nonce: Option<&[u8]>) -> Option<Self> {
        let fields = RawFields::of(certificate).ok()?;
        let hash = DigestAlgorithm::Sha1;
        let algorithm = sequence(&[&of(Tag::OBJECT_IDENTIFIER, hash.oid().as_bytes()), &of(Tag(0x05), &[])]);
        let id = sequence(&[
            &algorithm,
            &of(Tag::OCTET_STRING, Digest::of(hash, fields.issuer).as_bytes()),
            &of(Tag::OCTET_STRING, Digest::of(hash, issuer.public_key()).as_bytes()),
            &of(Tag::INTEGER, fields.serial),
        ]);
        let list = sequence(&[&sequence(&[&id])]);
        let extensions = nonce.map_or(Vec::new(), |nonce| {
            let value = of(Tag::OCTET_STRING, &of(Tag::OCTET_STRING, nonce));
            let extension = sequence(&[&of(Tag::OBJECT_IDENTIFIER, ID_PKIX_OCSP_NONCE), &value]);
            of(Tag(0xA2), &sequence(&[&extension]))
        });
        let der = sequence(&[&sequence(&[&list, &extensions])]);
        Some(Self { der, nonce: nonce.map(<[u8]>::to_vec) })
    }

    /// The request in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The nonce that it has.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    of(Tag::SEQUENCE, &parts.concat())
}

fn of(tag: Tag, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 4);
    write_header(tag, content.len(), &mut out);
    out.extend_from_slice(content);
    out
}

const ALGORITHMS: [DigestAlgorithm; 4] =
    [DigestAlgorithm::Sha1, DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512];

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::{super::tlv::Reader, *};

    #[test]
    fn what_is_asked_for_is_what_an_answer_must_be_about() {
        let [alice, ca, root] = ["alice", "ca", "root"].map(crate::testing::fixtures::certificate);
        let request = OcspRequest::new(&alice, &ca, Some(&[7; 32])).unwrap();
        let mut list = Reader::only(request.der(), tlv::SEQUENCE, "x").unwrap().inside();
        let mut list = list.any("x").unwrap().inside();
        let mut list = list.any("x").unwrap().inside();
        let id = list.any("x").unwrap().inside().any("x").unwrap();
        let id = CertId::read(id).unwrap();
        assert!(id.is_of(&alice, &ca));
        assert!(!id.is_of(&alice, &root) && !id.is_of(&ca, &root));
        assert_eq!(request.nonce(), Some(&[7; 32][..]));
        assert!(request.der().windows(32).any(|octets| octets == [7; 32]));
        assert_eq!(OcspRequest::new(&alice, &ca, None).unwrap().nonce(), None);
    }
}
