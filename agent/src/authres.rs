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

/// The method that we write results of, and nobody else here.
const METHOD: &str = "smime";

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

/// Whether a message has results of `smime` under our name: it was received here before, or says so. Others write under the host's
/// name, too (OpenDKIM, OpenDMARC, rspamd), also above what our own people send, but nothing of `smime`.
pub(crate) fn has_ours(entity: &MimeEntity<'_>, authserv_id: &str) -> bool {
    let is_result = |value: &[u8]| is_ours(value, authserv_id) && has_method(value, METHOD);
    !authserv_id.is_empty() && entity.header().all(NAME).any(|field| is_result(field.value()))
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

/// Whether there is a result of a method: behind a semicolon that is in no comment and in no quoted string.
fn has_method(value: &[u8], method: &str) -> bool {
    let (mut depth, mut is_quoted) = (0_usize, false);
    let mut rest = value;
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        match octet {
            b'\\' if depth > 0 || is_quoted => rest = tail.get(1..).unwrap_or_default(),
            b'"' if depth == 0 => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => {
                let word = skip_cfws(tail);
                let len = word.iter().take_while(|octet| is_token(**octet)).count();
                if word.get(..len).is_some_and(|word| word.eq_ignore_ascii_case(method.as_bytes())) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
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
    let mut lines = vec![format!("{authserv_id};"), format!("{METHOD}={result} ({})", escaped(&comment))];
    if let Some(address) = verdict.identifier().filter(|address| address.as_str().is_ascii()) {
        lines.push(format!("body.smime-identifier={address}"));
    } else if let Some(certificate) = verdict.certificate() {
        lines.push(format!("body.smime-serial={}", certificate.serial_hex()));
        lines.push(format!("body.smime-issuer=\"{}\"", escaped(&certificate.issuer().to_string())));
    }
    lines.extend(verdict.part().map(|part| format!("body.smime-part={part}")));
    lines.join("\r\n ")
}

/// The field's value for what had results of ours and has lost them, and whose signature was not looked at again: it came from elsewhere,
/// and that is to be seen the next time that somebody hands it on.
pub(crate) fn not_looked_at(authserv_id: &str) -> String {
    format!("{authserv_id};\r\n {METHOD}=none (what was found before was taken off; not looked at again)")
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
    fn ours_is_what_has_our_name_and_a_result_of_smime() {
        for (value, is_ours) in [
            ("mx.example.org; smime=none", true),
            ("(a; comment) MX.example.org. 1;\n\t(another) SMIME (x) /1 = pass (of; whom)", true),
            ("\"mx.example.org\"; dmarc=pass (p=none\\); x) header.from=\"a\\\"; b\"; smime=fail", true),
            ("mx.example.org; dmarc=fail (p=none) header.from=example.org", false),
            ("mx.example.org; none", false),
            ("mx.example.org", false),
            ("mx.example.org; dmarc=pass (it has (x); smime=none)", false),
            ("mx.example.org; dkim=pass reason=\"a\\\"; smime=none\"", false),
            ("mx.example.org; x-smime=pass; smime-x=pass; dkim=smime", false),
            ("smime; dkim=pass", false),
            ("mx.partner.example; smime=pass", false),
            ("", false),
        ] {
            let message = Message::from_stored(format!("Authentication-Results: {value}\n\nx\n").as_bytes());
            assert_eq!(has_ours(&message.entity(), "mx.example.org"), is_ours, "{value}");
            assert!(!has_ours(&message.entity(), ""), "{value}");
        }
        // As we write it, whatever is in a certificate.
        let verdict = Verdict::without_signers(Reason::Unreadable("\"(;\\".into()));
        let text = format!("{NAME}: {}\r\n\r\nx", value(&verdict, Some("a; (b"), "mx.example.org"));
        assert!(has_ours(&Message::from_stored(text.as_bytes()).entity(), "mx.example.org"), "{text}");
        let text = format!("{NAME}: {}\r\n\r\nx", not_looked_at("mx.example.org"));
        assert!(has_ours(&Message::from_stored(text.as_bytes()).entity(), "mx.example.org"), "{text}");
    }

    #[test]
    fn a_reason_cannot_break_out_of_its_comment() {
        let verdict =
            Verdict::without_signers(Reason::Unreadable("evil) smime=pass (\r\nBcc: x@y \\ \u{fc}".into()));
        let value = value(&verdict, None, "mx.example.org");
        assert_eq!(value, "mx.example.org;\r\n smime=neutral (evil\\) smime=pass \\(??Bcc: x@y \\\\ ?)");
    }
}
