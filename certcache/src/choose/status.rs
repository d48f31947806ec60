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

/// CRLs that were read, by issuer, as long as those of the cache are the same: reading a large one takes long.
#[derive(Default)]
struct Lists {
    by_issuer: HashMap<Vec<u8>, Read>,
    /// Of all lists.
    octets: usize,
    uses: u64,
}

/// An issuer's CRLs.
struct Read {
    /// What the cache's rows were.
    stamp: Vec<u8>,
    crls: Vec<Crl>,
    octets: usize,
    used: u64,
}

/// How many octets of CRLs are kept as read. Others are read from the cache again.
const MAX_OCTETS: usize = 128 << 20;

impl Lists {
    /// Those of an issuer, if they are still the cache's.
    fn get(&mut self, issuer: &[u8], stamp: &[u8]) -> Option<Vec<Crl>> {
        self.uses += 1;
        let read = self.by_issuer.get_mut(issuer).filter(|read| read.stamp == stamp)?;
        read.used = self.uses;
        Some(read.crls.clone())
    }

    /// Keeps those of an issuer, in place of others that were not used for longest.
    fn put(&mut self, issuer: Vec<u8>, stamp: Vec<u8>, crls: Vec<Crl>, limit: usize) {
        let octets = issuer.len() + crls.iter().map(|crl| crl.der().len()).sum::<usize>();
        self.remove(&issuer);
        if octets > limit {
            return;
        }
        self.uses += 1;
        self.by_issuer.insert(issuer, Read { stamp, crls, octets, used: self.uses });
        self.octets += octets;
        while self.octets > limit {
            let oldest = self.by_issuer.iter().min_by_key(|(_, read)| read.used);
            let Some(oldest) = oldest.map(|(issuer, _)| issuer.clone()) else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, issuer: &[u8]) {
        if let Some(gone) = self.by_issuer.remove(issuer) {
            self.octets = self.octets.saturating_sub(gone.octets);
        }
    }
}

impl CachedStatus {
    /// The cache, and after it another source.
    pub fn new(cache: Arc<Cache>, further: Option<Arc<dyn RevocationSource>>) -> Self {
        Self { cache, further, lists: Mutex::default() }
    }

    /// The cache's CRLs of an issuer, given by its name in DER. What cannot be read is none.
    fn crls_of(&self, issuer: Vec<u8>) -> Vec<Crl> {
        let Ok(stamp) = self.cache.crl_stamp(&issuer) else { return Vec::new() };
        let lists = || self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lists().get(&issuer, &stamp) {
            return known;
        }
        let stored = self.cache.crls_of(&issuer).unwrap_or_default();
        let read: Vec<Crl> = stored.into_iter().filter_map(|status| Crl::from_vec(status.der).ok()).collect();
        // If another came between, the next one who asks sees that by the stamp.
        lists().put(issuer, stamp, read.clone(), MAX_OCTETS);
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

#[cfg(test)]
mod tests {
    use smime::testing::fixtures;

    use super::*;

    #[test]
    fn lists_are_limited_by_their_octets_and_those_not_used_for_longest_go() {
        let crl = Crl::from_der(&fixtures::data("ca.crl")).unwrap();
        let len = crl.der().len() + 1;
        let mut lists = Lists::default();
        let put = |lists: &mut Lists, name: u8, count: usize| {
            lists.put(vec![name], vec![0], vec![crl.clone(); count], 4 * len);
        };
        for name in 0..4 {
            put(&mut lists, name, 1);
        }
        assert!(lists.get(&[0], &[0]).is_some());
        put(&mut lists, 4, 1);
        let there = |lists: &mut Lists| [0, 1, 2, 3, 4, 5].map(|name| lists.get(&[name], &[0]).is_some());
        assert_eq!(there(&mut lists), [true, false, true, true, true, false]);
        // Of another stamp, and in its place.
        assert!(lists.get(&[0], &[1]).is_none());
        put(&mut lists, 0, 1);
        assert_eq!(lists.octets, 4 * len);
        // One that takes more than all room leaves the others there.
        put(&mut lists, 5, 5);
        assert_eq!(there(&mut lists), [true, false, true, true, true, false]);
        put(&mut lists, 5, 3);
        assert!(lists.octets <= 4 * len && lists.get(&[5], &[0]).is_some());
        assert_eq!(lists.octets, lists.by_issuer.values().map(|read| read.octets).sum::<usize>());
    }
}
