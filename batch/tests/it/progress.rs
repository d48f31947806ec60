//! What people see of a run while it goes on.

use std::fs;

use crate::{
    child::{Pace, command},
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
