//! Copies a Maildir: each message into `tmp`, made durable in batches, then renamed into its folder.
//!
//! The tree has its partial name until all of it is complete.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{
    commit::{Batch, Pending},
    files::{beneath, folders, named_as_successors, twins},
    name::{hash, info_number, number, successor, successor_numbered},
    tree::Tree,
};
use crate::{
    beneath::Beneath,
    direct,
    done::Done,
    error::BatchError,
    output::{Copied, Place, copy_all, new_file},
    own,
    pipeline::{Mark, Outgoing, Sink},
    restore::restore,
    stored::Large,
};

/// Writes a new Maildir.
#[derive(Debug)]
pub struct MaildirSink {
    place: Place,
    /// Where the input is, which the paths of its messages begin with.
    input: PathBuf,
    tree: Tree,
    batch: Batch,
    /// Files of the input that have their unique names with others.
    twins: HashSet<u64>,
    /// Names in the input that a successor could get and may not have, in order, and those that this run gave.
    named: Vec<u64>,
    given: HashSet<u64>,
    /// What was added since somebody asked, below the root.
    added: Vec<PathBuf>,
}

impl MaildirSink {
    /// Makes the folders of `tree`, which is that of `input`, under the partial name.
    pub fn create(place: Place, input: &Path, tree: Tree) -> Result<Self, BatchError> {
        place.clear()?;
        make_folders(place.partial(), &tree.folders)?;
        let batch = Batch::new(place.partial(), None)?;
        Self::of(place, input, tree, batch)
    }

    /// Goes on with a Maildir that an earlier run began.
    pub(crate) fn resume(place: Place, input: &Path, tree: Tree, done: &Done) -> Result<Self, BatchError> {
        let batch = Batch::new(place.partial(), done.last.inode)?;
        // There may be folders that came since.
        make_folders(place.partial(), &tree.folders)?;
        let gone = done.folders_gone();
        let folders = tree.folders.iter().map(PathBuf::as_path).chain(gone);
        let parts: Vec<PathBuf> = folders.flat_map(parts).collect();
        restore(place.partial(), batch.root(), parts.iter().map(PathBuf::as_path), done)?;
        Self::of(place, input, tree, batch)
    }

    fn of(place: Place, input: &Path, tree: Tree, batch: Batch) -> Result<Self, BatchError> {
        let (given, folders) = (beneath(input)?, folders(input, &tree));
        let (twins, named) = (twins(&given, &folders)?, named_as_successors(&given, &folders)?);
        let input = input.to_owned();
        Ok(Self { place, input, tree, batch, twins, named, given: HashSet::new(), added: Vec::new() })
    }

    /// What a message of a folder is called when it has become these octets. A message that stays may be called so already: an
    /// earlier run in place may have been cut off, or a backup was put back beside what it had made.
    fn successor(&mut self, folder: &Path, name: &OsStr, octets: &[u8]) -> OsString {
        let is_twin = self.twins.contains(&number(folder, name));
        let is_free = |new: &OsStr, given: &HashSet<u64>| {
            let new = number(folder, new);
            self.named.binary_search(&new).is_err() && !given.contains(&new)
        };
        let plain = successor(name, octets);
        if !is_twin && is_free(&plain, &self.given) {
            return plain;
        }
        let mut info = info_number(name);
        let mut new = successor_numbered(name, info, octets);
        // Of all numbers, most are free.
        while !is_free(&new, &self.given) {
            info = info.wrapping_add(1);
            new = successor_numbered(name, info, octets);
        }
        if info != info_number(name) || !is_twin {
            self.given.insert(number(folder, &new));
        }
        new
    }

    /// Writes a file into `tmp`, to be renamed into the folder where `origin` was.
    fn write<T>(
        &mut self,
        origin: &Path,
        octets: Option<&[u8]>,
        write: impl FnOnce(&mut File) -> Result<T, Result<BatchError, io::Error>>,
        size: impl FnOnce(&T) -> u64,
    ) -> Result<T, BatchError> {
        let unexpected = || BatchError::Input { path: origin.to_owned(), problem: "not in the Maildir" };
        let below = origin.strip_prefix(&self.input).map_err(|_| unexpected())?;
        let name = below.file_name().ok_or_else(unexpected)?;
        let part = below.parent().and_then(Path::file_name).ok_or_else(unexpected)?;
        let folder = below.parent().and_then(Path::parent).ok_or_else(unexpected)?;
        let folder = self.place.partial().join(folder);
        let of = origin.parent().and_then(Path::parent).unwrap_or(&self.input).to_owned();
        let name = octets.map_or_else(|| name.to_owned(), |octets| self.successor(&of, name, octets));
        let part = if part == OsStr::new("new") { "new" } else { "cur" };
        // A file in `new` and another in `cur` may have the same name.
        let in_tmp = hash(below.as_os_str().as_encoded_bytes());
        let from = folder.join("tmp").join(format!("{in_tmp:016x}"));
        let to = folder.join(part).join(&name);
        let failed = |source| BatchError::Write { path: from.clone(), source };
        let mut file = new_file(&from).map_err(failed)?;
        let written = write(&mut file).map_err(|error| error.unwrap_or_else(failed))?;
        self.batch.keep(&file).map_err(failed)?;
        if let Ok(below) = to.strip_prefix(self.place.partial()) {
            self.added.push(below.to_owned());
        }
        if self.batch.add(Pending { from, to }, size(&written)) {
            self.batch.commit()?;
        }
        Ok(written)
    }
}

