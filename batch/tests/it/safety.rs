//! Whatever happens, the input stays, and nothing incomplete has the name of the output.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
    thread,
    time::Duration,
};

use batch::{
    error::BatchError,
    report::Report,
    run::{Output, open_report, run},
    task::{Done, Failed, Identity, Task, Work},
};

use smime::testing::fixtures::data;

use crate::{
    child::{Pace, command, wait_until},
    disk::does_not_apply,
    support::{Shout, Unlucky, options, run_on, run_with, sample_mbox},
};

const PARTIAL: &str = "out.hsmime-partial";

fn maildir(root: &Path, messages: usize) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    for number in 0..messages {
        fs::write(root.join(format!("cur/{number}.host:2,S")), format!("Subject: {number}\n\nbody\n"))
            .unwrap();
    }
}

#[test]
fn a_killed_run_leaves_no_output_and_the_next_one_is_not_in_its_way() {
    for kind in ["mbox", "maildir"] {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        if kind == "mbox" {
            fs::write(&input, sample_mbox(5_000)).unwrap();
        } else {
            maildir(&input, 3_000);
        }
        let mut child = command(Pace::Slow, &input, &output).spawn().unwrap();
        let partial = folder.path().join(PARTIAL);
        wait_until(&mut child, "a partial output", || partial.exists());
        thread::sleep(Duration::from_millis(100));
        // Another run on the same output sees that one is at work.
        let stopped = run_with(&options(&[&input], &output), &Identity).err().unwrap();
        assert!(format!("{:?}", stopped.error).contains("another run"), "{:?}", stopped.error);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!output.exists() && partial.exists(), "{kind}");
        run_on(&input, &output, &Identity);
        assert!(output.exists() && !partial.exists(), "{kind}");
        if kind == "mbox" {
            assert!(fs::read(&input).unwrap() == sample_mbox(5_000));
            assert!(fs::read(&output).unwrap() == sample_mbox(5_000));
        } else {
            assert_eq!(fs::read_dir(input.join("cur")).unwrap().count(), 3_000);
            assert_eq!(fs::read_dir(output.join("cur")).unwrap().count(), 3_000);
        }
    }
}

/// Asks to stop at the tenth message.
struct Interrupt<'a>(&'a AtomicBool);

impl Task for Interrupt<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        if work.index == 10 {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(1));
        Ok(Done::unchanged("copied"))
    }
}

#[test]
fn an_interrupted_run_finishes_what_is_in_flight_and_names_what_is_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output, report) =
        (folder.path().join("in"), folder.path().join("out"), folder.path().join("report"));
    fs::write(&input, sample_mbox(5_000)).unwrap();
    let stop = AtomicBool::new(false);
    let mut options = options(&[&input], &output);
    options.room = 100_000;
    let stopped = run(&options, &Interrupt(&stop), Report::create(&report).unwrap(), &stop).unwrap_err();
    assert!(matches!(stopped.error, BatchError::Interrupted));
    assert!(!output.exists());
    assert_eq!(stopped.partial, Some(folder.path().canonicalize().unwrap().join(PARTIAL)));
    // What is in flight then is in the report and in the partial output, in order and without a gap.
    let messages = fs::read_to_string(&report).unwrap().lines().count();
    assert!((10..4_000).contains(&messages), "{messages}");
}

