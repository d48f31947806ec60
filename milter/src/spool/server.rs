//! The server that takes copies back: how it is reached, and that nobody else can be in its place.
//!
//! A port belongs to whoever binds it first, also while the MTA is down, and what is handed to it may be text for those who
//! own its key. A Unix socket belongs to whoever may write to its folder, which is looked at each time.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use agent::settings::Listen;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

const CONNECT: Duration = Duration::from_secs(10);
/// For each reply. After the final dot a server may take long (RFC 5321 4.5.3.2.6).
const REPLY: Duration = Duration::from_mins(5);

/// The two directions of a connection.
pub(super) type Streams = (Box<dyn Read>, Box<dyn Write>);

/// Connects. No call on what is returned takes longer than a reply may.
pub(super) fn open(server: &Listen) -> io::Result<Streams> {
    match server {
        Listen::Tcp { host, port } => {
            let mut last = io::Error::other("the name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, CONNECT) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(REPLY))?;
                        stream.set_write_timeout(Some(REPLY))?;
                        return Ok((Box::new(stream.try_clone()?), Box::new(stream)));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Listen::Unix { path, .. } => {
            check(path)?;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // A full queue would be waited for without end.
            set_socket_timeout(&socket, Timeout::Send, Some(CONNECT))?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            let stream = UnixStream::from(socket);
            stream.set_read_timeout(Some(REPLY))?;
            stream.set_write_timeout(Some(REPLY))?;
            Ok((Box::new(stream.try_clone()?), Box::new(stream)))
        }
    }
}

/// How the server is called in messages.
pub(super) fn name(server: &Listen) -> String {
    match server {
        Listen::Tcp { host, port } => format!("{host}:{port}"),
        Listen::Unix { path, .. } => path.display().to_string(),
    }
}

/// Refuses a socket in whose place others could put their own: only the owner of its folder may write there, and nobody but
/// that one and root may change the way to it.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let refuse = |folder: &Path, why: &str| Err(io::Error::other(format!("{} {why}", folder.display())));
    let folder = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
    let owner = folder.metadata()?.uid();
    for (above, place) in folder.ancestors().enumerate() {
        let found = place.metadata()?;
        // In a folder like /tmp nobody can take away what is another's.
        let is_sticky = above > 0 && found.mode() & 0o1000 != 0;
        if found.mode() & 0o022 != 0 && !is_sticky {
            return refuse(place, "can be written by others, who could put their own socket in its place");
        }
        if found.uid() != 0 && found.uid() != owner {
            return refuse(place, "belongs to somebody who is neither root nor the socket's MTA");
        }
    }
    let socket = folder.join(path.file_name().unwrap_or_default());
    match socket.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => refuse(&socket, "is no socket"),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::{
            fs::{PermissionsExt as _, symlink},
            net::UnixListener,
        },
    };

    use super::*;

    #[test]
    fn a_socket_in_whose_place_others_could_put_theirs_is_not_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let public = folder.path().join("public");
        let way = folder.path().join("way");
        fs::create_dir(&public).unwrap();
        symlink(&public, &way).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(&public, 0o710);
        let path = public.join("reinject");
        let at = |path: &Path| Listen::Unix { path: path.to_owned(), mode: None };
        assert_eq!(open(&at(&path)).err().unwrap().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        set(&path, 0o666);
        for path in [&path, &way.join("reinject")] {
            let (mut reader, _) = open(&at(path)).unwrap();
            listener.accept().unwrap().0.write_all(b"220").unwrap();
            let mut greeting = [0; 3];
            reader.read_exact(&mut greeting).unwrap();
            assert_eq!(&greeting, b"220");
        }
        // Its folder, also with the sticky bit, and a folder above it.
        for (place, mode, is_taken) in [
            (public.as_path(), 0o770, false),
            (&public, 0o702, false),
            (&public, 0o1777, false),
            (&public, 0o755, true),
            (folder.path(), 0o770, false),
            (folder.path(), 0o1777, true),
        ] {
            set(place, mode);
            let opened = open(&at(&path));
            assert_eq!(opened.is_ok(), is_taken, "{mode:o}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("can be written by others"), "{error}");
            }
            set(place, 0o700);
        }
        let file = public.join("file");
        fs::write(&file, "").unwrap();
        let error = open(&at(&file)).err().unwrap();
        assert!(error.to_string().ends_with("is no socket"), "{error}");
        // Not even one that leads to a good one.
        let link = public.join("link");
        symlink(&path, &link).unwrap();
        assert!(open(&at(&link)).is_err());
    }
}
