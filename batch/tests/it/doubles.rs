//! Messages replaced in a Maildir while somebody cleans up doubles: of two files that are one message, either may go.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use batch::{
    error::BatchError,
    manifest::check,
    report::Report,
    run::{Journaling, Options, Output, run},
    task::{Done, Failed, Task, Work},
};

use crate::{
    child::{Kill, Pace, in_place},
    support::{Shout, options},
};

const MESSAGES: usize = 600;

/// Notes how far it is only in the end: until then successors lie beside their predecessors.
fn replacing(root: &Path, resume: bool) -> Options {
    let every = Duration::from_hours(1);
    let journal = Journaling { resume, request: "shout".into(), every };
    Options { output: Output::InPlace, journal: Some(journal), ..options(&[root], root) }
}

fn maildir(root: &Path) {
    fs::create_dir_all(root.join("cur")).unwrap();
    for number in 0..MESSAGES {
        fs::write(root.join(format!("cur/{number}.host:2,S")), format!("Subject: {number}\n\nx\n")).unwrap();
    }
}

fn successors(root: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(root.join("cur")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| !file.file_name().unwrap().to_string_lossy().ends_with(".host:2,S")).collect()
}

/// Shouts, and takes a successor away when there is one.
struct CleansUp<'a> {
    root: &'a Path,
    taken: Mutex<Option<String>>,
    stop: Option<&'a AtomicBool>,
}

impl Task for CleansUp<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let mut taken = self.taken.lock().unwrap();
        if taken.is_none()
            && work.index > 400
            && let Some(double) = successors(self.root).pop()
        {
            let text = fs::read_to_string(&double).unwrap();
            *taken = text.lines().nth(1).map(str::to_owned);
            fs::remove_file(double).unwrap();
            if let Some(stop) = self.stop {
                stop.store(true, Ordering::Relaxed);
            }
        }
        drop(taken);
        Shout.run(work)
    }
}

/// Subjects of all that is there, each counted once however it reads.
fn subjects(root: &Path) -> Vec<String> {
    let files = fs::read_dir(root.join("cur")).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.map(|file| fs::read_to_string(file).unwrap());
    let mut subjects: Vec<_> =
        texts.map(|text| text.lines().find(|line| line.starts_with("Subject")).unwrap().to_owned()).collect();
    subjects.sort();
    subjects
}

#[test]
fn a_message_whose_successor_is_taken_away_at_once_stays_as_it_was_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (root, report) = (folder.path().join("mail"), folder.path().join("report"));
    maildir(&root);
    let before = subjects(&root);
    let task = CleansUp { root: &root, taken: Mutex::default(), stop: None };
    let totals =
        run(&replacing(&root, false), &task, Report::create(&report).unwrap(), &AtomicBool::new(false))
            .unwrap();
    let taken = task.taken.into_inner().unwrap().expect("there was a successor");
    assert!(subjects(&root) == before, "a message is lost: {taken}");
    assert_eq!((totals.messages(), totals.failed()), (MESSAGES as u64 + 1, 1));
    let lines = fs::read_to_string(&report).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((last["action"].as_str(), last["again"].as_str()), (Some("failed"), Some("")));
    assert_eq!(last["output"], last["input"]);
    let number = taken.strip_prefix("Subject: ").unwrap();
    assert_eq!(last["below"], format!("cur/{number}.host:2,S"));
    let checked = check(&report, std::slice::from_ref(&root)).unwrap();
    assert_eq!((checked.good, checked.count), (MESSAGES as u64, 0), "{:?}", checked.problems);
}

#[test]
fn a_run_that_goes_on_does_what_was_kept_back_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let (root, report) = (folder.path().join("mail"), folder.path().join("report"));
    maildir(&root);
    let before = subjects(&root);
    let stop = AtomicBool::new(false);
    let task = CleansUp { root: &root, taken: Mutex::default(), stop: Some(&stop) };
    let ended = run(&replacing(&root, false), &task, Report::create(&report).unwrap(), &stop);
    assert!(matches!(ended.unwrap_err().error, BatchError::Interrupted));
    assert!(subjects(&root) == before, "a message is lost");
    stop.store(false, Ordering::Relaxed);
    run(&replacing(&root, true), &Shout, Report::reopen(&report).unwrap(), &stop).unwrap();
    assert!(subjects(&root) == before, "a message is lost");
    assert_eq!(successors(&root).len(), MESSAGES, "all are replaced");
    let checked = check(&report, std::slice::from_ref(&root)).unwrap();
    assert_eq!((checked.good, checked.count), (MESSAGES as u64, 0), "{:?}", checked.problems);
}

#[test]
fn what_a_killed_run_had_not_noted_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (root, report) = (folder.path().join("mail"), folder.path().join("report"));
    maildir(&root);
    let before = subjects(&root);
    // Given a run that was killed when there were two files of some messages,
    let mut killed = in_place(Pace::Shouting, &root);
    killed.env("BATCH_RESUME", &report).env("BATCH_SELDOM", "yes").env("BATCH_ROOM", "65536");
    Kill::AtMessage(500).ask(&mut killed, Duration::ZERO);
    assert_eq!(killed.output().unwrap().status.signal(), Some(9));
    assert!(!successors(&root).is_empty(), "there are no successors");
    assert_eq!(fs::read_dir(root.join("cur")).unwrap().count(), MESSAGES + successors(&root).len());
    // when it is gone on with,
    let mut again = in_place(Pace::Shouting, &root);
    let again = again.env("BATCH_RESUME", &report).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    // then there is one file of each, of which it has told once.
    assert!(subjects(&root) == before);
    assert_eq!(successors(&root).len(), MESSAGES);
    let checked = check(&report, std::slice::from_ref(&root)).unwrap();
    assert_eq!((checked.good, checked.count), (MESSAGES as u64, 0), "{:?}", checked.problems);
}
