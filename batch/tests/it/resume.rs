//! Runs that were cut off and gone on with: what comes out is what an uninterrupted run writes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use batch::{
    digest::Summed,
    error::BatchError,
    manifest::check,
    report::Report,
    run::{Journaling, Options, Output, open_report, run},
    task::{Done, Failed, Task, Work},
};

use crate::{
    child::{Pace, command, wait_until},
    support::{Shout, options, sample_mbox},
};

pub(crate) fn resuming(input: &Path, output: &Path, format: Option<&str>) -> Command {
    let mut command = command(Pace::Asking, input, output);
    command.env("BATCH_RESUME", output.with_extension("report"));
    if let Some(format) = format {
        command.env("BATCH_FORMAT", format);
    }
    command
}

/// All files below a folder, or the one, with their octets.
pub(crate) fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            open.extend(fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(next.strip_prefix(path).unwrap().to_owned(), fs::read(&next).unwrap());
        }
    }
    found
}

/// What a report says, without what depends on when.
pub(crate) fn report(path: &Path) -> Vec<String> {
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("elapsed_ms");
        line.as_object_mut().unwrap().remove("index");
        line.as_object_mut().unwrap().remove("previous");
        line.to_string()
    };
    let mut lines: Vec<String> = fs::read_to_string(path).unwrap().lines().map(line).collect();
    // The files of a Maildir come in no order.
    lines.sort();
    lines
}

pub(crate) fn maildir(root: &Path, messages: usize) {
    for folder in ["", ".Sent"] {
        maildir_folder(&root.join(folder), messages);
    }
}

pub(crate) fn maildir_folder(folder: &Path, messages: usize) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    for number in 0..messages {
        let text = format!("Subject: {number}\n\nbody\n");
        fs::write(folder.join("cur").join(format!("{number}.host,S={}:2,S", text.len())), text).unwrap();
    }
}

/// Numbers that look like chance, and are the same at every run.
pub(crate) fn chance(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Raises the flag after so many messages; counts them all.
pub(crate) struct Stopping<'a> {
    pub(crate) after: u64,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) seen: &'a AtomicU64,
}

impl Task for Stopping<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        if self.seen.fetch_add(1, Ordering::Relaxed) + 1 == self.after {
            self.stop.store(true, Ordering::Relaxed);
        }
        Shout.run(work)
    }
}

pub(crate) fn journaled(input: &Path, output: &Path, resume: bool) -> Options {
    let journal = Journaling { resume, request: "shout".into(), every: Duration::from_hours(1) };
    Options { journal: Some(journal), ..options(&[input], output) }
}

#[test]
fn an_interrupted_run_has_noted_all_that_was_in_flight_and_no_message_is_worked_on_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(5_000)).unwrap();
    let (seen, mut runs) = (AtomicU64::new(0), 0);
    loop {
        let stop = AtomicBool::new(false);
        let task = Stopping { after: (runs + 1) * 1_500, stop: &stop, seen: &seen };
        let report = open_report(&path("report"), &[path("in")], true).unwrap();
        runs += 1;
        let options = Options { html: Some(path("page")), ..journaled(&path("in"), &path("out"), true) };
        match run(&options, &task, report, &stop) {
            Ok(totals) => {
                assert_eq!((totals.messages(), totals.failed()), (5_000, 0));
                break;
            }
            Err(stopped) => assert!(matches!(stopped.error, BatchError::Interrupted), "{:?}", stopped.error),
        }
    }
    assert!(runs > 2, "it was stopped {runs} times");
    assert_eq!(seen.load(Ordering::Relaxed), 5_000);
    assert_eq!(fs::read_to_string(path("report")).unwrap().lines().count(), 5_000);
    let page = fs::read_to_string(path("page")).unwrap();
    assert!(page.contains("5000 messages, 0 failed") && !page.contains("only the next table"), "{page}");
    assert_eq!(
        fs::read(path("out")).unwrap().split(|o| *o == b'\n').filter(|l| *l == b"X-Shout: yes").count(),
        5_000
    );
}

#[test]
fn an_input_is_the_same_however_the_way_there_is_spelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    maildir(&path("in"), 500);
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 100, stop: &stop, seen: &seen };
    let mut options = journaled(&path("in"), &path("out"), true);
    options.output = Output::Converted(path("out"), "mbox".parse().unwrap());
    assert!(matches!(
        run(&options, &task, Report::none(), &stop).unwrap_err().error,
        BatchError::Interrupted
    ));
    stop.store(false, Ordering::Relaxed);
    options.inputs = vec![path("in/../in/.")];
    run(&options, &task, Report::none(), &stop).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1000);
    for name in ["INBOX", "Sent"] {
        let mbox = fs::read_to_string(path("out").join(name).with_extension("mbox")).unwrap();
        assert_eq!(mbox.matches("X-Shout: yes\n").count(), 500, "{name}");
    }
}

