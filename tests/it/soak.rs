//! Mixed mail in both directions for a while, with disturbances all the time: every mail that was accepted arrives exactly
//! once in its right form, and the milter grows neither in memory nor in open files.
//!
//! `HSMIME_SOAK=1800 cargo test -p testkit --test it soak -- --nocapture` takes half an hour; 12 seconds otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::lab::Running;
use testkit::milter::{Milter, Usage};
use testkit::smtp::Origin;
use testkit::wait;

use crate::common::waiting;
use crate::traffic::{ForOne, Mail, Traffic, prepare};

const LIMIT: Duration = Duration::from_mins(3);
const CLIENTS: usize = 6;

/// What happened.
#[derive(Default)]
struct Tally {
    accepted: AtomicUsize,
    put_off: AtomicUsize,
    keyd: AtomicUsize,
    reloads: AtomicUsize,
    backups: AtomicUsize,
    dropped: AtomicUsize,
}

/// Sends mail after mail until told to end. What is put off is sent again.
fn send(
    running: &Running,
    traffic: &Traffic,
    next: &AtomicUsize,
    end: &AtomicBool,
    tally: &Tally,
    expected: &Mutex<BTreeSet<ForOne>>,
) {
    while !end.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Mail { origin, from, to, octets } = traffic.mail(&running.lab, number);
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let deadline = Instant::now() + LIMIT;
        loop {
            let reply = running.send(&origin, &from, &to, &octets).unwrap();
            if reply.code == 250 {
                break;
            }
            assert_eq!(reply.code, 451, "{number}: {reply:?}");
            assert!(Instant::now() < deadline, "{number} is refused for too long: {reply:?}");
            tally.put_off.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(200));
        }
        tally.accepted.fetch_add(1, Ordering::Relaxed);
        expected.lock().unwrap().extend(to.iter().map(|to| (number, (*to).to_owned())));
        thread::sleep(PAUSE);
    }
}

/// How long a client rests after each mail: the test is about time, not about rates.
const PAUSE: Duration = Duration::from_millis(300);

/// Disturbs until told to end. Gives the key server, which those who still send need.
fn disturb(running: &Running, end: &AtomicBool, tally: &Tally) -> Milter {
    let lab = &running.lab;
    let mut keyd = lab.start_keyd().unwrap();
    let good = lab.config.to_toml();
    for round in 0_usize.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        match round % 5 {
            0 => {
                keyd.kill().unwrap();
                thread::sleep(Duration::from_millis(300));
                keyd = lab.start_keyd().unwrap();
                tally.keyd.fetch_add(1, Ordering::Relaxed);
            }
            1 | 3 => {
                let bad = format!("{good}\n[milter\nnonsense");
                let text = if round % 5 == 1 { format!("{good}\n# round {round}\n") } else { bad };
                lab.workdir.file("hsmime.toml", text).unwrap();
                running.milter.signal(Signal::HUP).unwrap();
                tally.reloads.fetch_add(1, Ordering::Relaxed);
            }
            2 => {
                let folder = lab.workdir.join(format!("backup-{round}"));
                let backup = lab.admin(&["cache", "backup", folder.to_str().unwrap()]).unwrap();
                assert!(backup.success(), "{backup:?}");
                std::fs::remove_dir_all(folder).unwrap();
                tally.backups.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                drop_in_the_middle(running);
                tally.dropped.fetch_add(2, Ordering::Relaxed);
            }
        }
        thread::sleep(Duration::from_millis(700));
    }
    keyd
}

