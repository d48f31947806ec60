//! Revocation asked for over the network: the trust of a configuration with a fetcher behind it.

use std::sync::Arc;

use lookup::{Fetcher, MemoryStore, RevocationStore};
use smime::{
    path::{RevocationMode, Trust},
    revocation::RevocationSource,
};
use tracing::error;

use crate::Settings;

impl Settings {
    /// Who fetches CRLs and OCSP responses, and keeps them in `store`. `None` where the configuration wants no
    /// fetching, or no revocation at all.
    pub fn fetcher(&self, store: Box<dyn RevocationStore>) -> Option<Arc<Fetcher>> {
        let modes = [self.trust().revocation, self.for_encryption().revocation];
        if modes.iter().all(|mode| *mode == RevocationMode::Off) {
            return None;
        }
        let made = Fetcher::new(self.fetch()?.clone(), store);
        // The proxy was checked when the configuration was read.
        made.map(Arc::new).inspect_err(|error| error!(%error, "nothing is fetched")).ok()
    }

    /// Whom to believe, with somebody behind it who fetches CRLs and OCSP responses and keeps them in memory.
    pub fn fetching_trust(&self) -> Trust {
        self.fetching_trust_in(Box::<MemoryStore>::default())
    }

    /// The same, kept in `store`.
    pub fn fetching_trust_in(&self, store: Box<dyn RevocationStore>) -> Trust {
        trust_with(self.trust(), self.fetcher(store))
    }
}

/// The same trust, asking this fetcher.
pub(crate) fn trust_with(trust: &Trust, fetcher: Option<Arc<Fetcher>>) -> Trust {
    let revocation_source = fetcher.map(|fetcher| -> Arc<dyn RevocationSource> { fetcher });
    Trust { revocation_source, ..trust.clone() }
}
