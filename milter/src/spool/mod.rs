//! Copies that were promised to the MTA and are not handed back yet, on disk.
//!
//! A copy is written and synced before the MTA gets its answer ([`Spool::prepare`]), is sent once the answer is given
//! ([`Prepared::commit`]), and taken away if there is none. `sender.rs` sends, `entry.rs` says what is in a file,
//! `marker.rs` how a copy of ours is known again.
//!
//! After a crash nobody knows whether the answer of a prepared copy reached the MTA. It is sent, because a copy that is
//! lost is worse than one too many; and if the client sends that message again, because there was no answer, it is
//! known by [`Identity`] and gets no second copy.

mod entry;
mod marker;
mod sender;
mod smtp;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    time::{Duration, SystemTime},
};

use agent::{Copy, Envelope};
use rustix::fs::{FlockOperation, flock};
use smime::mime::Message;
use tracing::{info, warn};

pub(crate) use entry::Entry;
pub(crate) use marker::FIELD as MARKER;
use marker::Key;

/// The folder with the copies, and who sends them.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    key: Key,
    /// Numbers the entries of this process.
    count: AtomicU64,
    waiting: Arc<AtomicUsize>,
    wake: Sender<()>,
    /// Held as long as this lives: two spools in one folder would send everything twice.
    _lock: File,
}

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("spool {}: {reason}", path.display())]
pub struct SpoolError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system says.
    pub reason: io::Error,
}

/// What a message is known by when it comes again.
type Identity = String;

/// Copies of one message, written down. They are taken away again unless they are committed.
#[derive(Debug)]
pub struct Prepared {
    spool: Arc<Spool>,
    written: Vec<PathBuf>,
    /// Copies of the same message whose answer was lost in a crash; with the commit they are forgotten.
    doubtful: Vec<PathBuf>,
}

/// Written, and the answer is not given.
const PREPARED: &str = "new";
/// To be sent.
const READY: &str = "ready";
/// To be sent, and remembered then: the answer may not have been given.
const DOUBTFUL: &str = "doubtful";
/// Sent, and remembered.
const SENT: &str = "sent";
/// How long a copy is remembered for a client that tries again; MTAs give up after five days.
const MEMORY: Duration = Duration::from_hours(6 * 24);
/// How many copies may wait; with more, mail that needs copies is deferred.
const MAX_WAITING: usize = 10_000;

impl Spool {
    /// Opens the folder, makes it if need be, and begins to send what is in it to an SMTP server.
    pub fn open(folder: &Path, host: &str, port: u16) -> Result<Arc<Self>, SpoolError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |reason| SpoolError { path, reason }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail(folder))?;
        let lock = folder.join("lock");
        let held = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let held = held.map_err(fail(&lock))?;
        flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|error| fail(&lock)(error.into()))?;
        let key = Key::load(&folder.join("marker.key")).map_err(fail(&folder.join("marker.key")))?;
        let waiting = recover(folder).map_err(fail(folder))?;
        let waiting = Arc::new(AtomicUsize::new(waiting));
        let (wake, woken) = channel();
        let sender = sender::Sender::new(folder.to_owned(), host, port, Arc::clone(&waiting));
        std::thread::Builder::new()
            .name("reinject".to_owned())
            .spawn(move || sender.run(&woken))
            .map_err(fail(folder))?;
        let spool =
            Self { folder: folder.to_owned(), key, count: AtomicU64::new(0), waiting, wake, _lock: held };
        Ok(Arc::new(spool))
    }

    /// Whether a message is a copy that this spool sent.
    pub(crate) fn is_ours(&self, envelope: &Envelope, message: &Message) -> bool {
        let entity = message.entity();
        let header = entity.header();
        let mut markers = header.all(MARKER);
        match (markers.next(), markers.next()) {
            (Some(marker), None) => {
                let marker = marker.unfolded();
                self.key.verifies(marker.trim(), &envelope.sender, &envelope.recipients, message.body())
            }
            _ => false,
        }
    }

    /// Writes copies of a message down. When this returns they are on the disk.
    pub(crate) fn prepare(
        self: &Arc<Self>,
        envelope: &Envelope,
        original: &Identity,
        copies: Vec<Copy>,
    ) -> Result<Prepared, SpoolError> {
        let mut prepared =
            Prepared { spool: Arc::clone(self), written: Vec::new(), doubtful: self.doubtful(original)? };
        if !prepared.doubtful.is_empty() {
            return Ok(prepared);
        }
        if self.waiting.load(Ordering::Relaxed).saturating_add(copies.len()) > MAX_WAITING {
            let reason = io::Error::other(format!("{MAX_WAITING} copies wait already"));
            return Err(SpoolError { path: self.folder.clone(), reason });
        }
        for mut copy in copies {
            // What SMTP would add is covered by the marker too.
            if !copy.octets.ends_with(b"\r\n") {
                copy.octets.extend_from_slice(b"\r\n");
            }
            let entry = Entry { sender: envelope.sender.clone(), recipients: copy.recipients };
            let marker = self.key.marker(&entry.sender, &entry.recipients, body_of(&copy.octets));
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let name = format!("{original}-{:x}-{number}", since.as_nanos());
            let path = self.folder.join(format!("{name}.{PREPARED}"));
            let fail = |reason| SpoolError { path: path.clone(), reason };
            // Before the first octet is there, so that whatever is written is taken away again.
            prepared.written.push(path.clone());
            let mut file =
                OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).map_err(fail)?;
            entry.write(&marker, &copy.octets, &mut file).map_err(fail)?;
            file.sync_all().map_err(fail)?;
        }
        self.sync()?;
        Ok(prepared)
    }

    /// What a message is known by when it comes again. One that has no Message-ID cannot be told from another that
    /// says the same.
    pub(crate) fn identify(&self, envelope: &Envelope, message: &Message) -> Identity {
        let has_id = message.entity().header().all("Message-ID").next().is_some();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let salt = if has_id { String::new() } else { format!("{:?} {number}", SystemTime::now()) };
        self.key.identity(&salt, &envelope.sender, &envelope.recipients, message.octets())
    }

    /// The copies of the same message whose answer was lost.
    fn doubtful(&self, original: &Identity) -> Result<Vec<PathBuf>, SpoolError> {
        let fail = |reason| SpoolError { path: self.folder.clone(), reason };
        let mut found = Vec::new();
        for path in files(&self.folder).map_err(fail)? {
            let is_of_it = path.file_name().is_some_and(|name| {
                name.to_string_lossy().strip_prefix(original).is_some_and(|rest| rest.starts_with('-'))
            });
            if is_of_it && (has(&path, DOUBTFUL) || has(&path, SENT)) {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn sync(&self) -> Result<(), SpoolError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|reason| SpoolError { path: self.folder.clone(), reason })
    }
}

