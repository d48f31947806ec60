//! Which message of a Maildir became which, where they are replaced: names tell that of a successor only as far as messages have
//! names of their own. So the journal tells it by what is in both, before the successor is there.

use std::{collections::BTreeSet, ffi::OsStr, ops::Bound};

use data_encoding::BASE64;

use super::key::message_key;
use crate::digest::Summed;

/// A message and its successor, each by unique name and octets, in whatever folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    of: [u8; 16],
    into: [u8; 16],
}

/// One of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half([u8; 16]);

impl Half {
    pub(crate) fn of(name: &OsStr, sum: &Summed) -> Self {
        Self(message_key(name, &sum.sha256))
    }
}

impl Made {
    /// That one file became another of this name.
    pub(crate) fn new(of: Half, into: Half) -> Self {
        Self { of: of.0, into: into.0 }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let octets = BASE64.decode(text.as_bytes()).ok()?;
        let (of, into) = octets.split_first_chunk()?;
        Some(Self { of: *of, into: into.try_into().ok()? })
    }
}

impl std::fmt::Display for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&BASE64.encode(&[self.of, self.into].concat()))
    }
}

/// What is known of two files, by names one of which may be the successor of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    /// It is, and that is noted: the other one may go.
    Noted,
    /// It is, but its run was cut off before it was noted.
    Begun,
    /// Nothing.
    Unknown,
}

/// All that a journal tells.
#[derive(Debug, Default)]
pub(crate) struct AllMade {
    noted: BTreeSet<Made>,
    /// By the run that the journal was read up to, since its last note.
    begun: Vec<Made>,
    /// The same by runs before it, which were cut off then.
    left: BTreeSet<Made>,
}

impl AllMade {
    pub(super) fn begin(&mut self, made: impl IntoIterator<Item = Made>) {
        self.begun.extend(made);
    }

    /// All so far that this run began is durable and noted.
    pub(super) fn note(&mut self) {
        self.noted.extend(self.begun.drain(..));
    }

    /// Another run begins here.
    pub(super) fn cut(&mut self) {
        self.left.extend(self.begun.drain(..));
    }

    pub(super) fn pair(&self, made: &Made) -> Pair {
        if self.noted.contains(made) {
            Pair::Noted
        } else if self.left.contains(made) || self.begun.contains(made) {
            Pair::Begun
        } else {
            Pair::Unknown
        }
    }

    /// Whether a message was replaced, whatever is there in its place.
    pub(super) fn is_replaced(&self, of: [u8; 16]) -> bool {
        is_among(&self.noted, of)
    }

    /// Whether anything is known of what a message became, or was about to.
    pub(super) fn tells_of(&self, of: Half) -> bool {
        let Half(of) = of;
        self.is_replaced(of) || is_among(&self.left, of) || self.begun.iter().any(|made| made.of == of)
    }
}

fn is_among(made: &BTreeSet<Made>, of: [u8; 16]) -> bool {
    let (from, up_to) = (Made { of, into: [0; 16] }, Made { of, into: [u8::MAX; 16] });
    made.range((Bound::Included(from), Bound::Included(up_to))).next().is_some()
}
