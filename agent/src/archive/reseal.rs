//! Stored mail encrypted, encrypted again, or to others (RFC 8551 3.3, RFC 5652 6).

use smime::{
    Certificate,
    cms::{
        self, EncryptedKey, EnvelopedData, Keep, Object, OpenError, Proof, RecipientKey, RekeyError, Rekeyed,
    },
    key::KeyError,
    message::{self, Ciphertext, SealedMessage, Verdict, Wrapped},
    mime::{Canonical, Claimed, Message, MimeEntity},
    profile::{Profile, SealPlan},
    question::{Answer, Question},
};
use std::{sync::Arc, time::SystemTime};

use super::{ArchiveError, NewObject, Treated, Treating, kept};
use crate::{
    Agent, Edits, Identity, Turn,
    policy::Secrecy,
    recipients::{Recipient, seal_plan},
    sending::content_fields,
};

impl Agent {
    /// Encrypts a message for these recipients. What only its recipients can read already, also by PGP,
    /// stays as it is; what is signed is encrypted with its signature. A mere claim is an error: whoever asks for
    /// this must not take for encrypted what anybody can read.
    pub fn encrypt_stored(
        message: &Message,
        recipients: &[Recipient],
        profile: &Profile,
    ) -> Result<Treated, ArchiveError> {
        let entity = message.entity();
        match Secrecy::of(&entity) {
            Secrecy::Ciphertext => return Ok(Treated::kept("it is encrypted already")),
            Secrecy::Doubtful => return Err(ArchiveError::DoubtfulProtection),
            Secrecy::Open => {}
        }
        let plan = seal_plan(recipients, profile)?;
        let sealed = message::seal(&Canonical::from_entity(&entity)?, &plan)?;
        Ok(Treated {
            edits: sealed_fields(&entity, sealed),
            object: None,
            action: "encrypted",
            reason: plan.cipher.name().to_owned(),
            verdict: None,
            key: None,
        })
    }

