//! The variants of mbox: how lines are quoted, and whether each message tells its length.

use crate::quoting::Quoting;

/// The variants of mbox that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Every `>*From ` gets one more `>`, which can be undone.
    Mboxrd,
    /// Every `From ` gets a `>`, which cannot be undone.
    Mboxo,
    /// As mboxo, with `Content-Length`.
    Mboxcl,
    /// Nothing is quoted: `Content-Length` alone tells where a message ends.
    Mboxcl2,
}

impl Variant {
    /// How lines are quoted, if they are.
    pub fn quoting(self) -> Option<Quoting> {
        match self {
            Self::Mboxrd => Some(Quoting::Mboxrd),
            Self::Mboxo | Self::Mboxcl => Some(Quoting::Mboxo),
            Self::Mboxcl2 => None,
        }
    }

    /// Whether each message has its length in a header field.
    pub fn has_lengths(self) -> bool {
        matches!(self, Self::Mboxcl | Self::Mboxcl2)
    }

    /// The name people know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mboxrd => "mboxrd",
            Self::Mboxo => "mboxo",
            Self::Mboxcl => "mboxcl",
            Self::Mboxcl2 => "mboxcl2",
        }
    }
}
