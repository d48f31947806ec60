//! What a [`Splitter`](crate::Splitter) gives out: the messages of an mbox, and what is before them.

/// A message as it lies in the mbox: from its From_ line to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where its From_ line begins.
    pub offset: u64,
    /// All of its octets.
    pub len: u64,
    /// Its From_ line.
    pub first_line: Vec<u8>,
    /// How many of them are the From_ line.
    pub from_line: usize,
    /// How many at the end are the empty line that belongs to the mbox.
    pub separator: usize,
    /// Whether another message comes after it.
    pub followed: bool,
    /// Whether the last line of the mbox, which is this message's, has no end.
    pub cut_short: bool,
    /// The first line in it that could begin a message but does not quite look like it.
    pub doubt: Option<u64>,
    /// Lines `>From `, `>>From ` and so on.
    pub quoted: u64,
    /// Of these the ones with more than one `>`.
    pub requoted: u64,
    /// Lines `From ` that are text.
    pub bare: u64,
    /// Of these the ones that look like a From_ line, and that only a `Content-Length` keeps from being one.
    pub protected: u64,
    /// Whether its `Content-Length` is right, if it has one.
    pub length: Option<bool>,
    /// Whether it has nothing behind its header, not even a place for its length.
    pub is_bare_header: bool,
    /// A From_ line that is text of this message, or of the one before it, if a `Content-Length` is right that is not
    /// believed: see [`Probe::lengths`](crate::Probe::lengths).
    pub disputed: Option<u64>,
    /// The first From_ line in it that is text because of a `Content-Length` that is believed, has a header behind it, and so may
    /// begin another message where all that bears the lengths out is of one sender. None where it was told whose they are.
    pub hidden: Option<u64>,
    /// The octets, unless there are more than the limit.
    pub octets: Option<Vec<u8>>,
}

/// What comes next in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Octets before the first message: a byte order mark, empty lines, or something else altogether.
    Preamble {
        /// How many there are.
        len: u64,
        /// Whether they are a byte order mark and empty lines, and surely no message.
        is_blank: bool,
    },
    /// A message.
    Message(Box<Found>),
}
