//! One message from plan to outcome: what the front ends call.

use std::{io, sync::Arc, time::SystemTime};

use audit::AuditLog;
use hsmpool::Pool;
use lookup::{Fetcher, MemoryStore, RevocationStore};
use smime::{
    Fault, MailAddress,
    cms::{SealError, SignError},
    key::KeyError,
    mime::{CanonicalError, Message, MimeEntity, SenderRule},
    path::{Distrust, Trust},
    profile::PlanError,
    protection::ProtectError,
    store::{RecipientCertificates, StoreError, Waited},
};

use crate::{
    AuditedKey, Disposition, Envelope, FieldRef, Identities, Identity, Incoming, Keep, Known, Outcome, Plan,
    Policy, ReceiveReason, ReceivingAgent, RefuseReason, Settings, Share, Turn, authres, encrypts,
    harvest::{Harvester, Signed},
    incoming::opened_forms,
    recipients::Certificates,
    revocation::trust_with,
    uncached::Uncached,
};

/// The agents with their policy, identities and trust.
#[derive(Debug)]
pub struct Agent {
    policy: Policy,
    incoming: Incoming,
    pub(crate) identities: Identities,
    pub(crate) certificates: Certificates,
    /// Whether somebody sends the copies of an outcome.
    pub(crate) can_split: bool,
    trust: Trust,
    sender_rule: SenderRule,
    fetcher: Option<Arc<Fetcher>>,
    /// Who keeps senders' certificates, if anybody does.
    harvester: Option<Harvester>,
    /// Where uses of keys are written to, if anywhere.
    audit: Option<Arc<AuditLog>>,
    /// The name under which verdicts are written.
    authserv_id: String,
    /// The envelope sender of opened mail, if it shall not be the one who sent it.
    opened_mail_sender: Option<MailAddress>,
    /// How large mail may be for the MTA, where that is known.
    mta_message_octets: Option<usize>,
    max_message_octets: Option<usize>,
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
    /// Its header cannot be protected.
    #[error("its header cannot be protected: {0}")]
    Header(#[from] ProtectError),
    /// Encrypting failed.
    #[error("not encrypted: {0}")]
    Seal(#[from] SealError),
    /// There is no way to encrypt to all recipients.
    #[error("not encrypted: {0}")]
    SealPlan(#[from] PlanError),
    /// It could not be found out to whom to encrypt.
    #[error("not encrypted: {0}")]
    Store(#[from] StoreError),
    /// Encryption is required, and nothing is known of some recipients.
    #[error("not encrypted: no certificate of {recipients} is known to be good, nor that there is none")]
    UnknownCertificate {
        /// Them.
        recipients: String,
    },
    /// Encryption is required, and some recipients have no certificate.
    #[error("not encrypted: there is no certificate of {recipients}")]
    NoCertificate {
        /// Them.
        recipients: String,
        /// Whether the rule gives such mail up.
        is_final: bool,
    },
    /// Not all recipients can get the same, and the rule wants no copies.
    #[error("its {forms} groups of recipients cannot get the same message")]
    Mixed {
        /// How many different messages there would have to be.
        forms: usize,
        /// Whether the rule gives such mail up.
        is_final: bool,
    },
    /// Not all recipients can get the same, and nobody sends copies.
    #[error(
        "its {forms} groups of recipients cannot get the same message, and there is no `reinject` in [milter]"
    )]
    CannotSplit {
        /// How many different messages there would have to be.
        forms: usize,
    },
    /// Not all recipients can get the same, and the MTA cannot surely be told who gets none of it.
    #[error(
        "its {forms} groups of recipients cannot get the same message, and recipients of more than one are no plain \
         addresses (local@domain without quotes, comments, % or !), or may have been rewritten by the MTA"
    )]
    NotRemovable {
        /// How many different messages there would have to be.
        forms: usize,
    },
    /// A plan has a share that neither protects nor passes; a defect here.
    #[error("the plan for some recipients is none that can be carried out")]
    NoSuchShare,
    /// A copy for some recipients could not be kept.
    #[error("a copy cannot be kept: {0}")]
    NotKept(#[source] io::Error),
    /// A key could not be asked.
    #[error("not opened: {0}")]
    Key(#[from] KeyError),
    /// Policy forbids it.
    #[error("refused: {0}")]
    Refused(RefuseReason),
    /// A rule for mail from elsewhere does not take it.
    #[error("not taken: it is {cause}, and a rule takes no such mail")]
    Unwanted {
        /// What was found.
        cause: &'static str,
        /// Whether it is refused for good.
        is_final: bool,
    },
    /// A rule encrypts to a certificate as well that is not to be encrypted to any more.
    #[error("not encrypted: {certificate}, which `encrypt-to` names, is not to be used any more: {why}")]
    AlsoTo {
        /// Whose it is.
        certificate: String,
        /// What is against it.
        why: String,
    },
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
            Self::Header(error) => error.fault(),
            Self::Key(error) => error.fault(),
            Self::Refused(reason) => reason.fault(),
            Self::NoSuchShare => Fault::Internal,
            Self::Seal(error) => error.fault(),
            Self::SealPlan(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::UnknownCertificate { .. }
            | Self::NoCertificate { is_final: false, .. }
            | Self::Mixed { is_final: false, .. }
            | Self::Unwanted { is_final: false, .. } => Fault::Transient,
            Self::NoCertificate { is_final: true, .. }
            | Self::Mixed { is_final: true, .. }
            | Self::NotRemovable { .. }
            | Self::Unwanted { is_final: true, .. } => Fault::Policy,
            Self::CannotSplit { .. } | Self::AlsoTo { .. } | Self::NoIdentity(_) | Self::NotKept(_) => {
                Fault::Operator
            }
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
        Self::with_store(settings, identities, Box::<MemoryStore>::default())
    }

    /// The agent of a configuration, with the keys of these identities, and what it fetches of revocation in this store.
    pub fn with_store(settings: &Settings, identities: Identities, store: Box<dyn RevocationStore>) -> Self {
        let fetcher = settings.fetcher(store);
        let trust = trust_with(settings.trust(), fetcher.clone());
        let uncached = encrypts(settings).then(|| Uncached::new(settings.for_encryption().of(&trust)));
        Self {
            policy: Policy::new(settings),
            incoming: Incoming::new(settings),
            identities,
            certificates: uncached.map(|store| Certificates::new(Arc::new(store))).unwrap_or_default(),
            can_split: false,
            trust,
            sender_rule: settings.sender_rule(),
            fetcher,
            harvester: None,
            audit: None,
            authserv_id: settings.milter().map_or_else(String::new, |milter| milter.authserv_id.clone()),
            opened_mail_sender: settings.milter().and_then(|milter| milter.opened_mail_sender.clone()),
            mta_message_octets: settings.milter().and_then(|milter| milter.mta_message_bytes),
            max_message_octets: settings.milter().map(|milter| milter.max_message_bytes),
        }
    }

    /// Who fetches what tells of revocation, if anybody does.
    pub fn fetcher(&self) -> Option<&Arc<Fetcher>> {
        self.fetcher.as_ref()
    }

    /// Gives it the keys of these identities, and no others.
    #[must_use]
    pub fn with_keys_of(mut self, identities: Identities) -> Self {
        self.identities = identities;
        self
    }

    /// Lets it believe nobody whom an administrator distrusts.
    #[must_use]
    pub fn with_distrust(mut self, distrust: Arc<dyn Distrust>) -> Self {
        self.trust.distrust = Some(distrust);
        self
    }

    /// Lets it encrypt to those whose certificates are in a store, and not only to our own people.
    #[must_use]
    pub fn with_certificates(mut self, store: Arc<dyn RecipientCertificates>) -> Self {
        self.certificates = Certificates::new(store);
        self
    }

    /// Lets outcomes have copies: the caller sends them. Without, mail that needs some is not treated.
    #[must_use]
    pub fn with_copies(mut self) -> Self {
        self.can_split = true;
        self
    }

    /// Has senders' certificates harvested: outcomes of received mail have what is needed for it, and whoever answered
    /// the mail gives it to [`Agent::harvest`].
    #[must_use]
    pub fn with_harvester(mut self, harvester: Harvester) -> Self {
        self.harvester = Some(harvester);
        self
    }

    /// Has every use of a key for a message written to an audit before its result is used.
    #[must_use]
    pub fn with_audit(mut self, audit: Arc<AuditLog>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Has it count on messages being taken up to this length, copies too, whatever the settings say.
    #[must_use]
    pub fn with_max_message_octets(mut self, octets: usize) -> Self {
        self.max_message_octets = Some(octets);
        self
    }

    /// Whether each use of a key is written down, which may take long.
    pub(crate) fn is_audited(&self) -> bool {
        self.audit.is_some()
    }

    /// The key of an identity, to be used for a message of this envelope.
    pub(crate) fn audited<'a>(&'a self, identity: &'a Identity, envelope: &'a Envelope) -> AuditedKey<'a> {
        AuditedKey::new(identity.signer(), identity.decryptor(), self.audit.as_deref(), envelope)
    }

    /// Leaves what an outcome has for it to the harvester, without waiting.
    pub fn harvest(&self, signed: Signed) {
        if let Some(harvester) = &self.harvester {
            harvester.offer(signed);
        }
    }

    /// What is known of a recipient, given as in the envelope.
    pub fn known(&self, recipient: &str, at: SystemTime) -> Result<Known, StoreError> {
        self.certificates.known(&self.identities, recipient, at, &mut Waited::default())
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The rules for mail from elsewhere.
    pub fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    pub(crate) fn authserv_id(&self) -> &str {
        &self.authserv_id
    }

    pub(crate) fn opened_mail_sender(&self) -> Option<&MailAddress> {
        self.opened_mail_sender.as_ref()
    }

    pub(crate) fn mta_message_octets(&self) -> Option<usize> {
        self.mta_message_octets
    }

    /// The octets of a message that the milter takes, where this is its agent.
    pub(crate) fn max_message_octets(&self) -> Option<usize> {
        self.max_message_octets
    }

    /// Whether certificates of senders are kept.
    pub(crate) fn harvests(&self) -> bool {
        self.harvester.is_some()
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
        ReceivingAgent { identities: &self.identities, trust: &self.trust, sender_rule: self.sender_rule }
    }

    /// The fields of a message that claim to be ours, which no message keeps.
    pub fn forged(&self, message: &Message) -> Vec<FieldRef> {
        self.forged_in(&message.entity())
    }

    /// What stands in the place of our results where these are taken off mail that came from elsewhere.
    pub(crate) fn not_looked_at(&self) -> (String, String) {
        (authres::NAME.to_owned(), authres::not_looked_at(&self.authserv_id))
    }

    /// The same for a message that has results of ours.
    pub(crate) fn sign_of_what_was_received(&self, entity: &MimeEntity<'_>) -> Option<(String, String)> {
        authres::has_ours(entity, &self.authserv_id).then(|| self.not_looked_at())
    }

    pub(crate) fn forged_in(&self, entity: &MimeEntity<'_>) -> Vec<FieldRef> {
        authres::forged(entity, &self.authserv_id)
    }

    /// Decides what becomes of a message and does it. Fields that claim to be ours are removed from
    /// every message, whichever way it goes.
    pub fn treat(
        &self,
        envelope: &Envelope,
        message: &Message,
        at: SystemTime,
    ) -> Result<Outcome, AgentError> {
        let mut copies = Vec::new();
        let mut keep = |copy| {
            copies.push(copy);
            Ok(())
        };
        let outcome = self.treat_and_keep(envelope, message, at, &mut keep)?;
        let copies = if outcome.disposition.sends_copies() { copies } else { Vec::new() };
        Ok(Outcome { copies, ..outcome })
    }

    /// How many bodies of a message of this envelope may be in memory at a time beside what one of them is made of, each as
    /// large as what may be made of it: one for all of whom the same rules are, for those who own a key and for those who do
    /// not; those of all together never more than two and the one that is being made. Where keys open it otherwise for
    /// some, that is within the same room, or stays closed.
    pub fn opened_forms(&self, envelope: &Envelope) -> usize {
        let shares = if self.policy.is_outgoing(envelope) { 1 } else { self.incoming.most_shares(envelope) };
        opened_forms(shares, envelope)
    }

    /// Begins what [`Agent::treat`] does, where that waits for nothing but a private key and takes as long as the message is
    /// large: mail that is signed, and neither encrypted nor audited. `None`: it is for [`Agent::treat`].
    pub fn begin<'a>(
        &'a self,
        envelope: &'a Envelope,
        message: &Message,
        at: SystemTime,
    ) -> Option<Turn<'a, Result<Outcome, AgentError>>> {
        if self.is_audited() || !self.policy.is_outgoing(envelope) {
            return None;
        }
        let entity = message.entity();
        if !self.policy.is_planned_soon(envelope, &entity) {
            return None;
        }
        let Plan::Protect(protect) = self.policy.plan(envelope, &entity, at) else { return None };
        self.begin_to_send(protect, envelope, message, self.forged_in(&entity), at)
    }