    /// Opens a message and encrypts the same content, octet by octet, for these recipients with today's
    /// algorithms. A signature around the ciphertext goes with it; what it was worth is in the result.
    pub fn reencrypt_stored(
        &self,
        message: &Message,
        recipients: &[Recipient],
        profile: &Profile,
        at: SystemTime,
    ) -> Treating<'_> {
        Turn::of(self.begin_to_reencrypt(message, recipients, profile, at))
    }

    fn begin_to_reencrypt(
        &self,
        message: &Message,
        recipients: &[Recipient],
        profile: &Profile,
        at: SystemTime,
    ) -> Result<Treating<'_>, ArchiveError> {
        let entity = message.entity();
        let Some(ciphertext) = find(&entity)? else { return Ok(kept("it is not encrypted")) };
        let verdict = ciphertext.is_signed.then(|| {
            let sender = Claimed::of(&entity, self.receiving().sender_rule);
            message::verify(&entity, sender, self.trust(), at).0
        });
        let plan = seal_plan(recipients, profile)?;
        let Object::EnvelopedData(enveloped) = Object::parse(&ciphertext.object)? else {
            return Ok(kept("it is not encrypted"));
        };
        let old = enveloped.algorithm()?.name();
        Ok(self.with_our_key(message, Arc::new(ciphertext.object), 0, Reencrypting { plan, old, verdict }))
    }

    /// Gives the content-encryption key of a message to others, with one use of a private key. The encrypted
    /// content is not touched; so a ciphertext within a signature stays as it is, and is named.
    pub fn rekey_stored(&self, message: &Message, exchange: &Exchange<'_>) -> Treating<'_> {
        Turn::of(rekeyable(&message.entity()).and_then(|object| match object {
            Some(object) => self.begin_to_rekey(message, Arc::new(object), exchange),
            None => not_at_the_root(&message.entity()),
        }))
    }

    /// The same where the object is decoded already: of the message no more than the header is looked at.
    pub fn rekey_object(
        &self,
        message: &Message,
        object: Arc<Vec<u8>>,
        exchange: &Exchange<'_>,
    ) -> Treating<'_> {
        Turn::of(self.begin_to_rekey(message, object, exchange))
    }

    fn begin_to_rekey(
        &self,
        message: &Message,
        object: Arc<Vec<u8>>,
        exchange: &Exchange<'_>,
    ) -> Result<Treating<'_>, ArchiveError> {
        let Exchange { recipients, profile, keep, proof } = *exchange;
        let Object::EnvelopedData(enveloped) = Object::parse(&object)? else {
            return not_at_the_root(&message.entity());
        };
        let has = |recipient: &Recipient| enveloped.recipient_for(&recipient.certificate).is_some();
        if keep == Keep::All && recipients.iter().all(has) {
            return Ok(kept("it is encrypted to all of them already"));
        }
        let keys = recipient_keys(recipients, profile)?;
        Ok(self.with_our_key(message, object, 0, Rekeying { keys, keep, proof }))
    }

    /// Does something with the first key of ours that an object is encrypted to, from that place among the identities
    /// on. Where no token has it, with the next one.
    fn with_our_key<'a>(
        &'a self,
        message: &Message,
        object: Arc<Vec<u8>>,
        from: usize,
        work: impl WithKey + 'a,
    ) -> Treating<'a> {
        let named = {
            let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&object) else {
                return kept("it is not encrypted");
            };
            let is_named = |identity: &Identity| enveloped.recipient_for(identity.certificate()).is_some();
            let mut rest = self.identities().iter().enumerate().skip(from);
            let named = rest.find(|(_, identity)| is_named(identity));
            named.map(|(place, identity)| (place, identity, rest.any(|(_, identity)| is_named(identity))))
        };
        let Some((place, identity, are_more)) = named else { return Turn::Done(Err(ArchiveError::NotOurs)) };
        let locked = Locked { object, identity };
        let question = match work.question(&locked) {
            Ok(Some(question)) => question,
            Ok(None) => return Turn::Done(work.answered(message, &locked, Ok(None))),
            Err(error) => return Turn::Done(Err(error)),
        };
        Turn::asking(identity, question, move |message, answer| match answer {
            Err(KeyError::NoSuchKey { .. }) if are_more => {
                self.with_our_key(message, locked.object, place + 1, work)
            }
            answer => Turn::Done(work.answered(message, &locked, answer.map(Some))),
        })
    }
}

/// Who gets the key of what is encrypted.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// These people,
    pub recipients: &'a [Recipient],
    /// by these algorithms.
    pub profile: &'a Profile,
    /// What becomes of the recipients that are there.
    pub keep: Keep,
    /// How sure to be of the key.
    pub proof: Proof,
}

/// An object, and whose key opens it.
struct Locked<'a> {
    object: Arc<Vec<u8>>,
    identity: &'a Identity,
}

impl Locked<'_> {
    fn enveloped(&self) -> Result<EnvelopedData<'_>, ArchiveError> {
        match Object::parse(&self.object)? {
            Object::EnvelopedData(enveloped) => Ok(enveloped),
            _ => Err(OpenError::Undecryptable.into()),
        }
    }

    fn key<'e>(&self, enveloped: &'e EnvelopedData<'_>) -> Result<EncryptedKey<'e>, ArchiveError> {
        enveloped.recipient_for(self.certificate()).ok_or(ArchiveError::NotOurs)
    }

    fn certificate(&self) -> &Certificate {
        self.identity.certificate()
    }
}

type Answered = Result<Option<Answer>, KeyError>;

