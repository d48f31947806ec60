//! The life of the server: start, accept, read the configuration again, stop.

use std::{
    collections::HashMap,
    env,
    ffi::OsStr,
    fs,
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicBool},
    thread,
    time::{Duration, Instant, SystemTime},
};

use agent::{
    LogFormat, Settings,
    config::is_whole,
    settings::{Keyd, Log},
};
use anyhow::{Context as _, Result, ensure};
use audit::AuditLog;
use daemon::{logging, open_audit, systemd};
use hsmpool::{
    Pool,
    server::{Program, RejectedPins, Server, host_module as host},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
    low_level::pipe,
};
use tracing::{error, info, warn};

use crate::{
    door::{Credentials, Door},
    harden,
    keeper::{Clients, Keeper},
    listener::Listener,
    load,
    restraint::Restraint,
    users,
};

/// Serves until a signal asks to stop.
pub(crate) fn run(path: &Path) -> Result<()> {
    let (settings, keyd, socket) = load(path)?;
    logging::start(settings.log(), |_| true).context("`filter` in [log] cannot be used")?;
    harden::keep_memory();
    harden::make_room_for_descriptors();
    warn_of(&settings);
    let clients: Clients = Arc::new(RwLock::new(Arc::new(Door::new(&keyd)?)));
    let group = keyd.socket_group.as_deref().map(users::group).transpose()?;
    let signals = Signals::new().context("signals cannot be received")?;
    // The socket first: a second one that is started by mistake ends here and does not log in to the token.
    let listener = Listener::open(&socket, keyd.socket_mode, group)?;
    let audit = keyd.audit.as_ref().map(|to| open_audit(to, AUDIT_PATIENCE)).transpose()?.map(Arc::new);
    let state = State::new(&socket, env::var_os("STATE_DIRECTORY").as_deref());
    let pins = state.rejected_pins()?;
    let pool = Pool::in_processes(settings.tokens(), &program(settings.log()), &pins)?;
    let server = Arc::new(Server::new(pool));
    info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "started");
    let mut keeping = Keeping {
        settings,
        keyd,
        clients,
        audit,
        restraint: Arc::default(),
        pins,
        server,
        counts: Arc::default(),
        told: None,
    };
    let watchdog = systemd::watchdog();
    systemd::ready();
    loop {
        if watchdog.is_some() {
            systemd::alive();
        }
        match wait(&listener, &signals, watchdog)? {
            Event::Nothing => {}
            Event::Client => keeping.admit(&listener),
            Event::Reload => keeping.reload(path),
            Event::Stop => break,
        }
    }
    info!("stopping");
    systemd::stopping();
    // Who comes now finds nobody, and waits for the next one.
    drop(listener);
    keeping.server.stop(STOP_LIMIT);
    keeping.server.pool().close();
    info!("stopped");
    Ok(())
}

/// Serves the process that started this one.
pub(crate) fn host_module(log: &Log) -> Result<()> {
    harden::end_with_parent();
    logging::start(log, |_| true).context("`filter` in [log] cannot be used")?;
    harden::keep_memory();
    // Only the parent decides when to stop; a signal to the whole service must not cut what is under way.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(host()?)
}

/// Starts this very program, even if another file has taken its place meanwhile.
fn program(log: &Log) -> Program {
    let (format, filter) = (log.format.as_str(), log.filter.clone());
    Arc::new(move || {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("hsmime-keyd").args(["module-host", "--format", format, "--filter", &filter]);
        command
    })
}

/// The log of a module's process, from its arguments.
pub(crate) fn log(format: &str, filter: &str) -> Log {
    let format = if format == LogFormat::Json.as_str() { LogFormat::Json } else { LogFormat::Text };
    Log { format, filter: filter.to_owned() }
}

/// Files that outlive this process: in the folder that systemd keeps for it, or else beside its socket.
struct State {
    socket: PathBuf,
    folder: Option<PathBuf>,
}

impl State {
    fn new(socket: &Path, folders: Option<&OsStr>) -> Self {
        // Of several folders that systemd names, the first (systemd.exec(5)).
        let first = folders.and_then(|folders| folders.as_bytes().split(|octet| *octet == b':').next());
        let folder =
            first.filter(|folder| !folder.is_empty()).map(|folder| PathBuf::from(OsStr::from_bytes(folder)));
        Self { socket: socket.to_owned(), folder }
    }

