//! EME-PKCS1-v1_5 decoding (RFC 8017 7.2.2 step 3) for tokens that give raw RSA only, in constant time.
//!
//! What is wrong with a padding, where it ends and whether it is good must not show (Bleichenbacher's attack): all
//! octets are looked at whatever they are, the message is moved without an index that depends on it, and at the
//! end there is one choice between two values that callers treat alike.

use std::hint::black_box;

use smime::key::{ContentEncryptionKey, Unwrapped};
use zeroize::Zeroizing;

use crate::constant_time::{equal, less, shift_to_front};

/// The least length of the padding string.
const MIN_PADDING: usize = 8;

/// Decodes `EM = 00 || 02 || PS || 00 || M`, which is as long as the modulus. Only that length decides whether it
/// is tried at all.
pub(crate) fn decode(encoded: &[u8]) -> Unwrapped {
    let Some(([first, second], rest)) = encoded.split_first_chunk() else { return Unwrapped::Rejected };
    let mut good = equal(usize::from(*first), 0) & equal(usize::from(*second), 2);
    let mut separator_seen = 0;
    let mut padding_len = 0;
    for (position, octet) in rest.iter().enumerate() {
        let here = equal(usize::from(*octet), 0) & !separator_seen;
        padding_len |= here & position;
        separator_seen |= here;
    }
    good &= separator_seen & !less(padding_len, MIN_PADDING);
    // Without a separator `padding_len` is zero, so this is within the octets.
    let start = padding_len + 1;
    let mut message = Zeroizing::new(rest.to_vec());
    shift_to_front(&mut message, start);
    message.truncate(rest.len().saturating_sub(start));
    let key = ContentEncryptionKey::new(std::mem::take(&mut *message));
    if black_box(good) == 0 { Unwrapped::Rejected } else { Unwrapped::Key(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 256;

    fn encode(padding_len: usize, message: &[u8]) -> Vec<u8> {
        [&[0, 2], &vec![0xA7; padding_len][..], &[0], message].concat()
    }

    fn message(unwrapped: Unwrapped) -> Option<Vec<u8>> {
        match unwrapped {
            Unwrapped::Key(key) => Some(key.expose().to_vec()),
            Unwrapped::Rejected => None,
        }
    }

    #[test]
    fn every_message_that_fits_comes_back() {
        for len in 0..=LEN - 11 {
            // Zeros and more in the message are the message's.
            for fill in [0, 2, 0xff] {
                let text = vec![fill; len];
                assert_eq!(message(decode(&encode(LEN - 3 - len, &text))), Some(text), "{len} times {fill}");
            }
        }
    }

    #[test]
    fn every_fault_is_rejected() {
        let good = encode(LEN - 3 - 32, &[7; 32]);
        assert_eq!(message(decode(&good)), Some(vec![7; 32]));
        for place in 0..2 {
            for value in 0..=255 {
                let mut changed = good.clone();
                changed[place] = value;
                assert_eq!(message(decode(&changed)).is_some(), changed == good, "{value} at {place}");
            }
        }
        // A padding that ends too early, at each place, and one that never ends.
        for place in 0..MIN_PADDING {
            let mut changed = good.clone();
            changed[2 + place] = 0;
            assert_eq!(message(decode(&changed)), None, "a padding of {place}");
        }
        let endless = [&[0, 2], &vec![0xA7; LEN - 2][..]].concat();
        assert_eq!(message(decode(&endless)), None);
        for len in 0..11 {
            assert_eq!(message(decode(&good[..len])), None, "{len} octets");
        }
        assert_eq!(message(decode(&encode(MIN_PADDING, b""))), Some(vec![]), "11 octets are enough");
        assert_eq!(message(decode(&[0; LEN])), None);
        assert_eq!(message(decode(&[0xff; LEN])), None);
    }
}
