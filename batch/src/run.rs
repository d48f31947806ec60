//! A whole run: each input opened, put through the task, written to its place, and summed up.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use rayon::ThreadPool;

use crate::{
    archive::{Format, Kind},
    attributes::others_may_read,
    done::{Done, Known},
    error::BatchError,
    journal::{Checkpoint, Job, Journal},
    log::{Log, Totals},
    maildir::{MaildirReplacer, Tree},
    mbox::{self, Lengths},
    open::{folders_of, open, places},
    outage::Outage,
    output::{Place, parent},
    owner::{self, Acting},
    pipeline::{self, Keeping, Noted, Observer, Sink},
    progress::Showing,
    report::Report,
    request::Request,
    seen::Seen,
    task::Task,
};

/// What to run on what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The inputs; `-` stands alone.
    pub inputs: Vec<PathBuf>,
    /// Where to write.
    pub output: Output,
    /// How many threads work.
    pub jobs: usize,
    /// The room between reader and writer, see [`crate::gate`].
    pub room: u64,
    /// How many questions to private keys may be on their way at one time.
    pub questions: usize,
    /// Messages with more octets are worked on by way of the disk, see [`crate::scratch`].
    pub in_memory: usize,
    /// Messages with more octets are copied as they are.
    pub max_message: usize,
    /// Whose the lengths in an mbox are, if somebody told it.
    pub lengths: Option<Lengths>,
    /// How many octets of a compressed output make a frame, see [`crate::compress`].
    pub frame: u64,
    /// Whether to keep a journal, so that a run that is cut off can be gone on with.
    pub journal: Option<Journaling>,
    /// A new file for a summary for people.
    pub html: Option<PathBuf>,
    /// Whether and how to show how far it is.
    pub showing: Option<Showing>,
}

/// How a journal is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journaling {
    /// Whether to go on with what an earlier run began, if there is anything.
    pub resume: bool,
    /// What is asked for.
    pub request: Request,
    /// How often it is noted how far the run is.
    pub every: Duration,
}

/// How often it is noted how far a run is, if nobody says.
pub const NOTE_EVERY: Duration = Duration::from_secs(5);

/// Where to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing is written, because the task only looks.
    None,
    /// Nothing is written, but the report says what would have been.
    Rehearsal,
    /// To the standard output.
    Stdout,
    /// For one input a new archive, or a place in an empty folder; for several a new folder.
    Path(PathBuf),
    /// As with `Path`, but an archive of this format.
    Converted(PathBuf, Format),
    /// Each input is replaced.
    InPlace,
}

impl Output {
    /// The format asked for, if it is to be another than the input's.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Converted(_, format) => Some(*format),
            _ => None,
        }
    }
}

/// What was done before a run had to stop.
#[derive(Debug)]
pub struct Stopped {
    /// Why it stopped.
    pub error: BatchError,
    /// What was written so far; it is not complete.
    pub partial: Option<PathBuf>,
    /// Whether `--resume` goes on with it.
    pub resumable: bool,
    /// What became of the messages up to there.
    pub totals: Box<Totals>,
}

impl From<BatchError> for Stopped {
    fn from(error: BatchError) -> Self {
        Self { error, partial: None, resumable: false, totals: Box::default() }
    }
}

/// Runs a task on all inputs. Each output is in place when this returns without an error; an error leaves
/// the outputs of the inputs before in place, and the one it happened in under its partial name.
///
/// Root works in place with the rights of the mail's owner.
pub fn run(options: &Options, task: &dyn Task, report: Report, stop: &AtomicBool) -> Result<Totals, Stopped> {
    let in_place = options.output == Output::InPlace;
    let seen = Seen::all(&options.inputs, in_place)?;
    let acting = if in_place { Acting::on(&seen)? } else { None };
    let Some(acting) = acting else { return run_on(options, &seen, task, report, stop) };
    let ran = acting.act(|| run_on(options, &seen, task, report, stop));
    let ran = ran.map_err(|source| {
        let path = seen.first().map_or_else(PathBuf::new, |seen| seen.target.clone());
        Stopped::from(BatchError::Owner { path, problem: format!("{source}; run as that user") })
    });
    ran?.map_err(|stopped| Stopped { error: acting.explained(stopped.error, &seen), ..stopped })
}

