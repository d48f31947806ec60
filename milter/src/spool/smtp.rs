//! A message handed to an SMTP server (RFC 5321), and what it says of each recipient.

use std::io::{self, BufRead as _, BufReader, Read, Write};

use agent::{Returned, settings::Listen};

use super::{Entry, server};

const MAX_REPLY_LINE: u64 = 4096;
const MAX_REPLY_LINES: usize = 100;

/// What became of each recipient; those with a reply did not get it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) taken: Vec<String>,
    /// Refused for good (RFC 5321 4.2.1, 5yz).
    pub(super) refused: Vec<(String, String)>,
    /// To be tried again (4yz).
    pub(super) later: Vec<(String, String)>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server does not answer, or takes no mail at all.
    #[error("{0}")]
    Away(io::Error),
    /// It was lost over this message.
    #[error("{0}")]
    Lost(io::Error),
}

/// Sends a message. `marker` gives the field that goes above it, for the recipients that the server takes.
///
/// `name` is what this host is called, as EHLO wants it (RFC 5321 4.1.1.1).
pub(super) fn send(
    to: &Listen,
    name: &str,
    entry: &Entry,
    message: &[u8],
    marker: impl FnOnce(&[String]) -> String,
) -> Result<Report, Trouble> {
    let mut session = Session::connect(to).map_err(Trouble::Away)?;
    let offers = session.greet(name).map_err(Trouble::Away)?;
    session.send(entry, message, offers, marker).map_err(Trouble::Lost)
}

/// Whether a server offers DSN (RFC 3461), with which what was opened is kept out of bounces. It is asked once.
pub fn offers_reports(to: &Listen, name: &str) -> io::Result<bool> {
    let mut session = Session::connect(to)?;
    let offers = session.greet(name)?;
    session.quit(Report::default());
    Ok(offers.reports)
}

struct Session {
    reader: BufReader<Box<dyn Read>>,
    writer: Box<dyn Write>,
}

struct Reply {
    /// The code's first digit.
    class: u8,
    text: String,
    /// The first word behind the code in each line.
    keywords: Vec<String>,
}

/// What the server offers of what copies need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offers {
    /// RFC 6152.
    eight_bit: bool,
    /// RFC 3461.
    reports: bool,
    /// RFC 6531.
    international: bool,
}

impl Offers {
    fn of(reply: &Reply) -> Self {
        // The first line has the server's name.
        let has = |keyword: &str| reply.keywords.iter().skip(1).any(|one| one.eq_ignore_ascii_case(keyword));
        Self { eight_bit: has("8BITMIME"), reports: has("DSN"), international: has("SMTPUTF8") }
    }
}

impl Session {
    fn connect(to: &Listen) -> io::Result<Self> {
        let (reader, writer) = server::open(to)?;
        Ok(Self { reader: BufReader::new(reader), writer })
    }

    /// The server's extensions. A server that refuses everybody is as good as away, and no message's fault.
    fn greet(&mut self, name: &str) -> io::Result<Offers> {
        let accepted = |reply: Reply| match reply.class {
            b'2' => Ok(Offers::of(&reply)),
            _ => Err(io::Error::other(format!("the server said {}", reply.text))),
        };
        self.reply().and_then(accepted)?;
        self.command(&format!("EHLO {}", ehlo(name))).and_then(accepted)
    }

    fn send(
        &mut self,
        entry: &Entry,
        message: &[u8],
        offers: Offers,
        marker: impl FnOnce(&[String]) -> String,
    ) -> io::Result<Report> {
        let mut report = Report::default();
        let mut parameters = String::new();
        if !message.is_ascii() && offers.eight_bit {
            parameters.push_str(" BODY=8BITMIME");
        }
        if entry.headers_only && !entry.sender.is_empty() {
            if !offers.reports {
                let text =
                    "450 4.3.5 the server offers no DSN: bounces would hold what was decrypted".to_owned();
                report.add(&entry.recipients, &Reply { class: b'4', text, keywords: Vec::new() });
                return Ok(self.quit(report));
            }
            parameters.push_str(" RET=HDRS");
        } else if offers.reports
            && let Some(returned) = entry.asked.returned
        {
            parameters.push_str(match returned {
                Returned::Full => " RET=FULL",
                Returned::HeadersOnly => " RET=HDRS",
            });
        }
        if offers.reports
            && let Some(id) = &entry.asked.envelope_id
        {
            parameters.push_str(" ENVID=");
            parameters.push_str(id);
        }
        let needs_utf8 = !entry.sender.is_ascii()
            || entry.recipients.iter().any(|one| !one.is_ascii())
            || (entry.asked.is_international && !header(message).is_ascii());
        if needs_utf8 || (entry.asked.is_international && offers.international) {
            if !offers.international {
                // RFC 6531 3.2.
                let text = "553 5.6.7 the server takes no addresses beyond ASCII".to_owned();
                report.add(&entry.recipients, &Reply { class: b'5', text, keywords: Vec::new() });
                return Ok(self.quit(report));
            }
            parameters.push_str(" SMTPUTF8");
        }
        let reply = self.command(&format!("MAIL FROM:<{}>{parameters}", entry.sender))?;
        if reply.class != b'2' {
            report.add(&entry.recipients, &reply);
            return Ok(self.quit(report));
        }
        let mut accepted = Vec::new();
        for recipient in &entry.recipients {
            let parameters = of_recipient(entry, recipient, offers);
            let reply = self.command(&format!("RCPT TO:<{recipient}>{parameters}"))?;
            if reply.class == b'2' {
                accepted.push(recipient.clone());
            } else if reply.text.starts_with("552") {
                // Too many recipients at a time (RFC 5321 4.5.3.1.10).
                report.later.push((recipient.clone(), reply.text));
            } else {
                report.add(std::slice::from_ref(recipient), &reply);
            }
        }
        if accepted.is_empty() {
            return Ok(self.quit(report));
        }
        let reply = self.command("DATA")?;
        if reply.class != b'3' {
            report.add(&accepted, &reply);
            return Ok(self.quit(report));
        }
        self.writer.write_all(marker(&accepted).as_bytes())?;
        self.writer.write_all(&stuffed(message))?;
        let reply = self.reply()?;
        if reply.class == b'2' {
            report.taken = accepted;
        } else {
            report.add(&accepted, &reply);
        }
        Ok(self.quit(report))
    }