#[test]
fn what_is_before_the_first_message_is_not_lost_by_a_run_that_was_cut_off_right_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), [b"\n\n", &sample_mbox(3)[..]].concat()).unwrap();
    for format in ["", "mbox", "maildir", "eml"] {
        // Given a run that notes each piece, and ends at the record of the first message because the disk is full,
        let output = path(&format!("out{format}"));
        let stop = AtomicBool::new(false);
        let mut options = journaled(&path("in"), &output, true);
        if !format.is_empty() {
            options.output = Output::Converted(output.clone(), format.parse().unwrap());
        }
        if let Some(journal) = &mut options.journal {
            journal.every = Duration::ZERO;
        }
        let full = Report::create(Path::new("/dev/full")).unwrap();
        let ended = run(&options, &Shout, full, &stop).unwrap_err().error;
        assert!(matches!(ended, BatchError::Report { .. }), "{format}: {ended}");
        // when it is gone on with, all is there.
        run(&options, &Shout, Report::none(), &stop).unwrap();
        let before = match format {
            "maildir" | "eml" => fs::read(output.join("mbox-preamble")).unwrap(),
            _ => fs::read(&output).unwrap()[..2].to_vec(),
        };
        assert_eq!(before, b"\n\n", "{format}");
    }
}

#[test]
fn a_source_that_changed_and_a_report_of_another_run_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(5_000)).unwrap();
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 10, stop: &stop, seen: &seen };
    let again = |resume| run(&journaled(&path("in"), &path("out"), resume), &task, Report::none(), &stop);
    assert!(matches!(again(false).unwrap_err().error, BatchError::Interrupted));
    let before = fs::read(path("out.hsmime-partial")).unwrap();
    fs::write(path("in"), sample_mbox(5_001)).unwrap();
    let refused = again(true).unwrap_err().error;
    assert!(refused.to_string().contains("the input has changed"), "{refused}");
    assert_eq!(fs::read(path("out.hsmime-partial")).unwrap(), before);

    fs::write(path("report"), "precious").unwrap();
    let report = open_report(&path("report"), &[path("in")], true).unwrap();
    let stopped = run(&journaled(&path("in"), &path("other"), true), &task, report, &stop);
    assert!(matches!(stopped.unwrap_err().error, BatchError::Report { .. }));
    assert_eq!(fs::read(path("report")).unwrap(), b"precious");
}

#[test]
fn a_report_keeps_what_it_tells_of_inputs_that_were_finished_before_the_one_that_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (first, second) = (path("first"), path("second"));
    fs::write(&first, sample_mbox(300)).unwrap();
    fs::write(&second, sample_mbox(4_000)).unwrap();
    for is_noted in [false, true] {
        // Given a run of two inputs, killed in the second before its first checkpoint, or after it,
        let output = path(&format!("out-{is_noted}"));
        let report = output.with_extension("report");
        let both = std::env::join_paths([&first, &second]).unwrap();
        let mut began = resuming(Path::new(&both), &output, None);
        began.env("BATCH_BEGIN", "yes");
        if !is_noted {
            began.env("BATCH_SELDOM", "yes");
        }
        let mut child = began.spawn().unwrap();
        let [journal, partial] =
            ["journal", "partial"].map(|name| output.join(format!("second.hsmime-{name}")));
        let lines = || fs::read_to_string(&journal).map_or(0, |text| text.matches('\n').count());
        wait_until(&mut child, "the second input was begun", || {
            partial.exists() && lines() > usize::from(is_noted)
        });
        child.kill().unwrap();
        assert!(child.wait().unwrap().signal().is_some());
        assert_eq!(lines() > 1, is_noted);
        // when it is gone on with alone,
        let went_on = resuming(&second, &output, None).output().unwrap();
        assert!(went_on.status.success(), "{}", String::from_utf8_lossy(&went_on.stderr));
        // then the report tells of each message of both, once, in one chain, and goes on counting.
        let told = fs::read_to_string(&report).unwrap();
        assert_eq!(told.lines().count(), 4_300);
        let outputs = ["first", "second"].map(|name| output.join(name));
        let checked = check(&report, &outputs).unwrap();
        assert_eq!((checked.good, checked.count), (4_300, 0), "{:?}", checked.problems);
        let last: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!((&last["index"], &last["archive"]), (&4_300.into(), &2.into()));
    }
}

