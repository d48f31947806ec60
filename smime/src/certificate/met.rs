//! Certificates that were decoded before: those of the same few signers and authorities come with nearly every message.
//!
//! What octets decode to never changes, and nothing is said here of whether they are trusted, valid or revoked. Octets
//! that are no certificate are not remembered, nor are long ones: strangers choose what comes.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    mem,
    sync::{Mutex, PoisonError},
};

use super::Certificate;

/// What is remembered, in the whole process.
static MET: Mutex<Option<Met>> = Mutex::new(None);

/// In two halves: when one is full, the other, which is older, is forgotten.
#[derive(Default)]
struct Met {
    young: HashSet<ByOctets>,
    old: HashSet<ByOctets>,
}

/// How many are in one half; each takes about ten kilobytes. An organisation has more than a thousand signers.
const HALF: usize = 1024;
/// How long a certificate may be that is remembered.
const MAX_LEN: usize = 4096;

/// A certificate that is looked up by its exact octets.
struct ByOctets(Certificate);

impl Borrow<[u8]> for ByOctets {
    fn borrow(&self) -> &[u8] {
        self.0.der()
    }
}

impl Hash for ByOctets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.der().hash(state);
    }
}

impl PartialEq for ByOctets {
    fn eq(&self, other: &Self) -> bool {
        self.0.der() == other.0.der()
    }
}

impl Eq for ByOctets {}

/// The certificate that is exactly these octets: remembered, or else made by `decode`.
pub(super) fn or_decode<E>(
    octets: &[u8],
    decode: impl FnOnce() -> Result<Certificate, E>,
) -> Result<Certificate, E> {
    if octets.len() > MAX_LEN {
        return decode();
    }
    if let Some(met) = with(|met| met.get(octets)) {
        return Ok(met);
    }
    let certificate = decode()?;
    with(|met| met.add(certificate.clone()));
    Ok(certificate)
}

fn with<T>(work: impl FnOnce(&mut Met) -> T) -> T {
    // A set is whole after each statement, whoever panicked.
    let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
    work(met.get_or_insert_default())
}

impl Met {
    /// What is met again stays longer.
    fn get(&mut self, octets: &[u8]) -> Option<Certificate> {
        if let Some(ByOctets(certificate)) = self.young.get(octets) {
            return Some(certificate.clone());
        }
        let certificate = self.old.take(octets)?.0;
        self.add(certificate.clone());
        Some(certificate)
    }

    fn add(&mut self, certificate: Certificate) {
        if self.young.len() >= HALF {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(ByOctets(certificate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::certificate;

    #[test]
    fn the_same_octets_are_decoded_once_and_no_others_are_taken_for_them() {
        let (alice, bob) = (certificate("alice"), certificate("bob"));
        let of = |octets: &[u8]| or_decode(octets, || Err("decoded"));
        assert_eq!(of(b"no certificate"), Err("decoded"));
        assert_eq!(of(b"no certificate"), Err("decoded"), "what is none is not remembered");
        assert_eq!(or_decode(alice.der(), || Ok::<_, ()>(alice.clone())), Ok(alice.clone()));
        assert_eq!(of(alice.der()), Ok(alice.clone()));
        let mut other = alice.der().to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(of(&other), Err("decoded"), "one bit is another certificate");
        assert_eq!(of(&[0; MAX_LEN + 1]), Err("decoded"));
        assert_ne!(or_decode(bob.der(), || Ok::<_, ()>(bob.clone())), Ok(alice));
    }

    #[test]
    fn what_is_remembered_has_a_limit_and_what_is_met_again_stays() {
        let mut met = Met::default();
        let der = certificate("alice").der().to_vec();
        let numbered = |number: usize| {
            // The signature decodes to anything.
            let mut octets = der.clone();
            let end = octets.len();
            octets[end - 4..].copy_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
            Certificate::decode(octets).unwrap()
        };
        let often = numbered(0);
        met.add(often.clone());
        for number in 1..4 * HALF {
            met.add(numbered(number));
            assert!(met.young.len() + met.old.len() <= 2 * HALF);
            if number % 100 == 0 {
                assert!(met.get(often.der()).is_some());
            }
        }
        assert!(met.get(numbered(4 * HALF - 1).der()).is_some());
        assert!(met.get(numbered(1).der()).is_none());
    }
}
