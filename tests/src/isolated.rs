//! A test in a process of its own.
//!
//! PKCS#11 modules are process-wide and read their configuration from the environment when they are
//! initialised. So a test starts itself again as a child with the environment set, and runs there.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Names the child's directory, and tells a test that it is the child.
const DIRECTORY: &str = "HSMIME_TEST_DIRECTORY";
/// Names a file that tests which do not apply are listed in, each with its reason.
const NOT_APPLICABLE: &str = "HSMIME_TEST_NOT_APPLICABLE";
/// A test that hangs must end as a failure.
const LIMIT: Duration = Duration::from_secs(100);

/// How the child shall be started.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// More variables for its environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// What its command line begins with.
    pub launcher: Vec<OsString>,
}

/// How a child process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether its test passed.
    pub success: bool,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All that it said.
    pub text: String,
}

impl Ended {
    /// An error if the child did not run its one test with success. What was measured, and what does not
    /// apply, is told.
    pub fn check(self) -> Result<()> {
        ensure!(self.success, "{}", self.text);
        ensure!(self.text.contains("1 passed"), "the child did not run the test: {}", self.text);
        let test = test_name()?;
        for line in self.text.lines() {
            if line.contains("measured: ") {
                tell(line)?;
            } else if let Some((_, reason)) = line.split_once("not applicable: ") {
                tell(&format!("{test} is not applicable: {reason}"))?;
                if let Some(file) = env::var_os(NOT_APPLICABLE) {
                    let mut file = File::options().append(true).create(true).open(file)?;
                    writeln!(file, "{test}: {reason}")?;
                }
            }
        }
        Ok(())
    }
}

/// Says, in the child, why its test does not apply to the token. The test then returns.
pub fn not_applicable(reason: &str) {
    // Without a standard output nobody would read it anyway.
    let _ = tell(&format!("not applicable: {reason}"));
}

/// Runs `body` in a child process with a fresh directory, which `prepare` fills before, and tells how that
/// ended. `None` in the child itself.
pub fn in_child(
    prepare: impl FnOnce(&Path) -> Result<Surroundings>,
    body: impl FnOnce(&Path),
) -> Result<Option<Ended>> {
    if let Some(directory) = env::var_os(DIRECTORY) {
        body(Path::new(&directory));
        return Ok(None);
    }
    let name = test_name()?;
    let temporary = tempfile::Builder::new().prefix("hsmime-").tempdir()?;
    let directory = temporary.path();
    let Surroundings { environment, launcher } = prepare(directory)?;
    let report = directory.join("report");
    let output = || File::options().append(true).create(true).open(&report);
    let own = env::current_exe()?.into_os_string();
    let mut line = launcher.into_iter().chain([own]);
    let mut child = Command::new(line.next().context("there is always a program")?)
        .args(line)
        .args([&name, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?)
        .spawn()?;
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() >= end => break None,
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let text = String::from_utf8_lossy(&fs::read(&report)?).into_owned();
    let success = status.is_some_and(|status| status.success());
    let signal = status.and_then(|status| status.signal());
    Ok(Some(Ended { success, signal, text: format!("{status:?} (none: not within {LIMIT:?}): {text}") }))
}

/// The test harness names a test's thread after the test.
fn test_name() -> Result<String> {
    let thread = thread::current();
    let name = thread.name().filter(|name| *name != "main");
    Ok(name.context("run with more than one test thread")?.to_owned())
}

fn tell(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
