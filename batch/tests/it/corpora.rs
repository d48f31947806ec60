//! Mail made by others, through archives of every kind and back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use batch::{archive::Format, mbox::Variant, run::Output, task::Identity};

use crate::{
    folderdata::DATA,
    support::{Ran, options, run_with, with_crlf},
};

/// All messages of `tests/data`, by name, with what each file has.
pub(crate) fn messages() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut found = Vec::new();
    for set in ["cpython", "mail-parser", "mailparse", "mimekit"] {
        let files = fs::read_dir(root.join(set)).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<PathBuf> = files.filter(|file| !file.to_string_lossy().contains(".mbox.")).collect();
        assert!(files.len() >= 2, "{set}");
        for file in files {
            let name = format!("{set}/{}", file.file_name().unwrap().to_string_lossy());
            found.push((name, fs::read(&file).unwrap()));
        }
    }
    found.sort();
    assert!(found.len() > 90, "{}", found.len());
    found
}

/// Messages that begin with a header, end with a line end, and have no From_ line of their own.
pub(crate) fn proper() -> Vec<(String, Vec<u8>)> {
    let mut messages = messages();
    messages.retain(|(_, octets)| {
        let line = octets.split(|&octet| octet == b'\n').next().unwrap();
        let name = line.split(|&octet| octet == b':').next().unwrap();
        line.contains(&b':') && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
    });
    for (_, octets) in &mut messages {
        if !octets.ends_with(b"\n") {
            octets.push(b'\n');
        }
    }
    assert!(messages.len() > 80, "{}", messages.len());
    messages
}

pub(crate) fn convert(input: &Path, output: &Path, format: Format) -> Ran {
    let output = Output::Converted(output.to_owned(), format);
    run_with(&batch::run::Options { output, ..options(&[input], Path::new("")) }, &Identity).unwrap()
}

/// A stored message as a test would quote it, line by line.
fn quoted(octets: &[u8], variant: Variant) -> Vec<u8> {
    let mut out = Vec::new();
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        let marks = line.iter().take_while(|&&octet| octet == b'>').count();
        let from = line[marks..].starts_with(b"From ");
        let needs = match variant {
            Variant::Mboxrd => from,
            Variant::Mboxcl2 => false,
            Variant::Mboxo | Variant::Mboxcl => from && marks == 0,
        };
        if needs {
            out.push(b'>');
        }
        out.extend_from_slice(line);
    }
    out
}

/// A `Content-Length` as the last field, and none before it.
fn with_length(octets: &[u8], body: usize) -> Vec<u8> {
    let crlf = octets.split(|&octet| octet == b'\n').next().unwrap().ends_with(b"\r");
    let line_end = if crlf { "\r\n" } else { "\n" };
    let mut out = Vec::new();
    let mut rest = octets;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        let (line, tail) = rest.split_at(at + 1);
        if line == line_end.as_bytes() {
            out.extend_from_slice(format!("Content-Length: {body}{line_end}").as_bytes());
            break;
        }
        if !line.to_ascii_lowercase().starts_with(b"content-length:") {
            out.extend_from_slice(line);
        }
        rest = tail;
    }
    [&out, rest].concat()
}

fn body_of(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        at += line.len();
        if line == b"\n" || line == b"\r\n" {
            return Some(octets.len() - at);
        }
    }
    None
}

/// An mbox of these messages, each with another sender and date, as a writer of this variant would write it.
pub(crate) fn mbox(messages: &[(String, Vec<u8>)], variant: Variant, crlf: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, (_, octets)) in messages.iter().enumerate() {
        let octets = if crlf { with_crlf(octets) } else { octets.clone() };
        let mut stored = quoted(&octets, variant);
        if variant.has_lengths() {
            let Some(body) = body_of(&stored) else { continue };
            stored = with_length(&stored, body);
        }
        let line_end = if crlf { "\r\n" } else { "\n" };
        let (day, second) = (1 + number % 28, number % 60);
        let from =
            format!("From sender{number}@example.org Thu Sep {day:>2} 22:26:{second:02} 2016{line_end}");
        out.extend_from_slice(from.as_bytes());
        out.extend_from_slice(&stored);
        out.extend_from_slice(line_end.as_bytes());
    }
    out
}

