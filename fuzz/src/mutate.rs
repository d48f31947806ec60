//! Octets changed at random, the same way for the same seed: as octets, as lines, and as ASN.1 elements.

use smime::ber::{Element, Tag, Tree, write_header};

/// Random numbers (xorshift64*), good enough to choose with.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        ((self.draw() >> 33) as usize) % limit.max(1)
    }

    fn octet(&mut self) -> u8 {
        (self.draw() >> 56) as u8
    }
}

/// Inputs grow no longer than this, or than what they are made of.
const MAX_LEN: usize = 1 << 16;

/// Of those that are longer only one in so many is taken: each costs as much time as hundreds of others.
const LARGE: usize = 256;

/// What parsers stumble over in text.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\r\n\r\n",
    b"--",
    b"\r\n--b",
    b"\r\n--b--",
    b"--b\r\n",
    b"(",
    b"\\",
    b"\"",
    b"=?utf-8?q?",
    b"boundary=b; ",
    b"boundary*0=",
    b"Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"From: ",
    b"\r\nFrom ",
    b"=\r\n",
    b"\xFF",
    b" ",
];

/// What parsers stumble over in BER.
const ELEMENTS: [&[u8]; 16] = [
    &[0x30, 0x80],
    &[0, 0],
    &[0x24, 0x80],
    &[0x84, 0xFF, 0xFF, 0xFF, 0xFF],
    &[0x30, 0x84, 0x7F, 0xFF, 0xFF, 0xFF],
    &[0x1F],
    &[0x05, 0x00],
    &[0x31, 0x00],
    &[0x30, 0x00],
    &[0x02, 0x00],
    &[0x02, 0x01, 0xFF],
    &[0x03, 0x01, 0x00],
    &[0x06, 0x00],
    &[0xA0, 0x80],
    &[0x04, 0x00],
    &[0x88, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
];

/// One of the seeds with one to eight changes.
pub fn mutant(seeds: &[Vec<u8>], is_asn1: bool, random: &mut Random) -> Vec<u8> {
    let Some(mut seed) = seeds.get(random.below(seeds.len())) else { return Vec::new() };
    if seed.len() > MAX_LEN && random.below(LARGE) != 0 {
        seed = seeds.iter().find(|seed| seed.len() <= MAX_LEN).unwrap_or(seed);
    }
    let max_len = seed.len().max(MAX_LEN);
    let mut octets = seed.clone();
    if is_asn1 && random.below(2) == 0 {
        for _ in 0..=random.below(3) {
            let other = &seeds[random.below(seeds.len())];
            octets = change_element(&octets, other, random).unwrap_or(octets);
        }
        if random.below(2) == 0 {
            octets.truncate(max_len);
            return octets;
        }
    }
    let words: &[&[u8]] = if is_asn1 { &ELEMENTS } else { &WORDS };
    for _ in 0..=random.below(8) {
        change(&mut octets, seeds, words, random);
    }
    octets.truncate(max_len);
    octets
}

fn change(octets: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    let at = random.below(octets.len() + 1);
    let len = octets.len();
    match random.below(9) {
        0 | 1 if at < len => octets[at] ^= 1 << random.below(8),
        2 if at < len => octets[at] = random.octet(),
        3 if at < len => octets[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
        4 => drop(octets.splice(at..at, words[random.below(words.len())].iter().copied())),
        5 => {
            let word = words[random.below(words.len())];
            octets.splice(at..(at + word.len()).min(len), word.iter().copied());
        }
        6 => drop(octets.drain(at..(at + 1 + random.below(16)).min(len))),
        7 => {
            let piece = octets[at..(at + 1 + random.below(200)).min(len)].to_vec();
            let to = random.below(len + 1);
            octets.splice(to..to, piece);
        }
        _ => {
            // The rest of another.
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            octets.splice(at.., other[from..].iter().copied());
        }
    }
}

/// Leaves out, doubles, moves, empties, replaces or re-tags one element; the lengths around it are right again.
fn change_element(octets: &[u8], other: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let tree = Tree::parse(octets).ok()?;
    let count = count(tree.root());
    let chosen = random.below(count);
    let donor = Tree::parse(other).ok().map(|tree| element(tree.root(), random.below(count)));
    let kind = random.below(8);
    let mut out = Vec::new();
    let mut index = 0;
    write(tree.root(), &mut index, &mut out, &mut |index, element| {
        if index != chosen {
            return None;
        }
        let whole = element.octets().to_vec();
        Some(match kind {
            0 => Vec::new(),
            1 => [&whole[..], &whole].concat(),
            2 => tlv(element.tag(), &[]),
            3 => donor.clone().unwrap_or_default(),
            4 => [donor.clone().unwrap_or_default(), whole].concat(),
            5 => tlv(Tag(element.tag().0 ^ (1 << random.below(8))), element.content()),
            6 => [&[element.tag().0, 0x80], element.content(), &[0, 0]].concat(),
            _ => {
                let mut content = element.content().to_vec();
                let at = random.below(content.len() + 1);
                content.insert(at, random.octet());
                tlv(element.tag(), &content)
            }
        })
    });
    out.extend_from_slice(tree.trailing());
    Some(out)
}

fn tlv(tag: Tag, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_header(tag, content.len(), &mut out);
    out.extend_from_slice(content);
    out
}

fn count(element: Element<'_, '_>) -> usize {
    1 + element.children().map(count).sum::<usize>()
}

/// The octets of the element with this number, or of the root.
fn element(root: Element<'_, '_>, number: usize) -> Vec<u8> {
    let mut index = 0;
    let mut found = None;
    write(root, &mut index, &mut Vec::new(), &mut |index, element| {
        if index == number {
            found = Some(element.octets().to_vec());
        }
        None
    });
    found.unwrap_or_else(|| root.octets().to_vec())
}

/// Writes an element with right lengths; `replace` gives other octets for those it wants to change.
fn write(
    element: Element<'_, '_>,
    index: &mut usize,
    out: &mut Vec<u8>,
    replace: &mut dyn FnMut(usize, Element<'_, '_>) -> Option<Vec<u8>>,
) {
    let number = *index;
    *index += 1;
    if let Some(octets) = replace(number, element) {
        *index += count(element) - 1;
        out.extend(octets);
    } else if element.children().next().is_some() {
        let mut content = Vec::new();
        element.children().for_each(|child| write(child, index, &mut content, replace));
        out.extend(tlv(element.tag(), &content));
    } else {
        out.extend(tlv(element.tag(), element.content()));
    }
}
