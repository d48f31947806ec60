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

fn bodies(root: &Path) -> Vec<String> {
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
