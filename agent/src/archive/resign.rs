//! Stored mail signed anew, or no longer: the layer of a signature taken off (RFC 8551 3.5).

use std::time::SystemTime;

use smime::{
    cms::Object,
    message::{AuthResult, UnsignedMessage, Wrapped},
    mime::{Canonical, MAX_DEPTH, Message, MimeEntity},
};

use super::{ArchiveError, AsOf, Treated, Treating, kept, signing};
use crate::{
    Agent, AgentError, Turn,
    opened::{as_entity, goes_as_it_is, put_in_place},
};

impl Agent {
    /// Puts a new signature in the place of the old one on a message of one of our own senders. The old one must
    /// pass as of `as_of`: a new signature on what somebody changed would make it genuine. Everything else stays
    /// as it is.
    pub fn resign_stored(&self, message: &Message, as_of: AsOf, at: SystemTime) -> Treating<'_> {
        Turn::of(self.begin_to_resign(message, as_of, at))
    }

    fn begin_to_resign(
        &self,
        message: &Message,
        as_of: AsOf,
        at: SystemTime,
    ) -> Result<Treating<'_>, ArchiveError> {
        let entity = message.entity();
        let Some(content) = signed_content(&entity)? else {
            return Ok(kept("it is not signed"));
        };
        let verdict = self.verify_stored(message, as_of);
        let kept = |reason: String| {
            Turn::Done(Ok(Treated { verdict: Some(verdict.clone()), ..Treated::kept(reason) }))
        };
        let (from, identity) = match self.signer_of(&entity, at) {
            Ok(found) => found,
            Err(reason) => return Ok(kept(reason)),
        };
        if verdict.result() != AuthResult::Pass {
            return Err(ArchiveError::OldSignature(Box::new(verdict)));
        }
        if verdict.signers().len() > 1 {
            return Err(ArchiveError::SeveralSigners(verdict.signers().len()));
        }
        if !goes_as_it_is(&content) {
            return Err(ArchiveError::NotTransportSafe);
        }
        let canonical = Canonical::from_signed_part(&content);
        let unsigned = UnsignedMessage::of(canonical, identity.signer(), identity.chain(), at);
        let unsigned = unsigned.map_err(AgentError::from)?;
        Ok(signing(identity, unsigned, "signed anew", from.to_string(), Some(verdict)))
    }

    /// Takes the signatures at the root away, and leaves what they cover. `None` where there is none.
    pub fn without_signatures(message: &Message) -> Option<Message> {
        let mut stripped: Option<Message> = None;
        for _ in 0..MAX_DEPTH {
            let current = stripped.as_ref().unwrap_or(message);
            let entity = current.entity();
            let content = signed_content(&entity).ok().flatten();
            match content.and_then(|content| put_in_place(&entity, &as_entity(content))) {
                Some(edits) => stripped = Some(edits.apply(current)),
                None => break,
            }
        }
        stripped
    }
}

/// What the signature at the root covers. `None` where there is none.
fn signed_content(entity: &MimeEntity<'_>) -> Result<Option<Vec<u8>>, ArchiveError> {
    match Wrapped::read(entity)? {
        None => Ok(None),
        Some(Wrapped::Clear { content, .. }) => Ok(Some(content.octets().to_vec())),
        Some(Wrapped::Opaque(object)) => match Object::parse(&object)? {
            Object::SignedData(signed) if !signed.signer_infos().is_empty() => {
                Ok(signed.content().map(<[&[u8]]>::concat))
            }
            _ => Ok(None),
        },
    }
}
