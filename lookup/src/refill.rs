//! The cache, and behind it the sources: what agents ask.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, ThreadId},
    time::{Duration, Instant, SystemTime},
};

use certcache::{Cache, CacheError, Chooser, Insertion, Refusal, Source};
use smime::{
    MailAddress,
    store::{Lookup, RecipientCertificates, StoreError},
};

use crate::{Kind, Search, Sources};

/// Certificates out of the cache, which is filled from the sources where it has none that may be used.
#[derive(Debug)]
pub struct Refill {
    chooser: Arc<Chooser>,
    sources: Sources,
    absent: Duration,
    spent: Mutex<HashMap<ThreadId, Spent>>,
}

/// How long a thread has waited for sources since a moment.
#[derive(Clone, Copy, Debug)]
struct Spent {
    since: Instant,
    time: Duration,
}

/// How long one thread may wait for sources in each [`WINDOW`]. A message may have hundreds of recipients in domains
/// that do not answer, and whoever brought it waits; what was found until then is kept, so that the next try goes on.
const PATIENCE: Duration = Duration::from_secs(20);
const WINDOW: Duration = Duration::from_mins(1);

impl Refill {
    /// Asks `sources` where `chooser` knows nothing, and remembers for `absent` that nobody has anything.
    pub fn new(chooser: Arc<Chooser>, sources: Sources, absent: Duration) -> Self {
        Self { chooser, sources, absent, spent: Mutex::default() }
    }

    /// Puts what was found into the cache: as trusted, which is to say that its path decides. Says how many of the
    /// address's certificates are new.
    pub fn keep(cache: &Cache, search: &Search, now: SystemTime) -> Result<usize, CacheError> {
        let [found, issuers] = [search.certificates(), search.issuers()].map(|certificates| {
            certificates.into_iter().map(|(c, kind)| Insertion::new(c, source(kind))).collect::<Vec<_>>()
        });
        if found.is_empty() {
            return Ok(0);
        }
        if !issuers.is_empty() {
            cache.put(&issuers, now)?;
        }
        Ok(cache.put(&found, now)?.new)
    }

    /// Whether this thread has waited long enough.
    fn is_impatient(&self) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.retain(|_, spent| spent.since.elapsed() < WINDOW);
        spent.get(&thread::current().id()).is_some_and(|spent| spent.time >= PATIENCE)
    }

    fn spend(&self, time: Duration) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Spent { since: Instant::now(), time: Duration::ZERO };
        spent.entry(thread::current().id()).or_insert(begun).time += time;
    }

    fn ask(&self, address: &MailAddress, at: SystemTime) -> Result<Lookup, CacheError> {
        if self.is_impatient() {
            return Ok(Lookup::Unknown);
        }
        let cache = self.chooser.cache();
        let started = Instant::now();
        let search = self.sources.find(address, at);
        self.spend(started.elapsed());
        Self::keep(cache, &search, at)?;
        let found = self.chooser.candidates(address, at)?;
        let chosen: Vec<_> = found.chosen().cloned().collect();
        if !chosen.is_empty() {
            return Ok(Lookup::Found(chosen));
        }
        let may_pass = found.candidates.iter().any(|candidate| {
            let refusal = candidate.refusal.as_ref();
            refusal.is_some_and(|refusal| {
                matches!(refusal, Refusal::RevocationUnknown(_) | Refusal::NotYetValid | Refusal::Pending)
            })
        });
        // Whoever has something that cannot be used now is not without certificates.
        if search.is_unknown() || !search.certificates().is_empty() || may_pass || found.damaged.is_some() {
            return Ok(Lookup::Unknown);
        }
        if !self.absent.is_zero() {
            cache.put_absent(address, None, at + self.absent)?;
        }
        Ok(Lookup::Absent)
    }
}

impl RecipientCertificates for Refill {
    /// What the cache chooses; and where it has nothing that may be used, and has not asked not long ago, what it
    /// chooses once the sources were asked. Whoever could not be asked makes nothing absent.
    fn lookup(&self, address: &MailAddress, at: SystemTime) -> Result<Lookup, StoreError> {
        match self.chooser.lookup(address, at)? {
            Lookup::Unknown if !self.sources.is_empty() => {
                self.ask(address, at).map_err(|error| StoreError {
                    path: self.chooser.cache().path().display().to_string(),
                    reason: error.to_string(),
                })
            }
            known => Ok(known),
        }
    }
}

