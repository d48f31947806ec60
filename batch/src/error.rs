//! Why a run could not start or had to stop. A message that fails is not among this.

use std::{io, path::PathBuf};

use smime::Fault;

use crate::words;

/// Why a run could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// An input cannot be read.
    #[error("cannot read {origin}")]
    Read {
        /// The file, and where in it.
        origin: String,
        /// Why not.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The report cannot be written.
    #[error("cannot write the report {report}")]
    Report {
        /// Its name.
        report: String,
        /// Why not.
        source: io::Error,
    },
    /// The summary for people cannot be written.
    #[error("cannot write the summary {path}")]
    Summary {
        /// Its name.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The report is written, and has no signature.
    #[error("the report was not signed: {reason}")]
    ReportNotSigned {
        /// Why not.
        reason: String,
    },
    /// An input is nothing that is known here.
    #[error("{} is {problem}", path.display())]
    Input {
        /// The input.
        path: PathBuf,
        /// What it is.
        problem: &'static str,
    },
    /// An input may be of two kinds.
    #[error(
        "{}{} may be a Maildir, with a folder called cur or new in it, or of a tree of .eml files, of which there are some \
         elsewhere: give that folder another name, or, if it is a Maildir, make another one of cur, new and tmp",
        path.display(),
        match others {
            0 => String::new(),
            1 => ", and one more like it,".to_owned(),
            _ => format!(", and {others} more like it,"),
        }
    )]
    Doubtful {
        /// The first folder that may be either.
        path: PathBuf,
        /// How many more there are.
        others: usize,
    },
    /// The output must not be there.
    #[error("output {}: {problem}", path.display())]
    Output {
        /// The output.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Somebody who has no part in the mail has a say in where it is.
    #[error("{}: {problem}", path.display())]
    Owner {
        /// The input, or what leads to it.
        path: PathBuf,
        /// Who, and what to do.
        problem: String,
    },
    /// What was to be replaced is not what was read.
    #[error("{} was changed by another program during the run, and was not replaced", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that shall be encrypted to is none for that.
    #[error("{problem}")]
    Recipient {
        /// What is wrong with it.
        problem: String,
    },
    /// It is not clear which key is meant.
    #[error("{problem}")]
    Key {
        /// Why not.
        problem: String,
    },
    /// What was begun cannot be gone on with.
    #[error("cannot go on with {}: {problem}; remove it to begin anew, without --resume", journal.display())]
    Resume {
        /// The journal of what was begun.
        journal: PathBuf,
        /// Why not.
        problem: String,
    },
    /// What another run has done would be lost.
    #[error(
        "{} is of a run that was cut off after {}: --resume goes on with it; remove it to begin anew",
        journal.display(),
        words::messages(*messages)
    )]
    CutOff {
        /// The journal of that run.
        journal: PathBuf,
        /// How far it was.
        messages: u64,
    },
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(&'static str),
    /// Message after message failed for a reason that lies outside of them.
    #[error("stopped after {messages} messages failed behind which no answer came: {reason}")]
    TokenLost {
        /// How many.
        messages: usize,
        /// What the last one said.
        reason: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The threads could not be started.
    #[error("cannot start {jobs} threads: {reason}")]
    Threads {
        /// How many.
        jobs: usize,
        /// Why not.
        reason: String,
    },
    /// Messages that were read did not reach the output: a defect of this program.
    #[error("{read} messages were read but {written} arrived at the output; this is a defect of the program")]
    Incomplete {
        /// How many were read.
        read: u64,
        /// How many arrived.
        written: u64,
    },
}

impl BatchError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TokenLost { .. } | Self::Interrupted | Self::Changed { .. } => Fault::Transient,
            Self::Incomplete { .. } => Fault::Internal,
            _ => Fault::Operator,
        }
    }
}
