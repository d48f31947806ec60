//! The milter killed at random instants, and more large mail at once than it has memory for: nothing is lost, nothing leaves
//! or comes in but in its form, nothing is refused but for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::lab::Running;
use testkit::mail::{Letter, Noise};
use testkit::postfix::Postfix;
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

use crate::common::waiting;
use crate::traffic::{ForOne, Mail, Traffic, is_copy, prepare};

const TO: &str = "friend@partner.example";
const LIMIT: Duration = Duration::from_mins(3);
const CLIENTS: usize = 6;

/// How often the milter is killed: as `HSMIME_KILLS` says, or a few times.
fn kills() -> usize {
    std::env::var("HSMIME_KILLS").map_or(8, |kills| kills.parse().unwrap())
}

/// Sends mail after mail until told to end, each until it is accepted.
fn send(postfix: &Postfix, lab: &Lab, traffic: &Traffic, under_load: &UnderLoad) {
    let UnderLoad { next, end, under_way, accepted, put_off } = under_load;
    while !end.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Mail { origin, from, to, octets } = traffic.mail(lab, number);
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let deadline = Instant::now() + LIMIT;
        loop {
            // Postfix asks a lost milter no more in a session.
            let mut client = postfix.connect(&origin).unwrap();
            under_way.fetch_add(1, Ordering::Relaxed);
            let reply = client.send(&from, &to, &octets).unwrap();
            under_way.fetch_sub(1, Ordering::Relaxed);
            if reply.code == 250 {
                accepted.fetch_add(1, Ordering::Relaxed);
                break;
            }
            assert_eq!(reply.code, 451, "{number}: {reply:?}");
            assert!(Instant::now() < deadline, "{number} is refused for too long: {reply:?}");
            put_off.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What those who send and who kills tell each other.
#[derive(Default)]
struct UnderLoad {
    next: AtomicUsize,
    end: AtomicBool,
    under_way: AtomicUsize,
    accepted: AtomicUsize,
    put_off: AtomicUsize,
}

#[test]
fn a_milter_killed_at_random_instants_loses_no_mail_leaves_none_unsigned_and_doubles_none() {
    let kills = kills();
    // Half of it becomes copies.
    let (lab, traffic) = prepare("kills", &[0, 3, 4, 6, 2, 3, 5, 6]);
    // The key server stays: SoftHSM writes to its token when somebody logs in, and a process that is killed there leaves a
    // token that is none.
    let _keyd = lab.start_keyd().unwrap();
    // In this order, so that they are dropped in the other one: the directory goes last.
    let Running { lab, sink, mut milter, postfix } = lab.start().unwrap();
    let load = UnderLoad::default();
    let amid = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| send(&postfix, &lab, &traffic, &load));
        }
        let (mut noise, mut amid) = (Noise(0x5eed), 0);
        for kill in 0..kills {
            // From before the first message of its life to well into them, however slow the machine is.
            let enough = load.accepted.load(Ordering::Relaxed) + usize::try_from(noise.below(6)).unwrap();
            wait::until("mail to flow", LIMIT, || {
                Ok((load.accepted.load(Ordering::Relaxed) >= enough).then_some(()))
            })
            .unwrap();
            if kill % 2 == 0 {
                thread::sleep(Duration::from_millis(noise.below(60)));
            } else {
                // Copies wait for a moment only: while they are written, before the answer, before and after they are taken.
                let deadline = Instant::now() + LIMIT;
                while waiting(&lab) == 0 {
                    assert!(Instant::now() < deadline, "no copies wait");
                    thread::sleep(Duration::from_micros(200));
                }
                thread::sleep(Duration::from_micros(noise.below(4_000)));
            }
            amid += usize::from(load.under_way.load(Ordering::Relaxed) > 0);
            milter.kill().unwrap();
            milter = lab.start_milter().unwrap();
        }
        load.end.store(true, Ordering::Relaxed);
        amid
    });
    let sent = load.next.into_inner();
    wait::until("an empty queue and spool", LIMIT, || {
        postfix.flush()?;
        Ok((postfix.queue()?.is_empty() && waiting(&lab) == 0).then_some(()))
    })
    .unwrap();
    let mut arrived: BTreeMap<ForOne, Arrived> = BTreeMap::new();
    let openssl = lab.openssl().unwrap();
    for mail in sink.take() {
        // None left or came in another form than its number stands for.
        for one in traffic.check(&lab, &openssl, &mail) {
            let arrived = arrived.entry(one).or_default();
            if is_copy(&mail) {
                arrived.copies.push(mime::split(&mail.octets).1.to_vec());
            } else {
                arrived.mails += 1;
            }
        }
    }
    let expected: BTreeSet<ForOne> = (0..sent)
        .flat_map(|number| traffic.mail(&lab, number).to.into_iter().map(move |to| (number, to)))
        .collect();
    let lost: Vec<_> = expected.iter().filter(|one| !arrived.contains_key(*one)).collect();
    let which = |is: fn(&Arrived) -> bool| -> Vec<&ForOne> {
        arrived.iter().filter(|(_, arrived)| is(arrived)).map(|(one, _)| one).collect()
    };
    let copied = which(|arrived| !arrived.copies.is_empty());
    let doubled = which(|arrived| arrived.mails > 1 || (arrived.mails > 0 && !arrived.copies.is_empty()));
    let made_twice = which(|arrived| arrived.copies.windows(2).any(|two| two[0] != two[1]));
    let handed_twice: usize = arrived.values().map(|arrived| arrived.copies.len().saturating_sub(1)).sum();
    let repeated = milter.log().matches("the message came before").count();
    println!(
        "{kills} kills, {amid} of them with mail under way: {sent} mails for {} recipients, {} attempts put off and made again, \
         {} lost, none in another form than it must have, {} doubled; {} copies, {} of them made and {handed_twice} handed back \
         twice; {repeated} messages known again",
        expected.len(),
        load.put_off.into_inner(),
        lost.len(),
        doubled.len(),
        copied.len(),
        made_twice.len(),
    );
    assert!(amid * 2 > kills, "most kills meet mail");
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(arrived.len(), expected.len(), "what nobody sent arrived");
    // SMTP allows a second one where an answer is lost between client and server; of a mail here only the milter ends.
    assert!(doubled.is_empty(), "{doubled:?}");
    // Whoever sends again what was copied already gets nobody another copy. But the milter is the client where it hands one
    // back, one after the other: the answer to that may be lost.
    assert!(
        made_twice.is_empty() && handed_twice <= kills,
        "{made_twice:?}, {handed_twice} handed back twice"
    );
    assert!(copied.len() * 10 > expected.len(), "copies are many: {}", copied.len());
}

