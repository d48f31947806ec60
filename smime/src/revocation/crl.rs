//! One CRL as it was received (RFC 5280 section 5): complete or delta, direct or indirect.
//!
//! What it is worth for a certificate is decided in `lookup`. A list of 20 MB costs its octets and eight for each
//! entry; it is read once, and a look-up is a binary search.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use der::{Decode, Encode};
use spki::AlgorithmIdentifierOwned;
use x509_cert::{
    ext::pkix::{AuthorityKeyIdentifier, FreshestCrl},
    name::Name,
    time::Time,
};

use super::{
    entries::{Entries, Entry, Extensions, not_supported},
    locations,
    scope::{Point, Reasons, Scope},
    tlv::{self, Malformed, Reader, Tlv},
};
use crate::{
    Certificate,
    algorithm::DigestAlgorithm,
    key::Digest,
    path::{PreparedName, SignedError, verify_parts},
};

/// A certificate revocation list beside its exact octets. Cloning shares it.
#[derive(Clone)]
pub struct Crl {
    inner: Arc<Inner>,
}

struct Inner {
    der: Vec<u8>,
    /// Where `tbsCertList` stands, and the content of the signature.
    signed: std::ops::Range<usize>,
    signature: std::ops::Range<usize>,
    algorithm: AlgorithmIdentifierOwned,
    issuer: Name,
    prepared_issuer: PreparedName,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
    extensions: ListExtensions,
    entries: Entries,
    /// SHA-256 over the octets.
    fingerprint: [u8; 32],
    /// Whose key its signature was found to be of: a large list is hashed once, not for each message.
    verified: OnceLock<[u8; 32]>,
}

/// What the extensions of a list say (RFC 5280 5.2).
#[derive(Debug, Default)]
struct ListExtensions {
    scope: Scope,
    /// The content of the INTEGER.
    number: Option<Vec<u8>>,
    /// The same of a delta CRL's base.
    base: Option<Vec<u8>>,
    authority_key: Option<Vec<u8>>,
    freshest: Vec<String>,
    /// Why the list cannot be used, though it can be read.
    unusable: Option<String>,
}

