//! CRLs and OCSP responses of any kind, put together field by field and signed with keys that are made from a number.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a fixture that cannot be made ends the test, as it should"
)]

use std::time::{Duration, SystemTime};

use der::{
    Encode,
    asn1::{GeneralizedTime, ObjectIdentifier},
};

use super::{
    draft::{Draft, at, extension, memory_key, name},
    hostile::wrap,
};
use crate::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    ber::Tag,
    key::{Digest, SignatureInput, Signer},
    revocation::{Crl, OcspResponse},
};

/// So many hours after the time of all tests.
pub fn hour(number: i64) -> SystemTime {
    let distance = Duration::from_hours(number.unsigned_abs());
    if number < 0 { at() - distance } else { at() + distance }
}

fn time(number: i64) -> Vec<u8> {
    GeneralizedTime::from_system_time(hour(number)).unwrap().to_der().unwrap()
}

fn integer(octets: &[u8]) -> Vec<u8> {
    wrap(Tag::INTEGER, &[octets.to_vec()])
}

fn oid(text: &str) -> Vec<u8> {
    text.parse::<ObjectIdentifier>().unwrap().to_der().unwrap()
}

/// What is signed, its algorithm, and the signature of the Ed25519 key of this number.
fn signed(to_be_signed: &[u8], key: u16) -> [Vec<u8>; 3] {
    let algorithm = SignatureAlgorithm::Ed25519;
    let key = memory_key(key, Draft::new("Any", key, "Any").sign(key));
    let signature = key.sign(&SignatureInput::of(algorithm, to_be_signed), algorithm).unwrap().0;
    let signature = wrap(Tag::BIT_STRING, &[vec![0], signature]);
    [to_be_signed.to_vec(), algorithm.identifier().to_der().unwrap(), signature]
}

/// A CRL of version 2.
#[derive(Clone, Debug)]
pub struct List {
    issuer: &'static str,
    key: u16,
    from: i64,
    until: Option<i64>,
    entries: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

impl List {
    /// An empty one by this issuer with this key, an hour old and good for a day.
    pub fn by(issuer: &'static str, key: u16) -> Self {
        Self { issuer, key, from: -1, until: Some(24), entries: Vec::new(), extensions: Vec::new() }
    }

    /// Issued so many hours after the time of all tests, and good until then.
    #[must_use]
    pub fn from(mut self, from: i64, until: Option<i64>) -> Self {
        (self.from, self.until) = (from, until);
        self
    }

    /// Lists a certificate, with these extensions of the entry.
    #[must_use]
    pub fn listing(self, certificate: &Certificate, extensions: &[Vec<u8>]) -> Self {
        self.listing_number(certificate.serial_number(), extensions)
    }

    /// Lists a number in the octets of its INTEGER.
    #[must_use]
    pub fn listing_number(mut self, serial: &[u8], extensions: &[Vec<u8>]) -> Self {
        let mut fields = vec![integer(serial), time(-2)];
        if !extensions.is_empty() {
            fields.push(wrap(Tag::SEQUENCE, extensions));
        }
        self.entries.push(wrap(Tag::SEQUENCE, &fields));
        self
    }

    /// One more extension.
    #[must_use]
    pub fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    /// With this cRLNumber.
    #[must_use]
    pub fn numbered(self, number: u8) -> Self {
        self.with(extension("2.5.29.20", false, &integer(&[number])))
    }

    /// A delta CRL to the list of this number.
    #[must_use]
    pub fn delta_to(self, base: u8) -> Self {
        self.with(extension("2.5.29.27", true, &integer(&[base])))
    }

    /// With an issuingDistributionPoint of these fields.
    #[must_use]
    pub fn about(self, fields: &[Vec<u8>]) -> Self {
        self.with(extension("2.5.29.28", true, &wrap(Tag::SEQUENCE, fields)))
    }

    /// Its octets.
    pub fn der(&self) -> Vec<u8> {
        let algorithm = SignatureAlgorithm::Ed25519.identifier().to_der().unwrap();
        let mut fields = vec![integer(&[1]), algorithm, name(self.issuer), time(self.from)];
        fields.extend(self.until.map(time));
        if !self.entries.is_empty() {
            fields.push(wrap(Tag::SEQUENCE, &self.entries));
        }
        if !self.extensions.is_empty() {
            fields.push(wrap(Tag::context(0), &[wrap(Tag::SEQUENCE, &self.extensions)]));
        }
        wrap(Tag::SEQUENCE, &signed(&wrap(Tag::SEQUENCE, &fields), self.key))
    }

