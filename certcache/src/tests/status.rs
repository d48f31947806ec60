//! CRLs and OCSP answers are kept with how they were fetched, and rules are.

use der::Encode;

use super::*;

fn status(this_update: u64, der: &[u8]) -> Status {
    Status {
        der: der.to_vec(),
        this_update: year(this_update),
        next_update: Some(year(this_update + 1)),
        fetched: year(2026),
        url: Some("http://ca.example.org/1.crl".to_owned()),
        etag: Some("\"1\"".to_owned()),
    }
}

#[test]
fn the_newest_crl_of_each_scope_is_kept_whatever_comes_later() {
    let (folder, cache) = cache();
    let issuer = certificate("bob").issuer().to_der().unwrap();
    let put = |scope, crl: &Status| cache.put_crl(&issuer, scope, crl).unwrap();
    assert_eq!(put("", &status(2025, b"a")), Stored::New);
    assert_eq!(put("", &status(2024, b"b")), Stored::Older);
    assert_eq!(put("http://ca/2", &status(2024, b"c")), Stored::New);
    let later = Status { fetched: year(2027), etag: None, ..status(2025, b"a") };
    assert_eq!(put("", &later), Stored::Known);
    drop(cache);
    let cache = Cache::open(&folder.path().join("certcache")).unwrap();
    let mut crls = cache.crls_of(&issuer).unwrap();
    crls.sort_by_key(|crl| crl.der.clone());
    assert_eq!(crls, [later.clone(), status(2024, b"c")]);
    assert_eq!(cache.crl(&issuer, "").unwrap(), Some(later));
    assert!(cache.crls_of(b"another").unwrap().is_empty());
    let mut seen = 0;
    cache.for_each_crl(|_| seen += 1).unwrap();
    assert_eq!(seen, 2);
    assert_good(&cache);
    // The one that ended in 2025 goes a week later, the other one stays.
    cache.sweep(year(2025) + Duration::from_hours(8 * 24)).unwrap();
    assert_eq!(cache.crls_of(&issuer).unwrap().len(), 1);
}

#[test]
fn ocsp_answers_are_of_one_certificate() {
    let (_folder, cache) = cache();
    let (bob, alice) = (certificate("bob"), certificate("alice-2025"));
    assert_eq!(cache.put_ocsp(&bob, &status(2025, b"a")).unwrap(), Stored::New);
    assert_eq!(cache.put_ocsp(&bob, &status(2024, b"b")).unwrap(), Stored::Older);
    assert_eq!(cache.ocsp_for(&bob).unwrap(), Some(status(2025, b"a")));
    assert_eq!(cache.ocsp_for(&alice).unwrap(), None);
}

#[test]
fn what_is_too_large_is_refused_with_both_sizes() {
    let (_folder, cache) = cache();
    let large = status(2025, &vec![0; MAX_OCSP_LEN + 1]);
    let error = cache.put_ocsp(&certificate("bob"), &large).unwrap_err();
    assert!(matches!(error, CacheError::TooLarge { len, limit, .. } if len == limit + 1), "{error}");
    cache.put_crl(b"issuer", "", &large).unwrap();
    let error = cache.put_crl(b"issuer", "", &status(2025, &vec![0; MAX_CRL_LEN + 1])).unwrap_err();
    assert!(matches!(error, CacheError::TooLarge { .. }), "{error}");
}

#[test]
fn a_url_that_gave_nothing_is_not_asked_for_a_while() {
    let (_folder, cache) = cache();
    let url = "http://ca.example.org/1.crl";
    cache.put_unfetchable(url, year(2026), "timeout").unwrap();
    assert_eq!(cache.unfetchable(url, year(2025)).unwrap().as_deref(), Some("timeout"));
    assert_eq!(cache.unfetchable(url, year(2026)).unwrap(), None);
    assert_eq!(cache.unfetchable("http://other/", year(2025)).unwrap(), None);
}

#[test]
fn a_rule_forbids_what_its_issuer_issued_after_a_time() {
    let (_folder, cache) = cache();
    let bob = certificate("bob");
    let issuer = bob.issuer().to_der().unwrap();
    let second = Duration::from_secs(1);
    let add = |issuer: &[u8], after| cache.add_rule(issuer, after, "breach", year(2026)).unwrap();
    add(&issuer, None);
    add(&issuer, Some(bob.not_before()));
    add(&issuer, Some(bob.not_before() - second));
    add(b"another", None);
    let forbids: Vec<_> =
        cache.rules().unwrap().iter().map(|rule| rule.forbids(std::slice::from_ref(&bob))).collect();
    assert_eq!(forbids, [true, false, true, false]);
    assert!(cache.remove_rule(1, "over", year(2026)).unwrap());
    assert!(!cache.remove_rule(1, "over", year(2026)).unwrap());
    assert_eq!(cache.rules().unwrap().len(), 3);
    assert_eq!(add(&issuer, None), 5);
    // A rule that cannot be read is not passed over.
    cache
        .write(|tables, transaction| Ok(tables.rule.put(transaction, &2_u64.to_be_bytes(), &[1; 9])?))
        .unwrap();
    assert!(cache.rules().is_err());
}
