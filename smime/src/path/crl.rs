//! Complete CRLs (RFC 5280 section 5 and 6.3), from files or messages.
//!
//! Delta and indirect CRLs, and CRLs for some certificates only, are recognised by their critical
//! extensions and not used: revocation is then unknown.

use std::{sync::Arc, time::SystemTime};

use der::{Decode, Encode, Sequence, asn1::BitString};
use spki::AlgorithmIdentifierOwned;
use x509_cert::{
    Version,
    crl::{CertificateList, RevokedCert, TbsCertList},
    ext::pkix::KeyUsage,
    name::Name,
    time::Time,
};

use super::{
    Budget, PathError,
    build::{SignedError, verify_signed},
};
use crate::{Certificate, algorithm::DigestAlgorithm, key::Digest};

/// A certificate revocation list beside its exact octets.
#[derive(Clone, Debug)]
pub struct Crl {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    der: Vec<u8>,
    decoded: CertificateList,
    /// SHA-256 over the octets.
    fingerprint: [u8; 32],
    /// The serial numbers in order, for look-ups.
    revoked: Vec<(Vec<u8>, SystemTime)>,
    /// A critical entry extension makes the list unusable.
    unusable: Option<String>,
}

/// Octets that are no CRL.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not a certificate revocation list: {0}")]
pub struct CrlError(der::Error);

/// A list of version 1, which does not say so: the field is missing where it is not 2 (RFC 5280 5.1.2.1).
#[derive(Sequence)]
struct ListV1 {
    list: TbsListV1,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

#[derive(Sequence)]
struct TbsListV1 {
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    this_update: Time,
    next_update: Option<Time>,
    revoked_certificates: Option<Vec<RevokedCert>>,
}

impl From<ListV1> for CertificateList {
    fn from(read: ListV1) -> Self {
        let TbsListV1 { signature, issuer, this_update, next_update, revoked_certificates } = read.list;
        let version = Version::V1;
        let crl_extensions = None;
        Self {
            tbs_cert_list: TbsCertList {
                version,
                signature,
                issuer,
                this_update,
                next_update,
                revoked_certificates,
                crl_extensions,
            },
            signature_algorithm: read.signature_algorithm,
            signature: read.signature,
        }
    }
}

/// What the CRLs say of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked { since: SystemTime },
    Unknown(String),
}

impl Crl {
    /// Decodes a CRL of version 2 or 1.
    pub fn from_der(octets: &[u8]) -> Result<Self, CrlError> {
        let decoded = CertificateList::from_der(octets)
            .or_else(|error| ListV1::from_der(octets).map(Into::into).map_err(|_| CrlError(error)))?;
        let list = &decoded.tbs_cert_list;
        let entries = list.revoked_certificates.as_deref().unwrap_or_default();
        let mut revoked: Vec<_> = entries
            .iter()
            .map(|entry| (entry.serial_number.as_bytes().to_vec(), entry.revocation_date.to_system_time()))
            .collect();
        revoked.sort();
        let critical = |extensions: &Option<x509_cert::ext::Extensions>| {
            extensions
                .iter()
                .flatten()
                .find(|extension| extension.critical)
                .map(|extension| extension.extn_id)
        };
        let unusable = critical(&list.crl_extensions)
            .or_else(|| entries.iter().find_map(|entry| critical(&entry.crl_entry_extensions)))
            .map(|oid| format!("its critical extension {oid} is not supported"));
        let fingerprint =
            Digest::of(DigestAlgorithm::Sha256, octets).as_bytes().try_into().unwrap_or([0; 32]);
        Ok(Self { inner: Arc::new(Inner { der: octets.to_vec(), decoded, fingerprint, revoked, unusable }) })
    }

    /// Whether this is a list of `issuer`, by name.
    fn is_of(&self, issuer: &Certificate) -> bool {
        self.inner.decoded.tbs_cert_list.issuer == *issuer.subject()
    }

    fn this_update(&self) -> SystemTime {
        self.inner.decoded.tbs_cert_list.this_update.to_system_time()
    }

    /// Why the list cannot be relied on at the time `at`, where it cannot.
    fn defect(
        &self,
        issuer: &Certificate,
        at: SystemTime,
        budget: &mut Budget,
    ) -> Result<Option<String>, PathError> {
        if let Err(reason) = self.check_fields(issuer, at) {
            return Ok(Some(reason));
        }
        let signed = budget.signed(issuer, &self.inner.fingerprint, || self.check_signature(issuer))?;
        Ok(signed.err().map(|_| "its signature does not verify".into()))
    }

    fn check_signature(&self, issuer: &Certificate) -> Result<(), SignedError> {
        let algorithm = &self.inner.decoded.signature_algorithm;
        if algorithm.to_der().ok() != self.inner.decoded.tbs_cert_list.signature.to_der().ok() {
            return Err(SignedError::Algorithm);
        }
        verify_signed(&self.inner.der, algorithm, issuer)
    }

    fn check_fields(&self, issuer: &Certificate, at: SystemTime) -> Result<(), String> {
        let list = &self.inner.decoded.tbs_cert_list;
        if let Some(reason) = &self.inner.unusable {
            return Err(reason.clone());
        }
        if self.this_update() > at {
            return Err("it is not valid yet".into());
        }
        match list.next_update {
            Some(next) if next.to_system_time() >= at => {}
            Some(_) => return Err("its nextUpdate has passed".into()),
            None => return Err("it has no nextUpdate".into()),
        }
        if !matches!(issuer.extension::<KeyUsage>(), Ok(None))
            && !matches!(issuer.extension::<KeyUsage>(), Ok(Some(usage)) if usage.crl_sign())
        {
            return Err("its issuer's keyUsage has no cRLSign".into());
        }
        Ok(())
    }

    fn revocation_of(&self, certificate: &Certificate) -> Option<SystemTime> {
        let serial = certificate.serial_number();
        let at = self.inner.revoked.partition_point(|(other, _)| other.as_slice() < serial);
        self.inner.revoked.get(at).filter(|(other, _)| other == serial).map(|(_, since)| *since)
    }
}

/// Looks `certificate` up in the newest usable list of its issuer: an older one may leave it out
/// (RFC 8550 section 6).
pub(super) fn status(
    certificate: &Certificate,
    issuer: &Certificate,
    crls: &[Crl],
    at: SystemTime,
    budget: &mut Budget,
) -> Result<Status, PathError> {
    let mut of_issuer: Vec<&Crl> = crls.iter().filter(|crl| crl.is_of(issuer)).collect();
    of_issuer.sort_by_key(|crl| std::cmp::Reverse(crl.this_update()));
    let mut reason = String::from("there is no CRL of its issuer");
    for crl in of_issuer {
        match crl.defect(issuer, at, budget)? {
            None => {
                return Ok(match crl.revocation_of(certificate) {
                    Some(since) => Status::Revoked { since },
                    None => Status::Good,
                });
            }
            Some(why) => reason = format!("the CRL of its issuer cannot be used: {why}"),
        }
    }
    Ok(Status::Unknown(reason))
}

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
        assert_eq!(crl.inner.revoked.len(), 3);
        assert_eq!(crl.inner.unusable, None);
        assert!(crl.inner.decoded.tbs_cert_list.next_update.is_none());
        octets.push(0);
        assert!(Crl::from_der(&octets).is_err());
    }
}
