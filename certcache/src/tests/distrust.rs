//! What was taken back is not believed in a signature either.

use der::Encode;
use smime::{
    path::{PathError, RevocationMode, Trust, validate},
    testing::{
        authority::{Authority, Wanted},
        fixtures::now,
    },
};

use super::*;

/// A cache, a root, and a path from a leaf by way of one intermediate.
struct Site {
    _folder: TempDir,
    cache: Arc<Cache>,
    below: Authority,
    leaf: Certificate,
    trust: Trust,
}

fn site() -> Site {
    let (folder, cache) = cache();
    let cache = Arc::new(cache);
    let root = Authority::root("Root", "bob");
    let below = root.intermediate("Below", "revoked");
    let leaf = below.issue(&Wanted::default());
    let trust = Trust {
        anchors: vec![root.certificate().clone()],
        intermediates: vec![below.certificate().clone()],
        revocation: RevocationMode::Off,
        distrust: Some(Arc::new(CachedDistrust::new(Arc::clone(&cache)))),
        ..Trust::default()
    };
    Site { _folder: folder, cache, below, leaf, trust }
}

impl Site {
    fn against(&self) -> Option<String> {
        match validate(&self.leaf, &[], &self.trust, now()) {
            Ok(_) => None,
            Err(PathError::Distrusted { reason, .. }) => Some(reason),
            Err(error) => panic!("{error}"),
        }
    }

    fn distrust(&self, certificate: &Certificate) {
        let insertion =
            Insertion { state: TrustState::Distrusted, ..Insertion::new(certificate, Source::Imported) };
        self.cache.put(&[insertion], now()).unwrap();
    }
}

#[test]
fn a_path_below_a_rule_is_not_valid_however_the_issuer_spells_its_name() {
    for spelled in ["Below", "BELOW", "  below "] {
        let site = site();
        assert_eq!(site.against(), None);
        let name = Authority::root(spelled, "bob").certificate().subject().to_der().unwrap();
        let number = site.cache.add_rule(&name, None, "breach", now()).unwrap();
        assert_eq!(site.against(), Some(format!("rule {number}: breach")), "{spelled}");
        site.cache.remove_rule(number, "over", now()).unwrap();
        assert_eq!(site.against(), None);
    }
}

#[test]
fn a_path_with_a_distrusted_certificate_is_not_valid() {
    let of_leaf = site();
    of_leaf.distrust(&of_leaf.leaf);
    assert!(of_leaf.against().is_some_and(|reason| reason.contains("distrusts")));
    let of_issuer = site();
    of_issuer.distrust(of_issuer.below.certificate());
    assert!(of_issuer.against().is_some_and(|reason| reason.contains("distrusts")));
    // A cross certificate, from another root.
    let crossed = site();
    let other = Authority::root("Other", "alice").intermediate("Below", "revoked");
    crossed.distrust(other.certificate());
    assert!(crossed.against().is_some_and(|reason| reason.contains("distrusts")));
    // Somebody else of the same name.
    let namesake = site();
    namesake.distrust(Authority::root("Below", "alice").certificate());
    assert_eq!(namesake.against(), None);
}

#[test]
fn who_is_distrusted_must_be_readable() {
    let site = site();
    let put = |tables: &Tables, transaction: &mut RwTxn<'_>| {
        Ok(tables.rule.put(transaction, &2_u64.to_be_bytes(), &[1; 9])?)
    };
    site.cache.write(put).unwrap();
    assert!(site.against().is_some_and(|reason| reason.contains("cannot be read")));
}
