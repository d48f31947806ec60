//! The journal of a run: what is done and safe on the disk, so that another run can go on from there.
//!
//! It lies beside the output under its partial name. Each line is a checksum and a JSON text; a line counts if it is
//! whole, and nothing behind one that is not. What a line tells was made durable before it was written.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    compress::Durable,
    done::{Content, Done, Key, Known, Made},
    error::BatchError,
    escape::escaped,
    log::Totals,
    output::{Place, lock, new_file, parent, sync_folder},
    own::{is_refusal, open_our_own},
    owner,
    request::Request,
    statistics::Statistics,
    stored::Origin,
    words,
};

/// What a run is about. A run goes on only with what it began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    version: String,
    request: Request,
    /// Its real path, as text: whatever octets are in it.
    input: String,
    /// The same as it was given, which paths in it begin with.
    #[serde(skip)]
    given: PathBuf,
    /// Size, time and inode of an input that is one file.
    state: Option<(u64, i64, i64, u64)>,
    /// The folders that are in it now.
    #[serde(skip)]
    folders: Vec<PathBuf>,
}

impl Job {
    /// The job of a request on an input.
    pub(crate) fn new(request: &Request, input: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(input)?;
        let state = metadata
            .is_file()
            .then(|| (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino()));
        let (version, folders) = (VERSION.to_owned(), Vec::new());
        let (request, given) = (request.clone(), input.to_owned());
        Ok(Self { version, request, input: escaped(&fs::canonicalize(input)?), given, state, folders })
    }

    /// The same on an input in which there are these folders, by their paths below its root.
    pub(crate) fn in_folders(self, folders: Vec<PathBuf>) -> Self {
        Self { folders, ..self }
    }

    /// Why this is not the job that was begun, if so.
    fn differs_from(&self, begun: &Self) -> Option<String> {
        if self.version != begun.version {
            Some("it was begun by another version of this program".into())
        } else if let Some(problem) = self.request.differs_from(&begun.request) {
            Some(problem)
        } else if self.input != begun.input {
            Some(format!("it was begun on another input, {}", begun.input))
        } else {
            (self.state != begun.state).then(|| "the input has changed since it was begun".into())
        }
    }
}

/// Of the program, and of what its journals look like.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ", 5");

/// Everything before this is done: written, recorded, durable.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// How many messages.
    pub(crate) messages: u64,
    /// Where in the input the last of them began, if it is one file.
    pub(crate) offset: Option<u64>,
    /// Which files of the input, since the checkpoint before.
    pub(crate) inputs: Vec<String>,
    /// How long the output is, if it is one file.
    pub(crate) output: Option<u64>,
    /// And which one, or which folder: who may rename things beside it must not have another one taken for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inode: Option<u64>,
    /// Which files of the output were added since the checkpoint before, below its root; their octets in base64.
    pub(crate) outputs: Vec<String>,
    /// Which files of it grow, named the same way, and how long they are.
    #[serde(default)]
    pub(crate) lengths: Vec<(String, u64)>,
    /// How long the report is.
    pub(crate) report: u64,
    /// Which of the inputs of the run this is, counted from 1.
    #[serde(default)]
    pub(crate) archive: usize,
    /// What became of them.
    pub(crate) totals: Totals,
    /// What must come before the next message, if there is one: the line end that the last one of an mbox lacks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) missing: String,
    /// What was counted for a summary for people, if one was asked for. It is long, so few checkpoints have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) statistics: Option<Statistics>,
}

impl Checkpoint {
    /// The output, if it is one file.
    pub(crate) fn begun(&self) -> Option<Durable> {
        Some(Durable { length: self.output?, inode: self.inode? })
    }
}

#[derive(Serialize, Deserialize)]
enum Line {
    Job {
        #[serde(flatten)]
        job: Box<Job>,
        /// Where everything was when this input was begun: others may have been done before it.
        #[serde(default)]
        start: Option<Checkpoint>,
    },
    /// The folders of the input when a run began or went on, as `outputs` are named.
    Folders(Vec<String>),
    /// What messages of a Maildir, which is input and output, are about to become.
    Made(Vec<String>),
    Checkpoint(Checkpoint),
    /// The output is durable and only has to get its name. If it is one file, this is its inode.
    Complete(Option<u64>),
}

