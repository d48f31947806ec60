//! The transfer encoding base64 (RFC 2045 6.8), at the speed of memory.
//!
//! Octets go through a block that stays in the processor's cache: lines are put together or taken apart there, and
//! the vector instructions of `base64-simd` see long runs. Whatever is not plain base64 in lines is looked at once
//! more, octet by octet, by `data-encoding`, which also says what is wrong where.

use base64_simd::{Out, STANDARD, STANDARD_NO_PAD};
use data_encoding::{BASE64_MIME, BASE64_MIME_PERMISSIVE, DecodeKind};

/// Octets that are no base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at octet {at}")]
pub struct Base64Error {
    /// Where, counted in the encoded octets.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Decodes base64. CR, LF, space and tab are ignored anywhere; anything else outside the alphabet, a
/// missing end, and more than empty lines after the padding are errors.
pub fn decode_base64(encoded: &[u8]) -> Result<Vec<u8>, Base64Error> {
    let is_end = |octet: &u8| matches!(octet, b'=' | b'\r' | b'\n' | b' ' | b'\t');
    let end = encoded.iter().rev().take_while(|octet| is_end(octet)).count();
    let (text, end) = encoded.split_at(encoded.len() - end);
    if let Some(octets) = decode_lines(text, end) {
        return Ok(octets);
    }
    if let Some(padding) = memchr::memchr(b'=', encoded) {
        let tail = encoded.get(padding..).unwrap_or_default();
        if let Some(at) = tail.iter().position(|octet| !is_end(octet)) {
            return Err(Base64Error { at: padding + at, reason: "octets after the padding" });
        }
    }
    decode_any(encoded)
}

/// Octets of a block of text: whole quanta, and as many whole lines.
const TEXT_BLOCK: usize = TEXT_LINE * LINES;

/// Decodes lines of text that end in CRLF or LF and hold nothing else, and the padding after them. `None` for
/// everything else, whether it is base64 or not.
fn decode_lines(text: &[u8], end: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut block = [0; TEXT_BLOCK];
    let mut filled = 0;
    let mut rest = text;
    // Nearly always all lines are as long as the first one, and end as it does.
    let first = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
    let line_end: &[u8] = if text.get(..first)?.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
    while !rest.is_empty() {
        let (line, tail) = match rest.split_at_checked(first) {
            Some((line, tail)) if line.ends_with(line_end) => (line, tail),
            _ => rest.split_at(memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)),
        };
        rest = tail;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        while !line.is_empty() {
            let (now, later) = line.split_at(line.len().min(TEXT_BLOCK - filled));
            block.get_mut(filled..filled + now.len())?.copy_from_slice(now);
            filled += now.len();
            line = later;
            if filled == TEXT_BLOCK {
                STANDARD_NO_PAD.decode_append(block, &mut octets).ok()?;
                filled = 0;
            }
        }
    }
    let (whole, last) = block.get(..filled)?.split_at(filled / 4 * 4);
    STANDARD_NO_PAD.decode_append(whole, &mut octets).ok()?;
    // The last quantum decides by its padding; it may have bits that mean nothing.
    octets.extend(decode_any(&[last, end].concat()).ok()?);
    Some(octets)
}

/// Decodes with white space anywhere, or says what is wrong.
fn decode_any(encoded: &[u8]) -> Result<Vec<u8>, Base64Error> {
    let decode = |octets: &[u8]| {
        BASE64_MIME_PERMISSIVE.decode(octets).map_err(|error| {
            let reason = match error.kind {
                DecodeKind::Length => "the end is missing",
                DecodeKind::Symbol => "an octet outside the alphabet",
                DecodeKind::Trailing | DecodeKind::Padding => "bad padding",
            };
            Base64Error { at: error.position, reason }
        })
    };
    if memchr::memchr2(b' ', b'\t', encoded).is_none() {
        return decode(encoded);
    }
    let is_kept = |octet: &u8| !matches!(octet, b' ' | b'\t');
    let compact: Vec<u8> = encoded.iter().copied().filter(|octet| is_kept(octet)).collect();
    decode(&compact).map_err(|error| {
        let mut kept = encoded.iter().enumerate().filter(|(_, octet)| is_kept(octet));
        let at = kept.nth(error.at).map_or(encoded.len(), |(at, _)| at);
        Base64Error { at, ..error }
    })
}

