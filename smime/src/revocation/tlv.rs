//! DER read one element after the other, without a tree: lists of revoked certificates have millions of them.
//!
//! Only lengths are looked at here. What an element holds is decoded by whoever needs it.

/// Octets that are not what they should be; it says what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
/// ENUMERATED.
pub(super) const ENUMERATED: u8 = 0x0A;
/// UTCTime.
pub(super) const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub(super) const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tlv<'a> {
    /// Its identifier octet.
    pub(super) tag: u8,
    /// Where it begins in the octets that the first reader was given.
    pub(super) start: usize,
    /// Where its content begins.
    pub(super) content_start: usize,
    /// Identifier, length and content.
    pub(super) octets: &'a [u8],
    /// The content.
    pub(super) content: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// The elements inside.
    pub(super) fn inside(&self) -> Reader<'a> {
        Reader { rest: self.content, at: self.content_start }
    }

    /// The content of a BIT STRING without unused bits.
    pub(super) fn whole_bits(&self) -> Option<&'a [u8]> {
        self.content.strip_prefix(&[0])
    }
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first of these octets.
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets, at: 0 }
    }

    /// One element of `tag` that is all there is.
    pub(super) fn only(octets: &'a [u8], tag: u8, what: &'static str) -> Result<Tlv<'a>, Malformed> {
        let mut reader = Self::new(octets);
        let only = reader.required(tag, what)?;
        reader.end(what)?;
        Ok(only)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails if anything is left.
    pub(super) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }

    /// The identifier octet of the next element.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element.
    pub(super) fn any(&mut self, what: &'static str) -> Result<Tlv<'a>, Malformed> {
        let (tag, header, length) = header(self.rest).ok_or(Malformed(what))?;
        let end = header.checked_add(length).ok_or(Malformed(what))?;
        let octets = self.rest.get(..end).ok_or(Malformed(what))?;
        let content = octets.get(header..).ok_or(Malformed(what))?;
        let start = self.at;
        self.rest = self.rest.get(end..).unwrap_or_default();
        self.at += end;
        Ok(Tlv { tag, start, content_start: start + header, octets, content })
    }

    /// The next element, which must have this tag.
    pub(super) fn required(&mut self, tag: u8, what: &'static str) -> Result<Tlv<'a>, Malformed> {
        if self.peek() == Some(tag) { self.any(what) } else { Err(Malformed(what)) }
    }

    /// The next element if it has this tag.
    pub(super) fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<Tlv<'a>>, Malformed> {
        if self.peek() == Some(tag) { self.any(what).map(Some) } else { Ok(None) }
    }
}

/// Identifier, length of the header, and length of the content. Indefinite lengths are no DER, and four
/// octets of length are enough for all that is read here.
fn header(octets: &[u8]) -> Option<(u8, usize, usize)> {
    let (&tag, rest) = octets.split_first()?;
    if tag & 0x1F == 0x1F {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    if first < 0x80 {
        return Some((tag, 2, usize::from(first)));
    }
    let digits = usize::from(first & 0x7F);
    if !(1..=4).contains(&digits) {
        return None;
    }
    let length = rest.get(..digits)?.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
    Some((tag, 2 + digits, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_follow_each_other_and_know_where_they_stand() {
        let octets = [0x30, 0x07, 0x02, 0x01, 0x05, 0x04, 0x81, 0x01, b'x'];
        let outer = Reader::only(&octets, SEQUENCE, "outer").unwrap();
        let mut inside = outer.inside();
        let number = inside.required(INTEGER, "number").unwrap();
        assert_eq!((number.start, number.content_start, number.content), (2, 4, &[5][..]));
        assert!(inside.optional(SEQUENCE, "none").unwrap().is_none());
        let string = inside.required(OCTET_STRING, "string").unwrap();
        assert_eq!((string.start, string.content_start, string.content), (5, 8, &b"x"[..]));
        assert!(inside.is_empty() && inside.end("end").is_ok());
    }

    #[test]
    fn what_is_cut_too_long_or_indefinite_is_refused() {
        for octets in [
            &[][..],
            &[0x30],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x01],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x1F, 0x01, 0],
            &[0x30, 0, 0],
        ] {
            assert_eq!(Reader::only(octets, SEQUENCE, "x").unwrap_err(), Malformed("x"), "{octets:x?}");
        }
        let indefinite = [&[0x30, 0x80][..], &[0; 128]].concat();
        assert_eq!(Reader::only(&indefinite, SEQUENCE, "x").unwrap_err(), Malformed("x"));
        // Tags of more than one octet are in nothing that is read here.
        for tag in [0x1F, 0x3F, 0x5F, 0x9F, 0xBF] {
            assert_eq!(Reader::new(&[tag, 1, 0]).any("x").unwrap_err(), Malformed("x"), "{tag:x}");
        }
    }
}
