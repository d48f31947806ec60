//! Messages over `--max-message`: copied without being kept in memory, octet by octet, and named.
//!
//! `HSMIME_MEBIBYTES=3072 TMPDIR=/var/tmp cargo nextest run -p batch large::` with messages of so many MiB.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use batch::{
    digest::Summed,
    mbox::{Lengths, MadeBy},
    run::{Options, Output},
};
use smime::testing::fixtures::data;

use crate::{
    child::{Pace, in_place, peak},
    resume::resuming,
    support::{Shout, options, run_with},
};

/// The limit in these tests.
const LIMIT: u64 = 1 << 20;

/// What such a run may have in memory at most: the program, the smallest room, and a decompressor with its window.
const BOUND: u64 = 40 << 20;

fn mebibytes() -> u64 {
    std::env::var("HSMIME_MEBIBYTES").ok().map_or(36, |number| number.parse().unwrap())
}

/// The header of the large message, and lines that are quoted in an mbox, until it is large.
fn write_large(to: &mut dyn Write, from: &str) {
    to.write_all(b"Subject: large\n\n").unwrap();
    let lines =
        ["a line that is the same as all the others\n".repeat(1_000).as_bytes(), from.as_bytes()].concat();
    let mut written = 0;
    while written < mebibytes() << 20 {
        to.write_all(&lines).unwrap();
        written += lines.len() as u64;
    }
}

const SMALL: &str = "Subject: small\n\nbody\n";
const SHOUTED: &str = "X-Shout: yes\nSubject: small\n\nBODY\n";
const FROM_LINE: &str = "From alice@example.org Fri Sep 16 22:26:51 2016\n";

fn create(path: &Path) -> BufWriter<File> {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    BufWriter::with_capacity(1 << 20, File::create(path).unwrap())
}

/// The message as a file of its own.
fn write_file(path: &Path) {
    let mut to = create(path);
    write_large(&mut to, "From here to there\n");
    to.flush().unwrap();
}

/// A small message, the large one, and another small one.
fn write_mbox(mut to: impl Write, small: &str) {
    to.write_all(format!("{FROM_LINE}{small}\n{FROM_LINE}").as_bytes()).unwrap();
    write_large(&mut to, ">From here to there\n");
    to.write_all(format!("\n{FROM_LINE}{small}\n").as_bytes()).unwrap();
    to.flush().unwrap();
}

fn sum(path: &Path) -> Summed {
    let mut summed = SummedTo::default();
    std::io::copy(&mut BufReader::with_capacity(1 << 20, File::open(path).unwrap()), &mut summed).unwrap();
    summed.finish()
}

/// Sums up what is written to it.
pub(crate) struct SummedTo(aws_lc_rs::digest::Context, u64);

impl Default for SummedTo {
    fn default() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256), 0)
    }
}

impl SummedTo {
    pub(crate) fn finish(self) -> Summed {
        Summed { size: self.1, sha256: data_encoding::HEXLOWER.encode(self.0.finish().as_ref()) }
    }
}

impl Write for SummedTo {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.update(octets);
        self.1 += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs that, looks how much memory it took, and that the report names one message, and what it was and became.
fn run(mut command: Command, output: &Path, input: &Summed, written: Option<&Summed>) {
    command.env("BATCH_RESUME", output.with_extension("report")).env("BATCH_SELDOM", "yes");
    command.env("BATCH_MAX_MESSAGE", LIMIT.to_string()).env("BATCH_ROOM", "1048576");
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("it is larger than --max-message allows (policy fault)"), "{said}");
    let peak = peak(output);
    eprintln!("{}: {} MiB resident at most", output.display(), peak >> 20);
    assert!(peak < BOUND, "{}: {peak} octets", output.display());
    let report = fs::read_to_string(output.with_extension("report")).unwrap();
    let report = report.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let failed: Vec<_> = report.filter(|line| line["action"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["error"]["fault"], "policy");
    assert_eq!(failed[0]["input"], serde_json::to_value(input).unwrap());
    if let Some(written) = written {
        assert_eq!(failed[0]["output"], serde_json::to_value(written).unwrap());
    }
}

/// The one file in a folder that is larger than the limit.
fn large_in(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

#[test]
fn a_large_message_of_an_mbox_is_copied_in_little_memory_octet_by_octet_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_mbox(create(&path("in")), SMALL);
    write_mbox(create(&path("expected")), SHOUTED);
    write_file(&path("alone"));
    // The large one alone, with its From_ line and the line after it.
    let mut mail = create(&path("mail"));
    mail.write_all(FROM_LINE.as_bytes()).unwrap();
    write_large(&mut mail, ">From here to there\n");
    mail.write_all(b"\n").unwrap();
    mail.flush().unwrap();
    let (input, alone) = (sum(&path("mail")), sum(&path("alone")));

    run(resuming(&path("in"), &path("out"), None), &path("out"), &input, Some(&input));
    assert_eq!(sum(&path("out")), sum(&path("expected")));
    fs::remove_file(path("out")).unwrap();

    run(resuming(&path("in"), &path("maildir"), Some("maildir")), &path("maildir"), &input, Some(&alone));
    assert_eq!(sum(&large_in(&path("maildir/new"))), alone);
    fs::remove_dir_all(path("maildir")).unwrap();

    // How long it becomes is to be known before it is written.
    run(resuming(&path("in"), &path("lengths"), Some("mboxcl2")), &path("lengths"), &input, None);
    let mut head = vec![0; 1_000];
    File::open(path("lengths")).unwrap().read_exact(&mut head).unwrap();
    let length = alone.size - "Subject: large\n\n".len() as u64;
    assert!(
        String::from_utf8_lossy(&head).contains(&format!("Subject: large\nContent-Length: {length}\n\n"))
    );
    let small = FROM_LINE.len() + "Content-Length: 5\n".len() + SHOUTED.len() + 1;
    let header = FROM_LINE.len() + format!("Content-Length: {length}\n").len() + 1;
    assert_eq!(fs::metadata(path("lengths")).unwrap().len(), alone.size + (2 * small + header) as u64);
}

#[test]
fn a_large_message_of_a_compressed_mbox_is_copied_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut to = zstd::Encoder::new(create(&path("in.zst")), 0).unwrap();
    write_mbox(&mut to, SMALL);
    to.finish().unwrap().flush().unwrap();
    write_mbox(create(&path("expected")), SHOUTED);
    let mut mail = SummedTo::default();
    mail.write_all(FROM_LINE.as_bytes()).unwrap();
    write_large(&mut mail, ">From here to there\n");
    mail.write_all(b"\n").unwrap();
    let input = mail.finish();
    run(resuming(&path("in.zst"), &path("out"), None), &path("out"), &input, Some(&input));
    assert_eq!(sum(&path("out")), sum(&path("expected")));
}

