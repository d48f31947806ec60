//! The messages of an archive, one after the other: of an mbox as `hsmime-batch` cuts it, of a Maildir and its folders.

use std::{
    cell::OnceCell,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use mbox::{Cursor, Lengths, Part, Probe, Splitter, Survey, read_at, unquote};

/// Of a longer message no more is looked at.
const MAX_MESSAGE: usize = 256 << 20;
/// What comes through a pipe is kept in memory, since an mbox is looked at twice.
const MAX_PIPE: u64 = 1 << 30;
/// Nobody has folders of folders so deep.
const MAX_DEPTH: usize = 32;

/// An archive that is open, or whose files are known: what reads it may have other rights than who opened it.
pub(super) enum Archive {
    Files(Vec<PathBuf>),
    Mbox(File),
    Piped(Vec<u8>),
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let mut files = Vec::new();
            maildir(path, MAX_DEPTH, &mut files)?;
            files.sort();
            return Ok(Self::Files(files));
        }
        let file = File::open(path)?;
        if file.metadata()?.is_file() {
            return Ok(Self::Mbox(file));
        }
        let mut octets = Vec::new();
        (&file).take(MAX_PIPE + 1).read_to_end(&mut octets)?;
        if octets.len() as u64 > MAX_PIPE {
            bail!("more than 1 GiB comes through a pipe: write it into a file first");
        }
        Ok(Self::Piped(octets))
    }

    /// Gives each message as it was before it was put into the archive, and tells how many may not be one message.
    pub(super) fn each(self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let doubts = |survey: &Survey| survey.doubtful + survey.disputed + survey.hidden;
        match self {
            Self::Files(files) => files.iter().try_for_each(|path| {
                let read = || format!("cannot read {}", path.display());
                let file = File::open(path).with_context(read)?;
                let mut octets = Vec::new();
                file.take(MAX_MESSAGE as u64).read_to_end(&mut octets).with_context(read)?;
                each(&octets)
            })?,
            Self::Mbox(file) => {
                let start = || BufReader::new(Cursor::new(&file));
                let probe = Once::of(&file);
                let survey = Survey::of(start(), &probe)?;
                split(start(), &probe, &survey, |offset, len| read_at(&file, offset, len), each)?;
                return Ok(doubts(&survey));
            }
            Self::Piped(octets) => {
                let octets = octets.as_slice();
                let probe = Once::of(octets);
                let survey = Survey::of(octets, &probe)?;
                let read = |offset, len| {
                    let mut rest =
                        octets.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
                    let mut part = Vec::new();
                    (&mut rest).take(len as u64).read_to_end(&mut part)?;
                    Ok(part)
                };
                split(octets, &probe, &survey, read, each)?;
                return Ok(doubts(&survey));
            }
        }
        Ok(0)
    }
}

/// Cuts an mbox. `read` reads some of it once more.
fn split<P: Probe + ?Sized>(
    input: impl BufRead,
    probe: &P,
    survey: &Survey,
    read: impl Fn(u64, usize) -> io::Result<Vec<u8>>,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut splitter = Splitter::new(input, probe, MAX_MESSAGE);
    while let Some(part) = splitter.next_part()? {
        match part {
            Part::Preamble { is_blank: true, .. } => {}
            // One message without a From_ line, or an archive that lost its beginning.
            Part::Preamble { len, .. } => {
                each(&read(0, usize::try_from(len).unwrap_or(usize::MAX).min(MAX_MESSAGE))?)?;
            }
            Part::Message(found) => {
                let (octets, separator) = match found.octets {
                    Some(octets) => (octets, found.separator),
                    None => (read(found.offset, MAX_MESSAGE)?, 0),
                };
                let end = octets.len().saturating_sub(separator);
                let stored = octets.get(found.from_line..end).unwrap_or_default();
                match survey.quoting() {
                    Some(quoting) => each(&unquote(stored, quoting))?,
                    None => each(stored)?,
                }
            }
        }
    }
    Ok(())
}

/// Finds out once whose the lengths are.
struct Once<'p, P: ?Sized> {
    probe: &'p P,
    lengths: OnceCell<Lengths>,
}

impl<'p, P: Probe + ?Sized> Once<'p, P> {
    fn of(probe: &'p P) -> Self {
        Self { probe, lengths: OnceCell::new() }
    }
}

