//! CRLs and OCSP responses, fetched where certificates say they are (RFC 5280 4.2.1.13 and 4.2.2.1).
//!
//! A [`Fetcher`] is asked only about certificates whose path has reached an anchor ([`RevocationSource`]); what it brings is
//! checked by `smime` like everything else. All it does for one message has one budget of time. What was fetched and is
//! signed by the issuer stays in a [`RevocationStore`] until its end, and beyond it where it says revoked; what could not be fetched is not asked for again
//! for a while. [`Prefetch`] renews CRLs before somebody waits for them.

mod address;
mod crl;
mod http;
mod ocsp;
mod prefetch;
mod store;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use ipnet::IpNet;
use smime::{
    Certificate,
    revocation::{Evidence, RevocationSource, crl_urls, delta_crl_urls, ocsp_urls},
};

pub use prefetch::Prefetch;
pub use store::{CacheStore, MemoryStore, RevocationStore};

use crate::flight::Flights;
use http::{Client, FetchError};

/// How to fetch.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// How long may be waited for all that one message needs.
    pub budget: Duration,
    /// Networks that may be connected to though they are not public.
    pub allowed: Vec<IpNet>,
    /// An HTTP proxy for everything, as a URL. It must let us CONNECT to port 80, and it chooses the addresses.
    pub proxy: Option<String>,
    /// How many octets a CRL may have.
    pub max_len: usize,
    /// For how long what could not be fetched is not asked for again.
    pub rest: Duration,
    /// Whether OCSP requests have a nonce (RFC 9654). Most responders of public CAs ignore it.
    pub nonce: bool,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(3),
            allowed: Vec::new(),
            proxy: None,
            max_len: 20 << 20,
            rest: Duration::from_mins(1),
            nonce: false,
        }
    }
}

/// Fetches CRLs and OCSP responses, and keeps them.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    settings: FetchSettings,
    store: Box<dyn RevocationStore>,
    crls: Mutex<HashMap<crl::Place, crl::Known>>,
    crl_flights: Flights<Result<crl::Passing, String>>,
    ocsp_flights: Flights<Result<ocsp::Known, String>>,
}

/// A proxy that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProxyError(String);

impl Fetcher {
    /// Fetches with these settings, into this store.
    pub fn new(settings: FetchSettings, store: Box<dyn RevocationStore>) -> Result<Self, ProxyError> {
        let proxy = settings.proxy.as_deref().map(check_proxy).transpose()?;
        let client = Client::new(settings.allowed.clone(), proxy, settings.max_len);
        Ok(Self {
            client,
            settings,
            store,
            crls: Mutex::default(),
            crl_flights: Flights::default(),
            ocsp_flights: Flights::default(),
        })
    }

    /// Forgets the CRLs that this program keeps in memory; those of its store are read again.
    pub fn forget(&self) {
        self.crls().clear();
    }

    fn crls(&self) -> MutexGuard<'_, HashMap<crl::Place, crl::Known>> {
        self.crls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a URL is left alone, and why.
    fn is_resting(&self, url: &str) -> Option<String> {
        self.store.unfetchable(url, SystemTime::now())
    }

    /// Leaves a URL alone for a while, and gives the reason in words.
    fn rest(&self, url: &str, error: &FetchError, started: Instant) -> String {
        let reason = error.to_string();
        // That the message's time was used up before says nothing of the server.
        if matches!(error, FetchError::Late) && started.elapsed() < ENOUGH.min(self.settings.budget / 4) {
            return reason;
        }
        self.store.put_unfetchable(url, SystemTime::now() + self.settings.rest, &reason);
        reason
    }
}

/// How long a server must have been waited for to be called slow.
const ENOUGH: Duration = Duration::from_secs(1);

/// How far a clock may be ahead of ours. What would come from later yet would stand before all that is new until then.
const SKEW: Duration = Duration::from_hours(1);

/// Whether a text is the URL of a proxy.
pub fn check_proxy(url: &str) -> Result<ureq::Proxy, ProxyError> {
    if !url.starts_with("http://") {
        return Err(ProxyError("it is a URL like http://proxy.example.org:3128".into()));
    }
    ureq::Proxy::new(url).map_err(|error| ProxyError(error.to_string()))
}

impl RevocationSource for Fetcher {
    fn evidence(&self, certificate: &Certificate, issuer: &Certificate, waited: &mut Duration) -> Evidence {
        let started = Instant::now();
        let deadline = started + self.settings.budget.saturating_sub(*waited);
        let mut evidence = Evidence::default();
        let mut reasons = Vec::new();
        let (lists, responders) = (crl_urls(certificate), ocsp_urls(certificate));
        // A server that hangs leaves half of the time to the responders.
        let half = deadline.saturating_duration_since(started) / 2;
        let for_lists = if responders.is_empty() { deadline } else { started + half };
        let mut is_current = false;
        for url in &lists {
            let (lists, reason) = self.crl(url, issuer, for_lists);
            reasons.extend(reason.map(|reason| format!("{url}: {reason}")));
            let deltas = delta_crl_urls(certificate);
            let freshest: Vec<String> =
                lists.signed.iter().chain(&lists.other).flat_map(|crl| crl.freshest().to_vec()).collect();
            for delta in deltas.iter().chain(&freshest) {
                evidence.crls.extend(self.crl(delta, issuer, for_lists).0.all());
            }
            // What nobody is known to have signed ends no search.
            let is_enough = lists.signed.as_ref().is_some_and(|crl| {
                let is_new = crl.next_update().is_some_and(|next| next >= SystemTime::now());
                // One that is about other certificates says nothing of this one.
                is_current |= is_new && !crl.is_delta() && crl.tells_all_of(certificate);
                is_current
            });
            evidence.crls.extend(lists.all());
            if is_enough {
                break;
            }
        }
        let kept = if responders.is_empty() { None } else { self.kept_ocsp(certificate, issuer) };
        let is_answered = is_current || kept.as_ref().is_some_and(|kept| kept.is_current);
        if !is_answered {
            for url in &responders {
                match self.ocsp(url, certificate, issuer, deadline) {
                    Ok(response) => {
                        evidence.ocsp.push(response);
                        break;
                    }
                    Err(reason) => reasons.push(format!("{url}: {reason}")),
                }
            }
        }
        // One that says revoked for ever counts beside all that is newer, and after its end.
        let kept = kept.filter(|kept| kept.is_final || (kept.is_current && !is_current));
        evidence.ocsp.extend(kept.map(|kept| kept.response));
        evidence.unavailable = (!reasons.is_empty()).then(|| reasons.join("; "));
        *waited += started.elapsed();
        evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_plain_http_url() {
        assert!(check_proxy("http://proxy.example.org:3128").is_ok());
        for wrong in ["proxy.example.org:3128", "https://proxy.example.org", "socks5://proxy", ""] {
            assert!(check_proxy(wrong).is_err(), "{wrong}");
        }
    }
}
