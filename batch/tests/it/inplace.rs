//! Archives replaced where they are: what stays, what changes, and that nothing is lost at any instant.

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, atomic::AtomicBool},
    thread,
    time::{Duration, Instant, SystemTime},
};

use batch::{
    error::BatchError,
    report::Report,
    run::{Journaling, Options, Output, Stopped, run},
    task::{Done, Failed, Task, Work},
};

use smime::testing::fixtures::data;

use crate::{
    child::wait_until,
    resume::{files, maildir},
    support::{Shout, options, run_on, run_with, sample_mbox},
};

fn replacing(input: &Path) -> Options {
    let journal = Journaling { resume: false, request: "shout".into(), every: Duration::from_millis(20) };
    Options { output: Output::InPlace, journal: Some(journal), ..options(&[input], input) }
}

fn replace(input: &Path, task: &dyn Task) -> Result<(), Stopped> {
    run_with(&replacing(input), task).map(|_| ())
}

/// Shouts where the subject is an even number.
struct Even;

impl Task for Even {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let is_even = work.message.header().trim_ascii().last().is_some_and(|digit| digit.is_multiple_of(2));
        if is_even { Shout.run(work) } else { Ok(Done::unchanged("copied")) }
    }
}

/// Shouts, and does something once, at the message of this number.
struct Meanwhile<F>(u64, Mutex<Option<F>>);

impl<F: FnOnce() + Send> Task for Meanwhile<F> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let act = if work.index == self.0 { self.1.lock().unwrap().take() } else { None };
        if let Some(act) = act {
            act();
        }
        Shout.run(work)
    }
}

fn meanwhile<F: FnOnce() + Send>(at: u64, act: F) -> Meanwhile<F> {
    Meanwhile(at, Mutex::new(Some(act)))
}

#[test]
fn messages_of_a_maildir_that_change_get_names_of_their_own_and_all_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("mail");
    maildir(&root, 10);
    let foreign =
        ["dovecot-uidlist", "dovecot.index", ".Sent/dovecot-keywords", "subscriptions", "cur/.hidden"];
    for name in foreign {
        fs::write(root.join(name), name).unwrap();
    }
    fs::write(root.join("maildirsize"), "1000S\n99 1\n").unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_474_064_811);
    let old = root.join("cur/4.host,S=17:2,S");
    let times = FileTimes::new().set_modified(then);
    File::options().write(true).open(&old).unwrap().set_times(times).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    let odd = inode("cur/5.host,S=17:2,S");

    replace(&root, &Even).unwrap();

    assert!(!old.exists());
    let left = files(&root);
    assert_eq!(left.len(), 20 + foreign.len());
    for name in foreign {
        assert_eq!(left[Path::new(name)], name.as_bytes());
    }
    assert_eq!(inode("cur/5.host,S=17:2,S"), odd, "what does not change is not written");
    let text = "X-Shout: yes\nSubject: 4\n\nBODY\n";
    let is_four = |octets: &Vec<u8>| octets == text.as_bytes();
    let (name, _) = left.iter().find(|(path, octets)| path.starts_with("cur") && is_four(octets)).unwrap();
    let shown = name.to_str().unwrap();
    assert!(shown.ends_with(&format!(",S={}:2,S", text.len())), "{shown}");
    let metadata = fs::metadata(root.join(name)).unwrap();
    assert_eq!((metadata.modified().unwrap(), metadata.mode() & 0o777), (then, 0o640));
    let beside: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "no journal is left: {beside:?}");
}

