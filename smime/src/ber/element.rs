//! One element of a tree: its octets, its content, the elements inside.

use std::ops::Range;

use der::asn1::ObjectIdentifier;

use super::{BerError, Node, Tag, Tree};

/// One element of a [`Tree`].
#[derive(Clone, Copy, Debug)]
pub struct Element<'t, 'a> {
    pub(super) tree: &'t Tree<'a>,
    pub(super) index: usize,
}

impl<'t, 'a> Element<'t, 'a> {
    pub(super) fn node(&self) -> Node {
        // An Element is only made for an index that the tree has.
        let nothing = Node { tag: Tag(0), start: 0, content: 0, content_end: 0, end: 0, next: 0 };
        self.tree.nodes.get(self.index).map_or(nothing, |packed| packed.node())
    }

    /// The identifier octet.
    pub fn tag(&self) -> Tag {
        self.node().tag
    }

    /// The elements directly inside.
    pub fn children(&self) -> Children<'t, 'a> {
        Children { tree: self.tree, at: self.index + 1, end: self.node().next }
    }

    /// The whole element as it was received.
    pub fn octets(&self) -> &'a [u8] {
        let node = self.node();
        self.tree.octets.get(node.start..node.end).unwrap_or_default()
    }

    /// Where the whole element stands in what was received.
    pub(crate) fn range(&self) -> Range<usize> {
        let node = self.node();
        node.start..node.end
    }

    /// The contents octets as they were received.
    pub fn content(&self) -> &'a [u8] {
        let node = self.node();
        self.tree.octets.get(node.content..node.content_end).unwrap_or_default()
    }

    /// How many elements this is, with those inside.
    pub(crate) fn size(&self) -> usize {
        self.node().next.saturating_sub(self.index)
    }

    /// How many elements with this tag are inside.
    pub(crate) fn count_inside(&self, tag: Tag) -> usize {
        let inside = self.tree.nodes.get(self.index + 1..self.node().next).unwrap_or_default();
        inside.iter().filter(|inner| inner.node().tag == tag).count()
    }

    /// The element if its tag is `tag`.
    pub fn expect(self, tag: Tag, expected: &'static str) -> Result<Self, BerError> {
        if self.tag() == tag { Ok(self) } else { Err(self.unexpected(expected)) }
    }

    /// The error that something else should stand here.
    pub fn unexpected(&self, expected: &'static str) -> BerError {
        BerError::Unexpected { expected, at: self.node().start }
    }

    /// The object identifier that this element is.
    pub fn object_identifier(&self) -> Result<ObjectIdentifier, BerError> {
        let element = self.expect(Tag::OBJECT_IDENTIFIER, "an object identifier")?;
        ObjectIdentifier::from_bytes(element.content()).map_err(|_| self.unexpected("an object identifier"))
    }

    /// The content of a string, which may be cut into segments, in slices of what was received. The
    /// element may carry an implicit tag; its segments are OCTET STRINGs.
    pub fn string_segments(&self) -> Result<Vec<&'a [u8]>, BerError> {
        if !self.tag().is_constructed() {
            return Ok(vec![self.content()]);
        }
        let node = self.node();
        let inside = self.tree.nodes.get(self.index + 1..node.next).unwrap_or_default();
        let count = inside.iter().filter(|inner| !inner.node().tag.is_constructed()).count();
        let mut segments = Vec::with_capacity(count);
        for inner in inside {
            let inner = inner.node();
            if inner.tag.primitive() != Tag::OCTET_STRING {
                return Err(BerError::Segments(node.start));
            }
            if !inner.tag.is_constructed() {
                segments.push(self.tree.octets.get(inner.content..inner.content_end).unwrap_or_default());
            }
        }
        Ok(segments)
    }

    /// The segments of an OCTET STRING.
    pub fn octet_string(&self) -> Result<Vec<&'a [u8]>, BerError> {
        if self.tag().primitive() == Tag::OCTET_STRING {
            self.string_segments()
        } else {
            Err(self.unexpected("an OCTET STRING"))
        }
    }
}

/// The elements inside an element, one after the other.
#[derive(Clone, Debug)]
pub struct Children<'t, 'a> {
    pub(super) tree: &'t Tree<'a>,
    at: usize,
    end: usize,
}

impl<'t, 'a> Iterator for Children<'t, 'a> {
    type Item = Element<'t, 'a>;

    fn next(&mut self) -> Option<Element<'t, 'a>> {
        if self.at >= self.end {
            return None;
        }
        let element = Element { tree: self.tree, index: self.at };
        self.at = element.node().next;
        Some(element)
    }
}

impl<'t, 'a> Children<'t, 'a> {
    /// The next element, which must be there.
    pub fn required(&mut self, expected: &'static str) -> Result<Element<'t, 'a>, BerError> {
        let at = self.tree.nodes.get(self.end - 1).map_or(0, |node| node.node().end);
        self.next().ok_or(BerError::Unexpected { expected, at })
    }

    /// The next element if its number in the context-specific class is `number`.
    pub fn optional_context(&mut self, number: u8) -> Option<Element<'t, 'a>> {
        let next = self.clone().next()?;
        (next.tag().0 & 0xDF == 0x80 | number).then(|| self.next()).flatten()
    }

    /// Fails if there is another element.
    pub fn end(mut self) -> Result<(), BerError> {
        self.next().map_or(Ok(()), |extra| Err(extra.unexpected("the end")))
    }
}
