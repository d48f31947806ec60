//! Files as archives: read without moving the place where others read them.

use std::{
    borrow::Borrow,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt as _,
};

use crate::{
    probe::{Believing, Lengths, Probe, is_end},
    survey::Survey,
};

/// As much as has to be seen of the lines behind an offset, and the octet before it.
const PROBED: usize = 2049;

/// Reads a file at a place of its own, from its start.
#[derive(Debug)]
pub struct Cursor<F> {
    file: F,
    at: u64,
}

impl<F: Borrow<File>> Cursor<F> {
    /// Before the first octet.
    pub fn new(file: F) -> Self {
        Self { file, at: 0 }
    }
}

impl<F: Borrow<File>> Read for Cursor<F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.file.borrow().read_at(room, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Reads at most `max` octets of a file from an offset on.
pub fn read_at(file: &File, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    Cursor { file, at: offset }.take(max as u64).read_to_end(&mut octets)?;
    Ok(octets)
}

impl Probe for File {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        // A length that a stranger wrote may lead anywhere.
        let end = self.metadata()?.len();
        if offset >= end {
            return Ok(offset == end);
        }
        let Some(last) = offset.checked_sub(1) else { return Ok(is_end(None, &read_at(self, 0, PROBED)?)) };
        let octets = read_at(self, last, PROBED)?;
        Ok(octets.split_first().is_some_and(|(&before, octets)| is_end(Some(before), octets)))
    }

    fn lengths(&self) -> io::Result<Lengths> {
        Ok(Lengths::of(&Survey::of(BufReader::new(Cursor::new(self)), &Believing(self))?))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn a_file_says_what_the_same_octets_in_memory_say_and_stays_at_its_place() {
        let from = "From a@example.org Fri Sep 16 22:26:51 2016\n";
        let octets = format!("{from}Subject: one\n\nFrom me\n\n{from}Subject: two\n\nx\n\n").into_bytes();
        let path = std::env::temp_dir().join(format!("mbox-file-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(&octets).unwrap();
        let len = octets.len() as u64;
        let ends: Vec<u64> = (0..=len).filter(|&at| file.may_end_at(at).unwrap()).collect();
        let in_memory: Vec<u64> = (0..=len).filter(|&at| octets.as_slice().may_end_at(at).unwrap()).collect();
        assert_eq!(ends, in_memory);
        assert!(ends.len() > 2 && ends.contains(&0) && ends.contains(&len), "{ends:?}");
        for beyond in [len + 1, i64::MAX.unsigned_abs(), u64::MAX] {
            assert!(!file.may_end_at(beyond).unwrap(), "{beyond}");
        }
        assert_eq!(file.lengths().unwrap(), octets.as_slice().lengths().unwrap());
        assert_eq!(read_at(&file, 5, 13).unwrap(), b"a@example.org");
        assert_eq!(read_at(&file, len - 2, 9).unwrap(), b"\n\n");
        let mut all = Vec::new();
        Cursor::new(&file).read_to_end(&mut all).unwrap();
        assert_eq!(all, octets);
        // Who writes goes on at the end.
        file.write_all(b"y").unwrap();
        assert_eq!(file.metadata().unwrap().len(), len + 1);
    }
}
