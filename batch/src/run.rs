//! A whole run: each input opened, put through the task, written to its place, and summed up.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use rayon::ThreadPool;

use crate::{
    archive::Kind,
    error::BatchError,
    log::{Log, Totals},
    maildir::{MaildirSink, MaildirSource, Tree},
    mbox::MboxSource,
    output::{FileSink, Place, StdoutSink, sync_folder},
    pipeline::{self, Sink, Source},
    report::Report,
    single::SingleSource,
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
    /// Messages with more octets are copied as they are.
    pub max_message: usize,
}

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
}

/// What was done before a run had to stop.
#[derive(Debug)]
pub struct Stopped {
    /// Why it stopped.
    pub error: BatchError,
    /// What was written so far; it is not complete.
    pub partial: Option<PathBuf>,
}

impl From<BatchError> for Stopped {
    fn from(error: BatchError) -> Self {
        Self { error, partial: None }
    }
}

/// Runs a task on all inputs. Each output is in place when this returns without an error; an error leaves
/// the outputs of the inputs before in place, and the one it happened in under its partial name.
pub fn run(options: &Options, task: &dyn Task, report: Report, stop: &AtomicBool) -> Result<Totals, Stopped> {
    let kinds: Vec<Kind> = options.inputs.iter().map(|input| Kind::of(input)).collect::<Result<_, _>>()?;
    let places = places(options, &kinds)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs)
        .thread_name(|index| format!("batch-{index}"))
        .build()
        .map_err(|error| BatchError::Threads { jobs: options.jobs, reason: error.to_string() })?;
    let mut log = Log::new(report, stop);
    for ((input, kind), place) in options.inputs.iter().zip(kinds).zip(places) {
        let partial = place.as_ref().map(|place| place.partial().to_owned());
        one(options, input, kind, place, task, &pool, &mut log, stop).map_err(|error| {
            // The lines written so far tell what happened; the first error is the one to report.
            let _ = log.finish();
            Stopped { error, partial: partial.filter(|partial| partial.exists()) }
        })?;
    }
    log.finish()?;
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
    log: &mut Log<'_>,
    stop: &AtomicBool,
) -> Result<(), BatchError> {
    let (mut source, mut sink) = open(options, input, kind, place, log)?;
    let run = pipeline::Run {
        pool,
        room: options.room,
        stop,
        before: log.totals().messages(),
        writes: options.output != Output::None,
    };
    let sink = sink.as_mut().map(|sink| &mut **sink as &mut dyn Sink);
    pipeline::run(run, &mut *source, task, sink, log)?;
    Ok(())
}

type Opened = (Box<dyn Source>, Option<Box<dyn Sink>>);

fn open(
    options: &Options,
    input: &Path,
    kind: Kind,
    place: Option<Place>,
    log: &mut Log<'_>,
) -> Result<Opened, BatchError> {
    let limit = options.max_message;
    let failed = |source| BatchError::Read { origin: input.display().to_string(), source };
    match kind {
        Kind::Stdin => {
            let source = SingleSource::stream(Box::new(io::stdin()), limit);
            let sink: Option<Box<dyn Sink>> = match place {
                Some(place) => Some(Box::new(FileSink::create(place, None)?)),
                None if options.output == Output::Stdout => Some(Box::new(StdoutSink)),
                None => None,
            };
            Ok((Box::new(source), sink))
        }
        Kind::Message | Kind::Mbox => {
            let attributes = fs::metadata(input).map_err(failed)?;
            log.expect(attributes.len());
            let source: Box<dyn Source> = if kind == Kind::Mbox {
                let source = MboxSource::open(input, limit).map_err(failed)?;
                log.survey(input, source.survey());
                Box::new(source)
            } else {
                Box::new(SingleSource::file(input, limit).map_err(failed)?)
            };
            let sink = place.map(|place| FileSink::create(place, Some(attributes))).transpose()?;
            Ok((source, sink.map(|sink| Box::new(sink) as Box<dyn Sink>)))
        }
        Kind::Maildir => {
            let tree = Tree::of(input).map_err(|(folder, source)| BatchError::Read {
                origin: folder.display().to_string(),
                source,
            })?;
            let source = MaildirSource::new(input, &tree, limit);
            log.left_out(input, &tree.left_out);
            let sink = place.map(|place| MaildirSink::create(place, input, tree)).transpose()?;
            Ok((Box::new(source), sink.map(|sink| Box::new(sink) as Box<dyn Sink>)))
        }
    }
}

