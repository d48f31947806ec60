//! Messages over `--in-memory`: worked on by way of the disk, with what comes out in memory, in little of it.
//!
//! Each test needs a process of its own, as nextest gives it. Long form:
//! `HSMIME_MEBIBYTES=1024 TMPDIR=/var/tmp cargo nextest run --release -p batch bydisk::` with a message of so many MiB.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use batch::{
    agents::{At, Encrypt, Reencrypt, Rekey, Resign, Sign},
    gate::{LIGHT, WEIGHT},
    manifest::check,
    report::Report,
    run::{Options, Output, open_report, run},
    scan::Scan,
    scratch::{LEAST, Scratch, take_peak},
    task::{Altered, Body, Done, Failed, Identity, Task, Work},
};
use serde_json::Value;
use smime::{
    cms::{Keep, Proof},
    testing::fixtures::now,
};

use crate::{
    agents::{agent, decrypt, in_mbox, to, verify},
    disk::Disk,
    folderdata::DATA,
    large::SummedTo,
    resume::{Stopping, journaled, maildir},
    support::{Ran, Shout, Unlucky, options, run_with, sample_mbox},
};

/// Runs a task on an archive, with no more in memory at once than that.
fn run_by(input: &Path, output: &Path, task: &dyn Task, in_memory: usize) -> Ran {
    let options = Options { in_memory, max_message: usize::MAX >> 1, ..options(&[input], output) };
    run_with(&options, task).unwrap()
}

/// The report without what differs from run to run.
fn told(ran: &Ran) -> Vec<Value> {
    let mut lines = ran.report.clone();
    for line in lines.iter_mut().filter_map(Value::as_object_mut) {
        line.retain(|name, _| !["elapsed_ms", "previous", "kind", "archive"].contains(&name.as_str()));
    }
    lines
}

#[test]
fn what_is_too_large_for_memory_becomes_the_same_by_way_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (alice, bob) = (agent(&["alice"]), agent(&["bob"]));
    let (to_bob, to_alice) = (to(&["bob"]), to(&["alice"]));
    // With lines that an mbox quotes, and what is not ASCII, which a signature is not made of.
    let body = ">From here\nto \u{e4} and no further\n".repeat(40_000);
    let plain = in_mbox("From: alice@example.org\nMIME-Version: 1.0\nContent-Length: 9", &body);
    fs::write(path("plain"), &plain).unwrap();
    let sign = Sign { agent: &alice, clock: now };
    let resign = Resign { agent: &alice, at: At::Now, clock: now };
    let encrypt = Encrypt { recipients: &to_bob, clock: now };
    let (keep, proof) = (Keep::None, Proof::Content);
    let rekey = Rekey { agent: &bob, recipients: &to_alice, keep, proof, clock: now };
    let reencrypt = Reencrypt { agent: &bob, recipients: &to_alice, clock: now };
    let (verify, opens, hers) = (verify(&alice), decrypt(&bob), decrypt(&alice));
    let scan = Scan::new(bob.identities(), &[]).unwrap();
    // What goes in, the task, what comes out, whose octets are the same each time, and how much of them at most is on the disk at once.
    let rows: &[(&str, &dyn Task, &str, bool, u64)] = &[
        ("plain", &sign, "signed", false, WEIGHT),
        ("signed", &verify, "verified", true, WEIGHT),
        ("signed", &resign, "resigned", false, WEIGHT),
        ("signed", &encrypt, "closed", false, WEIGHT),
        ("closed", &scan, "scanned", true, WEIGHT),
        ("closed", &opens, "opened", true, WEIGHT),
        ("closed", &rekey, "rekeyed", false, LIGHT),
        ("rekeyed", &hers, "opened-after-rekey", true, WEIGHT),
        ("closed", &reencrypt, "reencrypted", false, WEIGHT),
        ("reencrypted", &hers, "opened-after-reencrypt", true, WEIGHT),
    ];
    for (input, task, name, is_same, weight) in rows {
        let (input, by_disk, in_memory) = (path(input), path(name), path(&format!("{name} in memory")));
        take_peak();
        let expected = run_by(&input, &in_memory, *task, usize::MAX >> 1);
        assert_eq!((expected.totals.failed(), take_peak()), (0, 0), "{name}");
        let ran = run_by(&input, &by_disk, *task, 1_000_000);
        let (octets, peak) = (fs::metadata(&input).unwrap().len(), take_peak() as u64);
        eprintln!("{name}: {} % of its octets on the disk", 100 * peak / octets);
        assert!(peak > octets && peak <= weight * octets, "{name}: {peak} of {octets}");
        if *is_same {
            assert_eq!(told(&ran), told(&expected), "{name}");
            assert!(fs::read(&by_disk).unwrap() == fs::read(&in_memory).unwrap(), "{name}");
        } else {
            let told = |ran: &Ran| ["action", "reason", "key"].map(|name| ran.report[0][name].clone());
            assert_eq!(told(&ran), told(&expected), "{name}");
        }
    }
    let opened = fs::read(path("opened")).unwrap();
    for name in ["opened-after-rekey", "opened-after-reencrypt"] {
        assert!(fs::read(path(name)).unwrap() == opened, "{name}");
    }
    assert!(opened.len() > plain.len());
}

