//! Stored mail encrypted, encrypted again, or to others (RFC 8551 3.3, RFC 5652 6).

use smime::{
    Certificate,
    cms::{self, EnvelopedData, Keep, Object, Proof, RecipientKey},
    message::{self, Ciphertext, SealedMessage, Wrapped},
    mime::{Canonical, Claimed, Crypto, Message, MimeEntity, encode_base64, is_smime_or_pgp},
    profile::{Correspondent, Profile, SealPlan, plan},
};
use std::time::SystemTime;

use super::{ArchiveError, Treated};
use crate::{Agent, Edits, Identity, sending::content_fields};

impl Agent {
    /// Encrypts a message for the owners of these certificates. What is encrypted already, also by PGP, stays
    /// as it is; what is signed is encrypted with its signature.
    pub fn encrypt_stored(
        message: &Message,
        recipients: &[Certificate],
        profile: &Profile,
    ) -> Result<Treated, ArchiveError> {
        let entity = message.entity();
        if Ciphertext::find(&entity).is_some() {
            return Ok(Treated::kept("it is encrypted already"));
        }
        if matches!(is_smime_or_pgp(&entity), Some(Crypto::Pgp | Crypto::SmimeOther)) {
            return Ok(Treated::kept("it is S/MIME of another kind, or PGP"));
        }
        let plan = plan_for(recipients, profile)?;
        let sealed = message::seal(&Canonical::from_entity(&entity)?, &plan)?;
        Ok(Treated {
            edits: sealed_fields(&entity, sealed),
            action: "encrypted",
            reason: plan.cipher.name().to_owned(),
            verdict: None,
            key: None,
        })
    }

    /// Opens a message and encrypts the same content, octet by octet, for the owners of these certificates with
    /// today's algorithms. A signature around the ciphertext goes with it; what it was worth is in the result.
    pub fn reencrypt_stored(
        &self,
        message: &Message,
        recipients: &[Certificate],
        profile: &Profile,
        at: SystemTime,
    ) -> Result<Treated, ArchiveError> {
        let entity = message.entity();
        let Some(ciphertext) = find(&entity)? else { return Ok(Treated::kept("it is not encrypted")) };
        let verdict = ciphertext.is_signed.then(|| {
            let sender = Claimed::of(&entity, self.receiving().sender_rule);
            message::verify(&entity, sender, self.trust(), at).0
        });
        let plan = plan_for(recipients, profile)?;
        let Object::EnvelopedData(enveloped) = Object::parse(&ciphertext.object)? else {
            return Ok(Treated::kept("it is not encrypted"));
        };
        let old = enveloped.algorithm()?;
        let (content, identity) = self.with_our_key(&enveloped, |identity| {
            let key = enveloped.recipient_for(identity.certificate()).ok_or(ArchiveError::NotOurs)?;
            Ok(enveloped.open(key, identity.decryptor())?)
        })?;
        let sealed = message::seal_content(&content, &plan)?;
        Ok(Treated {
            edits: sealed_fields(&entity, sealed),
            action: "encrypted anew",
            reason: format!("{}, before {}", plan.cipher.name(), old.name()),
            verdict,
            key: Some(identity.certificate().clone()),
        })
    }

