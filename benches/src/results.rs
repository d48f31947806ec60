//! Where results go, and what stands in all of them: when, where, with what.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
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

/// How many processors are at work now, whoever's work it is: two seconds are waited for that. A load average remembers for
/// minutes what has ended, such as the measurement before.
pub fn busy_processors() -> Result<f64> {
    let now = || ticks(&fs::read_to_string("/proc/stat")?);
    let before = now()?;
    thread::sleep(Duration::from_secs(2));
    let after = now()?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    Ok(f64::from(u32::try_from(processors)?) * (after.0 - before.0) / (after.1 - before.1).max(1.0))
}

/// What all processors together have been at work (or kept from it by a host), and what has passed for all of them, of
/// `/proc/stat` (`proc(5)`).
fn ticks(stat: &str) -> Result<(f64, f64)> {
    let line = stat
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
        .context("/proc/stat has no `cpu` line")?;
    // A guest's time is in the user's.
    let fields: Vec<f64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all: f64 = fields.iter().sum();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

/// So many processors at work beside a measurement are too many.
pub const QUIET: f64 = 0.25;

/// What a program says in one line.
fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("{program} cannot be run; it is needed here"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_at_work_is_all_but_idling_and_waiting_for_a_disk() {
        let (busy, all) = ticks("cpu  100 20 30 1000 50 6 7 8 900 0\ncpu0 1 1 1 1\n").unwrap();
        assert!((busy - 171.0).abs() < 1e-9 && (all - 1221.0).abs() < 1e-9, "{busy} of {all}");
        assert!(ticks("intr 1").is_err());
        assert!(ticks("cpu  one two").is_err());
        assert!(busy_processors().unwrap() >= 0.0);
    }
}
