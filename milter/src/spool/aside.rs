//! Copies that cannot be delivered, and that nobody may be told of, for the operator: for 30 days, and of no more than so many
//! copies and octets, the oldest of which go first.
//!
//! A copy is on the disk here before any goes that is not due by its age, by a name that is its own: who tries it again writes no
//! second file. Where there is no room it stays in the spool.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use smime::mime::Message;
use tracing::error;

use super::{
    Entry,
    set::{OPEN, Sets, files, has, sync},
};

/// The folder in a spool.
#[derive(Debug)]
pub(super) struct Aside {
    folder: PathBuf,
    pub(super) limits: Limits,
}

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) age: Duration,
    pub(super) copies: usize,
    pub(super) octets: u64,
}

const LIMITS: Limits = Limits { age: Duration::from_hours(30 * 24), copies: 1000, octets: 1 << 30 };

/// How long a process looks at no age.
const TRUSTS_CLOCK: Duration = Duration::from_hours(1);

const FAILED: &str = "failed";
const TOO_OLD: &str = "it was there for 30 days";

impl Aside {
    pub(super) fn of(spool: &Path) -> Self {
        Self { folder: spool.join(FAILED), limits: LIMITS }
    }

    /// The folder, as a process sees it that began then: in its first hour nothing is too old, since the clock of a machine that has just
    /// begun may be ahead by more.
    pub(super) fn since(spool: &Path, began: Instant) -> Self {
        let mut aside = Self::of(spool);
        if began.elapsed() < TRUSTS_CLOCK {
            aside.limits.age = Duration::MAX;
        }
        aside
    }

    /// Puts a copy aside for these of its recipients, and those for whom it was before. When this returns it is on the disk.
    pub(super) fn put(
        &self,
        copy: &Path,
        mut entry: Entry,
        message: &[u8],
        now: SystemTime,
    ) -> io::Result<PathBuf> {
        let path = self.path_of(copy, "")?;
        if let Ok((before, _)) = Entry::read(&path) {
            entry.asked.of_recipients.extend(before.asked.of_recipients);
            let added = entry.recipients.iter().filter(|new| !before.recipients.contains(new));
            entry.recipients = before.recipients.iter().chain(added).cloned().collect();
        }
        // They are due whatever comes of this one, and may be all the room that there is.
        self.forget_old(&path, now);
        Sets::replace(&path, &entry, message)?;
        self.tidy(&path, now);
        Ok(path)
    }

    /// Moves a copy here of which nothing can be read.
    pub(super) fn take_over(&self, sets: &Sets, copy: &Path, now: SystemTime) -> io::Result<()> {
        let path = self.path_of(copy, "-damaged")?;
        sets.move_away(copy, &path)?;
        sync(&self.folder)?;
        self.tidy(&path, now);
        Ok(())
    }

    /// The name of a copy here: that of its set, which no other ever has, and its own.
    fn path_of(&self, copy: &Path, behind: &str) -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let set = copy.parent().and_then(Path::file_stem).unwrap_or_default().to_string_lossy();
        let copy = copy.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.folder.join(format!("{set}-{copy}{behind}")))
    }

    /// Removes what was here for too long, but for this one.
    fn forget_old(&self, but: &Path, now: SystemTime) {
        let is_due = |since: SystemTime| now.duration_since(since).unwrap_or_default() > self.limits.age;
        for (_, path, _) in self.seen().iter().filter(|(since, path, _)| is_due(*since) && path != but) {
            forget(path, TOO_OLD);
        }
    }

    /// Removes what is too old or too much beside the one that came last.
    fn tidy(&self, last: &Path, now: SystemTime) {
        let kept = self.seen();
        let Limits { age, copies, octets } = self.limits;
        let (mut left, mut sum) = (kept.len(), kept.iter().map(|(_, _, len)| len).sum::<u64>());
        for (since, path, len) in kept.iter().filter(|(_, path, _)| path != last) {
            let is_old = now.duration_since(*since).unwrap_or_default() > age;
            if is_old || left > copies || sum > octets {
                forget(path, if is_old { TOO_OLD } else { "there are too many" });
                (left, sum) = (left - 1, sum - len);
            }
        }
    }

    /// What is here; nothing, and a word of it, where that cannot be seen.
    fn seen(&self) -> Vec<(SystemTime, PathBuf, u64)> {
        self.kept().unwrap_or_else(|reason| {
            error!(%reason, "it cannot be seen what is put aside, and nothing of it is removed");
            Vec::new()
        })
    }

    /// What is here, the oldest first: since when, and how many octets.
    pub(super) fn kept(&self) -> io::Result<Vec<(SystemTime, PathBuf, u64)>> {
        let mut kept = Vec::new();
        for path in whole(&self.folder)? {
            let found: Metadata = fs::metadata(&path)?;
            kept.push((found.modified()?, path, found.len()));
        }
        kept.sort();
        Ok(kept)
    }

    /// At a start: drops what a crash left unfinished, which is still in the spool. No mail needs it: where it cannot be done, that is
    /// said.
    pub(super) fn recover(&self) {
        let left = match files(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(reason) => {
                error!(path = %self.folder.display(), %reason, "it cannot be seen what is put aside");
                return;
            }
            Ok(left) => left,
        };
        for path in left.iter().filter(|path| has(path, OPEN) && is_file(path)) {
            if let Err(reason) = fs::remove_file(path) {
                error!(path = %path.display(), %reason, "what a crash left of a copy cannot be removed");
            }
        }
    }

    /// Removes what was here for too long, also where nothing more is put aside.
    pub(super) fn forget_due(&self, now: SystemTime) {
        if self.folder.exists() {
            self.forget_old(Path::new(""), now);
        }
    }
}

/// Removes a copy for ever, and says whose it was.
fn forget(path: &Path, why: &str) {
    let read = Entry::read(path).ok();
    let recipients = read.as_ref().map(|(entry, _)| entry.recipients.join(", "));
    let message_id = read.as_ref().and_then(|(_, message)| {
        let message = Message::from_stored(message);
        let entity = message.entity();
        entity.header().all("Message-ID").next().map(|field| field.unfolded())
    });
    match fs::remove_file(path) {
        Ok(()) => {
            let path = path.display();
            error!(%path, recipients, message_id, why, "a copy that was put aside is removed, and nobody has it now");
        }
        Err(reason) => {
            error!(path = %path.display(), %reason, "a copy that was put aside for too long cannot be removed");
        }
    }
}

/// How many copies were put aside in a spool because they cannot be delivered, and nobody can be told.
pub fn put_aside(folder: &Path) -> io::Result<usize> {
    match whole(&folder.join(FAILED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        found => found.map(|found| found.len()),
    }
}

/// What is in the folder, without what is being written, and what is no copy.
fn whole(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = files(folder)?;
    found.retain(|path| !has(path, OPEN) && is_file(path));
    Ok(found)
}

/// Whether it is a file itself: what an administrator made a folder of, or a link to, is his.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}
