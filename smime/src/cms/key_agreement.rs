//! `KeyAgreeRecipientInfo` as received (RFC 5652 6.2.2): ephemeral-static ECDH (RFC 5753, RFC 8418).

use const_oid::db::{rfc5912, rfc8410};
use der::asn1::ObjectIdentifier;

use super::{
    CmsError, MAX_RECIPIENTS, OpenError, RecipientIdentifier, derivation::Derivation, key_wrap, recipient,
    signer_info::decode, triple_des_wrap,
};
use crate::{
    Certificate,
    agreement::{Agreed, AgreementCurve, OriginatorPublicKey},
    ber::{BerError, Element, Tag},
    key::Unwrapped,
    question::Question,
};

/// A `KeyAgreeRecipientInfo`: one originator's key, and a wrapped key for each of its recipients.
#[derive(Clone, Debug)]
pub struct KeyAgreement {
    /// The originator's ephemeral key; `None` where it is named by a certificate, which S/MIME never uses.
    originator: Option<OriginatorKey>,
    ukm: Option<Vec<u8>>,
    scheme: ObjectIdentifier,
    /// KeyWrapAlgorithm in the octets received.
    wrap: Vec<u8>,
    wrap_oid: ObjectIdentifier,
    keys: Vec<(RecipientIdentifier, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct OriginatorKey {
    algorithm: ObjectIdentifier,
    octets: Vec<u8>,
}

impl KeyAgreement {
    /// Reads the `[1]` of a RecipientInfo.
    pub(super) fn read(element: Element<'_, '_>) -> Result<Self, CmsError> {
        let mut fields = element.children();
        fields.required("version")?.expect(Tag::INTEGER, "version")?;
        let originator = single(fields.required("originator")?.expect(Tag::context(0), "originator [0]")?)?;
        let originator = match originator.tag() {
            ORIGINATOR_KEY => Some(OriginatorKey::read(originator)?),
            _ => None,
        };
        let ukm = match fields.optional_context(1) {
            Some(explicit) => Some(single(explicit)?.octet_string()?.concat()),
            None => None,
        };
        let algorithm = fields.required("keyEncryptionAlgorithm")?;
        let mut parts = algorithm.expect(Tag::SEQUENCE, "keyEncryptionAlgorithm")?.children();
        let scheme = parts.required("algorithm")?.object_identifier()?;
        let wrap = parts.required("KeyWrapAlgorithm")?.expect(Tag::SEQUENCE, "KeyWrapAlgorithm")?;
        parts.end()?;
        let wrap_oid = wrap.children().required("algorithm")?.object_identifier()?;
        let keys = fields.required("recipientEncryptedKeys")?;
        let keys = keys.expect(Tag::SEQUENCE, "recipientEncryptedKeys")?;
        fields.end()?;
        if keys.children().count() > MAX_RECIPIENTS {
            return Err(CmsError::TooMany { part: "recipients", limit: MAX_RECIPIENTS });
        }
        let keys = keys.children().map(read_encrypted_key).collect::<Result<_, _>>()?;
        Ok(Self { originator, ukm, scheme, wrap: wrap.to_der()?, wrap_oid, keys })
    }

    /// The wrapped keys whose `rid` is exactly that of `certificate`: one, in honest messages.
    pub(super) fn encrypted_keys_for(&self, certificate: &Certificate) -> impl Iterator<Item = &[u8]> {
        let is_named = |(rid, _): &&(RecipientIdentifier, _)| recipient::names(rid, certificate);
        self.keys.iter().filter(is_named).map(|(_, key)| key.as_slice())
    }

    /// For each key whether it stays when those of these certificates go.
    pub(super) fn keys_without(&self, gone: &[&Certificate]) -> impl Iterator<Item = bool> {
        self.keys.iter().map(|(rid, _)| !gone.iter().any(|certificate| recipient::names(rid, certificate)))
    }

    /// The names of the recipients' certificates.
    pub fn identifiers(&self) -> impl Iterator<Item = &RecipientIdentifier> {
        self.keys.iter().map(|(rid, _)| rid)
    }

    /// The key-agreement scheme, which names the key derivation too.
    pub fn scheme(&self) -> ObjectIdentifier {
        self.scheme
    }

    /// What to ask the private key of `certificate`: one agreement. `None` where the originator's key is none for it.
    pub(super) fn question(&self, certificate: &Certificate) -> Result<Option<Question>, OpenError> {
        self.derivation()?;
        self.kek_len()?;
        Ok(self.originator_for(certificate).map(|originator| Question::Agree { originator }))
    }

    /// Unwraps a key of this info with what was agreed: derivation and key unwrap, which need no private key. A bad
    /// point and a bad wrapped key are both [`Unwrapped::Rejected`] (RFC 3218).
    pub(super) fn unwrapped(&self, encrypted_key: &[u8], agreed: &Agreed) -> Result<Unwrapped, OpenError> {
        let Agreed::Secret(secret) = agreed else { return Ok(Unwrapped::Rejected) };
        let kek =
            self.derivation()?.derive(secret.expose(), &self.wrap, self.ukm.as_deref(), self.kek_len()?);
        let unwrap = if self.is_triple_des() { triple_des_wrap::unwrap } else { key_wrap::unwrap };
        let key = kek.and_then(|kek| unwrap(&kek, encrypted_key).ok());
        Ok(key.map_or(Unwrapped::Rejected, Unwrapped::Key))
    }

    fn derivation(&self) -> Result<Derivation, OpenError> {
        Derivation::of_scheme(self.scheme)
            .ok_or(OpenError::Unsupported { what: "key-agreement", oid: self.scheme })
    }

    fn kek_len(&self) -> Result<usize, OpenError> {
        key_wrap::kek_len(self.wrap_oid)
            .or(self.is_triple_des().then_some(triple_des_wrap::KEY_LEN))
            .ok_or(OpenError::Unsupported { what: "key-wrap", oid: self.wrap_oid })
    }

    fn is_triple_des(&self) -> bool {
        self.wrap_oid == triple_des_wrap::OID
    }

    /// The originator's key if it is one for the recipient's curve. The identifier's parameters are not looked
    /// at: a point that is on the recipient's curve is of that curve.
    fn originator_for(&self, certificate: &Certificate) -> Option<OriginatorPublicKey> {
        let curve = AgreementCurve::of(certificate)?;
        let originator = self.originator.as_ref()?;
        let algorithm = match curve {
            AgreementCurve::X25519 => rfc8410::ID_X_25519,
            _ => rfc5912::ID_EC_PUBLIC_KEY,
        };
        if originator.algorithm != algorithm {
            return None;
        }
        OriginatorPublicKey::new(curve, &originator.octets)
    }
}

impl OriginatorKey {
    /// `OriginatorPublicKey { algorithm, publicKey }` under its implicit tag.
    fn read(element: Element<'_, '_>) -> Result<Self, CmsError> {
        let mut fields = element.children();
        let algorithm = fields.required("algorithm")?.expect(Tag::SEQUENCE, "algorithm")?;
        let algorithm = algorithm.children().required("algorithm")?.object_identifier()?;
        let key = fields.required("publicKey")?.expect(Tag::BIT_STRING, "publicKey")?;
        fields.end()?;
        match key.content() {
            [0, octets @ ..] => Ok(Self { algorithm, octets: octets.to_vec() }),
            _ => Err(key.unexpected("a BIT STRING of whole octets").into()),
        }
    }
}

/// `RecipientEncryptedKey { rid, encryptedKey }`.
fn read_encrypted_key(element: Element<'_, '_>) -> Result<(RecipientIdentifier, Vec<u8>), CmsError> {
    let mut fields = element.expect(Tag::SEQUENCE, "RecipientEncryptedKey")?.children();
    let rid = fields.required("rid")?;
    let rid = match rid.tag() {
        Tag::SEQUENCE => RecipientIdentifier::IssuerAndSerialNumber(decode(rid, "rid")?),
        // RecipientKeyIdentifier; a date or other attributes beside the identifier say nothing.
        R_KEY_ID => {
            let identifier = rid.children().required("subjectKeyIdentifier")?;
            RecipientIdentifier::SubjectKeyIdentifier(decode(identifier, "subjectKeyIdentifier")?)
        }
        _ => return Err(rid.unexpected("a recipient identifier").into()),
    };
    let key = fields.required("encryptedKey")?.octet_string()?.concat();
    fields.end()?;
    Ok((rid, key))
}

/// The one element inside an explicit tag.
fn single<'t, 'a>(explicit: Element<'t, 'a>) -> Result<Element<'t, 'a>, BerError> {
    let mut inner = explicit.children();
    let element = inner.required("an element")?;
    inner.end()?;
    Ok(element)
}

/// `originatorKey [1]`.
const ORIGINATOR_KEY: Tag = Tag::context(1);
/// `rKeyId [0]`.
const R_KEY_ID: Tag = Tag::context(0);
