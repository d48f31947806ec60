//! Which certificates of the cache are encrypted to, by what is known of their revocation.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::{Settings, store_of};
use certcache::{Cache, Insertion, Source, TrustState};
use smime::{
    Certificate,
    path::{Crl, RevocationMode, Trust},
    store::{Lookup, Waited},
    testing::{
        authority::{Authority, Wanted},
        fixtures::now,
    },
};

const HOUR: Duration = Duration::from_hours(1);

/// What the store says of Alice, whose certificate is in the cache in a state, and whose CA has made this CRL.
fn answer(
    keys: &str,
    state: TrustState,
    crl: impl Fn(&Authority, &Certificate) -> Option<Vec<u8>>,
) -> &'static str {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hsmime.toml");
    let text = format!(
        "[cache]\npath = \"cache\"\n[trust]\n{keys}\n[[rule]]\nsign = \"never\"\nencrypt = \"required\"\n"
    );
    fs::create_dir(folder.path().join("cache")).unwrap();
    let settings = Settings::parse(&text, &path).unwrap();
    let root = Authority::root("Root", "bob");
    let alice = root.issue(&Wanted::default());
    let cache = Arc::new(Cache::open(settings.cache().unwrap()).unwrap());
    let insertion = Insertion { state, ..Insertion::new(&alice, Source::Imported) };
    cache.put(&[insertion], now()).unwrap();
    let trust = Trust {
        anchors: vec![root.certificate().clone()],
        crls: crl(&root, &alice).iter().map(|crl| Crl::from_der(crl).unwrap()).collect(),
        ..settings.trust().clone()
    };
    assert_ne!(trust.revocation, RevocationMode::HardFail, "that of verification must not be what counts");
    let store = store_of(&settings, cache, &trust).unwrap().unwrap();
    // Of our own certificates only what is known against them counts.
    let against = store.against(&alice, now(), &mut Waited::default()).unwrap();
    let is_listed = trust.crls.iter().any(|crl| !crl.is_empty());
    assert_eq!(against.is_some(), is_listed, "{against:?}");
    match store.lookup(alice.addresses().first().unwrap(), now(), &mut Waited::default()).unwrap() {
        Lookup::Found(found) if found == [alice] => "found",
        Lookup::Found(_) => "another",
        Lookup::Unknown => "unknown",
        Lookup::Absent | Lookup::Unlisted => "none",
        Lookup::Unusable(_) => "unusable",
    }
}

#[test]
fn nobody_is_encrypted_to_of_whom_nobody_says_that_he_is_not_revoked() {
    let ended = |ago: Duration| {
        move |root: &Authority, _: &Certificate| Some(root.crl(&[], now() - 99 * HOUR, now() - ago))
    };
    let current = |root: &Authority, _: &Certificate| Some(root.crl(&[], now() - HOUR, now() + HOUR));
    let revoked = |until: SystemTime| {
        move |root: &Authority, alice: &Certificate| Some(root.crl(&[alice], now() - 99 * HOUR, until))
    };
    let none = |_: &Authority, _: &Certificate| None;
    let trusted = TrustState::Trusted;
    for (keys, expected) in [
        ("", "unknown"),
        ("encrypt-revocation = \"soft-fail\"", "found"),
        ("encrypt-revocation = \"off\"", "found"),
        ("revocation = \"off\"", "found"),
        ("revocation = \"off\"\nencrypt-revocation = \"hard-fail\"", "unknown"),
    ] {
        assert_eq!(answer(keys, trusted, none), expected, "{keys}");
        assert_eq!(answer(keys, trusted, current), "found", "{keys}");
    }
    assert_eq!(answer("", TrustState::Pinned, none), "found");
    for (keys, ago, expected) in [
        ("", 23, "found"),
        ("", 25, "unknown"),
        ("encrypt-grace-hours = 0", 1, "unknown"),
        ("encrypt-grace-hours = 2", 1, "found"),
        ("encrypt-grace-hours = 2", 3, "unknown"),
    ] {
        assert_eq!(answer(keys, trusted, ended(ago * HOUR)), expected, "{keys} {ago}");
    }
    for until in [now() + HOUR, now() - HOUR, now() - 90 * HOUR] {
        for keys in ["", "encrypt-revocation = \"soft-fail\""] {
            assert_ne!(answer(keys, trusted, revoked(until)), "found", "{keys}");
        }
        assert_ne!(answer("", TrustState::Pinned, revoked(until)), "found");
    }
}

#[test]
fn of_several_certificates_of_a_recipient_those_are_taken_that_the_configuration_says() {
    let root = Authority::root("Root", "bob");
    let devices: Vec<Certificate> = (1..=10)
        .map(|serial| root.issue(&Wanted { serial, from: now() - serial * HOUR, ..Wanted::default() }))
        .collect();
    for (keys, state, number, taken) in [
        ("", TrustState::Trusted, 2, 1),
        ("take = \"newest\"", TrustState::Trusted, 2, 1),
        ("take = \"all\"", TrustState::Trusted, 2, 2),
        ("take = \"all\"", TrustState::Trusted, 10, 8),
        ("take = \"all\"", TrustState::Pinned, 2, 2),
        ("take = \"all\"", TrustState::Pending, 2, 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cache")).unwrap();
        let text = format!(
            "[cache]\npath = \"cache\"\n{keys}\n[trust]\nencrypt-revocation = \"off\"\n[[rule]]\nencrypt = \"required\"\n\
             sign = \"never\"\n"
        );
        let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
        let cache = Arc::new(Cache::open(settings.cache().unwrap()).unwrap());
        let put = |certificate| Insertion { state, ..Insertion::new(certificate, Source::Imported) };
        cache.put(&devices.iter().take(number).map(put).collect::<Vec<_>>(), now()).unwrap();
        let trust = Trust { anchors: vec![root.certificate().clone()], ..settings.trust().clone() };
        let store = store_of(&settings, cache, &trust).unwrap().unwrap();
        let alice = devices[0].addresses().remove(0);
        let Lookup::Found(found) = store.lookup(&alice, now(), &mut Waited::default()).unwrap() else {
            panic!("{keys}: nothing found");
        };
        // The first is the newest.
        assert_eq!(found, devices[..taken], "{keys} {state:?} {number}");
        assert_eq!(settings.to_string().contains("all of a recipient are taken"), keys.contains("all"));
    }
}
