//! Cuts a multipart body at its boundary (RFC 2046 5.1.1), octet by octet.
//!
//! The line end before a delimiter belongs to the delimiter. A delimiter is a whole line: RFC 2046 lets
//! an agent take any line that begins like one, and some do, so where that reading would cut elsewhere
//! the result says that it is ambiguous.

/// The most parts that are told apart.
pub const MAX_PARTS: usize = 1_000;

/// How many blanks may stand behind a delimiter. Sendmail reads 2047 octets of a line and takes the blanks at their end away:
/// what is behind them on that line is the part's header to it, which ends there. A boundary has 70 characters at most.
const MAX_PADDING: usize = 70;

/// The pieces of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart<'a> {
    /// What precedes the first delimiter, without the line end that belongs to it.
    pub preamble: &'a [u8],
    /// The parts: header, empty line, body. Exactly the octets that a signature covers.
    pub parts: Vec<&'a [u8]>,
    /// What follows the line of the closing delimiter.
    pub epilogue: &'a [u8],
    /// Whether there is a closing delimiter. If not, the last part goes up to the end.
    pub closed: bool,
    /// Whether other agents may see other parts: a line merely begins with the delimiter, a
    /// delimiter follows a bare CR or LF, or many blanks follow it.
    pub ambiguous: bool,
    /// Whether there are more than [`MAX_PARTS`] parts; what follows them was not looked at.
    pub overflow: bool,
}

/// Cuts `body` at the delimiter lines of `boundary`.
pub fn split<'a>(body: &'a [u8], boundary: &str) -> Multipart<'a> {
    let delimiter = format!("--{boundary}");
    let mut cut = Multipart {
        preamble: body,
        parts: Vec::new(),
        epilogue: b"",
        closed: false,
        ambiguous: false,
        overflow: false,
    };
    // Where the part begins that the next delimiter ends.
    let mut part_start = None;
    for at in memchr::memmem::find_iter(body, delimiter.as_bytes()) {
        match before(body, at) {
            Before::LineStart => {}
            Before::BareLineEnd => {
                cut.ambiguous = true;
                continue;
            }
            Before::MidLine => continue,
        }
        let Some(line) = delimiter_line(body, at + delimiter.len()) else {
            cut.ambiguous = true;
            continue;
        };
        cut.ambiguous |= line.padding > MAX_PADDING;
        let piece = |start: usize| body.get(start..at.saturating_sub(2).max(start)).unwrap_or_default();
        match part_start {
            None => cut.preamble = piece(0),
            Some(_) if cut.parts.len() >= MAX_PARTS => {
                cut.overflow = true;
                return cut;
            }
            Some(start) => cut.parts.push(piece(start)),
        }
        part_start = Some(line.end);
        if line.closes {
            cut.closed = true;
            cut.epilogue = body.get(line.end..).unwrap_or_default();
            return cut;
        }
    }
    match part_start {
        Some(_) if cut.parts.len() >= MAX_PARTS => cut.overflow = true,
        Some(start) => cut.parts.push(body.get(start..).unwrap_or_default()),
        None => {}
    }
    cut
}

enum Before {
    LineStart,
    BareLineEnd,
    MidLine,
}

fn before(body: &[u8], at: usize) -> Before {
    let lead = body.get(..at).unwrap_or_default();
    if lead.is_empty() || lead.ends_with(b"\r\n") {
        Before::LineStart
    } else if lead.ends_with(b"\n") || lead.ends_with(b"\r") {
        Before::BareLineEnd
    } else {
        Before::MidLine
    }
}

struct DelimiterLine {
    closes: bool,
    /// How many blanks follow it.
    padding: usize,
    /// Where the next line begins.
    end: usize,
}

