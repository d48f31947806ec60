//! An outgoing message for all of its recipients: one form stays with the MTA, the others become copies.

use std::{cmp::Reverse, time::SystemTime};

use smime::{
    Certificate, Fault,
    mime::{Message, MimeEntity},
    store::Waited,
};

use crate::{
    Agent, AgentError, Copy, FieldRef, Mixed, Outcome, PassReason, Plan, Protect, Requirement, Share,
    SignatureForm,
    recipients::{Group, groups},
    sending::{Content, Next},
};

impl Agent {
    /// Makes of a message what the shares say. `forged` fields leave every form of it.
    pub(crate) fn send(
        &self,
        shares: &[Share],
        message: &Message,
        forged: &[FieldRef],
        at: SystemTime,
    ) -> Result<Outcome, AgentError> {
        let entity = message.entity();
        let mut drafts = Drafts::default();
        for share in shares {
            match &share.plan {
                Plan::Protect(protect) => self.draft(protect, share, &entity, at, &mut drafts)?,
                Plan::Pass(reason) => drafts.pass(share, reason),
                Plan::Split(_) | Plan::Receive(_) | Plan::Refuse(_) => return Err(AgentError::NoSuchShare),
            }
        }
        let forms = drafts.groups.len();
        if forms > 1 {
            let mixed = shares.iter().filter_map(mixed_of).max_by_key(|mixed| match mixed {
                Mixed::Split | Mixed::Plain => 0,
                Mixed::Defer => 1,
                Mixed::Refuse => 2,
            });
            match mixed {
                Some(Mixed::Defer) => return Err(AgentError::Mixed { forms, is_final: false }),
                Some(Mixed::Refuse) => return Err(AgentError::Mixed { forms, is_final: true }),
                _ if !self.can_split => return Err(AgentError::CannotSplit { forms }),
                _ => {}
            }
        }
        drafts.finish(message, &entity, forged)
    }

    /// Signs for a share, and puts its recipients into groups.
    fn draft<'s>(
        &self,
        protect: &'s Protect,
        share: &Share,
        entity: &MimeEntity<'_>,
        at: SystemTime,
        drafts: &mut Drafts<'s>,
    ) -> Result<(), AgentError> {
        let content = match self.content(protect, entity, at, drafts) {
            Ok(place) => place,
            // What may get better by itself is waited for, even where a signature is only wished for.
            Err(error)
                if protect.sign == Some(Requirement::WhenPossible) && error.fault() != Fault::Transient =>
            {
                drafts.notes.push(error.to_string());
                drafts.plain()
            }
            Err(error) => return Err(error),
        };
        let groups = match protect.encrypt {
            Some(_) => groups(
                protect,
                &share.recipients,
                entity,
                |recipient| self.certificates.known(&self.identities, recipient, at, &mut drafts.waited),
                |certificate| self.certificates.capabilities(certificate),
            )?,
            None => vec![Group { recipients: share.recipients.clone(), seal: None }],
        };
        for group in groups {
            drafts.add(content, group);
        }
        Ok(())
    }

    /// The place of the content for a share: signed now, signed for another share, or as it came.
    fn content<'s>(
        &self,
        protect: &'s Protect,
        entity: &MimeEntity<'_>,
        at: SystemTime,
        drafts: &mut Drafts<'s>,
    ) -> Result<usize, AgentError> {
        let Some(certificate) = protect.signer.as_ref().filter(|_| protect.sign.is_some()) else {
            return Ok(drafts.plain());
        };
        let rule = &protect.rule;
        let way = Some((certificate, rule.form, rule.profile.name));
        if let Some(place) = drafts.place(way) {
            return Ok(place);
        }
        let identity = self
            .identities
            .of_certificate(certificate)
            .ok_or_else(|| AgentError::NoIdentity(protect.from.clone()))?;
        let next = if protect.encrypt.is_some() { Next::IsEncrypted } else { Next::Leaves };
        let content = Content::signed(entity, identity, rule.form, &rule.profile, next, at)?;
        drafts.notes.push(protect.from.to_string());
        Ok(drafts.put(way, content))
    }
}

fn mixed_of(share: &Share) -> Option<Mixed> {
    match &share.plan {
        Plan::Protect(protect) => Some(protect.rule.mixed),
        _ => None,
    }
}

