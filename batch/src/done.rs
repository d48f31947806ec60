//! What an earlier run has done, by its journal: which messages of the input, and which files of the output.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    hash::Hash,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use crate::{
    journal::{Checkpoint, decoded},
    maildir::{self, base, predecessor},
    run::Extent,
    stored::Origin,
};

/// How much is known of an earlier run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Known {
    /// Neither how far its output is nor its report.
    #[default]
    Nothing,
    /// Where its report was when it began with this input.
    Report,
    /// There is a checkpoint.
    Output,
}

/// What an earlier run has done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The last checkpoint, or where everything was when this input was begun.
    pub(crate) last: Checkpoint,
    /// What that is.
    pub(crate) known: Known,
    /// What the paths of the input begin with.
    input: PathBuf,
    /// The files of the input that are done.
    inputs: HashSet<Key>,
    /// The files of the output.
    pub(crate) outputs: HashSet<PathBuf>,
    /// Those that grow, and how long they are known to be.
    pub(crate) lengths: HashMap<PathBuf, u64>,
    /// The same by folder and unique name, see `in_place`.
    messages: HashSet<(PathBuf, OsString)>,
    /// Whether the output only has to get its name.
    pub(crate) complete: bool,
    /// The root of a Maildir that is input and output: then the files of the output are among those of the input.
    in_place: Option<PathBuf>,
    /// Whether it was done by another configuration.
    pub(crate) otherwise_configured: bool,
    /// The folders of the input.
    folders: Folders,
    /// Messages of folders that went, by all but their folder, that were not found again, and in how many they were.
    homeless: HashMap<[u8; 16], u32>,
    /// The same in a Maildir that is input and output, by unique names.
    homeless_names: HashMap<OsString, u32>,
    /// The messages of which successors are among `messages`, by folder and by what those tell of them.
    replaced: HashSet<([u8; 8], u64)>,
    /// Those of folders that went.
    replaced_gone: HashSet<u64>,
    /// Of which messages that were replaced it is told already that they were put back.
    put_back: HashSet<Key>,
    /// How many files of folders that are still there were met.
    met: usize,
    /// What became of those that are not where they were.
    moved: Moved,
}

/// The folders of an input that is not one file, at this run and at those before it.
#[derive(Debug, Default)]
struct Folders {
    now: BTreeSet<PathBuf>,
    /// At any time.
    ever: BTreeSet<PathBuf>,
    /// At all times before.
    always: Option<BTreeSet<PathBuf>>,
}

/// What became of messages that are done and are not where they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// How many were found again in a folder that came since.
    pub(crate) again: u64,
    /// How many are no longer in a folder that is still there.
    pub(crate) missing: u64,
    /// How many too large ones look like ones of a folder that went.
    pub(crate) alike: u64,
}

impl Done {
    /// Nothing yet, of an input to which these paths lead.
    pub(crate) fn of(input: &Path) -> Self {
        Self { input: input.to_owned(), ..Self::default() }
    }

    /// Whether a piece of the input, which is read now, is done: each that is known from a folder that went is found once.
    pub(crate) fn meets(&mut self, origin: &Origin, content: &Content<'_>) -> Met {
        match self.find(origin, content) {
            Found::Nowhere => return Met::New,
            Found::PutBack => return self.replaced_in(origin, content).map_or(Met::New, Met::PutBack),
            Found::Alike => {
                // What is replaced message by message keeps each large one where it is.
                self.moved.alike += u64::from(!self.replaces());
                return Met::New;
            }
            Found::Here => self.met += 1,
            Found::Elsewhere(message) => {
                take(&mut self.homeless, &message);
                self.moved.again += 1;
            }
            Found::ElsewhereByName(name) => {
                take(&mut self.homeless_names, &name);
                self.moved.again += 1;
            }
        }
        Met::Done
    }

    /// The folder in which a message that was put back was replaced: its own, or else one that went, each told once.
    fn replaced_in(&mut self, origin: &Origin, content: &Content<'_>) -> Option<PathBuf> {
        let own = folder_of(&self.input, origin);
        let message = Key::of(&self.input, origin, content).message;
        let name = maildir::hash(base(origin.file.file_name().unwrap_or_default()).as_bytes());
        let folders = std::iter::once(own).chain(self.folders_gone());
        let mut folders = folders.map(|folder| (Key { folder: folder_key(folder), message }, folder));
        let (key, folder) = folders.find(|(key, _)| {
            self.inputs.contains(key)
                && self.replaced.contains(&(key.folder, name))
                && !self.put_back.contains(key)
        })?;
        let folder = folder.to_owned();
        self.put_back.insert(key);
        Some(folder)
    }

