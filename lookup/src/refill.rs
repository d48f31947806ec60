//! The cache, and behind it the sources: what agents ask.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use certcache::{Announced, Cache, CacheError, Chooser, Insertion, Source};
use smime::{
    Certificate, MailAddress,
    capabilities::Capabilities,
    path::{Budget, RevocationMode, Trust, validate_within},
    store::{Lookup, RecipientCertificates, StoreError, Waited},
};

use crate::{Kind, Search, Sources, announced::announced};

/// Certificates out of the cache, which is filled from the sources where it has none that may be used.
#[derive(Debug)]
pub struct Refill {
    chooser: Arc<Chooser>,
    sources: Sources,
    absent: Duration,
}

/// How long one message may wait for sources. It may have hundreds of recipients in domains that do not answer, and
/// whoever brought it waits; what was found until then is kept, so that the next try goes on.
const PATIENCE: Duration = Duration::from_secs(20);

impl Refill {
    /// Asks `sources` where `chooser` knows nothing, and remembers for `absent` that nobody has anything that can be used.
    pub fn new(chooser: Arc<Chooser>, sources: Sources, absent: Duration) -> Self {
        Self { chooser, sources, absent }
    }

    /// Puts what was found for an address into the cache: as trusted, which is to say that its path decides. Whoever answers for
    /// an address in a directory or the DNS has no say in another that the certificate names, so it is put in for this one
    /// only; the operator's own files are for all that they name. Of the CA certificates
    /// beside it only those go in that have a path to an anchor of `trust`, and as nobody's: whoever may write an entry
    /// of a directory chooses what is in it. Says how many of the address's certificates are new.
    pub fn keep(
        cache: &Arc<Cache>,
        (address, search): (&MailAddress, &Search),
        trust: &Trust,
        now: SystemTime,
        waited: &mut Waited,
    ) -> Result<usize, CacheError> {
        let found = search.certificates();
        if found.is_empty() {
            return Ok(0);
        }
        let issuers = issuers(search, trust, now);
        let helpers: Vec<_> = issuers.iter().map(|(c, kind)| Insertion::helper(c, source(*kind))).collect();
        if !helpers.is_empty() {
            cache.put(&helpers, now)?;
        }
        let insertions = found.iter().map(|(c, kind)| Insertion {
            only: (*kind != Kind::Directory).then_some(address),
            ..Insertion::new(c, source(*kind))
        });
        let mut insertions: Vec<_> = insertions.collect();
        for (certificate, announced) in announced(cache, search, trust, now, waited) {
            if let Some(insertion) = insertions.iter_mut().find(|it| *it.certificate == certificate) {
                insertion.announced = newer(insertion.announced.take(), announced);
            }
        }
        Ok(cache.put(&insertions, now)?.new)
    }

    fn ask(&self, address: &MailAddress, at: SystemTime, waited: &mut Waited) -> Result<Lookup, StoreError> {
        if waited.sources >= PATIENCE {
            return Ok(Lookup::Unknown);
        }
        let cache = self.chooser.cache();
        let started = Instant::now();
        let search = self.sources.find(address, at);
        waited.sources += started.elapsed();
        Self::keep(cache, (address, &search), self.chooser.trust(), at, waited)
            .map_err(|error| self.failed(&error))?;
        let known = self.chooser.lookup(address, at, waited)?;
        // Whoever could not be asked, or was kept from telling, may have one that can be used.
        if search.is_partial() {
            return Ok(if matches!(known, Lookup::Found(_)) { known } else { Lookup::Unknown });
        }
        match known {
            Lookup::Found(_) => return Ok(known),
            // An address that the cache has no key for.
            Lookup::Unlisted if !search.certificates().is_empty() => return Ok(Lookup::Unknown),
            _ => {}
        }
        if !self.absent.is_zero() {
            cache.put_absent(address, None, at + self.absent).map_err(|error| self.failed(&error))?;
        }
        Ok(if matches!(known, Lookup::Unlisted) { Lookup::Absent } else { known })
    }

    fn failed(&self, error: &CacheError) -> StoreError {
        failed(&self.chooser, error)
    }
}

/// Whether the sources would be asked, after the cache has said this.
pub(crate) fn must_ask(
    chooser: &Chooser,
    known: &Lookup,
    address: &MailAddress,
    at: SystemTime,
) -> Result<bool, StoreError> {
    if matches!(known, Lookup::Found(_) | Lookup::Absent) {
        return Ok(false);
    }
    // What cannot be used is no reason to ask for it with every mail.
    let was_asked = chooser.cache().is_absent(address, None, at);
    Ok(!was_asked.map_err(|error| failed(chooser, &error))?)
}

