//! Files of ours beside an archive, in a folder where its owner may put anything under their names: a link to what is somebody
//! else's, what never ends, or what he wrote himself.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::libc;
use rustix::process::geteuid;

/// Opens a file, through no link and without waiting for anybody. An error if it is none, or has other names.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let refuse = |problem: &str| Err(io::Error::other(format!("{problem}: it is not used; remove it")));
    let file = match options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return refuse("a link"),
        // One end of a pipe that nobody has the other end of, or a folder.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EISDIR)) => {
            return refuse("no file");
        }
        file => file?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return refuse("no file");
    }
    if metadata.nlink() > 1 {
        return refuse("a file with several names (hard links)");
    }
    Ok(file)
}

/// The same of one that we wrote ourselves, as nobody else can have done.
pub(crate) fn open_our_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = open(options, path)?;
    let metadata = file.metadata()?;
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        let words = "somebody else wrote it, or may have: it is not believed; remove it, or run as its owner";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
    }
    Ok(file)
}
