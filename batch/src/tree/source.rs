//! Finds and reads the messages of a tree of `.eml` files, in the order of their names.

use std::{
    collections::VecDeque,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    attributes::Attributes,
    beneath::Beneath,
    pipeline::Source,
    seen,
    stored::{Frame, Large, Nature, Origin, Piece, Stored, Untouchable, is_compressed},
};

/// What is in a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The messages, by their paths below the root, in order.
    pub messages: Vec<PathBuf>,
    /// All folders below the root, those above first.
    pub folders: Vec<PathBuf>,
    /// What is no message: other files, links, special files.
    pub left_out: Vec<PathBuf>,
}

impl Listing {
    /// Looks through a tree. Links are not followed.
    pub fn of(root: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let beneath = seen::beneath(root).map_err(|error| (root.to_owned(), error))?;
        let mut listing = Self::default();
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let path = root.join(&folder);
            let failed = |error| (path.clone(), error);
            for (name, kind) in beneath.kinds(&path).map_err(failed)? {
                let below = folder.join(name);
                if kind.is_dir() {
                    listing.folders.push(below.clone());
                    open.push(below);
                } else if kind.is_file() && is_named_message(&below) {
                    listing.messages.push(below);
                } else {
                    listing.left_out.push(below);
                }
            }
        }
        listing.messages.sort();
        listing.folders.sort();
        listing.left_out.sort();
        Ok(listing)
    }
}

/// Whether a file's name is a message's.
pub(crate) fn is_named_message(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("eml"))
}

/// Reads the messages of a tree.
#[derive(Debug)]
pub struct TreeSource {
    root: PathBuf,
    beneath: Beneath,
    limit: usize,
    open: VecDeque<PathBuf>,
}

impl TreeSource {
    /// Reads what was listed. Messages over `limit` octets are not kept in memory.
    pub fn new(root: &Path, listing: &Listing, limit: usize) -> io::Result<Self> {
        let open = listing.messages.iter().cloned().collect();
        Ok(Self { root: root.to_owned(), beneath: seen::beneath(root)?, limit, open })
    }
}

impl Source for TreeSource {
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let Some(below) = self.open.pop_front() else { return Ok(None) };
        let path = self.root.join(below);
        Ok(Some(read(&self.beneath, &path, self.limit).unwrap_or_else(|error| {
            let origin = Origin { file: path.as_path().into(), offset: None };
            let vanished = is_gone(&self.beneath, &path, &error);
            if vanished { Piece::Vanished { origin } } else { Piece::Unreadable { origin, error } }
        })))
    }

    fn path(&self) -> &Path {
        &self.root
    }
}

/// Whether a file is not there any more. A link to nowhere is, and not known to be nothing.
pub(crate) fn is_gone(beneath: &Beneath, path: &Path, error: &io::Error) -> bool {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    is_gone(error) && beneath.metadata(path).is_err_and(|error| is_gone(&error))
}

/// Reads a file that is one message.
pub(crate) fn read(beneath: &Beneath, path: &Path, limit: usize) -> io::Result<Piece> {
    let origin = Origin { file: path.into(), offset: None };
    // Opening a FIFO would wait for its writer.
    let mut file = beneath.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let attributes = Attributes::of(&file)?;
    if !attributes.metadata().is_file() {
        return Err(io::Error::other("it is a special file, and not read"));
    }
    let len = attributes.metadata().len();
    if len > limit as u64 {
        let (octets, file) = (Box::new(file.try_clone()?), Some(file));
        let message = Some((Frame::File, len));
        let (attributes, nature) = (Some(attributes), Nature::File);
        return Ok(Piece::Large(Large { attributes, origin, message, octets, file, nature }));
    }
    let mut octets = Vec::with_capacity(usize::try_from(len).unwrap_or(0) + 1);
    file.by_ref().take(limit as u64 + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 != len {
        return Err(io::Error::other("it was changed while it was read"));
    }
    let untouchable = is_compressed(&octets).then_some(Untouchable::Compressed);
    let attributes = Some(attributes);
    Ok(Piece::Message(Stored {
        origin,
        octets,
        frame: Frame::File,
        attributes,
        untouchable,
        unquoted: false,
    }))
}
