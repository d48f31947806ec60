//! An OCSP response as it was received (RFC 6960 section 4.2).
//!
//! Who signed it and whether that one may is decided in `responder`.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use der::{Decode, asn1::GeneralizedTime};
use spki::AlgorithmIdentifierOwned;
use x509_cert::{ext::pkix::CrlReason, name::Name};

use super::{
    cert_id::CertId,
    entries::{Entry, Extensions, not_supported},
    standing::Standing,
    tlv::{self, Malformed, Reader, Tlv},
};
use crate::{
    Certificate,
    algorithm::DigestAlgorithm,
    key::Digest,
    path::{PreparedName, SignedError, verify_parts},
};

/// How long an answer is good that does not say for how long (RFC 6960 4.2.2.1: newer information is always
/// available then).
pub const MAX_AGE_WITHOUT_NEXT_UPDATE: Duration = Duration::from_hours(24);

/// A basic OCSP response beside its exact octets. Cloning shares it.
#[derive(Clone)]
pub struct OcspResponse {
    inner: Arc<Inner>,
}

struct Inner {
    der: Vec<u8>,
    /// `tbsResponseData`.
    signed: std::ops::Range<usize>,
    signature: std::ops::Range<usize>,
    algorithm: AlgorithmIdentifierOwned,
    responder: ResponderId,
    produced_at: SystemTime,
    singles: Vec<Single>,
    nonce: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
    unusable: Option<String>,
    fingerprint: [u8; 32],
    verified: OnceLock<[u8; 32]>,
}

/// Who says that he answers.
#[derive(Debug)]
enum ResponderId {
    Name(PreparedName),
    /// SHA-1 over his key.
    Key(Vec<u8>),
}

/// The answer for one certificate.
#[derive(Debug)]
pub(super) struct Single {
    id: CertId,
    pub(super) status: Answer,
    pub(super) this_update: SystemTime,
    /// nextUpdate, or what takes its place.
    pub(super) until: SystemTime,
    /// Why it cannot be used.
    pub(super) unusable: Option<String>,
}

impl Single {
    /// Whether it says revoked, and that is for ever.
    fn is_final(&self) -> bool {
        let Answer::Revoked(Entry { revoked, reason, .. }) = self.status else { return false };
        Standing::Revoked { since: revoked, reason }.is_final()
    }
}

/// certStatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    Revoked(Entry),
    Unknown,
}

