//! What in some octets would not survive transport, and break a signature over them (RFC 8551 3.1.2, 3.1.3).

use std::fmt;

/// The longest line without its line end (RFC 5322 2.1.1).
const MAX_LINE: usize = 998;

/// Something that an agent on the way may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hazard {
    /// An octet above 127: encoded again by the first agent whose next hop lacks 8BITMIME.
    EightBit,
    /// A NUL, which some agents drop.
    Nul,
    /// A CR without LF.
    BareCr,
    /// A LF without CR.
    BareLf,
    /// A line of more than 998 octets, which is folded.
    LongLine,
    /// `From ` at the start of a line, which mailbox files quote.
    FromLine,
    /// A blank at the end of a line, which some agents strip.
    TrailingBlank,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EightBit => "an 8-bit octet",
            Self::Nul => "a NUL",
            Self::BareCr => "a bare CR",
            Self::BareLf => "a bare LF",
            Self::LongLine => "a line of more than 998 octets",
            Self::FromLine => "\"From \" at the start of a line",
            Self::TrailingBlank => "white space at the end of a line",
        })
    }
}

/// The hazards of some octets, the first of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hazards {
    /// What SMTP itself does not carry unchanged.
    pub(super) transport: Option<Hazard>,
    /// What SMTP carries and mailbox files or gateways change.
    pub(super) storage: Option<Hazard>,
}

impl Hazards {
    pub(super) fn any(self) -> Option<Hazard> {
        self.transport.or(self.storage)
    }
}

/// Looks at every line. Octets that end without a line end are looked at as if one followed, because
/// that of a delimiter will.
pub(super) fn hazards(octets: &[u8]) -> Hazards {
    let mut found = Hazards::default();
    if !octets.is_ascii() {
        found.transport = Some(Hazard::EightBit);
    } else if memchr::memchr(0, octets).is_some() {
        found.transport = Some(Hazard::Nul);
    }
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(end);
        rest = tail;
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let hard = if text.ends_with(b"\n") {
            Some(Hazard::BareLf)
        } else if memchr::memchr(b'\r', text).is_some() {
            Some(Hazard::BareCr)
        } else {
            (text.len() > MAX_LINE).then_some(Hazard::LongLine)
        };
        let soft = if text.starts_with(b"From ") {
            Some(Hazard::FromLine)
        } else {
            matches!(text.last(), Some(b' ' | b'\t')).then_some(Hazard::TrailingBlank)
        };
        found.transport = found.transport.or(hard);
        found.storage = found.storage.or(soft);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hazard_is_seen() {
        let long = "x".repeat(MAX_LINE + 1);
        let longest = format!("{}\r\n", "x".repeat(MAX_LINE));
        for (octets, transport, storage) in [
            ("", None, None),
            ("a\r\n\r\nb", None, None),
            (longest.as_str(), None, None),
            (long.as_str(), Some(Hazard::LongLine), None),
            ("a\u{fc}\r\n", Some(Hazard::EightBit), None),
            ("a\0\r\n", Some(Hazard::Nul), None),
            ("a\rb\r\n", Some(Hazard::BareCr), None),
            ("a\r\r\n", Some(Hazard::BareCr), None),
            ("a\r", Some(Hazard::BareCr), None),
            ("a\nb\r\n", Some(Hazard::BareLf), None),
            ("\n", Some(Hazard::BareLf), None),
            ("x\r\nFrom me\r\n", None, Some(Hazard::FromLine)),
            ("From", None, None),
            ("a \r\n", None, Some(Hazard::TrailingBlank)),
            ("a\t", None, Some(Hazard::TrailingBlank)),
            (" a \nFrom \r\n", Some(Hazard::BareLf), Some(Hazard::FromLine)),
        ] {
            assert_eq!(hazards(octets.as_bytes()), Hazards { transport, storage }, "{octets:?}");
        }
    }
}
