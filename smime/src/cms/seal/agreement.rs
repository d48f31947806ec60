//! `KeyAgreeRecipientInfo` (RFC 5652 6.2.2) by ephemeral-static ECDH (RFC 5753 3.1, RFC 8418).

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use const_oid::db::{rfc5912, rfc8410};
use der::Encode;

use super::{RecipientKey, RecipientKeyError, SealError};
use crate::{
    agreement::AgreementCurve,
    ber::Tag,
    cms::{
        attributes::tlv,
        derivation::{Derivation, scheme_for},
        key_wrap,
    },
    key::ContentEncryptionKey,
};

/// The RecipientInfo that gives `key` to one recipient, with an ephemeral key of its own: one for several would
/// tie their infos together and save little.
///
/// There is no ukm: the ephemeral key makes each derived key another. The key is wrapped with AES of its own
/// length, so neither is weaker than the other. Keys of old ciphers that AES Key Wrap does not take (RFC 3394 2)
/// are refused.
pub(super) fn info(
    recipient: &RecipientKey,
    curve: AgreementCurve,
    key: &ContentEncryptionKey,
) -> Result<Vec<u8>, SealError> {
    let kek_len = match key.len() {
        len @ (16 | 24 | 32) => len,
        len => {
            let certificate = recipient.certificate().to_string();
            return Err(RecipientKeyError::KeyLength { certificate, len }.into());
        }
    };
    let scheme = scheme_for(curve);
    let wrap = tlv(Tag::SEQUENCE, &key_wrap::oid(kek_len).to_der()?);
    let ephemeral = PrivateKey::generate(curve.engine()).map_err(|_| SealError::NoRandomness)?;
    let public = ephemeral.compute_public_key().map_err(|_| SealError::NoRandomness)?;
    let peer = UnparsedPublicKey::new(curve.engine(), recipient.certificate().public_key());
    let wrapped = agreement::agree(&ephemeral, peer, (), |secret| {
        let kek = Derivation::of_scheme(scheme).and_then(|kdf| kdf.derive(secret, &wrap, None, kek_len));
        key_wrap::wrap(&kek.ok_or(())?, key).map_err(drop)
    });
    let wrapped = wrapped.map_err(|()| recipient.bad_key())?;

    // OriginatorPublicKey [1]: the curve is the recipient's, so parameters are left out (RFC 5753 3.1.1).
    let algorithm = match curve {
        AgreementCurve::X25519 => rfc8410::ID_X_25519,
        _ => rfc5912::ID_EC_PUBLIC_KEY,
    };
    let point = [&[0], public.as_ref()].concat();
    let originator_key = tlv(
        Tag::context(1),
        &[tlv(Tag::SEQUENCE, &algorithm.to_der()?), tlv(Tag::BIT_STRING, &point)].concat(),
    );
    let rid = match recipient.key_identifier() {
        // RecipientKeyIdentifier [0] { subjectKeyIdentifier }.
        Some(identifier) => tlv(Tag::context(0), &tlv(Tag::OCTET_STRING, &identifier)),
        None => recipient.issuer_and_serial_number()?,
    };
    let encrypted_key = tlv(Tag::SEQUENCE, &[rid, tlv(Tag::OCTET_STRING, &wrapped)].concat());
    let parts = [
        3_u8.to_der()?,
        tlv(Tag::context(0), &originator_key),
        tlv(Tag::SEQUENCE, &[scheme.to_der()?, wrap].concat()),
        tlv(Tag::SEQUENCE, &encrypted_key),
    ];
    Ok(tlv(Tag::context(1), &parts.concat()))
}
