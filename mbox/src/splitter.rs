//! Cuts a stream of octets into the messages of an mbox. Reads ahead one line, keeps one message.
//!
//! A line begins a message if an empty line or the start is before it, it has the shape of a From_ line, and
//! a header begins after it. What has only part of that is left where it is and counted as a doubt.

use std::{
    error::Error,
    fmt,
    io::{self, BufRead},
    sync::LazyLock,
};

use memchr::memmem::Finder;

use crate::{
    found::{Found, Part},
    from_line::{Shape, begins_header, shape},
    probe::{Lengths, MadeBy, Probe},
    quoting::LineStart,
    reading::{Claim, Reading},
};

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct Splitter<R, P> {
    input: R,
    probe: P,
    limit: usize,
    /// The offset of the first octet in `window`.
    window_at: u64,
    /// What was read and not given out; cleared line by line when nothing is to be kept.
    window: Vec<u8>,
    /// A line in `window` that was read to judge the one before it.
    ahead: Option<Line>,
    /// Whether the last octet read ended a line.
    at_line_start: bool,
    started: bool,
    /// The message whose From_ line begins the window.
    next: Option<Line>,
    /// Whose the lengths are, when somebody has asked.
    lengths: Option<Lengths>,
    /// Up to where a length that is not believed has From_ lines for text.
    disputed_to: u64,
}

/// What went wrong in the message that begins at this offset.
#[derive(Debug)]
struct InMessage(u64, io::Error);

impl fmt::Display for InMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(begins, error) = self;
        write!(f, "the message at octet {begins}: {error}")
    }
}

impl Error for InMessage {}

/// A line, or a piece of a long one, in the window.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: usize,
    end: usize,
    starts: bool,
}

impl<R: BufRead, P: Probe> Splitter<R, P> {
    /// Messages with more than `limit` octets are given out without them.
    pub fn new(input: R, probe: P, limit: usize) -> Self {
        Self {
            input,
            probe,
            limit,
            window_at: 0,
            window: Vec::new(),
            ahead: None,
            at_line_start: true,
            started: false,
            next: None,
            lengths: None,
            disputed_to: 0,
        }
    }

    /// What looks elsewhere into the archive.
    pub fn probe(&self) -> &P {
        &self.probe
    }

    /// The next part; `None` at the end. An error says in which message it was.
    pub fn next_part(&mut self) -> io::Result<Option<Part>> {
        let begins = self.window_at;
        self.part().map_err(|error| {
            let is_told = error.get_ref().and_then(|inner| inner.downcast_ref::<InMessage>()).is_some();
            if is_told { error } else { io::Error::new(error.kind(), InMessage(begins, error)) }
        })
    }

    fn part(&mut self) -> io::Result<Option<Part>> {
        if !self.started {
            self.started = true;
            let (len, is_blank) = self.preamble()?;
            if len > 0 {
                return Ok(Some(Part::Preamble { len, is_blank }));
            }
        }
        let Some(from_line) = self.next.take() else { return Ok(None) };
        Ok(Some(Part::Message(Box::new(self.message(from_line)?))))
    }

