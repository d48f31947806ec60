//! BER taken apart in one pass, without recursion and without copying.
//!
//! CMS objects arrive in BER: indefinite lengths, strings cut into segments, lengths longer than
//! needed (RFC 5652 allows it, half of all senders do it). [`Tree`] finds every element; an
//! [`Element`] gives its octets as received, its octets in DER, or the segments of its content.
//! What the elements mean is told in [`crate::cms`].

mod der;
mod element;

pub(crate) use self::der::header_len;
pub use self::{
    der::write_header,
    element::{Children, Element},
};

/// The elements of one BER value.
#[derive(Debug)]
pub struct Tree<'a> {
    octets: &'a [u8],
    /// In the order in which they begin; an element's descendants follow it.
    nodes: Vec<Packed>,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    tag: Tag,
    /// Where the identifier octet stands.
    start: usize,
    content: usize,
    /// After the content, before end-of-contents octets.
    content_end: usize,
    /// After everything.
    end: usize,
    /// The index after the last descendant.
    next: usize,
}

/// A [`Node`] in half the room: a large object has many.
#[derive(Clone, Copy, Debug)]
struct Packed {
    start: u32,
    content: u32,
    content_end: u32,
    end: u32,
    next: u32,
    tag: Tag,
}

impl Packed {
    /// `None` for what lies beyond 4 GiB.
    fn new(node: Node) -> Option<Self> {
        let small = |position| u32::try_from(position).ok();
        Some(Self {
            start: small(node.start)?,
            content: small(node.content)?,
            content_end: small(node.content_end)?,
            end: small(node.end)?,
            next: small(node.next)?,
            tag: node.tag,
        })
    }

    fn node(self) -> Node {
        let large = |position| usize::try_from(position).unwrap_or(usize::MAX);
        Node {
            tag: self.tag,
            start: large(self.start),
            content: large(self.content),
            content_end: large(self.content_end),
            end: large(self.end),
            next: large(self.next),
        }
    }
}

/// An identifier octet: class, constructed bit and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u8);

impl Tag {
    /// INTEGER.
    pub const INTEGER: Self = Self(0x02);
    /// BIT STRING.
    pub const BIT_STRING: Self = Self(0x03);
    /// OCTET STRING.
    pub const OCTET_STRING: Self = Self(0x04);
    /// OBJECT IDENTIFIER.
    pub const OBJECT_IDENTIFIER: Self = Self(0x06);
    /// SEQUENCE.
    pub const SEQUENCE: Self = Self(0x30);
    /// SET.
    pub const SET: Self = Self(0x31);

    /// `[number]`, constructed.
    pub const fn context(number: u8) -> Self {
        Self(0xA0 | number)
    }

    fn is_constructed(self) -> bool {
        self.0 & 0x20 != 0
    }

    fn primitive(self) -> Self {
        Self(self.0 & !0x20)
    }
}

/// Why octets are not BER that is accepted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BerError {
    /// The octets end inside an element.
    #[error("the object ends at octet {0}, inside an element")]
    Truncated(usize),
    /// A length that is reserved or does not fit.
    #[error("bad length at octet {0}")]
    Length(usize),
    /// A tag number over 30, or end-of-contents where none belongs.
    #[error("bad tag at octet {0}")]
    Tag(usize),
    /// An element reaches beyond the one around it.
    #[error("the element at octet {0} is longer than the one around it")]
    Overrun(usize),
    /// Deeper than [`MAX_DEPTH`].
    #[error("elements are nested deeper than {MAX_DEPTH}")]
    Depth,
    /// More than [`MAX_ELEMENTS`], or more than one in eight octets and [`MAX_SMALL`].
    #[error("there are more than {limit} elements, which is what is taken in {octets} octets")]
    TooMany {
        /// How many are taken.
        limit: usize,
        /// In how many octets.
        octets: usize,
    },
    /// A string in segments that are not of its kind.
    #[error("the string at octet {0} has segments of another type")]
    Segments(usize),
    /// A structure other than its specification's.
    #[error("{expected} expected at octet {at}")]
    Unexpected {
        /// What should stand there.
        expected: &'static str,
        /// Where.
        at: usize,
    },
}