/// A path of the output for a journal, whatever octets are in it.
pub(crate) fn output_name(path: &Path) -> String {
    data_encoding::BASE64.encode(path.as_os_str().as_bytes())
}

/// The same, read again.
pub(crate) fn decoded(text: &str) -> Option<PathBuf> {
    let octets = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&octets)))
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// What the paths of the input begin with.
    input: PathBuf,
    place: Place,
}

impl Journal {
    /// Begins one, in the place of any that is there. `start` tells what was done and counted before, in other inputs.
    pub(crate) fn begin(place: &Place, job: &Job, start: Checkpoint) -> Result<Self, BatchError> {
        let path = place.journal();
        let made = place.beside(|| {
            match owner::on_left_over(&path, |path| fs::remove_file(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = new_file(&path)?;
            lock(&file)?;
            Ok(file)
        });
        let file = made.map_err(|source| BatchError::Write { path: path.clone(), source })?;
        let mut journal = Self { path, file, input: job.given.clone(), place: place.clone() };
        journal.append(&Line::Job { job: Box::new(job.clone()), start: Some(start) })?;
        journal.has_folders(job)?;
        place.beside(|| sync_folder(parent(&journal.path))).map_err(|source| journal.failed(source))?;
        Ok(journal)
    }

    /// After how many messages of its input a run was cut off that left something to go on with.
    pub(crate) fn cut_off_after(place: &Place) -> Result<Option<u64>, BatchError> {
        let path = place.journal();
        let failed = |source| BatchError::Read { origin: path.display().to_string(), source };
        // What may not be read is not ours either.
        let is_not_ours =
            |error: &io::Error| is_refusal(error) || error.kind() == io::ErrorKind::PermissionDenied;
        let file = match open(place, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Who puts something there must not keep other mail from being worked on.
            Err(error) if is_not_ours(&error) && !place.is_over_folder() => {
                words::say(&format!("hsmime-batch: {}: {error}, and all is begun anew", path.display()));
                return Ok(None);
            }
            file => file.map_err(|error| failed(advised(place, error)))?,
        };
        lock(&file).map_err(failed)?;
        let (mut text, mut line) = (BufReader::new(&file), Vec::new());
        let (mut before, mut messages) = (0, 0);
        while read_line(&mut text, &mut line).map_err(failed)? {
            match parse(&line) {
                Some(Line::Job { start, .. }) => before = start.map_or(0, |start| start.messages),
                Some(Line::Checkpoint(checkpoint)) => messages = checkpoint.messages,
                Some(Line::Folders(_) | Line::Made(_) | Line::Complete(_)) => {}
                None => break,
            }
        }
        let is_there = place.partial().exists() || place.is_over_input();
        Ok(messages.checked_sub(before).filter(|messages| *messages > 0 && is_there))
    }

    /// Opens the one of an earlier run of this job. `None` if there is none that says anything.
    pub(crate) fn resume(place: &Place, job: &Job) -> Result<Option<(Self, Done)>, BatchError> {
        let path = &place.journal();
        let failed = |source| BatchError::Read { origin: path.display().to_string(), source };
        let file = match open(place, OFlags::RDWR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| failed(advised(place, error)))?,
        };
        lock(&file).map_err(failed)?;
        let mut text = BufReader::new(&file);
        let mut line = Vec::new();
        let (mut good, mut begun, mut done, mut inode) = (0, None, Done::of(&job.given), None);
        // One line at a time: of a Maildir there may be many.
        while read_line(&mut text, &mut line).map_err(failed)? {
            let Some(parsed) = parse(&line) else { break };
            good += line.len() as u64;
            match parsed {
                Line::Job { job, start } => {
                    begun = Some(job);
                    done.known = if start.is_some() { Known::Report } else { Known::Nothing };
                    done.last = start.unwrap_or_default();
                }
                Line::Folders(folders) => {
                    done.had_folders(folders.iter().filter_map(|path| decoded(path)).collect());
                }
                Line::Made(made) => done.begin(&made),
                Line::Checkpoint(checkpoint) => done.add(checkpoint),
                Line::Complete(of) => (done.complete, inode) = (true, of),
            }
        }
        let Some(mut begun) = begun else { return Ok(None) };
        if place.is_over_input() && inode.is_some() && inode == job.state.map(|(.., inode)| inode) {
            // The input was replaced, by what the journal says, and only the journal had to go.
            begun.state = job.state;
        }
        if let Some(problem) = job.differs_from(&begun) {
            return Err(BatchError::Resume { journal: path.to_owned(), problem });
        }
        done.otherwise_configured = job.request.is_otherwise_configured(&begun.request);
        file.set_len(good).map_err(failed)?;
        done.has_folders(&job.folders);
        let mut journal = Self { path: path.clone(), file, input: job.given.clone(), place: place.clone() };
        io::Seek::seek(&mut journal.file, io::SeekFrom::End(0)).map_err(failed)?;
        if !done.complete {
            journal.has_folders(job)?;
        }
        Ok(Some((journal, done)))
    }

    /// A file of the input in a checkpoint.
    pub(crate) fn input_name(&self, origin: &Origin, content: &Content<'_>) -> String {
        Key::of(&self.input, origin, content).to_string()
    }

    /// Tells what messages are about to become, so that whoever goes on knows that it was this run which made it.
    pub(crate) fn begin_replacing(&mut self, made: &[Made]) -> Result<(), BatchError> {
        self.append(&Line::Made(made.iter().map(Made::to_string).collect()))
    }

    /// Notes that all this is done and durable.
    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), BatchError> {
        self.append(&Line::Checkpoint(checkpoint))
    }

