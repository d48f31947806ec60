//! Whether a message was read, answered and so on: as a Maildir says it, in the name of a file, and as an mbox says
//! it, in header fields.

use std::{collections::BTreeSet, ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::render::fields;

/// What is known of a message besides its octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The letters of Maildir: `D`raft, `F`lagged, `P`assed on, `R`eplied, `S`een, `T`rashed, and a server's own.
    letters: BTreeSet<u8>,
    /// Whether a mail program has seen that it is there.
    old: bool,
}

impl Flags {
    /// Those in the name of a file, which lies in `new` or `cur`.
    pub fn of_name(name: &OsStr, is_new: bool) -> Self {
        let name = name.as_bytes();
        let info = memchr::memrchr(b':', name).and_then(|colon| name.get(colon..)).unwrap_or_default();
        let letters = info.strip_prefix(b":2,").unwrap_or_default();
        Self { letters: letters.iter().copied().collect(), old: !is_new }
    }

    /// Those in the header of a message in an mbox: `Status`, `X-Status`, `X-Mozilla-Status`.
    pub fn of_header(header: &[u8]) -> Self {
        let mut flags = Self::default();
        for word in fields(header).filter_map(Word::of) {
            match word {
                Word::Status(letters) => {
                    flags.take(letters, &STATUS);
                    flags.old |= letters.contains(&b'O');
                }
                Word::XStatus(letters) => flags.take(letters, &X_STATUS),
                Word::Mozilla(bits) => {
                    let set = MOZILLA.iter().filter(|(bit, _)| bits & bit != 0);
                    flags.letters.extend(set.map(|(_, letter)| letter));
                    flags.old = true;
                }
            }
        }
        flags
    }

    fn take(&mut self, value: &[u8], known: &[(u8, u8)]) {
        let found = known.iter().filter(|(theirs, _)| value.contains(theirs));
        self.letters.extend(found.map(|(_, letter)| letter));
    }

    /// Whether a Maildir keeps the message in `new`.
    pub fn is_new(&self) -> bool {
        !self.old && self.letters.is_empty()
    }

    /// What the name of its file in `cur` ends in.
    pub fn info(&self) -> String {
        let letters: String = self.letters.iter().map(|&letter| char::from(letter)).collect();
        format!(":2,{letters}")
    }

    /// The header with `Status` and `X-Status` as they must be; `None` if the header says the same already.
    /// What an mbox has no word for (`P`, and letters of a server) is not said.
    pub fn in_header(&self, header: &[u8], line_end: &str) -> Option<Vec<u8>> {
        let sayable = |letter: &u8| STATUS.iter().chain(&X_STATUS).any(|(_, ours)| ours == letter);
        let letters: BTreeSet<u8> = self.letters.iter().copied().filter(sayable).collect();
        let mut said = Self::of_header(header);
        said.letters.retain(sayable);
        if said.letters == letters && said.is_new() == self.is_new() {
            return None;
        }
        let others = fields(header).filter(|field| Word::of(field).is_none());
        let mut out: Vec<u8> = others.flatten().copied().collect();
        let words = |known: &[(u8, u8)]| -> String {
            let set = known.iter().filter(|(_, letter)| letters.contains(letter));
            set.map(|(theirs, _)| char::from(*theirs)).collect()
        };
        let old = if self.is_new() { "" } else { "O" };
        for (name, value) in [("Status", words(&STATUS) + old), ("X-Status", words(&X_STATUS))] {
            if !value.is_empty() {
                out.extend_from_slice(format!("{name}: {value}{line_end}").as_bytes());
            }
        }
        Some(out)
    }
}