/// How deep elements may be nested.
pub const MAX_DEPTH: usize = 64;
/// How many elements one object may have; content in segments of 100 octets reaches it at 100 MB.
pub const MAX_ELEMENTS: usize = 1_000_000;
/// How many elements an object may have whatever their length. Of more, each takes [`OCTETS_PER_ELEMENT`] of it on
/// average: each takes 24 octets here, and 16 as a segment; nobody's message shall take more than ten times its length.
pub const MAX_SMALL: usize = 50_000;
/// See [`MAX_SMALL`]. Certificates and CRLs have one element in 10 octets or more, segments are of 100 and more.
pub const OCTETS_PER_ELEMENT: usize = 8;

/// Up to how many octets the elements are not counted before there is room made for them.
const SHORT: usize = 16 * 1024;

/// How much memory an element takes: in the tree, and as a segment.
const OCTETS_OF_ELEMENT: usize = size_of::<Packed>() + size_of::<&[u8]>();

/// An element that is still open while the tree is built.
struct Open {
    node: usize,
    /// `None` for an indefinite length.
    end: Option<usize>,
}

impl<'a> Tree<'a> {
    /// Takes apart the first BER value in `octets`.
    pub fn parse(octets: &'a [u8]) -> Result<Self, BerError> {
        Self::parse_within(octets, usize::MAX)
    }

    /// Takes apart the first BER value in `octets` if its elements need no more than `room` octets of memory.
    pub(crate) fn parse_within(octets: &'a [u8], room: usize) -> Result<Self, BerError> {
        let max_elements = (octets.len() / OCTETS_PER_ELEMENT).clamp(MAX_SMALL, MAX_ELEMENTS);
        let max_elements = max_elements.min(room / OCTETS_OF_ELEMENT);
        // Growing would take three times the memory for a moment; what is short has room for as many as it may have.
        let most = if octets.len() <= SHORT {
            (octets.len() / OCTETS_PER_ELEMENT).min(max_elements)
        } else {
            count(octets, max_elements)
        };
        let mut nodes: Vec<Packed> = Vec::with_capacity(most);
        let mut open: Vec<Open> = Vec::new();
        let mut at = 0;
        loop {
            let limit = open.iter().rev().find_map(|o| o.end).unwrap_or(octets.len());
            let header = Header::read(octets, at)?;
            if header.tag.0 == 0 {
                // End-of-contents: closes an indefinite element, and belongs nowhere else.
                match open.pop() {
                    Some(Open { node, end: None }) if header.length == Some(0) && header.content <= limit => {
                        close(&mut nodes, node, at, header.content);
                        at = header.content;
                    }
                    _ => return Err(BerError::Tag(at)),
                }
            } else {
                if nodes.len() >= max_elements {
                    return Err(BerError::TooMany { limit: max_elements, octets: octets.len() });
                }
                let node = nodes.len();
                let end = match header.length {
                    Some(length) => {
                        let end = header.content.checked_add(length).ok_or(BerError::Length(at))?;
                        if end > octets.len() {
                            return Err(BerError::Truncated(octets.len()));
                        }
                        if end > limit {
                            return Err(BerError::Overrun(at));
                        }
                        Some(end)
                    }
                    None => None,
                };
                let closed = end.unwrap_or(0);
                let found = Node {
                    tag: header.tag,
                    start: at,
                    content: header.content,
                    content_end: closed,
                    end: closed,
                    next: node + 1,
                };
                nodes.push(Packed::new(found).ok_or(BerError::Length(at))?);
                if header.tag.is_constructed() {
                    if open.len() >= MAX_DEPTH {
                        return Err(BerError::Depth);
                    }
                    open.push(Open { node, end });
                    at = header.content;
                } else {
                    at = end.ok_or(BerError::Length(at))?;
                }
            }
            while let Some(&Open { node, end: Some(end) }) = open.last() {
                if at < end {
                    break;
                }
                close(&mut nodes, node, end, end);
                open.pop();
            }
            if open.is_empty() {
                return Ok(Self { octets, nodes, used: at });
            }
        }
    }