    fn beside(&self, name: &str) -> PathBuf {
        let mut beside = self.socket.as_os_str().to_owned();
        beside.push(".");
        beside.push(name);
        PathBuf::from(beside)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.as_ref().map_or_else(|| self.beside(name), |folder| folder.join(name))
    }

    /// What was learnt about PINs before this program was started again. What is beside the socket, where such folders end
    /// with the service, goes to the folder first.
    fn rejected_pins(&self) -> Result<RejectedPins> {
        let (path, beside) = (self.file("pins"), self.beside("pins"));
        let take_over = || {
            if path != beside && !path.try_exists()? && beside.try_exists()? {
                let new = path.with_extension("new");
                fs::copy(&beside, &new)?;
                fs::File::open(&new)?.sync_all()?;
                fs::rename(new, &path)?;
                fs::remove_file(&beside)?;
            }
            RejectedPins::kept_in(&path)
        };
        take_over()
            .with_context(|| format!("which PINs were rejected cannot be read from {}", path.display()))
    }
}

/// Everything that lasts while the server runs.
struct Keeping {
    settings: Settings,
    keyd: Keyd,
    clients: Clients,
    audit: Option<Arc<AuditLog>>,
    restraint: Arc<Restraint>,
    pins: RejectedPins,
    server: Arc<Server>,
    /// Connections by user.
    counts: Arc<Mutex<HashMap<u32, usize>>>,
    /// When a refused client was told of last.
    told: Option<Instant>,
}

impl Keeping {
    fn admit(&mut self, listener: &Listener) {
        let stream = match listener.accept() {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                error!(%error, "cannot accept connections, will keep trying");
                return thread::sleep(ACCEPT_PAUSE);
            }
        };
        match self.judge(&stream) {
            Ok(peer) => self.serve(stream, peer),
            Err((reason, transient)) => {
                // Whoever comes again and again must not fill the log.
                if self.told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
                    self.told = Some(Instant::now());
                    warn!(reason, "client refused");
                }
                Server::refuse(stream, &reason, transient);
            }
        }
    }

    fn judge(&self, stream: &UnixStream) -> Result<Credentials, (String, bool)> {
        let peer = Credentials::of(stream).map_err(|error| (error.to_string(), true))?;
        let door = Arc::clone(&self.clients.read().unwrap_or_else(PoisonError::into_inner));
        if door.client(peer).is_none() {
            let (user, group) = (peer.user, peer.group);
            return Err((
                format!(
                    "user {user} of group {group} is no [[keyd.client]] of this hsmime-keyd: run it as a user who is \
                     one, or add a [[keyd.client]] for it, then systemctl reload hsmime-keyd"
                ),
                false,
            ));
        }
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (counts.values().sum::<usize>(), counts.get(&peer.user).copied().unwrap_or(0));
        // One user leaves room for others.
        let share = self.keyd.max_connections.div_ceil(4) * 3;
        if all >= self.keyd.max_connections || own >= share {
            return Err((format!("there are {all} connections, {own} of user {}", peer.user), true));
        }
        Ok(peer)
    }

    fn serve(&self, stream: UnixStream, peer: Credentials) {
        let (clients, restraint) = (Arc::clone(&self.clients), Arc::clone(&self.restraint));
        let keeper = Keeper::new(peer, clients, self.audit.clone(), restraint);
        let counted = Counted::new(&self.counts, peer.user);
        let server = Arc::clone(&self.server);
        let work = move || {
            let _counted = counted;
            if let Err(error) = server.serve(stream, Arc::new(keeper)) {
                warn!(user = peer.user, pid = peer.process, %error, "connection ended");
            }
        };
        if let Err(error) = thread::Builder::new().name("client".into()).spawn(work) {
            error!(%error, "no thread for a client");
        }
    }

    /// Reads the configuration again. What is wrong with it is told, and all stays as it was.
    fn reload(&mut self, path: &Path) {
        let loaded = load(path).and_then(|(settings, keyd, socket)| {
            let is_whole = is_whole(path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                is_whole,
                "the last line of {} has no end. Is the file whole? Then end that line",
                path.display()
            );
            let door = Door::new(&keyd)?;
            Ok((settings, keyd, socket, door))
        });
        let (settings, keyd, socket, door) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return error!("the configuration stays as it was: {error:#}"),
        };
        // What can still fail comes before anything changes.
        let pool = if settings.tokens() == self.settings.tokens() {
            None
        } else {
            match Pool::in_processes(settings.tokens(), &program(settings.log()), &self.pins) {
                Ok(pool) => Some(pool),
                Err(error) => return error!("the configuration stays as it was: {error}"),
            }
        };
        if let Some(pool) = pool {
            close_later(self.server.replace_pool(pool));
        }
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(door);
        match (&self.audit, &keyd.audit) {
            (Some(audit), Some(to)) => {
                if let Err(error) = audit.reopen(to) {
                    error!(path = %to.path.display(), %error, "the audit stays in its old file");
                }
            }
            (None, None) => {}
            _ => warn!("whether there is an audit is decided at the start only: restart"),
        }
        let same_socket = self.settings.pool_socket() == Some(socket.as_path())
            && self.keyd.socket_mode == keyd.socket_mode
            && self.keyd.socket_group == keyd.socket_group;
        if !same_socket || self.settings.log() != settings.log() {
            warn!("socket and log are set up at the start only: restart");
        }
        warn_of(&settings);
        info!("configuration read again");
        (self.settings, self.keyd) = (settings, keyd);
    }
}

