//! An outgoing message for all of its recipients: one form stays with the MTA, the others become copies.

use std::{cell::Cell, cmp::Reverse, time::SystemTime};

use smime::{
    Certificate, Fault,
    cms::SignError,
    message::SignedMessage,
    mime::{Message, MimeEntity},
    store::Waited,
};

use crate::{
    Agent, AgentError, Copy, Disposition, Edits, Envelope, FieldRef, Keep, Mixed, Outcome, PassReason, Plan,
    Protect, Requirement, Share, SignatureForm, Told, Turn,
    mailbox::plain,
    recipients::{Group, groups},
    sending::{Content, Hp, Next, unsigned_by},
};

impl Agent {
    /// Makes of a message what the shares say. `forged` fields leave every form of it.
    pub(crate) fn send(
        &self,
        shares: &[Share],
        envelope: &Envelope,
        message: &Message,
        forged: &[FieldRef],
        at: SystemTime,
        keep: &mut Keep<'_>,
    ) -> Result<Outcome, AgentError> {
        let entity = message.entity();
        self.drafts(shares, envelope, &entity, at)?.finish(message, &entity, forged, keep)
    }

    /// What the recipients get, signed and not yet written, where all of them can get it.
    pub(crate) fn drafts<'s>(
        &self,
        shares: &'s [Share],
        envelope: &Envelope,
        entity: &MimeEntity<'_>,
        at: SystemTime,
    ) -> Result<Drafts<'s>, AgentError> {
        let received = self.sign_of_what_was_received(entity);
        let mut drafts = Drafts { told: envelope.told, received, ..Default::default() };
        for share in shares {
            match &share.plan {
                Plan::Protect(protect) => self.draft(protect, share, envelope, entity, at, &mut drafts)?,
                Plan::Pass(reason) => drafts.pass(share, reason),
                Plan::Split(_) | Plan::Receive(_) | Plan::Hold | Plan::Refuse(_) => {
                    return Err(AgentError::NoSuchShare);
                }
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
        Ok(drafts)
    }

    /// Does what [`Agent::send`] does for all recipients, turn by turn, where the plan is to sign, detached, and no more: then
    /// nobody is asked but the key. `None`: it is not, or something is wrong with the message, which is for
    /// [`Agent::send`] to find out.
    pub(crate) fn begin_to_send<'a>(
        &'a self,
        protect: Protect,
        envelope: &'a Envelope,
        message: &Message,
        forged: Vec<FieldRef>,
        at: SystemTime,
    ) -> Option<Turn<'a, Result<Outcome, AgentError>>> {
        let is_signed_only = protect.sign.is_some()
            && protect.encrypt.is_none()
            && protect.rule.form == SignatureForm::Detached
            && !self.is_audited();
        let certificate = protect.signer.as_ref().filter(|_| is_signed_only)?;
        let identity = self.identities.of_certificate(certificate)?;
        let hp = Hp::of(protect.rule.header_protection, false);
        let unsigned = unsigned_by(&protect.rule.profile, hp, &message.entity(), identity, at).ok()?;
        Some(Turn::asking(identity, unsigned.question(), move |message, answer| {
            let signed = answer.map_err(SignError::from).and_then(|answer| unsigned.signed(answer));
            let received = self.sign_of_what_was_received(&message.entity());
            let drafts = Drafts { received, ..Default::default() };
            Turn::Done(finish_to_send(drafts, &protect, signed, envelope, message, &forged))
        }))
    }

    /// Signs for a share, and puts its recipients into groups.
    fn draft<'s>(
        &self,
        protect: &'s Protect,
        share: &Share,
        envelope: &Envelope,
        entity: &MimeEntity<'_>,
        at: SystemTime,
        drafts: &mut Drafts<'s>,
    ) -> Result<(), AgentError> {
        // One limit for all who are asked on behalf of a message, for the certificates of its rule as well.
        let waited = Cell::new(drafts.waited);
        let groups = match protect.encrypt {
            Some(_) => groups(
                protect,
                &share.recipients,
                entity,
                |recipient| {
                    let mut so_far = waited.get();
                    let known = self.certificates.known(&self.identities, recipient, at, &mut so_far);
                    waited.set(so_far);
                    known
                },
                |certificate| {
                    let mut so_far = waited.get();
                    let against = self.certificates.against(certificate, at, &mut so_far);
                    waited.set(so_far);
                    against
                },
                |certificate| self.certificates.recipient(certificate),
            )?,
            None => vec![Group { recipients: share.recipients.clone(), seal: None }],
        };
        drafts.waited = waited.get();
        // Signed once, or once for those who get it encrypted and once for the others.
        let mut known: Vec<(Hp, usize)> = Vec::new();
        for group in groups {
            let hp = Hp::of(protect.rule.header_protection, group.seal.is_some());
            let place = match known.iter().find(|(of, _)| *of == hp) {
                Some((_, place)) => *place,
                None => self.content_or_unsigned(protect, envelope, entity, hp, at, drafts)?,
            };
            known.push((hp, place));
            drafts.add(place, group);
        }
        Ok(())
    }

    fn content_or_unsigned<'s>(
        &self,
        protect: &'s Protect,
        envelope: &Envelope,
        entity: &MimeEntity<'_>,
        hp: Hp,
        at: SystemTime,
        drafts: &mut Drafts<'s>,
    ) -> Result<usize, AgentError> {
        let content = self.content(protect, envelope, entity, hp, at, drafts);
        drafts.or_unsigned(content, protect, entity, hp)
    }

    /// The place of the content for a share: signed now, signed for another share, or as it came.
    fn content<'s>(
        &self,
        protect: &'s Protect,
        envelope: &Envelope,
        entity: &MimeEntity<'_>,
        hp: Hp,
        at: SystemTime,
        drafts: &mut Drafts<'s>,
    ) -> Result<usize, AgentError> {
        let Some(certificate) = protect.signer.as_ref().filter(|_| protect.sign.is_some()) else {
            return drafts.unsigned(entity, hp);
        };
        let rule = &protect.rule;
        let way = (Some((certificate, rule.form, rule.profile.name)), hp);
        if let Some(place) = drafts.place(way) {
            return Ok(place);
        }
        let identity = self
            .identities
            .of_certificate(certificate)
            .ok_or_else(|| AgentError::NoIdentity(protect.from.clone()))?;
        let next = if protect.encrypt.is_some() { Next::IsEncrypted } else { Next::Leaves };
        let key = self.audited(identity, envelope);
        let content =
            Content::signed(entity, &key, identity.chain(), (rule.form, &rule.profile), (next, hp), at)?;
        drafts.notes.push(protect.from.to_string());
        Ok(drafts.put(way, content))
    }
}

