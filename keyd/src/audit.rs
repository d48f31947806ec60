//! The audit: one line of JSON for every use of a private key, numbered without a gap.
//!
//! A line is written before the answer is released. Where it cannot be written, the answer is withheld, its line is
//! kept and written as soon as that works again, and until then no key is used.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use tracing::{error, info, warn};

/// An audit file that is open.
pub(crate) struct Audit {
    state: Mutex<State>,
}

struct State {
    path: PathBuf,
    file: File,
    /// The length of all that was written whole.
    len: u64,
    /// The number of the next line.
    next: u64,
    /// Lines that could not be written yet.
    owed: VecDeque<Entry>,
    /// A line that was not written whole may stand after those.
    torn: bool,
    /// When writing failed last.
    failed: Option<Instant>,
}

/// A line without its number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// RFC 3339, UTC.
    pub(crate) time: String,
    pub(crate) event: &'static str,
    #[serde(flatten)]
    pub(crate) key_use: Option<Use>,
}

/// What is written of a use of a key.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Use {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: i32,
    pub(crate) client: String,
    pub(crate) lane: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) algorithm: String,
    /// SHA-256 of the `SubjectPublicKeyInfo`.
    pub(crate) key: String,
    /// What the client calls it.
    pub(crate) description: String,
    /// SHA-256 of what the key is applied to.
    pub(crate) input: String,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) elapsed_us: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl Audit {
    /// Opens a file, goes on with its numbers, and mends a last line that was not written whole.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // One that is ending may have some lines to write.
        let until = Instant::now() + HELD_LIMIT;
        let state = loop {
            match State::open(path, 1) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    thread::sleep(HELD_PAUSE);
                }
                opened => break opened?,
            }
        };
        let audit = Self { state: Mutex::new(state) };
        audit.lock().write(Entry::event("opened"))?;
        Ok(audit)
    }

    /// Opens the file of that name anew, which may be another now, and goes on with the numbers.
    pub(crate) fn reopen(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        // It may be the same file.
        flock(&state.file, FlockOperation::Unlock)?;
        let mut fresh = State::open(path, state.next).inspect_err(|_| {
            // Nobody else had time to want it.
            let _ = flock(&state.file, FlockOperation::NonBlockingLockExclusive);
        })?;
        fresh.owed = std::mem::take(&mut state.owed);
        *state = fresh;
        state.pay()?;
        state.write(Entry::event("opened"))
    }

    /// Writes a line. The error: it was not written; it will be.
    pub(crate) fn record(&self, key_use: Use) -> io::Result<()> {
        let entry = Entry { time: now(), event: "use", key_use: Some(key_use) };
        self.lock().write(entry)
    }

    /// Whether uses can be recorded.
    pub(crate) fn is_writable(&self) -> io::Result<()> {
        self.lock().settle()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn event(event: &'static str) -> Self {
        Self { time: now(), event, key_use: None }
    }
}

impl State {
    fn open(path: &Path, first: u64) -> io::Result<Self> {
        let mut file = open_file(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file, so it cannot be gone on with"));
        }
        // Two that write would both use the same numbers.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let (len, last) = last_line(&mut file)?;
        if file.metadata()?.len() > len {
            warn!(path = %path.display(), len, "the last line of the audit was not written whole: removed");
            file.set_len(len)?;
        }
        let next = last.map_or(first, |last| first.max(last + 1));
        Ok(Self { path: path.to_owned(), file, len, next, owed: VecDeque::new(), torn: false, failed: None })
    }

    fn write(&mut self, entry: Entry) -> io::Result<()> {
        let written = match self.settle() {
            // Waiting for the next try must not put it off.
            Err(error) => Err(error),
            Ok(()) => self.append(&entry).inspect_err(|error| self.fail(error)),
        };
        let refused = entry.key_use.as_ref().is_some_and(|key_use| key_use.outcome == "refused");
        // Uses end by themselves while nothing is written; refusals may be asked for without end.
        if written.is_err() && !(refused && self.owed.len() >= MOST_OWED) {
            self.owed.push_back(entry);
        }
        written
    }

    /// Writes what is owed.
    fn settle(&mut self) -> io::Result<()> {
        let Some(failed) = self.failed else { return Ok(()) };
        if failed.elapsed() < RETRY {
            return Err(io::Error::other("the audit cannot be written at the moment"));
        }
        self.pay()?;
        self.failed = None;
        info!(path = %self.path.display(), "the audit can be written again");
        Ok(())
    }

    fn pay(&mut self) -> io::Result<()> {
        while let Some(entry) = self.owed.front().cloned() {
            if let Err(error) = self.append(&entry) {
                self.fail(&error);
                return Err(error);
            }
            self.owed.pop_front();
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line { seq: self.next, entry })?;
        line.push(b'\n');
        if let Err(error) = self.mend().and_then(|()| self.file.write_all(&line)) {
            self.torn = true;
            // If not now, then before the next line.
            let _ = self.mend();
            return Err(error);
        }
        self.len += u64::try_from(line.len()).unwrap_or(0);
        self.next += 1;
        Ok(())
    }

