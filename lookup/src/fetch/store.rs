//! Where fetched CRLs and OCSP responses stay: in memory, or in the cache that all programs of a host share.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use certcache::{Cache, CacheError, Status};
use smime::Certificate;
use tracing::warn;

/// Keeps what was fetched. What is in it is checked again whenever it is used, so that losing it costs a fetch, and
/// nothing else; errors are logged and otherwise as if there were nothing.
pub trait RevocationStore: fmt::Debug + Send + Sync {
    /// The CRL of an issuer, given by its name in DER, that is at a URL.
    fn crl(&self, issuer: &[u8], url: &str) -> Option<Status>;
    /// Keeps one, unless there is a newer.
    fn put_crl(&self, issuer: &[u8], url: &str, crl: &Status);
    /// All CRLs.
    fn for_each_crl(&self, visit: &mut dyn FnMut(&Status));
    /// The OCSP response about a certificate.
    fn ocsp(&self, certificate: &Certificate) -> Option<Status>;
    /// Keeps one, unless there is a newer.
    fn put_ocsp(&self, certificate: &Certificate, response: &Status);
    /// Why a URL is not to be asked, if it is not.
    fn unfetchable(&self, url: &str, now: SystemTime) -> Option<String>;
    /// Notes that a URL is not to be asked for a while.
    fn put_unfetchable(&self, url: &str, until: SystemTime, reason: &str);
}

/// A store of one program.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    crls: HashMap<(Vec<u8>, String), Status>,
    ocsp: HashMap<[u8; 32], Status>,
    unfetchable: HashMap<String, (SystemTime, String)>,
}

impl MemoryStore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RevocationStore for MemoryStore {
    fn crl(&self, issuer: &[u8], url: &str) -> Option<Status> {
        self.inner().crls.get(&(issuer.to_vec(), url.to_owned())).cloned()
    }

    fn put_crl(&self, issuer: &[u8], url: &str, crl: &Status) {
        put(&mut self.inner().crls, (issuer.to_vec(), url.to_owned()), crl);
    }

    fn for_each_crl(&self, visit: &mut dyn FnMut(&Status)) {
        let crls: Vec<Status> = self.inner().crls.values().cloned().collect();
        crls.iter().for_each(visit);
    }

    fn ocsp(&self, certificate: &Certificate) -> Option<Status> {
        self.inner().ocsp.get(certificate.fingerprint()).cloned()
    }

    fn put_ocsp(&self, certificate: &Certificate, response: &Status) {
        put(&mut self.inner().ocsp, *certificate.fingerprint(), response);
    }

    fn unfetchable(&self, url: &str, now: SystemTime) -> Option<String> {
        let inner = self.inner();
        inner.unfetchable.get(url).filter(|(until, _)| now < *until).map(|(_, reason)| reason.clone())
    }

    fn put_unfetchable(&self, url: &str, until: SystemTime, reason: &str) {
        let mut inner = self.inner();
        if inner.unfetchable.len() >= MAX_KEPT {
            inner.unfetchable.clear();
        }
        inner.unfetchable.insert(url.to_owned(), (until, reason.to_owned()));
    }
}

fn put<K: Eq + std::hash::Hash>(kept: &mut HashMap<K, Status>, key: K, new: &Status) {
    if kept.get(&key).is_some_and(|there| there.this_update > new.this_update) {
        return;
    }
    // Everything is fetched again that is still needed.
    if kept.len() >= MAX_KEPT {
        kept.clear();
    }
    kept.insert(key, new.clone());
}

/// How much is kept of each kind.
const MAX_KEPT: usize = 10_000;

/// The cache of all programs of a host.
#[derive(Debug)]
pub struct CacheStore(Arc<Cache>);

impl CacheStore {
    /// Keeps things in this cache.
    pub fn new(cache: Arc<Cache>) -> Self {
        Self(cache)
    }
}

impl RevocationStore for CacheStore {
    fn crl(&self, issuer: &[u8], url: &str) -> Option<Status> {
        logged(self.0.crl(issuer, url)).flatten()
    }

    fn put_crl(&self, issuer: &[u8], url: &str, crl: &Status) {
        logged(self.0.put_crl(issuer, url, crl));
    }

    fn for_each_crl(&self, visit: &mut dyn FnMut(&Status)) {
        logged(self.0.for_each_crl(visit));
    }

    fn ocsp(&self, certificate: &Certificate) -> Option<Status> {
        logged(self.0.ocsp_for(certificate)).flatten()
    }

    fn put_ocsp(&self, certificate: &Certificate, response: &Status) {
        logged(self.0.put_ocsp(certificate, response));
    }

    fn unfetchable(&self, url: &str, now: SystemTime) -> Option<String> {
        logged(self.0.unfetchable(url, now)).flatten()
    }

    fn put_unfetchable(&self, url: &str, until: SystemTime, reason: &str) {
        logged(self.0.put_unfetchable(url, until, reason));
    }
}

fn logged<T>(result: Result<T, CacheError>) -> Option<T> {
    result.map_err(|error| warn!(%error, "the cache could not be used for revocation")).ok()
}
