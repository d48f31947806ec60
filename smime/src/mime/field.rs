//! Header fields that we must write anew: too long lines, raw 8-bit text, another value.
//!
//! RFC 5322 2.2.3 (folding), RFC 2231 (parameters), RFC 2047 (text).

use std::{borrow::Cow, fmt::Write};

use super::{
    ContentType, HeaderField,
    content_type::{self, is_token},
    hazard::{Hazard, hazard_of_fixed, hazards},
};

/// The field as it can be signed: its octets where they are safe, else the same meaning in safe octets.
pub(crate) fn safe_field<'a>(field: &HeaderField<'a>) -> Result<Cow<'a, [u8]>, Hazard> {
    match hazards(field.octets()).transport {
        None => Ok(Cow::Borrowed(field.octets())),
        Some(Hazard::LongLine) => folded(field.octets()).map(Cow::Owned).ok_or(Hazard::LongLine),
        Some(Hazard::EightBit) => {
            let written = seven_bit(field).ok_or(Hazard::EightBit)?;
            hazard_of_fixed(&written).map_or(Ok(Cow::Owned(written)), Err)
        }
        Some(hazard) => Err(hazard),
    }
}

/// A Content-Type field under another media type, with the same parameters.
pub(super) fn retyped(field: Option<&HeaderField<'_>>, media: &str) -> Vec<u8> {
    let value = field.map(HeaderField::value).unwrap_or_default();
    let (value, charset) = utf8(value);
    let parsed = ContentType::parse(&value).unwrap_or_else(|_| ContentType::new(media, &[]));
    structured("Content-Type", media, parsed.parameters(), charset)
}

/// What the octets above 127 of a field were.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Latin1,
}

/// The value in UTF-8. What is not UTF-8 is taken for Latin-1: it keeps every octet apart, and programs
/// that still write raw octets write that, or Windows' larger set.
fn utf8(value: &[u8]) -> (Cow<'_, [u8]>, Charset) {
    if std::str::from_utf8(value).is_ok() {
        return (Cow::Borrowed(value), Charset::Utf8);
    }
    let text: String = value.iter().copied().map(char::from).collect();
    (Cow::Owned(text.into_bytes()), Charset::Latin1)
}

/// `name: value; parameters`, one parameter on a line.
fn structured(name: &str, value: &str, parameters: &[(String, String)], charset: Charset) -> Vec<u8> {
    let mut text = format!("{name}: {value}");
    for (name, value) in parameters {
        write_parameter(&mut text, name, value, charset);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The octets of a parameter with the name of their charset (RFC 2231 4).
fn octets_of(value: &str, charset: Charset) -> (&'static str, Cow<'_, [u8]>) {
    let latin1 = || value.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<u8>>>();
    match (charset == Charset::Latin1).then(latin1).flatten() {
        // Characters for people, where Latin-1 has control characters.
        Some(octets) if octets.iter().any(|octet| (0x80..0xA0).contains(octet)) => {
            ("windows-1252", Cow::Owned(octets))
        }
        Some(octets) => ("iso-8859-1", Cow::Owned(octets)),
        None => ("utf-8", Cow::Borrowed(value.as_bytes())),
    }
}

fn write_parameter(text: &mut String, name: &str, value: &str, charset: Charset) {
    const CHUNK: usize = 54;
    if !value.is_empty() && value.len() <= 200 && value.bytes().all(is_token) {
        text.push_str(&format_args!(";\r\n {name}={value}").to_string());
        return;
    }
    if value.len() <= 200 && value.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format_args!(";\r\n {name}=\"{quoted}\"").to_string());
        return;
    }
    let (charset, octets) = octets_of(value, charset);
    let mut sections = vec![format!("{charset}''")];
    for &octet in octets.iter() {
        if sections.last().is_none_or(|section| section.len() > CHUNK) {
            sections.push(String::new());
        }
        let Some(section) = sections.last_mut() else { return };
        // RFC 2231 7: attribute-char.
        if is_token(octet) && !b"*'%".contains(&octet) {
            section.push(char::from(octet));
        } else {
            // Writing to a string does not fail.
            let _ = write!(section, "%{octet:02X}");
        }
    }
    let single = sections.len() == 1;
    for (index, section) in sections.iter().enumerate() {
        let number = if single { String::new() } else { format!("*{index}") };
        text.push_str(&format_args!(";\r\n {name}{number}*={section}").to_string());
    }
}

/// A field with raw UTF-8 (RFC 6532 allows that in SMTPUTF8 only) or raw Latin-1 in the older syntax for
/// the same.
fn seven_bit(field: &HeaderField<'_>) -> Option<Vec<u8>> {
    let (value, charset) = utf8(field.value());
    if field.is("Content-Type") {
        let parsed = ContentType::parse(&value).ok()?;
        Some(structured(field.name(), parsed.media(), parsed.parameters(), charset))
    } else if field.is("Content-Disposition") {
        let (disposition, parameters) = content_type::disposition(&value).ok()?;
        Some(structured(field.name(), &disposition, &parameters, charset))
    } else if field.is("Content-Description") {
        let text = std::str::from_utf8(&value).ok()?.replace("\r\n", "");
        let words: Vec<_> = encoded_words(text.trim());
        Some(format!("{}: {}\r\n", field.name(), words.join("\r\n ")).into_bytes())
    } else {
        None
    }
}

/// RFC 2047: words of at most 75 characters that hold whole characters each.
fn encoded_words(text: &str) -> Vec<String> {
    const ROOM: usize = 45;
    let mut chunks = vec![String::new()];
    for c in text.chars() {
        if chunks.last().is_none_or(|chunk| chunk.len() + c.len_utf8() > ROOM) {
            chunks.push(String::new());
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(c);
        }
    }
    let word = |chunk: &String| format!("=?utf-8?B?{}?=", data_encoding::BASE64.encode(chunk.as_bytes()));
    chunks.iter().map(word).collect()
}