/// The second half of [`Agent::begin_to_send`].
fn finish_to_send<'p>(
    mut drafts: Drafts<'p>,
    protect: &'p Protect,
    signed: Result<SignedMessage, SignError>,
    envelope: &Envelope,
    message: &Message,
    forged: &[FieldRef],
) -> Result<Outcome, AgentError> {
    let entity = message.entity();
    let hp = Hp::of(protect.rule.header_protection, false);
    let rule = &protect.rule;
    let signed = signed.map_err(AgentError::from).map(|signed| {
        let way = protect.signer.as_ref().map(|of| (of, rule.form, rule.profile.name));
        drafts.notes.push(protect.from.to_string());
        drafts.put((way, hp), Content::detached(signed))
    });
    let place = drafts.or_unsigned(signed, protect, &entity, hp)?;
    drafts.add(place, Group { recipients: envelope.recipients.clone(), seal: None });
    let nobody = |_| Err(std::io::Error::other("there is one form of it"));
    drafts.finish(message, &entity, forged, &mut { nobody })
}

fn mixed_of(share: &Share) -> Option<Mixed> {
    match &share.plan {
        Plan::Protect(protect) => Some(protect.rule.mixed),
        _ => None,
    }
}

/// A way to make the content: certificate, form and profile of the signature, where there is one, and what becomes of the
/// header. A message is signed once in each, for however many recipients.
type Way<'s> = (Option<(&'s Certificate, SignatureForm, &'static str)>, Hp);

