//! A line before it has its number: facts as JSON, and never more than a line has room for.
//!
//! Much of what is told was written by others: names, addresses, what a token says. Of each text there is a beginning, so
//! that none of them can keep a use of a key out of the audit.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{
    Serializer,
    ser::{CharEscape, CompactFormatter, Formatter},
};

use crate::{end::LONGEST_LINE, time::now};

/// A JSON object that is no longer than a line may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line(Vec<u8>);

#[derive(Serialize)]
struct Told<'a, T> {
    /// RFC 3339, UTC.
    time: &'a str,
    event: &'static str,
    #[serde(flatten)]
    facts: &'a T,
}

#[derive(Serialize)]
struct Unwritten {
    /// Why the facts are missing.
    error: String,
}

impl Line {
    /// What happened. With more facts than there is room for, the texts are cut shorter; with more than that, the line
    /// says so in place of them.
    pub(crate) fn new(event: &'static str, facts: &impl Serialize) -> Self {
        let time = now();
        let of = |longest| object(&Told { time: &time, event, facts }, longest);
        let written = of(LONGEST_TEXT).or_else(|_| of(SHORT_TEXT)).or_else(|error| {
            let error = format!("its facts cannot be written: {error}");
            object(&Told { time: &time, event, facts: &Unwritten { error } }, SHORT_TEXT)
        });
        Self(written.unwrap_or_else(|_| format!("{{\"event\":\"{event}\"}}").into_bytes()))
    }

    /// What is between the braces, and the closing one.
    pub(crate) fn members(&self) -> &[u8] {
        self.0.split_first().map_or(&[], |(_, members)| members)
    }
}

fn object(facts: &impl Serialize, longest: usize) -> Result<Vec<u8>, serde_json::Error> {
    let mut room = Room { octets: Vec::with_capacity(512) };
    let texts = Beginnings { longest, left: 0 };
    facts.serialize(&mut Serializer::with_formatter(&mut room, texts))?;
    Ok(room.octets)
}

/// Takes as many octets as a line has room for.
struct Room {
    octets: Vec<u8>,
}

impl Write for Room {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // The number, and what is around it.
        if self.octets.len() + octets.len() > LONGEST_LINE - 64 {
            return Err(io::Error::other("too many for a line"));
        }
        self.octets.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the beginning of each text.
struct Beginnings {
    /// How many characters of each.
    longest: usize,
    /// How many more of this one.
    left: usize,
}

impl Formatter for Beginnings {
    fn begin_string<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.left = self.longest;
        CompactFormatter.begin_string(writer)
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        let end = text.char_indices().nth(self.left).map_or(text.len(), |(end, _)| end);
        let beginning = text.get(..end).unwrap_or(text);
        self.left -= beginning.chars().count();
        CompactFormatter.write_string_fragment(writer, beginning)
    }

    fn write_char_escape<W: Write + ?Sized>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        CompactFormatter.write_char_escape(writer, escape)
    }
}

/// Characters: four octets each at most, six in JSON.
const LONGEST_TEXT: usize = 1000;
/// So short that hundreds of texts have room; a SHA-256 in hexadecimal is as long.
const SHORT_TEXT: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn read(line: &Line) -> Value {
        serde_json::from_slice(&line.0).unwrap()
    }

    #[test]
    fn of_each_text_there_is_the_beginning_whatever_is_in_it() {
        for text in ["x", "ä", "\u{1}", "\"", "𝄞", "\\a", "ä\n𝄞\u{1f}\"\u{2028}y"] {
            let long = text.repeat(5000);
            let line = Line::new("use", &BTreeMap::from([("text", &long), ("other", &"z".to_owned())]));
            let beginning: String = long.chars().take(1000).collect();
            assert_eq!(read(&line)["text"], beginning);
            assert_eq!(read(&line)["other"], "z");
        }
    }

    #[test]
    fn with_many_long_texts_all_are_shorter_and_none_is_missing() {
        let digest = "0123456789abcdef".repeat(4);
        let texts: BTreeMap<String, String> = (0..20)
            .map(|number| (format!("text{number}"), "\u{1}".repeat(5000)))
            .chain([("key".to_owned(), digest.clone())])
            .collect();
        let line = Line::new("use", &texts);
        assert_eq!(
            (read(&line)["key"].as_str(), read(&line)["event"].as_str()),
            (Some(&*digest), Some("use"))
        );
        assert_eq!(read(&line)["text19"], "\u{1}".repeat(64));
    }

    #[test]
    fn a_line_has_room_whatever_its_facts_are() {
        let numbers = BTreeMap::from([("numbers", vec![u64::MAX; 1_000_000])]);
        let line = Line::new("use", &numbers);
        assert!(line.0.len() < 300, "{}", line.0.len());
        assert_eq!(read(&line)["event"], "use");
        assert!(read(&line)["error"].as_str().unwrap().starts_with("its facts cannot be written"));
        // JSON has texts as names only.
        let nameless = BTreeMap::from([(vec![1], 1)]);
        assert_eq!(read(&Line::new("use", &nameless))["event"], "use");
    }
}
