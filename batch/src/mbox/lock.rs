//! The locks of those who write an mbox: fcntl, and the file `NAME.lock` beside it. Both are waited for. Who only reads
//! an mbox makes no dotlock; who replaces it takes both, in the order that delivery agents keep: dotlock, then fcntl.

use std::{
    fs::{self, File, FileTimes},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use rustix::process::{Pid, test_kill_process};

use crate::{
    output::{parent, sync_folder},
    owner::{self, Acting},
    stop, words,
};

/// Locks an open mbox for reading, for as long as the file is open, and waits for whoever writes it.
pub(super) fn lock_for_reading(file: &File, path: &Path, patience: Duration) -> io::Result<()> {
    until(patience, || match holder_of_dotlock(&dotlock(path))? {
        None => Ok(lock_file(file, READ)?.map_or(Ok(()), Err)),
        holder => Ok(holder.map_or(Ok(()), Err)),
    })
}

/// Locks an open mbox, which is to be replaced, against everybody else: for as long as the file is open and what is
/// returned lives.
pub(super) fn lock_for_replacing(file: &File, path: &Path, patience: Duration) -> io::Result<Dotlock> {
    let dotlock = until(patience, || Dotlock::make(dotlock(path)))?;
    until(patience, || Ok(lock_file(file, WRITE)?.map_or(Ok(()), Err)))?;
    let (ours, there) = (file.metadata()?, fs::symlink_metadata(path)?);
    if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
        return Err(io::Error::other("another program replaced it"));
    }
    Ok(dotlock)
}

/// Tries again while somebody holds a lock; an inner error says who.
fn until<T>(patience: Duration, mut attempt: impl FnMut() -> io::Result<Result<T, String>>) -> io::Result<T> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        let holder = match attempt()? {
            Ok(done) => return Ok(done),
            Err(holder) => holder,
        };
        if began.elapsed() >= patience {
            let seconds = patience.as_secs();
            let words = format!("another program is using it, as {holder} says; waited {seconds} s");
            return Err(io::Error::new(io::ErrorKind::TimedOut, words));
        }
        if !is_told && began.elapsed() >= SOON {
            is_told = true;
            let seconds = patience.as_secs();
            words::say(&format!(
                "hsmime-batch: waiting for {holder}, another program's lock, up to {seconds} s"
            ));
        }
        stop::check()?;
        thread::sleep(EACH);
    }
}

/// Who holds a dotlock, if somebody does who lives.
fn holder_of_dotlock(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path).and_then(|metadata| metadata.modified()) {
        // Whoever lives touches his lock, or is done long before.
        Ok(made) if made.elapsed().is_ok_and(|age| age > STALE) => Ok(None),
        Ok(_) if is_left_over(path) => Ok(None),
        Ok(_) => Ok(Some(named(path))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A dotlock with what it says of who made it, if it does.
fn named(path: &Path) -> String {
    let text = text_of(path).unwrap_or_default();
    let text = text.trim();
    let is_name = text.len() <= 100 && text.bytes().all(|octet| octet.is_ascii_graphic());
    let who = if text.is_empty() || !is_name { String::new() } else { format!(" (of process {text})") };
    format!("{}{who}", path.display())
}

/// Whether a dotlock says which process of this host made it, and that is gone.
fn is_left_over(path: &Path) -> bool {
    let Some(text) = text_of(path) else { return false };
    let Some((pid, host)) = text.trim().split_once(':') else { return false };
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    host == self::host() && pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// What a dotlock says, if it is a short file: who may write beside the mbox can put there what never ends.
fn text_of(path: &Path) -> Option<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(TEXT).read_to_string(&mut text).ok()?;
    Some(text)
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Locks an open file, and tells who keeps it from being locked, if anybody does.
fn lock_file(file: &File, how: libc::c_short) -> io::Result<Option<String>> {
    let whole = libc::flock { l_type: how, l_whence: START, l_start: 0, l_len: 0, l_pid: 0 };
    // One of the open file: closing another one of the same file, as for a large message, does not lose it.
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(Some("its fcntl lock".into())),
        // Some file systems have no locks, and then nobody can have one.
        Ok(_) | Err(Errno::ENOLCK | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A dotlock of ours. It is touched from time to time, so that nobody takes it for left over, and goes when it is
/// dropped.
#[derive(Debug)]
pub(super) struct Dotlock {
    path: PathBuf,
    inode: (u64, u64),
    end: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Dotlock {
    /// Makes one, or tells who has it.
    fn make(path: PathBuf) -> io::Result<Result<Self, String>> {
        if let Some(holder) = holder_of_dotlock(&path)? {
            return Ok(Err(holder));
        }
        if let Ok(left) = fs::symlink_metadata(&path) {
            let taken = owner::on_left_over(&path, |path| take_away(path, left.ino()));
            if !taken.map_err(|error| left_over(&path, &error))? {
                return Ok(Err(path.display().to_string()));
            }
        }
        let mut file = match File::options().write(true).create_new(true).mode(0o644).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Err(path.display().to_string()));
            }
            file => file.map_err(|error| {
                io::Error::new(error.kind(), format!("its lock {} cannot be made: {error}", path.display()))
            })?,
        };
        let metadata = file.metadata()?;
        let acting = Acting::now();
        *held() = Some(Held { path: path.clone(), inode: (metadata.dev(), metadata.ino()), acting });
        let (end, ended) = mpsc::channel();
        let mut lock = Self { path, inode: (metadata.dev(), metadata.ino()), end: Some(end), keeper: None };
        // As Dovecot writes it.
        write!(file, "{}:{}", std::process::id(), host())?;
        // After a power cut it shall tell that nobody holds it any more.
        file.sync_all()?;
        lock.keeper = Some(thread::Builder::new().name("dotlock".into()).spawn(move || {
            while ended.recv_timeout(TOUCH) == Err(mpsc::RecvTimeoutError::Timeout) {
                // A lock that somebody removed is no reason to stop: the other one is still there.
                let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
            }
        })?);
        Ok(Ok(lock))
    }
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        self.end = None;
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        held().take_if(|held| held.path == self.path);
        remove(&self.path, self.inode);
    }
}

/// Removes a dotlock that is left over, and tells whether it was that one. Under another name first: whoever comes between has
/// made a new one, which must stay.
fn take_away(path: &Path, inode: u64) -> io::Result<bool> {
    let aside = with_suffix(path, &format!(".{}", std::process::id()));
    fs::rename(path, &aside)?;
    let is_it = fs::symlink_metadata(&aside)?.ino() == inode;
    if !is_it {
        fs::hard_link(&aside, path)?;
    }
    fs::remove_file(&aside)?;
    Ok(is_it)
}

fn left_over(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{}, a lock that is left over, cannot be removed: {error}", path.display()),
    )
}

/// Removes a dotlock if it is still the one that was made.
fn remove(path: &Path, inode: (u64, u64)) {
    if fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == inode) {
        let _ = fs::remove_file(path).and_then(|()| sync_folder(parent(path)));
    }
}

