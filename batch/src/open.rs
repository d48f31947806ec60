//! Both ends of a run: a source for each input, and the sink and the place for its output.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::OFlags;

use crate::{
    archive::{Format, Kind},
    attributes::{Attributes, State},
    compress::{Compression, decoder},
    done::Done,
    error::BatchError,
    large::PREAMBLE,
    log::Log,
    maildir::{MaildirDelivery, MaildirReplacer, MaildirSink, MaildirSource, Tree},
    mbox::{MboxSink, MboxSource, Variant},
    output::{FileSink, Place, StdoutSink, sync_folder},
    own,
    pipeline::{Sink, Source},
    run::{Extent, Options, Output},
    seen::Seen,
    single::SingleSource,
    tree::{Listing, Naming, TreeSink, TreeSource},
};

/// A source, and a sink if something is written.
type Opened = (Box<dyn Source>, Option<Box<dyn Sink>>);

/// Opens an input, and begins its output.
pub(crate) fn open(
    options: &Options,
    input: &Path,
    kind: Kind,
    place: Option<Place>,
    done: Option<&Done>,
    log: &mut Log,
) -> Result<Opened, BatchError> {
    let (limit, told) = (options.in_memory.min(options.max_message), options.lengths);
    let failed = |source| BatchError::Read { origin: input.display().to_string(), source };
    let named =
        |(folder, source): (PathBuf, _)| BatchError::Read { origin: folder.display().to_string(), source };
    match kind {
        Kind::Stdin => {
            let (source, compression) = stdin(limit)?;
            let sink = match place {
                Some(place) => Some(of_file(place, input, None, options, None)?),
                None if options.output == Output::Stdout => {
                    Some(Box::new(StdoutSink::new(compression)) as Box<dyn Sink>)
                }
                None => None,
            };
            Ok((Box::new(source), sink))
        }
        Kind::Message | Kind::Mbox => {
            let replaces = place.as_ref().filter(|place| place.is_over_input());
            // Opened once: what is told of it and what is read are the same file's.
            let file = match replaces {
                // Of a link to it, what it leads to is locked.
                Some(place) if kind == Kind::Mbox => own::open_input(place.target(), OFlags::RDWR),
                Some(place) => own::open_input(place.target(), OFlags::RDONLY),
                None => own::open_to_read(input),
            };
            let file = file.map_err(failed)?;
            let attributes = Attributes::of(&file).map_err(failed)?;
            let source: Box<dyn Source> = if kind == Kind::Mbox {
                let source = match replaces {
                    Some(place) => MboxSource::of_replaced(file, place.target(), limit, told),
                    None if options.output == Output::None => {
                        MboxSource::of_looked_at(file, input, limit, told)
                    }
                    None => MboxSource::of(file, input, limit, told),
                };
                let source = source.map_err(failed)?;
                if let Some(place) = replaces {
                    // Waiting for its lock, also: who wrote it may have ended since.
                    place.check_opened(source.state())?;
                }
                if !source.is_late() {
                    log.survey(input, source.survey(), Extent::Whole);
                }
                if let [_] = options.inputs.as_slice() {
                    log.expect(source.length());
                }
                Box::new(source)
            } else {
                let source = SingleSource::of(file, input, limit).map_err(failed)?;
                replaces.map_or(Ok(()), |place| place.check_opened(State::of(attributes.metadata())))?;
                Box::new(source)
            };
            Ok((
                source,
                place.map(|place| of_file(place, input, Some(attributes), options, done)).transpose()?,
            ))
        }
        Kind::Maildir => {
            let tree = Tree::of(input).map_err(named)?;
            let source = MaildirSource::new(input, &tree, limit).map_err(failed)?;
            if place.as_ref().is_some_and(Place::is_over_input) {
                log.not_replaced(input, &tree.doubtful);
                let sink = match done {
                    Some(done) => MaildirReplacer::resume(input, &tree, done)?,
                    None => MaildirReplacer::create(input, &tree)?,
                };
                return Ok((Box::new(source.to_replace()), Some(Box::new(sink))));
            }
            let (begins, lost) = preambles(&tree, options.output.format());
            log.left_out(input, &tree.left_out, &[&tree.doubtful[..], &lost].concat());
            let source = if begins { source.begin_with(PREAMBLE) } else { source };
            let sink = place.map(|place| of_maildir(place, input, tree, options, done)).transpose()?;
            Ok((Box::new(source), sink))
        }
        Kind::Tree => {
            let listing = Listing::of(input).map_err(named)?;
            let source = TreeSource::new(input, &listing, limit).map_err(failed)?;
            log.left_out(input, &listing.left_out, &[]);
            let sink = place.map(|place| of_tree(place, input, &listing, options, done)).transpose()?;
            Ok((Box::new(source), sink))
        }
    }
}

