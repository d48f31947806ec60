//! The report as a manifest: its lines chained by their hashes, signed on request, and an output held against it.
//!
//! Each line has the SHA-256 of the line before it, so none can be changed, added or left out in the middle, and a
//! signature of the file, or of its last line alone, covers all of it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    archive::Kind,
    digest::{CopyError, Summed},
    error::BatchError,
    maildir::{base, successor},
    open::source_of,
    signature::signers,
    stored::Piece,
};

pub use crate::signature::sign;

/// What stands in the first line for the line before it.
pub(crate) const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a line of a report tells of the output.
#[derive(Deserialize)]
struct Line {
    previous: String,
    index: u64,
    archive: usize,
    source: Source,
    input: Sum,
    output: Option<Sum>,
}

/// Where it says that a message was.
#[derive(Deserialize)]
struct Source {
    file: String,
    offset: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Sum {
    size: u64,
    sha256: String,
}

impl From<Summed> for Sum {
    fn from(Summed { size, sha256 }: Summed) -> Self {
        Self { size, sha256 }
    }
}

/// What an output was found to be beside a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Messages of the report that are in the output as they were written.
    pub good: u64,
    /// What is wrong; at most [`MAX_PROBLEMS`].
    pub problems: Vec<String>,
    /// How many problems there are.
    pub count: u64,
    /// Whose signatures of the report there are, by certificate. Whether those are to be trusted is another question.
    pub signers: Vec<String>,
}

/// How many problems are told.
pub const MAX_PROBLEMS: usize = 100;

impl Checked {
    fn wrong(&mut self, problem: impl fmt::Display) {
        self.count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem.to_string());
        }
    }
}

/// Holds outputs against the report of the run that wrote them, in the order of the inputs.
pub fn check(report: &Path, outputs: &[PathBuf]) -> Result<Checked, BatchError> {
    let mut checked = Checked::default();
    match signers(report)? {
        None => {}
        Some(Ok(signers)) => checked.signers = signers,
        Some(Err(problem)) => checked.wrong(problem),
    }
    let mut lines = Lines::open(report)?;
    // What each output must have, by the input that it comes from.
    let mut expected: BTreeMap<usize, Vec<Expected>> = BTreeMap::new();
    while let Some(line) = lines.next(&mut checked)? {
        let Line { index, archive, source, input, output, .. } = line;
        match output {
            Some(sum) => {
                let name = PathBuf::from(source.file);
                let message =
                    Expected { index, changed: input != sum, name, has_file: source.offset.is_none(), sum };
                expected.entry(archive).or_default().push(message);
            }
            None => checked.wrong(format!("message {index}: the report says that nothing was written")),
        }
    }
    // A Maildir with several folders becomes several mboxes: then all outputs are of the one input.
    let is_one = expected.keys().all(|archive| *archive == 1);
    let mut lefts: BTreeMap<usize, Left> = BTreeMap::new();
    for (at, output) in outputs.iter().enumerate() {
        let archive = if is_one { 1 } else { at + 1 };
        let kind = Kind::of(output)?;
        let is_ordered = !matches!(kind, Kind::Maildir | Kind::Tree);
        let left = lefts
            .entry(archive)
            .or_insert_with(|| Left::new(expected.remove(&archive).unwrap_or_default(), is_ordered));
        let mut source = source_of(output, kind)?;
        let failed = |source| BatchError::Read { origin: output.display().to_string(), source };
        while let Some(piece) = source.next_piece().map_err(failed)? {
            let (origin, octets, sum) = match piece {
                Piece::Message(stored) => {
                    let sum = Summed::of(&stored.octets);
                    (stored.origin, Some(stored.octets), sum)
                }
                Piece::Large(mut large) => {
                    let sum = Summed::of_copy(&mut large.octets, &mut io::sink());
                    let sum =
                        sum.map_err(|(CopyError::Read(error) | CopyError::Write(error))| failed(error))?;
                    (large.origin, None, sum)
                }
                Piece::Verbatim(_) => continue,
                Piece::Unreadable { origin, error } => {
                    checked.wrong(format!("{origin}: {error}"));
                    continue;
                }
                Piece::Vanished { origin } => {
                    checked.wrong(format!("{origin}: it was deleted meanwhile"));
                    continue;
                }
            };
            let below = origin.file.strip_prefix(output).unwrap_or(&origin.file);
            match left.take(&Sum::from(sum), |expected| is_ordered || expected.fits(below, octets.as_deref()))
            {
                Found::Good => checked.good += 1,
                Found::Elsewhere => checked.wrong(format!("{origin}: the report says this of another file")),
                Found::Not => checked.wrong(format!("{origin}: this is not what the report says")),
            }
        }
    }
    let unmet = expected.into_values().map(|left| Left::new(left, true));
    for left in lefts.into_values().chain(unmet) {
        left.missing(&mut checked);
    }
    Ok(checked)
}

