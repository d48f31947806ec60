//! `application/pkcs7-mime` with `smime-type=compressed-data` written (RFC 8551 section 3.6).

use crate::{
    cms,
    mime::{Canonical, encode_base64},
};

/// A compressed message's body, and the fields that go with it. All other `Content-*` fields are inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedMessage {
    /// The value of the Content-Type field, folded with CRLF.
    pub content_type: &'static str,
    /// The body in base64, with CRLF line ends.
    pub body: Vec<u8>,
}

impl CompressedMessage {
    /// The value of the Content-Transfer-Encoding field.
    pub const TRANSFER_ENCODING: &'static str = "base64";
    /// The value of the Content-Disposition field (RFC 8551 3.2.1).
    pub const DISPOSITION: &'static str = "attachment; filename=\"smime.p7z\"";
}

/// Compresses an entity. Compressed and encrypted, text that others may have chosen tells of the rest by
/// its length: see [`cms::compress`].
pub fn compress(entity: &Canonical) -> Result<CompressedMessage, der::Error> {
    let object = cms::compress(entity.octets())?;
    Ok(CompressedMessage {
        content_type: "application/pkcs7-mime; smime-type=compressed-data;\r\n name=\"smime.p7z\"",
        body: encode_base64(&object),
    })
}
