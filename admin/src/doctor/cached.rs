//! Whether the cache can be used. One of another user root has looked at by a process that becomes that user, and that has
//! neither a PIN nor a module in its memory.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use agent::Settings;
use certcache::Cache;
use serde_json::Value;

/// Who may write to a cache can keep others from opening it.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

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
    let mut child = command.spawn().map_err(fail)?;
    let begin = Instant::now();
    // What it prints has room in a pipe.
    while child.try_wait().map_err(fail)?.is_none() {
        if begin.elapsed() > PATIENCE {
            let _ = child.kill().and_then(|()| child.wait());
            return Err(format!("hsmime cache stat has not ended within {} s", PATIENCE.as_secs()));
        }
        sleep(PAUSE);
    }
    let said = child.wait_with_output().map_err(fail)?;
    if !said.status.success() {
        let text = String::from_utf8_lossy(&said.stderr);
        let text = text.trim().trim_start_matches("hsmime: ");
        return Err(if text.is_empty() { said.status.to_string() } else { text.to_owned() });
    }
    let stat: Value = serde_json::from_slice(&said.stdout).map_err(|error| error.to_string())?;
    let certificates = stat.get("certificates").and_then(Value::as_u64).unwrap_or_default();
    Ok(usize::try_from(certificates).unwrap_or(usize::MAX))
}
