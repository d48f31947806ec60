//! Octets on their way through a socket: they may be keys, so nothing of them is left behind.

use postcard::ser_flavors::Flavor;
use zeroize::Zeroize;

/// A vector that wipes what it gives up: when it grows, when it is emptied, when it is dropped.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    pub(super) fn extend(&mut self, octets: &[u8]) {
        self.reserve(octets.len());
        self.0.extend_from_slice(octets);
    }

    /// Cuts the end off.
    pub(super) fn truncate(&mut self, len: usize) {
        if let Some(end) = self.0.get_mut(len..) {
            end.zeroize();
        }
        self.0.truncate(len);
    }

    /// Cuts the beginning off.
    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.0.len());
        let rest = self.0.len() - len;
        self.0.copy_within(len.., 0);
        self.truncate(rest);
    }

    pub(super) fn clear(&mut self) {
        self.truncate(0);
    }

    /// Gives the memory back once it has become large.
    pub(super) fn shrink(&mut self) {
        if self.0.is_empty() && self.0.capacity() > LARGE {
            self.0 = Vec::new();
        }
    }

    /// Makes the length at least this, with zeros.
    pub(super) fn grow_to(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.0.len()));
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
    }

    /// A vector that grows by itself leaves its old octets in the allocator.
    fn reserve(&mut self, more: usize) {
        let needed = self.0.len() + more;
        if needed <= self.0.capacity() {
            return;
        }
        let mut larger = Vec::with_capacity(needed.max(2 * self.0.capacity()).max(SMALLEST));
        larger.extend_from_slice(&self.0);
        self.0.as_mut_slice().zeroize();
        self.0 = larger;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Beyond the length there are only octets that were wiped before.
        self.0.as_mut_slice().zeroize();
    }
}

/// Writes postcard's octets to the end of a buffer.
pub(super) struct Append<'a>(pub(super) &'a mut Buffer);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, octet: u8) -> postcard::Result<()> {
        self.0.extend(&[octet]);
        Ok(())
    }

    fn try_extend(&mut self, octets: &[u8]) -> postcard::Result<()> {
        self.0.extend(octets);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

const SMALLEST: usize = 4096;
const LARGE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_the_rest() {
        let mut buffer = Buffer::default();
        buffer.extend(b"secret-and-more");
        buffer.consume(7);
        assert_eq!(buffer.as_slice(), b"and-more");
        buffer.truncate(3);
        assert_eq!(buffer.as_slice(), b"and");
        buffer.truncate(100);
        buffer.consume(100);
        assert!(buffer.is_empty());
    }

    #[test]
    fn growing_keeps_the_octets() {
        let mut buffer = Buffer::default();
        let mut expected = Vec::new();
        for n in 0..10_000_u32 {
            buffer.extend(&n.to_le_bytes());
            expected.extend_from_slice(&n.to_le_bytes());
        }
        assert_eq!(buffer.as_slice(), expected);
        buffer.grow_to(50_000);
        assert_eq!((buffer.len(), buffer.as_slice()[49_999]), (50_000, 0));
    }
}
