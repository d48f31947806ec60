//! `[revocation]` as it is written: how CRLs and OCSP responses are fetched.

use super::reader::{At, Section};

/// `[revocation]`: how to fetch what tells of revocation. Whether it must be known is said in `[trust]`.
#[derive(Debug)]
pub(crate) struct RevocationSection {
    pub(crate) fetch: bool,
    pub(crate) budget_ms: u64,
    pub(crate) max_bytes: u64,
    pub(crate) allow_networks: Vec<At<String>>,
    pub(crate) proxy: Option<At<String>>,
    pub(crate) rest_seconds: u64,
    pub(crate) nonce: bool,
}

impl Default for RevocationSection {
    fn default() -> Self {
        Self {
            fetch: true,
            budget_ms: 3_000,
            max_bytes: 20 << 20,
            allow_networks: Vec::new(),
            proxy: None,
            rest_seconds: 60,
            nonce: false,
        }
    }
}

pub(super) fn revocation(section: &mut Section<'_, '_>) -> RevocationSection {
    let default = RevocationSection::default();
    let fetch = section.boolean("fetch");
    let budget_ms = section.number("budget-ms", 100..=60_000);
    let max_bytes = section.number("max-bytes", 65_536..=(20 << 20));
    let allow_networks = section.strings("allow-networks");
    let proxy = section.string("proxy");
    let rest_seconds = section.number("rest-seconds", 1..=86_400);
    let nonce = section.boolean("nonce");
    RevocationSection {
        fetch: fetch.map_or(default.fetch, |fetch| fetch.value),
        budget_ms: budget_ms.map_or(default.budget_ms, |n| n.value),
        max_bytes: max_bytes.map_or(default.max_bytes, |n| n.value),
        allow_networks,
        proxy,
        rest_seconds: rest_seconds.map_or(default.rest_seconds, |n| n.value),
        nonce: nonce.map_or(default.nonce, |nonce| nonce.value),
    }
}
