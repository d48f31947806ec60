//! How much may be made of one message in memory, over all of its layers.
//!
//! Layers of S/MIME are in one another: what is decoded of one is decompressed, and inside are more. A limit for each of
//! them is none for the whole: ten bombs in each other grow by the tenth power. So there is one budget of octets for
//! a message, and everything that is made of it draws on that: decoded objects, joined segments, decompressed content.

use crate::Fault;

/// How many octets may be made of a message for each of its own.
///
/// With the message itself that is nine times its length, and a tenth for all that is not counted one by one. A message
/// is 1.37 times as long as the compressed content in it (base64), so content is read that shrank to an eleventh;
/// text shrinks to a third or a fifth.
pub const EXPANSION: usize = 8;

/// How many octets may be made of any message, be it ever so short. What is short may shrink further: logs and
/// empty forms of some hundred KiB to a thirtieth and less.
pub const ALWAYS: usize = 1 << 20;

/// What is left of the octets that may be made of one message.
///
/// It is passed on as a value: whoever looks into a layer takes from his own copy, and what he made is given back by
/// dropping both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    limit: usize,
    left: usize,
}

/// More would be made of a message than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} octets would come of this message, which is more than is taken")]
#[non_exhaustive]
pub struct NoRoom {
    /// How many are taken for this message.
    pub limit: usize,
}

impl NoRoom {
    /// Whose fault it is: always the message's.
    pub fn fault(&self) -> Fault {
        Fault::Message
    }
}

impl Room {
    /// That of a message of so many octets.
    pub fn of(message: usize) -> Self {
        let limit = message.saturating_mul(EXPANSION).max(ALWAYS);
        Self { limit, left: limit }
    }

    /// How many octets may still be made.
    pub fn left(&self) -> usize {
        self.left
    }

    /// What is left where so many octets are kept that were made before.
    #[must_use]
    pub fn without(self, kept: usize) -> Self {
        Self { left: self.left.saturating_sub(kept), ..self }
    }

    /// Takes the room for octets that will be made.
    pub fn take(&mut self, octets: usize) -> Result<(), NoRoom> {
        self.left = self.left.checked_sub(octets).ok_or(self.none())?;
        Ok(())
    }

    /// Segments in one piece.
    pub(crate) fn joined(&mut self, segments: &[&[u8]]) -> Result<Vec<u8>, NoRoom> {
        self.take(segments.iter().map(|segment| segment.len()).sum())?;
        Ok(segments.concat())
    }

    /// That there is none.
    pub(crate) fn none(self) -> NoRoom {
        NoRoom { limit: self.limit }
    }
}
