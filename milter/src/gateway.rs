//! The agent with a spool: what comes back from the spool passes, all else is treated.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use agent::harvest::Signed;
use agent::{Agent, Edits, Envelope, FieldRef, Outcome, Told, Turn};
use smime::Fault;
use smime::mime::Message;

use crate::spool::{Known, MARKER, Prepared, Spool, Writing, is_like_one};
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
        // Copies that are not committed are taken away again.
        self.treat_and_keep(envelope, message, now).map(|(outcome, _)| outcome)
    }

    fn treat_and_keep(
        &self,
        envelope: &Envelope,
        message: &Message,
        now: SystemTime,
    ) -> Result<(Outcome, Option<Prepared>), Failure> {
        let markers = message.entity().header().all(MARKER).count();
        let remove = (1..).take(markers).map(|index| FieldRef { name: MARKER.to_owned(), index });
        if let Some(known) = self.spool.known(envelope, message) {
            // Whoever saw a marker could send the text under another header.
            let (mut edits, reason) = match known {
                Known::WithResults => (Edits::default(), "it is a copy of ours"),
                Known::Body { had_results } => {
                    let edits = self.agent.without_results(message, had_results);
                    (edits, "it is a copy of ours with another header")
                }
            };
            edits.remove.extend(remove);
            let reason = reason.to_owned();
            return Ok((Outcome { edits, ..Outcome::unchanged("passed", reason) }, None));
        }
        let is_like_a_copy =
            || message.entity().header().all(MARKER).any(|marker| is_like_one(&marker.unfolded()));
        if markers > 0
            && envelope.login().is_none()
            && self.agent.policy().is_outgoing(envelope)
            && is_like_a_copy()
        {
            // A copy that was altered on its way back, of a stranger's mail perhaps, now from an address that is trusted: nothing of
            // it is signed or let pass as our people's. It waits where it comes from.
            let reason =
                "it says to be a copy of ours, is none as it was sent, and comes from a trusted network";
            return Err(Failure::new(Fault::Transient, reason));
        }
        let mut writing: Option<Writing<'_>> = None;
        let mut keep = |copy| {
            let begin = || self.spool.begin(envelope, self.spool.identify(envelope, message));
            writing.get_or_insert_with(begin).add(copy).map_err(io::Error::other)
        };
        let treated = self.agent.treat_and_keep(envelope, message, now, &mut keep);
        let mut outcome = treated.map_err(|error| Failure::of(&error))?;
        outcome.edits.remove.extend(remove);
        if envelope.told != Told::AsWritten && !outcome.edits.remove_recipients.is_empty() {
            return Err(Failure::new(Fault::Internal, "the MTA may not find whom it is to remove"));
        }
        let prepared = match writing {
            Some(writing) if !outcome.disposition.sends_copies() => writing.forget().map(|()| None),
            writing => writing.map(Writing::seal).transpose(),
        };
        let prepared = prepared.map_err(|error| Failure::new(Fault::Operator, error.to_string()))?;
        Ok((outcome, prepared))
    }

    fn is_own_copy(&self, envelope: &Envelope, message: &Message) -> bool {
        self.spool.known(envelope, message).is_some()
    }

    fn begin<'a>(
        &'a self,
        envelope: &'a Envelope,
        message: &Message,
        now: SystemTime,
    ) -> Option<Turn<'a, Result<Outcome, Failure>>> {
        // Whether it is a copy of ours is for the other way.
        let is_marked = message.entity().header().all(MARKER).next().is_some();
        if is_marked { None } else { Treat::begin(&self.agent, envelope, message, now) }
    }

    fn opened_forms(&self, envelope: &Envelope) -> usize {
        self.agent.opened_forms(envelope)
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