/// The same as [`run`], with the rights that this thread has.
fn run_on(
    options: &Options,
    seen: &[Seen],
    task: &dyn Task,
    report: Report,
    stop: &AtomicBool,
) -> Result<Totals, Stopped> {
    let kinds: Vec<Kind> = options.inputs.iter().map(|input| Kind::of(input)).collect::<Result<_, _>>()?;
    let mut places = places(options, &kinds, seen)?;
    if task.opens() {
        places = places.into_iter().map(|place| place.map(Place::for_opened)).collect();
    }
    report.check_apart(&places)?;
    if let Some(Journaling { resume: false, .. }) = options.journal {
        for ((input, kind), place) in options.inputs.iter().zip(&kinds).zip(&places) {
            place.as_ref().map_or(Ok(()), |place| check_nothing_left(input, *kind, place))?;
        }
    }
    // They have nothing to do with files, but with tokens and caches.
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs)
        .thread_name(|index| format!("batch-{index}"));
    let pool = owner::as_process(|| threads.build())
        .map_err(|error| BatchError::Threads { jobs: options.jobs, reason: error.to_string() })?;
    let html = match &options.html {
        Some(path) => {
            let file = owner::as_process(|| new_summary(path, &options.inputs, &places, &report))?;
            Some((path, file))
        }
        None => None,
    };
    let weighed = options.inputs.iter().cloned().zip(kinds.iter().copied()).collect();
    let mut log = Log::new(report, options.showing.as_ref(), weighed);
    if html.is_some() {
        log.keep_statistics();
    }
    let mut outage = Outage::default();
    for ((input, kind), place) in options.inputs.iter().zip(kinds).zip(places) {
        let place_of = place.clone();
        log.next_archive(input, kind.written(options.output.format()));
        let mut is_under_way = false;
        one(options, input, kind, place, task, &pool, &mut log, stop, &mut outage, &mut is_under_way)
            .map_err(|error| {
                // The lines written so far tell what happened; the first error is the one to report.
                let _ = log.finish();
                let is_changed = matches!(error, BatchError::Changed { .. }) && kind != Kind::Maildir;
                let has_journal = place_of.as_ref().is_some_and(|place| place.journal().exists());
                let totals = Box::new(log.totals());
                if !has_journal && totals.messages() == 0 {
                    log.abandon_report();
                    if let Some((path, _)) = &html {
                        let _ = owner::as_process(|| fs::remove_file(path));
                    }
                }
                let partial = place_of.map(|place| place.partial().to_owned());
                Stopped {
                    error,
                    partial: partial.filter(|partial| partial.exists()),
                    resumable: is_under_way && has_journal && !is_changed,
                    totals,
                }
            })?;
    }
    log.begin_report()?;
    log.finish()?;
    if let (Some((path, mut file)), Some(page)) = (html, log.page()) {
        let written = file.write_all(page.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| BatchError::Summary { path: path.clone(), source })?;
    }
    Ok(log.totals())
}

