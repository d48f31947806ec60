//! The socket that clients connect to.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::{fs::Mode, process::umask};

/// A listening socket, whose file goes when this does.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of our file: another process may have moved its own over it.
    file: (u64, u64),
}

impl Listener {
    /// Listens at a path. The file has its mode and group before anyone else may connect. One that nobody listens
    /// on is replaced.
    pub(crate) fn open(path: &Path, mode: u32, group: Option<u32>) -> Result<Self> {
        let what = || format!("cannot listen on {}", path.display());
        remove_stale(path).with_context(what)?;
        let before = umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let socket = bound.with_context(what)?;
        let found = fs::symlink_metadata(path).with_context(what)?;
        let listener = Self { socket, path: path.to_owned(), file: (found.dev(), found.ino()) };
        if let Some(group) = group {
            chown(path, None, Some(group))
                .with_context(|| format!("cannot give {} to its group", path.display()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(what)?;
        listener.socket.set_nonblocking(true).with_context(what)?;
        Ok(listener)
    }

    pub(crate) fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// A connection that waits, if there is one.
    pub(crate) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours {
            // Nobody is left to tell; the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket file that a killed process left behind.
fn remove_stale(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => bail!("there is something that is not a socket"),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        // Whatever else happened, somebody may be there.
        Ok(_) | Err(_) => bail!("another process does"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_its_mode_and_goes_and_what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyd.sock");
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::open(&path, 0o620, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o620);
        let error = Listener::open(&path, 0o620, None).unwrap_err();
        assert!(format!("{error:#}").contains("another process does"), "{error:#}");
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        Listener::open(&path, 0o620, None).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
