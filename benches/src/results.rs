//! Where results go, and what stands in all of them: when, where, with what.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// A new directory below `benches/results`: what was measured, when and on which processor, in the words of a file
/// name.
pub fn default_directory(what: &str, date: &str) -> PathBuf {
    let name = format!("{} {what} {}", date.split(' ').next().unwrap_or_default(), crate::machine());
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let name = name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results").join(name)
}

/// Writes `results.md` and `results.json`.
pub fn write(directory: &Path, markdown: &str, results: &impl Serialize) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    fs::write(directory.join("results.md"), markdown)?;
    Ok(fs::write(directory.join("results.json"), serde_json::to_vec_pretty(results)?)?)
}

/// The time, UTC.
pub fn date() -> Result<String> {
    output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// The release of the `openssl` command.
pub fn openssl_version() -> Result<String> {
    Ok(output("openssl", &["version"])?.split(" (").next().unwrap_or_default().to_owned())
}

/// The release of gpgsm.
pub fn gpgsm_version() -> Result<String> {
    Ok(output("gpgsm", &["--version"])?.lines().next().unwrap_or_default().to_owned())
}

/// The system's load average.
pub fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// The load of the last minute, where it is more than a measurement may have beside it.
pub fn not_quiet() -> Option<String> {
    loud(&load_average()).map(str::to_owned)
}

/// The first number of a load average, where it is above [`QUIET`] or none.
pub fn loud(load_average: &str) -> Option<&str> {
    let last_minute = load_average.split(' ').next().unwrap_or_default();
    let is_quiet = last_minute.parse().is_ok_and(|load: f64| load <= QUIET);
    (!is_quiet).then_some(last_minute)
}

/// Half a processor.
pub const QUIET: f64 = 0.5;

/// What a program says in one line.
fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("{program} cannot be run; it is needed here"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
