//! A network HSM: sessions that wait at the same time are worth their number.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use smime::{
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, Signer},
};
use testmodule::{Function, Rule};

use crate::support::{Lab, isolated, tell};

const LATENCY: Duration = Duration::from_millis(2);

/// Signatures per second, with four callers for every session. Not verified: that takes the processor.
fn rate(lab: &Lab, sessions: usize) -> f64 {
    let (_pool, key) = lab.pool(&lab.settings(sessions));
    let digest = Digest::of(Sha256, b"measured").into();
    let signed = AtomicU32::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 * sessions {
            scope.spawn(|| {
                while begun.elapsed() < Duration::from_millis(1500) {
                    key.sign(&digest, SignatureAlgorithm::Ecdsa(Sha256)).unwrap();
                    signed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    f64::from(signed.into_inner()) / begun.elapsed().as_secs_f64()
}

#[test]
fn sixteen_sessions_of_a_slow_token_are_much_faster_than_one() {
    isolated(|mut lab| {
        lab.control.add(Rule::delay(LATENCY).on([Function::Sign])).unwrap();
        let one = rate(&lab, 1);
        let sixteen = rate(&lab, 16);
        let ideal = 16.0 / LATENCY.as_secs_f64();
        let share = sixteen / ideal;
        tell(&format!("measured: 1 session {one:.0}/s, 16 sessions {sixteen:.0}/s: {share:.2} of 16/2 ms"));
        assert!(sixteen > 4.0 * one, "{sixteen} against {one}");
    });
}
