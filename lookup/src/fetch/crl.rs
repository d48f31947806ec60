//! CRLs: fetched, held against the issuer's key, kept as read, since a large one takes long to read.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use certcache::Status;
use data_encoding::HEXLOWER;
use der::Encode;
use smime::{Certificate, algorithm::DigestAlgorithm, key::Digest, revocation::Crl};
use tracing::{debug, info};

use super::{
    Fetcher, SKEW,
    http::{Fetched, Question},
};

/// A CRL of this program's memory: the issuer's key signed it.
///
/// Others are used where they were fetched for, as someone else may have the right to sign them, and are not kept:
/// CRLs come over plain http, and whoever is on the way once would decide for as long as his list says.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) crl: Crl,
    pub(super) etag: Option<String>,
    pub(super) fetched: SystemTime,
    pub(super) url: String,
    pub(super) issuer: Certificate,
}

impl Known {
    /// Until when it is used without asking again.
    fn good_until(&self) -> SystemTime {
        self.crl.next_update().unwrap_or(self.fetched + WITHOUT_END)
    }
}

/// Where a CRL is from, and whose name and key it must have: lists of different keys never stand for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    url: String,
    issuer: Vec<u8>,
}

impl Place {
    fn new(url: &str, issuer: &Certificate) -> Self {
        let mut octets = issuer.subject().to_der().unwrap_or_default();
        octets.extend(issuer.public_key_info());
        let issuer = Digest::of(DigestAlgorithm::Sha256, &octets).as_bytes().to_vec();
        Self { url: url.to_owned(), issuer }
    }

    fn question(&self) -> String {
        format!("{} {}", HEXLOWER.encode(&self.issuer), self.url)
    }
}

/// The CRLs of a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// The issuer's key signed it.
    pub(super) signed: Option<Crl>,
    /// It came instead now, and somebody else signed it, or nobody.
    pub(super) other: Option<Crl>,
}

impl Lists {
    pub(super) fn all(self) -> impl Iterator<Item = Crl> {
        self.signed.into_iter().chain(self.other)
    }
}

/// What came of a fetch: a list that is not to be kept.
pub(super) type Passing = Option<Crl>;

impl Fetcher {
    /// The CRLs at a URL, and why there is none or not the newest.
    pub(super) fn crl(&self, url: &str, issuer: &Certificate, deadline: Instant) -> (Lists, Option<String>) {
        let now = SystemTime::now();
        if self.known(url, issuer).is_none() {
            self.recall(url, issuer, now);
        }
        let known = self.known(url, issuer);
        let is_good = known.as_ref().is_some_and(|known| now < known.good_until());
        let lists = |other| Lists { signed: self.known(url, issuer).map(|known| known.crl), other };
        if is_good {
            return (lists(None), None);
        }
        if let Some(reason) = self.is_resting(url) {
            return (lists(None), Some(reason));
        }
        match self.join_fetch(url, issuer, deadline).as_deref() {
            Some(Ok(other)) => (lists(other.clone()), None),
            Some(Err(reason)) => (lists(None), Some(reason.clone())),
            None => (lists(None), Some("there was no answer in time".into())),
        }
    }

    /// Fetches a CRL, whether or not one is known, unless somebody is doing so.
    pub(super) fn join_fetch(
        &self,
        url: &str,
        issuer: &Certificate,
        deadline: Instant,
    ) -> Option<Arc<Result<Passing, String>>> {
        let question = Place::new(url, issuer).question();
        self.crl_flights.join(&question, deadline, || self.fetch_crl(url, issuer, deadline))
    }

