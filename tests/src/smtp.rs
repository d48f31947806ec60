//! A small SMTP client (RFC 5321) that shows every reply and speaks Postfix's XCLIENT.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of all lines, joined by line feeds.
    pub text: String,
}

impl Reply {
    /// Whether the server agreed: 2xx, or 3xx after DATA.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
}

/// Who the server shall think is sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub address: Ipv4Addr,
    /// The name it authenticated with.
    pub login: Option<String>,
}

impl Origin {
    /// A stranger from the Internet.
    pub fn remote() -> Self {
        Self { address: Ipv4Addr::new(203, 0, 113, 9), login: None }
    }

    /// Somebody who logged in, from wherever.
    pub fn login(name: &str) -> Self {
        Self { login: Some(name.to_owned()), ..Self::remote() }
    }

    /// A host without login.
    pub fn host(address: [u8; 4]) -> Self {
        Self { address: address.into(), login: None }
    }
}

/// One SMTP session.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    /// What the server said first.
    pub banner: Reply,
}

impl Client {
    /// Connects to a port of the loopback, says EHLO, and becomes `origin` by XCLIENT.
    pub fn connect(port: u16, origin: &Origin) -> Result<Self> {
        let mut client = Self::greet(port)?;
        ensure!(client.banner.is_positive(), "refused at the door: {:?}", client.banner);
        let login = origin.login.as_ref().map(|login| format!(" LOGIN={login}")).unwrap_or_default();
        for command in [
            "EHLO client.invalid".to_owned(),
            format!("XCLIENT NAME=client.invalid ADDR={}{login}", origin.address),
            "EHLO client.invalid".to_owned(),
        ] {
            let reply = client.command(&command)?;
            ensure!(reply.is_positive(), "{command}: {reply:?}");
        }
        Ok(client)
    }

    /// Connects to a port of the loopback from an address of it, and says EHLO.
    pub fn connect_from(address: [u8; 4], port: u16) -> Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(address.into(), 0))?;
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).context("no SMTP server")?;
        let mut client = Self::greeted(socket.into())?;
        let reply = client.command("EHLO client.invalid")?;
        ensure!(client.banner.is_positive() && reply.is_positive(), "{:?} {reply:?}", client.banner);
        Ok(client)
    }

    /// Logs in (RFC 4954), with whatever password.
    pub fn log_in(&mut self, name: &str) -> Result<()> {
        let secret = data_encoding::BASE64.encode(format!("\0{name}\0secret").as_bytes());
        let reply = self.command(&format!("AUTH PLAIN {secret}"))?;
        ensure!(reply.code == 235, "no login: {reply:?}");
        Ok(())
    }

    /// Connects and reads the banner, no more.
    pub fn greet(port: u16) -> Result<Self> {
        Self::greeted(TcpStream::connect(("127.0.0.1", port)).context("no SMTP server")?)
    }

    fn greeted(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client =
            Self { stream: BufReader::new(stream), banner: Reply { code: 0, text: String::new() } };
        client.banner = client.reply()?;
        Ok(client)
    }

    /// Sends one command line and reads its reply.
    pub fn command(&mut self, line: &str) -> Result<Reply> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends one mail; the reply is that to its octets, or the first refusal before them.
    ///
    /// `octets` must end with CRLF, or the server will add it.
    pub fn send(&mut self, from: &str, to: &[&str], octets: &[u8]) -> Result<Reply> {
        self.send_with(from, "BODY=8BITMIME", to, octets)
    }

    /// As [`Client::send`], with these parameters behind the sender.
    pub fn send_with(&mut self, from: &str, parameters: &str, to: &[&str], octets: &[u8]) -> Result<Reply> {
        let mut commands = vec![format!("MAIL FROM:<{from}> {parameters}")];
        commands.extend(to.iter().map(|recipient| format!("RCPT TO:<{recipient}>")));
        commands.push("DATA".to_owned());
        for command in commands {
            let reply = self.command(&command)?;
            if !reply.is_positive() {
                // The next mail of this session starts afresh; the refusal is what counts here.
                self.command("RSET")?;
                return Ok(reply);
            }
        }
        self.write(&dot_stuffed(octets))?;
        self.reply()
    }

    /// Sends octets as they are, without waiting for an answer.
    pub fn raw(&mut self, octets: &[u8]) -> Result<()> {
        self.write(octets)
    }

    /// Ends the session politely.
    pub fn quit(mut self) -> Result<()> {
        self.command("QUIT").map(drop)
    }

    fn write(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(octets).context("the SMTP server is gone")
    }

    /// What the server answers to what was sent as it is.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut text = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).context("no reply")? == 0 {
                bail!("the SMTP server hung up; it had said {text:?}");
            }
            let line = line.trim_end();
            let code: u16 = line.get(..3).and_then(|code| code.parse().ok()).context("not a reply")?;
            text.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text: text.join("\n") });
            }
        }
    }
}

/// The octets after DATA: dots at line starts doubled (RFC 5321 4.5.2), and the final dot.
pub fn dot_stuffed(octets: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(octets.len() + 16);
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        if line.first() == Some(&b'.') {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !stuffed.is_empty() && !stuffed.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

const PATIENCE: Duration = Duration::from_mins(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_only_at_line_starts() {
        for (plain, stuffed) in [
            ("", ".\r\n"),
            ("a.b\r\n", "a.b\r\n.\r\n"),
            (".\r\n..x\r\n", "..\r\n...x\r\n.\r\n"),
            ("no end", "no end\r\n.\r\n"),
        ] {
            assert_eq!(dot_stuffed(plain.as_bytes()), stuffed.as_bytes(), "{plain:?}");
        }
    }
}
