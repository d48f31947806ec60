//! One audit file that is open: its lock, its numbers, and how it is put aside when it is full.
//!
//! A crash at any place leaves files whose lines follow one another: a line is one write, a full file gets its other
//! name by one rename, and numbers go on after the last that any of the files has.

use std::{
    fs::{self, File},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with},
    io::Errno,
};
use tracing::{info, warn};

use crate::{
    AuditFile,
    end::{BEGINNING, end_of},
    line::Line,
    rotated,
};

/// The file and the right to write to it.
#[derive(Debug)]
pub(crate) struct Writer {
    to: AuditFile,
    file: File,
    /// Locked as long as this lives: two that write would both use the same numbers.
    lock: File,
    /// The length of all that was written whole.
    len: u64,
    /// The number of the next line.
    next: u64,
    /// A line of ours that was not written whole stands after those.
    half: bool,
    /// The next file could not be begun; told once.
    stuck: bool,
}

/// What a crash left in a file, which is to be told in the next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) octets: u64,
}

impl Writer {
    /// Opens the file, with numbers from `first` on where no file has any. `WouldBlock`: somebody else writes to it.
    pub(crate) fn open(to: &AuditFile, first: u64) -> io::Result<(Self, Option<Torn>)> {
        let path = rotated::resolved(&to.path)?;
        let is_else = fs::metadata(&path).is_ok_and(|found| !found.is_file());
        if is_else {
            return Err(io::Error::other("it is not a regular file, so it cannot be gone on with"));
        }
        let lock = open_file(&rotated::lock(&path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Self::open_locked(AuditFile { path, ..to.clone() }, lock, first)
    }

    /// Opens the file of its name anew, which may be another now. What was open stays so where that fails.
    pub(crate) fn reopen(&mut self, to: &AuditFile) -> io::Result<Option<Torn>> {
        self.mend()?;
        let path = rotated::resolved(&to.path)?;
        let (fresh, torn) = if path == self.to.path {
            Self::open_locked(AuditFile { path, ..to.clone() }, self.lock.try_clone()?, self.next)?
        } else {
            Self::open(to, self.next)?
        };
        *self = fresh;
        Ok(torn)
    }

    fn open_locked(to: AuditFile, lock: File, first: u64) -> io::Result<(Self, Option<Torn>)> {
        let mut file = open_file(&to.path)?;
        let found = end_of(&mut file)?;
        let before = rotated::all(&to.path)?.last().map_or(0, |(last, _)| *last);
        if found.last.is_some_and(|last| last <= before) {
            let reason =
                format!("its last number is not after {before}, which a full file beside it ends with");
            return Err(io::Error::other(reason));
        }
        let next = first.max(found.last.unwrap_or(before).saturating_add(1));
        // Nothing of it is removed: it is evidence. The next line tells of it.
        if found.is_open {
            file.write_all(b"\n")?;
        }
        let torn = (found.torn > 0).then_some(Torn { octets: found.torn });
        if let Some(Torn { octets }) = torn {
            warn!(path = %to.path.display(), octets, "the last line of the audit was not written whole");
        }
        let len = file.seek(SeekFrom::End(0))?;
        Ok((Self { to, file, lock, len, next, half: false, stuck: false }, torn))
    }

    /// Where it writes.
    pub(crate) fn path(&self) -> &Path {
        &self.to.path
    }

    /// Writes one line.
    pub(crate) fn append(&mut self, unnumbered: &Line) -> io::Result<()> {
        let members = unnumbered.members();
        let mut line = Vec::with_capacity(members.len() + 32);
        line.extend_from_slice(BEGINNING);
        line.extend_from_slice(self.next.to_string().as_bytes());
        line.push(b',');
        line.extend_from_slice(members);
        line.push(b'\n');
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.mend()?;
        if self.len > 0 && self.len.saturating_add(len) > self.to.max_bytes {
            self.put_aside();
        }
        if let Err(error) = self.file.write_all(&line) {
            self.half = true;
            // If not now, then before the next line.
            let _ = self.mend();
            return Err(error);
        }
        self.len += len;
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// Half a line of ours must not stand before the next: nobody was told of it yet.
    fn mend(&mut self) -> io::Result<()> {
        if self.half {
            self.file.set_len(self.len)?;
            self.half = false;
        }
        Ok(())
    }

    /// Begins another file. Where that fails, this one becomes longer than it should: a line too many is better than
    /// one that is missing.
    fn put_aside(&mut self) {
        let full = rotated::name(&self.to.path, self.next - 1);
        match self.begin_another(&full) {
            Ok(()) => {
                self.stuck = false;
                info!(path = %full.display(), "the audit is gone on with in another file");
                self.remove_oldest();
            }
            Err(error) if !self.stuck => {
                self.stuck = true;
                let path = self.to.path.display();
                tracing::error!(%path, %error, fault = "operator", "no other file can be begun: the audit becomes too long");
            }
            Err(_) => {}
        }
    }

    fn begin_another(&mut self, full: &Path) -> io::Result<()> {
        let path = &self.to.path;
        let prepared = rotated::next(path);
        let _ = fs::remove_file(&prepared);
        // What may fail for want of room comes before anything changes.
        let file = open_file(&prepared)?;
        if let Err(error) = rename(path, full) {
            let _ = fs::remove_file(&prepared);
            return Err(error);
        }
        if let Err(error) = rename(&prepared, path) {
            // Else it would go on without its name.
            let _ = rename(full, path);
            return Err(error);
        }
        self.file = file;
        self.len = 0;
        Ok(())
    }

    fn remove_oldest(&self) {
        let removed = rotated::all(&self.to.path).and_then(|all| {
            let surplus = all.len().saturating_sub(self.to.files);
            all.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
        });
        if let Err(error) = removed {
            warn!(path = %self.to.path.display(), %error, "an old file of the audit cannot be removed");
        }
    }
}

#[cfg(test)]
impl Writer {
    /// Writes to another file from now on.
    pub(crate) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}

/// Never over a file that is there.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    or_plainly(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE), from, to)
}

/// What came of a rename; where the file system does not know the flag, another. Only who holds the lock makes such names.
fn or_plainly(renamed: rustix::io::Result<()>, from: &Path, to: &Path) -> io::Result<()> {
    match renamed {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        },
        renamed => Ok(renamed?),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

/// The number of each line of a file, in their order; for tests.
#[cfg(test)]
pub(crate) fn numbers(path: &Path) -> Vec<u64> {
    let whole = fs::read(path).unwrap();
    whole.split_inclusive(|o| *o == b'\n').filter_map(crate::end::seq_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As on NFS, and on what FUSE offers.
    #[test]
    fn where_a_rename_knows_no_flags_it_still_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        for unknown in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
            fs::write(&from, "new").unwrap();
            or_plainly(Err(unknown), &from, &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"new");
            fs::write(&from, "newer").unwrap();
            let error = or_plainly(Err(unknown), &from, &to).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(
                (fs::read(&from).unwrap(), fs::read(&to).unwrap()),
                (b"newer".to_vec(), b"new".to_vec())
            );
            fs::remove_file(&to).unwrap();
        }
        assert!(or_plainly(Err(Errno::ACCESS), &from, &to).is_err() && from.exists());
    }
}
