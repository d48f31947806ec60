//! Whether an audit lacks a line: a file, and the full ones beside it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    end::{is_ours, seq_of},
    rotated,
};

/// What is in an audit.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// Nothing is missing between its first and its last line.
    Whole {
        /// How many there are.
        lines: u64,
        /// The number of the first.
        first: u64,
        /// The number of the last.
        last: u64,
        /// How many lines a crash left half written, which the lines after them tell of.
        torn: u64,
    },
    /// There is no line.
    Empty,
    /// A line is missing, or is none.
    Wrong {
        /// The file it is in.
        file: PathBuf,
        /// Its place there.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { lines, first, last, torn } => {
                write!(f, "{lines} lines, {first} to {last}, none missing")?;
                if *first > 1 {
                    write!(f, " among them; 1 to {} are not here", first - 1)?;
                }
                if *torn > 0 {
                    write!(f, "; {torn} more not written whole, as the audit tells itself")?;
                }
                Ok(())
            }
            Self::Empty => f.write_str("empty"),
            Self::Wrong { file, line, what } => write!(f, "{}: line {line}: {what}", file.display()),
        }
    }
}

/// An audit that was looked through.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// The file that is written to, or was.
    pub name: PathBuf,
    /// How many files there are of it.
    pub files: usize,
    /// What is in them.
    pub found: Found,
}

/// Checks the audits that these files are of, each with the full files beside it, also while they are written to.
pub fn check(files: &[PathBuf]) -> io::Result<Vec<Checked>> {
    sequences(files)?.into_iter().map(|(name, parts)| check_audit(name, parts)).collect()
}

/// What is said of an audit is so of files that were the same before and after. A line that is missing may only be in a
/// file that was put aside meanwhile, so nothing is wrong that is not seen twice.
fn check_audit(name: PathBuf, mut parts: Vec<PathBuf>) -> io::Result<Checked> {
    let is_asked = parts.last() == Some(&name);
    let (mut before, mut tries) = (None, 0);
    loop {
        let found = check_all(&parts);
        let again = parts_of(&name, is_asked)?;
        let is_sure = again == parts
            && match &found {
                Ok(Found::Wrong { .. }) => before.as_ref() == found.as_ref().ok(),
                Ok(_) => true,
                Err(_) => false,
            };
        tries += 1;
        if is_sure || tries == MOST_TRIES {
            return Ok(Checked { name, files: parts.len(), found: found? });
        }
        (before, parts) = (found.ok(), again);
        thread::sleep(PAUSE);
    }
}

/// The audits that these files are of: each with its name, the full files beside it, and itself, in the order of their
/// lines.
pub(crate) fn sequences(files: &[PathBuf]) -> io::Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    let mut audits: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        let base = rotated::parse(file).map_or_else(|| file.clone(), |(base, _)| base);
        if audits.contains_key(&base) {
            continue;
        }
        let parts = parts_of(&base, *file == base)?;
        audits.insert(base, parts);
    }
    Ok(audits.into_iter().collect())
}

/// The files of an audit, in the order of their lines. A crash may have left it without its last one; whoever asks for that
/// one is told.
fn parts_of(base: &Path, is_asked: bool) -> io::Result<Vec<PathBuf>> {
    // Full files are beside that which is written to.
    let is_link = fs::symlink_metadata(base).is_ok_and(|found| found.is_symlink());
    let beside = if is_link { &rotated::resolved(base)? } else { base };
    let mut all: Vec<PathBuf> = rotated::all(beside)?.into_iter().map(|(_, path)| path).collect();
    if is_asked || base.try_exists()? {
        all.push(base.to_owned());
    }
    Ok(all)
}

/// Checks an audit, of files in the order of their lines.
pub(crate) fn check_all(files: &[PathBuf]) -> io::Result<Found> {
    let mut reader = Reader::default();
    for file in files {
        let lines = File::open(file)
            .and_then(|opened| reader.read(file, BufReader::new(opened)))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        if let Some(wrong) = lines {
            return Ok(wrong);
        }
    }
    Ok(reader.found())
}

#[derive(Default)]
struct Reader {
    lines: u64,
    first: Option<u64>,
    last: Option<u64>,
    torn: u64,
    /// Half a line that is not told of yet: its place.
    pending: Option<u64>,
}

impl Reader {
    /// What is wrong with a file, if anything is.
    fn read(&mut self, file: &Path, mut lines: impl BufRead) -> io::Result<Option<Found>> {
        let wrong = |line, what: String| Ok(Some(Found::Wrong { file: file.to_owned(), line, what }));
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            if line.pop() != Some(b'\n') {
                return wrong(number, "it was not written whole; the next start tells of it".to_owned());
            }
            let Some(seq) = seq_of(&line) else {
                if !is_ours(&line) || line.is_empty() {
                    return wrong(number, NONE.to_owned());
                }
                self.pending.get_or_insert(number);
                self.torn += 1;
                continue;
            };
            if let Some(pending) = self.pending.take()
                && event_of(&line).as_deref() != Some("torn")
            {
                return wrong(pending, NONE.to_owned());
            }
            if let Some(last) = self.last
                && last.checked_add(1) != Some(seq)
            {
                return wrong(number, format!("number {seq} follows {last}"));
            }
            self.lines += 1;
            self.first = self.first.or(Some(seq));
            self.last = Some(seq);
        }
        // Files are put aside after a whole line.
        match self.pending {
            Some(pending) => wrong(pending, NONE.to_owned()),
            None => Ok(None),
        }
    }

    fn found(self) -> Found {
        match (self.first, self.last) {
            (Some(first), Some(last)) => Found::Whole { lines: self.lines, first, last, torn: self.torn },
            _ => Found::Empty,
        }
    }
}

