//! Messages that come again, after a crash or a lost answer, get nobody a second copy.

use std::os::fd::AsRawFd as _;

use super::sender::Wait;
use super::*;

#[test]
fn copies_of_a_message_that_was_not_answered_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    drop(prepare(&spool));
    assert!(names(folder.path()).is_empty());
    let with_control = Copy { recipients: vec!["c\n@example.net".to_owned()], ..copy() };
    let identity = spool.identify(&envelope(), &message());
    assert!(written(&spool, &identity, vec![copy(), with_control]).is_err());
    assert!(names(folder.path()).is_empty(), "one that cannot be written takes the others along");
    let error = open(folder.path(), 1).unwrap_err().to_string();
    assert!(error.contains("another hsmime-milter has it"), "one process at a time: {error}");
}

#[test]
fn copies_wait_for_a_server_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, port) = listener();
    drop(closed);
    let spool = open(folder.path(), port).unwrap();
    prepare(&spool).commit().unwrap();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(names(folder.path()), [set::READY]);
    let arrived = server(TcpListener::bind(("127.0.0.1", port)).unwrap());
    arrived.recv_timeout(PATIENCE).unwrap();
    until("the entry is gone", || names(folder.path()).is_empty());
}

#[test]
fn a_copy_whose_answer_was_lost_in_a_crash_is_sent_and_the_repetition_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let prepared = prepare(&spool);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(crashed.path(), port).unwrap();
    assert_arrive(&arrived, 1, &["c@example.net"]);
    until("the entry is gone", || names(crashed.path()).is_empty());
    // The client, who had no answer, sends it again; first in vain.
    drop(prepare(&spool));
    prepare(&spool).commit().unwrap();
    assert!(names(crashed.path()).is_empty());
    // It is the same message for whoever else it is for.
    prepare_for(&spool, &[&["c@example.net", "d@example.net"]]).commit().unwrap();
    assert_arrive(&arrived, 1, &["d@example.net"]);
}

#[test]
fn a_copy_in_doubt_that_still_waits_when_the_message_comes_again_is_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, port) = listener();
    drop(closed);
    let spool = open(folder.path(), port).unwrap();
    let prepared = prepare(&spool);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    let spool = open(crashed.path(), port).unwrap();
    assert_eq!(names(crashed.path()), [set::READY]);
    prepare(&spool).commit().unwrap();
    assert_eq!(names(crashed.path()), [set::READY]);
    let arrived = server(TcpListener::bind(("127.0.0.1", port)).unwrap());
    assert_arrive(&arrived, 1, &["c@example.net"]);
    until("the entry is gone", || names(crashed.path()).is_empty());
}

#[test]
fn a_set_that_a_crash_left_in_part_is_dropped_and_the_repetition_gets_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let prepared = prepare_for(&spool, &[&["b@example.net"], &["c@example.net"]]);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    // The first copy is whole and on the disk, the second is not, and there is no seal.
    let sealed = set::files(crashed.path()).unwrap();
    let sealed = sealed.iter().find(|path| set::has(path, set::SEALED)).unwrap();
    let torn = sealed.with_extension(set::OPEN);
    fs::rename(sealed, &torn).unwrap();
    fs::remove_file(torn.join("1")).unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(crashed.path(), port).unwrap();
    assert!(names(crashed.path()).is_empty());
    assert!(arrived.recv_timeout(Duration::from_millis(300)).is_err(), "it was not answered");
    prepare_for(&spool, &[&["b@example.net"], &["c@example.net"]]).commit().unwrap();
    assert_arrive(&arrived, 2, &["b@example.net", "c@example.net"]);
}

