//! One JSON line for each message.

mod cut;
mod retold;

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde::Serialize;
use smime::Fault;

use self::{cut::Cut, retold::put_back};
use crate::{
    archive::Kind,
    digest::Summed,
    done::Done,
    error::BatchError,
    escape::escaped,
    inspect::Layer,
    manifest::NOTHING_BEFORE,
    output::{Place, parent},
    owner,
    stored::Origin,
};

/// What became of one message.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Its place in the run, counted from 1.
    pub index: u64,
    /// Where it was found.
    #[serde(serialize_with = "origin")]
    pub source: Origin,
    /// The folder below the input's root in which it was replaced before, if somebody has put it back since: the line
    /// that tells of that is one of what was, and this one has taken its place.
    #[serde(serialize_with = "again", skip_serializing_if = "Option::is_none")]
    pub again: Option<PathBuf>,
    /// Whether it is none: what an mbox has before its first message, or a server's data about a folder.
    #[serde(rename = "no_message", skip_serializing_if = "is_false")]
    pub is_no_message: bool,
    /// Its `Message-ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The year in which it was written, as its date says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub year: Option<u64>,
    /// The S/MIME that was found in it, from outside in.
    #[serde(skip_serializing_if = "<[Layer]>::is_empty")]
    pub layers: Vec<Layer>,
    /// What was done, in a word; `failed` if it was copied unchanged because of an error.
    pub action: &'static str,
    /// What verification said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Whose signatures verification found, by certificate.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub signers: Vec<String>,
    /// Whose private key was used, by certificate; of ciphertext inside ciphertext that of the outermost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where several were used all of them, from outside in.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub keys: Vec<String>,
    /// Why, where the action alone does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    /// The message as it was found, with what the archive put around it.
    pub input: Summed,
    /// The same of what was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Summed>,
    /// How long the work on it took, waiting for the token included.
    pub elapsed_ms: u64,
}

impl Record {
    /// Of a message that was found here and is these octets; nothing is known of it, and nothing was done.
    pub(crate) fn new(index: u64, source: Origin, input: Summed) -> Self {
        Self {
            index,
            source,
            again: None,
            is_no_message: false,
            message_id: None,
            year: None,
            layers: Vec::new(),
            action: FAILED,
            verdict: None,
            signers: Vec::new(),
            key: None,
            keys: Vec::new(),
            reason: None,
            error: None,
            input,
            output: None,
            elapsed_ms: 0,
        }
    }
}

/// The action of a message that was copied unchanged because of an error.
pub(crate) const FAILED: &str = "failed";

/// The action of what is copied unchanged because that is right.
pub(crate) const KEPT: &str = "kept";

/// What went wrong with one message.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorRecord {
    /// Whose fault it is.
    #[serde(serialize_with = "fault")]
    pub fault: Fault,
    /// In words.
    pub reason: String,
}

