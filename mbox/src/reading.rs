//! What is known of a message while it is read.

use crate::{found::Found, length::Length, quoting::LineStart};

/// What is known of the message while it is read.
pub(crate) struct Reading {
    pub(crate) found: Found,
    pub(crate) in_header: bool,
    pub(crate) after_empty: usize,
    /// Of the line that is being read, which may come in pieces.
    pub(crate) line_start: LineStart,
    pub(crate) keep: bool,
    pub(crate) claim: Claim,
    /// What the header says, up to here.
    pub(crate) length: Length,
    /// Where the body begins.
    pub(crate) body: Option<u64>,
    /// Where the message ends, as its `Content-Length` has it.
    pub(crate) claimed: Option<u64>,
}

impl Reading {
    /// Of a message that begins at this offset, with this line.
    pub(crate) fn begin(offset: u64, from_line: &[u8]) -> Self {
        let first_line = from_line.to_vec();
        Self {
            found: Found { offset, from_line: first_line.len(), first_line, ..Found::default() },
            in_header: true,
            after_empty: 0,
            line_start: LineStart::default(),
            keep: true,
            claim: Claim::None,
            length: Length::default(),
            body: None,
            claimed: None,
        }
    }

    /// Notes what is known when the message ends at this offset.
    pub(crate) fn end_at(&mut self, end: u64) {
        self.found.separator = self.after_empty;
        self.found.is_bare_header = self.body.is_none_or(|body| body == end);
        if let Some(claimed) = self.claimed {
            let empty = end.checked_sub(claimed).and_then(|empty| usize::try_from(empty).ok());
            let right = empty.filter(|&empty| empty == 0 || empty == self.after_empty || self.is_believed());
            self.found.length = Some(right.is_some());
            // What the length leaves out is the archive's, also where the body's last line has no end.
            self.found.separator = right.filter(|&empty| empty <= 2).unwrap_or(self.after_empty);
        }
    }

    fn is_believed(&self) -> bool {
        matches!(self.claim, Claim::Believed(_))
    }
}

/// What a `Content-Length` says of this message.
pub(crate) enum Claim {
    None,
    Untested(u64),
    Believed(u64),
}
