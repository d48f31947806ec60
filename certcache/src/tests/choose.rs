//! Whom to encrypt to, and why not to the others.

use std::time::Duration;

use const_oid::db::rfc5280;
use der::Encode;
use smime::{
    path::{RevocationMode, Trust},
    revocation::{Evidence, RevocationSource},
    store::{Lookup, RecipientCertificates, Waited},
    testing::{
        authority::{Authority, Wanted},
        fixtures::{self, now},
    },
};
use x509_cert::ext::pkix::KeyUsages;

use super::*;
use crate::{Chooser, Refusal, Remembered, Take};

const DAY: Duration = Duration::from_hours(24);

/// A cache, a CA that is trusted, and a chooser.
struct Site {
    _folder: TempDir,
    cache: Arc<Cache>,
    root: Authority,
    chooser: Chooser,
}

fn trust(root: &Authority, revocation: RevocationMode) -> Trust {
    Trust { anchors: vec![root.certificate().clone()], revocation, ..Trust::default() }
}

fn site_with(revocation: RevocationMode, take: Take) -> Site {
    let (folder, cache) = cache();
    let cache = Arc::new(cache);
    let root = Authority::root("Root", "bob");
    let chooser = Chooser::new(Arc::clone(&cache), trust(&root, revocation), take);
    Site { _folder: folder, cache, root, chooser }
}

fn site() -> Site {
    site_with(RevocationMode::Off, Take::Newest)
}

impl Site {
    fn put(&self, certificate: &Certificate, state: TrustState) {
        let insertion = Insertion { state, ..Insertion::new(certificate, Source::Harvested) };
        self.cache.put(&[insertion], now()).unwrap();
    }

    fn issue(&self, wanted: &Wanted<'_>) -> Certificate {
        self.root.issue(wanted)
    }

    /// The chosen ones, which are remembered afterwards.
    fn chosen(&self) -> Vec<Certificate> {
        self.chosen_of("alice@example.org")
    }

    fn chosen_of(&self, text: &str) -> Vec<Certificate> {
        let address = address(text);
        let first = self.chooser.lookup(&address, now(), &mut Waited::default()).unwrap();
        assert!(self.chooser.flush(Duration::from_secs(20)));
        let again = self.chooser.lookup(&address, now(), &mut Waited::default()).unwrap();
        match (first, again) {
            (Lookup::Found(first), Lookup::Found(again)) => {
                assert_eq!(first, again, "what is remembered differs from what was found");
                first
            }
            (Lookup::Found(_), other) | (other, Lookup::Found(_)) => panic!("remembered: {other:?}"),
            _ => Vec::new(),
        }
    }

    fn refusal(&self, certificate: &Certificate) -> Option<Refusal> {
        let found = self.chooser.candidates(&address("alice@example.org"), now()).unwrap();
        let candidate = found.candidates.iter().find(|it| it.entry.certificate == *certificate);
        candidate.unwrap().refusal.clone()
    }

    fn is_remembered(&self) -> bool {
        self.chooser.remembered(&address("alice@example.org"), now()).unwrap().is_some()
    }
}

