//! RFC 8551's sending agent: signs and encrypts a message for the sender it names.

use std::{collections::HashMap, time::SystemTime};

use smime::{
    Certificate,
    cms::SignError,
    key::Signer,
    message::{self, OpaqueMessage, SealedMessage, SignedMessage, UnsignedMessage},
    mime::{Canonical, CanonicalError, MimeEntity},
    profile::{Profile, SealPlan},
    protection::{
        ConfidentialityPolicy, HeaderChange, ProtectError, ProtectedMessage, protect_encrypted,
        protect_signed,
    },
};

use crate::{AgentError, Edits, FieldRef, HeaderProtection, Identity, SignatureForm};

/// Signs a whole message: its MIME entity goes into a `multipart/signed`, its other header fields stay.
///
/// This is the first half, up to the use of the key; [`signed_fields`] is the second.
pub(crate) fn unsigned(
    entity: &MimeEntity<'_>,
    identity: &Identity,
    at: SystemTime,
) -> Result<UnsignedMessage, AgentError> {
    unsigned_by(&Profile::STANDARD, Hp::None, entity, identity, at)
}

/// The first half of [`Content::signed`] where the message leaves with a detached signature.
pub(crate) fn unsigned_by(
    profile: &Profile,
    hp: Hp,
    entity: &MimeEntity<'_>,
    identity: &Identity,
    at: SystemTime,
) -> Result<UnsignedMessage, AgentError> {
    let canonical = match hp.payload(entity)? {
        Some(ProtectedMessage { payload, .. }) => payload,
        None => Canonical::from_entity(entity)?,
    };
    let key = profile.signer(identity.signer());
    Ok(UnsignedMessage::of(canonical, &key, identity.chain(), at)?)
}

/// The edits that put a signed message in an entity's place.
pub(crate) fn signed_fields(entity: &MimeEntity<'_>, signed: SignedMessage) -> Edits {
    Content::detached(signed).into_edits(entity)
}

/// What is to leave, or to be encrypted: a message's MIME entity, signed or not.
#[derive(Debug)]
pub(crate) struct Content {
    body: Body,
    /// What must change in the header outside, as the protected one says that it is so.
    outer: Vec<HeaderChange>,
    /// Whether fields of that header stay readable which were to be hidden.
    shows_header: bool,
}

#[derive(Debug)]
enum Body {
    /// As it came.
    Plain,
    /// To be encrypted, with the header fields in it.
    Payload(Canonical),
    Detached(SignedMessage),
    Opaque(OpaqueMessage),
}

/// What is done with signed content: where it is encrypted, there is room for that from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Leaves,
    IsEncrypted,
}

/// How the header fields go into the content (RFC 9788 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hp {
    /// Not at all.
    #[default]
    None,
    /// `hp="clear"`: it is signed, and not encrypted.
    Clear,
    /// `hp="cipher"`: it is encrypted.
    Cipher(ConfidentialityPolicy),
}

impl Hp {
    /// What a rule wants of content that is encrypted, or not.
    pub(crate) fn of(rule: HeaderProtection, is_encrypted: bool) -> Self {
        match rule {
            HeaderProtection::Off => Self::None,
            HeaderProtection::By(policy) if is_encrypted => Self::Cipher(policy),
            HeaderProtection::By(_) => Self::Clear,
        }
    }

    /// Whether fields are to be hidden that leave readable without this payload.
    fn misses(self, payload: Option<&ProtectedMessage>) -> bool {
        matches!(self, Self::Cipher(ConfidentialityPolicy::Baseline)) && payload.is_none()
    }

