//! Writes a new Maildir: each message into `tmp`, made durable in batches, then renamed into its folder.
//!
//! The tree has its partial name until all of it is complete. In batches, because one `syncfs` for many
//! files is several times faster than an `fsync` for each.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};

use super::{name::with_sizes, tree::Tree};
use crate::{
    digest::Summed,
    error::BatchError,
    output::{self, Place, new_file, sync_folder},
    pipeline::{Mark, Outgoing, Sink},
    stored::Large,
};

/// Writes a new Maildir.
#[derive(Debug)]
pub struct MaildirSink {
    place: Place,
    /// Where the input is, which the paths of its messages begin with.
    input: PathBuf,
    tree: Tree,
    /// The root, open: what `syncfs` is asked on, so that it tells errors from now on.
    root: File,
    /// Written into `tmp`, not yet in their folder.
    pending: Vec<Pending>,
    pending_octets: u64,
    /// What was added since somebody asked, below the root.
    added: Vec<PathBuf>,
}

#[derive(Debug)]
struct Pending {
    from: PathBuf,
    to: PathBuf,
}

impl MaildirSink {
    /// Makes the folders of `tree`, which is that of `input`, under the partial name.
    pub fn create(place: Place, input: &Path, tree: Tree) -> Result<Self, BatchError> {
        place.clear()?;
        let root = place.partial();
        let failed = |path: &Path, source| BatchError::Write { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder.create(root).map_err(|source| failed(root, source))?;
        let open = File::open(root).map_err(|source| failed(root, source))?;
        output::lock(&open).map_err(|source| failed(root, source))?;
        for folder in &tree.folders {
            for part in ["cur", "new", "tmp"] {
                let path = root.join(folder).join(part);
                builder.create(&path).map_err(|source| failed(&path, source))?;
            }
        }
        Ok(Self {
            place,
            input: input.to_owned(),
            tree,
            root: open,
            pending: Vec::new(),
            pending_octets: 0,
            added: Vec::new(),
        })
    }

    /// Goes on with a Maildir that an earlier run began. What is in it and not among `known` is removed: the run was
    /// cut off before it noted these, and does them again.
    pub(crate) fn resume(
        place: Place,
        input: &Path,
        tree: Tree,
        known: &HashSet<PathBuf>,
    ) -> Result<Self, BatchError> {
        let root = place.partial().to_owned();
        let failed = |path: &Path, source| BatchError::Write { path: path.to_owned(), source };
        let open = File::open(&root).map_err(|source| failed(&root, source))?;
        output::lock(&open).map_err(|source| failed(&root, source))?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        for folder in &tree.folders {
            for part in ["cur", "new", "tmp"] {
                let below = folder.join(part);
                let path = root.join(&below);
                builder.create(&path).map_err(|source| failed(&path, source))?;
                for entry in fs::read_dir(&path).map_err(|source| failed(&path, source))? {
                    let name = entry.map_err(|source| failed(&path, source))?.file_name();
                    if !known.contains(&below.join(&name)) {
                        fs::remove_file(path.join(&name)).map_err(|source| failed(&path, source))?;
                    }
                }
            }
        }
        let input = input.to_owned();
        Ok(Self { place, input, tree, root: open, pending: Vec::new(), pending_octets: 0, added: Vec::new() })
    }

    /// Writes a file into `tmp`, to be renamed into the folder where `origin` was.
    fn write<T>(
        &mut self,
        origin: &Path,
        octets: Option<&[u8]>,
        write: impl FnOnce(&mut File) -> Result<T, Result<BatchError, io::Error>>,
    ) -> Result<T, BatchError> {
        let unexpected = || BatchError::Input { path: origin.to_owned(), problem: "not in the Maildir" };
        let below = origin.strip_prefix(&self.input).map_err(|_| unexpected())?;
        let name = below.file_name().ok_or_else(unexpected)?;
        let part = below.parent().and_then(Path::file_name).ok_or_else(unexpected)?;
        let folder = below.parent().and_then(Path::parent).ok_or_else(unexpected)?;
        let folder = self.place.partial().join(folder);
        let name = octets.map_or_else(|| name.to_owned(), |octets| with_sizes(name, octets));
        let from = folder.join("tmp").join(&name);
        let to = folder.join(if part == OsStr::new("new") { "new" } else { "cur" }).join(&name);
        let failed = |source| BatchError::Write { path: from.clone(), source };
        let mut file = new_file(&from).map_err(failed)?;
        let written = write(&mut file).map_err(|error| error.unwrap_or_else(failed))?;
        if let Ok(below) = to.strip_prefix(self.place.partial()) {
            self.added.push(below.to_owned());
        }
        self.pending.push(Pending { from, to });
        Ok(written)
    }

    fn commit_if_many(&mut self, octets: u64) -> Result<(), BatchError> {
        self.pending_octets += octets;
        let many = self.pending.len() >= BATCH || self.pending_octets >= BATCH_OCTETS;
        if many { self.commit() } else { Ok(()) }
    }

    /// Makes durable what is in `tmp`, and moves it to where it belongs.
    fn commit(&mut self) -> Result<(), BatchError> {
        let failed = |path: &Path, source: io::Error| BatchError::Write { path: path.to_owned(), source };
        self.sync()?;
        let mut folders = BTreeSet::new();
        for Pending { from, to } in &self.pending {
            let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => {
                    fs::rename(from, to)
                }
                renamed => renamed.map_err(io::Error::from),
            };
            renamed.map_err(|source| failed(to, source))?;
            folders.insert(output::parent(to));
        }
        for folder in folders {
            sync_folder(folder).map_err(|source| failed(folder, source))?;
        }
        self.pending.clear();
        self.pending_octets = 0;
        Ok(())
    }

    fn sync(&self) -> Result<(), BatchError> {
        syncfs(&self.root).map_err(|error| BatchError::Write {
            path: self.place.partial().to_owned(),
            source: error.into(),
        })
    }
}

impl Sink for MaildirSink {
    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        let octets = outgoing.octets;
        self.write(&outgoing.place.origin.file, outgoing.changed.then_some(octets), |file| {
            file.write_all(octets).map_err(Err)?;
            outgoing.place.attributes.as_ref().map_or(Ok(()), |from| from.carry_over(file)).map_err(Err)
        })?;
        self.commit_if_many(octets.len() as u64)
    }

    fn copy(&mut self, large: Large) -> Result<Summed, BatchError> {
        let origin = large.origin.file.clone();
        let attributes = large.attributes.clone();
        let sum = self.write(&origin, None, |file| {
            let sum = output::copy(large, file)?;
            attributes.as_ref().map_or(Ok(()), |from| from.carry_over(file)).map_err(Err)?;
            Ok(sum)
        })?;
        self.commit_if_many(sum.size)?;
        Ok(sum)
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        self.commit()?;
        Ok(Some(Mark::Files(std::mem::take(&mut self.added))))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.commit()?;
        for kept in &self.tree.kept {
            let (from, to) = (self.input.join(kept), self.place.partial().join(kept));
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)
                    .map_err(|source| BatchError::Write { path: folder.to_owned(), source })?;
            }
            fs::copy(&from, &to).map_err(|source| BatchError::Write { path: to, source })?;
        }
        self.sync()?;
        self.place.put_in_place()
    }
}

/// How many messages are made durable at once,
const BATCH: usize = 256;
/// or how many octets.
const BATCH_OCTETS: u64 = 64 << 20;
