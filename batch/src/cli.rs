//! The command line.

mod work;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use agent::settings::DEFAULT_PATH;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use smime::{
    MailAddress,
    cms::{Keep, Proof},
    profile::Profile,
};

use batch::{agents::At, error::BatchError, instant, keys::KeyText, run::Output};

pub(crate) use self::work::Work;
use self::work::address;

/// Signs, encrypts, decrypts, rekeys and verifies archives of mail with keys on a token
#[derive(Debug, Parser)]
#[command(name = "hsmime-batch", version, after_help = EXIT_STATUS)]
pub(crate) struct Cli {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What is done with each message: the command, and a line for each argument that makes a difference.
    #[arg(skip)]
    pub(crate) deed: Vec<String>,
}

impl Cli {
    /// Reads it.
    pub(crate) fn read<T: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        // These two have nothing to do there.
        let only_looks = |command: clap::Command| command.mut_arg("in_place", |argument| argument.hide(true));
        let program = Self::command().mut_subcommand("scan", only_looks).mut_subcommand("verify", only_looks);
        let matches = program.try_get_matches_from(words)?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))?;
        Ok(Self { deed: deed(&matches), ..cli })
    }
}

/// What is done with each message, in words that differ where that differs: not on what, nor to where, nor how fast.
fn deed(matches: &ArgMatches) -> Vec<String> {
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let mut lines = vec![name.to_owned()];
    let program = Cli::command();
    let arguments = program.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    for argument in arguments {
        let (id, Some(long)) = (argument.get_id().as_str(), argument.get_long()) else { continue };
        if NO_DEED.contains(&long) {
            continue;
        }
        if matches!(argument.get_action(), ArgAction::SetTrue) {
            lines.extend(matches.get_flag(id).then(|| format!("--{long}")));
        } else if let Some(values) = matches.get_raw(id) {
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            lines.push(format!("--{long} {}", values.join(" ")));
        }
    }
    lines
}

/// What a run may be gone on with otherwise than it was begun.
const NO_DEED: [&str; 9] =
    ["output", "jobs", "report", "sign-report", "html", "quiet", "progress", "resume", "memory"];

const EXIT_STATUS: &str = "\
An input is a Maildir, an mbox, a folder with .eml files, a file with one message, or - for one message on the \
standard input. Without --in-place it is only read. The output appears under its name when all of it is on the disk; until then it is \
called OUTPUT.hsmime-partial, and a run that was cut off goes on with --resume. A message that fails is copied \
unchanged and named.

Exit status: 0 all done, 1 some messages failed, the report is not signed, or there is no key like one that was named, 2 could \
not start or had to stop, and then there is no output, 130 interrupted a second time (143 by SIGTERM). For a \
message on the standard input, by sysexits.h: 0 done, 65 the message is at fault, 66 there is none, 73 the output cannot \
be made, 74 reading or writing failed, 75 try again later, 77 a rule forbids it, 78 the configuration is wrong, 64 the \
command line, 70 a defect. Then no message is written to the standard output.";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign the mail of our own senders; what others sent, and what is signed or encrypted, stays as it is
    Sign(Work),
    /// Put a new signature in the place of the old one on mail of our own senders, where the old one passes
    Resign {
        #[command(flatten)]
        time: Time,
        #[command(flatten)]
        work: Work,
    },
    /// Decrypt what is encrypted to one of our keys
    Decrypt {
        /// Take away the signatures inside, too; what they were worth is in the report
        #[arg(long)]
        remove_signatures: bool,
        #[command(flatten)]
        work: Work,
    },
    /// Encrypt what is not encrypted; what is signed is encrypted with its signature
    Encrypt {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        work: Work,
    },
    /// Open what is encrypted to one of our keys, and encrypt the same content anew with today's algorithms
    Reencrypt {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        work: Work,
    },
    /// Give others the key of what is encrypted to one of ours; the encrypted content stays octet by octet
    Rekey {
        #[command(flatten)]
        to: To,
        /// Which of the recipients that are there stay: all; all others but the key that is used; none
        #[arg(long, value_enum, default_value_t = Keeping::All)]
        keep: Keeping,
        /// How sure to be of the key: the content is opened with it, in memory; or the key looks right
        #[arg(long, value_enum, default_value_t = Proving::Content)]
        proof: Proving,
        #[command(flatten)]
        work: Work,
    },
    /// Tell what is in there: layers, algorithms, the keys it is encrypted to, and what would be lost without them
    Scan {
        /// Ask the tokens which of our keys they have, and how fast they are
        #[arg(long)]
        ask_tokens: bool,
        /// Call the messages "lost" in the report that would be if this key were destroyed: serial number or key
        /// identifier, or the first 8 digits or more; can be given several times. One that can also not be looked into as a
        /// whole is "failed", with a reason that begins with "lost"
        #[arg(long, value_name = "HEX")]
        lost: Vec<KeyText>,
        #[command(flatten)]
        work: Work,
    },
    /// Prove that outputs are what the report of their run says, and that the report is whole
    Check {
        /// The report
        #[arg(value_name = "REPORT")]
        report: PathBuf,
        /// The outputs of the run, in the order of its inputs
        #[arg(value_name = "OUTPUT", required = true)]
        outputs: Vec<PathBuf>,
        /// If all is right, sign the report with the key of this address, into REPORT.p7s
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        sign_report: Option<MailAddress>,
    },
    /// Tell what each signature is worth; with --output, copy the archive as it is
    Verify {
        #[command(flatten)]
        time: Time,
        #[command(flatten)]
        work: Work,
    },
}

