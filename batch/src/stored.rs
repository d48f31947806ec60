//! A message as it lies in an archive, octet by octet, and where that is.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use smime::Fault;

use crate::{
    attributes::Attributes,
    done::Content,
    mbox::{Quoting, is_folder_data},
    single,
};

/// Where a message was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, or `-` for the standard input.
    pub file: Arc<Path>,
    /// Where in the file, if it holds several messages.
    pub offset: Option<u64>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at octet {offset}", self.file.display()),
            None => write!(f, "{}", self.file.display()),
        }
    }
}

/// A message as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it was found.
    pub origin: Origin,
    /// All its octets, with what the archive put around it.
    pub octets: Vec<u8>,
    /// What the archive put around it.
    pub frame: Frame,
    /// What its file has besides octets, if it is one of its own.
    pub attributes: Option<Attributes>,
    /// Why it is not to be touched, if so.
    pub untouchable: Option<Untouchable>,
    /// Whether it is known that no line of it is quoted as mbox files quote.
    pub unquoted: bool,
}

/// What an archive puts around a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing: one file, one message.
    File,
    /// The From_ line before it, and the empty line after it.
    Mbox {
        /// The length of the From_ line.
        from_line: usize,
        /// The length of the empty line after the message, or 0.
        separator: usize,
        /// Whether another message follows.
        followed: bool,
        /// How `From ` at the start of a line is kept apart, if it is.
        quoting: Option<Quoting>,
    },
}

/// Why a message is copied as it is, without a look at its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouchable {
    /// It may be two messages: the line at this offset of the archive may begin another one.
    MaybeTwo(u64),
    /// The From_ line at this offset of the archive is text, if a `Content-Length` is right that is not believed.
    Disputed(u64),
    /// The From_ line at this offset of the archive, with a header behind it, is text only because a `Content-Length` is believed.
    Hidden(u64),
    /// It was given as one message: a line at this offset of it begins another one in an mbox.
    TwoInOne(u64),
    /// The archive ends within a line.
    CutShort,
    /// It is compressed.
    Compressed,
    /// Not a message, but what c-client keeps about a folder.
    FolderData,
}

impl fmt::Display for Untouchable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaybeTwo(offset) => {
                write!(f, "the line at octet {offset} may begin another message, but is no proper From_ line")
            }
            Self::Disputed(offset) => write!(
                f,
                "a Content-Length says that the From_ line at octet {offset} begins no message; that is not believed, because \
                 the other messages do not bear it out: --lengths says whose the lengths are"
            ),
            Self::Hidden(offset) => write!(
                f,
                "the From_ line at octet {offset} has a header after it, and only a Content-Length says that it begins no message: \
                 --lengths says whether that is so"
            ),
            Self::TwoInOne(offset) => write!(
                f,
                "octet {offset} looks like the beginning of a second message: give an mbox as a file whose name ends in \
                 .mbox, or put the one message into a folder, as a file whose name ends in .eml"
            ),
            Self::CutShort => {
                f.write_str("the archive ends within a line, so this message may have been cut short")
            }
            Self::Compressed => f.write_str("it is stored compressed, which is not supported yet"),
            Self::FolderData => f.write_str("folder data of an IMAP server, not a message"),
        }
    }
}

impl Untouchable {
    /// Whether that is a failure; folder data is left alone by design.
    pub fn is_failure(self) -> bool {
        self != Self::FolderData
    }
}

