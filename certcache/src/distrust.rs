//! What administrators took back, as an input of every path that is looked for: for whom to encrypt to, and for whose
//! signature to believe.

use std::sync::Arc;

use der::Encode;
use smime::{Certificate, path::Distrust};

use crate::{Cache, CacheError, TrustState};

/// What the cache's distrust rules and distrusted certificates are against.
#[derive(Debug)]
pub struct CachedDistrust(Arc<Cache>);

impl CachedDistrust {
    /// Of this cache. It is asked anew for each path: what is taken back counts at once.
    pub fn new(cache: Arc<Cache>) -> Self {
        Self(cache)
    }

    fn reason(&self, path: &[Certificate]) -> Result<Option<String>, CacheError> {
        if let Some(rule) = self.0.rules()?.into_iter().find(|rule| rule.forbids(path)) {
            return Ok(Some(format!("rule {}: {}", rule.number, rule.comment)));
        }
        let distrusted = self.0.distrusted(path)?;
        Ok(distrusted.map(|certificate| format!("an administrator distrusts {certificate}")))
    }
}

impl Distrust for CachedDistrust {
    fn against(&self, path: &[Certificate]) -> Option<String> {
        let unreadable = |error: CacheError| Some(format!("who is distrusted cannot be read: {error}"));
        self.reason(path).unwrap_or_else(unreadable)
    }
}

impl Cache {
    /// The first certificate of a path, leaf first, that is distrusted. Of an issuer its cross certificates are as
    /// well: those of the same name and key.
    pub fn distrusted<'c>(&self, path: &'c [Certificate]) -> Result<Option<&'c Certificate>, CacheError> {
        for (position, certificate) in path.iter().enumerate() {
            let own = self.by_fingerprint(certificate.fingerprint())?;
            let subject = certificate.subject().to_der().unwrap_or_default();
            let mut found = own.into_iter().collect::<Vec<_>>();
            found.extend(self.by_subject(&subject)?);
            if let Some(identifier) = certificate.subject_key_identifier() {
                found.extend(self.by_subject_key_identifier(&identifier)?);
            }
            let is_same = |other: &Certificate| {
                other == certificate || (position > 0 && other.is_same_authority(certificate))
            };
            if found.iter().any(|entry| entry.state == TrustState::Distrusted && is_same(&entry.certificate))
            {
                return Ok(Some(certificate));
            }
        }
        Ok(None)
    }
}
