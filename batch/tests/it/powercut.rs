//! Power cuts: what a run that reported success has written is there afterwards, and a run that was cut off goes on.
//!
//! `HSMIME_CUTS=100 cargo nextest run -p batch power` cuts so often in the middle of runs; a few times otherwise.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use batch::manifest::check;

use crate::{
    child::{Pace, command, in_place},
    disk::{Disk, Reached},
    resume::{chance, files, maildir, maildir_folder},
    support::sample_mbox,
};

/// Archives, and whether they are replaced.
pub(crate) const KINDS: [(&str, bool); 4] =
    [("mbox", false), ("mail", false), ("mbox", true), ("mail", true)];

fn make(kind: &str, at: &Path, messages: usize) {
    if kind == "mbox" {
        return fs::write(at, sample_mbox(messages)).unwrap();
    }
    maildir(at, messages / 2);
    // Some that are long enough to go past the page cache, with an end that is not on a block.
    for number in [7, 100] {
        let text = format!("Subject: {number}\n\nbody\n");
        let path = at.join("cur").join(format!("{number}.host,S={}:2,S", text.len()));
        assert!(path.exists());
        fs::write(path, text + &"body\n".repeat(300_000)).unwrap();
    }
}

/// A run whose files are all on the same disk.
fn running(input: &Path, output: &Path, replaces: bool) -> Command {
    let mut running =
        if replaces { in_place(Pace::Shouting, input) } else { command(Pace::Shouting, input, output) };
    running.env("BATCH_RESUME", output.with_extension("report"));
    running
}

#[test]
fn no_message_of_a_run_that_reported_success_is_lost_by_a_power_cut() {
    for (kind, replaces) in KINDS {
        for reached in [Reached::Nothing, Reached::Names] {
            let case = format!("{kind}, in place: {replaces}, {reached:?} reached the disk");
            let Some(mut disk) = Disk::ext4(64 << 20) else { return };
            let input = disk.path().join(kind);
            let output = if replaces { input.clone() } else { disk.path().join("out") };
            make(kind, &input, 300);
            disk.sync();
            let switch = disk.switch();
            let ran = running(&input, &output, replaces).output().unwrap();
            assert!(ran.status.success(), "{case}: {}", String::from_utf8_lossy(&ran.stderr));
            let written = files(&output);
            let canary = disk.path().join("canary");
            fs::write(&canary, "nobody waits for this").unwrap();

            switch.cut(reached);
            disk.power_on();

            // What nobody waited for is lost, so this was a power cut.
            assert_eq!(fs::read(&canary).unwrap_or_default(), b"", "{case}");
            assert!(files(&output) == written, "{case}: messages are lost");
            let checked = check(&output.with_extension("report"), &[output]).unwrap();
            assert_eq!((checked.good, checked.count), (300, 0), "{case}: {:?}", checked.problems);
        }
    }
}

#[test]
fn no_message_that_was_replaced_in_a_folder_on_another_disk_is_lost_by_a_power_cut() {
    let Some(mut disk) = Disk::ext4(64 << 20) else { return };
    // Given a Maildir of which one folder is a file system of its own,
    let mounted = disk.path();
    let root = mounted.parent().unwrap();
    maildir_folder(root, 20);
    maildir_folder(&mounted, 200);
    let long = mounted.join("cur/7.host,S=17:2,S");
    assert!(long.exists());
    fs::write(long, "Subject: 7\n\n".to_owned() + &"body\n".repeat(300_000)).unwrap();
    disk.sync();
    let switch = disk.switch();
    let beside = tempfile::tempdir().unwrap();
    let output = beside.path().join("out");
    let ran = running(root, &output, true).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let written = files(&mounted);
    assert!(written.values().filter(|text| text.starts_with(b"X-Shout")).count() == 200);
    // when the power of that disk is cut,
    switch.cut(Reached::Names);
    disk.power_on();
    // then it has what was written.
    assert!(files(&mounted) == written, "messages are lost");
}

#[test]
fn a_run_that_a_power_cut_ends_goes_on_and_ends_like_an_uninterrupted_one() {
    let cuts = std::env::var("HSMIME_CUTS").ok().map_or(1, |cuts| cuts.parse().unwrap());
    let (mut state, messages) = (3, 600);
    for (kind, replaces) in KINDS {
        let Some(whole) = Disk::ext4(64 << 20) else { return };
        let at =
            |disk: &Disk| (disk.path().join(kind), disk.path().join(if replaces { kind } else { "out" }));
        let (input, output) = at(&whole);
        make(kind, &input, messages);
        let before = files(&input);
        assert!(running(&input, &output, replaces).status().unwrap().success());
        let expected = files(&output);
        for number in 0..cuts {
            let Some(mut disk) = Disk::ext4(64 << 20) else { return };
            let (input, output) = at(&disk);
            make(kind, &input, messages);
            disk.sync();
            let mut cut = 0;
            let case = loop {
                let switch = disk.switch();
                let mut child = running(&input, &output, replaces).spawn().unwrap();
                thread::sleep(Duration::from_micros(20_000 + chance(&mut state) % 250_000));
                let reached =
                    if chance(&mut state).is_multiple_of(2) { Reached::Names } else { Reached::Nothing };
                let case = format!("{kind}, in place: {replaces}, cut {number}.{cut}, {reached:?}");
                if child.try_wait().unwrap().is_some_and(|ended| ended.success()) {
                    break case;
                }
                switch.cut(reached);
                // It may be in the middle of anything, or see errors now.
                child.kill().unwrap();
                child.wait().unwrap();
                disk.power_on();
                cut += 1;
                let there = files(&input);
                if !replaces {
                    assert!(there == before, "{case}: the input has changed");
                } else if kind == "mbox" {
                    assert!(there == before || there == expected, "{case}: it is neither old nor new");
                } else {
                    let is_new = |old: &Path| {
                        expected.iter().any(|(new, octets)| is_of(new, old) && there.get(new) == Some(octets))
                    };
                    let is_there = |(path, octets): (&PathBuf, &Vec<u8>)| {
                        there.get(path) == Some(octets) || is_new(path)
                    };
                    assert!(before.iter().all(is_there), "{case}: messages are lost");
                }
                if cut > 3 {
                    let ran = running(&input, &output, replaces).output().unwrap();
                    let words = String::from_utf8_lossy(&ran.stderr).into_owned();
                    // It was done, and only had to end.
                    let is_done =
                        words.contains("already exists") && !output.with_extension("hsmime-journal").exists();
                    assert!(ran.status.success() || is_done, "{case}: {words}");
                    break case;
                }
            };
            assert!(files(&output) == expected, "{case}: the outputs differ");
            let checked = check(&output.with_extension("report"), &[output]).unwrap();
            assert_eq!(checked.count, 0, "{case}: {:?}", checked.problems);
        }
    }
}

/// Whether a file of a Maildir is the successor of another: numbers and folders are the same.
fn is_of(new: &Path, old: &Path) -> bool {
    let number = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (path.parent().unwrap().to_owned(), name.split('.').next().unwrap().to_owned())
    };
    number(new) == number(old)
}