/// A way to sign: certificate, form and profile. A message is signed once in each, for however many recipients.
type Way<'s> = Option<(&'s Certificate, SignatureForm, &'static str)>;

/// What the recipients get, before it is written.
#[derive(Default)]
struct Drafts<'s> {
    contents: Vec<(Way<'s>, Content)>,
    /// Places in `contents`, and who gets it.
    groups: Vec<(usize, Group)>,
    /// For the log.
    notes: Vec<String>,
    /// For whoever knows the recipients' certificates.
    waited: Waited,
}

impl<'s> Drafts<'s> {
    fn place(&self, way: Way<'s>) -> Option<usize> {
        self.contents.iter().position(|(known, _)| *known == way)
    }

    fn put(&mut self, way: Way<'s>, content: Content) -> usize {
        self.contents.push((way, content));
        self.contents.len() - 1
    }

    /// The place of the message as it came.
    fn plain(&mut self) -> usize {
        self.place(None).unwrap_or_else(|| self.put(None, Content::Plain))
    }

    fn pass(&mut self, share: &Share, reason: &PassReason) {
        self.notes.push(reason.to_string());
        let place = self.plain();
        self.add(place, Group { recipients: share.recipients.clone(), seal: None });
    }

    /// Those who get the same unencrypted message are one group.
    fn add(&mut self, content: usize, group: Group) {
        let is_same = |(other, known): &&mut (usize, Group)| {
            *other == content && known.seal.is_none() && group.seal.is_none()
        };
        match self.groups.iter_mut().find(is_same) {
            Some((_, known)) => known.recipients.extend(group.recipients),
            None => self.groups.push((content, group)),
        }
    }

    /// Writes all forms. The largest group's stays with the MTA.
    fn finish(
        self,
        message: &Message,
        entity: &MimeEntity<'_>,
        forged: &[FieldRef],
    ) -> Result<Outcome, AgentError> {
        let Self { contents, groups, notes, .. } = self;
        let mut forms = Vec::with_capacity(groups.len());
        let mut contents: Vec<_> = contents.into_iter().map(|(_, content)| Some(content)).collect();
        for (at, (place, group)) in groups.iter().enumerate() {
            let (Some(plan), Some(slot)) = (&group.seal, contents.get_mut(*place)) else { continue };
            let is_needed = groups
                .iter()
                .enumerate()
                .any(|(other, (known, group))| known == place && (other > at || group.seal.is_none()));
            let Some(content) = slot.take() else { return Err(AgentError::NoSuchShare) };
            let action = if content.is_signed() { "signed and encrypted" } else { "encrypted" };
            let sealed = if is_needed {
                slot.insert(content).sealed(entity, plan)?
            } else {
                content.into_sealed(entity, plan)?
            };
            forms.push((action, sealed, group.recipients.clone()));
        }
        for (place, content) in contents.into_iter().enumerate() {
            let of_it = |(other, group): &&(usize, Group)| *other == place && group.seal.is_none();
            if let (Some((_, group)), Some(content)) = (groups.iter().find(of_it), content) {
                let action = if content.is_signed() { "signed" } else { "passed" };
                forms.push((action, content.into_edits(entity), group.recipients.clone()));
            }
        }
        for (_, edits, _) in &mut forms {
            edits.remove.extend(forged.iter().cloned());
        }
        let largest =
            forms.iter().enumerate().max_by_key(|(at, (_, _, recipients))| (recipients.len(), Reverse(*at)));
        let Some(largest) = largest.map(|(at, _)| at) else {
            return Err(AgentError::NoSuchShare);
        };
        let (action, mut edits, _) = forms.remove(largest);
        let mut reason = notes.join("; ");
        let mut copies = Vec::with_capacity(forms.len());
        for (_, copied, recipients) in forms {
            edits.remove_recipients.extend(recipients.iter().cloned());
            let (returned, sender) = (copied.returned, copied.sender.clone());
            let octets = copied.apply(message).octets().to_vec();
            copies.push(Copy { recipients, octets, returned, sender });
        }
        if !copies.is_empty() {
            reason = format!("{} copies for others; {reason}", copies.len());
        }
        Ok(Outcome { edits, copies, ..Outcome::unchanged(action, reason) })
    }
}
