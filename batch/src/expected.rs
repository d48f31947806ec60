//! What the report of a run says that an output must have, and whether it is there.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::{
    archive::Kind,
    maildir::{Sizes, base, is_successor, numbered_name},
    manifest::{Checked, Sum},
    mbox::file_for,
    tree::{file_of, numbered, twin_of},
};

/// A message that must be there.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) index: u64,
    /// Which line of the report tells of it.
    pub(crate) line: u64,
    /// Which of the messages written of its input it is, counted from 1.
    pub(crate) number: u64,
    /// Whether it is none, but what an mbox has before its first one, or a server's data about a folder.
    pub(crate) is_no_message: bool,
    pub(crate) sum: Sum,
    pub(crate) spot: Spot,
    /// Whether it is another than it was.
    pub(crate) changed: bool,
}

/// Where in its input a message was.
#[derive(Debug)]
pub(crate) enum Spot {
    /// In one file with others.
    Within,
    /// It was the input; the name of its file, as far as that is UTF-8.
    Alone(String),
    /// In a file of its own, below the input's root.
    File(PathBuf),
    /// The report of an earlier version does not say it.
    Untold,
}

impl Expected {
    /// The folder of a Maildir that it comes from, if it comes from one.
    fn mail_folder(&self) -> Option<&Path> {
        match &self.spot {
            // What was an mbox once has that beside its messages.
            Spot::File(_) if self.is_no_message => Some(Path::new("")),
            Spot::File(file) if is_mail(file) => Some(folder_of(file)),
            _ => None,
        }
    }

    /// Whether a file of the output, by its path below the root, has the place and the name that this message must
    /// have.
    fn fits(&self, below: &Path, sizes: Sizes) -> bool {
        let Some(new) = below.file_name() else { return false };
        match &self.spot {
            Spot::Untold => true,
            // Numbered where a Maildir or files are made of what was neither.
            _ if is_mail(below) && self.mail_folder().is_none() => {
                folder_of(below) == Path::new("") && numbered_name(new) == Some(self.number)
            }
            Spot::Alone(name) if *below.to_string_lossy() == **name => true,
            Spot::Within | Spot::Alone(_) => *below == numbered(self.number),
            Spot::File(file) if !is_mail(file) => below == file,
            Spot::File(file) => {
                let whole = file.file_name().unwrap_or_default();
                let old = base(whole);
                if !is_mail(below) {
                    let is = |number| file_of(old, number) == new;
                    let is_named = is(None) || twin_of(new).is_some_and(|number| is(Some(number)));
                    return below.parent() == Some(folder_of(file)) && is_named;
                }
                let is_named = if self.changed { is_successor(new, whole, sizes) } else { old == base(new) };
                folder_of(below) == folder_of(file) && is_named
            }
        }
    }
}

/// Whether a file lies where the messages of a Maildir do.
fn is_mail(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|part| part == "cur" || part == "new")
}

/// The folder of a message: of a Maildir's, that which `cur` and `new` are in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    let part = path.parent().unwrap_or(Path::new(""));
    if is_mail(path) { part.parent().unwrap_or(Path::new("")) } else { part }
}

/// What must be in the outputs of one input.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// What was written of it; what an earlier version wrote does not tell.
    kinds: Vec<Kind>,
    all: Vec<Expected>,
    messages: u64,
}

impl Input {
    pub(crate) fn add(&mut self, expected: Expected) {
        self.messages += u64::from(!expected.is_no_message);
        self.all.push(expected);
    }

    /// That this was written of it.
    pub(crate) fn is_written_as(&mut self, kind: Option<Kind>) {
        self.kinds.extend(kind.filter(|kind| !self.kinds.contains(kind)));
    }

    /// Finds an output that is of another kind than was written, though each message may be in it.
    pub(crate) fn meet_kind(&self, output: &Path, there: Kind, checked: &mut Checked) {
        for kind in self.kinds.iter().filter(|kind| !kind.may_be(there)) {
            let (output, there) = (output.display(), there.as_str());
            checked.wrong(format!(
                "{output}: of kind {there}; the report says that {} was written",
                kind.as_str()
            ));
        }
    }

    /// Leaves out those of these lines.
    pub(crate) fn forget(&mut self, outdated: &HashSet<u64>) {
        if !outdated.is_empty() {
            self.all.retain(|expected| !outdated.contains(&expected.line));
        }
    }

    /// How many messages there are.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether it was an mbox.
    fn was_mbox(&self) -> bool {
        self.all.iter().any(|expected| matches!(expected.spot, Spot::Within))
    }

    /// In how many folders of a Maildir its messages were; `None` if it was something else. One without messages may
    /// have been a Maildir.
    pub(crate) fn mail_folders(&self) -> Option<usize> {
        let folders: Option<BTreeSet<&Path>> = self.all.iter().map(Expected::mail_folder).collect();
        folders.map(|folders| folders.len())
    }