    /// Notes that the output only has to get its name.
    pub(crate) fn complete(&mut self) -> Result<(), BatchError> {
        let inode = fs::symlink_metadata(self.place.partial())
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|file| file.ino());
        self.append(&Line::Complete(inode))
    }

    /// The output has its name: nothing is left to be known.
    pub(crate) fn remove(self) -> Result<(), BatchError> {
        // The next input's journal shall not lie beside this one after a cut.
        let remove = || fs::remove_file(&self.path).and_then(|()| sync_folder(parent(&self.path)));
        let removed = self.place.beside(remove);
        removed.map_err(|source| self.failed(source))
    }

    /// Notes which folders the input has, unless it is a file.
    fn has_folders(&mut self, job: &Job) -> Result<(), BatchError> {
        let folders: Vec<String> = job.folders.iter().map(|folder| output_name(folder)).collect();
        if folders.is_empty() { Ok(()) } else { self.append(&Line::Folders(folders)) }
    }

    fn append(&mut self, line: &Line) -> Result<(), BatchError> {
        let text = serde_json::to_string(line).map_err(|error| self.failed(error.into()))?;
        let line = format!("{} {text}\n", checksum(text.as_bytes()));
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> BatchError {
        BatchError::Write { path: self.path.clone(), source }
    }
}

/// Opens the one beside an output, if it is ours.
fn open(place: &Place, flags: OFlags) -> io::Result<File> {
    place.beside(|| open_our_own(&place.journal(), flags))
}

/// The same error, with what is to be done.
fn advised(place: &Place, error: io::Error) -> io::Error {
    if !is_refusal(&error) {
        return error;
    }
    io::Error::other(if place.is_over_folder() {
        format!(
            "{error}. If a run of yours left it, go on as whoever ran it: only it tells which messages were replaced, and \
             without it some may be there twice. If not, remove it"
        )
    } else {
        format!("{error}; remove it, or go on as whoever ran what left it")
    })
}

/// Reads the next line; false at the end. What has none for so long no run has written.
fn read_line(mut text: impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = Read::take(&mut text, LONGEST).read_until(b'\n', line)? as u64;
    if read == LONGEST {
        return Err(io::Error::other("one of its lines is too long: no run has left it; remove it"));
    }
    Ok(read > 0)
}

