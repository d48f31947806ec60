//! Between a message as it is stored and a [`Message`] as an agent wants it: line ends, quoting, lengths.

use std::borrow::Cow;

use agent::NewObject;
use memchr::memmem;
use smime::{
    cms,
    message::Wrapped,
    mime::{Message, crlf, decode_base64, encode_base64_segments},
};

use crate::{
    mbox::{quote, unquote},
    stored::{Frame, Stored},
    task::{Altered, Body},
};

/// What a stored message says.
#[derive(Clone, Debug)]
pub struct Readings {
    /// The likely reading.
    pub message: Message,
    /// The reading of the other mbox variant, where there are `>From ` lines that make a difference.
    pub other: Option<Message>,
}

/// Reads a stored message.
pub fn readings(stored: &Stored) -> Readings {
    let (header, body) = split(stored.content());
    let Frame::Mbox { quoting, .. } = stored.frame else {
        return Readings { message: Message::from_stored(stored.content()), other: None };
    };
    let header = without_lengths(header);
    let with_body = |body: &[u8]| Message::from_stored_parts(&header, body);
    // Where no line is quoted there is one reading.
    let quoted = quoting.filter(|_| !stored.unquoted && memmem::find(body, b">From ").is_some());
    let Some(quoting) = quoted else { return Readings { message: with_body(body), other: None } };
    let likely = unquote(body, quoting);
    let other = unquote(body, quoting.other());
    let other = (other != likely).then(|| with_body(&other));
    Readings { message: with_body(&likely), other }
}

/// The header of a stored message that is a ciphertext in base64, and its body as it is stored: its line ends are none of
/// the message's octets. `None` for everything else, and for what has to be looked at more closely to be told.
pub(crate) fn ciphertext(stored: &Stored) -> Option<(Message, &[u8])> {
    let (header, body) = split(stored.content());
    if !begins_ciphertext(body) {
        return None;
    }
    let header = match stored.frame {
        Frame::File => Message::from_stored(header),
        // A quoted line would be no base64.
        Frame::Mbox { .. } if memchr::memchr(b'>', body).is_some() => return None,
        Frame::Mbox { .. } => Message::from_stored(&without_lengths(header)),
    };
    Wrapped::is_object_in_base64(&header.entity()).then_some((header, body))
}

/// Whether a body begins with a `ContentInfo` that says of its content that it is encrypted.
fn begins_ciphertext(body: &[u8]) -> bool {
    let beginning = body.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).take(BEGINNING);
    decode_base64(&beginning.collect::<Vec<_>>()).is_ok_and(|octets| cms::begins_enveloped_data(&octets))
}

/// How many characters of base64 are enough to tell of what type a content is.
const BEGINNING: usize = 40;

/// A message made ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// All its octets, with what the archive puts around it.
    pub octets: Vec<u8>,
    /// What that is.
    pub frame: Frame,
}

