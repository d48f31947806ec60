//! One connection to an LDAP server: every wait ends at the deadline, and what is received has a limit.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use zeroize::Zeroizing;

use super::{
    message::{self, LdapResult, Response, Search},
    server::{Password, Security, Server},
};
use crate::LookupError;

/// How many octets a search may bring.
const MAX_OCTETS: usize = 16 << 20;

/// A connection for one look-up.
pub(super) struct Connection {
    server: String,
    stream: Stream,
    buffer: Vec<u8>,
    received: usize,
    id: u32,
}

enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

/// A socket on which no call outlives the deadline, however slowly the other side sends.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

/// What a search brought.
pub(super) struct Found {
    /// The values of each entry.
    pub(super) entries: Vec<Vec<Vec<u8>>>,
    /// Whether others may have more, whom nobody asks (RFC 4511 4.5.3).
    pub(super) is_referred: bool,
    pub(super) result: LdapResult,
}

impl Connection {
    /// Connects, with TLS where that is asked for.
    pub(super) fn open(
        server: &Server,
        tls: Option<&Arc<ClientConfig>>,
        deadline: Instant,
    ) -> Result<Self, LookupError> {
        let name = server.to_string();
        let fail = |reason: String| LookupError::Unreachable { server: name.clone(), reason };
        let socket = connect(server, deadline).map_err(|error| fail(error.to_string()))?;
        let timed = Timed { socket, deadline };
        let mut connection = Self {
            server: name.clone(),
            stream: Stream::Plain(timed),
            buffer: Vec::new(),
            received: 0,
            id: 0,
        };
        if server.security() == Security::Plain {
            return Ok(connection);
        }
        let tls = tls.ok_or_else(|| fail("TLS has no authorities".to_owned()))?;
        if server.security() == Security::StartTls {
            connection.start_tls()?;
        }
        let Stream::Plain(timed) = connection.stream else {
            return Ok(connection);
        };
        let client = ClientConnection::new(Arc::clone(tls), server.name().map_err(&fail)?);
        let client = client.map_err(|error| fail(error.to_string()))?;
        let mut stream = StreamOwned::new(client, timed);
        // Now, and not with the first message: what fails here is TLS.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| fail(format!("TLS: {error}")))?;
        }
        connection.stream = Stream::Tls(Box::new(stream));
        Ok(connection)
    }

    fn start_tls(&mut self) -> Result<(), LookupError> {
        let id = self.next_id();
        self.send(&message::start_tls(id))?;
        match self.receive(id)? {
            Response::Extended(LdapResult { code: LdapResult::SUCCESS, .. }) => {}
            Response::Extended(result) => {
                return Err(self.refused(&format!("StartTLS: {}", result.describe())));
            }
            other => return Err(self.unexpected(&other)),
        }
        // What came with it came without protection, and would be taken for protected (CVE-2011-0411 in others).
        if self.buffer.is_empty() { Ok(()) } else { Err(self.fail("it sends on after agreeing to TLS")) }
    }

    /// Says who is asking.
    pub(super) fn bind(&mut self, name: &str, password: &Password) -> Result<(), LookupError> {
        let id = self.next_id();
        let request = Zeroizing::new(message::bind(id, name, password.expose()));
        self.send(&request)?;
        match self.receive(id)? {
            Response::Bind(LdapResult { code: LdapResult::SUCCESS, .. }) => Ok(()),
            Response::Bind(result) => Err(self.refused(&result.describe())),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Searches, to the end.
    pub(super) fn search(&mut self, search: &Search<'_>) -> Result<Found, LookupError> {
        let id = self.next_id();
        self.send(&message::search(id, search))?;
        let (mut entries, mut is_referred) = (Vec::new(), false);
        loop {
            match self.receive(id)? {
                Response::Entry(values) => {
                    // A server may not know of size limits.
                    if entries.len() >= usize::try_from(search.size_limit).unwrap_or(usize::MAX) {
                        return Err(self.fail("it sends more entries than were asked for"));
                    }
                    entries.push(values);
                }
                Response::Reference => is_referred = true,
                Response::Done(result) => return Ok(Found { entries, is_referred, result }),
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Says goodbye; nobody waits for an answer.
    pub(super) fn close(mut self) {
        let id = self.next_id();
        let _ = self.send(&message::unbind(id));
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }

    /// That the server refuses, in its words.
    pub(super) fn refused(&self, reason: &str) -> LookupError {
        LookupError::Refused { server: self.server.clone(), reason: reason.to_owned() }
    }

    fn next_id(&mut self) -> u32 {
        self.id += 1;
        self.id
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), LookupError> {
        let sent = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(octets).and_then(|()| stream.flush()),
            Stream::Tls(stream) => stream.write_all(octets).and_then(|()| stream.flush()),
        };
        sent.map_err(|error| self.broken(&error))
    }

    /// The next message with this number; notices end it, others are passed over.
    fn receive(&mut self, id: u32) -> Result<Response, LookupError> {
        loop {
            let octets = self.receive_message()?;
            match message::read(&octets) {
                Ok((_, Some(Response::Notice(result)))) => {
                    return Err(self.fail(&format!("it hangs up: {}", result.describe())));
                }
                Ok((found, Some(response))) if found == id => return Ok(response),
                Ok(_) => {}
                Err(error) => return Err(self.fail(&format!("this is not LDAP: {error}"))),
            }
        }
    }

    fn receive_message(&mut self) -> Result<Vec<u8>, LookupError> {
        loop {
            let length = message::length(&self.buffer).map_err(|reason| self.fail(reason))?;
            if let Some(length) = length {
                if length > MAX_OCTETS {
                    return Err(self.fail("a message that is longer than anybody's certificates"));
                }
                if self.buffer.len() >= length {
                    let rest = self.buffer.split_off(length);
                    return Ok(std::mem::replace(&mut self.buffer, rest));
                }
            }
            let mut chunk = [0; 16 << 10];
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read(&mut chunk),
                Stream::Tls(stream) => stream.read(&mut chunk),
            };
            let read = match read {
                Ok(0) => return Err(self.fail("it hangs up")),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(&error)),
            };
            self.received += read;
            if self.received > MAX_OCTETS {
                return Err(self.fail("it sends more than anybody's certificates"));
            }
            self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
        }
    }

    fn fail(&self, reason: &str) -> LookupError {
        LookupError::Server { server: self.server.clone(), reason: reason.to_owned() }
    }

    /// That the connection broke, which has nothing to do with what was asked.
    fn broken(&self, error: &io::Error) -> LookupError {
        LookupError::Unreachable { server: self.server.clone(), reason: error.to_string() }
    }

    fn unexpected(&self, response: &Response) -> LookupError {
        let words = match response {
            Response::Bind(_) => "a BindResponse",
            Response::Extended(_) | Response::Notice(_) => "an ExtendedResponse",
            Response::Entry(_) | Response::Reference => "an entry",
            Response::Done(_) => "a SearchResultDone",
        };
        self.fail(&format!("it answers with {words} that was not asked for"))
    }
}

/// Tries each of the host's addresses, the last for all the time that is left.
fn connect(server: &Server, deadline: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (server.host.as_str(), server.port).to_socket_addrs()?.collect();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let share = left(deadline)? / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "the time is over")) } else { Ok(left) }
}

/// A socket says `WouldBlock` where it means that the time is over.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::Error::new(io::ErrorKind::TimedOut, "the time is over")
    } else {
        error
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.deadline)?))?;
        self.socket.read(buffer).map_err(late)
    }
}

impl Write for Timed {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.deadline)?))?;
        self.socket.write(octets).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