/// How many messages have a body, so that it can have a length.
fn with_body(messages: &[(String, Vec<u8>)]) -> usize {
    messages.iter().filter(|(_, octets)| body_of(octets).is_some()).count()
}

#[test]
fn what_cannot_be_cut_out_is_named_and_nothing_of_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    for variant in VARIANTS {
        let before = mbox(&messages(), variant, false);
        let input = folder.path().join(variant.as_str());
        fs::write(&input, &before).unwrap();
        let output = input.with_extension("out");
        let ran = run_with(&options(&[&input], &output), &Identity).unwrap();
        assert!(fs::read(&output).unwrap() == before, "{}", variant.as_str());
        // Some of the samples have no header, and then a From_ line before them may be one or not.
        assert!(ran.totals.messages() < messages().len() as u64 && ran.totals.failed() > 0);
    }
}

const VARIANTS: [Variant; 4] = [Variant::Mboxrd, Variant::Mboxo, Variant::Mboxcl, Variant::Mboxcl2];

#[test]
fn from_mbox_to_maildir_and_back_nothing_changes_in_any_variant() {
    let folder = tempfile::tempdir().unwrap();
    if !keeps_extended(folder.path()) {
        eprintln!("not applicable: this file system has no extended attributes, where From_ lines are kept");
        return;
    }
    let messages = proper();
    for variant in VARIANTS {
        for crlf in [false, true] {
            {
                let case = format!("{}-{crlf}", variant.as_str());
                let path = |part: &str| folder.path().join(format!("{case}.{part}"));
                let before = mbox(&messages, variant, crlf);
                fs::write(path("in"), &before).unwrap();
                let count = convert(&path("in"), &path("maildir"), Format::Maildir).totals.messages();
                convert(&path("maildir"), &path("out"), Format::Mbox(variant));
                let after = fs::read(path("out")).unwrap();
                if after != before {
                    let at = after
                        .iter()
                        .zip(&before)
                        .position(|(a, b)| a != b)
                        .unwrap_or(before.len().min(after.len()));
                    let near = |octets: &[u8]| {
                        let range = at.saturating_sub(200).min(octets.len())..(at + 80).min(octets.len());
                        String::from_utf8_lossy(&octets[range]).into_owned()
                    };
                    panic!("{case}: at {at}:\n{}\n--- became ---\n{}", near(&before), near(&after));
                }
                let written = if variant.has_lengths() { with_body(&messages) } else { messages.len() };
                assert_eq!(count, written as u64, "{case}");
            }
        }
    }
}

/// Whether files here keep extended attributes.
fn keeps_extended(folder: &Path) -> bool {
    let file = fs::File::create(folder.join("probe")).unwrap();
    rustix::fs::fsetxattr(&file, "user.probe", b"x", rustix::fs::XattrFlags::empty()).is_ok()
}

#[test]
fn from_files_to_every_kind_of_archive_and_back_no_octet_of_a_message_changes() {
    let folder = tempfile::tempdir().unwrap();
    let messages = proper();
    let tree = folder.path().join("tree");
    for (number, (_, octets)) in messages.iter().enumerate() {
        let below = tree.join(format!("folder {}", number % 3));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join(format!("{number:03}.eml")), octets).unwrap();
    }
    let mut expected: Vec<&[u8]> = messages.iter().map(|(_, octets)| &octets[..]).collect();
    expected.sort_unstable();
    for format in ["mboxrd", "maildir", "eml"] {
        let (there, back) = (folder.path().join(format), folder.path().join(format!("{format}-back")));
        let ran = convert(&tree, &there, format.parse().unwrap());
        assert_eq!((ran.totals.messages(), ran.totals.failed()), (messages.len() as u64, 0), "{format}");
        convert(&there, &back, Format::Eml);
        let files = walk(&back);
        let mut found: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        found.sort();
        for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(found == expected, "{format} {number}: {}", String::from_utf8_lossy(found));
        }
        assert_eq!(found.len(), expected.len(), "{format}");
    }
    // Without a change a tree is copied file by file.
    let names = |root: &Path| -> Vec<PathBuf> {
        walk(root).iter().map(|file| file.strip_prefix(root).unwrap().to_owned()).collect()
    };
    assert_eq!(names(&tree), names(&folder.path().join("eml")));
}

