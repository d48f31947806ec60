//! Where output goes: never onto an input, never over anything, and under another name until it is complete.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::libc;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    attributes::{Attributes, Rights, State},
    compress::{Compression, Encoder},
    digest::{CopyError, Summed},
    error::BatchError,
    flusher::Flusher,
    mbox, own,
    pipeline::{Mark, Outgoing, Sink},
    restore::cut_file,
    stored::Large,
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
        Ok(Self { target: real, partial, over: None, rights: Rights::AsFound })
    }

    /// The place of an input that is to be replaced by what comes out.
    pub(crate) fn over(input: &Path) -> Result<Self, BatchError> {
        let failed = |source| BatchError::Read { origin: input.display().to_string(), source };
        // A link to it shall still be one.
        let target = fs::canonicalize(input).map_err(failed)?;
        let metadata = fs::metadata(&target).map_err(failed)?;
        if metadata.is_file() && metadata.nlink() > 1 {
            let problem = "a file with several names (hard links), of which only one would be replaced";
            return Err(BatchError::Input { path: target, problem });
        }
        let partial = with_suffix(&target, PARTIAL);
        Ok(Self { target, partial, over: Some(State::of(&metadata)), rights: Rights::AsFound })
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

    /// An error if somebody has changed what is to be replaced, or if that is not what was opened.
    pub(crate) fn check_opened(&self, opened: State) -> Result<(), BatchError> {
        if self.over.is_some_and(|over| over != opened) {
            return Err(BatchError::Changed { path: self.target.clone() });
        }
        self.check_unchanged()
    }

    /// An error if somebody has changed what is to be replaced.
    fn check_unchanged(&self) -> Result<(), BatchError> {
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
            return Compression::of_file(&File::open(&self.target)?);
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
        let failed = |source| BatchError::Write { path: self.partial.clone(), source };
        let metadata = match fs::symlink_metadata(&self.partial) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata.map_err(failed)?,
        };
        if metadata.is_dir() || metadata.is_file() {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let open = File::options().read(true).custom_flags(flags).open(&self.partial);
            lock(&open.map_err(failed)?).map_err(failed)?;
        }
        let removed = if metadata.is_dir() {
            fs::remove_dir_all(&self.partial)
        } else {
            fs::remove_file(&self.partial)
        };
        removed.map_err(failed)
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

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
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

/// One file with all that comes, one after the other: an mbox, or a single message.
#[derive(Debug)]
pub struct FileSink {
    place: Place,
    file: Option<Encoder>,
    attributes: Option<Attributes>,
    flusher: Option<Flusher>,
}

impl FileSink {
    /// Begins the file under its partial name. It will get the attributes given here. If it is compressed, a frame has so
    /// many octets at least.
    pub fn create(place: Place, attributes: Option<Attributes>, frame: u64) -> Result<Self, BatchError> {
        place.clear()?;
        let file = new_file(&place.partial)
            .and_then(|file| {
                lock(&file)?;
                match &attributes {
                    Some(from) if place.is_over_input() => from.give_owner(&file)?,
                    _ => {}
                }
                Ok(file)
            })
            .map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let file = place.compression().and_then(|compression| Encoder::new(file, compression, frame));
        let file = file.map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let flusher = Flusher::of(&place.partial);
        Ok(Self { place, file: Some(file), attributes, flusher })
    }

    /// Goes on with a file that an earlier run began, after so many octets that are known to be good.
    pub(crate) fn resume(
        place: Place,
        length: u64,
        attributes: Option<Attributes>,
        frame: u64,
    ) -> Result<Self, BatchError> {
        let opened = own::open(File::options().write(true), &place.partial).and_then(|mut file| {
            lock(&file)?;
            cut_file(&file, length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok(file)
        });
        let file = opened.map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let file = place.compression().and_then(|compression| Encoder::new(file, compression, frame));
        let file = file.map_err(|source| BatchError::Write { path: place.partial.clone(), source })?;
        let flusher = Flusher::of(&place.partial);
        Ok(Self { place, file: Some(file), attributes, flusher })
    }

    fn failed(&self, source: io::Error) -> BatchError {
        BatchError::Write { path: self.place.partial.clone(), source }
    }
}

impl Sink for FileSink {
    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        let written = self.file.as_mut().map_or(Ok(()), |file| {
            file.write_all(outgoing.octets)?;
            file.message_ends()
        });
        if let Some(flusher) = &mut self.flusher {
            flusher.wrote(outgoing.octets.len() as u64);
        }
        written.map_err(|source| self.failed(source))
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        let copied = match &mut self.file {
            Some(file) => copy_all(large, file).and_then(|copied| {
                file.message_ends().map_err(Err)?;
                Ok(copied)
            }),
            None => Err(Err(io::ErrorKind::NotFound.into())),
        };
        copied.map_err(|error| error.unwrap_or_else(|source| self.failed(source)))
    }

    fn is_whole(&self) -> bool {
        self.file.as_ref().is_none_or(Encoder::is_whole)
    }

    fn all_came(&mut self) -> Result<(), BatchError> {
        let ended = self.file.as_mut().map_or(Ok(()), Encoder::end_frame);
        ended.map_err(|source| self.failed(source))
    }

    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        let durable = self.file.as_mut().map_or(Ok(None), Encoder::durable_length);
        let length = durable.map_err(|source| self.failed(source))?;
        Ok(length.map(|length| Mark::Length { length, missing: String::new() }))
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        self.flusher = None;
        let finished = self.file.take().map_or(Ok(()), |file| {
            let file = file.finish()?;
            if let Some(from) = &self.attributes {
                // Whoever keeps an index of an archive must see that it is another one.
                let (replaces, rights) = (self.place.is_over_input(), self.place.rights());
                if replaces {
                    from.carry_over_but_times(&file, rights)?;
                } else {
                    from.carry_over(&file, rights)?;
                }
            }
            file.sync_all()
        });
        finished.map_err(|source| self.failed(source))?;
        self.place.put_in_place()
    }
}

