//! The map and the file: how they grow, and when they do not.

use super::*;

const SMALL: usize = 256 << 10;

#[test]
fn a_full_cache_says_so_keeps_what_it_has_and_goes_on_reading() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open_sized(&folder.path().join("certcache"), SMALL, SMALL).unwrap();
    cache.insert(&certificate("bob"), Source::Imported, year(2026)).unwrap();
    let many: Vec<Certificate> = (0..1000).map(numbered).collect();
    let error = cache.insert_all(&many, Source::Imported, year(2026)).unwrap_err();
    assert!(matches!(error, CacheError::Full { .. }), "{error}");
    assert_eq!(error.fault(), smime::Fault::Operator);
    assert_eq!(cache.stat().unwrap().certificates, 1);
    assert_eq!(found(&cache, "bob@example.org"), [certificate("bob")]);
    cache.insert(&numbered(1), Source::Imported, year(2026)).unwrap();
    assert_good(&cache);
}

#[test]
#[ignore = "the other process of the test below, which starts it"]
fn growing_process() {
    let cache = Cache::open_sized(&started_path(), SMALL, MAP_SIZE).unwrap();
    for first in 0..20 {
        let many: Vec<Certificate> = (0..50).map(|number| numbered(first * 50 + number)).collect();
        cache.insert_all(&many, Source::Imported, year(2026)).unwrap();
    }
    assert!(cache.resized() > 2, "the map was large enough");
}

#[test]
fn a_map_that_another_process_makes_larger_is_followed_while_threads_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certcache");
    let cache = Cache::open_sized(&path, SMALL, MAP_SIZE).unwrap();
    cache.insert(&certificate("alice-2025"), Source::Imported, year(2026)).unwrap();
    let mut other = start("tests::growth::growing_process", &path);
    let ended = std::sync::atomic::AtomicBool::new(false);
    let status = std::thread::scope(|scope| {
        let ended = &ended;
        for _ in 0..3 {
            let cache = &cache;
            scope.spawn(move || {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(found(cache, "alice@example.org"), [certificate("alice-2025")]);
                }
            });
        }
        let status = other.wait().unwrap();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        status
    });
    assert!(status.success());
    assert_eq!(found(&cache, "bob@example.org").len(), 1000);
    assert!(cache.resized() > 0, "this process did not have to follow");
    // And it writes after the other has grown it.
    cache.insert(&numbered(5000), Source::Imported, year(2026)).unwrap();
    assert_good(&cache);
}

#[test]
#[ignore = "the other process of the test below, which starts it"]
fn process_that_hangs_in_a_look_up() {
    let cache = Cache::open(&started_path()).unwrap();
    cache
        .read(|_, _| -> Tried<()> {
            std::io::Write::write_all(&mut std::io::stdout(), b"inside\n").unwrap();
            loop {
                std::thread::park();
            }
        })
        .unwrap();
}

#[test]
fn a_reader_that_was_killed_inside_a_look_up_does_not_make_the_file_grow_for_ever() {
    use std::io::{BufRead, BufReader};
    let (folder, cache) = cache();
    let many: Vec<Certificate> = (0..200).map(numbered).collect();
    let rewrite = || {
        for _ in 0..6 {
            cache.insert_all(&many, Source::Imported, year(2026)).unwrap();
            for certificate in &many {
                assert!(cache.by_fingerprint(certificate.fingerprint()).is_ok());
            }
            cache
                .write(|tables, transaction| {
                    for certificate in &many {
                        tables.cert.delete(transaction, certificate.fingerprint())?;
                        tables.der.delete(transaction, certificate.fingerprint())?;
                    }
                    Ok(())
                })
                .unwrap();
        }
        cache.stat().unwrap().file_octets
    };
    rewrite();
    let alone = rewrite();
    let path = folder.path().join("certcache");
    let mut other = start("tests::growth::process_that_hangs_in_a_look_up", &path);
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("inside")));
    other.kill().unwrap();
    other.wait().unwrap();
    let held = rewrite();
    assert!(held > alone, "the killed reader held nothing: {held} octets after {alone}");
    assert_eq!(cache.clear_stale_readers().unwrap(), 1);
    rewrite();
    let (first, mut last) = (rewrite(), 0);
    for _ in 0..4 {
        last = rewrite();
    }
    assert_eq!(first, last, "the file still grows");
}
