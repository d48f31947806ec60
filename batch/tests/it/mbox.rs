//! Runs on mbox files: nothing lost, nothing changed that need not be.

use std::{fs, path::Path};

use batch::{
    mbox::{Lengths, MadeBy, Quoting, unquote},
    run::{Options, Output},
    task::{Done, Failed, Identity, Task, Work},
};
use smime::mime::Message;

use crate::{
    folderdata::DATA,
    support::{Outage, Shout, Unlucky, corpus, options, run_on, run_with, sample_mbox, with_crlf},
};

#[test]
fn copied_samples_are_octet_identical_whether_tasks_succeed_fail_or_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut samples: Vec<(String, Vec<u8>)> = ["mimekit/mbox", "mimekit/messages"]
        .iter()
        .flat_map(|below| corpus(below).unwrap_or_default())
        .filter(|path| {
            path.to_string_lossy().ends_with(".mbox.txt") || !path.to_string_lossy().contains("mbox")
        })
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    samples.push(("sample".into(), sample_mbox(50)));
    samples.push(("empty".into(), Vec::new()));
    samples.push(("truncated".into(), sample_mbox(3)[..300].to_vec()));
    samples.push(("no-final-empty-line".into(), sample_mbox(3).strip_suffix(b"\n").unwrap().to_vec()));
    let mut runs = 0;
    for (name, octets) in samples {
        for octets in [octets.clone(), with_crlf(&octets)] {
            let input = folder.path().join(format!("in-{runs}-{name}"));
            fs::write(&input, &octets).unwrap();
            for task in [&Identity as &dyn Task, &Unlucky] {
                runs += 1;
                let output = folder.path().join(format!("out-{runs}"));
                let ran = match run_with(&options(&[&input], &output), task) {
                    Ok(ran) => ran,
                    // Some samples are neither mbox nor message, and then nothing is made of them.
                    Err(stopped) => {
                        assert!(stopped.error.to_string().contains("neither an mbox"), "{name}: {stopped:?}");
                        assert!(!output.exists());
                        continue;
                    }
                };
                assert!(fs::read(&output).unwrap() == octets, "{name}");
                assert_eq!(fs::read(&input).unwrap(), octets, "the input of {name}");
                assert_eq!(ran.report.len() as u64, ran.totals.messages());
                let failed = ran.report.iter().filter(|line| line["error"].is_object()).count();
                assert_eq!(failed as u64, ran.totals.failed());
            }
        }
    }
}

#[test]
fn every_message_is_in_the_report_with_its_place_its_sums_and_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, sample_mbox(4)).unwrap();
    let ran = run_on(&input, &output, &Unlucky);
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (4, 3));
    let actions: Vec<_> = ran.report.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["failed", "copied", "failed", "failed"]);
    let faults: Vec<_> = ran.report.iter().map(|line| line["error"]["fault"].as_str()).collect();
    assert_eq!(faults, [Some("internal"), None, Some("message"), Some("internal")]);
    let mbox = sample_mbox(4);
    for (at, line) in ran.report.iter().enumerate() {
        assert_eq!(line["index"], at + 1);
        assert_eq!(line["message_id"], format!("<{at}@example.org>"));
        assert_eq!(line["source"]["file"], input.to_str().unwrap());
        let offset = usize::try_from(line["source"]["offset"].as_u64().unwrap()).unwrap();
        let size = usize::try_from(line["input"]["size"].as_u64().unwrap()).unwrap();
        let sum = batch::digest::Summed::of(&mbox[offset..offset + size]);
        assert_eq!(line["input"]["sha256"], sum.sha256);
        assert_eq!(line["output"], line["input"]);
        // Promise: no content of a message in a report, not even by way of a panic.
        assert!(!line.to_string().contains("number"), "{line}");
    }
}