/// Where the output of each input goes.
fn places(options: &Options, kinds: &[Kind]) -> Result<Vec<Option<Place>>, BatchError> {
    let inputs = &options.inputs;
    if inputs.len() > 1 && kinds.contains(&Kind::Stdin) {
        return Err(BatchError::Usage("the standard input (-) cannot be one of several inputs"));
    }
    let output = match &options.output {
        Output::None | Output::Rehearsal => return Ok(inputs.iter().map(|_| None).collect()),
        Output::Stdout if matches!(kinds, [Kind::Stdin]) => return Ok(vec![None]),
        Output::Stdout => {
            return Err(BatchError::Usage(
                "only one message from the standard input (-) can go to the standard output",
            ));
        }
        Output::Path(output) => output,
    };
    if let ([input], [kind]) = (inputs.as_slice(), kinds) {
        let refuse = |problem: &str| BatchError::Output { path: output.clone(), problem: problem.into() };
        match kind {
            Kind::Maildir if output.is_file() => return Err(refuse("it is a file; a Maildir is a folder")),
            Kind::Stdin if output.is_dir() => return Err(refuse("it is a folder; name a file in it")),
            _ => {}
        }
        let into_folder = *kind != Kind::Maildir && output.is_dir();
        let target = match input.file_name() {
            Some(name) if into_folder && *kind != Kind::Stdin => {
                // Refused here if the folder is not empty.
                Place::new(output, inputs)?;
                output.join(name)
            }
            _ => output.clone(),
        };
        return Ok(vec![Some(Place::new(&target, inputs)?)]);
    }
    Place::new(output, inputs)?;
    make_folder(output)?;
    let mut places = Vec::with_capacity(inputs.len());
    for input in inputs {
        let real = fs::canonicalize(input)
            .map_err(|source| BatchError::Read { origin: input.display().to_string(), source })?;
        let Some(name) = real.file_name() else {
            return Err(BatchError::Input { path: input.clone(), problem: "without a name" });
        };
        let place = Place::new(&output.join(name), inputs)?;
        if places.iter().flatten().any(|other: &Place| other.target() == place.target()) {
            let problem = "named like another input, so their outputs would have one name";
            return Err(BatchError::Input { path: input.clone(), problem });
        }
        places.push(Some(place));
    }
    Ok(places)
}

fn make_folder(path: &Path) -> Result<(), BatchError> {
    let made = match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    let durable = made.and_then(|()| sync_folder(crate::output::parent(path)));
    durable.map_err(|source| BatchError::Write { path: path.to_owned(), source })
}

/// How many threads, if nobody says: as many as can compute, and one for each session that can wait.
pub fn default_jobs(sessions: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.saturating_add(sessions).min(MAX_JOBS)
}

/// The most threads that can be asked for.
pub const MAX_JOBS: usize = 1024;

/// The room between reader and writer, if nobody says.
pub const DEFAULT_ROOM: u64 = 64 << 20;

/// The largest message that is worked on, if nobody says.
pub const DEFAULT_MAX_MESSAGE: usize = 100 << 20;

/// Whether a new file of this name would lie within an input.
fn is_within(path: &Path, input: &Path) -> bool {
    let parent = crate::output::parent(path);
    let (Ok(parent), Ok(input)) = (fs::canonicalize(parent), fs::canonicalize(input)) else { return false };
    input.is_dir() && parent.starts_with(input)
}

/// Opens a report that is no part of an input.
pub fn open_report(path: &Path, inputs: &[PathBuf]) -> Result<Report, BatchError> {
    if inputs.iter().any(|input| is_within(path, input)) {
        return Err(BatchError::Report {
            report: path.display().to_string(),
            source: io::Error::other("it would lie within an input"),
        });
    }
    Report::create(path)
}
