//! Mail of another user, who has the folder that it is in, and puts into it what he likes: root works there with his rights.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use batch::{
    archive::Format,
    mbox::Variant,
    report::Report,
    run::{Journaling, Options, Output, run},
    task::{Done, Failed, Task, Work},
};

use crate::{
    disk::does_not_apply,
    resume::{files, maildir_folder},
    support::{Shout, options, run_with, sample_mbox},
};

/// The mail's owner, whom the system does not know by name.
const OWNER: u32 = 4711;
const STRANGER: u32 = 4712;

/// Whether this can be tried here.
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        does_not_apply("only root can give files away");
    }
    is_root
}

fn replacing(inputs: &[&Path], resume: bool) -> Options {
    let journal = Journaling { resume, request: "shout".into(), every: Duration::ZERO };
    Options { output: Output::InPlace, journal: Some(journal), ..options(inputs, inputs[0]) }
}

/// Gives a user all that is in a folder.
fn give(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

/// A folder that everybody may go through, and a user's in it.
fn home() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("mbox"), sample_mbox(50)).unwrap();
    fs::write(home.join("one.eml"), "Subject: x\n\nbody\n").unwrap();
    maildir_folder(&home.join("mail"), 50);
    give(&home, OWNER);
    (folder, home)
}

/// Shouts, and stops the run at the tenth message.
struct Stopping(AtomicBool);

impl Task for Stopping {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        std::thread::sleep(Duration::from_millis(1));
        self.0.fetch_or(work.index == 10, Ordering::Relaxed);
        Shout.run(work)
    }
}

fn cut_off(input: &Path) {
    let stopping = Stopping(AtomicBool::new(false));
    let options = Options { jobs: 1, room: 1 << 16, ..replacing(&[input], false) };
    let stopped = run(&options, &stopping, Report::none(), &stopping.0).unwrap_err();
    assert!(stopped.resumable, "{stopped:?}");
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn refused(input: &Path, resume: bool) -> String {
    let stopped = run_with(&replacing(&[input], resume), &Shout).err().unwrap();
    format!("{:#}", anyhow::Error::from(stopped.error))
}

/// Notes whose rights the threads have.
#[derive(Default)]
struct Rights(Mutex<BTreeSet<(bool, u32)>>);

impl Task for Rights {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        for thread in fs::read_dir("/proc/self/task").unwrap() {
            let thread = thread.unwrap().path();
            let Ok(status) = fs::read_to_string(thread.join("status")) else { continue };
            let of = |field: &str| {
                let line = status.lines().find(|line| line.starts_with(field)).unwrap();
                line.split_whitespace().last().unwrap().to_owned()
            };
            self.0.lock().unwrap().insert((of("Name:").starts_with("batch-"), of("Uid:").parse().unwrap()));
        }
        Shout.run(work)
    }
}

#[test]
fn root_replaces_mail_with_its_owners_rights_and_asks_tokens_with_its_own() {
    if !is_root() {
        return;
    }
    for name in ["mbox", "one.eml", "mail"] {
        let (_folder, home) = home();
        let input = home.join(name);
        if input.is_file() {
            // A group that he is not in stays that of the mail.
            chown(&input, Some(OWNER), Some(STRANGER)).unwrap();
            fs::set_permissions(&input, Permissions::from_mode(0o660)).unwrap();
        }
        let before = fs::metadata(&input).unwrap();
        let rights = Rights::default();
        run_with(&replacing(&[&input], false), &rights).unwrap();
        let rights = rights.0.into_inner().unwrap();
        assert!(rights.contains(&(true, 0)) && rights.contains(&(false, OWNER)), "{name}: {rights:?}");
        assert!(!rights.contains(&(true, OWNER)), "{name}: {rights:?}");
        let after = fs::metadata(&input).unwrap();
        let shown = |metadata: &fs::Metadata| (metadata.uid(), metadata.gid(), metadata.mode());
        assert_eq!(shown(&after), shown(&before), "{name}");
        for (file, octets) in files(&input) {
            let path = if input.is_dir() { input.join(file) } else { input.clone() };
            assert_eq!(fs::metadata(path).unwrap().uid(), OWNER, "{name}");
            assert!(octets.windows(7).any(|word| word == b"X-Shout"), "{name}");
        }
        // This thread has its own again.
        fs::write(home.join("new"), "x").unwrap();
        assert_eq!(fs::metadata(home.join("new")).unwrap().uid(), 0);
    }
}

