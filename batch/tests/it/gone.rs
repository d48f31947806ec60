//! Runs that are gone on with where folders of the input went, or have another name, since they were stopped.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use batch::{
    error::BatchError,
    manifest::check,
    run::{Journaling, Options, Output, open_report, run},
};

use crate::{
    child::{Kill, Pace, REQUEST, in_place},
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
    let output = match format {
        None => Output::Path(path("out")),
        Some("in place") => Output::InPlace,
        Some(format) => Output::Converted(path("out"), format.parse().unwrap()),
    };
    let report = path("out.report");
    let seen = stop_after(120, &Options { output, ..begun(&path("in"), &path("out")) }, &report);
    // The names in a tree come in order, those of folders that begin with a dot first.
    let before = if input == "maildir" { FOLDERS[0].1 } else { 0 };
    let done = seen - before;
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
fn a_message_that_was_moved_alone_meanwhile_is_said_to_be_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    make_maildir(&path("in"));
    stop_after(30, &begun(&path("in"), &path("out")), &path("out.report"));
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
    stop_after(30, &begun(&path("in"), &path("out")), &path("out.report"));
    let ran = resuming(&path("in"), &path("out"), None).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success() && said.contains("going on after"), "{said}");
    assert!(!said.contains("folder") && !said.contains("no longer"), "{said}");
}

/// What a run that is gone on with says.
fn said_by(mut again: std::process::Command, report: &Path) -> String {
    let ran = again.env("BATCH_RESUME", report).env("BATCH_SELDOM", "yes").output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{said}");
    said
}

fn copy_of(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Stops a run after so many messages, and gives how many it worked on.
fn stop_after(after: u64, options: &Options, report: &Path) -> usize {
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let task = Stopping { after, stop: &stop, seen: &seen };
    let stopped = run(options, &task, open_report(report, &options.inputs, true).unwrap(), &stop);
    assert!(matches!(stopped.unwrap_err().error, BatchError::Interrupted));
    usize::try_from(seen.load(Ordering::Relaxed)).unwrap()
}

/// A Maildir `in` that is replaced up to somewhere in its second folder, of which there was a copy by then.
fn replaced_in_part(copy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    make_maildir(&path("in"));
    copy_of(&path("in/.Archive"), &path(copy));
    let options = Options { output: Output::InPlace, ..begun(&path("in"), &path("in")) };
    stop_after(120, &options, &path("in.report"));
    folder
}

fn begun(input: &Path, output: &Path) -> Options {
    let options = journaled(input, output, true);
    let journal = options.journal.map(|journal| Journaling { request: REQUEST.into(), ..journal });
    Options { journal, ..options }
}

#[test]
fn what_a_killed_run_wrote_of_a_nested_folder_that_was_renamed_is_not_in_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Given a Maildir in a folder that is none,
    let body = "a line of some forty octets in this body\n".repeat(500);
    for (below, messages) in [("", 500), ("x/y", 300)] {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(path("in").join(below).join(part)).unwrap();
        }
        for number in 0..messages {
            let text = format!(
                "Subject: {number} of <{below}>\n\n{}",
                if below.is_empty() { "body\n" } else { &body }
            );
            fs::write(path("in").join(below).join(format!("cur/{number}.host:2,S")), text).unwrap();
        }
    }
    let report = path("out.report");
    let mbox = Output::Converted(path("out"), "mbox".parse().unwrap());
    stop_after(50, &Options { output: mbox, ..begun(&path("in"), &path("out")) }, &report);
    // and a run killed in it, with nothing of it noted and some of it written;
    let mut killed = resuming(&path("in"), &path("out"), Some("mbox"));
    Kill::AtMessage(600).ask(&mut killed, Duration::ZERO);
    let killed = killed.env("BATCH_SELDOM", "yes").output().unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{}", String::from_utf8_lossy(&killed.stderr));
    assert!(path("out.hsmime-partial/x/y.mbox").metadata().unwrap().len() > 1 << 20);
    assert!(!fs::read_to_string(path("out.hsmime-journal")).unwrap().contains(&output_name("x/y.mbox")));
    // when that folder has another name,
    fs::rename(path("in/x"), path("in/z")).unwrap();
    said_by(resuming(&path("in"), &path("out"), Some("mbox")), &report);
    // then each message is in the output once, and only under that name.
    assert!(!path("out/x/y.mbox").exists());
    let found = subjects(&path("out"));
    assert!(found.values().all(|times| *times == 1), "{found:?}");
    assert_eq!(found.len(), 800);
    assert_eq!(files(&path("out")).len(), 2);
}

