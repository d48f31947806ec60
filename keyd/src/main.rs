//! `hsmime-keyd`: keeps the tokens for the other programs of this host.
//!
//! ```text
//! clients ═ socket ═ Listener ─ Door (who?) ─ Keeper (may they? audit) ─ hsmpool: Server ─ Pool ═ module processes
//! ```
//!
//! Exit status: 0 when it was asked to stop, 1 when an audit file has a gap, 2 when it could not start.

mod audit_line;
mod check_audit;
mod door;
mod harden;
mod keeper;
mod listener;
mod restraint;
mod serve;
mod users;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use agent::{
    Settings,
    output::{is_written, warnings},
    settings::{DEFAULT_PATH, Keyd},
};
use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// What messages begin with.
const NAME: &str = "hsmime-keyd";

/// Keeps PKCS#11 tokens for hsmime-milter and hsmime-batch: loads their modules, knows their PINs, signs and decrypts
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Check the configuration, print what came out of it, and exit
    CheckConfig,
    /// Check that no line is missing in an audit, with the full files beside it, and exit
    CheckAudit {
        /// The file
        file: PathBuf,
    },
    /// Load a module for the hsmime-keyd that started this
    #[command(hide = true)]
    ModuleHost {
        /// The form of a log line
        #[arg(long)]
        format: String,
        /// Which lines are logged
        #[arg(long)]
        filter: String,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // The help, the version, or what is wrong with the command line.
        Err(answer) => {
            let is_written = is_written(NAME, answer.print());
            return ExitCode::from(if answer.use_stderr() || !is_written { 2 } else { 0 });
        }
    };
    let nothing = |()| String::new();
    let (what, done) = match &arguments.command {
        Some(Command::CheckConfig) => ("it would not start", check_config(&arguments.config)),
        Some(Command::CheckAudit { file }) => return check_audit::run(file),
        Some(Command::ModuleHost { format, filter }) => {
            ("cannot start", serve::host_module(&serve::log(format, filter)).map(nothing))
        }
        None => ("cannot start", serve::run(&arguments.config).map(nothing)),
    };
    match done {
        Ok(text) if is_written(NAME, io::stdout().write_all(text.as_bytes())) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            // Nothing is left to do where stderr is closed.
            let _ = writeln!(io::stderr(), "hsmime-keyd: {what}: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Reads the configuration as far as it is this program's.
fn load(path: &Path) -> Result<(Settings, Keyd, PathBuf)> {
    let settings = Settings::load_with_tokens(path)?;
    daemon::logging::check(settings.log()).context("`filter` in [log] cannot be used")?;
    let keyd = settings.keyd().context("the configuration has no [keyd] section")?.clone();
    let socket = settings.pool_socket().context("the configuration has no `socket` in [pool]")?.to_owned();
    Ok((settings, keyd, socket))
}

fn check_config(path: &Path) -> Result<String> {
    let (settings, keyd, _) = load(path)?;
    door::Door::new(&keyd)?;
    Ok(format!("{settings}{}", warnings(settings.warnings(SystemTime::now()))))
}
