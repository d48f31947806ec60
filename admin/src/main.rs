//! `hsmime`: the administrator's tool. Tokens, keys, certificate requests, the certificate cache, a doctor.
//!
//! Each sub-command is a file. Tables go to stdout, errors to stderr in one line: what, where, what to do.

mod arguments;
mod audit_check;
mod cache;
mod cert;
mod csr;
mod doctor;
mod explain;
mod key;
mod read;
mod replay;
mod table;
mod time;
mod token;

use std::{
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use agent::{ConfigError, Settings, output::is_written, settings::Tokens};
use anyhow::{Result, anyhow};
use certcache::CacheError;
use clap::{CommandFactory as _, Parser, error::ErrorKind};
use explain::MailArguments;
use hsmpool::PoolError;
use smime::MailAddress;

use arguments::{Arguments, AuditCommand, CacheCommand, CertCommand, Command, KeyCommand, TokenCommand};

/// How a sub-command ended, short of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// All of it was done, or is well.
    All,
    /// Something failed, and was named.
    Partly,
    /// The configuration cannot be used.
    NotStarted,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // The help, the version, or what is wrong with the command line.
        Err(answer) => {
            let is_written = is_written("hsmime", answer.print());
            return ExitCode::from(if answer.use_stderr() { 2 } else { u8::from(!is_written) });
        }
    };
    let mut out = Output(io::stdout().lock());
    let done = run(&arguments, &mut out).and_then(|done| Ok(out.flush().map(|()| done)?));
    match done {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Partly) => ExitCode::from(1),
        Ok(Done::NotStarted) => ExitCode::from(2),
        // Who reads no further, as `head` does, has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell if stderr is gone too.
            let text = format!("{error:#}{}", as_whom(&error));
            let _ = writeln!(io::stderr(), "hsmime: {}", table::printable(&text));
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

/// Root wonders why something is not permitted.
fn as_whom(error: &anyhow::Error) -> String {
    let is_denied = |cause: &(dyn std::error::Error + 'static)| {
        let reason = match cause.downcast_ref() {
            Some(CacheError::Permission { .. }) => return true,
            Some(CacheError::Folder { reason, .. }) => Some(reason),
            _ => cause.downcast_ref::<io::Error>(),
        };
        reason.is_some_and(|reason| reason.kind() == io::ErrorKind::PermissionDenied)
    };
    match cache::became() {
        Some(user) if error.chain().any(is_denied) => {
            format!("; this is done as {user}, whose the certificate cache is: runuser -u {user} -- hsmime …")
        }
        _ => String::new(),
    }
}

/// What is printed; where that fails, it is said what failed.
struct Output<W>(W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets).map_err(not_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(not_written)
    }
}

fn not_written(error: io::Error) -> io::Error {
    match error.kind() {
        // It is tried again.
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("cannot write the output: {error}")),
    }
}

/// Ends, as where the command line is wrong.
fn wrong(kind: ErrorKind, words: impl Display) -> ! {
    Arguments::command().error(kind, words).exit()
}

fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Done> {
    let now = SystemTime::now();
    let settings = || Settings::load(&arguments.config);
    let tokens = || tokens(&arguments.config);
    match &arguments.command {
        Command::Token(TokenCommand::List { module: Some(module) }) => {
            token::list(std::slice::from_ref(module), out)
        }
        Command::Token(command) => with_login(&tokens()?, |tokens| match command {
            TokenCommand::List { .. } => token::list(&token::modules(tokens.tokens()), out),
            TokenCommand::Bench(arguments) => token::bench::bench(tokens, arguments, out),
        }),
        Command::Key(command) => with_login(&tokens()?, |tokens| match command {
            KeyCommand::Generate(arguments) => key::generate(tokens, arguments, out),
            KeyCommand::List { token } => key::list(tokens, token.as_deref(), out),
            KeyCommand::Csr(arguments) => csr::request(tokens, arguments, out),
        }),
        Command::Cert(command) => cert(&settings()?, command, now, out),
        Command::Cache(command) => cache(&settings()?, command, now, out),
        Command::Audit(AuditCommand::Check { files }) => audit_check::check(files, out),
        Command::Explain { subject, mail, anew, json } => {
            if let Some(from) = &mail.from {
                let file = subject.as_ref().map(PathBuf::from);
                let mail = MailArguments { mail: file.or_else(|| mail.mail.clone()), ..mail.clone() };
                if mail.to.is_empty() && mail.mail.is_none() {
                    wrong(ErrorKind::MissingRequiredArgument, explain::NO_RECIPIENT);
                }
                explain::explain_mail(&settings()?, from, &mail, *json, now, out)
            } else {
                let text = subject.as_deref().unwrap_or_default().to_string_lossy();
                let address: MailAddress = text.parse().unwrap_or_else(|error| {
                    wrong(ErrorKind::ValueValidation, format!("{error}; a mail's file needs --from"))
                });
                explain::explain(&settings()?, &address, (*anew, *json), now, out)
            }
        }
        Command::Replay { archive, json } => replay::replay(&settings()?, archive, *json, now, out),
        Command::Doctor { json } => doctor::examine(&arguments.config, *json, now, out),
    }
}

/// The tokens, which are all that their commands need: what is wrong elsewhere is told, and is in nobody's way.
fn tokens(config: &Path) -> Result<Tokens, ConfigError> {
    let tokens = Tokens::load(config)?;
    for complaint in tokens.elsewhere() {
        let text = format!("hsmime: warning: {}: {complaint}", tokens.path().display());
        let _ = writeln!(io::stderr(), "{}", table::printable(&text));
    }
    Ok(tokens)
}

/// Where `hsmime-keyd` has the PIN, this program needs it all the same for what it does with a token itself.
fn with_login(tokens: &Tokens, work: impl FnOnce(&Tokens) -> Result<Done>) -> Result<Done> {
    work(tokens).map_err(|error| match error.downcast_ref::<PoolError>() {
        Some(PoolError::PinFile { .. }) if tokens.pool_socket().is_some() => anyhow!(
            "{error:#}; this command does not ask hsmime-keyd, but loads the module and needs the PIN itself: run it \
             as the user who has the PIN (runuser -u hsmime-keyd -- hsmime …)"
        ),
        _ => error,
    })
}

fn cert(settings: &Settings, command: &CertCommand, now: SystemTime, out: &mut dyn Write) -> Result<Done> {
    match command {
        CertCommand::Import(arguments) => cert::import::import(settings, arguments, now, out),
        CertCommand::List(arguments) => cert::list::list(settings, arguments, now, out),
        CertCommand::Show { fingerprint, pem, json } => {
            cert::list::show(settings, fingerprint, (*pem, *json), now, out)
        }
        CertCommand::Remove { fingerprint, reason } => {
            cert::change::remove(settings, fingerprint, reason, now, out)
        }
        CertCommand::Trust(arguments) => cert::change::trust(settings, arguments, now, out),
        CertCommand::Distrust(arguments) => cert::change::distrust(settings, arguments, now, out),
        CertCommand::Rules { remove, reason, json } => {
            cert::change::rules(settings, *remove, reason, *json, now, out)
        }
        CertCommand::Check(arguments) => cert::check::check(settings, arguments, now, out),
        CertCommand::Find { address, store, json } => {
            cert::find::find(settings, address, (*store, *json), now, out)
        }
    }
}

fn cache(settings: &Settings, command: &CacheCommand, now: SystemTime, out: &mut dyn Write) -> Result<Done> {
    match command {
        CacheCommand::Stat { json } => cache::stat(settings, *json, out),
        CacheCommand::Check { repair, json } => cache::check(settings, *repair, *json, out),
        CacheCommand::Export { out: file, decided } => {
            cache::export(settings, file.as_deref(), *decided, out)
        }
        CacheCommand::Import { file } => cache::import(settings, file, now, out),
        CacheCommand::Backup { folder } => cache::backup(settings, folder, out),
        CacheCommand::Sweep => cache::sweep(settings, now, out),
        CacheCommand::Log { limit, json } => cache::log(settings, *limit, *json, out),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
