//! What the guide quotes of our messages, in its tables of troubles, stands in a source of ours.

use std::{fs, path::Path};

/// The tables, each with the column that quotes.
const TABLES: [(&str, usize); 2] = [("\n## What you see when …\n", 1), ("\n## What else to do when …\n", 0)];

/// What the system, Postfix and modules say.
const OF_OTHERS: [&str; 11] = [
    "Address already in use",
    "Connection refused",
    "Input/output error",
    "No space left on device",
    "No such file or directory",
    "Permission denied",
    "Read-only file system",
    "Too many open files",
    "connect to Milter service",
    "milter-reject: CONNECT from …: 451 4.7.1 Service unavailable - try again later",
    "454 4.3.0 Try again later",
];

/// Words that are put into a message, as an example or where two texts meet.
const VALUES: [&str; 8] = [
    "os error",
    "user hsmime",
    "RSA",
    "FILE",
    "octet N",
    "lacks sign",
    "other certificate signs",
    "in less than a day",
];

/// All text of ours that ships, without tests and with each string on one line.
fn sources(root: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(root).unwrap().map(|entry| entry.unwrap()) {
        let is_of_tests = ["benches", "fuzz", "tests"].iter().any(|name| *name == entry.file_name());
        let sources = entry.path().join("src");
        if !is_of_tests && sources.is_dir() {
            add(&sources, &mut text);
        }
    }
    words(&text.replace("\\\n", " ").replace("\\\"", "\""))
}

fn add(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            if !entry.ends_with("tests") {
                add(&entry, text);
            }
        } else if entry.extension().is_some_and(|kind| kind == "rs") && !entry.ends_with("tests.rs") {
            let source = fs::read_to_string(&entry).unwrap();
            let shipped =
                source.split_once("\n#[cfg(test)]\nmod tests {").map_or(&*source, |(shipped, _)| shipped);
            text.push_str(shipped);
        }
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Code in a cell, with one backtick or two around it.
fn spans(cell: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), cell);
    while let Some((_, code)) = rest.split_once('`') {
        let (fence, code) = code.strip_prefix('`').map_or(("`", code), |code| ("``", code));
        let (span, behind) = code.split_once(fence).unwrap();
        found.push(span.trim().to_owned());
        rest = behind;
    }
    found
}

/// The messages that a page quotes: code of several words that is no command.
fn quoted(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (title, column) in TABLES {
        let (_, table) = page.split_once(title).unwrap();
        let table = table.split_once("\n## ").map_or(table, |(table, _)| table);
        for row in table.lines().filter_map(|line| line.strip_prefix("| ")).skip(2) {
            all.extend(spans(row.split(" | ").nth(column).unwrap()));
        }
    }
    all.retain(|span| {
        span.contains(' ') && !["hsmime ", "cert "].iter().any(|command| span.starts_with(command))
    });
    all
}

/// What is constant in a message: runs of two words and more, between values, names and stops.
fn constants(message: &str) -> Vec<String> {
    let mut message = message.to_owned();
    for text in OF_OTHERS.iter().chain(&VALUES) {
        message = message.replace(text, " … ");
    }
    let (mut runs, mut run) = (Vec::new(), Vec::new());
    let message = message.replace('…', " … ");
    for word in message.split_whitespace() {
        let is_value = |octet: char| octet.is_ascii_digit() || "/@\"=…`[]_".contains(octet);
        if word.starts_with('(') || word.contains(is_value) {
            runs.push(std::mem::take(&mut run));
        }
        if !word.contains(is_value) {
            run.push(word.trim_matches(['.', ',', ';', ':', '?', '(', ')']));
            if word.ends_with(['.', ',', ';', ':', '?', ')']) {
                runs.push(std::mem::take(&mut run));
            }
        }
    }
    runs.push(run);
    runs.iter().filter(|run| run.len() > 1).map(|run| run.join(" ")).collect()
}

#[test]
fn each_message_that_the_guide_quotes_for_a_trouble_stands_in_a_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (sources, page) = (sources(&root), fs::read_to_string(root.join("docs/guide.md")).unwrap());
    let quoted = quoted(&page);
    let missing: Vec<_> = quoted
        .iter()
        .flat_map(|message| constants(message).into_iter().map(move |run| (run, message)))
        .filter(|(run, _)| !sources.contains(run.as_str()))
        .collect();
    assert!(missing.is_empty(), "no source says it: {missing:#?}");
    assert!(quoted.len() > 50, "few are found: {quoted:#?}");
    for message in &quoted {
        let is_of_others = OF_OTHERS.iter().any(|text| message.contains(text));
        assert!(is_of_others || !constants(message).is_empty(), "nothing of it is looked for: {message}");
    }
}

#[test]
fn a_message_that_nothing_says_is_found() {
    for (message, runs) in [
        ("token \"mail\" has no private key for certificate …", &["has no private key for certificate"][..]),
        (
            "…: Read-only file system (os error 30): nobody could write down who has a copy",
            &["nobody could write down who has a copy"],
        ),
        (
            "PIN file /etc/hsmime/pin: it has more than one line, so it was not tried",
            &["PIN file", "it has more than one line", "so it was not tried"],
        ),
    ] {
        let found = constants(message);
        assert_eq!(found, runs, "{message}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    assert!(!sources(&root).contains("so it was never tried"));
    assert_eq!(spans("`a b`, or ``c `d` e`` and `f`"), ["a b", "c `d` e", "f"]);
}