/// Whether an output begins with what an mbox had before its first message, of a Maildir that was one; and such files that get into
/// none. Where the root has no messages it becomes no mbox.
fn preambles(tree: &Tree, format: Option<Format>) -> (bool, Vec<PathBuf>) {
    let of_root = |kept: &Path| kept == Path::new(PREAMBLE) && tree.folders.contains(&PathBuf::new());
    let all = || tree.kept.iter().filter(|kept| kept.ends_with(PREAMBLE));
    match format {
        None | Some(Format::Maildir) => (false, Vec::new()),
        Some(Format::Eml) => (false, all().cloned().collect()),
        Some(Format::Mbox(_)) => {
            (all().any(|kept| of_root(kept)), all().filter(|kept| !of_root(kept)).cloned().collect())
        }
    }
}

/// The message on the standard input, and how it was compressed.
fn stdin(limit: usize) -> Result<(SingleSource, Option<Compression>), BatchError> {
    let failed = |source| BatchError::Read { origin: "-".into(), source };
    let mut head = Vec::new();
    io::stdin().take(6).read_to_end(&mut head).map_err(failed)?;
    if head.is_empty() {
        return Err(BatchError::Input { path: "-".into(), problem: "empty: there is no message" });
    }
    let compression = Compression::of(&head);
    let input = io::Cursor::new(head).chain(io::stdin());
    let source = match compression {
        Some(compression) => {
            let input = decoder(input, compression).map_err(failed)?;
            SingleSource::stream(Box::new(input), limit)
        }
        None => SingleSource::stream(Box::new(input), limit),
    };
    Ok((source, compression))
}

/// The output for a file, or for the standard input.
fn of_file(
    place: Place,
    input: &Path,
    attributes: Option<Attributes>,
    options: &Options,
    done: Option<&Done>,
) -> Result<Box<dyn Sink>, BatchError> {
    let (format, frame) = (options.output.format(), options.frame);
    let modified = attributes.as_ref().and_then(Attributes::modified);
    Ok(match format {
        None => match done.and_then(|done| done.last.begun()) {
            Some(begun) => Box::new(FileSink::resume(place, begun, attributes, frame)?),
            None => Box::new(FileSink::create(place, attributes, frame)?),
        },
        Some(Format::Mbox(variant)) => Box::new(one_mbox(place, variant, frame, done)?),
        Some(Format::Maildir) => Box::new(delivery(place, modified, done)?),
        Some(Format::Eml) => Box::new(files(place, input, Naming::ByNumber, &[], done)?),
    })
}

/// One mbox of another kind of archive, or another variant.
fn one_mbox(place: Place, variant: Variant, frame: u64, done: Option<&Done>) -> Result<MboxSink, BatchError> {
    match done.and_then(|done| Some((done.last.begun()?, &done.last.missing))) {
        Some((begun, missing)) => MboxSink::resume_file(place, variant, begun, missing, frame),
        None => MboxSink::file(place, variant, frame),
    }
}

/// A Maildir of another kind of archive.
fn delivery(
    place: Place,
    modified: Option<SystemTime>,
    done: Option<&Done>,
) -> Result<MaildirDelivery, BatchError> {
    match done {
        Some(done) => MaildirDelivery::resume(place, modified, done),
        None => MaildirDelivery::create(place, modified),
    }
}

/// A tree of `.eml` files.
fn files(
    place: Place,
    input: &Path,
    naming: Naming,
    folders: &[PathBuf],
    done: Option<&Done>,
) -> Result<TreeSink, BatchError> {
    match done {
        Some(done) => TreeSink::resume(place, input, naming, folders, done),
        None => TreeSink::create(place, input, naming, folders),
    }
}

