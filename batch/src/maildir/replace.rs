//! Replaces messages of a Maildir where they are, one batch after the other.
//!
//! A message that changed gets a successor, see [`super::name`]: written into `tmp`, told to the journal by what is in both, made
//! durable, renamed into the folder, noted in the journal; only then its predecessor is removed. A run that is cut off leaves
//! both, and knows by the journal which of them stays; where it does not, both do. Nothing else in the Maildir is touched, but for the sum of sizes that Maildir++
//! keeps: servers make it anew.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;

use super::{
    commit::{BATCH, BATCH_OCTETS},
    disks::Disks,
    files::{
        Family, Within, beneath, beside, check, families, folders, in_doubt, make_like, now, read, sweep,
        sync_folders, twins,
    },
    name::{hash, info_number, number, predecessor, successor, successor_of_twin},
    tree::Tree,
};
use crate::{
    attributes::{Attributes, Rights, State},
    beneath::Beneath,
    digest::{CopyError, Summed},
    direct,
    done::{self, Content, Done, Half, Made},
    error::BatchError,
    output::{self, Copied, PARTIAL, parent},
    pipeline::{KeptBack, Mark, Outgoing, Sink},
    stored::{Large, Origin},
    worker,
};

/// Replaces messages of a Maildir.
#[derive(Debug)]
pub struct MaildirReplacer {
    root: PathBuf,
    beneath: Beneath,
    /// The root, open, which keeps another run away.
    _held: File,
    /// Where successors are written.
    disks: Disks,
    /// Written into `tmp`.
    pending: Vec<Pending>,
    octets: u64,
    /// In their folders since somebody asked, by their paths below the root.
    added: Vec<PathBuf>,
    /// In their folders, their predecessors still there.
    pairs: Vec<Pair>,
    folders: Vec<PathBuf>,
    /// Files that had their unique names with others when this began, see [`number`]; of those that come later see `Given` of the source.
    twins: HashSet<u64>,
    /// Messages that were gone when they were to be replaced, since somebody asked.
    lost: HashSet<PathBuf>,
    /// Messages whose successors were gone when they were to be removed, since somebody asked.
    kept: Vec<KeptBack>,
}

/// A successor on its way.
#[derive(Debug)]
struct Pending {
    /// Where it is, in `tmp`.
    from: PathBuf,
    /// That folder, wherever it is by now.
    within: Arc<Within>,
    /// Its name, with the flags that its predecessor had when it was read.
    name: OsString,
    predecessor: PathBuf,
    /// That of the predecessor when it was read.
    state: Option<State>,
    /// Until it is told.
    made: Option<Made>,
    told: Option<Told>,
}

/// Two files that are one message.
#[derive(Debug)]
struct Pair {
    successor: PathBuf,
    predecessor: PathBuf,
    state: Option<State>,
    told: Option<Told>,
}

/// A file that a successor may have been made of, as it is.
struct Old {
    path: PathBuf,
    state: State,
    of: Half,
    /// See [`info_number`].
    info: u32,
    /// Whether the journal tells that it was replaced.
    is_replaced: bool,
}

/// What this run has told of a message.
#[derive(Debug)]
struct Told {
    index: u64,
    sum: Summed,
}

impl MaildirReplacer {
    /// Begins with a Maildir as it is.
    pub(crate) fn create(root: &Path, tree: &Tree) -> Result<Self, BatchError> {
        Self::check(root, tree)?;
        Self::new(root, tree)
    }

    /// An error if there are files that may be one message: it is not known which of them is to stay.
    pub(crate) fn check(root: &Path, tree: &Tree) -> Result<(), BatchError> {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_owned();
        for Family { successors, predecessors } in families(&beneath(root)?, &folders(root, tree))? {
            // One by one these would be too many, where somebody has made thousands of each.
            let with_info = |old| (info_number(&name(old)), old);
            let by_info: HashMap<u32, &PathBuf> = predecessors.iter().rev().map(with_info).collect();
            for successor in successors {
                let of = predecessor(&name(&successor));
                let old = of.and_then(|of| match of.info {
                    Some(info) => by_info.get(&info).copied(),
                    None => predecessors.first(),
                });
                if let Some(old) = old {
                    let first = "If a run was cut off, go on with that by --resume; if not";
                    return Err(in_doubt(successor, old, first));
                }
            }
        }
        Ok(())
    }

