//! What a worker does with one message: read it, run the task, render the result. It never waits: where a private key
//! is asked, or a fault may pass, it comes back with what is left to do.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agent::{Asks, Identity, Then, Turn};
use smime::{
    Fault, Room,
    key::KeyError,
    message::{Signature, Wrapped},
    mime::decode_base64,
    question::{Answer, Question},
};

use crate::{
    attributes::Attributes,
    digest::Summed,
    form::{self, Form, Formed, Kept},
    inspect::Contents,
    instant,
    message_id::message_id,
    outage::Asked,
    render::{Readings, ciphertext, readings, render},
    report::KEPT,
    scratch::Scratch,
    stored::{Frame, Origin, Stored, TooLarge, Untouchable},
    task::{self, Done, Failed, Task, Work, Working},
};

/// A message as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) stored: Stored,
    /// Its place in the run.
    pub(crate) index: u64,
    /// The folder of the input in which it was replaced before, if somebody has put it back since.
    pub(crate) again: Option<PathBuf>,
    /// Where it is worked on, if it is too large for memory.
    pub(crate) scratch: Option<Arc<Scratch>>,
}

/// A message that was worked on.
#[derive(Debug)]
pub struct Finished {
    /// Its place in the run.
    pub index: u64,
    /// The folder of the input in which it was replaced before, if somebody has put it back since.
    pub again: Option<PathBuf>,
    /// Where it was found.
    pub place: Place,
    /// Whether it is no message, but a server's data about a folder.
    pub is_no_message: bool,
    /// Its `Message-ID`.
    pub message_id: Option<String>,
    /// The year of its date.
    pub year: Option<u64>,
    /// What S/MIME was in it.
    pub contents: Contents,
    /// What was done, without the message, or why not.
    pub result: Result<Done, Failed>,
    /// What keys answered, if it asked any.
    pub asked: Asked,
    /// Sum of what was found.
    pub input: Summed,
    /// Sum of `octets`.
    pub output: Summed,
    /// What to write.
    pub octets: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Where a message was found, and what its file had besides octets.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it was found.
    pub origin: Origin,
    /// What its file has besides octets, if it is one of its own.
    pub attributes: Option<Attributes>,
    /// What the archive puts around the message, as it is now.
    pub frame: Frame,
    /// What an archive of another kind has no place for.
    pub kept: Kept,
}

/// What comes of working on a message for a while.
pub(crate) enum Step<'t> {
    /// It is done, but for its sum.
    Rendered(Rendered),
    /// A private key is asked. Nobody needs to wait here for its answer.
    Asks(Box<Paused<'t>>, &'t Identity, Question),
    /// What failed may work after a while.
    Again(Box<Started>, Duration),
}

/// A message that was worked on, of which nothing else is in memory any more.
pub(crate) struct Rendered {
    /// The sum of its octets is that of what was found.
    finished: Box<Finished>,
    is_as_found: bool,
    began: Instant,
}

/// A message that is worked on.
pub(crate) struct Started {
    found: Found,
    form: Option<Form>,
    began: Instant,
    input: Summed,
    readings: Option<Readings>,
    object: Option<Arc<Vec<u8>>>,
    message_id: Option<String>,
    year: Option<u64>,
    contents: Contents,
    /// How often it failed in a way that may pass.
    failures: usize,
    /// What keys answered.
    asked: Asked,
}

/// A message that waits for an answer.
pub(crate) struct Paused<'t> {
    started: Started,
    /// Whose answer.
    of: &'t Identity,
    then: Then<'t, Result<Done, Failed>>,
}

/// Begins to work on a message. Whatever happens, its octets come out again, new or old.
pub(crate) fn begin(task: &dyn Task, found: Found, form: Option<Form>) -> Step<'_> {
    let began = Instant::now();
    let Found { stored, index, scratch, .. } = &found;
    let disk = scratch.clone();
    let _working = disk.as_deref().map(Scratch::enter);
    let sum = || Summed::of(&stored.octets);
    let look = || {
        // Perhaps in another thread.
        let _working = scratch.as_deref().map(Scratch::enter);
        task::contain(|| {
            let usable = scratch.as_ref().map_or(Ok(()), |scratch| scratch.check());
            usable.map_err(|error| {
                Failed::new(Fault::Operator, TooLarge::Disk(error.to_string()).to_string())
            })?;
            look(task, stored, *index)
        })
    };
    let (input, looked) = if stored.octets.len() >= LARGE { rayon::join(sum, look) } else { (sum(), look()) };
    let (looked, turn) = match looked {
        Ok(Looked::At(looked, turn)) => (looked, turn),
        Ok(Looked::Away(done)) => (Box::default(), Some(Ok(Turn::Done(Ok(done))))),
        Err(failed) => (Box::default(), Some(Ok(Turn::Done(Err(failed))))),
    };
    let Read { readings, object, message_id, year, contents } = *looked;
    let (failures, asked) = (0, Asked::default());
    let started =
        Started { found, form, began, input, readings, object, message_id, year, contents, failures, asked };
    match turn {
        Some(turn) => started.go_on(Turn::of(turn)),
        None => started.work(task),
    }
}

