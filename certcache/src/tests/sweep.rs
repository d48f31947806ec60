//! What has ended goes, a little at a time, and what was renewed meanwhile stays.

use std::sync::mpsc;

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
