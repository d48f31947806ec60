//! `hsmime-milter`: reads the configuration, starts the milter and stays until a signal ends it.
//!
//! Exit status: 0 when it was asked to stop, 2 when it could not start.

mod arenas;
mod descriptors;
mod endings;
mod generation;
mod keys;
mod logging;
mod notify;
mod offers;
mod overview;
mod privileges;

use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use agent::Settings;
use agent::output::{is_written, warnings};
use agent::settings::{DEFAULT_PATH, Listen, Milter, Reinject, Warning};
use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use daemon::systemd;
use listenfd::ListenFd;
use milter::{
    Limits, Listener, Reloader, Signals, answer_requests, ask_to_reload, put_aside, run_until_signalled,
    why_not_to,
};
use tokio::runtime::{self, Runtime};
use tracing::{error, info, warn};

use crate::generation::Generation;

/// What messages begin with.
const NAME: &str = "hsmime-milter";

/// Signs outgoing mail, decrypts and verifies incoming mail for Postfix and Sendmail.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
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
    /// Have the running milter read its configuration again, and say what came of it (as SIGHUP, which says it in the
    /// log). What is wrong leaves the old one in use; exit status 2
    Reload,
}

fn main() -> ExitCode {
    arenas::one_for_each_processor();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // The help, the version, or what is wrong with the command line.
        Err(answer) => {
            let is_written = is_written(NAME, answer.print());
            return ExitCode::from(if answer.use_stderr() || !is_written { 2 } else { 0 });
        }
    };
    let (what, done) = match arguments.command {
        Some(Command::CheckConfig) => ("it would not start", check_config(&arguments)),
        Some(Command::Reload) => ("nothing was changed", reload(&arguments)),
        None => ("cannot start", start(&arguments).map(|()| String::new())),
    };
    match done {
        Ok(text) if is_written(NAME, io::stdout().write_all(text.as_bytes())) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            // Nothing is left to do where stderr is closed.
            let _ = writeln!(io::stderr(), "hsmime-milter: {what}: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn reload(arguments: &Arguments) -> Result<String> {
    let (_, milter) = load(&arguments.config)?;
    let control = milter.control.context("[milter] has no `control`: send the process SIGHUP")?;
    let asked = ask_to_reload(&control);
    let asked = asked.with_context(|| format!("no milter answers at {}", control.display()))?;
    let notes = asked.map_err(anyhow::Error::msg)?;
    Ok(format!("reloaded\n{}", warnings(notes)))
}

fn check_config(arguments: &Arguments) -> Result<String> {
    let (settings, milter) = load(&arguments.config)?;
    let of_copies =
        milter.reinject.iter().flat_map(|to| unsafe_socket(to).into_iter().chain(undeliverable(to)));
    let of_settings = settings.warnings(SystemTime::now()).into_iter().chain(settings.hints());
    Ok(format!("{settings}{}{}", warnings(of_settings), warnings(of_copies)))
}

/// Why copies would not be handed to the MTA, though it listens.
fn unsafe_socket(to: &Reinject) -> Option<String> {
    let why = why_not_to(&to.server)?;
    Some(format!("`reinject` in [milter] is not used as it is: {why}"))
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

fn load(config: &Path) -> Result<(Settings, Milter)> {
    let settings = Settings::load(config)?;
    daemon::logging::check(settings.log()).context("`filter` in [log] cannot be used")?;
    let milter = settings.milter().context("the configuration has no [milter] section")?.clone();
    Ok((settings, milter))
}

fn start(arguments: &Arguments) -> Result<()> {
    let (settings, milter) = load(&arguments.config)?;
    logging::start(settings.log()).context("`filter` in [log] cannot be used")?;
    let mut passed = ListenFd::from_env();
    privileges::drop_to(milter.user.as_deref())?;
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
    // Then the sockets: a second milter started by mistake ends here and does not log in to the token.
    let listener = match passed_listener(&mut passed, &milter.listen, &runtime)? {
        Some(listener) => listener,
        None => runtime.block_on(Listener::open(&milter.listen))?,
    };
    let control =
        milter.control.as_deref().map(|path| runtime.block_on(async { Listener::unix(path, 0o600) }));
    let control = control.transpose()?;
    if let Some(to) = &milter.reinject
        && let Some(warning) = undeliverable(to)
    {
        error!("{warning}");
    }
    let metrics = settings.metrics().map(|listen| runtime.block_on(Listener::open(listen))).transpose()?;
    let listen = milter.listen.clone();
    offers::look(&milter)?;
    let generation = Generation::start(arguments.config.clone(), settings, milter)?;
    let treat = generation.treat();
    if let Some(metrics) = metrics {
        runtime.spawn(answer_requests(metrics, Arc::new(generation.overview())));
    }
    let overview = generation.overview();
    let tell = |warning: Warning| warn!("{warning}");
    runtime.spawn(endings::watch(move || overview.endings(), ENDINGS, SystemTime::now, tell));
    let generation = Arc::new(Mutex::new(generation));
    let reloader = {
        let generation = Arc::clone(&generation);
        let reload = move || generation.lock().unwrap_or_else(PoisonError::into_inner).reload();
        Reloader::start(reload).context("no thread that reads the configuration again")?
    };
    runtime.spawn(notify::keep_alive());
    systemd::ready();
    info!(%listen, version = env!("CARGO_PKG_VERSION"), "started");
    runtime.block_on(run_until_signalled(signals, listener, limits, treat, reloader, control));
    systemd::stopping();
    // A treatment that never ends must not keep the process.
    runtime.shutdown_background();
    // Neither must a token that is being waited for.
    if let Ok(mut generation) = generation.try_lock() {
        generation.end();
    }
    Ok(())
}

/// The socket that systemd listens at for us (`sd_listen_fds(3)`): one, of the kind that the configuration names.
fn passed_listener(passed: &mut ListenFd, listen: &Listen, runtime: &Runtime) -> Result<Option<Listener>> {
    if passed.len() == 0 {
        return Ok(None);
    }
    ensure!(passed.len() == 1, "systemd passes {} sockets, and only one is used", passed.len());
    let _inside = runtime.enter();
    let listener = match listen {
        Listen::Tcp { .. } => passed.take_tcp_listener(0)?.map(Listener::of_tcp),
        Listen::Unix { .. } => passed.take_unix_listener(0)?.map(Listener::of_unix),
    };
    let listener = listener.transpose().context("the socket that systemd passes cannot be used")?;
    Ok(Some(listener.context("systemd passes no socket")?))
}

fn runtime(limits: &Limits) -> Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    runtime::Builder::new_multi_thread()
        // They move octets and treat what is small (`at_once.rs`), which is little beside what the MTA and the token do: one
        // more on two cores has the others woken for each message, and makes all of them slower.
        .worker_threads((cores / CORES_FOR_EACH).clamp(1, MOST_IO_THREADS))
        .max_blocking_threads(limits.workers.saturating_add(BLOCKING_OTHERS))
        .enable_all()
        .build()
        .context("no threads")
}

/// So many cores have one thread for the MTA's connections.
const CORES_FOR_EACH: usize = 2;
const MOST_IO_THREADS: usize = 4;

/// Threads for the runtime's own blocking calls, such as looking up names.
const BLOCKING_OTHERS: usize = 4;

/// How often it is looked whether certificates of ours end soon.
const ENDINGS: Duration = Duration::from_hours(1);
