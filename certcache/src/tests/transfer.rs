//! Export, import, backup: what was decided survives the loss of the cache.

use super::*;

fn described(cache: &Cache) -> Vec<String> {
    let mut all = Vec::new();
    cache
        .for_each(|entry| {
            let entry = entry.unwrap();
            all.push(format!(
                "{} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
                entry.certificate,
                entry.sources,
                entry.state,
                entry.message_id,
                entry.announced,
                entry.preferred,
                entry.assigned,
                entry.only
            ));
            true
        })
        .unwrap();
    all
}

fn filled(cache: &Cache) {
    let (bob, alice) = (certificate("bob"), certificate("alice-2025"));
    let from = address("alice@example.org");
    let harvested = Insertion {
        only: Some(&from),
        message_id: Some("<1@example.org>"),
        announced: Some(Announced { at: year(2025), capabilities: vec![0x30, 0] }),
        preferred: Some(year(2025)),
        state: TrustState::Pending,
        ..Insertion::new(&alice, Source::Harvested)
    };
    cache.put(&[harvested, Insertion::new(&bob, Source::Imported)], year(2026)).unwrap();
    cache.assign(bob.fingerprint(), "@example.net", "", year(2026)).unwrap();
    cache.insert(&bob, Source::Ldap, year(2026)).unwrap();
    let old = certificate("alice-2024");
    cache.insert(&old, Source::Harvested, year(2026)).unwrap();
    cache.set_state(old.fingerprint(), TrustState::Distrusted, "stolen", year(2026)).unwrap();
    cache.add_rule(b"issuer", Some(year(2024)), "breach", year(2026)).unwrap();
}

#[test]
fn what_is_exported_is_imported_with_all_that_is_known_of_it() {
    let (_folder, one) = cache();
    filled(&one);
    let mut lines = Vec::new();
    assert_eq!(one.export(Which::All, &mut lines).unwrap(), 5);
    let (_folder, two) = cache();
    let done = two.import(&mut lines.as_slice(), year(2026)).unwrap();
    assert_eq!(done, Inserted { new: 3, known: 0 });
    assert_eq!(described(&two), described(&one));
    assert_eq!(two.rules().unwrap(), one.rules().unwrap());
    // Twice is not more.
    assert_eq!(two.import(&mut lines.as_slice(), year(2026)).unwrap(), Inserted { new: 0, known: 3 });
    assert_eq!(described(&two), described(&one));
    assert_eq!(two.rules().unwrap().len(), 1);
    assert_good(&two);
}

#[test]
fn an_import_does_not_undo_what_an_administrator_decided_since() {
    let (_folder, cache) = cache();
    let bob = certificate("bob");
    cache.insert(&bob, Source::Imported, year(2026)).unwrap();
    let mut lines = Vec::new();
    cache.export(Which::All, &mut lines).unwrap();
    cache.set_state(bob.fingerprint(), TrustState::Distrusted, "stolen", year(2026)).unwrap();
    cache.import(&mut lines.as_slice(), year(2026)).unwrap();
    let entry = cache.by_fingerprint(bob.fingerprint()).unwrap().unwrap();
    assert_eq!(entry.state, TrustState::Distrusted);
}

#[test]
fn a_line_that_cannot_be_taken_is_named() {
    let (_folder, cache) = cache();
    let good = r#"{"type":"hsmime-certcache","version":1}"#;
    for bad in [
        "no json",
        "{}",
        r#"{"type":"certificate"}"#,
        r#"{"type":"certificate","der":"MAA=","sources":["imported"],"state":"trusted"}"#,
        r#"{"type":"rule","issuer":7}"#,
        "\u{0}",
    ] {
        let lines = format!("{good}\n{bad}\n");
        let error = cache.import(&mut lines.as_bytes(), year(2026)).unwrap_err();
        assert!(matches!(error, CacheError::Import { line: 2, .. }), "{bad}: {error}");
    }
    let mut export = Vec::new();
    cache.insert(&certificate("bob"), Source::Imported, year(2026)).unwrap();
    cache.export(Which::All, &mut export).unwrap();
    let without = String::from_utf8(export).unwrap().replace(r#"["imported"]"#, "[]");
    assert!(cache.import(&mut without.as_bytes(), year(2026)).is_err());
    assert!(cache.import(&mut vec![b'x'; 2 << 20].as_slice(), year(2026)).is_err());
}

#[test]
fn what_an_administrator_decided_survives_the_loss_of_the_cache() {
    let (folder, cache) = cache();
    let path = folder.path().join("certcache");
    filled(&cache);
    let before: Vec<_> = described(&cache);
    cache.keep_decided().unwrap();
    drop(cache);
    fs::remove_file(path.join("data.mdb")).unwrap();
    let cache = Cache::open(&path).unwrap();
    let after = described(&cache);
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(after.iter().all(|entry| before.contains(entry)), "{after:?}");
    assert_eq!(cache.rules().unwrap().len(), 1);
    assert_good(&cache);
}

#[test]
fn a_new_cache_does_not_begin_without_what_was_decided() {
    let (folder, cache) = cache();
    let path = folder.path().join("certcache");
    filled(&cache);
    cache.keep_decided().unwrap();
    drop(cache);
    let decided = path.join("decided.jsonl");
    let whole = fs::read_to_string(&decided).unwrap();
    // A line of a newer program before the rule, which is the last.
    let (certificates, rule) = whole.trim_end().rsplit_once('\n').unwrap();
    fs::write(&decided, format!("{certificates}\n{{\"type\":\"newer\"}}\n{rule}\n")).unwrap();
    fs::remove_file(path.join("data.mdb")).unwrap();
    for _ in 0..2 {
        let error = Cache::open(&path).unwrap_err().to_string();
        assert!(error.contains("decided.jsonl") && error.contains("line 4"), "{error}");
    }
    // What cannot be read is not what is not there.
    fs::remove_file(&decided).unwrap();
    fs::create_dir(&decided).unwrap();
    Cache::open(&path).unwrap_err();
    fs::remove_dir(&decided).unwrap();
    fs::write(&decided, whole).unwrap();
    let cache = Cache::open(&path).unwrap();
    assert_eq!((described(&cache).len(), cache.rules().unwrap().len()), (2, 1));
    assert_good(&cache);
}

#[test]
fn a_backup_is_a_cache_and_does_not_overwrite_one() {
    let (folder, cache) = cache();
    filled(&cache);
    let copy = folder.path().join("copy");
    cache.backup(BackupFile::create(&copy).unwrap()).unwrap();
    BackupFile::create(&copy).unwrap_err();
    let copy = Cache::open(&copy).unwrap();
    assert_eq!(described(&copy), described(&cache));
    assert_good(&copy);
}
