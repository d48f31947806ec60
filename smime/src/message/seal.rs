//! Encrypted messages written: `application/pkcs7-mime` (RFC 8551 sections 3.2 and 3.3).
//!
//! The content is encrypted into the buffer in which it leaves; beside it there is no copy.

use super::SignedMessage;
use crate::{
    cms::{Plain, SealError, SealLayout},
    mime::{Base64Buffer, Canonical, LEAD},
    profile::SealPlan,
};

/// An encrypted message's body, and the fields that go with it. All other `Content-*` fields are inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedMessage {
    /// The value of the Content-Type field, folded with CRLF.
    pub content_type: String,
    /// The body in base64, with CRLF line ends.
    pub body: Vec<u8>,
}

impl SealedMessage {
    /// The value of the Content-Transfer-Encoding field.
    pub const TRANSFER_ENCODING: &'static str = "base64";
    /// The value of the Content-Disposition field: old programs go by the file name (RFC 8551 3.2.1).
    pub const DISPOSITION: &'static str = "attachment; filename=\"smime.p7m\"";
}

/// Encrypts an entity.
pub fn seal(entity: &Canonical, plan: &SealPlan) -> Result<SealedMessage, SealError> {
    seal_segments(&[entity.octets()], plan)
}

/// Encrypts octets as they are: what came out of another ciphertext, and shall come out of this one unchanged.
pub fn seal_content(content: &[u8], plan: &SealPlan) -> Result<SealedMessage, SealError> {
    seal_segments(&[content], plan)
}

/// Encrypts a message that [`super::sign()`] made: signed, then encrypted (RFC 8551 3.7). It is not copied to be
/// put together.
pub fn seal_signed(signed: &SignedMessage, plan: &SealPlan) -> Result<SealedMessage, SealError> {
    seal_segments(&[b"Content-Type: ", signed.content_type.as_bytes(), b"\r\n\r\n", &signed.body], plan)
}

/// Like [`seal`], for those who do not need the entity any more: it is encrypted where it is. Of
/// [`Canonical::to_be_enclosed`], that takes no second buffer.
pub fn seal_in_place(entity: Canonical, plan: &SealPlan) -> Result<SealedMessage, SealError> {
    seal_buffer(entity.into_buffer(), LEAD, b"", plan)
}

/// Like [`seal_signed`], for those who do not need the signed message any more.
pub fn seal_signed_in_place(signed: SignedMessage, plan: &SealPlan) -> Result<SealedMessage, SealError> {
    let head = format!("Content-Type: {}\r\n\r\n", signed.content_type);
    seal_buffer(signed.body, 0, head.as_bytes(), plan)
}

fn seal_segments(content: &[&[u8]], plan: &SealPlan) -> Result<SealedMessage, SealError> {
    let layout = SealLayout::new(Plain::Segments(content), plan.cipher, &plan.recipients)?;
    let mut buffer = Base64Buffer::new(layout.len());
    layout.write(buffer.object())?;
    Ok(sealed(buffer, plan))
}

/// Encrypts a header and, behind it, what is in a buffer from `start` on, into that buffer.
fn seal_buffer(
    octets: Vec<u8>,
    start: usize,
    header: &[u8],
    plan: &SealPlan,
) -> Result<SealedMessage, SealError> {
    let content = Plain::InPlace(header.len() + octets.len().saturating_sub(start));
    let layout = SealLayout::new(content, plan.cipher, &plan.recipients)?;
    let no_room = || SealError::Encoding(der::ErrorKind::Failed.into());
    let (header_at, body_at) = (layout.content_at(), layout.content_at() + header.len());
    let mut buffer = Base64Buffer::around(octets, start, layout.len(), body_at).ok_or_else(no_room)?;
    buffer.object().get_mut(header_at..body_at).ok_or_else(no_room)?.copy_from_slice(header);
    layout.write(buffer.object())?;
    Ok(sealed(buffer, plan))
}

fn sealed(buffer: Base64Buffer, plan: &SealPlan) -> SealedMessage {
    let smime_type = if plan.cipher.is_authenticated() { "authEnveloped-data" } else { "enveloped-data" };
    let content_type = format!("application/pkcs7-mime; smime-type={smime_type};\r\n name=\"smime.p7m\"");
    SealedMessage { content_type, body: buffer.into_text() }
}
