//! Complete CRLs (RFC 5280 section 5 and 6.3), from files or messages.
//!
//! Delta and indirect CRLs, and CRLs for some certificates only, are recognised by their critical
//! extensions and not used: revocation is then unknown.

use std::{sync::Arc, time::SystemTime};

use der::{Decode, Encode};
use x509_cert::{crl::CertificateList, ext::pkix::KeyUsage};

use super::build::verify_signed;
use crate::Certificate;

/// A certificate revocation list beside its exact octets.
#[derive(Clone, Debug)]
pub struct Crl {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    der: Vec<u8>,
    decoded: CertificateList,
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
        Ok(Self { inner: Arc::new(Inner { der: octets.to_vec(), decoded, revoked, unusable }) })
    }

    /// Whether this is a list of `issuer`, by name.
    fn is_of(&self, issuer: &Certificate) -> bool {
        self.inner.decoded.tbs_cert_list.issuer == *issuer.subject()
    }

    fn this_update(&self) -> SystemTime {
        self.inner.decoded.tbs_cert_list.this_update.to_system_time()
    }

    /// Whether the list can be relied on at the time `at`.
    fn check(&self, issuer: &Certificate, at: SystemTime) -> Result<(), String> {
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
        let algorithm = &self.inner.decoded.signature_algorithm;
        if algorithm.to_der().ok() != list.signature.to_der().ok()
            || verify_signed(&self.inner.der, algorithm, issuer).is_err()
        {
            return Err("its signature does not verify".into());
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
) -> Status {
    let mut of_issuer: Vec<&Crl> = crls.iter().filter(|crl| crl.is_of(issuer)).collect();
    of_issuer.sort_by_key(|crl| std::cmp::Reverse(crl.this_update()));
    let mut reason = String::from("there is no CRL of its issuer");
    for crl in of_issuer {
        match crl.check(issuer, at) {
            Ok(()) => {
                return match crl.revocation_of(certificate) {
                    Some(since) => Status::Revoked { since },
                    None => Status::Good,
                };
            }
            Err(why) => reason = format!("the CRL of its issuer cannot be used: {why}"),
        }
    }
    Status::Unknown(reason)
}