/// What follows the delimiter's text at `at`, if that is nothing but `--`, blanks and the line end.
fn delimiter_line(body: &[u8], at: usize) -> Option<DelimiterLine> {
    let rest = body.get(at..)?;
    let (rest, closes) = rest.strip_prefix(b"--").map_or((rest, false), |rest| (rest, true));
    let padding = rest.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    let end = at + if closes { 2 } else { 0 } + padding;
    match rest.get(padding..)? {
        [] => Some(DelimiterLine { closes, padding, end }),
        [b'\r', b'\n', ..] => Some(DelimiterLine { closes, padding, end: end + 2 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        name: &'static str,
        body: &'static str,
        preamble: &'static str,
        parts: &'static [&'static str],
        epilogue: &'static str,
        /// Closed, ambiguous.
        flags: (bool, bool),
    }

    const CASES: &[Case] = &[
        Case {
            name: "RFC 2046 5.1.1: preamble, implicit and explicit type, epilogue",
            body: "preamble\r\n--b\r\n\r\none\r\n--b\r\nA: 1\r\n\r\ntwo\r\n\r\n--b--\r\nepilogue\r\n",
            preamble: "preamble",
            parts: &["\r\none", "A: 1\r\n\r\ntwo\r\n"],
            epilogue: "epilogue\r\n",
            flags: (true, false),
        },
        Case {
            name: "delimiter at offset 0, closing delimiter at the very end",
            body: "--b\r\n\r\none\r\n--b--",
            preamble: "",
            parts: &["\r\none"],
            epilogue: "",
            flags: (true, false),
        },
        Case {
            name: "transport padding",
            body: "--b \t\r\n\r\none\r\n--b-- \r\n",
            preamble: "",
            parts: &["\r\none"],
            epilogue: "",
            flags: (true, false),
        },
        Case {
            name: "no closing delimiter",
            body: "--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n",
            preamble: "",
            parts: &["\r\none", "\r\ntwo\r\n"],
            epilogue: "",
            flags: (false, false),
        },
        Case {
            name: "delimiter text in the middle of a line",
            body: "--b\r\n\r\nx --b\r\n--b--\r\n",
            preamble: "",
            parts: &["\r\nx --b"],
            epilogue: "",
            flags: (true, false),
        },
        Case {
            name: "a line that merely begins with the delimiter",
            body: "--b\r\n\r\none\r\n--bc\r\ntwo\r\n--b--\r\n",
            preamble: "",
            parts: &["\r\none\r\n--bc\r\ntwo"],
            epilogue: "",
            flags: (true, true),
        },
        Case {
            name: "a closing delimiter with more behind it",
            body: "--b\r\n\r\none\r\n--b--x\r\n--b--\r\n",
            preamble: "",
            parts: &["\r\none\r\n--b--x"],
            epilogue: "",
            flags: (true, true),
        },
        Case {
            name: "a line that begins with the delimiter in the epilogue is nobody's part",
            body: "--b\r\n\r\none\r\n--b--\r\n--bc\r\n--b\r\n",
            preamble: "",
            parts: &["\r\none"],
            epilogue: "--bc\r\n--b\r\n",
            flags: (true, false),
        },
        Case {
            name: "a delimiter after a bare LF",
            body: "--b\r\n\r\none\n--b\r\n\r\ntwo\r\n--b--\r\n",
            preamble: "",
            parts: &["\r\none\n--b\r\n\r\ntwo"],
            epilogue: "",
            flags: (true, true),
        },
        Case {
            name: "empty parts",
            body: "--b\r\n--b\r\n\r\n--b--\r\n",
            preamble: "",
            parts: &["", ""],
            epilogue: "",
            flags: (true, false),
        },
        Case {
            name: "no delimiter at all",
            body: "just text\r\n",
            preamble: "just text\r\n",
            parts: &[],
            epilogue: "",
            flags: (false, false),
        },
        Case {
            name: "closed before it began",
            body: "\r\n--b--\r\nrest",
            preamble: "",
            parts: &[],
            epilogue: "rest",
            flags: (true, false),
        },
    ];

    #[test]
    fn a_delimiter_with_many_blanks_behind_it_may_be_another_to_others() {
        for (blanks, ambiguous) in [(70, false), (71, true), (2044, true)] {
            let padding = " ".repeat(blanks);
            for body in [
                format!("--b{padding}\r\n\r\none\r\n--b--\r\n"),
                format!("--b\r\n\r\none\r\n--b{padding}\r\nA: 1\r\n\r\ntwo\r\n--b--\r\n"),
                format!("--b\r\n\r\none\r\n--b--{padding}\r\n"),
            ] {
                let cut = split(body.as_bytes(), "b");
                assert_eq!((cut.closed, cut.ambiguous), (true, ambiguous), "{blanks}: {body:?}");
            }
        }
    }

    #[test]
    fn bodies_are_cut_at_whole_delimiter_lines() {
        for case in CASES {
            let cut = split(case.body.as_bytes(), "b");
            let expected = Multipart {
                preamble: case.preamble.as_bytes(),
                parts: case.parts.iter().map(|part| part.as_bytes()).collect(),
                epilogue: case.epilogue.as_bytes(),
                closed: case.flags.0,
                ambiguous: case.flags.1,
                overflow: false,
            };
            assert_eq!(cut, expected, "{}", case.name);
        }
    }

    #[test]
    fn parts_beyond_the_limit_are_not_collected() {
        let full = "--b\r\n".repeat(MAX_PARTS) + "--b--";
        assert_eq!(
            (split(full.as_bytes(), "b").parts.len(), split(full.as_bytes(), "b").overflow),
            (1_000, false)
        );
        let more = "--b\r\n".repeat(3 * MAX_PARTS);
        let cut = split(more.as_bytes(), "b");
        assert_eq!((cut.parts.len(), cut.overflow), (MAX_PARTS, true));
    }
}
