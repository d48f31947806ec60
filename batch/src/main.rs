//! `hsmime-batch`: reads the command line and the configuration, and runs.
//!
//! Exit status: 0 when all is done, 1 when some messages failed, the report is not signed or a key that was named
//! is none, 2 when it could not start or had to stop; for a message
//! on the standard input by `sysexits.h`.

mod cli;
mod sealing;
mod summarise;
mod sysexits;

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::{Agent, Settings, chooser, open_cache, output::is_written, settings};
use anyhow::{Context, Result, bail};
use batch::{
    agents::{Decrypt, Encrypt, Reencrypt, Rekey, Resign, Sign, Signatures, Verify},
    compress,
    digest::Summed,
    log::Totals,
    manifest, panics,
    progress::{Busy, Showing, Tokens},
    recipients::Recipients,
    report::Report,
    request::Request,
    run::{self, Journaling, NOTE_EVERY, Options, Output},
    scan::Scan,
    scratch::Spilling,
    select::Selected,
    stop,
    task::{Identity, Task},
    words::{self, Words, say, tell},
};
use certcache::CachedDistrust;
use hsmpool::{Lane, Pool, TokenMetrics, TokenState};
use smime::{Certificate, MailAddress};
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    cli::{Cli, Command},
    summarise::summarise,
};

/// A message is read by one thread, worked on by another and written by a third: with the C library's allocator they wait
/// for each other's memory. What is too large for that is in files.
#[global_allocator]
static ALLOCATOR: Spilling<Jemalloc> = Spilling(Jemalloc);

fn main() -> ExitCode {
    let code = work();
    words::finish();
    code
}

fn work() -> ExitCode {
    let cli = match Cli::read(env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let is_written = is_written("hsmime-batch", error.print());
            // What cannot be read does not say whether it was meant for a filter; a lone `-` does.
            let is_filter = env::args_os().any(|word| word == "-");
            return ExitCode::from(match (error.use_stderr(), is_written) {
                (false, true) => 0,
                _ if !is_filter => 2,
                (true, _) => sysexits::USAGE,
                (false, false) => sysexits::IOERR,
            });
        }
    };
    panics::say_place_only();
    // Where that cannot be had, such a limit ends it as before.
    let _ = stop::survive_file_limits();
    if let Command::Check { report, outputs, sign_report } = &cli.command {
        return check(report, outputs, || match sign_report {
            Some(address) => sign_checked(&cli, address, report),
            None => Ok(()),
        });
    }
    let mut said = Said::default();
    let done = start(&cli, &mut said);
    let Said { problems, advice, .. } = said;
    match &done {
        // Of one message that is well there is nothing to be said.
        Ok(totals) if cli.command.is_filter() && totals.failed() == 0 => {}
        Ok(_) if cli.command.is_quiet() => {}
        Ok(totals) => tell(&format!("\n{totals}")),
        Err(error) => say(&format!(
            "hsmime-batch: {error:#}{}",
            advice.map_or(String::new(), |advice| format!("; {advice}"))
        )),
    }
    if cli.command.is_filter() {
        return ExitCode::from(sysexits::of(&done));
    }
    for problem in &problems {
        say(&format!("hsmime-batch: {problem}"));
    }
    ExitCode::from(done.map_or(2, |totals| u8::from(totals.failed() > 0 || !problems.is_empty())))
}

