//! The report as a manifest: its lines chained by their hashes, signed on request, and an output held against it.
//!
//! Each line has the SHA-256 of the line before it, so none can be changed, added or left out in the middle, and a
//! signature of the file, or of its last line alone, covers all of it.

mod cut;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use self::cut::{meet_all, meet_beside};
use crate::{
    archive::Kind,
    digest::{CopyError, Summed},
    error::BatchError,
    escape::unescaped,
    expected::{Expected, Found, Input, Left, Spot, folder_of},
    maildir::{Sizes, Tree, base},
    open::source_of,
    signature::signers,
    stored::Piece,
    tree::{Listing, is_named_message},
};

pub use crate::signature::{beside as signature_of, sign};

/// What stands in the first line for the line before it.
pub(crate) const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a line of a report tells of the output.
#[derive(Deserialize)]
struct Line {
    previous: String,
    index: u64,
    archive: usize,
    /// How many inputs the run had; not in the reports of earlier versions.
    inputs: Option<usize>,
    source: Source,
    input: Sum,
    output: Option<Sum>,
    /// Where it was below the input's root; only of a file of its own, and not in the reports of earlier versions.
    below: Option<String>,
    /// In which folder it was replaced before, as an earlier line has it.
    again: Option<String>,
    /// What was written; not in the reports of earlier versions.
    kind: Option<Kind>,
    /// Whether it is about octets that are no message.
    #[serde(default)]
    no_message: bool,
}

impl Line {
    fn spot(&self) -> Spot {
        match (&self.below, self.source.offset) {
            (_, Some(_)) => Spot::Within,
            (None, None) => Spot::Untold,
            (Some(below), None) if below.is_empty() => {
                let name = Path::new(&self.source.file).file_name().unwrap_or_default();
                Spot::Alone(name.to_string_lossy().into_owned())
            }
            (Some(below), None) => unescaped(below).map_or(Spot::Untold, Spot::File),
        }
    }

    /// Which message it is about, if it was in a file of its own: in this folder, or in its own one.
    fn subject(&self, folder: Option<PathBuf>) -> Option<Subject> {
        let Spot::File(file) = self.spot() else { return None };
        let folder = folder.unwrap_or_else(|| folder_of(&file).to_owned());
        let name = base(file.file_name()?).to_owned();
        Some(Subject { archive: self.archive, folder, name, input: self.input.clone() })
    }
}

/// A message of a Maildir as it was found, however its flags were.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    archive: usize,
    folder: PathBuf,
    name: OsString,
    input: Sum,
}

/// The lines about messages that were put back after they were replaced: what these tell is told by later lines, and there
/// is one file for both.
fn outdated(report: &Path, mut again: HashMap<Subject, usize>) -> Result<HashSet<u64>, BatchError> {
    let mut outdated = HashSet::new();
    if again.is_empty() {
        return Ok(outdated);
    }
    // What is wrong with the lines themselves was told when they were read first.
    let (mut lines, mut read) = (Lines::open(report)?, Checked::default());
    while let Some(line) = lines.next(&mut read)? {
        let left = line.subject(None).and_then(|subject| again.get_mut(&subject));
        if let Some(left) = left.filter(|left| **left > 0) {
            *left -= 1;
            outdated.insert(lines.number);
        }
    }
    Ok(outdated)
}

/// Where it says that a message was.
#[derive(Deserialize)]
struct Source {
    file: String,
    offset: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) struct Sum {
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
    /// Of how many messages the report, which an earlier version has written, does not say where they were below the
    /// input's root: of these only the octets were looked at.
    pub untold: u64,
    /// Whose signatures of the report there are, by certificate. Whether those are to be trusted is another question.
    pub signers: Vec<String>,
}

/// How many problems are told.
pub const MAX_PROBLEMS: usize = 100;

impl Checked {
    pub(crate) fn wrong(&mut self, problem: impl fmt::Display) {
        self.count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem.to_string());
        }
    }
}

