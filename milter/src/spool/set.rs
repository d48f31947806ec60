//! The copies of one message in a folder of their own, which has one name at a time: `open` while they are written,
//! `sealed` once all of them are on the disk, `ready` once they may be sent. Each step is one rename, for all of them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use tracing::warn;

use super::{Entry, SpoolError};

/// The sets of a spool.
#[derive(Debug)]
pub(super) struct Sets {
    folder: PathBuf,
    /// Numbers the sets of this process.
    count: AtomicU64,
    /// How many copies are ready.
    waiting: AtomicUsize,
}

/// A set that is on the disk from its first copy to its last. It is taken away again unless it is released.
#[derive(Debug)]
pub(super) struct Sealed {
    folder: PathBuf,
    path: Option<PathBuf>,
    copies: usize,
}

/// A set that is being written. It is taken away again unless it is sealed.
#[derive(Debug)]
pub(super) struct Open(Sealed);

/// What went wrong with a release.
#[derive(Debug)]
pub(super) enum Held {
    /// The set is taken away.
    Back(SpoolError),
    /// The set is sent, though a power cut may undo that.
    Unsynced(SpoolError),
}

impl From<Held> for SpoolError {
    fn from(held: Held) -> Self {
        match held {
            Held::Back(error) | Held::Unsynced(error) => error,
        }
    }
}

/// Being written.
pub(super) const OPEN: &str = "tmp";
/// Written whole, and on its way to be removed: a word before the last part of the name.
const HELD: &str = "held";
/// Written whole, and not to be sent.
pub(super) const SEALED: &str = "new";
/// To be sent.
pub(super) const READY: &str = "ready";

impl Open {
    /// How many copies there are.
    pub(super) fn copies(&self) -> usize {
        self.0.copies
    }

    /// Writes a copy. When this returns it is on the disk.
    pub(super) fn add(&mut self, entry: &Entry, octets: &[u8]) -> Result<(), SpoolError> {
        let Some(open) = &self.0.path else { return Ok(()) };
        let written = write(&open.join(self.0.copies.to_string()), entry, octets);
        written.map_err(|reason| SpoolError { path: open.clone(), reason })?;
        self.0.copies += 1;
        Ok(())
    }

    /// Takes the set away again, once it is on the disk and has another name, as those that stay; what a crash leaves of it is dropped.
    pub(super) fn forget(self) -> Result<(), SpoolError> {
        let Self(mut held) = self;
        let Some(open) = held.path.clone() else { return Ok(()) };
        let fail = |reason| SpoolError { path: open.clone(), reason };
        sync(&open).map_err(fail)?;
        let path = open.with_extension(format!("{HELD}.{OPEN}"));
        fs::rename(&open, &path).map_err(fail)?;
        held.path = Some(path);
        sync(&held.folder).map_err(fail)
    }

    /// Ends the set. When this returns it is on the disk.
    pub(super) fn seal(self) -> Result<Sealed, SpoolError> {
        let Self(mut sealed) = self;
        let Some(open) = sealed.path.clone() else { return Ok(sealed) };
        let fail = |reason| SpoolError { path: open.clone(), reason };
        sync(&open).map_err(fail)?;
        let path = open.with_extension(SEALED);
        fs::rename(&open, &path).map_err(fail)?;
        sealed.path = Some(path);
        sync(&sealed.folder).map_err(fail)?;
        Ok(sealed)
    }
}

