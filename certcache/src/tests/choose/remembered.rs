//! What is remembered of a choice, for whom, and what makes it void.

use super::*;
use crate::Remembered;

type Change = fn(&Site, &Certificate);

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