    /// The payload with the header fields in it; `None` where there are to be none. What its author signed or encrypted has no
    /// place for them, and stays as it is. Where nothing is hidden, a header that cannot be protected does no harm.
    fn payload(self, entity: &MimeEntity<'_>) -> Result<Option<ProtectedMessage>, AgentError> {
        match self {
            Self::None => Ok(None),
            Self::Clear => {
                let payload = protect_signed(entity).ok();
                Ok(payload.map(|payload| ProtectedMessage { payload, outer: Vec::new() }))
            }
            Self::Cipher(policy) => match protect_encrypted(entity, policy) {
                Ok(protected) => Ok(Some(protected)),
                Err(ProtectError::Cryptographic) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl Content {
    /// The message as it came.
    pub(crate) fn plain() -> Self {
        Self::of(Body::Plain)
    }

    /// A message with its detached signature.
    pub(crate) fn detached(signed: SignedMessage) -> Self {
        Self::of(Body::Detached(signed))
    }

    fn of(body: Body) -> Self {
        Self { body, outer: Vec::new(), shows_header: false }
    }

    /// The message as it came, to be encrypted with its header.
    pub(crate) fn unsigned(entity: &MimeEntity<'_>, hp: Hp) -> Result<Self, AgentError> {
        let payload = hp.payload(entity)?;
        let shows_header = hp.misses(payload.as_ref());
        let (body, outer) = payload
            .map_or((Body::Plain, Vec::new()), |ProtectedMessage { payload, outer }| {
                (Body::Payload(payload), outer)
            });
        Ok(Self { body, outer, shows_header })
    }

    /// Signs an entity.
    pub(crate) fn signed(
        entity: &MimeEntity<'_>,
        key: &dyn Signer,
        chain: &[Certificate],
        (form, profile): (SignatureForm, &Profile),
        (next, hp): (Next, Hp),
        at: SystemTime,
    ) -> Result<Self, AgentError> {
        let payload = hp.payload(entity)?;
        let shows_header = hp.misses(payload.as_ref());
        let (canonical, outer) = match (payload, form, next) {
            (Some(ProtectedMessage { payload, outer }), ..) => (payload, outer),
            (None, SignatureForm::Detached, Next::Leaves) => (Canonical::from_entity(entity)?, Vec::new()),
            (None, SignatureForm::Opaque, _) | (None, _, Next::IsEncrypted) => {
                (Canonical::to_be_enclosed(entity)?, Vec::new())
            }
        };
        let key = profile.signer(key);
        let signed: Result<_, SignError> = match form {
            SignatureForm::Detached => message::sign_in_place(canonical, &key, chain, at).map(Body::Detached),
            SignatureForm::Opaque => {
                message::sign_opaque_in_place(canonical, &key, chain, at).map(Body::Opaque)
            }
        };
        Ok(Self { body: signed?, outer, shows_header })
    }

    /// Whether its rule hides fields of the header, and this has no place for them: it is, or says that it is, signed or
    /// encrypted by its author.
    pub(crate) fn shows_header(&self) -> bool {
        self.shows_header
    }

    /// Whether it is signed by us.
    pub(crate) fn is_signed(&self) -> bool {
        matches!(self.body, Body::Detached(_) | Body::Opaque(_))
    }

    /// The edits that put it in the place of the message's entity.
    pub(crate) fn into_edits(self, entity: &MimeEntity<'_>) -> Edits {
        let (fields, body) = match self.body {
            // A payload is made for encryption alone.
            Body::Plain | Body::Payload(_) => return Edits::default(),
            Body::Detached(signed) => (vec![field("Content-Type", &signed.content_type)], signed.body),
            Body::Opaque(signed) => (
                opaque_fields(signed.content_type, OpaqueMessage::TRANSFER_ENCODING, signed.disposition),
                signed.body,
            ),
        };
        replaced(entity, fields, body)
    }

    /// The edits that put it, encrypted, in the place of the message's entity.
    pub(crate) fn sealed(&self, entity: &MimeEntity<'_>, plan: &SealPlan) -> Result<Edits, AgentError> {
        let sealed = match &self.body {
            Body::Plain => message::seal_in_place(whole(entity)?, plan)?,
            Body::Payload(payload) => message::seal_in_place(payload.clone(), plan)?,
            Body::Detached(signed) => message::seal_signed(signed, plan)?,
            Body::Opaque(signed) => message::seal_in_place(as_entity(signed), plan)?,
        };
        Ok(sealed_edits(entity, sealed, &self.outer))
    }

    /// The same where it is not needed again, and so without a copy.
    pub(crate) fn into_sealed(self, entity: &MimeEntity<'_>, plan: &SealPlan) -> Result<Edits, AgentError> {
        let sealed = match self.body {
            Body::Detached(signed) => message::seal_signed_in_place(signed, plan)?,
            Body::Payload(payload) => message::seal_in_place(payload, plan)?,
            body => return Self { body, ..self }.sealed(entity, plan),
        };
        Ok(sealed_edits(entity, sealed, &self.outer))
    }
}

fn sealed_edits(entity: &MimeEntity<'_>, sealed: SealedMessage, outer: &[HeaderChange]) -> Edits {
    let fields =
        opaque_fields(&sealed.content_type, SealedMessage::TRANSFER_ENCODING, SealedMessage::DISPOSITION);
    let mut edits = replaced(entity, fields, sealed.body);
    let mut remove = |name: &str| {
        let count = entity.header().all(name).count();
        edits.remove.extend((1..).take(count).map(|index| FieldRef { name: name.to_owned(), index }));
    };
    for HeaderChange { name, value } in outer {
        remove(name);
        if name.eq_ignore_ascii_case("Subject") && value.is_some() {
            remove(THREAD_TOPIC);
        }
        edits.append.extend(value.map(|value| field(name, value)));
    }
    edits
}

/// Outlook's and Exchange's, which repeats the subject. No standard knows it, so that it is nowhere in the protected header.
const THREAD_TOPIC: &str = "Thread-Topic";

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
pub fn is_content_field(name: &str) -> bool {
    let is_content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
    (is_content || name.eq_ignore_ascii_case("MIME-Version"))
        && name.bytes().all(|octet| octet.is_ascii_graphic())
}
