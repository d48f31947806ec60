//! What is put aside: each copy once, the newest of them, and nothing in part.

use super::super::sender::Wait;
use super::*;

fn names_in(folder: &Path) -> Vec<String> {
    let found = set::files(&folder.join("failed")).unwrap();
    let mut names: Vec<_> =
        found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Puts a copy aside, so many hours ago.
fn put(aside: &Aside, number: u64, hours: u64, octets: &[u8]) -> PathBuf {
    let copy = PathBuf::from(format!("ab-{number:x}-0.ready/1"));
    let entry = Entry::plain(String::new(), vec!["b@example.net".to_owned()]);
    let path = aside.put(&copy, entry, octets, SystemTime::now()).unwrap();
    let at = SystemTime::now() - Duration::from_hours(hours);
    File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    path
}

#[test]
fn what_is_put_aside_is_bounded_in_number_age_and_octets_and_the_last_is_always_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut aside = Aside::of(folder.path());
    let old = put(&aside, 1, 31 * 24, b"");
    let young = put(&aside, 2, 29 * 24, b"");
    put(&aside, 3, 1, b"");
    assert!(!old.exists() && young.exists());
    // By itself, too: nothing else may ever be put aside. Not at a start, when the clock may be wrong.
    let due = put(&aside, 7, 31 * 24, b"");
    aside.recover();
    assert!(due.exists());
    aside.forget_due(SystemTime::now());
    assert!(!due.exists() && young.exists());
    aside.limits.copies = 2;
    let next = put(&aside, 4, 0, b"");
    assert!(!young.exists() && next.exists());
    assert_eq!(put_aside(folder.path()).unwrap(), 2);
    (aside.limits.copies, aside.limits.octets) = (1000, 300);
    let half = put(&aside, 5, 0, &[b'x'; 150]);
    assert!(half.exists() && put_aside(folder.path()).unwrap() < 3);
    let large = put(&aside, 6, 0, &[b'x'; 400]);
    assert_eq!(names_in(folder.path()), [large.file_name().unwrap().to_str().unwrap()]);
}

/// At a start, when the clock may be wrong, all that waits is sent: the first that is refused must take no other with it.
#[test]
fn nothing_is_removed_for_its_age_in_the_first_hour_of_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let old = put(&Aside::of(folder.path()), 1, 31 * 24, b"");
    let mut aside = Aside::since(folder.path(), Instant::now());
    let next = put(&aside, 2, 1, b"");
    aside.forget_due(SystemTime::now());
    assert!(old.exists() && next.exists());
    // As many as may be there stay bounded.
    aside.limits.copies = 2;
    put(&aside, 3, 0, b"");
    assert!(!old.exists() && next.exists());
    let old = put(&aside, 4, 31 * 24, b"");
    let hour_ago = Instant::now().checked_sub(Duration::from_hours(1)).unwrap();
    Aside::since(folder.path(), hour_ago).forget_due(SystemTime::now());
    assert!(!old.exists());
    // A spool that was opened now is such a process.
    let old = put(&aside, 5, 31 * 24, b"");
    open(folder.path(), nobody()).unwrap().shared.aside().forget_due(SystemTime::now());
    assert!(old.exists());
}

#[test]
fn a_copy_is_put_aside_once_for_all_who_are_refused_however_often_it_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let aside = Aside::of(folder.path());
    let copy = Path::new("ab-1-0.ready/1");
    for (recipients, all) in [("b c", "b c"), ("b c", "b c"), ("c d", "b c d")] {
        let of = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let path =
            aside.put(copy, Entry::plain(String::new(), of(recipients)), b"x", SystemTime::now()).unwrap();
        let (entry, message) = Entry::read(&path).unwrap();
        assert_eq!((entry.recipients, &message[..]), (of(all), &b"x"[..]));
    }
    // Another copy of the same set, and one of the same message by a process that began to count anew.
    for other in ["ab-1-0.ready/2", "ab-2-0.ready/1"] {
        aside
            .put(Path::new(other), Entry::plain(String::new(), Vec::new()), b"x", SystemTime::now())
            .unwrap();
    }
    assert_eq!(names_in(folder.path()), ["ab-1-0-1", "ab-1-0-2", "ab-2-0-1"]);
}