/// Holds outputs against a report, and if all is right, does something with it.
fn check(report: &Path, outputs: &[PathBuf], then: impl FnOnce() -> Result<()>) -> ExitCode {
    match manifest::check(report, outputs) {
        Ok(checked) => {
            for problem in &checked.problems {
                say(problem);
            }
            let signed = match checked.signers.as_slice() {
                [] => "nobody signed it".to_owned(),
                signers => format!("it is signed by {}", signers.join(" and by ")),
            };
            if checked.untold > 0 {
                say(&format!(
                    "an earlier version has written the report, and of {} messages it does not say where they were \
                     below the input's root: these were held against it by their octets only, not by place and name",
                    checked.untold
                ));
            }
            say(&format!(
                "{} messages are as the report says, {} problems; {signed}",
                checked.good, checked.count
            ));
            if checked.count > 0 {
                return ExitCode::from(1);
            }
            then().map_or_else(
                |error| {
                    say(&format!("hsmime-batch: the report is not signed: {error:#}"));
                    ExitCode::from(2)
                },
                |()| ExitCode::SUCCESS,
            )
        }
        Err(error) => {
            say(&format!("hsmime-batch: {:#}", anyhow::Error::from(error)));
            ExitCode::from(2)
        }
    }
}

/// What is to be said of a run besides what became of the messages.
#[derive(Default)]
struct Said {
    /// What makes it doubtful that all is as it was meant.
    problems: Vec<String>,
    /// What to do after it had to stop.
    advice: Option<String>,
    /// How many messages failed.
    failed: u64,
}

/// Runs.
fn start(cli: &Cli, said: &mut Said) -> Result<Totals> {
    let work = cli.command.work().context("there is nothing to work on")?;
    let output = cli.command.output()?;
    let settings = Settings::load(&cli.config)?;
    tracing_subscriber::fmt()
        .with_writer(Words::default)
        .with_target(false)
        .with_ansi(false)
        .with_max_level(LevelFilter::WARN)
        .init();
    for warning in settings.warnings(SystemTime::now()) {
        say(&format!("hsmime-batch: warning: {warning}"));
    }
    // Before the pool: where it cannot be opened no PIN is tried.
    let cache = open_cache(&settings).context("the certificate cache cannot be opened")?;
    let pool = start_pool(&settings, &cli.command)?;
    let options = Options {
        inputs: work.inputs.clone(),
        output,
        jobs: work.jobs.unwrap_or_else(run::default_jobs),
        room: work.memory << 20,
        questions: run::questions(pool.status().iter().map(|token| token.wanted).sum()),
        in_memory: work.in_memory,
        max_message: work.max_message,
        lengths: work.lengths.map(Into::into),
        frame: compress::DEFAULT_FRAME,
        journal: Some(Journaling { resume: work.resume, request: request(cli)?, every: NOTE_EVERY }),
        html: work.html.clone(),
        showing: (!cli.command.is_filter() && !work.shown.quiet)
            .then(|| showing(work.shown.progress, &pool, &cli.command)),
    };
    let mut agent = Agent::new(&settings, &pool);
    if let Some(cache) = &cache {
        agent = agent.with_distrust(Arc::new(CachedDistrust::new(Arc::clone(cache))));
    }
    let agent = agent;
    let clock = SystemTime::now;
    let cached;
    let mut recipients = None;
    if let Some(to) = cli.command.to() {
        let mut found = Recipients::new(Recipients::read(&to.certificates)?, to.profile, clock())?;
        if to.cached {
            let cache = cache.clone().context("--to-cached needs [cache] path in the configuration")?;
            cached = chooser(&settings, cache, agent.trust());
            found = found.with_store(&cached);
        }
        if found.is_empty() {
            bail!("say to whom to encrypt with --to-certificate or --to-cached");
        }
        recipients = Some(found);
    }
    let scan = match &cli.command {
        Command::Scan { lost, .. } => Some(Scan::new(agent.identities(), lost)?),
        _ => None,
    };
    let task = task(&cli.command, &agent, recipients.as_ref(), clock);
    let task = scan.as_ref().map_or(&*task, |scan| scan as &dyn Task);
    let ours: Vec<Certificate> =
        agent.identities().iter().map(|identity| identity.certificate().clone()).collect();
    let selection = work.selection(&ours)?;
    let selected = Selected::new(task, &selection);
    let task = if selection.is_everything() { task } else { &selected };
    let sealer = match work.sign_report.as_ref().zip(work.report.as_ref()) {
        Some((address, report)) => Some((report, sealing::signer(&agent, &pool, address, report, clock())?)),
        None => None,
    };
    let done = run_task(&options, work.report.as_deref(), work.resume, task, said);
    let signed = match (sealer, &done) {
        (Some((report, sealer)), Ok(_)) => sealing::sign(report, sealer, clock()),
        _ => Ok(()),
    };
    // What a scan has found is worth telling also where it was stopped.
    if let Some(scan) = scan.as_ref().filter(|scan| done.is_ok() || scan.found().messages > 0) {
        summarise(scan, said.failed, &pool, cli.command.uses_keys());
    }
    let problems = &mut said.problems;
    pool.close();
    match signed {
        Err(error) if cli.command.is_filter() => return Err(error),
        Err(error) => problems.push(format!(
            "{} complete; the report is not signed: {error:#}; `hsmime-batch check REPORT OUTPUT --sign-report \
             ADDRESS` signs it later",
            match &options.output {
                Output::Path(path) | Output::Converted(path, _) => format!("{} is", path.display()),
                _ => "the report is".to_owned(),
            }
        )),
        Ok(()) => {}
    }
    if let Ok(totals) = &done {
        problems.extend(scan.iter().flat_map(Scan::problems));
        // What an earlier run has seen of the input is not known.
        if !work.resume {
            problems.extend(selected.problems());
        }
        if totals.selected_nothing() && problems.is_empty() && !cli.command.is_filter() {
            say(&format!("hsmime-batch: no message was selected by {}", selection.options().join(" and ")));
        }
    }
    done
}

