//! What the configuration makes of the milter: at the start, and again each time it is read.
//!
//! All that is made of a new one is made before anything of the old one ends. Tokens and cache are kept where the
//! configuration says nothing else of them; what belongs to the process (sockets, limits, spool, log) stays.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use agent::config::is_whole;
use agent::settings::{IdentitySettings, Milter, start_pool};
use agent::{Agent, AuditedKey, Envelope, Identities, Settings, harvester, open_cache, store_of};
use anyhow::{Context as _, Result, bail};
use audit::AuditLog;
use certcache::{Cache, CachedDistrust, Sweeper};
use daemon::open_audit;
use hsmpool::{Lane, Pool};
use lookup::{CacheStore, MemoryStore, Prefetch, RevocationStore};
use milter::{Gateway, Limits, Meter, Reloaded, Replaceable, Spool, Treat};
use smime::Fault;
use smime::key::{KeyError, SignatureInput, Signer as _};
use tracing::{info, warn};

use crate::overview::{Overview, Parts};
use crate::{keys, load, offers};

/// The milter as it runs.
#[derive(Debug)]
pub(crate) struct Generation {
    path: PathBuf,
    /// The present configuration, and the section that the process was started with.
    settings: Settings,
    started: Milter,
    pool: Pool,
    cache: Option<Arc<Cache>>,
    spool: Option<Arc<Spool>>,
    audit: Option<Arc<AuditLog>>,
    prefetch: Option<Prefetch>,
    sweeper: Option<Sweeper>,
    treat: Replaceable,
    overview: Overview,
}

impl Generation {
    /// The first.
    pub(crate) fn start(path: PathBuf, settings: Settings, milter: Milter) -> Result<Self> {
        let cache = cache(&settings)?;
        // Its lock keeps a second milter from sending the same copies.
        let spool = milter.reinject.as_ref().map(|to| Spool::open(to, &milter.authserv_id)).transpose()?;
        if let Some(spool) = &spool {
            spool.send_opened_from(milter.opened_mail_sender.as_ref());
        }
        let audit = milter.audit.as_ref().map(|to| open_audit(to, AUDIT_PATIENCE)).transpose()?.map(Arc::new);
        let most = milter.max_message_bytes;
        let (agent, prefetch) = agent(&settings, most, cache.as_ref(), audit.as_ref())?;
        let sweeper = sweeper(cache.as_ref())?;
        // After all that may fail: vendors' modules do not like it if the process ends while they begin, and each start tries the
        // PIN once.
        let pool = start_pool(&settings, Lane::Interactive)?;
        keys::report_missing(&settings, &pool);
        let treat = treatment(&settings, agent, &pool, spool.as_ref());
        let meter = Arc::new(Meter::default());
        let treat = Replaceable::new(treat, Arc::clone(&meter));
        let endings = settings.endings().into();
        let parts = Parts { pool: pool.clone(), cache: cache.clone(), spool: spool.clone(), endings };
        let overview = Overview::new(meter, parts);
        Ok(Self {
            path,
            settings,
            started: milter,
            pool,
            cache,
            spool,
            audit,
            prefetch,
            sweeper,
            treat,
            overview,
        })
    }

    /// What is done with messages, now and after each reading.
    pub(crate) fn treat(&self) -> Replaceable {
        self.treat.clone()
    }

    /// What is told of it, now and after each reading.
    pub(crate) fn overview(&self) -> Overview {
        self.overview.clone()
    }

    /// Reads the configuration again. In doubt all stays as it was.
    pub(crate) fn reload(&mut self) -> Reloaded {
        let read = self.try_reload();
        self.overview.meter().reloaded(read.is_ok());
        let notes = read.map_err(|error| format!("{error:#}"))?;
        for note in &notes {
            warn!("{note}");
        }
        Ok(notes)
    }

