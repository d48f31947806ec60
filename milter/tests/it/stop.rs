//! The graceful stop.

use std::thread::sleep;
use std::time::{Duration, Instant};

use agent::Edits;
use milter::Limits;

use crate::mta::Mta;
use crate::running::{Running, edited, untouched};

#[test]
fn idle_connections_end_and_messages_under_way_are_finished() {
    let mut milter = Running::start(|_, _| {
        sleep(Duration::from_millis(400));
        Ok(edited(Edits { body: Some(vec![b'n'; 200_000]), ..Edits::default() }))
    });
    let (mut silent, mut idle) = (Mta::connect(milter.address), Mta::open(milter.address));
    let (mut amid, mut treated) = (Mta::open(milter.address), Mta::open(milter.address));
    assert!(idle.message(&[], b"x\r\n").accepted());
    amid.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    treated.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(treated.end_of_header().0, 'c');
    treated.send('E', b"");

    milter.stop();
    assert!(idle.hung_up() && silent.hung_up());
    assert!(std::net::TcpStream::connect(milter.address).is_err(), "still listening");
    let answer = treated.answer().unwrap();
    assert!(answer.accepted() && answer.requests.len() == 4, "{:?}", answer.reply);
    assert!(treated.hung_up());

    assert!(!milter.has_stopped());
    amid.field("Subject", " s");
    assert_eq!(amid.end_of_header().0, 'c');
    assert_eq!(amid.chunk(b"x\r\n").0, 'c');
    assert!(amid.end_of_message().unwrap().accepted());
    assert!(amid.hung_up());
    milter.join();
}

#[test]
fn a_message_given_up_while_stopping_ends_its_connection() {
    let mut milter = Running::start(untouched);
    let mut mta = Mta::open(milter.address);
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    milter.stop();
    assert!(mta.silent_for(Duration::from_millis(100)));
    mta.abort();
    assert!(mta.hung_up());
    milter.join();
}

#[test]
fn what_outlasts_the_drain_limit_is_a_temporary_failure() {
    let limits = Limits { drain: Duration::from_millis(300), ..Limits::default() };
    let mut milter = Running::within(limits, |_, _| {
        sleep(Duration::from_secs(10));
        Ok(edited(Edits { body: Some(b"late".to_vec()), ..Edits::default() }))
    });
    let (mut amid, mut treated) = (Mta::open(milter.address), Mta::open(milter.address));
    amid.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    treated.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(treated.end_of_header().0, 'c');
    treated.send('E', b"");
    sleep(Duration::from_millis(50));

    milter.stop();
    let start = Instant::now();
    let answer = treated.answer().unwrap();
    assert!(answer.requests.is_empty() && answer.smtp().starts_with("451 4.3.2 "), "{answer:?}");
    assert!(amid.hung_up());
    milter.join();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