impl<P: Probe + ?Sized> Probe for Once<'_, P> {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        self.probe.may_end_at(offset)
    }

    fn lengths(&self) -> io::Result<Lengths> {
        if let Some(known) = self.lengths.get() {
            return Ok(*known);
        }
        let lengths = self.probe.lengths()?;
        Ok(*self.lengths.get_or_init(|| lengths))
    }
}

/// The messages of a Maildir, those of its folders too.
fn maildir(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth == 0 {
        bail!("{}: too many folders in each other", folder.display());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let is_box = path.file_name().is_some_and(|name| name == "cur" || name == "new");
        if kind.is_dir() && is_box {
            for file in fs::read_dir(&path)? {
                let file = file?;
                if file.file_type()?.is_file() {
                    files.push(file.path());
                }
            }
        } else if kind.is_dir() && path.file_name().is_none_or(|name| name != "tmp") {
            maildir(&path, depth - 1, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(octets: &[u8]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.mbox");
        fs::write(&path, octets).unwrap();
        let of = |archive: Archive| {
            let mut found = Vec::new();
            let each = |octets: &[u8]| {
                found.push(String::from_utf8(octets.to_vec()).unwrap());
                Ok(())
            };
            archive.each(each).unwrap();
            found
        };
        let found = of(Archive::open(&path).unwrap());
        assert_eq!(of(Archive::Piped(octets.to_vec())), found);
        found
    }

    #[test]
    fn an_mbox_is_cut_and_read_as_its_variant_wants_it() {
        let from = |name: &str| format!("From {name}@example.org Fri Sep 16 22:26:51 2016\n");
        let (a, b) = (from("a"), from("b"));
        for (octets, expected) in [
            (String::new(), vec![]),
            ("Subject: one mail\n\nalone\n".to_owned(), vec!["Subject: one mail\n\nalone\n"]),
            (format!("\n\n{a}Subject: one\n\nx\n\n"), vec!["Subject: one\n\nx\n"]),
            // `From ` in a text begins no message where no header follows, or the line has not its form.
            (
                format!(
                    "{a}Subject: one\n\nx\n\nFrom now on\n\n{b}is how they begin\n\n{b}Subject: two\n\ny\n\n"
                ),
                vec![
                    &*format!("Subject: one\n\nx\n\nFrom now on\n\n{b}is how they begin\n"),
                    "Subject: two\n\ny\n",
                ],
            ),
            // mboxrd has a `>` more everywhere.
            (
                format!("{a}Subject: one\n\n>From me\n>>From you\n\n{b}Subject: two\n\ny\n\n"),
                vec!["Subject: one\n\nFrom me\n>From you\n", "Subject: two\n\ny\n"],
            ),
        ]
        .map(|(octets, expected): (String, Vec<&str>)| {
            (octets, expected.into_iter().map(str::to_owned).collect::<Vec<_>>())
        }) {
            assert_eq!(messages(octets.as_bytes()), expected, "{octets}");
        }
    }

    #[test]
    fn a_length_that_leads_out_of_the_archive_costs_no_message() {
        for length in [u64::MAX, 9_999_999_999_999_999_999, i64::MAX.unsigned_abs(), 1_000, 9] {
            let octets = format!(
                "From a@example.org Fri Sep 16 22:26:51 2016\nSubject: one\nContent-Length: {length}\n\nx\n\n\
                 From b@example.org Fri Sep 16 22:26:51 2016\nSubject: two\n\ny\n"
            );
            assert_eq!(messages(octets.as_bytes()).len(), 2, "{length}");
        }
    }

    #[test]
    fn a_length_that_the_archive_s_writer_gives_is_believed() {
        let one = |text: &str| {
            format!(
                "From a@example.org Fri Sep 16 22:26:51 2016\nSubject: x\nContent-Length: {}\n\n{text}\n",
                text.len()
            )
        };
        let hidden = "x\n\nFrom b@example.org Fri Sep 16 22:26:51 2016\nSubject: hidden\n\ny\n";
        let archive: String = ["one\n", "two\n", hidden, "four\n"].map(one).concat();
        assert_eq!(messages(archive.as_bytes()).len(), 4);
    }
}