    fn try_reload(&mut self) -> Result<Vec<String>> {
        let (settings, milter) = load(&self.path)?;
        let path = self.path.display();
        if !is_whole(&self.path).with_context(|| format!("cannot read the configuration {path}"))? {
            bail!("the last line of {path} has no end. Is the file whole? Then end that line");
        }
        if settings.rules().is_empty() && !self.settings.rules().is_empty() {
            bail!(
                "no [[rule]] is left of {}: all mail would leave as it is. Is the file whole? Restart if it is meant",
                self.settings.rules().len()
            );
        }
        if self.spool.is_some() && milter.authserv_id != self.started.authserv_id {
            // What marks a copy as ours covers the fields under this name.
            bail!(
                "another `authserv-id` in [milter]: copies on their way carry the old one; restart for the new one"
            );
        }
        if self.spool.is_none() && milter.reinject.is_some() {
            // Rules that need copies would be in place, and nobody to send them.
            bail!("`reinject` in [milter] is new: copies are sent only after a restart; restart for it");
        }
        let unknown_offers = self.may_lose_opened_sender(&milter)?;
        let same_tokens = settings.tokens() == self.settings.tokens()
            && settings.pool_socket() == self.settings.pool_socket();
        let replaced = if same_tokens { None } else { Some(connected(&settings)?) };
        let pool = replaced.as_ref().unwrap_or(&self.pool);
        let prepared = self.prepare(&settings, pool, replaced.is_some());
        let (cache, treat, prefetch, sweeper) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                replaced.iter().for_each(Pool::close);
                return Err(error);
            }
        };
        // From here on nothing fails.
        let mut notes: Vec<String> =
            settings.warnings(SystemTime::now()).iter().map(ToString::to_string).collect();
        notes.extend(self.left_as_it_was(&settings, &milter));
        notes.extend(self.cache_note(&settings));
        notes.extend(unknown_offers);
        self.treat.replace(treat);
        if let Some(spool) = &self.spool {
            spool.send_opened_from(milter.opened_mail_sender.as_ref());
        }
        self.prefetch = prefetch;
        self.sweeper = sweeper;
        self.cache = cache;
        self.settings = settings;
        if let Some(pool) = replaced {
            let old = std::mem::replace(&mut self.pool, pool);
            close_later(old, Limits::from(&self.started).deadline);
        }
        let (pool, cache, spool) = (self.pool.clone(), self.cache.clone(), self.spool.clone());
        let endings = self.settings.endings().into();
        self.overview.now(Parts { pool, cache, spool, endings });
        Ok(notes)
    }

    fn prepare(&self, settings: &Settings, pool: &Pool, other_tokens: bool) -> Result<Prepared> {
        let known = |identity: &IdentitySettings| {
            let before = self.settings.identities().iter();
            !other_tokens && before.map(|one| &one.certificate).any(|one| *one == identity.certificate)
        };
        for identity in settings.identities().iter().filter(|identity| !known(identity)) {
            has_key(pool, identity, self.audit.as_deref())?;
        }
        let cache = if settings.cache() == self.settings.cache() {
            self.cache.clone()
        } else {
            another_cache(settings)?
        };
        let most = self.started.max_message_bytes;
        let (agent, prefetch) = agent(settings, most, cache.as_ref(), self.audit.as_ref())?;
        let treat = treatment(settings, agent, pool, self.spool.as_ref());
        let sweeper = sweeper(cache.as_ref())?;
        Ok((cache, treat, prefetch, sweeper))
    }

    /// Refuses to do without the `opened-mail-sender` of before where copies of what is opened would then wait until they are
    /// returned; a note where that is not known.
    fn may_lose_opened_sender(&self, milter: &Milter) -> Result<Option<String>> {
        let before = self.settings.milter().and_then(|milter| milter.opened_mail_sender.as_ref());
        if self.spool.is_none() || before.is_none() || milter.opened_mail_sender.is_some() {
            return Ok(None);
        }
        match offers::would_wait(&self.started)? {
            Some(false) => Ok(None),
            Some(true) => bail!(
                "`opened-mail-sender` in [milter] is gone, and {}, so copies of mail that was decrypted, or could have been, \
                 would wait: {}",
                offers::MISSING,
                offers::MEND
            ),
            None => Ok(Some(
                "`opened-mail-sender` in [milter] is gone, and the server at `reinject` does not answer: if it offers no DSN, \
                 copies of mail that was decrypted, or could have been, wait"
                    .to_owned(),
            )),
        }
    }

    /// Whom a cache distrusts is known as long as it is used.
    fn cache_note(&self, settings: &Settings) -> Option<String> {
        let old = self.settings.cache().filter(|_| settings.cache() != self.settings.cache())?.display();
        let new = settings.cache().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        Some(format!(
            "the certificate cache is {new} now, with its rules of distrust; that in {old} is not used"
        ))
    }

    /// What is set up at the start only, and would be otherwise now.
    fn left_as_it_was(&self, settings: &Settings, milter: &Milter) -> Vec<String> {
        let started = &self.started;
        [
            (milter.listen != started.listen, "`listen` in [milter]"),
            (milter.control != started.control, "`control` in [milter]"),
            (milter.user != started.user, "`user` in [milter]"),
            (Limits::from(milter) != Limits::from(started), "limits of connections, messages and workers"),
            (milter.audit != started.audit, "`audit` and its limits in [milter]"),
            (milter.reinject != started.reinject, "`reinject` and `state` in [milter]"),
            (settings.log() != self.settings.log(), "[log]"),
            (settings.metrics() != self.settings.metrics(), "[metrics]"),
        ]
        .into_iter()
        .filter(|(differs, _)| *differs)
        .map(|(_, what)| format!("{what}: set up at the start only; restart for the new value"))
        .collect()
    }

    /// Ends what has threads of its own.
    pub(crate) fn end(&mut self) {
        self.prefetch = None;
        self.sweeper = None;
        self.pool.close();
    }
}

