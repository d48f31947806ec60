//! What the pages for monitoring say of all parts of the milter: its messages, the tokens, the cache, the spool.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use agent::settings::Ending;
use certcache::Cache;
use hsmpool::{Pool, TokenState, prometheus};
use milter::{Meter, Spool, Watched, gauge};

use crate::endings;

/// The parts that there are now.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) pool: Pool,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) endings: Arc<[Ending]>,
}

/// Where they are found, also after some of them were replaced.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    meter: Arc<Meter>,
    parts: Arc<Mutex<Parts>>,
}

impl Overview {
    pub(crate) fn new(meter: Arc<Meter>, parts: Parts) -> Self {
        Self { meter, parts: Arc::new(Mutex::new(parts)) }
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Until when our addresses can sign, by the present configuration.
    pub(crate) fn endings(&self) -> Arc<[Ending]> {
        self.parts().endings
    }

    pub(crate) fn now(&self, parts: Parts) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = parts;
    }

    fn parts(&self) -> Parts {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watched for Overview {
    fn metrics(&self) -> String {
        let Parts { pool, cache, spool, endings } = self.parts();
        let mut page = self.meter.text();
        // Writing into a String does not fail.
        let _ = endings::write(&mut page, &endings, SystemTime::now());
        if let Some(spool) = spool {
            let _ = gauge(&mut page, "spool_waiting", "Copies that wait for the MTA.", spool.waiting());
            if let Ok(count) = spool.put_aside() {
                let _ = gauge(&mut page, "spool_failed", "Copies that cannot be delivered.", count);
            }
        }
        if let Some(Ok(stat)) = cache.map(|cache| cache.stat()) {
            for (name, help, value) in [
                ("cache_certificates", "Certificates in the cache.", stat.certificates),
                ("cache_crls", "CRLs in the cache.", stat.crls),
                ("cache_ocsp", "OCSP answers in the cache.", stat.ocsp),
                ("cache_file_bytes", "Octets of the cache's file.", stat.file_octets),
                ("cache_limit_bytes", "Octets that it can grow to.", stat.map_octets),
            ] {
                let _ = gauge(&mut page, name, help, value);
            }
        }
        page + &prometheus(&pool.metrics())
    }

    fn health(&self) -> (bool, String) {
        let Parts { pool, cache, spool, .. } = self.parts();
        let (mut is_well, mut page) = (true, String::new());
        let mut say = |part: &str, trouble: Option<String>| {
            is_well &= trouble.is_none();
            let _ = match trouble {
                Some(trouble) => writeln!(page, "{part}: FAILED: {}", trouble.replace('\n', " ")),
                None => writeln!(page, "{part}: ok"),
            };
        };
        let tokens = pool.status();
        // One that works is enough for mail; which ones do not is in the metrics.
        let troubles: Vec<String> = tokens
            .iter()
            .filter_map(|token| match &token.state {
                TokenState::Up => None,
                TokenState::Connecting => Some(format!("{} is being connected", token.label)),
                TokenState::Down { reason } => Some(reason.clone()),
                _ => Some(format!("{} is not up", token.label)),
            })
            .collect();
        let none_works = !tokens.is_empty() && troubles.len() == tokens.len();
        say("token", none_works.then(|| troubles.join("; ")));
        if let Some(cache) = cache {
            say("cache", cache.stat().err().map(|error| error.to_string()));
        }
        if let Some(spool) = spool {
            say("spool", spool.trouble());
        }
        (is_well, page)
    }
}
