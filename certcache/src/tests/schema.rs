//! Other schemas: the older one is brought up, the newer one refused or read as it says.

use heed::types::Bytes;
use smime::testing::authority::Authority;

use super::*;
use crate::{codec::seconds, tables::SCHEMA_KEY};

/// Makes a cache as version 1 of this program did.
fn schema_1(path: &Path) {
    fs::create_dir(path).unwrap();
    let mut options = heed::EnvOpenOptions::new();
    options.map_size(16 << 20).max_dbs(8);
    #[expect(unsafe_code, reason = "a test's own file that nobody else has open")]
    // SAFETY: nobody else has it open.
    let env = unsafe { options.open(path) }.unwrap();
    let mut transaction = env.write_txn().unwrap();
    let made = env
        .create_databases_and_commit(transaction, |opener, transaction| {
            let made = ["meta", "cert", "der", "by_addr", "neg"]
                .map(|name| opener.create_database::<Bytes, Bytes>(transaction, Some(name)).unwrap());
            Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(made))
        })
        .unwrap();
    let made = made.commit().unwrap();
    transaction = env.write_txn().unwrap();
    made[0].put(&mut transaction, SCHEMA_KEY, &1_u32.to_le_bytes()).unwrap();
    for number in 0..20 {
        let bob = numbered(number);
        let time = seconds(year(2025)).to_le_bytes();
        let record = [&[1, 3, 0], time.as_slice(), time.as_slice()].concat();
        made[1].put(&mut transaction, bob.fingerprint(), &record).unwrap();
        made[2].put(&mut transaction, bob.fingerprint(), bob.der()).unwrap();
        for address in ["bob@example.org", "robert@example.org"] {
            let key = [address.as_bytes(), &[0], bob.fingerprint()].concat();
            made[3].put(&mut transaction, &key, &[]).unwrap();
        }
    }
    // One that was damaged before.
    made[1].put(&mut transaction, &[7; 32], &[9; 19]).unwrap();
    made[4].put(&mut transaction, b"alice@example.org", &seconds(year(2027)).to_le_bytes()).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_cache_of_schema_1_is_brought_up_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certcache");
    schema_1(&path);
    for _ in 0..2 {
        let cache = Cache::open(&path).unwrap();
        assert_good(&cache);
        let entries = cache.by_address(&address("bob@example.org")).unwrap();
        assert_eq!(entries.len(), 20);
        let entry = &entries[0];
        assert_eq!(entry.sources.names().collect::<Vec<_>>(), ["harvested", "imported"]);
        assert_eq!((entry.state, entry.first_seen), (TrustState::Trusted, year(2025)));
        let identifier = entry.certificate.serial_number();
        let issuer = der::Encode::to_der(entry.certificate.issuer()).unwrap();
        assert_eq!(cache.by_issuer_and_serial(&issuer, identifier).unwrap().len(), 1);
        assert!(cache.is_absent(&address("alice@example.org"), None, year(2026)).unwrap());
        assert_eq!(cache.stat().unwrap().certificates, 20);
    }
}

#[test]
fn in_a_cache_of_schema_2_no_address_leads_to_a_ca_any_more() {
    let (folder, cache) = cache();
    let path = folder.path().join("certcache");
    let root = Authority::root("Root", "bob");
    let (bob, authority) = (certificate("bob"), root.certificate());
    let both = [Insertion::new(&bob, Source::Imported), Insertion::helper(authority, Source::Harvested)];
    cache.put(&both, year(2026)).unwrap();
    let row = key::pair(b"bob@example.org", authority.fingerprint());
    cache
        .write(|tables, transaction| {
            tables.by_addr.put(transaction, &row, &[])?;
            for key in [SCHEMA_KEY, tables::MIN_READER_KEY] {
                tables.meta.put(transaction, key, &2_u32.to_le_bytes())?;
            }
            Ok(())
        })
        .unwrap();
    assert!(!cache.check().unwrap().is_good());
    drop(cache);
    let cache = Cache::open(&path).unwrap();
    assert_good(&cache);
    assert_eq!(found(&cache, "bob@example.org"), [bob]);
}

#[test]
#[ignore = "the other process of the test below, which starts it"]
fn migrating_process() {
    Cache::open(&started_path()).unwrap();
}

#[test]
fn a_migration_that_is_killed_leaves_a_cache_that_is_migrated_next_time() {
    for step in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certcache");
        schema_1(&path);
        let mut other = start("tests::schema::migrating_process", &path);
        std::thread::sleep(Duration::from_micros(step * 700));
        other.kill().unwrap();
        other.wait().unwrap();
        let cache = Cache::open(&path).unwrap();
        assert_good(&cache);
        assert_eq!(found(&cache, "bob@example.org").len(), 20, "killed after step {step}");
    }
}

#[test]
fn a_newer_schema_is_refused_with_both_numbers_unless_it_says_that_we_can_read_it() {
    let (folder, cache) = cache();
    let path = folder.path().join("certcache");
    let set = |cache: &Cache, key: &[u8], number: u32| {
        cache
            .write(|tables, transaction| Ok(tables.meta.put(transaction, key, &number.to_le_bytes())?))
            .unwrap();
    };
    set(&cache, SCHEMA_KEY, 7);
    drop(cache);
    let cache = Cache::open(&path).unwrap();
    set(&cache, tables::MIN_READER_KEY, 7);
    drop(cache);
    let error = Cache::open(&path).unwrap_err();
    assert!(matches!(error, CacheError::Schema { found: 7, expected: 3, .. }), "{error}");
    assert!(error.to_string().contains("its schema is 7, this program knows 3"), "{error}");
}
