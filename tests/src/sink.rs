//! An SMTP server that keeps exactly the octets it was given: the place mail is delivered to in tests.

use std::io::{BufRead as _, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use anyhow::{Context as _, Result, bail};

use crate::acceptor::Acceptor;

/// A mail that arrived.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// `MAIL FROM` without angle brackets and parameters.
    pub from: String,
    /// Each `RCPT TO` without angle brackets and parameters.
    pub to: Vec<String>,
    /// The octets after DATA, dots unstuffed.
    pub octets: Vec<u8>,
    /// The parameters of MAIL, and of each RCPT.
    pub parameters: Vec<String>,
}

impl Delivered {
    /// What is known of it after MAIL.
    fn from(from: String, parameters: Option<String>) -> Self {
        Self { from, to: Vec::new(), octets: Vec::new(), parameters: parameters.into_iter().collect() }
    }

    /// Writes the octets to a file, for a peer to read.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.octets).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.octets.get(..2000).unwrap_or(&self.octets);
        writeln!(f, "from {:?} to {:?}, {} octets:", self.from, self.to, self.octets.len())?;
        f.write_str(&String::from_utf8_lossy(start))
    }
}

/// Which extensions the sink offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// 8BITMIME and SMTPUTF8: 8-bit mail comes as it is.
    #[default]
    EightBit,
    /// The same, and DSN: what is asked of delivery comes along.
    Reports,
    /// Nothing: Postfix converts 8-bit parts on the way.
    SevenBit,
}

/// The running server; it stops when dropped.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct Shared {
    offer: Offer,
    arrived: Mutex<Vec<Delivered>>,
    bell: Condvar,
    full: Mutex<Vec<String>>,
}

impl Sink {
    /// Listens on a port of the loopback that the kernel picks.
    pub fn start(offer: Offer) -> Result<Self> {
        let shared = Arc::new(Shared {
            offer,
            arrived: Mutex::default(),
            bell: Condvar::new(),
            full: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        Ok(Self { shared, acceptor: Acceptor::start(move |stream| serve(stream, &serving))? })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.acceptor.port()
    }

    /// From now on this recipient's mailbox is full: what is sent to it is refused for good after DATA.
    pub fn fill(&self, recipient: &str) {
        self.shared.full().push(recipient.to_owned());
    }

    /// Everything that arrived so far.
    pub fn mails(&self) -> Vec<Delivered> {
        self.shared.arrived().clone()
    }

    /// Everything that arrived since the last time, which is forgotten here.
    pub fn take(&self) -> Vec<Delivered> {
        std::mem::take(&mut *self.shared.arrived())
    }

    /// Waits until at least `count` mails have arrived, and gives all there are.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Delivered>> {
        let deadline = Instant::now() + limit;
        let mut arrived = self.shared.arrived();
        while arrived.len() < count {
            let Some(rest) = deadline.checked_duration_since(Instant::now()) else {
                bail!("{} of {count} mails arrived within {limit:?}", arrived.len());
            };
            let waited = self.shared.bell.wait_timeout(arrived, rest);
            arrived = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(arrived.clone())
    }
}

impl Shared {
    fn arrived(&self) -> MutexGuard<'_, Vec<Delivered>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> MutexGuard<'_, Vec<String>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut say = |line: &str| writer.write_all(format!("{line}\r\n").as_bytes());
    let mut mail = Delivered::from(String::new(), None);
    say("220 sink.invalid ESMTP")?;
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        match (verb.as_str(), shared.offer) {
            ("EHLO", Offer::EightBit) => {
                say("250-sink.invalid\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n250 8BITMIME")?;
            }
            ("EHLO", Offer::Reports) => {
                say("250-sink.invalid\r\n250-DSN\r\n250-SMTPUTF8\r\n250 8BITMIME")?;
            }
            ("EHLO", Offer::SevenBit) => say("250-sink.invalid\r\n250 PIPELINING")?,
            ("MAIL", _) => {
                mail = Delivered::from(path(&line), Some(parameters(&line)));
                say("250 ok")?;
            }
            ("RCPT", _) => {
                mail.to.push(path(&line));
                mail.parameters.push(parameters(&line));
                say("250 ok")?;
            }
            ("DATA", _) => {
                say("354 go on")?;
                mail.octets = unstuffed(&mut reader)?;
                if mail.to.iter().any(|recipient| shared.full().contains(recipient)) {
                    say("552 5.2.2 the mailbox is full")?;
                    continue;
                }
                shared.arrived().push(mail.clone());
                shared.bell.notify_all();
                say("250 kept")?;
            }
            ("QUIT", _) => return say("221 bye"),
            ("HELO" | "RSET" | "NOOP", _) => say("250 ok")?,
            _ => say("502 not here")?,
        }
    }
}

/// The parameters of a MAIL or RCPT command.
pub(crate) fn parameters(command: &str) -> String {
    command.rsplit_once('>').map_or_else(String::new, |(_, parameters)| parameters.trim().to_owned())
}

/// The path of a MAIL or RCPT command, without angle brackets.
pub(crate) fn path(command: &str) -> String {
    let path = command.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    path.map(|(path, _)| path.to_owned()).unwrap_or_default()
}

/// The octets after DATA up to the final dot (RFC 5321 4.5.2).
pub(crate) fn unstuffed(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    loop {
        let start = octets.len();
        if reader.read_until(b'\n', &mut octets)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let at_line_start = start == 0 || octets.get(..start).is_some_and(|all| all.ends_with(b"\r\n"));
        if !at_line_start {
            continue;
        }
        match octets.get(start..) {
            Some(b".\r\n") => {
                octets.truncate(start);
                return Ok(octets);
            }
            Some([b'.', ..]) => drop(octets.remove(start)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::Client;

    #[test]
    fn octets_arrive_as_they_were_sent() {
        let sink = Sink::start(Offer::EightBit).unwrap();
        let octets =
            b"Subject: x\r\n\r\n.dot\r\n..two\r\n\xff\x00bare \n lf\r\n.\r\nFrom here  \r\n".to_vec();
        let mut client = Client::greet(sink.port()).unwrap();
        client.command("EHLO me").unwrap();
        assert_eq!(client.send("a@x", &["b@y", "c@z"], &octets).unwrap().code, 250);
        let to = vec!["b@y".into(), "c@z".into()];
        let parameters = vec!["BODY=8BITMIME".into(), String::new(), String::new()];
        let expected = Delivered { from: "a@x".into(), to, octets, parameters };
        assert_eq!(sink.wait_for(1, Duration::from_secs(10)).unwrap(), [expected]);
    }
}
