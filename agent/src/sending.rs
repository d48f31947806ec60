//! RFC 8551's sending agent: signs and encrypts a message for the sender it names.

use std::{collections::HashMap, time::SystemTime};

use smime::{
    Certificate,
    cms::SignError,
    key::Signer,
    message::{self, OpaqueMessage, SealedMessage, SignedMessage, UnsignedMessage},
    mime::{Canonical, CanonicalError, MimeEntity},
    profile::{Profile, SealPlan},
};

use crate::{AgentError, Edits, FieldRef, Identity, SignatureForm};

/// Signs a whole message: its MIME entity goes into a `multipart/signed`, its other header fields stay.
///
/// This is the first half, up to the use of the key; [`signed_fields`] is the second.
pub(crate) fn unsigned(
    entity: &MimeEntity<'_>,
    identity: &Identity,
    at: SystemTime,
) -> Result<UnsignedMessage, AgentError> {
    let canonical = Canonical::from_entity(entity)?;
    let key = Profile::STANDARD.signer(identity.signer());
    Ok(UnsignedMessage::of(canonical, &key, identity.chain(), at)?)
}

/// The edits that put a signed message in an entity's place.
pub(crate) fn signed_fields(entity: &MimeEntity<'_>, signed: SignedMessage) -> Edits {
    Content::Detached(signed).into_edits(entity)
}

/// What is to leave, or to be encrypted: a message's MIME entity, signed or not.
#[derive(Debug)]
pub(crate) enum Content {
    /// As it came.
    Plain,
    Detached(SignedMessage),
    Opaque(OpaqueMessage),
}

/// What is done with signed content: where it is encrypted, there is room for that from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Leaves,
    IsEncrypted,
}

impl Content {
    /// Signs an entity.
    pub(crate) fn signed(
        entity: &MimeEntity<'_>,
        key: &dyn Signer,
        chain: &[Certificate],
        form: SignatureForm,
        profile: &Profile,
        next: Next,
        at: SystemTime,
    ) -> Result<Self, AgentError> {
        let canonical = match (form, next) {
            (SignatureForm::Detached, Next::Leaves) => Canonical::from_entity(entity)?,
            (SignatureForm::Opaque, _) | (_, Next::IsEncrypted) => Canonical::to_be_enclosed(entity)?,
        };
        let key = profile.signer(key);
        let signed: Result<_, SignError> = match form {
            SignatureForm::Detached => message::sign_in_place(canonical, &key, chain, at).map(Self::Detached),
            SignatureForm::Opaque => {
                message::sign_opaque_in_place(canonical, &key, chain, at).map(Self::Opaque)
            }
        };
        Ok(signed?)
    }

    /// Whether it is signed by us.
    pub(crate) fn is_signed(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// The edits that put it in the place of the message's entity.
    pub(crate) fn into_edits(self, entity: &MimeEntity<'_>) -> Edits {
        let (fields, body) = match self {
            Self::Plain => return Edits::default(),
            Self::Detached(signed) => (vec![field("Content-Type", &signed.content_type)], signed.body),
            Self::Opaque(signed) => (
                opaque_fields(signed.content_type, OpaqueMessage::TRANSFER_ENCODING, signed.disposition),
                signed.body,
            ),
        };
        replaced(entity, fields, body)
    }

    /// The edits that put it, encrypted, in the place of the message's entity.
    pub(crate) fn sealed(&self, entity: &MimeEntity<'_>, plan: &SealPlan) -> Result<Edits, AgentError> {
        let sealed = match self {
            Self::Plain => message::seal_in_place(whole(entity)?, plan)?,
            Self::Detached(signed) => message::seal_signed(signed, plan)?,
            Self::Opaque(signed) => message::seal_in_place(as_entity(signed), plan)?,
        };
        Ok(sealed_edits(entity, sealed))
    }

    /// The same where it is not needed again, and so without a copy.
    pub(crate) fn into_sealed(self, entity: &MimeEntity<'_>, plan: &SealPlan) -> Result<Edits, AgentError> {
        match self {
            Self::Detached(signed) => Ok(sealed_edits(entity, message::seal_signed_in_place(signed, plan)?)),
            other => other.sealed(entity, plan),
        }
    }
}

fn sealed_edits(entity: &MimeEntity<'_>, sealed: SealedMessage) -> Edits {
    let fields =
        opaque_fields(&sealed.content_type, SealedMessage::TRANSFER_ENCODING, SealedMessage::DISPOSITION);
    replaced(entity, fields, sealed.body)
}

/// The entity to be encrypted where it is not signed by us. What the author signed stays octet for octet; ciphertext
/// has no lines that a transport could change.
fn whole(entity: &MimeEntity<'_>) -> Result<Canonical, CanonicalError> {
    let is_signed = entity
        .content_type()
        .is_ok_and(|known| known.is("multipart/signed") || known.media().starts_with("application/"));
    if !is_signed {
        return Canonical::to_be_enclosed(entity);
    }
    let header = entity.header();
    let mut octets = Vec::with_capacity(entity.octets().len());
    for field in header.fields().filter(|field| is_content_field(field.name())) {
        octets.extend_from_slice(field.octets());
    }
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(entity.body());
    Ok(Canonical::from_signed_part(&octets))
}

fn as_entity(signed: &OpaqueMessage) -> Canonical {
    let fields = opaque_fields(signed.content_type, OpaqueMessage::TRANSFER_ENCODING, signed.disposition);
    let mut octets = Vec::with_capacity(signed.body.len() + 512);
    for (name, value) in fields {
        octets.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(&signed.body);
    Canonical::from_signed_part(&octets)
}

fn replaced(entity: &MimeEntity<'_>, fields: Vec<(String, String)>, body: Vec<u8>) -> Edits {
    let append = [field("MIME-Version", "1.0")].into_iter().chain(fields).collect();
    Edits { remove: content_fields(entity), append, body: Some(body), ..Edits::default() }
}

fn opaque_fields(content_type: &str, encoding: &str, disposition: &str) -> Vec<(String, String)> {
    vec![
        field("Content-Type", content_type),
        field("Content-Transfer-Encoding", encoding),
        field("Content-Disposition", disposition),
    ]
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
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