/// Tells what an administrator should know of a configuration that is taken.
fn warn_of(settings: &Settings) {
    for warning in settings.warnings(SystemTime::now()) {
        warn!("{warning}");
    }
}

/// What was asked of a pool before it was replaced has some time to end.
fn close_later(pool: Pool) {
    let close = move || {
        thread::sleep(REPLACE_GRACE);
        pool.close();
    };
    if let Err(error) = thread::Builder::new().name("old-tokens".into()).spawn(close) {
        warn!(%error, "no thread to let the old tokens end their work");
    }
}

/// A connection, counted as long as this lives.
struct Counted {
    counts: Arc<Mutex<HashMap<u32, usize>>>,
    user: u32,
}

impl Counted {
    fn new(counts: &Arc<Mutex<HashMap<u32, usize>>>, user: u32) -> Self {
        *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(user).or_default() += 1;
        Self { counts: Arc::clone(counts), user }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

/// Signals, as octets in sockets that can be waited for.
struct Signals {
    stop: UnixStream,
    reload: UnixStream,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let (reload, reloaded) = UnixStream::pair()?;
        pipe::register(SIGINT, stopped.try_clone()?)?;
        pipe::register(SIGTERM, stopped)?;
        pipe::register(SIGHUP, reloaded)?;
        stop.set_nonblocking(true)?;
        reload.set_nonblocking(true)?;
        Ok(Self { stop, reload })
    }
}

enum Event {
    Nothing,
    Client,
    Reload,
    Stop,
}

fn wait(listener: &Listener, signals: &Signals, limit: Option<Duration>) -> Result<Event> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    loop {
        let mut watched = [
            PollFd::new(&signals.stop, PollFlags::IN),
            PollFd::new(&signals.reload, PollFlags::IN),
            PollFd::new(listener.socket(), PollFlags::IN),
        ];
        match poll(&mut watched, limit.as_ref()) {
            Ok(0) => return Ok(Event::Nothing),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for clients"),
        }
        let [stop, reload, client] = watched.map(|watched| !watched.revents().is_empty());
        if stop {
            return Ok(Event::Stop);
        }
        if reload {
            // However often it was asked for.
            let _ = (&signals.reload).read(&mut [0; 64]);
            return Ok(Event::Reload);
        }
        if client {
            return Ok(Event::Client);
        }
    }
}

/// How long requests under way may take when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(25);
/// How long another keeper that is ending may still write to the audit.
const AUDIT_PATIENCE: Duration = Duration::from_secs(30);
/// How long tokens that are not configured any more may finish their work.
const REPLACE_GRACE: Duration = Duration::from_secs(2);
/// After an error of accept: no descriptor is left, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a refused client is told of in the log.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
