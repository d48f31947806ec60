//! What is known against our own certificates, and those that a rule names, where there is no cache.
//!
//! Nobody can be distrusted then, but CRLs of files are there, and whoever fetches.

use std::time::SystemTime;

use smime::{
    Certificate, MailAddress,
    path::{Budget, PathError, RevocationMode, Trust, validate_within},
    store::{Lookup, RecipientCertificates, StoreError, Waited},
};

/// A store without certificates.
pub(crate) struct Uncached(Trust);

impl Uncached {
    /// Asks what this trust asks for revocation.
    pub(crate) fn new(mut trust: Trust) -> Self {
        // That something is not known is nothing against it, and may not hide what is revoked above it.
        if trust.revocation == RevocationMode::HardFail {
            trust.revocation = RevocationMode::SoftFail;
        }
        Self(trust)
    }
}

impl RecipientCertificates for Uncached {
    fn lookup(&self, _: &MailAddress, _: SystemTime, _: &mut Waited) -> Result<Lookup, StoreError> {
        Ok(Lookup::Unlisted)
    }

    fn against(
        &self,
        certificate: &Certificate,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Option<String>, StoreError> {
        let mut budget = Budget::default().having_waited(waited.revocation);
        let found = validate_within(&mut budget, certificate, &[], &self.0, at);
        waited.revocation = budget.waited();
        Ok(match found {
            Err(error @ PathError::Revoked { .. }) => Some(error.to_string()),
            _ => None,
        })
    }
}
