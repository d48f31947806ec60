//! Just enough MIME to look at mails from outside: fields, leaves, the two halves of a signed mail.
//!
//! Independent of the product's own reader on purpose.

use anyhow::{Context as _, Result, ensure};
use mailparse::{MailHeaderMap as _, ParsedMail};
pub use memchr::memmem::find;

/// The header and the body, without the empty line between them.
pub fn split(octets: &[u8]) -> (&[u8], &[u8]) {
    for end in [&b"\r\n\r\n"[..], b"\n\n"] {
        if let Some(at) = find(octets, end) {
            let (header, rest) = octets.split_at(at);
            return (header, rest.get(end.len()..).unwrap_or_default());
        }
    }
    (octets, b"")
}

/// The names of all header fields, from the top, in lower case.
pub fn field_names(octets: &[u8]) -> Vec<String> {
    fields(octets).into_iter().map(|(name, _)| name).collect()
}

/// The unfolded values of the fields of one name, from the top.
pub fn values(octets: &[u8], name: &str) -> Vec<String> {
    let wanted = |(field, value): (String, String)| (field == name.to_ascii_lowercase()).then_some(value);
    fields(octets).into_iter().filter_map(wanted).collect()
}

/// All header fields: name in lower case, and unfolded value.
pub fn fields(octets: &[u8]) -> Vec<(String, String)> {
    let header = String::from_utf8_lossy(split(octets).0).replace("\r\n", "\n");
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in header.lines() {
        match (fields.last_mut(), line.starts_with([' ', '\t']), line.split_once(':')) {
            (Some((_, value)), true, _) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (_, _, Some((name, value))) => {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => {}
        }
    }
    fields
}

/// A part of a mail that holds no other parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// `type/subtype`, in lower case.
    pub media_type: String,
    /// The name of the attached file, if any.
    pub file_name: Option<String>,
    /// The octets, transfer encoding undone.
    pub octets: Vec<u8>,
}

/// All leaves, in order, with their transfer encodings undone: two mails say the same if these are equal.
pub fn leaves(octets: &[u8]) -> Result<Vec<Leaf>> {
    let mut leaves = Vec::new();
    collect(&mailparse::parse_mail(octets).context("not a mail")?, &mut leaves)?;
    Ok(leaves)
}

fn collect(part: &ParsedMail<'_>, leaves: &mut Vec<Leaf>) -> Result<()> {
    if part.subparts.is_empty() {
        leaves.push(Leaf {
            media_type: part.ctype.mimetype.clone(),
            file_name: part.get_content_disposition().params.get("filename").cloned(),
            octets: part.get_body_raw()?,
        });
    }
    part.subparts.iter().try_for_each(|part| collect(part, leaves))
}

/// A `multipart/signed` entity (RFC 1847 2.1), taken apart octet for octet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The first part, as it was signed: without the line end that belongs to the boundary.
    pub content: Vec<u8>,
    /// The second part's octets: a CMS object in DER or BER.
    pub signature: Vec<u8>,
}

/// Takes a mail apart whose root is `multipart/signed`.
pub fn signed(octets: &[u8]) -> Result<Signed> {
    let mail = mailparse::parse_mail(octets)?;
    ensure!(mail.ctype.mimetype == "multipart/signed", "the root is {}", mail.ctype.mimetype);
    let boundary = mail.ctype.params.get("boundary").context("no boundary")?;
    let delimiter = format!("\r\n--{boundary}");
    let body = [b"\r\n", split(octets).1].concat();
    let pieces = pieces(&body, delimiter.as_bytes());
    let [_preamble, content, signature, end] = pieces.as_slice() else {
        return Err(anyhow::anyhow!("{} delimiters instead of 3", pieces.len().saturating_sub(1)));
    };
    ensure!(end.starts_with(b"--"), "the last delimiter does not close");
    let content = content.strip_prefix(b"\r\n").context("text behind the first delimiter")?;
    let signature = signature.strip_prefix(b"\r\n").context("text behind the second delimiter")?;
    let signature = mailparse::parse_mail(signature)?;
    ensure!(signature.headers.get_first_value("Content-Type").is_some(), "the signature has no type");
    Ok(Signed { content: content.to_vec(), signature: signature.get_body_raw()? })
}

fn pieces<'a>(mut octets: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = find(octets, delimiter) {
        let (piece, rest) = octets.split_at(at);
        pieces.push(piece);
        octets = rest.get(delimiter.len()..).unwrap_or_default();
    }
    pieces.push(octets);
    pieces
}

/// Bare line feeds become CRLF; what is CRLF already stays.
pub fn crlf(octets: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut last = 0;
    for &octet in octets {
        if octet == b'\n' && last != b'\r' {
            canonical.push(b'\r');
        }
        canonical.push(octet);
        last = octet;
    }
    canonical
}

/// CRLF becomes a line feed.
pub fn lf(octets: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(octets.len());
    for (at, &octet) in octets.iter().enumerate() {
        if octet == b'\r' && octets.get(at + 1) == Some(&b'\n') {
            continue;
        }
        lines.push(octet);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str = "Subject: x\r\nContent-Type: multipart/signed;\r\n boundary=\"b\"\r\n\r\n\
        preamble\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n\r\n--b\r\n\
        Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n";

    #[test]
    fn the_line_end_before_a_delimiter_is_not_part_of_the_content() {
        let signed = signed(SIGNED.as_bytes()).unwrap();
        assert_eq!(signed.content, b"Content-Type: text/plain\r\n\r\nhello\r\n");
        assert_eq!(signed.signature, [0, 1, 2]);
    }

    #[test]
    fn a_third_part_is_noticed() {
        let three = SIGNED.replace("--b--", "--b\r\n\r\nmore\r\n--b--");
        assert!(signed(three.as_bytes()).is_err());
    }

    #[test]
    fn folded_fields_are_joined_and_names_compared_without_case() {
        let values = values(SIGNED.as_bytes(), "content-TYPE");
        assert_eq!(values, ["multipart/signed; boundary=\"b\""]);
    }

    #[test]
    fn line_ends_are_converted_once() {
        assert_eq!(crlf(b"a\nb\r\nc"), b"a\r\nb\r\nc");
        assert_eq!(lf(b"a\r\nb\rc\n"), b"a\nb\rc\n");
    }

    #[test]
    fn leaves_are_the_same_in_every_transfer_encoding() {
        let mail = |encoding: &str, text: &str| {
            format!("Content-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{text}")
        };
        let plain = leaves(mail("8bit", "ü  \r\n").as_bytes()).unwrap();
        assert_eq!(plain, leaves(mail("quoted-printable", "=C3=BC =20\r\n").as_bytes()).unwrap());
        assert_eq!(plain, leaves(mail("base64", "w7wgIA0K").as_bytes()).unwrap());
        assert_ne!(plain, leaves(mail("base64", "w7wgDQo=").as_bytes()).unwrap());
    }
}
