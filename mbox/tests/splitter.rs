//! What begins a message in an mbox: the cases in which programs differ.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{
    fs,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use mbox::{Found, Lengths, MadeBy, Part, Probe, Splitter, Survey};
use serde_json::Value;

fn split(mbox: &[u8]) -> (u64, Vec<Found>) {
    split_with(mbox, 1 << 20, 8192)
}

fn split_with(mbox: &[u8], limit: usize, buffer: usize) -> (u64, Vec<Found>) {
    let mut splitter = Splitter::new(BufReader::with_capacity(buffer, mbox), mbox, limit);
    let (mut preamble, mut messages) = (0, Vec::new());
    while let Some(part) = splitter.next_part().unwrap() {
        match part {
            Part::Preamble { len, .. } => preamble = len,
            Part::Message(found) => messages.push(*found),
        }
    }
    (preamble, messages)
}

/// With CRLF for each LF alone.
fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &octet in octets {
        if octet == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(octet);
    }
    out
}

/// MimeKit's own samples, where somebody put them.
fn mimekit() -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("HSMIME_CORPORA");
    let Some(entries) = root.and_then(|root| fs::read_dir(Path::new(&root).join("mimekit/mbox")).ok()) else {
        eprintln!("skipped: HSMIME_CORPORA names no folder with mimekit/mbox in it");
        return None;
    };
    Some(entries.map(|entry| entry.unwrap().path()).collect())
}

const DATED: &str = "From alice@example.org Fri Sep 16 22:26:51 2016\n";

#[test]
fn each_case_has_the_messages_that_its_writer_meant_or_a_doubt() {
    let one = format!("{DATED}Subject: a\n\nbody\n\n");
    for (case, mbox, messages, doubts) in [
        ("three", one.repeat(3), 3, 0),
        ("words after an empty line", format!("{DATED}A: 1\n\n\nFrom the start: x\n\n{one}"), 2, 0),
        (
            "words with a colon in the next line",
            format!("{DATED}A: 1\n\n\nFrom Russia\nYear: 1963\n\n{one}"),
            2,
            0,
        ),
        (
            "a From_ line in the body without a header after it",
            format!("{DATED}A: 1\n\n\n{DATED}no header\n\n{one}"),
            2,
            1,
        ),
        ("an empty line is missing", format!("{DATED}A: 1\n\nbody\n{one}"), 1, 1),
        (
            "Thunderbird's From_ line, empty line missing",
            "From -\nA: 1\n\nbody\nFrom -\nA: 1\n\nb\n".into(),
            1,
            1,
        ),
        ("a log line in the body", format!("{DATED}A: 1\n\nas in\n{DATED}of the log\n\n{one}"), 2, 0),
        ("Thunderbird", "From \nA: 1\n\nx\n\nFrom - \nA: 2\n\ny\n\n".into(), 2, 0),
        ("Takeout", "From 15@xxx Fri Sep 16 22:26:51 +0000 2016\r\nA: 1\r\n\r\nx\r\n\r\n".repeat(2), 2, 0),
        ("Takeout without a date", "From 15@xxx\nA: 1\n\nx\n\n".repeat(2), 2, 0),
        ("ISO date", format!("{one}From a@b 2016-09-16 22:26:51\nA: 1\n\nx\n\n"), 1, 1),
        (
            "a relay's >From line first",
            format!("{DATED}>From bob Fri Sep 16 22:26:51 2016\nA: 1\n\nx\n\n").repeat(2),
            2,
            0,
        ),
        ("header only", format!("{DATED}A: 1\n\n").repeat(2), 2, 0),
        ("byte order mark", format!("\u{feff}{one}{one}"), 2, 0),
        ("empty lines first", format!("\n\r\n{one}{one}"), 2, 0),
        ("no message at all", "Subject: x\n\nno\n".into(), 0, 0),
        ("nothing", String::new(), 0, 0),
        ("only a From_ line", DATED.into(), 0, 0),
        ("a From_ line at the end", format!("{one}{DATED}"), 1, 1),
    ] {
        for mbox in [mbox.clone().into_bytes(), with_crlf(mbox.as_bytes())] {
            let (_, found) = split(&mbox);
            let seen = found.iter().filter(|message| message.doubt.is_some()).count();
            assert_eq!((found.len(), seen), (messages, doubts), "{case}");
        }
    }
}

