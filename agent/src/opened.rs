//! Content that came out of a ciphertext, made an entity and put in the ciphertext's place.
//!
//! Whoever encrypted wrote it: it may be anything, and nothing in it may reach the message's own header but
//! what describes the content.

use std::borrow::Cow;

use smime::{
    Room,
    cms::Object,
    message::Wrapped,
    mime::{
        Canonical, ContentType, LONGEST_ALLOWED, LONGEST_LINE, MAX_DEPTH, Message, MimeEntity,
        TransferEncoding,
    },
};

use crate::{
    Edits,
    fit::Fit,
    sending::{content_fields, is_content_field},
};

/// Makes decrypted octets an entity with CRLF line ends in its header and in what has lines. What does not begin with a MIME
/// header is text as a whole, or a file: taking its first lines for a header would lose them.
pub(crate) fn as_entity(octets: Vec<u8>) -> Vec<u8> {
    let first_line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let has_lf_lines = first_line.len() < octets.len() && !first_line.ends_with(b"\r");
    let in_crlf = has_lf_lines.then(|| Message::from_stored(&octets).into_octets());
    if is_entity(in_crlf.as_ref().unwrap_or(&octets)) {
        return match in_crlf {
            Some(in_crlf) => with_binary_bodies(in_crlf, &octets),
            None => octets,
        };
    }
    drop(in_crlf);
    if !is_text(&octets) {
        let header = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n";
        return [header.as_bytes(), &octets].concat();
    }
    let charset = if octets.is_ascii() { "us-ascii" } else { "utf-8" };
    let header = format!("Content-Type: text/plain; charset={charset}\r\n\r\n");
    [header.as_bytes(), Message::from_stored(&octets).octets()].concat()
}

/// Whether octets begin with a MIME header, or with an empty line and are text.
pub(crate) fn is_entity(octets: &[u8]) -> bool {
    let entity = MimeEntity::parse(octets);
    let header = entity.header();
    let mut fields = header.fields();
    let is_header = fields.clone().all(|field| !field.name().is_empty())
        && fields.any(|field| is_content_field(field.name()));
    (octets.starts_with(b"\r\n") && !octets.iter().copied().any(is_control))
        || (is_header && entity.has_empty_line())
}

/// Whether these octets are text: what is not can be a file of any kind, in which no octet may change.
fn is_text(octets: &[u8]) -> bool {
    std::str::from_utf8(octets).is_ok() && !octets.iter().copied().any(is_control)
}

/// Whether an octet is in no text: those of line ends, tabs, pages and old Japanese charsets are.
fn is_control(octet: u8) -> bool {
    octet < b' ' && !b"\t\n\r\x0c\x1b".contains(&octet)
}

/// The octets with CRLF, but those of binary bodies as they were before that.
fn with_binary_bodies(in_crlf: Vec<u8>, before: &[u8]) -> Vec<u8> {
    let mut bodies = Vec::new();
    binary_bodies(&MimeEntity::parse(&in_crlf), &mut |body, _| bodies.push(body));
    if bodies.is_empty() {
        return in_crlf;
    }
    // A CR that was put in stands where there was the LF behind it.
    let pass = |from: usize, octets: &[u8]| {
        octets.iter().fold(from, |at, octet| at + usize::from(before.get(at) == Some(octet)))
    };
    let mut out = Vec::with_capacity(in_crlf.len());
    let (mut written, mut at) = (0, 0);
    for body in bodies {
        let begin = body.as_ptr().addr() - in_crlf.as_ptr().addr();
        let between = in_crlf.get(written..begin).unwrap_or_default();
        out.extend_from_slice(between);
        let start = pass(at, between);
        at = pass(start, body);
        out.extend_from_slice(before.get(start..at).unwrap_or_default());
        written = begin + body.len();
    }
    out.extend_from_slice(in_crlf.get(written..).unwrap_or_default());
    out
}

