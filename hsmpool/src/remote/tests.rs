//! Client and server against each other, and each against a peer that does not keep to the rules. No token is
//! needed: that there is none is an answer too.

mod bounds;
mod gates;

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use smime::{
    Fault,
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, KeyError, SignatureInput},
};

use self::gates::{Counting, Forgetting, Recording, Refusing};
use super::{
    buffer::Buffer,
    frame::{self, FrameReader, decode},
    gate::{Gate, Open},
    report::{Inquiry, Report},
    server::Server,
    wire::{
        Ask, FromServer, Greeting, Hello, Ids, KeyDefinition, MAGIC, MAX_KEYS, ToServer, VERSION, WireDigest,
        WireLane, WireOperation, WireSignature,
    },
};
use crate::{
    Lane, Pool, PoolError,
    public_key::KeyName,
    request::{Operation, Outcome},
};

const LONG: Duration = Duration::from_secs(20);

/// A server without tokens, which answers on a socket.
struct Served {
    socket: PathBuf,
    server: Arc<Server>,
    _directory: tempfile::TempDir,
}

impl Served {
    fn new(gate: Arc<dyn Gate>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("keyd.sock");
        let server = Arc::new(Server::new(Pool::start(&[]).unwrap()));
        listen(&socket, &server, gate);
        Self { socket, server, _directory: directory }
    }

    fn pool(&self) -> Pool {
        Pool::connect(&self.socket, LONG).unwrap()
    }

    /// A connection over which anything can be sent.
    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn assert_serves(&self) {
        assert!(matches!(ask(&self.pool()), Err(KeyError::NoSuchKey { .. })));
    }
}

fn listen(socket: &Path, server: &Arc<Server>, gate: Arc<dyn Gate>) {
    let (listener, server) = (UnixListener::bind(socket).unwrap(), Arc::clone(server));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (server, gate) = (Arc::clone(&server), Arc::clone(&gate));
            thread::spawn(move || server.serve(stream.unwrap(), gate));
        }
    });
}

fn operation() -> Operation {
    let algorithm = SignatureAlgorithm::Ecdsa(Sha256);
    Operation::Sign { input: SignatureInput::Digest(Digest::of(Sha256, b"x")), algorithm }
}

fn name() -> Arc<KeyName> {
    Arc::new(KeyName::of_public_key_info(b"nobody's key"))
}

fn ask(pool: &Pool) -> Outcome {
    pool.ask(&name(), operation())
}

fn hello() -> Hello {
    Hello { magic: MAGIC, version: VERSION, lane: WireLane::Interactive }
}

fn octets<T: serde::Serialize>(messages: &[T]) -> Vec<u8> {
    let mut buffer = Buffer::default();
    for message in messages {
        frame::append(&mut buffer, message).unwrap();
    }
    buffer.as_slice().to_vec()
}

fn definition() -> ToServer<'static> {
    ToServer::Define(KeyDefinition { public_key_info: b"nobody's key", ids: Ids::of(&[]), description: "it" })
}

fn question(id: u64, key: u32) -> ToServer<'static> {
    let operation = WireOperation::SignDigest {
        digest: WireDigest::Sha256,
        value: &[7; 32],
        algorithm: WireSignature::Ecdsa(WireDigest::Sha256),
    };
    ToServer::Ask(Ask { id, key, micros: 5_000_000, operation })
}

/// What a server says until it ends the connection.
fn all_of(stream: &UnixStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A connection that is cut with octets unread ends with an error; what was read before is there.
    let _ = (&*stream).read_to_end(&mut said);
    said
}

#[test]
fn errors_of_the_server_arrive_with_its_words() {
    let served = Served::new(Arc::new(Open));
    for lane in [Lane::Interactive, Lane::Bulk] {
        let error = ask(&served.pool().lane(lane)).unwrap_err();
        assert!(
            matches!(&error, KeyError::NoSuchKey { token, .. } if token == "(none configured)"),
            "{error}"
        );
    }
    let pool = served.pool();
    pool.ready(LONG).unwrap();
    assert!(pool.status().is_empty(), "a server without tokens");
}

