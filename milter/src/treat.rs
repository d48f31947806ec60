//! The joint to the agent: what the milter asks about each message, and how that may fail.

use std::time::SystemTime;

use agent::{Agent, Envelope, Outcome};
use smime::Fault;
use smime::mime::Message;

/// Decides what becomes of a message. It may block: it is called on a thread of its own.
pub trait Treat: Send + Sync + 'static {
    /// The edits for this message, or whose fault it is that there are none.
    fn treat(&self, envelope: &Envelope, message: &Message, now: SystemTime) -> Result<Outcome, Failure>;
}

impl Treat for Agent {
    fn treat(&self, envelope: &Envelope, message: &Message, now: SystemTime) -> Result<Outcome, Failure> {
        Self::treat(self, envelope, message, now)
            .map_err(|error| Failure::new(error.fault(), error.to_string()))
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
    /// A failure with its reason in words.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }
}
