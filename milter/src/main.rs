//! `hsmime-milter`: reads the configuration, starts the milter and stays until a signal ends it.
//!
//! Exit status: 0 when it was asked to stop, 2 when it could not start.

mod descriptors;
mod keys;
mod logging;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::settings::{DEFAULT_PATH, Milter, Reinject, start_pool};
use agent::{Agent, Identities, Settings, encrypts, harvester, open_cache, store_of};
use anyhow::{Context as _, Result};
use certcache::{Cache, CachedDistrust};
use clap::{Parser, Subcommand};
use hsmpool::Lane;
use lookup::{CacheStore, MemoryStore, Prefetch, RevocationStore};
use milter::{Gateway, Limits, Listener, Signals, Spool, put_aside, run_until_signalled};
use tokio::runtime::{self, Runtime};
use tracing::{error, info, warn};

/// Signs outgoing mail, decrypts and verifies incoming mail for Postfix and Sendmail.
#[derive(Debug, Parser)]
#[command(name = "hsmime-milter", version)]
struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Check the configuration, print what came out of it, and exit
    CheckConfig,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::CheckConfig) => check_config(&arguments),
        None => start(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where stderr is closed.
            let _ = writeln!(io::stderr(), "hsmime-milter: cannot start: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check_config(arguments: &Arguments) -> Result<()> {
    let (settings, milter) = load(arguments)?;
    let mut out = io::stdout().lock();
    write!(out, "{settings}")?;
    for warning in settings.warnings(SystemTime::now()) {
        writeln!(out, "warning    {warning}")?;
    }
    if let Some(warning) = milter.reinject.as_ref().and_then(undeliverable) {
        writeln!(out, "warning    {warning}")?;
    }
    Ok(out.flush()?)
}

/// What the spool has put aside.
fn undeliverable(to: &Reinject) -> Option<String> {
    match put_aside(&to.state) {
        Ok(0) => None,
        Ok(count) => {
            Some(format!("{count} copies that cannot be delivered are in {}/failed", to.state.display()))
        }
        Err(error) => Some(format!("{} cannot be read: {error}", to.state.display())),
    }
}

fn load(arguments: &Arguments) -> Result<(Settings, Milter)> {
    let settings = Settings::load(&arguments.config)?;
    logging::check(settings.log()).context("`filter` in [log] cannot be used")?;
    let milter = settings.milter().context("the configuration has no [milter] section")?.clone();
    Ok((settings, milter))
}

fn start(arguments: &Arguments) -> Result<()> {
    let (settings, milter) = load(arguments)?;
    logging::start(settings.log()).context("`filter` in [log] cannot be used")?;
    for warning in settings.warnings(SystemTime::now()) {
        warn!("{warning}");
    }
    let limits = Limits::from(&milter);
    limits.check_folder().with_context(|| {
        format!("bodies cannot be written to {} (`folder` in [limits])", limits.folder.display())
    })?;
    descriptors::make_room_for(limits.max_connections);
    let runtime = runtime(&limits)?;
    let signals = runtime.block_on(async { Signals::new() }).context("signals cannot be received")?;
    // Then the socket: a second milter started by mistake ends here and does not log in to the token.
    let listener = runtime.block_on(Listener::open(&milter.listen))?;
    let pool = start_pool(&settings, Lane::Interactive)?;
    keys::report_missing(&settings, &pool);
    let cache = cache(&settings)?;
    let kept: Box<dyn RevocationStore> = match &cache {
        Some(cache) => Box::new(CacheStore::new(Arc::clone(cache))),
        None => Box::<MemoryStore>::default(),
    };
    let mut agent = Agent::with_store(&settings, Identities::new(&settings, &pool), kept);
    if let Some(cache) = &cache {
        agent = agent.with_distrust(Arc::new(CachedDistrust::new(Arc::clone(cache))));
    }
    let harvester = cache.clone().map(|cache| harvester(&settings, cache, agent.trust())).transpose();
    let harvester = harvester.context("no thread that harvests certificates")?.flatten();
    let store = cache.map(|cache| store_of(&settings, cache, agent.trust())).transpose();
    if let Some(store) = store.context("recipients' certificates cannot be looked up")?.flatten() {
        agent = agent.with_certificates(store);
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
    // Its lock keeps a second milter from sending the same copies.
    let spool = milter.reinject.as_ref().map(|to| Spool::open(to, &milter.authserv_id)).transpose()?;
    if let Some(to) = &milter.reinject
        && let Some(warning) = undeliverable(to)
    {
        error!("{warning}");
    }
    info!(listen = %milter.listen, version = env!("CARGO_PKG_VERSION"), "started");
    match spool {
        Some(spool) => {
            let gateway = Gateway::new(agent, spool);
            runtime.block_on(run_until_signalled(signals, listener, limits, gateway));
        }
        None => runtime.block_on(run_until_signalled(signals, listener, limits, agent)),
    }
    // A treatment that never ends must not keep the process.
    runtime.shutdown_background();
    drop(prefetch);
    pool.close();
    Ok(())
}

/// The cache that all programs share. Who encrypts cannot do without; CRLs are else kept in memory.
fn cache(settings: &Settings) -> Result<Option<Arc<Cache>>> {
    match open_cache(settings) {
        Err(error) if !encrypts(settings) => {
            warn!(%error, "CRLs and OCSP responses are kept in memory only, and no senders' certificates");
            Ok(None)
        }
        opened => opened.context("the certificate cache cannot be opened"),
    }
}

/// How often CRLs are looked at that may be due to be renewed.
const PREFETCH: Duration = Duration::from_secs(30);

fn runtime(limits: &Limits) -> Result<Runtime> {
    runtime::Builder::new_multi_thread()
        // They only move octets; the work is done on blocking threads.
        .worker_threads(2)
        .max_blocking_threads(limits.workers.saturating_add(BLOCKING_OTHERS))
        .enable_all()
        .build()
        .context("no threads")
}

/// Threads for the runtime's own blocking calls, such as looking up names.
const BLOCKING_OTHERS: usize = 4;