/// The octets to store in place of `stored`, now that `message` has become `changed`. The line ends are
/// those of the stored message; a body that did not change keeps its octets.
pub fn render(stored: &Stored, message: &Message, changed: &Altered) -> Rendered {
    let line_end = LineEnd::of(stored.content());
    let (stored_header, stored_body) = split(stored.content());
    let mut header = line_end.apply(changed.header());
    if !header.is_empty() && !header.ends_with(b"\n") {
        header.extend_from_slice(line_end.octets());
    }
    let Frame::Mbox { from_line, separator, followed, quoting } = stored.frame else {
        header.extend_from_slice(line_end.octets());
        match New::of(changed, message) {
            New::Same => {
                header.reserve_exact(stored_body.len());
                header.extend_from_slice(stored_body);
            }
            New::Lines(lines) => {
                header.reserve_exact(lines.len());
                line_end.append(lines, &mut header);
            }
            New::Object(object) => line_end.append_base64(object, &mut header),
        }
        return Rendered { octets: header, frame: Frame::File };
    };

    let room = match New::of(changed, message) {
        New::Same => stored_body.len(),
        New::Lines(lines) => lines.len(),
        New::Object(_) => 0,
    };
    let mut out = Vec::with_capacity(from_line + header.len() + room + 64);
    out.extend_from_slice(stored.octets.get(..from_line).unwrap_or_default());
    out.extend_from_slice(&header);
    let header_end = out.len();
    out.extend_from_slice(line_end.octets());
    let body_begin = out.len();
    match New::of(changed, message) {
        New::Same => out.extend_from_slice(stored_body),
        New::Lines(lines) => {
            line_end.append(lines, &mut out);
            let body = out.get(body_begin..).unwrap_or_default();
            let quoted = quoting.map(|quoting| quote(body, quoting));
            if let Some(Cow::Owned(quoted)) = quoted {
                out.truncate(body_begin);
                out.extend_from_slice(&quoted);
            }
        }
        New::Object(object) => line_end.append_base64(object, &mut out),
    }
    if out.len() > body_begin && !out.ends_with(b"\n") {
        out.extend_from_slice(line_end.octets());
    }
    let body = out.get(body_begin..).unwrap_or_default();
    let lengths = fields(stored_header).filter(|field| is_length(field));
    let lengths: Vec<u8> = lengths.flat_map(|field| length_field(field, body, line_end)).collect();
    out.splice(header_end..header_end, lengths);
    let content_end = out.len();
    if separator > 0 {
        let at = stored.octets.len().saturating_sub(separator);
        out.extend_from_slice(stored.octets.get(at..).unwrap_or_default());
    } else if followed {
        out.extend_from_slice(line_end.octets());
    }
    let separator = out.len() - content_end;
    Rendered { octets: out, frame: Frame::Mbox { from_line, separator, followed, quoting } }
}

/// What the body is now.
enum New<'a> {
    Same,
    Lines(&'a [u8]),
    Object(&'a NewObject),
}

impl<'a> New<'a> {
    fn of(changed: &'a Altered, message: &Message) -> Self {
        match changed {
            Altered::Whole(changed) if changed.body() == message.body() => Self::Same,
            Altered::Whole(changed) => Self::Lines(changed.body()),
            Altered::Edited { body: Body::Same, .. } => Self::Same,
            Altered::Edited { body: Body::Lines(lines), .. } => Self::Lines(lines),
            Altered::Edited { body: Body::Object(object), .. } => Self::Object(object),
        }
    }
}

/// How the lines of a stored message end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnd {
    Lf,
    CrLf,
}

impl LineEnd {
    /// That of the first line.
    pub(crate) fn of(stored: &[u8]) -> Self {
        match memchr::memchr(b'\n', stored) {
            Some(at) if at > 0 && stored.get(at - 1) == Some(&b'\r') => Self::CrLf,
            _ => Self::Lf,
        }
    }

    pub(crate) fn octets(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
        }
    }

    /// Lines with CRLF, with these line ends.
    fn apply(self, lines: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(lines.len());
        self.append(lines, &mut out);
        out
    }

    fn append_base64(self, object: &NewObject, out: &mut Vec<u8>) {
        encode_base64_segments(&object.segments(), self == Self::CrLf, out);
    }

    fn append(self, lines: &[u8], out: &mut Vec<u8>) {
        if self == Self::CrLf {
            return out.extend_from_slice(&crlf(lines));
        }
        let mut copied = 0;
        for at in memchr::memchr_iter(b'\n', lines) {
            let line = lines.get(copied..at).unwrap_or_default();
            out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            copied = at;
        }
        out.extend_from_slice(lines.get(copied..).unwrap_or_default());
    }
}

/// The header with the empty line after it, and the body.
pub(crate) fn split(content: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in lines(content) {
        at += line.len();
        if line == b"\n" || line == b"\r\n" {
            break;
        }
    }
    content.split_at(at)
}

fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}

/// The fields of a header, each with its folds, and the empty line after them.
pub(crate) fn fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let end = memchr::memchr_iter(b'\n', rest)
            .map(|at| at + 1)
            .find(|&end| !matches!(rest.get(end), Some(b' ' | b'\t')))
            .unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        rest = after;
        (!field.is_empty()).then_some(field)
    })
}

