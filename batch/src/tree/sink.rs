//! Writes a new tree of `.eml` files: as in the input, or named by number or by what a Maildir calls them.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs::{DirBuilder, File},
    io,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use crate::{
    direct,
    done::Done,
    error::BatchError,
    form::{Form, Kept},
    large::{Incoming, PREAMBLE, attach, beside, beside_octets},
    maildir::base,
    names::with_ending,
    output::{Copied, Place, copy_all, lock, new_file, parent, sync_folder},
    own,
    pipeline::{Mark, Outgoing, Sink},
    restore::{durable_length, restore},
    stored::{Frame, Large},
};

/// Writes a new tree of `.eml` files.
#[derive(Debug)]
pub struct TreeSink {
    place: Place,
    input: PathBuf,
    naming: Naming,
    root: File,
    /// Whether each file and folder is made durable by itself.
    keeps_files: bool,
    count: u64,
    /// How many files there are for which there was the same name, where there is more than one.
    twins: HashMap<PathBuf, u32>,
    /// What was added since somebody asked, below the root.
    added: Vec<PathBuf>,
}

/// How files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As in the input, octet by octet: it is such a tree itself.
    AsTheyAre,
    /// By number.
    ByNumber,
    /// By folder and unique name, without the flags.
    AsInMaildir,
}

impl TreeSink {
    /// Begins a tree with these folders under its partial name.
    pub fn create(
        place: Place,
        input: &Path,
        naming: Naming,
        folders: &[PathBuf],
    ) -> Result<Self, BatchError> {
        place.clear()?;
        Self::open(place, input, naming, folders, None)
    }

    /// Goes on with a tree that an earlier run began.
    pub(crate) fn resume(
        place: Place,
        input: &Path,
        naming: Naming,
        folders: &[PathBuf],
        done: &Done,
    ) -> Result<Self, BatchError> {
        let mut sink = Self::open(place, input, naming, folders, done.last.inode)?;
        let root = std::iter::once(Path::new(""));
        let below = folders.iter().map(PathBuf::as_path).filter(|folder| !folder.as_os_str().is_empty());
        restore(sink.place.partial(), &sink.root, root.chain(below).chain(done.folders_gone()), done)?;
        // The next number is that of an uninterrupted run.
        sink.count = done.outputs.len() as u64;
        Ok(sink)
    }

    fn open(
        place: Place,
        input: &Path,
        naming: Naming,
        folders: &[PathBuf],
        inode: Option<u64>,
    ) -> Result<Self, BatchError> {
        let failed = |path: &Path, source| BatchError::Write { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder.create(place.partial()).map_err(|source| failed(place.partial(), source))?;
        let root = own::open_made_folder(place.partial(), inode)
            .map_err(|source| failed(place.partial(), source))?;
        lock(&root).map_err(|source| failed(place.partial(), source))?;
        for folder in folders {
            let path = place.partial().join(folder);
            builder.create(&path).map_err(|source| failed(&path, source))?;
        }
        Ok(Self {
            place,
            input: input.to_owned(),
            naming,
            keeps_files: own::keeps_files(&root),
            root,
            count: 0,
            twins: HashMap::new(),
            added: Vec::new(),
        })
    }

    /// Where a message goes, below the root; and its unique name, if others may have that, too.
    fn path<'a>(&mut self, origin: &'a Path) -> Result<(PathBuf, Option<&'a OsStr>), BatchError> {
        self.count += 1;
        let unexpected = || BatchError::Input { path: origin.to_owned(), problem: "not in the input" };
        let below = || origin.strip_prefix(&self.input).map_err(|_| unexpected());
        Ok(match self.naming {
            Naming::ByNumber => (numbered(self.count), None),
            Naming::AsTheyAre => (below()?.to_owned(), None),
            Naming::AsInMaildir => {
                let below = below()?;
                let folder = below.parent().and_then(Path::parent).ok_or_else(unexpected)?;
                let unique = base(below.file_name().ok_or_else(unexpected)?);
                (folder.join(file_of(unique, None)), Some(unique))
            }
        })
    }