/// A message that must be there.
#[derive(Debug)]
struct Expected {
    index: u64,
    sum: Sum,
    /// The file of the input that it comes from.
    name: PathBuf,
    /// Whether that was a file of its own.
    has_file: bool,
    /// Whether it is another than it was.
    changed: bool,
}

impl Expected {
    /// Whether a file of the output, by its path below the root, has the place and the name that this message must
    /// have. Of a message that was none of a Maildir or a tree, or is too large to be read, nothing is known.
    fn fits(&self, below: &Path, octets: Option<&[u8]>) -> bool {
        let name = self.name.to_string_lossy();
        let is_mail = |path: &Path| {
            path.parent().and_then(Path::file_name).is_some_and(|part| part == "cur" || part == "new")
        };
        let (Some(octets), true, false) = (octets, self.has_file, name.contains(char::REPLACEMENT_CHARACTER))
        else {
            return true;
        };
        if !is_mail(&self.name) || !is_mail(below) {
            return is_mail(&self.name) || is_mail(below) || self.name.ends_with(below);
        }
        let (Some(old), Some(new)) = (self.name.file_name(), below.file_name()) else { return false };
        let folder =
            |path: &Path| path.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        let is_named =
            if self.changed { base(&successor(old, octets)) == base(new) } else { base(old) == base(new) };
        is_named && folder(&self.name).ends_with(folder(below))
    }
}

/// What of an output was not met yet.
enum Left {
    /// The messages are in the order of the report.
    InOrder(std::vec::IntoIter<Expected>),
    /// The messages of a folder come in no order, so they are looked for among all.
    InAny(HashMap<Sum, Vec<Expected>>),
}

/// Whether something must be there.
enum Found {
    Good,
    Elsewhere,
    Not,
}

impl Left {
    fn new(expected: Vec<Expected>, is_ordered: bool) -> Self {
        if is_ordered {
            return Self::InOrder(expected.into_iter());
        }
        let mut all: HashMap<Sum, Vec<Expected>> = HashMap::new();
        for message in expected {
            all.entry(message.sum.clone()).or_default().push(message);
        }
        Self::InAny(all)
    }

    fn take(&mut self, sum: &Sum, fits: impl Fn(&Expected) -> bool) -> Found {
        match self {
            Self::InOrder(left) => match left.next() {
                Some(expected) if expected.sum == *sum => Found::Good,
                _ => Found::Not,
            },
            Self::InAny(left) => {
                let Some(same) = left.get_mut(sum).filter(|same| !same.is_empty()) else { return Found::Not };
                let Some(at) = same.iter().position(fits) else { return Found::Elsewhere };
                same.swap_remove(at);
                Found::Good
            }
        }
    }

    fn missing(self, checked: &mut Checked) {
        let left: Vec<Expected> = match self {
            Self::InOrder(left) => left.collect(),
            Self::InAny(left) => left.into_values().flatten().collect(),
        };
        for Expected { index, .. } in left {
            checked.wrong(format!("message {index}: it is missing in the output"));
        }
    }
}

/// The lines of a report, their chain checked on the way.
struct Lines {
    path: PathBuf,
    input: BufReader<File>,
    previous: String,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, BatchError> {
        let input = File::open(path)
            .map_err(|source| BatchError::Read { origin: path.display().to_string(), source })?;
        let previous = NOTHING_BEFORE.to_owned();
        Ok(Self { path: path.to_owned(), input: BufReader::new(input), previous, number: 0 })
    }

    fn next(&mut self, checked: &mut Checked) -> Result<Option<Line>, BatchError> {
        let mut text = Vec::new();
        let failed = |source| BatchError::Read { origin: self.path.display().to_string(), source };
        let read = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut text).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let Some(line) = text.strip_suffix(b"\n") else {
            return Err(failed(io::Error::other(format!("line {} has no end", self.number))));
        };
        let parsed: Line = serde_json::from_slice(line).map_err(|error| failed(error.into()))?;
        if parsed.previous != self.previous {
            checked.wrong(format!("line {} of the report does not follow the line before it", self.number));
        }
        self.previous = Summed::of(line).sha256;
        Ok(Some(parsed))
    }
}

/// A line has at most 100 layers with 500 recipients each.
const MAX_LINE: u64 = 64 << 20;