    /// Whether an earlier run has read this message, whatever became of it.
    pub(crate) fn has_read(&self, origin: &Origin, content: &Content<'_>) -> bool {
        self.find_input(origin, content) != Found::Nowhere
    }

    fn find(&self, origin: &Origin, content: &Content<'_>) -> Found {
        if let Some(offset) = origin.offset {
            let is_before = self.last.offset.is_some_and(|last| offset <= last);
            return if is_before { Found::Here } else { Found::Nowhere };
        }
        if self.in_place.is_some()
            && let found @ (Found::Here | Found::ElsewhereByName(_)) = self.find_output(&origin.file)
        {
            return found;
        }
        let found = self.find_input(origin, content);
        // Once its successor is noted, a message is removed: whoever meets it again meets what somebody put there.
        let name = || maildir::hash(base(origin.file.file_name().unwrap_or_default()).as_bytes());
        let is_put_back = match &found {
            Found::Here if !self.replaced.is_empty() => {
                self.replaced.contains(&(folder_key(folder_of(&self.input, origin)), name()))
            }
            Found::Elsewhere(_) => self.replaced_gone.contains(&name()),
            _ => false,
        };
        if is_put_back { Found::PutBack } else { found }
    }

    fn find_input(&self, origin: &Origin, content: &Content<'_>) -> Found {
        if self.inputs.is_empty() {
            return Found::Nowhere;
        }
        let key = Key::of(&self.input, origin, content);
        if self.inputs.contains(&key) {
            return Found::Here;
        }
        if !self.homeless.contains_key(&key.message) || !self.folders.is_new(folder_of(&self.input, origin)) {
            return Found::Nowhere;
        }
        match content {
            Content::Sum(_) => Found::Elsewhere(key.message),
            // Another message may have that name and length.
            Content::Size(_) => Found::Alike,
        }
    }

    /// Whether this file, in a Maildir that is input and output, was made by an earlier run, whatever its flags are now.
    pub(crate) fn has_output(&self, file: &Path) -> bool {
        self.find_output(file) != Found::Nowhere
    }

    fn find_output(&self, file: &Path) -> Found {
        let below = self.in_place.as_ref().and_then(|root| file.strip_prefix(root).ok());
        let Some(message) = below.and_then(message) else { return Found::Nowhere };
        if self.messages.contains(&message) {
            return Found::Here;
        }
        let (folder, name) = message;
        if self.homeless_names.contains_key(&name) && self.folders.is_new(&folder) {
            return Found::ElsewhereByName(name);
        }
        Found::Nowhere
    }

    /// Has those of the files be known by their unique names.
    pub(crate) fn is_in_place(&mut self, root: &Path) {
        self.in_place = Some(root.to_owned());
        self.messages = self.outputs.iter().filter_map(|path| message(path)).collect();
        for (folder, name) in &self.messages {
            let of = predecessor(name);
            self.replaced.extend(of.map(|of| (folder_key(folder), of)));
            if self.folders.is_gone(folder) {
                self.replaced_gone.extend(of);
                *self.homeless_names.entry(name.clone()).or_default() += 1;
            }
        }
    }

    /// Whether messages are replaced where they are.
    pub(crate) fn replaces(&self) -> bool {
        self.in_place.is_some()
    }

