//! What in some octets would not survive transport, and break a signature over them (RFC 8551 3.1.2, 3.1.3).

use std::fmt;

/// The longest line, without its line end, that every MTA hands on whole. RFC 5322 2.1.1 allows 998 octets; Postfix breaks a
/// line behind so many, Sendmail's mailers (`L=990`) one that is longer than 990, behind octet 989.
pub const LONGEST_LINE: usize = 988;

/// The longest line that mail may have (RFC 5322 2.1.1): what must not be changed may have it.
pub const LONGEST_ALLOWED: usize = 998;

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
    /// A line of more than [`LONGEST_LINE`] octets, which some MTA breaks; of what must not be changed, [`LONGEST_ALLOWED`].
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
            Self::LongLine => "a line of more than 988 octets",
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

/// Octets that are looked at in one go: they stay in the processor's cache meanwhile.
const BLOCK: usize = 32 << 10;

/// Looks at every line. Octets that end without a line end are looked at as if one followed, because
/// that of a delimiter will.
///
/// Almost all mail has none of these hazards, so first it is found out block by block whether there is any, and
/// which comes first only if so.
pub(super) fn hazards(octets: &[u8]) -> Hazards {
    hazards_within(octets, LONGEST_LINE)
}

/// What may become of octets that must not be changed, in lines that are as long as mail may have them.
pub(super) fn hazard_of_fixed(octets: &[u8]) -> Option<Hazard> {
    hazards_within(octets, LONGEST_ALLOWED).transport
}

fn hazards_within(octets: &[u8], longest: usize) -> Hazards {
    let mut rest = octets;
    while !rest.is_empty() {
        let end = match rest.get(..BLOCK) {
            // A line that is longer than a block is too long, and found so below.
            Some(block) => memchr::memrchr(b'\n', block).map_or(BLOCK, |at| at + 1),
            None => rest.len(),
        };
        let (block, tail) = rest.split_at(end);
        if !is_safe(block) {
            return hazards_of_lines(octets, longest);
        }
        rest = tail;
    }
    Hazards::default()
}

/// Whether none of a block's lines has a hazard.
fn is_safe(block: &[u8]) -> bool {
    if !block.is_ascii() || memchr::memchr(0, block).is_some() {
        return false;
    }
    let mut line_ends = 0;
    let mut start = 0;
    for at in memchr::memchr_iter(b'\n', block) {
        let line = block.get(start..at).unwrap_or_default();
        match line {
            [.., b' ' | b'\t', b'\r'] | [b'F', b'r', b'o', b'm', b' ', ..] => return false,
            [text @ .., b'\r'] if text.len() <= LONGEST_LINE => line_ends += 1,
            _ => return false,
        }
        start = at + 1;
    }
    let last = block.get(start..).unwrap_or_default();
    let is_last_safe = last.len() <= LONGEST_LINE
        && !last.starts_with(b"From ")
        && !matches!(last.last(), Some(b' ' | b'\t'));
    // Every CR was one of a line end.
    is_last_safe && memchr::memchr_iter(b'\r', block).count() == line_ends
}

fn hazards_of_lines(octets: &[u8], longest: usize) -> Hazards {
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
            (text.len() > longest).then_some(Hazard::LongLine)
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
    fn what_must_not_be_changed_has_lines_as_long_as_mail_may_have_them() {
        for (length, one, fixed) in
            [(988, false, false), (989, true, false), (998, true, false), (999, true, true)]
        {
            let line = format!("{}\r\nthe end\r\n", "x".repeat(length));
            assert_eq!(hazards(line.as_bytes()).transport, one.then_some(Hazard::LongLine), "{length}");
            assert_eq!(hazard_of_fixed(line.as_bytes()), fixed.then_some(Hazard::LongLine), "{length}");
        }
    }

    #[test]
    fn each_hazard_is_seen() {
        let long = "x".repeat(LONGEST_LINE + 1);
        let longest = format!("{}\r\n", "x".repeat(LONGEST_LINE));
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

    #[test]
    fn hazards_are_seen_wherever_a_block_ends() {
        let line = "Lorem ipsum dolor sit amet\r\n";
        let many = line.repeat(3 * BLOCK / line.len());
        assert_eq!(hazards(many.as_bytes()), Hazards::default());
        for hazard in ["\0", "\u{fc}", "\r", "\n", " \r\n", "\r\nFrom x", "\t\r\n"] {
            for at in (0..60).chain(BLOCK - 60..BLOCK + 60).chain(many.len() - 60..=many.len()) {
                let mut octets = many.clone();
                octets.insert_str(at, hazard);
                let octets = octets.as_bytes();
                assert_eq!(hazards(octets), hazards_of_lines(octets, LONGEST_LINE), "{hazard:?} at {at}");
            }
        }
        let long = format!("{}{many}", "x".repeat(2 * BLOCK));
        assert_eq!(hazards(long.as_bytes()).transport, Some(Hazard::LongLine));
    }
}
