//! What the MTA hears when treatment fails, is slow or does not end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent::{Edits, Envelope};
use milter::{Failure, Limits, Meter};
use smime::Fault;
use smime::mime::Message;

use crate::child::eventually;
use crate::mta::Mta;
use crate::running::{Metered, Running, edited};

#[test]
fn each_fault_has_its_reply_and_no_reply_tells_the_reason() {
    let fault = Arc::new(Mutex::new(Fault::Message));
    let milter = Running::start({
        let fault = Arc::clone(&fault);
        move |_, _| Err(Failure::new(*fault.lock().unwrap(), "CKR_PIN_LOCKED 100%"))
    });
    let mut mta = Mta::open(milter.address);
    for (is, codes) in [
        (Fault::Message, "554 5.6.0 "),
        (Fault::Policy, "550 5.7.1 "),
        (Fault::Transient, "451 4.3.2 "),
        (Fault::Operator, "451 4.3.2 "),
        (Fault::Internal, "451 4.3.2 "),
    ] {
        *fault.lock().unwrap() = is;
        let answer = mta.message(&[("Subject", " s")], b"x\r\n");
        assert!(answer.requests.is_empty());
        let reply = answer.smtp();
        assert!(reply.starts_with(codes) && !reply.contains("CKR"), "{is}: {reply}");
        assert!(!reply.replace("%%", "").contains('%'), "{is}: {reply}");
    }
}

#[test]
fn edits_that_cannot_be_sent_are_a_temporary_failure_before_the_first_request() {
    let milter = Running::start(|_, _| {
        Ok(edited(Edits {
            append: vec![
                ("X-Good".to_owned(), "1".to_owned()),
                ("X-Bad".to_owned(), "1\r\nBcc: x@x.invalid".to_owned()),
            ],
            ..Edits::default()
        }))
    });
    let answer = Mta::open(milter.address).message(&[], b"");
    assert!(answer.requests.is_empty(), "{answer:?}");
    assert!(answer.smtp().starts_with("451 4.3.2 "));
}

#[test]
fn edits_that_do_not_reach_the_mta_are_not_done() {
    let limits = Limits { progress: Duration::from_millis(500), ..Limits::default() };
    let meter = Arc::new(Meter::default());
    let (go_on, is_gone) = mpsc::channel();
    let is_gone = Mutex::new(is_gone);
    let milter = Running::by(
        limits,
        Metered(Arc::clone(&meter), move |_: &Envelope, _: &Message| {
            is_gone.lock().unwrap().recv().unwrap();
            let append = vec![("X-Few".to_owned(), "octets".to_owned())];
            Ok(edited(Edits { append, body: Some(b"new\r\n".to_vec()), ..Edits::default() }))
        }),
    );
    let mut mta = Mta::open(milter.address);
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(mta.end_of_header().0, 'c');
    mta.send('E', b"");
    // What it has not read when it goes has the milter's next octets refused.
    mta.until_there_is_something_to_read();
    drop(mta);
    go_on.send(()).unwrap();
    let counted = eventually(|| {
        let page = meter.text();
        let line = page.lines().find(|line| line.starts_with("hsmime_milter_messages_total{"))?;
        Some(line.to_owned())
    });
    assert!(counted.contains("outcome=\"451") && counted.ends_with(" 1"), "{counted}");
}

#[test]
fn an_mta_that_waits_hears_of_progress_and_never_among_the_edits() {
    let limits = Limits { progress: Duration::from_millis(50), ..Limits::default() };
    let milter = Running::within(limits, |_, _| {
        sleep(Duration::from_millis(400));
        Ok(edited(Edits { body: Some(b"new\r\n".to_vec()), ..Edits::default() }))
    });
    let mut mta = Mta::open(milter.address);
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    assert_eq!(mta.end_of_header().0, 'c');
    mta.send('E', b"");
    let mut letters = String::new();
    while !letters.ends_with('c') {
        letters.push(mta.receive().unwrap().0);
    }
    assert!(letters.trim_start_matches('p') == "bc" && letters.len() > 4, "{letters}");
}

#[test]
fn a_treatment_without_end_is_a_temporary_failure_and_cannot_use_up_the_threads() {
    let limits = Limits {
        workers: 2,
        deadline: Duration::from_millis(700),
        progress: Duration::from_millis(100),
        ..Limits::default()
    };
    let (stuck, begun) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let milter = Running::within(limits, {
        let (stuck, begun) = (Arc::clone(&stuck), Arc::clone(&begun));
        move |_, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            while stuck.load(Ordering::SeqCst) == 1 {
                sleep(Duration::from_millis(5));
            }
            Ok(edited(Edits { body: Some(b"late\r\n".to_vec()), ..Edits::default() }))
        }
    });
    let mut mta = Mta::open(milter.address);
    for _ in 0..3 {
        let start = Instant::now();
        let answer = mta.message(&[], b"x\r\n");
        assert!(answer.smtp().starts_with("451 4.3.2 "));
        assert!(answer.requests.is_empty() && answer.progress >= 1, "{answer:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(begun.load(Ordering::SeqCst), 2, "more were begun than there are workers");
    stuck.store(0, Ordering::SeqCst);
    assert!(mta.message(&[], b"x\r\n").accepted());
}

#[test]
fn a_panic_costs_its_message_a_retry_and_nothing_else() {
    let milter = Running::start(|_, message| {
        assert!(!message.body().starts_with(b"poison"), "poisoned");
        Ok(edited(Edits::default()))
    });
    let mut mta = Mta::open(milter.address);
    for _ in 0..40 {
        assert!(mta.message(&[], b"poison\r\n").smtp().starts_with("451 4.3.2 "));
    }
    assert!(mta.message(&[], b"good\r\n").accepted());
}

#[test]
fn messages_on_several_connections_are_treated_side_by_side() {
    let milter = Running::start(|_, _| {
        sleep(Duration::from_millis(300));
        Ok(edited(Edits::default()))
    });
    let mut all: Vec<_> = (0..8).map(|_| Mta::open(milter.address)).collect();
    let start = Instant::now();
    for mta in &mut all {
        mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
        assert_eq!(mta.end_of_header().0, 'c');
        mta.send('E', b"");
    }
    for mta in &mut all {
        assert!(mta.answer().unwrap().accepted());
    }
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}