#[test]
fn whoever_does_not_keep_to_the_protocol_is_cut_off_and_harms_nobody() {
    let served = Served::new(Arc::new(Open));
    let greeting = octets(&[hello()]);
    let other = Hello { magic: *b"hsmime-x", ..hello() };
    let mut unknown_variant = greeting.clone();
    unknown_variant.extend([1, 0, 0, 0, 0x7f]);
    for (what, sent) in [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("zeros", vec![0; 100]),
        ("a frame that is too long", u32::MAX.to_le_bytes().to_vec()),
        ("another magic", octets(&[other])),
        ("a message that is none", unknown_variant),
        ("a key that is not defined", [&greeting[..], &octets(&[question(1, 0)])].concat()),
        ("octets after a message", [&greeting[..], &[9, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0]].concat()),
    ] {
        let stream = served.raw();
        // The server may have had enough before all is sent.
        let _ = (&stream).write_all(&sent);
        let begun = Instant::now();
        let said = all_of(&stream);
        assert!(begun.elapsed() < LONG / 2, "{what}: the connection stays open");
        assert!(said.len() < 300, "{what}: {} octets", said.len());
    }
    served.assert_serves();
}

#[test]
fn an_introduction_is_neither_long_nor_without_end() {
    let served = Served::new(Arc::new(Open));
    let begun = Instant::now();
    let long = served.raw();
    (&long).write_all(&1000_u32.to_le_bytes()).unwrap();
    assert!(all_of(&long).is_empty());
    let slow = served.raw();
    let writing = slow.try_clone().unwrap();
    let writer = thread::spawn(move || {
        let octets = [&200_u32.to_le_bytes()[..], &[0; 200]].concat();
        // A word now and then.
        octets.chunks(1).all(|octet| {
            thread::sleep(Duration::from_millis(200));
            (&writing).write_all(octet).is_ok()
        })
    });
    assert!(all_of(&slow).is_empty());
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    assert!(!writer.join().unwrap(), "all was listened to");
}

#[test]
fn another_version_is_refused_with_the_reason() {
    let served = Served::new(Arc::new(Open));
    let stream = served.raw();
    (&stream).write_all(&octets(&[Hello { version: VERSION + 1, ..hello() }])).unwrap();
    let said = all_of(&stream);
    let Greeting::Refused { reason, transient } = decode(&said[4..]).unwrap() else { panic!("welcome") };
    assert!(reason.0.contains("version 2") && !transient, "{}", reason.0);
}

#[test]
fn of_more_keys_than_a_connection_holds_each_is_used_under_its_own_name() {
    let recording = Arc::new(Recording::default());
    let served = Served::new(Arc::clone(&recording) as Arc<dyn Gate>);
    let pool = served.pool();
    // The first, whose place was taken, once more.
    let names = || (0..MAX_KEYS + 10).chain([0, MAX_KEYS - 1]).map(|n| n.to_string());
    for name in names() {
        let name = Arc::new(KeyName::of_parts(b"nobody's key", Vec::new(), name));
        let error = pool.ask(&name, operation()).unwrap_err();
        assert!(matches!(&error, KeyError::NoSuchKey { .. }), "{}: {error}", name.description);
    }
    assert!(names().eq(recording.0.lock().unwrap().iter().cloned()));
}

#[test]
fn a_client_that_does_not_read_is_not_read_and_others_are_served() {
    let served = Served::new(Arc::new(Open));
    let stream = served.raw();
    (&stream).write_all(&octets(&[hello()])).unwrap();
    (&stream).write_all(&octets(&[definition()])).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0_u64;
    let full = loop {
        let questions: Vec<ToServer<'_>> = (0..100).map(|n| question(sent + n, 0)).collect();
        if (&stream).write_all(&octets(&questions)).is_err() {
            break true;
        }
        sent += 100;
        if sent > 200_000 {
            break false;
        }
    };
    assert!(full, "{sent} questions were taken from somebody who reads no answer");
    served.assert_serves();
    // And what was taken is answered, each once, in whatever order.
    let mut reader = FrameReader::new(stream);
    assert!(matches!(decode(reader.wait().unwrap().unwrap()).unwrap(), Greeting::Welcome { .. }));
    let mut answered = vec![false; usize::try_from(sent).unwrap()];
    for _ in 0..sent {
        let FromServer::Answer { id, .. } = decode(reader.wait().unwrap().unwrap()).unwrap() else {
            panic!("no answer")
        };
        assert!(!std::mem::replace(&mut answered[usize::try_from(id).unwrap()], true));
    }
}