/// What one recipient has of a mail: how often as it left the transaction, and what the copies hold.
#[derive(Default)]
struct Arrived {
    mails: usize,
    copies: Vec<Vec<u8>>,
}

/// What a client is told whose message is above a limit of `[limits]` for now.
const LIMITS: [&str; 2] = [
    "4.3.1 S/MIME gateway has no room for the message, try again later",
    "4.3.2 S/MIME gateway has as many messages as it can take, try again later",
];

/// Whatever was put off was so for a limit, and the log says which.
#[track_caller]
fn assert_put_off_by_limits(log: &str, times: usize) {
    let put_off: Vec<&str> = log.lines().filter(|line| line.contains("code=\"451\"")).collect();
    assert_eq!(put_off.len(), times, "the log tells of each: {put_off:?}");
    for line in put_off {
        let reasons = ["have all the memory or disk that [limits] allows", "no worker or no memory for it"];
        assert!(reasons.iter().any(|reason| line.contains(reason)), "{line}");
    }
}

#[test]
fn more_large_mail_at_once_than_there_is_memory_for_is_signed_within_the_limit() {
    let form = std::env::var("HSMIME_LARGE").unwrap_or_else(|_| "8x10".to_owned());
    let (connections, megabytes) = form.split_once('x').unwrap();
    let (connections, megabytes): (usize, usize) = (connections.parse().unwrap(), megabytes.parse().unwrap());
    // A mail counts five times; less than what two of them take.
    let limit = megabytes * 10;
    let mut lab = Lab::new("large").unwrap();
    // Room for a quarter of them while they come in and wait.
    let disk = connections * megabytes * 250_000;
    lab.config.first_rules = format!("\n[limits]\nmemory = {}\ndisk = {disk}\n", limit << 20);
    let Running { lab, sink, milter, postfix } = lab.start().unwrap();
    let line = "So lang wie der Tag, und noch ein wenig mehr, bis die Zeile voll ist.\r\n";
    let body = line.repeat(megabytes * 1_000_000 / line.len());
    let before = milter.peak_memory().unwrap();
    let (refused, started) = (AtomicUsize::new(0), Instant::now());
    thread::scope(|scope| {
        for number in 0..connections {
            let (lab, postfix, refused, body) = (&lab, &postfix, &refused, &body);
            scope.spawn(move || {
                let from = if number.is_multiple_of(2) { &lab.alice.address } else { &lab.carol.address };
                let subject = format!("Large {number}");
                let octets = Letter { from, to: TO, subject: &subject }.text(body);
                loop {
                    let mut client = postfix.connect(&Origin::host([192, 0, 2, 7])).unwrap();
                    let reply = client.send(from, &[TO], &octets).unwrap();
                    if reply.code == 250 {
                        break;
                    }
                    assert!(reply.code == 451 && LIMITS.contains(&reply.text.as_str()), "{reply:?}");
                    assert!(started.elapsed() < LIMIT * 5, "refused for too long: {reply:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(500));
                }
            });
        }
    });
    let accepted = started.elapsed();
    let peak = milter.peak_memory().unwrap();
    assert!(refused.load(Ordering::Relaxed) > 0, "there is more than is taken at a time");
    assert_put_off_by_limits(&milter.log(), refused.load(Ordering::Relaxed));
    println!(
        "{connections} connections with {megabytes} MB each, memory limit {limit} MiB: accepted within {:.1} s, {} times put \
         off with 451; resident memory peaked at {} MiB, after {} MiB at the start",
        accepted.as_secs_f64(),
        refused.load(Ordering::Relaxed),
        peak >> 10,
        before >> 10
    );
    let mut numbers = Vec::new();
    let openssl = lab.openssl().unwrap();
    let deadline = Instant::now() + LIMIT * 3;
    while numbers.len() < connections {
        assert!(Instant::now() < deadline, "{numbers:?} of {connections} arrived");
        for mail in sink.take() {
            let subject = mime::values(&mail.octets, "subject").remove(0);
            // What was signed is what was sent, and the last line ends.
            let content = openssl.verify(&mail.octets).unwrap();
            assert!(content.ends_with(format!("{body}\r\n").as_bytes()), "{subject}");
            numbers.push(subject.strip_prefix("Large ").unwrap().parse::<usize>().unwrap());
        }
        thread::sleep(Duration::from_millis(200));
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..connections), "each once: {numbers:?}");
    let bound = u64::try_from(limit).unwrap() << 10;
    assert!(peak < before + bound, "{peak} KiB");
}
