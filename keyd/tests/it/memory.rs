//! How much memory clients can have the server take, and its module's process.

use std::{
    fs,
    io::Write as _,
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use hsmpool::Lane;
use testmodule::{Function, Rule};

use crate::{
    raw::{Words, number, octets},
    support::{Keyd, LONG, Lab, sign},
};

/// The most that the server and its module's process had, in MiB.
fn most(keyd: &Keyd) -> [usize; 2] {
    [keyd.id(), keyd.module_process()].map(|process| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
    })
}

/// Says something, for which a public key and a number are given.
type Say = fn(&mut Words, &[u8], usize);

/// Has that begin anew.
fn forget_most(keyd: &Keyd) {
    for process in [keyd.id(), keyd.module_process()] {
        fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    }
}

#[test]
fn requests_of_any_length_take_little_while_they_wait() {
    let mut lab = Lab::new();
    let rsa = lab.rsa();
    lab.clients = lab.clients.replace("\"ours.pem\"", "\"ours.pem\", \"rsa.pem\"");
    let keyd = lab.start();
    lab.pool().ready(LONG).unwrap();
    lab.control.add(Rule::delay(Duration::from_secs(1)).on([Function::Decrypt])).unwrap();
    let before = most(&keyd);
    // Some for which the token takes its time; behind them as many as may wait, of a quarter of a MiB.
    let words = [Lane::Interactive, Lane::Bulk].map(|lane| {
        let mut words = Words::hello(lane);
        words.define(&rsa.public_key_info(), b"it");
        (0..20).for_each(|id| words.decrypt_v15(id, 0, &[1; 256]));
        let long = vec![1; 250_000];
        (20..1100).for_each(|id| words.decrypt_v15(id, 0, &long));
        words
    });
    thread::scope(|scope| {
        for words in &words {
            let stream = UnixStream::connect(lab.socket()).unwrap();
            let other = stream.try_clone().unwrap();
            scope.spawn(move || drop((&stream).write_all(&words.0)));
            scope.spawn(move || {
                thread::sleep(Duration::from_secs(6));
                let _ = other.shutdown(Shutdown::Both);
            });
        }
    });
    let after = most(&keyd);
    assert!((0..2).all(|of| after[of] - before[of] < 24), "{before:?} MiB before, {after:?} after");
    lab.control.clear().unwrap();
    sign(&lab.key(), b"yes").unwrap();
}