#[test]
fn a_large_message_that_is_a_file_is_copied_in_little_memory_octet_by_octet_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let large = path("in/cur/1.large:2,S");
    write_file(&large);
    fs::write(path("in/cur/2.small:2,S"), SMALL).unwrap();
    let input = sum(&large);

    run(resuming(&path("in"), &path("out"), None), &path("out"), &input, Some(&input));
    assert_eq!(sum(&path("out/cur/1.large:2,S")), input);
    fs::remove_dir_all(path("out")).unwrap();

    run(resuming(&path("in"), &path("mbox"), Some("mboxrd")), &path("mbox"), &input, None);
    let quoted = fs::metadata(path("mbox")).unwrap().len();
    assert!(quoted > input.size + mebibytes(), "its lines are quoted");
    fs::remove_file(path("mbox")).unwrap();

    run(in_place(Pace::Shouting, &path("in")), &path("in"), &input, Some(&input));
    assert_eq!(sum(&large), input);
    assert_eq!(fs::read_dir(path("in/cur")).unwrap().count(), 2);

    // And one that is an input by itself.
    let alone = path("alone.eml");
    fs::rename(&large, &alone).unwrap();
    run(resuming(&alone, &path("copy"), None), &path("copy"), &input, Some(&input));
    assert_eq!(sum(&path("copy")), input);
}

#[test]
fn an_archive_with_a_message_over_the_limit_ends_with_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |body: &str| format!("{FROM_LINE}From: alice@example.org\nSubject: x\n\n{body}\n\n");
    fs::write(path("in"), text("small") + &text(&"large ".repeat(500))).unwrap();
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    fs::write(path("toml"), "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n").unwrap();
    for (limit, in_memory, code) in [("1000", "1000", 1), ("10000", "10000", 0), ("10001", "1000", 0)] {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"));
        verify.arg("--config").arg(path("toml")).current_dir(folder.path());
        verify.args(["verify", "in", "--max-message", limit, "--in-memory", in_memory, "--output", limit]);
        let ran = verify.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{said}");
        assert_eq!(said.contains("larger than --max-message allows"), code == 1, "{said}");
        assert_eq!(fs::read(path(limit)).unwrap(), fs::read(path("in")).unwrap());
    }
}

#[test]
fn a_large_message_whose_header_is_long_has_a_length_in_an_mbox_that_needs_them() {
    let mail = format!("\n\n{FROM_LINE}From: boss@example.org\nSubject: pay\n\ntext\n");
    let fields = "X-A: a field that is the same as all the others\n".repeat(25_000);
    for (header, lengths) in [
        (format!("Subject: x\n{fields}"), 1),
        // Of these the first would be believed, and the last is none.
        (format!("Subject: x\nContent-Length: 1\n{fields}Content-Length: 1\nContent-Length: 1\n 2\n"), 2),
        (format!("{fields}{}\nSubject: x\n", " y".repeat(100_000)), 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("in/cur")).unwrap();
        fs::write(path("in/cur/1.host:2,S"), format!("{header}\ntext{mail}")).unwrap();
        fs::write(path("in/cur/2.host:2,S"), format!("Subject: y\n\ntext{mail}")).unwrap();
        let output = Output::Converted(path("out"), "mboxcl2".parse().unwrap());
        let to = Options { output, max_message: 1 << 20, ..options(&[&path("in")], &path("out")) };
        assert_eq!(run_with(&to, &Shout).unwrap().totals.failed(), 1, "it is too large");
        let text = fs::read_to_string(path("out")).unwrap();
        let length = format!("\nContent-Length: {}\n", format!("text{mail}").len());
        assert_eq!(text.matches(&length).count(), lengths + 1);
        let looks = Options { output: Output::None, ..options(&[&path("out")], &path("out")) };
        let lengths = Some(Lengths::told(MadeBy::Writer));
        let ran = run_with(&Options { max_message: 10 << 20, lengths, ..looks }, &Shout).unwrap();
        assert_eq!((ran.totals.messages(), ran.totals.failed()), (2, 0), "text became mail");
    }
}
