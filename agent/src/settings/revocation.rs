//! `[revocation]` checked.

use std::time::Duration;

use lookup::{FetchSettings, check_proxy};

use super::check::{Checker, parse_network};
use crate::config::RevocationSection;

const TITLE: &str = "[revocation]";

impl Checker<'_> {
    /// How to fetch CRLs and OCSP responses; `None` where nothing is fetched.
    pub(super) fn revocation(&mut self, section: RevocationSection) -> Option<FetchSettings> {
        let mut allowed = Vec::new();
        for network in &section.allow_networks {
            match parse_network(&network.value) {
                Ok(parsed) => allowed.push(parsed),
                Err(reason) => self.wrong(TITLE, "allow-networks", network, &reason),
            }
        }
        if let Some(proxy) = &section.proxy
            && let Err(error) = check_proxy(&proxy.value)
        {
            self.wrong(TITLE, "proxy", proxy, &error.to_string());
        }
        section.fetch.then(|| FetchSettings {
            budget: Duration::from_millis(section.budget_ms),
            allowed,
            proxy: section.proxy.map(|proxy| proxy.value),
            max_len: usize::try_from(section.max_bytes).unwrap_or(usize::MAX),
            rest: Duration::from_secs(section.rest_seconds),
            nonce: section.nonce,
        })
    }
}