/// As a journal has it.
fn output_name(path: &str) -> String {
    data_encoding::BASE64.encode(path.as_bytes())
}

#[test]
fn a_message_that_was_put_back_after_it_was_replaced_is_replaced_again_and_that_is_said() {
    for back in [".Archive", ".Restored"] {
        // Given a run in place that was stopped in the second folder,
        let folder = replaced_in_part("backup");
        let path = |name: &str| folder.path().join(name);
        let done = files(&path("in/.Archive/cur")).into_values();
        let done = done.filter(|octets| octets.windows(7).any(|octets| octets == b"X-Shout")).count();
        assert!((50..FOLDERS[1].1).contains(&done), "{done}");
        // of which somebody puts back what was there before,
        fs::remove_dir_all(path("in/.Archive")).unwrap();
        copy_of(&path("backup"), &path("in").join(back));
        // when it is gone on with, all of it is done, each message once,
        let mut again = in_place(Pace::Shouting, &path("in"));
        again.env("BATCH_STOP", "240").env("BATCH_ROOM", "262144");
        let stopped =
            again.env("BATCH_RESUME", path("in.report")).env("BATCH_SELDOM", "yes").output().unwrap();
        let said_before = String::from_utf8(stopped.stderr).unwrap();
        assert!(said_before.contains("stopped: "), "{back}: {said_before}");
        let said = said_by(in_place(Pace::Shouting, &path("in")), &path("in.report"));
        let found = subjects(&path("in"));
        assert_eq!(found.len(), FOLDERS.iter().map(|(_, messages)| messages).sum::<usize>(), "{back}");
        assert!(found.values().all(|times| *times == 1), "{back}: {found:?}");
        // and it says so, also the run that was stopped once more.
        let words = " messages that were replaced before are there again as they were";
        let counts =
            [&said_before, &said].map(|said| if said.contains(words) { number(said, words) } else { 0 });
        assert!(counts[0] > 0, "{back}: {said_before}");
        assert_eq!(counts.iter().sum::<usize>(), done, "{back}: {said_before} {said}");
        assert!(!said.contains("came since"), "{back}: {said}");
        // The report has two lines of each, of which the later one counts.
        let lines = fs::read_to_string(path("in.report")).unwrap();
        assert_eq!(lines.lines().count(), found.len() + done, "{back}");
        assert_eq!(lines.matches(",\"again\":\".Archive\"").count(), done, "{back}");
        let checked = check(&path("in.report"), &[path("in")]).unwrap();
        assert_eq!((checked.good, checked.problems), (found.len() as u64, Vec::new()), "{back}");
        fs::remove_file(
            path("in").join(back).join("cur").read_dir().unwrap().next().unwrap().unwrap().path(),
        )
        .unwrap();
        assert_eq!(check(&path("in.report"), &[path("in")]).unwrap().count, 1, "{back}");
    }
}

/// The lines of a report that tell of messages that were put back: in which folder each was replaced before, and its name.
fn told_again(report: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(report).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let again = lines.filter_map(|line| {
        let name = Path::new(line["below"].as_str()?).file_name()?.to_str()?.to_owned();
        Some((line["again"].as_str()?.to_owned(), name))
    });
    again.collect()
}

#[test]
fn a_message_that_was_put_back_twice_under_two_names_took_the_place_of_the_one_before_it() {
    // Given a run in place that was stopped in a folder,
    let folder = replaced_in_part("backup");
    let path = |name: &str| folder.path().join(name);
    fs::remove_dir_all(path("in/.Archive")).unwrap();
    // which somebody puts back under another name, and, when the next run was stopped in it, once more;
    copy_of(&path("backup"), &path("in/.Restored"));
    let mut stopped = in_place(Pace::Shouting, &path("in"));
    stopped.env("BATCH_STOP", "240").env("BATCH_ROOM", "262144");
    let stopped = stopped.env("BATCH_RESUME", path("in.report")).env("BATCH_SELDOM", "yes").output().unwrap();
    assert!(String::from_utf8(stopped.stderr).unwrap().contains("stopped: "));
    assert!(told_again(&path("in.report")).len() > 20);
    fs::remove_dir_all(path("in/.Restored")).unwrap();
    copy_of(&path("backup"), &path("in/.Saved"));
    said_by(in_place(Pace::Shouting, &path("in")), &path("in.report"));
    // then each line of the report has its place taken once at most, by the next one of its message,
    let mut again = told_again(&path("in.report"));
    assert!(again.iter().any(|(folder, _)| folder == ".Restored"), "{again:?}");
    let lines = again.len();
    again.sort();
    again.dedup();
    assert_eq!(again.len(), lines);
    // and what is left of it is what is there.
    let found = subjects(&path("in"));
    assert!(found.values().all(|times| *times == 1), "{found:?}");
    let checked = check(&path("in.report"), &[path("in")]).unwrap();
    assert_eq!((checked.good, checked.problems), (found.len() as u64, Vec::new()));
}

