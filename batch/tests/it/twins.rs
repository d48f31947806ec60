//! Two files with one unique name in a folder of a Maildir, as copies without `--delete` and restored backups leave them.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use batch::{
    manifest::check,
    report::Report,
    run::{Journaling, Options, Output, open_report, run},
    task::{Done, Failed, Task, Work},
};

use crate::{
    resume::files,
    support::{Shout, options, run_with},
};

/// Three times the same unique name in one folder, with other octets each.
fn twins(root: &Path) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    for name in [
        "cur/1.M1P2.host:2,S",
        "cur/1.M1P2.host:2,RS",
        "new/1.M1P2.host",
        "cur/2.M1P2.host",
        "new/2.M1P2.host",
    ] {
        fs::write(root.join(name), format!("Subject: x\n\n{name}\n")).unwrap();
    }
}

pub(crate) fn bodies(root: &Path) -> Vec<String> {
    let texts = files(root).into_values().map(|octets| String::from_utf8(octets).unwrap());
    let mut bodies: Vec<String> = texts.map(|text| text.split("\n\n").nth(1).unwrap().to_owned()).collect();
    bodies.sort();
    bodies
}

const SHOUTED: [&str; 5] = [
    "CUR/1.M1P2.HOST:2,RS\n",
    "CUR/1.M1P2.HOST:2,S\n",
    "CUR/2.M1P2.HOST\n",
    "NEW/1.M1P2.HOST\n",
    "NEW/2.M1P2.HOST\n",
];

#[test]
fn files_of_one_unique_name_are_messages_each() {
    for format in ["maildir", "eml", "mbox", "in place"] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (input, output) = (path("in"), path("out"));
        twins(&input);
        let mut options = options(&[&input], &output);
        let mut written = output.clone();
        if format == "in place" {
            let every = Duration::from_millis(20);
            options.journal = Some(Journaling { resume: false, request: "shout".into(), every });
            options.output = Output::InPlace;
            written = input.clone();
        } else {
            options.output = Output::Converted(output, format.parse().unwrap());
        }
        let report = Report::create(&path("report")).unwrap();
        let totals = run(&options, &Shout, report, &AtomicBool::new(false)).unwrap();
        assert_eq!((totals.messages(), totals.failed()), (5, 0), "{format}");
        if format != "mbox" {
            assert_eq!(bodies(&written), SHOUTED, "{format}");
        }
        let checked = check(&path("report"), &[written]).unwrap();
        assert_eq!((checked.good, checked.count), (5, 0), "{format}: {:?}", checked.problems);
    }
}

/// Ends the run at the message with these words, or changes the flags of one.
struct At<F>(&'static str, Mutex<Option<F>>);

impl<F: FnOnce() + Send> Task for At<F> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        if work.message.body().starts_with(self.0.as_bytes())
            && let Some(act) = self.1.lock().unwrap().take()
        {
            act();
        }
        Shout.run(work)
    }
}

#[test]
fn a_twin_that_changes_its_flags_meanwhile_does_not_stand_in_for_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    twins(&input);
    // So many before it that it is not read yet.
    for number in 0..400 {
        fs::write(input.join(format!("cur/0.{number:03}.host:2,")), "Subject: x\n\nearly\n").unwrap();
    }
    let cur = input.join("cur");
    let renamed = || fs::rename(cur.join("1.M1P2.host:2,S"), cur.join("1.M1P2.host:2,FS")).unwrap();
    let ran = run_with(&options(&[&input], &output), &At("early", Mutex::new(Some(renamed)))).unwrap();
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (405, 0));
    let written: Vec<String> = bodies(&output).into_iter().filter(|body| body != "EARLY\n").collect();
    assert_eq!(written, SHOUTED);
}

