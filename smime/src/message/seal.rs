//! Encrypted messages written: `application/pkcs7-mime` (RFC 8551 sections 3.2 and 3.3).
//!
//! The content is encrypted into the buffer in which it leaves; beside it there is no copy.

use super::SignedMessage;
use crate::{
    cms::{SealError, SealLayout},
    mime::{Base64Buffer, Canonical},
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

fn seal_segments(content: &[&[u8]], plan: &SealPlan) -> Result<SealedMessage, SealError> {
    let layout = SealLayout::new(content, plan.cipher, &plan.recipients)?;
    let mut buffer = Base64Buffer::new(layout.len());
    layout.write(buffer.object())?;
    let smime_type = if plan.cipher.is_authenticated() { "authEnveloped-data" } else { "enveloped-data" };
    let content_type = format!("application/pkcs7-mime; smime-type={smime_type};\r\n name=\"smime.p7m\"");
    Ok(SealedMessage { content_type, body: buffer.into_text() })
}
