//! The report as a manifest: its lines chained by their hashes, signed on request, and an output held against it.
//!
//! Each line has the SHA-256 of the line before it, so none can be changed, added or left out in the middle, and a
//! signature of the file, or of its last line alone, covers all of it.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_lc_rs::digest::Context;
use serde::Deserialize;
use smime::{
    Certificate, cms,
    key::{Digest, Signer},
};

use crate::{
    archive::Kind,
    digest::{CopyError, Summed},
    error::BatchError,
    open::source_of,
    output::{new_file, parent, sync_folder},
    stored::Piece,
};

/// What stands in the first line for the line before it.
pub(crate) const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a line of a report tells of the output.
#[derive(Deserialize)]
struct Line {
    previous: String,
    index: u64,
    output: Option<Sum>,
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
    let mut lines = Lines::open(report)?;
    // The messages of a Maildir come in no order, so they are looked for among all that are expected.
    let mut expected: Vec<(u64, Sum)> = Vec::new();
    while let Some(line) = lines.next(&mut checked)? {
        match line.output {
            Some(sum) => expected.push((line.index, sum)),
            None => {
                checked.wrong(format!("message {}: the report says that nothing was written", line.index));
            }
        }
    }
    let mut next = expected.iter();
    let mut unordered: HashMap<Sum, u64> = HashMap::new();
    let mut is_ordered = true;
    for output in outputs {
        let kind = Kind::of(output)?;
        if matches!(kind, Kind::Maildir | Kind::Tree) && is_ordered {
            is_ordered = false;
            for (_, sum) in next.by_ref() {
                *unordered.entry(sum.clone()).or_default() += 1;
            }
        }
        let mut source = source_of(output, kind)?;
        let failed = |source| BatchError::Read { origin: output.display().to_string(), source };
        while let Some(piece) = source.next_piece().map_err(failed)? {
            let (origin, sum) = match piece {
                Piece::Message(stored) => (stored.origin.to_string(), Summed::of(&stored.octets)),
                Piece::Large(mut large) => {
                    let sum = Summed::of_copy(&mut large.octets, &mut io::sink());
                    let sum =
                        sum.map_err(|(CopyError::Read(error) | CopyError::Write(error))| failed(error))?;
                    (large.origin.to_string(), sum)
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
            let sum = Sum::from(sum);
            let is_good = if is_ordered {
                next.next().is_some_and(|(_, expected)| *expected == sum)
            } else {
                match unordered.get_mut(&sum) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        true
                    }
                    _ => false,
                }
            };
            if is_good {
                checked.good += 1;
            } else {
                checked.wrong(format!("{origin}: this is not what the report says"));
            }
        }
    }
    for (index, _) in next {
        checked.wrong(format!("message {index}: it is missing in the output"));
    }
    let missing: u64 = unordered.values().sum();
    if missing > 0 {
        checked.count += missing - 1;
        checked.wrong(format!("{missing} messages of the report are missing in the output"));
    }
    Ok(checked)
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

/// Writes a detached CMS signature (RFC 5652 5) of a report beside it, called `REPORT.p7s`.
pub fn sign(
    report: &Path,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<PathBuf, BatchError> {
    let failed = |source| BatchError::Report { report: report.display().to_string(), source };
    let unsigned = |reason: String| BatchError::ReportNotSigned { reason };
    let Some(algorithm) = signer.algorithms().first().map(|algorithm| algorithm.digest()) else {
        return Err(unsigned(format!("the key of {} cannot sign", signer.certificate())));
    };
    let Some(engine) = algorithm.engine() else {
        return Err(unsigned(format!("there is no {}", algorithm.micalg())));
    };
    // A report may be longer than the memory.
    let mut context = Context::new(engine);
    let mut file = BufReader::with_capacity(1 << 20, File::open(report).map_err(failed)?);
    loop {
        let octets = file.fill_buf().map_err(failed)?;
        let length = octets.len();
        if length == 0 {
            break;
        }
        context.update(octets);
        file.consume(length);
    }
    let value = context.finish();
    let Some(digest) = Digest::from_value(algorithm, value.as_ref()) else {
        return Err(unsigned(format!("{} has another length", algorithm.micalg())));
    };
    let object = cms::sign(|_| digest, signer, chain, at).map_err(|error| unsigned(error.to_string()))?;
    let mut name = report.as_os_str().to_owned();
    name.push(".p7s");
    let path = PathBuf::from(name);
    let written = new_file(&path).and_then(|mut file| {
        file.write_all(&object)?;
        file.sync_all()?;
        sync_folder(parent(&path))
    });
    written.map_err(|source| BatchError::Write { path: path.clone(), source })?;
    Ok(path)
}
