//! Header fields as ranges of the octets that were received (RFC 5322 2.2).
//!
//! Nothing is decoded or repaired, and no line is lost: what is no field is kept as one without a name.

use std::borrow::Cow;

use crate::Fault;

/// The fields of a header in the order of the octets. They are found as they are asked for: nothing is kept of a
/// header, however many lines it has.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    octets: &'a [u8],
}

/// How many fields a header may have where something is kept of each. Mail has less than two hundred.
pub const MAX_HEADER_FIELDS: usize = 10_000;

/// How many octets a header may have where something is kept of its fields. MTAs take 100 KB or so.
pub const MAX_HEADER_OCTETS: usize = 1 << 20;

/// A header larger than any that is met: more than [`MAX_HEADER_FIELDS`] or [`MAX_HEADER_OCTETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header of {count} {what}, more than the {limit} that are taken")]
#[non_exhaustive]
pub struct HeaderTooLarge {
    /// Of what it has too many.
    pub what: &'static str,
    /// How many it has.
    pub count: usize,
    /// How many are taken.
    pub limit: usize,
}

impl HeaderTooLarge {
    /// Whose fault it is: always the message's.
    pub fn fault(&self) -> Fault {
        Fault::Message
    }
}

impl<'a> Header<'a> {
    /// Reads header octets with CRLF line ends, up to the empty line or the end. The octets of the
    /// fields, joined, are the octets that were read.
    pub fn parse(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// All fields.
    pub fn fields(&self) -> Fields<'a> {
        Fields { octets: Octets { rest: self.octets } }
    }

    /// All fields of a name, whose case does not matter.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = HeaderField<'a>> + use<'a, 'n> {
        let begins = |octets: &&[u8]| match (octets.first(), name.as_bytes().first()) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        };
        // Most fields are told apart by how they begin, and not taken apart.
        let fields = Octets { rest: self.octets }.filter(begins).map(HeaderField::new);
        fields.filter(move |field| field.is(name))
    }

    /// That this is no larger than any header that is met, for whoever keeps its fields.
    pub(crate) fn check_size(&self) -> Result<(), HeaderTooLarge> {
        let (fields, octets) =
            self.fields().fold((0, 0), |(fields, octets), field| (fields + 1, octets + field.octets().len()));
        for (what, count, limit) in
            [("fields", fields, MAX_HEADER_FIELDS), ("octets", octets, MAX_HEADER_OCTETS)]
        {
            if count > limit {
                return Err(HeaderTooLarge { what, count, limit });
            }
        }
        Ok(())
    }
}

/// Whether a field goes on in a line of blanks alone, which some agents take for the header's end.
pub(crate) fn has_blank_line(header: &[u8]) -> bool {
    let mut begin = 0;
    memchr::memchr_iter(b'\n', header).chain([header.len()]).any(|end| {
        let line = header.get(begin..end).unwrap_or_default();
        begin = end + 1;
        matches!(line.first(), Some(b' ' | b'\t')) && is_blank(line)
    })
}

/// Whether there is nothing in a line that is seen: readers differ in which controls and spaces are blanks, and for some a line
/// ends at a NUL.
fn is_blank(line: &[u8]) -> bool {
    let line = line.split(|octet| *octet == 0).next().unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(line) => line.chars().all(|c| c.is_whitespace() || c.is_control()),
        // 0x85 and 0xa0 are spaces in ISO 8859-1.
        Err(_) => line.iter().all(|octet| matches!(octet, 0..=b' ' | 0x7f..=0xa0)),
    }
}

/// The fields of a [`Header`], one after the other.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    octets: Octets<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = HeaderField<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.octets.next().map(HeaderField::new)
    }
}

/// The octets of the fields of a [`Header`], one after the other.
#[derive(Clone, Debug)]
struct Octets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Octets<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.rest.starts_with(b"\r\n") {
            return None;
        }
        let (field, rest) = self.rest.split_at(field_len(self.rest));
        self.rest = rest;
        Some(field)
    }
}

/// One header field with its folds and its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderField<'a> {
    octets: &'a [u8],
    name: &'a str,
    value: &'a [u8],
}

impl<'a> HeaderField<'a> {
    fn new(octets: &'a [u8]) -> Self {
        let line = octets.strip_suffix(b"\r\n").unwrap_or(octets);
        let colon = memchr::memchr(b':', line).and_then(|at| {
            let name = line.get(..at)?.trim_ascii_end();
            // RFC 5322 3.6.8: printable US-ASCII but the colon; blanks before the colon are obsolete syntax.
            let printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
            Some((std::str::from_utf8(name).ok().filter(|_| printable)?, line.get(at + 1..)?))
        });
        let (name, value) = colon.unwrap_or(("", line));
        Self { octets, name, value }
    }

    /// The name as it was spelled, without the colon; empty if the line is no header field.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether this is the field's name. Case does not matter, and no name is ever empty.
    pub fn is(&self, name: &str) -> bool {
        !name.is_empty() && self.name.eq_ignore_ascii_case(name)
    }

    /// All that follows the colon, folds included, without the final line end. Where there is no name,
    /// the whole line.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The value on one line, trimmed. Octets that are not UTF-8 and control characters become U+FFFD;
    /// encoded words stay.
    pub fn unfolded(&self) -> String {
        let text = String::from_utf8_lossy(self.value);
        let text = if text.contains("\r\n") { Cow::Owned(text.replace("\r\n", "")) } else { text };
        // No other white space is anything that may be left out (RFC 5322 2.2).
        text.trim_matches([' ', '\t', '\r', '\n'])
            .chars()
            .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
            .collect()
    }