/// Signs a report against which outputs were held.
fn sign_checked(cli: &Cli, address: &MailAddress, report: &Path) -> Result<()> {
    let settings = Settings::load(&cli.config)?;
    let pool = start_pool(&settings, &cli.command)?;
    let signed = sealing::sign_later(&settings, &pool, address, report);
    pool.close();
    signed
}

/// What is asked for: a run can go on with what another began only if it is asked for the same. Files that say to whom
/// to encrypt count by what is in them.
fn request(cli: &Cli) -> Result<Request> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let mut what = cli.deed.clone();
    for certificates in cli.command.to().into_iter().flat_map(|to| &to.certificates) {
        what.push(format!("certificates of SHA-256 {}", Summed::of(&read(certificates)?).sha256));
    }
    let report = cli.command.work().and_then(|work| work.report.as_deref());
    Ok(Request::new(what.join("\n"), report, &read(&cli.config)?)?)
}

/// How progress is shown.
fn showing(seconds: u64, pool: &Pool, command: &Command) -> Showing {
    let pool = pool.clone();
    let ask = move || {
        let metrics = pool.metrics();
        let worked =
            |token: &TokenMetrics| token.bulk.service.sum_micros + token.interactive.service.sum_micros;
        Busy {
            sessions: metrics.iter().map(|token| token.sessions).sum(),
            running: metrics.iter().map(|token| token.running).sum(),
            worked: Duration::from_micros(metrics.iter().map(worked).sum()),
        }
    };
    let tokens = command.uses_keys().then(|| Tokens::new(ask));
    Showing { every: Duration::from_secs(seconds), tokens }
}

