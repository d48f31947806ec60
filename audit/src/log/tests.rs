//! Tests of an audit over restarts, full files, crashes and a full disk.

use std::{
    env,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
};

use super::*;
use crate::{
    Found,
    check::{check, check_all, sequences},
    rotated,
    writer::numbers,
};

#[derive(Serialize)]
struct Use {
    operation: &'static str,
    subject: &'static str,
}

const USE: Use = Use { operation: "sign", subject: "\"CN=ä\"\n" };

fn open(path: &Path) -> AuditLog {
    AuditLog::open(&AuditFile::at(path), Duration::ZERO).unwrap()
}

fn record(log: &AuditLog) -> io::Result<()> {
    log.record(&USE, Owe::Always)
}

fn events(path: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let parsed = text.lines().map(serde_json::from_str::<serde_json::Value>);
    parsed.map(|line| line.map_or("half".into(), |line| line["event"].as_str().unwrap().to_owned())).collect()
}

/// Puts a file that cannot be written to in the place of the one that is open.
fn fill_disk(log: &AuditLog) -> File {
    let state = &mut *log.lock();
    state.writer.replace_file(File::options().write(true).open("/dev/full").unwrap())
}

fn empty_disk(log: &AuditLog, file: File) {
    let state = &mut *log.lock();
    state.writer.replace_file(file);
    state.failed = state.failed.map(|_| Instant::now().checked_sub(RETRY).unwrap());
}

#[test]
fn numbers_go_on_over_restarts_and_a_torn_line_is_kept_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = open(&path);
    record(&log).unwrap();
    record(&log).unwrap();
    drop(log);
    let whole = fs::read(&path).unwrap();
    let line = whole.split_inclusive(|octet| *octet == b'\n').next_back().unwrap();
    for missing in 1..line.len() {
        let torn = &whole[..whole.len() - missing];
        fs::write(&path, torn).unwrap();
        drop(open(&path));
        assert!(fs::read(&path).unwrap().starts_with(torn), "{missing}: what was there is there");
        let expected: &[&str] = if missing == 1 {
            &["opened", "use", "use", "opened"]
        } else {
            &["opened", "use", "half", "torn", "opened"]
        };
        assert_eq!(events(&path), expected, "{missing} octets are missing");
        assert_eq!(numbers(&path), [1, 2, 3, 4], "{missing} octets are missing");
        let found = check(std::slice::from_ref(&path)).unwrap().remove(0).found;
        let torn = u64::from(missing > 1);
        assert_eq!(found, Found::Whole { lines: 4, first: 1, last: 4, torn });
        // A crash before it was told: it is told by the next.
        if missing > 1 {
            let told = fs::read(&path).unwrap();
            let end = torn_end(&told);
            fs::write(&path, &told[..end]).unwrap();
            drop(open(&path));
            assert_eq!(events(&path), ["opened", "use", "half", "torn", "opened"]);
        }
    }
    fs::write(&path, &whole).unwrap();
    record(&open(&path)).unwrap();
    assert_eq!(numbers(&path), [1, 2, 3, 4, 5]);
}

/// The end of the third line.
fn torn_end(text: &[u8]) -> usize {
    text.split_inclusive(|octet| *octet == b'\n').take(3).map(<[u8]>::len).sum()
}

#[test]
fn a_file_that_was_moved_away_is_gone_on_with_in_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = open(&path);
    fs::rename(&path, directory.path().join("old")).unwrap();
    record(&log).unwrap();
    log.reopen(&AuditFile::at(&path)).unwrap();
    record(&log).unwrap();
    assert_eq!(numbers(&directory.path().join("old")), [1, 2]);
    assert_eq!(numbers(&path), [3, 4]);
    drop(log);
    drop(open(&path));
    assert_eq!(numbers(&path), [3, 4, 5]);
}

#[test]
fn a_file_that_was_moved_away_is_gone_on_with_whatever_links_lead_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let [disk, folder] = ["disk", "folder"].map(|name| directory.path().join(name));
    fs::create_dir(&disk).unwrap();
    std::os::unix::fs::symlink(&disk, &folder).unwrap();
    std::os::unix::fs::symlink("folder/of-link", directory.path().join("link")).unwrap();
    for (name, file) in [("folder/audit", "audit"), ("link", "of-link")] {
        let (path, file) = (directory.path().join(name), disk.join(file));
        let log = open(&path);
        for round in 1..4 {
            let old = disk.join(format!("old{round}"));
            fs::rename(&file, &old).unwrap();
            // logrotate may make the file anew.
            if round == 2 {
                fs::write(&file, "").unwrap();
            }
            log.reopen(&AuditFile::at(&path)).unwrap();
            assert_eq!((numbers(&old), numbers(&file)), (vec![round], vec![round + 1]), "{name}");
        }
        // By no other name either there is a second writer.
        for other in [&path, &file] {
            assert!(AuditLog::open(&AuditFile::at(other), Duration::ZERO).is_err());
        }
    }
}