/// What a field says of flags.
enum Word<'a> {
    Status(&'a [u8]),
    XStatus(&'a [u8]),
    Mozilla(u16),
}

impl<'a> Word<'a> {
    /// Mail programs write these in one line. What is folded was written by somebody else: without its first line, its folds
    /// would be the end of the field before.
    fn of(field: &'a [u8]) -> Option<Self> {
        if memchr::memchr(b'\n', field).is_some_and(|at| at + 1 < field.len()) {
            return None;
        }
        let (name, value) = field.split_at(memchr::memchr(b':', field)?);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        // `Status: 5.1.1 (Relay access denied)` is of a delivery report, and `Status: Resolved` of a list of tasks.
        let is_letters = value.len() <= 8 && value.iter().all(u8::is_ascii_uppercase);
        if name.eq_ignore_ascii_case(b"Status") {
            is_letters.then_some(Self::Status(value))
        } else if name.eq_ignore_ascii_case(b"X-Status") {
            is_letters.then_some(Self::XStatus(value))
        } else if name.eq_ignore_ascii_case(b"X-Mozilla-Status") {
            let hex = std::str::from_utf8(value).ok()?;
            u16::from_str_radix(hex, 16).ok().map(Self::Mozilla)
        } else {
            None
        }
    }
}

/// The letters of a field, and those of Maildir.
const STATUS: [(u8, u8); 1] = [(b'R', b'S')];
const X_STATUS: [(u8, u8); 4] = [(b'A', b'R'), (b'F', b'F'), (b'T', b'D'), (b'D', b'T')];
/// nsMsgMessageFlags of Thunderbird.
const MOZILLA: [(u16, u8); 5] =
    [(0x0001, b'S'), (0x0002, b'R'), (0x0004, b'F'), (0x0008, b'T'), (0x1000, b'P')];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_an_mbox_are_those_of_a_maildir() {
        for (header, info, is_new) in [
            ("Status: RO\nX-Status: AF\n", ":2,FRS", false),
            ("Status: O\r\n", ":2,", false),
            ("X-Status: TD\r\n", ":2,DT", false),
            ("X-Mozilla-Status: 100f\n", ":2,FPRST", false),
            ("Status: 5.1.1 (Relay access denied)\n", ":2,", true),
            ("X-Mozilla-Status: 0000\n", ":2,", false),
            ("Subject: Status: RO\n", ":2,", true),
            ("Status: Resolved\n", ":2,", true),
            ("Status: RO\n folded\n", ":2,", true),
            ("A: 1\n Status: RO\n", ":2,", true),
        ] {
            let flags = Flags::of_header(header.as_bytes());
            assert_eq!((flags.info().as_str(), flags.is_new()), (info, is_new), "{header}");
        }
    }

    #[test]
    fn a_header_is_changed_only_if_it_says_something_else() {
        for (name, is_new, header, expected) in [
            ("1.host:2,S", false, "A: 1\n", Some("A: 1\nStatus: RO\n")),
            ("1.host:2,S", false, "Status: RO\nA: 1\n", None),
            ("1.host:2,PSx", false, "Status: RO\nA: 1\n", None),
            ("1.host:2,", false, "Status: RO\nX-Status: F\nA: 1\n", Some("A: 1\nStatus: O\n")),
            ("1.host:2,DFRT", false, "", Some("Status: O\nX-Status: AFTD\n")),
            ("1.host", true, "A: 1\n", None),
            ("1.host", true, "Status: RO\nA: 1\n", Some("A: 1\n")),
            ("1.host:2,S", false, "X-Mozilla-Status: 0001\n", None),
            // Without its first line a field's folds would be those of the one before.
            (
                "1.host:2,S",
                false,
                "From: Alice <alice@example.org>\nStatus: x\n , Mallory <m@evil.example>\nX-Status: Y\n\tz\n",
                Some(
                    "From: Alice <alice@example.org>\nStatus: x\n , Mallory <m@evil.example>\nX-Status: Y\n\tz\n\
                     Status: RO\n",
                ),
            ),
            // What is no mbox's stays.
            (
                "1.host:2,S",
                false,
                "Status: 5.1.1 (Relay access denied)\nStatus: O\nX-Mozilla-Status: none\n",
                Some("Status: 5.1.1 (Relay access denied)\nX-Mozilla-Status: none\nStatus: RO\n"),
            ),
        ] {
            let flags = Flags::of_name(OsStr::new(name), is_new);
            let changed = flags.in_header(header.as_bytes(), "\n");
            assert_eq!(changed.as_deref(), expected.map(str::as_bytes), "{name} {header:?}");
            if let Some(changed) = changed {
                assert_eq!(flags.in_header(&changed, "\n"), None, "{name} {header:?}");
            }
        }
    }
}
