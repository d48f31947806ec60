//! Damage is found, named, never believed and never a crash.

use std::os::unix::{fs::FileExt, process::ExitStatusExt};

use smime::Fault;

use super::*;
use crate::tables::Table;

fn put(cache: &Cache, table: impl Fn(&Tables) -> Table, key: &[u8], value: Option<&[u8]>) {
    cache
        .write(|tables, transaction| {
            match value {
                Some(value) => table(tables).put(transaction, key, value)?,
                None => assert!(table(tables).delete(transaction, key)?),
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_damaged_record_never_hides_a_good_one_and_is_an_error_with_its_key() {
    let (_folder, cache) = cache();
    let (good, bad) = (certificate("alice-2024"), certificate("alice-2025"));
    cache.insert_all([&good, &bad], Source::Imported, year(2026)).unwrap();
    let mut der = bad.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    put(&cache, |tables| tables.der, bad.fingerprint(), Some(&der));
    let (entries, damaged) = cache.entries_of(&address("alice@example.org")).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].certificate, good);
    let error = damaged.unwrap();
    assert!(error.to_string().contains(&data_encoding::HEXLOWER.encode(bad.fingerprint())), "{error}");
    assert_eq!(error.fault(), Fault::Operator);
    // It can be taken out, with all that leads to it.
    assert!(cache.remove(bad.fingerprint()).unwrap());
    assert_good(&cache);
    assert_eq!(found(&cache, "alice@example.org"), [good]);
}

/// Table, key, new value or none, and whether making the indexes anew mends it.
type Change<'a> = (&'static str, Vec<u8>, Option<&'a [u8]>, bool);

#[test]
fn check_finds_each_kind_of_damage_and_reindexing_mends_the_indexes() {
    let bob = certificate("bob");
    let index = |part: &[u8]| [part, bob.fingerprint()].concat();
    let address = |text: &str| [text.as_bytes(), &[0], bob.fingerprint()].concat();
    let subject = index(&key::subject(&bob));
    let serial = index(&key::issuer_and_serial(key::issuer(&bob), bob.serial_number()));
    let changes: [Change<'_>; 10] = [
        ("by_addr", address("bob@example.org"), None, true),
        ("by_addr", address("alice@example.org"), Some(&[]), true),
        ("by_addr", [b"bob@example.org\0".as_slice(), &[9; 32]].concat(), Some(&[]), true),
        ("by_subj", subject, None, true),
        ("by_is", serial, None, true),
        ("by_exp", index(&[0; 8]), Some(&[]), true),
        ("by_ski", vec![1], Some(&[]), true),
        ("der", vec![9; 32], Some(&[1]), true),
        ("cert", bob.fingerprint().to_vec(), Some(&[2; 30]), true),
        ("log", 1_u64.to_be_bytes().to_vec(), Some(&[1; 30]), false),
    ];
    for (name, key, value, is_mended) in changes {
        let (_folder, cache) = cache();
        cache.insert(&bob, Source::Imported, year(2026)).unwrap();
        assert_good(&cache);
        let table = |tables: &Tables| tables.all().into_iter().find(|(known, _)| *known == name).unwrap().1;
        put(&cache, table, &key, value);
        let report = cache.check().unwrap();
        assert!(report.faults > 0, "{name} {value:?}");
        assert!(report.named.iter().any(|fault| fault.table == name), "{name}: {report:?}");
        cache.reindex().unwrap();
        assert_eq!(cache.check().unwrap().is_good(), is_mended, "{name} {value:?}");
    }
}

#[test]
fn an_index_entry_that_names_another_ones_certificate_is_not_believed() {
    let (_folder, cache) = cache();
    let bob = certificate("bob");
    cache.insert(&bob, Source::Imported, year(2026)).unwrap();
    let key = [b"alice@example.org\0".as_slice(), bob.fingerprint()].concat();
    put(&cache, |tables| tables.by_addr, &key, Some(&[]));
    let (entries, damaged) = cache.entries_of(&address("alice@example.org")).unwrap();
    assert!(entries.is_empty() && damaged.is_some());
}

/// A cache of several hundred pages, closed.
fn filled() -> (TempDir, PathBuf) {
    let (folder, cache) = cache();
    let many: Vec<Certificate> = (0..400).map(numbered).collect();
    cache.insert_all(&many, Source::Imported, year(2026)).unwrap();
    let path = folder.path().join("certcache");
    (folder, path)
}

#[test]
fn a_file_that_is_cut_off_is_an_error_and_not_a_signal() {
    let (_folder, path) = filled();
    let octets = fs::read(path.join("data.mdb")).unwrap();
    for part in [0, 1, 15, 100, 4096, 8192, 12_288, octets.len() / 4, octets.len() / 2] {
        fs::write(path.join("data.mdb"), &octets[..part]).unwrap();
        match Cache::open(&path) {
            // No octets at all are a new cache.
            Ok(cache) => assert_eq!((part, cache.stat().unwrap().certificates), (0, 0)),
            Err(error) => {
                assert!(matches!(error, CacheError::Truncated { .. }), "{part} octets: {error}");
                assert_eq!(error.fault(), Fault::Operator);
            }
        }
    }
    fs::write(path.join("data.mdb"), &octets).unwrap();
    assert_good(&Cache::open(&path).unwrap());
}

#[test]
#[ignore = "the other process of the test below, which starts it"]
fn reading_process() {
    // Any answer will do, but none may be a panic.
    if let Ok(cache) = Cache::open(&started_path()) {
        let _ = cache.check();
        let _ = cache.by_address(&address("bob@example.org"));
        let _ = cache.insert(&numbered(1000), Source::Imported, year(2026));
        let _ = cache.remove(numbered(3).fingerprint());
    }
}

#[test]
fn pages_of_zeros_are_errors_or_end_the_process_by_lmdbs_own_assertion() {
    let (_folder, path) = filled();
    let octets = fs::read(path.join("data.mdb")).unwrap();
    let pages = octets.len() / 4096;
    for step in 0..20 {
        fs::write(path.join("data.mdb"), &octets).unwrap();
        let file = fs::File::options().write(true).open(path.join("data.mdb")).unwrap();
        let page = 2 + (step * 37) % (pages - 2);
        file.write_all_at(&[0; 4096], page as u64 * 4096).unwrap();
        let status = start("tests::damage::reading_process", &path).wait().unwrap();
        // LMDB's assertions cannot be switched off or caught; what must not be is a crash or a panic of ours.
        let is_assertion = status.signal() == Some(6);
        assert!(status.success() || is_assertion, "page {page} of zeros: {status}");
    }
}