    /// The same, read.
    pub fn sign(&self) -> Crl {
        Crl::from_der(&self.der()).unwrap()
    }
}

/// reasonCode (RFC 5280 5.3.1).
pub fn reason(code: u8) -> Vec<u8> {
    extension("2.5.29.21", false, &wrap(Tag(0x0A), &[vec![code]]))
}

/// What a responder says.
#[derive(Clone, Copy, Debug)]
pub enum Status {
    /// good.
    Good,
    /// revoked, for no reason given.
    Revoked,
    /// certificateHold.
    Held,
    /// unknown.
    Unknown,
}

/// A SingleResponse.
#[derive(Clone, Debug)]
pub struct Single {
    /// About whom.
    pub certificate: Certificate,
    /// Who issued that.
    pub issuer: Certificate,
    /// What is said.
    pub status: Status,
    /// That of the `CertID`.
    pub hash: DigestAlgorithm,
    /// thisUpdate, in hours.
    pub from: i64,
    /// nextUpdate, in hours.
    pub until: Option<i64>,
    /// singleExtensions.
    pub extensions: Vec<Vec<u8>>,
}

impl Single {
    /// An hour old and good for a day, with SHA-1 in its `CertID`.
    pub fn of(certificate: &Certificate, issuer: &Certificate, status: Status) -> Self {
        Self {
            certificate: certificate.clone(),
            issuer: issuer.clone(),
            status,
            hash: DigestAlgorithm::Sha1,
            from: -1,
            until: Some(24),
            extensions: Vec::new(),
        }
    }

    fn der(&self) -> Vec<u8> {
        let octets =
            |octets: &[u8]| wrap(Tag::OCTET_STRING, &[Digest::of(self.hash, octets).as_bytes().to_vec()]);
        let id = wrap(
            Tag::SEQUENCE,
            &[
                wrap(Tag::SEQUENCE, &[self.hash.oid().to_der().unwrap()]),
                octets(&self.issuer.subject().to_der().unwrap()),
                octets(self.issuer.public_key()),
                integer(self.certificate.serial_number()),
            ],
        );
        let reason = wrap(Tag::context(0), &[wrap(Tag(0x0A), &[vec![6]])]);
        let status = match self.status {
            Status::Good => wrap(Tag(0x80), &[]),
            Status::Revoked => wrap(Tag::context(1), &[time(-2)]),
            Status::Held => wrap(Tag::context(1), &[time(-2), reason]),
            Status::Unknown => wrap(Tag(0x82), &[]),
        };
        let mut fields = vec![id, status, time(self.from)];
        fields.extend(self.until.map(|until| wrap(Tag::context(0), &[time(until)])));
        if !self.extensions.is_empty() {
            fields.push(wrap(Tag::context(1), &[wrap(Tag::SEQUENCE, &self.extensions)]));
        }
        wrap(Tag::SEQUENCE, &fields)
    }
}

/// A basic OCSP response (RFC 6960 4.2.1).
pub fn response(by: &Certificate, key: u16, singles: &[Single], along: &[Certificate]) -> Vec<u8> {
    let front = [wrap(Tag::context(1), &[by.subject().to_der().unwrap()]), time(-1)];
    odd_response(&front, key, singles, &[], along)
}

/// The same with any fields before the answers, version, responderID and producedAt, and with responseExtensions.
pub fn odd_response(
    front: &[Vec<u8>],
    key: u16,
    singles: &[Single],
    extensions: &[Vec<u8>],
    along: &[Certificate],
) -> Vec<u8> {
    let singles: Vec<_> = singles.iter().map(Single::der).collect();
    let mut data = [front, &[wrap(Tag::SEQUENCE, &singles)]].concat();
    if !extensions.is_empty() {
        data.push(wrap(Tag::context(1), &[wrap(Tag::SEQUENCE, extensions)]));
    }
    let mut basic = signed(&wrap(Tag::SEQUENCE, &data), key).to_vec();
    if !along.is_empty() {
        let certificates: Vec<_> = along.iter().map(|certificate| certificate.der().to_vec()).collect();
        basic.push(wrap(Tag::context(0), &[wrap(Tag::SEQUENCE, &certificates)]));
    }
    let basic = wrap(Tag::OCTET_STRING, &[wrap(Tag::SEQUENCE, &basic)]);
    let bytes = wrap(Tag::SEQUENCE, &[oid("1.3.6.1.5.5.7.48.1.1"), basic]);
    wrap(Tag::SEQUENCE, &[wrap(Tag(0x0A), &[vec![0]]), wrap(Tag::context(0), &[bytes])])
}

/// The same, read.
pub fn answer(by: &Certificate, key: u16, singles: &[Single], along: &[Certificate]) -> OcspResponse {
    OcspResponse::from_der(&response(by, key, singles, along)).unwrap()
}
