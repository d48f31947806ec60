//! Protected header fields written (RFC 9788 5).

use super::{HP_OUTER, OBSCURED_SUBJECT};
use crate::{
    Fault,
    mime::{
        Canonical, CanonicalError, ContentType, Hazard, Header, HeaderField, HeaderTooLarge, MimeEntity,
        MimeError, is_smime_or_pgp, safe_field,
    },
};

/// The fields that are put into the payload: what the author wrote, and nothing that carriers add. Bcc is not among
/// them (RFC 9788 11.4).
const PROTECTED: [&str; 13] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Date",
    "Subject",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Comments",
    "Keywords",
    "User-Agent",
];

/// What an encrypted message shows of its header outside (RFC 9788 3.2: Header Confidentiality Policies).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfidentialityPolicy {
    /// All of it: `hcp_no_confidentiality`.
    None,
    /// All but the subject, which becomes `[...]`, Comments and Keywords, which go: `hcp_baseline`.
    Baseline,
}

impl ConfidentialityPolicy {
    /// What becomes of a field outside.
    fn outside(self, name: &str) -> Outside {
        match self {
            Self::Baseline if name.eq_ignore_ascii_case("Subject") => Outside::Other(OBSCURED_SUBJECT),
            Self::Baseline
                if name.eq_ignore_ascii_case("Comments") || name.eq_ignore_ascii_case("Keywords") =>
            {
                Outside::Gone
            }
            Self::None | Self::Baseline => Outside::Same,
        }
    }
}

enum Outside {
    Same,
    Other(&'static str),
    Gone,
}

/// What must be done to a message's own header, so that it hides what the payload says it hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChange {
    /// The field; all of the name.
    pub name: String,
    /// The value of the one field that is left, or that all go.
    pub value: Option<&'static str>,
}

/// A payload to be encrypted, and what else must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedMessage {
    /// The payload, with the fields in it.
    pub payload: Canonical,
    /// The changes to the header outside: without them the message would show what it says it hides.
    pub outer: Vec<HeaderChange>,
}

/// Why a message's header is not protected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// The message cannot be made canonical.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// It is signed or encrypted already, so that its root is no payload.
    #[error("the message is signed or encrypted already")]
    Cryptographic,
    /// Its root says that its header is protected, which it is not.
    #[error("the message claims to have a protected header already")]
    Claimed,
    /// Its Content-Type has no room for a parameter.
    #[error("the Content-Type cannot be added to")]
    ContentType,
    /// Its Content-Type cannot be read.
    #[error(transparent)]
    Mime(#[from] MimeError),
    /// A field would not survive transport.
    #[error("the field {field} holds {hazard}")]
    Field {
        /// Its name.
        field: String,
        /// What in it.
        hazard: Hazard,
    },
    /// A line of the header is no field: readers would disagree on what is protected.
    #[error("a line of the header is no field")]
    HeaderLine,
    /// The header is larger than any that is met.
    #[error(transparent)]
    TooLarge(#[from] HeaderTooLarge),
}

impl ProtectError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Canonical(error) => error.fault(),
            _ => Fault::Message,
        }
    }
}

/// A message's payload with its header fields in it, to be signed and not encrypted (RFC 9788 5.2.1, `hp="clear"`). The
/// header outside stays as it is.
pub fn protect_signed(message: &MimeEntity<'_>) -> Result<Canonical, ProtectError> {
    let header = message.header();
    let mut fields = Vec::new();
    for field in protected(&header)? {
        fields.extend(safe(&field)?);
    }
    compose(message, &fields, "clear")
}