/// What the recipients get, before it is written.
#[derive(Default)]
pub(crate) struct Drafts<'s> {
    contents: Vec<(Way<'s>, Content)>,
    /// Places in `contents`, and who gets it.
    groups: Vec<(usize, Group)>,
    /// For the log.
    notes: Vec<String>,
    /// For whoever knows the recipients' certificates.
    waited: Waited,
    /// How the MTA tells recipients.
    told: Told,
    /// What is left on all forms that are not signed, of a message that was received here: whoever hands one on has no signature
    /// for it.
    received: Option<(String, String)>,
}

/// What the log says of a message whose subject should be hidden, and is not.
const SHOWN: &str = "its subject stays readable: the mail is signed or encrypted already, or says so";

impl<'s> Drafts<'s> {
    fn place(&self, way: Way<'s>) -> Option<usize> {
        self.contents.iter().position(|(known, _)| *known == way)
    }

    fn put(&mut self, way: Way<'s>, content: Content) -> usize {
        if content.shows_header() && !self.notes.iter().any(|note| note == SHOWN) {
            self.notes.push(SHOWN.to_owned());
        }
        self.contents.push((way, content));
        self.contents.len() - 1
    }

    /// The place of the message as it came.
    fn plain(&mut self) -> usize {
        let way = (None, Hp::None);
        self.place(way).unwrap_or_else(|| self.put(way, Content::plain()))
    }

    /// The place of the message as it came, with its header where that is to be encrypted.
    fn unsigned(&mut self, entity: &MimeEntity<'_>, hp: Hp) -> Result<usize, AgentError> {
        let Hp::Cipher(_) = hp else { return Ok(self.plain()) };
        match self.place((None, hp)) {
            Some(place) => Ok(place),
            None => Ok(self.put((None, hp), Content::unsigned(entity, hp)?)),
        }
    }

