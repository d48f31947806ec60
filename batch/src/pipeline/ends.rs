//! What a run is between: where messages come from, where they go to, and who is told of them.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    compress::Durable,
    digest::Summed,
    done::Made,
    error::BatchError,
    form::Form,
    log::Totals,
    mbox::Survey,
    output::Copied,
    report::Record,
    statistics::Statistics,
    stored::{Large, Piece},
    worker,
};

/// Where messages come from, in order.
pub trait Source {
    /// The next piece; `None` at the end. An error ends the run.
    fn next_piece(&mut self) -> io::Result<Option<Piece>>;
    /// Looks whether there is more to read, when all that it gave is done with. These messages, by their files, were gone
    /// when they were to be replaced.
    fn look_again(&mut self, _lost: &[PathBuf]) -> io::Result<bool> {
        Ok(false)
    }
    /// What to call it in an error.
    fn path(&self) -> &Path;
    /// What was found of it as a whole when all of it was read, if that was not known before.
    fn late_survey(&self) -> Option<&Survey> {
        None
    }
}

/// Where messages go to, in order. Nothing appears under its final name before [`Sink::finish`].
pub trait Sink: Send {
    /// What messages must look like, if the archive is of another kind than the input.
    fn form(&self) -> Option<Form> {
        None
    }
    /// Whether a message that failed is added, as it was.
    fn takes_failed(&self) -> bool {
        true
    }
    /// Why a message stays as it was that would become another, if so.
    fn keeps_back(&self, _place: &worker::Place) -> Option<String> {
        None
    }
    /// Adds a message.
    fn message(&mut self, outgoing: &Outgoing<'_>) -> Result<(), BatchError>;
    /// Adds what is too large for memory, or belongs to no message.
    fn copy(&mut self, large: Large) -> Result<Copied, BatchError>;
    /// Whether it is known of each message that was added whether it will be there.
    fn is_settled(&self) -> bool {
        true
    }
    /// Whether so much was added that this is to be found out.
    fn is_full(&self) -> bool {
        false
    }
    /// What messages will become at the next [`Sink::settle`], each told once: that is in the journal first.
    fn take_coming(&mut self) -> Vec<Made> {
        Vec::new()
    }
    /// Finds out what will be there, and tells which ones will not, because their files were gone.
    fn settle(&mut self) -> Result<HashSet<PathBuf>, BatchError> {
        Ok(HashSet::new())
    }
    /// Whether somebody could go on behind what came so far. If not, there is nothing to note yet.
    fn is_whole(&self) -> bool {
        true
    }
    /// All came that will: what is not whole is made so.
    fn all_came(&mut self) -> Result<(), BatchError> {
        Ok(())
    }
    /// Makes what came so far durable, and tells what there is. `None` where nobody can go on with it as it is.
    fn checkpoint(&mut self) -> Result<Option<Mark>, BatchError> {
        Ok(None)
    }
    /// The last mark is in the journal, and that durable. Not called without one.
    fn noted(&mut self) -> Result<(), BatchError> {
        Ok(())
    }
    /// Messages that were written in the place of others, and then were gone before those went, since somebody asked: there
    /// is what was there.
    fn take_kept(&mut self) -> Vec<KeptBack> {
        Vec::new()
    }
    /// Makes all of it durable and puts it in place.
    fn finish(&mut self) -> Result<(), BatchError>;
}

/// A message that stays as it was, against what was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBack {
    /// Its place in the run.
    pub index: u64,
    /// Its file.
    pub file: PathBuf,
    /// Its folder, below the input's root.
    pub folder: PathBuf,
    /// Its sum, as it was found.
    pub sum: Summed,
}

/// How far an output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A file.
    Length {
        /// How long it is, and which one.
        durable: Durable,
        /// What must come before the next message, if there is one.
        missing: String,
    },
    /// A folder.
    Files {
        /// Its number, where it is one that the run made.
        folder: Option<u64>,
        /// Files, below its root, that were added since the last mark.
        added: Vec<PathBuf>,
        /// Files that grow, and how long they are; those that did not grow since the last mark need not be named.
        lengths: Vec<(PathBuf, u64)>,
    },
}

/// A message on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its place in the run.
    pub index: u64,
    /// Sum of what was found.
    pub input: &'a Summed,
    /// Where it was found.
    pub place: &'a worker::Place,
    /// What to write.
    pub octets: &'a [u8],
    /// Sum of that.
    pub output: &'a Summed,
    /// Whether that differs from what was found.
    pub changed: bool,
}

/// Who is told what became of each message, in order.
pub trait Observer: Send {
    /// One more.
    fn record(&mut self, record: &Record) -> Result<(), BatchError>;
    /// Somebody has stopped the run: so many messages are still under way, and take so long.
    fn stopping(&mut self, messages: u64, time: Option<Duration>);
    /// Text that was encrypted is put in the place of this file, and anybody may read it.
    fn others_may_read(&mut self, file: &Path);
    /// Makes what was told durable.
    fn checkpoint(&mut self) -> Result<Noted, BatchError>;
}

/// What was told so far.
#[derive(Clone, Debug)]
pub struct Noted {
    /// How long the report is.
    pub report: u64,
    /// Which of the inputs it is about now, counted from 1.
    pub archive: usize,
    /// What became of all messages.
    pub totals: Totals,
    /// What is counted for a summary for people, if anything.
    pub statistics: Option<Statistics>,
}
