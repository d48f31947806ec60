//! Reads the messages of a Maildir, folder by folder, in the order of their names.

use std::{
    collections::{HashSet, VecDeque},
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{
    name::{base, hash, number, predecessor},
    tree::Tree,
};
use crate::{
    beneath::Beneath,
    pipeline::Source,
    seen,
    stored::{Large, Nature, Origin, Piece},
    tree::{is_gone, read},
};

/// Reads the messages of a Maildir, in the order in which servers number them. The names in one folder are in
/// memory, about 100 octets each.
#[derive(Debug)]
pub struct MaildirSource {
    root: PathBuf,
    beneath: Beneath,
    limit: usize,
    /// The folders still to read.
    open: VecDeque<PathBuf>,
    current: PathBuf,
    /// The files of the current folder still to read.
    names: VecDeque<Listed>,
    /// Unique names and inodes of messages of the current folder that a mail program renamed in the meantime, and that
    /// were found again.
    renamed: HashSet<(OsString, u64)>,
    /// What was given, where the messages are replaced while they are read.
    given: Option<Given>,
    /// A file that comes before all messages, and is none.
    first: Option<PathBuf>,
}

/// A file that is to be read.
#[derive(Debug)]
struct Listed {
    name: Box<OsStr>,
    /// `new` or `cur`.
    part: &'static str,
    /// What tells files of one unique name from each other.
    inode: u64,
}

/// Which messages were given.
#[derive(Debug, Default)]
struct Given {
    /// By folder and unique name.
    messages: HashSet<u64>,
    /// By the number that their successors have in their names, in whatever folder they are.
    numbers: HashSet<u64>,
    /// How often it was looked whether there are more.
    looks: u32,
}

impl Given {
    /// Whether a file of a folder is neither one of them nor what became of one. A twin of one of them that comes later is taken for
    /// it, and stays as it is: its name is then that of what the other one was, so a run that is begun later names both and ends, and
    /// one that goes on does it by what is in it.
    fn is_new(&self, folder: &Path, name: &OsStr) -> bool {
        !self.messages.contains(&number(folder, name))
            && !predecessor(name).is_some_and(|of| self.numbers.contains(&of.number))
    }

    /// It was not there any more; should it come back, it is as good as new.
    fn forget(&mut self, path: &Path) {
        if let (Some(folder), Some(name)) = (path.parent().and_then(Path::parent), path.file_name()) {
            self.messages.remove(&number(folder, name));
        }
    }
}

impl MaildirSource {
    /// Reads the folders of a tree. Messages over `limit` octets are not kept in memory.
    pub fn new(root: &Path, tree: &Tree, limit: usize) -> io::Result<Self> {
        let beneath = seen::beneath(root)?;
        let open = tree.folders.iter().map(|folder| root.join(folder)).collect();
        let (names, current, renamed) = (VecDeque::new(), PathBuf::new(), HashSet::new());
        let first = None;
        Ok(Self { root: root.to_owned(), beneath, limit, open, current, names, renamed, given: None, first })
    }

    /// For a Maildir whose messages are replaced: what comes meanwhile, or is moved from folder to folder, is read as well.
    #[must_use]
    pub fn to_replace(self) -> Self {
        Self { given: Some(Given::default()), ..self }
    }

    /// Gives what an mbox had before its first message first; it lies in this file.
    #[must_use]
    pub fn begin_with(self, name: &str) -> Self {
        Self { first: Some(self.root.join(name)), ..self }
    }

    /// The next name that is a message's.
    fn next_name(&mut self) -> io::Result<Option<(PathBuf, u64)>> {
        loop {
            let Some(Listed { name, part, inode }) = self.names.pop_front() else {
                let Some(folder) = self.open.pop_front() else { return Ok(None) };
                self.names = names(&self.beneath, &folder)?;
                if let Some(given) = self.given.as_ref().filter(|given| given.looks > 0) {
                    self.names.retain(|file| given.is_new(&folder, &file.name));
                }
                self.current = folder;
                // A copy of one of them in another folder has the same name.
                self.renamed.clear();
                continue;
            };
            if self.renamed.is_empty() || !self.renamed.contains(&(base(&name).to_owned(), inode)) {
                if let Some(given) = &mut self.given {
                    given.messages.insert(number(&self.current, &name));
                    given.numbers.insert(hash(base(&name).as_bytes()));
                }
                return Ok(Some((self.current.join(part).join(&*name), inode)));
            }
        }
    }

    /// Finds a message again whose flags were changed, or that moved from `new` to `cur`. Another one may have its unique
    /// name; where inodes change with names, that is one that was listed.
    fn find_again(&mut self, path: &Path, inode: u64) -> io::Result<Option<PathBuf>> {
        let (Some(name), Some(folder)) = (path.file_name(), path.parent().and_then(Path::parent)) else {
            return Ok(None);
        };
        let base: &OsStr = base(name);
        let cur = folder.join("cur");
        let named = self.beneath.names(&cur)?.into_iter().filter(|(name, _)| super::name::base(name) == base);
        let is_listed = |name: &OsStr| self.names.iter().any(|file| *file.name == *name);
        let mut found = None;
        for (name, other) in named {
            if other == inode {
                found = Some((name, other));
                break;
            }
            if !is_listed(&name) {
                found = Some((name, other));
            }
        }
        Ok(found.map(|(name, inode)| {
            self.renamed.insert((base.to_owned(), inode));
            cur.join(name)
        }))
    }
}

impl Source for MaildirSource {
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        if let Some(path) = self.first.take() {
            let octets = self.beneath.open(&path, OFlags::RDONLY | OFlags::NONBLOCK);
            let octets = Box::new(octets.map_err(|error| named(&path, &error))?);
            let origin = Origin { file: path.into(), offset: None };
            // Whether it may be a message was told when it came here.
            let large =
                Large { attributes: None, origin, message: None, octets, file: None, nature: Nature::File };
            return Ok(Some(Piece::Verbatim { large, is_doubtful: false }));
        }
        let Some((path, inode)) = self.next_name()? else { return Ok(None) };
        let read = match read(&self.beneath, &path, self.limit) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.find_again(&path, inode)? {
                Some(found) => read(&self.beneath, &found, self.limit),
                None => Err(error),
            },
            read => read,
        };
        Ok(Some(read.unwrap_or_else(|error| {
            let origin = Origin { file: path.as_path().into(), offset: None };
            let vanished = is_gone(&self.beneath, &path, &error);
            if let Some(given) = self.given.as_mut().filter(|_| vanished) {
                given.forget(&path);
            }
            if vanished { Piece::Vanished { origin } } else { Piece::Unreadable { origin, error } }
        })))
    }

    fn look_again(&mut self, lost: &[PathBuf]) -> io::Result<bool> {
        let Some(given) = &mut self.given else { return Ok(false) };
        for path in lost {
            given.forget(path);
        }
        let tree =
            Tree::beneath(&self.root, &self.beneath).map_err(|(folder, error)| named(&folder, &error))?;
        self.renamed.clear();
        let mut more = false;
        for folder in tree.folders {
            let folder = self.root.join(folder);
            let found = names(&self.beneath, &folder)?;
            more |= found.iter().any(|file| given.is_new(&folder, &file.name));
            self.open.push_back(folder);
        }
        given.looks += 1;
        if !more {
            self.open.clear();
        } else if given.looks > MAX_LOOKS {
            return Err(io::Error::other(
                "messages still come or are moved; go on with --resume when that ends",
            ));
        }
        Ok(more)
    }

    fn path(&self) -> &Path {
        &self.root
    }
}

