//! ASN.1 to be changed: an object taken apart to any depth, and put together again with right lengths.
//!
//! Forgeries are made with this, so nothing is checked: what is asked for is written, whether it makes sense or not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a forgery that cannot be made ends the test, as it should"
)]

use der::{Encode, asn1::ObjectIdentifier};

use crate::ber::{Element, Tag, Tree, write_header};

/// An element that owns what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The identifier octet.
    pub tag: Tag,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Octets(Vec<u8>),
    Nodes(Vec<Node>),
}

impl Node {
    /// Takes an object in DER or BER apart.
    pub fn parse(octets: &[u8]) -> Self {
        Self::of(Tree::parse(octets).unwrap().root())
    }

    fn of(element: Element<'_, '_>) -> Self {
        let content = if element.tag().0 & 0x20 == 0 {
            Content::Octets(element.content().to_vec())
        } else {
            Content::Nodes(element.children().map(Self::of).collect())
        };
        Self { tag: element.tag(), content }
    }

    /// An element with these octets in it.
    pub fn primitive(tag: Tag, octets: impl Into<Vec<u8>>) -> Self {
        Self { tag, content: Content::Octets(octets.into()) }
    }

    /// An element with these elements in it.
    pub fn constructed(tag: Tag, nodes: impl Into<Vec<Self>>) -> Self {
        Self { tag, content: Content::Nodes(nodes.into()) }
    }

    /// A SEQUENCE.
    pub fn sequence(nodes: impl Into<Vec<Self>>) -> Self {
        Self::constructed(Tag::SEQUENCE, nodes)
    }

    /// A SET, in the order given.
    pub fn set(nodes: impl Into<Vec<Self>>) -> Self {
        Self::constructed(Tag::SET, nodes)
    }

    /// An OCTET STRING.
    pub fn octet_string(octets: impl Into<Vec<u8>>) -> Self {
        Self::primitive(Tag::OCTET_STRING, octets)
    }

    /// An object identifier.
    pub fn oid(oid: ObjectIdentifier) -> Self {
        Self::parse(&oid.to_der().unwrap())
    }

    /// `Attribute { attrType, attrValues }`.
    pub fn attribute(oid: ObjectIdentifier, values: impl Into<Vec<Self>>) -> Self {
        Self::sequence([Self::oid(oid), Self::set(values)])
    }

    /// The element in DER lengths.
    pub fn to_der(&self) -> Vec<u8> {
        let content = match &self.content {
            Content::Octets(octets) => octets.clone(),
            Content::Nodes(nodes) => nodes.iter().flat_map(Self::to_der).collect(),
        };
        let mut out = Vec::new();
        write_header(self.tag, content.len(), &mut out);
        out.extend(content);
        out
    }

    /// The same under another tag.
    #[must_use]
    pub fn tagged(&self, tag: Tag) -> Self {
        Self { tag, content: self.content.clone() }
    }

    /// The element that a path of positions leads to.
    pub fn at(&mut self, path: &[usize]) -> &mut Self {
        path.iter().fold(self, |node, position| &mut node.nodes()[*position])
    }

    /// The same, to be looked at only.
    pub fn get(&self, path: &[usize]) -> &Self {
        path.iter().fold(self, |node, position| match &node.content {
            Content::Nodes(nodes) => &nodes[*position],
            Content::Octets(_) => panic!("{:02x} has no elements inside", node.tag.0),
        })
    }

    /// The elements inside.
    pub fn nodes(&mut self) -> &mut Vec<Self> {
        match &mut self.content {
            Content::Nodes(nodes) => nodes,
            Content::Octets(_) => panic!("{:02x} has no elements inside", self.tag.0),
        }
    }

    /// The octets inside.
    pub fn octets(&mut self) -> &mut Vec<u8> {
        match &mut self.content {
            Content::Octets(octets) => octets,
            Content::Nodes(_) => panic!("{:02x} has elements inside", self.tag.0),
        }
    }

    /// The paths of this element and of all in it, outermost first.
    pub fn paths(&self) -> Vec<Vec<usize>> {
        let mut paths = vec![Vec::new()];
        if let Content::Nodes(nodes) = &self.content {
            for (position, node) in nodes.iter().enumerate() {
                paths.extend(node.paths().into_iter().map(|path| [vec![position], path].concat()));
            }
        }
        paths
    }

    /// The object without the element at `path`, which is not the root.
    #[must_use]
    pub fn without(&self, path: &[usize]) -> Self {
        let mut node = self.clone();
        let (last, parent) = path.split_last().unwrap();
        node.at(parent).nodes().remove(*last);
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::data;

    #[test]
    fn what_is_taken_apart_and_not_changed_is_the_same_again() {
        for name in ["detached.p7s", "gcm.p7m", "agree-p256.p7m", "ca.crl"] {
            let node = Node::parse(&data(name));
            assert_eq!(node.to_der(), data(name), "{name}");
            for path in node.paths().into_iter().skip(1) {
                assert!(node.without(&path).to_der().len() < data(name).len(), "{path:?}");
            }
        }
    }
}