/// The output for a Maildir.
fn of_maildir(
    place: Place,
    input: &Path,
    tree: Tree,
    options: &Options,
    done: Option<&Done>,
) -> Result<Box<dyn Sink>, BatchError> {
    let (format, frame) = (options.output.format(), options.frame);
    Ok(match format {
        None | Some(Format::Maildir) => match done {
            Some(done) => Box::new(MaildirSink::resume(place, input, tree, done)?),
            None => Box::new(MaildirSink::create(place, input, tree)?),
        },
        Some(Format::Eml) => Box::new(files(place, input, Naming::AsInMaildir, &tree.folders, done)?),
        Some(Format::Mbox(variant)) => {
            // Whatever folders came or went since, what was begun as a file is one.
            let is_file = match done {
                Some(done) if done.last.output.is_some() => true,
                Some(done) if !done.lengths.is_empty() => false,
                Some(_) => place.partial().is_file(),
                None => tree.folders.len() == 1,
            };
            let sink = match tree.folders.as_slice() {
                _ if is_file => one_mbox(place, variant, frame, done)?,
                folders => match done {
                    Some(done) => MboxSink::resume_folders(place, variant, input, folders, done)?,
                    None => MboxSink::folders(place, variant, input, folders)?,
                },
            };
            Box::new(sink)
        }
    })
}

/// The output for a tree of `.eml` files.
fn of_tree(
    place: Place,
    input: &Path,
    listing: &Listing,
    options: &Options,
    done: Option<&Done>,
) -> Result<Box<dyn Sink>, BatchError> {
    let (format, frame) = (options.output.format(), options.frame);
    Ok(match format {
        None | Some(Format::Eml) => Box::new(files(place, input, Naming::AsTheyAre, &listing.folders, done)?),
        Some(Format::Mbox(variant)) => Box::new(one_mbox(place, variant, frame, done)?),
        Some(Format::Maildir) => {
            let modified = fs::metadata(input).and_then(|metadata| metadata.modified()).ok();
            Box::new(delivery(place, modified, done)?)
        }
    })
}

/// Whether the output for this input is a folder.
fn makes_folder(input: &Path, kind: Kind, format: Option<Format>) -> bool {
    match (format, kind) {
        (Some(Format::Maildir | Format::Eml), _) | (None, Kind::Maildir | Kind::Tree) => true,
        (Some(Format::Mbox(_)), Kind::Maildir) => Tree::of(input).is_ok_and(|tree| tree.folders.len() != 1),
        _ => false,
    }
}

/// The folders in an input, by their paths below its root; none in one that is a file.
pub(crate) fn folders_of(input: &Path, kind: Kind) -> Result<Vec<PathBuf>, BatchError> {
    let folders = match kind {
        Kind::Maildir => Tree::of(input).map(|tree| tree.folders),
        // The root has messages as well.
        Kind::Tree => Listing::of(input).map(|listing| [vec![PathBuf::new()], listing.folders].concat()),
        Kind::Stdin | Kind::Mbox | Kind::Message => return Ok(Vec::new()),
    };
    folders.map_err(|(folder, source)| BatchError::Read { origin: folder.display().to_string(), source })
}

/// The largest message that [`source_of`] gives at once; others come as streams.
pub(crate) const READ_AT_ONCE: usize = 8 << 20;

/// A source of what is known to be of a kind, for those who only read it.
pub(crate) fn source_of(input: &Path, kind: Kind) -> Result<Box<dyn Source>, BatchError> {
    let failed = |source| BatchError::Read { origin: input.display().to_string(), source };
    Ok(match kind {
        Kind::Stdin => Box::new(stdin(READ_AT_ONCE)?.0),
        Kind::Message => Box::new(SingleSource::file(input, READ_AT_ONCE).map_err(failed)?),
        Kind::Mbox => Box::new(MboxSource::open(input, READ_AT_ONCE, None).map_err(failed)?),
        Kind::Maildir => {
            let tree = Tree::of(input).map_err(|(folder, source)| BatchError::Read {
                origin: folder.display().to_string(),
                source,
            })?;
            Box::new(MaildirSource::new(input, &tree, READ_AT_ONCE).map_err(failed)?)
        }
        Kind::Tree => {
            let listing = Listing::of(input).map_err(|(folder, source)| BatchError::Read {
                origin: folder.display().to_string(),
                source,
            })?;
            Box::new(TreeSource::new(input, &listing, READ_AT_ONCE).map_err(failed)?)
        }
    })
}