    fn fetch_crl(&self, url: &str, issuer: &Certificate, deadline: Instant) -> Result<Passing, String> {
        let known = self.known(url, issuer);
        let etag = known.as_ref().and_then(|known| known.etag.as_deref());
        let started = Instant::now();
        let fetched = self.client.ask(url, Question::Get { etag }, deadline);
        let now = SystemTime::now();
        match fetched {
            Ok(Fetched::Body { octets, etag }) => {
                let len = octets.len();
                let crl = Crl::from_vec(octets).map_err(|error| self.rest_for(url, error.to_string()))?;
                debug!(url, octets = len, elapsed_ms = started.elapsed().as_millis(), "fetched a CRL");
                let passing = self.take(url, issuer, crl, etag, now);
                if let Some(crl) = passing.map_err(|reason| self.rest_for(url, reason))? {
                    return Ok(Some(crl));
                }
            }
            Ok(Fetched::Unchanged) => {
                if let Some(known) = self.crls().get_mut(&Place::new(url, issuer)) {
                    known.fetched = now;
                }
            }
            Err(error) => return Err(self.rest(url, &error, started)),
        }
        if self.known(url, issuer).is_some_and(|known| known.good_until() <= now) {
            return Err(self.rest_for(url, "the one that is there is out of date".into()));
        }
        Ok(None)
    }

    /// Keeps a CRL that the issuer's key signed, in memory and in the store, unless there is a newer one that it
    /// signed; gives back any other.
    fn take(
        &self,
        url: &str,
        issuer: &Certificate,
        crl: Crl,
        etag: Option<String>,
        now: SystemTime,
    ) -> Result<Passing, String> {
        if is_future(&crl, now) {
            return Err("it is from the future".into());
        }
        if !is_of(&crl, issuer) {
            return Ok(Some(crl));
        }
        let before = self.known(url, issuer).map(|known| known.crl.this_update());
        if before.is_some_and(|before| before > crl.this_update()) {
            return Err("an older one than before is there".into());
        }
        if before.is_none_or(|before| before < crl.this_update()) {
            info!(url, "a new CRL");
        }
        if let Ok(name) = issuer.subject().to_der() {
            let status = Status {
                der: crl.der().to_vec(),
                this_update: crl.this_update(),
                next_update: crl.next_update(),
                fetched: now,
                url: Some(url.to_owned()),
                etag: etag.clone(),
            };
            self.store.put_crl(&name, url, &status);
        }
        self.remember(Known { crl, etag, fetched: now, url: url.to_owned(), issuer: issuer.clone() });
        Ok(None)
    }

    fn known(&self, url: &str, issuer: &Certificate) -> Option<Known> {
        self.crls().get(&Place::new(url, issuer)).cloned()
    }

    /// What the store has. It is somebody else's file: the signature is checked as if it had just come.
    fn recall(&self, url: &str, issuer: &Certificate, now: SystemTime) {
        let Ok(name) = issuer.subject().to_der() else { return };
        let Some(status) = self.store.crl(&name, url) else { return };
        let Ok(crl) = Crl::from_vec(status.der) else { return };
        if is_of(&crl, issuer) && !is_future(&crl, now) {
            let (etag, fetched) = (status.etag, status.fetched);
            self.remember(Known { crl, etag, fetched, url: url.to_owned(), issuer: issuer.clone() });
        }
    }

    /// What the store has that one of these signed, so that it is renewed though nobody has asked for it yet.
    pub(super) fn recall_all(&self, issuers: &[Certificate]) {
        let now = SystemTime::now();
        self.store.for_each_crl(&mut |status| {
            let Some(url) = status.url.as_deref() else { return };
            let Ok(crl) = Crl::from_der(&status.der) else { return };
            let Some(issuer) = issuers.iter().find(|issuer| is_of(&crl, issuer)) else { return };
            if !is_future(&crl, now) && self.known(url, issuer).is_none() {
                let (etag, fetched) = (status.etag.clone(), status.fetched);
                self.remember(Known { crl, etag, fetched, url: url.to_owned(), issuer: issuer.clone() });
            }
        });
    }

    /// Puts a list into memory; the ones that were fetched first go where there is no room.
    fn remember(&self, known: Known) {
        let mut crls = self.crls();
        crls.insert(Place::new(&known.url, &known.issuer), known);
        let mut len: usize = crls.values().map(|known| known.crl.der().len()).sum();
        while (crls.len() > MAX_KNOWN || len > MAX_OCTETS) && crls.len() > 1 {
            let oldest = crls.iter().min_by_key(|(_, known)| known.fetched).map(|(place, _)| place.clone());
            let gone = oldest.and_then(|place| crls.remove(&place));
            len = len.saturating_sub(gone.map_or(0, |gone| gone.crl.der().len()));
        }
    }

