//! Where output goes: never onto an input, never over anything, and under another name until it is complete.

mod sinks;

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, open, renameat_with};

pub(crate) use self::sinks::copy_all;
pub use self::sinks::{Copied, FileSink, StdoutSink};
use crate::{
    attributes::{Rights, State},
    compress::Compression,
    error::BatchError,
    mbox, own, owner,
    seen::Seen,
};

/// A name for output, and the name it has until it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    target: PathBuf,
    partial: PathBuf,
    /// The input that is to be replaced, as it was in the beginning.
    over: Option<State>,
    /// Which rights to what is new are those to what it was made of.
    rights: Rights,
    /// Whether it is another's mail in a folder of root's: what lies beside it is root's, too.
    is_among_roots: bool,
}

impl Place {
    /// Checks that `target` is free, and no part of an input.
    pub fn new(target: &Path, inputs: &[PathBuf]) -> Result<Self, BatchError> {
        let place = Self::of_begun(target, inputs)?;
        place.check_free(target)?;
        Ok(place)
    }

    /// Without a look at what is there: an earlier run may have begun, or even ended, here.
    pub(crate) fn of_begun(target: &Path, inputs: &[PathBuf]) -> Result<Self, BatchError> {
        let refuse = |problem: String| BatchError::Output { path: target.to_owned(), problem };
        let parent = parent(target);
        let real_parent = fs::canonicalize(parent)
            .map_err(|error| refuse(format!("its folder {} cannot be used: {error}", parent.display())))?;
        let Some(name) = target.file_name() else {
            return Err(refuse("give it a name of its own".into()));
        };
        let real = real_parent.join(name);
        for input in inputs {
            let Ok(input) = fs::canonicalize(input) else { continue };
            if real == input {
                return Err(refuse("this is the input; the output must be another file".into()));
            }
            if real.starts_with(&input) {
                return Err(refuse(format!("it would lie within the input {}", input.display())));
            }
        }
        let partial = with_suffix(&real, PARTIAL);
        Ok(Self { target: real, partial, over: None, rights: Rights::AsFound, is_among_roots: false })
    }

    /// The place of an input that is to be replaced by what comes out.
    pub(crate) fn over(input: &Seen) -> Result<Self, BatchError> {
        // A link to it shall still be one.
        let (target, metadata) = (input.target.clone(), &input.metadata);
        if metadata.is_file() && metadata.nlink() > 1 {
            let problem = "a file with several names (hard links), of which only one would be replaced";
            return Err(BatchError::Input { path: target, problem });
        }
        let partial = with_suffix(&target, PARTIAL);
        let over = Some(State::of(metadata));
        let is_among_roots = metadata.uid() != 0 && input.is_among_roots();
        Ok(Self { target, partial, over, rights: Rights::AsFound, is_among_roots })
    }

    /// Does something with what lies beside the output: where another's mail is in a folder of root's, with root's rights.
    pub(crate) fn beside<T>(&self, act: impl FnOnce() -> T) -> T {
        if self.is_among_roots { owner::as_process(act) } else { act() }
    }

    /// For text that was encrypted. In the place of an input it is for whomever that was for.
    pub(crate) fn for_opened(mut self) -> Self {
        if !self.is_over_input() {
            self.rights = Rights::NotForOthers;
        }
        self
    }

    /// Which rights to what is new are those to what it was made of.
    pub(crate) fn rights(&self) -> Rights {
        self.rights
    }

    /// Whether the input is to be replaced.
    pub(crate) fn is_over_input(&self) -> bool {
        self.over.is_some()
    }

    /// Whether that is a folder, in which messages are replaced one by one.
    pub(crate) fn is_over_folder(&self) -> bool {
        self.is_over_input() && self.target.is_dir()
    }

    /// An error if what was opened to be replaced is not what was looked at, or is that no more.
    pub(crate) fn check_opened(&self, opened: State) -> Result<(), BatchError> {
        if self.over.is_some_and(|over| over != opened) {
            return Err(BatchError::Changed { path: self.target.clone() });
        }
        self.check_unchanged()
    }

