//! The five answers, and that what could not be found out is never taken for a refusal.

use super::*;

#[test]
fn there_is_none_and_i_do_not_know_are_two_answers() {
    let site = site();
    let alice = address("alice@example.org");
    let look_up = |at| site.chooser.lookup(&alice, at, &mut Waited::default()).unwrap();
    assert!(matches!(look_up(now()), Lookup::Unlisted));
    site.cache.put_absent(&alice, None, now() + DAY).unwrap();
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
