//! `multipart/signed` written (RFC 8551 section 3.5.3).

use std::time::SystemTime;

use crate::{
    Certificate,
    cms::{self, SignError},
    key::{Digest, Signer},
    mime::{Canonical, LEAD, encode_base64, fresh_boundary},
    question::{Answer, Question},
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
    let boundary = fresh_boundary(&[entity.octets()])?;
    let mut body = Vec::with_capacity(LEAD + entity.octets().len() + SIGNATURE_ROOM);
    body.resize(LEAD, 0);
    // Copied piece by piece and hashed as long as each piece is in the processor's cache.
    let pieces = entity.octets().chunks(PIECE).inspect(|piece| body.extend_from_slice(piece));
    let object = cms::sign(|algorithm| Digest::of_segments(algorithm, pieces), signer, chain, at)?;
    Ok(finish(body, &boundary, &object, micalg(signer)))
}

/// Like [`sign`], for those who do not need the entity any more: the message is made around it, without a copy.
pub fn sign_in_place(
    entity: Canonical,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<SignedMessage, SignError> {
    let unsigned = UnsignedMessage::of(entity, signer, chain, at)?;
    let answer = unsigned.question().ask_signer(signer)?;
    unsigned.signed(answer)
}

/// A message that lacks its signature, between the two halves of [`sign_in_place`].
#[derive(Debug)]
pub struct UnsignedMessage {
    /// The entity, with room before it.
    body: Vec<u8>,
    boundary: String,
    micalg: &'static str,
    object: cms::Unsigned,
}

impl UnsignedMessage {
    /// The first half of [`sign_in_place`]: all but the use of the key.
    pub fn of(
        entity: Canonical,
        signer: &dyn Signer,
        chain: &[Certificate],
        at: SystemTime,
    ) -> Result<Self, SignError> {
        let boundary = fresh_boundary(&[entity.octets()])?;
        let object = cms::Unsigned::of(|algorithm| entity.digest(algorithm), signer, chain, at)?;
        Ok(Self { body: entity.into_buffer(), boundary, micalg: micalg(signer), object })
    }

    /// What to ask the signer.
    pub fn question(&self) -> Question {
        self.object.question()
    }

    /// The second half of [`sign_in_place`].
    pub fn signed(self, answer: Answer) -> Result<SignedMessage, SignError> {
        let object = self.object.signed(answer)?;
        Ok(finish(self.body, &self.boundary, &object, self.micalg))
    }
}

fn micalg(signer: &dyn Signer) -> &'static str {
    signer.algorithms().first().map_or("", |algorithm| algorithm.digest().micalg())
}

/// Puts the first delimiter into the room before the entity, and the rest behind it.
fn finish(mut body: Vec<u8>, boundary: &str, object: &[u8], micalg: &str) -> SignedMessage {
    let first = format!("--{boundary}\r\n");
    let signature = encode_base64(object);
    for (to, from) in body.iter_mut().zip(first.as_bytes()) {
        *to = *from;
    }
    body.reserve_exact(signature.len() + 512);
    body.extend_from_slice(format!("\r\n{first}").as_bytes());
    body.extend_from_slice(
        b"Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\
          Content-Transfer-Encoding: base64\r\n\
          Content-Disposition: attachment; filename=\"smime.p7s\"\r\n\
          Content-Description: S/MIME Cryptographic Signature\r\n\r\n",
    );
    body.extend_from_slice(&signature);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    SignedMessage {
        content_type: format!(
            "multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg={micalg}; boundary=\"{boundary}\""
        ),
        body,
    }
}

/// Octets that are hashed and copied in one go.
const PIECE: usize = 32 << 10;

/// What a message takes beside its content: with long chains somewhat more, which costs a copy but breaks nothing.
const SIGNATURE_ROOM: usize = 8 << 10;