fn origin<S: serde::Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Source<'a> {
        file: std::borrow::Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    }
    Source { file: origin.file.to_string_lossy(), offset: origin.offset }.serialize(serializer)
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
fn again<S: serde::Serializer>(folder: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    folder.as_deref().map(escaped).serialize(serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(is: &bool) -> bool {
    !is
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn fault<S: serde::Serializer>(fault: &Fault, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(fault.as_str())
}

/// What leads to a file that need not be there, without links in between.
fn real(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(parent(path)).ok()?.join(path.file_name()?))
}

/// The last line of a file of this length, without its end.
fn last_line(file: &File, length: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(end) = length.checked_sub(1) else { return Ok(None) };
    let mut room = 4096;
    loop {
        let start = end.saturating_sub(room);
        let mut octets = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut octets, start)?;
        match memchr::memrchr(b'\n', &octets) {
            Some(at) => return Ok(Some(octets.split_off(at + 1))),
            None if start == 0 => return Ok(Some(octets)),
            None => room *= 2,
        }
    }
}

/// Where the lines go.
pub struct Report {
    on_terminal: bool,
    name: String,
    to: Option<BufWriter<Box<dyn Write + Send>>>,
    file: Option<File>,
    /// A file that is not made before there is something to be written: a start that fails shall leave nothing.
    planned: Option<PathBuf>,
    /// The file, if there was none before.
    made: Option<PathBuf>,
    /// The last line, for the room that it takes.
    line: Vec<u8>,
    /// The SHA-256 of the last line: see [`crate::manifest`].
    previous: String,
    /// Which of the inputs the messages are from, counted from 1.
    archive: usize,
    /// How many inputs this run has; 0 where nobody said.
    inputs: usize,
    /// What the paths in it begin with.
    root: PathBuf,
    /// What is written of it.
    kind: Option<Kind>,
}

fn buffered(file: File) -> BufWriter<Box<dyn Write + Send>> {
    BufWriter::with_capacity(LONG, Box::new(file))
}

/// How many octets are written at once, and how much room a line keeps.
const LONG: usize = 64 * 1024;

impl Report {
    /// Into a new file, which is made when the run begins. An existing one is not overwritten: it may be a
    /// record somebody needs, or an input.
    pub fn create(path: &Path) -> Result<Self, BatchError> {
        let name = path.display().to_string();
        let failed = |source| BatchError::Report { report: name.clone(), source };
        match path.metadata() {
            Ok(there) if there.is_dir() || there.is_file() && there.len() > 0 => {
                let words = "it is there already; name another, remove it, or go on with --resume";
                return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, words)));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => fs::metadata(parent(path)).map_err(failed)?,
        };
        Ok(Self { name, planned: Some(path.to_owned()), previous: NOTHING_BEFORE.to_owned(), ..Self::none() })
    }

    /// Makes the file, unless there is one.
    pub(crate) fn begin(&mut self) -> Result<(), BatchError> {
        let Some(path) = self.planned.take() else { return Ok(()) };
        owner::as_process(|| self.make(path))
    }

    fn make(&mut self, path: PathBuf) -> Result<(), BatchError> {
        let failed = |source| BatchError::Report { report: self.name.clone(), source };
        let there = path.metadata();
        let is_device = there.as_ref().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let is_empty = there.is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        let mut options = File::options();
        options.write(true).create_new(!is_device && !is_empty);
        let file = options.open(&path).map_err(failed)?;
        let copy = file.try_clone().map_err(failed)?;
        self.to = Some(buffered(file));
        self.file = (!is_device).then_some(copy);
        self.made = (!is_device && !is_empty).then_some(path);
        Ok(())
    }

    /// Nothing was done: a file that was made for it and is empty goes.
    pub(crate) fn abandon(&mut self) {
        let Some(path) = self.made.take() else { return };
        owner::as_process(|| {
            if self.is_at(&path) && fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
                let _ = fs::remove_file(path);
            }
        });
    }

    /// Opens the report of an earlier run to go on with it; see `cut`. A new file if there is none.
    pub fn reopen(path: &Path) -> Result<Self, BatchError> {
        if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0) {
            return Self::create(path);
        }
        let failed = |source| BatchError::Report { report: path.display().to_string(), source };
        let file = File::options().read(true).write(true).open(path).map_err(failed)?;
        let copy = file.try_clone().map_err(failed)?;
        Ok(Self {
            to: Some(buffered(file)),
            name: path.display().to_string(),
            file: Some(copy),
            previous: NOTHING_BEFORE.to_owned(),
            ..Self::none()
        })
    }

    /// Has the file end here, before anything is added: what comes after is of messages that are done again. An
    /// error if the file is shorter; where root works on another's mail, whose journal that user may have written, also if it
    /// is not one of so many messages up to there, and of few of this input behind. The next messages are from this one of the
    /// inputs.
    pub(crate) fn cut(&mut self, length: u64, messages: u64, archive: usize) -> Result<(), BatchError> {
        self.archive = archive;
        self.begin()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        let cut = Cut { length, messages, archive, input: &self.root };
        let cut = cut.check(file, owner::is_acting()).and_then(|()| {
            file.set_len(length)?;
            if let Some(line) = last_line(file, length)? {
                self.previous = Summed::of(&line).sha256;
            }
            file.seek(SeekFrom::Start(length)).map(|_| ())
        });
        cut.map_err(|source| BatchError::Report { report: self.name.clone(), source })
    }

    /// Tells of the messages of the input that comes next what its lines tell of those that were put back, so far.
    pub(crate) fn tell_put_back(&self, done: &mut Done) -> Result<(), BatchError> {
        let Some(file) = &self.file else { return Ok(()) };
        let told = put_back(file, self.archive, done);
        told.map_err(|source| BatchError::Report { report: self.name.clone(), source })
    }

    /// An error if something is in it already.
    pub(crate) fn check_new(&self) -> Result<(), BatchError> {
        let is_new = self.file.as_ref().map_or(Ok(true), |file| Ok(file.metadata()?.len() == 0));
        let checked = is_new.and_then(|is_new| {
            is_new.then_some(()).ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))
        });
        checked.map_err(|source| BatchError::Report { report: self.name.clone(), source })
    }

    /// Sees that the lines so far are on the disk; gives their length.
    pub(crate) fn sync(&mut self) -> Result<u64, BatchError> {
        self.begin()?;
        self.finish()?;
        let length = self.file.as_mut().map_or(Ok(0), Seek::stream_position);
        length.map_err(|source| BatchError::Report { report: self.name.clone(), source })
    }

    /// To the standard output.
    pub fn stdout() -> Self {
        Self {
            on_terminal: io::stdout().is_terminal(),
            name: "on the standard output".into(),
            to: Some(BufWriter::new(Box::new(io::stdout()))),
            previous: NOTHING_BEFORE.to_owned(),
            ..Self::none()
        }
    }

    /// Nowhere.
    pub fn none() -> Self {
        Self {
            on_terminal: false,
            name: String::new(),
            to: None,
            file: None,
            planned: None,
            made: None,
            line: Vec::new(),
            previous: String::new(),
            archive: 0,
            inputs: 0,
            root: PathBuf::new(),
            kind: None,
        }
    }

    /// So many inputs will come.
    pub(crate) fn expect_inputs(&mut self, inputs: usize) {
        self.inputs = inputs;
    }

    /// Messages of another input come next, and become an output of this kind.
    pub(crate) fn next_archive(&mut self, root: &Path, kind: Kind) {
        self.archive += 1;
        self.kind = Some(kind);
        root.clone_into(&mut self.root);
    }

    /// Which of the inputs the messages are from, counted from 1.
    pub(crate) fn archive(&self) -> usize {
        self.archive
    }

    /// Whether it is this file.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        if let Some(planned) = &self.planned {
            return real(planned).is_some_and(|planned| real(path) == Some(planned));
        }
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        let other = fs::metadata(path).ok();
        ours.zip(other).is_some_and(|(ours, other)| (ours.dev(), ours.ino()) == (other.dev(), other.ino()))
    }

    /// An error if it would be an output, or within one.
    pub(crate) fn check_apart(&self, places: &[Option<Place>]) -> Result<(), BatchError> {
        let Some(real) = self.planned.as_deref().and_then(|path| owner::as_process(|| real(path))) else {
            return Ok(());
        };
        let is_output = |place: &Place| {
            real.starts_with(place.target()) || real.starts_with(place.partial()) || real == place.journal()
        };
        if places.iter().flatten().any(is_output) {
            let source = io::Error::other("that is an output, or within one");
            return Err(BatchError::Report { report: self.name.clone(), source });
        }
        Ok(())
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.to.is_some() || self.planned.is_some()
    }

    /// Whether somebody sees the lines as they come.
    pub(crate) fn is_on_terminal(&self) -> bool {
        self.on_terminal
    }

    /// Where a message that was written was below the input's root, if it was a file of its own; nothing if it was the
    /// input. From the rest of the line nobody could tell it: there it is below what somebody called the input.
    fn below(&self, record: &Record) -> Option<String> {
        let is_file = record.output.is_some() && record.source.offset.is_none();
        is_file.then(|| record.source.file.strip_prefix(&self.root).ok().map(escaped))?
    }

    /// Adds a line.
    pub fn add(&mut self, record: &Record) -> Result<(), BatchError> {
        self.begin()?;
        let below = self.to.as_ref().and_then(|_| self.below(record));
        let Some(to) = &mut self.to else { return Ok(()) };
        let line = &mut self.line;
        line.clear();
        let write = || {
            serde_json::to_writer(&mut *line, record)?;
            // A few more members of the object.
            line.pop();
            if let Some(below) = below {
                line.extend_from_slice(b",\"below\":");
                serde_json::to_writer(&mut *line, &below)?;
            }
            if let Some(kind) = self.kind.filter(|_| record.output.is_some()) {
                write!(line, ",\"kind\":\"{}\"", kind.as_str())?;
            }
            if self.inputs > 0 {
                write!(line, ",\"inputs\":{}", self.inputs)?;
            }
            write!(line, ",\"archive\":{},\"previous\":\"{}\"}}", self.archive, self.previous)?;
            self.previous = Summed::of(line).sha256;
            line.push(b'\n');
            to.write_all(line)
        };
        let written = write();
        self.line.shrink_to(LONG);
        written.map_err(|source| BatchError::Report { report: self.name.clone(), source: explained(source) })
    }

    /// Sees that the lines are on the disk.
    pub fn finish(&mut self) -> Result<(), BatchError> {
        let flushed = self.to.as_mut().map_or(Ok(()), Write::flush);
        let synced = flushed.and_then(|()| self.file.as_ref().map_or(Ok(()), File::sync_all));
        synced.map_err(|source| BatchError::Report { report: self.name.clone(), source: explained(source) })
    }
}

/// Why a report cannot be written, where the reason alone says little.
fn explained(source: io::Error) -> io::Error {
    if source.kind() == io::ErrorKind::BrokenPipe {
        let words = "whoever read it has stopped, and nothing is done that is not in the report; give it a file by --report";
        return io::Error::new(source.kind(), words);
    }
    source
}
