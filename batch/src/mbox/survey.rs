//! A first look at a whole file: compressed or not, where its messages may end, and what they are.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    sync::OnceLock,
};

use mbox::{Believing, Cursor, Ends, Lengths, Probe, Survey};

use crate::compress::{Compression, decoder};

/// Surveys a whole file.
pub(super) fn survey(file: &File, probe: &MboxProbe) -> io::Result<Survey> {
    Survey::of(start(file, probe.compression())?, probe)
}

/// How much is read at once.
pub(crate) const READ_SIZE: usize = 256 * 1024;

/// Begins to read a file, whatever place somebody else reads it at.
pub(crate) fn start(file: &File, compression: Option<Compression>) -> io::Result<Box<dyn BufRead + Send>> {
    let cursor = Cursor::new(file.try_clone()?);
    match compression {
        None => Ok(Box::new(BufReader::with_capacity(READ_SIZE, cursor))),
        Some(compression) => decoder(cursor, compression),
    }
}

/// Tells where messages may end.
#[derive(Debug)]
pub(super) struct MboxProbe {
    file: File,
    /// What was noted before: a compressed file cannot be looked into.
    noted: Option<(Compression, Ends)>,
    /// Whose its lengths are, if that was told, or when somebody has asked.
    lengths: OnceLock<Lengths>,
}

impl MboxProbe {
    /// Prepares to look into a file, of which may have been told whose its lengths are. One that is compressed is read once.
    pub(super) fn of(file: &File, told: Option<Lengths>) -> io::Result<Self> {
        let noted = match Compression::of_file(file)? {
            Some(compression) => Some((compression, Ends::of(start(file, Some(compression))?)?)),
            None => None,
        };
        let lengths = told.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { file: file.try_clone()?, noted, lengths })
    }

    pub(super) fn compression(&self) -> Option<Compression> {
        self.noted.as_ref().map(|(compression, _)| *compression)
    }
}

impl Probe for MboxProbe {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        match &self.noted {
            Some((_, ends)) => Ok(ends.has(offset)),
            None => self.file.may_end_at(offset),
        }
    }

    fn lengths(&self) -> io::Result<Lengths> {
        if let Some(known) = self.lengths.get() {
            return Ok(*known);
        }
        let input = start(&self.file, self.compression())?;
        let lengths = Lengths::of(&Survey::of(input, &Believing(self))?);
        Ok(*self.lengths.get_or_init(|| lengths))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_length_that_ends_in_the_middle_of_a_line_is_not_believed() {
        let from = "From alice@example.org Fri Sep 16 22:26:51 2016\n";
        let middle = format!("{from}A: 2\n\nsecret\n\n");
        let lying = |length| format!("{from}Content-Length: {length:03}\n\nx\n\n");
        for (start, messages) in [("X:", 3), ("X: ", 3), ("Y: 1\n\ntext\n\n", 4)] {
            let length = "x\n\n".len() + middle.len() + from.len() + start.len();
            let archive = format!("{}{middle}{from}{start}{from}Subject: 3\n\ny\n", lying(length));
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(archive.as_bytes()).unwrap();
            let probe = MboxProbe::of(&file, None).unwrap();
            assert!(probe.compression().is_none());
            assert_eq!(survey(&file, &probe).unwrap().messages, messages, "{start:?}");
            assert_eq!(Survey::of(archive.as_bytes(), archive.as_bytes()).unwrap().messages, messages);
            let mut encoder =
                flate2::write::GzEncoder::new(tempfile::tempfile().unwrap(), flate2::Compression::fast());
            encoder.write_all(archive.as_bytes()).unwrap();
            let compressed = encoder.finish().unwrap();
            let probe = MboxProbe::of(&compressed, None).unwrap();
            assert!(probe.compression().is_some());
            assert_eq!(survey(&compressed, &probe).unwrap().messages, messages, "{start:?}, compressed");
        }
    }
}
