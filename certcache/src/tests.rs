//! Tests of the cache as a whole, each in a folder of its own; `testdata` is made by agent's `make.sh`.

use std::{
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use smime::{
    Certificate, Fault, MailAddress,
    store::{Lookup, RecipientCertificates},
};
use tempfile::TempDir;

use super::*;

fn certificate(name: &str) -> Certificate {
    let path = format!("{}/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    Certificate::from_pem(&fs::read_to_string(path).unwrap()).unwrap().remove(0)
}

/// The certificate of bob with another serial number, which makes it another certificate.
fn numbered(number: u32) -> Certificate {
    let bob = certificate("bob");
    let mut der = bob.der().to_vec();
    let serial = bob.serial_number();
    let at = der.windows(serial.len()).position(|window| window == serial).unwrap();
    der[at + 1..at + 5].copy_from_slice(&number.to_be_bytes());
    Certificate::from_der(&der).unwrap()
}

fn address(text: &str) -> MailAddress {
    MailAddress::parse(text).unwrap()
}

fn year(year: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_556_952)
}

fn cache() -> (TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("certcache")).unwrap();
    (folder, cache)
}

fn found(cache: &Cache, text: &str, at: SystemTime) -> Vec<Certificate> {
    match cache.lookup(&address(text), at).unwrap() {
        Lookup::Found(certificates) => certificates,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_certificates_that_can_be_used_now_are_found_the_newest_first() {
    let (_folder, cache) = cache();
    let all = ["alice-2015", "alice-2025", "alice-tls", "alice-signs", "alice-2024", "bob"].map(certificate);
    cache.insert_all(&all, Source::Imported, year(2026)).unwrap();
    for (at, expected) in
        [(2026, &["alice-2025", "alice-2024"][..]), (2016, &["alice-2015"]), (2024, &["alice-2024"])]
    {
        let expected: Vec<Certificate> = expected.iter().map(|name| certificate(name)).collect();
        let at = year(at) + Duration::from_hours(24);
        assert_eq!(found(&cache, "ALICE@example.org", at), expected, "{at:?}");
    }
    let expired = cache.lookup(&address("alice@example.org"), year(2018)).unwrap();
    assert!(matches!(expired, Lookup::Unknown), "{expired:?}");
}

#[test]
fn there_is_none_and_i_do_not_know_are_two_answers() {
    let (_folder, cache) = cache();
    let bob = address("bob@example.org");
    let look_up = |at| cache.lookup(&bob, at).unwrap();
    assert!(matches!(look_up(year(2026)), Lookup::Unknown));
    cache.insert_absent(&bob, year(2027)).unwrap();
    assert!(matches!(look_up(year(2026)), Lookup::Absent));
    assert!(matches!(look_up(year(2027)), Lookup::Unknown));
    assert_eq!(cache.stat().unwrap().absent, 1);
    cache.insert(&certificate("bob"), Source::Imported, year(2026)).unwrap();
    assert!(matches!(look_up(year(2026)), Lookup::Found(_)));
    assert_eq!(cache.stat().unwrap().absent, 0);
    // An address is not found by its beginning.
    assert!(matches!(cache.lookup(&address("bob@example.or"), year(2026)).unwrap(), Lookup::Unknown));
}

#[test]
fn a_certificate_is_there_with_all_its_addresses_or_not_at_all() {
    let (_folder, cache) = cache();
    let bob = certificate("bob");
    cache.insert(&bob, Source::Imported, year(2026)).unwrap();
    assert_eq!(found(&cache, "bob@example.org", year(2026)), std::slice::from_ref(&bob));
    assert_eq!(found(&cache, "robert@example.org", year(2026)), std::slice::from_ref(&bob));
    let refused = cache.insert_all(&[numbered(1), certificate("nobody")], Source::Imported, year(2026));
    assert!(matches!(refused, Err(CacheError::NoAddress { .. })), "{refused:?}");
    let stat = cache.stat().unwrap();
    assert_eq!((stat.certificates, stat.addresses), (1, 2));
    assert!(cache.remove(bob.fingerprint()).unwrap());
    assert!(!cache.remove(bob.fingerprint()).unwrap());
    let stat = cache.stat().unwrap();
    assert_eq!((stat.certificates, stat.addresses), (0, 0));
}

#[test]
fn what_was_put_in_is_there_after_opening_again_with_its_history() {
    let (folder, cache) = cache();
    let path = folder.path().join("certcache");
    let bob = certificate("bob");
    let first = cache.insert(&bob, Source::Imported, year(2025)).unwrap();
    assert_eq!(first, Inserted { new: 1, known: 0 });
    drop(cache);
    let cache = Cache::open(&path).unwrap();
    let second = cache.insert(&bob, Source::Harvested, year(2026)).unwrap();
    assert_eq!(second, Inserted { new: 0, known: 1 });
    let entry = cache.by_fingerprint(bob.fingerprint()).unwrap().unwrap();
    assert_eq!((entry.first_seen, entry.last_seen), (year(2025), year(2026)));
    assert_eq!(entry.sources.names().collect::<Vec<_>>(), ["harvested", "imported"]);
    let mut seen = Vec::new();
    let visit = |entry: Result<Entry, CacheError>| {
        seen.push(entry.unwrap().certificate);
        true
    };
    cache.for_each(visit).unwrap();
    assert_eq!(seen, [bob]);
}

#[test]
fn a_damaged_record_never_hides_a_good_one_and_alone_is_an_error() {
    let (_folder, cache) = cache();
    let (good, bad) = (certificate("alice-2024"), certificate("alice-2025"));
    cache.insert_all([&good, &bad], Source::Imported, year(2026)).unwrap();
    let mut der = bad.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let mut transaction = cache.env.write_txn().unwrap();
    cache.tables.octets.put(&mut transaction, bad.fingerprint(), &der).unwrap();
    transaction.commit().unwrap();
    assert_eq!(found(&cache, "alice@example.org", year(2026)), std::slice::from_ref(&good));
    cache.remove(good.fingerprint()).unwrap();
    let error = cache.lookup(&address("alice@example.org"), year(2026)).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(error.fault(), Fault::Operator);
}

#[test]
fn an_index_entry_that_names_another_ones_certificate_is_not_believed() {
    let (_folder, cache) = cache();
    let bob = certificate("bob");
    cache.insert(&bob, Source::Imported, year(2026)).unwrap();
    let key = record::address_key(&address("alice@example.org"), bob.fingerprint()).unwrap();
    let mut transaction = cache.env.write_txn().unwrap();
    cache.tables.addresses.put(&mut transaction, &key, &[]).unwrap();
    transaction.commit().unwrap();
    assert!(cache.lookup(&address("alice@example.org"), year(2026)).is_err());
}

#[test]
fn a_full_cache_says_so_keeps_what_it_has_and_goes_on_reading() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open_sized(&folder.path().join("certcache"), 256 << 10).unwrap();
    cache.insert(&certificate("bob"), Source::Imported, year(2026)).unwrap();
    let many: Vec<Certificate> = (0..1000).map(numbered).collect();
    let error = cache.insert_all(&many, Source::Imported, year(2026)).unwrap_err();
    assert!(matches!(error, CacheError::Full { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Operator);
    assert_eq!(cache.stat().unwrap().certificates, 1);
    assert_eq!(found(&cache, "bob@example.org", year(2026)), [certificate("bob")]);
    cache.insert(&numbered(1), Source::Imported, year(2026)).unwrap();
}

#[test]
fn another_schema_is_refused_with_both_numbers() {
    let (folder, cache) = cache();
    let path = folder.path().join("certcache");
    let mut transaction = cache.env.write_txn().unwrap();
    cache.tables.meta.put(&mut transaction, SCHEMA_KEY, &7_u32.to_le_bytes()).unwrap();
    transaction.commit().unwrap();
    drop(cache);
    let error = Cache::open(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("its schema is 7, this program knows 1; move the folder away and import again"),
        "{error}"
    );
}

#[test]
fn a_process_opens_a_cache_once() {
    let (folder, _cache) = cache();
    let error = Cache::open(&folder.path().join("certcache")).unwrap_err();
    assert!(matches!(error, CacheError::OpenTwice { .. }), "{error}");
    let error = Cache::open(Path::new("/nowhere/certcache")).unwrap_err();
    assert!(matches!(error, CacheError::Folder { .. }), "{error}");
}

#[test]
#[ignore = "the other process of the test below, which starts it"]
fn other_process() {
    let path = std::env::var("CERTCACHE_OTHER_PROCESS").unwrap();
    let cache = Cache::open(Path::new(&path)).unwrap();
    assert_eq!(found(&cache, "alice@example.org", year(2026)), [certificate("alice-2025")]);
    for number in 0..200 {
        cache.insert(&numbered(number), Source::Harvested, year(2026)).unwrap();
    }
}

#[test]
fn one_process_reads_while_another_writes() {
    let (folder, cache) = cache();
    cache.insert(&certificate("alice-2025"), Source::Imported, year(2026)).unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::other_process", "--ignored"])
        .env("CERTCACHE_OTHER_PROCESS", folder.path().join("certcache"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut last, mut steps) = (0, 0);
    let status = loop {
        assert_eq!(found(&cache, "alice@example.org", year(2026)), [certificate("alice-2025")]);
        let number = cache.by_address(&address("bob@example.org")).unwrap().len();
        assert_eq!(cache.by_address(&address("robert@example.org")).unwrap().len().min(number), number);
        assert!(number >= last, "{number} certificates after {last}");
        steps += usize::from(number > last);
        last = number;
        if let Some(status) = other.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
    assert!(steps > 1, "nothing was seen while it was written");
    assert_eq!(cache.by_address(&address("bob@example.org")).unwrap().len(), 200);
    // And this process can write after the other.
    assert_eq!(cache.insert(&numbered(7), Source::Imported, year(2026)).unwrap().known, 1);
}