#[test]
fn a_run_on_twins_that_was_cut_off_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    twins(&input);
    for number in 0..400 {
        fs::write(input.join(format!("cur/3.{number:03}.host:2,")), "Subject: x\n\nlate\n").unwrap();
    }
    let replacing = |resume| {
        let journal = Journaling { resume, request: "shout".into(), every: Duration::from_hours(1) };
        Options { output: Output::InPlace, journal: Some(journal), ..options(&[&input], &input) }
    };
    let stop = AtomicBool::new(false);
    let stops = At("late", Mutex::new(Some(|| stop.store(true, Ordering::Relaxed))));
    let report = || open_report(&folder.path().join("report"), std::slice::from_ref(&input), true).unwrap();
    run(&replacing(true), &stops, report(), &stop).unwrap_err();
    stop.store(false, Ordering::Relaxed);
    run(&replacing(true), &Shout, report(), &stop).unwrap();
    let written: Vec<String> = bodies(&input).into_iter().filter(|body| body != "LATE\n").collect();
    assert_eq!(written, SHOUTED);
    assert_eq!(files(&input).len(), 405);
}

/// Leaves alone what has these words, and shouts the rest.
struct ButFor(&'static str);

impl Task for ButFor {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let is_it = work.message.body().starts_with(self.0.as_bytes());
        if is_it { Ok(Done::unchanged("copied")) } else { Shout.run(work) }
    }
}

/// Replaces messages in a Maildir, and stops at the first that is late, if it begins anew.
pub(crate) fn replace(input: &Path, left: &'static str, resume: bool) -> Result<(), batch::run::Stopped> {
    work(input, Output::InPlace, input, left, resume)
}

/// The same with any output, which is to be here.
fn work(
    input: &Path,
    output: Output,
    at: &Path,
    left: &'static str,
    resume: bool,
) -> Result<(), batch::run::Stopped> {
    struct Stops<'a>(&'a ButFor, &'a AtomicBool);
    impl Task for Stops<'_> {
        fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
            self.1.fetch_or(work.message.body().starts_with(b"late"), Ordering::Relaxed);
            self.0.run(work)
        }
    }
    let journal = Journaling { resume, request: "shout".into(), every: Duration::from_hours(1) };
    let options = Options { output, journal: Some(journal), ..options(&[input], at) };
    let (stop, left) = (AtomicBool::new(false), ButFor(left));
    let stops = Stops(&left, &stop);
    let task: &dyn Task = if resume { &left } else { &stops };
    let report = open_report(&at.with_extension("report"), &[input.to_owned()], true).unwrap();
    run(&options, task, report, &stop).map(drop)
}

/// More than a run takes in at once, behind all others.
fn late(root: &Path) {
    for number in 0..400 {
        fs::write(root.join(format!("cur/3.{number:03}.host:2,")), "Subject: x\n\nlate\n").unwrap();
    }
}

#[test]
fn a_twin_that_does_not_change_is_not_taken_for_what_the_other_one_was() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(input.join(part)).unwrap();
    }
    fs::write(input.join("cur/1.M1P2.host:2,S"), "Subject: x\n\nfirst\n").unwrap();
    fs::write(input.join("cur/1.M1P2.host:2,RS"), "Subject: x\n\nsecond\n").unwrap();
    late(&input);
    let stopped = replace(&input, "second", false).unwrap_err().error;
    assert!(matches!(stopped, batch::error::BatchError::Interrupted), "{stopped}");
    replace(&input, "second", true).unwrap();
    assert_eq!(fs::read(input.join("cur/1.M1P2.host:2,RS")).unwrap(), b"Subject: x\n\nsecond\n");
    let written: Vec<String> = bodies(&input).into_iter().filter(|body| body != "LATE\n").collect();
    assert_eq!(written, ["FIRST\n", "second\n"]);
    let checked = check(&input.with_extension("report"), std::slice::from_ref(&input)).unwrap();
    assert_eq!((checked.good, checked.count), (402, 0), "{:?}", checked.problems);
}

