//! Whether the cache can be used. One of another user root has looked at by a process that becomes that user, and that has
//! neither a PIN nor a module in its memory.

use std::{
    fs,
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use agent::Settings;
use certcache::Cache;
use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::Value;

/// Who may write to a cache can keep others from opening it.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
/// As much as a pipe has room for, if nobody has it made larger.
const MOST: u64 = 64 * 1024;

/// How many certificates are in it, or why it cannot be used; `None` where it is not there yet.
pub(super) fn certificates(settings: &Settings, path: &Path) -> Result<Option<usize>, String> {
    // One that this user may not look at is there, and opening it says what is missing.
    let found = fs::metadata(path.join("data.mdb"));
    // Made by this user it might not be the milter's to write.
    if found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    if Cache::is_of_another(path) {
        return as_owner(settings.path()).map(Some);
    }
    let stat = Cache::open(path).and_then(|cache| cache.stat()).map_err(|error| error.to_string())?;
    Ok(Some(usize::try_from(stat.certificates).unwrap_or(usize::MAX)))
}

/// What `hsmime cache stat` says.
fn as_owner(config: &Path) -> Result<usize, String> {
    let fail = |error: io::Error| format!("cannot run hsmime cache stat: {error}");
    // This program itself, also where another one has taken its place meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg("--config").arg(config).args(["cache", "stat", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = said_by(command, PATIENCE).map_err(fail)?;
    if !said.status.success() {
        let text = String::from_utf8_lossy(&said.stderr);
        let text = text.trim().trim_start_matches("hsmime: ");
        return Err(if text.is_empty() { said.status.to_string() } else { text.to_owned() });
    }
    let stat: Value = serde_json::from_slice(&said.stdout).map_err(|error| error.to_string())?;
    let certificates = stat.get("certificates").and_then(Value::as_u64).unwrap_or_default();
    Ok(usize::try_from(certificates).unwrap_or(usize::MAX))
}

/// Runs a command that prints no more than a pipe has room for, at most so long.
fn said_by(mut command: Command, patience: Duration) -> io::Result<Output> {
    let mut child = command.spawn()?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > patience {
            let _ = child.kill().and_then(|()| child.wait());
            let told = format!("it has not ended within {} s", patience.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, told));
        }
        sleep(PAUSE);
    };
    let (stdout, stderr) = (at_hand(child.stdout.take())?, at_hand(child.stderr.take())?);
    Ok(Output { status, stdout, stderr })
}

/// What is in a pipe now. Its end is not waited for: a process that the one that ended has left may hold the pipe for ever.
fn at_hand(pipe: Option<impl AsFd + Read>) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let Some(pipe) = pipe else { return Ok(octets) };
    fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    match pipe.take(MOST).read_to_end(&mut octets) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(octets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, patience: Duration) -> io::Result<Output> {
        let mut command = Command::new("sh");
        command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        said_by(command, patience)
    }

    #[test]
    fn nobody_who_holds_the_pipes_is_waited_for() {
        let begin = Instant::now();
        for (left, said) in [("sleep 20", &b"yes\n"[..]), ("yes", b"yes\n")] {
            let output = shell(&format!("echo yes; echo no >&2; {left} & exit 3"), PATIENCE).unwrap();
            assert_eq!((output.status.code(), &output.stderr[..]), (Some(3), &b"no\n"[..]), "{left}");
            assert!(output.stdout.starts_with(said) && output.stdout.len() <= 65_536, "{left}");
        }
        let error = shell("sleep 20", Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "it has not ended within 1 s");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}