fn event_of(line: &[u8]) -> Option<String> {
    let line: serde_json::Value = serde_json::from_slice(line).ok()?;
    Some(line.get("event")?.as_str()?.to_owned())
}

/// How often an audit is looked through, whose files are others each time.
const MOST_TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);
const NONE: &str = "it is no audit line";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuditFile, AuditLog, Owe};

    #[test]
    fn files_that_are_put_aside_while_an_audit_is_looked_through_are_not_missed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let to = AuditFile { path: path.clone(), max_bytes: 1000, files: 4 };
        let log = AuditLog::open(&to, Duration::ZERO).unwrap();
        let write =
            |lines| (0..lines).for_each(|_| log.record(&BTreeMap::from([("a", "b")]), Owe::Always).unwrap());
        write(30);
        // One that is put aside now, and then so many that the first listed are removed.
        for more in [20, 200] {
            let [(name, parts)] = sequences(std::slice::from_ref(&path)).unwrap().try_into().unwrap();
            write(more);
            assert!(!matches!(check_all(&parts), Ok(Found::Whole { .. })), "{more}");
            let checked = check_audit(name, parts).unwrap();
            assert!(matches!(checked.found, Found::Whole { .. }), "{more}: {}", checked.found);
            assert_eq!(checked, check(std::slice::from_ref(&path)).unwrap().remove(0));
        }
        // What is missing is missing.
        fs::remove_file(&rotated::all(&path).unwrap()[1].1).unwrap();
        assert!(matches!(check(&[path]).unwrap()[0].found, Found::Wrong { .. }));
    }

    #[test]
    fn what_a_link_leads_to_is_looked_through_with_the_files_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let [path, link] = ["audit.jsonl", "link"].map(|name| directory.path().join(name));
        let to = AuditFile { path: path.clone(), max_bytes: 1, files: 4 };
        let log = AuditLog::open(&to, Duration::ZERO).unwrap();
        log.record(&BTreeMap::from([("a", "b")]), Owe::Always).unwrap();
        std::os::unix::fs::symlink("audit.jsonl", &link).unwrap();
        let expected = Found::Whole { lines: 2, first: 1, last: 2, torn: 0 };
        assert_eq!(
            check(std::slice::from_ref(&link)).unwrap(),
            [Checked { name: link, files: 2, found: expected }]
        );
        assert!(check(&[directory.path().join("none")]).is_err());
    }

    #[test]
    fn what_is_not_there_any_more_is_said() {
        let found = |first| Found::Whole { lines: 3, first, last: first + 2, torn: 0 }.to_string();
        assert_eq!(found(1), "3 lines, 1 to 3, none missing");
        assert_eq!(found(8), "3 lines, 8 to 10, none missing among them; 1 to 7 are not here");
    }

    #[test]
    fn gaps_repetitions_and_torn_lines_are_found_with_their_place() {
        let file = Path::new("audit");
        let whole = |lines, first, last, torn| Found::Whole { lines, first, last, torn };
        let wrong = |line, what: &str| Found::Wrong { file: file.into(), line, what: what.to_owned() };
        for (text, expected) in [
            ("", Found::Empty),
            ("{\"seq\":7}\n{\"seq\":8}\n", whole(2, 7, 8, 0)),
            ("{\"seq\":7}\n{\"seq\":9}\n", wrong(2, "number 9 follows 7")),
            ("{\"seq\":7}\n{\"seq\":7}\n", wrong(2, "number 7 follows 7")),
            ("{\"seq\":1}\n{\"seq\":2", wrong(2, "it was not written whole; the next start tells of it")),
            ("{\"seq\":1}\n\n", wrong(2, NONE)),
            ("{\"sec\":1}\n", wrong(1, NONE)),
            ("{\"seq\":1}\n{\"seq\":2\n{\"seq\":2,\"event\":\"torn\"}\n", whole(2, 1, 2, 1)),
            ("{\"seq\":1}\n{\"seq\":2\n{\"seq\":2,\"event\":\"use\"}\n", wrong(2, NONE)),
            ("{\"seq\":1}\n{\"seq\":2\n", wrong(2, NONE)),
            ("{\"seq\":1}\n\0\0\n{\"seq\":2,\"event\":\"torn\"}\n", whole(2, 1, 2, 1)),
            ("{\"seq\":1}\n{\"seq\":2}\0\n{\"seq\":2,\"event\":\"torn\"}\n", whole(2, 1, 2, 1)),
            ("{\"seq\":1}\n\0\0\n{\"seq\":2,\"event\":\"use\"}\n", wrong(2, NONE)),
            ("{\"seq\":1}\n{\"seq\":2\n{\"seq\":3,\"event\":\"torn\"}\n", wrong(3, "number 3 follows 1")),
        ] {
            let mut reader = Reader::default();
            let found = reader.read(file, text.as_bytes()).unwrap();
            assert_eq!(found.unwrap_or_else(|| reader.found()), expected, "{text}");
        }
    }
}
