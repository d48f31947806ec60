//! Arithmetic on masks: all ones for "yes", zero for "no", without branches or indices that depend on secrets.

use std::hint::black_box;

/// All ones if `a == b`, else zero.
pub(crate) fn equal(a: usize, b: usize) -> usize {
    let difference = black_box(a ^ b);
    // The top bit of `d | -d` is set unless `d` is zero.
    let differs = (difference | difference.wrapping_neg()) >> (usize::BITS - 1);
    black_box(differs).wrapping_sub(1)
}

/// All ones if `a < b`, else zero. Both must be below half of the range, as lengths are.
pub(crate) fn less(a: usize, b: usize) -> usize {
    (black_box(a.wrapping_sub(b)) >> (usize::BITS - 1)).wrapping_neg()
}

/// Moves the octets from `start` on to the front, and zeros in behind them; the same octets are touched in the
/// same order whatever `start` is.
pub(crate) fn shift_to_front(octets: &mut [u8], start: usize) {
    let mut step = 1;
    while step < octets.len() {
        let moves = equal(start & step, step).to_le_bytes().first().copied().unwrap_or_default();
        for place in 0..octets.len() {
            let from = octets.get(place + step).copied().unwrap_or_default();
            if let Some(octet) = octets.get_mut(place) {
                *octet = black_box((from & moves) | (*octet & !moves));
            }
        }
        step <<= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_has_no_exceptions() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(equal(a, b), if a == b { usize::MAX } else { 0 });
                assert_eq!(less(a, b), if a < b { usize::MAX } else { 0 });
            }
        }
        assert_eq!(equal(usize::MAX, 0), 0);
        assert_eq!(equal(1 << (usize::BITS - 1), 0), 0);
    }

    #[test]
    fn every_start_comes_to_the_front() {
        for len in [0, 1, 2, 3, 7, 8, 9, 64, 245] {
            let octets: Vec<u8> = (1..=len).collect();
            for start in 0..octets.len() {
                let mut moved = octets.clone();
                shift_to_front(&mut moved, start);
                let expected = [&octets[start..], &vec![0; start]].concat();
                assert_eq!(moved, expected, "{len} octets from {start}");
            }
        }
    }
}
