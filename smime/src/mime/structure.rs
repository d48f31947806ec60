//! What kind of message this is, as far as it decides whether we sign, encrypt or keep our hands off.
//!
//! RFC 8551 3.10 (recognising S/MIME), RFC 3156 (PGP/MIME), RFC 5546 (calendars). This only tells forms
//! apart; whether a signature is good is not decided here.

use super::{ContentType, MAX_PARTS, MimeEntity};

/// The cryptography that the root entity of a message claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crypto {
    /// S/MIME, signed: multipart/signed, or application/pkcs7-mime with signed-data.
    SmimeSigned,
    /// S/MIME of another kind: encrypted, compressed, certificates only, or not said.
    SmimeOther,
    /// PGP/MIME, or PGP armour in plain text.
    Pgp,
}

/// Mail that is not signed or encrypted like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// Signed by S/MIME already.
    SmimeSigned,
    /// S/MIME of another kind already.
    SmimeOther,
    /// Treated by PGP already.
    Pgp,
    /// It holds a calendar object; some agents no longer see an invitation inside a signature.
    Calendar,
    /// It is or holds Microsoft's TNEF.
    Tnef,
}

/// Whether a message is special, and how. Foreign cryptography comes before what else there may be.
pub fn special(message: &MimeEntity<'_>) -> Option<Special> {
    match is_smime_or_pgp(message) {
        Some(Crypto::SmimeSigned) => Some(Special::SmimeSigned),
        Some(Crypto::SmimeOther) => Some(Special::SmimeOther),
        Some(Crypto::Pgp) => Some(Special::Pgp),
        None => {
            let mut found = None;
            walk(message, &mut 0, &mut |leaf| found = found.or_else(|| of_leaf(leaf)));
            found
        }
    }
}

/// Whether the root entity is S/MIME or PGP already. Parts are not looked into.
pub fn is_smime_or_pgp(message: &MimeEntity<'_>) -> Option<Crypto> {
    let Ok(content_type) = message.content_type() else {
        return of_unreadable(message);
    };
    let says = |parameter: &str, text: &str| {
        content_type.parameter(parameter).is_some_and(|value| value.to_ascii_lowercase().contains(text))
    };
    match content_type.media() {
        "multipart/signed" | "multipart/encrypted" if says("protocol", "pgp") => Some(Crypto::Pgp),
        "multipart/signed" => Some(Crypto::SmimeSigned),
        "multipart/encrypted" => Some(Crypto::SmimeOther),
        "application/pkcs7-mime" | "application/x-pkcs7-mime" => {
            Some(if says("smime-type", "signed-data") { Crypto::SmimeSigned } else { Crypto::SmimeOther })
        }
        "application/pgp" | "application/pgp-encrypted" | "application/pgp-signature" => Some(Crypto::Pgp),
        _ if has_smime_name(message) => Some(Crypto::SmimeOther),
        "text/plain" if has_armour(message) => Some(Crypto::Pgp),
        _ => None,
    }
}

/// A Content-Type that cannot be read is still no reason to sign what may be signed already.
fn of_unreadable(message: &MimeEntity<'_>) -> Option<Crypto> {
    let header = message.header();
    let text: Vec<String> =
        header.all("Content-Type").map(|field| field.unfolded().to_ascii_lowercase()).collect();
    let says = |what: &str| text.iter().any(|value| value.contains(what));
    if says("pgp") {
        Some(Crypto::Pgp)
    } else if says("multipart/signed") {
        Some(Crypto::SmimeSigned)
    } else if says("multipart/encrypted") || says("pkcs7-mime") || has_smime_name(message) {
        Some(Crypto::SmimeOther)
    } else {
        None
    }
}

/// RFC 8551 3.2.1: gateways lose the type, the file name stays.
fn has_smime_name(message: &MimeEntity<'_>) -> bool {
    let Some(name) = message.file_name() else {
        return false;
    };
    let name = name.trim().to_ascii_lowercase();
    [".p7m", ".p7s", ".p7c", ".p7z"].iter().any(|extension| name.ends_with(extension))
}

