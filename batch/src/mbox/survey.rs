//! A first look at a whole file: compressed or not, where its messages may end, and what they are.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::unix::fs::FileExt,
};

use mbox::{Ends, Probe, Survey, is_end};

use crate::compress::{Compression, decoder};

/// Surveys a whole file.
pub(super) fn survey(file: &File, probe: &MboxProbe) -> io::Result<Survey> {
    Survey::of(start(file, probe.compression())?, probe)
}

/// How much is read at once.
pub(crate) const READ_SIZE: usize = 256 * 1024;

/// Begins to read a file, whatever place somebody else reads it at.
pub(crate) fn start(file: &File, compression: Option<Compression>) -> io::Result<Box<dyn BufRead + Send>> {
    let cursor = Cursor { file: file.try_clone()?, at: 0 };
    match compression {
        None => Ok(Box::new(BufReader::with_capacity(READ_SIZE, cursor))),
        Some(compression) => decoder(cursor, compression),
    }
}

/// Reads a file at its own place.
#[derive(Debug)]
struct Cursor {
    file: File,
    at: u64,
}

impl io::Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Tells where messages may end.
#[derive(Debug)]
pub(super) enum MboxProbe {
    /// By looking into the file.
    File(File),
    /// By what was noted before: a compressed file cannot be looked into.
    Noted(Compression, Ends),
}

impl MboxProbe {
    /// Prepares to look into a file. One that is compressed is read once.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let Some(compression) = Compression::of_file(file)? else { return Ok(Self::File(file.try_clone()?)) };
        Ok(Self::Noted(compression, Ends::of(start(file, Some(compression))?)?))
    }

    pub(super) fn compression(&self) -> Option<Compression> {
        match self {
            Self::File(_) => None,
            Self::Noted(compression, _) => Some(*compression),
        }
    }
}

impl Probe for MboxProbe {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        match self {
            MboxProbe::Noted(_, ends) => ends.may_end_at(offset),
            MboxProbe::File(file) => {
                let end = file.metadata()?.len();
                Ok(offset == end || offset < end && is_end(&read_at(file, offset, 2048)?))
            }
        }
    }
}

fn read_at(file: &File, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; max];
    let mut len = 0;
    while let Some(room) = octets.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    octets.truncate(len);
    Ok(octets)
}