fn failed(chooser: &Chooser, error: &CacheError) -> StoreError {
    StoreError { path: chooser.cache().path().display().to_string(), reason: error.to_string() }
}

/// The CA certificates of an answer that have a path to an anchor. Whether one is revoked is for whoever uses it.
fn issuers<'s>(search: &'s Search, trust: &Trust, now: SystemTime) -> Vec<(&'s Certificate, Kind)> {
    let mut issuers = search.issuers();
    let all: Vec<Certificate> = issuers.iter().map(|(issuer, _)| (*issuer).clone()).collect();
    let trust = Trust {
        anchors: trust.anchors.clone(),
        intermediates: trust.intermediates.clone(),
        legacy: trust.legacy,
        revocation: RevocationMode::Off,
        ..Trust::default()
    };
    // One limit for all of them, as for a message.
    let mut budget = Budget::default();
    issuers.retain(|(issuer, _)| {
        !trust.anchors.contains(issuer) && validate_within(&mut budget, issuer, &all, &trust, now).is_ok()
    });
    issuers
}

fn newer(known: Option<Announced>, other: Announced) -> Option<Announced> {
    known.into_iter().chain([other]).max_by_key(|announced| announced.at)
}

impl RecipientCertificates for Refill {
    /// What the cache chooses; and where it has nothing that may be used, what it chooses once the sources were asked.
    /// All of them having answered, they are left alone for a while. Whoever could not be asked makes nothing absent, nor
    /// unusable.
    fn lookup(
        &self,
        address: &MailAddress,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Lookup, StoreError> {
        let known = self.chooser.lookup(address, at, waited)?;
        if self.sources.is_empty() || !must_ask(&self.chooser, &known, address, at)? {
            return Ok(known);
        }
        self.ask(address, at, waited)
    }

    fn capabilities(&self, certificate: &Certificate) -> Option<Capabilities> {
        self.chooser.capabilities(certificate)
    }

    fn against(
        &self,
        certificate: &Certificate,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Option<String>, StoreError> {
        self.chooser.against(certificate, at, waited)
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
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use certcache::{Take, TrustState};
    use smime::testing::{
        authority::{Authority, Wanted},
        fixtures,
    };
    use x509_cert::ext::pkix::KeyUsages;

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
        assert!(matches!(refill.lookup(&mallory, now, &mut Waited::default()).unwrap(), Lookup::Unusable(_)));
        assert_eq!(refill.chooser.cache().by_address(&mallory).unwrap().len(), 1);
        fs::write(files.join("alice.pem"), fixtures::data("alice.pem")).unwrap();
        fs::write(files.join("ca.pem"), fixtures::data("ca.pem")).unwrap();
        let Lookup::Found(found) = refill.lookup(&alice(), now, &mut Waited::default()).unwrap() else {
            panic!("alice was not found");
        };
        assert_eq!(found, [fixtures::certificate("alice")]);
        // And without the source.
        fs::remove_dir_all(&files).unwrap();
        assert!(matches!(refill.lookup(&alice(), now, &mut Waited::default()).unwrap(), Lookup::Found(_)));
        let entries = refill.chooser.cache().by_address(&alice()).unwrap();
        assert!(entries.iter().all(|entry| entry.sources.names().eq(["directory"])), "{entries:?}");
    }

    /// A source of a kind that has one certificate, for whom it is asked.
    #[derive(Debug)]
    struct One(Kind, Certificate);

    impl CertificateSource for One {
        fn name(&self) -> &'static str {
            "one"
        }

        fn kind(&self) -> Kind {
            self.0
        }

        fn find(&self, address: &MailAddress, _: Instant) -> crate::Answer {
            crate::Answer::Found(crate::Finding::of([self.1.clone()], Vec::new(), address))
        }
    }

    #[test]
    fn what_a_source_has_for_one_address_decides_for_no_other() {
        let root = Authority::root("Root", "bob");
        let (now, day) = (fixtures::now(), Duration::from_hours(24));
        let mallory = MailAddress::parse("mallory@evil.example").unwrap();
        let alices = root.issue(&Wanted { from: now - 2 * day, ..Wanted::default() });
        let addresses = &["mallory@evil.example", "alice@example.org"];
        let of_both = root.issue(&Wanted { serial: 2, from: now - day, addresses, ..Wanted::default() });
        // The operator's own folder is as good as an import.
        for (kind, is_own) in [(Kind::Smimea, false), (Kind::Ldap, false), (Kind::Directory, true)] {
            let folder = tempfile::tempdir().unwrap();
            let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
            cache.insert(&alices, Source::Imported, now).unwrap();
            let anchors = vec![root.certificate().clone()];
            let trust = Trust { anchors, revocation: RevocationMode::Off, ..Trust::default() };
            let chooser = Arc::new(Chooser::new(Arc::clone(&cache), trust, Take::default()));
            let source: Arc<dyn CertificateSource> = Arc::new(One(kind, of_both.clone()));
            let sources = Sources::new(vec![source], Duration::from_secs(20));
            let refill = Refill::new(chooser, sources, Duration::ZERO);
            let chosen =
                |address: &MailAddress| match refill.lookup(address, now, &mut Waited::default()).unwrap() {
                    Lookup::Found(found) => found,
                    other => panic!("{kind}: {other:?}"),
                };
            assert_eq!(chosen(&mallory), std::slice::from_ref(&of_both), "{kind}");
            let expected = if is_own { &of_both } else { &alices };
            assert_eq!(chosen(&alice()), std::slice::from_ref(expected), "{kind}");
            // Where nobody else has one, the same is asked for her, and is hers then.
            cache.remove(alices.fingerprint()).unwrap();
            assert_eq!(chosen(&alice()), std::slice::from_ref(&of_both), "{kind}");
        }
    }

    #[test]
    fn absence_is_remembered_for_a_while_and_ignorance_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        let refill = refill(folder.path(), Duration::from_mins(1));
        let now = fixtures::now();
        // The folder is not there: nobody knows.
        assert!(matches!(refill.lookup(&alice(), now, &mut Waited::default()).unwrap(), Lookup::Unknown));
        fs::create_dir(&files).unwrap();
        assert!(matches!(refill.lookup(&alice(), now, &mut Waited::default()).unwrap(), Lookup::Absent));
        for name in ["alice.pem", "ca.pem"] {
            fs::write(files.join(name), fixtures::data(name)).unwrap();
        }
        assert!(matches!(refill.lookup(&alice(), now, &mut Waited::default()).unwrap(), Lookup::Absent));
        let later = now + Duration::from_mins(2);
        assert!(matches!(refill.lookup(&alice(), later, &mut Waited::default()).unwrap(), Lookup::Found(_)));
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
        assert!(matches!(refill.lookup(&alice(), now, &mut Waited::default()).unwrap(), Lookup::Unknown));
        // And where the source has it no more, the cache's own is still there.
        fs::remove_dir_all(&files).unwrap();
        fs::create_dir(&files).unwrap();
        for at in [now, now + Duration::from_mins(2)] {
            assert!(matches!(refill.lookup(&alice(), at, &mut Waited::default()).unwrap(), Lookup::Unknown));
        }
    }

