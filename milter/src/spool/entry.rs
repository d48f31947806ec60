//! One copy in a file: a line that says what it is, its envelope, an empty line, the message with CRLF, and a last line
//! without which it is not whole.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// A copy's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `MAIL FROM` without angle brackets.
    pub(crate) sender: String,
    /// Each `RCPT TO` without angle brackets.
    pub(crate) recipients: Vec<String>,
    /// Whether bounces may hold no more than its header (RFC 3461 4.3).
    pub(crate) headers_only: bool,
}

const FIRST: &str = "hsmime copy 1";
const RET: &str = "ret HDRS\n";
const LAST: &[u8] = b"\r\nend of copy\n";

impl Entry {
    /// Writes the file.
    pub(crate) fn write(&self, octets: &[u8], to: &mut impl Write) -> io::Result<()> {
        let ret = if self.headers_only { RET } else { "" };
        let mut head = format!("{FIRST}\nfrom {}\n{ret}", self.sender);
        for recipient in &self.recipients {
            head.push_str("to ");
            head.push_str(recipient);
            head.push('\n');
        }
        let lines = 2 + usize::from(self.headers_only) + self.recipients.len();
        if head.matches('\n').count() != lines || head.contains(['\0', '\r']) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a control character in an address"));
        }
        head.push('\n');
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
        if lines.next() != Some(FIRST) {
            return Err(broken());
        }
        let sender = lines.next().and_then(|line| line.strip_prefix("from ")).ok_or_else(broken)?.to_owned();
        let headers_only = lines.next_if_eq(&RET.trim_end()).is_some();
        let recipients: Option<Vec<String>> =
            lines.map(|line| line.strip_prefix("to ").map(str::to_owned)).collect();
        Ok((Self { sender, recipients: recipients.ok_or_else(broken)?, headers_only }, message.to_vec()))
    }
}
