//! A network HSM: sessions that wait at the same time are worth their number. A smart card: they are not.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use hsmpool::{Lane, TokenSettings, TokenState};
use smime::{
    algorithm::{DigestAlgorithm::Sha256, SignatureAlgorithm},
    key::{Digest, Signer},
};
use testmodule::{Function, Rule};

use crate::support::{Lab, eventually, isolated, sign, status, tell};

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

#[test]
fn with_more_sessions_than_a_token_of_one_thing_at_a_time_has_use_for_nobody_waits_in_vain() {
    isolated(|mut lab| {
        let (deadline, each) = (Duration::from_secs(1), Duration::from_millis(80));
        let settings = TokenSettings { deadline, ..lab.settings(16) };
        let (pool, key) = lab.pool(&settings);
        let bulk = pool.lane(Lane::Bulk).key(&lab.certificate);
        lab.control.add(Rule::in_turn(each).on([Function::Sign])).unwrap();
        let (mail, mail_failed, archive) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let begun = Instant::now();
        // What the first 16 calls meet shows how the token is.
        let (learnt, length) = (Duration::from_secs(3), Duration::from_secs(4));
        let end = learnt + length;
        thread::scope(|scope| {
            // More than can ever be done in time.
            for _ in 0..32 {
                scope.spawn(|| {
                    while begun.elapsed() < end {
                        let signed = sign(&bulk, b"of an archive").is_ok();
                        let done = signed && (learnt..end).contains(&begun.elapsed());
                        archive.fetch_add(u32::from(done), Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                while begun.elapsed() < end {
                    let counter = if sign(&key, b"a mail").is_ok() { &mail } else { &mail_failed };
                    let counts = (learnt..end).contains(&begun.elapsed());
                    counter.fetch_add(u32::from(counts), Ordering::Relaxed);
                    thread::sleep(deadline / 4);
                }
            });
        });
        let [mail, failed, archive] = [mail, mail_failed, archive].map(AtomicU32::into_inner);
        let possible = f64::from(u32::try_from(length.as_millis() / each.as_millis()).unwrap());
        let share = f64::from(mail + archive) / possible;
        tell(&format!(
            "measured: {mail} mails, {failed} failed, {archive} of the archive: {share:.2} of all"
        ));
        assert!(failed == 0 && mail >= 5, "{mail} mails overtook the archive, {failed} did not");
        assert!(share > 0.5, "{share} of the token's time was for somebody who still waited");

        // Fewer calls at a time do not hide that it hangs.
        lab.control.add(Rule::hang().on([Function::Sign])).unwrap();
        let begun = Instant::now();
        let is_down = || matches!(status(&pool).state, TokenState::Down { .. });
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    while !is_down() && begun.elapsed() < 20 * deadline {
                        sign(&bulk, b"never signed").unwrap_err();
                    }
                });
            }
        });
        tell(&format!("measured: {:?} until the token was found hanging", begun.elapsed()));
        assert!(begun.elapsed() < 6 * deadline, "{:?}", begun.elapsed());
        lab.control.clear().unwrap();
        eventually("the token is up", 20 * deadline, || status(&pool).state == TokenState::Up);
        eventually("no call is left", 20 * deadline, || status(&pool).hanging == 0);
    });
}