/// The dotlock of this process, if it has one: it replaces one mbox at a time.
static HELD: Mutex<Option<Held>> = Mutex::new(None);

struct Held {
    path: PathBuf,
    inode: (u64, u64),
    /// With whose rights it was made, if not with those of the process.
    acting: Option<Acting>,
}

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something that needs the dotlock to be there; not after [`give_up`].
pub(crate) fn while_held<T>(act: impl FnOnce() -> T) -> T {
    let _held = held();
    act()
}

/// Removes the dotlock, for a process that ends at once: an mbox that was not replaced by then will not be. Gives the mbox's
/// lock that was removed.
pub(crate) fn give_up() -> Option<PathBuf> {
    let mut held = held();
    let Held { path, inode, acting } = held.take()?;
    match acting {
        Some(acting) => acting.act(|| remove(&path, inode)).ok()?,
        None => remove(&path, inode),
    }
    // Nobody replaces anything any more.
    std::mem::forget(held);
    Some(path)
}

/// Removes the dotlock of a run that was killed.
pub(crate) fn remove_left_lock(path: &Path) -> io::Result<()> {
    let dotlock = dotlock(path);
    if !is_left_over(&dotlock) {
        return Ok(());
    }
    let removed = owner::on_left_over(&dotlock, |dotlock| fs::remove_file(dotlock));
    removed.map_err(|error| left_over(&dotlock, &error))
}

fn dotlock(path: &Path) -> PathBuf {
    with_suffix(path, ".lock")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[expect(clippy::cast_possible_truncation, reason = "the constants are 0 and 1, in C an int")]
const READ: libc::c_short = libc::F_RDLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation, reason = "the constants are 0 and 1, in C an int")]
const WRITE: libc::c_short = libc::F_WRLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation, reason = "the constant is 0, in C an int")]
const START: libc::c_short = libc::SEEK_SET as libc::c_short;

/// How long somebody may write.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const EACH: Duration = Duration::from_millis(50);
/// After what time it is said that somebody is waited for.
const SOON: Duration = Duration::from_secs(2);
/// As Dovecot has it.
const STALE: Duration = Duration::from_mins(2);
/// How much of a dotlock is read: more than a process and a host.
const TEXT: u64 = 300;
/// How often our own dotlock is touched.
const TOUCH: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::{fs::FileTimes, time::SystemTime};

    use super::*;

    const SHORT: Duration = Duration::from_millis(120);

    /// Puts something somewhere.
    type Make<'a> = &'a dyn Fn(&Path);

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
    fn who_holds_a_dotlock_is_named_if_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mbox.lock");
        for (text, is_named) in
            [("", false), ("17:host\n", true), ("17", true), ("two words", false), ("\u{1b}[2J", false)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(
                named(&path).ends_with(&format!(" (of process {})", text.trim())),
                is_named,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_dotlock_that_is_no_file_or_never_ends_is_somebodys_and_holds_nobody_up_for_longer() {
        let folder = tempfile::tempdir().unwrap();
        let mkfifo = |path: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        let makes: [(&str, Make<'_>); 4] = [
            ("fifo", &mkfifo),
            ("link", &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
            ("folder", &|path| fs::create_dir(path).unwrap()),
            ("large", &|path| File::create(path).unwrap().set_len(1 << 40).unwrap()),
        ];
        for (name, make) in makes {
            let path = folder.path().join(name);
            let file = File::create(&path).and_then(|_| File::open(&path)).unwrap();
            make(&dotlock(&path));
            let (sender, ended) = mpsc::channel();
            thread::spawn(move || {
                let _ = sender.send(lock_for_reading(&file, &path, SHORT));
            });
            let locked = ended.recv_timeout(Duration::from_secs(20));
            let error = locked.unwrap_or_else(|_| panic!("{name}: it does not end")).unwrap_err();
            assert!(error.to_string().contains(&format!("{name}.lock says")), "{error}");
        }
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
