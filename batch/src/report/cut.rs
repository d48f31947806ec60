//! What of a report may go where a run goes on: the journal that tells it lies where others may write.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::retold::{Cursor, READ_SIZE};
use crate::output::parent;

/// What a line tells of where it belongs.
#[derive(Deserialize)]
struct Line<'a> {
    archive: usize,
    #[serde(borrow)]
    source: Source<'a>,
    input: Size,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    file: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Size {
    size: u64,
}

/// Where a report is to end, and of which messages.
pub(super) struct Cut<'a> {
    pub(super) length: u64,
    /// How many messages its lines tell of up to there.
    pub(super) messages: u64,
    /// Which of the inputs comes next.
    pub(super) archive: usize,
    pub(super) input: &'a Path,
}

impl Cut<'_> {
    /// Fails if the report is shorter. Of a journal that somebody else may have written, also unless what stays is what was
    /// counted, and what goes is of this input, and of no more mail than is worked on until the next note.
    pub(super) fn check(&self, report: &File, is_others: bool) -> io::Result<()> {
        let refuse = |problem: &str| {
            let words = if self.input.is_dir() {
                "and so the journal is not this report's, or the input had another name: go on with the name, and from the \
                 folder, it was begun with; without the journal nothing tells which messages were replaced"
            } else {
                "and so the journal is not this report's, or the input had another name: go on with the name, and from the \
                 folder, it was begun with, or remove the journal, and begin anew with another --report"
            };
            Err(io::Error::other(format!("{problem}, {words}")))
        };
        let length = report.metadata()?.len();
        if length < self.length {
            return Err(io::Error::other("it is shorter than it was"));
        }
        if length == 0 || !is_others {
            return Ok(());
        }
        let mut text = Vec::new();
        let mut kept = BufReader::with_capacity(READ_SIZE, Cursor { report, at: 0 }.take(self.length));
        let mut lines = 0;
        while kept.read_until(b'\n', &mut text)? > 0 {
            lines += 1;
            if !text.ends_with(b"\n") {
                return refuse("it had no line that ends where the journal says");
            }
            text.clear();
        }
        if lines != self.messages {
            return refuse("it has not as many lines as the journal says");
        }
        let gone = Cursor { report, at: self.length }.take(length - self.length);
        let mut gone = BufReader::with_capacity(READ_SIZE, gone);
        let roots = [Some(self.input.to_owned()), fs::canonicalize(self.input).ok()];
        let roots: Vec<PathBuf> = roots.into_iter().flatten().map(|root| lossy(&root)).collect();
        let mut octets: u64 = 0;
        // The last one may not have come to its end.
        while gone.read_until(b'\n', &mut text)? > 0 && text.ends_with(b"\n") {
            let Ok(line) = serde_json::from_slice::<Line<'_>>(&text) else {
                return refuse("the journal would have a line go that is none");
            };
            if line.archive != self.archive || !is_within(Path::new(&*line.source.file), &roots) {
                return refuse(
                    "the journal would have lines go that are of another input, or of one of another name",
                );
            }
            // Whatever the last message had.
            if octets > MOST {
                return refuse("the journal would have more lines go than a run leaves without a note");
            }
            octets = octets.saturating_add(line.input.size);
            text.clear();
        }
        Ok(())
    }
}

fn is_within(file: &Path, roots: &[PathBuf]) -> bool {
    let is_below = |file: &Path| roots.iter().any(|root| file.starts_with(root));
    let real = || Some(lossy(&fs::canonicalize(parent(file)).ok()?.join(file.file_name()?)));
    is_below(file) || real().is_some_and(|real| is_below(&real))
}

/// As paths are in a report.
fn lossy(path: &Path) -> PathBuf {
    PathBuf::from(path.to_string_lossy().into_owned())
}

/// Of so many octets of mail a run notes four times how far it is.
const MOST: u64 = 4 * crate::writer::NOTE_OCTETS;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(archive: usize, file: &str, size: u64) -> String {
        format!(
            "{{\"source\":{{\"file\":\"{file}\"}},\"input\":{{\"size\":{size}}},\"archive\":{archive}}}\n"
        )
    }

    #[test]
    fn no_journal_has_more_of_a_report_go_than_a_run_leaves_without_a_note() {
        let [first, own] = [line(1, "/mail/v/1", 9), line(2, "/mail/u/1", 9)];
        let [much, none] = [line(2, "/mail/u/2", MOST), "no line\n".to_owned()];
        let other = line(2, "/mail/v/2", 9);
        let at = first.len() as u64;
        // What the report is, and what the journal says: length, messages, input.
        let cases = [
            (format!("{first}{own}"), at, 1, 2, true),
            (format!("{first}{own}"), at + own.len() as u64, 2, 2, true),
            (format!("{first}{own}{{\"sour"), at, 1, 2, true),
            (format!("{first}{own}{much}"), at, 1, 2, true),
            (String::new(), 0, 7, 1, true),
            // Not as many as it says; the middle of a line; more than there is.
            (format!("{first}{own}"), 0, 7, 2, false),
            (format!("{first}{own}"), at, 0, 2, false),
            (format!("{first}{own}"), at - 3, 1, 2, false),
            (first.clone(), at + 1, 1, 2, false),
            // Of another input, by number or by name; what is no line; too many.
            (format!("{first}{own}"), 0, 0, 2, false),
            (format!("{first}{own}{other}"), at, 1, 2, false),
            (format!("{first}{none}"), at, 1, 2, false),
            (format!("{first}{own}{much}{own}"), at, 1, 2, false),
        ];
        for (text, length, messages, archive, is_well) in cases {
            let mut report = tempfile::tempfile().unwrap();
            report.write_all(text.as_bytes()).unwrap();
            let cut = Cut { length, messages, archive, input: Path::new("/mail/u") };
            let checked = cut.check(&report, true);
            assert_eq!(checked.is_ok(), is_well, "{text} {length} {messages}: {checked:?}");
            // A journal that only we can have written is believed, whatever the input is called.
            assert_eq!(cut.check(&report, false).is_ok(), text.len() as u64 >= length);
        }
    }
}
