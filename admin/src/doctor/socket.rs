//! The milter's socket: answered by a milter, or free.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use agent::settings::Listen;

use super::{Findings, Health};

/// A milter answers at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// `SMFIC_OPTNEG` of protocol version 6: "what would you like to do?"
const OPTNEG: [u8; 17] = *b"\0\0\0\rO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff";
/// `SMFIC_QUIT`.
const QUIT: [u8; 5] = *b"\0\0\0\x01Q";

/// Who is at the socket.
#[derive(Debug)]
enum Answer {
    Milter,
    SomebodyElse,
    Nobody,
    Failed(io::Error),
}

/// Examines where the milter listens.
pub(super) fn examine(listen: &Listen, findings: &mut Findings) {
    let what = format!("socket {listen}");
    let answer = match listen {
        Listen::Tcp { host, port } => ask_tcp(host, *port),
        Listen::Unix { path, .. } => ask_unix(path),
    };
    match answer {
        Answer::Milter => findings.add(Health::Ok, what, "a milter answers"),
        Answer::SomebodyElse => {
            findings.add(Health::Fail, what, "another program answers there; end it, or change `listen`");
        }
        Answer::Nobody => findings.add(Health::Ok, what, "free: hsmime-milter is not running"),
        Answer::Failed(error) => {
            findings.add(Health::Fail, what, format!("{error}; change `listen`, or what is in its way"));
        }
    }
}

fn ask_tcp(host: &str, port: u16) -> Answer {
    let addresses: Vec<_> = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Answer::Failed(error),
    };
    // Taken for a moment only. Nothing is sent to an address that is not this machine's.
    match TcpListener::bind(addresses.as_slice()) {
        Ok(_) => Answer::Nobody,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let streams = addresses.iter().map(|address| TcpStream::connect_timeout(address, PATIENCE));
            match streams.flatten().next() {
                Some(stream) => {
                    let limits =
                        stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
                    limits.map_or_else(Answer::Failed, |()| converse(stream))
                }
                None => Answer::Failed(error),
            }
        }
        Err(error) => Answer::Failed(error),
    }
}

fn ask_unix(path: &Path) -> Answer {
    match UnixStream::connect(path) {
        Ok(stream) => {
            let limits =
                stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
            limits.map_or_else(Answer::Failed, |()| converse(stream))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Nobody,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            match fs::metadata(folder) {
                Ok(found) if found.is_dir() => Answer::Nobody,
                Ok(_) => Answer::Failed(io::Error::other(format!("{} is no folder", folder.display()))),
                Err(error) => Answer::Failed(io::Error::other(format!("{}: {error}", folder.display()))),
            }
        }
        Err(error) => Answer::Failed(error),
    }
}

/// Begins a milter conversation and ends it again.
fn converse(mut stream: impl Read + Write) -> Answer {
    let mut reply = [0; 5];
    match stream.write_all(&OPTNEG).and_then(|()| stream.read_exact(&mut reply)) {
        Ok(()) if reply.last() == Some(&b'O') => {
            // It has told what was asked; a failure to say good-bye changes nothing.
            let _ = stream.write_all(&QUIT);
            Answer::Milter
        }
        _ => Answer::SomebodyElse,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn found(listen: &Listen) -> (Health, String) {
        let mut findings = Findings::default();
        examine(listen, &mut findings);
        let (health, _, detail) = findings.rows.remove(0);
        (health, detail)
    }

    fn answering(reply: &'static [u8]) -> Listen {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(reply).unwrap();
            let _ = stream.read(&mut [0; 64]);
        });
        Listen::Tcp { host: "127.0.0.1".to_owned(), port }
    }

    #[test]
    fn a_milter_is_told_from_other_programs() {
        let optneg = b"\0\0\0\rO\0\0\0\x06\0\0\0\x01\0\0\0\0";
        assert_eq!(found(&answering(optneg)), (Health::Ok, "a milter answers".to_owned()));
        assert_eq!(found(&answering(b"220 mail ready\r\n")).0, Health::Fail);
    }

    #[test]
    fn a_free_place_is_told_from_an_impossible_one() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let tcp = |host: &str| Listen::Tcp { host: host.to_owned(), port };
        let unix = |path: &str| Listen::Unix { path: path.into(), mode: None };
        assert_eq!(found(&tcp("127.0.0.1")).0, Health::Ok);
        assert_eq!(found(&tcp("192.0.2.1")).0, Health::Fail);
        assert_eq!(found(&unix("/tmp/hsmime-doctor-nobody.sock")).0, Health::Ok);
        assert_eq!(found(&unix("/nowhere/milter.sock")).0, Health::Fail);
    }
}
