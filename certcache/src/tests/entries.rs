//! What is put in is found by everything it names, and by nothing else.

use std::{os::unix::fs::MetadataExt, process::Child};

use der::Encode;
use smime::{
    Fault,
    testing::{
        authority::{Authority, Wanted},
        fixtures::{self, now},
    },
};

use super::*;

#[test]
fn a_certificate_is_found_by_each_index_and_gone_from_all_when_it_is_removed() {
    let (_folder, cache) = cache();
    let bob = fixtures::certificate("bob");
    cache.insert_all([&bob, &fixtures::certificate("alice")], Source::Imported, year(2026)).unwrap();
    let issuer = bob.issuer().to_der().unwrap();
    let subject = bob.subject().to_der().unwrap();
    let identifier = bob.subject_key_identifier().unwrap();
    let by_each = || {
        let expiring = cache.expiring(bob.not_after(), bob.not_after() + Duration::from_secs(1), 9).unwrap();
        [
            cache.by_address(&address("BOB@example.org")).unwrap(),
            cache.by_issuer_and_serial(&issuer, bob.serial_number()).unwrap(),
            cache.by_subject_key_identifier(&identifier).unwrap(),
            cache.by_subject(&subject).unwrap(),
            expiring.into_iter().filter(|entry| entry.certificate == bob).collect(),
            cache.by_fingerprint(bob.fingerprint()).unwrap().into_iter().collect(),
        ]
    };
    for (which, entries) in by_each().iter().enumerate() {
        let found: Vec<_> = entries.iter().map(|entry| &entry.certificate).collect();
        assert_eq!(found, [&bob], "index {which}");
    }
    assert_good(&cache);
    assert!(cache.remove(bob.fingerprint()).unwrap());
    assert!(!cache.remove(bob.fingerprint()).unwrap());
    for (which, entries) in by_each().iter().enumerate() {
        assert!(entries.is_empty(), "index {which}");
    }
    assert_good(&cache);
    assert_eq!(found(&cache, "alice@example.org").len(), 1);
    // An address is not found by its beginning.
    assert!(found(&cache, "alice@example.or").is_empty());
}

#[test]
fn any_number_of_certificates_of_one_address_are_found() {
    let (_folder, cache) = cache();
    let many: Vec<Certificate> = (0..300).map(numbered).collect();
    cache.insert_all(&many, Source::Ldap, year(2026)).unwrap();
    assert_eq!(found(&cache, "bob@example.org").len(), 300);
    assert_eq!(found(&cache, "robert@example.org").len(), 300);
    let mut seen = 0;
    cache
        .for_each(|entry| {
            seen += 1;
            // The walk holds no transaction: the cache may be used and even changed.
            seen != 150 || cache.remove(entry.unwrap().certificate.fingerprint()).unwrap()
        })
        .unwrap();
    assert_eq!(seen, 300);
    assert_eq!(cache.stat().unwrap().certificates, 299);
}

