//! What the owner of an archive may put beside it, under the names of our own files, where another one works on it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use batch::{
    error::BatchError,
    report::Report,
    run::{Options, Output, Stopped, run},
    task::{Done, Failed, Task, Work},
};

use crate::{
    disk::does_not_apply,
    resume::journaled,
    support::{Shout, sample_mbox},
};

/// Writes bodies in capitals, and has the run end soon.
struct Stops(AtomicBool);

impl Task for Stops {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.0.fetch_or(work.index == 100, Ordering::Relaxed);
        Shout.run(work)
    }
}

fn replace(mbox: &Path, resume: bool) -> Result<(), Stopped> {
    let options = Options { output: Output::InPlace, ..journaled(mbox, mbox, resume) };
    let task = Stops(AtomicBool::new(false));
    let stop = if resume { &AtomicBool::new(false) } else { &task.0 };
    run(&options, &task, Report::none(), stop).map(drop)
}

/// An mbox of which a run has replaced some and was stopped, and something that is none of its owner's business.
fn stopped(folder: &Path) -> (PathBuf, PathBuf) {
    let (mbox, other) = (folder.join("mbox"), folder.join("other"));
    fs::write(&mbox, sample_mbox(3_000)).unwrap();
    fs::write(&other, "somebody else's\n".repeat(20_000)).unwrap();
    let ended = replace(&mbox, false).unwrap_err().error;
    assert!(matches!(ended, BatchError::Interrupted), "{ended}");
    (mbox, other)
}

fn beside(mbox: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}.hsmime-{suffix}", mbox.display()))
}

#[test]
fn what_was_begun_is_gone_on_with_through_no_link_or_other_name_of_what_is_somebody_elses() {
    for name in ["link", "hard link", "folder", "another of ours"] {
        let folder = tempfile::tempdir().unwrap();
        let (mbox, other) = stopped(folder.path());
        let partial = beside(&mbox, "partial");
        fs::remove_file(&partial).unwrap();
        match name {
            "link" => symlink(&other, &partial).unwrap(),
            "hard link" => fs::hard_link(&other, &partial).unwrap(),
            "folder" => fs::create_dir(&partial).unwrap(),
            // Who may write to its folder may rename what he may not read.
            _ => {
                fs::rename(&other, &partial).unwrap();
                fs::set_permissions(folder.path(), Permissions::from_mode(0o775)).unwrap();
            }
        }
        let rights = fs::metadata(if other.exists() { &other } else { &partial }).unwrap().mode();
        replace(&mbox, true).unwrap_err();
        if !other.exists() {
            fs::rename(&partial, &other).unwrap();
            fs::write(&partial, "").unwrap();
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "somebody else's\n".repeat(20_000), "{name}");
        assert_eq!(fs::metadata(&other).unwrap().mode(), rights);
        assert_eq!(fs::read(&mbox).unwrap(), sample_mbox(3_000));
        // And without it all is as it should be.
        if name == "folder" { fs::remove_dir(&partial) } else { fs::remove_file(&partial) }.unwrap();
        fs::remove_file(beside(&mbox, "journal")).unwrap();
        replace(&mbox, true).unwrap();
        assert!(fs::read(&mbox).unwrap() != sample_mbox(3_000));
    }
}

#[test]
fn what_was_begun_may_be_another_file_where_nobody_else_can_have_put_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mbox, _) = stopped(folder.path());
    let (partial, copy) = (beside(&mbox, "partial"), folder.path().join("copy"));
    // As on a file system that gives it another number when it is mounted again.
    fs::copy(&partial, &copy).unwrap();
    fs::rename(&copy, &partial).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o775)).unwrap();
    replace(&mbox, true).unwrap_err();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    replace(&mbox, true).unwrap();
}

#[test]
fn a_journal_that_somebody_else_may_have_written_is_neither_believed_nor_waited_for() {
    for (name, expected) in [
        ("link", "a link"),
        ("endless", "a link"),
        ("pipe", "no file"),
        ("writable", "somebody else wrote it"),
        ("foreign", "somebody else wrote it"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (mbox, _) = stopped(folder.path());
        let (journal, partial) = (beside(&mbox, "journal"), beside(&mbox, "partial"));
        let away = folder.path().join("away");
        let put = |what: &Path| {
            fs::rename(&journal, &away).unwrap();
            symlink(what, &journal).unwrap();
        };
        match name {
            "link" => put(&away),
            "endless" => put(Path::new("/dev/zero")),
            "pipe" => {
                fs::remove_file(&journal).unwrap();
                assert!(Command::new("mkfifo").arg(&journal).status().unwrap().success());
            }
            "writable" => fs::set_permissions(&journal, Permissions::from_mode(0o620)).unwrap(),
            _ => match std::os::unix::fs::chown(&journal, Some(65_534), None) {
                Ok(()) => {}
                Err(error) => {
                    does_not_apply(&format!("only root can give a file away: {error}"));
                    continue;
                }
            },
        }
        let before = fs::read(&partial).unwrap();
        let error = replace(&mbox, true).unwrap_err().error;
        let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(said.contains(expected) && said.contains("hsmime-journal"), "{name}: {said}");
        assert!(fs::read(&partial).unwrap() == before && fs::read(&mbox).unwrap() == sample_mbox(3_000));
        // Whoever does not want to go on is not kept from beginning.
        let error = replace(&mbox, false).unwrap_err().error;
        assert!(matches!(error, BatchError::Interrupted), "{name}: {error}");
        assert!(journal.is_file() && !journal.is_symlink());
        replace(&mbox, true).unwrap();
    }
}