#[test]
fn zeros_that_a_power_cut_left_are_told_and_gone_on_after() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    drop(open(&path));
    for (round, zeros) in [1, 5000, 300_000].into_iter().enumerate() {
        File::options().append(true).open(&path).unwrap().write_all(&vec![0; zeros]).unwrap();
        drop(open(&path));
        let found = check(std::slice::from_ref(&path)).unwrap().remove(0).found;
        let torn = u64::try_from(round).unwrap() + 1;
        let lines = 1 + 2 * torn;
        assert_eq!(found, Found::Whole { lines, first: 1, last: lines, torn }, "{zeros}");
    }
}

/// A socket that nobody reads stands for the disk.
#[test]
fn a_disk_that_hangs_holds_the_one_who_writes_and_no_line_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = AuditLog { patience: Duration::from_millis(300), ..open(&path) };
    let (mut disk, mut full) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.write(&[0; 4096]).is_ok() {}
    while full.write(&[0]).is_ok() {}
    full.set_nonblocking(false).unwrap();
    let file = log.lock().writer.replace_file(File::from(OwnedFd::from(full)));
    thread::scope(|scope| {
        let held = scope.spawn(|| record(&log));
        while log.turn.lock().unwrap().taken.is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        let others: Vec<_> = (0..4).map(|_| scope.spawn(|| record(&log))).collect();
        for other in others {
            assert_eq!(other.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        // Whoever comes later does not wait any more.
        let begun = Instant::now();
        for _ in 0..200 {
            log.is_writable().unwrap_err();
        }
        assert!(begun.elapsed() < 100 * log.patience);
        log.reopen(&AuditFile::at(&path)).unwrap_err();
        assert!(!held.is_finished());
        disk.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        while !held.is_finished() {
            let _ = disk.read(&mut [0; 4096]);
        }
        held.join().unwrap().unwrap();
    });
    log.lock().writer.replace_file(file);
    log.is_writable().unwrap();
    assert_eq!(numbers(&path), [1, 3, 4, 5, 6]);
}

#[test]
fn what_is_owed_is_written_before_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = open(&path);
    let file = fill_disk(&log);
    log.is_writable().unwrap();
    record(&log).unwrap_err();
    log.is_writable().unwrap_err();
    let failed = log.lock().failed;
    record(&log).unwrap_err();
    assert_eq!(log.lock().failed, failed, "the next try is put off");
    assert_eq!(numbers(&path), [1]);
    empty_disk(&log, file);
    log.is_writable().unwrap();
    assert_eq!(numbers(&path), [1, 2, 3]);
    record(&log).unwrap();
    assert_eq!(numbers(&path), [1, 2, 3, 4]);
}

#[test]
fn nothing_is_written_after_half_a_line_before_that_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = open(&path);
    let file = fill_disk(&log);
    record(&log).unwrap_err();
    // As if the disk had been full in the middle of the line.
    File::options().append(true).open(&path).unwrap().write_all(b"{\"seq\":2,\"ti").unwrap();
    empty_disk(&log, file);
    record(&log).unwrap();
    assert_eq!(numbers(&path), [1, 2, 3]);
    assert_eq!(events(&path), ["opened", "use", "use"]);
}

#[test]
fn a_file_has_one_writer_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let link = directory.path().join("link");
    let log = open(&path);
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for name in [&path, &link] {
        let error = AuditLog::open(&AuditFile::at(name), Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "another process writes to it");
    }
    log.reopen(&AuditFile::at(&path)).unwrap();
    assert!(AuditLog::open(&AuditFile::at(&path), Duration::ZERO).is_err());
    let other = path.clone();
    let next = thread::spawn(move || AuditLog::open(&AuditFile::at(other), Duration::from_secs(30)).unwrap());
    record(&log).unwrap();
    drop(log);
    drop(next.join().unwrap());
    assert_eq!(numbers(&path), [1, 2, 3, 4]);
}

#[test]
fn what_is_not_an_audit_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes");
    for text in ["dear diary\n", "dear diary"] {
        fs::write(&path, text).unwrap();
        assert!(AuditLog::open(&AuditFile::at(&path), Duration::ZERO).is_err());
        assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
    }
    assert!(AuditLog::open(&AuditFile::at("/dev/full"), Duration::ZERO).is_err());
}