    /// The same with an outcome without copies: each is given away as soon as it is made. Where there is no outcome in the
    /// end, or one that sends none, they are worth nothing.
    pub fn treat_and_keep(
        &self,
        envelope: &Envelope,
        message: &Message,
        at: SystemTime,
        keep: &mut Keep<'_>,
    ) -> Result<Outcome, AgentError> {
        let once = envelope.once();
        let envelope = &*once;
        let entity = message.entity();
        let forged = self.forged_in(&entity);
        let plan = self.policy.plan(envelope, &entity, at);
        // Also by a login: whoever may not use that author's key has no signature of it by having handed on what was received.
        let is_left = matches!(plan, Plan::Hold | Plan::Pass(_));
        let received = is_left.then(|| self.sign_of_what_was_received(&entity)).flatten();
        let mut outcome = match plan {
            Plan::Receive(reason) => {
                let is_incoming = reason == ReceiveReason::Incoming;
                self.receive(envelope, message, is_incoming, at, keep)?
            }
            Plan::Pass(reason) => Outcome::unchanged("passed", reason.to_string()),
            plan @ Plan::Hold => Outcome {
                disposition: Disposition::Quarantine,
                ..Outcome::unchanged("quarantined", plan.to_string())
            },
            Plan::Refuse(reason) => return Err(AgentError::Refused(reason)),
            Plan::Split(shares) => return self.send(&shares, envelope, message, &forged, at, keep),
            plan @ Plan::Protect(_) => {
                let share = Share { recipients: envelope.recipients.clone(), plan };
                return self.send(&[share], envelope, message, &forged, at, keep);
            }
        };
        outcome.edits.remove.extend(forged);
        // Without it, who hands it on once more would have it signed.
        outcome.edits.prepend.extend(received);
        Ok(outcome)
    }
}