#[test]
fn a_repetition_that_is_split_otherwise_gets_each_recipient_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let prepared = prepare_for(&spool, &[&["b@example.net"]]);
    let crashed = after_a_crash(folder.path());
    drop(prepared);
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(crashed.path(), port).unwrap();
    assert_arrive(&arrived, 1, &["b@example.net"]);
    // Now it is another's form that stays with the MTA.
    prepare_for(&spool, &[&["a@example.net"], &["b@example.net", "c@example.net"]]).commit().unwrap();
    assert_arrive(&arrived, 2, &["a@example.net", "c@example.net"]);
}

#[test]
fn a_later_milters_refusal_makes_no_second_copies_neither_now_nor_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let spool = open(folder.path(), port).unwrap();
    for _ in 0..3 {
        prepare(&spool).commit().unwrap();
    }
    assert_arrive(&arrived, 1, &["c@example.net"]);
    until("the entry is gone", || names(folder.path()).is_empty());
    let restarted = after_a_crash(folder.path());
    let spool = open(restarted.path(), port).unwrap();
    prepare(&spool).commit().unwrap();
    assert_arrive(&arrived, 0, &[]);
    // Another message is another.
    let other = Message::from_stored(b"Message-ID: <2@x>\nSubject: x\n\nHello.\n");
    let identity = spool.identify(&envelope(), &other);
    written(&spool, &identity, vec![copy()]).unwrap().commit().unwrap();
    assert_arrive(&arrived, 1, &["c@example.net"]);
}

#[test]
fn without_a_message_id_nothing_is_taken_for_a_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), nobody()).unwrap();
    let without = Message::from_stored(b"Subject: x\n\nHello.\n");
    assert_ne!(spool.identify(&envelope(), &without), spool.identify(&envelope(), &without));
    assert_eq!(spool.identify(&envelope(), &message()), spool.identify(&envelope(), &message()));
}

/// A copy under a name by which it can be read and not be removed.
fn stuck(folder: &Path, entry: &Entry) -> (File, PathBuf) {
    let path = folder.join("stuck");
    let mut file = File::create(&path).unwrap();
    entry.write(b"Subject: x\r\n\r\nHello.\r\n", &mut file).unwrap();
    let file = File::open(&path).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    (file, path)
}

#[test]
fn a_copy_that_cannot_be_removed_is_sent_once_also_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server(listener);
    let to = ["b@example.net", "c@example.net"].map(str::to_owned);
    let (_file, path) = stuck(folder.path(), &Entry::plain("a@example.org".to_owned(), to.into()));
    for _ in 0..2 {
        let spool = open(folder.path(), nobody()).unwrap();
        let sender = sender_of(&spool, port);
        for _ in 0..3 {
            let sent = sender.send(&path, SystemTime::now());
            assert!(matches!(sent, Err(Wait::Copy(reason)) if reason.contains("cannot be removed")));
        }
    }
    let (commands, _) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(recipients(&commands), ["b@example.net", "c@example.net"]);
    assert!(arrived.try_recv().is_err(), "it was sent again");
}

#[test]
fn a_copy_that_cannot_be_written_anew_is_sent_only_to_those_who_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = listener();
    let arrived = server_that(listener, |line| match line {
        "RCPT TO:<c@example.net>" => Some("450 4.2.0 the mailbox is busy"),
        "RCPT TO:<d@example.net>" => Some("550 5.1.1 nobody"),
        _ => None,
    });
    let to = ["b@example.net", "c@example.net", "d@example.net"].map(str::to_owned);
    let (_file, path) = stuck(folder.path(), &Entry::plain("a@example.org".to_owned(), to.into()));
    let spool = open(folder.path(), nobody()).unwrap();
    let sender = sender_of(&spool, port);
    // It has no age: its name does not tell one.
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
    for _ in 0..3 {
        assert!(matches!(sender.send(&path, now), Err(Wait::Copy(_))));
    }
    let (commands, _) = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(recipients(&commands), ["b@example.net"]);
    assert!(arrived.try_recv().is_err(), "it was sent again");
    assert_eq!(spool.shared.sets.ready().unwrap().len(), 1, "the sender is told once of d");
}
