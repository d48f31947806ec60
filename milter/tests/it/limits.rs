//! How much the milter takes on: what is above it is put off with words, and costs nobody else anything.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::sleep;
use std::time::Duration;

use milter::Limits;

use crate::child::eventually;
use crate::mta::{self, Mta};
use crate::running::{Running, edited, untouched};

/// A message up to its end, from a client.
fn send(mta: &mut Mta, client: &str, sender: &str, body: &[u8]) {
    assert_eq!(mta.mail(sender, &[("{client_addr}", client)]).0, 'c');
    assert_eq!(mta.rcpt("<r@x.invalid>").0, 'c');
    mta.field("Subject", " s");
    assert_eq!(mta.end_of_header().0, 'c');
    for chunk in body.chunks(65_535) {
        assert_eq!(mta.chunk(chunk).0, 'c');
    }
    mta.send('E', b"");
}

#[test]
fn one_senders_many_messages_do_not_starve_another_ones() {
    let (go, gone) = mpsc::channel::<()>();
    let (gone, order) = (Mutex::new(gone), Arc::new(Mutex::new(Vec::new())));
    let limits = Limits { workers: 1, progress: Duration::from_millis(20), ..Limits::default() };
    let milter = Running::within(limits, {
        let order = Arc::clone(&order);
        move |envelope, _| {
            order.lock().unwrap().push(envelope.sender.clone());
            gone.lock().unwrap().recv().unwrap();
            Ok(edited(agent::Edits::default()))
        }
    });
    let mut all: Vec<_> = (0..32).map(|_| Mta::open(milter.address)).collect();
    for mta in &mut all[..30] {
        send(mta, "192.0.2.1", "<many@x.invalid>", b"x\r\n");
    }
    // The first is treated, the others are in the line.
    eventually(|| (order.lock().unwrap().len() == 1).then_some(()));
    all[..30].iter_mut().for_each(Mta::until_progress);
    send(&mut all[30], "192.0.2.2", "<few@x.invalid>", b"x\r\n");
    send(&mut all[31], "192.0.2.1", "<colleague@x.invalid>", b"x\r\n");
    all[30..].iter_mut().for_each(Mta::until_progress);
    for _ in 0..32 {
        go.send(()).unwrap();
    }
    for mta in &mut all {
        assert!(mta.answer().unwrap().accepted());
    }
    let order = order.lock().unwrap();
    let place = |of: &str| order.iter().position(|sender| sender == of).unwrap();
    assert!(place("few@x.invalid") <= 3 && place("colleague@x.invalid") <= 5, "{order:?}");
}

#[test]
fn messages_above_the_limit_are_put_off_at_their_first_recipient() {
    let limits = Limits { messages: 4, ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let mut all: Vec<_> = (0..6).map(|_| Mta::open(milter.address)).collect();
    let mail = |mta: &mut Mta, client: &str| {
        assert_eq!(mta.mail("<a@x.invalid>", &[("{client_addr}", client)]).0, 'c');
        mta.rcpt("<r@x.invalid>")
    };
    assert_eq!(mail(&mut all[0], "192.0.2.1").0, 'c');
    assert_eq!(mail(&mut all[1], "192.0.2.1").0, 'c');
    let refused = mta::smtp(&mail(&mut all[2], "192.0.2.1"));
    assert!(refused.starts_with("451 4.7.1 Too many messages of yours"), "{refused}");
    assert_eq!(mail(&mut all[3], "192.0.2.2").0, 'c');
    assert_eq!(mail(&mut all[4], "192.0.2.3").0, 'c');
    let refused = mta::smtp(&mail(&mut all[5], "192.0.2.4"));
    assert!(refused.starts_with("451 4.3.2 ") && refused.contains("as many messages"), "{refused}");
    assert_eq!(mta::smtp(&all[5].rcpt("<another@x.invalid>")), refused, "so is each further recipient");
    // Places come back with an abort, with a message that is done, and with a connection that is gone.
    all[0].abort();
    // Nothing answers an abort; another connection may be quicker.
    eventually(|| {
        let taken = mail(&mut all[5], "192.0.2.4").0 == 'c';
        all[5].abort();
        taken.then_some(())
    });
    assert!(all[5].message(&[], b"x\r\n").accepted());
    assert!(all[5].message(&[], b"x\r\n").accepted());
    drop(all.remove(1));
    let (mut one, mut two) = (Mta::open(milter.address), Mta::open(milter.address));
    assert_eq!(mail(&mut one, "192.0.2.5").0, 'c');
    eventually(|| {
        let taken = mail(&mut two, "192.0.2.6").0 == 'c';
        two.abort();
        taken.then_some(())
    });
}

#[test]
fn large_bodies_lie_on_the_disk_within_its_limit_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { disk: 1_500_000, folder: folder.path().to_owned(), ..Limits::default() };
    let milter = Running::within(limits, |_, message| {
        assert!(message.body().iter().all(|octet| *octet == b'x'));
        assert_eq!(message.body().len(), 1_000_000);
        untouched(&agent::Envelope::default(), message)
    });
    let body = vec![b'x'; 1_000_000];
    let mut first = Mta::open(milter.address);
    first.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(first.end_of_header().0, 'c');
    for chunk in body.chunks(65_535) {
        assert_eq!(first.chunk(chunk).0, 'c');
    }
    let open = open_files_of(folder.path());
    assert_eq!((open, fs::read_dir(folder.path()).unwrap().count()), (1, 0), "one file, and it has no name");
    let mut second = Mta::open(milter.address);
    second.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(second.end_of_header().0, 'c');
    let refused = body.chunks(65_535).map(|chunk| second.chunk(chunk)).find(|reply| reply.0 != 'c');
    let refused = mta::smtp(&refused.unwrap());
    assert!(refused.starts_with("451 4.3.1 ") && refused.contains("no room"), "{refused}");
    second.abort();
    assert!(first.end_of_message().unwrap().accepted());
    first.abort();
    assert_eq!(open_files_of(folder.path()), 0);
    // One that breaks off gives its room back, too.
    assert!(second.message(&[], &body).accepted());
    send(&mut second, "192.0.2.1", "<a@x.invalid>", &body);
    drop(second);
    eventually(|| (open_files_of(folder.path()) == 0).then_some(()));
    assert!(first.message(&[], &body).accepted());
}

