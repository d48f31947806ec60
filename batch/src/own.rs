//! Files by names under which somebody else may have put anything, because the folder is his: a link to what is not his, what
//! never ends, or what he wrote himself.

use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::owner;

/// Opens a file of ours that lies beside an archive, through no link and without waiting for anybody. An error if it is none,
/// or has other names.
pub(crate) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let file = open_file(path, flags)?.map_err(unused)?;
    if file.metadata()?.nlink() > 1 {
        return Err(unused("a file with several names (hard links)"));
    }
    Ok(file)
}

/// The same of one that we wrote ourselves, as nobody else can have done: it is of the user as whom this thread makes files.
pub(crate) fn open_our_own(path: &Path, flags: OFlags) -> io::Result<File> {
    let file = open(path, flags)?;
    let metadata = file.metadata()?;
    if metadata.uid() != owner::user() || metadata.mode() & 0o022 != 0 {
        let words = "somebody else wrote it, or may have: it is not believed; remove it, or run as its owner";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
    }
    Ok(file)
}

/// Opens an input that is to be replaced the same way. It may be anybody's, and its names were counted when it was looked at.
pub(crate) fn open_input(path: &Path, flags: OFlags) -> io::Result<File> {
    open_file(path, flags)?.map_err(|problem| io::Error::other(format!("it has become {problem}")))
}

fn unused(problem: &str) -> io::Error {
    io::Error::other(format!("{problem}: it is not used; remove it"))
}

/// Opens what is a file, or tells what else it is.
fn open_file(path: &Path, flags: OFlags) -> io::Result<Result<File, &'static str>> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Ok(Err("a link")),
        // One end of a pipe that nobody has the other end of, or a folder.
        Err(Errno::NXIO | Errno::ISDIR) => return Ok(Err("no file")),
        file => File::from(file?),
    };
    Ok(if file.metadata()?.is_file() { Ok(file) } else { Err("no file") })
}
