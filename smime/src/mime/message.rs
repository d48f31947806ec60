//! A whole message in one buffer with CRLF line ends.

use std::{borrow::Cow, sync::LazyLock};

use memchr::memmem::Finder;

/// A message: header fields, an empty line, a body. All line ends are CRLF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    octets: Vec<u8>,
    /// Where the body begins.
    body: usize,
}

impl Message {
    /// Takes a stored message, whose lines end in LF, in CRLF or in both.
    pub fn from_stored(octets: &[u8]) -> Self {
        Self::of(with_crlf(octets))
    }

    /// The same of octets that nobody else needs: those with CRLF alone are not copied.
    pub fn from_owned(octets: Vec<u8>) -> Self {
        if has_bare_lf(&octets) { Self::from_stored(&octets) } else { Self::of(octets) }
    }

    /// The same of octets that are in two parts, of which the first ends with a line.
    pub fn from_stored_parts(first: &[u8], second: &[u8]) -> Self {
        let mut octets = Vec::with_capacity(len_with_crlf(first) + len_with_crlf(second));
        add_with_crlf(first, &mut octets);
        add_with_crlf(second, &mut octets);
        Self::of(octets)
    }

    fn of(octets: Vec<u8>) -> Self {
        let body = body_start(&octets);
        Self { octets, body }
    }

    /// Begins a message whose parts arrive one by one.
    pub fn builder() -> MessageBuilder {
        MessageBuilder { octets: Vec::new(), body: None }
    }

    /// Header, empty line and body.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The same, without the message.
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }

    /// The header fields with their line ends, without the empty line.
    pub fn header(&self) -> &[u8] {
        let header = self.octets.get(..self.body).unwrap_or_default();
        if header == b"\r\n" {
            b""
        } else {
            // The line end of the last field stays, that of the empty line goes.
            match header.strip_suffix(b"\r\n") {
                Some(fields) if fields.ends_with(b"\r\n") => fields,
                _ => header,
            }
        }
    }

    /// What follows the empty line.
    pub fn body(&self) -> &[u8] {
        self.octets.get(self.body..).unwrap_or_default()
    }
}

/// Puts a message together from header fields and body chunks as a milter receives them.
#[derive(Debug, Default)]
pub struct MessageBuilder {
    octets: Vec<u8>,
    body: Option<usize>,
}

impl MessageBuilder {
    /// Adds a header field. The value is all that follows the colon, white space included; its folds
    /// may be LF or CRLF.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.octets.extend_from_slice(name);
        self.octets.push(b':');
        self.octets.extend_from_slice(&crlf(value));
        self.octets.extend_from_slice(b"\r\n");
    }

    /// Makes room for so many octets that will come.
    pub fn reserve(&mut self, octets: usize) {
        // With the empty line.
        self.octets.reserve_exact(octets.saturating_add(2));
    }

    /// Adds octets of the body.
    pub fn body(&mut self, chunk: &[u8]) {
        self.end_header();
        self.octets.extend_from_slice(chunk);
    }

    /// How many octets have come so far.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether nothing has come so far.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The message. A body that came in with bare LFs gets CRLFs.
    pub fn finish(mut self) -> Message {
        let body = self.end_header();
        if let Cow::Owned(fixed) = crlf(self.octets.get(body..).unwrap_or_default()) {
            self.octets.truncate(body);
            self.octets.extend_from_slice(&fixed);
        }
        Message { octets: self.octets, body }
    }

    fn end_header(&mut self) -> usize {
        *self.body.get_or_insert_with(|| {
            self.octets.extend_from_slice(b"\r\n");
            self.octets.len()
        })
    }
}

/// Where the body begins: after the first empty line, at the start if the first line is empty, or at
/// the end if there is no empty line.
fn body_start(octets: &[u8]) -> usize {
    if octets.starts_with(b"\r\n") {
        return 2;
    }
    EMPTY_LINE.find(octets).map_or(octets.len(), |at| at + 4)
}

/// The end of a line, and an empty one.
pub(super) static EMPTY_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Whether an LF stands without a CR before it.
pub(crate) fn has_bare_lf(octets: &[u8]) -> bool {
    let next = octets.get(1..).unwrap_or_default();
    let pairs = octets.chunks(BLOCK).zip(next.chunks(BLOCK));
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "without branches many octets are looked at in one step"
    )]
    let is_bare = |bare, (one, next): (&u8, &u8)| bare | ((*one != b'\r') & (*next == b'\n'));
    octets.first() == Some(&b'\n')
        || pairs.into_iter().any(|(block, next)| block.iter().zip(next).fold(false, is_bare))
}

/// How many octets are looked at between two decisions whether to go on.
const BLOCK: usize = 4096;