#[test]
fn small_archives_of_all_kinds_become_the_same_where_all_of_it_goes_by_way_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let dated = "From alice@example.org Fri Sep 16 22:26:51 2016\n";
    let mbox = sample_mbox(7);
    fs::write(path("mbox"), &mbox).unwrap();
    fs::write(path("mbox.gz"), {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(&[b"before\n\n", &mbox[..]].concat()).unwrap();
        to.finish().unwrap()
    })
    .unwrap();
    let two = format!("{DATA}{dated}A: 1\n\nx\n{dated}A: 2\n\ny\n\n{dated}A: 3\n\nz");
    fs::write(path("doubtful"), two).unwrap();
    maildir(&path("maildir"), 5);
    fs::create_dir(path("tree")).unwrap();
    fs::write(path("tree/a.eml"), "A: 1\n\nx\n").unwrap();
    fs::write(path("tree/compressed.eml"), b"\x1f\x8b no message").unwrap();
    fs::write(path("one.eml"), "A: 1\n\nx\n").unwrap();
    fs::write(path("two.eml"), &mbox).unwrap();
    fs::copy(path("mbox.gz"), path("one.eml.gz")).unwrap();
    let tasks: [(&str, &dyn Task); 3] = [("copied", &Identity), ("shouted", &Shout), ("unlucky", &Unlucky)];
    for input in ["mbox", "mbox.gz", "doubtful", "maildir", "tree", "one.eml", "two.eml", "one.eml.gz"] {
        for (name, task) in tasks {
            let [by_disk, in_memory] = ["disk", "memory"].map(|how| path(&format!("{name}-{how}-{input}")));
            let ran = run_by(&path(input), &by_disk, task, 0);
            let expected = run_by(&path(input), &in_memory, task, 1 << 20);
            assert_eq!(told(&ran), told(&expected), "{input} {name}");
            assert!(crate::resume::files(&by_disk) == crate::resume::files(&in_memory), "{input} {name}");
        }
    }
}

