//! Links that the owner of an archive may put into it, before a run and while it goes on.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use batch::{
    manifest::check,
    run::{Journaling, Options, Output},
    task::{Done, Failed, Task, Work},
};

use crate::{
    manifest::written,
    resume::{files, maildir},
    support::{Shout, options, run_with},
};

/// Many small messages, of which many are not yet read when the first is worked on.
const MESSAGES: usize = 250;

fn put(root: &Path, messages: usize, words: &str) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    for number in 0..messages {
        let name = format!("cur/{:010}.host:2,S", number + 1);
        fs::write(root.join(name), format!("Subject: {number}\n\n{words}\n")).unwrap();
    }
    fs::write(root.join("tmp/1.hsmime-partial"), "somebody writes it").unwrap();
}

/// Runs that write anew, replace, and only look.
fn runs(input: &Path, output: &Path) -> [Options; 3] {
    let journal = Journaling { resume: false, request: "shout".into(), every: Duration::from_millis(20) };
    let replaces = Options { output: Output::InPlace, journal: Some(journal), ..options(&[input], input) };
    let looks = Options { output: Output::None, ..options(&[input], output) };
    [options(&[input], output), replaces, looks]
}

#[test]
fn a_part_of_a_maildir_that_is_a_link_ends_the_run_and_nothing_behind_it_is_read_or_changed() {
    for part in ["cur", "new", "tmp"] {
        for below in ["", ".Sub", "nested/deep"] {
            for at in 0..3 {
                let folder = tempfile::tempdir().unwrap();
                let path = |name: &str| folder.path().join(name);
                let (input, output, other) = (path("mail"), path("out"), path("other"));
                put(&input.join(below), 2, "mine");
                put(&other, 2, "secret");
                let link = input.join(below).join(part);
                fs::remove_dir_all(&link).unwrap();
                symlink(other.join(part), &link).unwrap();
                let (before, others) = (files(&input), files(&other));
                let options = runs(&input, &output).into_iter().nth(at).unwrap();
                let stopped = run_with(&options, &Shout).err().unwrap();
                let error = format!("{:?}", stopped.error);
                assert!(error.contains("a link") && error.contains(part), "{error}");
                assert_eq!(files(&other), others);
                assert_eq!(files(&input), before);
                assert!(!output.exists());
            }
        }
    }
}

/// Puts a link in the place of a folder as soon as the first message is worked on.
struct Swap {
    from: PathBuf,
    to: PathBuf,
    is_done: Mutex<bool>,
}

impl Task for Swap {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let mut is_done = self.is_done.lock().unwrap();
        if !*is_done {
            fs::rename(&self.from, self.from.with_extension("aside")).unwrap();
            symlink(&self.to, &self.from).unwrap();
            *is_done = true;
        }
        Shout.run(work)
    }
}

#[test]
fn a_part_of_a_maildir_that_becomes_a_link_during_the_run_is_not_followed() {
    for part in ["cur", "tmp", ""] {
        for at in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let (input, output, other) = (path("mail/.Sub"), path("out"), path("other"));
            put(&input, MESSAGES, "mine");
            put(&other, MESSAGES, "secret");
            let others = files(&other);
            let from = if part.is_empty() { input.clone() } else { input.join(part) };
            let swap = Swap { from, to: other.join(part), is_done: Mutex::new(false) };
            let options = runs(&path("mail"), &output).into_iter().nth(at).unwrap();
            let ran = run_with(&options, &swap);
            let is_read = part == "tmp" && at != 1;
            assert_eq!(ran.is_ok_and(|ran| ran.totals.failed() == 0), is_read, "{part} {at}");
            assert_eq!(files(&other), others, "{part} {at}");
            // What is below the link is not what was written.
            fs::remove_file(&swap.from).unwrap();
            fs::remove_dir_all(&other).unwrap();
            let leaked =
                |octets: &Vec<u8>| octets.windows(6).any(|word| word.eq_ignore_ascii_case(b"secret"));
            assert!(!files(folder.path()).values().any(leaked), "{part} {at}");
        }
    }
}

#[test]
fn a_folder_of_a_tree_that_becomes_a_link_during_the_run_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (root, words) in [("tree", "mine"), ("other", "secret")] {
        for number in 0..MESSAGES {
            let file = path(root).join("a/b").join(format!("{number:010}.eml"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("Subject: {number}\n\n{words}\n")).unwrap();
        }
    }
    let swap = Swap { from: path("tree/a"), to: path("other/a"), is_done: Mutex::new(false) };
    let stopped = run_with(&options(&[&path("tree")], &path("out")), &swap).err().unwrap();
    assert!(format!("{:?}", stopped.error).contains("tree/a"), "{:?}", stopped.error);
    let written = files(&stopped.partial.unwrap());
    assert!(!written.is_empty() && written.values().all(|octets| octets.ends_with(b"\nMINE\n")));
}

#[test]
fn a_link_that_mail_programs_would_follow_is_in_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let message = "Subject: forged\n\nx\n";
    for part in ["tree", "elsewhere", "mail/cur", "mail/new", "mail/tmp"] {
        fs::create_dir_all(path(part)).unwrap();
    }
    fs::write(path("elsewhere/3.eml"), message).unwrap();
    fs::write(path("tree/1.eml"), "Subject: one\n\nx\n").unwrap();
    fs::write(path("mail/cur/1.host:2,S"), "Subject: one\n\nx\n").unwrap();
    for (input, links) in [("tree", ["3.eml", "sub"].as_slice()), ("mail", &[".Sub"])] {
        let output = format!("{input}-out");
        let report = written(folder.path(), input, &output);
        for link in links {
            let to = path(if link.ends_with("eml") { "elsewhere/3.eml" } else { "elsewhere" });
            let link = path(&output).join(link);
            symlink(to, &link).unwrap();
            let checked = check(&report, &[path(&output)]).unwrap();
            assert_eq!((checked.good, checked.count), (1, 1), "{link:?}: {:?}", checked.problems);
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(check(&report, &[path(&output)]).unwrap().count, 0, "{input}");
    }
}

#[test]
fn mboxes_of_a_folder_are_made_durable_where_they_are_and_not_where_their_name_leads() {
    struct Swap(PathBuf, PathBuf);
    impl Task for Swap {
        fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
            if work.index == 1 {
                // Given a folder of the same name in the place of the output, with what never ends in the place of an mbox,
                let partial = &self.0;
                fs::rename(partial, &self.1).unwrap();
                fs::create_dir(partial).unwrap();
                for name in ["INBOX.mbox", "Sent.mbox"] {
                    assert!(Command::new("mkfifo").arg(partial.join(name)).status().unwrap().success());
                }
            }
            Shout.run(work)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    maildir(&path("mail"), 2);
    let mut options = options(&[&path("mail")], &path("out"));
    options.output = Output::Converted(path("out"), "mbox".parse().unwrap());
    let task = Swap(path("out.hsmime-partial"), path("aside"));
    let (sender, ended) = mpsc::channel();
    // when the run ends,
    thread::spawn(move || sender.send(run_with(&options, &task).map(|_| ())));
    let ended = ended.recv_timeout(Duration::from_secs(30)).expect("it does not end");
    // then it says so, and gives nothing else the output's name.
    let error = format!("{:#}", anyhow::Error::from(ended.unwrap_err().error));
    assert!(error.contains("not the folder that the run made"), "{error}");
    assert!(!path("out").exists());
    assert!(fs::read_to_string(path("aside/Sent.mbox")).unwrap().contains("X-Shout"));
}