/// Where LFs stand without a CR before them.
fn bare_lfs(octets: &[u8]) -> impl Iterator<Item = usize> + '_ {
    memchr::memchr_iter(b'\n', octets).filter(|&at| at == 0 || octets.get(at - 1) != Some(&b'\r'))
}

/// How many LFs stand without a CR before them.
pub(crate) fn count_bare_lfs(octets: &[u8]) -> usize {
    // So few that their count fits into an octet: many are counted in one step.
    const FEW: usize = 128;
    let next = octets.get(1..).unwrap_or_default();
    let pairs = octets.chunks(FEW).zip(next.chunks(FEW));
    let is_crlf = |(one, next): (&u8, &u8)| u8::from(*one == b'\r') & u8::from(*next == b'\n');
    let crlfs = pairs.map(|(few, next)| usize::from(few.iter().zip(next).map(is_crlf).sum::<u8>()));
    memchr::memchr_iter(b'\n', octets).count() - crlfs.sum::<usize>()
}

/// The octets with every bare LF made CRLF: those that were given where there is none.
pub fn crlf(octets: &[u8]) -> Cow<'_, [u8]> {
    if has_bare_lf(octets) { Cow::Owned(with_crlf(octets)) } else { Cow::Borrowed(octets) }
}

/// The octets with every bare LF made CRLF, in a copy. A bare CR stays as it is.
pub(crate) fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(len_with_crlf(octets));
    add_with_crlf(octets, &mut out);
    out
}

/// How much room to make for octets with CRLF: what short ones need is not counted but guessed, which is nearly always
/// enough.
fn len_with_crlf(octets: &[u8]) -> usize {
    octets.len() + if octets.len() < SHORT { octets.len() / 32 + 16 } else { count_bare_lfs(octets) }
}

/// What may be a second time in memory for a moment where the guess was wrong.
const SHORT: usize = 128 * 1024;

fn add_with_crlf(octets: &[u8], out: &mut Vec<u8>) {
    let mut copied = 0;
    for at in bare_lfs(octets) {
        out.extend_from_slice(octets.get(copied..at).unwrap_or_default());
        out.push(b'\r');
        copied = at;
    }
    out.extend_from_slice(octets.get(copied..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_are_cut_at_the_first_empty_line() {
        for (stored, header, body) in [
            ("A: 1\nB: 2\n\nx\n\ny\n", "A: 1\r\nB: 2\r\n", "x\r\n\r\ny\r\n"),
            ("A: 1\r\n\r\n", "A: 1\r\n", ""),
            ("\nonly a body\n", "", "only a body\r\n"),
            ("A: 1\n", "A: 1\r\n", ""),
            ("", "", ""),
        ] {
            let message = Message::from_stored(stored.as_bytes());
            assert_eq!(
                (message.header(), message.body()),
                (header.as_bytes(), body.as_bytes()),
                "{stored:?}"
            );
        }
    }

    #[test]
    fn a_message_in_parts_or_given_away_is_the_same() {
        for (first, second) in
            [("A: 1\n\n", "x\ny\r\n"), ("A: 1\r\n\r\n", "x\r\n"), ("", "\nx"), ("A: 1\n", "")]
        {
            let whole = [first, second].concat();
            let stored = Message::from_stored(whole.as_bytes());
            assert_eq!(Message::from_stored_parts(first.as_bytes(), second.as_bytes()), stored, "{whole:?}");
            assert_eq!(Message::from_owned(whole.clone().into_bytes()), stored, "{whole:?}");
        }
    }

    #[test]
    fn bare_lfs_are_found_and_counted_wherever_they_stand() {
        for around in [0_usize, 1, 126, 127, 128, 4094, 4095, 4096, 4097, 9000] {
            let around = b"x\r\n\r".repeat(3_000)[..around].to_vec();
            for (between, count) in
                [(&b""[..], 0), (b"\n", 1), (b"\r\n", 0), (b"\n\r\n", 1), (b"\n\n", 2), (b"x\nx\nx", 2)]
            {
                let octets = [&around, between, &around].concat();
                let slowly = bare_lfs(&octets).count();
                assert_eq!(count_bare_lfs(&octets), slowly, "{} {between:?}", around.len());
                assert_eq!(has_bare_lf(&octets), slowly > 0, "{} {between:?}", around.len());
                assert!(slowly.abs_diff(count) <= 1, "the last of what is before may be a CR");
            }
        }
    }

    #[test]
    fn a_built_message_equals_the_stored_one() {
        let mut builder = Message::builder();
        builder.field(b"Subject", b" a\n folded one");
        builder.body(b"line one\r");
        builder.body(b"\nline two\n");
        let stored = Message::from_stored(b"Subject: a\n folded one\n\nline one\nline two\n");
        assert_eq!(builder.finish(), stored);
    }
}