impl Sets {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), count: AtomicU64::new(0), waiting: AtomicUsize::new(0) }
    }

    /// A number that this process has not given yet.
    pub(super) fn number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Begins a set.
    pub(super) fn open(&self, identity: &str) -> Result<Open, SpoolError> {
        let path = self.path_of(identity, OPEN);
        // Before the first octet is there, so that whatever is written is taken away again.
        let open = Open(Sealed { folder: self.folder.clone(), path: Some(path.clone()), copies: 0 });
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|reason| SpoolError { path, reason })?;
        Ok(open)
    }

    /// Where a new set is.
    fn path_of(&self, identity: &str, end: &str) -> PathBuf {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.folder.join(format!("{identity}-{:x}-{}.{end}", since.as_nanos(), self.number()))
    }

    /// Has a copy sent that is in another folder of the spool: it is there or, at once, in a set of its own.
    pub(super) fn take_up(&self, identity: &str, copy: &Path) -> io::Result<()> {
        let set = self.path_of(identity, READY);
        DirBuilder::new().mode(0o700).create(&set)?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = fs::rename(copy, set.join("0")) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let _ = fs::remove_dir(&set);
            return Err(error);
        }
        sync(&set)?;
        sync(&self.folder)
    }

    /// Has a set sent.
    pub(super) fn release(&self, mut sealed: Sealed) -> Result<(), Held> {
        let Some(path) = sealed.path.clone() else { return Ok(()) };
        let fail = |reason| SpoolError { path: path.clone(), reason };
        self.waiting.fetch_add(sealed.copies, Ordering::Relaxed);
        if let Err(reason) = fs::rename(&path, path.with_extension(READY)) {
            self.waiting.fetch_sub(sealed.copies, Ordering::Relaxed);
            return Err(Held::Back(fail(reason)));
        }
        sealed.path = None;
        sync(&self.folder).map_err(|reason| Held::Unsynced(fail(reason)))
    }

    /// The copies that are to be sent, oldest sets of a message first.
    pub(super) fn ready(&self) -> io::Result<Vec<PathBuf>> {
        let mut copies = Vec::new();
        for set in files(&self.folder)?.iter().filter(|path| has(path, READY)) {
            copies.extend(files(set)?.into_iter().filter(|path| path.extension().is_none()));
        }
        copies.sort_by_cached_key(|path| (since(path), path.clone()));
        Ok(copies)
    }

    /// Writes a copy anew, for the recipients that are left.
    pub(super) fn replace(path: &Path, entry: &Entry, octets: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension(OPEN);
        if let Err(error) = fs::remove_file(&temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let written = write(&temporary, entry, octets).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // On a full disk what is there of it would take what is left.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        path.parent().map_or(Ok(()), sync)
    }

    /// Takes a copy away that is done, and its set with the last.
    pub(super) fn finish(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.close(path.parent())
    }

    /// Moves a copy elsewhere that cannot be sent.
    pub(super) fn move_away(&self, path: &Path, to: &Path) -> io::Result<()> {
        fs::rename(path, to)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.close(path.parent())
    }

    fn close(&self, set: Option<&Path>) -> io::Result<()> {
        match set.map(fs::remove_dir) {
            Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
            _ => sync(&self.folder),
        }
    }

    /// After a crash: drops what was not sealed, and has sent what was. Returns how many sets were in doubt.
    pub(super) fn recover(&self) -> io::Result<usize> {
        let mut in_doubt = 0;
        for set in files(&self.folder)? {
            if has(&set, OPEN) && set.is_dir() {
                // It was not answered: an answer waits for the seal.
                fs::remove_dir_all(&set)?;
            } else if has(&set, SEALED) {
                fs::rename(&set, set.with_extension(READY))?;
                in_doubt += 1;
            } else if has(&set, READY) {
                for path in files(&set)?.iter().filter(|path| has(path, OPEN)) {
                    fs::remove_file(path)?;
                }
                if files(&set)?.is_empty() {
                    fs::remove_dir(&set)?;
                }
            }
        }
        sync(&self.folder)?;
        self.waiting.store(self.ready()?.len(), Ordering::Relaxed);
        Ok(in_doubt)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        // Unsealed first: a crash in between must leave no half of it to be sent.
        let open = path.with_extension(OPEN);
        let removed = fs::rename(path, &open).and_then(|()| fs::remove_dir_all(&open));
        let removed = removed.and_then(|()| sync(&self.folder));
        if let Err(reason) = removed
            && reason.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %reason, "copies that are not to be sent stay in the spool");
        }
    }
}

/// The identity of the message that a copy is of.
pub(super) fn identity_of(copy: &Path) -> &str {
    part(copy, 0).unwrap_or_default()
}

/// How long a copy has been waiting.
pub(super) fn age(copy: &Path, now: SystemTime) -> Duration {
    let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(since(copy)));
    since.and_then(|since| now.duration_since(since).ok()).unwrap_or_default()
}

fn since(copy: &Path) -> u64 {
    part(copy, 1).and_then(|nanos| u64::from_str_radix(nanos, 16).ok()).unwrap_or_default()
}

/// A part of the name of a copy's set.
fn part(copy: &Path, index: usize) -> Option<&str> {
    copy.parent()?.file_stem()?.to_str()?.split('-').nth(index)
}

fn write(path: &Path, entry: &Entry, octets: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    entry.write(octets, &mut file)?;
    file.sync_all()
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

pub(super) fn has(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