#[test]
fn a_content_length_is_believed_only_if_the_archive_bears_it_out() {
    // mboxcl2 does not quote: only the length says that the inner From_ line is text.
    let inner = format!("one\n\n{DATED}A: 2\n\nend\n");
    let message = |length: usize| format!("{DATED}A: 1\nContent-Length: {length}\n\n{inner}");
    let next = format!("\n{DATED}A: 3\nContent-Length: 5\n\nlast\n");
    for (case, length, messages) in [
        ("right", inner.len(), 2),
        ("too long", inner.len() + 3, 3),
        ("far too long", 1 << 40, 3),
        ("too short", 4, 3),
        ("past all numbers", usize::MAX, 3),
    ] {
        let (_, found) = split(format!("{}{next}", message(length)).as_bytes());
        assert_eq!(found.len(), messages, "{case}");
        assert!(found.iter().all(|message| message.disputed.is_none()), "{case}");
        // Whoever sent both messages may hide a third one in it.
        let header = format!("{DATED}A: 1\nContent-Length: {length}\n\n").len();
        let expected = (case == "right").then_some(header + "one\n\n".len());
        let hidden: Vec<_> = found.iter().filter_map(|message| message.hidden).collect();
        assert_eq!(hidden, expected.into_iter().map(|at| at as u64).collect::<Vec<_>>(), "{case}");
    }
    let (_, found) = split(format!("{}\n{}", next.trim_start(), message(inner.len())).as_bytes());
    assert_eq!(found.len(), 2, "the length ends at the end of the archive");
    // A message without a body has no place for a length.
    let (_, found) = split(format!("{}{next}\n{DATED}A: 4\n\n", message(inner.len())).as_bytes());
    assert_eq!((found.len(), found[0].protected, found[0].disputed), (3, 1, None));
}

#[test]
fn whoever_tells_a_length_in_an_archive_that_tells_none_hides_no_mail_of_others() {
    let victim = format!("{DATED}A: 2\n\nsecret\n\n");
    let plain = format!("{DATED}A: 3\n\nlast\n\n");
    let own = format!("{DATED}A: 4\nContent-Length: 3\n\nok\n\n");
    let lying = |swallowed: &str| {
        format!("{DATED}A: 1\nContent-Length: {}\n\nx\n\n{swallowed}", "x\n\n".len() + swallowed.len())
    };
    for (case, mbox, messages, disputed) in [
        ("the next", lying(&victim) + &plain, 3, 2),
        ("the next two", lying(&(victim.clone() + &plain)) + &plain, 4, 3),
        ("all that come", lying(&victim.repeat(5)), 6, 6),
        ("behind a plain one", plain.clone() + &lying(&victim) + &own, 4, 2),
        ("with other mail of his own", own.clone() + &lying(&victim) + &own + &plain, 5, 2),
        ("more than he sent himself", own.clone() + &lying(&victim.repeat(3)) + &own, 6, 4),
        ("with one before it", lying(&victim).replace("A: 1", "Content-Length: 1\nA: 1") + &plain, 3, 0),
    ] {
        for buffer in [1, 8192] {
            let (_, found) = split_with(mbox.as_bytes(), 1 << 20, buffer);
            let seen: Vec<_> = found.iter().filter_map(|message| message.disputed).collect();
            assert_eq!((found.len(), seen.len()), (messages, disputed), "{case}");
            assert_eq!(found.iter().map(|message| message.len).sum::<u64>(), mbox.len() as u64);
            for message in found.iter().filter(|message| message.disputed.is_some()) {
                let line = message.disputed.unwrap();
                assert!(line == message.offset || line == message.offset + message.len, "{case}");
            }
        }
    }
}

/// An archive of which it was told whose its lengths are.
struct Told<'a>(&'a [u8], MadeBy);

impl Probe for Told<'_> {
    fn may_end_at(&self, offset: u64) -> io::Result<bool> {
        self.0.may_end_at(offset)
    }

    fn lengths(&self) -> io::Result<Lengths> {
        Ok(Lengths::told(self.1))
    }
}

