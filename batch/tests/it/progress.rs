//! What people see of a run while it goes on.

use std::fs;

use crate::{
    child::{Pace, command, wait_until},
    support::sample_mbox,
};

#[test]
fn where_there_is_no_terminal_lines_tell_how_far_it_is_and_a_quiet_run_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(3_000)).unwrap();
    let words = |command: &mut std::process::Command| {
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

#[test]
fn a_standard_error_that_nobody_reads_does_not_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), sample_mbox(4_000)).unwrap();
    let (_unread, to) = std::io::pipe().unwrap();
    let mut filling = to.try_clone().unwrap();
    let mut run = command(Pace::Slow, &path("in"), &path("out"));
    let mut child = run.env("BATCH_PROGRESS", "yes").stderr(to).spawn().unwrap();
    wait_until(&mut child, "the output was begun", || path("out.hsmime-partial").exists());
    // Given a pipe that is full,
    std::thread::spawn(move || while std::io::Write::write(&mut filling, &[b'.'; 4096]).is_ok() {});
    // then the run ends all the same.
    let began = std::time::Instant::now();
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break Some(ended);
        }
        if began.elapsed().as_secs() > 60 {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(ended.is_some_and(|ended| ended.success()), "it waits for a reader");
    assert!(path("out").exists());
}
