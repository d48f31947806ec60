//! Copies from the disk to an SMTP server, through crashes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::thread;

use super::*;

/// An SMTP server that takes everything and tells what it got: the commands and the message.
fn server(listener: TcpListener) -> Receiver<(Vec<String>, Vec<u8>)> {
    let (got, gets) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if serve(stream.unwrap(), &got).is_err() {
                return;
            }
        }
    });
    gets
}

fn serve(stream: TcpStream, got: &Sender<(Vec<String>, Vec<u8>)>) -> io::Result<()> {
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
        if line == "DATA" {
            writer.write_all(b"354 go on\r\n")?;
            let mut message = Vec::new();
            while !message.ends_with(b"\r\n.\r\n") {
                reader.read_until(b'\n', &mut message)?;
            }
            got.send((std::mem::take(&mut commands), message)).map_err(io::Error::other)?;
        } else if line == "EHLO localhost" {
            writer.write_all(b"250-here\r\n250-8BITMIME\r\n")?;
        } else {
            commands.push(line);
        }
        writer.write_all(b"250 ok\r\n")?;
    }
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
    Copy { recipients: vec!["c@example.net".to_owned()], octets: b"Subject: x\r\n\r\n.Hi \xfc\r\n".to_vec() }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = files(folder)
        .unwrap()
        .iter()
        .filter_map(|path| Some(path.extension()?.to_str()?.to_owned()))
        .collect();
    names.retain(|name| name != "key");
    names.sort();
    names
}

fn prepare(spool: &Arc<Spool>) -> Prepared {
    let identity = spool.identify(&envelope(), &message());
    spool.prepare(&envelope(), &identity, vec![copy()]).unwrap()
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
    for path in files(folder).unwrap() {
        fs::copy(&path, other.path().join(path.file_name().unwrap())).unwrap();
    }
    other
}

#[test]
fn a_committed_copy_is_handed_back_once_and_known_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = Spool::open(folder.path(), "127.0.0.1", port).unwrap();
    let prepared = prepare(&spool);
    assert_eq!(names(folder.path()), [PREPARED]);
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err(), "nothing leaves before the answer");
    prepared.commit().unwrap();
    let (commands, octets) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(commands, ["MAIL FROM:<a@example.org> BODY=8BITMIME", "RCPT TO:<c@example.net>"]);
    let text = octets.strip_suffix(b".\r\n").unwrap();
    assert!(text.ends_with(b"\r\nSubject: x\r\n\r\n..Hi \xfc\r\n"), "{}", String::from_utf8_lossy(text));
    until("the entry is gone", || names(folder.path()).is_empty());
    // As it comes back, dots unstuffed.
    let back = Message::from_stored(&String::from_utf8_lossy(text).into_owned().into_bytes());
    assert!(!spool.is_ours(&envelope(), &back), "another text");
    let text = [text.strip_suffix(b"..Hi \xfc\r\n").unwrap(), b".Hi \xfc\r\n"].concat();
    let back = Message::from_stored(&text);
    let alone = Envelope { recipients: copy().recipients, ..envelope() };
    assert!(spool.is_ours(&alone, &back));
    assert!(!spool.is_ours(&envelope(), &back), "other recipients");
    assert!(
        !spool.is_ours(&Envelope { sender: "x@example.org".to_owned(), ..alone }, &back),
        "another sender"
    );
    assert!(!spool.is_ours(&envelope(), &message()), "no marker");
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn copies_of_a_message_that_was_not_answered_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), "127.0.0.1", nobody()).unwrap();
    drop(prepare(&spool));
    assert!(names(folder.path()).is_empty());
    let with_control = Copy { recipients: vec!["c\n@example.net".to_owned()], ..copy() };
    let identity = spool.identify(&envelope(), &message());
    assert!(spool.prepare(&envelope(), &identity, vec![copy(), with_control]).is_err());
    assert!(names(folder.path()).is_empty(), "one that cannot be written takes the others along");
    assert!(Spool::open(folder.path(), "127.0.0.1", 1).is_err(), "one process at a time");
}

#[test]
fn copies_wait_for_a_server_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, port) = listener();
    drop(closed);
    let spool = Spool::open(folder.path(), "127.0.0.1", port).unwrap();
    prepare(&spool).commit().unwrap();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(names(folder.path()), [READY]);
    let arrived = server(TcpListener::bind(("127.0.0.1", port)).unwrap());
    arrived.recv_timeout(PATIENCE).unwrap();
    until("the entry is gone", || names(folder.path()).is_empty());
}

#[test]
fn a_copy_whose_answer_was_lost_in_a_crash_is_sent_and_the_repetition_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), "127.0.0.1", nobody()).unwrap();
    let prepared = prepare(&spool);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    fs::write(crashed.path().join("0-0-0.new"), b"hsmime copy 1\nfrom a\nto b\n\nhalf").unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = Spool::open(crashed.path(), "127.0.0.1", port).unwrap();
    arrived.recv_timeout(PATIENCE).unwrap();
    until("it is remembered", || names(crashed.path()) == [SENT]);
    // The client, who had no answer, sends it again; first in vain.
    drop(prepare(&spool));
    assert_eq!(names(crashed.path()), [SENT]);
    prepare(&spool).commit().unwrap();
    assert!(names(crashed.path()).is_empty());
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err(), "the copy is there already");
    // Whoever sends the same a third time means it.
    prepare(&spool).commit().unwrap();
    arrived.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_copy_in_doubt_that_still_waits_when_the_message_comes_again_is_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, port) = listener();
    drop(closed);
    let spool = Spool::open(folder.path(), "127.0.0.1", port).unwrap();
    let prepared = prepare(&spool);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    let spool = Spool::open(crashed.path(), "127.0.0.1", port).unwrap();
    assert_eq!(names(crashed.path()), [DOUBTFUL]);
    prepare(&spool).commit().unwrap();
    assert_eq!(names(crashed.path()), [READY]);
    let arrived = server(TcpListener::bind(("127.0.0.1", port)).unwrap());
    arrived.recv_timeout(PATIENCE).unwrap();
    until("the entry is gone", || names(crashed.path()).is_empty());
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn without_a_message_id_nothing_is_taken_for_a_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), "127.0.0.1", nobody()).unwrap();
    let without = Message::from_stored(b"Subject: x\n\nHello.\n");
    assert_ne!(spool.identify(&envelope(), &without), spool.identify(&envelope(), &without));
    assert_eq!(spool.identify(&envelope(), &message()), spool.identify(&envelope(), &message()));
}
