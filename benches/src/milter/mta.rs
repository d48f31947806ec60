//! The MTA's side of the milter protocol, version 6, for one connection, as Postfix speaks it.

use std::{
    io::{BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result, bail, ensure};

/// A connection to a milter.
pub struct Mta {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    /// What the milter does not answer.
    unanswered: u32,
}

/// A message, and who sends it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// `MAIL FROM`.
    pub from: String,
    /// `RCPT TO`.
    pub to: String,
    /// The client's address.
    pub client: String,
    /// The whole, with CRLF.
    pub octets: Vec<u8>,
    /// The text that is in it, whatever it is wrapped in.
    pub plain: Vec<u8>,
}

impl Mta {
    /// Connects to `inet:ADDRESS:PORT` or `unix:PATH`, and negotiates.
    pub fn open(listen: &str) -> Result<Self> {
        let (reader, writer): (Box<dyn Read + Send>, Box<dyn Write + Send>) = match listen.split_once(':') {
            Some(("inet", address)) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
            Some(("unix", path)) => {
                let stream = UnixStream::connect(path)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
            _ => bail!("{listen} is no socket"),
        };
        let reader = BufReader::with_capacity(128 * 1024, reader);
        let mut mta = Self { reader, writer, unanswered: 0 };
        let offer = [6_u32, 0x1ff, 0x001f_ffff].map(u32::to_be_bytes).concat();
        mta.send(&[(b'O', &offer)])?;
        let (letter, data) = mta.receive()?;
        ensure!(letter == b'O', "no negotiation");
        let options = data.get(8..12).and_then(|octets| octets.try_into().ok()).context("no options")?;
        let options = u32::from_be_bytes(options);
        ensure!(options & NOREPLY_HEADER != 0, "the milter answers each field");
        mta.unanswered = options;
        Ok(mta)
    }

    /// Has one message treated; it must be accepted. Gives how many octets of a new body came back.
    pub fn message(&mut self, mail: &Mail) -> Result<usize> {
        let macros = format!("Mi\0{{client_addr}}\0{}\0", mail.client).replace("Mi\0", "M");
        let from = format!("<{}>\0", mail.from);
        let begin = [(b'D', macros.as_bytes()), (b'M', from.as_bytes())];
        if self.unanswered & NOREPLY_MAIL == 0 { self.ask(&begin) } else { self.send(&begin) }?;
        let to = format!("<{}>\0", mail.to);
        self.ask(&[(b'D', b"R{rcpt_addr}\0x\0"), (b'R', to.as_bytes())])?;
        let end = mail.octets.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap_or_default();
        let (header, body) = mail.octets.split_at(end + 4);
        let mut fields = Vec::new();
        for line in String::from_utf8_lossy(header).split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            fields.push(format!("{name}\0{value}\0").into_bytes());
        }
        let mut commands: Vec<(u8, &[u8])> = Vec::new();
        for field in &fields {
            commands.extend([(b'D', &b"L"[..]), (b'L', field)]);
        }
        commands.extend([(b'D', &b"Ni\x004Qx1ab\0"[..]), (b'N', b"")]);
        if self.unanswered & NOREPLY_END_OF_HEADER == 0 {
            self.ask(&commands)?;
            commands.clear();
        }
        for chunk in body.chunks(65_535) {
            commands.extend([(b'D', &b"Bi\x004Qx1ab\0"[..]), (b'B', chunk)]);
            self.ask(&commands)?;
            commands.clear();
        }
        commands.extend([(b'D', &b"Ei\x004Qx1ab\0"[..]), (b'E', b"")]);
        self.send(&commands)?;
        let mut replaced = 0;
        loop {
            match self.receive()? {
                (b'b', data) => replaced += data.len(),
                (b'p' | b'h' | b'i' | b'm' | b'e' | b'-', _) => {}
                (b'c' | b'a', _) => break,
                (other, _) => bail!("the message was answered with {:?}", char::from(other)),
            }
        }
        self.send(&[(b'A', b"")])?;
        Ok(replaced)
    }

    fn ask(&mut self, commands: &[(u8, &[u8])]) -> Result<()> {
        self.send(commands)?;
        let (letter, _) = self.receive()?;
        ensure!(letter == b'c', "{:?} instead of going on", char::from(letter));
        Ok(())
    }

    fn send(&mut self, commands: &[(u8, &[u8])]) -> Result<()> {
        let mut octets = Vec::new();
        for (letter, data) in commands {
            octets.extend(u32::try_from(data.len() + 1)?.to_be_bytes());
            octets.push(*letter);
            octets.extend_from_slice(data);
        }
        Ok(self.writer.write_all(&octets)?)
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.reader.read_exact(&mut head)?;
        let [a, b, c, d, letter] = head;
        let octets = usize::try_from(u32::from_be_bytes([a, b, c, d]))?.saturating_sub(1);
        let mut data = vec![0; octets];
        self.reader.read_exact(&mut data)?;
        Ok((letter, data))
    }
}

/// `SMFIP_NR_HDR`, `SMFIP_NR_MAIL` and `SMFIP_NR_EOH` of libmilter's `mfdef.h`.
const NOREPLY_HEADER: u32 = 0x80;
const NOREPLY_MAIL: u32 = 0x4000;
const NOREPLY_END_OF_HEADER: u32 = 0x0004_0000;
