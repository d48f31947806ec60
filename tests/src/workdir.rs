//! A directory of its own for each test: removed at success, kept and told at failure.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A throw-away directory below the system's temporary one.
///
/// Its name is short, because Unix socket paths end at 108 octets, and its mode is 0755, because Postfix's
/// unprivileged processes must get through. It stays when the test panics, when [`Workdir::keep`] was called
/// and when `HSMIME_KEEP` is set; then its path and the ends of its logs go to stderr.
#[derive(Debug)]
pub struct Workdir {
    directory: Option<TempDir>,
    path: PathBuf,
    name: String,
    kept: bool,
}

impl Workdir {
    /// Makes the directory. `name` says whose it is when it is kept.
    pub fn new(name: &str) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("hsmime-").tempdir().context("no temporary directory")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let path = directory.path().canonicalize()?;
        let kept = env::var_os("HSMIME_KEEP").is_some();
        Ok(Self { directory: Some(directory), path, name: name.to_owned(), kept })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it.
    pub fn join(&self, below: impl AsRef<Path>) -> PathBuf {
        self.path.join(below)
    }

    /// Makes a directory below it.
    pub fn directory(&self, below: &str) -> Result<PathBuf> {
        let path = self.join(below);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file below it.
    pub fn file(&self, below: &str, octets: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.join(below);
        fs::write(&path, octets).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Lets the directory stay.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Says on stderr where it is, and how its logs end.
    fn tell(&self) {
        let mut stderr = io::stderr().lock();
        // Telling is all that is left to do here: a closed stderr must not hide the test's own failure.
        let _ = writeln!(stderr, "{}: everything is in {}", self.name, self.path.display());
        for log in self.logs() {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(LOG_LINES_TOLD)..).unwrap_or_default();
            let _ = writeln!(stderr, "--- the end of {}\n{}", log.display(), tail.join("\n"));
        }
    }

    fn logs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if !failed && !self.kept {
            return;
        }
        if let Some(directory) = self.directory.take() {
            let _ = directory.keep();
        }
        if failed {
            self.tell();
        }
    }
}

const LOG_LINES_TOLD: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_gone_after_success() {
        let path = Workdir::new("gone").unwrap().path().to_owned();
        assert!(!path.exists());
    }

    #[test]
    fn a_kept_directory_stays() {
        let mut workdir = Workdir::new("kept").unwrap();
        workdir.keep();
        let path = workdir.path().to_owned();
        drop(workdir);
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_panic_keeps_the_directory() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let outcome = thread::spawn(move || {
            let workdir = Workdir::new("panic").unwrap();
            sender.send(workdir.path().to_owned()).unwrap();
            panic!("on purpose");
        })
        .join();
        assert!(outcome.is_err());
        let path = receiver.recv().unwrap();
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
