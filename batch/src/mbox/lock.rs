//! The locks of those who write an mbox while it is read: fcntl, and the file `NAME.lock` beside it. Both are waited
//! for; a dotlock is never made here, because an input is only read.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

/// Locks an open mbox for reading, for as long as the file is open, and waits for whoever writes it.
pub(super) fn lock_for_reading(file: &File, path: &Path, patience: Duration) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let Some(holder) = holder(file, path)? else { return Ok(()) };
        if began.elapsed() >= patience {
            let seconds = patience.as_secs();
            let words = format!("another program is writing it, as {holder} says; waited {seconds} s");
            return Err(io::Error::new(io::ErrorKind::TimedOut, words));
        }
        thread::sleep(EACH);
    }
}

/// Who keeps it from being read, if anybody does. If nobody does, it is locked.
fn holder(file: &File, path: &Path) -> io::Result<Option<String>> {
    let dotlock = dotlock(path);
    match fs::symlink_metadata(&dotlock).and_then(|metadata| metadata.modified()) {
        // Whoever lives touches his lock, or is done long before.
        Ok(made) if made.elapsed().is_ok_and(|age| age > STALE) => {}
        Ok(_) => return Ok(Some(dotlock.display().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let whole = libc::flock { l_type: READ, l_whence: START, l_start: 0, l_len: 0, l_pid: 0 };
    // One of the open file: closing another one of the same file, as for a large message, does not lose it.
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(Some("its fcntl lock".into())),
        // Some file systems have no locks, and then nobody can have one.
        Ok(_) | Err(Errno::ENOLCK | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn dotlock(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[expect(clippy::cast_possible_truncation, reason = "the constants are 0 and 1, in C an int")]
const READ: libc::c_short = libc::F_RDLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation, reason = "the constant is 0, in C an int")]
const START: libc::c_short = libc::SEEK_SET as libc::c_short;

/// How long somebody may write.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const EACH: Duration = Duration::from_millis(50);
/// As Dovecot has it.
const STALE: Duration = Duration::from_mins(2);

#[cfg(test)]
mod tests {
    use std::{fs::FileTimes, time::SystemTime};

    use super::*;

    const SHORT: Duration = Duration::from_millis(120);

    #[test]
    fn a_lock_of_somebody_who_writes_is_waited_for_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mbox");
        let writer = File::create(&path).unwrap();
        let file = File::open(&path).unwrap();
        let whole = libc::flock {
            l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap(),
            l_whence: START,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&writer, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
        let error = lock_for_reading(&file, &path, SHORT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("fcntl"), "{error}");
        drop(writer);
        lock_for_reading(&file, &path, SHORT).unwrap();
        // And now nobody else can write.
        let writer = File::options().write(true).open(&path).unwrap();
        fcntl(&writer, FcntlArg::F_OFD_SETLK(&whole)).unwrap_err();
    }

    #[test]
    fn a_dotlock_is_waited_for_unless_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mbox");
        let file = File::create(&path).and_then(|_| File::open(&path)).unwrap();
        let dotlock = File::create(folder.path().join("mbox.lock")).unwrap();
        let error = lock_for_reading(&file, &path, SHORT).unwrap_err();
        assert!(error.to_string().contains("mbox.lock"), "{error}");
        let long_ago = SystemTime::now() - 2 * STALE;
        dotlock.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
        lock_for_reading(&file, &path, SHORT).unwrap();
    }
}