    /// The whole field with its name, its folds and its line end.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }
}

/// The length of the first field: its first line and the lines after that begin with a blank.
fn field_len(octets: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', octets)
        .filter(|&at| octets.get(..at).is_some_and(|line| line.ends_with(b"\r")))
        .map(|at| at + 1)
        .find(|&end| !matches!(octets.get(end), Some(b' ' | b'\t')))
        .unwrap_or(octets.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_blanks_are_found_wherever_they_stand() {
        for (header, has) in [
            ("", false),
            ("A: b\r\n", false),
            ("A: b\r\n c\r\nD:\r\n", false),
            ("A:  \r\n", false),
            ("A: b\r\n \r\n c\r\n", true),
            ("A: b\r\n c\r\n\t \r\n", true),
            (" \r\nA: b\r\n", true),
            ("A: b\r\n ", true),
            ("A: b\r\n \x0b\r\n c\r\n", true),
            ("A: b\r\n \x0c\r\n c\r\n", true),
            ("A: b\r\n \x08\x1f\x7f\r\n c\r\n", true),
            ("A: b\r\n \0x\r\n c\r\n", true),
            ("A: b\r\n \u{a0}\u{85}\u{2003}\r\n c\r\n", true),
            ("A: b\r\n \x1b$B\r\n c\r\n", false),
            ("A: b\r\n \u{e4}\r\n c\r\n", false),
        ] {
            assert_eq!(has_blank_line(header.as_bytes()), has, "{header:?}");
        }
        assert!(
            has_blank_line(b"A: b\r\n \xa0\x85\r\n c\r\n") && !has_blank_line(b"A: b\r\n \xe4\r\n c\r\n")
        );
    }

    const HEADER: &[u8] =
        b"From alice@example.org Mon Jan 1 10:00:00 2024\r\nSubject: one\r\n two\r\n\tthree\r\n\
        subject :four\r\nno field\r\n: no name\r\nempty:\r\nX\xc3\xa9: y\r\n\r\nBody: x\r\n";

    #[test]
    fn no_octet_of_a_header_is_lost() {
        let header = Header::parse(HEADER);
        let joined: Vec<u8> = header.fields().flat_map(|field| field.octets().to_vec()).collect();
        assert!(HEADER.starts_with(&joined));
        assert_eq!(&HEADER[joined.len()..], b"\r\nBody: x\r\n");
    }

    #[test]
    fn only_printable_names_before_a_colon_are_names() {
        let names: Vec<_> = Header::parse(HEADER).fields().map(|field| field.name()).collect();
        assert_eq!(names, ["", "Subject", "subject", "", "", "empty", ""]);
    }

    #[test]
    fn only_blanks_are_taken_off_a_value() {
        let header = Header::parse(b"From: \x0ba@example.org\xc2\xa0 \r\n\r\n");
        let field = header.all("From").next().unwrap();
        assert_eq!(field.unfolded(), "\u{fffd}a@example.org\u{a0}");
    }

    #[test]
    fn fields_are_found_in_any_case_and_unfolded() {
        let header = Header::parse(HEADER);
        let subjects: Vec<_> = header.all("SUBJECT").collect();
        assert_eq!(subjects.len(), 2);
        assert_eq!(subjects[0].value(), b" one\r\n two\r\n\tthree");
        assert_eq!(subjects[0].unfolded(), "one two\tthree");
        assert_eq!(subjects[1].unfolded(), "four");
        assert_eq!(header.all("").count(), 0);
    }

    #[test]
    fn a_last_line_without_line_end_is_a_field() {
        let header = Header::parse(b"A: 1\r\nB: 2\r\n ");
        assert_eq!(header.fields().count(), 2);
        assert_eq!(header.fields().nth(1).unwrap().octets(), b"B: 2\r\n ");
    }

    #[test]
    fn control_characters_do_not_reach_the_unfolded_text() {
        let header = Header::parse(b"Subject: a\rb\nc\0d\xffe\r\n");
        assert_eq!(header.fields().next().unwrap().unfolded(), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e");
    }

    #[test]
    fn a_header_is_too_large_by_its_fields_or_by_its_octets_and_says_how_many() {
        let check = |header: &[u8]| Header::parse(header).check_size().map_err(|error| error.to_string());
        let body = "a:\r\n".repeat(2 * MAX_HEADER_FIELDS);
        assert_eq!(check(&["a:\r\n".repeat(MAX_HEADER_FIELDS), body].join("\r\n").into_bytes()), Ok(()));
        let many = "a\r\n".repeat(MAX_HEADER_FIELDS + 1);
        assert_eq!(
            check(many.as_bytes()),
            Err("a header of 10001 fields, more than the 10000 that are taken".into())
        );
        let long = format!("A: {}\r\n", "x".repeat(MAX_HEADER_OCTETS - 5));
        assert_eq!(check(long.as_bytes()), Ok(()));
        assert_eq!(
            check(format!("{long}\t\r\n").as_bytes()),
            Err("a header of 1048579 octets, more than the 1048576 that are taken".into())
        );
    }
}