    /// A source that gives what it is told to, or else cannot be asked, and counts.
    #[derive(Debug)]
    struct Counted {
        name: &'static str,
        gives: Option<crate::Finding>,
        asked: AtomicUsize,
    }

    impl CertificateSource for Counted {
        fn name(&self) -> &'static str {
            self.name
        }

        fn kind(&self) -> Kind {
            Kind::Ldap
        }

        fn find(&self, _: &MailAddress, _: Instant) -> crate::Answer {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match &self.gives {
                Some(finding) => crate::Answer::Found(finding.clone()),
                None => crate::Answer::Unknown(crate::LookupError::Late { after: Duration::ZERO }),
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_an_answer_that_is_remembered_as_long_as_that_there_is_none() {
        let root = Authority::root("Root", "bob");
        let now = fixtures::now();
        let (day, minute) = (Duration::from_hours(24), Duration::from_mins(1));
        let expired = root.issue(&Wanted { until: now - day, ..Wanted::default() });
        let found = crate::Finding::of([expired], Vec::new(), &alice());
        for (is_one_down, is_partial, usable_later, expected, asked) in [
            (false, false, false, "unusable: expired", [1, 1, 2]),
            // Whoever did not answer may have another one, and is asked again.
            (true, false, false, "unknown", [1, 2, 3]),
            // So is who was not heard out.
            (false, true, false, "unknown", [1, 2, 3]),
            // Until when it is not valid is known.
            (false, false, true, "unknown", [1, 1, 2]),
        ] {
            let found = crate::Finding { is_partial, ..found.clone() };
            let folder = tempfile::tempdir().unwrap();
            let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
            if usable_later {
                let early = root.issue(&Wanted { serial: 2, from: now + day, ..Wanted::default() });
                cache.put(&[Insertion::new(&early, Source::Imported)], now).unwrap();
            }
            let anchors = vec![root.certificate().clone()];
            let trust = Trust { anchors, revocation: RevocationMode::Off, ..Trust::default() };
            let chooser = Arc::new(Chooser::new(cache, trust, Take::default()));
            let make = |name, gives| Arc::new(Counted { name, gives, asked: AtomicUsize::new(0) });
            let counted = make("entry", Some(found.clone()));
            let mut all: Vec<Arc<dyn CertificateSource>> = vec![counted.clone()];
            if is_one_down {
                all.push(make("down", None));
            }
            let sources = Sources::new(all, Duration::from_secs(20)).with_rest(Duration::ZERO);
            let refill = Refill::new(chooser, sources, minute);
            for (at, times) in [now, now + minute / 2, now + 2 * minute].into_iter().zip(asked) {
                let answer = match refill.lookup(&alice(), at, &mut Waited::default()).unwrap() {
                    Lookup::Unusable(reason) => format!("unusable: {reason}"),
                    Lookup::Unknown => "unknown".to_owned(),
                    other => panic!("{other:?}"),
                };
                assert_eq!(answer, expected);
                assert_eq!(counted.asked.load(Ordering::Relaxed), times, "{expected}");
            }
        }
    }

    #[test]
    fn a_message_that_has_waited_long_enough_asks_nobody_and_keeps_no_other_from_asking() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        let refill = refill(folder.path(), Duration::ZERO);
        let now = fixtures::now();
        let sources = PATIENCE.saturating_sub(Duration::from_nanos(1));
        let (mut first, mut second) = (Waited { sources, ..Waited::default() }, Waited::default());
        assert!(matches!(refill.lookup(&alice(), now, &mut first).unwrap(), Lookup::Absent));
        assert!(first.sources >= PATIENCE);
        assert!(matches!(refill.lookup(&alice(), now, &mut first).unwrap(), Lookup::Unknown));
        assert!(matches!(refill.lookup(&alice(), now, &mut second).unwrap(), Lookup::Absent));
        assert!(!second.sources.is_zero());
    }

    /// A source that gives everything to everybody, as an entry of a directory that its owner may edit.
    #[derive(Debug)]
    struct Entry(Vec<Certificate>);

    impl CertificateSource for Entry {
        fn name(&self) -> &'static str {
            "entry"
        }

        fn kind(&self) -> Kind {
            Kind::Ldap
        }

        fn find(&self, address: &MailAddress, _: Instant) -> crate::Answer {
            crate::Answer::Found(crate::Finding::of(self.0.clone(), Vec::new(), address))
        }
    }

