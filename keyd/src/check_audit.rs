//! `check-audit`: whether an audit file lacks a line.

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    path::Path,
    process::ExitCode,
};

use crate::audit::seq_of;

/// What is in an audit file.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Whole { lines: u64, first: u64, last: u64 },
    Empty,
    Wrong { line: u64, what: String },
}

/// Prints what was found: 0 if no line is missing, 1 if one is, 2 if the file cannot be read.
pub(crate) fn run(path: &Path) -> ExitCode {
    let found = match File::open(path).and_then(|file| check(BufReader::new(file))) {
        Ok(found) => found,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hsmime-keyd: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let path = path.display();
    let (text, code) = match found {
        Found::Whole { lines, first, last } => {
            (format!("{path}: {lines} lines, {first} to {last}, none missing"), 0)
        }
        Found::Empty => (format!("{path}: empty"), 0),
        Found::Wrong { line, what } => (format!("{path}: line {line}: {what}"), 1),
    };
    // A reader that has gone has seen enough.
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::from(code)
}

fn check(mut lines: impl io::BufRead) -> io::Result<Found> {
    let (mut number, mut first, mut last) = (0, None, None);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        let wrong = |what| Ok(Found::Wrong { line: number, what });
        if line.pop() != Some(b'\n') {
            return wrong("it was not written whole; hsmime-keyd mends that when it starts".to_owned());
        }
        let Some(seq) = seq_of(&line) else {
            return wrong("it is no audit line".to_owned());
        };
        if let Some(last) = last
            && seq != last + 1
        {
            return wrong(format!("number {seq} follows {last}"));
        }
        first = first.or(Some(seq));
        last = Some(seq);
    }
    Ok(match (first, last) {
        (Some(first), Some(last)) => Found::Whole { lines: number, first, last },
        _ => Found::Empty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_repetitions_and_torn_lines_are_found_with_their_place() {
        let whole = |lines, first, last| Found::Whole { lines, first, last };
        let wrong = |line, what: &str| Found::Wrong { line, what: what.to_owned() };
        for (text, expected) in [
            ("", Found::Empty),
            ("{\"seq\":7}\n{\"seq\":8}\n", whole(2, 7, 8)),
            ("{\"seq\":7}\n{\"seq\":9}\n", wrong(2, "number 9 follows 7")),
            ("{\"seq\":7}\n{\"seq\":7}\n", wrong(2, "number 7 follows 7")),
            (
                "{\"seq\":1}\n{\"seq\":2",
                wrong(2, "it was not written whole; hsmime-keyd mends that when it starts"),
            ),
            ("{\"seq\":1}\n\n", wrong(2, "it is no audit line")),
            ("{\"sec\":1}\n", wrong(1, "it is no audit line")),
        ] {
            assert_eq!(check(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }
}