/// A message's payload with its header fields in it, to be encrypted, signed before or not (RFC 9788 5.2.1,
/// `hp="cipher"`). No legacy display element is written.
pub fn protect_encrypted(
    message: &MimeEntity<'_>,
    policy: ConfidentialityPolicy,
) -> Result<ProtectedMessage, ProtectError> {
    let header = message.header();
    let (mut fields, mut exposed) = (Vec::new(), Vec::new());
    let mut outer: Vec<HeaderChange> = Vec::new();
    for field in protected(&header)? {
        let safe_octets = safe(&field)?;
        let outside = policy.outside(field.name());
        let is_changed = outer.iter().any(|change| field.is(&change.name));
        let shown = match outside {
            // The first of the name stands for all.
            Outside::Other(_) if is_changed => None,
            Outside::Same => Some(safe_octets.clone()),
            Outside::Other(value) => Some(format!("{}: {value}\r\n", field.name()).into_bytes()),
            Outside::Gone => None,
        };
        if let Some(shown) = shown {
            let line = [HP_OUTER.as_bytes(), b": ", &shown].concat();
            for field in Header::parse(&line).fields() {
                exposed.extend(safe(&field)?);
            }
        }
        let value = match outside {
            Outside::Same => None,
            Outside::Other(value) => Some(Some(value)),
            Outside::Gone => Some(None),
        };
        if let Some(value) = value
            && !is_changed
        {
            outer.push(HeaderChange { name: field.name().to_owned(), value });
        }
        fields.extend(safe_octets);
    }
    fields.extend(exposed);
    Ok(ProtectedMessage { payload: compose(message, &fields, "cipher")?, outer })
}

/// The fields that go into the payload. Each is written there, so there may not be more than any header has.
fn protected<'a>(header: &Header<'a>) -> Result<Vec<HeaderField<'a>>, ProtectError> {
    header.check_size()?;
    if header.fields().any(|field| field.name().is_empty() && !field.octets().starts_with(b"From ")) {
        return Err(ProtectError::HeaderLine);
    }
    let is_protected = |field: &HeaderField<'_>| PROTECTED.iter().any(|name| field.is(name));
    Ok(header.fields().filter(is_protected).collect())
}

/// A field with its line end, as it can be signed.
fn safe(field: &HeaderField<'_>) -> Result<Vec<u8>, ProtectError> {
    let mut octets = safe_field(field)
        .map_err(|hazard| ProtectError::Field { field: field.name().to_owned(), hazard })?
        .into_owned();
    if !octets.ends_with(b"\r\n") {
        octets.extend_from_slice(b"\r\n");
    }
    Ok(octets)
}

/// The canonical payload, the fields before its own, and `hp` among the parameters of its Content-Type.
fn compose(message: &MimeEntity<'_>, fields: &[u8], hp: &str) -> Result<Canonical, ProtectError> {
    if is_smime_or_pgp(message).is_some() {
        return Err(ProtectError::Cryptographic);
    }
    let canonical = Canonical::from_entity(message)?;
    let entity = MimeEntity::parse(canonical.octets());
    let content_type = entity.content_type()?;
    let claims = ["hp", "protected-headers"].into_iter().any(|name| content_type.parameter(name).is_some());
    if claims || message.header().all(HP_OUTER).next().is_some() {
        return Err(ProtectError::Claimed);
    }
    let header = entity.header();
    let mut octets = Vec::with_capacity(canonical.octets().len() + fields.len() + 128);
    octets.extend_from_slice(fields);
    octets.extend_from_slice(b"MIME-Version: 1.0\r\n");
    let mut is_said = false;
    for field in header.fields() {
        if field.is("Content-Type") {
            octets.extend_from_slice(&with_parameter(&field, hp)?);
            is_said = true;
        } else {
            octets.extend_from_slice(field.octets());
        }
    }
    if !is_said {
        octets.extend_from_slice(
            format!("Content-Type: {}; charset=us-ascii; hp=\"{hp}\"\r\n", content_type.media()).as_bytes(),
        );
    }
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(entity.body());
    Ok(Canonical::from_signed_part(&octets))
}

/// A Content-Type field with one parameter more. What it says otherwise stays octet by octet.
fn with_parameter(field: &HeaderField<'_>, hp: &str) -> Result<Vec<u8>, ProtectError> {
    let before = ContentType::parse(field.value())?;
    let line = field.octets().trim_ascii_end();
    let line = line.strip_suffix(b";").unwrap_or(line);
    let octets = [line, format!(";\r\n hp=\"{hp}\"\r\n").as_bytes()].concat();
    // A comment or an odd value at the end would swallow it.
    let written = Header::parse(&octets);
    let after = written.fields().next().and_then(|field| ContentType::parse(field.value()).ok());
    let after = after.ok_or(ProtectError::ContentType)?;
    let is_same = after.media() == before.media()
        && after
            .parameters()
            .split_last()
            .is_some_and(|(last, others)| others == before.parameters() && last.0 == "hp" && last.1 == hp);
    if is_same { Ok(octets) } else { Err(ProtectError::ContentType) }
}
