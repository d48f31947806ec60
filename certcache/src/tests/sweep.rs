//! What has ended goes, a little at a time, and what was renewed meanwhile stays.

use std::sync::mpsc;

use der::Encode;
use smime::testing::{
    draft::Draft,
    evidence::{self, List, Single, hour, response},
};

use super::*;
use crate::sweep::Sweeper;

fn put_absent(cache: &Cache, count: usize, until: SystemTime) {
    for number in 0..count {
        cache.put_absent(&address(&format!("a{number:04}@example.org")), None, until).unwrap();
    }
}

#[test]
fn what_was_renewed_between_looking_and_taking_out_stays() {
    let (_folder, cache) = cache();
    put_absent(&cache, 3, year(2026));
    let (renewed, mut asked) = (address("a0001@example.org"), 0);
    let swept = cache.sweep_while(year(2027), &mut || {
        asked += 1;
        // Before the first look, and before what it found is taken out.
        if asked == 2 {
            cache.put_absent(&renewed, None, year(2028)).unwrap();
        }
        true
    });
    assert_eq!(swept.unwrap(), 2);
    assert!(cache.is_absent(&renewed, None, year(2027)).unwrap());
    assert_eq!(cache.stat().unwrap().absent, 1);
}

#[test]
fn what_says_that_somebody_is_revoked_is_not_swept_out() {
    let (_folder, cache) = cache();
    let (ca, alice) =
        (Draft::ca("CA", 1, "CA").sign(1), |number| Draft::new("Alice", 2, "CA").numbered(number).sign(1));
    let status = |der: Vec<u8>| Status {
        der,
        this_update: hour(-1),
        next_update: Some(hour(24)),
        fetched: hour(0),
        url: None,
        etag: None,
    };
    let issuer = ca.subject().to_der().unwrap();
    for (scope, list) in
        [("nobody", List::by("CA", 1)), ("alice", List::by("CA", 1).listing(&alice(10), &[]))]
    {
        cache.put_crl(&issuer, scope, &status(list.der())).unwrap();
    }
    let said = [
        evidence::Status::Good,
        evidence::Status::Held,
        evidence::Status::Unknown,
        evidence::Status::Revoked,
    ];
    for (number, said) in (10..).zip(said) {
        let single = Single::of(&alice(number), &ca, said);
        cache.put_ocsp(&alice(number), &status(response(&ca, 1, &[single], &[]))).unwrap();
    }
    assert_eq!(cache.sweep(hour(24 * 7)).unwrap(), 0);
    assert_eq!(cache.sweep(hour(24 * 365 * 9)).unwrap(), 4);
    assert!(
        cache.crl(&issuer, "alice").unwrap().is_some() && cache.crl(&issuer, "nobody").unwrap().is_none()
    );
    let kept = [10, 11, 12, 13].map(|number| cache.ocsp_for(&alice(number)).unwrap().is_some());
    assert_eq!(kept, [false, false, false, true]);
}

#[test]
fn no_transaction_of_a_sweep_has_many_entries_and_it_can_be_stopped() {
    let (_folder, cache) = cache();
    cache
        .write(|tables, transaction| {
            for number in 0..2500_u32 {
                let value = codec::Writer::new(1).time(year(2026)).finish();
                tables.fetch.put(transaction, &number.to_be_bytes(), &value)?;
            }
            Ok(())
        })
        .unwrap();
    let mut left = 4;
    let stopped = cache.sweep_while(year(2027), &mut || {
        left -= 1;
        left > 0
    });
    // neg is empty; the first look at fetch and its taking out were allowed.
    assert_eq!(stopped.unwrap(), 1000);
    assert_eq!(cache.sweep(year(2027)).unwrap(), 1500);
    assert_eq!(cache.sweep(year(2027)).unwrap(), 0);
}

#[test]
fn a_cache_is_swept_once_a_day_whoever_looks() {
    let (_folder, cache) = cache();
    let cache = Arc::new(cache);
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    put_absent(&cache, 3, long_ago);
    let start = || {
        let (sender, receiver) = mpsc::channel();
        let heard = move |swept: Result<usize, CacheError>| sender.send(swept.unwrap()).unwrap();
        (Sweeper::start_looking(Arc::clone(&cache), Duration::from_millis(5), heard).unwrap(), receiver)
    };
    let (first, heard) = start();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)).unwrap(), 3);
    put_absent(&cache, 3, long_ago);
    let (second, heard_too) = start();
    assert!(heard_too.recv_timeout(Duration::from_millis(200)).is_err());
    assert!(heard.try_recv().is_err());
    drop((first, second));
    assert_eq!(cache.stat().unwrap().absent, 3);
    assert_good(&cache);
}
