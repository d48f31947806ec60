//! One message from plan to outcome: what the front ends call.

use std::time::SystemTime;

use hsmpool::Pool;
use smime::{
    Fault, MailAddress,
    cms::SignError,
    key::KeyError,
    message::{AuthResult, Verdict},
    mime::{CanonicalError, Message, MimeEntity},
    path::Trust,
};

use crate::{
    Entitled, Envelope, Identities, Opening, Outcome, Plan, Policy, Protection, ReceivingAgent, RefuseReason,
    Requirement, Returned, Settings, authres, sending,
};

/// The agents with their policy, identities and trust.
#[derive(Debug)]
pub struct Agent {
    policy: Policy,
    identities: Identities,
    trust: Trust,
    /// The name under which verdicts are written.
    authserv_id: String,
    /// The envelope sender of opened mail, if it shall not be the one who sent it.
    opened_mail_sender: Option<MailAddress>,
}

/// Why a message could not be treated. It must not be delivered as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Signing failed.
    #[error("not signed: {0}")]
    Sign(#[from] SignError),
    /// The message cannot be brought into a form that survives transport.
    #[error("not signed: {0}")]
    Canonical(#[from] CanonicalError),
    /// A key could not be asked.
    #[error("not opened: {0}")]
    Key(#[from] KeyError),
    /// Policy forbids it.
    #[error("refused: {0}")]
    Refused(RefuseReason),
    /// A rule wants a signature, and nobody here can sign for this address.
    #[error("not signed: there is no valid signing identity for {0}")]
    NoIdentity(MailAddress),
}

impl AgentError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Sign(error) => error.fault(),
            Self::Canonical(error) => error.fault(),
            Self::Key(error) => error.fault(),
            Self::Refused(reason) => reason.fault(),
            Self::NoIdentity(_) => Fault::Operator,
        }
    }
}

impl Agent {
    /// The agent of a configuration, with its keys in a pool. No token is asked yet.
    pub fn new(settings: &Settings, pool: &Pool) -> Self {
        Self::with_identities(settings, Identities::new(settings, pool))
    }

    /// The agent of a configuration, with the keys of these identities.
    pub fn with_identities(settings: &Settings, identities: Identities) -> Self {
        Self {
            policy: Policy::new(settings),
            identities,
            trust: settings.trust().clone(),
            authserv_id: settings.milter().map_or_else(String::new, |milter| milter.authserv_id.clone()),
            opened_mail_sender: settings.milter().and_then(|milter| milter.opened_mail_sender.clone()),
        }
    }

    /// The identities whose keys are at hand.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Whom to trust.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The receiving half, for those who open and verify without an envelope.
    pub fn receiving(&self) -> ReceivingAgent<'_> {
        ReceivingAgent { identities: &self.identities, trust: &self.trust }
    }

    /// Decides what becomes of a message and does it. Fields that claim to be ours are removed from
    /// every message, whichever way it goes.
    pub fn treat(
        &self,
        envelope: &Envelope,
        message: &Message,
        at: SystemTime,
    ) -> Result<Outcome, AgentError> {
        let entity = message.entity();
        let mut outcome = match self.policy.plan(envelope, &entity, at) {
            Plan::Sign { from, requirement, .. } => self.sign(&entity, &from, requirement, at)?,
            Plan::Receive(_) => self.receive(envelope, message, at)?,
            Plan::Pass(reason) => Outcome::unchanged("passed", reason.to_string()),
            Plan::Refuse(reason) => return Err(AgentError::Refused(reason)),
        };
        outcome.edits.remove.extend(authres::forged(&entity, &self.authserv_id));
        Ok(outcome)
    }

    fn sign(
        &self,
        entity: &MimeEntity<'_>,
        from: &MailAddress,
        requirement: Requirement,
        at: SystemTime,
    ) -> Result<Outcome, AgentError> {
        let signed = match self.identities.signing_identity(from, at) {
            Some(identity) => sending::sign(entity, identity, at),
            None => Err(AgentError::NoIdentity(from.clone())),
        };
        match signed {
            Ok(edits) => Ok(Outcome { edits, ..Outcome::unchanged("signed", from.to_string()) }),
            // What may get better by itself is waited for, even where a signature is only wished for.
            Err(error) if requirement == Requirement::WhenPossible && error.fault() != Fault::Transient => {
                Ok(Outcome::unchanged("passed", error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn receive(&self, envelope: &Envelope, message: &Message, at: SystemTime) -> Result<Outcome, AgentError> {
        let recipients: Vec<_> = envelope.recipient_addresses().collect();
        let received = self.receiving().receive(message, Entitled::Recipients(&recipients), at)?;
        let note = note(&received.opening, &received.verdict);
        let field = authres::value(&received.verdict, note.as_deref(), &self.authserv_id);
        let mut edits = received.edits;
        edits.prepend.push((authres::NAME.to_owned(), field));
        edits.returned = received.opening.returned();
        if edits.returned == Returned::HeadersOnly {
            edits.sender.clone_from(&self.opened_mail_sender);
        }
        let action = match received.opening {
            Opening::Opened { .. } => "opened",
            _ => "verified",
        };
        let reason = match note {
            Some(note) => format!("{note}; {}", received.verdict.reason()),
            None => received.verdict.reason().to_string(),
        };
        Ok(Outcome { edits, action, reason, verdict: Some(received.verdict) }.with_short_reason())
    }
}

/// What is said beside the verdict of a message that was, or was not, opened.
fn note(opening: &Opening, verdict: &Verdict) -> Option<String> {
    match opening {
        Opening::NotEncrypted => None,
        // CBC alone lets anybody change the content; only a signature inside tells (EFAIL).
        Opening::Opened { cipher, protection } => {
            let weak = if *protection == Protection::Weak { ", weak" } else { "" };
            let signed = verdict.result() == AuthResult::Pass;
            let doubtful = *protection < Protection::Authenticated && !signed;
            let unauthenticated = if doubtful { ", content not authenticated" } else { "" };
            Some(format!("decrypted ({cipher}{weak}){unauthenticated}"))
        }
        Opening::NotEntitled => Some("not decrypted: not every recipient has the key here".to_owned()),
        Opening::Failed(reason) => Some(format!("not decrypted: {reason}")),
    }
}
