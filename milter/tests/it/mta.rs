//! The MTA's side of the milter protocol, version 6, as Postfix speaks it: macros before each stage, `D` before
//! every `B`, no waiting for replies that were switched off, `ABORT` after each message.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What Postfix 3.7 offers.
pub(crate) const ALL_ACTIONS: u32 = 0x1ff;
pub(crate) const ALL_OPTIONS: u32 = 0x001f_ffff;

pub(crate) const NO_CONNECT: u32 = 0x1;
pub(crate) const NO_HELO: u32 = 0x2;
pub(crate) const NO_UNKNOWN: u32 = 0x100;
pub(crate) const NO_DATA: u32 = 0x200;
pub(crate) const NOREPLY_HEADER: u32 = 0x80;
pub(crate) const NOREPLY_MAIL: u32 = 0x4000;
pub(crate) const NOREPLY_END_OF_HEADER: u32 = 0x0004_0000;
pub(crate) const LEADING_SPACE: u32 = 0x0010_0000;

/// A connection to the milter.
pub(crate) struct Mta {
    stream: TcpStream,
    options: u32,
}

/// The milter's answer to the offer.
#[derive(Debug)]
pub(crate) struct Negotiated {
    pub(crate) version: u32,
    pub(crate) actions: u32,
    pub(crate) options: u32,
    /// Macros asked for, by the protocol's number of the stage.
    pub(crate) macros: BTreeMap<u32, String>,
}

/// A reply or request of the milter: its letter and its data.
pub(crate) type Packet = (char, Vec<u8>);

/// What came between the end of a message and the final reply.
#[derive(Debug)]
pub(crate) struct Answer {
    /// In order, without progress notes.
    pub(crate) requests: Vec<Packet>,
    pub(crate) progress: usize,
    pub(crate) reply: Packet,
}

impl Answer {
    /// The text of the SMTP reply that the milter chose.
    pub(crate) fn smtp(&self) -> String {
        smtp(&self.reply)
    }

    pub(crate) fn accepted(&self) -> bool {
        matches!(self.reply.0, 'a' | 'c')
    }
}

/// The text of the SMTP reply that the milter chose.
pub(crate) fn smtp(reply: &Packet) -> String {
    assert_eq!(reply.0, 'y', "no SMTP reply: {reply:?}");
    let text = String::from_utf8(reply.1.clone()).unwrap();
    text.trim_end_matches('\0').to_owned()
}