    /// Gives the content-encryption key of a message to others, with one use of a private key. The encrypted
    /// content is not touched; so a ciphertext within a signature stays as it is, and is named.
    pub fn rekey_stored(
        &self,
        message: &Message,
        recipients: &[Certificate],
        profile: &Profile,
        keep: Keep,
        proof: Proof,
    ) -> Result<Treated, ArchiveError> {
        let entity = message.entity();
        let Some(Wrapped::Opaque(object)) = Wrapped::read(&entity)? else {
            return not_at_the_root(&entity);
        };
        let Object::EnvelopedData(enveloped) = Object::parse(&object)? else {
            return not_at_the_root(&entity);
        };
        let has = |recipient: &Certificate| enveloped.recipient_for(recipient).is_some();
        if keep == Keep::All && recipients.iter().all(has) {
            return Ok(Treated::kept("it is encrypted to all of them already"));
        }
        let keys = recipient_keys(recipients, profile)?;
        let (rekeyed, identity) = self.with_our_key(&enveloped, |identity| {
            Ok(cms::rekey(&object, identity.decryptor(), &keys, keep, proof)?)
        })?;
        let mut edits = Edits { body: Some(encode_base64(&rekeyed)), ..Edits::default() };
        let encoding = entity.header().all("Content-Transfer-Encoding").next();
        if !encoding.is_some_and(|field| field.unfolded().trim().eq_ignore_ascii_case("base64")) {
            let fields = content_fields(&entity).into_iter();
            edits.remove =
                fields.filter(|field| field.name.eq_ignore_ascii_case(TRANSFER_ENCODING)).collect();
            edits.append.push((TRANSFER_ENCODING.to_owned(), SealedMessage::TRANSFER_ENCODING.to_owned()));
        }
        Ok(Treated {
            edits,
            action: "rekeyed",
            reason: format!("to {} recipients", recipients.len()),
            verdict: None,
            key: Some(identity.certificate().clone()),
        })
    }

    /// Does something with the first key of ours that a message is encrypted to. Where no token has it, with the
    /// next one.
    fn with_our_key<T>(
        &self,
        enveloped: &EnvelopedData<'_>,
        mut work: impl FnMut(&Identity) -> Result<T, ArchiveError>,
    ) -> Result<(T, &Identity), ArchiveError> {
        let mut missing = ArchiveError::NotOurs;
        let named = |identity: &&Identity| enveloped.recipient_for(identity.certificate()).is_some();
        for identity in self.identities().iter().filter(named) {
            match work(identity) {
                Err(error) if error.is_missing_key() => missing = error,
                result => return Ok((result?, identity)),
            }
        }
        Err(missing)
    }
}

const TRANSFER_ENCODING: &str = "Content-Transfer-Encoding";

/// The ciphertext of a message. What says that it is S/MIME and cannot be read is an error, and not "not encrypted".
fn find(entity: &MimeEntity<'_>) -> Result<Option<Ciphertext>, ArchiveError> {
    let found = Ciphertext::find(entity);
    if found.is_none()
        && let Some(Wrapped::Opaque(object)) = Wrapped::read(entity)?
    {
        Object::parse(&object)?;
    }
    Ok(found)
}

fn not_at_the_root(entity: &MimeEntity<'_>) -> Result<Treated, ArchiveError> {
    match find(entity)? {
        Some(_) => Err(ArchiveError::SignedCiphertext),
        None => Ok(Treated::kept("it is not encrypted")),
    }
}

/// How each gets the key. They need no cipher in common: the content stays as it is.
fn recipient_keys(recipients: &[Certificate], profile: &Profile) -> Result<Vec<RecipientKey>, ArchiveError> {
    let mut keys = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        keys.extend(plan_for(std::slice::from_ref(recipient), profile)?.recipients);
    }
    Ok(keys)
}

fn plan_for(recipients: &[Certificate], profile: &Profile) -> Result<SealPlan, ArchiveError> {
    let correspondents: Vec<_> = recipients
        .iter()
        .map(|certificate| Correspondent { certificate, capabilities: None, profile })
        .collect();
    Ok(plan(&correspondents)?)
}

/// The edits that put encrypted content in a message's place.
fn sealed_fields(entity: &MimeEntity<'_>, sealed: SealedMessage) -> Edits {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Edits {
        remove: content_fields(entity),
        append: vec![
            field("MIME-Version", "1.0"),
            ("Content-Type".to_owned(), sealed.content_type),
            field(TRANSFER_ENCODING, SealedMessage::TRANSFER_ENCODING),
            field("Content-Disposition", SealedMessage::DISPOSITION),
        ],
        body: Some(sealed.body),
        ..Edits::default()
    }
}