#[test]
fn a_report_of_which_a_journal_tells_nothing_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(100)).unwrap();
    let (stop, seen) = (AtomicBool::new(true), AtomicU64::new(0));
    let task = Stopping { after: u64::MAX, stop: &stop, seen: &seen };
    let again = || {
        let report = open_report(&path("report"), &[path("in")], true).unwrap();
        run(&journaled(&path("in"), &path("out"), true), &task, report, &stop).unwrap_err().error
    };
    assert!(matches!(again(), BatchError::Interrupted));
    // Given a journal whose first line does not tell how long the report was,
    let journal = path("out.hsmime-journal");
    let text = fs::read_to_string(&journal).unwrap();
    let (_, line) = text.lines().next().unwrap().split_once(' ').unwrap();
    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(line["Job"].as_object_mut().unwrap().remove("start").is_some());
    let line = line.to_string();
    let sum = Summed::of(line.as_bytes()).sha256;
    fs::write(&journal, format!("{sum:.16} {line}\n")).unwrap();
    fs::write(path("report"), "precious\n").unwrap();
    // when it is to be gone on with, that is refused.
    let refused = again();
    assert!(matches!(refused, BatchError::Report { .. }), "{refused}");
    assert_eq!(fs::read(path("report")).unwrap(), b"precious\n");
}

#[test]
fn what_is_counted_for_a_summary_does_not_make_the_journal_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(400)).unwrap();
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 200, stop: &stop, seen: &seen };
    // Given a run that notes each message and is interrupted,
    let mut options = Options { html: Some(path("page")), ..journaled(&path("in"), &path("out"), true) };
    options.journal.as_mut().unwrap().every = Duration::ZERO;
    run(&options, &task, Report::none(), &stop).unwrap_err();
    // its journal has what is counted at its beginning and at its end,
    let journal = fs::read_to_string(path("out.hsmime-journal")).unwrap();
    assert!(journal.lines().count() > 200);
    assert_eq!(journal.matches("\"statistics\"").count(), 2);
    // and going on with it forgets nothing.
    stop.store(false, Ordering::Relaxed);
    run(&options, &task, Report::none(), &stop).unwrap();
    let page = fs::read_to_string(path("page")).unwrap();
    assert!(page.contains("400 messages, 0 failed") && !page.contains("only the next table"), "{page}");
}

/// Stops, and changes nothing.
struct Unchanged<'a>(Stopping<'a>);

impl Task for Unchanged<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.0.run(work).map(|_| Done::unchanged("copied"))
    }
}

#[test]
fn an_mbox_without_empty_lines_behind_its_messages_is_gone_on_with_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let message = |number| {
        format!(
            "From alice@example.org Fri Sep 16 22:26:51 2016\nSubject: {number}\nContent-Length: 5\n\nbody\n"
        )
    };
    fs::write(path("in"), (0..2_000).map(message).collect::<String>()).unwrap();
    let options = |output: &str| Options {
        output: Output::Converted(path(output), "mboxrd".parse().unwrap()),
        ..journaled(&path("in"), &path(output), true)
    };
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let unchanged = |after| Unchanged(Stopping { after, stop: &stop, seen: &seen });
    run(&options("whole"), &unchanged(u64::MAX), Report::none(), &stop).unwrap();
    seen.store(0, Ordering::Relaxed);
    let task = unchanged(500);
    run(&options("out"), &task, Report::none(), &stop).unwrap_err();
    assert!(seen.load(Ordering::Relaxed) < 2_000);
    stop.store(false, Ordering::Relaxed);
    run(&options("out"), &task, Report::none(), &stop).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 2_000, "messages were done twice");
    assert!(fs::read(path("out")).unwrap() == fs::read(path("whole")).unwrap());
}

#[test]
fn a_run_that_was_cut_off_is_not_thrown_away_by_one_that_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    // Also where a path is not UTF-8.
    let path = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
    let (input, output) = (path(b"in\xff"), path(b"out\xfe"));
    let [journal, partial] = [&b"out\xfe.hsmime-journal"[..], b"out\xfe.hsmime-partial"]
        .map(|name| fs::canonicalize(folder.path()).unwrap().join(path(name)));
    fs::write(&input, sample_mbox(5_000)).unwrap();
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 10, stop: &stop, seen: &seen };
    let again = |resume| run(&journaled(&input, &output, resume), &task, Report::none(), &stop);
    let stopped = again(false).unwrap_err();
    assert!(matches!(stopped.error, BatchError::Interrupted) && stopped.resumable, "{stopped:?}");
    let before = [&journal, &partial].map(|path| fs::read(path).unwrap());
    stop.store(false, Ordering::Relaxed);
    let refused = again(false).unwrap_err();
    assert!(matches!(refused.error, BatchError::CutOff { messages: 10.., .. }), "{refused:?}");
    assert!(!refused.resumable && before == [&journal, &partial].map(|path| fs::read(path).unwrap()));
    // Another run is another one, and says in which way.
    let mut other = journaled(&input, &output, true);
    other.journal.as_mut().unwrap().request = "whisper".into();
    let refused = run(&other, &task, Report::none(), &stop).unwrap_err();
    assert!(refused.error.to_string().contains("it was begun with shout, not whisper"), "{refused:?}");
    assert!(!refused.resumable);
    again(true).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 5_000, "no message was done twice");
    assert!(!journal.exists() && !partial.exists());
}