/// Octets that are no answer of an OCSP responder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspError {
    /// They do not decode.
    #[error("not an OCSP response: {0}")]
    Malformed(&'static str),
    /// The responder answers nothing: responseStatus (RFC 6960 4.2.1).
    #[error("the OCSP responder says {0}")]
    Status(&'static str),
    /// Not `id-pkix-ocsp-basic`.
    #[error("the OCSP response is of a type that is not known here")]
    Type,
}

impl From<Malformed> for OcspError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl OcspResponse {
    /// Decodes an `OCSPResponse` that is successful and basic.
    pub fn from_der(octets: &[u8]) -> Result<Self, OcspError> {
        let outer = Reader::only(octets, tlv::SEQUENCE, "no SEQUENCE, or something behind it")?;
        let mut fields = outer.inside();
        let status = fields.required(tlv::ENUMERATED, "no responseStatus")?;
        match status.content {
            [0] => {}
            [1] => return Err(OcspError::Status("malformedRequest")),
            [2] => return Err(OcspError::Status("internalError")),
            [3] => return Err(OcspError::Status("tryLater")),
            [5] => return Err(OcspError::Status("sigRequired")),
            [6] => return Err(OcspError::Status("unauthorized")),
            _ => return Err(OcspError::Status("something unknown")),
        }
        let explicit = fields.required(0xA0, "no responseBytes")?;
        fields.end("something behind responseBytes")?;
        let mut bytes = Reader::only(explicit.content, tlv::SEQUENCE, "responseBytes")?.inside();
        if bytes.required(tlv::OBJECT_IDENTIFIER, "no responseType")?.content != ID_PKIX_OCSP_BASIC {
            return Err(OcspError::Type);
        }
        let basic = bytes.required(tlv::OCTET_STRING, "no response")?;
        bytes.end("something behind the response")?;
        Self::basic(basic.content, octets)
    }

    fn basic(basic: &[u8], der: &[u8]) -> Result<Self, OcspError> {
        // The octets kept are those of the BasicOCSPResponse, those given out of the whole.
        let mut fields = Reader::only(basic, tlv::SEQUENCE, "no BasicOCSPResponse")?.inside();
        let data = fields.required(tlv::SEQUENCE, "no tbsResponseData")?;
        let algorithm = fields.required(tlv::SEQUENCE, "no signatureAlgorithm")?;
        let signature = fields.required(tlv::BIT_STRING, "no signature")?;
        let certificates = match fields.optional(0xA0, "certs")? {
            Some(explicit) => read_certificates(explicit.content)?,
            None => Vec::new(),
        };
        fields.end("something behind certs")?;
        let bits = signature.whole_bits().ok_or(Malformed("the signature is not of whole octets"))?;
        let base = der.len() - basic.len();
        // It is the last thing in the octets, as nothing may follow it.
        let place = |start: usize, len: usize| base + start..base + start + len;
        let data_read = read_data(&data)?;
        let inner = Inner {
            signed: place(data.start, data.octets.len()),
            signature: place(signature.content_start + signature.content.len() - bits.len(), bits.len()),
            algorithm: AlgorithmIdentifierOwned::from_der(algorithm.octets)
                .map_err(|_| OcspError::Malformed("the signatureAlgorithm cannot be read"))?,
            responder: data_read.responder,
            produced_at: data_read.produced_at,
            singles: data_read.singles,
            nonce: data_read.nonce,
            unusable: data_read.unusable,
            certificates,
            fingerprint: Digest::of(DigestAlgorithm::Sha256, der).as_bytes().try_into().unwrap_or([0; 32]),
            verified: OnceLock::new(),
            der: der.to_vec(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The exact octets.
    pub fn der(&self) -> &[u8] {
        &self.inner.der
    }

    /// SHA-256 over the octets.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.inner.fingerprint
    }

    /// When it was signed.
    pub fn produced_at(&self) -> SystemTime {
        self.inner.produced_at
    }

    /// The nonce of the request that it answers, if it says so (RFC 9654).
    pub fn nonce(&self) -> Option<&[u8]> {
        self.inner.nonce.as_deref()
    }

    /// From when until when it tells of this certificate, whatever it tells and whoever signed it. `None` where it is
    /// about others.
    pub fn validity_for(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
    ) -> Option<(SystemTime, SystemTime)> {
        self.single(certificate, issuer).map(|single| (single.this_update, single.until))
    }

    /// Whether it says that this certificate is revoked for ever, whoever signed it: that outlives its nextUpdate.
    pub fn is_final_for(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        self.single(certificate, issuer).is_some_and(Single::is_final)
    }

    /// Whether it says so of any certificate.
    pub fn has_final(&self) -> bool {
        self.inner.singles.iter().any(Single::is_final)
    }

    /// Whether it says of this certificate that it is good or revoked. Of one that had expired before good says nothing:
    /// responders forget them.
    pub fn decides(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let of_single = |single: &Single| match single.status {
            _ if single.unusable.is_some() => false,
            Answer::Good => single.this_update <= certificate.not_after(),
            Answer::Revoked(_) => true,
            Answer::Unknown => false,
        };
        self.unusable().is_none() && self.single(certificate, issuer).is_some_and(of_single)
    }

    /// The newest answer about exactly this certificate.
    pub(super) fn single(&self, certificate: &Certificate, issuer: &Certificate) -> Option<&Single> {
        let singles = self.inner.singles.iter().filter(|single| single.id.is_of(certificate, issuer));
        singles.max_by_key(|single| single.this_update)
    }

    /// The certificates that the responder sent along.
    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.inner.certificates
    }

    /// Why it cannot be used at all.
    pub(super) fn unusable(&self) -> Option<&str> {
        self.inner.unusable.as_deref()
    }

    /// Whether it says that this is the certificate of who signed it.
    pub(super) fn names(&self, responder: &Certificate) -> bool {
        match &self.inner.responder {
            ResponderId::Name(name) => name.is(responder.prepared_subject()),
            ResponderId::Key(hash) => {
                Digest::of(DigestAlgorithm::Sha1, responder.public_key()).as_bytes() == hash
            }
        }
    }

    /// Whether it says that who signed it has one of these names (canonical) or keys (SHA-1).
    pub(super) fn names_one_of(&self, names: &HashSet<&[u8]>, keys: &HashSet<Vec<u8>>) -> bool {
        match &self.inner.responder {
            ResponderId::Name(name) => names.contains(name.canonical()),
            ResponderId::Key(hash) => keys.contains(hash),
        }
    }

    pub(super) fn is_known_to_be_of(&self, responder: &Certificate) -> bool {
        self.inner.verified.get() == Some(responder.fingerprint())
    }

    pub(super) fn check_signature(&self, responder: &Certificate) -> Result<(), SignedError> {
        let part = |range: &std::ops::Range<usize>| self.inner.der.get(range.clone()).unwrap_or_default();
        let (signed, signature) = (part(&self.inner.signed), part(&self.inner.signature));
        verify_parts(signed, &self.inner.algorithm, signature, responder)?;
        let _ = self.inner.verified.set(*responder.fingerprint());
        Ok(())
    }
}

impl fmt::Debug for OcspResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OcspResponse(by {:?}, {} answers)", self.inner.responder, self.inner.singles.len())
    }
}