#[test]
fn what_a_finished_run_made_is_not_removed_by_another_one_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (input, old) = (folder.path().join("in"), "cur/1.a.host:2,S");
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(input.join(part)).unwrap();
    }
    fs::write(input.join(old), "Subject: x\n\nfirst\n").unwrap();
    // Given a message that became another in a run that ended,
    replace(&input, "-", true).unwrap();
    let made = files(&input).into_keys().next().unwrap();
    fs::remove_file(input.with_extension("report")).unwrap();
    // and a run that only read that one, and was stopped;
    late(&input);
    let stopped = replace(&input, "FIRST", false).unwrap_err().error;
    assert!(matches!(stopped, batch::error::BatchError::Interrupted), "{stopped}");
    // when somebody puts the first one back,
    fs::write(input.join(old), "Subject: x\n\nfirst\n").unwrap();
    let before = files(&input);
    let refused = replace(&input, "FIRST", true).unwrap_err().error.to_string();
    // then both stay, and are named,
    assert!(files(&input) == before, "something was taken away");
    assert!(refused.contains(old) && refused.contains(made.to_str().unwrap()), "{refused}");
    // and when that has another name, as it says, it goes on.
    fs::rename(input.join(old), input.join("cur/1.b.host:2,S")).unwrap();
    replace(&input, "FIRST", true).unwrap();
    assert_eq!(fs::read(input.join(&made)).unwrap(), before[&made]);
    assert_eq!(bodies(&input).into_iter().filter(|body| body == "FIRST\n").count(), 2);
    assert_eq!(files(&input).len(), 402);
}

#[test]
fn what_became_of_one_twin_stops_no_later_run_because_of_the_other() {
    for format in ["in place", "maildir"] {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        twins(&input);
        let kept = "cur/1.M1P2.host:2,R";
        let mail = if format == "in place" {
            replace(&input, kept, true).unwrap();
            input
        } else {
            let ran = run_with(&options(&[&input], &output), &ButFor(kept)).unwrap();
            assert_eq!(ran.totals.failed(), 0);
            output
        };
        let report = mail.with_extension("report");
        if report.exists() {
            let checked = check(&report, std::slice::from_ref(&mail)).unwrap();
            assert_eq!((checked.good, checked.count), (5, 0), "{:?}", checked.problems);
            fs::remove_file(report).unwrap();
        }
        // Given a Maildir in which one of three twins is as it was,
        assert_eq!(bodies(&mail).iter().filter(|body| body.starts_with("CUR")).count(), 2, "{format}");
        // the next run goes on with it.
        replace(&mail, "-", true).unwrap();
        assert_eq!(bodies(&mail), SHOUTED, "{format}");
    }
}

#[test]
fn what_an_earlier_run_made_of_one_twin_stops_no_run_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    twins(&input);
    // Given a run that ended, and left one of three twins as it was,
    replace(&input, "cur/1.M1P2.host:2,R", true).unwrap();
    fs::remove_file(input.with_extension("report")).unwrap();
    // when another one is stopped, it is gone on with,
    let before = files(&input);
    late(&input);
    let stopped = replace(&input, "", false).unwrap_err().error;
    assert!(matches!(stopped, batch::error::BatchError::Interrupted), "{stopped}");
    replace(&input, "", true).unwrap();
    // and nothing was taken away.
    let after = files(&input);
    assert!(before.iter().all(|(path, octets)| after.get(path) == Some(octets)));
    assert_eq!(after.len(), 405);
    let checked = check(&input.with_extension("report"), std::slice::from_ref(&input)).unwrap();
    assert_eq!((checked.good, checked.count), (405, 0), "{:?}", checked.problems);
}

/// Two files with one unique name and the same octets, and between them more than a run takes in at once.
fn same_twins(root: &Path) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    let same = "Subject: x\n\nsame\n";
    fs::write(root.join("new/4.M1P2.host"), same).unwrap();
    fs::write(root.join("cur/4.M1P2.host:2,S"), same).unwrap();
    for number in 0..400 {
        fs::write(root.join(format!("cur/4.M1P2.host.{number:03}:2,")), "Subject: x\n\nlate\n").unwrap();
    }
}

