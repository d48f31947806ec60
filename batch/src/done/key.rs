//! By what a message of a folder is known, whatever becomes of its flags and its folder; and the folders of an input.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use crate::{
    maildir::{self, base},
    stored::Origin,
};

/// What is in a message, as far as it tells it from another one of that name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// The SHA-256 of its octets.
    Sum(&'a str),
    /// How many octets it has: it is too large to be read twice.
    Size(u64),
}

/// A file of the input by folder, unique name and octets: flags change, and a message moves from `new` to `cur`. With
/// the octets in it, none is taken for another that has its name by now. Below the root, however somebody spells the way
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) folder: [u8; 8],
    pub(super) message: [u8; 16],
}

impl Key {
    pub(crate) fn of(root: &Path, origin: &Origin, content: &Content<'_>) -> Self {
        let below = origin.file.strip_prefix(root).unwrap_or(&origin.file);
        let file = below.file_name().unwrap_or_default();
        let unique = if is_mail(below) { base(file) } else { file };
        let content = match content {
            Content::Sum(sum) => (*sum).to_owned(),
            Content::Size(size) => size.to_string(),
        };
        Self { folder: folder_key(folder_of(root, origin)), message: message_hash(unique, &content) }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let octets = HEXLOWER.decode(text.as_bytes()).ok()?;
        let (folder, message) = octets.split_first_chunk()?;
        Some(Self { folder: *folder, message: message.try_into().ok()? })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", HEXLOWER.encode(&self.folder), HEXLOWER.encode(&self.message))
    }
}

/// The folders of an input that is not one file, at this run and at those before it.
#[derive(Debug, Default)]
pub(super) struct Folders {
    pub(super) now: BTreeSet<PathBuf>,
    /// At any time.
    pub(super) ever: BTreeSet<PathBuf>,
    /// At all times before.
    pub(super) always: Option<BTreeSet<PathBuf>>,
}

impl Folders {
    /// Whether a folder came after the first run had begun.
    pub(super) fn is_new(&self, folder: &Path) -> bool {
        self.always.as_ref().is_some_and(|always| !always.contains(folder))
    }

    pub(super) fn is_gone(&self, folder: &Path) -> bool {
        !self.now.contains(folder)
    }
}

/// Folders that went, and the messages in them.
#[derive(Debug, Default)]
pub(super) struct Homes {
    folders: Vec<([u8; 8], PathBuf)>,
    /// Each message with the number of its folder, in order.
    messages: Vec<([u8; 16], usize)>,
}

impl Homes {
    pub(super) fn new<'k>(folders: &[&Path], files: impl Iterator<Item = &'k Key>) -> Self {
        let folders: Vec<_> = folders.iter().map(|path| (folder_key(path), path.to_path_buf())).collect();
        let numbers: HashMap<_, _> =
            folders.iter().zip(0..).map(|((folder, _), number)| (folder, number)).collect();
        let found = files.filter_map(|key| Some((key.message, *numbers.get(&key.folder)?)));
        let mut messages: Vec<_> = found.collect();
        messages.sort_unstable();
        Self { folders, messages }
    }

    /// The folders in which a message was.
    pub(super) fn of(&self, message: &[u8; 16]) -> impl Iterator<Item = ([u8; 8], &Path)> {
        let start = self.messages.partition_point(|(other, _)| other < message);
        let all = self.messages.iter().skip(start).take_while(move |(other, _)| other == message);
        all.filter_map(|(_, number)| self.folders.get(*number).map(|(folder, path)| (*folder, &**path)))
    }
}

/// Whether a file lies where the messages of a Maildir do.
fn is_mail(file: &Path) -> bool {
    file.parent().and_then(Path::file_name).is_some_and(|part| part == "cur" || part == "new")
}

/// The folder of a message, below the root: of a Maildir's, that which `cur` and `new` are in.
pub(super) fn folder_of<'a>(root: &Path, origin: &'a Origin) -> &'a Path {
    let below = origin.file.strip_prefix(root).unwrap_or(&origin.file);
    let part = below.parent().unwrap_or(Path::new(""));
    if is_mail(below) { part.parent().unwrap_or(Path::new("")) } else { part }
}

/// A message of a Maildir by the name of its file and the sum of its octets, as it is in its [`Key`].
pub(super) fn message_key(name: &OsStr, sum: &str) -> [u8; 16] {
    message_hash(base(name), sum)
}

fn message_hash(unique: &OsStr, content: &str) -> [u8; 16] {
    hash(&[unique.as_bytes(), b"\0", content.as_bytes()].concat())
}

pub(super) fn folder_key(folder: &Path) -> [u8; 8] {
    hash(folder.as_os_str().as_bytes())
}

fn hash<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut key = [0; N];
    for (to, from) in key.iter_mut().zip(digest(&SHA256, octets).as_ref()) {
        *to = *from;
    }
    key
}

/// The unique name of a message, as the name of its successor tells it.
pub(super) fn name_number(origin: &Origin) -> u64 {
    maildir::hash(base(origin.file.file_name().unwrap_or_default()).as_bytes())
}

/// A file of a Maildir, below its root, by folder and unique name.
pub(super) fn message(below: &Path) -> Option<(PathBuf, OsString)> {
    let folder = below.parent()?.parent()?.to_owned();
    Some((folder, base(below.file_name()?).to_owned()))
}
