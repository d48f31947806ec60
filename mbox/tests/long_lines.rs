//! Body lines that are longer than what is looked at in one go, `>` all over.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::io::{self, BufReader, Read};

use mbox::{Ends, Found, Part, Quoting, Splitter, Survey, Variant, quote, unquote};

const DATED: &str = "From alice@example.org Fri Sep 16 22:26:51 2016\n";

/// How many octets of a line are looked at in one go.
const PIECE: usize = 64 * 1024;

fn split(mbox: &[u8], limit: usize, buffer: usize) -> Vec<Found> {
    let mut splitter = Splitter::new(BufReader::with_capacity(buffer, mbox), mbox, limit);
    let mut found = Vec::new();
    while let Some(part) = splitter.next_part().unwrap() {
        if let Part::Message(message) = part {
            found.push(*message);
        }
    }
    found
}

#[test]
fn a_line_is_quoted_split_and_given_back_right_however_many_marks_it_has() {
    let around = |length: usize| length - 6..length + 7;
    let counts = [1, 2].into_iter().chain(around(PIECE)).chain(around(2 * PIECE)).chain([262_144, 300_000]);
    for marks in counts {
        for (tail, is_quoted) in [
            ("From alice@example.org Fri Sep 16 22:26:51 2016\nSubject: text", true),
            ("From ", true),
            ("From\tmars", false),
            ("Fr>From here", false),
            ("", false),
        ] {
            // Given a body in which a line of `>` comes after an empty one,
            let body = format!("before\n\n{}{tail}\n\nafter\n", ">".repeat(marks));
            let stored = quote(body.as_bytes(), Quoting::Mboxrd);
            assert_eq!(stored.len(), body.len() + usize::from(is_quoted), "{marks} {tail:?}");
            let (head, next) = (format!("{DATED}A: 1\n\n"), format!("\n{DATED}B: 2\n\nx\n"));
            let mbox = [head.as_bytes(), &stored, next.as_bytes()].concat();
            for (limit, buffer) in [(1 << 20, 8192), (1 << 20, 1 << 18), (0, 77), (100_000, PIECE)] {
                let found = split(&mbox, limit, buffer);
                let what = format!("{marks} marks, {tail:?}, limit {limit}, buffer {buffer}");
                assert_eq!(found.len(), 2, "{what}");
                let quoted = u64::from(is_quoted);
                assert_eq!((found[0].quoted, found[0].requoted), (quoted, quoted), "{what}");
                assert_eq!((found[0].bare, found[0].doubt), (0, None), "{what}");
                // then it is the same again when it is read.
                if let Some(octets) = &found[0].octets {
                    let content = &octets[found[0].from_line..octets.len() - found[0].separator];
                    let body = format!("A: 1\n\n{body}");
                    assert!(unquote(content, Quoting::Mboxrd) == body.as_bytes(), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_quoted_line_of_any_length_tells_the_variant() {
    let message = |marks: usize| {
        let body = format!("{}From x\n", ">".repeat(marks));
        format!("{DATED}Content-Length: {}\n\n{body}\n", body.len())
    };
    for (marks, variant) in [(1, Variant::Mboxcl), (2, Variant::Mboxrd), (PIECE - 2, Variant::Mboxrd)] {
        let mbox = message(marks);
        let survey = Survey::of(mbox.as_bytes(), mbox.as_bytes()).unwrap();
        assert_eq!((survey.right_lengths, survey.quoted), (1, 1), "{marks}");
        assert_eq!(survey.variant(), variant, "{marks}");
    }
}

/// One message, whose body is so many lines of so many `>`, and `From ` at the end of each.
struct Marks {
    lines: u64,
    length: u64,
    /// How much of a line was given out.
    given: u64,
}

impl Read for Marks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        for octet in out {
            if self.lines == 0 {
                break;
            }
            let after = self.given.checked_sub(self.length).and_then(|after| usize::try_from(after).ok());
            *octet = after.map_or(b'>', |after| b"From ".get(after).copied().unwrap_or(b'\n'));
            (self.given, read) = (self.given + 1, read + 1);
            if *octet == b'\n' {
                (self.lines, self.given) = (self.lines - 1, 0);
            }
        }
        Ok(read)
    }
}

/// Resident memory at most, so far.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap()
}

#[test]
fn lines_of_any_length_that_are_not_kept_take_no_memory() {
    let before = peak();
    for (lines, length) in [(1_u64, 8 << 20), (8, 1 << 20), (80, 96_000)] {
        let head = format!("{DATED}A: 1\n\n");
        let body = || Marks { lines, length, given: 0 };
        let mut splitter = Splitter::new(BufReader::new(head.as_bytes().chain(body())), &b""[..], 0);
        let Some(Part::Message(found)) = splitter.next_part().unwrap() else { panic!("there is one") };
        assert_eq!((found.len, found.quoted), (head.len() as u64 + lines * (length + 6), lines), "{lines}");
        assert_eq!(splitter.next_part().unwrap(), None);
        Ends::of(BufReader::new(head.as_bytes().chain(body()))).unwrap();
    }
    let more = peak() - before;
    assert!(more < 4 << 20, "{more} octets more for lines that are not kept");
}
