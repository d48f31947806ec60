//! Running other programs: what they said when they failed, and which package holds them when they are missing.

use std::fmt;
use std::io::{self, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};

/// What a finished program left.
#[derive(Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Its exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nstdout: {}\nstderr: {}", self.status, self.text(), self.stderr)
    }
}

/// Runs a program to its end, whatever that is. `package` is what Debian calls the package it comes from.
pub fn finish(package: &str, command: &mut Command) -> Result<Finished> {
    finish_with_input(package, command, b"")
}

/// As [`finish`], with octets for its standard input.
pub fn finish_with_input(package: &str, command: &mut Command, input: &[u8]) -> Result<Finished> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| not_started(package, command, &error))?;
    let stdin = child.stdin.take();
    let input = input.to_vec();
    // A program that reads and writes at once blocks for ever when nobody feeds and drains it at once.
    let feeder = thread::spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(&input)));
    let output = child.wait_with_output().with_context(|| format!("{command:?}"))?;
    match feeder.join() {
        // Whoever closes its input early has seen enough; its exit code tells the rest.
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        Ok(_) => {}
        Err(_) => bail!("the thread that feeds {command:?} panicked"),
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Finished { status: output.status, stdout: output.stdout, stderr })
}

/// Runs a program that must end with 0.
pub fn succeed(package: &str, command: &mut Command) -> Result<Finished> {
    succeed_with_input(package, command, b"")
}

/// As [`succeed`], with octets for its standard input.
pub fn succeed_with_input(package: &str, command: &mut Command, input: &[u8]) -> Result<Finished> {
    let finished = finish_with_input(package, command, input)?;
    if !finished.success() {
        bail!("{command:?} ended with {finished:?}");
    }
    Ok(finished)
}

/// The error for a program that did not even start.
pub fn not_started(package: &str, command: &Command, error: &io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => anyhow!("{program} is missing; install the package {package}"),
        _ => anyhow!("cannot start {program}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = finish("tickle-utils", &mut Command::new("/nonexistent/tickle")).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/tickle is missing; install the package tickle-utils");
    }

    #[test]
    fn large_input_and_output_at_once_do_not_deadlock() {
        let input = vec![b'x'; 1 << 20];
        let finished = succeed_with_input("coreutils", &mut Command::new("cat"), &input).unwrap();
        assert_eq!(finished.stdout, input);
    }

    #[test]
    fn the_words_of_a_failed_program_are_in_the_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo what went wrong >&2; exit 3"]);
        let error = succeed("dash", &mut command).unwrap_err();
        assert!(error.to_string().contains("what went wrong"), "{error}");
    }
}