#[test]
fn what_a_length_hides_is_named_where_a_header_is_behind_it_unless_it_was_told_whose_the_lengths_are() {
    let message = |body: &str| format!("{DATED}A: 1\nContent-Length: {}\n\n{body}\n", body.len());
    let own = message("x\n");
    for (case, text, messages, hidden, split) in [
        ("mail of others", format!("x\n\n{DATED}A: 2\n\nsecret\n"), 3, true, 4),
        ("without an empty line before it", format!("x\n{DATED}A: 2\n\nsecret\n"), 3, true, 3),
        ("Thunderbird's", "x\n\nFrom - \nA: 2\n\nsecret\n".into(), 3, true, 4),
        ("behind text", format!("x\n\n{DATED}text\n\n{DATED}A: 2\n\nsecret\n"), 3, true, 4),
        ("a line in a text", format!("as in\n\n{DATED}of the log\n"), 3, false, 3),
        ("words", "x\n\nFrom here to there\n".into(), 3, false, 3),
    ] {
        let mbox = message(&text) + &own.repeat(2);
        for mbox in [format!("{own}{mbox}"), mbox] {
            let before = usize::from(mbox.starts_with(&own));
            let (_, found) = split_with(mbox.as_bytes(), 1 << 20, 8192);
            assert_eq!(found.len(), messages + before, "{case}");
            let line = text.find(if case == "behind text" {
                "From alice@example.org Fri Sep 16 22:26:51 2016\nA"
            } else {
                "From "
            });
            let at = found[before].offset + found[before].len - 1 + line.unwrap() as u64 - text.len() as u64;
            assert_eq!(found[before].hidden, hidden.then_some(at), "{case}");
            for (by, expected) in [(MadeBy::Writer, messages), (MadeBy::Senders, split)] {
                let mut splitter = Splitter::new(mbox.as_bytes(), Told(mbox.as_bytes(), by), 1 << 20);
                let mut count = 0;
                while let Some(Part::Message(found)) = splitter.next_part().unwrap() {
                    count += 1;
                    assert_eq!((found.hidden, found.disputed), (None, None), "{case}");
                }
                assert_eq!(count, expected + before, "{case}, {by:?}");
            }
        }
    }
}

#[test]
fn a_content_length_that_points_into_a_line_swallows_no_messages() {
    let other = format!("{DATED}A: 2\n\nof somebody else\n\n");
    let line = format!("X:{DATED}");
    for last in [format!("{DATED}{line}A: 3\n\nz\n"), format!("{DATED}A: 3\n\n{line}Year: 1963\n")] {
        let length = "x\n\n".len() + other.len() + last.find("X:").unwrap() + 2;
        let mbox = format!("{DATED}A: 1\nContent-Length: {length}\n\nx\n\n{other}{last}");
        let (_, found) = split(mbox.as_bytes());
        assert_eq!(found.len(), 3, "{last}");
        assert_eq!(found[0].length, Some(false));
        assert_eq!(found.iter().map(|message| message.protected).sum::<u64>(), 0);
    }
}

#[test]
fn no_octet_is_lost_whatever_the_buffer_and_the_limit_are() {
    let long = "x".repeat(200_000);
    let mbox =
        format!("junk\n\n{DATED}A: 1\n\n{long}\nFrom here\n\n{DATED}B: {long}\n\ny\n\n{DATED}C: 1\n\nno end");
    for buffer in [1, 7, 8192, 1 << 20] {
        for limit in [0, 1000, 1 << 20] {
            let (preamble, found) = split_with(mbox.as_bytes(), limit, buffer);
            assert_eq!((preamble, found.len()), (6, 3));
            let mut at = preamble;
            for message in &found {
                assert_eq!(message.offset, at);
                at += message.len;
                let here = message.offset.try_into().unwrap()..at.try_into().unwrap();
                let expected = (here.len() <= limit).then_some(&mbox.as_bytes()[here]);
                assert_eq!(message.octets.as_deref(), expected, "buffer {buffer}, limit {limit}");
            }
            assert_eq!(at, mbox.len() as u64);
            assert_eq!(found.iter().map(|message| message.bare).collect::<Vec<_>>(), [1, 0, 0]);
            assert_eq!(found.iter().map(|message| message.separator).collect::<Vec<_>>(), [1, 1, 0]);
            assert!(found[2].cut_short && !found[1].cut_short);
        }
    }
}

