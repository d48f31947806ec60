//! RFC 8551's sending agent: signs a message for the sender it names.

use std::{collections::HashMap, time::SystemTime};

use smime::{
    message::{self, SignedMessage},
    mime::{Canonical, MimeEntity},
};

use crate::{AgentError, Edits, FieldRef, Identity};

/// Signs a whole message: its MIME entity goes into a `multipart/signed`, its other header fields stay.
pub fn sign(entity: &MimeEntity<'_>, identity: &Identity, at: SystemTime) -> Result<Edits, AgentError> {
    let canonical = Canonical::from_entity(entity)?;
    let signed = message::sign_in_place(canonical, identity.signer(), identity.chain(), at)?;
    Ok(signed_fields(entity, signed))
}

/// The edits that put a signed message in an entity's place.
pub(crate) fn signed_fields(entity: &MimeEntity<'_>, signed: SignedMessage) -> Edits {
    Edits {
        remove: content_fields(entity),
        append: vec![
            ("MIME-Version".to_owned(), "1.0".to_owned()),
            ("Content-Type".to_owned(), signed.content_type),
        ],
        body: Some(signed.body),
        ..Edits::default()
    }
}

/// The fields that describe the content and so move with it: `Content-*`, and MIME-Version, of which
/// one is written anew.
pub(crate) fn content_fields(entity: &MimeEntity<'_>) -> Vec<FieldRef> {
    let header = entity.header();
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut fields = Vec::new();
    for field in header.fields().filter(|field| is_content_field(field.name())) {
        let index = seen.entry(field.name().to_ascii_lowercase()).or_default();
        *index += 1;
        fields.push(FieldRef { name: field.name().to_owned(), index: *index });
    }
    fields
}

/// Whether a field describes the content. A name that RFC 5322 does not allow is left where it is: an
/// MTA would not find it.
pub(crate) fn is_content_field(name: &str) -> bool {
    let is_content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
    (is_content || name.eq_ignore_ascii_case("MIME-Version"))
        && name.bytes().all(|octet| octet.is_ascii_graphic())
}