/// Octets that make a line.
const OCTET_LINE: usize = 57;
/// Characters in a line.
const TEXT_LINE: usize = 76;
/// The same with CRLF.
const WHOLE_LINE: usize = TEXT_LINE + 2;
/// The same with LF alone.
const LF_LINE: usize = TEXT_LINE + 1;
/// Lines in a block.
const LINES: usize = 64;
/// Octets that make a block.
const OCTET_BLOCK: usize = OCTET_LINE * LINES;

/// Encodes in lines of 76 characters, each with a CRLF.
pub fn encode_base64(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(base64_len(octets.len()));
    encode_base64_into(octets, &mut text);
    text
}

/// Appends what [`encode_base64`] makes of octets.
pub(super) fn encode_base64_into(octets: &[u8], text: &mut Vec<u8>) {
    append_base64::<WHOLE_LINE>(octets, text);
}

/// Appends what [`encode_base64`] makes of octets in segments that follow each other, with CRLF or with LF.
pub fn encode_base64_segments(segments: &[&[u8]], with_crlf: bool, text: &mut Vec<u8>) {
    let append = if with_crlf { append_base64::<WHOLE_LINE> } else { append_base64::<LF_LINE> };
    let len: usize = segments.iter().map(|segment| segment.len()).sum();
    text.reserve_exact(base64_len(len));
    // What is left of a segment is less than a line, and begins the next one.
    let mut line = Vec::with_capacity(OCTET_LINE);
    for segment in segments {
        let begins = if line.is_empty() { 0 } else { segment.len().min(OCTET_LINE - line.len()) };
        let (begin, rest) = segment.split_at(begins);
        line.extend_from_slice(begin);
        if line.len() == OCTET_LINE {
            append(&line, text);
            line.clear();
        }
        if line.is_empty() {
            let (whole, last) = rest.split_at(rest.len() / OCTET_LINE * OCTET_LINE);
            append(whole, text);
            line.extend_from_slice(last);
        }
    }
    append(&line, text);
}

fn append_base64<const LINE: usize>(octets: &[u8], text: &mut Vec<u8>) {
    let (mut lines, mut flat) = ([0; WHOLE_LINE * LINES], [0; TEXT_BLOCK]);
    for block in octets.chunks(OCTET_BLOCK) {
        let written = encode_block::<LINE>(block, &mut flat, &mut lines);
        text.extend_from_slice(lines.get(..written).unwrap_or_default());
    }
}

/// The length of what [`encode_base64`] makes of `len` octets.
pub(crate) fn base64_len(len: usize) -> usize {
    BASE64_MIME.encode_len(len)
}

/// Encodes at most a block, by way of `flat`, into the beginning of `lines`, and tells how long that is. Lines have
/// [`WHOLE_LINE`] octets, with CRLF, or [`LF_LINE`].
fn encode_block<const LINE: usize>(octets: &[u8], flat: &mut [u8; TEXT_BLOCK], lines: &mut [u8]) -> usize {
    let text = STANDARD.encode(octets, Out::from_slice(flat));
    let (full, last) = text.as_chunks::<TEXT_LINE>();
    let end: &[u8] = if LINE == WHOLE_LINE { b"\r\n" } else { b"\n" };
    let mut written = 0;
    for (line, place) in full.iter().zip(lines.as_chunks_mut::<LINE>().0) {
        let (characters, after) = place.split_at_mut(TEXT_LINE);
        characters.copy_from_slice(line);
        after.copy_from_slice(end);
        written += LINE;
    }
    if !last.is_empty() {
        let place = lines.get_mut(written..).unwrap_or_default();
        for (to, from) in place.iter_mut().zip(last.iter().chain(end)) {
            *to = *from;
        }
        written += last.len() + end.len();
    }
    written
}