#[test]
fn outputs_that_could_harm_anything_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("mbox"), sample_mbox(1)).unwrap();
    fs::write(path("other"), "precious").unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("text"), "some notes\nof mine\n").unwrap();
    maildir(&path("mail"), 1);
    fs::create_dir(path("plain")).unwrap();
    fs::create_dir(path("full")).unwrap();
    fs::create_dir(path("same")).unwrap();
    fs::write(path("full/file"), "precious").unwrap();
    fs::write(path("same/mbox"), sample_mbox(1)).unwrap();
    std::os::unix::fs::symlink(path("mbox"), path("link")).unwrap();
    std::os::unix::fs::symlink(path("mail"), path("mail-link")).unwrap();
    for (inputs, output, text) in [
        (&["mbox"][..], "mbox", "this is the input"),
        (&["mail"], "mail", "this is the input"),
        (&["mbox"], "other", "there is such a file already"),
        (&["mbox"], "link", "neither a file nor a folder"),
        (&["mbox"], "full", "not empty"),
        (&["mail"], "full", "not empty"),
        (&["mail"], "mail/cur/out", "within the input"),
        (&["mail"], "mail-link/out", "within the input"),
        (&["mail", "mbox"], "mail/out", "within the input"),
        (&["mbox"], "none/out", "its folder"),
        (&["mbox", "same/mbox"], "out", "named like another input"),
        (&["text"], "out", "neither an mbox"),
        (&["plain"], "out", "not a Maildir"),
        (&["missing"], "out", "cannot read"),
        (&["mbox", "-"], "out", "cannot be one of several"),
        (&["/dev/null"], "out", "neither a file nor a folder"),
        (&["mail"], "empty", "a Maildir is a folder"),
        (&["-"], "plain", "it is a folder"),
    ] {
        let inputs: Vec<_> =
            inputs.iter().map(|name| if *name == "-" { "-".into() } else { path(name) }).collect();
        let inputs: Vec<&Path> = inputs.iter().map(AsRef::as_ref).collect();
        let before = fs::read_dir(folder.path()).unwrap().count();
        let stopped = run_with(&options(&inputs, &path(output)), &Identity).err().unwrap();
        assert!(stopped.error.to_string().contains(text), "{inputs:?} {output}: {}", stopped.error);
        assert!(stopped.partial.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "{inputs:?} {output}");
    }
    assert_eq!(fs::read(path("other")).unwrap(), b"precious");
    assert_eq!(fs::read(path("mbox")).unwrap(), sample_mbox(1));
}

#[test]
fn empty_files_and_folders_may_be_filled() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("mbox"), sample_mbox(1)).unwrap();
    maildir(&path("mail"), 1);
    fs::write(path("empty"), "").unwrap();
    fs::create_dir(path("into")).unwrap();
    fs::create_dir(path("mail-out")).unwrap();
    run_on(&path("mbox"), &path("empty"), &Identity);
    run_on(&path("mbox"), &path("into"), &Identity);
    run_on(&path("mail"), &path("mail-out"), &Identity);
    assert_eq!(fs::read(path("empty")).unwrap(), sample_mbox(1));
    assert_eq!(fs::read(path("into/mbox")).unwrap(), sample_mbox(1));
    assert!(path("mail-out/cur/0.host:2,S").is_file());
}

#[test]
fn a_report_is_never_written_over_anything_or_into_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("mbox"), sample_mbox(1)).unwrap();
    maildir(&path("mail"), 1);
    assert!(open_report(&path("mbox"), &[path("mbox")], false).is_err());
    assert!(open_report(&path("mail/report"), &[path("mail")], false).is_err());
    assert!(open_report(&path("report"), &[path("mbox")], false).is_ok());
    assert_eq!(fs::read(path("mbox")).unwrap(), sample_mbox(1));
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(3)).unwrap();
    fs::write(path("cut.gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03cut off").unwrap();
    fs::write(path("there"), "precious").unwrap();
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    fs::write(path("toml"), "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n").unwrap();
    let before = fs::read_dir(folder.path()).unwrap().count();
    for (arguments, said) in [
        ("verify in --output new --report there", "it is there already; name another"),
        ("verify in --output new --report new", "that is an output"),
        ("verify in --output new --report new.hsmime-partial", "that is an output"),
        ("verify in --output new --report none/report", "cannot write the report"),
        ("verify in --output there --report report", "there is such a file already"),
        ("verify in --output new --report report --html none/page", "cannot write the summary"),
        ("verify in ./in --output new --report report", "named like another input"),
        ("verify cut.gz --output new --report report --html page", "cut.gz"),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"));
        program.current_dir(folder.path()).args(["--config", "toml"]).args(arguments.split(' '));
        let ended = program.output().unwrap();
        let words = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {words}");
        assert!(words.contains(said) && !words.contains("--resume:"), "{arguments}: {words}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "{arguments}: {words}");
    }
}

#[test]
fn a_summary_for_people_is_a_new_file_that_is_written_when_all_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let hostile = "From a@b Fri Sep 16 22:26:51 2016\nMessage-ID: <script>alert(1)</script>\n\
         From: \"<script>\" <\"<script>\"@example.org>\nSubject: <script>alert(2)</script>\n\
         Date: Fri, 16 Sep 2016 22:26:51 +0000\n\nx\n\n";
    let mbox = [sample_mbox(38), hostile.repeat(2).into_bytes()].concat();
    fs::write(path("in"), &mbox).unwrap();
    maildir(&path("mail"), 1);
    let with = |input: &str, output: &str, html: &str| {
        let options = options(&[&path(input)], &path(output));
        run_with(&batch::run::Options { html: Some(path(html)), ..options }, &Unlucky)
    };
    with("in", "out", "page.html").unwrap();
    let page = fs::read_to_string(path("page.html")).unwrap();
    assert!(page.contains("40 messages, 27 failed") && page.contains("it does not please"), "{page}");
    assert!(
        page.contains("<td>&lt;script&gt;alert(1)&lt;/script&gt;<td>") && !page.contains("<script"),
        "{page}"
    );
    assert!(!page.contains("alert(2)"), "the summary tells subjects");
    assert!(page.ends_with("</html>\n"));
    for html in ["page.html", "in", "mail/page.html", "nowhere/page.html", "other", "other/page.html"] {
        assert!(with("mail", "other", html).is_err(), "{html}");
        assert!(!path("other").exists(), "{html}");
    }
    assert_eq!(fs::read_to_string(path("page.html")).unwrap(), page);
    assert_eq!(fs::read(path("in")).unwrap(), mbox);
    // Neither is it the report.
    let report = Report::create(&path("report")).unwrap();
    let options =
        batch::run::Options { html: Some(path("report")), ..options(&[&path("in")], &path("other")) };
    let refused = run(&options, &Shout, report, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(refused.error, BatchError::Summary { .. }), "{:?}", refused.error);
}