    /// Whether there are any that are known by what is in them.
    pub(crate) fn knows_files(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// Adds what a line of the journal tells.
    pub(crate) fn add(&mut self, checkpoint: Checkpoint) {
        self.inputs.extend(checkpoint.inputs.iter().filter_map(|key| Key::parse(key)));
        self.outputs.extend(checkpoint.outputs.iter().filter_map(|path| decoded(path)));
        let lengths = checkpoint.lengths.iter();
        self.lengths.extend(lengths.filter_map(|(path, length)| Some((decoded(path)?, *length))));
        self.known = Known::Output;
        // A run that found all done has read nothing of which it could tell where it was.
        let offset = checkpoint.offset.or(self.last.offset);
        let statistics = checkpoint.statistics.or_else(|| self.last.statistics.take());
        self.last = Checkpoint {
            offset,
            statistics,
            inputs: Vec::new(),
            outputs: Vec::new(),
            lengths: Vec::new(),
            ..checkpoint
        };
    }

    /// Adds the folders that the input had when a run began.
    pub(crate) fn had_folders(&mut self, folders: BTreeSet<PathBuf>) {
        let always = self.folders.always.take();
        let both = always.map(|always| always.intersection(&folders).cloned().collect());
        self.folders.always = Some(both.unwrap_or_else(|| folders.clone()));
        self.folders.ever.extend(folders);
    }

    /// Tells which folders the input has now, after all else. Each of the messages that went with their folder may be
    /// found in one that came.
    pub(crate) fn has_folders(&mut self, folders: &[PathBuf]) {
        self.folders.now = folders.iter().cloned().collect();
        let now: HashSet<[u8; 8]> = folders.iter().map(|folder| folder_key(folder)).collect();
        let gone = self.inputs.iter().filter(|key| !now.contains(&key.folder));
        self.homeless.clear();
        for key in gone {
            *self.homeless.entry(key.message).or_default() += 1;
        }
    }

    /// The folders that the input had and has no longer.
    pub(crate) fn folders_gone(&self) -> Vec<&Path> {
        self.folders.ever.difference(&self.folders.now).map(PathBuf::as_path).collect()
    }

    /// How many messages of such folders are done.
    pub(crate) fn messages_gone(&self) -> u64 {
        let now: HashSet<[u8; 8]> = self.folders.now.iter().map(|folder| folder_key(folder)).collect();
        self.inputs.iter().filter(|key| !now.contains(&key.folder)).count() as u64
    }

    /// What is known, when so much of the input was read, of messages that are not where they were.
    pub(crate) fn moved(&self, read: Extent) -> Moved {
        if self.folders.now.is_empty() {
            return Moved::default();
        }
        if read == Extent::UpToHere {
            // What was not met may still come.
            return self.moved.clone();
        }
        // Where they are replaced, none is where it was.
        let there = if self.replaces() { 0 } else { self.inputs.len() as u64 - self.messages_gone() };
        Moved { missing: there.saturating_sub(self.met as u64), ..self.moved.clone() }
    }
}

/// What is known of a piece of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// Nothing.
    New,
    /// It is done.
    Done,
    /// It was replaced in this folder of the input, and is there again as it was: what was noted of it does not hold.
    PutBack(PathBuf),
}

/// Where a message was found among what is done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Nowhere,
    Here,
    /// In a folder that went.
    Elsewhere([u8; 16]),
    ElsewhereByName(OsString),
    /// It was replaced, and is there again.
    PutBack,
    /// What is known of it fits one of a folder that went, and may fit others.
    Alike,
}

impl Folders {
    /// Whether a folder came after the first run had begun.
    fn is_new(&self, folder: &Path) -> bool {
        self.always.as_ref().is_some_and(|always| !always.contains(folder))
    }

    fn is_gone(&self, folder: &Path) -> bool {
        !self.now.contains(folder)
    }
}

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
    folder: [u8; 8],
    message: [u8; 16],
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
        let message = hash(&[unique.as_bytes(), b"\0", content.as_bytes()].concat());
        Self { folder: folder_key(folder_of(root, origin)), message }
    }

    fn parse(text: &str) -> Option<Self> {
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

/// Whether a file lies where the messages of a Maildir do.
fn is_mail(file: &Path) -> bool {
    file.parent().and_then(Path::file_name).is_some_and(|part| part == "cur" || part == "new")
}

/// The folder of a message, below the root: of a Maildir's, that which `cur` and `new` are in.
fn folder_of<'a>(root: &Path, origin: &'a Origin) -> &'a Path {
    let below = origin.file.strip_prefix(root).unwrap_or(&origin.file);
    let part = below.parent().unwrap_or(Path::new(""));
    if is_mail(below) { part.parent().unwrap_or(Path::new("")) } else { part }
}

/// Takes one of those that are counted.
fn take<T: Eq + Hash>(counted: &mut HashMap<T, u32>, one: &T) {
    if let Some(left) = counted.get_mut(one) {
        *left -= 1;
        if *left == 0 {
            counted.remove(one);
        }
    }
}

fn folder_key(folder: &Path) -> [u8; 8] {
    hash(folder.as_os_str().as_bytes())
}

fn hash<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut key = [0; N];
    for (to, from) in key.iter_mut().zip(digest(&SHA256, octets).as_ref()) {
        *to = *from;
    }
    key
}