/// What is done with a key that an object is encrypted to, in two halves.
trait WithKey: Send {
    /// What to ask the key; `None` if nothing.
    fn question(&self, locked: &Locked<'_>) -> Result<Option<Question>, ArchiveError>;

    /// The rest, by its answer.
    fn answered(self, message: &Message, locked: &Locked<'_>, by: Answered) -> Result<Treated, ArchiveError>;
}

/// See [`Agent::reencrypt_stored`].
struct Reencrypting {
    plan: SealPlan,
    /// The cipher's name.
    old: &'static str,
    verdict: Option<Verdict>,
}

impl WithKey for Reencrypting {
    fn question(&self, locked: &Locked<'_>) -> Result<Option<Question>, ArchiveError> {
        let enveloped = locked.enveloped()?;
        Ok(enveloped.question(locked.key(&enveloped)?, locked.certificate())?)
    }

    fn answered(self, message: &Message, locked: &Locked<'_>, by: Answered) -> Result<Treated, ArchiveError> {
        let Self { plan, old, verdict } = self;
        let enveloped = locked.enveloped()?;
        let content = enveloped.open_with(locked.key(&enveloped)?, by.map_err(OpenError::from)?)?;
        let sealed = message::seal_content(&content, &plan)?;
        Ok(Treated {
            edits: sealed_fields(&message.entity(), sealed),
            object: None,
            action: "encrypted anew",
            reason: format!("{}, before {old}", plan.cipher.name()),
            verdict,
            key: Some(locked.certificate().clone()),
        })
    }
}

/// See [`Agent::rekey_stored`].
struct Rekeying {
    keys: Vec<RecipientKey>,
    keep: Keep,
    proof: Proof,
}

impl WithKey for Rekeying {
    fn question(&self, locked: &Locked<'_>) -> Result<Option<Question>, ArchiveError> {
        Ok(cms::rekey_question(&locked.object, locked.certificate())?)
    }

    fn answered(self, message: &Message, locked: &Locked<'_>, by: Answered) -> Result<Treated, ArchiveError> {
        let Self { keys, keep, proof } = self;
        let answer = by.map_err(|error| RekeyError::Open(error.into()))?;
        let (object, certificate) = (&locked.object, locked.certificate());
        let Rekeyed { head, rest } = cms::rekey_in_parts(object, certificate, answer, &keys, keep, proof)?;
        let entity = message.entity();
        let mut edits = Edits::default();
        let encoding = entity.header().all("Content-Transfer-Encoding").next();
        if !encoding.is_some_and(|field| field.unfolded().trim().eq_ignore_ascii_case("base64")) {
            let fields = content_fields(&entity).into_iter();
            edits.remove =
                fields.filter(|field| field.name.eq_ignore_ascii_case(TRANSFER_ENCODING)).collect();
            edits.append.push((TRANSFER_ENCODING.to_owned(), SealedMessage::TRANSFER_ENCODING.to_owned()));
        }
        Ok(Treated {
            edits,
            object: Some(NewObject { head, old: Arc::clone(object), rest }),
            action: "rekeyed",
            reason: format!("to {} recipients", keys.len()),
            verdict: None,
            key: Some(locked.certificate().clone()),
        })
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

/// The CMS object that is the root of a message, if there is one.
fn rekeyable(entity: &MimeEntity<'_>) -> Result<Option<Vec<u8>>, ArchiveError> {
    Ok(match Wrapped::read(entity)? {
        Some(Wrapped::Opaque(object)) => Some(object),
        _ => None,
    })
}

fn not_at_the_root<'a>(entity: &MimeEntity<'_>) -> Result<Treating<'a>, ArchiveError> {
    match find(entity)? {
        Some(_) => Err(ArchiveError::SignedCiphertext),
        None => Ok(kept("it is not encrypted")),
    }
}

/// How each gets the key. They need no cipher in common: the content stays as it is.
fn recipient_keys(recipients: &[Recipient], profile: &Profile) -> Result<Vec<RecipientKey>, ArchiveError> {
    let mut keys = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        keys.extend(seal_plan(std::slice::from_ref(recipient), profile)?.recipients);
    }
    Ok(keys)
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