/// Where the output of each input goes.
pub(crate) fn places(
    options: &Options,
    kinds: &[Kind],
    seen: &[Seen],
) -> Result<Vec<Option<Place>>, BatchError> {
    let inputs = &options.inputs;
    if inputs.len() > 1 && kinds.contains(&Kind::Stdin) {
        return Err(BatchError::Usage("the standard input (-) cannot be one of several inputs"));
    }
    let begun = options.journal.as_ref().is_some_and(|journal| journal.resume);
    if begun && inputs.len() > 1 {
        return Err(BatchError::Usage(
            "--resume goes on with one input: name the one beside whose output a .hsmime-journal lies, and then give \
             those that come after it a run without --resume",
        ));
    }
    if options.output == Output::InPlace {
        if kinds.contains(&Kind::Stdin) {
            return place_over(Path::new("-"), Kind::Stdin, None).map(|place| vec![Some(place)]);
        }
        let each = inputs.iter().zip(kinds).zip(seen);
        return each.map(|((input, kind), seen)| place_over(input, *kind, Some(seen)).map(Some)).collect();
    }
    let place = if begun { Place::of_begun } else { Place::new };
    let is_begun = |output: &Path| begun && place(output, inputs).is_ok_and(|place| place.journal().exists());
    let output = match &options.output {
        Output::None | Output::Rehearsal => return Ok(inputs.iter().map(|_| None).collect()),
        Output::Stdout if matches!(kinds, [Kind::Stdin]) => return Ok(vec![None]),
        Output::Stdout => {
            return Err(BatchError::Usage(
                "only one message from the standard input (-) can go to the standard output",
            ));
        }
        Output::Path(output) | Output::Converted(output, _) => output,
        Output::InPlace => return Ok(Vec::new()),
    };
    if let ([input], [kind]) = (inputs.as_slice(), kinds) {
        let refuse = |problem: &str| BatchError::Output { path: output.clone(), problem: problem.into() };
        let is_folder = makes_folder(input, *kind, options.output.format());
        if is_folder && output.is_file() {
            return Err(refuse("it is a file; a Maildir is a folder, as is a tree of files"));
        }
        if !is_folder && *kind == Kind::Stdin && output.is_dir() {
            return Err(refuse("it is a folder; name a file in it"));
        }
        let into_folder = !is_folder && output.is_dir() && !is_begun(output);
        let target = match input.file_name() {
            Some(name) if into_folder && *kind != Kind::Stdin => {
                // Refused here if the folder is not empty.
                place(output, inputs)?;
                output.join(name)
            }
            _ => output.clone(),
        };
        return Ok(vec![Some(place(&target, inputs)?)]);
    }
    Place::new(output, inputs)?;
    let mut names: Vec<OsString> = Vec::with_capacity(inputs.len());
    for input in inputs {
        let real = fs::canonicalize(input)
            .map_err(|source| BatchError::Read { origin: input.display().to_string(), source })?;
        let Some(name) = real.file_name() else {
            return Err(BatchError::Input { path: input.clone(), problem: "without a name" });
        };
        if names.iter().any(|other| other == name) {
            let problem = "named like another input, so their outputs would have one name";
            return Err(BatchError::Input { path: input.clone(), problem });
        }
        names.push(name.to_owned());
    }
    make_folder(output)?;
    names.iter().map(|name| Place::new(&output.join(name), inputs).map(Some)).collect()
}

/// The place of an input that is to be replaced.
fn place_over(input: &Path, kind: Kind, seen: Option<&Seen>) -> Result<Place, BatchError> {
    let problem = match (kind, seen) {
        (Kind::Maildir | Kind::Mbox | Kind::Message, Some(seen)) => return Place::over(seen),
        (Kind::Stdin, _) | (_, None) => "the standard input, which cannot be replaced",
        (Kind::Tree, _) => {
            "a tree of files; --in-place is for a Maildir, an mbox, or a file with one message"
        }
    };
    Err(BatchError::Input { path: input.to_owned(), problem })
}

fn make_folder(path: &Path) -> Result<(), BatchError> {
    let made = match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    let durable = made.and_then(|()| sync_folder(crate::output::parent(path)));
    durable.map_err(|source| BatchError::Write { path: path.to_owned(), source })
}
