//! Writers that are killed at any instant leave a cache that is whole, and that others go on writing to.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::*;

/// How many write at the same time.
const WRITERS: usize = 5;
/// How often all of them are killed: 500 kills.
const ROUNDS: u64 = 100;
/// How many certificates are put in together.
const GROUP: u32 = 4;
/// How many groups there are.
const GROUPS: u32 = 6;

fn group(number: u32) -> Vec<Certificate> {
    (0..GROUP).map(|member| numbered(number * GROUP + member)).collect()
}

/// A number that nobody chose.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[test]
#[ignore = "the other process of the test below, which starts it"]
fn writing_process() {
    let cache = Cache::open(&started_path()).unwrap();
    let groups: Vec<_> = (0..GROUPS).map(group).collect();
    loop {
        let number = random();
        let certificates = &groups[usize::try_from(number % u64::from(GROUPS)).unwrap()];
        let fingerprints: Vec<_> = certificates.iter().map(|it| *it.fingerprint()).collect();
        match number / 8 % 4 {
            0 | 1 => {
                let all = certificates.iter().map(|it| Insertion {
                    assigned: vec!["@example.net".to_owned()],
                    ..Insertion::new(it, Source::Harvested)
                });
                cache.put(&all.collect::<Vec<_>>(), year(2026)).unwrap();
            }
            2 => {
                cache
                    .write(|tables, transaction| {
                        for fingerprint in &fingerprints {
                            let stored = cache.stored(tables, transaction, fingerprint)?;
                            if let Some((record, certificate)) = stored {
                                let index =
                                    index::Index::of(&certificate, record.is_helper(), &record.assigned);
                                index.delete(tables, transaction)?;
                                tables.cert.delete(transaction, fingerprint)?;
                                tables.der.delete(transaction, fingerprint)?;
                            }
                        }
                        Ok(())
                    })
                    .unwrap();
            }
            _ => {
                cache.set_state(&fingerprints[0], TrustState::Pending, "x", year(2026)).unwrap();
            }
        }
    }
}

#[test]
fn five_hundred_writers_killed_at_any_instant_leave_no_entry_half_there() {
    let (folder, cache) = cache();
    let path = folder.path().join("certcache");
    let mut cache = Some(cache);
    let (mut progressed, mut last) = (0, 0);
    for round in 0..ROUNDS {
        let mut writers = [(); WRITERS].map(|()| start("tests::crash::writing_process", &path));
        // They need about that long to begin.
        std::thread::sleep(Duration::from_micros(random() % 30_000));
        for writer in &mut writers {
            std::thread::sleep(Duration::from_micros(random() % 8_000));
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        // Now and then nobody has it open, and the file alone tells.
        if round % 10 == 9 {
            drop(cache.take());
            cache = Some(Cache::open(&path).unwrap());
        }
        let cache = cache.as_ref().unwrap();
        assert_good(cache);
        let number = cache.events(1).unwrap().first().map_or(0, |event| event.number);
        progressed += u64::from(number > last);
        last = number;
        for number in 0..GROUPS {
            let there = group(number)
                .iter()
                .filter(|it| cache.by_fingerprint(it.fingerprint()).unwrap().is_some())
                .count();
            assert!(there == 0 || there == GROUP as usize, "{there} of group {number} in round {round}");
        }
    }
    assert!(progressed > ROUNDS / 4, "in {progressed} of {ROUNDS} rounds something was written");
    // And whoever comes next can write.
    cache.unwrap().insert(&numbered(9999), Source::Imported, year(2026)).unwrap();
}
