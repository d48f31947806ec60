//! A stop, and what becomes of requests then.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use hsmpool::Lane;
use testmodule::{Function, Rule};

use crate::{
    raw::Words,
    support::{LONG, Lab, eventually, sign},
};

#[test]
fn a_stop_does_not_wait_for_all_that_is_in_line() {
    let mut lab = Lab::new();
    (lab.sessions, lab.deadline_ms) = (1, 60_000);
    let keyd = lab.start();
    let (pool, bulk) = (lab.pool(), lab.pool().lane(Lane::Bulk));
    pool.ready(LONG).unwrap();
    sign(&bulk.key(&lab.certificate), b"before").unwrap();
    // One client has requests in line that take five minutes, in each lane.
    lab.control.add(Rule::in_turn(Duration::from_millis(300)).on([Function::Sign])).unwrap();
    let info = lab.certificate.public_key_info();
    let streams = [Lane::Interactive, Lane::Bulk].map(|lane| {
        let mut words = Words::hello(lane);
        words.define(&info, b"ours");
        (0..1500).for_each(|id| words.sign_within(id, 0, &[7; 32], LONG * 20));
        let stream = UnixStream::connect(lab.socket()).unwrap();
        let writing = stream.try_clone().unwrap();
        (stream, thread::spawn(move || drop((&writing).write_all(&words.0))))
    });
    thread::sleep(Duration::from_secs(1));
    let key = pool.key(&lab.certificate);
    let waiting = thread::spawn(move || sign(&key, b"mail"));
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    assert!(keyd.stop().success());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    for (stream, writer) in streams {
        drop(stream);
        writer.join().unwrap();
    }
    // Others' requests in that line are asked anew, and nobody hears that the server was away.
    lab.control.clear().unwrap();
    let _keyd = lab.start();
    waiting.join().unwrap().unwrap();
    let (status, text) = lab.check_audit();
    assert!(status.success(), "{text}");
}

#[test]
fn a_stop_waits_for_what_runs() {
    let mut lab = Lab::new();
    (lab.sessions, lab.deadline_ms) = (1, 60_000);
    let keyd = lab.start();
    let key = lab.key();
    sign(&key, b"before").unwrap();
    let before = lab.begun(Function::Sign);
    lab.control.add(Rule::in_turn(Duration::from_secs(6)).on([Function::Sign])).unwrap();
    let waiting = thread::spawn(move || sign(&key, b"a slow one"));
    eventually("it runs", || lab.begun(Function::Sign) > before);
    assert!(keyd.stop().success());
    waiting.join().unwrap().unwrap();
    assert_eq!(lab.begun(Function::Sign), before + 1);
    assert!(lab.uses().iter().all(|line| line["outcome"] == "done"), "{:?}", lab.uses());
}