/// What the cache calls a kind of source.
fn source(kind: Kind) -> Source {
    match kind {
        Kind::Directory => Source::Directory,
        Kind::Ldap => Source::Ldap,
        Kind::Smimea => Source::Smimea,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use certcache::Take;
    use smime::{
        path::{RevocationMode, Trust},
        testing::fixtures,
    };

    use super::*;
    use crate::{CertificateSource, Directory};

    fn refill(folder: &std::path::Path, absent: Duration) -> Refill {
        let cache = Arc::new(Cache::open(&folder.join("cache")).unwrap());
        let chooser = Arc::new(Chooser::new(cache, fixtures::trust(), Take::default()));
        let directory: Arc<dyn CertificateSource> = Arc::new(Directory::new("files", folder.join("files")));
        let sources = Sources::new(vec![directory], Duration::from_secs(20)).with_rest(Duration::ZERO);
        Refill::new(chooser, sources, absent)
    }

    fn alice() -> MailAddress {
        MailAddress::parse("alice@example.org").unwrap()
    }

    #[test]
    fn what_sources_have_is_chosen_by_the_cache_s_rules_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        let refill = refill(folder.path(), Duration::ZERO);
        let now = fixtures::now();
        // One that leads to no anchor is kept, and not encrypted to.
        fs::write(files.join("mallory.pem"), fixtures::data("mallory.pem")).unwrap();
        let mallory = fixtures::certificate("mallory").addresses().remove(0);
        assert!(matches!(refill.lookup(&mallory, now).unwrap(), Lookup::Unknown));
        assert_eq!(refill.chooser.cache().by_address(&mallory).unwrap().len(), 1);
        fs::write(files.join("alice.pem"), fixtures::data("alice.pem")).unwrap();
        fs::write(files.join("ca.pem"), fixtures::data("ca.pem")).unwrap();
        let Lookup::Found(found) = refill.lookup(&alice(), now).unwrap() else {
            panic!("alice was not found");
        };
        assert_eq!(found, [fixtures::certificate("alice")]);
        // And without the source.
        fs::remove_dir_all(&files).unwrap();
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Found(_)));
        let entries = refill.chooser.cache().by_address(&alice()).unwrap();
        assert!(entries.iter().all(|entry| entry.sources.names().eq(["directory"])), "{entries:?}");
    }

    #[test]
    fn absence_is_remembered_for_a_while_and_ignorance_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        let refill = refill(folder.path(), Duration::from_mins(1));
        let now = fixtures::now();
        // The folder is not there: nobody knows.
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Unknown));
        fs::create_dir(&files).unwrap();
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Absent));
        for name in ["alice.pem", "ca.pem"] {
            fs::write(files.join(name), fixtures::data(name)).unwrap();
        }
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Absent));
        let later = now + Duration::from_mins(2);
        assert!(matches!(refill.lookup(&alice(), later).unwrap(), Lookup::Found(_)));
    }

    #[test]
    fn what_cannot_be_used_for_now_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        for name in ["alice.pem", "ca.pem"] {
            fs::write(files.join(name), fixtures::data(name)).unwrap();
        }
        let now = fixtures::now();
        // Nobody tells whether it is revoked, and that is asked for.
        let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
        let trust = Trust { revocation: RevocationMode::HardFail, ..fixtures::trust() };
        let chooser =
            Arc::new(Chooser::new(Arc::clone(&cache), Trust { crls: Vec::new(), ..trust }, Take::default()));
        let directory: Arc<dyn CertificateSource> = Arc::new(Directory::new("files", files.clone()));
        let sources = Sources::new(vec![directory], Duration::from_secs(20)).with_rest(Duration::ZERO);
        let refill = Refill::new(chooser, sources, Duration::from_mins(1));
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Unknown));
        assert!(!cache.is_absent(&alice(), None, now).unwrap());
        // And where the source has it no more, the cache's own is still there.
        fs::remove_dir_all(&files).unwrap();
        fs::create_dir(&files).unwrap();
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Unknown));
        assert!(!cache.is_absent(&alice(), None, now).unwrap());
    }

    #[test]
    fn a_thread_waits_for_sources_a_while_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        let refill = refill(folder.path(), Duration::ZERO);
        let now = fixtures::now();
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Absent));
        refill.spend(PATIENCE);
        assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Unknown));
        thread::scope(|scope| {
            scope.spawn(|| assert!(matches!(refill.lookup(&alice(), now).unwrap(), Lookup::Absent)));
        });
    }
}
