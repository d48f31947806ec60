//! Which lines of a report have taken the place of earlier ones: those of messages that were put back after they were replaced.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt,
};

use memchr::memmem;
use serde::Deserialize;

use crate::{done::Done, escape::unescaped};

/// What such a line tells. Others are not understood.
#[derive(Deserialize)]
struct Line<'a> {
    archive: usize,
    #[serde(borrow)]
    below: Cow<'a, str>,
    #[serde(borrow)]
    again: Option<Cow<'a, str>>,
    input: Sum,
}

#[derive(Deserialize)]
struct Sum {
    sha256: String,
}

/// Tells of the messages of one input, counted from 1, what the lines about them say that an earlier run left. Whether these
/// follow one another is not looked at: who wants to know has `check`.
pub(super) fn put_back(report: &File, archive: usize, done: &mut Done) -> io::Result<()> {
    // Of a new file, which is only written to, nothing is asked.
    let left = Cursor { report, at: 0 }.take(done.last.report);
    let mut lines = BufReader::with_capacity(READ_SIZE, left);
    let again = memmem::Finder::new(b",\"again\":\"");
    let (mut text, mut has_any) = (Vec::new(), false);
    loop {
        text.clear();
        if lines.read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        // Nearly all reports have none.
        has_any = has_any || again.find(&text).is_some();
        if !has_any {
            continue;
        }
        let Ok(line) = serde_json::from_slice::<Line<'_>>(&text) else { continue };
        if let Some(below) = unescaped(&line.below).filter(|_| line.archive == archive) {
            let again = line.again.as_deref().and_then(unescaped);
            done.was_told(&below, &line.input.sha256, again.as_deref());
        }
    }
}

/// How much is read at once.
pub(super) const READ_SIZE: usize = 256 * 1024;

/// Reads a report at a place of its own: it is written to at its end.
pub(super) struct Cursor<'a> {
    pub(super) report: &'a File,
    pub(super) at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.report.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