#[test]
fn nothing_of_roots_is_overwritten_by_a_link_in_the_place_of_what_a_run_left() {
    if !is_root() {
        return;
    }
    let (folder, home) = home();
    let (input, secret) = (home.join("mbox"), folder.path().join("secret"));
    fs::write(&secret, "root:x:0:0\n").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    cut_off(&input);
    let partial = beside(&input, ".hsmime-partial");
    fs::remove_file(&partial).unwrap();
    symlink(&secret, &partial).unwrap();
    // He may have written the journal himself.
    give(&home, OWNER);
    let error = refused(&input, true);
    assert!(error.contains("mbox.hsmime-partial") && error.contains("a link"), "{error}");
    assert_eq!(fs::read(&secret).unwrap(), b"root:x:0:0\n");
    let metadata = fs::metadata(&secret).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o600));
    assert!(input.is_file() && !input.is_symlink());
    // Nor with another name of it, were it his.
    fs::remove_file(&partial).unwrap();
    fs::hard_link(&secret, &partial).unwrap();
    chown(&secret, Some(OWNER), None).unwrap();
    assert!(refused(&input, true).contains("several names"));
    assert_eq!(fs::read(&secret).unwrap(), b"root:x:0:0\n");
}

#[test]
fn a_run_that_was_cut_off_in_anothers_folder_or_in_a_spool_of_roots_is_gone_on_with() {
    if !is_root() {
        return;
    }
    for (owner, mode) in [(OWNER, 0o700), (0, 0o755), (0, 0o1777)] {
        for name in ["mbox", "mail"] {
            let (_folder, home) = home();
            let input = home.join(name);
            chown(&home, Some(owner), Some(owner)).unwrap();
            fs::set_permissions(&home, Permissions::from_mode(mode)).unwrap();
            cut_off(&input);
            let journal = fs::metadata(beside(&input, ".hsmime-journal")).unwrap();
            let is_roots = mode == 0o755;
            assert_eq!(journal.uid(), if is_roots { 0 } else { OWNER }, "{name} {mode:o}");
            run_with(&replacing(&[&input], true), &Shout).unwrap();
            assert_eq!(fs::metadata(&input).unwrap().uid(), OWNER, "{name} {mode:o}");
            assert!(!beside(&input, ".hsmime-journal").exists(), "{name} {mode:o}");
            let shouted: usize = files(&input)
                .values()
                .map(|octets| octets.windows(7).filter(|word| *word == b"X-Shout").count())
                .sum();
            assert_eq!(shouted, 50, "{name} {mode:o}");
        }
    }
}