#[test]
fn a_client_that_takes_its_time_is_waited_for_alone() {
    let served = Served::new(Arc::new(Open));
    let slow = served.raw();
    let sent = [octets(&[hello()]), octets(&[definition(), question(3, 0)])].concat();
    for octet in sent {
        (&slow).write_all(&[octet]).unwrap();
        if octet % 8 == 0 {
            served.assert_serves();
        }
    }
    let mut reader = FrameReader::new(slow);
    reader.wait().unwrap().unwrap();
    let answer = decode(reader.wait().unwrap().unwrap()).unwrap();
    assert!(matches!(answer, FromServer::Answer { id: 3, .. }));
}

#[test]
fn hundreds_of_callers_share_two_connections() {
    let counted = Arc::new(Counting::default());
    let served = Served::new(Arc::clone(&counted) as Arc<dyn Gate>);
    let pool = served.pool();
    thread::scope(|scope| {
        for caller in 0..200 {
            let pool = if caller % 2 == 0 { pool.clone() } else { pool.lane(Lane::Bulk) };
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(matches!(ask(&pool), Err(KeyError::NoSuchKey { .. })));
                }
            });
        }
    });
    assert_eq!(counted.begun.load(Ordering::Relaxed), 4000);
    assert_eq!(counted.ended.load(Ordering::Relaxed), 4000);
}

#[test]
fn what_the_gate_refuses_is_not_done_and_what_it_cannot_record_is_withheld() {
    let refusing = Served::new(Arc::new(Refusing));
    let error = ask(&refusing.pool()).unwrap_err();
    assert!(matches!(&error, KeyError::Refused { reason, .. } if reason == "not for you"), "{error}");
    assert_eq!(error.fault(), Fault::Operator);
    let forgetting = Served::new(Arc::new(Forgetting));
    let error = ask(&forgetting.pool()).unwrap_err();
    assert!(matches!(&error, KeyError::Unavailable { reason, .. } if reason == "disk full"), "{error}");
}

#[test]
fn questions_about_tokens_that_are_slow_do_not_hold_up_requests() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyd.sock");
    // Its tokens are behind a server that is waited for.
    let slow = Pool::connect(Path::new("/nonexistent/keyd.sock"), LONG).unwrap();
    listen(&socket, &Arc::new(Server::new(slow)), Arc::new(Refusing));
    let stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let inquiry = Inquiry::Missing { keys: Vec::new() };
    let asked = [definition(), ToServer::Inquire { id: 1, inquiry }, question(2, 0)];
    (&stream).write_all(&[octets(&[hello()]), octets(&asked)].concat()).unwrap();
    let mut reader = FrameReader::new(stream);
    reader.wait().unwrap().unwrap();
    let first = decode(reader.wait().unwrap().unwrap()).unwrap();
    assert!(matches!(first, FromServer::Answer { id: 2, .. }));
    let second = decode(reader.wait().unwrap().unwrap()).unwrap();
    assert!(matches!(second, FromServer::Report { id: 1, report: Report::Missing(None) }));
}

