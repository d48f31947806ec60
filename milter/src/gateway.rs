//! The agent with a spool: what comes back from the spool passes, all else is treated.

use std::sync::Arc;
use std::time::SystemTime;

use agent::harvest::Signed;
use agent::{Agent, Edits, Envelope, FieldRef, Outcome};
use smime::Fault;
use smime::mime::Message;

use crate::spool::{Known, MARKER, Prepared, Spool};
use crate::treat::{Failure, Treat};

/// An agent whose copies are sent.
#[derive(Debug)]
pub struct Gateway {
    agent: Agent,
    spool: Arc<Spool>,
}

impl Gateway {
    /// Has an agent's copies sent by a spool.
    pub fn new(agent: Agent, spool: Arc<Spool>) -> Self {
        Self { agent: agent.with_copies(), spool }
    }
}

impl Treat for Gateway {
    fn treat(&self, envelope: &Envelope, message: &Message, now: SystemTime) -> Result<Outcome, Failure> {
        let markers = message.entity().header().all(MARKER).count();
        let remove = (1..).take(markers).map(|index| FieldRef { name: MARKER.to_owned(), index });
        if let Some(known) = self.spool.known(envelope, message) {
            // Whoever saw a marker could send the text under another header.
            let forged = match known {
                Known::WithResults => Vec::new(),
                Known::Body => self.agent.forged(message),
            };
            let remove = remove.chain(forged).collect();
            let edits = Edits { remove, ..Edits::default() };
            return Ok(Outcome { edits, ..Outcome::unchanged("passed", "it is a copy of ours".to_owned()) });
        }
        let mut outcome = self.agent.treat(envelope, message, now).map_err(|error| Failure::of(&error))?;
        outcome.edits.remove.extend(remove);
        Ok(outcome)
    }

    fn prepare(
        &self,
        envelope: &Envelope,
        message: &Message,
        outcome: &mut Outcome,
    ) -> Result<Option<Prepared>, Failure> {
        let copies = std::mem::take(&mut outcome.copies);
        if copies.is_empty() {
            return Ok(None);
        }
        let identity = self.spool.identify(envelope, message);
        let prepared = self.spool.prepare(envelope, &identity, copies);
        prepared.map(Some).map_err(|error| Failure::new(Fault::Operator, error.to_string()))
    }

    fn learn(&self, signed: Signed) {
        self.agent.harvest(signed);
    }

    fn is_outgoing(&self, envelope: &Envelope) -> Option<bool> {
        Some(self.agent.policy().is_outgoing(envelope))
    }

    fn makes_copies(&self) -> bool {
        true
    }
}