/// What this process has in memory now, in KiB: of its own, or of files.
fn resident(of: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(of)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_large_message_is_worked_on_in_little_memory_whatever_is_done_with_it() {
    let mebibytes: u64 = std::env::var("HSMIME_MEBIBYTES").ok().map_or(12, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut file = BufWriter::new(File::create(path("plain")).unwrap());
    file.write_all(b"From - \nFrom: alice@example.org\nMIME-Version: 1.0\n\n").unwrap();
    let line = "a line that is the same as all the others\n".repeat(1_000);
    for _ in 0..(mebibytes << 20) / line.len() as u64 {
        file.write_all(line.as_bytes()).unwrap();
    }
    file.write_all(b"\n").unwrap();
    drop(file);
    let (alice, bob) = (agent(&["alice"]), agent(&["bob"]));
    let (to_bob, to_alice) = (to(&["bob"]), to(&["alice"]));
    let (keep, proof) = (Keep::All, Proof::Content);
    let rows: [(&str, &dyn Task, &str); 6] = [
        ("plain", &Sign { agent: &alice, clock: now }, "signed"),
        ("signed", &verify(&alice), "verified"),
        ("signed", &Encrypt { recipients: &to_bob, clock: now }, "closed"),
        ("closed", &Rekey { agent: &bob, recipients: &to_alice, keep, proof, clock: now }, "rekeyed"),
        ("rekeyed", &Scan::new(bob.identities(), &[]).unwrap(), "scanned"),
        ("rekeyed", &decrypt(&bob), "opened"),
    ];
    let before = resident("RssAnon:");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut own, mut mapped) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                (own, mapped) = (own.max(resident("RssAnon:")), mapped.max(resident("RssFile:")));
                thread::sleep(Duration::from_millis(1));
            }
            (own, mapped)
        });
        for (input, task, name) in rows {
            let ran = run_by(&path(input), &path(name), task, LEAST);
            assert_eq!(ran.totals.failed(), 0, "{:?}", ran.report);
        }
        is_over.store(true, Ordering::Relaxed);
        let (own, mapped) = watching.join().unwrap();
        eprintln!("{own} KiB of its own at most, {before} KiB before, {mapped} KiB of files");
        // In memory it is five times the message, or more.
        assert!(own <= before + 16 * 1024, "{own} KiB, {before} KiB before");
    });
    // Its header is not what it was.
    let body = |name: &str| {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path(name)).unwrap());
        while file.by_ref().lines().next().unwrap().unwrap() != "" {}
        let mut summed = SummedTo::default();
        io::copy(&mut file, &mut summed).unwrap();
        summed.finish()
    };
    assert_eq!(body("signed"), body("opened"));
}

/// Puts a field above the message.
struct Mark;

impl Task for Mark {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        let header = [b"X-Mark: yes\r\n", work.message.header()].concat();
        let message = Some(Altered::Edited { header, body: Body::Same });
        Ok(Done { message, ..Done::unchanged("marked") })
    }
}

#[test]
fn the_name_of_a_large_message_that_was_changed_is_held_against_the_report_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("in/cur")).unwrap();
    // More than is read at once to check it.
    let text = [b"Subject: x\n\n".to_vec(), [&[b'x'; 1_000][..], b"\n"].concat().repeat(9_000)].concat();
    assert!(text.len() > 8 << 20);
    fs::write(path("in/cur/1.host,W=1:2,S"), text).unwrap();
    let output = path("out");
    let large = Options { max_message: usize::MAX >> 1, ..options(&[&path("in")], &output) };
    let report = Report::create(&path("report")).unwrap();
    run(&large, &Mark, report, &AtomicBool::new(false)).unwrap();
    let checked = || check(&path("report"), std::slice::from_ref(&output)).unwrap();
    assert_eq!((checked().good, checked().count), (1, 0), "{:?}", checked().problems);
    let name = fs::read_dir(output.join("cur")).unwrap().next().unwrap().unwrap().path();
    let other = name.to_str().unwrap().replace(",W=", ",W=1");
    fs::rename(&name, &other).unwrap();
    assert_eq!(checked().good, 0, "{:?}", checked().problems);
}

#[test]
fn what_the_disk_has_no_room_for_is_copied_and_named_and_can_be_done_when_there_is() {
    let Some(disk) = Disk::small(64 << 20) else { return };
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::create_dir_all(input.join("cur")).unwrap();
    let text = format!("Subject: x\n\n{}", "a line\n".repeat(300_000));
    fs::write(input.join("cur/1.large:2,S"), &text).unwrap();
    fs::write(input.join("cur/2.small:2,S"), "Subject: x\n\ny\n").unwrap();
    disk.resize(16 << 20);
    let ran = run_by(&input, &disk.path().join("out"), &Shout, LEAST);
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (2, 1));
    let line = ran.report.iter().find(|line| line["error"].is_object()).unwrap();
    // There may be room later.
    assert_eq!(line["error"]["fault"], "transient");
    let reason = line["error"]["reason"].as_str().unwrap();
    assert!(reason.contains("takes 21 MiB in ") && reason.contains("where 1"), "{reason}");
    assert_eq!(fs::read_to_string(disk.path().join("out/cur/1.large:2,S")).unwrap(), text);
    disk.resize(64 << 20);
    let ran = run_by(&input, &disk.path().join("again"), &Shout, LEAST);
    assert_eq!(ran.totals.failed(), 0, "{:?}", ran.report);
}

