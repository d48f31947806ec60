//! The agents on stored mail, where there is no envelope: whoever runs this owns the archive.
//!
//! Here a message is signed and verified; it is signed anew in `resign.rs`, and its encryption changed in
//! `reseal.rs`.

mod reseal;
mod resign;

pub use reseal::Exchange;

use std::{ops::Range, sync::Arc, time::SystemTime};

use smime::{
    Certificate, Fault, MailAddress,
    cms::{CmsError, OpenError, RekeyError, SealError, SignError},
    message::{AuthResult, Signature, UnsignedMessage, Verdict, WrappedError},
    mime::{CanonicalError, Message, MimeEntity, is_smime_or_pgp, single_originator},
    path::Budget,
    profile::PlanError,
};

use crate::{
    Agent, AgentError, Edits, Identity, Turn,
    sending::{self, signed_fields},
};

/// What was done with a stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Treated {
    /// The edits that make it so.
    pub edits: Edits,
    /// The object that is, in base64, the new body, in place of one in the edits.
    pub object: Option<NewObject>,
    /// What was done, in a word.
    pub action: &'static str,
    /// Why, in words, where the action alone does not say it.
    pub reason: String,
    /// What its signature is worth, or was before it was replaced.
    pub verdict: Option<Verdict>,
    /// Whose private key was used.
    pub key: Option<Certificate>,
}

impl Treated {
    /// A message that stays as it is.
    fn kept(reason: impl Into<String>) -> Self {
        let edits = Edits::default();
        Self { edits, object: None, action: "kept", reason: reason.into(), verdict: None, key: None }
    }
}

/// A CMS object of which the end is that of another, which is not copied for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// How it begins.
    pub head: Vec<u8>,
    /// The other object,
    pub old: Arc<Vec<u8>>,
    /// and what of it is the end.
    pub rest: Range<usize>,
}

impl NewObject {
    /// The object in two pieces.
    pub fn segments(&self) -> [&[u8]; 2] {
        [&self.head, self.old.get(self.rest.clone()).unwrap_or_default()]
    }
}

/// Why a stored message was left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// An agent could not do it.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// What says that it is S/MIME cannot be read.
    #[error("it cannot be read: {0}")]
    Form(#[from] WrappedError),
    /// The CMS object cannot be read.
    #[error("it cannot be read: {0}")]
    Object(#[from] CmsError),
    /// No identity is among the recipients.
    #[error("no key here is among its recipients")]
    NotOurs,
    /// It could not be opened.
    #[error("not opened: {0}")]
    Open(#[from] OpenError),
    /// The RecipientInfos could not be exchanged.
    #[error("not rekeyed: {0}")]
    Rekey(#[from] RekeyError),
    /// A signature covers the ciphertext.
    #[error("a signature covers the ciphertext and would not hold any more; reencrypt takes it away")]
    SignedCiphertext,
    /// It says that it is signed or encrypted, and is not.
    #[error(
        "not encrypted: it says that it is protected already, and is not in a form that everybody reads alike"
    )]
    DoubtfulProtection,
    /// It cannot be brought into the form that is encrypted.
    #[error("not encrypted: {0}")]
    Canonical(#[from] CanonicalError),
    /// There is no way to encrypt to these recipients.
    #[error("not encrypted: {0}")]
    Plan(#[from] PlanError),
    /// Encrypting failed.
    #[error("not encrypted: {0}")]
    Seal(#[from] SealError),
    /// A signature that is not good must not be replaced by one that is.
    #[error("not signed anew: the old signature is worth {}: {}", .0.result().as_str(), .0.reason())]
    OldSignature(Box<Verdict>),
    /// Others signed it too.
    #[error("not signed anew: {0} signers signed it, and only one would be left")]
    SeveralSigners(usize),
    /// What was signed would not survive transport outside of its object.
    #[error("not signed anew: what was signed is binary and would not survive transport")]
    NotTransportSafe,
}

impl ArchiveError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Agent(error) => error.fault(),
            Self::Form(_) | Self::Object(_) | Self::NotTransportSafe | Self::DoubtfulProtection => {
                Fault::Message
            }
            // Whoever destroys a key because a run was content must have been told.
            Self::NotOurs => Fault::Operator,
            Self::Open(error) => error.fault(),
            Self::Rekey(error) => error.fault(),
            Self::SignedCiphertext | Self::SeveralSigners(_) => Fault::Policy,
            Self::Canonical(error) => error.fault(),
            Self::Plan(error) => error.fault(),
            Self::Seal(error) => error.fault(),
            Self::OldSignature(verdict) => match verdict.result() {
                AuthResult::TempError => Fault::Operator,
                AuthResult::Policy => Fault::Policy,
                _ => Fault::Message,
            },
        }
    }

    /// What the signature is worth, if that is the reason.
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::OldSignature(verdict) => Some(verdict),
            _ => None,
        }
    }
}