    /// Half a line must not stand before the next.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        Ok(())
    }

    fn fail(&mut self, reason: &io::Error) {
        if self.failed.is_none() {
            let path = self.path.display();
            error!(%path, %reason, fault = "operator", "the audit cannot be written: no key is used until it can");
        }
        self.failed = Some(Instant::now());
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

/// The length up to the last whole line, and that line's number.
fn last_line(file: &mut File) -> io::Result<(u64, Option<u64>)> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(LONGEST_END);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(LONGEST_END).read_to_end(&mut end)?;
    let Some(newline) = end.iter().rposition(|octet| *octet == b'\n') else {
        return if from == 0 {
            Ok((0, None))
        } else {
            Err(io::Error::other("its last lines are too long to be ours"))
        };
    };
    let whole = end.get(..newline).unwrap_or_default();
    let line = whole.rsplit(|octet| *octet == b'\n').next().unwrap_or_default();
    let number =
        seq_of(line).ok_or_else(|| io::Error::other("its last line is no audit line: move the file away"))?;
    Ok((from + u64::try_from(newline).unwrap_or(0) + 1, Some(number)))
}

/// The number of a line.
pub(crate) fn seq_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(line).ok()?.get("seq")?.as_u64()
}

fn now() -> String {
    rfc3339(SystemTime::now())
}

/// With milliseconds, in UTC.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match der::DateTime::from_unix_duration(Duration::from_secs(since.as_secs())) {
        Ok(at) => format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            at.month(),
            at.day(),
            at.hour(),
            at.minutes(),
            at.seconds(),
            since.subsec_millis()
        ),
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// How long a file that another process writes is waited for: as long as that may take to stop.
const HELD_LIMIT: Duration = Duration::from_secs(30);
const HELD_PAUSE: Duration = Duration::from_millis(20);
/// How often writing is tried while it fails.
const RETRY: Duration = Duration::from_millis(500);
/// With so many lines owed, refusals are not kept any more.
const MOST_OWED: usize = 10_000;
/// No line is longer.
const LONGEST_END: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn a_use(outcome: &'static str) -> Use {
        Use {
            uid: 1,
            gid: 2,
            pid: 3,
            client: "user mail".into(),
            lane: "interactive",
            operation: "sign",
            algorithm: "Ecdsa(Sha256)".into(),
            key: "00".into(),
            description: "\"CN=ä\"\n".into(),
            input: "11".into(),
            outcome,
            error: None,
            elapsed_us: 5,
        }
    }

    fn numbers(path: &Path) -> Vec<u64> {
        fs::read(path).unwrap().split_inclusive(|o| *o == b'\n').map(|line| seq_of(line).unwrap()).collect()
    }

    #[test]
    fn numbers_go_on_over_restarts_and_a_torn_line_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        audit.record(a_use("done")).unwrap();
        audit.record(a_use("failed")).unwrap();
        drop(audit);
        let whole = fs::read(&path).unwrap();
        let line = whole.split_inclusive(|octet| *octet == b'\n').next_back().unwrap();
        for torn in 1..line.len() {
            fs::write(&path, &whole[..whole.len() - torn]).unwrap();
            drop(Audit::open(&path).unwrap());
            assert_eq!(numbers(&path), [1, 2, 3], "{torn} octets are missing");
        }
        fs::write(&path, &whole).unwrap();
        Audit::open(&path).unwrap().record(a_use("done")).unwrap();
        assert_eq!(numbers(&path), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_gone_on_with_in_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        fs::rename(&path, directory.path().join("old")).unwrap();
        audit.record(a_use("done")).unwrap();
        audit.reopen(&path).unwrap();
        audit.record(a_use("done")).unwrap();
        assert_eq!(numbers(&directory.path().join("old")), [1, 2]);
        assert_eq!(numbers(&path), [3, 4]);
        drop(audit);
        drop(Audit::open(&path).unwrap());
        assert_eq!(numbers(&path), [3, 4, 5]);
    }

    #[test]
    fn what_is_owed_is_written_to_the_next_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        let whole = std::mem::replace(&mut audit.lock().file, File::open(&path).unwrap());
        audit.record(a_use("failed")).unwrap_err();
        let failed = audit.lock().failed;
        audit.record(a_use("refused")).unwrap_err();
        assert_eq!(audit.lock().failed, failed, "the next try is put off");
        drop(whole);
        assert_eq!(numbers(&path), [1]);
        audit.reopen(&path).unwrap();
        assert_eq!(numbers(&path), [1, 2, 3, 4]);
        let text = fs::read_to_string(&path).unwrap();
        let second = text.lines().nth(1).unwrap();
        assert!(second.contains("\"outcome\":\"failed\""), "{second}");
    }

    #[test]
    fn nothing_is_written_after_half_a_line_before_that_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        audit.lock().file.write_all(b"{\"seq\":").unwrap();
        let torn = fs::read(&path).unwrap();
        // Neither written nor cut.
        let whole = std::mem::replace(&mut audit.lock().file, File::open(&path).unwrap());
        audit.record(a_use("done")).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), torn);
        audit.lock().file = whole;
        audit.lock().failed = Instant::now().checked_sub(RETRY);
        audit.record(a_use("done")).unwrap();
        assert_eq!(numbers(&path), [1, 2, 3]);
    }

    #[test]
    fn a_file_has_one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        assert!(State::open(&path, 1).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        audit.reopen(&path).unwrap();
        assert!(State::open(&path, 1).is_err());
        let other = path.clone();
        let next = thread::spawn(move || Audit::open(&other).unwrap());
        audit.record(a_use("done")).unwrap();
        drop(audit);
        drop(next.join().unwrap());
        assert_eq!(numbers(&path), [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_not_an_audit_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes");
        fs::write(&path, "dear diary\n").unwrap();
        assert!(Audit::open(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"dear diary\n");
        assert!(Audit::open(Path::new("/dev/full")).is_err());
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }
}
