//! Runs that are gone on with where folders of the input went, or have another name, since they were stopped.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use batch::{
    error::BatchError,
    manifest::check,
    run::{Journaling, Output, open_report, run},
};

use crate::{
    child::{Pace, REQUEST, in_place},
    resume::{Stopping, files, journaled, resuming},
    support::sample_mbox,
};

/// How many messages each folder of the input has. Of the second some are done when the run is stopped, and some are not:
/// it has more than a run takes in at once.
const FOLDERS: [(&str, usize); 3] = [("", 60), (".Archive", 300), (".Sent", 30)];

fn make_maildir(root: &Path) {
    for (folder, messages) in FOLDERS {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(root.join(folder).join(part)).unwrap();
        }
        for number in 0..messages {
            let text = format!("Subject: {number} of <{folder}>\n\nbody\n");
            fs::write(root.join(folder).join(format!("cur/{number}.host:2,S")), text).unwrap();
        }
    }
}

fn make_tree(root: &Path) {
    for (folder, messages) in FOLDERS {
        fs::create_dir_all(root.join(folder)).unwrap();
        for number in 0..messages {
            let text = format!("Subject: {number} of <{folder}>\n\nbody\n");
            fs::write(root.join(folder).join(format!("{number}.eml")), text).unwrap();
        }
    }
}

/// How often each message is in an output, by its subject; each was worked on once.
fn subjects(output: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for octets in files(output).into_values() {
        let text = String::from_utf8(octets).unwrap();
        let mut shouts = 0;
        for line in text.lines() {
            shouts += usize::from(line == "X-Shout: yes");
            if let Some(subject) = line.strip_prefix("Subject: ") {
                assert_eq!(shouts, 1, "{subject}");
                shouts = 0;
                *found.entry(subject.to_owned()).or_default() += 1;
            }
        }
    }
    found
}

/// The number that comes before these words in what a run said.
fn number(said: &str, words: &str) -> usize {
    let before = said.split_once(words).unwrap_or_else(|| panic!("no {words:?} in: {said}")).0;
    before.rsplit([' ', '\n']).next().unwrap().parse().unwrap()
}

/// What somebody does with the input while a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    Deletes,
    Renames,
    /// There was a copy of it from the beginning.
    DeletesOneOfTwo,
}

fn go_on_after(meanwhile: Meanwhile, input: &str, format: Option<&str>) {
    let what = format!("{meanwhile:?} {input} {format:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let replaces = format == Some("in place");
    if input == "maildir" {
        make_maildir(&path("in"));
    } else {
        make_tree(&path("in"));
    }
    if meanwhile == Meanwhile::DeletesOneOfTwo {
        let copied =
            std::process::Command::new("cp").arg("-a").args([path("in/.Archive"), path("in/.Copy")]).status();
        assert!(copied.unwrap().success());
    }
    // Given a run that was stopped in the second folder,
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 120, stop: &stop, seen: &seen };
    let mut options = journaled(&path("in"), &path("out"), true);
    options.journal = options.journal.map(|journal| Journaling { request: REQUEST.into(), ..journal });
    options.output = match format {
        None => Output::Path(path("out")),
        Some("in place") => Output::InPlace,
        Some(format) => Output::Converted(path("out"), format.parse().unwrap()),
    };
    let report = path("out.report");
    let stopped = run(&options, &task, open_report(&report, &options.inputs, true).unwrap(), &stop);
    assert!(matches!(stopped.unwrap_err().error, BatchError::Interrupted), "{what}");
    // The names in a tree come in order, those of folders that begin with a dot first.
    let before = if input == "maildir" { FOLDERS[0].1 } else { 0 };
    let done = usize::try_from(seen.load(Ordering::Relaxed)).unwrap() - before;
    assert!((50..FOLDERS[1].1).contains(&done), "{what}: {done}");
    // and that folder gone,
    match meanwhile {
        Meanwhile::Renames => fs::rename(path("in/.Archive"), path("in/.Since")).unwrap(),
        _ => fs::remove_dir_all(path("in/.Archive")).unwrap(),
    }
    // when it is gone on with,
    let mut again = match format {
        Some("in place") => in_place(Pace::Shouting, &path("in")),
        format => resuming(&path("in"), &path("out"), format),
    };
    let ran = again.env("BATCH_RESUME", &report).env("BATCH_SELDOM", "yes").output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{what}: {said}");
    // it says how much of it is done,
    assert!(said.contains("1 folders of the input (.Archive)"), "{what}: {said}");
    assert_eq!(number(&said, " messages of them are done and stay done"), done, "{what}");
    // and the output has what is done of it and all that is there, each message once.
    let output = if replaces { path("in") } else { path("out") };
    let found = subjects(&output);
    for (folder, messages) in FOLDERS {
        let of = |subject: &&String| subject.ends_with(&format!("of <{folder}>"));
        let times: Vec<usize> =
            found.iter().filter(|(subject, _)| of(subject)).map(|(_, times)| *times).collect();
        match (folder, meanwhile) {
            (".Archive", Meanwhile::Deletes) if replaces => assert!(times.is_empty(), "{what}"),
            (".Archive", Meanwhile::Deletes) => assert_eq!(times, vec![1; done], "{what}"),
            (".Archive", Meanwhile::DeletesOneOfTwo) => {
                assert_eq!(times.len(), messages, "{what}");
                assert_eq!(times.iter().sum::<usize>(), messages + if replaces { 0 } else { done }, "{what}");
            }
            _ => assert_eq!(times, vec![1; messages], "{what}: {folder}"),
        }
    }
    if meanwhile == Meanwhile::Renames {
        assert_eq!(number(&said, " messages done before are now in folders that came since"), done, "{what}");
    } else {
        assert!(!said.contains("came since"), "{what}: {said}");
    }
    assert!(!said.contains("no longer where they were"), "{what}: {said}");
    if !replaces {
        let checked = check(&report, &[output]).unwrap();
        assert_eq!(checked.count, 0, "{what}: {:?}", checked.problems);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!left.iter().any(|path| path.to_string_lossy().contains("hsmime")), "{what}: {left:?}");
}

