//! A first look at a whole mbox: how many messages, which variant, and who wrote it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::unix::fs::FileExt,
};

use super::{
    Variant, begins_header,
    from_line::Shape,
    quoting::Quoting,
    shape,
    splitter::{Found, Part, Probe, Splitter, is_end},
};
use crate::compress::{Compression, decoder};

/// What a first look at an mbox found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many messages it holds.
    pub messages: u64,
    /// How many octets are before the first.
    pub preamble: u64,
    /// How many octets there are in all, without compression.
    pub octets: u64,
    /// Lines `>From `, `>>From ` and so on.
    pub quoted: u64,
    /// Of these the ones with more than one `>`.
    pub requoted: u64,
    /// Lines `From ` in bodies.
    pub bare: u64,
    /// Of these the ones that only a `Content-Length` keeps from being a From_ line.
    pub protected: u64,
    /// Messages that may be two.
    pub doubtful: u64,
    /// Messages with a right `Content-Length`.
    pub right_lengths: u64,
    /// Messages with a wrong one.
    pub wrong_lengths: u64,
    /// Messages whose From_ line ends in CRLF.
    pub crlf: u64,
    /// Who wrote it, if the From_ lines tell.
    pub writer: Option<Writer>,
    /// How it is compressed.
    pub compression: Option<Compression>,
}

/// A writer that is known by its From_ lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// `From - `, or nothing but `From `.
    Thunderbird,
    /// `From 1545668983435175434@xxx`.
    Takeout,
}

impl Writer {
    fn of(from_line: &[u8]) -> Option<Self> {
        let rest = from_line.strip_prefix(b"From ")?;
        let first = rest.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        match first.strip_suffix(b"@xxx") {
            Some(number) if number.iter().all(u8::is_ascii_digit) => Some(Self::Takeout),
            _ if first == b"-" || rest.trim_ascii().is_empty() => Some(Self::Thunderbird),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thunderbird => "Thunderbird",
            Self::Takeout => "Google Takeout",
        }
    }
}

impl Survey {
    /// Reads the whole file.
    pub fn of(file: &File, probe: &MboxProbe) -> io::Result<Self> {
        let mut survey = Self { compression: probe.compression(), ..Self::default() };
        let input = start(file, survey.compression)?;
        // Only the From_ line of a message is looked at.
        let mut splitter = Splitter::new(input, probe, 0);
        while let Some(part) = splitter.next_part()? {
            match part {
                Part::Preamble { len } => (survey.preamble, survey.octets) = (len, len),
                Part::Message(found) => survey.add(&found),
            }
        }
        Ok(survey)
    }

    pub(super) fn add(&mut self, found: &Found) {
        if self.messages == 0 {
            self.writer = Writer::of(&found.first_line);
        } else if self.writer != Writer::of(&found.first_line) {
            self.writer = None;
        }
        self.messages += 1;
        self.octets += found.len;
        self.quoted += found.quoted;
        self.requoted += found.requoted;
        self.bare += found.bare + found.protected;
        self.protected += found.protected;
        self.doubtful += u64::from(found.doubt.is_some());
        self.right_lengths += u64::from(found.length == Some(true));
        self.wrong_lengths += u64::from(found.length == Some(false));
        self.crlf += u64::from(found.first_line.ends_with(b"\r\n"));
    }

    /// The variant, as far as it can be told.
    ///
    /// Where all lengths are right, bare lines show that nothing is quoted (mboxcl2). Elsewhere a bare `From ` shows
    /// a writer that does not quote every one, so `>From ` may be what the author wrote (mboxo). Else it is taken for
    /// mboxrd: undoing it gives the author's words for all writers but those of mboxo and mboxcl, and for these too
    /// unless the author wrote `>From `.
    pub fn variant(&self) -> Variant {
        let has_lengths = self.right_lengths > 0 && self.right_lengths == self.messages;
        match (has_lengths, self.bare, self.quoted) {
            (true, 1.., _) => Variant::Mboxcl2,
            (true, 0, 1..) if self.requoted == 0 => Variant::Mboxcl,
            (false, 1.., _) => Variant::Mboxo,
            _ => Variant::Mboxrd,
        }
    }

    /// How lines of bodies are to be read.
    pub fn quoting(&self) -> Option<Quoting> {
        match self.variant() {
            Variant::Mboxcl => Some(Quoting::Mboxrd),
            variant => variant.quoting(),
        }
    }
}

/// How much is read at once.
pub(crate) const READ_SIZE: usize = 256 * 1024;

/// Begins to read a file, whatever place somebody else reads it at.
pub(crate) fn start(file: &File, compression: Option<Compression>) -> io::Result<Box<dyn BufRead + Send>> {
    let cursor = Cursor { file: file.try_clone()?, at: 0 };
    match compression {
        None => Ok(Box::new(BufReader::with_capacity(READ_SIZE, cursor))),
        Some(compression) => decoder(cursor, compression),
    }
}

/// Reads a file at its own place.
#[derive(Debug)]
struct Cursor {
    file: File,
    at: u64,
}

impl io::Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Tells where messages may end.
#[derive(Debug)]
pub enum MboxProbe {
    /// By looking into the file.
    File(File),
    /// By what was noted before: a compressed file cannot be looked into.
    Noted(Compression, Ends),
}

impl MboxProbe {
    /// Prepares to look into a file. One that is compressed is read once.
    pub fn of(file: &File) -> io::Result<Self> {
        let Some(compression) = Compression::of_file(file)? else { return Ok(Self::File(file.try_clone()?)) };
        Ok(Self::Noted(compression, possible_ends(start(file, Some(compression))?)?))
    }

    pub(super) fn compression(&self) -> Option<Compression> {
        match self {
            Self::File(_) => None,
            Self::Noted(compression, _) => Some(*compression),
        }
    }
}

impl Probe for MboxProbe {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        match self {
            MboxProbe::Noted(_, ends) => Ok(ends.has(offset)),
            MboxProbe::File(file) => {
                let end = file.metadata()?.len();
                Ok(offset == end || offset < end && is_end(&read_at(file, offset, 2048)?))
            }
        }
    }
}

fn read_at(file: &File, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; max];
    let mut len = 0;
    while let Some(room) = octets.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    octets.truncate(len);
    Ok(octets)
}

/// Where messages may end in a stream: for each From_ line its offset and how many octets the empty line before it
/// has, in order.
#[derive(Debug, Default)]
pub struct Ends(Vec<u64>);

impl Ends {
    fn add(&mut self, from_line: u64, empty: u64) {
        self.0.push(Self::packed(from_line, empty));
    }

    /// No empty line has more than two octets, and no file more than 2^62.
    fn packed(from_line: u64, empty: u64) -> u64 {
        from_line << 2 | empty.min(3)
    }

    fn has(&self, offset: u64) -> bool {
        let is_there = |from_line, empty| self.0.binary_search(&Self::packed(from_line, empty)).is_ok();
        (0..=2).any(|empty| is_there(offset, empty) || is_there(offset.saturating_add(empty), empty))
    }
}

/// Where messages may end in a stream. Nothing is noted before one tells its length: so this takes eight octets for
/// each message after that, and none where none does.
fn possible_ends(mut input: impl BufRead) -> io::Result<Ends> {
    let (mut ends, mut has_lengths) = (Ends::default(), false);
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
        has_lengths |= line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"Content-Length:"));
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
        assert!(possible_ends(plain.repeat(1_000).as_bytes()).unwrap().0.is_empty());
        let archive = [plain, plain, long, close, plain, long].concat();
        let ends = possible_ends(archive.as_bytes()).unwrap();
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