#[test]
fn a_journal_that_is_no_file_of_ours_is_not_opened_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mbox"), sample_mbox(5)).unwrap();
    maildir_folder(&folder.path().join("mail"), 5);
    for name in ["mbox", "mail"] {
        for what in ["fifo", "endless", "link", "folder", "linked", "another's"] {
            let input = folder.path().join(name);
            let journal = beside(&input, ".hsmime-journal");
            match what {
                "fifo" => assert!(Command::new("mkfifo").arg(&journal).status().unwrap().success()),
                "endless" => symlink("/dev/zero", &journal).unwrap(),
                "link" => symlink("mbox", &journal).unwrap(),
                "folder" => fs::create_dir(&journal).unwrap(),
                "linked" => {
                    fs::write(beside(&journal, "2"), "").unwrap();
                    fs::hard_link(beside(&journal, "2"), &journal).unwrap();
                }
                _ => {
                    fs::write(&journal, "").unwrap();
                    if !is_root() {
                        fs::remove_file(&journal).unwrap();
                        continue;
                    }
                    chown(&journal, Some(STRANGER), None).unwrap();
                }
            }
            for resume in [true, false] {
                if name == "mbox" && !resume && what != "folder" {
                    // It tells of nothing that is lost, and whoever can put it there shall stop nothing.
                    run_with(&replacing(&[&input], resume), &Shout).unwrap();
                    assert!(!journal.is_symlink() && !journal.exists(), "{what}");
                    continue;
                }
                let (sender, ended) = mpsc::channel();
                let input = input.clone();
                std::thread::spawn(move || sender.send(refused(&input, resume)));
                let error = ended.recv_timeout(Duration::from_secs(20));
                let error = error.unwrap_or_else(|_| panic!("{name}, {what}: it does not end"));
                assert!(error.contains(&format!("{name}.hsmime-journal")), "{name}, {what}: {error}");
                assert!(what == "folder" || error.contains("remove it"), "{name}, {what}: {error}");
                let is_warned = error.contains("some may be there twice");
                assert!(what == "folder" || is_warned == (name == "mail"), "{name}, {what}: {error}");
            }
            let _ = fs::remove_file(&journal).or_else(|_| fs::remove_dir(&journal));
        }
    }
}

#[test]
fn mail_of_several_owners_is_not_replaced_in_one_run() {
    if !is_root() {
        return;
    }
    let ((_one, mine), (_other, theirs)) = (home(), home());
    give(&theirs, STRANGER);
    let (before, inputs) = (files(&theirs), [mine.join("mbox"), theirs.join("mbox")]);
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let error = run_with(&replacing(&inputs, false), &Shout).err().unwrap().error.to_string();
    assert!(error.contains("user 4711") && error.contains("user 4712"), "{error}");
    assert!(error.contains("a run of its own"), "{error}");
    assert_eq!(files(&theirs), before);
    // In a spool where only root puts files, it needs nobody else's rights.
    for home in [&mine, &theirs] {
        chown(home, Some(0), Some(0)).unwrap();
    }
    run_with(&replacing(&inputs, false), &Shout).unwrap();
    assert_eq!(fs::metadata(inputs[1]).unwrap().uid(), STRANGER);
    // And what is root's is not put into the hands of whom its folder belongs to.
    chown(&mine, Some(OWNER), None).unwrap();
    chown(inputs[0], Some(0), None).unwrap();
    assert!(refused(inputs[0], false).contains("user 4711 may put something else in its place"));
}

#[test]
fn a_link_of_one_user_to_the_mail_of_another_is_not_followed() {
    if !is_root() {
        return;
    }
    let (folder, home) = home();
    fs::create_dir_all(folder.path().join("links/deep")).unwrap();
    for (name, link) in [("mbox", "links/inbox"), ("mail", "links/deep/mail"), ("", "links/home")] {
        let link = folder.path().join(link);
        symlink(home.join(name), &link).unwrap();
        let input = if name.is_empty() { link.join("mbox") } else { link.clone() };
        let holder = link.parent().unwrap();
        // Where only root puts links, it is root who put it there.
        for (user, of_folder, mode, is_followed) in [
            (STRANGER, STRANGER, 0o755, false),
            (STRANGER, 0, 0o777, false),
            (STRANGER, 0, 0o755, true),
            (OWNER, STRANGER, 0o755, true),
            (0, STRANGER, 0o755, true),
        ] {
            lchown(&link, Some(user), None).unwrap();
            chown(holder, Some(of_folder), None).unwrap();
            fs::set_permissions(holder, Permissions::from_mode(mode)).unwrap();
            for options in [
                replacing(&[&input], false),
                options(&[&input], &folder.path().join(format!("out{user}{of_folder}{name}"))),
            ] {
                let before = files(&home);
                let ran = run_with(&options, &Shout);
                assert_eq!(ran.is_ok(), is_followed, "{name} {user} {of_folder} {mode:o}");
                if let Err(stopped) = ran {
                    let error = stopped.error.to_string();
                    assert!(error.contains("link of user 4712"), "{error}");
                    assert_eq!(files(&home), before);
                }
            }
        }
    }
}