#[test]
fn a_run_goes_on_past_a_message_that_the_disk_has_no_room_for_and_knows_whether_it_is_done() {
    let text = format!("Subject: x\n\n{}", "a line\n".repeat(300_000));
    // Stopped before it was done, and behind it.
    for (after, failed) in [(1, 1), (2, 0)] {
        let Some(disk) = Disk::small(64 << 20) else { return };
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), disk.path().join("out"));
        fs::create_dir(&input).unwrap();
        for (name, text) in [("1", "Subject: x\n\ny\n"), ("2", &text), ("3", "Subject: x\n\nz\n")] {
            fs::write(input.join(name).with_extension("eml"), text).unwrap();
        }
        let options =
            Options { in_memory: LEAST, max_message: usize::MAX >> 1, ..journaled(&input, &output, true) };
        let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
        let task = Stopping { after, stop: &stop, seen: &seen };
        let report =
            || open_report(&folder.path().join("report"), std::slice::from_ref(&input), true).unwrap();
        run(&options, &task, report(), &stop).unwrap_err();
        assert_eq!(seen.load(Ordering::Relaxed), after);
        disk.resize(16 << 20);
        let totals = run(&options, &Shout, report(), &AtomicBool::new(false)).unwrap();
        assert_eq!((totals.messages(), totals.failed()), (3, failed));
        assert_eq!(fs::read_to_string(output.join("2.eml")).unwrap() == text, failed == 1);
    }
}

#[test]
fn a_buffer_keeps_its_octets_wherever_it_goes_and_its_file_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = || {
        let open =
            fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        open.filter(|to| to.starts_with(folder.path()) && to.to_string_lossy().contains("(deleted)")).count()
    };
    let scratch = Scratch::open(&[folder.path().join("none"), folder.path().to_owned()]).unwrap();
    let octet = |at: usize| u8::try_from(at % 251).unwrap();
    let mut buffer = Vec::new();
    let working = scratch.enter();
    // It grows from memory into a file, and then in it.
    buffer.extend((0..5 * LEAST).map(octet));
    assert_eq!(files(), 1);
    let other = vec![0_u8; 2 * LEAST];
    assert_eq!((files(), other.iter().all(|octet| *octet == 0)), (2, true));
    drop(working);
    // Also where this thread works in memory again, and it is another one that gives it back.
    buffer.extend((5 * LEAST..9 * LEAST).map(octet));
    assert_eq!((files(), vec![1_u8; 2 * LEAST].len()), (2, 2 * LEAST));
    let is_right = |buffer: &[u8]| buffer.iter().enumerate().all(|(at, is)| *is == octet(at));
    assert!(is_right(&buffer));
    buffer.truncate(2 * LEAST);
    buffer.shrink_to_fit();
    assert_eq!((files(), is_right(&buffer)), (2, true));
    buffer.truncate(10);
    buffer.shrink_to_fit();
    assert_eq!((files(), is_right(&buffer)), (1, true));
    thread::spawn(move || drop(other)).join().unwrap();
    assert_eq!(files(), 0);
    // More than there can be are memory.
    let _working = scratch.enter();
    let many: Vec<_> = (0..70_u8).map(|number| vec![number; LEAST]).collect();
    assert_eq!(files(), 64);
    assert!(many.iter().zip(0..).all(|(buffer, number)| buffer.iter().all(|octet| *octet == number)));
    drop(many);
    assert_eq!((files(), fs::read_dir(folder.path()).unwrap().count()), (0, 0));
    // Where no folder will do, somebody is told.
    Scratch::open(&[folder.path().join("none")]).unwrap_err();
    // Nor is memory put where somebody else could write into it.
    let refused = Scratch::open(&["/sys".into()]).unwrap_err().to_string();
    assert!(refused.starts_with("/sys: memory is put on ext4,"), "{refused}");
}

#[test]
fn a_run_without_an_output_works_on_large_messages_where_large_files_are() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::write(&input, sample_mbox(3)).unwrap();
    let looks = Options { output: Output::None, in_memory: 0, ..options(&[&input], &input) };
    let ran = run_with(&looks, &Identity).unwrap();
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (3, 0));
}
