//! Signatures on certificates that were found to be good: the same few authorities sign nearly all that are met.
//!
//! Whether a key made a signature over exactly these octets never changes, so what is remembered needs no time, no trust
//! and no message. Bad ones are not remembered: strangers could fill the memory with them for nothing.

use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, PoisonError},
};

use crate::{Certificate, algorithm::DigestAlgorithm, key::Digest};

/// What is remembered, in the whole process.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// The issuer's public key and the certificate, both by SHA-256 over their exact octets.
type Pair = ([u8; 32], [u8; 32]);

/// In two halves: when one is full, the other, which is older, is forgotten.
#[derive(Default)]
struct Known {
    young: HashSet<Pair>,
    old: HashSet<Pair>,
}

/// How many are in one half.
const HALF: usize = 2048;

/// Whether `issuer` validly signed `certificate`: remembered, or else found by `check`.
pub(super) fn or_check<E>(
    issuer: &Certificate,
    certificate: &Certificate,
    check: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let Some(pair) = pair(issuer, certificate) else { return check() };
    if with(|known| known.has(&pair)) {
        return Ok(());
    }
    check()?;
    with(|known| known.add(pair));
    Ok(())
}

fn pair(issuer: &Certificate, certificate: &Certificate) -> Option<Pair> {
    // One that cannot be encoded would be taken for any other of that kind.
    let key = Some(issuer.public_key_info()).filter(|key| !key.is_empty())?;
    let key = Digest::of(DigestAlgorithm::Sha256, &key);
    Some((key.as_bytes().try_into().ok()?, *certificate.fingerprint()))
}

fn with<T>(work: impl FnOnce(&mut Known) -> T) -> T {
    // A set is whole after each statement, whoever panicked.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    work(known.get_or_insert_default())
}

impl Known {
    fn has(&self, pair: &Pair) -> bool {
        self.young.contains(pair) || self.old.contains(pair)
    }

    fn add(&mut self, pair: Pair) {
        if self.young.len() >= HALF {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::certificate;

    #[test]
    fn a_good_signature_is_checked_once_and_a_bad_one_each_time() {
        let (issuer, leaf) = (certificate("ca"), certificate("alice"));
        for _ in 0..2 {
            assert_eq!(or_check(&leaf, &issuer, || Err("bad")), Err("bad"));
        }
        assert_eq!(or_check(&issuer, &leaf, || Ok::<(), &str>(())), Ok(()));
        assert_eq!(or_check(&issuer, &leaf, || Err("asked again")), Ok(()));
        // Another key under the same certificate is another question, and so is another certificate.
        assert_eq!(or_check(&leaf, &leaf, || Err("another key")), Err("another key"));
        assert_eq!(or_check(&issuer, &issuer, || Err("another certificate")), Err("another certificate"));
    }

    #[test]
    fn what_is_remembered_has_a_limit_and_the_youngest_stay() {
        let mut known = Known::default();
        let pair = |number: usize| {
            let mut pair = ([0; 32], [0; 32]);
            pair.1[..8].copy_from_slice(&number.to_be_bytes());
            pair
        };
        for number in 0..10 * HALF {
            known.add(pair(number));
            assert!(known.young.len() + known.old.len() <= 2 * HALF);
        }
        assert!(known.has(&pair(10 * HALF - 1)) && known.has(&pair(9 * HALF)));
        assert!(!known.has(&pair(0)));
    }
}