    fn write<T>(
        &mut self,
        origin: &Path,
        write: impl FnOnce(&mut File) -> Result<T, Result<BatchError, io::Error>>,
    ) -> Result<T, BatchError> {
        let (named, unique) = self.path(origin)?;
        let (below, mut file) = loop {
            let below = match (unique, self.twins.get(&named)) {
                (Some(unique), Some(number)) => named.with_file_name(file_of(unique, Some(*number))),
                _ => named.clone(),
            };
            let path = self.place.partial().join(&below);
            match new_file(&path) {
                // Two files of a Maildir that are told from each other by their flags alone.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && unique.is_some() => {
                    *self.twins.entry(named.clone()).or_insert(1) += 1;
                }
                made => break (below, made.map_err(|source| BatchError::Write { path, source })?),
            }
        };
        let path = self.place.partial().join(&below);
        let failed = |source| BatchError::Write { path: path.clone(), source };
        let written = write(&mut file).map_err(|error| error.unwrap_or_else(failed))?;
        if self.keeps_files {
            file.sync_all().map_err(failed)?;
        }
        self.added.push(below);
        Ok(written)
    }

    fn sync(&self) -> Result<(), BatchError> {
        let folders = self.added.iter().filter(|_| self.keeps_files).map(|below| parent(below));
        for folder in folders.collect::<BTreeSet<_>>() {
            let folder = self.place.partial().join(folder);
            sync_folder(&folder).map_err(|source| BatchError::Write { path: folder, source })?;
        }
        rustix::fs::syncfs(&self.root).map_err(|error| BatchError::Write {
            path: self.place.partial().to_owned(),
            source: error.into(),
        })
    }
}

/// What the file is called for a message of a Maildir with this unique name; or the one of this number, where others have it.
pub(crate) fn file_of(unique: &OsStr, number: Option<u32>) -> OsString {
    with_ending(unique, &number.map_or(ENDING.to_owned(), |number| format!("{TWIN}{number}{ENDING}")))
}

/// Which one a file is of those for one unique name, if its name may say that.
pub(crate) fn twin_of(name: &OsStr) -> Option<u32> {
    let name = name.as_bytes().strip_suffix(ENDING.as_bytes())?;
    let at = memchr::memrchr(TWIN as u8, name)?;
    std::str::from_utf8(name.get(at + 1..)?).ok()?.parse().ok()
}

/// What comes before that number,
const TWIN: char = '~';
/// and after it.
const ENDING: &str = ".eml";

/// What the message of this number is called, below the root.
pub(crate) fn numbered(number: u64) -> PathBuf {
    format!("{number:08}.eml").into()
}

impl Sink for TreeSink {
    fn form(&self) -> Option<Form> {
        (self.naming != Naming::AsTheyAre).then_some(Form::File)
    }

    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        let place = outgoing.place;
        let (kept, rights) = (&place.kept, self.place.rights());
        if place.frame != Frame::File {
            return beside_octets(self.place.partial(), &self.root, outgoing.octets);
        }
        self.write(&place.origin.file, |file| {
            direct::write_all(file, outgoing.octets).map_err(Err)?;
            let attributes = place.attributes.as_ref();
            attributes.map_or(Ok(()), |from| from.carry_over(file, rights)).map_err(Err)?;
            if *kept == Kept::default() { Ok(()) } else { attach(file, kept).map_err(Err) }
        })
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        let origin = large.origin.file.clone();
        let (attributes, rights) = (large.attributes.clone(), self.place.rights());
        match large.message {
            None => beside(self.place.partial(), &self.root, large),
            Some((Frame::File, _)) => self.write(&origin, |file| {
                let copied = copy_all(large, file)?;
                attributes.as_ref().map_or(Ok(()), |from| from.carry_over(file, rights)).map_err(Err)?;
                Ok(copied)
            }),
            Some((frame, len)) => {
                let incoming = Incoming::open(large, frame, len)?;
                let kept = incoming.kept();
                self.write(&origin, |file| {
                    let copied = incoming.write(None, None, file)?;
                    attach(file, &kept).map_err(Err)?;
                    Ok(copied)
                })
            }
        }
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        self.sync()?;
        let lengths = durable_length(self.place.partial(), &self.root, PREAMBLE)?.into_iter().collect();
        Ok(Some(Mark::Files {
            folder: own::inode(&self.root),
            added: std::mem::take(&mut self.added),
            lengths,
        }))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.sync()?;
        self.place.put_in_place()
    }
}
