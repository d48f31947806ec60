//! Finds the product's programs and runs those that end by themselves.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, Finished};
use crate::softhsm::SoftHsm;

/// Where a program of the workspace was built: beside the program that asks.
///
/// Cargo tells only a package's own programs to its tests, so the workspace's must have been built before,
/// with the same profile.
pub fn find(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let directory = own.parent().context("a program without a directory")?;
    let is_test = directory.file_name().is_some_and(|name| name == "deps");
    let profile = if is_test { directory.parent().unwrap_or(directory) } else { directory };
    let program = profile.join(name);
    ensure!(program.exists(), "{} is missing; run: cargo build --workspace --bins", program.display());
    Ok(program)
}

/// A command line that begins with a product program, told of the token and of its configuration.
pub fn command(name: &str, token: &SoftHsm, configuration: &Path) -> Result<Command> {
    let mut command = Command::new(find(name)?);
    command.envs(token.environment()?).arg("--config").arg(configuration);
    Ok(command)
}

/// Runs a product program to its end, whatever that is.
pub fn run(name: &str, token: &SoftHsm, configuration: &Path, arguments: &[&str]) -> Result<Finished> {
    command::finish("hsmime", command(name, token, configuration)?.args(arguments))
}
