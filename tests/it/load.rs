//! Many mails at once, and what happens to them when the milter ends in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::lab::Running;
use testkit::mail::{Letter, Noise};
use testkit::milter::Milter;
use testkit::postfix::Postfix;
use testkit::sink::{Delivered, Sink};
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

use crate::common::assert_same_content;

mod connections;

const TO: &str = "friend@partner.example";
const LIMIT: Duration = Duration::from_mins(5);

/// A mail for each number, between 4 and 200 KB, small ones more often.
fn mail(lab: &Lab, number: usize) -> Vec<u8> {
    let mut noise = Noise(number as u64 * 2 + 1);
    // Multiplied by a random number of factors of 5/4: evenly spread over the orders of magnitude.
    let size = (0..noise.below(18)).fold(4_000, |size, _| size * 5 / 4);
    let subject = format!("Load {number}");
    let person = if number.is_multiple_of(2) { &lab.alice } else { &lab.carol };
    Letter { from: &person.address, to: TO, subject: &subject }.of_size(size, noise.next())
}

/// Sends `count` mails over `connections` SMTP sessions at once. What is not accepted is sent again, as an
/// MTA would; gives how often that was needed.
fn send_all(lab: &Lab, postfix: &Postfix, count: usize, connections: usize) -> usize {
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for first in 0..connections {
            let refused = &refused;
            scope.spawn(move || {
                let origin = Origin::host([192, 0, 2, 7]);
                let mut client = postfix.connect(&origin).unwrap();
                for number in (first..count).step_by(connections) {
                    let octets = mail(lab, number);
                    let from = mime::values(&octets, "from").remove(0);
                    let deadline = Instant::now() + LIMIT;
                    loop {
                        let reply = client.send(&from, &[TO], &octets).unwrap();
                        if reply.code == 250 {
                            break;
                        }
                        assert_eq!(reply.code, 451, "{reply:?}");
                        assert!(Instant::now() < deadline, "refused for too long: {reply:?}");
                        refused.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(100));
                        // Postfix asks a lost milter no more in this session.
                        client = postfix.connect(&origin).unwrap();
                    }
                }
                client.quit().unwrap();
            });
        }
    });
    refused.into_inner()
}

/// Every mail arrived, no mail arrived twice, each is signed and says what was sent. OpenSSL is the judge.
fn assert_all_arrived_signed_once(lab: &Lab, postfix: &Postfix, sink: &Sink, count: usize) {
    let arrived = sink.wait_for(count, LIMIT).unwrap();
    wait::until("an empty queue", LIMIT, || Ok(postfix.queue()?.is_empty().then_some(()))).unwrap();
    assert_eq!(sink.mails().len(), count, "as many as were sent");
    let mut by_number: BTreeMap<usize, &Delivered> = BTreeMap::new();
    for mail in &arrived {
        let subject = mime::values(&mail.octets, "subject").remove(0);
        let number = subject.strip_prefix("Load ").unwrap().parse().unwrap();
        assert!(by_number.insert(number, mail).is_none(), "{number} arrived twice");
    }
    assert!(by_number.keys().copied().eq(0..count), "all numbers arrived");
    let openssl = lab.openssl().unwrap();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(delivered) = by_number.get(&number) else { break };
                    let content = openssl.verify(&delivered.octets).unwrap();
                    assert_same_content(&content, &mail(lab, number));
                }
            });
        }
    });
}

#[test]
fn a_thousand_mails_over_twenty_connections_all_arrive_signed_and_none_twice() {
    const COUNT: usize = 1000;
    // In this order, so that they are dropped in the other one: the directory goes last.
    let Running { lab, sink, milter, postfix } = Lab::new("thousand").unwrap().start().unwrap();
    let before = milter.peak_memory().unwrap();
    let started = Instant::now();
    assert_eq!(send_all(&lab, &postfix, COUNT, 20), 0, "none was refused");
    let accepted = started.elapsed();
    sink.wait_for(COUNT, LIMIT).unwrap();
    let arrived = started.elapsed();
    let peak = milter.peak_memory().unwrap();
    println!(
        "{COUNT} mails accepted in {:.1} s, delivered in {:.1} s; the milter's resident memory peaked at \
         {peak} KiB, after {before} KiB at the start",
        accepted.as_secs_f64(),
        arrived.as_secs_f64(),
    );
    assert!(peak < 200_000, "memory is bounded: {peak} KiB");
    assert_all_arrived_signed_once(&lab, &postfix, &sink, COUNT);
}

/// Sends mails while `end` ends the milter over and over, each time with a new one started after it.
fn assert_nothing_is_lost_while_it_ends(name: &str, end: impl Fn(&mut Milter)) {
    const COUNT: usize = 400;
    // In this order, so that they are dropped in the other one: the directory goes last.
    let Running { lab, sink, mut milter, postfix } = Lab::new(name).unwrap().start().unwrap();
    let refused = thread::scope(|scope| {
        let sender = scope.spawn(|| send_all(&lab, &postfix, COUNT, 8));
        for _ in 1..=3 {
            let enough = COUNT.min(sink.mails().len() + COUNT / 16);
            wait::until("mail to flow", LIMIT, || Ok((sink.mails().len() >= enough).then_some(()))).unwrap();
            end(&mut milter);
            thread::sleep(Duration::from_millis(300));
            milter = lab.start_milter().unwrap();
        }
        sender.join().unwrap()
    });
    println!("{refused} attempts were deferred and made again");
    assert!(refused > 0, "the milter ended while there was work");
    assert_all_arrived_signed_once(&lab, &postfix, &sink, COUNT);
}

#[test]
fn a_killed_milter_loses_no_mail_and_lets_none_leave_unsigned() {
    assert_nothing_is_lost_while_it_ends("kill", |milter| {
        milter.kill().unwrap();
    });
}

#[test]
fn a_milter_asked_to_stop_under_load_loses_no_mail() {
    assert_nothing_is_lost_while_it_ends("sigterm", |milter| {
        let status = milter.stop().unwrap();
        assert!(status.success(), "{status}");
    });
}