    /// Goes on with a Maildir in which an earlier run has replaced messages. Of two files that may be one message one is
    /// removed only if the journal tells, by what is in them, that it is.
    pub(crate) fn resume(root: &Path, tree: &Tree, done: &Done) -> Result<Self, BatchError> {
        let mut sink = Self::new(root, tree)?;
        let mut again = Vec::new();
        for family in families(&sink.beneath, &sink.folders)? {
            sink.resume_family(family, done, &mut again)?;
        }
        for successor in again {
            let removed = sink.beneath.remove(&successor);
            removed.map_err(|source| BatchError::Write { path: successor, source })?;
        }
        sink.remove_predecessors()?;
        Ok(sink)
    }

    /// Finds out which files are of one message: what was not noted is made `again`, and of what was noted the predecessor
    /// goes. What this run made of others, and others' twins, stay; any other file is none of its business.
    fn resume_family(
        &mut self,
        family: Family,
        done: &Done,
        again: &mut Vec<PathBuf>,
    ) -> Result<(), BatchError> {
        let look = |path: PathBuf| {
            let (sum, state) = read(&self.beneath, &path)?;
            let name = path.file_name().unwrap_or_default();
            let (of, info) = (Half::of(name, &sum), info_number(name));
            let origin = Origin { file: path.as_path().into(), offset: None };
            let is_replaced = done.has_replaced(&origin, &Content::Sum(&sum.sha256));
            Ok(Old { path, state, of, info, is_replaced })
        };
        let predecessors: Vec<Old> =
            family.predecessors.into_iter().map(look).collect::<Result<_, BatchError>>()?;
        // Somebody may have made thousands of each: the journal tells of few, and those alone are held against each other.
        let (mut told, others): (Vec<Old>, Vec<Old>) =
            predecessors.into_iter().partition(|one| done.tells_of(one.of));
        let mut unknown = Vec::new();
        for successor in family.successors {
            let (sum, _) = read(&self.beneath, &successor)?;
            let name = successor.file_name().unwrap_or_default();
            let flags = predecessor(name).and_then(|of| of.info);
            let into = Half::of(name, &sum);
            let pair = |one: &Old| done.pair(&Made::new(one.of, into));
            // The same names and octets may be in another folder, of which that is noted.
            let is_noted = done.has_output(&successor);
            // Of two with one unique name and the same octets the journal does not tell which it was: the flags do.
            let goes = |one: &Old| {
                is_noted && flags.is_none_or(|flags| flags == one.info) && pair(one) == done::Pair::Noted
            };
            if let Some(at) = told.iter().position(goes) {
                let Old { path: predecessor, state, .. } = told.swap_remove(at);
                self.pairs.push(Pair { successor, predecessor, state: Some(state), told: None });
            } else if told.iter().any(|one| match pair(one) {
                done::Pair::Begun => true,
                done::Pair::Noted => !is_noted,
                done::Pair::Unknown => false,
            }) {
                again.push(successor);
            } else {
                unknown.push((successor, flags));
            }
        }
        let left: Vec<&Old> = told.iter().chain(&others).collect();
        let by_info = |is_replaced: bool| -> HashMap<u32, &Old> {
            let these = left.iter().rev().filter(|one| one.is_replaced || !is_replaced);
            these.map(|one| (one.info, *one)).collect()
        };
        let (all, replaced) = (by_info(false), by_info(true));
        for (successor, flags) in unknown {
            // Of one that this run made of another message, it is known which messages it replaced.
            let among = if done.has_output(&successor) { &replaced } else { &all };
            let in_its_place = match flags {
                Some(flags) => among.get(&flags),
                None => among.values().min_by_key(|one| &one.path),
            };
            if let Some(one) = in_its_place {
                let first = "This run has not made it of that as it is now; to go on by --resume";
                return Err(in_doubt(successor, &one.path, first));
            }
        }
        Ok(())
    }