    /// Whether these several files may all be its mboxes, or folders of such. Where nobody knows that it was the only input, each folder of which
    /// there are messages must have its own among them: else they are an mbox each of several inputs.
    pub(crate) fn may_be_mboxes(&self, outputs: &[PathBuf], is_known: bool) -> bool {
        let is_told = self.all.iter().all(|expected| !matches!(expected.spot, Spot::Untold));
        let files: Option<BTreeSet<PathBuf>> =
            self.all.iter().map(|expected| expected.mail_folder().map(file_for)).collect();
        let has = |file: &PathBuf| {
            outputs.iter().any(|output| {
                output.ends_with(file)
                    || file.ancestors().skip(1).any(|above| {
                        let below = file.strip_prefix(above).ok().filter(|_| above != Path::new(""));
                        output.ends_with(above) && below.is_some_and(|below| output.join(below).is_file())
                    })
            })
        };
        !is_told || files.is_some_and(|files| is_known || files.iter().all(has))
    }

    /// What of it must be in each of these mboxes, which folders of a Maildir became; and what in none of them. Without
    /// the root of the output that is the one above them all below which most folders with messages have their mbox.
    pub(crate) fn by_mbox(self, mboxes: &[PathBuf], root: Option<&Path>) -> (Vec<Self>, Self) {
        let files: BTreeSet<PathBuf> =
            self.all.iter().filter_map(Expected::mail_folder).map(file_for).collect();
        let at = |path: PathBuf| mboxes.iter().position(|mbox| *mbox == path);
        let above = mboxes.first().and_then(|mbox| mbox.parent()).into_iter().flat_map(Path::ancestors);
        let above = above.filter(|above| mboxes.iter().all(|mbox| mbox.starts_with(above)));
        let found = |root: &&Path| files.iter().filter(|file| at(root.join(file)).is_some()).count();
        let root = root.or_else(|| above.max_by_key(found)).unwrap_or(Path::new(""));
        let places: HashMap<&Path, usize> =
            files.iter().filter_map(|file| Some((file.as_path(), at(root.join(file))?))).collect();
        let mut parts: Vec<Self> = mboxes.iter().map(|_| Self::default()).collect();
        let mut rest = Self::default();
        for expected in self.all {
            let file = expected.mail_folder().map(file_for);
            let place = file.and_then(|file| places.get(file.as_path()));
            place.and_then(|at| parts.get_mut(*at)).unwrap_or(&mut rest).add(expected);
        }
        (parts, rest)
    }

    /// To be met in the order of the report.
    pub(crate) fn in_order(self) -> Left {
        Left::InOrder(self.all.into_iter())
    }

    /// To be met in any order.
    pub(crate) fn in_folders(self) -> Left {
        let was_mbox = self.was_mbox();
        let (beside, messages): (Vec<_>, Vec<_>) =
            self.all.into_iter().partition(|expected| expected.is_no_message);
        let mut all: HashMap<Sum, Vec<Expected>> = HashMap::new();
        for message in messages {
            all.entry(message.sum.clone()).or_default().push(message);
        }
        // A Maildir that was copied may have brought such a file along, like others that are not mail.
        Left::InAny { all, beside: (was_mbox || !beside.is_empty()).then_some(beside) }
    }
}

/// What of an output was not met yet.
pub(crate) enum Left {
    /// The messages are in the order of the report.
    InOrder(std::vec::IntoIter<Expected>),
    /// The messages of a folder come in no order, so they are looked for among all.
    InAny {
        all: HashMap<Sum, Vec<Expected>>,
        /// What is in the file beside them, if that is known.
        beside: Option<Vec<Expected>>,
    },
}

/// Whether something must be there.
pub(crate) enum Found {
    Good,
    Elsewhere,
    Not,
}

impl Left {
    /// Meets a message, by its path below the root of the output.
    pub(crate) fn take(&mut self, sum: &Sum, below: &Path, sizes: Sizes) -> Found {
        match self {
            Self::InOrder(left) => match left.next() {
                Some(expected) if expected.sum == *sum => Found::Good,
                _ => Found::Not,
            },
            Self::InAny { all, .. } => {
                let Some(same) = all.get_mut(sum).filter(|same| !same.is_empty()) else { return Found::Not };
                let fits = |expected: &Expected| expected.fits(below, sizes);
                let Some(at) = same.iter().position(fits) else { return Found::Elsewhere };
                same.swap_remove(at);
                Found::Good
            }
        }
    }

    /// Meets octets that belong to no message. If they must not be there, what must is still expected.
    pub(crate) fn take_no_message(&mut self, sum: &Sum) -> Found {
        let next = self.next_ones().and_then(<[Expected]>::first);
        if next.is_none_or(|expected| !expected.is_no_message || expected.sum != *sum) {
            return Found::Not;
        }
        self.skip(1);
        Found::Good
    }

    /// What must come next, if there is an order.
    pub(crate) fn next_ones(&self) -> Option<&[Expected]> {
        match self {
            Self::InOrder(left) => Some(left.as_slice()),
            Self::InAny { .. } => None,
        }
    }

    /// So many of these were met.
    pub(crate) fn skip(&mut self, met: usize) {
        if let Self::InOrder(left) = self {
            left.by_ref().take(met).for_each(drop);
        }
    }

    /// What must be in the file beside the messages of a folder, if that is known.
    pub(crate) fn beside(&mut self) -> Option<&mut Vec<Expected>> {
        match self {
            Self::InOrder(_) => None,
            Self::InAny { beside, .. } => beside.as_mut(),
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