/// RFC 4880 6.2, at the start of the text.
fn has_armour(message: &MimeEntity<'_>) -> bool {
    message.decoded_body().is_ok_and(|text| text.trim_ascii_start().starts_with(b"-----BEGIN PGP "))
}

fn of_leaf(leaf: &MimeEntity<'_>) -> Option<Special> {
    let content_type = leaf.content_type().ok();
    match content_type.as_ref().map(ContentType::media) {
        Some("text/calendar") => return Some(Special::Calendar),
        Some("application/ms-tnef" | "application/vnd.ms-tnef") => return Some(Special::Tnef),
        _ => {}
    }
    let name = leaf.file_name()?;
    name.trim().eq_ignore_ascii_case("winmail.dat").then_some(Special::Tnef)
}

/// Visits the leaves within the limits. Messages inside the message are leaves: an invitation that is
/// forwarded as an attachment is no invitation.
fn walk(entity: &MimeEntity<'_>, seen: &mut usize, visit: &mut dyn FnMut(&MimeEntity<'_>)) {
    *seen += 1;
    if *seen > MAX_PARTS {
        return;
    }
    match entity.parts() {
        Ok(parts) => parts.iter().for_each(|part| walk(part, seen, visit)),
        Err(_) => visit(entity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special_of(octets: &str) -> Option<Special> {
        special(&MimeEntity::parse(octets.replace('\n', "\r\n").as_bytes()))
    }

    #[test]
    fn roots_are_told_by_type_name_and_armour() {
        for (header, expected) in [
            (
                "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b",
                Some(Crypto::SmimeSigned),
            ),
            (
                "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=b",
                Some(Crypto::Pgp),
            ),
            ("Content-Type: multipart/signed; boundary=b; boundary=c", Some(Crypto::SmimeSigned)),
            ("Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"", Some(Crypto::Pgp)),
            ("Content-Type: application/pkcs7-mime; smime-type=signed-data", Some(Crypto::SmimeSigned)),
            ("Content-Type: application/x-pkcs7-mime; smime-type=enveloped-data", Some(Crypto::SmimeOther)),
            ("Content-Type: application/octet-stream; name=smime.P7M", Some(Crypto::SmimeOther)),
            (
                "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"a.p7z\"",
                Some(Crypto::SmimeOther),
            ),
            ("Content-Type: text/plain", None),
            ("Subject: multipart/signed pgp", None),
            ("Content-Type: multipart/mixed; boundary=b", None),
        ] {
            let octets = format!("{header}\n\nbody\n").replace('\n', "\r\n");
            assert_eq!(is_smime_or_pgp(&MimeEntity::parse(octets.as_bytes())), expected, "{header}");
        }
        assert_eq!(special_of("\n\n-----BEGIN PGP MESSAGE-----\n"), Some(Special::Pgp));
        assert_eq!(
            special_of(
                "Content-Transfer-Encoding: base64\n\nLS0tLS1CRUdJTiBQR1AgU0lHTkVEIE1FU1NBR0UtLS0tLQ==\n"
            ),
            Some(Special::Pgp)
        );
        assert_eq!(special_of("\nthe line\n-----BEGIN PGP MESSAGE-----\nis in the middle\n"), None);
    }

    #[test]
    fn calendars_and_tnef_are_found_in_the_structure() {
        let mixed = |part: &str| {
            special_of(&format!(
                "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a\n\
                 Content-Type: multipart/alternative; boundary=b\n\n--b\n{part}\n\ny\n--b--\n--a--\n"
            ))
        };
        for (part, expected) in [
            ("Content-Type: text/calendar; method=REQUEST", Some(Special::Calendar)),
            ("Content-Type: application/ms-tnef", Some(Special::Tnef)),
            ("Content-Type: application/octet-stream; name=WINMAIL.DAT", Some(Special::Tnef)),
            ("Content-Type: text/plain; name=calendar.ics", None),
            // Foreign cryptography counts at the root only.
            ("Content-Type: application/pkcs7-mime; name=smime.p7m", None),
            ("Content-Type: message/rfc822\n\nContent-Type: text/calendar", None),
        ] {
            assert_eq!(mixed(part), expected, "{part}");
        }
    }
}