    fn new(root: &Path, tree: &Tree) -> Result<Self, BatchError> {
        let failed = |path: &Path, source| BatchError::Write { path: path.to_owned(), source };
        let (beneath, folders) = (beneath(root)?, folders(root, tree));
        let open = beneath.open(root, OFlags::RDONLY | OFlags::DIRECTORY);
        let open = open.map_err(|source| failed(root, source))?;
        output::lock(&open).map_err(|source| failed(root, source))?;
        let disks = Disks::of(&open, root).map_err(|source| failed(root, source))?;
        let (pending, added, pairs) = (Vec::new(), Vec::new(), Vec::new());
        let sink = Self {
            twins: twins(&beneath, &folders)?,
            root: root.to_owned(),
            beneath,
            _held: open,
            disks,
            pending,
            octets: 0,
            added,
            pairs,
            folders,
            lost: HashSet::new(),
            kept: Vec::new(),
        };
        for folder in &sink.folders {
            let tmp = folder.join("tmp");
            make_like(&sink.beneath, &tmp, folder).map_err(|source| failed(&tmp, source))?;
            // What an earlier run left is not complete.
            sweep(&sink.beneath, &tmp)?;
        }
        sink.forget_sum()?;
        Ok(sink)
    }

    /// A new file in the `tmp` of a folder, and whether it is to be made durable by itself.
    fn new_file(&mut self, folder: &Path, from: &Path) -> io::Result<(Arc<Within>, File, bool)> {
        let tmp = folder.join("tmp");
        let last = self.pending.last().map(|pending| &pending.within);
        let disks = &mut self.disks;
        let mut make = || {
            let within = Within::of(&self.beneath, &tmp, last)?;
            let is_kept_alone = disks.meet(&within, &tmp)?;
            let file = within.new_file(from)?;
            Ok((within, file, is_kept_alone))
        };
        make().or_else(|error: io::Error| match error.kind() {
            // A folder that came during the run.
            io::ErrorKind::NotFound => make_like(&self.beneath, &tmp, folder).and_then(|()| make()),
            // One that came here with its folder, before it was noted.
            io::ErrorKind::AlreadyExists if self.pending.iter().all(|pending| pending.from != *from) => {
                self.beneath.remove(from).and_then(|()| make())
            }
            _ => Err(error),
        })
    }

    fn is_gone(&self, folder: &Path) -> bool {
        self.beneath.metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Makes durable what is in `tmp`, and moves it to where its predecessor is.
    fn commit(&mut self) -> Result<(), BatchError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.disks.sync()?;
        let failed = |path: &Path, source: io::Error| BatchError::Write { path: path.to_owned(), source };
        let mut changed = BTreeSet::new();
        for Pending { from, within, name, predecessor, state, told, .. } in std::mem::take(&mut self.pending)
        {
            let at = predecessor;
            let Some(predecessor) = now(&self.beneath, &at, state)? else {
                // Somebody moved or deleted it meanwhile, or its folder with all that is in it.
                match within.remove(&from) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed.map_err(|source| failed(&from, source))?,
                }
                self.lost.insert(at);
                continue;
            };
            check(&self.beneath, &predecessor, state)?;
            let successor = beside(&predecessor, &name);
            self.beneath.rename_new(&from, &successor).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => {
                    in_doubt(successor.clone(), &predecessor, "To go on by --resume")
                }
                _ => failed(&successor, source),
            })?;
            changed.insert(parent(&successor).to_owned());
            if let Ok(below) = successor.strip_prefix(&self.root) {
                self.added.push(below.to_owned());
            }
            self.pairs.push(Pair { successor, predecessor, state, told });
        }
        self.octets = 0;
        sync_folders(&self.beneath, &changed)
    }

    /// Removes predecessors. That there are successors is durable and noted. One whose successor is gone is all there is of
    /// the message, and stays: who cleans up doubles takes away either of two.
    fn remove_predecessors(&mut self) -> Result<(), BatchError> {
        let failed = |path: &Path, source: io::Error| BatchError::Write { path: path.to_owned(), source };
        let mut changed = BTreeSet::new();
        let pairs = std::mem::take(&mut self.pairs);
        let successors: HashSet<PathBuf> = pairs.iter().map(|pair| pair.successor.clone()).collect();
        for Pair { successor, predecessor, state, told } in pairs {
            let Some(predecessor) = now(&self.beneath, &predecessor, state)? else { continue };
            check(&self.beneath, &predecessor, state)?;
            // That of another one may have its unique name.
            let there = now(&self.beneath, &successor, None)?;
            if there.is_none_or(|there| there != successor && successors.contains(&there)) {
                let folder = predecessor.parent().and_then(Path::parent).unwrap_or(&self.root);
                let folder = folder.strip_prefix(&self.root).unwrap_or(folder).to_owned();
                // One of an earlier run is met once more, and done again.
                let kept = told.map(|Told { index, sum }| KeptBack { index, file: predecessor, folder, sum });
                self.kept.extend(kept);
                continue;
            }
            // Its flags may have changed since; but whoever changed the successor's knows best.
            let current = beside(&predecessor, successor.file_name().unwrap_or_default());
            if current != successor && self.beneath.metadata(&successor).is_ok() {
                self.beneath.rename_new(&successor, &current).map_err(|source| failed(&current, source))?;
                changed.insert(parent(&current).to_owned());
            }
            self.beneath.remove(&predecessor).map_err(|source| failed(&predecessor, source))?;
            changed.insert(parent(&predecessor).to_owned());
        }
        sync_folders(&self.beneath, &changed)
    }

    /// Removes the sum of all sizes, which is no longer right.
    fn forget_sum(&self) -> Result<(), BatchError> {
        for folder in &self.folders {
            let path = folder.join("maildirsize");
            match self.beneath.remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| BatchError::Write { path, source })?,
            }
        }
        Ok(())
    }
}