    /// The outermost element.
    pub fn root(&self) -> Element<'_, 'a> {
        Element { tree: self, index: 0 }
    }

    /// What follows the value.
    pub fn trailing(&self) -> &'a [u8] {
        self.octets.get(self.used..).unwrap_or_default()
    }
}

/// How many elements the first value in `octets` has, where it is well-formed, up to a limit.
fn count(octets: &[u8], limit: usize) -> usize {
    let mut elements = 0;
    let (mut at, mut end) = (0, octets.len());
    let mut indefinite = 0_usize;
    while at < end && elements < limit {
        let Ok(header) = Header::read(octets, at) else { break };
        if header.tag.0 == 0 {
            indefinite = indefinite.saturating_sub(1);
            if indefinite == 0 && end == octets.len() {
                break;
            }
            at = header.content;
            continue;
        }
        elements += 1;
        let after = header.length.map(|length| header.content.saturating_add(length));
        indefinite += usize::from(after.is_none());
        if elements == 1 {
            end = after.unwrap_or(end).min(end);
        }
        at = if header.tag.is_constructed() { header.content } else { after.unwrap_or(end) };
    }
    elements
}

fn close(nodes: &mut [Packed], node: usize, content_end: usize, end: usize) {
    let next = nodes.len();
    if let Some(slot) = nodes.get_mut(node)
        && let Some(closed) = Packed::new(Node { content_end, end, next, ..slot.node() })
    {
        // Where it begins has fitted, and it was read up to here.
        *slot = closed;
    }
}

struct Header {
    tag: Tag,
    /// `None` is the indefinite form.
    length: Option<usize>,
    content: usize,
}

