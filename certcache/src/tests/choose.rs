//! Whom to encrypt to, and why not to the others.

mod answers;
mod remembered;
mod revocation;

use std::time::Duration;

use const_oid::db::rfc5280;
use der::Encode;
use smime::{
    path::{RevocationMode, Trust},
    store::{Lookup, RecipientCertificates, Waited},
    testing::{
        authority::{Authority, Wanted},
        fixtures::{self, now},
    },
};
use x509_cert::ext::pkix::KeyUsages;

use super::*;
use crate::{Chooser, Refusal, Take};

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
fn a_distrusted_issuer_counts_against_what_needs_no_path() {
    let site = site();
    let below = site.root.intermediate("Below", "revoked");
    let under = below.intermediate("Under", "alice");
    let own = under.issue(&Wanted::default());
    let against = || site.chooser.against(&own, now(), &mut Waited::default()).unwrap();
    // Nothing is known of its issuers, then all, and they lead to an anchor.
    assert_eq!(against(), None);
    site.put(under.certificate(), TrustState::Candidate);
    assert_eq!(against(), None);
    site.put(below.certificate(), TrustState::Candidate);
    assert_eq!(against(), None);
    let distrust = |certificate: &Certificate, state| {
        site.put(certificate, TrustState::Candidate);
        site.cache.set_state(certificate.fingerprint(), state, "", now()).unwrap();
    };
    for issuer in [under.certificate(), below.certificate(), site.root.certificate()] {
        distrust(issuer, TrustState::Distrusted);
        let why = against().unwrap();
        assert!(why.contains("its issuer") && why.contains("distrusted"), "{why}");
        distrust(issuer, TrustState::Candidate);
        assert_eq!(against(), None);
    }
    // Of another root, which nobody trusts: by its certificate, or by a cross certificate.
    let other = Authority::root("Other", "alice");
    let own = other.issue(&Wanted::default());
    let against = || site.chooser.against(&own, now(), &mut Waited::default()).unwrap();
    assert_eq!(against(), None);
    // Somebody else of the same name.
    distrust(Authority::root("Other", "revoked").certificate(), TrustState::Distrusted);
    assert_eq!(against(), None);
    distrust(site.root.intermediate("Other", "alice").certificate(), TrustState::Distrusted);
    assert!(against().is_some_and(|why| why.contains("its issuer")));
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