/// A file system of one megabyte, where this may be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,nr_inodes=400", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        does_not_apply("no small file system can be mounted");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_disk_is_a_clean_error_that_names_the_file() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mbox, mail) = (folder.path().join("in"), folder.path().join("mail"));
    fs::write(&mbox, sample_mbox(20_000)).unwrap();
    maildir(&mail, 1_000);
    for input in [mbox, mail] {
        let output = disk.0.path().join("out");
        let stopped = run_with(&options(&[&input], &output), &Identity).err().unwrap();
        let BatchError::Write { path, source } = &stopped.error else { panic!("{:?}", stopped.error) };
        assert!(path.to_string_lossy().contains(PARTIAL), "{}", path.display());
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        assert!(!output.exists() && stopped.partial.is_some());
    }
}

#[test]
fn a_full_standard_output_and_a_full_report_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::write(&input, sample_mbox(2_000)).unwrap();
    let report = Report::create(Path::new("/dev/full")).unwrap();
    let stopped =
        run(&options(&[&input], &folder.path().join("out")), &Identity, report, &AtomicBool::new(false));
    assert!(matches!(stopped.unwrap_err().error, BatchError::Report { .. }));
}

#[test]
fn a_file_that_may_not_be_read_or_written_is_named() {
    if !rustix_is_root() {
        does_not_apply("only root can become somebody who may not");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (mail, mbox) = (folder.path().join("mail"), folder.path().join("mbox"));
    maildir(&mail, 3);
    fs::write(&mbox, sample_mbox(1)).unwrap();
    let secret = mail.join("cur/1.host:2,S");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    for (input, output, named) in
        [(&mail, open.join("out"), "1.host:2,S"), (&mbox, folder.path().join("out"), "out.hsmime-partial")]
    {
        let ran = command(Pace::Fast, input, &output).uid(65534).gid(65534).output().unwrap();
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        if text.is_empty() && !ran.status.success() {
            does_not_apply("nobody else can start this program");
            return;
        }
        assert!(!ran.status.success() && text.contains(named) && text.contains("denied"), "{text}");
        assert!(!output.exists());
    }
}

fn rustix_is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

#[test]
fn an_unwritten_output_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::write(&input, sample_mbox(1)).unwrap();
    let options = batch::run::Options { output: Output::Stdout, ..options(&[&input], Path::new("")) };
    let stopped = run_with(&options, &Identity).err().unwrap();
    assert!(stopped.error.to_string().contains("standard output"));
}
