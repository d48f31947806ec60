//! A message from one mbox variant, or from none, for another: lines `From `, and `Content-Length`.

use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
};

use mbox::Quoting;
use memchr::{memchr, memmem};

use crate::render::{LineEnd, fields, is_content_length, split};

/// A message, header and body, taken from a file of one quoting for one of another; `None` is no quoting. A
/// `Content-Length` that was right is right again; one that was wrong stays wrong, unless there must be a right one.
pub fn converted(
    content: &[u8],
    from: Option<Quoting>,
    to: Option<Quoting>,
    must_have_length: bool,
) -> Cow<'_, [u8]> {
    let new = requoted(content, from, to);
    let (_, old_body) = split(content);
    let (header, body) = split(&new);
    match with_length(header, old_body.len(), body.len(), must_have_length) {
        Some(header) => Cow::Owned([&header, body].concat()),
        None => new,
    }
}

/// The lines of a message with another quoting.
fn requoted(content: &[u8], from: Option<Quoting>, to: Option<Quoting>) -> Cow<'_, [u8]> {
    // Most messages have no such line at all.
    if !memmem::find_iter(content, b"From ").any(|at| begins_quotable(content, at)) {
        return Cow::Borrowed(content);
    }
    let mut out = Vec::with_capacity(content.len() + 64);
    let mut rest = content;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(end);
        let marks = line.iter().take_while(|&&octet| octet == b'>').count();
        let words = line.get(marks..).unwrap_or_default();
        let marks = if words.starts_with(b"From ") { marks_for(marks, from, to) } else { marks };
        out.resize(out.len() + marks, b'>');
        out.extend_from_slice(words);
        rest = tail;
    }
    Cow::Owned(out)
}

/// Whether before this place of a text there is nothing but `>` in its line.
fn begins_quotable(content: &[u8], at: usize) -> bool {
    let before = content.get(..at).unwrap_or_default();
    let last = before.iter().rev().find(|&&octet| octet != b'>');
    last.is_none_or(|&octet| octet == b'\n')
}

/// How many `>` a line `>*From ` gets.
fn marks_for(marks: usize, from: Option<Quoting>, to: Option<Quoting>) -> usize {
    let original = if from == Some(Quoting::Mboxrd) { marks.saturating_sub(1) } else { marks };
    match to {
        Some(Quoting::Mboxrd) => original + 1,
        Some(Quoting::Mboxo) => original.max(1),
        None => original,
    }
}

/// The header with another length of the body, if something is to be changed. Where a right length need not be
/// there, the two lengths change places: a field that was right stays right, one that was wrong stays wrong, and
/// the way back restores both.
pub(crate) fn with_length(header: &[u8], old: usize, new: usize, must_have: bool) -> Option<Vec<u8>> {
    let (old, new) = (old as u64, new as u64);
    let mut right = false;
    let mut changed = false;
    let mut out = Vec::with_capacity(header.len() + 32);
    let line_end = LineEnd::of(header).octets();
    for field in fields(header) {
        if is_content_length(field) {
            let (before, digits, after) = around_length(field);
            let replacement = match length_in(digits) {
                length if must_have => (length != Some(new)).then_some(new),
                Some(length) if length == old => Some(new),
                Some(length) if length == new => Some(old),
                _ => None,
            };
            right = true;
            if let Some(length) = replacement.filter(|&length| length_in(digits) != Some(length)) {
                changed = true;
                out.extend_from_slice(before);
                out.extend_from_slice(length.to_string().as_bytes());
                out.extend_from_slice(after);
                continue;
            }
        } else if must_have && !right && (field == b"\n" || field == b"\r\n") {
            changed = true;
            out.extend_from_slice(format!("Content-Length: {new}").as_bytes());
            out.extend_from_slice(line_end);
        }
        out.extend_from_slice(field);
    }
    changed.then_some(out)
}

/// A `Content-Length` line in three parts: up to its value, the value, and the space and line end after it.
fn around_length(line: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (name, value) = line.split_at(memchr(b':', line).map_or(line.len(), |at| at + 1));
    let digits = value.trim_ascii();
    let space = if digits.is_empty() { 0 } else { value.len() - value.trim_ascii_start().len() };
    let (before, rest) = line.split_at(name.len() + space);
    let (digits, after) = rest.split_at(digits.len());
    (before, digits, after)
}

/// A length in its one usual form: `007` and `+7` are none.
fn length_in(digits: &[u8]) -> Option<u64> {
    let usual = digits == b"0" || digits.first().is_some_and(|first| matches!(first, b'1'..=b'9'));
    let text = std::str::from_utf8(digits).ok().filter(|_| usual)?;
    text.parse().ok()
}

/// Requotes what is too large for memory while it is read.
pub(crate) struct Requote<R> {
    input: R,
    from: Option<Quoting>,
    to: Option<Quoting>,
    /// At the start of a line: how many `>` were read, and how much of `From `.
    start: Option<(usize, usize)>,
    /// What is to be given out: so many `>`, then these octets of `From `.
    owed: (usize, &'static [u8]),
}

impl<R: BufRead> Requote<R> {
    pub(crate) fn new(input: R, from: Option<Quoting>, to: Option<Quoting>) -> Self {
        Self { input, from, to, start: Some((0, 0)), owed: (0, b"") }
    }