#[test]
fn changed_messages_keep_their_place_their_from_line_and_their_line_ends() {
    let folder = tempfile::tempdir().unwrap();
    for (name, line_end) in [("lf", "\n"), ("crlf", "\r\n")] {
        let mbox =
            "From - \nSubject: a\n\n>From x\n>>From y\n\nFrom - \nSubject: b\n\nz\n".replace('\n', line_end);
        let expected = "From - \nX-Shout: yes\nSubject: a\n\nFROM X\n>FROM Y\n\n\
                        From - \nX-Shout: yes\nSubject: b\n\nZ\n"
            .replace('\n', line_end);
        let (input, output) = (folder.path().join(name), folder.path().join(format!("{name}-out")));
        fs::write(&input, &mbox).unwrap();
        let ran = run_on(&input, &output, &Shout);
        assert_eq!(fs::read_to_string(&output).unwrap(), expected);
        assert_ne!(ran.report[0]["output"], ran.report[0]["input"]);
    }
}

/// Replaces a message by one that was generated from its index.
struct Replace;

impl Task for Replace {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        Ok(Done { message: Some(generated(work.index).into()), ..Done::unchanged("replaced") })
    }
}

/// A message with all that looks like mbox in its body.
fn generated(seed: u64) -> Message {
    const PIECES: [&str; 8] =
        ["From ", ">From ", "alice@example.org Fri Sep 16 22:26:51 2016", "\r\n", "\r\n", "A: 1", ">", "x"];
    let mut state = seed;
    let mut body = String::new();
    for _ in 0..60 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.push_str(PIECES[usize::try_from(state >> 33).unwrap() % PIECES.len()]);
    }
    Message::from_stored(format!("Subject: {seed}\r\n\r\n{body}\r\n").as_bytes())
}

/// Fails unless the message is the one of its index.
struct Expect;

impl Task for Expect {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        assert_eq!(work.message, &generated(work.index));
        Ok(Done::unchanged("same"))
    }
}

#[test]
fn what_is_written_into_an_mbox_is_read_again_as_it_was_whatever_is_in_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, sample_mbox(300)).unwrap();
    run_on(&input, &output, &Replace);
    let ran = run_on(&output, &folder.path().join("again"), &Expect);
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (300, 0));
    let raw = fs::read(&output).unwrap();
    assert!(unquote(&raw, Quoting::Mboxrd) != raw, "the sample has quoted lines");
}

/// Fails unless a line of the body is so many `>` and `From here`, as its subject says.
struct Marked;

impl Task for Marked {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let header = std::str::from_utf8(work.message.header()).unwrap();
        let marks = header.trim().strip_prefix("Subject: ").unwrap().parse().unwrap();
        let line = format!("\r\n{}From here\r\n", ">".repeat(marks));
        assert!(work.message.body().ends_with(line.as_bytes()), "{marks}");
        Ok(Done::unchanged("same"))
    }
}

#[test]
fn a_line_of_marks_is_read_as_it_was_written_however_much_is_read_at_once_and_comes_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Given lines that begin anywhere, and end around each place where somebody stops reading;
    let mut mbox = Vec::new();
    for marks in (0..40).map(|at| 65_520 + at).chain([262_100, 262_144, 400_000]) {
        let line = format!("{}From here\n", ">".repeat(marks + 1));
        mbox.extend_from_slice(
            format!("From - Fri Sep 16 22:26:51 2016\nSubject: {marks}\n\nx\n\n{line}\n").as_bytes(),
        );
    }
    fs::write(path("in"), &mbox).unwrap();
    // when they are in memory, and when they are too large for that,
    for (name, max_message, failed) in [("kept", 1 << 20, 0), ("large", 262_000, 3)] {
        let converted = |from: &str, to: &str, format: &str| {
            let output = Output::Converted(path(to), format.parse().unwrap());
            let options = Options { max_message, output, ..options(&[&path(from)], &path(to)) };
            run_with(&options, &Marked).unwrap().totals
        };
        let [maildir, back] = [format!("{name}-maildir"), format!("{name}-back")];
        let read = converted("in", &maildir, "maildir");
        assert_eq!((read.messages(), read.failed()), (43, failed), "{name}");
        for file in fs::read_dir(path(&maildir).join("cur")).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let subject = text.lines().next().unwrap().strip_prefix("Subject: ").unwrap();
            assert!(text.ends_with(&format!("\n\n{}From here\n", ">".repeat(subject.parse().unwrap()))));
        }
        // then each is what it was.
        converted(&maildir, &back, "mboxrd");
        assert!(fs::read(path(&back)).unwrap() == mbox, "{name}");
    }
}