/// Finds the bodies in order that may be of any octets, where an LF is no line end, and whether their label says so: what
/// is binary, and what is not text, without a transfer encoding.
fn binary_bodies<'e>(entity: &MimeEntity<'e>, found: &mut impl FnMut(&'e [u8], bool)) {
    let Ok(encoding) = entity.transfer_encoding() else { return };
    let is_binary = encoding == TransferEncoding::Binary;
    let Ok(content_type) = entity.content_type() else {
        if is_binary {
            found(entity.body(), true);
        }
        return;
    };
    if content_type.is_multipart() {
        for part in entity.parts_of(&content_type).unwrap_or_default() {
            binary_bodies(&part, found);
        }
    } else if content_type.is("message/rfc822") && encoding.is_identity() {
        if let Ok(message) = entity.embedded() {
            binary_bodies(&message, found);
        }
    } else if is_binary || (encoding.is_identity() && !has_lines(&content_type)) {
        found(entity.body(), is_binary && !has_lines(&content_type));
    }
}

/// Whether a type is of lines, whose ends may change.
fn has_lines(content_type: &ContentType) -> bool {
    ["text/", "message/"].iter().any(|kind| content_type.media().starts_with(kind))
}

/// What was opened, without its compression if it fits so, and the edits that put it in place; or why it cannot be put there.
pub(crate) fn placed(
    outer: &MimeEntity<'_>,
    opened: Vec<u8>,
    room: Room,
    fit: Fit,
) -> Result<(Vec<u8>, Edits), &'static str> {
    let edits = |octets: &[u8], room: Room| {
        // The body will be there twice, and encoded in between where mail transport would change it.
        if room.left() < 4 * octets.len() && !goes_as_it_is(octets) {
            return Err("the content inside is too large");
        }
        let why = "the header inside is too large, or what is signed inside is binary";
        put_in_place(outer, octets).ok_or(why)
    };
    let beside = room.without(opened.len());
    if let Some(content) = decompressed(&opened, beside) {
        let edits = edits(&content, beside)?;
        if fit.takes(&edits) {
            return Ok((content, edits));
        }
    }
    let edits = edits(&opened, room)?;
    Ok((opened, edits))
}

/// What is compressed, without its compression: few mail programs can undo it. `None` where it is not, or cannot
/// be undone in the room that is left.
fn decompressed(octets: &[u8], whole: Room) -> Option<Vec<u8>> {
    let mut content: Option<Vec<u8>> = None;
    for _ in 0..MAX_DEPTH {
        let mut room = whole.without(content.as_ref().map_or(0, Vec::len));
        let entity = MimeEntity::parse(content.as_deref().unwrap_or(octets));
        let Ok(Some(Wrapped::Opaque(object))) = Wrapped::read_within(&entity, &mut room) else { break };
        let Ok(Object::CompressedData(compressed)) = Object::parse_within(&object, room) else { break };
        let Ok(inside) = compressed.decompress_within(&mut room) else { break };
        // It will be there twice: as an entity, and as the body that takes the ciphertext's place.
        if room.take(inside.len()).is_err() {
            break;
        }
        content = Some(as_entity(inside));
    }
    content
}

/// The edits that put an opened entity in the place of the ciphertext: its `Content-*` fields and its body.
/// No other field of its header gets out: RFC 8551 gives them no meaning, attackers do. `None` if its fields
/// are more or larger than is taken, or if something binary must stay as it is, because it is signed, and would not.
pub(crate) fn put_in_place(outer: &MimeEntity<'_>, octets: &[u8]) -> Option<Edits> {
    let inner = MimeEntity::parse(octets);
    // Inside, content may be binary; outside, mail transport would damage that. What cannot be made safe,
    // such as a signed part, stays as it is.
    let safe = if goes_as_it_is(octets) { None } else { Some(Canonical::from_entity(&inner)) };
    if matches!(safe, Some(Err(_))) && is_changed_on_the_way(&inner) {
        return None;
    }
    let safe = safe.and_then(Result::ok);
    let inner = safe.as_ref().map_or(inner, |canonical| MimeEntity::parse(canonical.octets()));
    let mut append = vec![("MIME-Version".to_owned(), "1.0".to_owned())];
    for field in inner.header().fields() {
        if is_content_field(field.name()) && !field.is("MIME-Version") {
            append.push((field.name().to_owned(), clean_value(field.value())));
        }
    }
    let size: usize = append.iter().map(|(name, value)| name.len() + value.len()).sum();
    (size <= MAX_FIELDS && append.len() <= MOST_CONTENT_FIELDS).then(|| Edits {
        remove: content_fields(outer),
        append,
        body: Some(inner.body().to_vec()),
        ..Edits::default()
    })
}

