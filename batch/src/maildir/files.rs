//! The files of a Maildir in which messages are replaced: where they are now, which may be one message, what belongs where.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;

use super::{
    name::{base, hash, number, predecessor, with_info},
    tree::Tree,
};
use crate::{
    attributes::State,
    beneath::Beneath,
    digest::{CopyError, Summed},
    error::BatchError,
    output::PARTIAL,
    seen,
};

/// The `tmp` of a folder, held: others may rename the folder, or move it out of the Maildir, with all that is in it.
#[derive(Debug)]
pub(super) struct Within {
    tmp: Beneath,
    inode: (u64, u64),
}

impl Within {
    /// The one that is there now. Many files that are on their way have one in common.
    pub(super) fn of(beneath: &Beneath, tmp: &Path, last: Option<&Arc<Self>>) -> io::Result<Arc<Self>> {
        let open = beneath.open(tmp, OFlags::PATH | OFlags::DIRECTORY)?;
        let metadata = open.metadata()?;
        let inode = (metadata.dev(), metadata.ino());
        match last {
            Some(last) if last.inode == inode && last.tmp.is_of(tmp) => Ok(Arc::clone(last)),
            _ => Ok(Arc::new(Self { tmp: Beneath::of_open(tmp, &open)?, inode })),
        }
    }

    /// A new file that nobody else may read, by its path when the folder was opened.
    pub(super) fn new_file(&self, path: &Path) -> io::Result<File> {
        self.tmp.new_file(path)
    }

    /// The folder, open.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<File> {
        self.tmp.open_root(flags)
    }

    /// The number of the file system that it is on.
    pub(super) fn disk(&self) -> u64 {
        self.inode.0
    }

    /// Removes such a file, wherever the folder is now.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.tmp.remove(path)
    }
}

/// Removes what was not completed.
pub(super) fn sweep(beneath: &Beneath, tmp: &Path) -> Result<(), BatchError> {
    for name in names(beneath, tmp)? {
        if name.as_encoded_bytes().ends_with(PARTIAL.as_bytes()) {
            let path = tmp.join(name);
            beneath.remove(&path).map_err(|source| BatchError::Write { path, source })?;
        }
    }
    Ok(())
}

/// Files of a folder that are one message, or have its unique name.
#[derive(Debug)]
pub(super) struct Family {
    /// Those that the message became, by their names; at least one.
    pub(super) successors: Vec<PathBuf>,
    /// Those that it was, by their names; at least one.
    pub(super) predecessors: Vec<PathBuf>,
}

/// All of which the message is there as well.
pub(super) fn families(beneath: &Beneath, folders: &[PathBuf]) -> Result<Vec<Family>, BatchError> {
    let mut found = Vec::new();
    for folder in folders {
        let mut successors: HashMap<u64, Vec<PathBuf>> = HashMap::new();
        let mut by_hash: HashMap<u64, Vec<PathBuf>> = HashMap::new();
        for part in ["new", "cur"] {
            for name in names(beneath, &folder.join(part))? {
                let of = predecessor(&name);
                let (number, path) = (hash(base(&name).as_encoded_bytes()), folder.join(part).join(name));
                if let Some(of) = of {
                    successors.entry(of.number).or_default().push(path.clone());
                }
                // Several files may have one unique name.
                by_hash.entry(number).or_default().push(path);
            }
        }
        found.extend(successors.into_iter().filter_map(|(of, mut successors)| {
            let mut predecessors = by_hash.remove(&of)?;
            successors.sort();
            predecessors.sort();
            Some(Family { successors, predecessors })
        }));
    }
    Ok(found)
}

/// Files that have their unique name with others of their folder, or had it with one that was replaced, by [`number`].
pub(super) fn twins(beneath: &Beneath, folders: &[PathBuf]) -> Result<HashSet<u64>, BatchError> {
    let mut twins = HashSet::new();
    for folder in folders {
        let (mut numbers, mut went) = (Vec::new(), HashSet::new());
        let mut all = names(beneath, &folder.join("new"))?;
        all.extend(names(beneath, &folder.join("cur"))?);
        for name in &all {
            numbers.push(number(folder, name));
            went.extend(predecessor(name).filter(|of| of.info.is_some()).map(|of| of.number));
        }
        numbers.sort_unstable();
        twins.extend(numbers.array_windows().filter(|[one, other]| one == other).map(|[one, _]| *one));
        if !went.is_empty() {
            let left = all.iter().filter(|name| went.contains(&hash(base(name).as_encoded_bytes())));
            twins.extend(left.map(|name| number(folder, name)));
        }
    }
    Ok(twins)
}