struct Data {
    responder: ResponderId,
    produced_at: SystemTime,
    singles: Vec<Single>,
    nonce: Option<Vec<u8>>,
    unusable: Option<String>,
}

fn read_data(data: &Tlv<'_>) -> Result<Data, OcspError> {
    let mut fields = data.inside();
    if let Some(version) = fields.optional(0xA0, "version")?
        && version.content != [tlv::INTEGER, 1, 0]
    {
        return Err(OcspError::Malformed("not of version 1"));
    }
    let responder = fields.any("no responderID")?;
    let responder = match responder.tag {
        0xA1 => Name::from_der(responder.content).ok().map(|name| ResponderId::Name(PreparedName::of(&name))),
        0xA2 => Reader::only(responder.content, tlv::OCTET_STRING, "responderID")
            .ok()
            .map(|key| ResponderId::Key(key.content.to_vec())),
        _ => None,
    };
    let responder = responder.ok_or(Malformed("the responderID cannot be read"))?;
    let produced_at = time(fields.required(tlv::GENERALIZED_TIME, "no producedAt")?)?;
    let mut singles = Vec::new();
    let mut responses = fields.required(tlv::SEQUENCE, "no responses")?.inside();
    while !responses.is_empty() {
        if singles.len() >= MAX_SINGLES {
            return Err(OcspError::Malformed("more answers than a response may have"));
        }
        singles.push(read_single(responses.required(tlv::SEQUENCE, "a SingleResponse is none")?)?);
    }
    let mut nonce = None;
    let mut unusable = None;
    if let Some(explicit) = fields.optional(0xA1, "responseExtensions")? {
        for extension in Extensions(Reader::only(explicit.content, tlv::SEQUENCE, "extensions")?.inside()) {
            let extension = extension?;
            if extension.oid == ID_PKIX_OCSP_NONCE {
                // Some put it there without the OCTET STRING around it.
                let value = extension.value.content;
                let inner =
                    Reader::only(value, tlv::OCTET_STRING, "nonce").map_or(value, |inner| inner.content);
                nonce = Some(inner.to_vec());
            } else if extension.is_critical {
                unusable = unusable.or_else(|| Some(not_supported(extension.oid)));
            }
        }
    }
    fields.end("something behind the extensions")?;
    Ok(Data { responder, produced_at, singles, nonce, unusable })
}

