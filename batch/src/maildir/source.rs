//! Reads the messages of a Maildir, folder by folder, `new` before `cur`.

use std::{
    collections::{HashSet, VecDeque},
    ffi::{OsStr, OsString},
    fs::{self, File, ReadDir},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{name::base, tree::Tree};
use crate::{
    attributes::Attributes,
    pipeline::Source,
    stored::{Frame, Large, Origin, Piece, Stored, Untouchable, is_compressed},
};

/// Reads the messages of a Maildir. A folder's list is read as it goes, so it may be of any length.
#[derive(Debug)]
pub struct MaildirSource {
    root: PathBuf,
    limit: usize,
    /// The folders still to read.
    open: VecDeque<PathBuf>,
    current: Option<(PathBuf, ReadDir)>,
    /// Unique names of messages that a mail program renamed in the meantime, and that were found again.
    renamed: HashSet<OsString>,
}

impl MaildirSource {
    /// Reads the folders of a tree. Messages over `limit` octets are not kept in memory.
    pub fn new(root: &Path, tree: &Tree, limit: usize) -> Self {
        // A message moves from `new` to `cur`, so in this order none is missed.
        let parts = |folder: &PathBuf| ["new", "cur"].map(|part| root.join(folder).join(part));
        let open = tree.folders.iter().flat_map(parts).collect();
        Self { root: root.to_owned(), limit, open, current: None, renamed: HashSet::new() }
    }

    /// The next name that is a message's.
    fn next_name(&mut self) -> io::Result<Option<PathBuf>> {
        loop {
            let Some((folder, entries)) = &mut self.current else {
                let Some(folder) = self.open.pop_front() else { return Ok(None) };
                match fs::read_dir(&folder) {
                    Ok(entries) => self.current = Some((folder, entries)),
                    // A Maildir may come without `new`.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(named(&folder, &error)),
                }
                continue;
            };
            match entries.next() {
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if name.as_encoded_bytes().starts_with(b".") || self.renamed.contains(base(&name)) {
                        continue;
                    }
                    return Ok(Some(entry.path()));
                }
                Some(Err(error)) => return Err(named(folder, &error)),
                None => self.current = None,
            }
        }
    }

    fn read(&self, path: &Path) -> io::Result<Piece> {
        let origin = Origin { file: path.into(), offset: None };
        // Looked at before it is opened: opening a FIFO would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut file = File::open(path)?;
        let attributes = Attributes::of(&file)?;
        let len = attributes.metadata().len();
        if len > self.limit as u64 {
            let octets = Box::new(file);
            let message = Some((Frame::File, len));
            return Ok(Piece::Large(Large { origin, attributes: Some(attributes), message, octets }));
        }
        let mut octets = Vec::with_capacity(usize::try_from(len).unwrap_or(0) + 1);
        file.by_ref().take(self.limit as u64 + 1).read_to_end(&mut octets)?;
        if octets.len() as u64 != len {
            return Err(io::Error::other("it was changed while it was read"));
        }
        let untouchable = is_compressed(&octets).then_some(Untouchable::Compressed);
        let attributes = Some(attributes);
        Ok(Piece::Message(Stored { origin, octets, frame: Frame::File, attributes, untouchable }))
    }

    /// Finds a message again whose flags were changed, or that moved from `new` to `cur`.
    fn find_again(&mut self, path: &Path) -> io::Result<Option<PathBuf>> {
        let (Some(name), Some(folder)) = (path.file_name(), path.parent().and_then(Path::parent)) else {
            return Ok(None);
        };
        let base: &OsStr = base(name);
        for entry in fs::read_dir(folder.join("cur"))? {
            let entry = entry?;
            if super::name::base(&entry.file_name()) == base {
                self.renamed.insert(base.to_owned());
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }
}

impl Source for MaildirSource {
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let Some(path) = self.next_name()? else { return Ok(None) };
        let read = match self.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.find_again(&path)? {
                Some(found) => self.read(&found),
                None => Err(error),
            },
            read => read,
        };
        Ok(Some(read.unwrap_or_else(|error| {
            let origin = Origin { file: path.as_path().into(), offset: None };
            // A link to nowhere is still there, and not known to be nothing.
            let vanished = error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err();
            if vanished { Piece::Vanished { origin } } else { Piece::Unreadable { origin, error } }
        })))
    }

    fn path(&self) -> &Path {
        &self.root
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
