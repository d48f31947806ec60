//! Whether an audit lacks a line: a file, and the full ones beside it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
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

/// The audits that these files are of: each with its name, the full files beside it, and itself, in the order of their
/// lines.
pub fn sequences(files: &[PathBuf]) -> io::Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    let mut audits: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        let base = rotated::parse(file).map_or_else(|| file.clone(), |(base, _)| base);
        if audits.contains_key(&base) {
            continue;
        }
        let mut all: Vec<PathBuf> = rotated::all(&base)?.into_iter().map(|(_, path)| path).collect();
        // A crash may have left it without its last file; whoever asks for that one is told.
        if base.try_exists()? || *file == base {
            all.push(base.clone());
        }
        audits.insert(base, all);
    }
    Ok(audits.into_iter().collect())
}

/// Checks an audit, of files in the order of their lines.
pub fn check_all(files: &[PathBuf]) -> io::Result<Found> {
    let mut checked = Checked::default();
    for file in files {
        let lines = File::open(file)
            .and_then(|opened| checked.read(file, BufReader::new(opened)))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        if let Some(wrong) = lines {
            return Ok(wrong);
        }
    }
    Ok(checked.found())
}

/// Checks one file.
pub fn check(file: &Path) -> io::Result<Found> {
    check_all(&[file.to_owned()])
}

#[derive(Default)]
struct Checked {
    lines: u64,
    first: Option<u64>,
    last: Option<u64>,
    torn: u64,
    /// Half a line that is not told of yet: its place.
    pending: Option<u64>,
}

impl Checked {
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

const NONE: &str = "it is no audit line";

#[cfg(test)]
mod tests {
    use super::*;

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
            ("{\"seq\":1}\n{\"seq\":2\n{\"seq\":3,\"event\":\"torn\"}\n", wrong(3, "number 3 follows 1")),
        ] {
            let mut checked = Checked::default();
            let found = checked.read(file, text.as_bytes()).unwrap();
            assert_eq!(found.unwrap_or_else(|| checked.found()), expected, "{text}");
        }
    }
}