/// The place of an object that is only wanted in base64: it is written at the end of the room that its text will take,
/// and encoded there from the beginning. So there is one buffer and not two.
#[derive(Debug)]
pub(crate) struct Base64Buffer {
    /// The end is the object.
    octets: Vec<u8>,
    object_len: usize,
}

impl Base64Buffer {
    /// Room for an object of this length.
    pub(crate) fn new(object_len: usize) -> Self {
        Self { octets: vec![0; base64_len(object_len)], object_len }
    }

    /// With an object in it, given in segments that follow each other.
    pub(crate) fn of(segments: &[&[u8]]) -> Self {
        let object_len = segments.iter().map(|segment| segment.len()).sum();
        let text_len = base64_len(object_len);
        let mut octets = Vec::with_capacity(text_len);
        octets.resize(text_len - object_len, 0);
        for segment in segments {
            octets.extend_from_slice(segment);
        }
        Self { octets, object_len }
    }

    /// Room for an object of this length, in a buffer that is there already. What is in it from `start` on becomes a part
    /// of the object, `at` octets behind its beginning; everything else in the object is for the caller to write. `None`
    /// if the object has no room for it.
    pub(crate) fn around(mut octets: Vec<u8>, start: usize, object_len: usize, at: usize) -> Option<Self> {
        let text_len = base64_len(object_len);
        let end = octets.len();
        let part_len = end.checked_sub(start)?;
        if at.checked_add(part_len)? > object_len || end > text_len {
            return None;
        }
        octets.reserve_exact(text_len - end);
        octets.resize(text_len, 0);
        octets.copy_within(start..end, text_len - object_len + at);
        Some(Self { octets, object_len })
    }

    /// The object's place.
    pub(crate) fn object(&mut self) -> &mut [u8] {
        let start = self.octets.len() - self.object_len;
        self.octets.get_mut(start..).unwrap_or_default()
    }