/// Files whose names are those of successors, by [`number`], in order.
pub(super) fn named_as_successors(beneath: &Beneath, folders: &[PathBuf]) -> Result<Vec<u64>, BatchError> {
    let mut found = Vec::new();
    for folder in folders {
        for part in ["new", "cur"] {
            let names = names(beneath, &folder.join(part))?.into_iter();
            found.extend(names.filter(|name| predecessor(name).is_some()).map(|name| number(folder, &name)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A file as it is.
pub(super) fn read(beneath: &Beneath, path: &Path) -> Result<(Summed, State), BatchError> {
    let failed = |source| BatchError::Read { origin: path.display().to_string(), source };
    let mut open = beneath.open(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(failed)?;
    let state = State::of(&open.metadata().map_err(failed)?);
    let sum = Summed::of_copy(&mut open, &mut io::sink());
    let sum = sum.map_err(|(CopyError::Read(source) | CopyError::Write(source))| failed(source))?;
    Ok((sum, state))
}

/// Two files that may be one message: nobody knows which of them is to stay. `first` says what there is to try.
pub(super) fn in_doubt(successor: PathBuf, predecessor: &Path, first: &str) -> BatchError {
    let problem = format!(
        "its name says that it is what {} became, and both are there. {first}, give the latter another name in front of \
         its colon: both stay then. Nothing was taken away",
        predecessor.display()
    );
    BatchError::Output { path: successor, problem }
}

pub(super) fn beneath(root: &Path) -> Result<Beneath, BatchError> {
    seen::beneath(root).map_err(|source| BatchError::Read { origin: root.display().to_string(), source })
}

pub(super) fn folders(root: &Path, tree: &Tree) -> Vec<PathBuf> {
    tree.folders.iter().map(|folder| root.join(folder)).collect()
}

/// Where a message is now: others change flags, and move it from `new` to `cur`.
pub(super) fn now(
    beneath: &Beneath,
    path: &Path,
    state: Option<State>,
) -> Result<Option<PathBuf>, BatchError> {
    let failed = |source| BatchError::Read { origin: path.display().to_string(), source };
    match beneath.metadata(path) {
        Ok(_) => return Ok(Some(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let wanted = base(path.file_name().unwrap_or_default());
    let Some(folder) = path.parent().and_then(Path::parent) else { return Ok(None) };
    let mut found = None;
    for part in ["new", "cur"] {
        let part = folder.join(part);
        for (name, inode) in entries(beneath, &part)? {
            let is_it = state.is_none_or(|state| state.is_of(inode));
            // Another one may have its unique name.
            if base(&name) == wanted && (is_it || found.is_none()) {
                found = Some(part.join(name));
                if is_it {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

/// An error if a message is not the one that was read.
pub(super) fn check(beneath: &Beneath, path: &Path, state: Option<State>) -> Result<(), BatchError> {
    let there = beneath
        .metadata(path)
        .map_err(|source| BatchError::Read { origin: path.display().to_string(), source })?;
    if state.is_none_or(|state| State::of(&there) == state) {
        return Ok(());
    }
    Err(BatchError::Changed { path: path.to_owned() })
}

/// Where a successor of this name belongs: into the folder of its predecessor, with its flags.
pub(super) fn beside(predecessor: &Path, successor: &OsStr) -> PathBuf {
    predecessor.with_file_name(with_info(base(successor), predecessor.file_name().unwrap_or_default()))
}

/// The names in a folder, if there is one.
fn names(beneath: &Beneath, folder: &Path) -> Result<Vec<OsString>, BatchError> {
    Ok(entries(beneath, folder)?.into_iter().map(|(name, _)| name).collect())
}

/// The same with inodes.
fn entries(beneath: &Beneath, folder: &Path) -> Result<Vec<(OsString, u64)>, BatchError> {
    match beneath.names(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|source| BatchError::Read { origin: folder.display().to_string(), source }),
    }
}

/// Makes a folder for whom another belongs to.
pub(super) fn make_like(beneath: &Beneath, path: &Path, other: &Path) -> io::Result<()> {
    let like = beneath.metadata(other)?;
    match beneath.make_folder(path, like.mode() & 0o777) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let made = beneath.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let ours = made.metadata()?;
    if (ours.uid(), ours.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    fchown(&made, Some(like.uid()), Some(like.gid()))
}

pub(super) fn sync_folders(beneath: &Beneath, folders: &BTreeSet<PathBuf>) -> Result<(), BatchError> {
    for folder in folders {
        beneath.sync(folder).map_err(|source| BatchError::Write { path: folder.clone(), source })?;
    }
    Ok(())
}
