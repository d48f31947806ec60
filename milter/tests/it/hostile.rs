//! Peers that are no MTA, or a broken one.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use milter::Limits;

use crate::mta::Mta;
use crate::running::{Running, untouched};

#[test]
fn bare_connections_and_garbage_harm_nobody_else() {
    let milter = Running::start(untouched);
    let mut bystander = Mta::open(milter.address);
    for garbage in [
        b"".as_slice(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\xffOAAAA",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x01O",
        b"\x00\x00\x00\x05O\x00\x00\x00\x06",
        b"\x00\x00\x00\x0dO\x00\x00\x00\x01\x00\x00\x01\xff\x00\x1f\xff\xff",
        b"\x00\x00\x00\x01E\x00\x00\x00\x01N\x00\x00\x00\x02Bx\x00\x00\x00\x04M<>\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut stream = TcpStream::connect(milter.address).unwrap();
        stream.write_all(garbage).unwrap();
        drop(stream);
        assert!(bystander.message(&[("Subject", " s")], b"x\r\n").accepted(), "{garbage:?}");
    }
}

#[test]
fn broken_frames_after_negotiation_end_their_connection_only() {
    let milter = Running::start(untouched);
    let mut bystander = Mta::open(milter.address);
    for (letter, data) in [
        ('L', b"no end".as_slice()),
        ('L', b"\0value\0"),
        ('L', b"name\0"),
        ('L', b""),
        ('R', b""),
        ('R', b"no end"),
        ('~', b"unknown"),
    ] {
        let mut mta = Mta::open(milter.address);
        mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
        mta.send(letter, data);
        assert!(mta.hung_up(), "{letter} {data:?}");
        assert!(bystander.message(&[], b"x\r\n").accepted(), "{letter} {data:?}");
    }
    let mut mta = Mta::open(milter.address);
    mta.envelope("<a@x.invalid>", &["<r@x.invalid>"]);
    mta.raw(b"\x00\x20\x00\x00B");
    assert!(mta.hung_up(), "a frame of 2 MiB");
}

#[test]
fn mail_without_negotiation_is_never_accepted() {
    let milter = Running::start(untouched);
    let mut mta = Mta::connect(milter.address);
    assert_ne!(mta.mail("<a@x.invalid>", &[]).0, 'c');
    mta.send('E', b"");
    assert!(mta.silent_for(Duration::from_millis(100)));
}

#[test]
fn a_value_with_nul_ends_there() {
    let milter = Running::start(|_, message| {
        assert_eq!(message.header(), b"Subject: one\r\nTo: x\r\n");
        untouched(&agent::Envelope::default(), message)
    });
    let answer = Mta::open(milter.address).message(&[("Subject", " one\0two"), ("To", " x")], b"");
    assert!(answer.accepted(), "{answer:?}");
}

#[test]
fn a_peer_that_never_speaks_is_closed() {
    let limits = Limits { negotiation: Duration::from_millis(100), ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let mut mta = Mta::open(milter.address);
    assert!(Mta::connect(milter.address).hung_up());
    assert!(mta.silent_for(Duration::from_millis(300)), "one that spoke may be idle");
    assert!(mta.message(&[], b"x\r\n").accepted());
}

#[test]
fn connections_above_the_limit_are_closed_at_once_and_taken_again_later() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let milter = Running::within(limits, untouched);
    let (mut first, second) = (Mta::open(milter.address), Mta::open(milter.address));
    assert!(Mta::connect(milter.address).hung_up());
    assert!(first.message(&[], b"x\r\n").accepted());
    drop(second);
    let admitted = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        Mta::connect(milter.address).negotiate(crate::mta::ALL_ACTIONS, crate::mta::ALL_OPTIONS).is_ok()
    });
    assert!(admitted);
}