impl Sink for MaildirReplacer {
    fn keeps_back(&self, place: &worker::Place) -> Option<String> {
        place.attributes.as_ref().and_then(Attributes::not_ours_to_give)
    }

    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        if !outgoing.changed {
            return Ok(());
        }
        let place = outgoing.place;
        let predecessor = place.origin.file.to_path_buf();
        let unexpected = || BatchError::Input { path: predecessor.clone(), problem: "not in the Maildir" };
        let folder = predecessor.parent().and_then(Path::parent).ok_or_else(unexpected)?;
        let old = predecessor.file_name().ok_or_else(unexpected)?;
        let is_twin = self.twins.contains(&number(folder, old));
        let name = if is_twin { successor_of_twin } else { successor }(old, outgoing.octets);
        // Short, whatever the name is; and another one has the same unique name, but not the same path.
        let in_tmp = hash(predecessor.as_os_str().as_encoded_bytes());
        let from = folder.join("tmp").join(format!("{in_tmp:016x}{PARTIAL}"));
        let (within, mut file, is_kept_alone) = match self.new_file(folder, &from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_gone(folder) => {
                self.lost.insert(predecessor);
                return Ok(());
            }
            made => made.map_err(|source| BatchError::Write { path: from.clone(), source })?,
        };
        let written = direct::write_all(&mut file, outgoing.octets).and_then(|()| {
            if let Some(attributes) = &place.attributes {
                attributes.give_owner(&file)?;
                attributes.carry_over(&file, Rights::AsFound)?;
            }
            if is_kept_alone { file.sync_all() } else { Ok(()) }
        });
        written.map_err(|source| BatchError::Write { path: from.clone(), source })?;
        let state = place.attributes.as_ref().map(|attributes| State::of(attributes.metadata()));
        let told = Some(Told { index: outgoing.index, sum: outgoing.input.clone() });
        let made = Some(Made::new(Half::of(old, outgoing.input), Half::of(&name, outgoing.output)));
        self.pending.push(Pending { from, within, name, predecessor, state, made, told });
        self.octets += outgoing.octets.len() as u64;
        Ok(())
    }

    fn copy(&mut self, mut large: Large) -> Result<Copied, BatchError> {
        // It stays where it is.
        let sum = Summed::of_copy(&mut large.octets, &mut io::sink());
        let sum = sum.map_err(|(CopyError::Read(source) | CopyError::Write(source))| BatchError::Read {
            origin: large.origin.to_string(),
            source,
        })?;
        Ok(Copied::as_is(sum))
    }

    fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= BATCH || self.octets >= BATCH_OCTETS
    }

    fn take_coming(&mut self) -> Vec<Made> {
        self.pending.iter_mut().filter_map(|pending| pending.made.take()).collect()
    }

    fn settle(&mut self) -> Result<HashSet<PathBuf>, BatchError> {
        self.commit()?;
        Ok(std::mem::take(&mut self.lost))
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        self.commit()?;
        Ok(Some(Mark::Files { folder: None, added: std::mem::take(&mut self.added), lengths: Vec::new() }))
    }

    fn noted(&mut self) -> Result<(), BatchError> {
        self.remove_predecessors()
    }

    fn take_kept(&mut self) -> Vec<KeptBack> {
        std::mem::take(&mut self.kept)
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.commit()?;
        self.remove_predecessors()?;
        self.forget_sum()?;
        self.disks.sync()
    }
}