    /// The text, as of [`encode_base64`].
    pub(crate) fn into_text(mut self) -> Vec<u8> {
        let (mut block, mut flat) = ([0; OCTET_BLOCK], [0; TEXT_BLOCK]);
        let mut written = 0;
        let mut read = self.octets.len() - self.object_len;
        while read < self.octets.len() {
            let len = OCTET_BLOCK.min(self.octets.len() - read);
            let (Some(now), Some(octets)) = (block.get_mut(..len), self.octets.get(read..read + len)) else {
                break;
            };
            now.copy_from_slice(octets);
            read += len;
            // What is written never reaches what is still to be read: of the room that text takes more than octets,
            // each block needs its own part only.
            written += encode_block::<WHOLE_LINE>(
                now,
                &mut flat,
                self.octets.get_mut(written..).unwrap_or_default(),
            );
        }
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_ignores_white_space_anywhere() {
        for (encoded, octets) in [
            ("", ""),
            ("\r\n \t", ""),
            ("Zm9v", "foo"),
            ("Zm\r\n9v Yg\t==\r\n\r\n", "foob"),
            ("Zm9vYh==", "foob"),
            ("Zm9vYmE=", "fooba"),
        ] {
            assert_eq!(decode_base64(encoded.as_bytes()).as_deref(), Ok(octets.as_bytes()), "{encoded:?}");
        }
    }

    #[test]
    fn bad_base64_is_refused_where_it_is_bad() {
        for (encoded, at) in [
            ("Zm9", 0),
            ("Zm9vZg", 4),
            ("Zm9v*m9v", 4),
            (" Zm9v *m9v", 6),
            ("Zg==Zg==", 4),
            ("Zg==\r\n-- \r\nfooter", 6),
            ("Zg=", 0),
            ("Z===", 1),
            ("====", 0),
            ("Zm9v\0", 4),
            ("Zm9v\u{e9}", 4),
        ] {
            assert_eq!(decode_base64(encoded.as_bytes()).map_err(|error| error.at), Err(at), "{encoded:?}");
        }
    }

    #[test]
    fn base64_comes_in_lines_of_76() {
        let encoded = encode_base64(&[0; 58]);
        assert_eq!(encoded, format!("{}\r\nAA==\r\n", "A".repeat(76)).into_bytes());
        assert_eq!(base64_len(58), encoded.len());
    }

    /// Octets that do not repeat.
    fn octets(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * at / 7 + at % 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn every_length_is_encoded_as_the_reference_does_and_comes_back() {
        for len in (0..200).chain(OCTET_BLOCK - 60..OCTET_BLOCK + 60).chain([3 * OCTET_BLOCK - 1, 100_000]) {
            let octets = octets(len);
            let text = encode_base64(&octets);
            assert_eq!(text, BASE64_MIME.encode(&octets).into_bytes(), "{len}");
            let mut buffer = Base64Buffer::new(len);
            buffer.object().copy_from_slice(&octets);
            assert_eq!(buffer.into_text(), text, "{len}, in its place");
            let (start, end) = octets.split_at(len / 3);
            assert_eq!(Base64Buffer::of(&[start, end]).into_text(), text, "{len}, of segments");
            let (middle, rest) = end.split_at(end.len() / 5);
            let mut lines = b"before".to_vec();
            encode_base64_segments(&[start, b"", middle, rest], true, &mut lines);
            assert_eq!(lines, [b"before", text.as_slice()].concat(), "{len}, of segments, in lines");
            let around = [&b"lead"[..], start].concat();
            if let Some(mut buffer) = Base64Buffer::around(around, 4, len, end.len()) {
                assert_eq!(&buffer.object()[end.len()..], start, "{len}");
                buffer.object().copy_from_slice(&octets);
                assert_eq!(buffer.into_text(), text, "{len}, around a part");
            } else {
                assert!(text.len() < 4 + start.len(), "{len}");
            }
            assert_eq!(decode_base64(&text).as_ref(), Ok(&octets), "{len}");
            let lf: Vec<u8> = text.iter().copied().filter(|octet| *octet != b'\r').collect();
            assert_eq!(decode_base64(&lf).as_ref(), Ok(&octets), "{len}, with LF");
            lines.clear();
            encode_base64_segments(&[start, middle, rest], false, &mut lines);
            assert_eq!(lines, lf, "{len}, of segments, with LF");
            let one: Vec<u8> = lf.iter().copied().filter(|octet| *octet != b'\n').collect();
            assert_eq!(decode_base64(&one).as_ref(), Ok(&octets), "{len}, in one line");
        }
    }

    #[test]
    fn what_the_fast_way_takes_is_what_the_careful_one_takes() {
        let text = encode_base64(&octets(4_000));
        let mut state = 1_u32;
        for round in 0..20_000 {
            let mut changed = text.clone();
            for _ in 0..round % 4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = usize::try_from(state >> 8).unwrap() % changed.len();
                match state % 5 {
                    0 => changed.truncate(at.max(1)),
                    1 => drop(changed.remove(at)),
                    2 => changed.insert(at, b" \t\r\n=A*\0"[at % 8]),
                    _ => changed[at] = b" \t\r\n=A\xff/"[at % 8],
                }
            }
            let careful = decode_any(&changed);
            let tail = memchr::memchr(b'=', &changed).map_or(&[][..], |at| &changed[at..]);
            let refused = tail.iter().any(|octet| !b"= \t\r\n".contains(octet));
            match decode_base64(&changed) {
                Ok(octets) => assert_eq!((Ok(octets), refused), (careful, false), "{round}"),
                Err(error) => assert!(refused || careful == Err(error), "{round}"),
            }
        }
    }
}
