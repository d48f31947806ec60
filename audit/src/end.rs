//! The end of an audit file: its last number, and what a crash left behind it.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    mem,
};

/// What is at the end of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The number of the last whole line; one that lacks nothing but its line end is whole.
    pub(crate) last: Option<u64>,
    /// Whether the file ends in the middle of a line.
    pub(crate) is_open: bool,
    /// The octets after the last whole line that no line has told of.
    pub(crate) torn: u64,
}

/// Reads it. What is no audit is an error.
pub(crate) fn end_of(file: &mut File) -> io::Result<End> {
    let Zeros { before: len, octets: zeros, is_open: ends_in_zeros } = zeros(file)?;
    let from = len.saturating_sub(LONGEST_END);
    file.seek(SeekFrom::Start(from))?;
    let mut octets = Vec::new();
    file.take(len - from).read_to_end(&mut octets)?;
    let is_half = octets.last().is_some_and(|octet| *octet != b'\n');
    let is_open = if zeros > 0 { ends_in_zeros } else { is_half };
    let mut torn = zeros;
    // What was in the place of zeros may have belonged to the line before them.
    let mut is_doubtful = zeros > 0 && is_half;
    // The first of several may have its beginning before what was read.
    let lines: Vec<&[u8]> =
        octets.split_inclusive(|octet| *octet == b'\n').skip(usize::from(from > 0)).collect();
    for line in lines.into_iter().rev() {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if !mem::take(&mut is_doubtful)
            && let Some(number) = seq_of(text)
        {
            return Ok(End { last: Some(number), is_open, torn });
        }
        if !is_ours(text) {
            return Err(io::Error::other("its last line is no audit line: move the file away"));
        }
        torn += u64::try_from(line.len()).unwrap_or(u64::MAX);
    }
    if from > 0 {
        return Err(io::Error::other("its last lines are too long to be ours"));
    }
    Ok(End { last: None, is_open, torn })
}

/// Zeros at the end of a file.
struct Zeros {
    /// The length of what is before them.
    before: u64,
    /// How many they are, with a line end after them.
    octets: u64,
    /// Whether there is none.
    is_open: bool,
}

/// After a power cut, file systems that had made a file longer but not written it have zeros in that place.
fn zeros(file: &mut File) -> io::Result<Zeros> {
    let len = file.metadata()?.len();
    let mut before = len;
    let mut is_open = true;
    let mut block = Vec::new();
    while before > 0 {
        let from = before.saturating_sub(LONGEST_END);
        file.seek(SeekFrom::Start(from))?;
        block.clear();
        file.by_ref().take(before - from).read_to_end(&mut block)?;
        let mut octets = block.as_slice();
        if before == len
            && let Some(ended) = octets.strip_suffix(b"\n")
        {
            (octets, is_open) = (ended, false);
        }
        if let Some(last) = octets.iter().rposition(|octet| *octet != 0) {
            before = from + u64::try_from(last + 1).unwrap_or(u64::MAX);
            break;
        }
        before = from;
    }
    if !is_open && before + 1 == len {
        // A line end after something else.
        before = len;
    }
    Ok(Zeros { before, octets: len - before, is_open })
}

/// The number of a line.
pub(crate) fn seq_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(line).ok()?.get("seq")?.as_u64()
}

/// Whether a line begins as ours do, however short it is, or was lost in a power cut.
pub(crate) fn is_ours(line: &[u8]) -> bool {
    line.iter().zip(BEGINNING).all(|(octet, ours)| octet == ours) || line.iter().all(|octet| *octet == 0)
}

/// How every line begins.
pub(crate) const BEGINNING: &[u8; 7] = b"{\"seq\":";

/// No line is longer.
pub(crate) const LONGEST_LINE: usize = 32 * 1024;
/// Some torn lines, and a whole one before them.
const LONGEST_END: u64 = 8 * 32 * 1024;

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn the_end_of_a_file_is_told_from_what_is_no_audit() {
        let end = |last, is_open, torn| Some(End { last, is_open, torn });
        for (text, expected) in [
            ("", end(None, false, 0)),
            ("{\"seq\":7}\n", end(Some(7), false, 0)),
            ("{\"seq\":7}", end(Some(7), true, 0)),
            ("{\"seq\":7}\n{\"seq\":8", end(Some(7), true, 8)),
            ("{\"seq\":7}\n{", end(Some(7), true, 1)),
            ("{\"seq\":7}\n{\"seq\":8\n", end(Some(7), false, 9)),
            ("{\"seq\":7}\n{\"seq\":8\n{\"se", end(Some(7), true, 13)),
            ("{\"se", end(None, true, 4)),
            ("\0\0\0", end(None, true, 3)),
            ("\n", end(None, false, 1)),
            ("{\"seq\":7}\n\0\0\0", end(Some(7), true, 3)),
            ("{\"seq\":7}\n\0\0\0\n", end(Some(7), false, 4)),
            ("{\"seq\":7}\n{\"seq\":8\0\0", end(Some(7), true, 10)),
            ("{\"seq\":7}\n{\"seq\":8}\0\0", end(Some(7), true, 11)),
            ("{\"seq\":7}\n{\"seq\":8}\0\0\n", end(Some(7), false, 12)),
            ("{\"seq\":7}\n{\"seq\":8}\0\0\n{\"se", end(Some(7), true, 16)),
            ("{\"seq\":7}\n\0\0x", None),
            ("dear diary\n", None),
            ("dear diary", None),
            ("{\"seq\":7}\nx\n", None),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(end_of(&mut file).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_line_is_found_behind_more_than_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let line = |number| format!("{{\"seq\":{number},\"x\":\"{}\"}}\n", "y".repeat(1000));
        let text: String = (1..=400).map(line).collect();
        fs::write(&path, &text).unwrap();
        assert_eq!(end_of(&mut File::open(&path).unwrap()).unwrap().last, Some(400));
        for after in ["", "\n"] {
            fs::write(&path, format!("{text}{}{after}", "\0".repeat(1_000_000))).unwrap();
            let octets = 1_000_000 + u64::try_from(after.len()).unwrap();
            let end = end_of(&mut File::open(&path).unwrap()).unwrap();
            assert_eq!(end, End { last: Some(400), is_open: after.is_empty(), torn: octets });
        }
        fs::write(&path, format!("{{\"seq\":1,\"{}", "x".repeat(300_000))).unwrap();
        assert!(end_of(&mut File::open(&path).unwrap()).is_err());
    }
}
