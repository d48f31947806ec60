//! One copy in a file: a line that says what it is, its envelope, an empty line, the message with CRLF, and a last line
//! without which it is not whole.
//!
//! The first line has the number of the format. In format 1 nothing is asked of delivery, and what can be written in it is:
//! older programs read it. Format 2 has lines for that. A copy in a later one, which another version of this program left,
//! is not damaged, and waits for a program that reads it.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use agent::{Asked, AskedOf, Returned};

/// A copy's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `MAIL FROM` without angle brackets.
    pub(crate) sender: String,
    /// Each `RCPT TO` without angle brackets.
    pub(crate) recipients: Vec<String>,
    /// Whether bounces may hold no more than its header (RFC 3461 4.3), whatever was asked.
    pub(crate) headers_only: bool,
    /// What else is asked of its delivery.
    pub(crate) asked: Asked,
}

/// The first line, but for the format's number.
const FIRST: &str = "hsmime copy ";
/// The last format that has no lines for what is asked of delivery.
const PLAIN: u32 = 1;
const ASKED: u32 = 2;
const RET: &str = "ret HDRS";
/// What the sender asked for, where that is no condition.
const WISH_HEADERS: &str = "wish HDRS";
const WISH_FULL: &str = "wish FULL";
const UTF8: &str = "utf8";
const LAST: &[u8] = b"\r\nend of copy\n";

impl Entry {
    /// One of which nothing is asked.
    pub(crate) fn plain(sender: String, recipients: Vec<String>) -> Self {
        Self { sender, recipients, headers_only: false, asked: Asked::default() }
    }

    /// A notice's. It has the null sender, to whom nobody reports (RFC 5321 4.5.5), and says so, too: RFC 3461 7.1 allows no
    /// other `NOTIFY` than this.
    pub(crate) fn notice_to(recipient: String) -> Self {
        let never = AskedOf { notify: Some("NEVER".to_owned()), original: None };
        let asked = Asked { of_recipients: [(recipient.clone(), never)].into(), ..Asked::default() };
        Self { asked, ..Self::plain(String::new(), vec![recipient]) }
    }

    /// Has bounces that must not hold all of it go to somebody of ours. To the null sender nobody bounces, and that must stay so
    /// (RFC 5321 4.5.5).
    pub(crate) fn send_from(&mut self, sender: String) {
        if self.headers_only && !self.sender.is_empty() {
            self.sender = sender;
            self.headers_only = false;
            self.asked.returned = Some(Returned::HeadersOnly);
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, octets: &[u8], to: &mut impl Write) -> io::Result<()> {
        let Asked { returned, envelope_id, is_international, of_recipients } = &self.asked;
        let mut lines = vec![format!("{FIRST}{}", self.format()), format!("from {}", self.sender)];
        lines.extend(self.headers_only.then(|| RET.to_owned()));
        lines.extend(returned.as_ref().map(|returned| match returned {
            Returned::HeadersOnly => WISH_HEADERS.to_owned(),
            Returned::Full => WISH_FULL.to_owned(),
        }));
        lines.extend(envelope_id.as_ref().map(|id| format!("envid {id}")));
        lines.extend(is_international.then(|| UTF8.to_owned()));
        for recipient in &self.recipients {
            lines.push(format!("to {recipient}"));
            let Some(AskedOf { notify, original }) = of_recipients.get(recipient) else { continue };
            lines.extend(notify.as_ref().map(|words| format!("notify {words}")));
            lines.extend(original.as_ref().map(|original| format!("orcpt {original}")));
        }
        if lines.iter().any(|line| line.contains(['\0', '\r', '\n'])) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a control character in an address"));
        }
        let mut head = lines.join("\n");
        head.push_str("\n\n");
        to.write_all(head.as_bytes())?;
        to.write_all(octets)?;
        to.write_all(LAST)
    }

    /// Reads a file: the envelope, and the message.
    pub(crate) fn read(path: &Path) -> io::Result<(Self, Vec<u8>)> {
        let octets = fs::read(path)?;
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is no whole copy");
        let octets = octets.strip_suffix(LAST).ok_or_else(broken)?;
        let end = octets.windows(2).position(|window| window == b"\n\n").ok_or_else(broken)?;
        let (head, message) = octets.split_at(end + 2);
        let head = std::str::from_utf8(head).map_err(|_| broken())?;
        let mut lines = head.trim_end_matches('\n').lines().peekable();
        let format = lines.next().and_then(|line| line.strip_prefix(FIRST)?.parse().ok());
        let format: u32 = format.ok_or_else(broken)?;
        if format > ASKED {
            let reason =
                format!("it has format {format}, which a later version wrote; this one reads up to {ASKED}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let sender = lines.next().and_then(|line| line.strip_prefix("from ")).ok_or_else(broken)?.to_owned();
        let headers_only = lines.next_if_eq(&RET).is_some();
        let mut entry = Self { sender, recipients: Vec::new(), headers_only, asked: Asked::default() };
        for line in lines {
            let taken = entry.take(line).filter(|()| format == ASKED || line.starts_with("to "));
            taken.ok_or_else(broken)?;
        }
        Ok((entry, message.to_vec()))
    }

    /// The first format that holds all of it.
    fn format(&self) -> u32 {
        let Asked { returned, envelope_id, is_international, of_recipients } = &self.asked;
        let is_asked = returned.is_some() || envelope_id.is_some() || *is_international;
        if is_asked || !of_recipients.is_empty() { ASKED } else { PLAIN }
    }

    /// Takes a line of the head.
    fn take(&mut self, line: &str) -> Option<()> {
        let asked = &mut self.asked;
        match line.split_once(' ').unwrap_or((line, "")) {
            _ if line == WISH_HEADERS => asked.returned = Some(Returned::HeadersOnly),
            _ if line == WISH_FULL => asked.returned = Some(Returned::Full),
            _ if line == UTF8 => asked.is_international = true,
            ("envid", id) => asked.envelope_id = Some(id.to_owned()),
            ("to", recipient) => self.recipients.push(recipient.to_owned()),
            ("notify", words) => self.of_last()?.notify = Some(words.to_owned()),
            ("orcpt", original) => self.of_last()?.original = Some(original.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// What was asked of the delivery to the last recipient so far.
    fn of_last(&mut self) -> Option<&mut AskedOf> {
        let recipient = self.recipients.last()?;
        Some(self.asked.of_recipients.entry(recipient.clone()).or_default())
    }
}