#[test]
fn what_may_be_two_messages_or_half_a_message_is_not_touched_but_named() {
    let folder = tempfile::tempdir().unwrap();
    let dated = "From alice@example.org Fri Sep 16 22:26:51 2016\n";
    for (name, mbox, failed, text) in [
        ("two", format!("{dated}A: 1\n\nx\n{dated}A: 2\n\ny\n\n{dated}A: 3\n\nz\n\n"), 1, "another message"),
        ("cut", format!("{dated}A: 1\n\nx\n\n{dated}A: 2\n\ny"), 1, "cut short"),
    ] {
        let (input, output) = (folder.path().join(name), folder.path().join(format!("{name}-out")));
        fs::write(&input, &mbox).unwrap();
        let ran = run_on(&input, &output, &Shout);
        assert_eq!((ran.totals.messages(), ran.totals.failed()), (2, failed), "{name}");
        let line = ran.report.iter().find(|line| line["error"].is_object()).unwrap();
        assert!(line["error"]["reason"].as_str().unwrap().contains(text), "{line}");
        assert_eq!(line["input"], line["output"]);
    }
}

#[test]
fn folder_data_of_a_server_is_kept_and_not_worked_on() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let data = DATA;
    fs::write(&input, [data.as_bytes(), &sample_mbox(1)].concat()).unwrap();
    let ran = run_on(&input, &output, &Shout);
    assert_eq!(
        (ran.report[0]["action"].as_str(), ran.report[1]["action"].as_str()),
        (Some("kept"), Some("shouted"))
    );
    assert!(fs::read(&output).unwrap().starts_with(data.as_bytes()));
}

#[test]
fn a_message_over_the_limit_is_copied_and_named_and_its_neighbours_are_worked_on() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let large = format!("From - \nA: 1\n\n{}\n", "a long line\n".repeat(10_000));
    fs::write(&input, [&sample_mbox(1), large.as_bytes(), &sample_mbox(1)].concat()).unwrap();
    let mut options = options(&[&input], &output);
    options.max_message = 50_000;
    let ran = run_with(&options, &Shout).unwrap();
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (3, 1));
    assert_eq!(
        ran.report[1]["input"],
        serde_json::to_value(batch::digest::Summed::of(large.as_bytes())).unwrap()
    );
    let written = fs::read_to_string(&output).unwrap();
    assert!(written.contains(&large) && written.matches("X-Shout").count() == 2);
}

#[test]
fn a_single_message_stays_a_single_message() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("a.eml"), folder.path().join("b.eml"));
    fs::write(&input, "Subject: a\r\n\r\n>From x").unwrap();
    run_on(&input, &output, &Shout);
    assert_eq!(fs::read_to_string(&output).unwrap(), "X-Shout: yes\r\nSubject: a\r\n\r\n>FROM X");
}

#[test]
fn a_run_that_only_looks_or_rehearses_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::write(&input, sample_mbox(2)).unwrap();
    for (output, tells) in [(Output::None, false), (Output::Rehearsal, true)] {
        let ran = run_with(&Options { output, ..options(&[&input], Path::new("")) }, &Shout).unwrap();
        assert_eq!(ran.report[0]["output"].is_object(), tells);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn several_inputs_go_into_a_new_folder_and_are_counted_on() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    fs::write(&one, sample_mbox(2)).unwrap();
    fs::write(&two, sample_mbox(3)).unwrap();
    let output = folder.path().join("out");
    let ran = run_with(&options(&[&one, &two], &output), &Identity).unwrap();
    assert_eq!(fs::read(output.join("one")).unwrap(), sample_mbox(2));
    assert_eq!(fs::read(output.join("two")).unwrap(), sample_mbox(3));
    assert_eq!(ran.report[4]["index"], 5);
}

