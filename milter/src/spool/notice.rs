//! The notice to a sender whose mail did not reach everybody (RFC 3464): words, the status of each recipient, and the
//! header of what was not delivered.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use super::Entry;
use crate::xtext;

/// A notice, from whom it is and what tells it from others. It goes out with the null sender (RFC 3464 2).
pub(super) struct Notice<'n> {
    /// The host that reports.
    pub(super) reporter: &'n str,
    /// Digits that nobody else has.
    pub(super) id: &'n str,
    pub(super) at: SystemTime,
    /// Each recipient, and why.
    pub(super) refused: &'n [(String, String)],
}

impl Notice<'_> {
    /// The notice about a copy, with what its sender called the transaction and the recipients (RFC 3461 4.2 and 4.4).
    pub(super) fn write(&self, entry: &Entry, message: &[u8]) -> Vec<u8> {
        let Self { reporter, id, at, refused } = self;
        let (sender, date, boundary) = (&entry.sender, date(*at), format!("=_{id}"));
        let mut people = String::new();
        let id_of_sender = entry.asked.envelope_id.as_deref().and_then(xtext::printable);
        let mut status =
            id_of_sender.map_or_else(String::new, |id| format!("Original-Envelope-Id: {id}\r\n"));
        // Writing to a String does not fail.
        let _ = write!(status, "Reporting-MTA: dns; {reporter}\r\n");
        for (recipient, reply) in *refused {
            let (code, reply) = (code(reply), ascii(reply, MAX_REPLY));
            let _ = write!(people, "<{recipient}>:\r\n    {reply}\r\n\r\n");
            let asked = entry.asked.of_recipients.get(recipient);
            let original = asked.and_then(|asked| original(asked.original.as_deref()?));
            let original =
                original.map_or_else(String::new, |original| format!("Original-Recipient: {original}\r\n"));
            let _ = write!(
                status,
                "\r\n{original}Final-Recipient: {}\r\nAction: failed\r\nStatus: {code}\r\nDiagnostic-Code: smtp; {reply}\r\n",
                typed(recipient)
            );
        }
        let end =
            message.windows(4).position(|window| window == b"\r\n\r\n").map_or(message.len(), |end| end + 2);
        let header = String::from_utf8_lossy(message.get(..end).unwrap_or_default());
        let header = header.replace(|c: char| !c.is_ascii(), "?");
        format!(
            "Date: {date}\r\nFrom: Mail Delivery System <MAILER-DAEMON@{reporter}>\r\nTo: <{sender}>\r\n\
             Subject: Undelivered Mail Returned to Sender\r\nMessage-ID: <{id}@{reporter}>\r\n\
             Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
             Your message did not reach these recipients. Others may have got it.\r\n\r\n{people}\
             --{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n\
             --{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n{header}\r\n\
             --{boundary}--\r\n"
        )
        .into_bytes()
    }
}

const MAX_REPLY: usize = 400;

/// The reply's enhanced status code (RFC 3463), or the one that says nothing but "for good".
fn code(reply: &str) -> &str {
    let is_code = |word: &&str| {
        let mut parts = word.split('.');
        let is_number = |part: Option<&str>| {
            part.is_some_and(|p| (1..=3).contains(&p.len()) && p.bytes().all(|octet| octet.is_ascii_digit()))
        };
        parts.next() == Some("5")
            && is_number(parts.next())
            && is_number(parts.next())
            && parts.next().is_none()
    };
    reply.split(' ').nth(1).filter(is_code).unwrap_or("5.0.0")
}

/// An address with its type: beyond ASCII escaped (RFC 6533 3).
fn typed(address: &str) -> String {
    if address.is_ascii() {
        return format!("rfc822; {address}");
    }
    format!("utf-8; {}", escaped(address, |c| c.is_ascii_graphic() && !matches!(c, '\\' | '+' | '=')))
}

/// What the sender called a recipient, decoded; nothing where that cannot stand in a field.
fn original(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    let address = if kind.eq_ignore_ascii_case("utf-8") {
        // It has its escapes already.
        escaped(address, |c| c.is_ascii_graphic())
    } else {
        xtext::printable(address)?
    };
    Some(format!("{kind}; {address}"))
}

/// An address of the type `utf-8`, with all but some characters escaped.
fn escaped(address: &str, is_plain: impl Fn(char) -> bool) -> String {
    let mut escaped = String::new();
    for c in address.chars() {
        if is_plain(c) {
            escaped.push(c);
        } else {
            let _ = write!(escaped, "\\x{{{:02X}}}", u32::from(c));
        }
    }
    escaped
}

fn ascii(text: &str, max: usize) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().map(printable).take(max).collect()
}

/// RFC 5322 3.3, in UTC.
fn date(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"].into_iter().cycle();
    let weekday = weekday.nth(usize::try_from(days % 7).unwrap_or_default()).unwrap_or_default();
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = "Dec";
    let february = 28 + u64::from(is_leap(year));
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    for (name, len) in months.into_iter().zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
        if days < len {
            month = name;
            break;
        }
        days -= len;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} +0000", days + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 +0000"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 +0000"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn codes_and_addresses_are_written_as_the_standards_have_them() {
        for (reply, expected) in [
            ("550 5.1.1 <b@x> no such user", "5.1.1"),
            ("550 no such user", "5.0.0"),
            ("451 4.4.7 too old", "5.0.0"),
            ("550 5.1.1.1 x", "5.0.0"),
            ("550", "5.0.0"),
        ] {
            assert_eq!(code(reply), expected, "{reply}");
        }
        assert_eq!(typed("b@example.net"), "rfc822; b@example.net");
        for (orcpt, expected) in [
            ("rfc822;a+2Bb@example.net", Some("rfc822; a+b@example.net")),
            ("rfc822;\"a+20b\"@example.net", Some("rfc822; \"a b\"@example.net")),
            ("x400;/c+3Dus/", Some("x400; /c=us/")),
            ("utf-8;j\u{f6}@example.net", Some("utf-8; j\\x{F6}@example.net")),
            ("UTF-8;j\\x{F6}@example.net", Some("UTF-8; j\\x{F6}@example.net")),
            // What would be another field, or is not what the sender meant, is left out.
            ("rfc822;a+0D+0AAction:+20delivered", None),
            ("rfc822;a+C3+BC@example.net", None),
            ("rfc822;a+b@example.net", None),
            ("rfc822", None),
        ] {
            assert_eq!(original(orcpt).as_deref(), expected, "{orcpt}");
        }
        assert_eq!(typed("j\u{f6}+rg@example.net"), "utf-8; j\\x{F6}\\x{2B}rg@example.net");
    }
}