/// Breaks off in the middle of a body: once as a client of the MTA, once as the MTA.
fn drop_in_the_middle(running: &Running) {
    let half = vec![b'x'; 400_000];
    let mut client = running.postfix.connect(&Origin::login("alice")).unwrap();
    for command in
        [&format!("MAIL FROM:<{}>", running.lab.alice.address), "RCPT TO:<a@elsewhere.example>", "DATA"]
    {
        assert!(client.command(command).unwrap().is_positive());
    }
    client.raw(&half).unwrap();
    drop(client);
    let port = running.lab.config.listen.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let mut mta = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut octets = Vec::new();
    for (letter, data) in [
        (b'O', &b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff"[..]),
        (b'M', b"<a@x.invalid>\0"),
        (b'R', b"<r@x.invalid>\0"),
        (b'L', b"Subject\0 half\0"),
        (b'N', b""),
    ] {
        octets.extend(u32::try_from(data.len() + 1).unwrap().to_be_bytes());
        octets.push(letter);
        octets.extend(data);
    }
    for chunk in half.chunks(65_535) {
        octets.extend(u32::try_from(chunk.len() + 1).unwrap().to_be_bytes());
        octets.push(b'B');
        octets.extend(chunk);
    }
    octets.truncate(octets.len() - 1000);
    // It may have been cut off before.
    let _ = mta.write_all(&octets);
}

/// The means of the first and the last part of samples.
fn first_and_last(samples: &[Usage], part: usize, of: impl Fn(&Usage) -> u64) -> (f64, f64) {
    let mean = |samples: &[Usage]| {
        let sum: u64 = samples.iter().map(&of).sum();
        #[expect(clippy::cast_precision_loss, reason = "KiB and counts are small")]
        let mean = sum as f64 / samples.len() as f64;
        mean
    };
    (mean(&samples[..part]), mean(&samples[samples.len() - part..]))
}

#[test]
fn mixed_mail_with_disturbances_arrives_exactly_once_in_its_form_and_the_milter_does_not_grow() {
    let seconds = std::env::var("HSMIME_SOAK").map_or(12, |seconds| seconds.parse().unwrap());
    let (lab, traffic) = prepare("soak", &[0, 1, 2, 3, 4, 5, 6, 7]);
    let running = lab.start().unwrap();
    let (next, end, stopped) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let (tally, expected) = (Tally::default(), Mutex::new(BTreeSet::new()));
    let mut arrived: BTreeMap<ForOne, usize> = BTreeMap::new();
    let mut samples = Vec::new();
    let openssl = running.lab.openssl().unwrap();
    thread::scope(|scope| {
        let disturber = scope.spawn(|| disturb(&running, &end, &tally));
        let senders: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| send(&running, &traffic, &next, &end, &tally, &expected)))
            .collect();
        let verifier = scope.spawn(|| {
            let mut arrived = BTreeMap::new();
            loop {
                let was_stopped = stopped.load(Ordering::Relaxed);
                let mails = running.sink.take();
                if mails.is_empty() && was_stopped {
                    return arrived;
                }
                for mail in &mails {
                    for one in traffic.check(&running.lab, &openssl, mail) {
                        *arrived.entry(one).or_default() += 1;
                    }
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds)
            && !verifier.is_finished()
            && !disturber.is_finished()
        {
            samples.push(running.milter.usage().unwrap());
            thread::sleep(Duration::from_millis(250));
        }
        end.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        let empty = wait::until("an empty queue and spool", LIMIT, || {
            running.postfix.flush()?;
            Ok((running.postfix.queue()?.is_empty() && waiting(&running.lab) == 0).then_some(()))
        });
        stopped.store(true, Ordering::Relaxed);
        arrived = verifier.join().unwrap();
        empty.unwrap();
        drop(disturber.join().unwrap());
    });
    let expected = expected.into_inner().unwrap();
    let part = (samples.len() / 4).clamp(1, 1200); // five minutes of quarter seconds
    let memory = first_and_last(&samples, part, |usage| usage.resident_kib);
    let files = first_and_last(&samples, part, |usage| usage.open_files);
    println!(
        "{seconds} s: {} mails accepted, {} times put off; {} copies and mails expected, {} arrived; key server killed {} \
         times, {} reloads, {} backups, {} connections broken off; resident memory {:.0} KiB in the first part and {:.0} KiB in \
         the last; open files {:.1} and {:.1}",
        tally.accepted.load(Ordering::Relaxed),
        tally.put_off.load(Ordering::Relaxed),
        expected.len(),
        arrived.values().sum::<usize>(),
        tally.keyd.load(Ordering::Relaxed),
        tally.reloads.load(Ordering::Relaxed),
        tally.backups.load(Ordering::Relaxed),
        tally.dropped.load(Ordering::Relaxed),
        memory.0,
        memory.1,
        files.0,
        files.1,
    );
    let twice: Vec<_> = arrived.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    let lost: Vec<_> = expected.iter().filter(|mail| !arrived.contains_key(*mail)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(arrived.len(), expected.len(), "what was not accepted arrived");
    // In a short run the first part is the beginning, when nothing has been needed yet.
    let is_long = seconds >= 600;
    let (grown, opened) = if is_long { (1.1, 2.0) } else { (1.6, 12.0) };
    assert!(memory.1 <= memory.0 * grown, "memory grows: {memory:?}");
    assert!(files.1 <= files.0 + opened, "open files grow: {files:?}");
}
