//! What an earlier run has done, by its journal: which messages of the input, and which files of the output.

mod key;
pub(crate) mod made;
mod replaced;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    hash::Hash,
    path::{Path, PathBuf},
};

pub(crate) use self::{
    key::{Content, Key},
    made::{Half, Made, Pair},
};
use self::{
    key::{Folders, Homes, folder_key, folder_of, message},
    made::AllMade,
    replaced::{Replaced, Told},
};
use crate::{
    journal::{Checkpoint, decoded},
    maildir::predecessor,
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
    /// The files of the input that are done. Files with one unique name and the same octets have one key, and are as many.
    inputs: HashMap<Key, Count>,
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
    /// What became of each message, in the same way.
    made: AllMade,
    /// The messages of which successors are among `messages`, by folder and by what those tell of them.
    replaced: Replaced<([u8; 8], u64)>,
    /// Those of folders that went.
    replaced_gone: Replaced<u64>,
    /// Where each message of folders that went was.
    homes: Homes,
    /// Of which messages that were replaced it is told already that they were put back, and nothing was done with them
    /// where they were since.
    put_back: HashSet<Key>,
    /// How many files of folders that are still there were met.
    met: usize,
    /// What became of those that are not where they were.
    moved: Moved,
}

/// How many files there are of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// That are done.
    noted: u32,
    /// Of these, met where they were.
    met: u32,
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
            Found::Here => {
                self.met += 1;
                if let Some(count) = self.inputs.get_mut(&Key::of(&self.input, origin, content)) {
                    count.met += 1;
                }
            }
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
        let Key { folder, message } = Key::of(&self.input, origin, content);
        let is_told = |folder: [u8; 8]| {
            let key = Key { folder, message };
            let tells = || self.replaced.tells(origin, |name| (folder, name));
            self.inputs.contains_key(&key) && tells() == Told::Replaced && !self.put_back.contains(&key)
        };
        let (folder, path) = if is_told(folder) {
            (folder, folder_of(&self.input, origin).to_owned())
        } else {
            let (folder, path) = self.homes.of(&message).find(|(folder, _)| is_told(*folder))?;
            (folder, path.to_owned())
        };
        self.put_back.insert(Key { folder, message });
        Some(path)
    }

    /// Takes in a line of the report about a message, as it was found in this file below the root: if it says in which folder
    /// it was replaced before, it has taken the place of the line about that.
    pub(crate) fn was_told(&mut self, below: &Path, sum: &str, again: Option<&Path>) {
        let origin = Origin { file: below.into(), offset: None };
        let key = Key::of(Path::new(""), &origin, &Content::Sum(sum));
        self.put_back.extend(again.map(|folder| Key { folder: folder_key(folder), ..key }));
        self.put_back.remove(&key);
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
        // Once its successor is noted, a message is removed: whoever meets it again meets what somebody put there. Another one
        // may have its unique name, and even its octets.
        let told = match &found {
            Found::Here if !self.replaced.is_empty() => {
                let Key { folder, message } = Key::of(&self.input, origin, content);
                (message, self.replaced.tells(origin, |name| (folder, name)))
            }
            Found::Elsewhere(message) => (*message, self.replaced_gone.tells(origin, |name| name)),
            _ => return found,
        };
        match told {
            (message, Told::Replaced) if self.made.is_replaced(message) => Found::PutBack,
            (message, Told::Twin) if self.made.is_replaced(message) => Found::Nowhere,
            _ => found,
        }
    }

    fn find_input(&self, origin: &Origin, content: &Content<'_>) -> Found {
        if self.inputs.is_empty() {
            return Found::Nowhere;
        }
        let key = Key::of(&self.input, origin, content);
        // The next one is a twin whose turn had not come.
        if self.inputs.get(&key).is_some_and(|count| count.met < count.noted) {
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

    /// What is known of two files.
    pub(crate) fn pair(&self, made: &Made) -> Pair {
        self.made.pair(made)
    }

    /// Whether anything is known of what a file became, or was about to.
    pub(crate) fn tells_of(&self, of: Half) -> bool {
        self.made.tells_of(of)
    }

    /// Whether this message, by its octets, was replaced by an earlier run.
    pub(crate) fn has_replaced(&self, origin: &Origin, content: &Content<'_>) -> bool {
        self.made.is_replaced(Key::of(&self.input, origin, content).message)
    }

    /// Adds what is to become of messages.
    pub(crate) fn begin(&mut self, made: &[String]) {
        self.made.begin(made.iter().filter_map(|text| Made::parse(text)));
    }

    /// Has those of the files be known by their unique names.
    pub(crate) fn is_in_place(&mut self, root: &Path) {
        self.in_place = Some(root.to_owned());
        self.homes = Homes::new(&self.folders_gone(), self.inputs.keys());
        self.messages = self.outputs.iter().filter_map(|path| message(path)).collect();
        for (folder, name) in &self.messages {
            let of = predecessor(name);
            if let Some(of) = of {
                self.replaced.insert(of, |name| (folder_key(folder), name));
            }
            if self.folders.is_gone(folder) {
                if let Some(of) = of {
                    self.replaced_gone.insert(of, |name| name);
                }
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
        for key in checkpoint.inputs.iter().filter_map(|key| Key::parse(key)) {
            self.inputs.entry(key).or_default().noted += 1;
        }
        self.outputs.extend(checkpoint.outputs.iter().filter_map(|path| decoded(path)));
        let lengths = checkpoint.lengths.iter();
        self.lengths.extend(lengths.filter_map(|(path, length)| Some((decoded(path)?, *length))));
        self.made.note();
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
        self.made.cut();
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
        let gone = self.inputs.iter().filter(|(key, _)| !now.contains(&key.folder));
        self.homeless.clear();
        for (key, count) in gone {
            *self.homeless.entry(key.message).or_default() += count.noted;
        }
    }

    /// The folders that the input had and has no longer.
    pub(crate) fn folders_gone(&self) -> Vec<&Path> {
        self.folders.ever.difference(&self.folders.now).map(PathBuf::as_path).collect()
    }

    /// How many messages of such folders are done.
    pub(crate) fn messages_gone(&self) -> u64 {
        let now: HashSet<[u8; 8]> = self.folders.now.iter().map(|folder| folder_key(folder)).collect();
        let gone = self.inputs.iter().filter(|(key, _)| !now.contains(&key.folder));
        gone.map(|(_, count)| u64::from(count.noted)).sum()
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
        let noted = || self.inputs.values().map(|count| u64::from(count.noted)).sum::<u64>();
        let there = if self.replaces() { 0 } else { noted() - self.messages_gone() };
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

/// Takes one of those that are counted.
fn take<T: Eq + Hash>(counted: &mut HashMap<T, u32>, one: &T) {
    if let Some(left) = counted.get_mut(one) {
        *left -= 1;
        if *left == 0 {
            counted.remove(one);
        }
    }
}

#[cfg(test)]
mod tests;