pub(crate) fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn compressed_archives_are_read_and_written_whatever_is_too_large_for_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut messages = proper();
    // Some over the limit, with lines that are quoted.
    for at in [3, 4, 40] {
        messages[at].1.extend_from_slice(&b"From here to there\n>From there\nand so on\n".repeat(2_000));
    }
    for variant in [Variant::Mboxrd, Variant::Mboxcl2] {
        let before = mbox(&messages, variant, false);
        let plain = folder.path().join(format!("{}.mbox", variant.as_str()));
        fs::write(&plain, &before).unwrap();
        let mut last = plain;
        for suffix in ["gz", "zst", "xz", "plain"] {
            let next = folder.path().join(format!("{}.mbox.{suffix}", variant.as_str()));
            let options = batch::run::Options { max_message: 50_000, ..options(&[&last], &next) };
            let ran = run_with(&options, &Identity).unwrap();
            assert_eq!(ran.totals.failed(), 3, "the large ones are named");
            if suffix != "plain" {
                assert!(fs::metadata(&next).unwrap().len() < before.len() as u64 / 4, "{suffix}");
            }
            last = next;
        }
        assert!(fs::read(&last).unwrap() == before, "{}", variant.as_str());
        // Also into a Maildir and back, where lines are quoted anew.
        if keeps_extended(folder.path()) {
            let compressed = folder.path().join(format!("{}.mbox.zst", variant.as_str()));
            let (maildir, back) = (last.with_extension("maildir"), last.with_extension("back"));
            let small = |input: &Path, output: &Path, format| {
                let output = Output::Converted(output.to_owned(), format);
                let options = options(&[input], Path::new(""));
                run_with(&batch::run::Options { output, max_message: 50_000, ..options }, &Identity).unwrap()
            };
            small(&compressed, &maildir, Format::Maildir);
            small(&maildir, &back, Format::Mbox(variant));
            assert!(fs::read(&back).unwrap() == before, "{} by way of a Maildir", variant.as_str());
        }
    }
}

#[test]
fn what_is_before_the_first_message_and_a_servers_data_survive_a_maildir() {
    let folder = tempfile::tempdir().unwrap();
    if !keeps_extended(folder.path()) {
        eprintln!("not applicable: this file system has no extended attributes, where From_ lines are kept");
        return;
    }
    let data = DATA;
    let mails = crate::support::sample_mbox(3);
    for (name, before) in [("bom", "\u{feff}".as_bytes()), ("junk", b"junk\n\n"), ("data", data.as_bytes())] {
        let path = |part: &str| folder.path().join(format!("{name}.{part}"));
        fs::write(path("in"), [before, &mails].concat()).unwrap();
        convert(&path("in"), &path("maildir"), Format::Maildir);
        let in_maildir = walk(&path("maildir")).len();
        assert_eq!(in_maildir, 4, "{name}: three messages, and what is none");
        convert(&path("maildir"), &path("out"), Format::Mbox(Variant::Mboxrd));
        assert!(fs::read(path("out")).unwrap() == fs::read(path("in")).unwrap(), "{name}");
    }
}

#[test]
fn a_maildir_of_several_folders_becomes_a_folder_of_mboxes() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    for (below, name) in
        [("", "1.h:2,S"), (".Sent.2020", "2.h:2,"), (".Sent.2020", "3.h:2,RS"), ("nested/a", "4.h:2,")]
    {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(mail.join(below).join(part)).unwrap();
        }
        fs::write(mail.join(below).join("cur").join(name), format!("Subject: {name}\n\nx\n")).unwrap();
    }
    let out = folder.path().join("out");
    convert(&mail, &out, Format::Mbox(Variant::Mboxrd));
    let names: Vec<PathBuf> =
        walk(&out).iter().map(|file| file.strip_prefix(&out).unwrap().to_owned()).collect();
    assert_eq!(names, ["INBOX.mbox", "Sent.2020.mbox", "nested/a.mbox"].map(PathBuf::from));
    let sent = fs::read_to_string(out.join("Sent.2020.mbox")).unwrap();
    assert_eq!(sent.matches("\nSubject: ").count(), 2);
    assert!(sent.contains("Status: RO\nX-Status: A\n"), "{sent}");
}
