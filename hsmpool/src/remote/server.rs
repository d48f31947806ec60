//! The answering half: one thread reads a connection's requests, and their answers go out from wherever they
//! come.
//!
//! No client holds up another by what it says or leaves unread. Answers are sent without waiting; a client that does not
//! read its answers is not read either, so that what it can have waiting is bounded; and whatever is not a
//! message of ours ends the connection. But a lane of a token is served in the order of asking, whoever asks: a client
//! with very many connections has as many places in that line, and others get their share. Only the bulk lane lets the
//! interactive one go first.

use std::{
    mem,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use smime::key::KeyError;

use super::{
    error::Text,
    frame::{FrameError, FrameReader, Shared, decode},
    gate::{Gate, KeyUse},
    inquiries::{Inquiries, LONGEST_INFO},
    outbox::{Cork, Outbox, flush_corked},
    outstanding::{Connection, Duty, WINDOW},
    receipts::Receipts,
    served_keys::{ServedKey, ServedKeys},
    wire::{Ask, Greeting, Hello, MAGIC, ToServer, VERSION},
};
use crate::{Pool, request::Lane};

/// Serves a pool to clients, each on a stream of its own.
pub struct Server {
    pool: RwLock<Pool>,
    connections: Mutex<Vec<Weak<Connection>>>,
    stopping: AtomicBool,
    /// For a process that serves its parent.
    receipts: Option<Arc<Receipts>>,
}

/// Why a connection was ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The client sent what no client sends.
    #[error("the client does not keep to the protocol: {0}")]
    Protocol(String),
    /// The client speaks another version.
    #[error("the client speaks version {theirs} of the protocol, this is version {VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// Of a key that it might not use when it defined it, nothing is known.
    #[error("the client may use a key now that it might not when it defined it: it begins anew")]
    Permitted,
}

