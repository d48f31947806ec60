//! What people see of a run while it goes on.

use std::{
    fs,
    io::{PipeReader, PipeWriter, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{OFlags, fcntl_setfl};
use smime::testing::fixtures::data;

use crate::{
    child::{Kill, Pace, command},
    support::sample_mbox,
};

#[test]
fn where_there_is_no_terminal_lines_tell_how_far_it_is_and_a_quiet_run_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(3_000)).unwrap();
    let words = |command: &mut Command| {
        let ran = command.output().unwrap();
        assert!(ran.status.success());
        String::from_utf8(ran.stderr).unwrap()
    };
    let said = words(command(Pace::Slow, &path("in"), &path("out")).env("BATCH_PROGRESS", "yes"));
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(" messages/s, ")).collect();
    assert!(lines.len() > 2, "{said}");
    let messages = lines.iter().map(|line| {
        let (before, _) = line.split_once(" messages, ").unwrap();
        before.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    });
    assert!(messages.is_sorted() && lines.iter().all(|line| line.ends_with("token 50 % busy")), "{said}");
    // An estimate needs to know how much there is, and something that went on.
    let estimated = lines.iter().filter(|line| line.contains(" %, ") && line.contains(" left, "));
    assert!(estimated.count() > 0, "{said}");
    assert_eq!(words(&mut command(Pace::Slow, &path("in"), &path("quiet"))), "");
}

/// Waits for a run whose standard error nobody reads.
fn end(mut child: Child) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed().as_secs() < 60 {
        if let Some(ended) = child.try_wait().unwrap() {
            return Some(ended);
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// A pipe that is full, and what keeps it open.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (unread, to) = std::io::pipe().unwrap();
    let mut filling = to.try_clone().unwrap();
    fcntl_setfl(&filling, OFlags::NONBLOCK).unwrap();
    while filling.write(&[b'.'; 4096]).is_ok() {}
    while filling.write(b".").is_ok() {}
    fcntl_setfl(&filling, OFlags::empty()).unwrap();
    (unread, to)
}

#[test]
fn a_standard_error_that_nobody_reads_does_not_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(2_000)).unwrap();
    // Lines of progress; a failure for each message; a run that is gone on with, and says so.
    for what in ["progress", "failures", "resume"] {
        let output = path(what);
        let pace = if what == "failures" { Pace::Failing } else { Pace::Slow };
        let mut run = command(pace, &path("in"), &output);
        if what == "progress" {
            run.env("BATCH_PROGRESS", "yes");
        }
        if what == "resume" {
            run.env("BATCH_RESUME", path("report"));
            Kill::AtMessage(700).ask(&mut run, Duration::ZERO);
            let killed = run.output().unwrap();
            assert!(killed.status.code().is_none(), "{}", String::from_utf8_lossy(&killed.stderr));
            run.env_remove("BATCH_KILL");
        }
        let (_unread, to) = full_pipe();
        let ended = end(run.stderr(to).spawn().unwrap());
        assert!(ended.is_some_and(|ended| ended.success()), "{what}: it waits for a reader");
        assert!(output.exists(), "{what}");
    }
}

#[test]
fn the_program_itself_ends_as_it_should_where_nobody_reads_its_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(200)).unwrap();
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    fs::write(path("toml"), "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n").unwrap();
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"));
        program.arg("--config").arg(path("toml")).current_dir(folder.path());
        program
    };
    for (arguments, code) in [
        ("verify in --output out --report report", 0),
        ("verify in --output small --max-message 10", 1),
        ("check report out", 0),
        ("verify in --output out", 2),
    ] {
        let (_unread, to) = full_pipe();
        let run = program().args(arguments.split(' ')).stdout(Stdio::null()).stderr(to).spawn();
        let ended = end(run.unwrap());
        assert_eq!(ended.and_then(|ended| ended.code()), Some(code), "{arguments}");
    }
}
