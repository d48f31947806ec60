//! The name that a message's sender gave it, for the report.

use smime::mime::Message;

/// The `Message-ID` for the report: at most 998 octets, printable.
pub(crate) fn message_id(message: &Message) -> Option<String> {
    const NAME: &[u8] = b"Message-ID:";
    let mut lines = message.header().split_inclusive(|&octet| octet == b'\n');
    let field =
        lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    let mut value = field.get(NAME.len()..)?.to_vec();
    // The value may stand on the next line (RFC 5322, 2.2.3).
    for fold in lines.take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
        value.extend_from_slice(fold);
    }
    value.truncate(998);
    let text = String::from_utf8_lossy(value.trim_ascii());
    Some(text.chars().filter(|character| !character.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_found_folded_and_printed_safely() {
        for (header, expected) in [
            ("Message-ID: <a@b>\n\n", Some("<a@b>")),
            ("Subject: x\nmessage-id:\n <a@b>\nTo: c\n\n", Some("<a@b>")),
            ("Message-ID: <a\u{1b}[2J@b>\n\n", Some("<a[2J@b>")),
            ("Subject: x\n\nMessage-ID: <in@body>\n", None),
        ] {
            let found = message_id(&Message::from_stored(header.as_bytes()));
            assert_eq!(found.as_deref(), expected, "{header:?}");
        }
    }
}