#[test]
fn certificates_are_put_in_all_or_none() {
    let (_folder, cache) = cache();
    let refused = cache.insert_all([&numbered(1), &certificate("nobody")], Source::Imported, year(2026));
    let error = refused.unwrap_err();
    assert!(matches!(error, CacheError::NoAddress { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Message);
    assert_eq!(cache.stat().unwrap().certificates, 0);
    // A CA needs no address: it leads to an anchor.
    cache.insert(&fixtures::certificate("ca"), Source::Imported, year(2026)).unwrap();
    assert_eq!(cache.stat().unwrap().certificates, 1);
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
    let announced = |at, octet| Announced { at: year(at), capabilities: vec![0x30, octet] };
    for (at, octet) in [(2024, 1), (2026, 2), (2025, 3)] {
        let insertion = Insertion {
            message_id: Some("<1@example.org>"),
            announced: Some(announced(at, octet)),
            preferred: Some(year(at)),
            ..Insertion::new(&bob, Source::Harvested)
        };
        let known = cache.put(&[insertion], year(2026)).unwrap();
        assert_eq!(known, Inserted { new: 0, known: 1 });
    }
    let entry = cache.by_fingerprint(bob.fingerprint()).unwrap().unwrap();
    assert_eq!((entry.first_seen, entry.last_seen), (year(2025), year(2026)));
    assert_eq!(entry.sources.names().collect::<Vec<_>>(), ["harvested", "imported"]);
    assert_eq!(entry.message_id.as_deref(), Some("<1@example.org>"));
    // What was signed last counts, in whatever order it came (RFC 8551 2.7.1).
    assert_eq!(entry.announced, Some(announced(2026, 2)));
    assert_eq!(entry.preferred, Some(year(2026)));
}

#[test]
fn an_administrator_gives_and_takes_addresses_and_whole_domains() {
    let (_folder, cache) = cache();
    let bob = certificate("bob");
    cache.insert(&bob, Source::Imported, year(2026)).unwrap();
    for given in ["sales@Example.com", "@example.net"] {
        assert!(cache.assign(bob.fingerprint(), given, "asked by bob", year(2026)).unwrap());
    }
    for (text, is_there) in [
        ("sales@example.com", true),
        ("other@example.com", false),
        ("anybody@example.net", true),
        ("anybody@sub.example.net", false),
        ("bob@example.org", true),
    ] {
        assert_eq!(!found(&cache, text).is_empty(), is_there, "{text}");
    }
    assert_good(&cache);
    cache.unassign(bob.fingerprint(), "@EXAMPLE.net", "", year(2026)).unwrap();
    assert!(found(&cache, "anybody@example.net").is_empty());
    assert_good(&cache);
    for wrong in ["example.net", "@", "a b@example.org", "", "@a@b"] {
        assert!(cache.assign(bob.fingerprint(), wrong, "", year(2026)).is_err(), "{wrong:?}");
    }
}

#[test]
fn every_change_leaves_a_line_with_its_reason_and_the_oldest_go() {
    let (_folder, cache) = cache();
    let bob = certificate("bob");
    let insertion = Insertion { reason: "ticket 7", ..Insertion::new(&bob, Source::Imported) };
    cache.put(&[insertion], year(2026)).unwrap();
    cache.set_state(bob.fingerprint(), TrustState::Distrusted, "lost\nkey", year(2026)).unwrap();
    cache.remove_because(bob.fingerprint(), "left", year(2026)).unwrap();
    let events: Vec<_> = cache.events(9).unwrap().into_iter().map(|it| (it.action, it.reason)).collect();
    let expected =
        [("remove", "left"), ("state", "distrusted: lost key"), ("insert", "imported, trusted, ticket 7")];
    assert_eq!(events, expected.map(|(action, reason)| (action.to_owned(), reason.to_owned())));
    cache
        .write(|tables, transaction| {
            let far = (MAX_EVENTS + 1).to_be_bytes();
            let value = tables.log.get(transaction, &2_u64.to_be_bytes())?.unwrap().to_vec();
            tables.log.put(transaction, &far, &value)?;
            Ok(())
        })
        .unwrap();
    cache.note("refuse", "x", "y", year(2026)).unwrap();
    let numbers: Vec<_> = cache.events(9).unwrap().into_iter().map(|it| it.number).collect();
    assert_eq!(numbers, [MAX_EVENTS + 2, MAX_EVENTS + 1, 3, 1]);
}

#[test]
fn an_address_is_absent_at_a_source_for_a_while_and_until_a_certificate_comes() {
    let (_folder, cache) = cache();
    let bob = address("bob@example.org");
    cache.put_absent(&bob, Some(Source::Ldap), year(2027)).unwrap();
    let absent = |source, at| cache.is_absent(&bob, source, at).unwrap();
    assert!(absent(Some(Source::Ldap), year(2026)));
    assert!(!absent(Some(Source::Ldap), year(2027)));
    assert!(!absent(Some(Source::Smimea), year(2026)) && !absent(None, year(2026)));
    cache.put_absent(&bob, None, year(2027)).unwrap();
    assert!(absent(None, year(2026)));
    cache.insert(&certificate("bob"), Source::Imported, year(2026)).unwrap();
    assert!(!absent(None, year(2026)) && !absent(Some(Source::Ldap), year(2026)));
    cache.put_absent(&bob, None, year(2027)).unwrap();
    assert_eq!(cache.sweep(year(2026)).unwrap(), 0);
    assert_eq!(cache.sweep(year(2028)).unwrap(), 1);
    assert_eq!(cache.stat().unwrap().absent, 0);
}

#[test]
#[ignore = "the other process of the test below, which starts it"]
fn other_process() {
    let cache = Cache::open(&started_path()).unwrap();
    assert_eq!(found(&cache, "alice@example.org"), [certificate("alice-2025")]);
    for number in 0..200 {
        cache.insert(&numbered(number), Source::Harvested, year(2026)).unwrap();
    }
}

#[test]
fn one_process_reads_while_another_writes() {
    let (folder, cache) = cache();
    cache.insert(&certificate("alice-2025"), Source::Imported, year(2026)).unwrap();
    let mut other: Child = start("tests::entries::other_process", &folder.path().join("certcache"));
    let (mut last, mut steps) = (0, 0);
    let status = loop {
        assert_eq!(found(&cache, "alice@example.org"), [certificate("alice-2025")]);
        let number = found(&cache, "bob@example.org").len();
        assert_eq!(found(&cache, "robert@example.org").len().min(number), number);
        assert!(number >= last, "{number} certificates after {last}");
        steps += usize::from(number > last);
        last = number;
        if let Some(status) = other.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
    assert!(steps > 1, "nothing was seen while it was written");
    assert_eq!(found(&cache, "bob@example.org").len(), 200);
    // And this process can write after the other.
    assert_eq!(cache.insert(&numbered(7), Source::Imported, year(2026)).unwrap().known, 1);
}

#[test]
fn a_process_opens_a_cache_once() {
    /// What this process has locked of a file, in the kernel's words (proc(5)).
    fn locks(file: &Path) -> Vec<String> {
        let (own, inode) = (std::process::id().to_string(), fs::metadata(file).unwrap().ino());
        let all = fs::read_to_string("/proc/locks").unwrap();
        let own = all.lines().filter(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.get(4) == Some(&own.as_str()) && line.contains(&format!(":{inode} "))
        });
        own.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    let (folder, _cache) = cache();
    let path = folder.path().join("certcache");
    let before = locks(&path.join("lock.mdb"));
    assert!(!before.is_empty(), "LMDB holds no lock");
    // By another name as well.
    std::os::unix::fs::symlink(&path, folder.path().join("other")).unwrap();
    for path in [&path, &folder.path().join("other")] {
        let error = Cache::open(path).unwrap_err();
        assert!(matches!(error, CacheError::OpenTwice { .. }), "{error}");
    }
    // Whoever closes a file lets go of all that his process has locked of it.
    assert_eq!(locks(&path.join("lock.mdb")), before);
    let error = Cache::open(Path::new("/nowhere/certcache")).unwrap_err();
    assert!(matches!(error, CacheError::Folder { .. }), "{error}");
}

#[test]
fn only_an_administrator_or_the_operator_s_files_lift_the_limit_of_a_certificate_to_an_address() {
    let (_folder, cache) = cache();
    let root = Authority::root("Root", "bob");
    let addresses = &["mallory@evil.example", "alice@example.org", "carol@example.org"];
    let [mallory, alice, carol] = addresses.map(address);
    for (serial, first, state, then, expected) in [
        (2, Source::Harvested, TrustState::Trusted, (Source::Ldap, None), "mallory"),
        (3, Source::Ldap, TrustState::Trusted, (Source::Smimea, None), "mallory"),
        (4, Source::Smimea, TrustState::Trusted, (Source::Ldap, Some(&alice)), "mallory alice"),
        (5, Source::Smimea, TrustState::Trusted, (Source::Imported, None), "mallory alice carol"),
        (6, Source::Ldap, TrustState::Pending, (Source::Directory, None), "mallory alice carol"),
        // What makes more of a candidate, for one address, leaves it a candidate for the other, which is no use of it.
        (7, Source::Harvested, TrustState::Candidate, (Source::Smimea, Some(&alice)), "alice"),
        (8, Source::Imported, TrustState::Trusted, (Source::Smimea, Some(&alice)), "mallory alice carol"),
    ] {
        let certificate = root.issue(&Wanted { serial, addresses, ..Wanted::default() });
        let only = (first != Source::Imported).then_some(&mallory);
        let put = |insertion| cache.put(&[insertion], now()).unwrap();
        put(Insertion { state, only, ..Insertion::new(&certificate, first) });
        put(Insertion { only: then.1, ..Insertion::new(&certificate, then.0) });
        let entry = cache.by_fingerprint(certificate.fingerprint()).unwrap().unwrap();
        let used = [&mallory, &alice, &carol].into_iter().filter(|address| entry.is_used_for(address));
        let used: Vec<_> = used.filter_map(|address| address.as_str().split('@').next()).collect();
        assert_eq!(used.join(" "), expected, "{serial}");
    }
}