    /// Reads the marks and words at the start of a line, and owes what they become.
    fn read_start(&mut self) -> io::Result<()> {
        while let Some((marks, words)) = self.start {
            let next = self.input.fill_buf()?.first().copied();
            match next {
                Some(b'>') if words == 0 => self.start = Some((marks + 1, 0)),
                Some(octet) if FROM.get(words) == Some(&octet) => {
                    self.start = (words + 1 < FROM.len()).then_some((marks, words + 1));
                    if self.start.is_none() {
                        self.owed = (marks_for(marks, self.from, self.to), FROM);
                    }
                }
                _ => {
                    self.start = None;
                    self.owed = (marks, FROM.get(..words).unwrap_or_default());
                    return Ok(());
                }
            }
            self.input.consume(1);
        }
        Ok(())
    }
}

const FROM: &[u8] = b"From ";

impl<R: BufRead> Read for Requote<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.owed.0 == 0 && self.owed.1.is_empty() {
            self.read_start()?;
        }
        let (marks, words) = self.owed;
        if marks > 0 {
            let len = marks.min(out.len());
            out.get_mut(..len).unwrap_or_default().fill(b'>');
            self.owed.0 -= len;
            return Ok(len);
        }
        if !words.is_empty() {
            let (now, later) = words.split_at(words.len().min(out.len()));
            self.owed.1 = later;
            out.get_mut(..now.len()).unwrap_or_default().copy_from_slice(now);
            return Ok(now.len());
        }
        let available = self.input.fill_buf()?;
        let line_end = memchr(b'\n', available).map_or(available.len(), |at| at + 1);
        let len = line_end.min(out.len());
        let taken = available.get(..len).unwrap_or_default();
        out.get_mut(..len).unwrap_or_default().copy_from_slice(taken);
        if taken.last() == Some(&b'\n') {
            self.start = Some((0, 0));
        }
        self.input.consume(len);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    const ALL: [Option<Quoting>; 3] = [None, Some(Quoting::Mboxrd), Some(Quoting::Mboxo)];

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 13] = [
            b">",
            b"From ",
            b"Fro",
            b"\n",
            b"\n\n",
            b"\r\n",
            b"Content-Length: 7\n",
            b"Content-Length:6 \r\n",
            b"content-length: 007\n",
            b"x",
            b"\0\xff",
            b" ",
            b"A: 1\n",
        ];
        let piece = prop_oneof![
            8 => proptest::sample::select(pieces.to_vec()).prop_map(<[u8]>::to_vec),
            1 => proptest::collection::vec(any::<u8>(), 0..5),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_octets_survive_the_way_into_mboxrd_and_back(octets in octets()) {
            let rd = Some(Quoting::Mboxrd);
            let stored = converted(&octets, None, rd, false);
            let bare = stored.split(|&octet| octet == b'\n').any(|line| line.starts_with(b"From "));
            prop_assert!(!bare);
            prop_assert_eq!(&*converted(&stored, rd, None, false), &octets[..]);
        }

        #[test]
        fn a_large_message_is_requoted_like_a_small_one(octets in octets(), buffer in 1_usize..20) {
            for from in ALL {
                for to in ALL {
                    let mut streamed = Vec::new();
                    let input = BufReader::with_capacity(buffer, &octets[..]);
                    io::copy(&mut Requote::new(input, from, to), &mut streamed).unwrap();
                    prop_assert_eq!(&streamed[..], &*requoted(&octets, from, to));
                }
            }
        }

        #[test]
        fn a_length_that_must_be_there_is_right(octets in octets()) {
            for to in ALL {
                let stored = converted(&octets, None, to, true);
                let (header, body) = split(&stored);
                let lengths: Vec<_> = fields(header).filter(|field| is_content_length(field)).collect();
                prop_assert!(lengths.iter().all(|field| length_in(around_length(field).1) == Some(body.len() as u64)));
                let has_end = fields(header).any(|field| field == b"\n" || field == b"\r\n");
                prop_assert!(!has_end || !lengths.is_empty());
            }
        }
    }

    #[test]
    fn a_length_is_kept_right_and_a_wrong_one_is_left() {
        for (stored, to, expected) in [
            ("Content-Length: 7\n\nFrom x\n", Some(Quoting::Mboxrd), "Content-Length: 8\n\n>From x\n"),
            ("content-length:7\r\n\r\nFrom x\n", Some(Quoting::Mboxrd), "content-length:8\r\n\r\n>From x\n"),
            ("Content-Length: 99\n\nFrom x\n", Some(Quoting::Mboxrd), "Content-Length: 99\n\n>From x\n"),
            ("Content-Length: 8\n\nFrom x\n", Some(Quoting::Mboxrd), "Content-Length: 7\n\n>From x\n"),
            ("Content-Length: 7\n\nFrom x\n", None, "Content-Length: 7\n\nFrom x\n"),
            (
                "Content-Length: 7\n x\n\nFrom x\n",
                Some(Quoting::Mboxrd),
                "Content-Length: 7\n x\n\n>From x\n",
            ),
        ] {
            let stored = converted(stored.as_bytes(), None, to, false);
            assert_eq!(String::from_utf8_lossy(&stored), expected);
        }
    }
}