/// The header without the fields in which an mbox keeps the length of the body. They are no part of the
/// message; least of all may a `Content-Length` get into what is signed.
fn without_lengths(header: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.len());
    fields(header).filter(|field| !is_length(field)).for_each(|field| out.extend_from_slice(field));
    out
}

/// Whether a field is one that an mbox has for the length: a number and nothing else, in one line. What is folded was
/// written by somebody else; without its first line, its folds would be the end of the field before.
fn is_length(field: &[u8]) -> bool {
    let Some(colon) = field.iter().position(|&octet| octet == b':') else { return false };
    let (name, value) = field.split_at(colon);
    if memchr::memchr(b'\n', field).is_some_and(|at| at + 1 < field.len()) {
        return false;
    }
    let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
    (name.eq_ignore_ascii_case(b"Content-Length") || name.eq_ignore_ascii_case(b"Lines"))
        && !value.is_empty()
        && value.iter().all(u8::is_ascii_digit)
}

/// Whether a field is a `Content-Length` with a number.
pub(crate) fn is_content_length(field: &[u8]) -> bool {
    is_length(field) && field.first().is_some_and(|first| first.eq_ignore_ascii_case(&b'C'))
}

/// The same length field for another body.
fn length_field(field: &[u8], body: &[u8], line_end: LineEnd) -> Vec<u8> {
    let name = field.split(|&octet| octet == b':').next().unwrap_or_default();
    let length = if name.eq_ignore_ascii_case(b"Lines") {
        memchr::memchr_iter(b'\n', body).count()
    } else {
        body.len()
    };
    [name, b": ", length.to_string().as_bytes(), line_end.octets()].concat()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use smime::{mime::encode_base64, testing::fixtures::data};

    use super::*;
    use crate::{mbox::Quoting, stored::Origin};

    fn in_mbox(from_line: &str, content: &str, separator: &str) -> Stored {
        Stored {
            origin: Origin { file: Arc::from(Path::new("test")), offset: Some(0) },
            octets: [from_line, content, separator].concat().into_bytes(),
            frame: Frame::Mbox {
                from_line: from_line.len(),
                separator: separator.len(),
                followed: true,
                quoting: Some(Quoting::Mboxrd),
            },
            attributes: None,
            untouchable: None,
            unquoted: false,
        }
    }

    #[test]
    fn lengths_of_an_mbox_are_no_part_of_the_message_and_are_right_again_afterwards() {
        let stored = in_mbox(
            "From - \n",
            "Subject: x\nContent-Length: 6\nContent-Type: text/plain\nLines: 1\n\nhello\n",
            "\n",
        );
        let message = readings(&stored).message;
        assert_eq!(message.header(), b"Subject: x\r\nContent-Type: text/plain\r\n");

        let changed = Message::from_stored(b"Subject: x\r\n\r\ngood\r\nmorning\r\n");
        assert_eq!(
            render(&stored, &message, &changed.into()).octets,
            b"From - \nSubject: x\nContent-Length: 13\nLines: 2\n\ngood\nmorning\n\n"
        );
    }

    #[test]
    fn a_length_that_is_folded_is_left_and_its_folds_are_no_other_fields() {
        for header in [
            "From: \"alice@example.org\"\nLines: 1\n <mallory@evil.example>\nSubject: x\n",
            "From: \"alice@example.org\"\nContent-Length: 6\n\t<mallory@evil.example>\nSubject: x\n",
            "From: alice@example.org\nLines:\n 1\nSubject: x\n",
            "From: alice@example.org\nSubject: x\nLines: 1\n \n",
        ] {
            let stored = in_mbox("From - \n", &format!("{header}\nhello\n"), "\n");
            let message = readings(&stored).message;
            assert_eq!(message.header(), header.replace('\n', "\r\n").as_bytes());
            let same = Message::from_stored(&[message.header(), b"\r\n", message.body()].concat());
            assert_eq!(render(&stored, &message, &same.into()).octets, stored.octets);
        }
        // A fold that says `Lines: 1` belongs to its own field.
        let stored = in_mbox("From - \n", "Subject: x\n Lines: 1\nLines: 1\n\nhello\n", "\n");
        assert_eq!(readings(&stored).message.header(), b"Subject: x\r\n Lines: 1\r\n");
    }

    #[test]
    fn a_ciphertext_is_known_by_its_header_and_how_it_begins() {
        let body = |object: &str| String::from_utf8(encode_base64(&data(object))).unwrap();
        let header = |media: &str| format!("Content-Type: {media}\nContent-Transfer-Encoding: base64\n\n");
        let mime = "application/pkcs7-mime; name=smime.p7m";
        for (header, body, expected) in [
            (header(mime), body("der.p7m"), true),
            (header(mime), body("ber.p7m").replace("\r\n", "\n"), true),
            (header(mime), format!("\n {}", body("gcm.p7m").replace("\r\n", "")), true),
            (header("application/octet-stream; name=a.p7m"), body("der.p7m"), true),
            (header(mime), body("opaque.p7m"), false),
            (header(mime), String::new(), false),
            (header(mime), "*".repeat(99), false),
            (header(mime), "MIA=".to_owned(), false),
            (header("text/plain"), body("der.p7m"), false),
            (header(mime).replace("base64", "7bit"), body("der.p7m"), false),
            (header(mime).replace("\n\n", "\nodd\n\n"), body("der.p7m"), false),
            (format!("Content-Type: text/plain\n{}", header(mime)), body("der.p7m"), false),
        ] {
            let octets = [header.clone(), body].concat().into_bytes();
            let in_mbox = in_mbox("From - \n", std::str::from_utf8(&octets).unwrap(), "\n");
            let stored = Stored { octets, frame: Frame::File, ..in_mbox.clone() };
            for stored in [stored, in_mbox] {
                let found = ciphertext(&stored);
                assert_eq!(found.is_some(), expected, "{header}");
                if let Some((message, rest)) = found {
                    let whole = readings(&stored).message;
                    assert_eq!(message.header(), whole.header());
                    assert_eq!(
                        decode_base64(rest).ok().as_deref(),
                        Some(&*whole.entity().decoded_body().unwrap())
                    );
                }
            }
        }
        let quoted = in_mbox("From - \n", &format!("{}{}\n>From me\n", header(mime), body("der.p7m")), "\n");
        assert!(ciphertext(&quoted).is_none(), "it may be read in two ways");
    }

    #[test]
    fn quoted_lines_have_two_readings_and_other_lines_one() {
        let quoted = readings(&in_mbox("From - \n", "A: 1\n\n>From here\n", "\n"));
        assert_eq!(quoted.message.body(), b"From here\r\n");
        assert_eq!(quoted.other.unwrap().body(), b">From here\r\n");
        assert!(readings(&in_mbox("From - \n", "A: 1\n\nhere\n", "\n")).other.is_none());
    }

    #[test]
    fn a_changed_body_is_quoted_again_and_ends_before_an_empty_line() {
        let stored = in_mbox("From - \r\n", "A: 1\r\n\r\nx\r\n", "\r\n");
        let message = readings(&stored).message;
        let changed = Message::from_stored(b"A: 2\n\nFrom here\n>From there");
        assert_eq!(
            render(&stored, &message, &changed.into()).octets,
            b"From - \r\nA: 2\r\n\r\n>From here\r\n>>From there\r\n\r\n"
        );
    }

    #[test]
    fn a_body_that_did_not_change_keeps_its_octets_under_a_changed_header() {
        let stored = in_mbox("From - \n", "A: 1\n\n>From mixed\r\nends\n\rand\n", "\n");
        let message = readings(&stored).message;
        let changed = Message::from_stored(&[b"B: 2\r\n\r\n", message.body()].concat());
        assert_eq!(
            render(&stored, &message, &changed.into()).octets,
            b"From - \nB: 2\n\n>From mixed\r\nends\n\rand\n\n"
        );
    }
}