impl Mta {
    /// Connects without a word.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, options: 0 }
    }

    /// Connects and negotiates like Postfix.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut mta = Self::connect(address);
        mta.negotiate(ALL_ACTIONS, ALL_OPTIONS).unwrap();
        mta
    }

    /// From now on a piece waits until the one before is acknowledged (RFC 896), as it does in Postfix.
    pub(crate) fn send_one_by_one(&self) {
        self.stream.set_nodelay(false).unwrap();
    }

    pub(crate) fn negotiate(&mut self, actions: u32, options: u32) -> io::Result<Negotiated> {
        let mut offer = 6_u32.to_be_bytes().to_vec();
        offer.extend(actions.to_be_bytes());
        offer.extend(options.to_be_bytes());
        self.send('O', &offer);
        let (letter, data) = self.receive()?;
        assert_eq!(letter, 'O');
        let number = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().unwrap());
        let mut macros = BTreeMap::new();
        let mut rest = &data[12..];
        while !rest.is_empty() {
            let end = 4 + rest[4..].iter().position(|octet| *octet == 0).unwrap();
            let stage = u32::from_be_bytes(rest[..4].try_into().unwrap());
            macros.insert(stage, String::from_utf8(rest[4..end].to_vec()).unwrap());
            rest = &rest[end + 1..];
        }
        let negotiated = Negotiated { version: number(0), actions: number(4), options: number(8), macros };
        self.options = negotiated.options;
        Ok(negotiated)
    }

    /// Connect and HELO as far as the milter wants them, then `MAIL` and `RCPT`.
    pub(crate) fn envelope(&mut self, sender: &str, recipients: &[&str]) {
        assert_eq!(self.mail(sender, &[]).0, 'c');
        for recipient in recipients {
            assert_eq!(self.rcpt(recipient).0, 'c');
        }
    }

    /// The milter goes on where it was told not to answer.
    pub(crate) fn mail(&mut self, sender: &str, macros: &[(&str, &str)]) -> Packet {
        self.macros('M', macros);
        self.send('M', format!("{sender}\0SIZE=1000\0BODY=8BITMIME\0").as_bytes());
        if self.options & NOREPLY_MAIL == 0 { self.receive().unwrap() } else { ('c', Vec::new()) }
    }

    pub(crate) fn rcpt(&mut self, recipient: &str) -> Packet {
        self.macros('R', &[("{rcpt_addr}", "x")]);
        self.send('R', format!("{recipient}\0").as_bytes());
        self.receive().unwrap()
    }

    pub(crate) fn field(&mut self, name: &str, value: &str) {
        let mut data = name.as_bytes().to_vec();
        data.push(0);
        data.extend(value.as_bytes());
        data.push(0);
        self.send('D', b"L");
        self.send('L', &data);
        if self.options & NOREPLY_HEADER == 0 {
            assert_eq!(self.receive().unwrap().0, 'c');
        }
    }

    /// The milter goes on where it was told not to answer.
    pub(crate) fn end_of_header(&mut self) -> Packet {
        self.macros('N', &[("i", "4Qx1ab")]);
        self.send('N', b"");
        if self.options & NOREPLY_END_OF_HEADER == 0 { self.receive().unwrap() } else { ('c', Vec::new()) }
    }

    pub(crate) fn chunk(&mut self, chunk: &[u8]) -> Packet {
        self.send('D', b"Bi\x004Qx1ab\0");
        self.send('B', chunk);
        self.receive().unwrap()
    }

    /// The end of the message and all that the milter says to it.
    pub(crate) fn end_of_message(&mut self) -> io::Result<Answer> {
        self.macros('E', &[("i", "4Qx1ab")]);
        self.send('E', b"");
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (mut requests, mut progress) = (Vec::new(), 0);
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(20), "no reply after {progress} progress notes");
            match self.receive()? {
                ('p', _) => progress += 1,
                packet @ ('h' | 'i' | 'm' | 'b' | 'e', _) => requests.push(packet),
                reply => return Ok(Answer { requests, progress, reply }),
            }
        }
    }

    /// Everything from `MAIL` to the answer and the `ABORT` behind it.
    pub(crate) fn message(&mut self, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        self.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
        for (name, value) in fields {
            self.field(name, value);
        }
        assert_eq!(self.end_of_header().0, 'c');
        for chunk in body.chunks(65_535) {
            assert_eq!(self.chunk(chunk).0, 'c');
        }
        let answer = self.end_of_message().unwrap();
        self.abort();
        answer
    }

    pub(crate) fn abort(&mut self) {
        self.send('A', b"");
    }

    pub(crate) fn macros(&mut self, stage: char, macros: &[(&str, &str)]) {
        let mut data = vec![u8::try_from(stage).unwrap()];
        for (name, value) in macros {
            data.extend(format!("{name}\0{value}\0").as_bytes());
        }
        self.send('D', &data);
    }

    pub(crate) fn send(&mut self, letter: char, data: &[u8]) {
        let mut packet = u32::try_from(data.len() + 1).unwrap().to_be_bytes().to_vec();
        packet.push(u8::try_from(letter).unwrap());
        packet.extend(data);
        self.raw(&packet);
    }

    /// Octets as they are. A milter that hung up is found out at the next reading.
    pub(crate) fn raw(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    pub(crate) fn receive(&mut self) -> io::Result<Packet> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, d, letter] = head;
        let mut data = vec![0; usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap() - 1];
        self.stream.read_exact(&mut data)?;
        Ok((char::from(letter), data))
    }

    /// Waits for a progress note: the message is read, and in the line for a worker at least.
    pub(crate) fn until_progress(&mut self) {
        assert_eq!(self.receive().unwrap().0, 'p');
    }

    /// Waits for an octet and leaves it where it is.
    pub(crate) fn until_there_is_something_to_read(&self) {
        assert_eq!(self.stream.peek(&mut [0]).unwrap(), 1);
    }

    /// Whether the milter closed the connection, within the reading time-out.
    pub(crate) fn hung_up(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(octets) => octets == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether the milter has closed the connection by now.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let read = self.stream.read(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        match read {
            Ok(octets) => octets == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Whether the milter says nothing and keeps the connection for this long.
    pub(crate) fn silent_for(&mut self, duration: Duration) -> bool {
        self.stream.set_read_timeout(Some(duration)).unwrap();
        let read = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        read.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

/// Applies the milter's requests as Postfix does: a removed field is gone at once for the next index.
pub(crate) fn applied(fields: &[(&str, &str)], body: &[u8], requests: &[Packet]) -> (Vec<String>, Vec<u8>) {
    let mut fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut new_body = None::<Vec<u8>>;
    for (letter, data) in requests {
        assert!(new_body.is_none() || *letter == 'b', "{letter} between body chunks");
        let indexed = matches!(letter, 'm' | 'i');
        let (index, text) = if indexed { data.split_at(4) } else { data.split_at(0) };
        match letter {
            'b' => {
                assert!(data.len() <= 65_535, "{} octets in a chunk", data.len());
                new_body.get_or_insert_default().extend(data);
            }
            // The envelope is the test's own to look at.
            'e' => {}
            'h' => fields.push(pair(text)),
            'i' => {
                assert_eq!(index, [0; 4], "MTAs count the others differently");
                fields.insert(0, pair(text));
            }
            'm' => {
                let index = u32::from_be_bytes(index.try_into().unwrap());
                let (name, value) = pair(text);
                assert!(value.is_empty(), "only removals are portable");
                let place = fields
                    .iter()
                    .enumerate()
                    .filter(|(_, field)| field.0.eq_ignore_ascii_case(&name))
                    .nth(usize::try_from(index).unwrap() - 1);
                if let Some((place, _)) = place {
                    fields.remove(place);
                }
            }
            other => panic!("unknown request {other}"),
        }
    }
    let fields = fields.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
    (fields, new_body.unwrap_or_else(|| body.to_vec()))
}

fn pair(data: &[u8]) -> (String, String) {
    let text = String::from_utf8(data.to_vec()).unwrap();
    let (name, rest) = text.split_once('\0').unwrap();
    (name.to_owned(), rest.strip_suffix('\0').unwrap().to_owned())
}
