//! Complete CRLs (RFC 5280 section 5 and 6.3), from files or messages.
//!
//! Delta and indirect CRLs, and CRLs for some certificates only, are recognised by their critical
//! extensions and not used: revocation is then unknown.

use std::{sync::Arc, time::SystemTime};

use der::{Decode, Encode};
use x509_cert::{crl::CertificateList, ext::pkix::KeyUsage};

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

/// What the CRLs say of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked { since: SystemTime },
    Unknown(String),
}

impl Crl {
    /// Decodes a CRL.
    pub fn from_der(octets: &[u8]) -> Result<Self, CrlError> {
        let decoded = CertificateList::from_der(octets).map_err(CrlError)?;
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