#[derive(Serialize)]
struct Long {
    text: String,
    numbers: Vec<u8>,
}

#[test]
fn facts_that_are_too_long_for_a_line_leave_one_and_the_next_use_is_written_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = open(&path);
    log.record(&Long { text: "x".repeat(40_000), numbers: Vec::new() }, Owe::Always).unwrap();
    log.is_writable().unwrap();
    log.record(&Long { text: String::new(), numbers: vec![255; 40_000] }, Owe::Always).unwrap();
    log.is_writable().unwrap();
    record(&log).unwrap();
    assert_eq!(numbers(&path), [1, 2, 3, 4]);
    assert_eq!(events(&path), ["opened", "use", "use", "use"]);
}

#[test]
fn an_audit_is_as_large_as_it_may_be_and_loses_its_oldest_lines_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let to = AuditFile { path: path.clone(), max_bytes: 1000, files: 3 };
    let log = AuditLog::open(&to, Duration::ZERO).unwrap();
    for _ in 0..200 {
        record(&log).unwrap();
    }
    let all = rotated::all(&path).unwrap();
    assert_eq!(all.len(), 3);
    for file in all.iter().map(|(_, file)| file).chain([&path]) {
        assert!(fs::metadata(file).unwrap().len() <= 1000);
    }
    for (last, file) in &all {
        assert_eq!(numbers(file).last(), Some(last));
    }
    let [(_, files)] = &sequences(&[path.clone(), all[1].1.clone()]).unwrap()[..] else { panic!() };
    let found = check_all(files).unwrap();
    let Found::Whole { lines, first, last: 201, torn: 0 } = found else { panic!("{found}") };
    assert!(lines > 20 && first == 202 - lines, "{found}");
    // One that is missing in the middle is missed.
    fs::remove_file(&all[1].1).unwrap();
    let [(_, files)] = &sequences(&[path]).unwrap()[..] else { panic!() };
    assert!(matches!(check_all(files).unwrap(), Found::Wrong { .. }));
}

#[test]
fn a_file_that_cannot_be_put_aside_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let to = AuditFile { path: path.clone(), max_bytes: 1, files: 3 };
    let log = AuditLog::open(&to, Duration::ZERO).unwrap();
    // Neither of them can be replaced by a file.
    fs::create_dir(rotated::name(&path, 1)).unwrap();
    record(&log).unwrap();
    assert_eq!(numbers(&path), [1, 2]);
    fs::create_dir(rotated::next(&path)).unwrap();
    record(&log).unwrap();
    assert_eq!(numbers(&path), [1, 2, 3]);
    fs::remove_dir(rotated::next(&path)).unwrap();
    record(&log).unwrap();
    assert_eq!((numbers(&rotated::name(&path, 3)), numbers(&path)), (vec![1, 2, 3], vec![4]));
}

#[test]
fn numbers_go_on_where_a_crash_came_between_two_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = open(&path);
    record(&log).unwrap();
    drop(log);
    let whole = fs::read(&path).unwrap();
    fs::rename(&path, rotated::name(&path, 2)).unwrap();
    fs::write(rotated::next(&path), "").unwrap();
    drop(open(&path));
    assert_eq!(numbers(&path), [3]);
    // A copy of old lines put back would be numbered twice.
    fs::write(&path, whole).unwrap();
    assert!(AuditLog::open(&AuditFile::at(&path), Duration::ZERO).is_err());
}

const KILLED: &str = "AUDIT_TEST_WRITES_TO";

/// Not a test by itself: a process that writes until it is killed.
#[test]
#[ignore = "it is the child of another test, and ends only by being killed"]
fn writes_until_it_is_killed() {
    let path = env::var_os(KILLED).unwrap();
    let to = AuditFile { path: path.into(), max_bytes: 2000, files: 1000 };
    let log = AuditLog::open(&to, Duration::from_secs(30)).unwrap();
    loop {
        record(&log).unwrap();
    }
}

#[test]
fn no_number_is_missing_over_many_files_and_kills() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    for round in 0..12 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "log::tests::writes_until_it_is_killed", "--ignored"])
            .env(KILLED, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let more = rotated::all(&path).unwrap().len() + 4 + round % 3;
        let begun = Instant::now();
        while rotated::all(&path).unwrap().len() < more {
            assert!(begun.elapsed() < Duration::from_mins(1) && child.try_wait().unwrap().is_none());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    drop(open(&path));
    let [(_, files)] = &sequences(&[path]).unwrap()[..] else { panic!() };
    assert!(files.len() > 20, "{}", files.len());
    let found = check_all(files).unwrap();
    assert!(matches!(found, Found::Whole { first: 1, .. }), "{found}");
}
