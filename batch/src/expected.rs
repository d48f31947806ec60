//! What the report of a run says that an output must have, and whether it is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use crate::{
    maildir::{base, numbered_name, successor},
    manifest::{Checked, Sum},
    mbox::file_for,
    tree::numbered,
};

/// A message that must be there.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) index: u64,
    /// Which of those written of its input it is, counted from 1.
    pub(crate) number: u64,
    pub(crate) sum: Sum,
    /// The file of the input that it comes from.
    pub(crate) file: PathBuf,
    /// Whether that was a file of its own.
    pub(crate) has_file: bool,
    /// Whether it is another than it was.
    pub(crate) changed: bool,
}

impl Expected {
    /// The folder that it comes from.
    fn folder(&self) -> &Path {
        folder(&self.file)
    }

    /// Whether it comes from a Maildir.
    fn is_mail(&self) -> bool {
        self.has_file && is_mail(&self.file)
    }

    /// Whether a file of the output, by its path below the root, has the place and the name that this message must
    /// have. The octets are not known of one that is too large to be read.
    fn fits(&self, root: &Path, below: &Path, octets: Option<&[u8]>) -> bool {
        let (Some(old), Some(new)) = (self.file.file_name(), below.file_name()) else { return false };
        if self.file.to_string_lossy().contains(char::REPLACEMENT_CHARACTER) {
            // The report has no other letters, so its name is not known.
            return true;
        }
        let is_in_place = || root.join(folder(below)) == self.folder();
        match (self.is_mail(), is_mail(below)) {
            (true, true) if self.changed => {
                is_in_place() && octets.is_none_or(|octets| base(&successor(old, octets)) == base(new))
            }
            (true, true) => is_in_place() && base(old) == base(new),
            (true, false) => {
                let named = OsString::from_vec([base(old).as_bytes(), b".eml"].concat());
                is_in_place() && new == named
            }
            (false, true) => numbered_name(new) == Some(self.number),
            // A tree of files, or one file that is a message.
            (false, false) => {
                self.has_file && root.join(below) == self.file || *below == numbered(self.number)
            }
        }
    }
}

/// Whether a file lies where the messages of a Maildir do.
fn is_mail(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|part| part == "cur" || part == "new")
}

/// The folder of a message: of a Maildir's, that which `cur` and `new` are in.
fn folder(path: &Path) -> &Path {
    let part = path.parent().unwrap_or(Path::new(""));
    if is_mail(path) { part.parent().unwrap_or(Path::new("")) } else { part }
}

/// What must be in the outputs of one input.
#[derive(Debug, Default)]
pub(crate) struct Input(Vec<Expected>);

impl Input {
    pub(crate) fn add(&mut self, expected: Expected) {
        self.0.push(expected);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether it was a Maildir of several folders, which becomes several mboxes.
    pub(crate) fn has_mail_in_folders(&self) -> bool {
        let folders: BTreeSet<&Path> = self.0.iter().map(Expected::folder).collect();
        folders.len() > 1 && self.0.iter().all(Expected::is_mail)
    }

    /// What of it must be in each of these mboxes, which folders of a Maildir became; and what in none of them.
    pub(crate) fn by_mbox(self, mboxes: &[PathBuf]) -> (Vec<Self>, Self) {
        let root = self.root(|below| mboxes.iter().any(|mbox| mbox.ends_with(file_for(below))));
        let mut parts: Vec<Self> = mboxes.iter().map(|_| Self::default()).collect();
        let mut rest = Self::default();
        let mut places: BTreeMap<PathBuf, Option<usize>> = BTreeMap::new();
        for expected in self.0 {
            let place = *places.entry(expected.folder().to_owned()).or_insert_with_key(|folder| {
                let file = file_for(folder.strip_prefix(&root).ok()?);
                mboxes.iter().position(|mbox| mbox.ends_with(&file))
            });
            place.and_then(|at| parts.get_mut(at)).unwrap_or(&mut rest).add(expected);
        }
        (parts, rest)
    }

    /// What the paths of the input began with: that above the folders of its messages below which most of them have a
    /// folder of the output.
    pub(crate) fn root(&self, is_there: impl Fn(&Path) -> bool) -> PathBuf {
        let folders: BTreeSet<&Path> = self.0.iter().map(Expected::folder).collect();
        let Some(first) = folders.first() else { return PathBuf::new() };
        let above = first.ancestors().filter(|above| folders.iter().all(|folder| folder.starts_with(above)));
        let mut best = (PathBuf::new(), 0);
        for root in above {
            let below = folders.iter().filter_map(|folder| folder.strip_prefix(root).ok());
            let found = below.filter(|below| is_there(below)).count();
            if found > best.1 {
                best = (root.to_owned(), found);
            }
        }
        best.0
    }

    /// To be met in the order of the report.
    pub(crate) fn in_order(self) -> Left {
        Left::InOrder(self.0.into_iter())
    }

    /// To be met in any order, in an output with these folders.
    pub(crate) fn in_folders(self, folders: &[PathBuf]) -> Left {
        let folders: HashSet<&Path> = folders.iter().map(PathBuf::as_path).collect();
        let root = self.root(|below| folders.contains(below));
        let mut all: HashMap<Sum, Vec<Expected>> = HashMap::new();
        for message in self.0 {
            all.entry(message.sum.clone()).or_default().push(message);
        }
        Left::InAny { root, all }
    }
}

/// What of an output was not met yet.
pub(crate) enum Left {
    /// The messages are in the order of the report.
    InOrder(std::vec::IntoIter<Expected>),
    /// The messages of a folder come in no order, so they are looked for among all.
    InAny { root: PathBuf, all: HashMap<Sum, Vec<Expected>> },
}

/// Whether something must be there.
pub(crate) enum Found {
    Good,
    Elsewhere,
    Not,
}

impl Left {
    /// Meets a message, by its path below the root of the output.
    pub(crate) fn take(&mut self, sum: &Sum, below: &Path, octets: Option<&[u8]>) -> Found {
        match self {
            Self::InOrder(left) => match left.next() {
                Some(expected) if expected.sum == *sum => Found::Good,
                _ => Found::Not,
            },
            Self::InAny { root, all } => {
                let Some(same) = all.get_mut(sum).filter(|same| !same.is_empty()) else { return Found::Not };
                let fits = |expected: &Expected| expected.fits(root, below, octets);
                let Some(at) = same.iter().position(fits) else { return Found::Elsewhere };
                same.swap_remove(at);
                Found::Good
            }
        }
    }

    /// Tells what was not met.
    pub(crate) fn missing(self, checked: &mut Checked) {
        let mut left: Vec<Expected> = match self {
            Self::InOrder(left) => left.collect(),
            Self::InAny { all, .. } => all.into_values().flatten().collect(),
        };
        left.sort_by_key(|expected| expected.index);
        for Expected { index, .. } in left {
            checked.wrong(format!("message {index}: it is missing in the output"));
        }
    }
}
