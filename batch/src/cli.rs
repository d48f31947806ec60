//! The command line.

use std::path::{Path, PathBuf};

use agent::settings::DEFAULT_PATH;
use clap::{Args, Parser, Subcommand};

use batch::{
    error::BatchError,
    run::{DEFAULT_MAX_MESSAGE, MAX_JOBS, Output},
};

/// Signs, decrypts and verifies archives of mail with keys on a token
#[derive(Debug, Parser)]
#[command(name = "hsmime-batch", version, after_help = EXIT_STATUS)]
pub(crate) struct Cli {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "\
An input is a Maildir, an mbox, a file with one message, or - for one message on the standard input. It is \
only read. The output appears under its name when all of it is on the disk; until then it is called \
OUTPUT.hsmime-partial. A message that fails is copied unchanged and named.

Exit status: 0 all done, 1 some messages failed, 2 could not start or had to stop, and then there is no output.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign the mail of our own senders; what others sent, and what is signed or encrypted, stays as it is
    Sign(Work),
    /// Decrypt what is encrypted to one of our keys
    Decrypt(Work),
    /// Tell what each signature is worth today; with --output, copy the archive as it is
    Verify(Work),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Work {
    /// What to work on
    #[arg(value_name = "INPUT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Where to write: a new file or Maildir; for several inputs a new folder; - is the standard output
    #[arg(long, short, value_name = "OUTPUT")]
    output: Option<PathBuf>,
    /// Replace the input (not possible yet)
    #[arg(long, conflicts_with = "output")]
    in_place: bool,
    /// How many messages to work on at once [default: processors and sessions of the token together]
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub(crate) jobs: Option<usize>,
    /// Write one JSON line for each message to this new file [default: standard output, unless mail goes there]
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) report: Option<PathBuf>,
    /// Do everything, with the keys, but write no archive
    #[arg(long)]
    dry_run: bool,
    /// Copy longer messages as they are
    #[arg(long, value_name = "OCTETS", default_value_t = DEFAULT_MAX_MESSAGE)]
    pub(crate) max_message: usize,
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs) if (1..=MAX_JOBS).contains(&jobs) => Ok(jobs),
        _ => Err(format!("a number from 1 to {MAX_JOBS} is needed")),
    }
}

impl Command {
    pub(crate) fn work(&self) -> &Work {
        match self {
            Self::Sign(work) | Self::Decrypt(work) | Self::Verify(work) => work,
        }
    }

    /// Where the output goes.
    pub(crate) fn output(&self) -> Result<Output, BatchError> {
        let work = self.work();
        if work.in_place {
            return Err(BatchError::Usage(
                "--in-place is not possible yet, because a run that is cut off could not be resumed; \
                 write to a new place with --output, look at it, and then exchange the two",
            ));
        }
        let from_stdin = work.inputs.iter().all(|input| input == Path::new("-"));
        let only_looks = matches!(self, Self::Verify(_));
        match &work.output {
            _ if work.dry_run && only_looks => Ok(Output::None),
            _ if work.dry_run => Ok(Output::Rehearsal),
            Some(output) if output == Path::new("-") => Ok(Output::Stdout),
            Some(output) => Ok(Output::Path(output.clone())),
            None if only_looks => Ok(Output::None),
            None if from_stdin => Ok(Output::Stdout),
            None => Err(BatchError::Usage("say where to write with --output")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(arguments: &str) -> Result<Output, String> {
        let words = ["hsmime-batch"].into_iter().chain(arguments.split(' '));
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.command.output().map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_say_where_the_output_goes() {
        for (arguments, expected) in [
            ("sign in --output out", Ok(Output::Path("out".into()))),
            ("--config x decrypt a b -o out", Ok(Output::Path("out".into()))),
            ("decrypt - --config x", Ok(Output::Stdout)),
            ("sign - --output out", Ok(Output::Path("out".into()))),
            ("verify in", Ok(Output::None)),
            ("verify -", Ok(Output::None)),
            ("verify in --output out", Ok(Output::Path("out".into()))),
            ("sign in --output out --dry-run", Ok(Output::Rehearsal)),
            ("sign in --dry-run --jobs 3", Ok(Output::Rehearsal)),
            ("sign in", Err("--output")),
            ("sign in --in-place", Err("--in-place is not possible yet")),
            ("sign in --in-place --output out", Err("cannot be used with")),
            ("sign in --output out --jobs 0", Err("a number from 1")),
            ("sign", Err("INPUT")),
            ("resign in --output out", Err("unrecognized subcommand")),
        ] {
            match (output(arguments), expected) {
                (Ok(output), Ok(expected)) => assert_eq!(output, expected, "{arguments}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{arguments}: {error}"),
                (output, _) => panic!("{arguments}: {output:?}"),
            }
        }
    }
}
