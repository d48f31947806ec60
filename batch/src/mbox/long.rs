//! The length of a body that is too large for memory, in its header, which may be as long.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
};

use super::with_length;
use crate::{
    digest::{CopyError, Summed},
    render::is_content_length,
};

/// Writes a large message with another length of its body, where [`with_length`] does so with a small one. How long the
/// old body was depends on how long the header is.
pub(super) fn with_right_length(
    mut spool: File,
    old_body: impl Fn(u64) -> u64,
    must_have: bool,
    to: &mut dyn Write,
) -> io::Result<()> {
    let len = spool.seek(SeekFrom::End(0))?;
    spool.seek(SeekFrom::Start(0))?;
    let header = header_len(&mut BufReader::new(&spool))?;
    spool.seek(SeekFrom::Start(0))?;
    let number = |length| usize::try_from(length).unwrap_or(usize::MAX);
    let (old, new) = (number(old_body(header)), number(len - header));
    let mut spool = BufReader::new(spool);
    write_header(spool.by_ref().take(header), old, new, must_have, to)?;
    Summed::of_copy(&mut spool, to).map(|_| ()).map_err(|error| match error {
        CopyError::Read(error) | CopyError::Write(error) => error,
    })
}

/// How long a header is with the empty line after it, whatever is in it.
fn header_len(content: &mut impl BufRead) -> io::Result<u64> {
    let (mut len, mut line, mut begins) = (0, Vec::new(), true);
    loop {
        line.clear();
        let read = content.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        len += read as u64;
        if read == 0 || begins && is_empty(&line) {
            return Ok(len);
        }
        begins = line.ends_with(b"\n");
    }
}

fn is_empty(line: &[u8]) -> bool {
    line == b"\n" || line == b"\r\n"
}

/// Line by line, for it may be as long as the message is.
fn write_header(
    mut header: impl BufRead,
    old: usize,
    new: usize,
    must_have: bool,
    to: &mut dyn Write,
) -> io::Result<()> {
    // A length is one only if the next line does not go on with it.
    let (mut length, mut begins, mut has_length) = (None::<Vec<u8>>, true, false);
    loop {
        let mut line = Vec::new();
        let read = header.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        if let Some(field) = length.take() {
            let is_folded = matches!(line.first(), Some(b' ' | b'\t'));
            has_length |= !is_folded;
            let right = if is_folded { None } else { with_length(&field, old, new, must_have) };
            to.write_all(&right.unwrap_or(field))?;
        }
        if read == 0 {
            return Ok(());
        }
        if begins && line.ends_with(b"\n") && is_content_length(&line) {
            begins = true;
            length = Some(line);
            continue;
        }
        if begins && is_empty(&line) && must_have && !has_length {
            to.write_all(format!("Content-Length: {new}").as_bytes())?;
            to.write_all(&line)?;
        }
        begins = line.ends_with(b"\n");
        to.write_all(&line)?;
    }
}

/// How much of a line is looked at.
const LINE: u64 = 1 << 16;
