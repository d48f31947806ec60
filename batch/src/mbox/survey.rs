//! A first look at a whole mbox: how many messages, and which quoting it has.

use std::{
    fs::File,
    io::{self, BufReader},
    os::unix::fs::FileExt,
};

use super::{
    quoting::Quoting,
    splitter::{Part, Probe, Splitter},
};

/// What a first look at an mbox found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many messages it holds.
    pub messages: u64,
    /// How many octets are before the first.
    pub preamble: u64,
    /// Lines `>From `, `>>From ` and so on.
    pub quoted: u64,
    /// Of these the ones with more than one `>`.
    pub requoted: u64,
    /// Lines `From ` in bodies.
    pub bare: u64,
    /// Messages that may be two.
    pub doubtful: u64,
}

impl Survey {
    /// Reads the whole file.
    pub fn of(file: &File) -> io::Result<Self> {
        let mut survey = Self::default();
        let mut splitter = Splitter::new(BufReader::with_capacity(READ_SIZE, file), FileProbe(file), 0);
        while let Some(part) = splitter.next_part()? {
            match part {
                Part::Preamble { len } => survey.preamble = len,
                Part::Message(found) => {
                    survey.messages += 1;
                    survey.quoted += found.quoted;
                    survey.requoted += found.requoted;
                    survey.bare += found.bare;
                    survey.doubtful += u64::from(found.doubt.is_some());
                }
            }
        }
        Ok(survey)
    }

    /// The quoting, as far as it can be told. A bare `From ` shows a writer that does not quote every one,
    /// so `>From ` may be what the author wrote. Else it is taken for mboxrd: undoing it gives the author's
    /// words for all writers but those of mboxo, and for these too unless the author wrote `>From `.
    pub fn quoting(&self) -> Quoting {
        if self.bare > 0 { Quoting::Mboxo } else { Quoting::Mboxrd }
    }
}

/// How much is read at once.
pub(crate) const READ_SIZE: usize = 1 << 20;

/// Reads at an offset of a file, whatever place its reader is at.
#[derive(Debug)]
pub(crate) struct FileProbe<F>(pub(crate) F);

impl<F: std::borrow::Borrow<File>> Probe for FileProbe<F> {
    fn at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; max];
        let mut len = 0;
        while let Some(room) = octets.get_mut(len..).filter(|room| !room.is_empty()) {
            match self.0.borrow().read_at(room, offset + len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        octets.truncate(len);
        Ok(octets)
    }

    fn end(&self) -> io::Result<u64> {
        Ok(self.0.borrow().metadata()?.len())
    }
}