#[test]
fn frames_of_any_kind_take_little_whoever_does_not_read() {
    let lab = Lab::new();
    let keyd = lab.start();
    lab.pool().ready(LONG).unwrap();
    let info = lab.certificate.public_key_info();
    // Where all that waits is long, it is what the user may have; of what is nothing more than a number, next to none.
    let (little, much) = (32, 90);
    let kinds: [(&str, usize, Say); 10] = [
        ("keys without anything", little, |words, _, id| words.missing(id, 87_000, &[0; 3])),
        ("ids without anything", little, |words, _, id| {
            words.missing(id, 1, &[&[0][..], &number(260_000), &vec![0; 260_001]].concat());
        }),
        ("needs without anything", little, |words, _, id| words.needs(id, 52_000, &[0; 5])),
        ("keys of nobody", much, |words, _, id| {
            words.missing(id, 100, &[&octets(&[0x30; 2600])[..], &[0; 2]].concat());
        }),
        ("its own key by a long name", much, |words, info, id| {
            words.missing(id, 100, &[&octets(info)[..], &[0], &octets(&[b'x'; 2500])].concat());
        }),
        ("needs of its own key", much, |words, info, id| {
            words.needs(id, 100, &[&octets(info)[..], &[0], &octets(&[b'x'; 2500]), &[1, 1]].concat());
        }),
        ("a key with ids without anything", little, |words, _, _| {
            words.frame(&[&[0, 0][..], &number(260_000), &vec![0; 260_001]].concat());
        }),
        ("uses that are refused", little, |words, _, id| {
            if id == 0 {
                words.define(b"nobody's", &[b'x'; 400]);
                // From now on so much is read at once.
                words.decrypt_v15(0, 0, &vec![1; 260_000]);
            }
            (0..20_000).for_each(|more| words.decrypt_v15(100 + 20_000 * id + more, 0, &[]));
        }),
        ("cancellations", little, |words, _, _| {
            (0..40_000).for_each(|id| words.frame(&[&[2], &number(id)[..]].concat()));
        }),
        ("answers to what nobody told", little, |words, _, id| {
            words.frame(&[&[4], &number(id)[..], &[1]].concat());
        }),
    ];
    for (kind, most_more, say) in kinds {
        let mut words = Words::hello(Lane::Interactive);
        (0..QUESTIONS).for_each(|id| say(&mut words, &info, id));
        forget_most(&keyd);
        let before = most(&keyd);
        let words = &words;
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                let stream = UnixStream::connect(lab.socket()).unwrap();
                let other = stream.try_clone().unwrap();
                // The server may have had enough before all is said.
                scope.spawn(move || drop((&stream).write_all(&words.0)));
                scope.spawn(move || {
                    thread::sleep(Duration::from_secs(1));
                    let _ = other.shutdown(Shutdown::Both);
                });
            }
        });
        let after = most(&keyd);
        // The most of a time begins with what is there, which may become less.
        let more = [after[0].saturating_sub(before[0]), after[1].saturating_sub(before[1])];
        assert!(more[0] < most_more && more[1] < little, "{kind}: {before:?} MiB before, {after:?} after");
    }
    sign(&lab.key(), b"yes").unwrap();
}

#[test]
fn who_does_not_read_has_little_kept_of_answers_over_however_many_connections() {
    let lab = Lab::new();
    let keyd = lab.start();
    lab.pool().ready(LONG).unwrap();
    let info = lab.certificate.public_key_info();
    let kinds: [(&str, &[u8], Ask); 3] = [
        ("what cannot be", &info, |words, id| words.sign_digest(id, 0, &[7])),
        ("what is refused", b"nobody's", |words, id| words.sign_digest(id, 0, &[7; 32])),
        ("what is ill-formed", &info, |words, id| words.decrypt_v15(id, 0, &[7])),
    ];
    for (kind, key, ask) in kinds {
        let mut words = Words::hello(Lane::Interactive);
        words.define(key, &[b'x'; 400]);
        (0..16_000).for_each(|id| ask(&mut words, id));
        forget_most(&keyd);
        let before = most(&keyd);
        let mut streams: Vec<UnixStream> =
            (0..MANY).map(|_| UnixStream::connect(lab.socket()).unwrap()).collect();
        for stream in &streams {
            stream.set_nonblocking(true).unwrap();
        }
        let mut said = vec![0; MANY];
        // As much as is taken, until for a while neither is anything nor becomes it more.
        let (mut last, mut after) = (Instant::now(), before);
        while last.elapsed() < Duration::from_secs(1) {
            for (stream, said) in streams.iter_mut().zip(&mut said) {
                let rest = words.0.get(*said..).unwrap_or_default();
                if let Some(len) = stream.write(rest).ok().filter(|len| *len > 0) {
                    *said += len;
                    last = Instant::now();
                }
            }
            thread::sleep(Duration::from_millis(20));
            let now = most(&keyd);
            if now != after {
                (last, after) = (Instant::now(), now);
            }
        }
        let more = after[0].saturating_sub(before[0]);
        assert!(more < 100, "{kind}: {before:?} MiB before, {after:?} after");
        drop(streams);
        sign(&lab.key(), b"yes").unwrap();
    }
}

/// Asks with a number.
type Ask = fn(&mut Words, usize);

/// So many connections a user may have, nearly.
const MANY: usize = 300;
/// That many have the octets of questions that wait reach the 64 MiB that their user may have; each has buffers of its own beside.
const CONNECTIONS: usize = 16;
/// How often each says it: more than may wait.
const QUESTIONS: usize = 40;