/// Whether an entity can take the ciphertext's place octet by octet: mail transport changes nothing in it, nor does a mailbox
/// with LF line ends, in which a CRLF of something binary would be an LF.
pub(crate) fn goes_as_it_is(octets: &[u8]) -> bool {
    let mut has_binary_lines = false;
    let mut look = |body: &[u8], is_labelled: bool| {
        has_binary_lines |= is_labelled && memchr::memchr2(b'\r', b'\n', body).is_some();
    };
    is_transport_safe(octets, LONGEST_LINE) && {
        binary_bodies(&MimeEntity::parse(octets), &mut look);
        !has_binary_lines
    }
}

/// Whether there is something binary that transport changes.
fn is_changed_on_the_way(entity: &MimeEntity<'_>) -> bool {
    let mut is_changed = false;
    binary_bodies(entity, &mut |body, _| is_changed |= !is_transport_safe(body, LONGEST_ALLOWED));
    is_changed
}

/// Whether every line ends in CRLF and has at most so many octets, and there is no NUL.
pub(crate) fn is_transport_safe(octets: &[u8], longest: usize) -> bool {
    let is_short = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len() <= longest;
    let (mut begin, mut ends) = (0, 0);
    for at in memchr::memchr_iter(b'\n', octets) {
        let line = octets.get(begin..at).unwrap_or_default();
        if !line.ends_with(b"\r") || !is_short(line) {
            return false;
        }
        begin = at + 1;
        ends += 1;
    }
    // The end of the last line may be missing, or be a CR alone; there is no other CR.
    let crs = ends + usize::from(octets.ends_with(b"\r"));
    if memchr::memchr_iter(b'\r', octets).count() != crs || memchr::memchr(0, octets).is_some() {
        return false;
    }
    is_short(octets.get(begin..).unwrap_or_default())
}

/// Whether readers find the same kind of entity, with the same parts, where it was put in place. What was verified was another
/// entity where not.
pub(crate) fn is_read_alike(edits: &Edits, entity: &MimeEntity<'_>) -> bool {
    let fields = edits.append.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let delivered = fields.collect::<String>() + "\r\n";
    match (MimeEntity::parse(delivered.as_bytes()).content_type(), entity.content_type()) {
        (Ok(one), Ok(other)) => {
            let same = |name| one.parameter(name) == other.parameter(name);
            one.media() == other.media() && same("boundary") && same("charset")
        }
        (one, other) => one.is_err() && other.is_err(),
    }
}

/// A field's value with its folds, each with the blanks that it has (in a quoted boundary they count), and without anything
/// that could end the field. Octets that are no UTF-8 are taken for ISO 8859-1, which old programs write into file names.
fn clean_value(value: &[u8]) -> String {
    let text = match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => value.iter().map(|octet| char::from(*octet)).collect(),
    };
    let text = text.trim();
    let mut out = String::with_capacity(text.len());
    // Blanks of lines with nothing else, which MTAs may take for the header's end.
    let mut blanks = String::new();
    for line in text.split("\r\n") {
        let line = line.replace(|c: char| c.is_control() && c != '\t', " ");
        if line.trim().is_empty() {
            blanks.push_str(&line);
            continue;
        }
        if !out.is_empty() {
            out.push_str("\r\n");
            if blanks.is_empty() && !line.starts_with([' ', '\t']) {
                out.push(' ');
            }
        }
        out.push_str(&std::mem::take(&mut blanks));
        out.push_str(&line);
    }
    out
}

