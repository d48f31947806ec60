//! How an mbox keeps a body line from being taken for a From_ line.
//!
//! mboxrd puts a `>` before every `>*From `, which can be undone. mboxo puts one before `From ` only, which
//! cannot: a reader does not know which `>From ` was there from the beginning.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// The quoting of an mbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// One `>` more before every `>*From `; taken away when a message is read.
    Mboxrd,
    /// One `>` before `From `; left alone when a message is read.
    Mboxo,
}

impl Quoting {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Mboxrd => Self::Mboxo,
            Self::Mboxo => Self::Mboxrd,
        }
    }

    /// The name people know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mboxrd => "mboxrd",
            Self::Mboxo => "mboxo",
        }
    }
}

/// The lines of a message as its reader sees them.
pub fn unquote(stored: &[u8], quoting: Quoting) -> Cow<'_, [u8]> {
    match quoting {
        Quoting::Mboxrd if memmem::find(stored, b">From ").is_some() => {
            Cow::Owned(map_lines(stored, |line| match line.split_first() {
                Some((_, unquoted)) if is_quoted(line) => (b"", unquoted),
                _ => (b"", line),
            }))
        }
        Quoting::Mboxo | Quoting::Mboxrd => Cow::Borrowed(stored),
    }
}

/// The lines of a message as they are stored.
pub fn quote(lines: &[u8], quoting: Quoting) -> Cow<'_, [u8]> {
    if memmem::find(lines, b"From ").is_none() {
        return Cow::Borrowed(lines);
    }
    Cow::Owned(map_lines(lines, |line| {
        let needed = line.starts_with(b"From ") || (quoting == Quoting::Mboxrd && is_quoted(line));
        (if needed { &b">"[..] } else { b"" }, line)
    }))
}

/// Whether a line is `>From ` with one `>` or more.
fn is_quoted(line: &[u8]) -> bool {
    LineStart::default().completes(line)
}

/// How a line begins that comes in pieces, as far as it came: some `>`, and some of `From ` after them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineStart {
    marks: u64,
    words: usize,
    /// Whether nothing that comes makes a difference any more.
    is_known: bool,
}

impl LineStart {
    /// Takes in the next piece; whether it is the one that shows the line to be `>From ` with one `>` or more.
    pub(crate) fn completes(&mut self, piece: &[u8]) -> bool {
        const WORDS: &[u8] = b"From ";
        if self.is_known {
            return false;
        }
        let words = if self.words == 0 { after_marks(piece) } else { piece };
        self.marks += (piece.len() - words.len()) as u64;
        let wanted = WORDS.get(self.words..).unwrap_or_default();
        let common = words.len().min(wanted.len());
        let fits = self.marks > 0 && words.get(..common) == wanted.get(..common);
        self.words += common;
        self.is_known = !fits || self.words == WORDS.len();
        fits && self.is_known
    }

    /// How many `>` there are, up to here.
    pub(crate) fn marks(&self) -> u64 {
        self.marks
    }
}

/// The line without its leading `>`.
fn after_marks(line: &[u8]) -> &[u8] {
    let marks = line.iter().take_while(|&&octet| octet == b'>').count();
    line.get(marks..).unwrap_or_default()
}

fn map_lines<'a>(octets: &'a [u8], change: impl Fn(&'a [u8]) -> (&'static [u8], &'a [u8])) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + 16);
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(end);
        let (mark, line) = change(line);
        out.extend_from_slice(mark);
        out.extend_from_slice(line);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_follows_the_variant() {
        let lines = b"From here\n>From there\n >From\n>> From\nFromage\n>>From end";
        assert_eq!(
            &*quote(lines, Quoting::Mboxrd),
            b">From here\n>>From there\n >From\n>> From\nFromage\n>>>From end"
        );
        assert_eq!(
            &*quote(lines, Quoting::Mboxo),
            b">From here\n>From there\n >From\n>> From\nFromage\n>>From end"
        );
    }

    /// A small generator, so that a failure can be repeated from its seed.
    fn lines_from(mut seed: u64) -> Vec<u8> {
        const PIECES: [&[u8]; 9] = [b">", b">", b"From ", b"From ", b"x", b"\n", b"\n", b"\r\n", b" "];
        let mut out = Vec::new();
        for _ in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.extend_from_slice(PIECES[usize::try_from(seed >> 33).unwrap() % PIECES.len()]);
        }
        out
    }

    #[test]
    fn mboxrd_gives_back_every_message_and_leaves_no_from_at_a_line_start() {
        for seed in 0..5000 {
            let lines = lines_from(seed);
            let stored = quote(&lines, Quoting::Mboxrd);
            assert!(!stored.split(|&octet| octet == b'\n').any(|line| line.starts_with(b"From ")));
            assert_eq!(&*unquote(&stored, Quoting::Mboxrd), lines, "seed {seed}");
        }
    }

    #[test]
    fn what_an_archive_holds_quoted_survives_reading_and_writing_in_both_variants() {
        for quoting in [Quoting::Mboxrd, Quoting::Mboxo] {
            for seed in 0..5000 {
                // Given what some writer of this variant stored, whatever it was,
                let lines = lines_from(seed);
                let stored = quote(&lines, quoting);
                // when it is read and written again, it is the same.
                assert_eq!(quote(&unquote(&stored, quoting), quoting), stored, "seed {seed}");
            }
        }
    }
}