    /// The place of the content, or of the message without a signature where that cannot be had and is only wished for.
    fn or_unsigned(
        &mut self,
        content: Result<usize, AgentError>,
        protect: &Protect,
        entity: &MimeEntity<'_>,
        hp: Hp,
    ) -> Result<usize, AgentError> {
        match content {
            // What may get better by itself is waited for, even where a signature is only wished for; and no header is shown
            // because it cannot be protected.
            Err(error)
                if protect.sign == Some(Requirement::WhenPossible)
                    && error.fault() != Fault::Transient
                    && !matches!(error, AgentError::Header(_)) =>
            {
                self.notes.push(error.to_string());
                self.unsigned(entity, hp)
            }
            other => other,
        }
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

    /// Who gets what: whether it is signed by us, and whether it is encrypted.
    pub(crate) fn forms(&self) -> impl Iterator<Item = (&[String], bool, bool)> {
        self.groups.iter().map(|(place, group)| {
            let is_signed = self.contents.get(*place).is_some_and(|(_, content)| content.is_signed());
            (group.recipients.as_slice(), is_signed, group.seal.is_some())
        })
    }

    /// Writes all forms, one after the other. The largest group's stays with the MTA, and is written first where its content
    /// is needed again. Where somebody is no plain address it is his group's: an MTA that is told to remove him may not do it,
    /// and he would get what is for others. Where it may find nobody, no form stays, if there are several.
    pub(crate) fn finish(
        mut self,
        message: &Message,
        entity: &MimeEntity<'_>,
        forged: &[FieldRef],
        keep: &mut Keep<'_>,
    ) -> Result<Outcome, AgentError> {
        // What leaves as it is takes its content with it.
        self.groups.sort_by_key(|(place, group)| group.seal.is_none().then_some(*place));
        let stays = self.staying()?.map(|at| self.groups.remove(at));
        let Self { contents, groups, notes, received, .. } = self;
        let mut contents: Vec<_> = contents.into_iter().map(|(_, content)| Some(content)).collect();
        let is_needed = |rest: &[(usize, Group)], place: usize| rest.iter().any(|(known, _)| *known == place);
        let mut main = match &stays {
            Some((place, group)) if group.seal.is_some() => Some(form(
                &mut contents,
                *place,
                group,
                is_needed(&groups, *place),
                entity,
                received.as_ref(),
            )?),
            _ => None,
        };
        let last = stays.as_ref().filter(|_| main.is_none()).map(|(place, _)| *place);
        let (mut removed, mut largest) = (Vec::new(), (0, "passed"));
        for (at, (of, group)) in groups.iter().enumerate() {
            let rest = groups.get(at + 1..).unwrap_or_default();
            let again = is_needed(rest, *of) || last == Some(*of);
            let (action, mut edits) = form(&mut contents, *of, group, again, entity, received.as_ref())?;
            largest = largest.max((group.recipients.len(), action));
            edits.remove.extend(forged.iter().cloned());
            removed.extend(group.recipients.iter().cloned());
            let (returned, sender) = (edits.returned, edits.sender.clone());
            let (recipients, octets) = (group.recipients.clone(), edits.into_octets(message));
            keep(Copy { recipients, octets, returned, sender }).map_err(AgentError::NotKept)?;
        }
        let mut reason = notes.join("; ");
        let Some((place, group)) = stays else {
            let outcome = Outcome::unchanged(largest.1, format!("{} copies for all; {reason}", groups.len()));
            return Ok(Outcome { disposition: Disposition::Replace, ..outcome });
        };
        let (action, mut edits) = match main.take() {
            Some(main) => main,
            None => form(&mut contents, place, &group, false, entity, received.as_ref())?,
        };
        edits.remove.extend(forged.iter().cloned());
        edits.remove_recipients.extend(removed);
        if !groups.is_empty() {
            reason = format!("{} copies for others; {reason}", groups.len());
        }
        Ok(Outcome { edits, ..Outcome::unchanged(action, reason) })
    }

    /// The group whose form stays with the MTA, if one may.
    fn staying(&self) -> Result<Option<usize>, AgentError> {
        let forms = self.groups.len();
        // Where it is not sure who is removed, nobody need be.
        if self.told != Told::AsWritten && forms > 1 {
            return Ok(None);
        }
        let stays = |group: &Group| !group.recipients.iter().all(|recipient| plain(recipient).is_some());
        if self.groups.iter().filter(|(_, group)| stays(group)).count() > 1 {
            return Err(AgentError::NotRemovable { forms });
        }
        let all = self.groups.iter().enumerate();
        let largest = all.max_by_key(|(at, (_, group))| (stays(group), group.recipients.len(), Reverse(*at)));
        largest.map(|(at, _)| Some(at)).ok_or(AgentError::NoSuchShare)
    }
}

/// The form for a group, and a word for it.
fn form(
    contents: &mut [Option<Content>],
    place: usize,
    group: &Group,
    is_needed: bool,
    entity: &MimeEntity<'_>,
    received: Option<&(String, String)>,
) -> Result<(&'static str, Edits), AgentError> {
    let Some(slot) = contents.get_mut(place) else { return Err(AgentError::NoSuchShare) };
    let Some(content) = slot.take() else { return Err(AgentError::NoSuchShare) };
    let is_signed = content.is_signed();
    let (action, mut edits) = match (&group.seal, is_signed) {
        (Some(plan), is_signed) => {
            let action = if is_signed { "signed and encrypted" } else { "encrypted" };
            let sealed = if is_needed {
                slot.insert(content).sealed(entity, plan)?
            } else {
                content.into_sealed(entity, plan)?
            };
            (action, sealed)
        }
        (None, true) => ("signed", content.into_edits(entity)),
        (None, false) => ("passed", content.into_edits(entity)),
    };
    edits.prepend.extend(received.filter(|_| !is_signed).cloned());
    Ok((action, edits))
}
