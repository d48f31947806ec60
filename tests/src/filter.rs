//! A content filter behind Postfix's queue (Postfix's FILTER_README, "advanced"): an SMTP server that hands each command on to a
//! second server of Postfix's, and each reply back; it notes what it sees, and puts a field above each message.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, str};

use anyhow::Result;

use crate::acceptor::Acceptor;
use crate::sink::{Delivered, parameters, path, unstuffed};
use crate::smtp::dot_stuffed;

/// The running filter; it stops when dropped.
#[derive(Debug)]
pub struct Filter {
    shared: Arc<Shared>,
    acceptor: Acceptor,
}

/// What a filter does not offer, though the server behind it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// It offers all that the server does.
    Nothing,
    /// DSN (RFC 3461): what is asked of delivery ends here, and Postfix reports so.
    Reports,
}

#[derive(Debug)]
struct Shared {
    back: u16,
    lacking: Lacking,
    seen: Mutex<Vec<Delivered>>,
}

impl Filter {
    /// The field that it puts above each message.
    pub const FIELD: &str = "x-filtered";

    /// Listens on a port of the loopback that the kernel picks; what it takes it hands to the server at `back`.
    pub fn start(back: u16, lacking: Lacking) -> Result<Self> {
        let shared = Arc::new(Shared { back, lacking, seen: Mutex::default() });
        let serving = Arc::clone(&shared);
        Ok(Self { shared, acceptor: Acceptor::start(move |stream| serve(stream, &serving))? })
    }

    /// As Postfix's `content_filter` wants it.
    pub fn destination(&self) -> String {
        format!("smtp:[127.0.0.1]:{}", self.acceptor.port())
    }

    /// All that it has seen, before its field was put above.
    pub fn seen(&self) -> Vec<Delivered> {
        self.shared.seen().clone()
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Delivered>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offers(&self, line: &[u8]) -> bool {
        let keyword = line.get(4..).unwrap_or_default().split(u8::is_ascii_whitespace).next();
        let keyword = keyword.and_then(|keyword| str::from_utf8(keyword).ok()).unwrap_or_default();
        match keyword {
            // The first are for others than Postfix's client; in what comes by the last there are no lines of DATA.
            "XCLIENT" | "XFORWARD" | "CHUNKING" => false,
            "DSN" => self.lacking != Lacking::Reports,
            _ => true,
        }
    }
}

fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let back = TcpStream::connect(("127.0.0.1", shared.back))?;
    client.set_nodelay(true)?;
    back.set_nodelay(true)?;
    let (mut to_client, mut to_back) = (client.try_clone()?, back.try_clone()?);
    let (mut from_client, mut from_back) = (BufReader::new(client), BufReader::new(back));
    let mut mail = Delivered::default();
    to_client.write_all(&reply(&mut from_back)?.concat())?;
    loop {
        let mut line = Vec::new();
        if from_client.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        to_back.write_all(&line)?;
        let mut answer = reply(&mut from_back)?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let is_positive = answer.first().is_some_and(|line| line.starts_with(b"2") || line.starts_with(b"3"));
        match line.get(..4).unwrap_or(&line).to_ascii_uppercase().as_str() {
            "EHLO" => {
                answer.retain(|line| shared.offers(line));
                if let Some(mark) = answer.last_mut().and_then(|line| line.get_mut(3)) {
                    *mark = b' ';
                }
            }
            "MAIL" => {
                mail = Delivered { from: path(&line), ..Delivered::default() };
                mail.parameters.push(parameters(&line));
            }
            "RCPT" if is_positive => {
                mail.to.push(path(&line));
                mail.parameters.push(parameters(&line));
            }
            "DATA" if is_positive => {
                to_client.write_all(&answer.concat())?;
                mail.octets = unstuffed(&mut from_client)?;
                shared.seen().push(mail.clone());
                let field = format!("{}: yes\r\n", Filter::FIELD);
                to_back.write_all(&dot_stuffed(&[field.as_bytes(), &mail.octets].concat()))?;
                answer = reply(&mut from_back)?;
            }
            _ => {}
        }
        to_client.write_all(&answer.concat())?;
    }
}

/// The lines of a reply.
fn reply(from: &mut BufReader<TcpStream>) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let is_last = line.get(3) != Some(&b'-');
        lines.push(line);
        if is_last {
            return Ok(lines);
        }
    }
}
