//! The text of a header field: its encoded words (RFC 2047) decoded, as a reader shows it.

/// The text of a value on one line. What is in no charset known here is taken for ISO 8859-1: brackets and letters are where
/// they are in nearly all of them.
pub(crate) fn decode(value: &[u8]) -> String {
    let mut out = String::new();
    // Words beside each other, of which one may end within a character.
    let mut pending: Option<(String, Vec<u8>)> = None;
    let (mut rest, mut may_end) = (value, true);
    while !rest.is_empty() {
        let blanks = rest.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        let (space, tail) = rest.split_at(blanks);
        if let Some(Word { charset, octets, behind }) = encoded_word(tail, &mut may_end) {
            // Between two words blanks mean nothing.
            if pending.is_none() {
                out.extend(space.iter().map(|octet| char::from(*octet)));
            }
            match &mut pending {
                Some((known, before)) if *known == charset => before.extend(octets),
                other => {
                    flush(other, &mut out);
                    *other = Some((charset, octets));
                }
            }
            rest = behind;
            continue;
        }
        flush(&mut pending, &mut out);
        out.extend(space.iter().map(|octet| char::from(*octet)));
        let next = tail.iter().skip(1).position(|octet| matches!(octet, b' ' | b'\t' | b'='));
        let (plain, behind) = tail.split_at(next.map_or(tail.len(), |next| next + 1).min(tail.len()));
        out.push_str(&in_charset("utf-8", plain));
        rest = behind;
    }
    flush(&mut pending, &mut out);
    out
}

fn flush(pending: &mut Option<(String, Vec<u8>)>, out: &mut String) {
    if let Some((charset, octets)) = pending.take() {
        out.push_str(&in_charset(&charset, &octets));
    }
}

struct Word<'a> {
    charset: String,
    octets: Vec<u8>,
    behind: &'a [u8],
}

/// `=?charset?B?text?=` at the start (RFC 2047 2, RFC 2231 5), also where it is not set apart as it must be: some programs
/// decode it all the same. `may_end` is no more where no word ends in all that is left, so that this is looked for once.
fn encoded_word<'a>(octets: &'a [u8], may_end: &mut bool) -> Option<Word<'a>> {
    let inside = octets.strip_prefix(b"=?").filter(|_| *may_end)?;
    let mut parts = inside.splitn(3, |octet| *octet == b'?');
    let (charset, encoding, tail) = (parts.next()?, parts.next()?, parts.next()?);
    let charset = std::str::from_utf8(charset).ok()?.to_ascii_lowercase();
    let charset = charset.split('*').next().unwrap_or_default().to_owned();
    let decoded: fn(&[u8]) -> Vec<u8> = match encoding {
        b"B" | b"b" => base64,
        b"Q" | b"q" => quoted,
        _ => return None,
    };
    let Some(end) = tail.windows(2).position(|pair| pair == b"?=") else {
        *may_end = false;
        return None;
    };
    let (text, behind) = (tail.get(..end)?, tail.get(end + 2..)?);
    Some(Word { charset, octets: decoded(text), behind })
}

fn in_charset(charset: &str, octets: &[u8]) -> String {
    match (charset, std::str::from_utf8(octets)) {
        ("utf-8" | "utf8" | "us-ascii", Ok(text)) => text.to_owned(),
        // As far as it is ISO 8859-1.
        ("utf-16" | "utf-16be" | "utf-16le", _) => {
            let units = octets.iter().filter(|octet| **octet != 0);
            units.map(|octet| char::from(*octet)).collect()
        }
        _ => octets.iter().map(|octet| char::from(*octet)).collect(),
    }
}

fn quoted(text: &[u8]) -> Vec<u8> {
    let digit = |octet: Option<&u8>| octet.and_then(|octet| char::from(*octet).to_digit(16));
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(octet) = text.get(at) {
        at += 1;
        match (octet, digit(text.get(at)), digit(text.get(at + 1))) {
            (b'=', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                at += 2;
            }
            (b'_', ..) => out.push(b' '),
            _ => out.push(*octet),
        }
    }
    out
}

/// As far as it can be read, without regard to what is no base64.
fn base64(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for octet in text {
        let value = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.extend(u8::try_from(bits >> count & 0xff));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_are_read_as_a_reader_shows_them() {
        for (value, expected) in [
            ("plain  text", "plain  text"),
            ("=?UTF-8?Q?[secure]_Gr=C3=BC=C3=9Fe?=", "[secure] Gr\u{fc}\u{df}e"),
            ("=?UTF-8?B?W3NlY3VyZV0gR3LDvMOfZQ==?=", "[secure] Gr\u{fc}\u{df}e"),
            ("=?utf-8*de?q?[sec?= \t =?utf-8?b?dXJlXQ==?= plan", "[secure] plan"),
            ("a =?utf-8?q?b?= c =?utf-8?q?d?==?us-ascii?q?e?=", "a b c de"),
            // One character in two words.
            ("=?utf-8?B?w7w=?= =?utf-8?B?ww==?= =?utf-8?B?vA==?=", "\u{fc}\u{fc}"),
            ("=?iso-8859-15?Q?[secure]_=FC?=", "[secure] \u{fc}"),
            ("=?x-unheard-of?Q?[secure]_=80?=", "[secure] \u{80}"),
            ("=?utf-16be?B?AFsAcwBlAGMAdQByAGUAXQ==?=", "[secure]"),
            ("x=?utf-8?Q?[secure]?=y", "x[secure]y"),
            ("=?utf-8?Q?never ends", "=?utf-8?Q?never ends"),
            ("=?utf-8?X?no encoding?= =?utf-8?Q?one?=", "=?utf-8?X?no encoding?= one"),
            ("", ""),
        ] {
            assert_eq!(decode(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(decode(b"gr\xfc\xdfe"), "gr\u{fc}\u{df}e");
    }

    #[test]
    fn words_without_end_are_read_soon() {
        let value = "=?a?b?x".repeat(40_000);
        assert_eq!(decode(value.as_bytes()), value);
    }
}