    fn rest_for(&self, url: &str, reason: String) -> String {
        self.store.put_unfetchable(url, SystemTime::now() + self.settings.rest, &reason);
        reason
    }
}

/// Whether the issuer's name and key are those of a list.
fn is_of(crl: &Crl, issuer: &Certificate) -> bool {
    crl.issuer() == issuer.subject() && crl.is_signed_by(issuer)
}

fn is_future(crl: &Crl, now: SystemTime) -> bool {
    crl.this_update() > now + SKEW
}

/// How many CRLs are in memory. Their certificates all lead to anchors.
const MAX_KNOWN: usize = 256;
/// How many octets they have together.
const MAX_OCTETS: usize = 128 << 20;
/// For how long one is used that does not say for how long.
const WITHOUT_END: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use smime::testing::fixtures;

    use super::*;
    use crate::{FetchSettings, MemoryStore, fetch::RevocationStore};

    const URL: &str = "http://crl.example.org/ca.crl";

    fn fetcher(store: MemoryStore) -> Fetcher {
        Fetcher::new(FetchSettings::default(), Box::new(store)).unwrap()
    }

    /// The fixtures' CRL, and the same with another signature that is none.
    fn lists() -> [Crl; 2] {
        let der = fixtures::data("ca.crl");
        let mut forged = der.clone();
        *forged.last_mut().unwrap() ^= 1;
        [der, forged].map(|der| Crl::from_vec(der).unwrap())
    }

    #[test]
    fn only_what_the_issuer_signed_is_kept_and_never_what_is_of_the_future() {
        let ca = fixtures::certificate("ca");
        let [good, forged] = lists();
        let now = good.this_update() + Duration::from_mins(1);
        let fetcher = fetcher(MemoryStore::default());
        let name = ca.subject().to_der().unwrap();
        let is_kept = || (fetcher.known(URL, &ca).is_some(), fetcher.store.crl(&name, URL).is_some());
        let etag = || Some("\"1\"".to_owned());
        assert!(fetcher.take(URL, &ca, forged.clone(), etag(), now).unwrap().is_some());
        assert_eq!(is_kept(), (false, false));
        // Of another issuer than the one that was asked for.
        let other = fixtures::certificate("alice");
        assert!(fetcher.take(URL, &other, good.clone(), etag(), now).unwrap().is_some());
        assert_eq!(is_kept(), (false, false));
        for (early, is_taken) in [(SKEW * 2, false), (SKEW / 2, true)] {
            let now = good.this_update() - early;
            assert_eq!(fetcher.take(URL, &ca, good.clone(), etag(), now).is_ok(), is_taken, "{early:?}");
            assert_eq!(is_kept(), (is_taken, is_taken));
        }
        assert!(fetcher.take(URL, &ca, forged, None, now).unwrap().is_some());
        let known = fetcher.known(URL, &ca).unwrap();
        assert_eq!((known.crl.der(), known.etag), (good.der(), etag()));
    }

    #[test]
    fn a_store_s_list_is_checked_like_one_that_was_fetched() {
        let ca = fixtures::certificate("ca");
        let name = ca.subject().to_der().unwrap();
        let now = SystemTime::now();
        for (crl, at, is_taken) in lists()
            .into_iter()
            .zip([true, false])
            .map(|(crl, is)| (crl, now, is))
            .chain([(lists()[0].clone(), lists()[0].this_update() - SKEW * 2, false)])
        {
            let store = MemoryStore::default();
            let status = Status {
                der: crl.der().to_vec(),
                this_update: crl.this_update(),
                next_update: crl.next_update(),
                fetched: now,
                url: Some(URL.to_owned()),
                etag: None,
            };
            store.put_crl(&name, URL, &status);
            let fetcher = fetcher(store);
            fetcher.recall(URL, &ca, at);
            assert_eq!(fetcher.known(URL, &ca).is_some(), is_taken);
        }
    }
}