impl From<FrameError> for ServeError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl Server {
    /// Serves this pool. Its lanes are the clients'.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool: RwLock::new(pool),
            connections: Mutex::default(),
            stopping: AtomicBool::new(false),
            receipts: None,
        }
    }

    /// Serves a parent, who says what has become of notices.
    pub(super) fn of_parent(pool: Pool, receipts: Arc<Receipts>) -> Self {
        Self { receipts: Some(receipts), ..Self::new(pool) }
    }

    /// Requests that come from now on go to another pool; the old one is given back.
    pub fn replace_pool(&self, pool: Pool) -> Pool {
        mem::replace(&mut *self.pool.write().unwrap_or_else(PoisonError::into_inner), pool)
    }

    /// The pool that requests go to.
    pub fn pool(&self) -> Pool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves one connection to its end. An error says what was wrong with the client.
    pub fn serve(&self, stream: UnixStream, gate: Arc<dyn Gate>) -> Result<(), ServeError> {
        let stream = Arc::new(stream);
        let outbox = Outbox::new(Arc::clone(&stream));
        let mut reader = FrameReader::new(Shared(Arc::clone(&stream)));
        let result = Self::greet(&stream, &outbox, &mut reader).and_then(|lane| match lane {
            Some(lane) => self.serve_greeted(lane, &stream, &outbox, &mut reader, gate),
            None => Ok(()),
        });
        outbox.wait_until_sent(LAST_WORDS);
        outbox.close();
        result
    }

    /// Tells a client why it is not served.
    pub fn refuse(stream: UnixStream, reason: &str, transient: bool) {
        let outbox = Outbox::new(Arc::new(stream));
        // So short a message always fits, and an empty socket takes it at once.
        let _ = outbox.post(&Greeting::Refused { reason: Text::of(reason), transient });
        outbox.wait_until_sent(Duration::ZERO);
    }

    /// Takes no more requests, waits until those under way are answered, at most so long, and ends all
    /// connections. What is still in line after a short while is not answered: its client asks the next server.
    pub fn stop(&self, limit: Duration) {
        self.stopping.store(true, Ordering::Release);
        let begun = Instant::now();
        let until = begun + limit;
        let connections: Vec<_> = self.lock_connections().iter().filter_map(Weak::upgrade).collect();
        for connection in &connections {
            // Its reader sees the end, and leaves the rest to this.
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        let in_line = until.min(begun + LINE_LIMIT);
        for connection in &connections {
            connection.wait_until_answered(in_line);
        }
        if !connections.iter().all(|connection| connection.is_answered()) {
            for connection in &connections {
                connection.leave();
            }
            self.pool().begin_no_more();
        }
        for connection in &connections {
            connection.wait_until_answered(until);
        }
        // Who does not read keeps nobody waiting: meanwhile there is no server.
        let until = until.min(Instant::now() + LAST_ANSWERS);
        for connection in &connections {
            connection.outbox.wait_until_sent(until.saturating_duration_since(Instant::now()));
            connection.outbox.close();
        }
    }

    /// Has a client introduce itself, and says hello. `None`: it has gone.
    pub(super) fn greet(
        stream: &UnixStream,
        outbox: &Arc<Outbox>,
        reader: &mut FrameReader<Shared>,
    ) -> Result<Option<Lane>, ServeError> {
        let protocol = |error: std::io::Error| ServeError::Protocol(error.to_string());
        let until = Instant::now() + HELLO_LIMIT;
        loop {
            match reader.announced()? {
                Some((len, _)) if len > LONGEST_HELLO => {
                    return Err(ServeError::Protocol(format!("its first message has {len} octets")));
                }
                Some((_, true)) => break,
                _ => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ServeError::Protocol("it takes too long to introduce itself".into()));
            }
            stream.set_read_timeout(Some(left)).map_err(protocol)?;
            if !reader.fill()? {
                return Ok(None);
            }
        }
        let Some(frame) = reader.next()? else { return Ok(None) };
        let hello = decode::<Hello>(frame)?;
        if hello.magic != MAGIC {
            return Err(ServeError::Protocol("it does not introduce itself".into()));
        }
        if hello.version != VERSION {
            let error = ServeError::Version { theirs: hello.version };
            outbox.post(&Greeting::Refused { reason: Text::of(&error.to_string()), transient: false })?;
            return Err(error);
        }
        stream.set_read_timeout(None).map_err(protocol)?;
        outbox.post(&Greeting::Welcome { window: WINDOW })?;
        Ok(Some(hello.lane.into()))
    }

    /// Serves a client that has introduced itself.
    pub(super) fn serve_greeted(
        &self,
        lane: Lane,
        stream: &Arc<UnixStream>,
        outbox: &Arc<Outbox>,
        reader: &mut FrameReader<Shared>,
        gate: Arc<dyn Gate>,
    ) -> Result<(), ServeError> {
        let connection = Connection::new(outbox, stream, lane, gate);
        self.register(&connection);
        let result = self.read(&connection, reader);
        if self.stopping.load(Ordering::Acquire) && result.is_ok() {
            connection.wait_until_answered(Instant::now() + STOP_LIMIT);
        } else {
            connection.give_up();
        }
        result
    }

    fn register(&self, connection: &Arc<Connection>) {
        let mut connections = self.lock_connections();
        connections.retain(|other| other.strong_count() > 0);
        connections.push(Arc::downgrade(connection));
        if self.stopping.load(Ordering::Acquire) {
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
    }

    fn read(&self, connection: &Arc<Connection>, reader: &mut FrameReader<Shared>) -> Result<(), ServeError> {
        let mut keys = ServedKeys::new(connection.gate.defined());
        let mut inquiries = Inquiries::new(&connection.outbox, &connection.gate);
        loop {
            // What goes on to another process, and what is answered at once, goes out together.
            let cork = Cork::new();
            while let Some(frame) = reader.next()? {
                if self.stopping.load(Ordering::Acquire) {
                    return Ok(());
                }
                self.take(connection, &mut keys, &mut inquiries, frame)?;
                // A few octets may have been answered already, by many more: all that was read must not be.
                connection.outbox.wait_below(BACKLOG);
            }
            drop(cork);
            // Who does not take its answers has its requests wait.
            connection.outbox.wait_below(BACKLOG);
            match reader.fill() {
                Ok(true) => {}
                // However a connection ends: nobody is left to complain to.
                Ok(false) | Err(FrameError::Io(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(
        &self,
        connection: &Arc<Connection>,
        keys: &mut ServedKeys,
        inquiries: &mut Inquiries,
        frame: &[u8],
    ) -> Result<(), ServeError> {
        match decode(frame)? {
            ToServer::Ask(ask) => self.ask(connection, keys, &ask)?,
            ToServer::Cancel { id } => connection.cancel(id),
            ToServer::Define(definition) => {
                let len = definition.public_key_info.len();
                if len > LONGEST_INFO {
                    return Err(ServeError::Protocol(format!("it defines a public key of {len} octets")));
                }
                keys.push(ServedKey::new(&definition, &*connection.gate))?;
            }
            ToServer::Inquire { .. } => inquiries.take(frame, self.pool()),
            ToServer::Noted { number, kept } => match &self.receipts {
                Some(receipts) => receipts.arrived(number, kept),
                None => return Err(ServeError::Protocol("it answers what nobody told it".into())),
            },
            ToServer::BeginNoMore if self.receipts.is_some() => self.pool().begin_no_more(),
            ToServer::BeginNoMore => return Err(ServeError::Protocol("it stops what is not its own".into())),
        }
        Ok(())
    }

    fn ask(&self, connection: &Arc<Connection>, keys: &ServedKeys, ask: &Ask<'_>) -> Result<(), ServeError> {
        let id = ask.id;
        let key = keys
            .get(ask.key)
            .ok_or_else(|| ServeError::Protocol("it uses a key that it has not defined".into()))?;
        if key.name.is_none() && connection.gate.shows(&key.sha256) {
            return Err(ServeError::Permitted);
        }
        let pause = connection.gate.pause();
        if !pause.is_zero() {
            // What this thread has to say must not wait with it.
            flush_corked();
            thread::sleep(pause);
        }
        if !connection.begin(id) {
            return Err(ServeError::Protocol(format!("request {id} is there already")));
        }
        let Some(operation) = ask.operation.to_operation() else {
            let certificate = key.description.to_string();
            let operation = "an operation on what cannot be, or is too long".to_owned();
            connection.answer(id, &Err(KeyError::Unsupported { certificate, operation }));
            return Ok(());
        };
        let usage = KeyUse {
            lane: connection.lane,
            key: &key.sha256,
            modulus: key.modulus.as_ref(),
            description: &key.description,
            operation: &operation,
        };
        let closing = match connection.gate.begin(&usage) {
            Ok(closing) => closing,
            Err(error) => {
                connection.answer(id, &Err(error));
                return Ok(());
            }
        };
        let duty = Duty::new(connection, id, closing);
        // It has been permitted this very moment: its duty is fulfilled as it is dropped.
        let Some(name) = &key.name else { return Ok(()) };
        let time = Duration::from_micros(ask.micros).min(LONGEST_DEADLINE);
        let pool = self.pool().lane(connection.lane).with_deadline(time);
        let pending = pool.submit(name, operation, Box::new(move |outcome| duty.fulfil(outcome)));
        connection.submitted(id, pending);
        Ok(())
    }

    fn lock_connections(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many octets of answers may wait for a client before it is not read any more.
pub(super) const BACKLOG: usize = 64 * 1024;
/// How long a client may take to introduce itself.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// More than any version needs for that.
const LONGEST_HELLO: usize = 256;
/// How long the end of a connection waits for its last words to be taken.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long a server that stops lets what is in line begin: with what then runs, and the last answers, it is away for no
/// longer than clients wait for it ([`super::client`]).
const LINE_LIMIT: Duration = Duration::from_secs(3);
/// How long a server that stops waits for its last answers to be taken.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long a connection that is stopped waits for its answers, if nobody sets another limit.
const STOP_LIMIT: Duration = Duration::from_mins(1);
/// Nobody waits longer.
const LONGEST_DEADLINE: Duration = Duration::from_mins(10);