/// Octets that are no CRL.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not a certificate revocation list: {0}")]
pub struct CrlError(&'static str);

impl From<Malformed> for CrlError {
    fn from(Malformed(what): Malformed) -> Self {
        Self(what)
    }
}

impl Crl {
    /// Decodes a CRL of version 2 or 1.
    pub fn from_der(octets: &[u8]) -> Result<Self, CrlError> {
        Self::from_vec(octets.to_vec())
    }

    /// Like [`Crl::from_der`], without a copy.
    pub fn from_vec(der: Vec<u8>) -> Result<Self, CrlError> {
        let mut outer = Reader::only(&der, tlv::SEQUENCE, "no SEQUENCE, or something behind it")?.inside();
        let signed = outer.required(tlv::SEQUENCE, "no tbsCertList")?;
        let algorithm = outer.required(tlv::SEQUENCE, "no signatureAlgorithm")?;
        let signature = outer.required(tlv::BIT_STRING, "no signature")?;
        outer.end("something behind the signature")?;
        let bits = signature.whole_bits().ok_or(Malformed("the signature is not of whole octets"))?;
        let mut fields = signed.inside();
        // The version is missing where it is not 2 (5.1.2.1).
        if let Some(version) = fields.optional(tlv::INTEGER, "version")?
            && version.content != [1]
        {
            return Err(CrlError("not of version 1 or 2"));
        }
        let inner_algorithm = fields.required(tlv::SEQUENCE, "no signature algorithm inside")?;
        let issuer = fields.required(tlv::SEQUENCE, "no issuer")?;
        let this_update = time(fields.any("no thisUpdate")?)?;
        let next_update = match fields.peek() {
            Some(tlv::UTC_TIME | tlv::GENERALIZED_TIME) => Some(time(fields.any("nextUpdate")?)?),
            _ => None,
        };
        let revoked = fields.optional(tlv::SEQUENCE, "revokedCertificates")?;
        let mut extensions = match fields.optional(0xA0, "crlExtensions")? {
            Some(outer) => ListExtensions::read(outer)?,
            None => ListExtensions::default(),
        };
        fields.end("something behind the extensions")?;
        let entries = match revoked {
            None => Entries::default(),
            Some(revoked) => {
                let (entries, unusable) = Entries::read(&der, &revoked, extensions.scope.is_indirect())?;
                extensions.unusable = extensions.unusable.or(unusable);
                entries
            }
        };
        if inner_algorithm.octets != algorithm.octets {
            extensions.unusable = Some("its two signature algorithms differ".into());
        }
        let identifier = |octets| {
            AlgorithmIdentifierOwned::from_der(octets)
                .map_err(|_| CrlError("a signature algorithm cannot be read"))
        };
        identifier(inner_algorithm.octets)?;
        let algorithm = identifier(algorithm.octets)?;
        let issuer = Name::from_der(issuer.octets).map_err(|_| CrlError("the issuer cannot be read"))?;
        let fingerprint = Digest::of(DigestAlgorithm::Sha256, &der).as_bytes().try_into().unwrap_or([0; 32]);
        let signature_end = signature.content_start + signature.content.len();
        let (signed, signature) =
            (signed.start..signed.start + signed.octets.len(), signature_end - bits.len()..signature_end);
        let verified = OnceLock::new();
        let inner = Inner {
            der,
            signed,
            signature,
            algorithm,
            prepared_issuer: PreparedName::of(&issuer),
            issuer,
            this_update,
            next_update,
            extensions,
            entries,
            fingerprint,
            verified,
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

    /// Whose list it is.
    pub fn issuer(&self) -> &Name {
        &self.inner.issuer
    }

    pub(super) fn prepared_issuer(&self) -> &PreparedName {
        &self.inner.prepared_issuer
    }

    /// When it was issued (5.1.2.4).
    pub fn this_update(&self) -> SystemTime {
        self.inner.this_update
    }

    /// By when the next one is issued (5.1.2.5).
    pub fn next_update(&self) -> Option<SystemTime> {
        self.inner.next_update
    }

    /// cRLNumber, as the octets of the INTEGER (5.2.3).
    pub fn number(&self) -> Option<&[u8]> {
        self.inner.extensions.number.as_deref()
    }

    /// Whether it says only what changed since another (5.2.4).
    pub fn is_delta(&self) -> bool {
        self.inner.extensions.base.is_some()
    }

    /// Whether it lists certificates of other issuers as well (5.2.5).
    pub fn is_indirect(&self) -> bool {
        self.inner.extensions.scope.is_indirect()
    }

    /// Whether it is for this certificate and tells of every reason for which that may be revoked, as far as can be seen
    /// without asking who signed it.
    pub fn tells_all_of(&self, certificate: &Certificate) -> bool {
        let points = Point::all_of(certificate).unwrap_or_default();
        let covers = |point: &Point| self.scope().covers(self, point, certificate) == Reasons::ALL;
        self.unusable().is_none() && points.iter().any(covers)
    }

    /// Which serial numbers' entries are not the same as in an `older` list for the same certificates: new, gone, or with
    /// another reason. `None` where that cannot be said, or there are more than `limit`.
    pub fn changes_since(&self, older: &Self, limit: usize) -> Option<Vec<Vec<u8>>> {
        let (ours, theirs) = (&self.inner, &older.inner);
        let is_comparable = ours.prepared_issuer.is(&theirs.prepared_issuer)
            && ours.extensions.scope.is_same(&theirs.extensions.scope)
            && self.is_delta() == older.is_delta()
            && !self.is_indirect()
            && self.unusable().is_none()
            && older.unusable().is_none();
        if !is_comparable {
            return None;
        }
        ours.entries.differing(&ours.der, &theirs.entries, &theirs.der, limit)
    }

    /// How many certificates it lists.
    pub fn len(&self) -> usize {
        self.inner.entries.len()
    }

    /// Whether it lists none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where its delta CRLs are, by http (5.2.6).
    pub fn freshest(&self) -> &[String] {
        &self.inner.extensions.freshest
    }

    /// Whether the key of `issuer` signed it, which says nothing of names, times and of who may.
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        self.is_known_to_be_of(issuer) || self.check_signature(issuer).is_ok()
    }

    /// Whether [`Crl::check_signature`] has found so before.
    pub(super) fn is_known_to_be_of(&self, issuer: &Certificate) -> bool {
        self.inner.verified.get() == Some(issuer.fingerprint())
    }

    pub(super) fn check_signature(&self, issuer: &Certificate) -> Result<(), SignedError> {
        let part = |range: &std::ops::Range<usize>| self.inner.der.get(range.clone()).unwrap_or_default();
        verify_parts(part(&self.inner.signed), &self.inner.algorithm, part(&self.inner.signature), issuer)?;
        // The first that is found stays; another costs a check again.
        let _ = self.inner.verified.set(*issuer.fingerprint());
        Ok(())
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.inner.extensions.scope
    }

    /// The key identifier of its signer.
    pub(super) fn authority_key(&self) -> Option<&[u8]> {
        self.inner.extensions.authority_key.as_deref()
    }

    /// Why it cannot be used at all.
    pub(super) fn unusable(&self) -> Option<&str> {
        self.inner.extensions.unusable.as_deref()
    }

    /// What it says of the certificate with this serial number, in the octets of its INTEGER.
    pub(super) fn entry(&self, serial: &[u8], issuer: &PreparedName) -> Option<Entry> {
        self.inner.entries.find(&self.inner.der, serial, issuer, &self.inner.prepared_issuer)
    }

    /// Whether `delta` can bring this complete list up to date (5.2.4).
    pub(super) fn takes(&self, delta: &Self) -> bool {
        let (ours, theirs) = (&self.inner.extensions, &delta.inner.extensions);
        let (Some(number), Some(base), Some(newer)) = (&ours.number, &theirs.base, &theirs.number) else {
            return false;
        };
        ours.base.is_none()
            && self.inner.prepared_issuer.is(&delta.inner.prepared_issuer)
            && ours.scope.is_same(&theirs.scope)
            && ours.authority_key == theirs.authority_key
            && is_at_most(base, number)
            && !is_at_most(newer, number)
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_delta() { "delta " } else { "" };
        write!(f, "Crl({kind}of {}, {} entries)", self.inner.issuer, self.len())
    }
}

impl ListExtensions {
    fn read(outer: Tlv<'_>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        for extension in Extensions(Reader::only(outer.content, tlv::SEQUENCE, "crlExtensions")?.inside()) {
            let extension = extension?;
            if let Err(reason) = read.take(extension.oid, extension.is_critical, extension.value.content) {
                read.unusable.get_or_insert(reason);
            }
            if seen.contains(&extension.oid) {
                read.unusable.get_or_insert("it has an extension twice".into());
            }
            if seen.len() >= MAX_EXTENSIONS {
                return Err(Malformed("more extensions than a list may have"));
            }
            seen.push(extension.oid);
        }
        Ok(read)
    }

    fn take(&mut self, oid: &[u8], is_critical: bool, value: &[u8]) -> Result<(), String> {
        match oid {
            ISSUING_DISTRIBUTION_POINT => self.scope = Scope::read(value)?,
            CRL_NUMBER => self.number = Some(number(value)?),
            DELTA_CRL_INDICATOR => self.base = Some(number(value)?),
            AUTHORITY_KEY_IDENTIFIER => {
                let read = AuthorityKeyIdentifier::from_der(value);
                let read = read.map_err(|_| "its authorityKeyIdentifier cannot be read")?;
                self.authority_key = read.key_identifier.map(|key| key.into_bytes().into());
            }
            FRESHEST_CRL => {
                // Only where to look for more: it may be wrong.
                self.freshest =
                    FreshestCrl::from_der(value).map_or(Vec::new(), |read| locations::urls(&read.0));
            }
            ISSUER_ALT_NAME => {}
            other if is_critical => return Err(not_supported(other)),
            _ => {}
        }
        Ok(())
    }
}

fn time(field: Tlv<'_>) -> Result<SystemTime, CrlError> {
    let time =
        Time::from_der(field.octets).map_err(|_| CrlError("thisUpdate or nextUpdate cannot be read"))?;
    Ok(time.to_system_time())
}

/// The content of a non-negative INTEGER.
fn number(value: &[u8]) -> Result<Vec<u8>, String> {
    let read = der::asn1::Uint::from_der(value).and_then(|number| number.to_der());
    let number = read.map_err(|_| "its number cannot be read")?;
    let content = Reader::only(&number, tlv::INTEGER, "number").map_err(|_| "its number cannot be read")?;
    Ok(content.content.to_vec())
}

/// Whether a non-negative number is not larger than another, both in the fewest octets.
fn is_at_most(one: &[u8], other: &[u8]) -> bool {
    (one.len(), one) <= (other.len(), other)
}

/// RFC 5280 has eight.
const MAX_EXTENSIONS: usize = 64;
const ISSUER_ALT_NAME: &[u8] = &[0x55, 0x1D, 18];
const CRL_NUMBER: &[u8] = &[0x55, 0x1D, 20];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1D, 27];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1D, 28];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1D, 35];
const FRESHEST_CRL: &[u8] = &[0x55, 0x1D, 46];

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4134's list of what CarlRSA revoked, from 1999.
    const OF_VERSION_1: &str = "3082013330819d300d06092a864886f70d010104050030123110300e060355040313074361726c525341170d39393038\
        32373037303030305a30693021021046346bc7800056bc11d36e2ec410b3b0170d3939303832323037303030305a3021\
        021046346bc7800056bc11d36e2ed59a3090170d3939303832323037303030305a3021021046346bc7800056bc11d36e\
        2ecd5d71d0170d3939303832343037303030305a300d06092a864886f70d010104050003818100bfb397aa53f0322116\
        2b77927a6bbb97c8dceaf1fa6616300eb59e5cf081d45eb36ec1886b8cd45ec54dfb475e66f35dabe5b4183660a84d9c\
        3c89ec6f27bf35507181c2b9445b6289191231a97b9ad3cc66cb11d90b104777ad4f22d9e57f30f25bfc9451a558763b\
        1fa846a61ff6a1de55a1ed318869970f08d3d40c605b1e";

    #[test]
    fn a_list_of_version_1_is_read_with_all_that_it_revokes() {
        let digits: Vec<u32> = OF_VERSION_1.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        let octet = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
        let mut octets: Vec<u8> = digits.chunks(2).map(octet).collect();
        let crl = Crl::from_der(&octets).unwrap();
        assert_eq!(crl.len(), 3);
        assert_eq!(crl.unusable(), None);
        assert!(crl.next_update().is_none());
        octets.push(0);
        assert!(Crl::from_der(&octets).is_err());
    }
}