/// What is known of a message before the task begins.
#[derive(Default)]
struct Read {
    readings: Option<Readings>,
    object: Option<Arc<Vec<u8>>>,
    message_id: Option<String>,
    year: Option<u64>,
    contents: Contents,
}

enum Looked<'t> {
    /// And what came of the task, if it has begun.
    At(Box<Read>, Option<Result<Working<'t>, Failed>>),
    /// It is not to be touched, and done with that.
    Away(Done),
}

/// Reads a message, and mostly begins the task with what was read on the way.
fn look<'t>(task: &'t dyn Task, stored: &Stored, index: u64) -> Result<Looked<'t>, Failed> {
    if let Some(untouchable) = stored.untouchable {
        return if untouchable.is_failure() {
            Err(Failed::new(Fault::Message, untouchable.to_string()))
        } else {
            Ok(Looked::Away(Done { reason: Some(untouchable.to_string()), ..Done::unchanged(KEPT) }))
        };
    }
    if task.works_on_objects()
        && let Some(read) = look_at_object(stored)
    {
        return Ok(Looked::At(Box::new(read), None));
    }
    let readings = readings(stored);
    let message = &readings.message;
    let entity = message.entity();
    let mut room = Room::of(entity.octets().len());
    let content_type = entity.content_type();
    let wrapped = match &content_type {
        Ok(content_type) => Wrapped::read_typed(&entity, content_type, &mut room),
        Err(_) => Ok(None),
    };
    let look_at = |wrapped: &_, signature| match &content_type {
        Ok(content_type) => Contents::of_read(&entity, content_type, wrapped, signature),
        Err(_) => Contents::of_no_type(&entity),
    };
    // What is large is in nobody's way later, and read once more by whoever needs it.
    let is_kept = matches!(&wrapped, Ok(Some(Wrapped::Clear { object, .. })) if object.len() <= MAX_KEPT);
    let (kept, looked) = if is_kept {
        (wrapped, None)
    } else {
        let looked = look_at(&wrapped, None);
        drop(wrapped);
        (Ok(None), Some(looked))
    };
    let signature = match &kept {
        Ok(Some(Wrapped::Clear { content, object })) => Some(Signature::parse(*content, object, room)),
        _ => None,
    };
    let contents = looked.unwrap_or_else(|| look_at(&kept, signature.as_ref()));
    let turn = task::contain(|| {
        Ok(task.begin(&Work {
            index,
            message,
            origin: &stored.origin,
            contents: &contents,
            other_reading: readings.other.as_ref(),
            object: None,
            signature: signature.as_ref(),
        }))
    });
    drop(signature);
    drop(kept);
    Ok(Looked::At(Box::new(Read::of(readings, contents, None)), Some(turn)))
}

/// Reads a message that is a ciphertext: its header, and the object. `None` for what has to be read as a whole to be told.
fn look_at_object(stored: &Stored) -> Option<Read> {
    let (message, body) = ciphertext(stored)?;
    let object = decode_base64(body).ok()?;
    let contents = Contents::of_object(&object);
    let is_ciphertext = contents.is_encrypted_as_a_whole();
    is_ciphertext.then(|| Read::of(Readings { message, other: None }, contents, Some(Arc::new(object))))
}

impl Read {
    fn of(readings: Readings, contents: Contents, object: Option<Arc<Vec<u8>>>) -> Self {
        Self {
            message_id: message_id(&readings.message),
            year: instant::of_message(&readings.message).map(instant::year),
            contents,
            readings: Some(readings),
            object,
        }
    }
}

/// How long an object may be that is kept for the task.
const MAX_KEPT: usize = 64 * 1024;