/// Makes Maildirs below a root, where there are none.
pub(super) fn make_folders(root: &Path, folders: &[PathBuf]) -> Result<(), BatchError> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700).recursive(true);
    let parts = folders.iter().flat_map(|folder| parts(folder));
    for path in std::iter::once(root.to_owned()).chain(parts.map(|part| root.join(part))) {
        builder.create(&path).map_err(|source| BatchError::Write { path, source })?;
    }
    Ok(())
}

/// What a Maildir is made of.
pub(super) fn parts(folder: &Path) -> [PathBuf; 3] {
    ["cur", "new", "tmp"].map(|part| folder.join(part))
}

/// Copies a file that is no message, in place of what an earlier run has left of it.
fn copy_kept(given: &Beneath, from: &Path, made: &Beneath, to: &Path) -> Result<(), BatchError> {
    let unread = |source| BatchError::Read { origin: from.display().to_string(), source };
    let mut read = given.open(from, OFlags::RDONLY | OFlags::NONBLOCK).map_err(unread)?;
    let rights = read.metadata().map_err(unread)?.permissions();
    let rights = Permissions::from_mode(rights.mode() & 0o777);
    let mut write = || {
        if let Some(folder) = to.parent() {
            made.make_folders(folder, 0o700)?;
        }
        match made.remove(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = made.new_file(to)?;
        io::copy(&mut read, &mut file)?;
        file.set_permissions(rights.clone())?;
        // Few are that.
        file.sync_all()
    };
    write().map_err(|source| BatchError::Write { path: to.to_owned(), source })
}

impl Sink for MaildirSink {
    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        let (octets, rights) = (outgoing.octets, self.place.rights());
        let write = |file: &mut File| {
            direct::write_all(file, octets).map_err(Err)?;
            let attributes = outgoing.place.attributes.as_ref();
            attributes.map_or(Ok(()), |from| from.carry_over(file, rights)).map_err(Err)
        };
        let changed = outgoing.changed.then_some(octets);
        self.write(&outgoing.place.origin.file, changed, write, |()| octets.len() as u64)
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        let origin = large.origin.file.clone();
        let (attributes, rights) = (large.attributes.clone(), self.place.rights());
        let write = |file: &mut File| {
            let copied = copy_all(large, file)?;
            attributes.as_ref().map_or(Ok(()), |from| from.carry_over(file, rights)).map_err(Err)?;
            Ok(copied)
        };
        self.write(&origin, None, write, |copied| copied.written.size)
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        self.batch.commit()?;
        Ok(Some(Mark::Files {
            folder: own::inode(self.batch.root()),
            added: std::mem::take(&mut self.added),
            lengths: Vec::new(),
        }))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.batch.commit()?;
        let (given, partial) = (beneath(&self.input)?, self.place.partial());
        let failed = |source| BatchError::Write { path: partial.to_owned(), source };
        // By the folder that was made: its name may lead elsewhere by now, where somebody else may rename.
        let made = Beneath::of_open(partial, self.batch.root()).map_err(failed)?;
        for kept in &self.tree.kept {
            let (from, to) = (self.input.join(kept), partial.join(kept));
            copy_kept(&given, &from, &made, &to)?;
        }
        own::check_still(self.batch.root(), partial).map_err(failed)?;
        self.batch.sync()?;
        self.place.put_in_place()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_is_kept_goes_into_the_folder_that_was_made_wherever_its_name_leads() {
        let folder = tempfile::tempdir().unwrap();
        let [input, partial, trap] = ["in", "partial", "trap"].map(|name| folder.path().join(name));
        let victim = folder.path().join("victim");
        for (path, text) in [(&victim, "secret"), (&input.join("subscriptions"), "theirs")] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::set_permissions(input.join("subscriptions"), Permissions::from_mode(0o4644)).unwrap();
        fs::create_dir_all(&trap).unwrap();
        symlink(&victim, trap.join("subscriptions")).unwrap();
        fs::create_dir(&partial).unwrap();
        let held = File::open(&partial).unwrap();
        own::check_still(&held, &partial).unwrap();
        fs::rename(&partial, folder.path().join("old")).unwrap();
        fs::rename(&trap, &partial).unwrap();
        let given = Beneath::of(&input).unwrap();
        let made = Beneath::of_open(&partial, &held).unwrap();
        for _ in ["first", "again"] {
            let to = partial.join("subscriptions");
            copy_kept(&given, &input.join("subscriptions"), &made, &to).unwrap();
        }
        let kept = folder.path().join("old/subscriptions");
        assert_eq!(fs::read(&kept).unwrap(), b"theirs");
        assert_eq!(fs::metadata(kept).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read(&victim).unwrap(), b"secret");
        own::check_still(&held, &partial).unwrap_err();
    }
}
