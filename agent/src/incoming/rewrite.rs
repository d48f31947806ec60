//! What a rule changes in a message beyond opening it: signatures that pass come off, and protected header fields that they
//! cover take the place of outer ones (RFC 9788), by a list.

use smime::{
    message::AuthResult,
    mime::{MimeEntity, single_originator},
    protection::{Payload, ProtectedHeader},
};

use crate::{
    Edits, FieldRef, Received,
    fit::Fit,
    opened::{is_entity, is_read_alike, put_in_place},
    sending::is_content_field,
    settings::IncomingRule,
};

/// Adds to the edits of a message, and gives the subject back that takes the outer one's place, if one does. `opened` is
/// its content where it was opened, and `reports_stay` says that no report on it goes to anybody who may not know it. What
/// does not fit without its signature, because that was compressed, keeps it.
pub(super) fn rewrite(
    edits: &mut Edits,
    outer: &MimeEntity<'_>,
    opened: Option<&[u8]>,
    received: &Received,
    rule: &IncomingRule,
    reports_stay: bool,
    fit: Fit,
) -> Option<String> {
    if !rule.strip_signature && rule.promote.is_empty() {
        return None;
    }
    let passes = received.verdict.result() == AuthResult::Pass;
    let content = opened.map_or(*outer, MimeEntity::parse);
    let payload = Payload::find(&content)?;
    let is_signed = passes && payload.layers() > 0;
    let mut subject = None;
    // Anybody can put ciphertext into another message, and a report on that holds its header.
    if is_signed
        && (opened.is_none() || reports_stay)
        && let Ok(Some(protected)) = ProtectedHeader::read(&payload.entity(), &outer.header())
    {
        subject = promote(edits, outer, &protected, rule);
    }
    if rule.strip_signature
        && is_signed
        // Without a header of its own its first lines would be taken for one.
        && is_entity(payload.entity().octets())
        && let Some(stripped) = put_in_place(outer, payload.entity().octets())
        && is_read_alike(&stripped, &payload.entity())
        && (opened.is_none() || fit.takes(&stripped))
    {
        edits.append.retain(|(name, _)| !is_content_field(name));
        edits.remove.extend(stripped.remove);
        edits.append.extend(stripped.append);
        edits.body = stripped.body;
    }
    subject
}

/// Puts the fields that the rule lists in the place of the outer ones. None of them where the protected author is not
/// the outer one: then nothing in there is about this message as it is shown (RFC 9788 4.4).
fn promote(
    edits: &mut Edits,
    outer: &MimeEntity<'_>,
    protected: &ProtectedHeader,
    rule: &IncomingRule,
) -> Option<String> {
    let is_by_the_same = match (protected.originator(), single_originator(outer)) {
        (Ok(inner), Ok(outer)) => inner.folded() == outer.folded(),
        _ => false,
    };
    if !protected.scheme().states_intent() || !is_by_the_same {
        return None;
    }
    let mut subject = None;
    for name in &rule.promote {
        // Of several, readers would show different ones.
        let mut values = protected.values(name);
        let (Some(value), None) = (values.next(), values.next()) else { continue };
        if value.len() > MAX_VALUE || !value.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()) {
            continue;
        }
        let count = outer.header().all(name).count();
        edits.remove.extend((1..).take(count).map(|index| FieldRef { name: name.clone(), index }));
        if name.eq_ignore_ascii_case("Subject") {
            subject = Some(value.to_owned());
        } else {
            edits.append.push((name.clone(), folded(value)));
        }
    }
    if let Some(subject) = &subject {
        edits.append.push(("Subject".to_owned(), folded(subject)));
    }
    subject
}

/// Lines of at most 78 characters where there are spaces to break at (RFC 5322 2.1.1).
pub(super) fn folded(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    let mut column = "Subject: ".len();
    for (at, word) in value.split(' ').enumerate() {
        if at > 0 {
            // Never a line of blanks alone.
            if column + word.len() > 77 && !word.is_empty() {
                out.push_str("\r\n");
                column = 0;
            }
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

/// Postfix cuts a field at 60,000 octets; what is longer than this is no subject.
const MAX_VALUE: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_folded_where_there_are_spaces() {
        assert_eq!(folded("short"), "short");
        let long = format!("{} {}  b", "a".repeat(60), "c".repeat(60));
        let text = folded(&long);
        assert_eq!(text, format!("{}\r\n {}  b", "a".repeat(60), "c".repeat(60)));
        assert_eq!(text.replace("\r\n", ""), long);
        assert_eq!(folded(&"x".repeat(900)), "x".repeat(900));
    }
}
