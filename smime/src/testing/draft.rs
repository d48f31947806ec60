//! Certificates of any kind, put together field by field and signed with keys that are made from a number.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a fixture that cannot be made ends the test, as it should"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::{Encode, asn1::ObjectIdentifier};

use super::{MemoryKey, hostile::wrap};
use crate::{
    Certificate,
    algorithm::SignatureAlgorithm,
    ber::Tag,
    key::{SignatureInput, Signer},
};

/// A time at which every certificate of [`Draft::new`] is valid.
pub fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// The fields of a certificate, each in DER. Whoever wants an odd one changes them before signing.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The version as it is encoded: 2 is version 3, and 0 is left out.
    pub version: u8,
    /// The serial number's octets.
    pub serial: Vec<u8>,
    /// The issuer's name.
    pub issuer: Vec<u8>,
    /// The times, notBefore and notAfter.
    pub validity: [Vec<u8>; 2],
    /// The subject's name.
    pub subject: Vec<u8>,
    /// The key is made from this number.
    pub key: u16,
    /// issuerUniqueID and subjectUniqueID, as far as they are there.
    pub unique_identifiers: Vec<Vec<u8>>,
    /// In their order.
    pub extensions: Vec<Vec<u8>>,
}

impl Draft {
    /// A certificate of version 3 without extensions.
    pub fn new(subject: &str, key: u16, issuer: &str) -> Self {
        let time = |text: &str| wrap(Tag(0x17), &[text.into()]);
        Self {
            version: 2,
            serial: vec![1],
            issuer: name(issuer),
            validity: [time("200101000000Z"), time("400101000000Z")],
            subject: name(subject),
            key,
            unique_identifiers: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// One of a CA.
    pub fn ca(subject: &str, key: u16, issuer: &str) -> Self {
        let value = wrap(Tag::SEQUENCE, &[wrap(Tag(0x01), &[vec![0xFF]])]);
        Self::new(subject, key, issuer).with(extension("2.5.29.19", true, &value))
    }

    /// One more extension.
    #[must_use]
    pub fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Another serial number.
    #[must_use]
    pub fn numbered(mut self, serial: u16) -> Self {
        self.serial = [&[1], &serial.to_be_bytes()[..]].concat();
        self
    }

    /// The certificate, signed with the Ed25519 key of this number.
    pub fn sign(&self, key: u16) -> Certificate {
        self.sign_with(&memory_key(key, self.self_signed()), SignatureAlgorithm::Ed25519)
    }

    /// The certificate, signed with a key in memory. The algorithm must be one that certificates name like CMS does:
    /// any but RSASSA-PKCS1-v1_5.
    pub fn sign_with(&self, key: &MemoryKey, algorithm: SignatureAlgorithm) -> Certificate {
        self.assemble(algorithm, |signed| {
            key.sign(&SignatureInput::of(algorithm, signed), algorithm).unwrap().0
        })
    }

    /// Nobody checks this one's signature: a key in memory wants some certificate.
    fn self_signed(&self) -> Certificate {
        self.assemble(SignatureAlgorithm::Ed25519, |_| vec![0; 64])
    }

    fn assemble(&self, algorithm: SignatureAlgorithm, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Certificate {
        let version = wrap(Tag::context(0), &[wrap(Tag::INTEGER, &[vec![self.version]])]);
        let algorithm = algorithm.identifier().to_der().unwrap();
        let mut fields = vec![
            wrap(Tag::INTEGER, std::slice::from_ref(&self.serial)),
            algorithm.clone(),
            self.issuer.clone(),
            wrap(Tag::SEQUENCE, &self.validity),
            self.subject.clone(),
            public_key_info(self.key),
        ];
        if self.version > 0 {
            fields.insert(0, version);
        }
        fields.extend_from_slice(&self.unique_identifiers);
        if !self.extensions.is_empty() {
            fields.push(wrap(Tag::context(3), &[wrap(Tag::SEQUENCE, &self.extensions)]));
        }
        let signed = wrap(Tag::SEQUENCE, &fields);
        let signature = [vec![0], sign(&signed)].concat();
        let der = wrap(Tag::SEQUENCE, &[signed, algorithm, wrap(Tag::BIT_STRING, &[signature])]);
        Certificate::from_der(&der).unwrap()
    }
}

/// The Ed25519 key of a number, for a certificate.
pub fn memory_key(number: u16, certificate: Certificate) -> MemoryKey {
    // PrivateKeyInfo of id-Ed25519 with 32 octets (RFC 8410 7).
    let mut pkcs8 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    pkcs8.extend(seed(number));
    MemoryKey::from_pkcs8(&pkcs8, certificate).unwrap()
}

fn seed(number: u16) -> [u8; 32] {
    let mut seed = [7; 32];
    let [high, low] = number.to_be_bytes();
    [seed[0], seed[1]] = [high, low];
    seed
}

fn public_key_info(number: u16) -> Vec<u8> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed(number)).unwrap();
    let mut info = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    info.extend(pair.public_key().as_ref());
    info
}

/// A name of one commonName; without a text the empty name.
pub fn name(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return wrap(Tag::SEQUENCE, &[]);
    }
    let oid = const_oid::db::rfc4519::CN.to_der().unwrap();
    let attribute = wrap(Tag::SEQUENCE, &[oid, wrap(Tag(0x0C), &[text.into()])]);
    wrap(Tag::SEQUENCE, &[wrap(Tag::SET, &[attribute])])
}

