//! xtext: text that can be the value of a parameter of SMTP (RFC 3461, 4).

/// What it stands for; nothing where it is none.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => 16 * digit(rest.next()?)? + digit(rest.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        });
    }
    Some(octets)
}

/// The same, if it can stand in a field of a header: of ASCII's characters those that can be printed, spaces included.
pub(crate) fn printable(text: &str) -> Option<String> {
    let octets = decoded(text)?;
    let is_printable = octets.iter().all(|octet| matches!(octet, b' '..=b'~'));
    String::from_utf8(octets).ok().filter(|_| is_printable)
}

/// Of an octet in hexadecimal; small letters are none.
fn digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_decoded_and_what_is_none_is_not() {
        for (text, octets, is_printable) in [
            ("", Some(&b""[..]), true),
            ("QQ314159", Some(b"QQ314159"), true),
            ("a+2Bb+3Dc+20d", Some(b"a+b=c d"), true),
            ("+0D+0ABcc:x", Some(b"\r\nBcc:x"), false),
            ("+00", Some(b"\0"), false),
            ("+C3+BC", Some(b"\xc3\xbc"), false),
            ("+7F", Some(b"\x7f"), false),
            ("+2b", None, false),
            ("+", None, false),
            ("a+2", None, false),
            ("+ 2", None, false),
            ("a+b", None, false),
            ("a=b", None, false),
            ("a b", None, false),
            ("a\tb", None, false),
            ("\u{fc}", None, false),
        ] {
            assert_eq!(decoded(text).as_deref(), octets, "{text:?}");
            let expected = octets.filter(|_| is_printable);
            assert_eq!(printable(text).as_deref().map(str::as_bytes), expected, "{text:?}");
        }
    }
}
