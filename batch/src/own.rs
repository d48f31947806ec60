//! Files by names under which somebody else may have put anything, because the folder is his: a link to what is not his, what
//! never ends, or what he wrote himself.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::geteuid;
use rustix::{
    fs::{Mode, OFlags, fstatfs},
    io::Errno,
};

use crate::{
    output::{new_file, parent, with_suffix},
    owner, seen, stop,
};

/// Opens a file of ours that lies beside an archive, through no link and without waiting for anybody. An error if it is none,
/// or has other names.
pub(crate) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let file = open_file(path, flags | OFlags::NOFOLLOW)?.map_err(unused)?;
    if file.metadata()?.nlink() > 1 {
        return Err(unused("a file with several names (hard links)"));
    }
    Ok(file)
}

/// The same of what a run began. Where somebody else has a say in the folder, by its inode: there may be another one of ours,
/// which he has given this name. Elsewhere the number may have changed: not all file systems keep it.
pub(crate) fn open_begun(path: &Path, flags: OFlags, inode: u64) -> io::Result<File> {
    let opened = open(path, flags).and_then(|file| {
        let is_another = file.metadata()?.ino() != inode;
        if is_another && others_may_rename(&file, path) && shown_instead(path).is_none() {
            return Err(unused("not the file that the run began"));
        }
        Ok(file)
    });
    opened.map_err(|error| {
        if !is_refusal(&error) {
            return error;
        }
        io::Error::other(format!("{error}; look what it is, and remove it and the journal to begin anew"))
    })
}

/// Opens the folder that a run made, or that one began which left this number. Where somebody else may put another one in its
/// place: through no link, and only that.
pub(crate) fn open_made_folder(path: &Path, inode: Option<u64>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !others_may_rename(&folder, path) {
        return Ok(folder);
    }
    let (made, there) = (folder.metadata()?, fs::symlink_metadata(path)?);
    let is_it = (made.dev(), made.ino()) == (there.dev(), there.ino())
        && made.uid() == owner::user()
        && inode.is_none_or(|inode| inode == made.ino());
    if !is_it && (there.is_symlink() || shown_instead(path).is_none()) {
        let words = "not the folder that the run began: it is not used; look what it is, and remove it and the journal to \
                     begin anew";
        return Err(io::Error::other(words));
    }
    Ok(folder)
}

/// The number of what is open.
pub(crate) fn inode(open: &File) -> Option<u64> {
    open.metadata().ok().map(|metadata| metadata.ino())
}

/// Whether a name still leads to a folder that is held.
pub(crate) fn check_still(held: &File, path: &Path) -> io::Result<()> {
    let (is, was) = (fs::symlink_metadata(path)?, held.metadata()?);
    if (is.dev(), is.ino()) == (was.dev(), was.ino()) {
        return Ok(());
    }
    Err(io::Error::other(
        "it is not the folder that the run made any more: somebody put another in its place",
    ))
}

/// Opens a file beside an archive that we wrote ourselves, as nobody else can have done: it is of the user as whom this thread
/// makes files.
pub(crate) fn open_our_own(path: &Path, flags: OFlags) -> io::Result<File> {
    let file = open(path, flags)?;
    let metadata = file.metadata()?;
    let said = |metadata: &Metadata| (metadata.uid(), metadata.mode() & 0o022);
    let is_ours = said(&metadata) == (owner::user(), 0)
        || shown_instead(path).is_some_and(|made| said(&made) == said(&metadata));
    if !is_ours {
        return Err(io::Error::other("somebody else wrote it, or may have: it is not believed"));
    }
    Ok(file)
}

/// Opens an input that is to be replaced the same way. It may be anybody's, and its names were counted when it was looked at.
pub(crate) fn open_input(path: &Path, flags: OFlags) -> io::Result<File> {
    open_file(path, flags | OFlags::NOFOLLOW)?.map_err(become_another)
}

/// Opens an input that is only read: by links, but those of whom they are to be, see [`seen::reach`].
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open_file_by(OFlags::RDONLY, |flags| seen::open_input(path, flags))?.map_err(become_another)
}

fn become_another(problem: &str) -> io::Error {
    io::Error::other(format!("it has become {problem}, or is changed to and fro, and is not opened"))
}

/// Whether it is one of these errors: something is there, and is not what was to be opened.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none()
}

/// Whether somebody else may put another file in this one's place. Who is not root has no other one there that he could not open
/// himself, where it is a file system of some user's that makes its numbers up.
fn others_may_rename(file: &File, path: &Path) -> bool {
    if owner::is_acting() {
        return true;
    }
    let is_made_up = || is_on(file, &[FUSE]);
    if !geteuid().is_root() && is_made_up() {
        return false;
    }
    let ours = [0, owner::user(), owner::overflow()];
    let holder = parent(path);
    !holder.ancestors().all(|folder| {
        fs::symlink_metadata(folder).is_ok_and(|metadata| {
            // What is ours in a folder like /tmp stays there.
            let is_kept = folder != holder && metadata.mode() & 0o1000 != 0;
            ours.contains(&metadata.uid()) && (is_kept || metadata.mode() & 0o022 == 0)
        })
    })
}

/// What a file of ours shows here that is not its user or not its mode: some file systems keep neither, nor do all of these give a
/// file the same number again.
fn shown_instead(path: &Path) -> Option<Metadata> {
    let metadata = if let Ok(made) = unnamed_file(parent(path)) {
        made.metadata()
    } else {
        // Not all file systems have such, and those that keep less are among them.
        let probe = with_suffix(path, PROBE);
        let _ = fs::remove_file(&probe);
        let metadata = new_file(&probe).ok()?.metadata();
        let _ = fs::remove_file(&probe);
        metadata
    };
    let metadata = metadata.ok()?;
    let is_kept = metadata.uid() == owner::user() && metadata.mode() & 0o777 & !0o600 == 0;
    (!is_kept).then_some(metadata)
}

