//! What is before the first message of an mbox: told, counted, and held against the report.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use batch::{
    manifest::check,
    report::Report,
    run::{Output, run},
};
use serde_json::Value;

use crate::support::{Shout, options, sample_mbox};

/// What looks like no From_ line here, and may be one for another reader.
const ODD: &str = "From ceo@example.org 2016-09-16 22:26:51\nSubject: first\n\npay\n\n";

/// Runs on an mbox with this before its first message; gives the report and how many messages failed.
fn written(folder: &Path, before: &str, format: &str) -> (PathBuf, PathBuf, u64) {
    let path = |name: &str| folder.join(format!("{name}{format}"));
    let (input, output, report) = (path("mbox"), path("out"), path("report"));
    fs::write(&input, [before.as_bytes(), &sample_mbox(5)].concat()).unwrap();
    let mut options = options(&[&input], &output);
    if !format.is_empty() {
        options.output = Output::Converted(output.clone(), format.parse().unwrap());
    }
    let totals = run(&options, &Shout, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    assert_eq!(totals.messages(), 5 + u64::from(!before.is_empty()), "{format}");
    (report, output, totals.failed())
}

#[test]
fn octets_before_the_first_message_are_in_the_report_and_a_failure_where_they_may_be_a_message() {
    for (before, failed) in [("", 0), ("\u{feff}", 0), ("\n \r\n\n", 0), (ODD, 1), ("junk\n\n", 1)] {
        for format in ["", "mbox", "mboxcl2", "maildir", "eml"] {
            let folder = tempfile::tempdir().unwrap();
            let (report, output, found) = written(folder.path(), before, format);
            assert_eq!(found, failed, "{before:?} {format}");
            let lines: Vec<Value> = fs::read_to_string(&report)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            if !before.is_empty() {
                assert_eq!((&lines[0]["no_message"], &lines[0]["index"]), (&true.into(), &1.into()));
                assert_eq!(lines[0]["source"]["offset"], 0);
                assert_eq!(lines[0]["output"]["size"], before.len());
                assert_eq!(lines[0]["action"], if failed > 0 { "failed" } else { "kept" });
            }
            assert!(lines.iter().skip(1).all(|line| line["no_message"].is_null()));
            let checked = check(&report, std::slice::from_ref(&output)).unwrap();
            assert_eq!((checked.good, checked.count), (lines.len() as u64, 0), "{:?}", checked.problems);
        }
    }
}

#[test]
fn nothing_is_put_before_the_first_message_or_taken_from_there_without_being_found() {
    const FORGED: &str = "From: ceo@example.org\nSubject: forged\n\npay\n\n";
    for before in ["", "\n", ODD] {
        for (name, forged) in [
            ("a message without a From_ line", format!("{FORGED}{before}")),
            ("a message with an odd one", format!("{ODD}{before}")),
            ("an empty line", format!("\n{before}")),
            ("a byte order mark", format!("\u{feff}{before}")),
            ("another message", FORGED.to_owned()),
            ("nothing any more", String::new()),
        ] {
            if forged == before {
                continue;
            }
            for format in ["", "maildir", "eml"] {
                let folder = tempfile::tempdir().unwrap();
                let (report, output, _) = written(folder.path(), before, format);
                if format.is_empty() {
                    let octets = fs::read(&output).unwrap();
                    fs::write(&output, [forged.as_bytes(), &octets[before.len()..]].concat()).unwrap();
                } else {
                    fs::write(output.join("mbox-preamble"), &forged).unwrap();
                }
                let checked = check(&report, &[output]).unwrap();
                let is_same = !format.is_empty() && before.is_empty() && forged.is_empty();
                assert_eq!(checked.count > 0, !is_same, "{name} before {before:?} {format}");
            }
        }
    }
}

#[test]
fn what_an_mbox_had_before_its_first_message_is_proven_on_the_whole_way_to_a_maildir_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (_, maildir, _) = written(folder.path(), ODD, "maildir");
    for (format, output) in [("mbox", "back"), ("maildir", "again")] {
        let mut options = options(&[&maildir], &path(output));
        options.output = Output::Converted(path(output), format.parse().unwrap());
        let report = Report::create(&path(&format!("{output}.report"))).unwrap();
        assert_eq!(run(&options, &Shout, report, &AtomicBool::new(false)).unwrap().failed(), 0);
        let checked = check(&path(&format!("{output}.report")), &[path(output)]).unwrap();
        let good = if format == "mbox" { 6 } else { 5 };
        assert_eq!((checked.good, checked.count), (good, 0), "{:?}", checked.problems);
    }
    assert!(fs::read(path("back")).unwrap().starts_with(ODD.as_bytes()));
    fs::write(path("back"), &fs::read(path("back")).unwrap()[ODD.len()..]).unwrap();
    assert!(check(&path("back.report"), &[path("back")]).unwrap().count > 0);
}
