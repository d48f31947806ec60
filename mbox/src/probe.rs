//! What a reader asks of the archive beyond the place where it is, to judge what a `Content-Length` claims.

use std::io;

use crate::{
    from_line::{Shape, begins_header, shape},
    survey::Survey,
};

/// Looks elsewhere into the archive, to test what a `Content-Length` claims.
pub trait Probe {
    /// Whether a message may end at this offset: there the archive ends, or a From_ line begins where a line does,
    /// with or without an empty line before it.
    fn may_end_at(&self, offset: u64) -> io::Result<bool>;

    /// Whose the lengths are, where one says that a From_ line is text. It is asked once, and only where there is such a line.
    fn lengths(&self) -> io::Result<Lengths>;
}

/// Whose the lengths of an archive are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Who made them.
    pub by: MadeBy,
    /// Whether somebody who knows the archive said so. Else it is what it looks like.
    pub is_told: bool,
}

/// Who made the lengths of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// Its writer: so they say which From_ lines are text.
    Writer,
    /// Each the sender of its message, as he liked it to be.
    Senders,
}

impl Lengths {
    /// What somebody said who knows the archive.
    pub fn told(by: MadeBy) -> Self {
        Self { by, is_told: true }
    }

    /// What they look like in an archive that was surveyed by [`Believing`] all of them.
    pub fn of(survey: &Survey) -> Self {
        let by = if survey.tells_lengths() { MadeBy::Writer } else { MadeBy::Senders };
        Self { by, is_told: false }
    }
}

impl<P: Probe + ?Sized> Probe for &P {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        (**self).may_end_at(offset)
    }

    fn lengths(&self) -> io::Result<Lengths> {
        (**self).lengths()
    }
}

impl Probe for [u8] {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let before = start.checked_sub(1).and_then(|last| self.get(last)).copied();
        Ok(self.get(start..).is_some_and(|octets| is_end(before, octets)))
    }

    fn lengths(&self) -> io::Result<Lengths> {
        Ok(Lengths::of(&Survey::of(self, &Believing(self))?))
    }
}

/// Believes every length that ends where a message may end, to see whether all bear it out.
#[derive(Debug)]
pub struct Believing<'a, P: ?Sized>(pub &'a P);

impl<P: Probe + ?Sized> Probe for Believing<'_, P> {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        self.0.may_end_at(offset)
    }

    fn lengths(&self) -> io::Result<Lengths> {
        Ok(Lengths::told(MadeBy::Writer))
    }
}

/// Whether these octets, the next of an archive after this one, are its end or begin another message.
pub(crate) fn is_end(before: Option<u8>, octets: &[u8]) -> bool {
    let lines = octets.strip_prefix(b"\r\n").or_else(|| octets.strip_prefix(b"\n"));
    let at_line_start = lines.is_some() || before.is_none_or(|octet| octet == b'\n');
    let lines = lines.unwrap_or(octets);
    if lines.is_empty() {
        return true;
    }
    // Words in the middle of a line are no From_ line.
    if !at_line_start {
        return false;
    }
    let mut lines = lines.split(|&octet| octet == b'\n');
    let from_line = lines.next().unwrap_or_default();
    matches!(shape(from_line), Shape::Dated | Shape::Undated) && lines.next().is_some_and(begins_header)
}
