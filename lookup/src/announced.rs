//! What owners of certificates announce in a directory, in `userSMIMECertificate` (RFC 2798 2.8): what of it is believed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use certcache::{Announced, Cache, CachedDistrust};
use smime::{
    Certificate,
    message::{Announcement, announcements},
    path::{Budget, Strength, Trust, validate_within},
    store::Waited,
};

use crate::Search;

/// How far the clock of somebody who signs may be ahead.
const MAX_AHEAD: Duration = Duration::from_mins(10);

/// What was announced of certificates of an answer by who may: by the certificate's own key, on whose path all use of it
/// depends as well; or by another certificate of the same address, with a path of its own. A person with two keys signs
/// with the other one.
pub(crate) fn announced(
    cache: &Arc<Cache>,
    search: &Search,
    trust: &Trust,
    now: SystemTime,
    waited: &mut Waited,
) -> Vec<(Certificate, Announced)> {
    let found = search.certificates();
    let is_there = |certificate: &Certificate| found.iter().any(|(known, _)| *known == certificate);
    let issuers: Vec<_> = search.issuers().into_iter().map(|(issuer, _)| issuer.clone()).collect();
    let trust = Trust { distrust: Some(Arc::new(CachedDistrust::new(Arc::clone(cache)))), ..trust.clone() };
    let mut budget = Budget::default().having_waited(waited.revocation);
    let mut believed = Vec::new();
    for octets in search.signed() {
        for announcement in announcements(&mut budget, octets, &trust) {
            let (signer, certificate) = (announcement.signer(), announcement.certificate());
            let mut is_valid = |signer: &Certificate| {
                let path = validate_within(&mut budget, signer, &issuers, &trust, now);
                path.is_ok_and(|path| path.strength() == Strength::Strong)
            };
            if is_there(certificate)
                && (signer == certificate || (is_there(signer) && is_valid(signer)))
                && let Some(announced) = dated(&announcement, now)
            {
                believed.push((certificate.clone(), announced));
            }
        }
    }
    waited.revocation = budget.waited();
    believed
}

/// What is kept of it, unless it was signed in the future: nothing newer could take its place. What has no time was signed
/// once the certificate was there.
fn dated(announcement: &Announcement, now: SystemTime) -> Option<Announced> {
    let at = announcement.signing_time().unwrap_or_else(|| announcement.certificate().not_before());
    let capabilities = announcement.capabilities().octets().to_vec();
    (at <= now + MAX_AHEAD).then_some(Announced { at, capabilities })
}

#[cfg(test)]
mod tests {
    use certcache::{Source, TrustState};
    use der::asn1::ObjectIdentifier;
    use smime::{
        ber::Tag,
        cms,
        key::{Digest, SignatureInput, Signer},
        path::RevocationMode,
        testing::{
            Node,
            fixtures::{certificate, key, now, trust},
        },
    };

    use super::*;
    use crate::{Answer, Asked, Finding, Kind};

    const PREFERENCE: &str = "1.2.840.113549.1.9.16.2.11";

    /// Alice's signature over nothing, which says that she wants to be encrypted to another certificate of hers.
    fn of_two_keys(other: &Certificate) -> Vec<u8> {
        let digest = |algorithm| Digest::of(algorithm, b"");
        let mut root = Node::parse(&cms::sign(digest, &key("alice"), &[certificate("ca")], now()).unwrap());
        root.at(&[1, 0, 3]).nodes().push(Node::parse(other.der()));
        let other = Node::parse(other.der());
        let name = Node::sequence([other.get(&[0, 3]).clone(), other.get(&[0, 1]).clone()]);
        let signer = root.at(&[1, 0, 4, 0]).nodes();
        let oid = ObjectIdentifier::new_unwrap(PREFERENCE);
        signer[3].nodes().retain(|attribute| *attribute.get(&[0]) != Node::oid(oid));
        signer[3].nodes().push(Node::attribute(oid, [name.tagged(Tag::context(0))]));
        signer[3].nodes().sort_by_key(Node::to_der);
        let key = key("alice");
        let algorithm = key.algorithms()[0];
        let octets = signer[3].tagged(Tag::SET).to_der();
        signer[5] =
            Node::octet_string(key.sign(&SignatureInput::of(algorithm, &octets), algorithm).unwrap().0);
        root.to_der()
    }

    #[test]
    fn the_other_key_of_an_address_speaks_for_a_certificate_only_with_a_good_path_of_its_own() {
        let [alice, other, bob] = ["alice", "encrypt-only", "bob"].map(certificate);
        let address = alice.addresses().remove(0);
        let signed = of_two_keys(&other);
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
        let kept = |bag: &[&Certificate], trust: &Trust| {
            let bag = bag.iter().map(|certificate| (*certificate).clone()).chain([certificate("ca")]);
            let answer = Answer::Found(Finding::of(bag, vec![signed.clone()], &address));
            let name = "directory".to_owned();
            let asked = Asked { name, kind: Kind::Ldap, answer, took: Duration::ZERO };
            let search = Search { answers: vec![asked] };
            let found = announced(&cache, &search, trust, now(), &mut Waited::default());
            found.into_iter().map(|(certificate, _)| certificate).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[&alice, &other], &trust()), std::slice::from_ref(&other));
        // Whoever signed is not there, or nobody believes it, or the other one is not there.
        assert!(kept(&[&other], &trust()).is_empty());
        assert!(kept(&[&alice, &bob], &trust()).is_empty());
        assert!(kept(&[&alice, &other], &Trust::default()).is_empty());
        let unknown = Trust { revocation: RevocationMode::HardFail, ..trust() };
        assert!(kept(&[&alice, &other], &unknown).is_empty());
        cache.insert(&alice, Source::Imported, now()).unwrap();
        cache.set_state(alice.fingerprint(), TrustState::Distrusted, "lost", now()).unwrap();
        assert!(kept(&[&alice, &other], &trust()).is_empty());
    }
}
