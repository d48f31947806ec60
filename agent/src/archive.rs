//! The agents on stored mail, where there is no envelope: whoever runs this owns the archive.

use std::time::SystemTime;

use smime::{
    message::Verdict,
    mime::{Message, is_smime_or_pgp, single_originator},
};

use crate::{Agent, AgentError, Outcome, sending};

impl Agent {
    /// Signs a message of one of our own senders, as the address in From. Other senders' mail, and what
    /// is signed or encrypted already, stays as it is.
    pub fn sign_stored(&self, message: &Message, at: SystemTime) -> Result<Outcome, AgentError> {
        let entity = message.entity();
        if is_smime_or_pgp(&entity).is_some() {
            return Ok(Outcome::unchanged("kept", "it is signed or encrypted already".to_owned()));
        }
        let from = match single_originator(&entity) {
            Ok(from) => from,
            Err(error) => return Ok(Outcome::unchanged("kept", error.to_string())),
        };
        match self.identities().signing_identity(&from, at) {
            Some(identity) => {
                let edits = sending::sign(&entity, identity, at)?;
                Ok(Outcome { edits, ..Outcome::unchanged("signed", from.to_string()) })
            }
            None => Ok(Outcome::unchanged("kept", format!("there is no signing identity for {from}"))),
        }
    }

    /// Verifies a message as of a time. What is encrypted is not opened.
    pub fn verify_stored(&self, message: &Message, as_of: SystemTime) -> Verdict {
        self.receiving().verify(message, as_of)
    }
}