#[test]
fn an_mbox_is_locked_and_then_replaced_by_one_rename() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("mbox"), folder.path().join("link"));
    fs::write(&path, sample_mbox(30)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    run_on(&path, &folder.path().join("expected"), &Shout);
    let before = fs::metadata(&path).unwrap();
    let dotlock = folder.path().join("mbox.lock");
    let seen = meanwhile(17, || {
        assert!(fs::read_to_string(&dotlock).unwrap().starts_with(&format!("{}:", std::process::id())));
        let writer = File::options().append(true).open(&path).unwrap();
        let refused = rustix_lock(&writer);
        assert!(refused, "another program could lock it");
        assert_eq!(fs::read(&path).unwrap(), sample_mbox(30), "nothing has changed yet");
    });

    replace(&link, &seen).unwrap();

    let expected = fs::read(folder.path().join("expected")).unwrap();
    assert!(fs::read(&path).unwrap() == expected && link.is_symlink());
    let after = fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!(before.mode(), after.mode());
    assert_ne!(
        before.modified().unwrap(),
        after.modified().unwrap(),
        "indexes of others must see that it changed"
    );
    let left = files(folder.path());
    assert!(!left.keys().any(|name| name.to_string_lossy().contains('.')), "{left:?}");

    fs::hard_link(&path, folder.path().join("twice")).unwrap();
    let refused = replace(&path, &Shout).unwrap_err().error;
    assert!(refused.to_string().contains("hard links"), "{refused}");
}

/// Whether an fcntl lock for writing is refused.
fn rustix_lock(file: &File) -> bool {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    let whole = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole)).is_err()
}

#[test]
fn an_archive_stays_compressed_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("plain"), sample_mbox(30)).unwrap();
    run_on(&path("plain"), &path("small.zst"), &batch::task::Identity);
    // Known by what is in it, not by its name.
    fs::rename(path("small.zst"), path("small")).unwrap();
    replace(&path("small"), &Shout).unwrap();
    replace(&path("plain"), &Shout).unwrap();
    let small = fs::read(path("small")).unwrap();
    assert!(small.starts_with(b"\x28\xb5\x2f\xfd"));
    assert!(zstd::decode_all(&small[..]).unwrap() == fs::read(path("plain")).unwrap());
}

#[test]
fn an_archive_that_changes_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (mbox, message) = (folder.path().join("mbox"), folder.path().join("one.eml"));
    let more = [sample_mbox(30), sample_mbox(1)].concat();
    let appended = || {
        // By a program that asks for no locks.
        let mut file = File::options().append(true).open(&mbox).unwrap();
        std::io::Write::write_all(&mut file, &sample_mbox(1)).unwrap();
    };
    fs::write(&mbox, sample_mbox(30)).unwrap();
    let error = replace(&mbox, &meanwhile(17, appended)).unwrap_err().error;
    assert!(error.to_string().contains("mbox"), "{error}");
    assert!(fs::read(&mbox).unwrap() == more);

    fs::write(&message, "Subject: x\n\nold\n").unwrap();
    let saved = || {
        // As editors do it.
        fs::write(folder.path().join("new"), "Subject: y\n\nnew\n").unwrap();
        fs::rename(folder.path().join("new"), &message).unwrap();
    };
    let error = replace(&message, &meanwhile(1, saved)).unwrap_err().error;
    assert!(
        matches!(&error, BatchError::Changed { path } if *path == fs::canonicalize(&message).unwrap()),
        "{error}"
    );
    assert_eq!(fs::read(&message).unwrap(), b"Subject: y\n\nnew\n");

    let mail = folder.path().join("mail");
    maildir(&mail, 10);
    let file = mail.join("cur/3.host,S=17:2,S");
    let error =
        replace(&mail, &meanwhile(10, || fs::write(&file, "Subject: z\n\nz\n").unwrap())).unwrap_err();
    assert!(matches!(&error.error, BatchError::Changed { path } if *path == file), "{:?}", error.error);
    assert_eq!(fs::read(&file).unwrap(), b"Subject: z\n\nz\n");
}

