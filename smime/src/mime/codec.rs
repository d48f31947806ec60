//! The transfer encoding quoted-printable (RFC 2045 6.7). Base64 is in `base64.rs`.
//!
//! What is signed or verified is never decoded. Decoding is for octets that are looked into, or that
//! are encoded again because they would not survive transport.

use std::ops::ControlFlow;

/// Decodes quoted-printable. Blanks at the end of a line were added in transport and go (rule 3); a
/// soft line break may have blanks and be the last octet; digits may be in lower case. An escape that is
/// none stays as it is, as RFC 2045 recommends, so that no octet is lost.
pub(crate) fn decode_quoted_printable(encoded: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while !rest.is_empty() {
        let line_len = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(line_len);
        rest = tail;
        let text = line.strip_suffix(b"\n").map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
        let end = line.get(text.len()..).unwrap_or_default();
        let text = trim_blanks(text);
        let soft = text.strip_suffix(b"=");
        decode_line(soft.unwrap_or(text), &mut out);
        if soft.is_none() {
            out.extend_from_slice(end);
        }
    }
    out
}

fn trim_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().rev().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    text.get(..text.len() - blanks).unwrap_or_default()
}

fn decode_line(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'=', rest) {
        let (literal, escape) = rest.split_at(at);
        out.extend_from_slice(literal);
        let octet = match escape {
            [_, high, low, ..] => hex_pair(*high, *low),
            _ => None,
        };
        out.push(octet.unwrap_or(b'='));
        rest = escape.get(if octet.is_some() { 3 } else { 1 }..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// The octet that two hexadecimal digits in either case stand for.
pub(super) fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// The longest line, the `=` of a soft break included (RFC 2045 6.7, rule 5).
const MAX_LINE: usize = 76;

/// Appends a text, encoded in lines of at most 76 characters. CRLFs stay line ends; bare CRs and LFs are encoded.
///
/// Besides what RFC 2045 asks for, what some agent on the way would change is encoded: `From ` at the
/// start of a line, a line that is a single dot, blanks at the end; and `--` at the start of a line, so
/// that no line is ever the delimiter of a multipart around it.
pub(super) fn encode_quoted_printable_into(text: &[u8], out: &mut Vec<u8>) {
    let _done = quote(text, |piece| {
        out.extend_from_slice(piece);
        ControlFlow::Continue(())
    });
}

/// The length of what [`encode_quoted_printable_into`] makes of a text, if it is below a limit.
pub(super) fn quoted_printable_len(text: &[u8], limit: usize) -> Option<usize> {
    let mut len = 0;
    let counted = quote(text, |piece| {
        len += piece.len();
        if len < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    (counted.is_continue() && len < limit).then_some(len)
}

/// Gives the encoded text piece by piece.
fn quote(text: &[u8], mut put: impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    let mut column = 0;
    let mut rest = text;
    while let Some((&octet, tail)) = rest.split_first() {
        if let Some(next) = rest.strip_prefix(b"\r\n") {
            put(b"\r\n")?;
            column = 0;
            rest = next;
            continue;
        }
        let ends_line = tail.is_empty() || tail.starts_with(b"\r\n");
        if column > 0 {
            let width = if is_literal(octet, ends_line) { 1 } else { 3 };
            // The last octet of a line may use the column of the soft break.
            let limit = if ends_line { MAX_LINE } else { MAX_LINE - 1 };
            if column + width > limit {
                put(b"=\r\n")?;
                column = 0;
            }
        }
        let guarded = column == 0
            && (rest.starts_with(b"From ") || rest.starts_with(b"--") || (octet == b'.' && ends_line));
        if is_literal(octet, ends_line) && !guarded {
            put(&[octet])?;
            column += 1;
        } else {
            let [high, low] = hex(octet);
            put(&[b'=', high, low])?;
            column += 3;
        }
        rest = tail;
    }
    ControlFlow::Continue(())
}

fn is_literal(octet: u8, ends_line: bool) -> bool {
    match octet {
        b'=' => false,
        b' ' | b'\t' => !ends_line,
        _ => octet.is_ascii_graphic(),
    }
}

fn hex(octet: u8) -> [u8; 2] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    [digit(octet >> 4), digit(octet & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode_quoted_printable(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_quoted_printable_into(text, &mut out);
        out
    }

    #[test]
    fn quoted_printable_is_decoded_with_tolerance() {
        for (encoded, text) in [
            ("a=3Db=c3=BC", "a=b\u{fc}"),
            ("soft=\r\n break= \t\r\nend=", "soft breakend"),
            ("trailing \t\r\nblank ", "trailing\r\nblank"),
            ("bad =zz =4 =\u{fc} ==41", "bad =zz =4 =\u{fc} =A"),
            ("lf=\nline\n", "lfline\n"),
            ("a=20\r\n", "a \r\n"),
        ] {
            let decoded = decode_quoted_printable(encoded.as_bytes());
            assert_eq!(String::from_utf8_lossy(&decoded), text, "{encoded:?}");
        }
    }

    #[test]
    fn quoted_printable_text_survives_every_agent() {
        for (text, encoded) in [
            ("plain\r\n\r\n", "plain\r\n\r\n"),
            ("a=b\u{fc}", "a=3Db=C3=BC"),
            ("From me\r\nFrom\r\n From ", "=46rom me\r\nFrom\r\n From=20"),
            (".\r\n..\r\n.x\r\n.", "=2E\r\n..\r\n.x\r\n=2E"),
            ("end \r\nend\t", "end=20\r\nend=09"),
            ("-- \r\n--b--\r\n-", "=2D-=20\r\n=2D-b--\r\n-"),
            ("cr\rlf\nnul\0", "cr=0Dlf=0Anul=00"),
            ("\r\r\n", "=0D\r\n"),
        ] {
            assert_eq!(String::from_utf8(encode_quoted_printable(text.as_bytes())).unwrap(), encoded);
            let len = encoded.len();
            assert_eq!(quoted_printable_len(text.as_bytes(), len + 1), Some(len), "{text:?}");
            assert_eq!(quoted_printable_len(text.as_bytes(), len), None, "{text:?}");
        }
    }

    #[test]
    fn quoted_printable_lines_hold_76_characters_and_what_begins_them_is_guarded() {
        let x75 = "x".repeat(75);
        for (text, encoded) in [
            (format!("{x75}x\r\n"), format!("{x75}x\r\n")),
            (format!("{x75}xx"), format!("{x75}=\r\nxx")),
            (format!("{x75}From me"), format!("{x75}=\r\n=46rom me")),
            (format!("{x75}.\r\n"), format!("{x75}.\r\n")),
            (format!("{x75}--b"), format!("{x75}=\r\n=2D-b")),
            (format!("{x75}\u{fc}"), format!("{x75}=\r\n=C3=BC")),
            (format!("{x75} "), format!("{x75}=\r\n=20")),
        ] {
            let out = encode_quoted_printable(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), encoded);
            assert_eq!(decode_quoted_printable(&out), text.as_bytes());
        }
    }
}