#[test]
fn of_twins_with_the_same_octets_both_stay_when_a_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    // Given a run that was stopped between them,
    same_twins(&input);
    let stopped = replace(&input, "-", false).unwrap_err().error;
    assert!(matches!(stopped, batch::error::BatchError::Interrupted), "{stopped}");
    let found = bodies(&input);
    let count = |body: &str| found.iter().filter(|found| *found == body).count();
    assert_eq!((count("SAME\n"), count("same\n")), (1, 1));
    // then there is one of each afterwards, with its flags.
    replace(&input, "-", true).unwrap();
    let found = bodies(&input);
    let left: Vec<&String> = found.iter().filter(|body| *body != "LATE\n").collect();
    assert_eq!(left, ["SAME\n", "SAME\n"]);
    let is_read = |path: &Path| path.starts_with("cur") && path.to_string_lossy().ends_with(":2,S");
    assert_eq!(files(&input).keys().filter(|path| path.starts_with("new")).count(), 1);
    assert_eq!(files(&input).keys().filter(|path| is_read(path)).count(), 1);
    let checked = check(&input.with_extension("report"), std::slice::from_ref(&input)).unwrap();
    assert_eq!((checked.good, checked.count), (402, 0), "{:?}", checked.problems);
}

#[test]
fn of_twins_with_the_same_octets_both_are_in_a_copy_that_was_cut_off_between_them() {
    for format in ["maildir", "eml", "mbox"] {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        same_twins(&input);
        let copy = |resume| {
            let to = Output::Converted(output.clone(), format.parse().unwrap());
            work(&input, to, &output, "-", resume)
        };
        // Given a run that was stopped between them,
        let stopped = copy(false).unwrap_err().error;
        assert!(matches!(stopped, batch::error::BatchError::Interrupted), "{stopped}");
        let report = output.with_extension("report");
        let lines = || fs::read_to_string(&report).unwrap();
        let told = |file: &str| lines().matches(&format!("\"below\":\"{file}\"")).count();
        assert_eq!(told("new/4.M1P2.host"), 1);
        assert_eq!(told("cur/4.M1P2.host:2,S"), 0);
        // then the run that goes on does the other one.
        copy(true).unwrap();
        assert_eq!((lines().lines().count(), told("cur/4.M1P2.host:2,S")), (402, 1), "{format}");
        let text = String::from_utf8(files(&output).into_values().collect::<Vec<_>>().concat()).unwrap();
        assert_eq!(
            (text.matches("\nSAME\n").count(), text.matches("\nLATE\n").count()),
            (2, 400),
            "{format}"
        );
        let checked = check(&report, &[output]).unwrap();
        assert_eq!((checked.good, checked.count), (402, 0), "{format}: {:?}", checked.problems);
    }
}

#[test]
fn of_one_message_in_two_folders_each_is_worked_on_once_when_a_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (input, old) = (folder.path().join("in"), "cur/1.a.host:2,S");
    for part in ["cur", "new", "tmp", ".Copies/cur", ".Copies/new", ".Copies/tmp"] {
        fs::create_dir_all(input.join(part)).unwrap();
    }
    let text = "Subject: x\n\nsame\n";
    fs::write(input.join(old), text).unwrap();
    late(&input);
    // Given a run that noted the one, and replaced the other, but was cut off before it noted that, nor removed what it was:
    let stopped = replace(&input, "-", false).unwrap_err().error;
    assert!(matches!(stopped, batch::error::BatchError::Interrupted), "{stopped}");
    let made = files(&input).into_iter().find(|(_, octets)| octets.ends_with(b"\nSAME\n")).unwrap();
    let copies = input.join(".Copies");
    fs::write(copies.join(old), text).unwrap();
    fs::write(copies.join(&made.0), &made.1).unwrap();
    let journal = folder.path().join("in.hsmime-journal");
    let lines = fs::read_to_string(&journal).unwrap();
    let begun = lines.lines().find(|line| line.contains("{\"Made\":")).unwrap();
    fs::write(&journal, format!("{lines}{begun}\n")).unwrap();
    // when it is gone on with, the other is worked on once, from what it was.
    replace(&input, "-", true).unwrap();
    assert_eq!(files(&copies), [made].into());
    let told = fs::read_to_string(input.with_extension("report")).unwrap();
    assert_eq!((told.matches(old).count(), told.lines().count()), (4, 402));
    let checked = check(&input.with_extension("report"), std::slice::from_ref(&input)).unwrap();
    assert_eq!((checked.good, checked.count), (402, 0), "{:?}", checked.problems);
}

