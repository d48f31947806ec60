//! Every message of RFC 9788's appendix C: its signature verifies, its ciphertext opens with Bob's key, and its header is
//! protected as the text says.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use smime::{
    message::{AuthResult, verify},
    mime::{Message, MimeEntity, single_originator},
    protection::{FieldProtection, Payload, ProtectedHeader, Scheme, without_legacy_display},
    testing::rfc9216::{opened, trust},
};

/// Their names.
const MESSAGES: [&str; 31] = [
    "no-crypto",
    "no-crypto-complex",
    "smime-enc-signed-complex-rfc8551hp-baseline",
    "smime-multipart",
    "smime-multipart-complex",
    "smime-multipart-complex-hp",
    "smime-multipart-complex-rfc8551hp",
    "smime-multipart-hp",
    "smime-one-part",
    "smime-one-part-complex",
    "smime-one-part-complex-hp",
    "smime-one-part-complex-rfc8551hp",
    "smime-one-part-hp",
    "smime-signed-enc",
    "smime-signed-enc-complex",
    "smime-signed-enc-complex-hp-baseline",
    "smime-signed-enc-complex-hp-baseline-legacy",
    "smime-signed-enc-complex-hp-baseline-lgc-rpl",
    "smime-signed-enc-complex-hp-baseline-reply",
    "smime-signed-enc-complex-hp-shy",
    "smime-signed-enc-complex-hp-shy-legacy",
    "smime-signed-enc-complex-hp-shy-legacy-reply",
    "smime-signed-enc-complex-hp-shy-reply",
    "smime-signed-enc-hp-baseline",
    "smime-signed-enc-hp-baseline-legacy",
    "smime-signed-enc-hp-baseline-legacy-reply",
    "smime-signed-enc-hp-baseline-reply",
    "smime-signed-enc-hp-shy",
    "smime-signed-enc-hp-shy-legacy",
    "smime-signed-enc-hp-shy-legacy-reply",
    "smime-signed-enc-hp-shy-reply",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/rfc9788")
}

fn message(name: &str) -> Message {
    Message::from_stored(&fs::read(folder().join(format!("{name}.eml"))).unwrap())
}

/// After the messages were written.
fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_613_900_000)
}

/// What the name of a message says of it.
struct Expected {
    is_signed: bool,
    is_encrypted: bool,
    scheme: Option<Scheme>,
    /// Fields whose value is inside only.
    hidden: &'static [&'static str],
    /// Whether the body repeats hidden fields for old readers (RFC 9788 2.1.2).
    legacy_display: bool,
}

impl Expected {
    fn of(name: &str) -> Self {
        let is_encrypted = name.contains("-enc");
        let scheme = match () {
            () if name.contains("-rfc8551hp") => Some(Scheme::Rfc8551),
            () if name.contains("-hp") && is_encrypted => Some(Scheme::Cipher),
            () if name.contains("-hp") => Some(Scheme::Clear),
            () => None,
        };
        let hidden: &[&str] = match scheme {
            Some(Scheme::Cipher) if name.contains("-shy") => &["Subject", "From", "To", "Date"],
            Some(Scheme::Cipher) => &["Subject"],
            _ => &[],
        };
        let is_signed = !name.starts_with("no-crypto");
        Self {
            is_signed,
            is_encrypted,
            scheme,
            hidden,
            legacy_display: ["-legacy", "-lgc"].iter().any(|word| name.contains(word)),
        }
    }
}

/// What Bob finds in a ciphertext.
/// How many parts have a legacy display element.
fn legacy_displays(entity: &MimeEntity<'_>) -> usize {
    match entity.parts() {
        Ok(parts) if !parts.is_empty() => parts.iter().map(legacy_displays).sum(),
        _ => usize::from(without_legacy_display(entity).is_some()),
    }
}

#[test]
fn all_messages_of_appendix_c_are_here() {
    let files =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> =
        files.filter_map(|file| Some(file.strip_suffix(".eml")?.to_owned())).collect();
    assert_eq!(found, MESSAGES.map(str::to_owned).into());
}

#[test]
fn every_message_of_appendix_c_verifies_opens_and_protects_its_header_as_its_text_says() {
    for name in MESSAGES {
        if !folder().join(format!("{name}.eml")).exists() {
            continue;
        }
        let expected = Expected::of(name);
        let message = message(name);
        let outside = message.entity();
        let inside = expected.is_encrypted.then(|| opened(&outside));
        let entity = inside.as_ref().map_or(message.entity(), Message::entity);

        let (verdict, _) = verify(&entity, single_originator(&outside), &trust("ca.rsa"), at());
        let result = if expected.is_signed { AuthResult::Pass } else { AuthResult::None };
        assert_eq!(verdict.result(), result, "{name}: {verdict:?}");

        let payload = Payload::find(&entity).unwrap();
        assert_eq!(payload.layers(), usize::from(expected.is_signed), "{name}");
        let text = String::from_utf8(payload.entity().octets().to_vec()).unwrap().replace("\r\n", "\n");
        assert!(text.contains(&format!("This is the\n{name}\nmessage.")), "{name}");

        let header = ProtectedHeader::read(&payload.entity(), &outside.header()).unwrap();
        assert_eq!(header.as_ref().map(ProtectedHeader::scheme), expected.scheme, "{name}");
        let Some(header) = header else { continue };
        assert_eq!(header.values("Subject").collect::<Vec<_>>(), [name]);
        assert_eq!(header.originator().unwrap().as_str(), "alice@smime.example", "{name}");
        assert_eq!(header.confidential().collect::<Vec<_>>(), expected.hidden, "{name}");
        for field in header.fields() {
            let is_hidden = expected.hidden.contains(&field.name.as_str());
            let protection =
                if is_hidden { FieldProtection::SignedAndEncrypted } else { FieldProtection::SignedOnly };
            assert_eq!(header.protection(field, true, expected.is_encrypted), protection, "{name}");
        }
        let differences = header.differences(&outside.header()).unwrap();
        let differ: Vec<&str> = differences.iter().map(|difference| difference.name.as_str()).collect();
        if expected.scheme == Some(Scheme::Cipher) {
            assert_eq!(differ, expected.hidden, "{name}");
            assert!(differences.iter().all(|difference| difference.by_sender), "{name}: {differences:?}");
            let parts = legacy_displays(&payload.entity());
            assert_eq!(parts > 0, expected.legacy_display, "{name}: {parts} parts");
        }
    }
}
