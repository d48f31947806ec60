//! The cache as a source of CRLs and OCSP answers, before whoever fetches them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use der::Encode;
use smime::{
    Certificate,
    path::Crl,
    revocation::{Evidence, OcspResponse, RevocationSource},
};

use crate::Cache;

/// Gives what the cache has, and what another source adds to it.
///
/// Whoever fetches puts into the cache what he gets, so that other processes find it.
pub struct CachedStatus {
    cache: Arc<Cache>,
    further: Option<Arc<dyn RevocationSource>>,
    lists: Mutex<Lists>,
}

/// CRLs that were read, by issuer, as long as the cache's generation stays: reading a large one takes long.
#[derive(Default)]
struct Lists {
    generation: u64,
    by_issuer: HashMap<Vec<u8>, Vec<Crl>>,
}

impl CachedStatus {
    /// The cache, and after it another source.
    pub fn new(cache: Arc<Cache>, further: Option<Arc<dyn RevocationSource>>) -> Self {
        Self { cache, further, lists: Mutex::default() }
    }

    /// The cache's CRLs of an issuer, given by its name in DER. What cannot be read is none.
    fn crls_of(&self, issuer: Vec<u8>) -> Vec<Crl> {
        let generation = self.cache.read(|tables, transaction| Ok(tables.generation(transaction)?));
        let Ok(generation) = generation else { return Vec::new() };
        {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            if lists.generation != generation {
                *lists = Lists { generation, by_issuer: HashMap::new() };
            }
            if let Some(known) = lists.by_issuer.get(&issuer) {
                return known.clone();
            }
        }
        let stored = self.cache.crls_of(&issuer).unwrap_or_default();
        let read: Vec<Crl> = stored.into_iter().filter_map(|status| Crl::from_vec(status.der).ok()).collect();
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.generation == generation {
            lists.by_issuer.insert(issuer, read.clone());
        }
        read
    }
}

impl RevocationSource for CachedStatus {
    fn evidence(&self, certificate: &Certificate, issuer: &Certificate, waited: &mut Duration) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.crls.extend(self.crls_of(issuer.subject().to_der().unwrap_or_default()));
        if let Ok(Some(answer)) = self.cache.ocsp_for(certificate) {
            evidence.ocsp.extend(OcspResponse::from_der(&answer.der));
        }
        if let Some(further) = &self.further {
            let more = further.evidence(certificate, issuer, waited);
            evidence.crls.extend(more.crls);
            evidence.ocsp.extend(more.ocsp);
            evidence.unavailable = evidence.unavailable.or(more.unavailable);
        }
        evidence
    }
}

impl fmt::Debug for CachedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStatus").field("cache", &self.cache.path()).finish_non_exhaustive()
    }
}