#[test]
fn an_outage_stops_the_run_and_does_not_become_a_failure_of_each_message() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, sample_mbox(200)).unwrap();
    let options = Options { jobs: 64, ..options(&[&input], &output) };
    let stopped = run_with(&options, &Outage).err().unwrap();
    assert!(stopped.error.to_string().contains("token \"mail\" is not available"), "{}", stopped.error);
    assert!(!output.exists() && stopped.partial.is_some());
}

#[test]
fn an_mbox_given_as_one_message_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a.eml");
    fs::write(&input, [b"Subject: lost its From_ line\n\nx\n\n", &sample_mbox(2)[..]].concat()).unwrap();
    let ran = run_on(&input, &folder.path().join("out"), &Shout);
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (1, 1));
    assert_eq!(fs::read(folder.path().join("out")).unwrap(), fs::read(&input).unwrap());
}

#[test]
fn mail_that_the_length_of_another_one_swallows_is_copied_and_named_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let from = "From alice@example.org Fri Sep 16 22:26:51 2016\n";
    let message = |number| format!("{from}Subject: {number}\n\nx\n\n");
    let swallowed = [message(2), message(3)].concat();
    let length = "x\n\n".len() + swallowed.len();
    let lying = format!("{from}Subject: 1\nContent-Length: {length}\n\nx\n\n{swallowed}");
    let mbox = [message(0), lying, message(4)].concat();
    for format in ["", "maildir", "mboxcl2"] {
        let (input, output) = (folder.path().join("in"), folder.path().join(format!("out{format}")));
        fs::write(&input, &mbox).unwrap();
        let mut options = options(&[&input], &output);
        if !format.is_empty() {
            options.output = Output::Converted(output.clone(), format.parse().unwrap());
        }
        let ran = run_with(&options, &Shout).unwrap();
        let actions: Vec<_> = ran.report.iter().map(|line| line["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["shouted", "failed", "failed", "failed", "shouted"], "{format}");
        let reason = ran.report[2]["error"]["reason"].as_str().unwrap();
        assert!(reason.contains("is not believed"), "{reason}");
    }
    // Where all tell their lengths, they are believed; but what may be mail of others is named, unless it was told whose the lengths are.
    let told =
        |number, body: &str| format!("{from}Subject: {number}\nContent-Length: {}\n\n{body}\n", body.len());
    let all_told =
        [told(1, "x\n"), told(2, &format!("x\n\n{swallowed}")), told(3, "x\n"), told(4, "")].concat();
    let log = told(2, &format!("as in\n\n{from}of the log\n"));
    let text = [told(1, "x\n"), log, told(3, "x\n")].concat();
    let (writer, senders) = (Some(Lengths::told(MadeBy::Writer)), Some(Lengths::told(MadeBy::Senders)));
    for (name, lengths, mbox, messages, failed) in [
        ("told", None, &all_told, 4, 1),
        ("writer", writer, &all_told, 4, 0),
        ("senders", senders, &all_told, 6, 0),
        ("text", None, &text, 3, 0),
        ("not", None, &mbox, 5, 3),
        ("not-senders", senders, &mbox, 5, 0),
    ] {
        for suffix in ["", ".gz"] {
            let input = folder.path().join(format!("{name}{suffix}"));
            let octets = if suffix.is_empty() { mbox.clone().into_bytes() } else { gzipped(mbox.as_bytes()) };
            fs::write(&input, octets).unwrap();
            let looks = Options { output: Output::None, ..options(&[&input], &input) };
            let told = |options| Options { lengths, ..options };
            for options in [options(&[&input], &folder.path().join(format!("out-{name}{suffix}"))), looks] {
                let totals = run_with(&told(options), &Shout).unwrap().totals;
                assert_eq!((totals.messages(), totals.failed()), (messages, failed), "{name}{suffix}");
            }
        }
    }
}

fn gzipped(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, octets).unwrap();
    encoder.finish().unwrap()
}
