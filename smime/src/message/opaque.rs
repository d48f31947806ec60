//! `application/pkcs7-mime` with SignedData written: opaque signatures (RFC 8551 section 3.5.2) and messages
//! that carry certificates only (section 3.8).

use std::time::SystemTime;

use crate::{
    Certificate,
    cms::{self, SignError},
    key::Signer,
    mime::{Base64Buffer, Canonical, LEAD, encode_base64},
};

/// The body of a message whose content is in a `SignedData`, and the fields that go with it. All other
/// `Content-*` fields are inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpaqueMessage {
    /// The value of the Content-Type field, folded with CRLF.
    pub content_type: &'static str,
    /// The value of the Content-Disposition field: old programs go by the file name (RFC 8551 3.2.1).
    pub disposition: &'static str,
    /// The body in base64, with CRLF line ends.
    pub body: Vec<u8>,
}

impl OpaqueMessage {
    /// The value of the Content-Transfer-Encoding field.
    pub const TRANSFER_ENCODING: &'static str = "base64";
}

/// Signs an entity, with the signer's certificate and `chain` in the signature. Only S/MIME programs can show the
/// entity; in return, no transport changes it.
pub fn sign_opaque(
    entity: &Canonical,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<OpaqueMessage, SignError> {
    let frame = cms::frame_of_opaque(entity.octets(), signer, chain, at)?;
    Ok(signed(Base64Buffer::of(&[&frame.head, entity.octets(), &frame.tail])))
}

/// Like [`sign_opaque`], for those who do not need the entity any more: the object is made around it. Of
/// [`Canonical::to_be_enclosed`], that takes no second buffer.
pub fn sign_opaque_in_place(
    entity: Canonical,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<OpaqueMessage, SignError> {
    let frame = cms::frame_of_opaque(entity.octets(), signer, chain, at)?;
    let no_room = || SignError::Encoding(der::ErrorKind::Failed.into());
    let entity_end = frame.head.len() + entity.octets().len();
    let object_len = entity_end + frame.tail.len();
    let around = Base64Buffer::around(entity.into_buffer(), LEAD, object_len, frame.head.len());
    let mut buffer = around.ok_or_else(no_room)?;
    let object = buffer.object();
    object.get_mut(..frame.head.len()).ok_or_else(no_room)?.copy_from_slice(&frame.head);
    object.get_mut(entity_end..).ok_or_else(no_room)?.copy_from_slice(&frame.tail);
    Ok(signed(buffer))
}

fn signed(object: Base64Buffer) -> OpaqueMessage {
    OpaqueMessage {
        content_type: "application/pkcs7-mime; smime-type=signed-data;\r\n name=\"smime.p7m\"",
        disposition: "attachment; filename=\"smime.p7m\"",
        body: object.into_text(),
    }
}

/// A message that carries certificates and says nothing of them.
pub fn certificates_only(certificates: &[Certificate]) -> Result<OpaqueMessage, SignError> {
    Ok(OpaqueMessage {
        content_type: "application/pkcs7-mime; smime-type=certs-only;\r\n name=\"smime.p7c\"",
        disposition: "attachment; filename=\"smime.p7c\"",
        body: encode_base64(&cms::certificates_only(certificates)?),
    })
}
