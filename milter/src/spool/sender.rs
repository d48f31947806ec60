//! The thread that hands copies back to the MTA, one after the other, each until it is taken.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{DOUBTFUL, Entry, READY, SENT, files, has, smtp};

/// Sends what is in the spool.
pub(super) struct Sender {
    folder: PathBuf,
    host: String,
    port: u16,
    waiting: Arc<AtomicUsize>,
}

/// When an entry is tried again.
#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    len: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

impl Sender {
    pub(super) fn new(folder: PathBuf, host: &str, port: u16, waiting: Arc<AtomicUsize>) -> Self {
        Self { folder, host: host.to_owned(), port, waiting }
    }

    /// Sends until the spool is dropped.
    pub(super) fn run(self, woken: &Receiver<()>) {
        let mut pauses: HashMap<PathBuf, Pause> = HashMap::new();
        loop {
            let next = self.send_due(&mut pauses);
            match woken.recv_timeout(next) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => while woken.try_recv().is_ok() {},
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tries what is due. Returns when to look again.
    fn send_due(&self, pauses: &mut HashMap<PathBuf, Pause>) -> Duration {
        let mut paths = match files(&self.folder) {
            Ok(paths) => paths,
            Err(reason) => {
                error!(path = %self.folder.display(), %reason, "the spool cannot be read");
                return LONGEST_PAUSE;
            }
        };
        paths.retain(|path| has(path, READY) || has(path, DOUBTFUL));
        paths.sort();
        pauses.retain(|path, _| paths.contains(path));
        for path in paths {
            if pauses.get(&path).is_some_and(|pause| pause.until > Instant::now()) {
                continue;
            }
            match self.send(&path) {
                Ok(()) => {
                    pauses.remove(&path);
                }
                Err(reason) => {
                    let len =
                        pauses.get(&path).map_or(FIRST_PAUSE, |pause| (pause.len * 2).min(LONGEST_PAUSE));
                    warn!(path = %path.display(), reason, pause_s = len.as_secs(), "a copy is not taken yet");
                    pauses.insert(path, Pause { until: Instant::now() + len, len });
                }
            }
        }
        let next = pauses.values().map(|pause| pause.until.saturating_duration_since(Instant::now())).min();
        next.unwrap_or(LONGEST_PAUSE)
    }

    fn send(&self, path: &Path) -> Result<(), String> {
        let (entry, message) = match Entry::read(path) {
            Ok(read) => read,
            // Its name has just changed; the next look finds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        smtp::send(&self.host, self.port, &entry, &message)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        info!(recipients = entry.recipients.len(), octets = message.len(), "a copy was handed back");
        let done = if has(path, DOUBTFUL) {
            let sent = path.with_extension(SENT);
            fs::rename(path, &sent).and_then(|()| {
                // Without its text, which nobody needs any more.
                OpenOptions::new().write(true).truncate(true).open(&sent).map(drop)
            })
        } else {
            fs::remove_file(path)
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A commit has just made it ready.
                let renamed = path.with_extension(READY);
                fs::remove_file(&renamed).map_err(|error| format!("{}: {error}", renamed.display()))
            }
            done => done.map_err(|error| format!("it was taken, and cannot be removed: {error}")),
        }
    }
}