#[test]
fn what_cannot_be_written_stays_in_the_spool_and_nothing_is_removed_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let _arrived = server_that(listener, |line| match line {
        "EHLO mx.example.org" => Some("250-here\r\n250-8BITMIME\r\n250 DSN"),
        line => (line == ".").then_some("554 5.6.0 not that"),
    });
    let spool = open(folder.path(), nobody()).unwrap();
    let mut aside = Aside::of(folder.path());
    aside.limits.copies = 1;
    let before = put(&aside, 1, 1, b"");
    let tried = Copy { returned: Returned::HeadersOnly, ..copy() };
    written(&spool, &spool.identify(&envelope(), &message()), vec![tried]).unwrap().commit().unwrap();
    let path = spool.shared.sets.ready().unwrap().remove(0);
    // Where it would go there is a folder.
    let set = path.parent().unwrap().file_stem().unwrap().to_str().unwrap();
    let place = folder.path().join("failed").join(format!("{set}-0"));
    fs::create_dir(&place).unwrap();
    for _ in 0..3 {
        let Err(Wait::Copy(why)) = sender_of(&spool, port).send(&path, SystemTime::now()) else { panic!() };
        assert!(why.contains("cannot be put aside"), "{why}");
        assert!(path.exists() && before.exists() && spool.shared.sets.waiting() == 1);
        let mut names = ["ab-1-0-1".to_owned(), format!("{set}-0")];
        names.sort();
        assert_eq!(names_in(folder.path()), names);
    }
    fs::remove_dir(&place).unwrap();
    assert!(sender_of(&spool, port).send(&path, SystemTime::now()).is_ok());
    assert!(place.is_file() && !path.exists() && spool.shared.sets.waiting() == 0);
}

#[test]
fn what_a_crash_left_of_one_is_not_counted_and_goes_with_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("failed")).unwrap();
    let part = folder.path().join("failed/ab-1-0-1.tmp");
    fs::write(&part, "hsmime copy 1").unwrap();
    assert_eq!(put_aside(folder.path()).unwrap(), 0);
    drop(open(folder.path(), nobody()).unwrap());
    assert!(!part.exists());
}

#[test]
fn what_an_administrator_makes_of_the_folder_keeps_no_milter_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let failed = folder.path().join("failed");
    fs::create_dir_all(failed.join("read")).unwrap();
    fs::create_dir(failed.join("read.tmp")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", failed.join("link")).unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(31 * 24);
    File::open(failed.join("read")).unwrap().set_modified(long_ago).unwrap();
    drop(open(folder.path(), nobody()).unwrap());
    assert_eq!(put_aside(folder.path()).unwrap(), 0);
    assert_eq!(Aside::of(folder.path()).kept().unwrap(), []);
    assert_eq!(names_in(folder.path()), ["link", "read", "read.tmp"]);
    // Neither does what cannot be read: root reads everything, but no file as a folder.
    fs::remove_dir_all(&failed).unwrap();
    fs::write(&failed, "").unwrap();
    drop(open(folder.path(), nobody()).unwrap());
}

#[test]
fn of_what_cannot_be_sent_again_the_log_tells_once_while_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let path = folder.path().join("again/folder");
    let mut told = again::Told::default();
    fs::create_dir(&path).unwrap();
    for _ in 0..2 {
        again::take_up(&spool.shared, &mut told);
        assert!(!told.is_new(&path));
    }
    fs::remove_dir(&path).unwrap();
    again::take_up(&spool.shared, &mut told);
    assert!(told.is_new(&path));
}

#[test]
fn what_was_put_aside_and_is_moved_to_the_other_folder_is_sent_again_with_its_marker() {
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again");
    // What is no file of its own stays.
    fs::create_dir_all(again.join("folder")).unwrap();
    let path = put(&Aside::of(folder.path()), 1, 29 * 24, message().octets());
    let (listener, port) = listener();
    let arrived = server_that(listener, |_| None);
    fs::rename(&path, again.join("any name.txt")).unwrap();
    let spool = open(folder.path(), port).unwrap();
    let (commands, octets) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(recipients(&commands), ["b@example.net"]);
    assert!(octets.starts_with(b"X-Hsmime-Copy: "), "{}", String::from_utf8_lossy(&octets));
    until("nothing waits", || spool.waiting() == 0 && spool.shared.sets.ready().unwrap().is_empty());
    assert_eq!(set::files(&again).unwrap(), [again.join("folder")]);
}