#[test]
fn messages_begin_where_mimekit_finds_them_or_there_is_a_doubt() {
    let Some(files) = mimekit() else { return };
    for (name, ends, certain) in [
        // The writer of this one left out many empty lines. A Content-Length helps where it is right to the octet,
        // which is nowhere with other line ends.
        ("content-length", "unix", 26),
        ("content-length", "dos", 19),
        ("issue1189", "unix", 4),
        ("issue1189", "dos", 4),
    ] {
        let file = |suffix: &str| {
            let mut named = files.iter().filter(|file| file.ends_with(format!("{name}.{suffix}")));
            fs::read(named.next().unwrap()).unwrap()
        };
        let offsets: Vec<Value> = serde_json::from_slice(&file(&format!("{ends}-offsets.json"))).unwrap();
        let expected: Vec<u64> =
            offsets.iter().map(|message| message["mboxMarkerOffset"].as_u64().unwrap()).collect();
        let mbox = file("mbox.txt");
        let mbox = if ends == "dos" { with_crlf(&mbox) } else { mbox };
        let found = split(&mbox).1;
        assert_eq!(found.len(), certain, "{name} {ends}");
        for message in &found {
            assert!(expected.contains(&message.offset), "{name} {ends}: {}", message.offset);
            let inside = message.offset + 1..message.offset + message.len;
            let missed = expected.iter().find(|offset| inside.contains(offset)).copied();
            assert_eq!(message.doubt, missed, "{name} {ends}: what is not cut is doubted");
        }
    }
}

#[test]
fn what_is_found_depends_neither_on_how_much_is_read_at_once_nor_on_what_is_kept() {
    const PIECES: [&str; 14] = [
        "From ",
        "From alice@example.org Fri Sep 16 22:26:51 2016\n",
        "\nFrom alice@example.org Fri Sep 16 22:26:51 2016\nSubject: x\n\n",
        ">From here\n",
        ">>From there\n",
        "words From here\n",
        "\n",
        "\r\n",
        "Subject: a\n",
        "Content-Length: 20\n",
        "text\n",
        "text\r\n",
        "x",
        "\n\nFrom - \nA: b\n\n",
    ];
    let mut seed = 1_u64;
    let mut next = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for round in 0..1000 {
        let mut mbox = String::from(DATED);
        for _ in 0..next(40) {
            mbox.push_str(PIECES[next(PIECES.len())]);
        }
        let mbox = mbox.as_bytes();
        // A buffer of four octets never shows more than a short line at once.
        let line_by_line = split_with(mbox, 1 << 20, 4);
        for buffer in [1, 7, 33, 8192] {
            assert_eq!(split_with(mbox, 1 << 20, buffer), line_by_line, "round {round}, buffer of {buffer}");
        }
        let (preamble, mut expected) = line_by_line;
        for found in &mut expected {
            found.octets = None;
        }
        assert_eq!(split_with(mbox, 0, 8192), (preamble, expected), "round {round}, nothing kept");
    }
}

/// A disk that cannot be read from some octet on.
struct Broken<'a>(&'a [u8]);

impl io::Read for Broken<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::Error::from_raw_os_error(5)) } else { self.0.read(out) }
    }
}

#[test]
fn what_cannot_be_read_says_in_which_message_that_was() {
    let messages = [0, 1, 2].map(|n| format!("From a@b Fri Sep 16 22:26:51 2016\nSubject: {n}\n\n{n}\n\n"));
    let (len, archive) = (messages[0].len() as u64, messages.concat());
    let archive = archive.as_bytes();
    for (read, begins) in
        [(0, 0), (10, 0), (len - 1, 0), (len + 47, len), (2 * len + 47, 2 * len), (3 * len, 2 * len)]
    {
        let broken = || BufReader::new(Broken(&archive[..usize::try_from(read).unwrap()]));
        let mut splitter = Splitter::new(broken(), archive, 1 << 20);
        let by_part = loop {
            if let Err(error) = splitter.next_part() {
                break error;
            }
        };
        let by_survey = Survey::of(broken(), archive).unwrap_err();
        for error in [by_part, by_survey] {
            let expected = format!("the message at octet {begins}: Input/output error (os error 5)");
            assert_eq!(error.to_string(), expected, "after {read} octets");
            assert_eq!(error.kind(), io::Error::from_raw_os_error(5).kind());
        }
    }
}