#[test]
fn mail_that_somebody_else_may_exchange_for_other_mail_is_not_replaced() {
    if !is_root() {
        return;
    }
    // Whose the mail is; whose the folder that it is in, with which group and mode.
    for (user, of_folder, group, mode, is_replaced) in [
        (OWNER, OWNER, OWNER, 0o775, true),
        (OWNER, 0, 0, 0o1777, true),
        (OWNER, STRANGER, STRANGER, 0o755, false),
        (OWNER, STRANGER, STRANGER, 0o1777, false),
        (OWNER, 0, 0, 0o777, false),
        (0, 0, 0, 0o755, true),
        (0, 0, 0, 0o775, true),
        (0, 0, 0, 0o1777, true),
        (0, 0, STRANGER, 0o2775, false),
        (0, 0, 0, 0o777, false),
        (0, STRANGER, 0, 0o755, false),
    ] {
        let (_folder, home) = home();
        give(&home, user);
        chown(&home, Some(of_folder), Some(group)).unwrap();
        fs::set_permissions(&home, Permissions::from_mode(mode)).unwrap();
        let words = format!("{user} {of_folder} {group} {mode:o}");
        let before = files(&home);
        let ran = run_with(&replacing(&[&home.join("mail")], false), &Shout);
        match ran {
            Ok(_) => assert!(is_replaced, "{words}"),
            Err(stopped) => {
                let error = format!("{:#}", anyhow::Error::from(stopped.error));
                assert!(!is_replaced && error.contains("--output"), "{words}: {error}");
                assert_eq!(files(&home), before, "{words}");
            }
        }
    }
}

#[test]
fn where_the_owner_may_make_no_files_nothing_is_changed_and_it_is_said_what_to_do() {
    if !is_root() {
        return;
    }
    let (_folder, home) = home();
    chown(&home, Some(0), Some(STRANGER)).unwrap();
    fs::set_permissions(&home, Permissions::from_mode(0o2775)).unwrap();
    let before = files(&home);
    let error = refused(&home.join("mbox"), false);
    assert!(error.contains("rights of the mail's owner, user 4711") && error.contains("--output"), "{error}");
    assert!(!error.contains("chown"), "{error}");
    assert_eq!(files(&home), before);
}

