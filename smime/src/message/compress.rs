//! `application/pkcs7-mime` with `smime-type=compressed-data` written (RFC 8551 section 3.6).

use crate::{
    cms,
    mime::{Canonical, encode_base64},
};

/// A message whose body is one CMS object, and the fields that go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedMessage {
    /// The `Content-*` fields, name and value.
    pub fields: Vec<(&'static str, String)>,
    /// The body, with CRLF line ends.
    pub body: Vec<u8>,
}

/// Compresses an entity. Compressed and encrypted, text that others may have chosen tells of the rest by
/// its length: see [`cms::compress`].
pub fn compress(entity: &Canonical) -> Result<CompressedMessage, der::Error> {
    let object = cms::compress(entity.octets())?;
    let mut body = encode_base64(&object);
    if !body.ends_with(b"\r\n") {
        body.extend_from_slice(b"\r\n");
    }
    let fields = vec![
        (
            "Content-Type",
            "application/pkcs7-mime; smime-type=compressed-data;\r\n name=\"smime.p7z\"".to_owned(),
        ),
        ("Content-Transfer-Encoding", "base64".to_owned()),
        ("Content-Disposition", "attachment; filename=\"smime.p7z\"".to_owned()),
    ];
    Ok(CompressedMessage { fields, body })
}