#[test]
fn a_folder_that_was_renamed_meanwhile_has_no_message_twice() {
    for format in [None, Some("mbox"), Some("eml"), Some("in place")] {
        go_on_after(Meanwhile::Renames, "maildir", format);
    }
    for format in [None, Some("mbox")] {
        go_on_after(Meanwhile::Renames, "tree", format);
    }
}

#[test]
fn a_folder_that_was_deleted_meanwhile_stops_nothing_and_what_is_done_of_it_stays() {
    for (input, format) in [
        ("maildir", None),
        ("maildir", Some("mbox")),
        ("maildir", Some("in place")),
        ("tree", None),
        ("tree", Some("maildir")),
    ] {
        go_on_after(Meanwhile::Deletes, input, format);
    }
}

#[test]
fn a_folder_that_had_a_copy_is_not_taken_for_it() {
    for format in [None, Some("in place")] {
        go_on_after(Meanwhile::DeletesOneOfTwo, "maildir", format);
    }
}

#[test]
fn a_folder_that_was_restored_under_another_name_meanwhile_is_replaced_again() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    make_maildir(&mail);
    // Given a Maildir in which some messages of a folder were replaced when the run was stopped,
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 120, stop: &stop, seen: &seen };
    let mut options = journaled(&mail, &mail, true);
    options.journal = options.journal.map(|journal| Journaling { request: REQUEST.into(), ..journal });
    options.output = Output::InPlace;
    let report = folder.path().join("report");
    run(&options, &task, open_report(&report, &options.inputs, true).unwrap(), &stop).unwrap_err();
    // and that folder as it was before in another one,
    let again = folder.path().join("again");
    make_maildir(&again);
    fs::remove_dir_all(mail.join(".Archive")).unwrap();
    fs::rename(again.join(".Archive"), mail.join(".Restored")).unwrap();
    // when it is gone on with, all of it is replaced.
    let mut rest = in_place(Pace::Shouting, &mail);
    let ran = rest.env("BATCH_RESUME", &report).env("BATCH_SELDOM", "yes").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(subjects(&mail).len(), FOLDERS.iter().map(|(_, messages)| messages).sum::<usize>());
}

#[test]
fn a_message_that_was_moved_alone_meanwhile_is_said_to_be_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    make_maildir(&path("in"));
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 30, stop: &stop, seen: &seen };
    let mut options = journaled(&path("in"), &path("out"), true);
    options.journal = options.journal.map(|journal| Journaling { request: REQUEST.into(), ..journal });
    run(&options, &task, open_report(&path("out.report"), &options.inputs, true).unwrap(), &stop)
        .unwrap_err();
    fs::rename(path("in/cur/0.host:2,S"), path("in/.Sent/cur/from-elsewhere.host:2,S")).unwrap();
    fs::remove_file(path("in/cur/1.host:2,S")).unwrap();
    let ran = resuming(&path("in"), &path("out"), None).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{said}");
    assert_eq!(number(&said, " messages done before are no longer where they were"), 2);
    let found = subjects(&path("out"));
    assert_eq!((found["0 of <>"], found["1 of <>"], found["2 of <>"]), (2, 1, 1));
}

#[test]
fn an_mbox_tells_of_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(1_000)).unwrap();
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after: 30, stop: &stop, seen: &seen };
    let mut options = journaled(&path("in"), &path("out"), true);
    options.journal = options.journal.map(|journal| Journaling { request: REQUEST.into(), ..journal });
    run(&options, &task, open_report(&path("out.report"), &options.inputs, true).unwrap(), &stop)
        .unwrap_err();
    let ran = resuming(&path("in"), &path("out"), None).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success() && said.contains("going on after"), "{said}");
    assert!(!said.contains("folder") && !said.contains("no longer"), "{said}");
}