/// As of when signatures are verified.
#[derive(Clone, Debug, Args)]
pub(crate) struct Time {
    /// As of when certificates must have been valid: now; signing-time, which the signer chose; or a date such as
    /// 2024-05-31 or 2024-05-31T12:00:00Z
    #[arg(long, value_name = "TIME", default_value = "now", value_parser = at)]
    pub(crate) at: At,
}

fn at(text: &str) -> Result<At, String> {
    match text {
        "now" => Ok(At::Now),
        "signing-time" => Ok(At::SigningTime),
        date => instant::parse(date).map(At::Time),
    }
}

/// To whom to encrypt.
#[derive(Clone, Debug, Args)]
pub(crate) struct To {
    /// To the owners of the certificates in this file, PEM or DER; can be given several times
    #[arg(long = "to-certificate", value_name = "FILE")]
    pub(crate) certificates: Vec<PathBuf>,
    /// To the addresses in From, To and Cc of each message, by their certificates in the cache
    #[arg(long = "to-cached")]
    pub(crate) cached: bool,
    /// Which algorithms: standard, authenticated, compatible or edi-energy
    #[arg(long, value_name = "NAME", default_value = "standard", value_parser = profile)]
    pub(crate) profile: Profile,
}

fn profile(name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| {
        let names: Vec<_> = Profile::ALL.iter().map(|profile| profile.name).collect();
        format!("there are the profiles {}", names.join(", "))
    })
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Keeping {
    /// All: recipients are added
    All,
    /// All but the key that is used: it is replaced
    Others,
    /// None: only the new recipients can open it
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Proving {
    /// The content opens with it
    Content,
    /// It has the right length
    Key,
}

impl From<Keeping> for Keep {
    fn from(keeping: Keeping) -> Self {
        match keeping {
            Keeping::All => Self::All,
            Keeping::Others => Self::Others,
            Keeping::None => Self::None,
        }
    }
}

impl From<Proving> for Proof {
    fn from(proving: Proving) -> Self {
        match proving {
            Proving::Content => Self::Content,
            Proving::Key => Self::Key,
        }
    }
}

impl Command {
    /// On what to work, unless something is only checked.
    pub(crate) fn work(&self) -> Option<&Work> {
        match self {
            Self::Check { .. } => None,
            Self::Sign(work)
            | Self::Resign { work, .. }
            | Self::Decrypt { work, .. }
            | Self::Encrypt { work, .. }
            | Self::Reencrypt { work, .. }
            | Self::Rekey { work, .. }
            | Self::Scan { work, .. }
            | Self::Verify { work, .. } => Some(work),
        }
    }

    /// Whether only to say what goes wrong.
    pub(crate) fn is_quiet(&self) -> bool {
        self.work().is_some_and(|work| work.shown.quiet)
    }

    /// Whether it is a filter for one message on the standard input.
    pub(crate) fn is_filter(&self) -> bool {
        self.work().is_some_and(|work| matches!(work.inputs.as_slice(), [input] if input == Path::new("-")))
    }

    /// To whom to encrypt, if that is what is done.
    pub(crate) fn to(&self) -> Option<&To> {
        match self {
            Self::Encrypt { to, .. } | Self::Reencrypt { to, .. } | Self::Rekey { to, .. } => Some(to),
            _ => None,
        }
    }

    /// Whether private keys are used.
    pub(crate) fn uses_keys(&self) -> bool {
        let signs_report = match self {
            Self::Check { sign_report, .. } => sign_report.is_some(),
            other => other.work().is_some_and(|work| work.sign_report.is_some()),
        };
        signs_report
            || !matches!(
                self,
                Self::Verify { .. }
                    | Self::Encrypt { .. }
                    | Self::Scan { ask_tokens: false, .. }
                    | Self::Check { .. }
            )
    }

    /// Where the output goes.
    pub(crate) fn output(&self) -> Result<Output, BatchError> {
        let Some(work) = self.work() else { return Ok(Output::None) };
        let from_stdin = work.inputs.iter().all(|input| input == Path::new("-"));
        let only_looks = matches!(self, Self::Verify { .. } | Self::Scan { .. });
        match &work.output {
            _ if work.dry_run && only_looks => Ok(Output::None),
            _ if work.dry_run => Ok(Output::Rehearsal),
            _ if work.in_place && only_looks => {
                Err(BatchError::Usage("this command changes nothing, so there is nothing to do --in-place"))
            }
            _ if work.in_place => Ok(Output::InPlace),
            Some(output) if output == Path::new("-") => Ok(Output::Stdout),
            Some(output) => Ok(match work.format {
                Some(format) => Output::Converted(output.clone(), format),
                None => Output::Path(output.clone()),
            }),
            None if only_looks => Ok(Output::None),
            None if from_stdin => Ok(Output::Stdout),
            None => Err(BatchError::Usage("say where to write with --output, or --in-place")),
        }
    }
}

#[cfg(test)]
mod tests {
    use batch::archive::Format;

    use super::*;

    fn output(arguments: &str) -> Result<Output, String> {
        let words = ["hsmime-batch"].into_iter().chain(arguments.split(' '));
        let cli = Cli::read(words).map_err(|error| error.to_string())?;
        cli.command.output().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_done_is_not_on_what_nor_to_where_but_all_else() {
        let deed = |words: &str| Cli::read(words.split(' ')).unwrap().deed;
        let first = deed("hsmime-batch rekey a b --in-place --to-certificate new.pem");
        for same in [
            "rekey b --in-place --to-certificate new.pem --resume",
            "rekey c --jobs 2 --in-place --to-certificate new.pem --html page.html --quiet",
            "rekey b --in-place --to-certificate new.pem --progress 5",
        ] {
            assert_eq!(deed(&format!("hsmime-batch {same}")), first);
        }
        for other in [
            "rekey a b --in-place --to-certificate other.pem",
            "reencrypt a b --in-place --to-certificate new.pem",
            "rekey a b --in-place --to-certificate new.pem --since 2024-01-01",
            "rekey a b --in-place --to-certificate new.pem --max-message 5",
            "rekey a b --in-place --to-certificate new.pem --keep none",
        ] {
            assert_ne!(deed(&format!("hsmime-batch {other}")), first, "{other}");
        }
    }

    #[test]
    fn arguments_say_where_the_output_goes() {
        for (arguments, expected) in [
            ("sign in --output out", Ok(Output::Path("out".into()))),
            ("--config x decrypt a b -o out", Ok(Output::Path("out".into()))),
            ("decrypt - --config x", Ok(Output::Stdout)),
            ("sign - --output out", Ok(Output::Path("out".into()))),
            ("verify a -o b --format Maildir", Ok(Output::Converted("b".into(), Format::Maildir))),
            ("verify a -o b --format mbx", Err("one of mbox, mboxrd,")),
            ("verify in", Ok(Output::None)),
            ("verify -", Ok(Output::None)),
            ("verify in --output out", Ok(Output::Path("out".into()))),
            ("sign in --output out --dry-run", Ok(Output::Rehearsal)),
            ("sign in --dry-run --jobs 3", Ok(Output::Rehearsal)),
            ("sign in", Err("--output")),
            ("sign in --in-place", Ok(Output::InPlace)),
            ("verify in --in-place", Err("changes nothing")),
            ("sign in --in-place --format eml", Err("cannot be used with")),
            ("sign in --in-place --output out", Err("cannot be used with")),
            ("sign in --output out --max-message 10M", Err("10485760 is 10 MiB")),
            ("sign in --output out --memory 0", Err("from 1 to 1048576")),
            ("sign in --output out --jobs 0", Err("a number from 1")),
            ("sign", Err("INPUT")),
            ("resign in --output out --at signing-time", Ok(Output::Path("out".into()))),
            ("verify in --at 2024-02-30", Err("is no date")),
            ("verify in --at 2024-02-29 --since 2020-01-01 --key 0A:BC", Ok(Output::None)),
            ("scan in --lost zz", Err("in hexadecimal is needed")),
            ("decrypt in -o out --key 4A95G", Err("in hexadecimal is needed")),
            ("rekey in -o out --to-certificate x --keep others", Ok(Output::Path("out".into()))),
            ("rekey in -o out --keep some", Err("invalid value")),
            ("encrypt in -o out --to-cached --profile none", Err("there are the profiles")),
            ("burn in --output out", Err("unrecognized subcommand")),
        ] {
            match (output(arguments), expected) {
                (Ok(output), Ok(expected)) => assert_eq!(output, expected, "{arguments}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{arguments}: {error}"),
                (output, _) => panic!("{arguments}: {output:?}"),
            }
        }
    }
}
