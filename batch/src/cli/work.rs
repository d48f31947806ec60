//! What all commands have in common that work on archives: on what, to where, how, and on which messages.

use std::{path::PathBuf, time::SystemTime};

use clap::{Args, ValueEnum};
use smime::{Certificate, MailAddress};

use batch::{
    archive::Format,
    error::BatchError,
    instant,
    keys::{KeyText, Wanted},
    mbox::{Lengths, MadeBy},
    progress::LINE_EVERY,
    run::{DEFAULT_IN_MEMORY, DEFAULT_MAX_MESSAGE, DEFAULT_ROOM, MAX_JOBS},
    select::Selection,
};

#[derive(Clone, Debug, Args)]
pub(crate) struct Work {
    /// What to work on
    #[arg(value_name = "INPUT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Where to write: a new file or Maildir; for several inputs a new folder; - is the standard output
    #[arg(long, short, value_name = "OUTPUT")]
    pub(super) output: Option<PathBuf>,
    /// What to write, if not what the input is: mbox (mboxrd), mboxo, mboxcl, mboxcl2, maildir, eml
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Replace what changes in the input: in a Maildir message by message, an mbox by one rename when all is done
    #[arg(long, conflicts_with_all = ["output", "format"])]
    pub(super) in_place: bool,
    /// How many threads compute; none of them waits for the token [default: the processors]
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub(crate) jobs: Option<usize>,
    /// Write one JSON line for each message to this new file [default: standard output, unless mail goes there or it is a
    /// terminal]
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) report: Option<PathBuf>,
    /// Write a summary with plots into this new file, for a browser; it needs nothing else
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    /// When all is done, sign the report with the key of this address, into FILE.jsonl.p7s
    #[arg(long, value_name = "ADDRESS", requires = "report", value_parser = address)]
    pub(crate) sign_report: Option<MailAddress>,
    #[command(flatten)]
    pub(crate) shown: Shown,
    /// Go on where a run with the same arguments was cut off, if there is one; it left OUTPUT.hsmime-journal
    #[arg(long)]
    pub(crate) resume: bool,
    /// Do everything, with the keys, but write no archive
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Work on longer messages by way of the disk: beside the output, or in $TMPDIR or /var/tmp
    #[arg(long, value_name = "OCTETS", default_value_t = DEFAULT_IN_MEMORY, value_parser = octets)]
    pub(crate) in_memory: usize,
    /// Copy longer messages as they are
    #[arg(long, value_name = "OCTETS", default_value_t = DEFAULT_MAX_MESSAGE, value_parser = octets)]
    pub(crate) max_message: usize,
    /// Whose the Content-Length fields of an mbox are, by which text that looks like a From_ line is told from the next message
    /// [default: what it looks like, and what may hide mail of others is copied and named]
    #[arg(long, value_enum, value_name = "WHOSE")]
    pub(crate) lengths: Option<Whose>,
    /// How much memory messages between reading and writing may take; a single message that needs more passes alone
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_ROOM >> 20, value_parser = mebibytes)]
    pub(crate) memory: u64,
    #[command(flatten)]
    selected: Selected,
}

/// Whose the lengths in an mbox are.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Whose {
    /// Its writer's (mboxcl2): a right one is believed
    Writer,
    /// The senders': none is
    Senders,
}

impl From<Whose> for Lengths {
    fn from(whose: Whose) -> Self {
        Self::told(match whose {
            Whose::Writer => MadeBy::Writer,
            Whose::Senders => MadeBy::Senders,
        })
    }
}

/// What is said while a run goes on.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Shown {
    /// Say only what goes wrong: neither how far the run is, nor what was done in the end
    #[arg(long, short, conflicts_with = "progress")]
    pub(crate) quiet: bool,
    /// Where there is no terminal for a bar, say each so many seconds how far the run is
    #[arg(long, value_name = "SECONDS", default_value_t = LINE_EVERY.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) progress: u64,
}

/// Which messages to work on; all that is said must hold, and what is not selected is copied as it is.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Selection")]
struct Selected {
    /// Only what was written on this day or later
    #[arg(long, value_name = "DATE", value_parser = instant::parse)]
    since: Option<SystemTime>,
    /// Only what was written before this day
    #[arg(long, value_name = "DATE", value_parser = instant::parse)]
    before: Option<SystemTime>,
    /// Only what is from, to or copied to this address, or @domain; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    /// Only what lies in a file or folder with this in its path; can be given several times
    #[arg(long, value_name = "TEXT")]
    folder: Vec<String>,
    /// Only what has an algorithm with this in its name; can be given several times
    #[arg(long, value_name = "NAME")]
    algorithm: Vec<String>,
    /// Only what is encrypted to this key: serial number or key identifier, or the first 8 digits or more; can be given
    /// several times
    #[arg(long, value_name = "HEX")]
    key: Vec<KeyText>,
}

impl Work {
    /// What is selected by somebody who has these certificates.
    pub(crate) fn selection(&self, ours: &[Certificate]) -> Result<Selection, BatchError> {
        let Selected { since, before, address, folder, algorithm, key } = self.selected.clone();
        let keys = Wanted::among(&key, ours)?;
        Ok(Selection { since, before, addresses: address, folders: folder, algorithms: algorithm, keys })
    }
}

pub(super) fn address(text: &str) -> Result<MailAddress, String> {
    MailAddress::parse(text).map_err(|error| error.to_string())
}

fn octets(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a number of octets is needed; 10485760 is 10 MiB".to_owned())
}

fn mebibytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(mebibytes) if (1..=1 << 20).contains(&mebibytes) => Ok(mebibytes),
        _ => Err(format!("a number from 1 to {} is needed, of MiB", 1 << 20)),
    }
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs) if (1..=MAX_JOBS).contains(&jobs) => Ok(jobs),
        _ => Err(format!("a number from 1 to {MAX_JOBS} is needed")),
    }
}
