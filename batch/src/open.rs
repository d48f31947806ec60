//! Both ends of a run: a source for each input, and the sink and the place for its output.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use crate::{
    archive::Kind,
    attributes::Attributes,
    error::BatchError,
    journal::Done,
    log::Log,
    maildir::{MaildirSink, MaildirSource, Tree},
    mbox::MboxSource,
    output::{FileSink, Place, StdoutSink, sync_folder},
    pipeline::{Sink, Source},
    run::{Options, Output},
    single::SingleSource,
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
            let attributes = File::open(input).and_then(|file| Attributes::of(&file)).map_err(failed)?;
            log.expect(attributes.metadata().len());
            let source: Box<dyn Source> = if kind == Kind::Mbox {
                let source = MboxSource::open(input, limit).map_err(failed)?;
                log.survey(input, source.survey());
                Box::new(source)
            } else {
                Box::new(SingleSource::file(input, limit).map_err(failed)?)
            };
            let sink = place.map(|place| match done.and_then(|done| done.last.output) {
                Some(length) => FileSink::resume(place, length, Some(attributes)),
                None => FileSink::create(place, Some(attributes)),
            });
            let sink = sink.transpose()?;
            Ok((source, sink.map(|sink| Box::new(sink) as Box<dyn Sink>)))
        }
        Kind::Maildir => {
            let tree = Tree::of(input).map_err(|(folder, source)| BatchError::Read {
                origin: folder.display().to_string(),
                source,
            })?;
            let source = MaildirSource::new(input, &tree, limit);
            log.left_out(input, &tree.left_out);
            let sink = place.map(|place| match done {
                Some(done) => MaildirSink::resume(place, input, tree, &done.outputs),
                None => MaildirSink::create(place, input, tree),
            });
            let sink = sink.transpose()?;
            Ok((Box::new(source), sink.map(|sink| Box::new(sink) as Box<dyn Sink>)))
        }
    }
}

/// Where the output of each input goes.
pub(crate) fn places(options: &Options, kinds: &[Kind]) -> Result<Vec<Option<Place>>, BatchError> {
    let inputs = &options.inputs;
    if inputs.len() > 1 && kinds.contains(&Kind::Stdin) {
        return Err(BatchError::Usage("the standard input (-) cannot be one of several inputs"));
    }
    let begun = options.journal.as_ref().is_some_and(|journal| journal.resume);
    if begun && inputs.len() > 1 {
        return Err(BatchError::Usage("--resume goes on with one input; give each a run of its own"));
    }
    let place = if begun { Place::of_begun } else { Place::new };
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
                place(output, inputs)?;
                output.join(name)
            }
            _ => output.clone(),
        };
        return Ok(vec![Some(place(&target, inputs)?)]);
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
