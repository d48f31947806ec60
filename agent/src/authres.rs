//! The Authentication-Results field (RFC 8601), for the method `smime` (RFC 7281).
//!
//! Written for our verdict; and forged ones recognised, which claim to come from here.

use std::collections::HashMap;

use smime::{
    message::Verdict,
    mime::{Header, MimeEntity},
};

use crate::FieldRef;

/// The field's name.
pub const NAME: &str = "Authentication-Results";

/// Says what was not as a rule wants it, in a word.
pub const TAG: &str = "X-Hsmime-Tag";

/// All that was found, where a rule wants that written.
pub const DETAILS: &str = "X-Hsmime-Details";

/// What the names of all fields begin with that only we write.
const PREFIX: &str = "X-Hsmime-";

/// The fields of a message that carry our `authserv_id` and so were not written here: this agent is
/// the one that writes them, and it has not done so yet (RFC 8601 section 5).
pub fn forged(entity: &MimeEntity<'_>, authserv_id: &str) -> Vec<FieldRef> {
    let header: Header<'_> = entity.header();
    header
        .all(NAME)
        .zip(1..)
        .filter(|(field, _)| is_ours(field.value(), authserv_id))
        .map(|(_, index)| FieldRef { name: NAME.to_owned(), index })
        .chain(own_fields(&header))
        .collect()
}

/// Whether a message has results under our name: it was received here before, or says so.
pub(crate) fn has_ours(entity: &MimeEntity<'_>, authserv_id: &str) -> bool {
    !authserv_id.is_empty() && entity.header().all(NAME).any(|field| is_ours(field.value(), authserv_id))
}

/// The fields that only we write.
fn own_fields(header: &Header<'_>) -> Vec<FieldRef> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut fields = Vec::new();
    for field in header.fields() {
        let is_own = field.name().get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        if is_own {
            let index = seen.entry(field.name().to_ascii_lowercase()).or_default();
            *index += 1;
            fields.push(FieldRef { name: field.name().to_owned(), index: *index });
        }
    }
    fields
}

/// Whether a field's authserv-id is ours, without regard to case. A trailing dot, which names the same
/// host, does not hide it.
fn is_ours(value: &[u8], authserv_id: &str) -> bool {
    let claimed = authserv_id_of(value);
    let bare = |id: &[u8]| id.strip_suffix(b".").unwrap_or(id).to_ascii_lowercase();
    bare(&claimed) == bare(authserv_id.as_bytes())
}

/// The authserv-id: after white space and comments, a token or a quoted string. It ends at whatever cannot
/// be part of it, since programs differ in what else they take for white space.
fn authserv_id_of(value: &[u8]) -> Vec<u8> {
    let rest = skip_cfws(value);
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        return rest.iter().copied().take_while(|octet| is_token(*octet)).collect();
    };
    let mut id = Vec::new();
    let mut octets = quoted.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => break,
            b'\\' => id.extend(octets.next()),
            _ if octet.is_ascii_graphic() => id.push(octet),
            _ => {}
        }
    }
    id
}

/// RFC 2045's token.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&octet)
}

/// What follows comments, which nest and hold quoted pairs, and everything that does not show in print.
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
            _ if depth > 0 || !octet.is_ascii_graphic() => {}
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

/// The value of [`DETAILS`].
pub fn details(verdict: &Verdict, note: Option<&str>, layers: &str) -> String {
    let mut lines = vec![format!("smime={};", verdict.result().as_str())];
    let mut add = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("{name}=\"{}\";", escaped(text)));
        }
    };
    add("reason", &verdict.reason().to_string());
    add("encryption", note.unwrap_or("none"));
    add("layers", layers);
    if let Some(certificate) = verdict.certificate() {
        let addresses: Vec<_> = certificate.addresses().iter().map(ToString::to_string).collect();
        add("signer", &addresses.join(", "));
        add("serial", &certificate.serial_hex());
        add("issuer", &certificate.issuer().to_string());
    }
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
              Authentication-Results: mx.example.org\x0b; smime=pass\n\
              Authentication-Results: \x0cmx.example.org\x0c; smime=pass\n\
              Authentication-Results: \xc2\xa0mx.example.org\xe2\x80\xa8; smime=pass\n\
              Authentication-Results: \" mx.example.org \"; smime=pass\n\
              Authentication-Results: mx.example.org/1; smime=pass\n\
              Authentication-Results: mx.example.org-2; smime=pass\n\
              Subject: mx.example.org; smime=pass\n\n",
        );
        let found = forged(&message.entity(), "mx.example.org");
        let indexes: Vec<_> = found.iter().map(|field| field.index).collect();
        assert_eq!(indexes, [1, 3, 4, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn a_reason_cannot_break_out_of_its_comment() {
        let verdict =
            Verdict::without_signers(Reason::Unreadable("evil) smime=pass (\r\nBcc: x@y \\ \u{fc}".into()));
        let value = value(&verdict, None, "mx.example.org");
        assert_eq!(value, "mx.example.org;\r\n smime=neutral (evil\\) smime=pass \\(??Bcc: x@y \\\\ ?)");
    }
}