/// Folds lines that are too long in front of white space, which unfolding gives back octet by octet.
fn folded(octets: &[u8]) -> Option<Vec<u8>> {
    const LIMIT: usize = 900;
    let mut out = Vec::with_capacity(octets.len() + 64);
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n").map_or(rest.len(), |at| at + 2);
        let (mut line, tail) = rest.split_at(end);
        rest = tail;
        while line.len() > LIMIT {
            // No line may be blanks only: some agents take it for the end of the header.
            let text = line.iter().position(|octet| !matches!(octet, b' ' | b'\t'))?;
            let blank = line.get(text..LIMIT)?.iter().rposition(|octet| matches!(octet, b' ' | b'\t'))?;
            let (head, fold) = line.split_at(text + blank);
            if fold.iter().all(u8::is_ascii_whitespace) {
                return None;
            }
            out.extend_from_slice(head);
            out.extend_from_slice(b"\r\n");
            line = fold;
        }
        out.extend_from_slice(line);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::Header;

    fn safe(octets: &str) -> Result<String, Hazard> {
        let header = Header::parse(octets.as_bytes());
        assert_eq!(header.fields().count(), 1, "{octets:?}");
        safe_field(&header.fields().next().unwrap())
            .map(|field| String::from_utf8(field.into_owned()).unwrap())
    }

    #[test]
    fn safe_fields_stay_as_they_are() {
        for field in ["Content-Type:text/plain ;\r\n\tcharset = \"x\" \r\n", "Content-ID: <a@b>\r\n", "x\r\n"]
        {
            assert_eq!(safe(field).as_deref(), Ok(field));
        }
    }

    #[test]
    fn raw_utf8_is_written_in_the_older_syntax() {
        for (field, written) in [
            (
                "Content-Disposition: attachment; filename=\"\u{fc} 1.pdf\"; size=3\r\n",
                "Content-Disposition: attachment;\r\n filename*=utf-8''%C3%BC%201.pdf;\r\n size=3\r\n",
            ),
            (
                "content-type: Text/Plain; charset=\"a\\\"b\"; name=\"\u{fc}\"\r\n",
                "content-type: text/plain;\r\n charset=\"a\\\"b\";\r\n name*=utf-8''%C3%BC\r\n",
            ),
            ("Content-Description: \u{fc}\r\n ber\r\n", "Content-Description: =?utf-8?B?w7wgYmVy?=\r\n"),
        ] {
            assert_eq!(safe(field).as_deref(), Ok(written), "{field}");
        }
        let long = "\u{fc}".repeat(100);
        let written = safe(&format!("Content-Type: a/b; name=\"{long}\"\r\n")).unwrap();
        assert!(written.lines().all(|line| line.len() <= 78), "{written}");
        let value = written.strip_prefix("Content-Type:").unwrap().trim_end();
        assert_eq!(ContentType::parse(value.as_bytes()).unwrap().parameter("name"), Some(long.as_str()));
    }

    #[test]
    fn fields_without_a_safe_form_are_hazards() {
        for (field, hazard) in [
            ("Content-ID: <\u{fc}@b>\r\n", Hazard::EightBit),
            ("Content-Type: a/b; name=\u{fc}\r\n", Hazard::EightBit),
            ("Content-Type: a/b; name=\"\0\"\r\n", Hazard::Nul),
            ("Content-Type: a/b; name=\"\r\"\r\n", Hazard::BareCr),
            (&format!("Content-ID: {}\r\n", "x".repeat(999)), Hazard::LongLine),
        ] {
            assert_eq!(safe(field), Err(hazard), "{field}");
        }
    }

    #[test]
    fn raw_latin1_is_written_with_its_charset() {
        let safe = |octets: &[u8]| {
            let header = Header::parse(octets);
            String::from_utf8(safe_field(&header.fields().next().unwrap()).unwrap().into_owned()).unwrap()
        };
        for (field, written) in [
            (
                &b"Content-Disposition: attachment; filename=\"M\xfcller.pdf\"; size=3\r\n"[..],
                "Content-Disposition: attachment;\r\n filename*=iso-8859-1''M%FCller.pdf;\r\n size=3\r\n",
            ),
            (
                b"Content-Type: a/b; name=\"\x80 1\"\r\n",
                "Content-Type: a/b;\r\n name*=windows-1252''%80%201\r\n",
            ),
            // In two charsets at once, each octet stays.
            (
                b"Content-Type: a/b; x=\"\xc3\xbc\"; y=\"\xfc\"; z*=utf-8''%E2%82%AC\r\n",
                "Content-Type: a/b;\r\n x*=iso-8859-1''%C3%BC;\r\n y*=iso-8859-1''%FC;\r\n z*=utf-8''%E2%82%AC\r\n",
            ),
            (b"Content-Description: \xfcber\r\n", "Content-Description: =?utf-8?B?w7xiZXI=?=\r\n"),
        ] {
            assert_eq!(safe(field), written);
        }
    }

    #[test]
    fn long_lines_are_folded_and_unfold_to_the_same() {
        let field = format!("Content-Type: a/b; name=\"{}\"\r\n", "word ".repeat(1_000));
        let written = safe(&field).unwrap();
        assert!(written.lines().all(|line| line.len() <= 988 && !line.trim().is_empty()));
        assert_eq!(written.trim_end().replace("\r\n", ""), field.trim_end());
    }
}