/// At which time certificates must have been valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// At this one.
    Time(SystemTime),
    /// When the signer says that it signed; where it does not say so, or a time to come, at this one. Whoever
    /// has an expired key can write any time.
    SigningTime(SystemTime),
}

/// Treats a message, turn by turn.
pub type Treating<'a> = Turn<'a, Result<Treated, ArchiveError>>;

/// A message that stays as it is.
fn kept<'a>(reason: impl Into<String>) -> Treating<'a> {
    Turn::Done(Ok(Treated::kept(reason)))
}

/// Asks for the signature that a message lacks, and puts it together.
fn signing<'a>(
    identity: &'a Identity,
    unsigned: UnsignedMessage,
    action: &'static str,
    reason: String,
    verdict: Option<Verdict>,
) -> Treating<'a> {
    Turn::asking(identity, unsigned.question(), move |message, answer| {
        let signed = answer.map_err(SignError::from).and_then(|answer| unsigned.signed(answer));
        let treated = signed.map(|signed| {
            let edits = signed_fields(&message.entity(), signed);
            let key = Some(identity.certificate().clone());
            Treated { edits, object: None, action, reason, verdict, key }
        });
        Turn::Done(treated.map_err(|error| AgentError::from(error).into()))
    })
}

impl Agent {
    /// Signs a message of one of our own senders, as the address in From. Other senders' mail, and what
    /// is signed or encrypted already, stays as it is.
    pub fn sign_stored(&self, message: &Message, at: SystemTime) -> Treating<'_> {
        Turn::of(self.begin_to_sign(message, at))
    }

    fn begin_to_sign(&self, message: &Message, at: SystemTime) -> Result<Treating<'_>, ArchiveError> {
        let entity = message.entity();
        if is_smime_or_pgp(&entity).is_some() {
            return Ok(kept("it is signed or encrypted already"));
        }
        let (from, identity) = match self.signer_of(&entity, at) {
            Ok(found) => found,
            Err(reason) => return Ok(kept(reason)),
        };
        let unsigned = sending::unsigned(&entity, identity, at)?;
        Ok(signing(identity, unsigned, "signed", from.to_string(), None))
    }

    /// The one address in From, and the identity that signs for it now; or why nobody does.
    fn signer_of(&self, entity: &MimeEntity<'_>, at: SystemTime) -> Result<(MailAddress, &Identity), String> {
        let from = single_originator(entity).map_err(|error| error.to_string())?;
        match self.identities().signing_identity(&from, at) {
            Some(identity) => Ok((from, identity)),
            None => Err(format!("there is no signing identity for {from}")),
        }
    }

    /// Verifies a message as of a time. What is encrypted is not opened.
    pub fn verify_stored(&self, message: &Message, as_of: AsOf) -> Verdict {
        self.verify_stored_within(message, None, as_of, &Budget::default)
    }

    /// The same, with the message's outermost signature where that was read, and with a budget of this kind for each time
    /// that it is verified.
    pub fn verify_stored_within(
        &self,
        message: &Message,
        signature: Option<&Signature<'_, '_>>,
        as_of: AsOf,
        budget: &dyn Fn() -> Budget,
    ) -> Verdict {
        let verify = |at| self.receiving().verify_within(&mut budget(), message, signature, at);
        match as_of {
            AsOf::Time(at) => verify(at),
            AsOf::SigningTime(now) => {
                let verdict = verify(now);
                // Of several signers all must have been valid when the last of them signed.
                let signed = verdict.signers().iter().filter_map(|signer| signer.signing_time).max();
                match signed.filter(|signed| *signed <= now) {
                    Some(signed) => verify(signed),
                    None => verdict,
                }
            }
        }
    }
}
