//! Where the messages of an mbox may end, noted beforehand: for what cannot be looked into at any place.

use std::io::{self, BufRead};

use crate::{
    from_line::{Shape, begins_header, shape},
    length::begins_length,
};

/// Where messages may end in a stream: for each From_ line its offset and how many octets the empty line before it
/// has, in order.
#[derive(Debug, Default)]
pub struct Ends(Vec<u64>);

impl Ends {
    /// Reads all of an mbox. Nothing is noted before a message tells its length: so this takes eight octets for each
    /// message after that, and none where none does.
    pub fn of(mut input: impl BufRead) -> io::Result<Self> {
        let (mut ends, mut has_lengths) = (Self::default(), false);
        let (mut at, mut empty, mut at_line_start) = (0_u64, 0_u64, true);
        let mut possible: Option<(u64, u64)> = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = io::Read::take(&mut input, PIECE).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                break;
            }
            if let Some((from_line, empty)) = possible.take()
                && has_lengths
                && begins_header(&line)
            {
                ends.add(from_line, empty);
            }
            if at_line_start && matches!(shape(&line), Shape::Dated | Shape::Undated) {
                possible = Some((at, empty));
            }
            // Also in a body: that costs a little memory.
            has_lengths |= at_line_start && begins_length(&line);
            let is_empty = at_line_start && matches!(line.as_slice(), b"\n" | b"\r\n");
            empty = if is_empty { read } else { 0 };
            at_line_start = line.ends_with(b"\n");
            at += read;
        }
        if has_lengths {
            ends.add(at, empty);
        }
        Ok(ends)
    }

    fn add(&mut self, from_line: u64, empty: u64) {
        self.0.push(Self::packed(from_line, empty));
    }

    /// No empty line has more than two octets, and no file more than 2^62.
    fn packed(from_line: u64, empty: u64) -> u64 {
        from_line << 2 | empty.min(3)
    }

    /// Whether a message may end at this offset, see [`Probe::may_end_at`](crate::Probe::may_end_at).
    pub fn has(&self, offset: u64) -> bool {
        let is_there = |from_line, empty| self.0.binary_search(&Self::packed(from_line, empty)).is_ok();
        (0..=2).any(|empty| is_there(offset, empty) || is_there(offset.saturating_add(empty), empty))
    }
}

/// The longest piece of a line that is looked at in one go.
const PIECE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_noted_from_the_first_message_on_that_tells_its_length() {
        let plain = "From a@b Mon Jun  1 10:00:00 2020\nA: 1\n\nx\n\n";
        let long = "From a@b Mon Jun  1 10:00:00 2020\r\ncontent-length: 2\r\n\r\nx\r\n\r\n";
        let close = "From a@b Mon Jun  1 10:00:00 2020\nContent-Length: 2\n\nx\n";
        assert!(Ends::of(plain.repeat(1_000).as_bytes()).unwrap().0.is_empty());
        let archive = [plain, plain, long, close, plain, long].concat();
        let ends = Ends::of(archive.as_bytes()).unwrap();
        let at = |parts: &[&str]| parts.concat().len() as u64;
        let expected = [
            (at(&[plain, plain, long]), 2),
            (at(&[plain, plain, long, close]), 0),
            (at(&[plain, plain, long, close, plain]), 1),
            (archive.len() as u64, 2),
        ];
        for offset in 0..=archive.len() as u64 + 3 {
            let is_expected =
                expected.iter().any(|(from_line, empty)| [*from_line, from_line - empty].contains(&offset));
            assert_eq!(ends.has(offset), is_expected, "{offset}");
        }
        assert_eq!(ends.0.len(), expected.len());
    }
}
