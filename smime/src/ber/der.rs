//! Elements written in DER, lengths counted once and octets copied once.

use super::{BerError, Element, Tag};

impl Element<'_, '_> {
    /// The element in DER lengths, OCTET STRINGs joined, elements in the order received. Octets that
    /// are DER already stay as they are.
    pub fn to_der(&self) -> Result<Vec<u8>, BerError> {
        self.to_der_as(self.tag())
    }

    /// Like [`Element::to_der`], under another tag; this is how implicit tags are undone.
    pub fn to_der_as(&self, tag: Tag) -> Result<Vec<u8>, BerError> {
        if self.is_der() {
            let mut out = self.octets().to_vec();
            out.first_mut().into_iter().for_each(|first| *first = tag.0);
            return Ok(out);
        }
        let lengths = self.der_lengths()?;
        let mut out = Vec::new();
        self.write_der(tag, &lengths, self.index, &mut out);
        Ok(out)
    }

    /// Whether the octets are DER as they were received: all lengths are definite and no longer than needed, and no
    /// string is in segments.
    pub(crate) fn is_der(&self) -> bool {
        (self.index..self.node().next).all(|index| {
            let element = Element { tree: self.tree, index };
            let node = element.node();
            node.end == node.content_end
                && node.content - node.start == header_len(node.content_end - node.content)
                && matches!(element.kind(), Ok(Kind::Primitive | Kind::Constructed))
        })
    }

    /// The length of the content in DER of this element and each one inside, innermost first computed, so
    /// that deep nesting costs no more than flat.
    fn der_lengths(&self) -> Result<Vec<usize>, BerError> {
        let mut lengths = vec![0_usize; self.node().next - self.index];
        for index in (self.index..self.node().next).rev() {
            let element = Element { tree: self.tree, index };
            let node = element.node();
            let length =
                |child: Element<'_, '_>| lengths.get(child.index - self.index).copied().unwrap_or_default();
            let sum = match element.kind()? {
                Kind::Primitive => node.content_end - node.content,
                Kind::Segments => element.children().map(length).sum(),
                Kind::Constructed => {
                    element.children().map(length).map(|length| header_len(length) + length).sum()
                }
            };
            if let Some(slot) = lengths.get_mut(index - self.index) {
                *slot = sum;
            }
        }
        Ok(lengths)
    }

    fn kind(&self) -> Result<Kind, BerError> {
        let node = self.node();
        if !node.tag.is_constructed() {
            Ok(Kind::Primitive)
        } else if node.tag.primitive() == Tag::OCTET_STRING {
            self.string_segments().map(|_| Kind::Segments)
        } else if node.tag.0 & 0xC0 == 0 && node.tag != Tag::SEQUENCE && node.tag != Tag::SET {
            // Constructed strings of other types occur nowhere in practice and would be ambiguous.
            Err(BerError::Segments(node.start))
        } else {
            Ok(Kind::Constructed)
        }
    }

    // The recursion is bounded by MAX_DEPTH.
    fn write_der(&self, tag: Tag, lengths: &[usize], first: usize, out: &mut Vec<u8>) {
        let length = lengths.get(self.index - first).copied().unwrap_or_default();
        if !self.tag().is_constructed() {
            write_header(tag, length, out);
            out.extend_from_slice(self.content());
        } else if self.tag().primitive() == Tag::OCTET_STRING {
            write_header(tag.primitive(), length, out);
            out.extend(self.string_segments().into_iter().flatten().flatten());
        } else {
            write_header(tag, length, out);
            for child in self.children() {
                child.write_der(child.tag(), lengths, first, out);
            }
        }
    }
}

/// How an element is written in DER.
enum Kind {
    Primitive,
    /// An OCTET STRING in segments, to be joined.
    Segments,
    Constructed,
}

/// The length of an identifier octet and a length in DER.
pub(crate) fn header_len(length: usize) -> usize {
    match length {
        0..=0x7F => 2,
        _ => 2 + usize::try_from(usize::BITS - length.leading_zeros()).unwrap_or_default().div_ceil(8),
    }
}

/// Writes an identifier octet and a length in DER.
pub fn write_header(tag: Tag, length: usize, out: &mut Vec<u8>) {
    out.push(tag.0);
    let octets = length.to_be_bytes();
    let significant =
        octets.iter().position(|o| *o != 0).map_or(&[][..], |at| octets.get(at..).unwrap_or(&[]));
    match significant {
        [] => out.push(0),
        [short @ 0..=0x7F] => out.push(*short),
        long => {
            // A usize has at most eight octets.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
}
