//! How much memory clients can have the server take, and its module's process.

use std::{fs, io::Write as _, net::Shutdown, os::unix::net::UnixStream, thread, time::Duration};

use hsmpool::Lane;
use testmodule::{Function, Rule};

use crate::{
    raw::Words,
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
fn questions_about_keys_take_little_while_they_wait() {
    let lab = Lab::new();
    let keyd = lab.start();
    lab.pool().ready(LONG).unwrap();
    let before = most(&keyd);
    for keys in [2048, 87_000] {
        let mut words = Words::hello(Lane::Bulk);
        (0..100).for_each(|id| words.missing(id, keys));
        let words = &words;
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let stream = UnixStream::connect(lab.socket()).unwrap();
                    // The server may have had enough before all is said.
                    drop((&stream).write_all(&words.0));
                    thread::sleep(Duration::from_secs(1));
                });
            }
        });
    }
    let after = most(&keyd);
    assert!((0..2).all(|of| after[of] - before[of] < 100), "{before:?} MiB before, {after:?} after");
    sign(&lab.key(), b"yes").unwrap();
}
