//! The Authentication-Results field (RFC 8601), for the method `smime` (RFC 7281).
//!
//! Written for our verdict; and forged ones recognised, which claim to come from here.

use smime::{
    message::Verdict,
    mime::{Header, MimeEntity},
};

use crate::FieldRef;

/// The field's name.
pub const NAME: &str = "Authentication-Results";

/// The fields of a message that carry our `authserv_id` and so were not written here: this agent is
/// the one that writes them, and it has not done so yet (RFC 8601 section 5).
pub fn forged(entity: &MimeEntity<'_>, authserv_id: &str) -> Vec<FieldRef> {
    let header: Header<'_> = entity.header();
    header
        .all(NAME)
        .zip(1..)
        .filter(|(field, _)| is_ours(field.value(), authserv_id))
        .map(|(_, index)| FieldRef { name: NAME.to_owned(), index })
        .collect()
}

/// Whether a field's authserv-id is ours, without regard to case. A trailing dot, which names the same
/// host, does not hide it.
fn is_ours(value: &[u8], authserv_id: &str) -> bool {
    let claimed = authserv_id_of(value);
    let bare = |id: &[u8]| id.strip_suffix(b".").unwrap_or(id).to_ascii_lowercase();
    bare(&claimed) == bare(authserv_id.as_bytes())
}

/// The authserv-id: after white space and comments, a token or a quoted string.
fn authserv_id_of(value: &[u8]) -> Vec<u8> {
    let mut rest = skip_cfws(value);
    let mut id = Vec::new();
    let mut quoted = false;
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        match octet {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                let Some((&escaped, tail)) = rest.split_first() else { break };
                rest = tail;
                id.push(escaped);
            }
            b'\r' | b'\n' => {}
            b' ' | b'\t' | b';' | b'(' if !quoted => break,
            _ => id.push(octet),
        }
    }
    id
}

/// What follows white space, line ends and comments; comments nest and hold quoted pairs.
fn skip_cfws(value: &[u8]) -> &[u8] {
    let mut depth = 0_usize;
    let mut rest = value;
    while let Some((&octet, tail)) = rest.split_first() {
        match octet {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => {
                rest = tail.get(1..).unwrap_or_default();
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => return rest,
        }
        rest = tail;
    }
    rest
}

/// The field's value for a verdict. `note` says what else was done, such as decryption.
pub fn value(verdict: &Verdict, note: Option<&str>, authserv_id: &str) -> String {
    let mut comment = verdict.reason().to_string();
    if let Some(note) = note {
        comment = format!("{note}; {comment}");
    }
    let result = verdict.result().as_str();
    let mut lines = vec![format!("{authserv_id};"), format!("smime={result} ({})", escaped(&comment))];
    if let Some(address) = verdict.identifier().filter(|address| address.as_str().is_ascii()) {
        lines.push(format!("body.smime-identifier={address}"));
    } else if let Some(certificate) = verdict.certificate() {
        lines.push(format!("body.smime-serial={}", certificate.serial_hex()));
        lines.push(format!("body.smime-issuer=\"{}\"", escaped(&certificate.issuer().to_string())));
    }
    lines.extend(verdict.part().map(|part| format!("body.smime-part={part}")));
    lines.join("\r\n ")
}

/// Text for a comment or a quoted string: ASCII without controls, its special characters escaped. It
/// holds names from certificates, which anybody may choose.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MAX_COMMENT) {
        match c {
            '(' | ')' | '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

/// Longer comments are cut; a header line ends at 998 octets, escapes included.
const MAX_COMMENT: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use smime::{message::Reason, mime::Message};

    #[test]
    fn forged_fields_are_found_however_they_are_written() {
        let message = Message::from_stored(
            b"authentication-results: mx.example.org; smime=pass\n\
              Authentication-Results: other.example.net; spf=pass\n\
              Authentication-Results: (a (nested \\) comment)) MX.Example.Org 1; smime=pass\n\
              AUTHENTICATION-RESULTS:\n \"mx.example\\.org\"; smime=pass\n\
              Authentication-Results: mx.example.org.evil.net; none\n\
              Authentication-Results: mx.example.org.; none\n\
              Authentication-Results: mx.example.org(x); none\n\
              Subject: mx.example.org; smime=pass\n\n",
        );
        let found = forged(&message.entity(), "mx.example.org");
        let indexes: Vec<_> = found.iter().map(|field| field.index).collect();
        assert_eq!(indexes, [1, 3, 4, 6, 7]);
    }

    #[test]
    fn a_reason_cannot_break_out_of_its_comment() {
        let verdict =
            Verdict::without_signers(Reason::Unreadable("evil) smime=pass (\r\nBcc: x@y \\ \u{fc}".into()));
        let value = value(&verdict, None, "mx.example.org");
        assert_eq!(value, "mx.example.org;\r\n smime=neutral (evil\\) smime=pass \\(??Bcc: x@y \\\\ ?)");
    }
}
