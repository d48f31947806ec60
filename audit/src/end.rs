//! The end of an audit file: its last number, and what a crash left behind it.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
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
    let len = file.metadata()?.len();
    let from = len.saturating_sub(LONGEST_END);
    file.seek(SeekFrom::Start(from))?;
    let mut octets = Vec::new();
    file.take(LONGEST_END).read_to_end(&mut octets)?;
    let is_open = octets.last().is_some_and(|octet| *octet != b'\n');
    let mut torn = 0;
    // The first of several may have its beginning before what was read.
    let lines: Vec<&[u8]> =
        octets.split_inclusive(|octet| *octet == b'\n').skip(usize::from(from > 0)).collect();
    for line in lines.into_iter().rev() {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(number) = seq_of(text) {
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

/// The number of a line.
pub(crate) fn seq_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(line).ok()?.get("seq")?.as_u64()
}

/// Whether a line begins as ours do, however short it is.
pub(crate) fn is_ours(line: &[u8]) -> bool {
    line.iter().zip(BEGINNING).all(|(octet, ours)| octet == ours)
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
        fs::write(&path, format!("{{\"seq\":1,\"{}", "x".repeat(300_000))).unwrap();
        assert!(end_of(&mut File::open(&path).unwrap()).is_err());
    }
}
