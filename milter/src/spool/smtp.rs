//! A message handed to an SMTP server (RFC 5321): to all of its recipients or to none.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use super::Entry;

const CONNECT: Duration = Duration::from_secs(10);
/// For each reply. After the final dot a server may take long (RFC 5321 4.5.3.2.6).
const REPLY: Duration = Duration::from_mins(5);
const MAX_REPLY_LINE: u64 = 4096;
const MAX_REPLY_LINES: usize = 100;

/// Sends a message. An error says why the server has not taken it.
pub(super) fn send(host: &str, port: u16, entry: &Entry, message: &[u8]) -> Result<(), String> {
    let mut session = Session::connect(host, port).map_err(|error| format!("{host}:{port}: {error}"))?;
    session.send(entry, message).map_err(|error| format!("{host}:{port}: {error}"))
}

struct Session {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Session {
    fn connect(host: &str, port: u16) -> io::Result<Self> {
        let mut last = io::Error::other("the name has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(REPLY))?;
                    stream.set_write_timeout(Some(REPLY))?;
                    return Ok(Self { reader: BufReader::new(stream.try_clone()?), writer: stream });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn send(&mut self, entry: &Entry, message: &[u8]) -> io::Result<()> {
        self.expect(b'2')?;
        let offers = self.command("EHLO localhost", b'2')?.to_ascii_uppercase();
        let mut parameters = String::new();
        if !message.is_ascii() && offers.contains("8BITMIME") {
            parameters.push_str(" BODY=8BITMIME");
        }
        let is_international = !entry.sender.is_ascii() || entry.recipients.iter().any(|one| !one.is_ascii());
        if is_international && offers.contains("SMTPUTF8") {
            parameters.push_str(" SMTPUTF8");
        }
        self.command(&format!("MAIL FROM:<{}>{parameters}", entry.sender), b'2')?;
        for recipient in &entry.recipients {
            self.command(&format!("RCPT TO:<{recipient}>"), b'2')?;
        }
        self.command("DATA", b'3')?;
        self.writer.write_all(&stuffed(message))?;
        self.expect(b'2')?;
        // It is taken. What becomes of the connection is no matter.
        drop(self.command("QUIT", b'2'));
        Ok(())
    }

    fn command(&mut self, line: &str, class: u8) -> io::Result<String> {
        self.writer.write_all(format!("{line}\r\n").as_bytes())?;
        self.expect(class)
    }

    /// Reads a reply whose code begins with this digit.
    fn expect(&mut self, class: u8) -> io::Result<String> {
        let mut reply = String::new();
        for _ in 0..MAX_REPLY_LINES {
            let mut line = Vec::new();
            self.reader.by_ref().take(MAX_REPLY_LINE).read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
            }
            reply.push_str(&String::from_utf8_lossy(&line));
            if line.get(3) == Some(&b'-') {
                continue;
            }
            return if line.first() == Some(&class) {
                Ok(reply)
            } else {
                let shown: String = reply.chars().filter(|c| !c.is_control()).take(200).collect();
                Err(io::Error::other(format!("the server said {shown}")))
            };
        }
        Err(io::Error::other("the server's reply does not end"))
    }
}

/// The message with dots at the start of lines doubled, and the final dot (RFC 5321 4.5.2).
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(message.len() + message.len() / 64 + 8);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            octets.push(b'.');
        }
        octets.extend_from_slice(line);
    }
    if !octets.ends_with(b"\r\n") {
        octets.extend_from_slice(b"\r\n");
    }
    octets.extend_from_slice(b".\r\n");
    octets
}