/// What is made of a new configuration before the old one ends.
type Prepared = (Option<Arc<Cache>>, Arc<dyn Treat>, Option<Prefetch>, Option<Sweeper>);

/// Other tokens. At the start mail waits for one that is down; here the old ones are better.
fn connected(settings: &Settings) -> Result<Pool> {
    let pool = start_pool(settings, Lane::Interactive)?;
    if let Err(error) = pool.ready(CONNECT_LIMIT) {
        pool.close();
        return Err(error).context("the new tokens cannot be used");
    }
    Ok(pool)
}

/// Whether a token has the key of an identity. One that has lost its connection keeps no other settings away.
fn has_key(pool: &Pool, identity: &IdentitySettings, audit: Option<&AuditLog>) -> Result<()> {
    let certificate = &identity.certificate;
    let key = pool.key(certificate);
    let doubt: Box<dyn Error> = if let Some(algorithm) = key.algorithms().first().copied()
        && certificate.may_sign()
    {
        // It is for no message, which the audit tells by its having no queue id.
        let nobody = Envelope::default();
        let audited = AuditedKey::new(&key, &key, audit, &nobody);
        let until = Instant::now() + SEARCH_LIMIT;
        let input = SignatureInput::of(algorithm, b"hsmime-milter reads its configuration");
        loop {
            // A use of the key has it searched for, if it is new; not every time, so that it takes some patience.
            match audited.sign(&input, algorithm) {
                Ok(_) => return Ok(()),
                Err(KeyError::NoSuchKey { .. }) if Instant::now() < until => thread::sleep(SEARCH_PAUSE),
                Err(error) if error.fault() == Fault::Operator => {
                    return Err(error).context("an identity is of no use");
                }
                Err(error) => break error.into(),
            }
        }
    } else {
        match pool.missing_keys([certificate], CONNECT_LIMIT) {
            Ok(missing) if !missing.is_empty() => bail!("no token has the key of {certificate}"),
            Ok(_) => return Ok(()),
            Err(error) => error.into(),
        }
    };
    warn!(%certificate, error = %doubt, "whether a token has the key of this identity is not known");
    Ok(())
}