#[test]
fn a_twin_that_comes_meanwhile_is_neither_lost_nor_worked_on_twice() {
    for (other, same) in [("cur/1.M1P2.host:2,RS", false), ("new/1.M1P2.host", true)] {
        for is_stopped in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let input = folder.path().join("in");
            for part in ["cur", "new", "tmp"] {
                fs::create_dir_all(input.join(part)).unwrap();
            }
            fs::write(input.join("cur/1.M1P2.host:2,S"), "Subject: x\n\nfirst\n").unwrap();
            late(&input);
            fs::write(input.join("cur/9.host:2,"), "Subject: x\n\nlast\n").unwrap();
            for number in 0..400 {
                fs::write(input.join(format!("cur/99.{number}.host:2,")), "Subject: x\n\ntail\n").unwrap();
            }
            let text = if same { "Subject: x\n\nfirst\n" } else { "Subject: x\n\nsecond\n" };
            // Given one that comes when the first one is read and replaced, in a run that ends or is stopped then,
            let stop = AtomicBool::new(false);
            let comes = || {
                while input.join("cur/1.M1P2.host:2,S").exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                fs::write(input.join(other), text).unwrap();
                stop.store(is_stopped, Ordering::Relaxed);
            };
            let every = Duration::from_millis(1);
            let journal = Journaling { resume: false, request: "shout".into(), every };
            let options =
                Options { output: Output::InPlace, journal: Some(journal), ..options(&[&input], &input) };
            let report =
                open_report(&input.with_extension("report"), std::slice::from_ref(&input), true).unwrap();
            let ended = run(&options, &At("last", Mutex::new(Some(comes))), report, &stop);
            assert_eq!(ended.is_err(), is_stopped);
            // it is there afterwards,
            assert_eq!(fs::read_to_string(input.join(other)).unwrap(), text);
            if is_stopped {
                replace(&input, "-", true).unwrap();
            } else {
                // or else the next run names it, and does nothing until it has a name of its own;
                fs::remove_file(input.with_extension("report")).unwrap();
                let refused = replace(&input, "-", true).unwrap_err().error.to_string();
                assert!(refused.contains(other), "{refused}");
                fs::rename(input.join(other), input.join("cur/1.M1P3.host:2,S")).unwrap();
                let of_first = |octets: &Vec<u8>| octets.ends_with(b"\nFIRST\n");
                let made = files(&input).into_iter().find(|(_, octets)| of_first(octets)).unwrap();
                replace(&input, "FIRST", true).unwrap();
                assert_eq!(files(&input).get(&made.0), Some(&made.1));
            }
            // and each is worked on once. One with the same octets is taken for what the first one was, where a run goes on.
            let is_one = |octets: &String| octets.ends_with("\nFIRST\n") || octets.ends_with("\nSECOND\n");
            let text = |octets| String::from_utf8(octets).unwrap();
            let found: Vec<String> = files(&input).into_values().map(text).filter(is_one).collect();
            assert_eq!(found.len(), if same && is_stopped { 1 } else { 2 }, "{found:?}");
            assert!(found.iter().all(|text| text.matches("X-Shout").count() == 1), "{found:?}");
        }
    }
}
