//! The socket that the MTA connects to: inet or Unix.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent::settings::Listen;
use indymilter::EitherStream;
use rustix::fs::Mode;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;
use tracing::error;

use crate::throttle::Throttle;

/// A connection from the MTA.
pub(crate) type Stream = EitherStream<TcpStream, UnixStream>;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The operating system refused.
    #[error("cannot listen on {address}{}", hint(source))]
    Bind {
        /// What should have been listened on.
        address: String,
        /// Why that failed.
        #[source]
        source: io::Error,
    },
    /// Another process answers on the socket.
    #[error("cannot listen on {}: another process does", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is where the socket should be; it is left alone.
    #[error("cannot listen on {}: there is something that is not a socket", path.display())]
    NotASocket {
        /// Where the socket should be.
        path: PathBuf,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => " (is another hsmime-milter running?)",
        _ => "",
    }
}

/// A listening socket. A Unix socket's file goes when this does.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Errors of `accept` since the last connection.
    errors: u32,
    complaints: Throttle,
}

#[derive(Debug)]
enum Socket {
    Inet(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "removes the file when dropped")] Option<SocketFile>),
}

impl Listener {
    /// Listens where the configuration says. Must be called within a Tokio runtime.
    pub async fn open(listen: &Listen) -> Result<Self, ListenError> {
        match listen {
            Listen::Tcp { host, port } => Self::inet(host, *port).await,
            Listen::Unix { path, mode } => Self::unix(path, mode.unwrap_or(DEFAULT_MODE)),
        }
    }

    /// Listens on a port of a host, given by name or by address; port 0 is any free one.
    pub async fn inet(host: &str, port: u16) -> Result<Self, ListenError> {
        match TcpListener::bind((host, port)).await {
            Ok(listener) => Ok(Self::of(Socket::Inet(listener))),
            Err(source) => Err(ListenError::Bind { address: format!("{host} port {port}"), source }),
        }
    }

    /// Listens on a Unix socket whose file gets this mode before anyone else may connect. A socket file that
    /// nobody listens on is replaced. No other thread may create files meanwhile: the umask is the process's.
    pub fn unix(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { address: path.display().to_string(), source };
        remove_stale(path)?;
        let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(umask);
        let listener = bound.map_err(failed)?;
        let file = SocketFile::of(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(Self::of(Socket::Unix(listener, Some(file))))
    }

    /// Takes over a port that somebody else listens at for us. Must be called within a Tokio runtime.
    pub fn of_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::of(Socket::Inet(TcpListener::from_std(listener)?)))
    }

    /// Takes over a Unix socket that somebody else listens at for us; its file is theirs. Must be called within a Tokio
    /// runtime.
    pub fn of_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::of(Socket::Unix(UnixListener::from_std(listener)?, None)))
    }

    fn of(socket: Socket) -> Self {
        Self { socket, errors: 0, complaints: Throttle::default() }
    }

    /// The address of an inet socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Inet(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// The next connection. Errors (no descriptor left, a client gone before its turn) are waited out: each may
    /// pass, and to end for one of them would end mail. May be dropped at any time without losing a connection.
    pub(crate) async fn accept(&mut self) -> Stream {
        loop {
            let accepted = match &self.socket {
                Socket::Inet(listener) => listener.accept().await.map(|(stream, _)| {
                    // Requests are small and each is waited for. Slow is all it is where this fails.
                    let _ = stream.set_nodelay(true);
                    Stream::Tcp(stream)
                }),
                Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            };
            match accepted {
                Ok(stream) => {
                    self.errors = 0;
                    return stream;
                }
                Err(error) => {
                    if let Some(more) = self.complaints.admit(Instant::now()) {
                        error!(%error, more, "cannot accept connections, will keep trying");
                    }
                    self.errors = self.errors.saturating_add(1);
                    sleep(back_off(self.errors)).await;
                }
            }
        }
    }
}

/// Owner and group, which the MTA's user then belongs to.
const DEFAULT_MODE: u32 = 0o660;

/// 10 ms, doubled with each further error, up to a second.
fn back_off(errors: u32) -> Duration {
    Duration::from_millis(10 << errors.saturating_sub(1).min(7)).min(Duration::from_secs(1))
}

/// Removes a socket file that a killed process left behind.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Bind { address: path.display().to_string(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        // Whatever else happened, a full queue or a missing permission, somebody may be there.
        Ok(_) | Err(_) => Err(ListenError::InUse { path: path.to_owned() }),
    }
}

/// The file of our socket, removed on drop if it is still ours: another process may have moved its own over it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours {
            // Nobody is left to tell; the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn socket_path() -> (TempDir, PathBuf) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("m.sock");
        (directory, path)
    }

    #[tokio::test]
    async fn the_socket_file_has_its_mode_and_goes_with_the_listener() {
        for mode in [0o600, 0o660, 0o666] {
            let (_directory, path) = socket_path();
            let listener = Listener::unix(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let (_directory, path) = socket_path();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let mut listener = Listener::unix(&path, 0o600).unwrap();
        let _client = StdUnixStream::connect(&path).unwrap();
        listener.accept().await;
    }

    #[tokio::test]
    async fn a_socket_in_use_and_a_file_of_another_kind_are_left_alone() {
        let (_directory, path) = socket_path();
        let first = Listener::unix(&path, 0o600).unwrap();
        assert!(matches!(Listener::unix(&path, 0o600), Err(ListenError::InUse { .. })));
        assert!(path.exists());
        drop(first);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::unix(&path, 0o600), Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_socket_that_a_successor_moved_into_place_stays() {
        let (_directory, path) = socket_path();
        let first = Listener::unix(&path, 0o600).unwrap();
        let next = path.with_extension("next");
        let _second = Listener::unix(&next, 0o600).unwrap();
        fs::rename(&next, &path).unwrap();
        drop(first);
        assert!(StdUnixStream::connect(&path).is_ok());
    }

    #[test]
    fn back_off_grows_to_a_second_and_no_further() {
        let millis: Vec<_> = [1, 2, 7, 8, 9, u32::MAX].iter().map(|n| back_off(*n).as_millis()).collect();
        assert_eq!(millis, [10, 20, 640, 1000, 1000, 1000]);
    }
}