/// What a command does with each message.
fn task<'a>(
    command: &Command,
    agent: &'a Agent,
    recipients: Option<&'a Recipients<'a>>,
    clock: fn() -> SystemTime,
) -> Box<dyn Task + 'a> {
    match (command, recipients) {
        (Command::Encrypt { .. }, Some(recipients)) => Box::new(Encrypt { recipients, clock }),
        (Command::Reencrypt { .. }, Some(recipients)) => Box::new(Reencrypt { agent, recipients, clock }),
        (Command::Rekey { keep, proof, .. }, Some(recipients)) => {
            Box::new(Rekey { agent, recipients, keep: (*keep).into(), proof: (*proof).into(), clock })
        }
        (Command::Sign(_), _) => Box::new(Sign { agent, clock }),
        (Command::Resign { time, .. }, _) => Box::new(Resign { agent, at: time.at, clock }),
        (Command::Decrypt { remove_signatures, .. }, _) => {
            let signatures = if *remove_signatures { Signatures::Remove } else { Signatures::Keep };
            Box::new(Decrypt { agent, signatures, clock })
        }
        (Command::Verify { time, .. }, _) => Box::new(Verify::new(agent, time.at, clock)),
        // A scan counts by itself; without recipients there is nothing that could be done.
        (_, _) => Box::new(Identity),
    }
}

/// Starts the pool, and waits until a token is there: without one, each message would fail by itself.
/// Who needs no private key asks no token.
fn start_pool(settings: &Settings, command: &Command) -> Result<Pool> {
    if !command.uses_keys() {
        return Ok(Pool::start(&[])?);
    }
    if settings.tokens().is_empty() && settings.pool_socket().is_none() {
        bail!("{}: there is no [[token]] with keys to work with", settings.path().display());
    }
    let pool = settings::start_pool(settings, Lane::Bulk)?;
    if let Err(error) = pool.ready(TOKEN_LIMIT) {
        // One of several tokens is enough for the keys it has.
        if !pool.status().iter().any(|token| token.state == TokenState::Up) {
            pool.close();
            return Err(error.into());
        }
        say(&format!("hsmime-batch: warning: {error}"));
        return Ok(pool);
    }
    let certificates = || settings.identities().iter().map(|identity| &identity.certificate);
    for certificate in pool.missing_keys(certificates(), TOKEN_LIMIT).unwrap_or_default() {
        say(&format!("hsmime-batch: warning: no token has the key of {certificate}"));
    }
    for shortcoming in pool.shortcomings(certificates(), TOKEN_LIMIT).unwrap_or_default() {
        say(&format!("hsmime-batch: warning: {shortcoming}"));
    }
    Ok(pool)
}

/// How long the tokens may take to be there.
const TOKEN_LIMIT: Duration = Duration::from_mins(1);

fn run_task(
    options: &Options,
    report: Option<&Path>,
    resume: bool,
    task: &dyn Task,
    said: &mut Said,
) -> Result<Totals> {
    let stop = stop::flag().context("signals cannot be received")?;
    let to_stdout = Path::new("-");
    let report = match report {
        Some(path) if path == to_stdout && options.output == Output::Stdout => {
            bail!("mail and report cannot both go to the standard output");
        }
        Some(path) if path == to_stdout => Report::stdout(),
        Some(path) => run::open_report(path, &options.inputs, resume)?,
        // Nobody reads lines of 700 characters.
        None if options.output == Output::Stdout || io::stdout().is_terminal() => Report::none(),
        None => Report::stdout(),
    };
    let done = run::run(options, task, report, &stop);
    said.failed = done.as_ref().map_or_else(|stopped| stopped.totals.failed(), Totals::failed);
    done.map_err(|stopped| {
        if stopped.totals.messages() > 0 && options.showing.is_some() {
            tell(&format!("\n{}", stopped.totals));
        }
        said.advice = match (stopped.partial, stopped.resumable, options.inputs.as_slice()) {
            (Some(partial), true, _) => {
                Some(format!("there is no output yet, and {} is incomplete: go on with --resume", partial.display()))
            }
            (Some(partial), false, _) => Some(format!("{} is incomplete", partial.display())),
            (None, true, [_]) => {
                Some("each message is there as it was or as it is to be: go on with --resume".to_owned())
            }
            (None, true, _) => Some(
                "each message is there as it was or as it is to be: go on with --resume and the one input beside which \
                 a .hsmime-journal lies, and then with those that come after it"
                    .to_owned(),
            ),
            (None, false, _) => None,
        };
        stopped.error.into()
    })
}