/// Who treats messages, without keys yet. `most` octets of a message are what this process takes, also after another reading.
fn agent(
    settings: &Settings,
    most: usize,
    cache: Option<&Arc<Cache>>,
    audit: Option<&Arc<AuditLog>>,
) -> Result<(Agent, Option<Prefetch>)> {
    let kept: Box<dyn RevocationStore> = match cache {
        Some(cache) => Box::new(CacheStore::new(Arc::clone(cache))),
        None => Box::<MemoryStore>::default(),
    };
    let agent = Agent::with_store(settings, Identities::default(), kept);
    // Who sent ciphertext would learn whether it opened from a copy that is too large to come back.
    let mut agent = agent.with_max_message_octets(most);
    if let Some(cache) = cache {
        agent = agent.with_distrust(Arc::new(CachedDistrust::new(Arc::clone(cache))));
    }
    let harvester = cache.cloned().map(|cache| harvester(settings, cache, agent.trust())).transpose();
    let harvester = harvester.context("no thread that harvests certificates")?.flatten();
    let store = cache.cloned().map(|cache| store_of(settings, cache, agent.trust())).transpose();
    if let Some(store) = store.context("recipients' certificates cannot be looked up")?.flatten() {
        agent = agent.with_certificates(store);
    }
    if let Some(audit) = audit {
        agent = agent.with_audit(Arc::clone(audit));
    }
    if let Some(harvester) = harvester {
        agent = agent.with_harvester(harvester);
    }
    let prefetch = agent.fetcher().map(|fetcher| {
        let trust = agent.trust();
        let issuers = trust.anchors.iter().chain(&trust.intermediates).cloned().collect();
        Prefetch::start(Arc::clone(fetcher), issuers, PREFETCH)
    });
    let prefetch = prefetch.transpose().context("no thread that renews CRLs")?;
    Ok((agent, prefetch))
}

/// What is done with messages, with the keys of this pool.
fn treatment(settings: &Settings, agent: Agent, pool: &Pool, spool: Option<&Arc<Spool>>) -> Arc<dyn Treat> {
    let agent = agent.with_keys_of(Identities::new(settings, pool));
    match spool {
        Some(spool) => Arc::new(Gateway::new(agent, Arc::clone(spool))),
        None => Arc::new(agent),
    }
}

/// Who sweeps the cache, once a day.
fn sweeper(cache: Option<&Arc<Cache>>) -> Result<Option<Sweeper>> {
    let started = cache.cloned().map(|cache| {
        Sweeper::start(cache, |swept| match swept {
            Ok(entries) => info!(entries, "swept the cache"),
            Err(error) => warn!(%error, "the cache cannot be swept"),
        })
    });
    started.transpose().context("no thread that sweeps the cache")
}

/// The cache that all programs share. One that is configured is needed: it says whom an administrator distrusts.
fn cache(settings: &Settings) -> Result<Option<Arc<Cache>>> {
    open_cache(settings).context("the certificate cache cannot be opened")
}

/// A cache in the place of the present one. One that would have to be made is a mistyped path rather than what is
/// wanted: whom the present one distrusts, and to whom mail is encrypted, would not be known any more.
fn another_cache(settings: &Settings) -> Result<Option<Arc<Cache>>> {
    if let Some(path) = settings.cache()
        && !Cache::is_at(path)
    {
        bail!(
            "there is no certificate cache at {} (`path` in [cache]); a new one is made by `hsmime cache stat` or a \
             restart",
            path.display()
        );
    }
    cache(settings)
}

/// Messages that began with the old tokens have as long as a message may take.
fn close_later(pool: Pool, grace: Duration) {
    let close = move || {
        thread::sleep(grace);
        pool.close();
    };
    if let Err(error) = thread::Builder::new().name("old-tokens".into()).spawn(close) {
        warn!(%error, "no thread to let the old tokens end their work");
    }
}

/// How long another milter that is ending may still write to the audit.
const AUDIT_PATIENCE: Duration = Duration::from_secs(3);
/// How often CRLs are looked at that may be due to be renewed.
const PREFETCH: Duration = Duration::from_secs(30);
/// How long tokens may take to answer while the old configuration works.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long a key is searched for: longer than the pool lets pass between two searches.
const SEARCH_LIMIT: Duration = Duration::from_secs(12);
const SEARCH_PAUSE: Duration = Duration::from_millis(500);