#[expect(clippy::too_many_arguments, reason = "one step of `run`, named")]
fn one(
    options: &Options,
    input: &Path,
    kind: Kind,
    place: Option<Place>,
    task: &dyn Task,
    pool: &ThreadPool,
    log: &mut Log,
    stop: &AtomicBool,
    outage: &mut Outage,
    is_under_way: &mut bool,
) -> Result<(), BatchError> {
    let begun = match (&place, &options.journal, kind) {
        // Nobody can give the standard input a second time.
        (Some(_), Some(_), Kind::Stdin) => None,
        (Some(place), Some(journaling), _) => Some(begin(options, journaling, input, kind, place, log)?),
        _ => None,
    };
    if let (Some(Begun { keeping, .. }), Some(place)) = (&begun, &place)
        && is_ended(&keeping.done, kind, place)
    {
        if place.is_over_input() {
            let failed = |source| BatchError::Write { path: place.target().to_owned(), source };
            mbox::remove_left_lock(place.target()).map_err(failed)?;
        }
        return begun.map_or(Ok(()), |begun| begun.keeping.journal.remove());
    }
    let done = begun.as_ref().filter(|begun| begun.goes_on).map(|begun| &begun.keeping.done);
    let opens_in_place = task.opens() && place.as_ref().is_some_and(Place::is_over_input);
    let is_read = || fs::metadata(input).is_ok_and(|metadata| others_may_read(input, metadata.mode()));
    if opens_in_place && kind != Kind::Maildir && is_read() {
        log.others_may_read(input);
    }
    let beside = place.as_ref().map(|place| parent(place.target()).to_owned());
    let opened = open(options, input, kind, place, done, log);
    let (mut source, mut sink) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            match begun {
                // Nothing was done.
                Some(Begun { goes_on: false, keeping }) => drop(keeping.journal.remove()),
                Some(_) => *is_under_way = true,
                None => {}
            }
            return Err(error);
        }
    };
    *is_under_way = begun.is_some();
    let scratch = scratch_folders(beside.as_deref());
    let run = pipeline::Run {
        pool,
        room: options.room,
        questions: options.questions,
        stop,
        max_message: options.max_message as u64,
        scratch: &scratch,
        before: log.totals().messages(),
        writes: options.output != Output::None,
        opens_files: opens_in_place && kind == Kind::Maildir,
    };
    let sink = sink.as_mut().map(|sink| &mut **sink as &mut dyn Sink);
    let keeping = begun.map(|begun| begun.keeping);
    let (done, ended) = pipeline::run(run, &mut *source, task, sink, log, keeping, outage);
    // Also of a run that is stopped: nobody knows whether it will be gone on with.
    let read = if ended.is_ok() { Extent::Whole } else { Extent::UpToHere };
    log.moved(&done.moved(read));
    if let Some(survey) = source.late_survey() {
        log.survey(input, survey, read);
    }
    ended
}

/// Where what is too large for memory may be worked on: beside the output, or where large files are that are not kept. Where root
/// works on the mail of others, these have a say in what is beside it, and get none in root's memory.
fn scratch_folders(beside: Option<&Path>) -> Vec<PathBuf> {
    let told = env::var_os("TMPDIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let beside = beside.filter(|_| !owner::is_acting());
    beside.map(Path::to_owned).into_iter().chain(told).chain([PathBuf::from("/var/tmp")]).collect()
}

/// How much of an input was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// What was read before the run was stopped.
    UpToHere,
}

/// Whether a run was cut off between its last two steps: the output has its name, and the journal is there.
fn is_ended(done: &Done, kind: Kind, place: &Place) -> bool {
    let is_replaced = kind == Kind::Maildir && place.is_over_input();
    done.complete && !is_replaced && !place.partial().exists() && place.target().exists()
}

/// An error if something is there that an earlier run did, and that could be gone on with.
fn check_nothing_left(input: &Path, kind: Kind, place: &Place) -> Result<(), BatchError> {
    let journal = place.journal();
    if let Some(messages) = Journal::cut_off_after(place)? {
        return Err(BatchError::CutOff { journal, messages });
    }
    if place.is_over_input() && kind == Kind::Maildir && journal.exists() {
        let problem = format!(
            "an earlier run may have replaced some messages of {} and did not end; go on with --resume",
            input.display()
        );
        return Err(BatchError::Output { path: journal, problem });
    }
    Ok(())
}

/// A journal, and whether an earlier run's output is gone on with.
struct Begun {
    keeping: Keeping,
    goes_on: bool,
}