/// Whether octets are those of gzip, zstd, xz or bzip2, as Dovecot can store messages.
pub fn is_compressed(octets: &[u8]) -> bool {
    [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"]
        .iter()
        .any(|magic| octets.starts_with(magic))
}

impl Stored {
    /// The same, not to be touched if it is what a server keeps of the folder.
    pub(crate) fn or_folder_data(self) -> Self {
        let is_folder_data = is_folder_data(self.content());
        Self {
            untouchable: if is_folder_data { Some(Untouchable::FolderData) } else { self.untouchable },
            ..self
        }
    }

    /// The message without what the archive put around it.
    pub fn content(&self) -> &[u8] {
        let (start, end) = match self.frame {
            Frame::File => (0, self.octets.len()),
            Frame::Mbox { from_line, separator, .. } => {
                (from_line, self.octets.len().saturating_sub(separator))
            }
        };
        self.octets.get(start..end).unwrap_or_default()
    }
}

/// What a reader of an archive finds next.
pub enum Piece {
    /// A message.
    Message(Stored),
    /// A message over the limit, to be copied as it is.
    Large(Large),
    /// Octets that belong to no message, to be copied as they are.
    Verbatim {
        /// The octets.
        large: Large,
        /// Whether they may be a message all the same.
        is_doubtful: bool,
    },
    /// A message that could not be read.
    Unreadable {
        /// Where it is.
        origin: Origin,
        /// Why not.
        error: io::Error,
    },
    /// A message that was there a moment ago; somebody deleted it.
    Vanished {
        /// Where it was.
        origin: Origin,
    },
}

/// How many octets a message has of which that is known at the end only.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Octets that are not kept in memory.
pub struct Large {
    /// What its file has besides octets, if it is one of its own.
    pub attributes: Option<Attributes>,
    /// Where they were found.
    pub origin: Origin,
    /// What the archive put around a message, and how many octets there are; `None` if this is no message.
    pub message: Option<(Frame, u64)>,
    /// All of them, with what the archive put around a message.
    pub octets: Box<dyn Read + Send>,
    /// The file that these are all of, if it is one of its own: to read them again.
    pub file: Option<File>,
    /// What is known of a message besides.
    pub nature: Nature,
}

/// What is known of a message besides its octets, or is to be looked for in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It is a file among others.
    File,
    /// It is the one that was given, in a file or a stream.
    Alone {
        /// Which of both.
        from_stream: bool,
    },
    /// It is one of an mbox.
    OfMbox {
        /// Why it is not to be touched, if so.
        untouchable: Option<Untouchable>,
        /// Whether it is known that no line of it is quoted.
        unquoted: bool,
        /// Whether it is the first, and may be what a server keeps of the folder.
        is_first: bool,
    },
}

/// Why a message is copied as it is, without a look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TooLarge {
    /// It has more octets than are allowed.
    Limit,
    /// The disk has no room to work on it.
    Room {
        /// How much that takes.
        needed: u64,
        /// How much there is.
        there: u64,
        /// Where.
        path: PathBuf,
    },
    /// No disk can be used.
    Disk(String),
}

impl TooLarge {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Limit => Fault::Policy,
            // An hour later there may be.
            Self::Room { .. } => Fault::Transient,
            Self::Disk(_) => Fault::Operator,
        }
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => f.write_str("it is larger than --max-message allows"),
            Self::Room { needed, there, path } => write!(
                f,
                "it is larger than --in-memory allows, and to work on it by way of the disk takes {} MiB in {}, where {} are free; make \
                 room there, or name another folder in TMPDIR",
                needed.div_ceil(1 << 20),
                path.display(),
                there >> 20
            ),
            Self::Disk(problem) => {
                write!(
                    f,
                    "it is larger than --in-memory allows, and there is no disk to work on it: {problem}; name another \
                     folder in TMPDIR"
                )
            }
        }
    }
}

impl Large {
    /// How many octets of a message there are; of one that comes as a stream that is not known.
    pub(crate) fn size(&self) -> u64 {
        self.message.map_or(0, |(_, size)| size)
    }

    /// The message, now that all of its octets are in memory, or where that is on the disk.
    pub(crate) fn into_stored(self, octets: Vec<u8>) -> io::Result<Stored> {
        let Self { attributes, origin, message, nature, .. } = self;
        let (frame, size) = message.unwrap_or((Frame::File, 0));
        if size != UNKNOWN && octets.len() as u64 != size {
            return Err(io::Error::other("it was changed while it was read"));
        }
        Ok(match nature {
            Nature::Alone { from_stream } => single::stored(origin, attributes, octets, from_stream)?,
            Nature::File => {
                let untouchable = is_compressed(&octets).then_some(Untouchable::Compressed);
                Stored { origin, octets, frame, attributes, untouchable, unquoted: false }
            }
            Nature::OfMbox { untouchable, unquoted, is_first } => {
                let stored = Stored { origin, octets, frame, attributes, untouchable, unquoted };
                if is_first { stored.or_folder_data() } else { stored }
            }
        })
    }

    /// What is known of them before they are read.
    pub(crate) fn content(&self) -> Content<'static> {
        Content::Size(self.size())
    }
}