impl Header {
    fn read(octets: &[u8], at: usize) -> Result<Self, BerError> {
        let truncated = BerError::Truncated(octets.len());
        let tag = Tag(*octets.get(at).ok_or(truncated)?);
        if tag.0 & 0x1F == 0x1F {
            return Err(BerError::Tag(at));
        }
        let first = *octets.get(at + 1).ok_or(truncated)?;
        let (length, content) = match first {
            0..=0x7F => (Some(usize::from(first)), at + 2),
            0x80 if tag.is_constructed() => (None, at + 2),
            0x80 | 0xFF => return Err(BerError::Length(at)),
            _ => {
                let content = at + 2 + usize::from(first & 0x7F);
                let digits = octets.get(at + 2..content).ok_or(truncated)?;
                let length = digits.iter().try_fold(0_usize, |length, digit| {
                    length.checked_mul(256).map(|length| length | usize::from(*digit))
                });
                (Some(length.ok_or(BerError::Length(at))?), content)
            }
        };
        Ok(Self { tag, length, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_in_der_and_in_many_kinds_of_ber_is_the_same_in_der() {
        let der = [0x30, 0x08, 0x04, 0x03, b'a', b'b', b'c', 0x02, 0x01, 0x05];
        let variants: [&[u8]; 5] = [
            &der,
            // indefinite length
            &[0x30, 0x80, 0x04, 0x03, b'a', b'b', b'c', 0x02, 0x01, 0x05, 0, 0],
            // lengths longer than needed
            &[0x30, 0x81, 0x0A, 0x04, 0x82, 0, 0x03, b'a', b'b', b'c', 0x02, 0x01, 0x05],
            // constructed string, definite
            &[0x30, 0x0C, 0x24, 0x07, 0x04, 0x02, b'a', b'b', 0x04, 0x01, b'c', 0x02, 0x01, 0x05],
            // constructed string in a constructed string, indefinite
            &[
                0x30, 0x80, 0x24, 0x80, 0x04, 0x01, b'a', 0x24, 0x80, 0x04, 0x02, b'b', b'c', 0, 0, 0, 0,
                0x02, 0x01, 0x05, 0, 0,
            ],
        ];
        for variant in variants {
            let tree = Tree::parse(variant).unwrap();
            assert_eq!(tree.root().to_der().unwrap(), der, "{variant:x?}");
            let string = tree.root().children().next().unwrap();
            assert_eq!(string.string_segments().unwrap().concat(), b"abc");
            assert!(tree.trailing().is_empty());
        }
    }

    #[test]
    fn malformed_octets_are_named_and_never_accepted() {
        let cases: [(&[u8], BerError); 9] = [
            (&[], BerError::Truncated(0)),
            (&[0x30], BerError::Truncated(1)),
            (&[0x30, 0x80, 0x04, 0x01], BerError::Truncated(4)),
            (&[0x04, 0x80], BerError::Length(0)),
            (&[0x30, 0x02, 0x04, 0x01, b'a'], BerError::Overrun(2)),
            (&[0x30, 0x02, 0, 0], BerError::Tag(2)),
            (&[0x1F, 0x81, 0x01, 0x00], BerError::Tag(0)),
            (&[0x30, 0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9], BerError::Length(0)),
            // an indefinite element that ends beyond the definite one around it
            (&[0x30, 0x03, 0x30, 0x80, 0, 0], BerError::Tag(4)),
        ];
        for (octets, error) in cases {
            assert_eq!(Tree::parse(octets).unwrap_err(), error, "{octets:x?}");
        }
        let mixed = [0x24, 0x80, 0x02, 0x01, b'a', 0, 0];
        assert_eq!(Tree::parse(&mixed).unwrap().root().string_segments(), Err(BerError::Segments(0)));
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let bomb = [0x30, 0x80].repeat(200_000);
        assert_eq!(Tree::parse(&bomb).unwrap_err(), BerError::Depth);
    }

    #[test]
    fn elements_are_few_for_the_octets_they_are_in_or_few_at_all() {
        let of = |count: usize, filler: usize| {
            let mut octets = vec![0x30, 0x80];
            octets.extend([0x05, 0x00].repeat(count));
            write_header(Tag::OCTET_STRING, filler, &mut octets);
            octets.resize(octets.len() + filler, 0);
            octets.extend([0, 0]);
            Tree::parse(&octets).map(|tree| tree.root().children().count())
        };
        assert_eq!(of(MAX_SMALL - 2, 0), Ok(MAX_SMALL - 1));
        assert_eq!(
            of(MAX_SMALL - 1, 0),
            Err(BerError::TooMany { limit: MAX_SMALL, octets: 2 * MAX_SMALL + 4 })
        );
        assert_eq!(of(2 * MAX_SMALL, 12 * MAX_SMALL + 100), Ok(2 * MAX_SMALL + 1));
        assert!(matches!(of(2 * MAX_SMALL, 12 * MAX_SMALL - 100), Err(BerError::TooMany { .. })));
    }

    #[test]
    fn lengths_of_every_size_are_written_as_they_were_counted() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 24] {
            let mut header = Vec::new();
            write_header(Tag::OCTET_STRING, length, &mut header);
            assert_eq!(header.len(), header_len(length), "{length}");
            let object = [&[0x30, 0x80][..], &header, &vec![7; length], &[0, 0]].concat();
            let der = Tree::parse(&object).unwrap().root().to_der().unwrap();
            assert_eq!(Tree::parse(&der).unwrap().root().content(), [header, vec![7; length]].concat());
        }
    }

    #[test]
    fn mutations_never_panic() {
        let seed =
            [0x30, 0x80, 0x24, 0x80, 0x04, 0x03, b'a', b'b', b'c', 0, 0, 0xA0, 0x03, 0x02, 0x01, 0x05, 0, 0];
        for at in 0..seed.len() {
            for value in 0..=255 {
                let mut octets = seed;
                octets[at] = value;
                if let Ok(tree) = Tree::parse(&octets) {
                    let _ = tree.root().to_der();
                    let _ = tree.root().string_segments();
                }
            }
        }
    }
}