/// How often it is looked again whether there are more messages.
const MAX_LOOKS: u32 = 20;

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The messages of one folder: by the time that their names begin with, then by name.
fn names(beneath: &Beneath, folder: &Path) -> io::Result<VecDeque<Listed>> {
    let mut names = Vec::new();
    // A message moves from `new` to `cur`, so in this order none is missed.
    for part in ["new", "cur"] {
        let path = folder.join(part);
        let entries = match beneath.names(&path) {
            // A Maildir may come without `new`.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| named(&path, &error))?,
        };
        for (name, inode) in entries {
            if !name.as_bytes().starts_with(b".") {
                names.push(Listed { name: name.into_boxed_os_str(), part, inode });
            }
        }
    }
    names.sort_unstable_by(|one: &Listed, other| order(&one.name).cmp(&order(&other.name)));
    Ok(names.into())
}

fn order(name: &OsStr) -> (u64, &[u8]) {
    let octets = name.as_bytes();
    let digits = octets.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let time = octets.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok());
    (time.and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX), octets)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_message_renamed_in_one_folder_hides_none_of_the_same_name_in_another() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["", ".Copies"] {
            for part in ["new", "cur", "tmp"] {
                fs::create_dir_all(dir.path().join(folder).join(part)).unwrap();
            }
            for name in ["1.a.host:2,", "2.b.host:2,"] {
                fs::write(dir.path().join(folder).join("cur").join(name), "A: 1\n\nx\n").unwrap();
            }
        }
        let mut source = MaildirSource::new(dir.path(), &Tree::of(dir.path()).unwrap(), 1 << 20).unwrap();
        let mut read = 0;
        while let Some(piece) = source.next_piece().unwrap() {
            assert!(matches!(piece, Piece::Message(_)));
            read += 1;
            let cur = source.current.join("cur");
            if read == 1 {
                fs::rename(cur.join("2.b.host:2,"), cur.join("2.b.host:2,S")).unwrap();
            }
        }
        assert_eq!(read, 4);
    }
}