/// Holds outputs against the report of the run that wrote them, in the order of the inputs. Where a Maildir became several
/// mboxes, these are named all, or the folder that they are in.
pub fn check(report: &Path, outputs: &[PathBuf]) -> Result<Checked, BatchError> {
    let mut checked = Checked::default();
    match signers(report)? {
        None => {}
        Some(Ok(signers)) => checked.signers = signers,
        Some(Err(problem)) => checked.wrong(problem),
    }
    let mut lines = Lines::open(report)?;
    // What the outputs must have, by the input that it comes from.
    let mut inputs: BTreeMap<usize, Input> = BTreeMap::new();
    let mut again: HashMap<Subject, usize> = HashMap::new();
    // The last line is right: a run that goes on with another has one input.
    let mut told = None;
    while let Some(line) = lines.next(&mut checked)? {
        let folder = line.again.as_deref().and_then(unescaped);
        if let Some(earlier) = folder.and_then(|folder| line.subject(Some(folder))) {
            *again.entry(earlier).or_default() += 1;
        }
        let spot = line.spot();
        told = line.inputs;
        let Line { index, archive, input, output, kind, no_message: is_no_message, .. } = line;
        match output {
            Some(sum) => {
                checked.untold += u64::from(matches!(spot, Spot::Untold));
                let changed = input != sum;
                let input = inputs.entry(archive).or_default();
                let number = input.messages() + 1;
                input.is_written_as(kind);
                input.add(Expected { index, line: lines.number, number, is_no_message, sum, spot, changed });
            }
            None => checked.wrong(format!("message {index}: the report says that nothing was written")),
        }
    }
    let outdated = outdated(report, again)?;
    for input in inputs.values_mut() {
        input.forget(&outdated);
    }
    let given: Vec<&[PathBuf]> =
        if are_of_one(outputs, told, &inputs)? { vec![outputs] } else { outputs.chunks(1).collect() };
    for (at, outputs) in given.into_iter().enumerate() {
        let input = inputs.remove(&(at + 1)).unwrap_or_default();
        hold(input, outputs, &mut checked)?;
    }
    for input in inputs.into_values() {
        input.in_order().missing(&mut checked);
    }
    Ok(checked)
}

/// Whether these outputs are all of one input: the mboxes that a Maildir's folders became, and folders of such. How many inputs
/// there were a report of an earlier version does not tell, and one without messages has no line.
fn are_of_one(
    outputs: &[PathBuf],
    told: Option<usize>,
    inputs: &BTreeMap<usize, Input>,
) -> Result<bool, BatchError> {
    let may_be = outputs.len() > 1
        && told.is_none_or(|told| told == 1)
        && inputs.keys().all(|archive| *archive == 1)
        && inputs.get(&1).is_some_and(|input| input.may_be_mboxes(outputs, told.is_some()));
    let has_folders = || outputs.iter().any(|output| output.is_dir());
    Ok(may_be && (!has_folders() || mboxes_in(outputs)?.is_some()))
}

/// Holds the outputs of one input against what they must have.
fn hold(input: Input, outputs: &[PathBuf], checked: &mut Checked) -> Result<(), BatchError> {
    let is_one_file = matches!(outputs, [output] if !output.is_dir());
    if let Some(folders) = input.mail_folders()
        && !(folders < 2 && is_one_file)
        && let Some(mboxes) = mboxes_in(outputs)?
    {
        meet_beside_mboxes(outputs, checked)?;
        for mbox in &mboxes {
            input.meet_kind(mbox, Kind::Mbox, checked);
        }
        let root = if let [output] = outputs {
            Some(output.as_path()).filter(|output| output.is_dir())
        } else {
            None
        };
        let (parts, rest) = input.by_mbox(&mboxes, root);
        for (mbox, part) in mboxes.iter().zip(parts) {
            let mut left = part.in_order();
            meet(mbox, Kind::Mbox, &mut left, checked)?;
            left.missing(checked);
        }
        rest.in_order().missing(checked);
        return Ok(());
    }
    let kinds: Vec<Kind> = outputs.iter().map(|output| Kind::of(output)).collect::<Result<_, _>>()?;
    for (output, kind) in outputs.iter().zip(&kinds) {
        input.meet_kind(output, *kind, checked);
    }
    let mut left = match (outputs, kinds.as_slice()) {
        ([_], [Kind::Maildir | Kind::Tree]) => input.in_folders(),
        _ => input.in_order(),
    };
    for (output, kind) in outputs.iter().zip(kinds) {
        meet(output, kind, &mut left, checked)?;
    }
    left.missing(checked);
    Ok(())
}

/// The mboxes that a Maildir's folders became; `None` if it became something else.
fn mboxes_in(outputs: &[PathBuf]) -> Result<Option<Vec<PathBuf>>, BatchError> {
    let mut found = Vec::new();
    for output in outputs {
        if !output.is_dir() {
            found.push(output.strip_prefix(".").unwrap_or(output).to_owned());
            continue;
        }
        let listed = Listing::of(output);
        let listing = listed
            .map_err(|(folder, source)| BatchError::Read { origin: folder.display().to_string(), source })?;
        let is_mbox = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "mbox");
        let mboxes: Vec<PathBuf> = listing.left_out.into_iter().filter(is_mbox).collect();
        if mboxes.is_empty() || !listing.messages.is_empty() || Tree::is_maildir(output) {
            return Ok(None);
        }
        found.extend(mboxes.iter().map(|mbox| output.join(mbox)));
    }
    let are_mboxes = found.iter().map(|path| Kind::of(path).map(|kind| kind == Kind::Mbox));
    let are_mboxes: Vec<bool> = are_mboxes.collect::<Result<_, _>>()?;
    Ok((!are_mboxes.is_empty() && are_mboxes.into_iter().all(|is_mbox| is_mbox)).then_some(found))
}