/// A file of a Maildir, below its root, by folder and unique name.
fn message(below: &Path) -> Option<(PathBuf, OsString)> {
    let folder = below.parent()?.parent()?.to_owned();
    Some((folder, base(below.file_name()?).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(file: &str) -> Origin {
        Origin { file: Path::new(file).into(), offset: None }
    }

    fn folders(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    /// A run that has done these files, in an input with these folders.
    fn done(files: &[&str], had: &[&str]) -> Done {
        let mut done = Done::of(Path::new("/in"));
        done.had_folders(folders(had).into_iter().collect());
        let key = |file: &&str| Key::of(Path::new("/in"), &origin(file), &Content::Sum("sum")).to_string();
        done.add(Checkpoint { inputs: files.iter().map(key).collect(), ..Checkpoint::default() });
        done
    }

    #[test]
    fn each_message_of_a_folder_that_went_is_found_once_in_folders_that_came() {
        let there = ["/in/a/cur/1:2,S", "/in/b/cur/1:2,S", "/in/c/cur/1:2,S"];
        let mut done = done(&there[..2], &["a", "b", "kept"]);
        done.has_folders(&folders(&["kept", "c", "d", "e"]));
        assert_eq!(done.folders_gone(), folders(&["a", "b"]));
        assert_eq!(done.messages_gone(), 2);
        let sum = &Content::Sum("sum");
        // It was in two folders that went, so it is found in two that came, and in none that was there before.
        assert_eq!(done.meets(&origin("/in/kept/cur/1:2,S"), sum), Met::New);
        assert_eq!(done.meets(&origin("/in/c/cur/1:2,S"), &Content::Sum("another")), Met::New);
        assert_eq!(done.meets(&origin("/in/c/new/1"), sum), Met::Done);
        assert_eq!(done.meets(&origin("/in/d/cur/1:2,RS"), sum), Met::Done);
        assert_eq!(done.meets(&origin("/in/e/cur/1:2,S"), sum), Met::New);
        assert_eq!(done.moved(Extent::Whole), Moved { again: 2, ..Moved::default() });
    }

    #[test]
    fn what_is_not_where_it_was_is_counted_where_its_folder_is_still_there() {
        let mut done = done(&["/in/a/cur/1", "/in/a/cur/2", "/in/b/cur/3"], &["a", "b"]);
        done.has_folders(&folders(&["a"]));
        assert_eq!(done.meets(&origin("/in/a/new/1"), &Content::Sum("sum")), Met::Done);
        assert_eq!(done.moved(Extent::Whole), Moved { missing: 1, ..Moved::default() });
        // As long as there is more to read, it may still come.
        assert_eq!(done.moved(Extent::UpToHere), Moved::default());
    }

    #[test]
    fn what_is_only_like_a_message_that_is_done_or_was_put_back_is_done_again_and_counted() {
        let root = Path::new("/in");
        // Given a large message, one that was replaced and one that was not, in a folder that went,
        let mut done = done(&["/in/a/cur/1", "/in/a/cur/2", "/in/b/cur/1"], &["a", "b"]);
        let large = Key::of(root, &origin("/in/a/cur/3"), &Content::Size(9)).to_string();
        let name = maildir::successor("1".as_ref(), b"x");
        let outputs =
            ["a/cur", "b/cur"].map(|part| crate::journal::output_name(&Path::new(part).join(&name)));
        done.add(Checkpoint { inputs: vec![large], outputs: outputs.to_vec(), ..Checkpoint::default() });
        done.has_folders(&folders(&["b", "c"]));
        let sum = &Content::Sum("sum");
        // only a sum tells which message it is,
        assert_eq!(done.meets(&origin("/in/c/cur/3"), &Content::Size(9)), Met::New);
        assert_eq!(done.moved(Extent::Whole).alike, 1);
        // and in place only what has no successor is as it is to be, in whatever folder.
        done.is_in_place(root);
        assert_eq!(done.meets(&origin("/in/c/cur/2"), sum), Met::Done);
        // What was replaced and is there again takes the place of what was noted in one folder, each only once.
        assert_eq!(done.meets(&origin("/in/c/cur/1"), sum), Met::PutBack("a".into()));
        assert_eq!(done.meets(&origin("/in/c/new/1"), sum), Met::New);
        assert_eq!(done.meets(&origin("/in/b/cur/1"), sum), Met::PutBack("b".into()));
        assert_eq!(
            done.meets(&Origin { file: root.join("b/cur").join(&name).into(), offset: None }, sum),
            Met::Done
        );
        assert_eq!(done.moved(Extent::Whole), Moved { again: 1, missing: 0, alike: 1 });
        assert!(done.has_read(&origin("/in/b/cur/1"), sum));
    }
}