#[test]
fn flags_that_change_meanwhile_are_kept_and_what_is_deleted_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    maildir(&mail, 10);
    fs::rename(mail.join("cur/4.host,S=17:2,S"), mail.join("new/4.host,S=17")).unwrap();
    let act = || {
        fs::rename(mail.join("cur/3.host,S=17:2,S"), mail.join("cur/3.host,S=17:2,RST")).unwrap();
        fs::rename(mail.join("new/4.host,S=17"), mail.join("cur/4.host,S=17:2,F")).unwrap();
        fs::remove_file(mail.join("cur/5.host,S=17:2,S")).unwrap();
    };
    // All are written at the end, so that this is between reading and replacing.
    let mut options = replacing(&mail);
    options.journal.as_mut().unwrap().every = Duration::from_hours(1);
    run_with(&options, &meanwhile(20, act)).unwrap();
    let left = files(&mail);
    let found = |subject: u32| {
        let text = format!("X-Shout: yes\nSubject: {subject}\n\nBODY\n");
        let mut found =
            left.iter().filter(|(path, octets)| path.starts_with("cur") && **octets == text.as_bytes());
        let name = found.next().map(|(path, _)| path.to_str().unwrap().split_once(':').unwrap().1.to_owned());
        assert!(found.next().is_none());
        name
    };
    assert_eq!((found(3), found(4), found(5)), (Some("2,RST".into()), Some("2,F".into()), None));
    assert_eq!(left.len(), 19);
}

#[test]
fn what_is_moved_meanwhile_is_told_and_found_where_it_is() {
    type Act = fn(&Path);
    let of_read: Act = |mail| {
        fs::rename(mail.join("cur/3.host,S=17:2,S"), mail.join(".Sent/cur/1003.host,S=17:2,S")).unwrap();
    };
    let of_unread: Act = |mail| {
        fs::rename(mail.join(".Sent/cur/299.host,S=19:2,S"), mail.join("cur/1299.host:2,S")).unwrap();
    };
    let folder_renamed: Act = |mail| fs::rename(mail.join(".Sent"), mail.join(".Archive")).unwrap();
    let folder_made: Act = |mail| {
        fs::create_dir_all(mail.join(".New/cur")).unwrap();
        fs::rename(mail.join("cur/3.host,S=17:2,S"), mail.join(".New/cur/3.host,S=17:2,S")).unwrap();
    };
    let comes: Act = |mail| fs::write(mail.join("new/2000.host"), "Subject: new\n\nbody\n").unwrap();
    let deleted: Act = |mail| fs::remove_file(mail.join("cur/3.host,S=17:2,S")).unwrap();
    // When it happens: at the last of them, all but that are read and nothing is replaced.
    for (what, messages, at, act, failures, left) in [
        ("moved into another folder", 10, 20, of_read, 1, 20),
        ("moved from where nobody has looked to where somebody has", 300, 1, of_unread, 0, 600),
        ("a folder is renamed", 10, 20, folder_renamed, 10, 20),
        ("moved into a new folder", 10, 20, folder_made, 1, 20),
        ("delivered", 10, 20, comes, 0, 21),
        ("deleted", 10, 20, deleted, 1, 19),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mail = folder.path().join("mail");
        maildir(&mail, messages);
        let mut options = replacing(&mail);
        options.journal.as_mut().unwrap().every = Duration::from_hours(1);
        let ran = run_with(&options, &meanwhile(at, || act(&mail))).unwrap();
        assert_eq!(ran.totals.failed(), failures, "{what}");
        let there: Vec<_> = files(&mail).into_values().collect();
        assert_eq!(there.len(), left, "{what}");
        for octets in there {
            let text = String::from_utf8(octets).unwrap();
            assert_eq!(text.matches("X-Shout").count(), 1, "{what}: {text}");
        }
        let failed: Vec<_> = ran.report.iter().filter(|line| !line["error"].is_null()).collect();
        assert_eq!(failed.len() as u64, failures);
        for line in failed {
            assert_eq!(line["error"]["reason"], "it was moved or deleted meanwhile", "{what}");
            assert!(line["output"].is_null(), "{what}: {line}");
        }
        assert!(!folder.path().join("mail.hsmime-journal").exists());
    }
}