fn read_single(single: Tlv<'_>) -> Result<Single, OcspError> {
    let mut fields = single.inside();
    let id = CertId::read(fields.required(tlv::SEQUENCE, "no certID")?)?;
    let status = fields.any("no certStatus")?;
    let status = match status.tag {
        0x80 => Answer::Good,
        0xA1 => Answer::Revoked(read_revoked(status)?),
        0x82 => Answer::Unknown,
        _ => return Err(OcspError::Malformed("the certStatus cannot be read")),
    };
    let this_update = time(fields.required(tlv::GENERALIZED_TIME, "no thisUpdate")?)?;
    let next_update = match fields.optional(0xA0, "nextUpdate")? {
        Some(explicit) => Some(time(Reader::only(explicit.content, tlv::GENERALIZED_TIME, "nextUpdate")?)?),
        None => None,
    };
    let mut unusable = None;
    if let Some(explicit) = fields.optional(0xA1, "singleExtensions")? {
        for extension in Extensions(Reader::only(explicit.content, tlv::SEQUENCE, "extensions")?.inside()) {
            let extension = extension?;
            if extension.is_critical {
                unusable = unusable.or_else(|| Some(not_supported(extension.oid)));
            }
        }
    }
    fields.end("something behind an answer's extensions")?;
    let until =
        next_update.or_else(|| this_update.checked_add(MAX_AGE_WITHOUT_NEXT_UPDATE)).unwrap_or(this_update);
    Ok(Single { id, status, this_update, until, unusable })
}

fn read_revoked(info: Tlv<'_>) -> Result<Entry, OcspError> {
    let mut fields = info.inside();
    let revoked = time(fields.required(tlv::GENERALIZED_TIME, "no revocationTime")?)?;
    let reason = match fields.optional(0xA0, "revocationReason")? {
        Some(explicit) => CrlReason::from_der(explicit.content).ok(),
        None => None,
    };
    fields.end("something behind the reason")?;
    Ok(Entry { revoked, reason, invalid_since: None })
}

fn read_certificates(octets: &[u8]) -> Result<Vec<Certificate>, OcspError> {
    let mut certificates = Vec::new();
    let mut reader = Reader::only(octets, tlv::SEQUENCE, "certs")?.inside();
    while !reader.is_empty() && certificates.len() < MAX_CERTIFICATES {
        let octets = reader.any("a certificate")?.octets;
        certificates.extend(Certificate::from_der(octets));
    }
    Ok(certificates)
}

fn time(field: Tlv<'_>) -> Result<SystemTime, OcspError> {
    // Some write fractions of seconds, which RFC 5280 4.1.2.5.2 forbids: they are left out.
    let (whole, fraction) = field.content.split_at(field.content.len().min(14));
    let has_digits_only = match fraction {
        [b'Z'] => true,
        [b'.', digits @ .., b'Z'] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let der = [&[tlv::GENERALIZED_TIME, 15], whole, b"Z"].concat();
    let time = GeneralizedTime::from_der(&der).ok().filter(|_| has_digits_only);
    time.map(|time| time.to_system_time()).ok_or(OcspError::Malformed("a time cannot be read"))
}

/// How many certificates a response is answered for at most: we ask for one.
const MAX_SINGLES: usize = 100;
/// How many certificates of a responder are looked at.
const MAX_CERTIFICATES: usize = 5;
/// 1.3.6.1.5.5.7.48.1.1
const ID_PKIX_OCSP_BASIC: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// 1.3.6.1.5.5.7.48.1.2
pub(super) const ID_PKIX_OCSP_NONCE: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 0x30, 1, 2];
