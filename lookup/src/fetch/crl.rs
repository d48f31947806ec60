//! CRLs: fetched, held against the issuer's key, kept as read, since a large one takes long to read.

use std::time::{Duration, Instant, SystemTime};

use certcache::Status;
use der::Encode;
use smime::{Certificate, revocation::Crl};
use tracing::{debug, info};

use super::{
    Fetcher, SKEW,
    http::{Fetched, Question},
};

/// A CRL of this program's memory.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) crl: Crl,
    pub(super) etag: Option<String>,
    pub(super) fetched: SystemTime,
    /// Whose key signed it; `None` where that is not the issuer that was asked for.
    pub(super) signed_by: Option<Certificate>,
    /// The issuer that was asked for.
    pub(super) asked_for: Certificate,
}

impl Known {
    /// Until when it is used without asking again.
    fn good_until(&self) -> SystemTime {
        let end = self.crl.next_update().unwrap_or(self.fetched + WITHOUT_END);
        // What somebody else signed may be of another key of the CA, or of anybody on the way.
        if self.signed_by.is_some() { end } else { end.min(self.fetched + UNVERIFIED) }
    }
}

impl Fetcher {
    /// The CRL at a URL, and why it is none or not the newest.
    pub(super) fn crl(
        &self,
        url: &str,
        issuer: &Certificate,
        deadline: Instant,
    ) -> (Option<Crl>, Option<String>) {
        if self.known(url).is_none() {
            self.recall(url, issuer);
        }
        let now = SystemTime::now();
        let known = self.known(url);
        if let Some(known) = &known
            && now < known.good_until()
        {
            return (Some(known.crl.clone()), None);
        }
        let old = known.map(|known| known.crl);
        if let Some(reason) = self.is_resting(url) {
            return (old, Some(reason));
        }
        let fetched = self.crl_flights.join(url, deadline, || self.fetch_crl(url, issuer, deadline));
        match fetched.as_deref() {
            Some(Ok(())) => (self.known(url).map(|known| known.crl), None),
            Some(Err(reason)) => (old, Some(reason.clone())),
            None => (old, Some("there was no answer in time".into())),
        }
    }

    /// Fetches a CRL, whether or not one is known.
    pub(super) fn fetch_crl(&self, url: &str, issuer: &Certificate, deadline: Instant) -> Result<(), String> {
        let known = self.known(url);
        let etag = known.as_ref().and_then(|known| known.etag.as_deref());
        let started = Instant::now();
        let fetched = self.client.ask(url, Question::Get { etag }, deadline);
        let now = SystemTime::now();
        match fetched {
            Ok(Fetched::Body { octets, etag }) => {
                let len = octets.len();
                let crl = Crl::from_vec(octets).map_err(|error| self.rest_for(url, error.to_string()))?;
                if crl.this_update() > now + SKEW {
                    return Err(self.rest_for(url, "it is from the future".into()));
                }
                debug!(url, octets = len, elapsed_ms = started.elapsed().as_millis(), "fetched a CRL");
                if let Some(known) = &known
                    && known.crl.this_update() > crl.this_update()
                {
                    return Err(self.rest_for(url, "an older one than before is there".into()));
                }
                let is_new = known.is_none_or(|known| known.crl.this_update() < crl.this_update());
                self.keep(url, issuer, crl, etag, now);
                if is_new {
                    info!(url, "a new CRL");
                }
            }
            Ok(Fetched::Unchanged) => {
                if let Some(known) = self.crls().get_mut(url) {
                    known.fetched = now;
                }
            }
            Err(error) => return Err(self.rest(url, &error, started)),
        }
        if self.known(url).is_some_and(|known| known.good_until() <= now) {
            return Err(self.rest_for(url, "the one that is there is out of date".into()));
        }
        Ok(())
    }

    pub(super) fn known(&self, url: &str) -> Option<Known> {
        self.crls().get(url).cloned()
    }

    /// What the store has.
    fn recall(&self, url: &str, issuer: &Certificate) {
        let Ok(name) = issuer.subject().to_der() else { return };
        let Some(status) = self.store.crl(&name, url) else { return };
        let Ok(crl) = Crl::from_vec(status.der) else { return };
        let signed_by = crl.is_signed_by(issuer).then(|| issuer.clone());
        let known =
            Known { crl, etag: status.etag, fetched: status.fetched, signed_by, asked_for: issuer.clone() };
        self.remember(url, known);
    }

    /// What the store has that one of these signed, so that it is renewed though nobody has asked for it yet.
    pub(super) fn recall_all(&self, issuers: &[Certificate]) {
        self.store.for_each_crl(&mut |status| {
            let Some(url) = status.url.as_deref().filter(|url| self.known(url).is_none()) else { return };
            let Ok(crl) = Crl::from_der(&status.der) else { return };
            let is_of = |issuer: &&Certificate| crl.issuer() == issuer.subject() && crl.is_signed_by(issuer);
            let Some(issuer) = issuers.iter().find(is_of) else { return };
            let (etag, fetched, signed_by) = (status.etag.clone(), status.fetched, Some(issuer.clone()));
            self.remember(url, Known { crl, etag, fetched, signed_by, asked_for: issuer.clone() });
        });
    }

    /// Keeps a CRL; in the store only if the issuer signed it, as others rely on what is there.
    fn keep(&self, url: &str, issuer: &Certificate, crl: Crl, etag: Option<String>, now: SystemTime) {
        let is_its = crl.issuer() == issuer.subject() && crl.is_signed_by(issuer);
        if is_its && let Ok(name) = issuer.subject().to_der() {
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
        let signed_by = is_its.then(|| issuer.clone());
        self.remember(url, Known { crl, etag, fetched: now, signed_by, asked_for: issuer.clone() });
    }

    fn remember(&self, url: &str, known: Known) {
        let mut crls = self.crls();
        if crls.len() >= MAX_KNOWN
            && let Some(oldest) =
                crls.iter().min_by_key(|(_, known)| known.fetched).map(|(url, _)| url.clone())
        {
            crls.remove(&oldest);
        }
        crls.insert(url.to_owned(), known);
    }

    fn rest_for(&self, url: &str, reason: String) -> String {
        self.store.put_unfetchable(url, SystemTime::now() + self.settings.rest, &reason);
        reason
    }
}

/// How many CRLs are in memory. Their certificates all lead to anchors.
const MAX_KNOWN: usize = 256;
/// For how long one is used that does not say for how long.
const WITHOUT_END: Duration = Duration::from_hours(1);
/// For how long one is used that the issuer's key did not sign.
const UNVERIFIED: Duration = Duration::from_mins(10);