#[test]
fn clients_connect_again_by_themselves_and_requests_wait_for_that() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyd.sock");
    let pool = Pool::connect(&socket, LONG).unwrap();
    // Nobody is there yet.
    let early = pool.clone();
    let waiting = thread::spawn(move || ask(&early));
    thread::sleep(Duration::from_millis(100));
    for round in 0..5 {
        let server = Arc::new(Server::new(Pool::start(&[]).unwrap()));
        let path = directory.path().join(format!("{round}.sock"));
        listen(&path, &server, Arc::new(Open));
        std::fs::rename(path, &socket).unwrap();
        for _ in 0..10 {
            let outcome = ask(&pool);
            assert!(matches!(outcome, Err(KeyError::NoSuchKey { .. })), "round {round}: {outcome:?}");
        }
        std::fs::remove_file(&socket).unwrap();
        server.stop(Duration::ZERO);
    }
    assert!(matches!(waiting.join().unwrap(), Err(KeyError::NoSuchKey { .. })));
}

#[test]
fn a_server_that_never_answers_costs_the_deadline_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // It takes everything and says nothing but welcome.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(&octets(&[Greeting::Welcome { window: 4 }])).unwrap();
            thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    let allowed = Duration::from_millis(300);
    let pool = Pool::connect(&socket, allowed).unwrap();
    let begun = Instant::now();
    let (told, answers) = crossbeam_channel::unbounded();
    for _ in 0..4 {
        let told = told.clone();
        pool.submit(&name(), operation(), Box::new(move |outcome| told.send(outcome).unwrap()));
    }
    for _ in 0..4 {
        let outcome = answers.recv_timeout(LONG).unwrap();
        assert!(matches!(outcome, Err(KeyError::Deadline { .. })), "{outcome:?}");
    }
    assert!(begun.elapsed() >= allowed && begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    // The window is full of what is owed.
    let error = ask(&pool).unwrap_err();
    assert_eq!(error.fault(), Fault::Transient, "{error}");
}

#[test]
fn without_a_server_requests_fail_soon_and_closing_ends_them() {
    let pool = Pool::connect(Path::new("/nonexistent/keyd.sock"), LONG).unwrap();
    let begun = Instant::now();
    let error = ask(&pool).unwrap_err();
    assert!(
        matches!(&error, KeyError::Unavailable { reason, .. } if reason.contains("/nonexistent/keyd.sock"))
    );
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    let begun = Instant::now();
    ask(&pool).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "then at once: {:?}", begun.elapsed());
    assert!(matches!(pool.ready(Duration::from_millis(100)), Err(PoolError::Server { transient: true, .. })));

    let fresh = Pool::connect(Path::new("/nonexistent/keyd.sock"), LONG).unwrap();
    let closing = fresh.clone();
    let waiting = thread::spawn(move || ask(&fresh));
    thread::sleep(Duration::from_millis(100));
    closing.close();
    assert!(matches!(waiting.join().unwrap(), Err(KeyError::Unavailable { .. })));
}

#[test]
fn a_peer_that_is_turned_away_hears_why() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            Server::refuse(stream.unwrap(), "user 4711 is no [[keyd.client]]", false);
        }
    });
    let pool = Pool::connect(&socket, LONG).unwrap();
    let begun = Instant::now();
    let error = ask(&pool).unwrap_err();
    assert!(error.to_string().contains("user 4711 is no [[keyd.client]]"), "{error}");
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_stopped_server_answers_what_it_has_and_takes_no_more() {
    let served = Served::new(Arc::new(Open));
    let pool = served.pool();
    ask(&pool).unwrap_err();
    served.server.stop(LONG);
    let stream = served.raw();
    (&stream).write_all(&[octets(&[hello()]), octets(&[definition(), question(1, 0)])].concat()).unwrap();
    let begun = Instant::now();
    all_of(&stream);
    assert!(begun.elapsed() < LONG / 2);
}

#[test]
fn who_does_not_read_does_not_keep_a_server_from_stopping() {
    let served = Served::new(Arc::new(Open));
    let stream = served.raw();
    let questions: Vec<ToServer<'_>> = (0..10_000).map(|id| question(id, 0)).collect();
    let sent = [octets(&[hello()]), octets(&[definition()]), octets(&questions)].concat();
    let writing = stream.try_clone().unwrap();
    let writer = thread::spawn(move || drop((&writing).write_all(&sent)));
    // Until as much waits for it as may.
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    served.server.stop(LONG);
    assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
    drop(stream);
    writer.join().unwrap();
}