    #[test]
    fn of_what_an_entry_s_owner_writes_into_it_nothing_is_kept_that_harms_others() {
        let root = Authority::root("Root", "bob");
        let below = root.intermediate("Below", "alice");
        let ceo = "ceo@example.org";
        let alice_s = below.issue(&Wanted::default());
        // Self-signed CAs with another's address, and with the name of the one that issues.
        let mut entry = vec![alice_s.clone(), below.certificate().clone()];
        entry.extend(["Mine", "Below"].map(|name| {
            let mine = Authority::root(name, "bob");
            let wanted = Wanted { addresses: &[ceo], is_ca: true, key: "carol", ..Wanted::default() };
            mine.issue(&wanted)
        }));
        // One that the CA issued, and that names somebody.
        let helper = Wanted { addresses: &[ceo], is_ca: true, name: "Branch", ..Wanted::default() };
        let helper = below.issue(&Wanted { usage: KeyUsages::KeyCertSign.into(), ..helper });
        entry.push(helper.clone());
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
        let trust = Trust {
            anchors: vec![root.certificate().clone()],
            revocation: RevocationMode::Off,
            ..Trust::default()
        };
        let chooser = Arc::new(Chooser::new(Arc::clone(&cache), trust, Take::default()));
        let source: Arc<dyn CertificateSource> = Arc::new(Entry(entry));
        let sources = Sources::new(vec![source], Duration::from_secs(20));
        let refill = Refill::new(chooser, sources, Duration::ZERO);
        let found = refill.lookup(&alice(), fixtures::now(), &mut Waited::default()).unwrap();
        assert!(matches!(found, Lookup::Found(found) if found == [alice_s]));
        let mut kept = Vec::new();
        cache
            .for_each(|entry| {
                let entry = entry.unwrap();
                kept.push((*entry.certificate.fingerprint(), entry.state));
                true
            })
            .unwrap();
        assert_eq!(kept.len(), 3, "{kept:?}");
        for issuer in [below.certificate(), &helper] {
            assert!(kept.contains(&(*issuer.fingerprint(), TrustState::Candidate)), "{kept:?}");
        }
        let ceo = MailAddress::parse(ceo).unwrap();
        assert!(cache.by_address(&ceo).unwrap().is_empty());
        assert!(cache.check().unwrap().is_good());
    }
}
