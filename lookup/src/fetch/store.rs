//! Where fetched CRLs and OCSP responses stay: in memory, or in the cache that all programs of a host share.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
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

/// A store of one program. What was not used for longest goes where there is no room.
#[derive(Debug)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    crls: Kept<(Vec<u8>, String)>,
    ocsp: Kept<[u8; 32]>,
    unfetchable: HashMap<String, (SystemTime, String)>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_room(MAX_CRLS, MAX_OCSP)
    }
}

impl MemoryStore {
    /// A store with room for so many octets of CRLs and of OCSP responses.
    fn with_room(crls: usize, ocsp: usize) -> Self {
        let unfetchable = HashMap::new();
        let inner = Inner { crls: Kept::with_room(crls), ocsp: Kept::with_room(ocsp), unfetchable };
        Self { inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RevocationStore for MemoryStore {
    fn crl(&self, issuer: &[u8], url: &str) -> Option<Status> {
        self.inner().crls.get(&(issuer.to_vec(), url.to_owned()))
    }

    fn put_crl(&self, issuer: &[u8], url: &str, crl: &Status) {
        self.inner().crls.put((issuer.to_vec(), url.to_owned()), crl);
    }

    fn for_each_crl(&self, visit: &mut dyn FnMut(&Status)) {
        let crls: Vec<Status> = self.inner().crls.all();
        crls.iter().for_each(visit);
    }

    fn ocsp(&self, certificate: &Certificate) -> Option<Status> {
        self.inner().ocsp.get(certificate.fingerprint())
    }

    fn put_ocsp(&self, certificate: &Certificate, response: &Status) {
        self.inner().ocsp.put(*certificate.fingerprint(), response);
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

/// CRLs or OCSP responses, as many as there is room for.
#[derive(Debug)]
struct Kept<K> {
    by_key: HashMap<K, (Status, u64)>,
    octets: usize,
    room: usize,
    uses: u64,
}

impl<K: Clone + Eq + Hash> Kept<K> {
    fn with_room(room: usize) -> Self {
        Self { by_key: HashMap::new(), octets: 0, room, uses: 0 }
    }

    fn get(&mut self, key: &K) -> Option<Status> {
        self.uses += 1;
        let (status, used) = self.by_key.get_mut(key)?;
        *used = self.uses;
        Some(status.clone())
    }

    fn all(&self) -> Vec<Status> {
        self.by_key.values().map(|(status, _)| status.clone()).collect()
    }

    /// Keeps one, unless there is a newer.
    fn put(&mut self, key: K, new: &Status) {
        let is_older = |(there, _): &(Status, u64)| there.this_update > new.this_update;
        if self.by_key.get(&key).is_some_and(is_older) || size(new) > self.room {
            return;
        }
        self.remove(&key);
        self.uses += 1;
        self.octets += size(new);
        self.by_key.insert(key, (new.clone(), self.uses));
        while self.octets > self.room {
            let oldest = self.by_key.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some((gone, _)) = self.by_key.remove(key) {
            self.octets = self.octets.saturating_sub(size(&gone));
        }
    }
}

/// The octets of one, with something for all that is around them.
fn size(status: &Status) -> usize {
    let texts = [&status.url, &status.etag].map(|text| text.as_ref().map_or(0, String::len));
    status.der.len() + texts.iter().sum::<usize>() + 512
}

/// How many URLs are left alone at the same time.
const MAX_KEPT: usize = 10_000;
/// How many octets of CRLs are kept; the fetcher has as many again as read.
const MAX_CRLS: usize = 128 << 20;
/// How many octets of OCSP responses.
const MAX_OCSP: usize = 32 << 20;

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn status(len: usize, day: u64) -> Status {
        let this_update = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * day);
        Status {
            der: vec![0; len],
            this_update,
            next_update: None,
            fetched: this_update,
            url: None,
            etag: None,
        }
    }

    #[test]
    fn a_store_in_memory_is_limited_by_octets_and_what_is_used_stays() {
        let room = 10 * size(&status(1000, 0));
        let store = MemoryStore::with_room(room, room);
        let there = |url: &str| store.crl(b"issuer", url).is_some();
        for number in 0..10 {
            store.put_crl(b"issuer", &number.to_string(), &status(1000, 1));
        }
        assert!((0..10).all(|number| there(&number.to_string())));
        assert!(there("0"));
        store.put_crl(b"issuer", "a", &status(1000, 1));
        assert!(there("0") && there("a") && !there("1"));
        // A newer one in place of an older one, and never the reverse.
        for (day, kept) in [(2, 2), (1, 2), (3, 3)] {
            store.put_crl(b"issuer", "a", &status(1000, day));
            assert_eq!(store.crl(b"issuer", "a"), Some(status(1000, kept)));
        }
        store.put_crl(b"issuer", "larger than all", &status(room, 1));
        assert!(!there("larger than all") && there("0"));
        store.put_crl(b"issuer", "large", &status(9000, 1));
        assert!(there("large"));
        let inner = store.inner();
        assert_eq!(inner.crls.octets, inner.crls.by_key.values().map(|(it, _)| size(it)).sum::<usize>());
        assert!(inner.crls.octets <= room);
    }
}