#[test]
fn each_certificate_that_is_not_taken_says_why_and_hides_no_good_one() {
    let other_root = Authority::root("Other", "bob");
    let good = Wanted { serial: 1, ..Wanted::default() };
    let later = Wanted { serial: 2, from: now() - DAY, ..Wanted::default() };
    let tls = [rfc5280::ID_KP_SERVER_AUTH];
    let cases: [(&str, Wanted<'_>, TrustState); 10] = [
        ("expired", Wanted { until: now() - DAY / 2, ..later.clone() }, TrustState::Trusted),
        ("not valid yet", Wanted { from: now() + DAY, ..later.clone() }, TrustState::Trusted),
        (
            "not for encrypting (keyUsage)",
            Wanted { usage: KeyUsages::DigitalSignature.into(), ..later.clone() },
            TrustState::Trusted,
        ),
        ("not for e-mail (extKeyUsage)", Wanted { purposes: &tls, ..later.clone() }, TrustState::Trusted),
        ("distrusted by an administrator", later.clone(), TrustState::Distrusted),
        ("a candidate only", later.clone(), TrustState::Candidate),
        ("pending", later.clone(), TrustState::Pending),
        ("the RSA key", Wanted { key: "rsa1024", ..later.clone() }, TrustState::Trusted),
        ("expired", Wanted { until: now() - DAY / 2, ..later.clone() }, TrustState::Pinned),
        ("superseded", Wanted { from: good.from - DAY, ..later.clone() }, TrustState::Trusted),
    ];
    for (reason, wanted, state) in cases {
        let site = site();
        let (good, bad) = (site.issue(&good), site.issue(&wanted));
        site.put(&good, TrustState::Trusted);
        site.put(&bad, state);
        let refusal = site.refusal(&bad).unwrap_or_else(|| panic!("{reason} is taken")).to_string();
        assert!(refusal.starts_with(reason), "{reason}: {refusal}");
        assert_eq!(site.chosen(), [good], "{reason}");
    }
    let site = site();
    let (good, bad) = (site.issue(&good), other_root.issue(&later));
    site.put(&good, TrustState::Trusted);
    site.put(&bad, TrustState::Trusted);
    let refusal = site.refusal(&bad).unwrap();
    assert!(matches!(refusal, Refusal::Untrusted(_)), "{refusal}");
    assert_eq!(site.chosen(), [good]);
}

#[test]
fn the_preferred_then_the_newest_is_taken_or_all_that_are_valid() {
    let wanted = |serial, age: u32| Wanted { serial, from: now() - DAY * age, ..Wanted::default() };
    let site = site();
    let [old, new, newest] =
        [(1, 30), (2, 20), (3, 10)].map(|(serial, age)| site.issue(&wanted(serial, age)));
    for certificate in [&old, &new, &newest] {
        site.put(certificate, TrustState::Trusted);
    }
    assert_eq!(site.chosen(), std::slice::from_ref(&newest));
    let all = Chooser::new(Arc::clone(&site.cache), trust(&site.root, RevocationMode::Off), Take::All);
    let Lookup::Found(found) =
        all.lookup(&address("alice@example.org"), now(), &mut Waited::default()).unwrap()
    else {
        panic!()
    };
    assert_eq!(found, [newest.clone(), new.clone(), old.clone()]);
    let preferring =
        |certificate, at| Insertion { preferred: Some(at), ..Insertion::new(certificate, Source::Harvested) };
    site.cache.put(&[preferring(&old, now() - DAY), preferring(&new, now() - DAY * 2)], now()).unwrap();
    assert_eq!(site.chosen(), std::slice::from_ref(&old));
    site.cache.set_state(new.fingerprint(), TrustState::Pinned, "", now()).unwrap();
    assert_eq!(site.chosen(), std::slice::from_ref(&new));
    site.cache.set_state(new.fingerprint(), TrustState::Distrusted, "", now()).unwrap();
    assert_eq!(site.chosen(), [old]);
}

#[test]
fn of_a_pair_for_signing_and_encrypting_the_one_for_encrypting_is_taken() {
    let site = site();
    let signs = site.issue(&Wanted {
        serial: 1,
        from: now() - DAY,
        usage: KeyUsages::DigitalSignature.into(),
        ..Wanted::default()
    });
    let encrypts = site.issue(&Wanted {
        serial: 2,
        key: "revoked",
        usage: KeyUsages::KeyEncipherment.into(),
        ..Wanted::default()
    });
    site.put(&signs, TrustState::Trusted);
    site.put(&encrypts, TrustState::Trusted);
    assert_eq!(site.chosen(), [encrypts]);
    assert_eq!(site.refusal(&signs), Some(Refusal::KeyUsage));
}

#[test]
fn a_pending_certificate_waits_until_those_before_it_have_ended_or_somebody_agrees() {
    for (ends, chosen) in [("not", 0), ("expired", 1), ("revoked", 1), ("distrusted", 1), ("agreed", 1)] {
        let site = site_with(RevocationMode::SoftFail, Take::Newest);
        let until = if ends == "expired" { now() - DAY } else { now() + DAY };
        let first = site.issue(&Wanted { serial: 1, until, ..Wanted::default() });
        let second =
            site.issue(&Wanted { serial: 2, key: "revoked", from: now() - DAY, ..Wanted::default() });
        site.put(&first, TrustState::Trusted);
        site.put(&second, TrustState::Pending);
        match ends {
            "revoked" => put_crl(&site, &[&first], now() - DAY),
            "distrusted" => {
                site.cache.set_state(first.fingerprint(), TrustState::Distrusted, "", now()).unwrap();
            }
            "agreed" => {
                site.cache.set_state(second.fingerprint(), TrustState::Trusted, "", now()).unwrap();
            }
            _ => {}
        }
        let expected = [&first, &second][chosen];
        assert_eq!(site.chosen(), std::slice::from_ref(expected), "{ends}");
    }
}

#[test]
fn a_pending_certificate_does_not_wait_for_one_that_leads_nowhere() {
    let site = site();
    let genuine = site.issue(&Wanted::default());
    let other = Authority::root("Other", "bob").issue(&Wanted { serial: 2, ..Wanted::default() });
    site.put(&other, TrustState::Trusted);
    site.put(&genuine, TrustState::Pending);
    assert!(matches!(site.refusal(&other), Some(Refusal::Untrusted(_))));
    assert_eq!(site.chosen(), [genuine]);
}

#[test]
fn a_ca_s_certificate_that_only_helps_is_nobody_s_until_somebody_says_so() {
    let site = site();
    let wanted = Wanted { is_ca: true, ..Wanted::default() };
    let authority = site.issue(&wanted);
    let alice = address("alice@example.org");
    let put = |insertion| site.cache.put(&[insertion], now()).unwrap();
    let there = || (site.cache.by_address(&alice).unwrap().len(), site.cache.stat().unwrap().certificates);
    put(Insertion::helper(&authority, Source::Harvested));
    assert_eq!(there(), (0, 1));
    // Seen again as what it names, from one address only: it is that one's.
    let only = Some(&alice);
    put(Insertion { only, ..Insertion::new(&authority, Source::Harvested) });
    assert_eq!(there(), (1, 1));
    assert!(site.cache.by_address(&alice).unwrap()[0].only.len() == 1);
    put(Insertion::helper(&authority, Source::Ldap));
    assert_eq!(there(), (1, 1));
    assert!(site.cache.by_address(&alice).unwrap()[0].only.len() == 1);
    assert_good(&site.cache);
    site.cache.set_state(authority.fingerprint(), TrustState::Pinned, "", now()).unwrap();
    assert_eq!(there(), (1, 1));
    assert_good(&site.cache);
    // A helper that an administrator takes for more, and back.
    let other = site.issue(&Wanted { serial: 9, ..wanted });
    put(Insertion::helper(&other, Source::Ldap));
    for (state, found) in [(TrustState::Trusted, 2), (TrustState::Candidate, 1), (TrustState::Distrusted, 2)]
    {
        site.cache.set_state(other.fingerprint(), state, "", now()).unwrap();
        assert_eq!(there(), (found, 2), "{state:?}");
        assert_good(&site.cache);
    }
    site.cache.remove(other.fingerprint()).unwrap();
    assert_eq!(there(), (1, 1));
    assert_good(&site.cache);
}

#[test]
fn a_hundred_cas_of_the_same_name_do_not_hide_the_one_whose_key_it_is() {
    // Fixtures with key identifiers: the CA's certificate by any other serial number is another one.
    let (folder, cache) = cache();
    let cache = Arc::new(cache);
    let ca = fixtures::certificate("ca");
    let alice = fixtures::certificate("alice");
    assert!(alice.authority_key_identifier().is_some_and(|it| Some(it) == ca.subject_key_identifier()));
    let decoys = (0..400).map(|number| {
        let identifier = ca.subject_key_identifier().unwrap();
        let mut der = ca.der().to_vec();
        let places: Vec<_> = (0..der.len()).filter(|at| der[*at..].starts_with(&identifier)).collect();
        for at in places {
            der[at..at + 4].copy_from_slice(&u32::to_be_bytes(number));
        }
        Certificate::from_der(&der).unwrap()
    });
    let decoys: Vec<_> = decoys.collect();
    let all: Vec<_> = decoys.iter().chain([&ca, &alice]).map(|it| Insertion::new(it, Source::Ldap)).collect();
    cache.put(&all, now()).unwrap();
    let trust = Trust { revocation: RevocationMode::Off, ..fixtures::trust() };
    let chooser = Chooser::new(cache, trust, Take::Newest);
    let found = chooser.candidates(&address("alice@example.org"), now()).unwrap();
    assert_eq!(found.chosen().collect::<Vec<_>>(), [&alice], "{:?}", found.candidates);
    drop(folder);
}

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

fn put_crl(site: &Site, revoked: &[&Certificate], this_update: SystemTime) {
    let next_update = this_update + DAY * 3;
    let status = Status {
        der: site.root.crl(revoked, this_update, next_update),
        this_update,
        next_update: Some(next_update),
        fetched: now(),
        url: None,
        etag: None,
    };
    let issuer = site.root.certificate().subject().to_der().unwrap();
    assert_eq!(site.cache.put_crl(&issuer, "", &status).unwrap(), Stored::New);
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

type Change = fn(&Site, &Certificate);

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

#[test]
fn whatever_may_change_a_choice_makes_it_void() {
    let alice = |site: &Site| site.issue(&Wanted::default());
    let changes: [(&str, Change); 8] = [
        ("another certificate", |site, _| {
            site.put(&site.issue(&Wanted { serial: 9, ..Wanted::default() }), TrustState::Trusted);
        }),
        ("a state", |site, own| {
            assert!(site.cache.set_state(own.fingerprint(), TrustState::Distrusted, "", now()).unwrap());
        }),
        ("removal", |site, own| assert!(site.cache.remove(own.fingerprint()).unwrap())),
        ("a rule", |site, own| {
            site.cache.add_rule(&own.issuer().to_der().unwrap(), None, "", now()).map(drop).unwrap();
        }),
        ("a CRL", |site, _| put_crl(site, &[], now() - DAY)),
        ("an issuer", |site, _| {
            site.put(site.root.intermediate("Below", "revoked").certificate(), TrustState::Trusted);
        }),
        ("a domain's certificate", |site, _| {
            let wanted = Wanted { addresses: &["gate@example.net"], serial: 5, ..Wanted::default() };
            let gate = site.issue(&wanted);
            site.put(&gate, TrustState::Trusted);
            assert!(site.cache.assign(gate.fingerprint(), "@example.org", "", now()).unwrap());
        }),
        ("an OCSP answer", |site, own| {
            let status = Status {
                der: vec![1],
                this_update: now(),
                next_update: None,
                fetched: now(),
                url: None,
                etag: None,
            };
            assert_eq!(site.cache.put_ocsp(own, &status).unwrap(), Stored::New);
        }),
    ];
    for (what, change) in changes {
        let site = site();
        let own = alice(&site);
        site.put(&own, TrustState::Trusted);
        assert_eq!(site.chosen(), std::slice::from_ref(&own), "{what}");
        assert!(site.is_remembered());
        // What is found out before the change and written after it does not count either.
        let before = site.cache.gather(&address("alice@example.org")).unwrap().inputs;
        change(&site, &own);
        assert!(!site.is_remembered(), "{what}");
        let after = site.cache.gather(&address("alice@example.org")).unwrap().inputs;
        assert_ne!(before, after, "{what}");
    }
    // Nothing of that: a certificate of somebody else, and the same one seen again.
    let site = site();
    let own = alice(&site);
    site.put(&own, TrustState::Trusted);
    site.chosen();
    site.put(&own, TrustState::Trusted);
    let wanted = Wanted { addresses: &["bob@example.org"], serial: 5, ..Wanted::default() };
    site.put(&site.issue(&wanted), TrustState::Trusted);
    assert!(site.is_remembered());
    // Another trust configuration, and another time.
    let other =
        Chooser::new(Arc::clone(&site.cache), trust(&site.root, RevocationMode::HardFail), Take::Newest);
    let alice = address("alice@example.org");
    assert_eq!(other.remembered(&alice, now()).unwrap(), None);
    for at in [now() - DAY, now() + DAY] {
        assert_eq!(site.chooser.remembered(&alice, at).unwrap(), None);
    }
    assert_eq!(site.chooser.remembered(&alice, now()).unwrap(), Some(Remembered::Chosen(vec![own])));
}

#[test]
fn a_rule_against_an_issuer_is_followed_and_named() {
    let site = site();
    let (old, new) = (
        site.issue(&Wanted { serial: 1, ..Wanted::default() }),
        site.issue(&Wanted { serial: 2, from: now() - DAY, ..Wanted::default() }),
    );
    site.put(&old, TrustState::Trusted);
    site.put(&new, TrustState::Trusted);
    let issuer = new.issuer().to_der().unwrap();
    site.cache.add_rule(&issuer, Some(now() - DAY * 2), "breach", now()).unwrap();
    assert_eq!(site.chosen(), [old]);
    assert_eq!(site.refusal(&new), Some(Refusal::Rule { number: 1, comment: "breach".to_owned() }));
}

#[test]
fn an_intermediate_of_the_cache_leads_to_an_anchor_and_a_distrusted_one_does_not() {
    let site = site();
    let below = site.root.intermediate("Below", "revoked");
    let alice = below.issue(&Wanted::default());
    site.put(&alice, TrustState::Trusted);
    assert_eq!(site.chosen(), []);
    site.put(below.certificate(), TrustState::Candidate);
    assert_eq!(site.chosen(), [alice]);
    site.cache.set_state(below.certificate().fingerprint(), TrustState::Distrusted, "", now()).unwrap();
    assert_eq!(site.chosen(), []);
}

#[test]
fn a_domains_certificate_is_taken_where_it_was_entered_and_the_address_has_none() {
    let site = site();
    let gate = site.issue(&Wanted {
        addresses: &["domain-confidentiality-authority@example.org"],
        serial: 5,
        ..Wanted::default()
    });
    site.put(&gate, TrustState::Trusted);
    assert_eq!(site.chosen(), []);
    assert_eq!(site.refusal(&gate), Some(Refusal::DomainNotEntered));
    site.cache.assign(gate.fingerprint(), "@example.org", "agreed with their postmaster", now()).unwrap();
    assert_eq!(site.chosen(), std::slice::from_ref(&gate));
    assert_eq!(site.chosen_of("anybody@example.org"), std::slice::from_ref(&gate));
    assert_eq!(site.chosen_of("anybody@sub.example.org"), []);
    let own = site.issue(&Wanted::default());
    site.put(&own, TrustState::Trusted);
    assert_eq!(site.chosen(), [own]);
    assert_eq!(site.chosen_of("anybody@example.org"), [gate]);
}

#[test]
fn there_is_none_and_i_do_not_know_are_two_answers() {
    let site = site();
    let alice = address("alice@example.org");
    let look_up = |at| site.chooser.lookup(&alice, at, &mut Waited::default()).unwrap();
    assert!(matches!(look_up(now()), Lookup::Unlisted));
    site.cache.insert_absent(&alice, now() + DAY).unwrap();
    assert!(matches!(look_up(now()), Lookup::Absent));
    assert!(matches!(look_up(now() + DAY), Lookup::Unlisted));
    site.put(&site.issue(&Wanted::default()), TrustState::Trusted);
    assert!(matches!(look_up(now()), Lookup::Found(_)));
}

/// The answer in a word, with the reason of one that is for good.
fn word(lookup: Lookup) -> String {
    match lookup {
        Lookup::Found(_) => "found".to_owned(),
        Lookup::Absent => "absent".to_owned(),
        Lookup::Unusable(reason) => format!("unusable: {reason}"),
        Lookup::Unlisted => "unlisted".to_owned(),
        Lookup::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn what_can_never_be_used_is_told_from_what_can_be_later_and_from_what_was_not_meant_to_be() {
    use TrustState::{Candidate, Distrusted, Pending, Pinned, Trusted};
    let tls = [rfc5280::ID_KP_SERVER_AUTH];
    let expired = Wanted { until: now() - DAY / 2, ..Wanted::default() };
    let signs = Wanted { usage: KeyUsages::DigitalSignature.into(), ..Wanted::default() };
    let web = Wanted { purposes: &tls, ..Wanted::default() };
    let early = Wanted { from: now() + DAY, ..Wanted::default() };
    let good = Wanted::default();
    let distrusted = "unusable: distrusted by an administrator";
    for (what, wanted, state, revocation, expected) in [
        ("expired", &expired, Trusted, RevocationMode::Off, "unusable: expired"),
        ("expired and pinned", &expired, Pinned, RevocationMode::Off, "unusable: expired"),
        ("expired and pending", &expired, Pending, RevocationMode::Off, "unusable: expired"),
        ("for signing", &signs, Trusted, RevocationMode::Off, "unusable: not for encrypting (keyUsage)"),
        ("for servers", &web, Trusted, RevocationMode::Off, "unusable: not for e-mail (extKeyUsage)"),
        ("distrusted", &good, Distrusted, RevocationMode::Off, distrusted),
        ("early", &early, Trusted, RevocationMode::Off, "unknown"),
        ("nobody knows", &good, Trusted, RevocationMode::HardFail, "unknown"),
        ("a candidate", &good, Candidate, RevocationMode::Off, "unlisted"),
        ("good", &good, Trusted, RevocationMode::Off, "found"),
    ] {
        let site = site_with(revocation, Take::Newest);
        let alice = address("alice@example.org");
        let look_up = || word(site.chooser.lookup(&alice, now(), &mut Waited::default()).unwrap());
        site.put(&site.issue(wanted), state);
        assert_eq!(look_up(), expected, "{what}");
        assert!(site.chooser.flush(Duration::from_secs(20)));
        assert_eq!(look_up(), expected, "{what}, remembered");
        // One that may be used later is what counts.
        site.put(&site.issue(&Wanted { serial: 9, ..early.clone() }), Trusted);
        let expected = if expected == "found" { "found" } else { "unknown" };
        assert_eq!(look_up(), expected, "{what}, and another");
    }
    let site = site();
    site.put(&Authority::root("Other", "bob").issue(&good), Trusted);
    let answer = site.chooser.lookup(&address("alice@example.org"), now(), &mut Waited::default());
    assert!(word(answer.unwrap()).starts_with("unusable: not trusted: "));
}

#[test]
fn what_the_newest_message_announced_comes_with_a_certificate() {
    let site = site();
    let alice = site.issue(&Wanted::default());
    assert!(site.chooser.capabilities(&alice).is_none());
    let announce = |at, capabilities: &[u8]| {
        let announced = Some(Announced { at, capabilities: capabilities.to_vec() });
        let insertion = Insertion { announced, ..Insertion::new(&alice, Source::Harvested) };
        site.cache.put(&[insertion], now()).unwrap();
        site.chooser.capabilities(&alice).map(|it| it.octets().to_vec())
    };
    assert_eq!(announce(now() - DAY, &[0x30, 0]), Some(vec![0x30, 0]));
    let gcm = [0x30, 13, 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 46];
    assert_eq!(announce(now(), &gcm), Some(gcm.to_vec()));
    assert_eq!(announce(now() - DAY, &[0x30, 0]), Some(gcm.to_vec()));
    assert_eq!(announce(now() + DAY, b"what is none"), None);
}

#[test]
fn a_damaged_record_never_hides_a_good_one_and_alone_is_an_error() {
    let site = site();
    let (good, bad) = (
        site.issue(&Wanted { serial: 1, ..Wanted::default() }),
        site.issue(&Wanted { serial: 2, from: now() - DAY, ..Wanted::default() }),
    );
    site.put(&good, TrustState::Trusted);
    site.put(&bad, TrustState::Trusted);
    assert_eq!(site.chosen(), std::slice::from_ref(&bad));
    site.cache
        .write(|tables, transaction| {
            tables.der.put(transaction, bad.fingerprint(), good.der())?;
            Ok(())
        })
        .unwrap();
    // What is remembered names octets that are another certificate's.
    let alice = address("alice@example.org");
    assert_eq!(site.chooser.remembered(&alice, now()).unwrap(), None);
    let Lookup::Found(found) = site.chooser.lookup(&alice, now(), &mut Waited::default()).unwrap() else {
        panic!()
    };
    assert_eq!(found, std::slice::from_ref(&good));
    site.cache.remove(good.fingerprint()).unwrap();
    let error = site.chooser.lookup(&alice, now(), &mut Waited::default()).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn the_fixtures_of_openssl_are_chosen_as_their_names_say() {
    let (_folder, cache) = cache();
    let cache = Arc::new(cache);
    let names = ["alice", "encrypt-only", "server", "mallory", "ca"];
    for name in names {
        cache.insert(&fixtures::certificate(name), Source::Imported, now()).unwrap();
    }
    let chooser =
        Chooser::new(Arc::clone(&cache), fixtures::trust_with_crls(RevocationMode::HardFail), Take::All);
    let found = chooser.candidates(&address("alice@example.org"), now()).unwrap();
    let mut chosen: Vec<_> = found.chosen().map(|it| it.subject().to_string()).collect();
    chosen.sort();
    assert_eq!(chosen, ["CN=Alice", "CN=Encrypt only"], "{:?}", found.candidates);
}

#[test]
fn addresses_that_differ_in_case_beyond_ascii_share_no_choice() {
    let site = site();
    let certificate = site.issue(&Wanted::default());
    let [lower, upper] =
        ["j\u{f6}rg@example.org", "J\u{f6}rg@example.org"].map(|text| MailAddress::parse(text).unwrap());
    assert_ne!(upper, lower);
    let insertion =
        Insertion { assigned: vec![lower.folded()], ..Insertion::new(&certificate, Source::Imported) };
    site.cache.put(&[insertion], now()).unwrap();
    let chosen =
        |address: &MailAddress| site.chooser.candidates_anew(address, now()).unwrap().chosen().count();
    assert_eq!((chosen(&lower), chosen(&upper)), (1, 0));
    for (first, second) in [(&lower, &upper), (&upper, &lower)] {
        let found = [first, second]
            .map(|address| site.chooser.lookup(address, now(), &mut Waited::default()).unwrap());
        assert!(site.chooser.flush(Duration::from_secs(10)));
        let again = [first, second]
            .map(|address| site.chooser.lookup(address, now(), &mut Waited::default()).unwrap());
        for (address, found) in [first, second, first, second].into_iter().zip(found.into_iter().chain(again))
        {
            assert_eq!(matches!(found, Lookup::Found(_)), address == &lower, "{address} {found:?}");
        }
    }
}

#[test]
fn a_certificate_given_to_a_domain_is_found_however_the_domain_is_spelled() {
    let site = site();
    let certificate = site.issue(&Wanted::default());
    site.put(&certificate, TrustState::Trusted);
    let spelled = ["x@b\u{fc}cher.example", "x@B\u{dc}CHER.example", "x@xn--bcher-kva.example"];
    let addresses = spelled.map(|text| MailAddress::parse(text).unwrap());
    let found = || {
        addresses.each_ref().map(|address| {
            let found = site.chooser.lookup(address, now(), &mut Waited::default()).unwrap();
            assert!(site.chooser.flush(Duration::from_secs(10)));
            matches!(found, Lookup::Found(_))
        })
    };
    let fingerprint = certificate.fingerprint();
    for domain in ["@b\u{fc}cher.example", "@XN--bcher-kva.example"] {
        // What was found out before is void afterwards.
        assert_eq!(found(), [false; 3]);
        site.cache.assign(fingerprint, domain, "", now()).unwrap();
        assert_eq!(found(), [true; 3], "{domain}");
        assert_eq!(found(), [true; 3], "{domain}, remembered");
        site.cache.unassign(fingerprint, "@B\u{dc}cher.example", "", now()).unwrap();
    }
}

#[test]
fn a_remembered_choice_of_a_certificate_that_is_not_the_address_s_does_not_count() {
    let site = site();
    let certificate = site.issue(&Wanted::default());
    site.put(&certificate, TrustState::Trusted);
    let [alice, other] =
        ["alice@example.org", "other@example.org"].map(|text| MailAddress::parse(text).unwrap());
    assert!(matches!(site.chooser.lookup(&alice, now(), &mut Waited::default()).unwrap(), Lookup::Found(_)));
    assert!(site.chooser.flush(Duration::from_secs(10)));
    // The row of one address under the key of another, as a fault in a key would have it.
    let rows = |tables: &Tables, transaction: &RoTxn<'_>| {
        let mut rows = Vec::new();
        for row in tables.choice.iter(transaction)? {
            let (key, value) = row?;
            rows.push((key.to_vec(), value.to_vec()));
        }
        Ok(rows)
    };
    let (key, value) = site.cache.read(rows).unwrap().remove(0);
    let key = [other.folded().as_bytes(), &key[alice.folded().len()..]].concat();
    site.cache.write(|tables, transaction| Ok(tables.choice.put(transaction, &key, &value)?)).unwrap();
    assert_eq!(site.chooser.remembered_octets(&other, now()).unwrap().map(|chosen| chosen.len()), Some(1));
    assert_eq!(site.chooser.remembered(&other, now()).unwrap(), None);
}

#[test]
fn a_search_that_was_cut_off_is_unknown_for_now_and_never_a_refusal() {
    let site = site();
    // CAs of one name that certified each other: more ways than are gone. By the names alone each may lead to the root.
    let authorities = ["alice", "mallory", "revoked", "server", "encrypt-only"];
    let of = |key: &'static str, serial| Wanted {
        key,
        serial,
        name: "CA",
        addresses: &[],
        usage: KeyUsages::KeyCertSign.into(),
        purposes: &[],
        is_ca: true,
        ..Wanted::default()
    };
    let mut crossed = vec![site.issue(&of("ca", 900))];
    for (number, issuer) in authorities.iter().enumerate() {
        let issuer_key = Authority::root("CA", issuer);
        for (other, subject) in authorities.iter().enumerate().filter(|(_, subject)| *subject != issuer) {
            let serial = u32::try_from(1000 + number * 100 + other).unwrap();
            crossed.extend([serial, serial + 50].map(|serial| issuer_key.issue(&of(subject, serial))));
        }
    }
    for certificate in &crossed {
        site.cache.put(&[Insertion::helper(certificate, Source::Ldap)], now()).unwrap();
    }
    let alice = Authority::root("CA", "alice").issue(&Wanted { key: "bob", ..Wanted::default() });
    site.put(&alice, TrustState::Trusted);
    let address = address("alice@example.org");
    let answer = |at| site.chooser.lookup(&address, at, &mut Waited::default()).unwrap();
    let is_unknown = |at| matches!(answer(at), Lookup::Unknown);
    assert!(is_unknown(now()));
    assert!(matches!(site.refusal(&alice), Some(Refusal::Undecided(_))));
    // One that is pinned needs no path.
    site.cache.set_state(alice.fingerprint(), TrustState::Pinned, "", now()).unwrap();
    assert_eq!(site.chosen(), std::slice::from_ref(&alice));
    site.cache.set_state(alice.fingerprint(), TrustState::Trusted, "", now()).unwrap();
    // Nor is anything else remembered of it, and that not for long.
    assert!(site.chooser.flush(Duration::from_secs(20)));
    assert!(is_unknown(now()) && is_unknown(now() + Duration::from_mins(10)));
    assert_eq!(site.chooser.remembered(&address, now() + Duration::from_mins(6)).unwrap(), None);
    // It is no one's fault for good: with fewer ways, the good one is found.
    for certificate in &crossed {
        assert!(site.cache.remove(certificate.fingerprint()).unwrap());
    }
    site.cache.put(&[Insertion::helper(&site.issue(&of("alice", 901)), Source::Ldap)], now()).unwrap();
    assert_eq!(site.chosen(), [alice]);
}

/// Whoever makes CA certificates chooses their names and key identifiers, and which come first in an index of fingerprints.
#[test]
fn an_issuer_that_others_of_its_name_and_key_identifier_push_out_is_unknown_and_never_a_refusal() {
    let site = site();
    let of = |serial| Wanted {
        key: "alice",
        serial,
        name: "CA",
        addresses: &[],
        usage: KeyUsages::KeyCertSign.into(),
        purposes: &[],
        is_ca: true,
        ..Wanted::default()
    };
    let good = (1..20).map(|serial| site.issue(&of(serial))).max_by_key(|it| *it.fingerprint()).unwrap();
    let alice = Authority::root("CA", "alice").issue(&Wanted { key: "bob", ..Wanted::default() });
    let address = address("alice@example.org");
    let answer = |at| site.chooser.lookup(&address, at, &mut Waited::default()).unwrap();
    // Others of the name and the key, by nobody who is trusted, that come before the good one.
    let foreign = Authority::root("Elsewhere", "mallory");
    let others: Vec<_> = (1000..)
        .map(|serial| foreign.issue(&of(serial)))
        .filter(|other| other.fingerprint() < good.fingerprint())
        .take(51)
        .collect();
    site.cache.put(&[Insertion::helper(&good, Source::Ldap)], now()).unwrap();
    site.put(&alice, TrustState::Trusted);
    assert_eq!(site.chosen(), std::slice::from_ref(&alice));
    for other in &others {
        site.cache.put(&[Insertion::helper(other, Source::Ldap)], now()).unwrap();
    }
    assert!(matches!(answer(now()), Lookup::Unknown), "{:?}", site.refusal(&alice));
    assert!(matches!(site.refusal(&alice), Some(Refusal::Undecided(_))));
    // One that is pinned needs no path.
    site.cache.set_state(alice.fingerprint(), TrustState::Pinned, "", now()).unwrap();
    assert_eq!(site.chosen(), std::slice::from_ref(&alice));
    site.cache.set_state(alice.fingerprint(), TrustState::Trusted, "", now()).unwrap();
    for other in &others {
        assert!(site.cache.remove(other.fingerprint()).unwrap());
    }
    assert_eq!(site.chosen(), [alice]);
}