#[test]
fn a_message_that_is_not_its_maildirs_owners_fails_and_stops_none_of_the_others() {
    if !is_root() {
        return;
    }
    let (_folder, home) = home();
    let input = home.join("mail");
    let messages: Vec<PathBuf> = files(&input).into_keys().map(|file| input.join(file)).collect();
    for (path, mode) in messages[3..].iter().zip([0o644, 0o600]) {
        chown(path, Some(0), Some(0)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let ran = run_with(&replacing(&[&input], false), &Shout).unwrap();
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (50, 2));
    let unchanged = |path: &&PathBuf| {
        let octets = fs::read(path).unwrap_or_default();
        !octets.is_empty() && !octets.windows(7).any(|word| word == b"X-Shout")
    };
    assert_eq!(messages.iter().filter(unchanged).collect::<Vec<_>>(), [&messages[3], &messages[4]]);
}

#[test]
fn no_other_folder_is_gone_on_with_than_the_one_that_roots_run_made_in_anothers() {
    if !is_root() {
        return;
    }
    for (name, format) in [
        ("mail", None),
        ("mbox", Some(Format::Eml)),
        ("mbox", Some(Format::Maildir)),
        ("mail", Some(Format::Mbox(Variant::Mboxrd))),
    ] {
        let (folder, home) = home();
        let input = home.join(name);
        maildir_folder(&home.join("mail/.Sent"), 0);
        let out = home.join("out");
        let output = match format {
            None => Output::Path(out.clone()),
            Some(format) => Output::Converted(out.clone(), format),
        };
        let writing = |resume| Options { output: output.clone(), ..replacing(&[&input], resume) };
        let stopping = Stopping(AtomicBool::new(false));
        let options = Options { jobs: 1, room: 1 << 16, ..writing(false) };
        let stopped = run(&options, &stopping, Report::none(), &stopping.0).unwrap_err();
        assert!(stopped.resumable, "{stopped:?}");
        let (partial, away) = (beside(&out, ".hsmime-partial"), home.join("away"));
        let secrets = folder.path().join("secrets");
        for part in ["", "cur", "new", "tmp"] {
            fs::create_dir_all(secrets.join(part)).unwrap();
            fs::write(secrets.join(part).join("key"), "secret").unwrap();
        }
        let before = files(&secrets);
        fs::rename(&partial, &away).unwrap();
        for what in ["his", "link", "root's"] {
            match what {
                "his" => {
                    fs::create_dir(&partial).unwrap();
                    symlink(secrets.join("cur"), partial.join("cur")).unwrap();
                    give(&partial, OWNER);
                }
                "link" => symlink(&secrets, &partial).unwrap(),
                _ => fs::rename(&secrets, &partial).unwrap(),
            }
            let stopped = run_with(&writing(true), &Shout).err().unwrap();
            let error = format!("{:#}", anyhow::Error::from(stopped.error));
            assert!(error.contains("not the folder that the run began"), "{what}: {error}");
            let of_root = if what == "root's" { &partial } else { &secrets };
            let after = files(of_root);
            assert_eq!(after, before, "{what}");
            match what {
                "his" => fs::remove_dir_all(&partial).unwrap(),
                "link" => fs::remove_file(&partial).unwrap(),
                _ => fs::rename(&partial, &secrets).unwrap(),
            }
        }
        fs::rename(&away, &partial).unwrap();
        run_with(&writing(true), &Shout).unwrap();
        let of = |text: &Vec<u8>| text.windows(7).filter(|word| *word == b"X-Shout").count();
        let shouted: usize = files(&out).values().map(of).sum();
        assert_eq!(shouted, 50, "{format:?}");
    }
}

#[test]
fn what_others_left_beside_mail_in_a_folder_like_tmp_stops_nothing() {
    if !is_root() {
        return;
    }
    for left in [".lock", ".hsmime-journal", ".hsmime-partial", "a folder", "a link"] {
        for user in [0, STRANGER] {
            let (folder, home) = home();
            chown(&home, Some(0), Some(0)).unwrap();
            fs::set_permissions(&home, Permissions::from_mode(0o1777)).unwrap();
            let input = home.join("mbox");
            let path = beside(&input, if left.starts_with('.') { left } else { ".hsmime-partial" });
            let theirs = folder.path().join("theirs");
            match left {
                "a folder" => {
                    fs::create_dir(&path).unwrap();
                    fs::write(&theirs, "x").unwrap();
                    symlink(&theirs, path.join("link")).unwrap();
                }
                "a link" => symlink("one.eml", &path).unwrap(),
                ".lock" => {
                    let mut ended = Command::new("true").spawn().unwrap();
                    ended.wait().unwrap();
                    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
                    fs::write(&path, format!("{}:{host}", ended.id())).unwrap();
                }
                _ => {
                    fs::write(&path, "x").unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                }
            }
            lchown(&path, Some(user), Some(user)).unwrap();
            run_with(&replacing(&[&input], false), &Shout).unwrap();
            let named = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name());
            let named: BTreeSet<_> = named.collect();
            assert_eq!(named, ["mail", "mbox", "one.eml"].map(Into::into).into(), "{left} {user}");
            assert!(left != "a folder" || theirs.exists());
            assert_eq!(fs::metadata(&input).unwrap().uid(), OWNER);
        }
    }
}
