//! Keys that are made up where too many were ill-formed, so that nobody learns of more.
//!
//! Enough answers that tell well-formed keys from others are a signature (Bleichenbacher 1998). To refuse more of them would keep good
//! mail closed, and whoever sends a client ill-formed keys could bring that about. So each ill-formed one has a content
//! from then on, always the same one, of which whoever has no key cannot tell that it is none: draft-irtf-cfrg-rsa-guidance, section 7.

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand,
};
use smime::key::ContentEncryptionKey;

/// What makes them, as long as this process is there.
#[derive(Debug)]
pub(crate) struct MadeUp(hmac::Key);

impl MadeUp {
    pub(crate) fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut secret = [0; 32];
        rand::fill(&mut secret)?;
        Ok(Self(hmac::Key::new(HMAC_SHA256, &secret)))
    }

    /// What is in an encrypted key, by this key (its SHA-256): as long as it would be by chance in a block that is well-formed, which is
    /// `00 02`, eight octets at least that are not 0, and a 0 (RFC 8017, 7.2.2). `None` where there is no room for that.
    pub(crate) fn content(&self, key: &[u8; 32], encrypted: &[u8]) -> Option<ContentEncryptionKey> {
        let room = encrypted.len().checked_sub(2 + 8)?;
        // Four in ten have no 0 at all.
        (0..MOST_BLOCKS).find_map(|block| {
            let octets = self.octets(key, encrypted, block, room);
            let zero = octets.iter().position(|octet| *octet == 0)?;
            Some(ContentEncryptionKey::new(octets.get(zero + 1..)?.to_vec()))
        })
    }

    fn octets(&self, key: &[u8; 32], encrypted: &[u8], block: u32, count: usize) -> Vec<u8> {
        let mut octets = Vec::with_capacity(count + 32);
        for part in 0_u32.. {
            if octets.len() >= count {
                break;
            }
            let mut context = hmac::Context::with_key(&self.0);
            context.update(&block.to_be_bytes());
            context.update(&part.to_be_bytes());
            context.update(key);
            context.update(encrypted);
            octets.extend_from_slice(context.sign().as_ref());
        }
        octets.truncate(count);
        octets
    }
}

/// After so many there is a 0, but with a probability of 2^-80.
const MOST_BLOCKS: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_stays_the_same_and_is_as_long_as_chance_has_it() {
        let made_up = MadeUp::new().unwrap();
        let content = |key: u8, n: u32, octets| {
            let mut encrypted = vec![7; octets];
            encrypted[..4].copy_from_slice(&n.to_be_bytes());
            made_up.content(&[key; 32], &encrypted)
        };
        let first = content(1, 1, 256).unwrap();
        assert!(first.is_same_as(&content(1, 1, 256).unwrap()));
        assert!(!first.is_same_as(&content(2, 1, 256).unwrap()), "another key's");
        let other = MadeUp::new().unwrap().content(&[1; 32], &[7; 256]).unwrap();
        assert!(!other.is_same_as(&made_up.content(&[1; 32], &[7; 256]).unwrap()), "another process's");
        let lengths: Vec<_> = (0..4000).map(|n| content(1, n, 256).unwrap().len()).collect();
        assert!(lengths.iter().all(|length| *length <= 245), "{:?}", lengths.iter().max());
        // Given that there is a 0 in 246 octets, it is among the first 95 with a probability of a half.
        let long = lengths.iter().filter(|length| **length >= 151).count();
        assert!((1800..2200).contains(&long), "{long}");
        let of_ciphers = lengths.iter().filter(|length| [16, 24, 32].contains(*length)).count();
        assert!((5..120).contains(&of_ciphers), "{of_ciphers}");
        assert!(content(1, 1, 10).is_none() && content(1, 1, 4).is_none());
    }
}
