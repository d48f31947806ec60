//! Runs that were cut off and gone on with: what comes out is what an uninterrupted run writes.
//!
//! `HSMIME_KILLS=200 cargo nextest run -p batch killed` kills so many times; a few dozen otherwise.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use batch::{
    error::BatchError,
    manifest::check,
    report::Report,
    run::{Journaling, Options, open_report, run},
    task::{Done, Failed, Task, Work},
};

use crate::{
    child::{Pace, command},
    support::{Shout, options, sample_mbox},
};

pub(crate) fn kills() -> u32 {
    std::env::var("HSMIME_KILLS").ok().map_or(30, |kills| kills.parse().unwrap())
}

fn resuming(input: &Path, output: &Path) -> Command {
    let mut command = command(Pace::Shouting, input, output);
    command.env("BATCH_RESUME", output.with_extension("report"));
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
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(root.join(folder).join(part)).unwrap();
        }
        for number in 0..messages {
            let text = format!("Subject: {number}\n\nbody\n");
            let name = format!("{number}.host,S={}:2,S", text.len());
            fs::write(root.join(folder).join("cur").join(name), text).unwrap();
        }
    }
}

/// Numbers that look like chance, and are the same at every run.
pub(crate) fn chance(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn a_run_killed_at_any_instant_and_gone_on_with_writes_what_an_uninterrupted_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let kills = kills() / 2;
    fs::write(path("mbox"), sample_mbox(60 * kills as usize)).unwrap();
    maildir(&path("mail"), 20 * kills as usize);
    let mut state = 1;
    for input in ["mbox", "mail"] {
        let whole = path(&format!("{input}-whole"));
        let began = Instant::now();
        assert!(resuming(&path(input), &whole).output().unwrap().status.success());
        let mut span = u64::try_from(began.elapsed().as_micros()).unwrap();
        let (mut killed, mut rounds) = (0, 0);
        // How often a run can be killed before it is done depends on the machine: then another one is begun.
        while killed < kills {
            assert!(rounds < 10 * kills, "{input}: only {killed} were killed");
            let output = path(&format!("{input}-out{rounds}"));
            rounds += 1;
            loop {
                let mut child = resuming(&path(input), &output).spawn().unwrap();
                let wait = Duration::from_micros(span / 5 + chance(&mut state) % span);
                let ended = if killed < kills {
                    thread::sleep(wait);
                    child.kill().unwrap();
                    child.wait().unwrap()
                } else {
                    child.wait().unwrap()
                };
                if ended.signal().is_none() {
                    // Too late: sooner next time.
                    span = (span - span / 4).max(2_000);
                    let words = child.wait_with_output().unwrap();
                    assert!(ended.success(), "{input}: {}", String::from_utf8_lossy(&words.stderr));
                    break;
                }
                killed += 1;
                span += span / 8;
                let journal = output.with_extension("hsmime-journal");
                if output.exists() && !journal.exists() {
                    // It was done, and only had to end.
                    break;
                }
            }
            assert!(files(&whole) == files(&output), "{input}: the outputs differ");
            assert_eq!(report(&whole.with_extension("report")), report(&output.with_extension("report")));
            let checked = check(&output.with_extension("report"), &[output]).unwrap();
            assert_eq!(checked.count, 0, "{input}: {:?}", checked.problems);
        }
        eprintln!("{input}: killed {killed} times in {rounds} runs");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!left.iter().any(|path| path.to_string_lossy().contains("hsmime")), "{left:?}");
    }
}

/// Raises the flag after so many messages; counts them all.
struct Stopping<'a> {
    after: u64,
    stop: &'a AtomicBool,
    seen: &'a AtomicU64,
}

impl Task for Stopping<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        if self.seen.fetch_add(1, Ordering::Relaxed) + 1 == self.after {
            self.stop.store(true, Ordering::Relaxed);
        }
        Shout.run(work)
    }
}

fn journaled(input: &Path, output: &Path, resume: bool) -> Options {
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
        match run(&journaled(&path("in"), &path("out"), true), &task, report, &stop) {
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
    assert_eq!(
        fs::read(path("out")).unwrap().split(|o| *o == b'\n').filter(|l| *l == b"X-Shout: yes").count(),
        5_000
    );
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