/// The standard output, for one message. One that failed is not written: whoever gave it has it still, and may not look
/// at how the program ended before it passes on what comes out.
#[derive(Debug)]
pub struct StdoutSink {
    compression: Option<Compression>,
}

impl StdoutSink {
    /// Compressed, if the message was.
    pub fn new(compression: Option<Compression>) -> Self {
        Self { compression }
    }

    fn write(&self, octets: &[u8]) -> io::Result<()> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut to = Encoder::new(file, self.compression, u64::MAX)?;
        to.write_all(octets)?;
        to.finish().map(|_| ())
    }
}

impl Sink for StdoutSink {
    fn takes_failed(&self) -> bool {
        false
    }

    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError> {
        self.write(outgoing.octets)
            .map_err(|source| BatchError::Write { path: "the standard output".into(), source })
    }

    fn copy(&mut self, large: Large) -> Result<Copied, BatchError> {
        // A message that is too large has failed.
        copy_all(large, &mut io::sink()).map_err(|error| {
            error.unwrap_or_else(|source| BatchError::Write { path: "the standard output".into(), source })
        })
    }

    fn finish(&mut self) -> Result<(), BatchError> {
        Ok(())
    }
}

/// What was copied without being kept in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The sum of what was read.
    pub read: Summed,
    /// The sum of what was written, which another kind of archive may have changed.
    pub written: Summed,
}

impl Copied {
    /// Written as it was read.
    pub(crate) fn as_is(sum: Summed) -> Self {
        Self { read: sum.clone(), written: sum }
    }
}

/// Copies; an error of the writing side is for the caller to name.
pub(crate) fn copy_all(
    mut large: Large,
    to: &mut dyn Write,
) -> Result<Copied, Result<BatchError, io::Error>> {
    let copied = Summed::of_copy(&mut large.octets, to).map_err(|error| match error {
        CopyError::Read(source) => Ok(BatchError::Read { origin: large.origin.to_string(), source }),
        CopyError::Write(source) => Err(source),
    });
    copied.map(Copied::as_is)
}