/// Beyond what a checkpoint tells of all messages since the one before, or a Maildir has in folders.
const LONGEST: u64 = 256 << 20;

fn parse(line: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (sum, text) = text.split_once(' ')?;
    if sum != checksum(text.as_bytes()) {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn checksum(octets: &[u8]) -> String {
    let sum = digest(&SHA256, octets);
    HEXLOWER.encode(sum.as_ref().get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::done::Met;

    fn checkpoint(messages: u64) -> Checkpoint {
        Checkpoint { messages, offset: Some(messages * 10), output: Some(messages), ..Checkpoint::default() }
    }

    #[test]
    fn only_whole_lines_count_and_what_is_behind_them_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        let place = Place::new(&folder.path().join("out"), &[]).unwrap();
        let path = place.journal();
        fs::write(&input, "x").unwrap();
        let job = Job::new(&"sign".into(), &input).unwrap();
        let mut journal = Journal::begin(&place, &job, Checkpoint::default()).unwrap();
        for messages in 1..=3 {
            journal.checkpoint(checkpoint(messages)).unwrap();
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &whole).map(|at| at + 1).collect();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let lines = ends.iter().filter(|end| **end <= length).count();
            match Journal::resume(&place, &job).unwrap() {
                None => assert_eq!(lines, 0, "{length}"),
                Some((_, done)) => assert_eq!(done.last.messages + 1, lines as u64, "{length}"),
            }
        }
        // A damaged line ends it, too.
        let mut damaged = whole.clone();
        damaged[ends[1] + 30] ^= 1;
        fs::write(&path, damaged).unwrap();
        let (mut journal, done) = Journal::resume(&place, &job).unwrap().unwrap();
        assert_eq!(done.last.messages, 1);
        journal.checkpoint(checkpoint(7)).unwrap();
        drop(journal);
        assert_eq!(Journal::resume(&place, &job).unwrap().unwrap().1.last.messages, 7);
    }

    #[test]
    fn a_checkpoint_of_a_run_that_had_nothing_to_do_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        let place = Place::new(&folder.path().join("out"), &[]).unwrap();
        fs::write(&input, "x").unwrap();
        let job = Job::new(&"sign".into(), &input).unwrap();
        let mut journal = Journal::begin(&place, &job, Checkpoint::default()).unwrap();
        journal.checkpoint(checkpoint(3)).unwrap();
        journal.checkpoint(Checkpoint { offset: None, ..checkpoint(3) }).unwrap();
        journal.complete().unwrap();
        drop(journal);
        let (_, mut done) = Journal::resume(&place, &job).unwrap().unwrap();
        assert!(done.complete);
        let origin = Origin { file: input.as_path().into(), offset: Some(30) };
        assert_eq!(done.meets(&origin, &Content::Size(0)), Met::Done);
    }

    #[test]
    fn a_run_goes_on_only_with_what_it_began_with() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        let place = Place::new(&folder.path().join("out"), &[]).unwrap();
        fs::write(&input, "x").unwrap();
        let job = Job::new(&"sign".into(), &input).unwrap();
        drop(Journal::begin(&place, &job, Checkpoint::default()).unwrap());
        assert!(Journal::resume(&place, &job).unwrap().is_some());
        let refused = |job: &Job| Journal::resume(&place, job).unwrap_err().to_string();
        assert!(
            refused(&Job::new(&"decrypt".into(), &input).unwrap())
                .contains("it was begun with sign, not decrypt")
        );
        let asked =
            |report, configuration: &[u8]| Request::new("sign".into(), report, configuration).unwrap();
        let reported = Job::new(&asked(Some(Path::new("r.jsonl")), b""), &input).unwrap();
        assert!(refused(&reported).contains("another --report"));
        let configured = Job::new(&asked(None, b"[pool]"), &input).unwrap();
        let (_, done) = Journal::resume(&place, &configured).unwrap().unwrap();
        assert!(done.otherwise_configured);
        fs::write(&input, "xy").unwrap();
        assert!(refused(&Job::new(&"sign".into(), &input).unwrap()).contains("has changed"));
    }
}