#[test]
fn what_is_written_into_a_folder_that_is_moved_meanwhile_does_not_stay_there() {
    for (to, left) in [("mail/.Archive", 20), ("elsewhere", 10)] {
        let folder = tempfile::tempdir().unwrap();
        let mail = folder.path().join("mail");
        maildir(&mail, 10);
        let unfinished =
            |folder: &Path| fs::read_dir(folder.join("tmp")).map(Iterator::count).unwrap_or_default();
        // The first sixteen messages are worked on together: six of this folder are written when the last one is worked on.
        let act = || {
            let began = Instant::now();
            while unfinished(&mail.join(".Sent")) < 6 {
                assert!(began.elapsed() < Duration::from_mins(1), "they are not written");
                thread::sleep(Duration::from_millis(5));
            }
            fs::rename(mail.join(".Sent"), folder.path().join(to)).unwrap();
        };
        let mut options = replacing(&mail);
        options.journal.as_mut().unwrap().every = Duration::from_hours(1);
        let ran = run_with(&options, &meanwhile(20, act)).unwrap();
        assert_eq!(ran.totals.failed(), 10, "{to}");
        assert_eq!(unfinished(&folder.path().join(to)), 0, "{to}");
        assert_eq!(files(&mail).len(), left, "{to}");
    }
}

#[test]
fn a_mailbox_that_never_rests_is_not_called_done() {
    struct Delivering(PathBuf);
    impl Task for Delivering {
        fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
            fs::write(self.0.join(format!("new/{}.more", 1000 + work.index)), "Subject: new\n\nbody\n")
                .unwrap();
            Shout.run(work)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    maildir(&mail, 2);
    let stop = AtomicBool::new(false);
    let ended = run(&replacing(&mail), &Delivering(mail.clone()), Report::none(), &stop);
    let stopped = ended.unwrap_err().error;
    assert!(
        matches!(&stopped, BatchError::Read { source, .. } if source.to_string().contains("--resume")),
        "{stopped}"
    );
    let mut rest = replacing(&mail);
    rest.journal.as_mut().unwrap().resume = true;
    run(&rest, &Shout, Report::none(), &stop).unwrap();
    for (path, octets) in files(&mail) {
        let text = String::from_utf8(octets).unwrap();
        assert_eq!(text.matches("X-Shout").count(), 1, "{}: {text}", path.display());
    }
}

#[test]
fn a_maildir_in_which_a_run_was_cut_off_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    maildir(&mail, 300);
    let stop = AtomicBool::new(false);
    let stopping = meanwhile(150, || stop.store(true, std::sync::atomic::Ordering::Relaxed));
    let stopped = run(&replacing(&mail), &stopping, Report::none(), &stop).unwrap_err().error;
    assert!(matches!(stopped, BatchError::Interrupted), "{stopped}");
    let refused = replace(&mail, &Shout).unwrap_err().error;
    assert!(refused.to_string().contains("--resume"), "{refused}");

    // Without the journal nobody knows which of two files stays.
    fs::remove_file(folder.path().join("mail.hsmime-journal")).unwrap();
    let successor = files(&mail).into_keys().find(|path| path.to_string_lossy().contains(".R")).unwrap();
    replace(&mail, &batch::task::Identity).unwrap();
    let again = replace(&mail, &Shout);
    again.unwrap();
    let name = successor.file_name().unwrap();
    assert!(!mail.join("cur").join(name).exists());
    assert_eq!(files(&mail).len(), 600);
}

#[test]
fn of_several_archives_the_one_that_was_cut_off_is_gone_on_with_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mails = ["a", "b", "c"].map(|name| folder.path().join(name));
    for mail in &mails {
        maildir(mail, 300);
    }
    let stop = AtomicBool::new(false);
    let stopping = meanwhile(900, || stop.store(true, std::sync::atomic::Ordering::Relaxed));
    let all = Options { inputs: mails.to_vec(), ..replacing(&mails[0]) };
    let stopped = run(&all, &stopping, Report::none(), &stop).unwrap_err().error;
    assert!(matches!(stopped, BatchError::Interrupted), "{stopped}");
    let begun: Vec<_> = mails.iter().filter(|mail| mail.with_extension("hsmime-journal").exists()).collect();
    assert_eq!(begun, [&mails[1]]);

    let mut rest = replacing(&mails[1]);
    rest.journal.as_mut().unwrap().resume = true;
    run_with(&rest, &Shout).unwrap();
    replace(&mails[2], &Shout).unwrap();
    let [a, b, c] = mails.map(|mail| files(&mail).into_values().collect::<Vec<_>>());
    assert!(a.len() == 600 && a == b && b == c);
}