/// A file in a folder that is gone when it is closed, however this process ends.
fn unnamed_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn unused(problem: &str) -> io::Error {
    io::Error::other(format!("{problem}: it is not used"))
}

fn open_file(path: &Path, flags: OFlags) -> io::Result<Result<File, &'static str>> {
    open_file_by(flags, |flags| Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?)))
}

/// Waits for whoever has a lease on a file (a file server, for its clients) to give that back, which is asked for by trying, and
/// not for long when somebody has asked to stop.
pub(crate) fn patiently<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match open() {
            Err(error) if is(&error, Errno::AGAIN) && began.elapsed() < PATIENCE && !is_enough() => {
                stop::check()?;
                thread::sleep(EACH);
                WAITED.fetch_add(1, Ordering::Relaxed);
            }
            opened => return opened,
        }
    }
}

/// Whether the file system of a file has what it keeps somewhere else, and `syncfs` does not have that made durable there: a
/// sync of each file does. (`sync_fs` of these systems in Linux is none, or for a few servers of theirs alone.)
pub(crate) fn keeps_files(file: &File) -> bool {
    is_on(file, &[FUSE, CIFS, SMB2, V9FS, ECRYPTFS])
}

fn is_on(file: &File, systems: &[rustix::fs::FsWord]) -> bool {
    fstatfs(file).is_ok_and(|system| systems.contains(&system.f_type))
}

/// Opens what is a file, or tells what else it is, and waits for nobody but for [`patiently`].
fn open_file_by(
    flags: OFlags,
    open: impl Fn(OFlags) -> io::Result<File>,
) -> io::Result<Result<File, &'static str>> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match patiently(|| open(flags)) {
        Err(error) if is(&error, Errno::LOOP) => return Ok(Err("a link")),
        // One end of a pipe that nobody has the other end of, or a folder.
        Err(error) if is(&error, Errno::NXIO) || is(&error, Errno::ISDIR) => return Ok(Err("no file")),
        file => file?,
    };
    Ok(if file.metadata()?.is_file() { Ok(file) } else { Err("no file") })
}

/// Whether leases were waited for so long that it is time to say so: anybody may have one on each of his messages.
fn is_enough() -> bool {
    EACH * WAITED.load(Ordering::Relaxed) >= IN_ALL
}

/// How often that was waited.
static WAITED: AtomicU32 = AtomicU32::new(0);

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

/// `FUSE_SUPER_MAGIC` in `linux/magic.h`.
const FUSE: rustix::fs::FsWord = 0x6573_5546;
/// `CIFS_SUPER_MAGIC`, `SMB2_SUPER_MAGIC` and `V9FS_MAGIC`.
const CIFS: rustix::fs::FsWord = 0xff53_4d42;
const SMB2: rustix::fs::FsWord = 0xfe53_4d42;
const V9FS: rustix::fs::FsWord = 0x0102_1997;
/// `ECRYPTFS_SUPER_MAGIC`.
const ECRYPTFS: rustix::fs::FsWord = 0xf15f;
/// What the name of a file ends in that is there for an instant.
const PROBE: &str = ".probe";
/// Longer than the kernel leaves a lease to whom it was asked back of (`fs.lease-break-time`, 45 s).
const PATIENCE: Duration = Duration::from_mins(1);
const EACH: Duration = Duration::from_millis(20);
/// For all of them.
const IN_ALL: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn what_a_file_of_ours_shows_is_found_out_without_a_name_that_a_kill_would_leave() {
        let folder = tempfile::tempdir().unwrap();
        if !geteuid().is_root() || unnamed_file(folder.path()).is_err() {
            return;
        }
        let [path, probe] = ["x", "x.probe"].map(|name| folder.path().join(name));
        for path in [&path, &probe] {
            fs::write(path, "text").unwrap();
            std::os::unix::fs::chown(path, Some(4711), None).unwrap();
        }
        open_our_own(&path, OFlags::RDONLY).unwrap_err();
        assert_eq!(fs::read(&probe).unwrap(), b"text");
    }

    #[test]
    fn whoever_has_a_lease_on_a_file_is_waited_for_and_other_errors_are_not() {
        let mut left = 5;
        let opened = patiently(|| {
            left -= 1;
            if left > 0 { Err(Errno::AGAIN.into()) } else { Ok("open") }
        });
        assert_eq!((opened.unwrap(), left), ("open", 0));
        patiently(|| Err::<(), _>(Errno::NOENT.into())).unwrap_err();
    }

    #[test]
    fn what_came_in_the_place_of_an_input_is_neither_opened_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| folder.path().join(name));
        fs::write(&file, "Subject: x\n\nbody\n").unwrap();
        symlink(&file, &link).unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, is_read, is_replaced) in [
            (&file, true, true),
            (&link, true, false),
            (&pipe, false, false),
            (&"/dev/zero".into(), false, false),
        ] {
            let began = Instant::now();
            assert_eq!(open_to_read(path).is_ok(), is_read, "{path:?}");
            assert_eq!(open_input(path, OFlags::RDWR).is_ok(), is_replaced, "{path:?}");
            if let Err(error) = open_input(path, OFlags::RDONLY) {
                // It is mail, whatever it has become.
                assert!(!error.to_string().contains("remove"), "{error}");
            }
            assert!(began.elapsed() < PATIENCE);
        }
    }
}