    /// Whether a message comes next, after a part was given out.
    pub fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// Skips what is before the first From_ line; tells how long that is, and whether it is blank.
    fn preamble(&mut self) -> io::Result<(u64, bool)> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        let (mut after_empty, mut is_blank) = (true, true);
        while let Some(mut line) = self.line()? {
            if self.window_at == 0 && line.start == 0 && self.text(line).starts_with(BYTE_ORDER_MARK) {
                line.start = BYTE_ORDER_MARK.len();
            }
            if line.starts && after_empty && self.verdict(line, true)? == Verdict::Begins {
                self.next = Some(self.drop_before(line));
                return Ok((self.window_at, is_blank));
            }
            after_empty = line.starts && is_empty_line(self.text(line));
            is_blank &= self.text(line).trim_ascii().is_empty();
            self.forget();
        }
        Ok((self.window_at + self.window.len() as u64, is_blank))
    }

    fn message(&mut self, from_line: Line) -> io::Result<Found> {
        let mut reading = Reading::begin(self.window_at, self.text(from_line));
        reading.found.disputed = Some(self.window_at).filter(|offset| *offset < self.disputed_to);
        loop {
            self.skim(&mut reading)?;
            let Some(line) = self.line()? else { break };
            if line.starts && self.text(line).starts_with(b"From ") {
                match self.judge(line, &mut reading)? {
                    Verdict::Begins => {
                        reading.found.len = self.window_at + line.start as u64 - reading.found.offset;
                        reading.end_at(self.window_at + line.start as u64);
                        reading.found.followed = true;
                        let is_kept = reading.keep && line.start <= self.limit;
                        // The message takes the window with it: what is ahead is shorter.
                        let mut ahead = Vec::with_capacity(HEADER);
                        ahead.extend_from_slice(self.window.get(line.start..).unwrap_or_default());
                        let mut message = std::mem::replace(&mut self.window, ahead);
                        message.truncate(line.start);
                        if message.capacity() > line.start + line.start / 4 {
                            message.shrink_to_fit();
                        }
                        self.next = Some(self.begin_at(line));
                        reading.found.octets = is_kept.then_some(message);
                        return Ok(reading.found);
                    }
                    Verdict::Doubtful => {
                        reading.found.doubt.get_or_insert(self.window_at + line.start as u64);
                    }
                    Verdict::Text => reading.found.bare += 1,
                }
            }
            self.take_in(line, &mut reading);
            if reading.keep && self.window.len() > self.limit {
                reading.keep = false;
            }
            if !reading.keep {
                self.forget();
            }
        }
        reading.found.len = self.window_at + self.window.len() as u64 - reading.found.offset;
        reading.end_at(self.window_at + self.window.len() as u64);
        reading.found.cut_short = !self.at_line_start && reading.found.length != Some(true);
        reading.found.octets = reading.keep.then(|| std::mem::take(&mut self.window));
        Ok(reading.found)
    }

    /// Takes in, all at once, the lines of a body that nothing depends on: those before the next one with `From ` in it, as
    /// far as they have been read.
    fn skim(&mut self, reading: &mut Reading) -> io::Result<()> {
        while !reading.in_header && self.ahead.is_none() && self.at_line_start {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = FROM.find(buffer).unwrap_or(buffer.len());
            let whole = memchr::memrchr(b'\n', buffer.get(..end).unwrap_or_default()).map_or(0, |at| at + 1);
            let lines = buffer.get(..whole).unwrap_or_default();
            let Some(text) = lines.strip_suffix(b"\n") else { break };
            let last = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
            let last = lines.get(last..).unwrap_or_default();
            reading.after_empty = if is_empty_line(last) { last.len() } else { 0 };
            // With room for the lines that are looked at to tell where it ends: it is not to be moved for them.
            if self.window.capacity() < self.window.len() + lines.len() {
                self.window.reserve_exact(lines.len() + AHEAD.max(self.window.len()));
            }
            self.window.extend_from_slice(lines);
            self.input.consume(whole);
            if self.window.len() > self.limit {
                reading.keep = false;
            }
            if !reading.keep {
                self.forget();
            }
        }
        Ok(())
    }

    /// Notes what a line of the message means for the lines after it.
    fn take_in(&self, line: Line, reading: &mut Reading) {
        let text = self.text(line);
        let empty = line.starts && is_empty_line(text);
        reading.after_empty = if empty { text.len() } else { 0 };
        if empty && reading.in_header {
            reading.in_header = false;
            let body = self.window_at + line.end as u64;
            reading.body = Some(body);
            if let Some(length) = reading.length.ended() {
                let end = body.saturating_add(length);
                reading.claim = Claim::Untested(end);
                reading.claimed = Some(end);
            }
        } else if reading.in_header {
            if line.starts {
                reading.length.take_in(text);
            }
        } else {
            if line.starts {
                reading.line_start = LineStart::default();
            }
            if reading.line_start.completes(text) {
                reading.found.quoted += 1;
                reading.found.requoted += u64::from(reading.line_start.marks() > 1);
            }
        }
    }

    /// Judges a line that starts with `From ` inside a message.
    fn judge(&mut self, line: Line, reading: &mut Reading) -> io::Result<Verdict> {
        let verdict = self.verdict(line, reading.after_empty > 0)?;
        if verdict == Verdict::Text {
            return Ok(verdict);
        }
        // Some writers (mboxcl2) do not quote: there the length alone says that this is still the body.
        let here = self.window_at + line.start as u64;
        if let Claim::Untested(end) = reading.claim {
            reading.claim = if end.saturating_add(2) < here || !self.probe.may_end_at(end)? {
                Claim::None
            } else if here >= end {
                Claim::Believed(end)
            } else {
                match self.lengths()? {
                    Lengths { by: MadeBy::Writer, .. } => Claim::Believed(end),
                    Lengths { by: MadeBy::Senders, is_told } => {
                        // Who sent this would decide what of the mail of others is shown. What it really is, nobody knows.
                        if !is_told {
                            reading.found.disputed.get_or_insert(here);
                            self.disputed_to = self.disputed_to.max(end);
                        }
                        Claim::None
                    }
                }
            };
        }
        match reading.claim {
            Claim::Believed(end) if here < end => {
                reading.found.protected += 1;
                if !self.lengths()?.is_told && self.is_header_next()? {
                    reading.found.hidden.get_or_insert(here);
                }
                Ok(Verdict::Text)
            }
            // At the end, or after the empty line there.
            Claim::Believed(end) if here <= end.saturating_add(2) => Ok(Verdict::Begins),
            _ => Ok(verdict),
        }
    }

    fn lengths(&mut self) -> io::Result<Lengths> {
        if let Some(known) = self.lengths {
            return Ok(known);
        }
        Ok(*self.lengths.insert(self.probe.lengths()?))
    }

    fn is_header_next(&mut self) -> io::Result<bool> {
        let next = self.look_ahead()?;
        Ok(next.is_some_and(|next| begins_header(self.text(next))))
    }

    fn verdict(&mut self, line: Line, after_empty: bool) -> io::Result<Verdict> {
        let shape = shape(self.text(line));
        if shape == Shape::Text {
            return Ok(Verdict::Text);
        }
        let header = self.is_header_next()?;
        Ok(match (shape, after_empty, header) {
            (Shape::Dated | Shape::Undated, true, true) => Verdict::Begins,
            (Shape::Dated, true, _) | (_, _, true) => Verdict::Doubtful,
            _ => Verdict::Text,
        })
    }

    fn text(&self, line: Line) -> &[u8] {
        self.window.get(line.start..line.end).unwrap_or_default()
    }

    /// The next line, from the window or else from the input.
    fn line(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.ahead.take() { Ok(Some(line)) } else { self.read_line() }
    }

    fn look_ahead(&mut self) -> io::Result<Option<Line>> {
        if self.ahead.is_none() {
            self.ahead = self.read_line()?;
        }
        Ok(self.ahead)
    }

    /// Reads a line, or [`PIECE`] octets of a longer one, to the end of the window.
    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let start = self.window.len();
        let starts = self.at_line_start;
        loop {
            let room = PIECE - (self.window.len() - start);
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let available = buffer.get(..room.min(buffer.len())).unwrap_or_default();
            let line_end = memchr::memchr(b'\n', available);
            let taken = line_end.map_or(available.len(), |at| at + 1);
            self.window.extend_from_slice(available.get(..taken).unwrap_or_default());
            self.input.consume(taken);
            let length = self.window.len() - start;
            if taken == 0 || line_end.is_some() || length == PIECE {
                if length == 0 {
                    return Ok(None);
                }
                self.at_line_start = line_end.is_some();
                return Ok(Some(Line { start, end: self.window.len(), starts }));
            }
        }
    }

    /// Lets the window begin with this line, and gives the line as it is now.
    fn drop_before(&mut self, line: Line) -> Line {
        self.window.drain(..line.start);
        // What one long message needed shall not stay for all that follow.
        self.window.shrink_to(4 * PIECE);
        self.begin_at(line)
    }

    /// The window begins with this line now: gives the line as it is in there.
    fn begin_at(&mut self, line: Line) -> Line {
        self.window_at += line.start as u64;
        if let Some(ahead) = &mut self.ahead {
            ahead.start -= line.start;
            ahead.end -= line.start;
        }
        Line { start: 0, end: line.end - line.start, starts: line.starts }
    }

    /// Forgets everything before the line that was read ahead.
    fn forget(&mut self) {
        let start = self.ahead.map_or(self.window.len(), |ahead| ahead.start);
        self.drop_before(Line { start, end: start, starts: false });
    }
}

/// What a line that begins a message has in it.
static FROM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"From "));

/// About how long headers are.
const HEADER: usize = 2048;

/// About how long the line that begins a message is, with the one after it.
const AHEAD: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Begins,
    Doubtful,
    Text,
}

/// The longest piece of a line that is looked at in one go.
const PIECE: usize = 64 * 1024;

fn is_empty_line(line: &[u8]) -> bool {
    line == b"\n" || line == b"\r\n"
}