#[test]
fn two_files_that_may_be_one_message_are_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    maildir(&mail, 3);
    let before = files(&mail);
    replace(&mail, &Shout).unwrap();
    // Somebody puts an old one back.
    let old = Path::new("cur/1.host,S=17:2,S");
    fs::write(mail.join(old), &before[old]).unwrap();
    let there = files(&mail);
    for resume in [false, true] {
        let mut options = replacing(&mail);
        options.journal.as_mut().unwrap().resume = resume;
        let refused = run_with(&options, &Shout).err().unwrap().error;
        assert!(refused.to_string().contains("cur/1.host"), "{refused}");
        assert!(files(&mail) == there, "something was taken away");
    }
}

#[test]
fn a_run_that_is_stopped_at_once_leaves_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(20_000)).unwrap();
    fs::write(path("bob.pem"), data("bob.pem")).unwrap();
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    fs::write(path("toml"), "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n").unwrap();
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"));
        program.args(["--config", "toml", "encrypt", "in", "--in-place", "--to-certificate", "bob.pem"]);
        program.args(["--report", "report"]).current_dir(folder.path());
        program
    };
    let mut child = program().stderr(Stdio::piped()).spawn().unwrap();
    wait_until(&mut child, "something was written", || {
        fs::metadata(path("in.hsmime-partial")).is_ok_and(|partial| partial.len() > 0)
    });
    assert!(path("in.lock").exists());
    // Two of one kind may count as one.
    let pid = rustix::process::Pid::from_child(&child);
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(matches!(ended.status.code(), Some(130 | 143)), "{ended:?}");
    assert!(said.contains("in.lock is removed"), "{said}");
    assert!(!path("in.lock").exists() && fs::read(path("in")).unwrap() == sample_mbox(20_000));
    let ended = program().arg("--resume").output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(fs::read_to_string(path("report")).unwrap().lines().count(), 20_000);
}

#[test]
fn a_run_that_waits_for_a_lock_of_others_ends_when_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(20)).unwrap();
    fs::write(path("bob.pem"), data("bob.pem")).unwrap();
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    fs::write(path("toml"), "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n").unwrap();
    fs::write(path("in.lock"), "somebody's").unwrap();
    for place in ["--in-place", "--output=out"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"));
        program.args(["--config", "toml", "encrypt", "in", place, "--to-certificate", "bob.pem"]);
        program.args(["--report", "report"]).current_dir(folder.path());
        let mut child = program.stderr(Stdio::piped()).spawn().unwrap();
        let journal = if place == "--in-place" { "in.hsmime-journal" } else { "out.hsmime-journal" };
        wait_until(&mut child, "the journal", || path(journal).exists());
        thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{place}: {ended:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{place}: it waited for the lock");
        assert!(path("in.lock").exists() && !path(journal).exists() && !path("report").exists(), "{place}");
        assert_eq!(fs::read(path("in")).unwrap(), sample_mbox(20));
    }
}

#[test]
fn thousands_of_files_of_one_unique_name_keep_no_run_from_going_on() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    maildir(&mail, 300);
    let stop = AtomicBool::new(false);
    let stopping = meanwhile(150, || stop.store(true, std::sync::atomic::Ordering::Relaxed));
    run(&replacing(&mail), &stopping, Report::none(), &stop).unwrap_err();
    // The number of `1.a.h`, and of flags that none of them has.
    for number in 0..2000 {
        for name in [format!("1.a.h:2,{number}"), format!("1.aT87350e8e1ee47c9c00000000.h:2,{number}")] {
            fs::write(mail.join("cur").join(name), "A: 1\n\nx\n").unwrap();
        }
    }
    let mut rest = replacing(&mail);
    rest.journal.as_mut().unwrap().resume = true;
    let began = Instant::now();
    stop.store(false, std::sync::atomic::Ordering::Relaxed);
    run(&rest, &batch::task::Identity, Report::none(), &stop).unwrap();
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}
