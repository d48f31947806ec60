//! The joint to the agent: what the milter asks about each message, and how that may fail.

use std::sync::Arc;
use std::time::SystemTime;

use agent::harvest::Signed;
use agent::{Agent, AgentError, Envelope, Outcome, Turn};
use smime::Fault;
use smime::mime::Message;

use crate::meter::Meter;
use crate::spool::Prepared;

/// Decides what becomes of a message. It may block: it is called on a thread of its own, [`Treat::begin`] excepted.
pub trait Treat: Send + Sync + 'static {
    /// The edits for this message, or whose fault it is that there are none.
    fn treat(&self, envelope: &Envelope, message: &Message, now: SystemTime) -> Result<Outcome, Failure>;

    /// The same, with the copies kept safe, one after the other, so that they can be sent once the message is answered.
    fn treat_and_keep(
        &self,
        envelope: &Envelope,
        message: &Message,
        now: SystemTime,
    ) -> Result<(Outcome, Option<Prepared>), Failure> {
        Ok((self.treat(envelope, message, now)?, None))
    }

    /// Whether a message is a copy that was sent back from here, and now comes again.
    fn is_own_copy(&self, _: &Envelope, _: &Message) -> bool {
        false
    }

    /// Begins to treat a message that needs nothing that may take long but answers of private keys: its outcome has no
    /// copies. It must not wait for anything, since others wait for the thread that it is called on, and neither must what it
    /// gives. `None`: the message is for [`Treat::treat_and_keep`].
    fn begin<'a>(
        &'a self,
        _: &'a Envelope,
        _: &Message,
        _: SystemTime,
    ) -> Option<Turn<'a, Result<Outcome, Failure>>> {
        None
    }

    /// The treatment that stands behind this one now, where another may be put in its place.
    fn current(&self) -> Option<Arc<dyn Treat>> {
        None
    }

    /// How many forms of what is opened are in memory at a time, at most.
    fn opened_forms(&self, _: &Envelope) -> usize {
        1
    }

    /// Learns from a message that was treated and is answered now. It must not wait for anything.
    fn learn(&self, _: Signed) {}

    /// Whether a message goes out; `None` where that is no matter.
    fn is_outgoing(&self, _: &Envelope) -> Option<bool> {
        None
    }

    /// Where messages are counted, if they are.
    fn meter(&self) -> Option<&Meter> {
        None
    }

    /// Whether outcomes may have copies, whose recipients the MTA must let us remove.
    fn makes_copies(&self) -> bool {
        false
    }
}

impl Treat for Agent {
    fn treat(&self, envelope: &Envelope, message: &Message, now: SystemTime) -> Result<Outcome, Failure> {
        Self::treat(self, envelope, message, now).map_err(|error| Failure::of(&error))
    }

    fn begin<'a>(
        &'a self,
        envelope: &'a Envelope,
        message: &Message,
        now: SystemTime,
    ) -> Option<Turn<'a, Result<Outcome, Failure>>> {
        let failed = |_: &Message, done: Result<_, _>| done.map_err(|error| Failure::of(&error));
        Some(Self::begin(self, envelope, message, now)?.map(failed, message))
    }

    fn learn(&self, signed: Signed) {
        self.harvest(signed);
    }

    fn opened_forms(&self, envelope: &Envelope) -> usize {
        Self::opened_forms(self, envelope)
    }

    fn is_outgoing(&self, envelope: &Envelope) -> Option<bool> {
        Some(self.policy().is_outgoing(envelope))
    }
}

/// Why a message could not be treated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// Whose fault it is; this alone decides the SMTP reply.
    pub fault: Fault,
    /// What happened, for the log. It never reaches the client.
    pub reason: String,
}

impl Failure {
    /// What the agent's error means here.
    pub(crate) fn of(error: &AgentError) -> Self {
        Self::new(error.fault(), error.to_string())
    }

    /// A failure with its reason in words.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }
}