/// How many fields may describe the content, in what comes and in what comes out of it: a copy of either comes back. Those of
/// ciphertext are removed only where it opens, which its sender shall not learn from the time that takes.
pub const MOST_CONTENT_FIELDS: usize = 50;
/// Postfix cuts a field at 60,000 octets without a word.
const MAX_FIELDS: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_begins_without_a_mime_header_is_kept_whole() {
        for (content, header) in [
            ("Hello Bob, the contract is void.\r\n", true),
            ("Dear Bob,\r\nthe price is 5.\r\n\r\nRegards\r\n", true),
            ("Dear Bob: call me at once.\r\n\r\nRegards\r\n", true),
            ("Subject: a message without MIME\r\n\r\ntext\r\n", true),
            ("Gr\u{fc}\u{df}e\r\n", true),
            ("", true),
            ("Content-Type: text/html\r\n\r\n<p>\r\n", false),
            ("X-Any: y\r\nmime-version: 1.0\r\n\r\ntext\r\n", false),
            ("\r\ntext\r\n", false),
            ("Content-Type: text/plain\r\nno field\r\n\r\ntext\r\n", true),
        ] {
            let entity = String::from_utf8(as_entity(content.as_bytes().to_vec())).unwrap();
            assert!(entity.ends_with(content), "{content:?}: {entity:?}");
            assert_eq!(entity.len() > content.len(), header, "{content:?}: {entity:?}");
            assert!(!header || entity.starts_with("Content-Type: text/plain; charset="), "{entity:?}");
        }
    }

    #[test]
    fn no_more_fields_come_out_than_may_come_in() {
        let outer = MimeEntity::parse(b"Content-Type: application/pkcs7-mime\r\n\r\nx\r\n");
        // Beside these there is MIME-Version.
        for (fields, may) in [(48, true), (49, false)] {
            let inner = format!("Content-Type: text/plain\r\n{}\r\nx\r\n", "Content-A: b\r\n".repeat(fields));
            assert_eq!(put_in_place(&outer, inner.as_bytes()).is_some(), may, "{fields}");
        }
    }

    #[test]
    fn what_stays_beside_what_comes_out_is_none_of_what_is_counted() {
        let names =
            ["MIME-Version-X", "Content-\u{e4}", "Content-A B", "MIME-Version ", "Content-", "content-x"];
        let header: String = names.iter().map(|name| format!("{name}: x\r\n").repeat(40)).collect();
        let message = format!("{header}Content-Type: application/pkcs7-mime\r\n\r\nx\r\n");
        let message = Message::from_owned(message.into_bytes());
        let inner = format!("Content-Type: text/plain\r\n{}\r\nx\r\n", "Content-A: b\r\n".repeat(48));
        let edits = put_in_place(&message.entity(), inner.as_bytes()).unwrap();
        let opened = edits.apply(&message);
        let counted =
            opened.entity().header().fields().filter(|field| is_content_field(field.name())).count();
        assert_eq!(counted, MOST_CONTENT_FIELDS, "{}", String::from_utf8_lossy(opened.octets()));
    }

    #[test]
    fn what_transport_would_change_is_known() {
        for (octets, safe) in [
            (&b"a\r\nb\r\n"[..], true),
            (b"a\r\nb", true),
            (b"", true),
            (b"a\nb\r\n", false),
            (b"a\rb\r\n", false),
            (b"a\0b\r\n", false),
            (b"a\r", true),
            (b"a\r\r\n", false),
            (b"\n", false),
            (b"\r\n\r\n", true),
            (b"\xfc\r\n", true),
        ] {
            assert_eq!(is_transport_safe(octets, LONGEST_LINE), safe, "{octets:?}");
        }
        assert!(
            is_transport_safe(&[b'x'; 988], LONGEST_LINE) && !is_transport_safe(&[b'x'; 989], LONGEST_LINE)
        );
        assert!(
            is_transport_safe(&[b'x'; 998], LONGEST_ALLOWED)
                && !is_transport_safe(&[b'x'; 999], LONGEST_ALLOWED)
        );
    }

    #[test]
    fn folds_have_the_blanks_that_they_had() {
        for (value, expected) in [
            (" a/b;\r\n x=\"a\r\n  b\"\r\n", "a/b;\r\n x=\"a\r\n  b\""),
            (" a/b; x=\"a \r\n\tb\"\r\n", "a/b; x=\"a \r\n\tb\""),
            ("\r\n a/b; x=\"a\r\n \r\n b\"\r\n", "a/b; x=\"a\r\n  b\""),
            (" a\nb\rc\0d\r\n", "a b c d"),
        ] {
            assert_eq!(clean_value(value.as_bytes()), expected, "{value:?}");
        }
        let entity = b"Content-Type: multipart/mixed; boundary=\"a\x01b\"\r\n\r\n";
        let entity = MimeEntity::parse(entity);
        let edits = put_in_place(&entity, entity.octets()).unwrap();
        assert!(!is_read_alike(&edits, &entity) || entity.content_type().is_err());
    }

    #[test]
    fn old_programs_file_names_stay_readable() {
        assert_eq!(clean_value(b" a/b; name=\"M\xfcller.pdf\"\r\n"), "a/b; name=\"M\u{fc}ller.pdf\"");
    }
}
