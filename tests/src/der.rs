//! Just enough DER to change what others wrote: a tree of elements whose lengths are made anew.
//!
//! Independent of the product's own reader on purpose. Not in here: tags above 30, lengths from 2^32 on.

use anyhow::{Context as _, Result, bail, ensure};

/// An element: its tag, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    tag: u8,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Octets(Vec<u8>),
    Nodes(Vec<Node>),
}

impl Node {
    /// Reads one element that is all there is.
    pub fn parse(octets: &[u8]) -> Result<Self> {
        let (node, rest) = Self::first(octets)?;
        ensure!(rest.is_empty(), "{} octets behind the element", rest.len());
        Ok(node)
    }

    /// An INTEGER from 0 to 127.
    pub fn integer(value: u8) -> Self {
        Self { tag: 0x02, content: Content::Octets(vec![value]) }
    }

    /// The octets.
    pub fn to_der(&self) -> Vec<u8> {
        let content = match &self.content {
            Content::Octets(octets) => octets.clone(),
            Content::Nodes(nodes) => nodes.iter().flat_map(Self::to_der).collect(),
        };
        let mut der = vec![self.tag];
        match u8::try_from(content.len()) {
            Ok(short) if short < 0x80 => der.push(short),
            _ => {
                der.push(0x84);
                der.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
                // As few octets as there need be.
                while der.get(2) == Some(&0) {
                    der.remove(2);
                    if let Some(length) = der.get_mut(1) {
                        *length -= 1;
                    }
                }
            }
        }
        der.extend(content);
        der
    }

    /// The element that these places, one below the other, lead to.
    pub fn at(&mut self, places: &[usize]) -> Result<&mut Self> {
        let Some((place, below)) = places.split_first() else { return Ok(self) };
        self.nodes()?.get_mut(*place).with_context(|| format!("no element {place}"))?.at(below)
    }

    /// What is in an element of elements.
    pub fn nodes(&mut self) -> Result<&mut Vec<Self>> {
        match &mut self.content {
            Content::Nodes(nodes) => Ok(nodes),
            Content::Octets(_) => bail!("an element without elements"),
        }
    }

    /// What is in an element of octets.
    pub fn octets(&mut self) -> Result<&mut Vec<u8>> {
        match &mut self.content {
            Content::Octets(octets) => Ok(octets),
            Content::Nodes(_) => bail!("an element of elements"),
        }
    }

    fn first(octets: &[u8]) -> Result<(Self, &[u8])> {
        let [tag, length, rest @ ..] = octets else { bail!("an element without length") };
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            long @ 0x81..=0x84 => {
                let (length, rest) =
                    rest.split_at_checked(usize::from(long - 0x80)).context("half a length")?;
                (length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
            }
            other => bail!("a length that begins with {other:#x}"),
        };
        let (mut inside, rest) = rest.split_at_checked(length).context("more is said than there is")?;
        let content = if tag & 0x20 == 0 {
            Content::Octets(inside.to_vec())
        } else {
            let mut nodes = Vec::new();
            while !inside.is_empty() {
                let node;
                (node, inside) = Self::first(inside)?;
                nodes.push(node);
            }
            Content::Nodes(nodes)
        };
        Ok((Self { tag: *tag, content }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_alike_and_what_is_changed_with_its_new_lengths() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let string = Node { tag: 0x04, content: Content::Octets(vec![b'x'; length]) };
            let mut tree = Node { tag: 0x30, content: Content::Nodes(vec![Node::integer(1), string]) };
            let der = tree.to_der();
            assert_eq!(Node::parse(&der).unwrap(), tree, "{length}");
            tree.at(&[1]).unwrap().octets().unwrap().push(b'x');
            assert_eq!(tree.to_der().len(), Node::parse(&tree.to_der()).unwrap().to_der().len());
            assert!(Node::parse(&der[..der.len() - 1]).is_err() && tree.at(&[2]).is_err(), "{length}");
        }
        assert_eq!(Node::integer(16).to_der(), [2, 1, 16]);
        let long = Node { tag: 0x04, content: Content::Octets(vec![b'x'; 128]) };
        assert_eq!(long.to_der()[..3], [0x04, 0x81, 128]);
    }
}
