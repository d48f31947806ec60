//! What a CRL, or the lack of one, makes of choices that were made and of those that are remembered.

use smime::revocation::{Evidence, RevocationSource};

use super::*;

/// A source of revocation that never has an answer, and takes the time that is left of three seconds.
#[derive(Debug)]
struct Slow;

impl RevocationSource for Slow {
    fn evidence(&self, _: &Certificate, _: &Certificate, waited: &mut Duration) -> Evidence {
        let left = Duration::from_secs(3).saturating_sub(*waited);
        *waited += left;
        Evidence { unavailable: Some("it is slow".to_owned()), ..Evidence::default() }
    }
}

#[test]
fn who_knows_what_is_revoked_is_waited_for_once_for_a_message_and_that_is_not_remembered() {
    let (_folder, cache) = cache();
    let cache = Arc::new(cache);
    let root = Authority::root("Root", "bob");
    let source: Arc<dyn RevocationSource> = Arc::new(Slow);
    let trust = Trust { revocation_source: Some(source), ..trust(&root, RevocationMode::SoftFail) };
    let chooser = Chooser::new(Arc::clone(&cache), trust, Take::Newest);
    let others = ["bob@example.org", "carol@example.org"];
    for (serial, text) in (1..).zip(others) {
        let certificate = root.issue(&Wanted { addresses: &[text], serial, ..Wanted::default() });
        cache.insert(&certificate, Source::Imported, now()).unwrap();
    }
    let mut waited = Waited::default();
    for text in others {
        chooser.lookup(&address(text), now(), &mut waited).unwrap();
    }
    assert_eq!((waited.revocation, waited.sources), (Duration::from_secs(3), Duration::ZERO));
    assert!(chooser.flush(Duration::from_secs(20)));
    let remembered = others.map(|text| chooser.remembered(&address(text), now()).unwrap().is_some());
    assert_eq!(remembered, [true, false]);
}

#[test]
fn a_crl_that_comes_later_takes_back_what_was_remembered() {
    let site = site_with(RevocationMode::HardFail, Take::Newest);
    let (old, new) = (
        site.issue(&Wanted { serial: 1, ..Wanted::default() }),
        site.issue(&Wanted { serial: 2, from: now() - DAY, ..Wanted::default() }),
    );
    site.put(&old, TrustState::Trusted);
    site.put(&new, TrustState::Trusted);
    assert_eq!(site.chosen(), []);
    assert!(matches!(site.refusal(&new), Some(Refusal::RevocationUnknown(_))));
    put_crl(&site, &[], now() - DAY * 2);
    assert_eq!(site.chosen(), std::slice::from_ref(&new));
    put_crl(&site, &[&new], now() - DAY);
    assert!(!site.is_remembered());
    assert_eq!(site.chosen(), [old]);
    assert!(matches!(site.refusal(&new), Some(Refusal::Revoked(_))));
    // What is remembered holds no longer than the CRL.
    let found = site.chooser.candidates(&address("alice@example.org"), now() + DAY * 2 - DAY / 4).unwrap();
    assert_eq!(found.until, now() + DAY * 2);
    // A pinned one needs no path; that it is revoked still counts.
    site.cache.set_state(new.fingerprint(), TrustState::Pinned, "", now()).unwrap();
    assert!(matches!(site.refusal(&new), Some(Refusal::Revoked(_))));
}

/// Puts the CRL of an authority into a cache as it is fetched a minute after it was made.
fn put_crl_of(
    cache: &Cache,
    authority: &Authority,
    revoked: &[&Certificate],
    this_update: SystemTime,
    next_update: SystemTime,
) -> Stored {
    let der = authority.crl(revoked, this_update, next_update);
    let crl = Status {
        der,
        this_update,
        next_update: Some(next_update),
        fetched: this_update + Duration::from_mins(1),
        url: None,
        etag: None,
    };
    let name = authority.certificate().subject().to_der().unwrap();
    cache.put_crl(&name, "", &crl).unwrap()
}