/// Finds what is beside the mboxes in their folders, and what mail programs may show: no run writes anything else there.
fn meet_beside_mboxes(outputs: &[PathBuf], checked: &mut Checked) -> Result<(), BatchError> {
    for output in outputs.iter().filter(|output| output.is_dir()) {
        let listed = Listing::of(output);
        let listing = listed
            .map_err(|(folder, source)| BatchError::Read { origin: folder.display().to_string(), source })?;
        for path in listing.left_out.iter().map(|below| output.join(below)) {
            let Ok(there) = fs::symlink_metadata(&path) else { continue };
            let is_called_so = path.extension().is_some_and(|extension| extension == "mbox");
            if !there.is_file() || !is_called_so {
                checked.wrong(format!("{}: the report says nothing of it", path.display()));
            }
        }
    }
    Ok(())
}

/// Reads an output, and meets what must be there.
fn meet(output: &Path, kind: Kind, left: &mut Left, checked: &mut Checked) -> Result<(), BatchError> {
    if kind == Kind::Mbox && meet_all(output, left, checked)? {
        return Ok(());
    }
    if matches!(kind, Kind::Maildir | Kind::Tree) {
        meet_beside(output, left, checked)?;
        meet_links(output, kind, checked)?;
    }
    let mut source = source_of(output, kind)?;
    let failed = |source| BatchError::Read { origin: output.display().to_string(), source };
    while let Some(piece) = source.next_piece().map_err(failed)? {
        let (origin, sizes, sum) = match piece {
            Piece::Message(stored) => {
                let sum = Summed::of(&stored.octets);
                (stored.origin, Sizes::of(&stored.octets), sum)
            }
            Piece::Large(mut large) => {
                let mut sizes = Sizes::default();
                let sum = Summed::of_copy(&mut large.octets, &mut sizes);
                let sum = sum.map_err(|(CopyError::Read(error) | CopyError::Write(error))| failed(error))?;
                (large.origin, sizes, sum)
            }
            Piece::Verbatim { mut large, .. } => {
                let sum = Summed::of_copy(&mut large.octets, &mut io::sink());
                let sum = sum.map_err(|(CopyError::Read(error) | CopyError::Write(error))| failed(error))?;
                match left.take_no_message(&Sum::from(sum)) {
                    Found::Good => checked.good += 1,
                    _ => checked.wrong(format!(
                        "{}: the octets before the first message are not what the report says",
                        large.origin.file.display()
                    )),
                }
                continue;
            }
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
        match left.take(&Sum::from(sum), below, sizes) {
            Found::Good => checked.good += 1,
            Found::Elsewhere => checked.wrong(format!("{origin}: the report says this of another file")),
            Found::Not => checked.wrong(format!("{origin}: this is not what the report says")),
        }
    }
    Ok(())
}

/// Finds what is not looked into because it is a link or no file, and what mail programs may show nevertheless: no run writes such.
fn meet_links(output: &Path, kind: Kind, checked: &mut Checked) -> Result<(), BatchError> {
    let is_tree = kind == Kind::Tree;
    let left_out = if is_tree {
        Listing::of(output).map(|listing| listing.left_out)
    } else {
        Tree::of(output).map(|tree| tree.left_out)
    };
    let left_out = left_out
        .map_err(|(folder, source)| BatchError::Read { origin: folder.display().to_string(), source })?;
    for path in left_out.iter().map(|below| output.join(below)) {
        let is_link = fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink());
        if (is_tree && is_named_message(&path)) || (is_link && path.is_dir()) {
            checked.wrong(format!(
                "{}: it is a link, or no file, of which the report says nothing",
                path.display()
            ));
        }
    }
    Ok(())
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
        let parsed: Line = serde_json::from_slice(line).map_err(|error| match self.number {
            1 => BatchError::Input {
                path: self.path.clone(),
                problem: "no report of hsmime-batch; the report comes first, then what it is about",
            },
            _ => failed(error.into()),
        })?;
        if parsed.previous != self.previous {
            checked.wrong(format!("line {} of the report does not follow the line before it", self.number));
        }
        self.previous = Summed::of(line).sha256;
        Ok(Some(parsed))
    }
}

/// A line has at most 100 layers with 500 recipients each.
const MAX_LINE: u64 = 64 << 20;