impl Prepared {
    /// Has the copies sent. To be called when the MTA has all but the answer.
    pub(crate) fn commit(mut self) -> Result<(), SpoolError> {
        let fail = |path: &Path, reason| SpoolError { path: path.to_owned(), reason };
        for path in std::mem::take(&mut self.written) {
            self.spool.waiting.fetch_add(1, Ordering::Relaxed);
            // If this fails the copy is in doubt: it stays, and is sent after a restart.
            fs::rename(&path, path.with_extension(READY)).map_err(|reason| fail(&path, reason))?;
        }
        for path in std::mem::take(&mut self.doubtful) {
            let done = if has(&path, SENT) {
                fs::remove_file(&path)
            } else {
                fs::rename(&path, path.with_extension(READY))
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // It was sent in this very moment.
                    fs::remove_file(path.with_extension(SENT)).map_err(|reason| fail(&path, reason))?;
                }
                done => done.map_err(|reason| fail(&path, reason))?,
            }
        }
        self.spool.sync()?;
        // Without a thread that sends, the copies wait for the next start.
        let _ = self.spool.wake.send(());
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for path in &self.written {
            if let Err(reason) = fs::remove_file(path)
                && reason.kind() != io::ErrorKind::NotFound
            {
                warn!(path = %path.display(), %reason, "a copy that is not to be sent stays in the spool");
            }
        }
    }
}

/// Finds out what the last process left behind. Returns how many copies wait.
fn recover(folder: &Path) -> io::Result<usize> {
    let (mut waiting, mut in_doubt) = (0, 0);
    for path in files(folder)? {
        if has(&path, PREPARED) {
            // One that was not written to its end was not answered either.
            if Entry::read(&path).is_ok() {
                fs::rename(&path, path.with_extension(DOUBTFUL))?;
                waiting += 1;
                in_doubt += 1;
            } else {
                fs::remove_file(&path)?;
            }
        } else if has(&path, READY) || has(&path, DOUBTFUL) {
            waiting += 1;
        } else if has(&path, SENT) {
            let age = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
            if age > MEMORY {
                fs::remove_file(&path)?;
            }
        }
    }
    if waiting > 0 {
        info!(waiting, in_doubt, "copies of an earlier run are sent");
    }
    Ok(waiting)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

fn has(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// What follows the empty line.
fn body_of(octets: &[u8]) -> &[u8] {
    let end = octets.windows(4).position(|window| window == b"\r\n\r\n");
    end.and_then(|end| octets.get(end + 4..)).unwrap_or_default()
}

/// Writes a new file with its octets on the disk, or leaves the one that is there.
fn write_new(path: &Path, octets: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests;