/// An extension around its value.
pub fn extension(oid: &str, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid.parse::<ObjectIdentifier>().unwrap().to_der().unwrap()];
    if is_critical {
        parts.push(wrap(Tag(0x01), &[vec![0xFF]]));
    }
    parts.push(wrap(Tag::OCTET_STRING, &[value.to_vec()]));
    wrap(Tag::SEQUENCE, &parts)
}

/// subjectAltName of these GeneralNames.
pub fn alternative_names(is_critical: bool, names: &[Vec<u8>]) -> Vec<u8> {
    extension("2.5.29.17", is_critical, &wrap(Tag::SEQUENCE, names))
}

/// An rfc822Name.
pub fn rfc822_name(text: &str) -> Vec<u8> {
    wrap(Tag(0x81), &[text.into()])
}

/// An SmtpUTF8Mailbox (RFC 9598 section 3).
pub fn smtp_utf8_name(text: &str) -> Vec<u8> {
    let oid = "1.3.6.1.5.5.7.8.9".parse::<ObjectIdentifier>().unwrap().to_der().unwrap();
    wrap(Tag::context(0), &[oid, wrap(Tag::context(0), &[wrap(Tag(0x0C), &[text.into()])])])
}

/// nameConstraints: permitted subtrees, and excluded ones, by their GeneralNames.
pub fn name_constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let trees = |number, bases: &[Vec<u8>]| {
        let trees: Vec<_> =
            bases.iter().map(|base| wrap(Tag::SEQUENCE, std::slice::from_ref(base))).collect();
        if trees.is_empty() { Vec::new() } else { wrap(Tag::context(number), &trees) }
    };
    extension("2.5.29.30", true, &wrap(Tag::SEQUENCE, &[trees(0, permitted), trees(1, excluded)]))
}

/// extKeyUsage of these purposes.
pub fn key_purposes(oids: &[&str]) -> Vec<u8> {
    let oids: Vec<_> =
        oids.iter().map(|oid| oid.parse::<ObjectIdentifier>().unwrap().to_der().unwrap()).collect();
    extension("2.5.29.37", false, &wrap(Tag::SEQUENCE, &oids))
}

/// subjectKeyIdentifier, and authorityKeyIdentifier.
pub fn key_identifiers(own: &[u8], issuer: &[u8]) -> [Vec<u8>; 2] {
    let own = wrap(Tag::OCTET_STRING, &[own.to_vec()]);
    let issuer = wrap(Tag::SEQUENCE, &[wrap(Tag(0x80), &[issuer.to_vec()])]);
    [extension("2.5.29.14", false, &own), extension("2.5.29.35", false, &issuer)]
}