    /// An error if somebody has changed what is to be replaced.
    pub(crate) fn check_unchanged(&self) -> Result<(), BatchError> {
        let Some(begun) = self.over else { return Ok(()) };
        match fs::symlink_metadata(&self.target) {
            Ok(metadata) if State::of(&metadata) == begun => Ok(()),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(BatchError::Read { origin: self.target.display().to_string(), source })
            }
            _ => Err(BatchError::Changed { path: self.target.clone() }),
        }
    }

    /// How the file is to be compressed.
    fn compression(&self) -> io::Result<Option<Compression>> {
        if self.is_over_input() {
            return Compression::of_file(&own::open_input(&self.target, OFlags::RDONLY)?);
        }
        Ok(Compression::of_name(&self.target))
    }

    /// Checks that the target, as it was given, is free.
    pub(crate) fn check_free(&self, given: &Path) -> Result<(), BatchError> {
        let refuse = |problem: String| BatchError::Output { path: given.to_owned(), problem };
        match fs::symlink_metadata(&self.target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(refuse(error.to_string())),
            Ok(metadata) => {
                occupied(&self.target, parent(&self.target), &metadata).map_err(|error| match error {
                    Occupied::Because(problem) => refuse(problem.into()),
                    Occupied::Unknown(error) => refuse(error.to_string()),
                })
            }
        }
    }

    /// Where the journal of a run that writes here is.
    pub(crate) fn journal(&self) -> PathBuf {
        with_suffix(&self.target, JOURNAL)
    }

    /// The name it has until it is complete.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// The final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Removes what an earlier run that did not end left under the partial name; it is only a copy. A run
    /// that is still at work holds a lock.
    pub(crate) fn clear(&self) -> Result<(), BatchError> {
        let cleared = owner::on_left_over(&self.partial, |partial| {
            let metadata = match fs::symlink_metadata(partial) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                metadata => metadata?,
            };
            if metadata.is_dir() || metadata.is_file() {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                lock(&open(partial, flags, Mode::empty())?.into())?;
            }
            if metadata.is_dir() { fs::remove_dir_all(partial) } else { fs::remove_file(partial) }
        });
        cleared.map_err(|source| BatchError::Write { path: self.partial.clone(), source })
    }

    /// Gives what is complete and durable its name.
    pub(crate) fn put_in_place(&self) -> Result<(), BatchError> {
        let failed = |source| BatchError::Write { path: self.target.clone(), source };
        if self.is_over_input() {
            mbox::while_held(|| {
                self.check_unchanged()?;
                fs::rename(&self.partial, &self.target).map_err(failed)
            })?;
            return sync_folder(parent(&self.target)).map_err(failed);
        }
        let renamed = match renameat_with(CWD, &self.partial, CWD, &self.target, RenameFlags::NOREPLACE) {
            // The target is there and was empty; or the file system does not know the flag.
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS)
                if self.is_free() =>
            {
                fs::rename(&self.partial, &self.target)
            }
            renamed => renamed.map_err(io::Error::from),
        };
        renamed.map_err(failed)?;
        sync_folder(parent(&self.target)).map_err(failed)
    }

    fn is_free(&self) -> bool {
        match fs::symlink_metadata(&self.target) {
            Ok(metadata) => occupied(&self.target, parent(&self.target), &metadata).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

enum Occupied {
    Because(&'static str),
    Unknown(io::Error),
}

/// Whether what is there may be replaced: an empty file, or an empty folder.
fn occupied(path: &Path, parent: &Path, metadata: &Metadata) -> Result<(), Occupied> {
    if metadata.is_file() {
        return if metadata.len() == 0 {
            Ok(())
        } else {
            Err(Occupied::Because("there is such a file already"))
        };
    }
    if !metadata.is_dir() {
        return Err(Occupied::Because("it is neither a file nor a folder"));
    }
    if fs::read_dir(path).map_err(Occupied::Unknown)?.next().is_some() {
        return Err(Occupied::Because("this folder is there already and not empty"));
    }
    let above = fs::metadata(parent).map_err(Occupied::Unknown)?;
    if above.dev() != metadata.dev() {
        return Err(Occupied::Because("it is a mount point; name a folder inside of it"));
    }
    Ok(())
}

/// Keeps another run from taking this file or folder for left over. The lock goes with the process.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another run is writing it")),
        // Some network file systems have no locks, and then nobody can tell.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(suffix);
    path.with_file_name(name)
}

/// What the name of output ends in until it is complete. Nobody else's files are called that.
pub(crate) const PARTIAL: &str = ".hsmime-partial";

/// What the name of a journal ends in.
const JOURNAL: &str = ".hsmime-journal";

/// The folder a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A new file that nobody else may read.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}