#[test]
fn a_routine_crl_makes_void_only_the_choices_of_those_whose_entries_changed() {
    let site = site_with(RevocationMode::HardFail, Take::Newest);
    let people = ["alice@example.org", "bob@example.org", "carol@example.org"];
    let certificates: Vec<_> = (1..)
        .zip(&people)
        .map(|(serial, person)| site.issue(&Wanted { addresses: &[*person], serial, ..Wanted::default() }))
        .collect();
    site.cache.insert_all(&certificates, Source::Imported, now()).unwrap();
    let hours = |hours| now() - DAY + Duration::from_hours(hours);
    let put = |revoked: &[&Certificate], begin, end| {
        put_crl_of(&site.cache, &site.root, revoked, hours(begin), hours(end))
    };
    let choose = || people.map(|person| site.chosen_of(person).len());
    let remembered =
        || people.map(|person| site.chooser.remembered(&address(person), now()).unwrap().is_some());
    let [alice, bob, carol] = [0, 1, 2].map(|at| &certificates[at]);
    put(&[], 0, 48);
    assert_eq!(choose(), [1, 1, 1]);
    // The same in other words, and one that lists somebody who is not in the cache.
    let stranger = site.issue(&Wanted { serial: 77, ..Wanted::default() });
    assert_eq!(put(&[&stranger], 1, 49), Stored::New);
    assert_eq!(remembered(), [true, true, true]);
    assert_eq!(put(&[&stranger, bob], 2, 50), Stored::New);
    assert_eq!(remembered(), [true, false, true]);
    assert_eq!(choose(), [1, 0, 1]);
    // A hold that ends, and another that begins.
    put(&[carol], 3, 51);
    assert_eq!(remembered(), [true, false, false]);
    assert_eq!(choose(), [1, 1, 0]);
    // One that comes late, and one that comes after what is not comparable: all of them.
    put(&[carol, alice], 3 + 51, 100);
    assert_eq!(remembered(), [false, false, false]);
    assert_eq!(choose(), [0, 1, 0]);
    assert_good(&site.cache);
}

#[test]
fn a_crl_of_who_issued_issuers_makes_all_choices_void() {
    let site = site_with(RevocationMode::HardFail, Take::Newest);
    let below = site.root.intermediate("Below", "alice");
    // Of the configuration: the cache does not know the issuer's serial number.
    let trust = Trust {
        intermediates: vec![below.certificate().clone()],
        ..trust(&site.root, RevocationMode::HardFail)
    };
    let chooser = Chooser::new(Arc::clone(&site.cache), trust, Take::Newest);
    let alice = below.issue(&Wanted::default());
    site.cache.insert(&alice, Source::Imported, now()).unwrap();
    let (hour, end) = (Duration::from_hours(1), now() + DAY);
    for authority in [&site.root, &below] {
        put_crl_of(&site.cache, authority, &[], now() - DAY, end);
    }
    let to = address("alice@example.org");
    let found = |found: Lookup| matches!(found, Lookup::Found(_));
    assert!(found(chooser.lookup(&to, now(), &mut Waited::default()).unwrap()));
    assert!(chooser.flush(Duration::from_secs(20)));
    let is_remembered = || chooser.remembered(&to, now()).unwrap().is_some();
    assert!(is_remembered());
    put_crl_of(&site.cache, &below, &[], now() - DAY + hour, end);
    assert!(is_remembered());
    put_crl_of(&site.cache, &site.root, &[below.certificate()], now() - DAY + hour, end);
    assert!(!is_remembered());
    assert!(!found(chooser.lookup(&to, now(), &mut Waited::default()).unwrap()));
}

#[test]
fn what_was_being_found_out_when_a_crl_came_is_not_remembered() {
    let site = site_with(RevocationMode::HardFail, Take::Newest);
    let alice = site.issue(&Wanted::default());
    site.cache.insert(&alice, Source::Imported, now()).unwrap();
    put_crl_of(&site.cache, &site.root, &[], now() - DAY, now() + DAY);
    // What is written down a moment later was found out before.
    site.chooser.candidates(&address("alice@example.org"), now()).unwrap();
    put_crl_of(&site.cache, &site.root, &[&alice], now() - DAY / 2, now() + DAY);
    assert!(site.chooser.flush(Duration::from_secs(20)));
    assert_eq!(site.chosen(), []);
}