impl Rendered {
    /// How many octets it still has in memory.
    pub(crate) fn len(&self) -> usize {
        let Finished { octets, contents, place, result, .. } = &*self.finished;
        let words: usize = match result {
            Ok(Done { signers, keys, reason, .. }) => {
                let names = signers.iter().chain(keys).map(|name| size_of::<String>() + name.capacity());
                names.sum::<usize>() + reason.as_ref().map_or(0, String::capacity)
            }
            Err(failed) => failed.reason.capacity(),
        };
        octets.capacity() + contents.len() + place.kept.frame.capacity() + words
    }

    /// Sums it up.
    pub(crate) fn finish(self) -> Box<Finished> {
        let Self { mut finished, is_as_found, began } = self;
        if !is_as_found {
            finished.output = Summed::of(&finished.octets);
        }
        finished.elapsed = began.elapsed();
        finished
    }
}

impl Started {
    /// Runs the task once more, up to its first question.
    pub(crate) fn work(self, task: &dyn Task) -> Step<'_> {
        let disk = self.found.scratch.clone();
        let _working = disk.as_deref().map(Scratch::enter);
        let turn = task::contain(|| {
            let readings = self.readings.as_ref().ok_or_else(unread)?;
            Ok(task.begin(&Work {
                index: self.found.index,
                message: &readings.message,
                origin: &self.found.stored.origin,
                contents: &self.contents,
                other_reading: readings.other.as_ref(),
                object: self.object.as_ref(),
                signature: None,
            }))
        });
        self.go_on(Turn::of(turn))
    }

    fn go_on(mut self, turn: Working<'_>) -> Step<'_> {
        match turn {
            Turn::Asks(Asks { identity, question, then }) => {
                Step::Asks(Box::new(Paused { started: self, of: identity, then }), identity, question)
            }
            Turn::Done(Err(failed)) if failed.fault == Fault::Transient => {
                let Some(pause) = task::PAUSES.get(self.failures) else { return self.finish(Err(failed)) };
                self.failures += 1;
                Step::Again(Box::new(self), *pause)
            }
            Turn::Done(result) => self.finish(result),
        }
    }

    fn finish<'t>(self, result: Result<Done, Failed>) -> Step<'t> {
        let Self { found, form, began, input, readings, object, message_id, year, contents, asked, .. } =
            self;
        let Found { stored, index, again, .. } = found;
        let rendered = result.and_then(|mut done| {
            let changed = done.message.take();
            let rendered = task::contain(|| {
                let Some(changed) = changed else { return Ok(None) };
                Ok(Some(render(&stored, &readings.as_ref().ok_or_else(unread)?.message, &changed)))
            })?;
            Ok((done, rendered))
        });
        drop((readings, object));
        let (result, rendered) = match rendered {
            Ok((done, rendered)) => (Ok(done), rendered),
            Err(failed) => (Err(failed), None),
        };
        let is_as_found = rendered.is_none() && form.is_none();
        let (octets, frame) =
            rendered.map_or((stored.octets, stored.frame), |rendered| (rendered.octets, rendered.frame));
        let (origin, attributes) = (stored.origin, stored.attributes);
        let is_folder_data = stored.untouchable == Some(Untouchable::FolderData);
        let Formed { octets, frame, kept } = match form {
            // That has a place beside the messages.
            Some(Form::File) if is_folder_data => Formed { octets, frame, kept: Kept::default() },
            Some(form) => form::form(form, &octets, frame, &origin, attributes.as_ref()),
            None => Formed { octets, frame, kept: Kept::default() },
        };
        let place = Place { origin, attributes, frame, kept };
        let finished = Box::new(Finished {
            index,
            again,
            place,
            is_no_message: is_folder_data,
            message_id,
            year,
            contents,
            result,
            asked,
            output: input.clone(),
            input,
            octets,
            elapsed: Duration::ZERO,
        });
        Step::Rendered(Rendered { finished, is_as_found, began })
    }
}

impl<'t> Paused<'t> {
    /// Goes on with the answer, which came then.
    pub(crate) fn resume(self, answer: Result<Answer, KeyError>, at: Instant) -> Step<'t> {
        let Self { mut started, of, then } = self;
        started.asked.came(of, &answer, at);
        let disk = started.found.scratch.clone();
        let _working = disk.as_deref().map(Scratch::enter);
        let turn = task::contain(|| {
            let readings = started.readings.as_ref().ok_or_else(unread)?;
            Ok(then(&readings.message, answer))
        });
        started.go_on(Turn::of(turn))
    }
}

/// From how many octets on it is worth the while of two threads to sum a message up while it is read.
const LARGE: usize = 256 * 1024;

/// What cannot happen: a message is read before anything else.
fn unread() -> Failed {
    Failed::new(Fault::Internal, "the message was not read; this is a defect of the program")
}