/// How many files of a folder this process has open, with or without a name.
fn open_files_of(folder: &std::path::Path) -> usize {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(folder)).count()
}

#[test]
fn a_folder_that_cannot_be_written_puts_large_messages_off_and_takes_small_ones() {
    let limits = Limits { folder: "/nowhere/at/all".into(), ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let mut mta = Mta::open(milter.address);
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(mta.end_of_header().0, 'c');
    let chunk = vec![b'x'; 65_535];
    let refused = (0..6).map(|_| mta.chunk(&chunk)).find(|reply| reply.0 != 'c');
    assert!(mta::smtp(&refused.unwrap()).starts_with("451 4.3.2 "));
    mta.abort();
    assert!(mta.message(&[], b"x\r\n").accepted());
}

#[test]
fn messages_are_treated_together_only_while_there_is_memory_for_all_of_them() {
    // Of 10 MB 7.5 are for messages that are treated, 5.6 of these for large ones, and a message counts five times its
    // length, 1 MiB at least.
    for (octets, most) in [(50_000, 5), (500_000, 2), (600_000, 1), (1_400_000, 1), (3_000_000, 1)] {
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let limits = Limits { memory: 10_000_000, workers: 50, ..Limits::default() };
        let milter = Running::within(limits, {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            move |_, _| {
                peak.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                // Nobody ends before as many are treated together as may be.
                eventually(|| (peak.load(Ordering::SeqCst) >= most).then_some(()));
                sleep(Duration::from_millis(30));
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(edited(agent::Edits::default()))
            }
        });
        let mut all: Vec<_> = (0..10).map(|_| Mta::open(milter.address)).collect();
        let body = vec![b'x'; octets];
        for mta in &mut all {
            send(mta, "192.0.2.1", "<a@x.invalid>", &body);
        }
        for mta in &mut all {
            assert!(mta.answer().unwrap().accepted());
        }
        assert_eq!(peak.load(Ordering::SeqCst), most, "{octets}");
    }
}

#[test]
fn small_messages_pass_while_giants_hang_and_wait() {
    // A message of 15 MB takes all that is for large ones.
    let limits =
        Limits { memory: 100_000_000, progress: Duration::from_millis(20), workers: 4, ..Limits::default() };
    let (hanging, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let milter = Running::within(limits, {
        let (hanging, over) = (Arc::clone(&hanging), Arc::clone(&over));
        move |_, message| {
            if message.body().len() > 1_000_000 {
                hanging.fetch_add(1, Ordering::SeqCst);
                eventually(|| (over.load(Ordering::SeqCst) == 1).then_some(()));
            }
            Ok(edited(agent::Edits::default()))
        }
    });
    let body = vec![b'x'; 15_000_000];
    let mut giants: Vec<_> = (0..4).map(|_| Mta::open(milter.address)).collect();
    for giant in &mut giants {
        send(giant, "192.0.2.1", "<large@x.invalid>", &body);
        giant.until_progress();
    }
    let mut small = Mta::open(milter.address);
    for _ in 0..100 {
        assert!(small.message(&[], b"x\r\n").accepted());
    }
    assert_eq!(hanging.load(Ordering::SeqCst), 1, "giants are treated one after the other");
    over.store(1, Ordering::SeqCst);
    for giant in &mut giants {
        assert!(giant.answer().unwrap().accepted());
    }
}

#[test]
fn who_finds_no_worker_in_time_is_told_to_come_again() {
    let limits = Limits { workers: 1, deadline: Duration::from_millis(300), ..Limits::default() };
    let stuck = Arc::new(AtomicUsize::new(1));
    let milter = Running::within(limits, {
        let stuck = Arc::clone(&stuck);
        move |_, _| {
            while stuck.load(Ordering::SeqCst) == 1 {
                sleep(Duration::from_millis(5));
            }
            Ok(edited(agent::Edits::default()))
        }
    });
    let (mut first, mut second) = (Mta::open(milter.address), Mta::open(milter.address));
    assert!(first.message(&[], b"x\r\n").smtp().starts_with("451 4.3.2 S/MIME gateway is not available"));
    for _ in 0..3 {
        let refused = second.message(&[], b"x\r\n").smtp();
        assert!(refused.starts_with("451 4.3.2 ") && refused.contains("as many messages"), "{refused}");
    }
    stuck.store(0, Ordering::SeqCst);
    assert!(second.message(&[], b"x\r\n").accepted());
}

#[test]
fn content_that_dribbles_in_is_cut_off_and_a_client_that_takes_its_time_is_not() {
    let limits = Limits { content: Duration::from_millis(600), messages: 2, ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let mut patient = Mta::open(milter.address);
    patient.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    // Octet by octet, with the header, in the middle of a chunk, and after one.
    let stages: [fn(&mut Mta); 3] = [
        |mta| {
            mta.field("Subject", " s");
            mta.raw(&[0, 1, 0, 0, b'L']);
        },
        |mta| {
            assert_eq!(mta.end_of_header().0, 'c');
            mta.raw(&[0, 1, 0, 0, b'B']);
        },
        |mta| {
            assert_eq!(mta.end_of_header().0, 'c');
            assert_eq!(mta.chunk(&vec![b'x'; 60_000]).0, 'c');
            mta.raw(&[0, 1, 0, 0, b'B']);
        },
    ];
    for begin in stages {
        let mut mta = Mta::open(milter.address);
        assert_eq!(mta.mail("<slow@x.invalid>", &[("{client_addr}", "192.0.2.9")]).0, 'c');
        assert_eq!(mta.rcpt("<r@x.invalid>").0, 'c');
        begin(&mut mta);
        let cut = (0..200).any(|_| {
            mta.raw(b"x");
            sleep(Duration::from_millis(20));
            mta.is_closed()
        });
        assert!(cut, "it may dribble for ever");
    }
    assert!(patient.silent_for(Duration::from_millis(10)), "its client has not begun");
    patient.field("Subject", " s");
    assert_eq!(patient.end_of_header().0, 'c');
    assert!(patient.end_of_message().unwrap().accepted());
    // Many messages in a row take longer than one may.
    patient.abort();
    for _ in 0..8 {
        sleep(Duration::from_millis(100));
        assert!(patient.message(&[("Subject", " s")], b"x\r\n").accepted());
    }
}

#[test]
fn an_mta_that_breaks_off_at_any_octet_leaves_no_place_taken() {
    let limits = Limits { messages: 1, ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let mut all = Vec::new();
    for (letter, data) in [
        ('D', b"Mi\0x\0".as_slice()),
        ('M', b"<a@x.invalid>\0"),
        ('R', b"<r@x.invalid>\0"),
        ('L', b"A\0 b\0"),
        ('N', b""),
        ('B', b"xxxx"),
        ('E', b""),
    ] {
        all.extend(u32::try_from(data.len() + 1).unwrap().to_be_bytes());
        all.push(u8::try_from(letter).unwrap());
        all.extend(data);
    }
    for end in 0..=all.len() {
        let mut mta = Mta::open(milter.address);
        mta.raw(&all[..end]);
        drop(mta);
    }
    let mut mta = Mta::open(milter.address);
    eventually(|| {
        assert_eq!(mta.mail("<a@x.invalid>", &[]).0, 'c');
        let taken = mta.rcpt("<r@x.invalid>").0 == 'c';
        mta.abort();
        taken.then_some(())
    });
}
