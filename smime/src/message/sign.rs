//! `multipart/signed` written (RFC 8551 section 3.5.3).

use std::time::SystemTime;

use crate::{
    Certificate,
    cms::{self, SignError},
    key::Signer,
    mime::{Canonical, encode_base64, fresh_boundary},
};

/// A signed message's body and the Content-Type that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedMessage {
    /// The value of the Content-Type field, folded with CRLF.
    pub content_type: String,
    /// The body, with CRLF line ends.
    pub body: Vec<u8>,
}

/// Signs an entity, with the signer's certificate and `chain` in the signature.
pub fn sign(
    entity: &Canonical,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<SignedMessage, SignError> {
    let micalg = signer.algorithms().first().map_or("", |algorithm| algorithm.digest().micalg());
    let object = cms::sign(|algorithm| entity.digest(algorithm), signer, chain, at)?;
    let boundary = fresh_boundary(&[entity.octets()])?;
    let delimiter = format!("\r\n--{boundary}\r\n");
    let signature = encode_base64(&object);

    let mut body = Vec::with_capacity(entity.octets().len() + signature.len() + 512);
    body.extend_from_slice(delimiter.trim_start().as_bytes());
    body.extend_from_slice(entity.octets());
    body.extend_from_slice(delimiter.as_bytes());
    body.extend_from_slice(
        b"Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\
          Content-Transfer-Encoding: base64\r\n\
          Content-Disposition: attachment; filename=\"smime.p7s\"\r\n\
          Content-Description: S/MIME Cryptographic Signature\r\n\r\n",
    );
    body.extend_from_slice(&signature);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Ok(SignedMessage {
        content_type: format!(
            "multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg={micalg}; boundary=\"{boundary}\""
        ),
        body,
    })
}