fn begin(
    options: &Options,
    journaling: &Journaling,
    input: &Path,
    kind: Kind,
    place: &Place,
    log: &mut Log,
) -> Result<Begun, BatchError> {
    let job = Job::new(&journaling.request, input)
        .map_err(|source| BatchError::Read { origin: input.display().to_string(), source })?
        .in_folders(folders_of(input, kind)?);
    let every = journaling.every;
    if journaling.resume
        && let Some((journal, mut done)) = Journal::resume(place, &job)?
    {
        if place.is_over_input() {
            done.is_in_place(input);
        }
        // Where messages are replaced one by one, some may be before the first note.
        let is_replaced = place.is_over_input() && kind == Kind::Maildir;
        let goes_on = done.known == Known::Output || is_replaced;
        match done.known {
            Known::Nothing => log.begin_anew()?,
            // Without a checkpoint, too: what the report tells of the inputs before stays.
            Known::Report | Known::Output => log.go_on(&done.last)?,
        }
        if is_replaced {
            log.tell_put_back(&mut done)?;
        }
        log.folders_gone(&done.folders_gone(), done.messages_gone());
        if done.otherwise_configured {
            log.say(
                "the configuration has changed since this run was begun; the rest is done by the new one",
            );
        }
        if goes_on || is_ended(&done, kind, place) {
            return Ok(Begun { keeping: Keeping { journal, done, every }, goes_on });
        }
    } else if journaling.resume {
        // Nothing is known of what an earlier run did, if there was one.
        log.begin_anew()?;
    }
    if place.is_over_input() && kind == Kind::Maildir {
        let tree = Tree::of(input)
            .map_err(|(folder, source)| BatchError::Read { origin: folder.display().to_string(), source })?;
        MaildirReplacer::check(input, &tree)?;
    }
    if let Output::Path(output) | Output::Converted(output, _) = &options.output {
        place.check_free(if output.is_dir() { place.target() } else { output })?;
    }
    // What an earlier run left goes first: with a new journal beside it, it would be taken for this run's.
    place.clear()?;
    let Noted { report, archive, totals, statistics } = log.checkpoint()?;
    let messages = totals.messages();
    let start = Checkpoint { messages, report, archive, totals, statistics, ..Checkpoint::default() };
    let journal = Journal::begin(place, &job, start)?;
    Ok(Begun { keeping: Keeping { journal, done: Done::default(), every }, goes_on: false })
}

/// How many threads, if nobody says: as many as can compute. None of them waits for a token.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_JOBS)
}

/// How many questions to private keys may be on their way, for so many sessions: each has its next ones at hand, and
/// none waits so long behind the others that its time is over.
pub fn questions(sessions: usize) -> usize {
    sessions.saturating_mul(4).clamp(16, 1024)
}

/// The most threads that can be asked for.
pub const MAX_JOBS: usize = 1024;

/// The room between reader and writer, if nobody says.
pub const DEFAULT_ROOM: u64 = 64 << 20;

/// The largest message that is worked on in memory, if nobody says.
pub const DEFAULT_IN_MEMORY: usize = 100 << 20;

/// The largest message that is worked on, if nobody says.
pub const DEFAULT_MAX_MESSAGE: usize = 1 << 30;

/// Whether a new file of this name would lie within an input.
fn is_within(path: &Path, input: &Path) -> bool {
    let (Ok(parent), Ok(input)) = (fs::canonicalize(parent(path)), fs::canonicalize(input)) else {
        return false;
    };
    input.is_dir() && parent.starts_with(input)
}

/// Makes the file for a summary, before there is work that would be for nothing. One that is there and empty was left by
/// a run that was cut off.
fn new_summary(
    path: &Path,
    inputs: &[PathBuf],
    places: &[Option<Place>],
    report: &Report,
) -> Result<File, BatchError> {
    let failed = |source| BatchError::Summary { path: path.to_owned(), source };
    let real = fs::canonicalize(parent(path)).map_err(failed)?.join(path.file_name().unwrap_or_default());
    let is_output = places.iter().flatten().any(|place| real.starts_with(place.target()));
    let is_input =
        |input: &PathBuf| is_within(path, input) || fs::canonicalize(input).is_ok_and(|input| input == real);
    if is_output || report.is_at(path) || inputs.iter().any(is_input) {
        return Err(failed(io::Error::other("that is an input, an output or the report, or within one")));
    }
    let is_empty = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
    File::options().write(true).create_new(!is_empty).open(path).map_err(failed)
}

/// Opens a report that is no part of an input; to go on with it, one that is there.
pub fn open_report(path: &Path, inputs: &[PathBuf], resume: bool) -> Result<Report, BatchError> {
    if inputs.iter().any(|input| is_within(path, input)) {
        return Err(BatchError::Report {
            report: path.display().to_string(),
            source: io::Error::other("it would lie within an input"),
        });
    }
    if resume { Report::reopen(path) } else { Report::create(path) }
}