#[test]
fn a_run_that_an_error_stopped_tells_how_many_messages_it_did_again_not_how_many_it_read() {
    let folder = replaced_in_part("backup");
    let path = |name: &str| folder.path().join(name);
    fs::remove_dir_all(path("in/.Archive")).unwrap();
    copy_of(&path("backup"), &path("in/.Archive"));
    // Given what cannot be read among messages that were put back,
    let link = path("in/.Archive/cur/20.link:2,S");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let mut stopped = in_place(Pace::Shouting, &path("in"));
    let ran = stopped.env("BATCH_RESUME", path("in.report")).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("stopped: ") && said.contains("20.link"), "{said}");
    // when that ends the run, it tells of as many as there are in the report,
    let words = " messages that were replaced before are there again as they were";
    let done = told_again(&path("in.report")).len();
    assert!((1..50).contains(&done), "{done}");
    assert_eq!(number(&said, words), done, "{said}");
    // and the one that goes on of the rest.
    fs::remove_file(link).unwrap();
    let said = said_by(in_place(Pace::Shouting, &path("in")), &path("in.report"));
    let all = told_again(&path("in.report")).len();
    assert!(all >= 50, "{all}");
    assert_eq!(number(&said, words), all - done, "{said}");
}

#[test]
fn a_copy_that_was_renamed_is_not_taken_in_place_for_the_folder_that_it_is_a_copy_of() {
    let folder = replaced_in_part("in/.Copy");
    let path = |name: &str| folder.path().join(name);
    fs::remove_dir_all(path("in/.Archive")).unwrap();
    fs::rename(path("in/.Copy"), path("in/.Copy2")).unwrap();
    said_by(in_place(Pace::Shouting, &path("in")), &path("in.report"));
    // What was left in clear would have no such line, and fail there.
    let found = subjects(&path("in"));
    assert!(found.values().all(|times| *times == 1), "{found:?}");
    assert_eq!(found.len(), FOLDERS.iter().map(|(_, messages)| messages).sum::<usize>());
}

#[test]
fn a_large_message_is_not_taken_for_another_one_of_its_name_and_length_in_a_folder_that_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let large = |of: &str| format!("Subject: large {of}\n\n{}\n", "x".repeat(5_000));
    for of in ["a", "b"] {
        fs::create_dir_all(path("in").join(of)).unwrap();
        for number in 0..400 {
            let text = format!("Subject: {number} of <{of}>\n\nbody\n");
            fs::write(path("in").join(of).join(format!("{number:08}.eml")), text).unwrap();
        }
        fs::write(path("in").join(of).join("00000007.eml"), large(of)).unwrap();
    }
    // Given a run that was stopped in the first of two folders,
    let options = Options { max_message: 1_000, ..begun(&path("in"), &path("out")) };
    stop_after(50, &options, &path("out.report"));
    // whose names are others since,
    fs::rename(path("in/a"), path("in/y")).unwrap();
    fs::rename(path("in/b"), path("in/c")).unwrap();
    let mut again = resuming(&path("in"), &path("out"), None);
    again.env("BATCH_MAX_MESSAGE", "1000");
    let said = said_by(again, &path("out.report"));
    // both large messages are in the output, the one that was done twice, and that is said.
    let of_a =
        ["a", "y"].map(|folder| fs::read_to_string(path("out").join(folder).join("00000007.eml")).unwrap());
    assert_eq!(of_a, [large("a"), large("a")]);
    assert_eq!(fs::read_to_string(path("out/c/00000007.eml")).unwrap(), large("b"));
    assert_eq!(number(&said, " messages over --max-message, in folders that came since"), 2);
    assert_eq!(check(&path("out.report"), &[path("out")]).unwrap().problems, Vec::<String>::new());
}