    /// What becomes of the connection is no matter.
    fn quit(&mut self, report: Report) -> Report {
        drop(self.command("QUIT"));
        report
    }

    fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.writer.write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let (mut text, mut keywords) = (String::new(), Vec::new());
        for _ in 0..MAX_REPLY_LINES {
            let mut line = Vec::new();
            self.reader.by_ref().take(MAX_REPLY_LINE).read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
            }
            let end = line.trim_ascii_end();
            let behind = String::from_utf8_lossy(end.get(4..).unwrap_or_default());
            keywords.push(behind.split_ascii_whitespace().next().unwrap_or_default().to_owned());
            if !text.is_empty() {
                text.push(' ');
            }
            text.extend(String::from_utf8_lossy(end).chars().filter(|c| !c.is_control()));
            if line.get(3) == Some(&b'-') {
                continue;
            }
            return match line.first_chunk() {
                Some(&[class @ b'2'..=b'5', b, c]) if b.is_ascii_digit() && c.is_ascii_digit() => {
                    Ok(Reply { class, text, keywords })
                }
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the server's reply has no code")),
            };
        }
        Err(io::Error::other("the server's reply does not end"))
    }
}

/// A domain as it is; what is none stands for itself by its address.
fn ehlo(name: &str) -> &str {
    let is_label = |label: &str| {
        let octets = label.as_bytes();
        let inside = octets.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
        inside && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() <= 255 && name.split('.').all(is_label) { name } else { "[127.0.0.1]" }
}

/// The parameters of `RCPT` (RFC 3461 4.1 and 4.2), each with a space before it.
fn of_recipient(entry: &Entry, recipient: &str, offers: Offers) -> String {
    let mut parameters = String::new();
    let Some(asked) = entry.asked.of_recipients.get(recipient).filter(|_| offers.reports) else {
        return parameters;
    };
    for (name, value) in [(" NOTIFY=", &asked.notify), (" ORCPT=", &asked.original)] {
        // RFC 6533 3: an original recipient beyond ASCII is for servers that know such addresses.
        if let Some(value) = value.as_ref().filter(|value| value.is_ascii() || offers.international) {
            parameters.push_str(name);
            parameters.push_str(value);
        }
    }
    parameters
}

/// A message up to its empty line.
fn header(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(message.len());
    message.get(..end).unwrap_or_default()
}

impl Report {
    /// What is neither taken nor refused for good is tried again.
    fn add(&mut self, recipients: &[String], reply: &Reply) {
        let with_reply = recipients.iter().map(|recipient| (recipient.clone(), reply.text.clone()));
        if reply.class == b'5' { self.refused.extend(with_reply) } else { self.later.extend(with_reply) }
    }
}

/// A message as it stays on its way: of several CRs before an LF one, and any other as a blank. Postfix makes that of them; what it
/// changed would not be known when it comes back.
pub(super) fn with_plain_line_ends(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.iter().position(|octet| *octet == b'\r') {
        let (before, behind) = rest.split_at(at);
        out.extend_from_slice(before);
        let crs = behind.iter().take_while(|octet| **octet == b'\r').count();
        rest = behind.get(crs..).unwrap_or_default();
        if rest.starts_with(b"\n") {
            out.push(b'\r');
        } else {
            out.resize(out.len() + crs, b' ');
        }
    }
    out.extend_from_slice(rest);
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cr_stands_before_an_lf_or_is_a_blank() {
        for (message, expected) in [
            (&b"a\r\nb\nc\rd\r\n"[..], &b"a\r\nb\nc d\r\n"[..]),
            (b"a\r\r\nb\r\r\r\r\n\r\r\n", b"a\r\nb\r\n\r\n"),
            (b"\r\r\n", b"\r\n"),
            (b"\r\ra\r\r", b"  a  "),
            (b"", b""),
        ] {
            assert_eq!(with_plain_line_ends(message), expected, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn only_a_domain_is_said_to_the_server() {
        for (name, said) in [
            ("mx.example.org", "mx.example.org"),
            ("mx", "mx"),
            ("a_b.example", "[127.0.0.1]"),
            ("mx.example.org.", "[127.0.0.1]"),
            ("mx example", "[127.0.0.1]"),
            ("mx\r\nMAIL FROM:<>", "[127.0.0.1]"),
            ("", "[127.0.0.1]"),
        ] {
            assert_eq!(ehlo(name), said, "{name:?}");
        }
    }
}
