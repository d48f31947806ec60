//! Python with the package `cryptography`: the release that `scripts/prepare` installs, beside certomancer, which needs it.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

/// The interpreter that has it.
pub fn interpreter() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let target = own.ancestors().nth(2).context("a program without a directory")?;
    let python = target.join("certomancer/bin/python3");
    ensure!(python.exists(), "{} is missing; run scripts/prepare", python.display());
    Ok(python)
}

/// The release of `cryptography`.
pub fn cryptography() -> Result<String> {
    let mut command = Command::new(interpreter()?);
    let output = command.args(["-c", "import cryptography; print(cryptography.__version__)"]).output()?;
    ensure!(output.status.success(), "python3 has no cryptography: {output:?}");
    Ok(format!("cryptography {}", String::from_utf8_lossy(&output.stdout).trim()))
}
