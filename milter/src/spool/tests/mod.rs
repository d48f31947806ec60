//! Copies from the disk to an SMTP server, through crashes.

mod aside;
mod delivery;
mod refusals;
mod repetitions;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

type Arrived = Receiver<(Vec<String>, Vec<u8>)>;

/// An SMTP server that takes everything and tells what it got: the commands and the message.
fn server(listener: TcpListener) -> Arrived {
    server_that(listener, |_| None)
}

/// One that has answers of its own for some commands; `.` stands for the message.
fn server_that(
    listener: TcpListener,
    answer: impl Fn(&str) -> Option<&'static str> + Send + 'static,
) -> Arrived {
    let (got, gets) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if serve(stream.unwrap(), &got, &answer).is_err() {
                return;
            }
        }
    });
    gets
}

fn serve(
    stream: TcpStream,
    got: &Sender<(Vec<String>, Vec<u8>)>,
    answer: &impl Fn(&str) -> Option<&'static str>,
) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut commands = Vec::new();
    writer.write_all(b"220 here\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let own = answer(&line);
        if line == "DATA" && own.is_none() {
            writer.write_all(b"354 go on\r\n")?;
            let mut message = Vec::new();
            while !message.ends_with(b"\r\n.\r\n") {
                reader.read_until(b'\n', &mut message)?;
            }
            if let Some(own) = answer(".") {
                writer.write_all(format!("{own}\r\n").as_bytes())?;
                continue;
            }
            got.send((std::mem::take(&mut commands), message)).map_err(io::Error::other)?;
        } else if line == "EHLO mx.example.org" && own.is_none() {
            writer.write_all(b"250-here\r\n250-8BITMIME\r\n")?;
        } else if own.is_none() {
            commands.push(line);
        }
        writer.write_all(format!("{}\r\n", own.unwrap_or("250 ok")).as_bytes())?;
    }
}

/// Whom a message arrived for.
fn recipients(commands: &[String]) -> Vec<&str> {
    commands
        .iter()
        .filter_map(|line| line.strip_prefix("RCPT TO:<")?.split_once('>'))
        .map(|(of, _)| of)
        .collect()
}

fn open(folder: &Path, port: u16) -> Result<Arc<Spool>, SpoolError> {
    let server = Listen::Tcp { host: "127.0.0.1".to_owned(), port };
    let to = Reinject { server, state: folder.to_owned() };
    Spool::open(&to, "mx.example.org")
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port where nobody listens.
fn nobody() -> u16 {
    listener().1
}

fn envelope() -> Envelope {
    Envelope {
        sender: "a@example.org".to_owned(),
        recipients: vec!["b@example.net".to_owned(), "c@example.net".to_owned()],
        ..Envelope::default()
    }
}

fn message() -> Message {
    Message::from_stored(b"Message-ID: <1@x>\nSubject: x\n\nHello.\n")
}

fn copy() -> Copy {
    Copy {
        recipients: vec!["c@example.net".to_owned()],
        octets: b"Subject: x\r\n\r\n.Hi \xfc\r\n".to_vec(),
        returned: Returned::Full,
        sender: None,
    }
}

/// The states of the sets.
fn names(folder: &Path) -> Vec<String> {
    let sets = set::files(folder).unwrap();
    let sets = sets.iter().filter(|path| path.is_dir());
    let mut names: Vec<String> =
        sets.filter_map(|path| Some(path.extension()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

fn written(spool: &Arc<Spool>, identity: &Identity, copies: Vec<Copy>) -> Result<Prepared, SpoolError> {
    let envelope = envelope();
    let mut writing = spool.begin(&envelope, identity.clone());
    for copy in copies {
        writing.add(copy)?;
    }
    writing.seal()
}

fn prepare(spool: &Arc<Spool>) -> Prepared {
    let identity = spool.identify(&envelope(), &message());
    written(spool, &identity, vec![copy()]).unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}");
}

const PATIENCE: Duration = Duration::from_secs(30);

/// What a crash leaves: the folder as it is now.
fn after_a_crash(folder: &Path) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    duplicate(folder, other.path());
    other
}

fn duplicate(from: &Path, to: &Path) {
    for path in set::files(from).unwrap() {
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&to).unwrap();
            duplicate(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

fn copy_for(recipients: &[&str]) -> Copy {
    Copy { recipients: recipients.iter().map(|&one| one.to_owned()).collect(), ..copy() }
}

fn prepare_for(spool: &Arc<Spool>, copies: &[&[&str]]) -> Prepared {
    let identity = spool.identify(&envelope(), &message());
    let copies = copies.iter().map(|recipients| copy_for(recipients)).collect();
    written(spool, &identity, copies).unwrap()
}

/// Whom the next messages arrive for, and that there are no others.
#[track_caller]
fn assert_arrive(arrived: &Arrived, count: usize, expected: &[&str]) {
    let mut all = Vec::new();
    for _ in 0..count {
        let (commands, _) = arrived.recv_timeout(PATIENCE).unwrap();
        all.extend(recipients(&commands).into_iter().map(str::to_owned));
    }
    all.sort();
    assert_eq!(all, expected);
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err(), "one too many");
}

/// A sender of its own for what is in a spool's folder, whose thread finds no server.
fn sender_of(spool: &Spool, port: u16) -> sender::Sender {
    sender::Sender {
        shared: Arc::clone(&spool.shared),
        to: Listen::Tcp { host: "127.0.0.1".to_owned(), port },
        name: "mx.example.org".to_owned(),
    }
}
