//! The forms that a message from elsewhere gets, each for those of its recipients who may have it.

use std::{sync::Arc, time::SystemTime};

use smime::{
    Room,
    cms::{EnvelopedData, Object},
    message::{Ciphertext, VerifiedSigner},
    mime::Message,
};

use tracing::warn;

use super::{answers::Answers, bodies::Bodies, layers, note, rewrite, subject};
use crate::{
    Agent, AgentError, Edits, Entitled, Envelope, Opening, Received, Returned, authres,
    config::Action,
    fit::{Fit, may_come_back},
    receiving::{Group, Whole},
    settings::{Decision, IncomingRule},
};

/// One form of a message, and who gets it.
pub(super) struct Form {
    pub(super) recipients: Vec<String>,
    pub(super) rule: Arc<IncomingRule>,
    /// All but the body, once that is shared.
    pub(super) edits: Edits,
    /// Its body, where that is a new one.
    pub(super) body: Option<Arc<Vec<u8>>>,
    pub(super) received: Received,
    pub(super) note: Option<String>,
    pub(super) decision: Decision,
}

impl Form {
    /// Whether whoever gets this may as well get the other.
    fn is_like(&self, other: &Self) -> bool {
        self.edits == other.edits && self.body == other.body && self.decision == other.decision
    }
}

/// A message that gets its forms, and what they have in common.
pub(super) struct Making<'a> {
    pub(super) agent: &'a Agent,
    pub(super) envelope: &'a Envelope,
    pub(super) message: &'a Message,
    pub(super) at: SystemTime,
    answers: Answers,
    bodies: Bodies,
    /// How large an opened form may be.
    fit: Fit,
    /// How many bodies are counted for it.
    counted: usize,
    /// Whether its recipients may get different forms: somebody sends copies, and the MTA surely removes whoever gets one.
    may_part: bool,
}

impl<'a> Making<'a> {
    /// None yet. So many bodies of a message were counted before (`Agent::opened_forms`).
    pub(super) fn of(
        agent: &'a Agent,
        envelope: &'a Envelope,
        message: &'a Message,
        at: SystemTime,
        counted: usize,
    ) -> Self {
        let bodies = Bodies::of(message.octets().len(), counted);
        let may_part = agent.can_split && envelope.is_removable();
        // What comes back as a copy must be taken by the milter, too.
        let most = agent.max_message_octets().unwrap_or(usize::MAX);
        let fit = Fit::of(message, envelope, agent.mta_message_octets().map(|limit| limit.min(most)));
        Self { agent, envelope, message, at, answers: Answers::default(), bodies, fit, counted, may_part }
    }

    /// Adds those that these recipients get by a rule: where copies can be sent each what his own keys open, whatever others
    /// own, and everybody the same where not.
    pub(super) fn add(
        &mut self,
        forms: &mut Vec<Form>,
        recipients: &[String],
        rule: &Arc<IncomingRule>,
    ) -> Result<(), AgentError> {
        for mut rest in self.by_name(recipients, rule) {
            let mut turns = 0;
            while !rest.is_empty() || turns == 0 {
                let (form, left) = if turns < MOST_TURNS {
                    self.form(rest, rule, self.may_part)?
                } else {
                    (self.closed(rest, rule, "its keys open it in too many ways")?, Vec::new())
                };
                // What was tried for others stays apart even where it came to the same: how many forms there are would tell
                // whether they opened.
                let is_tried = form.edits.returned == Returned::HeadersOnly;
                match forms.iter_mut().find(|known| !is_tried && known.is_like(&form)) {
                    Some(known) => known.recipients.extend(form.recipients),
                    None => forms.push(form),
                }
                rest = left;
                turns += 1;
            }
        }
        Ok(())
    }

    /// The only one, for all of its recipients. Others that were made are not wanted any more.
    pub(super) fn only(&mut self, rule: &Arc<IncomingRule>) -> Result<Form, AgentError> {
        self.bodies = Bodies::of(self.message.octets().len(), self.counted);
        Ok(self.form(self.envelope.recipients.clone(), rule, false)?.0)
    }

    /// Parts recipients into those of whom the message names a certificate and all others, whose keys are not asked; everybody
    /// together where nobody can get a copy. Its sender knows who is named: that alone entitles nobody.
    fn by_name(&self, recipients: &[String], rule: &IncomingRule) -> Vec<Vec<String>> {
        let together = || vec![recipients.to_vec()];
        if !self.may_part || !rule.decrypt || recipients.len() < 2 {
            return together();
        }
        let parted = self.of_ciphertext(|enveloped| {
            let (named, others): (Vec<_>, Vec<_>) =
                recipients.iter().cloned().partition(|recipient| self.is_named(enveloped, recipient));
            [named, others].into_iter().filter(|some| !some.is_empty()).collect()
        });
        parted.unwrap_or_else(together)
    }

    /// Something of the outermost ciphertext, if there is one.
    fn of_ciphertext<T>(&self, what: impl FnOnce(&EnvelopedData<'_>) -> T) -> Option<T> {
        let entity = self.message.entity();
        let ciphertext = Ciphertext::find_within(&entity, Room::of(entity.octets().len()))?;
        match Object::parse(&ciphertext.object) {
            Ok(Object::EnvelopedData(enveloped)) => Some(what(&enveloped)),
            _ => None,
        }
    }

    /// Whether it would be put to keys of these, if it had another size: where they may be parted to those of some of them,
    /// and else to those of all or to nobody's.
    fn would_be_tried(&self, recipients: &[String], may_part: bool) -> bool {
        let tried = self.of_ciphertext(|enveloped| {
            let mut named = recipients.iter().map(|recipient| self.is_named(enveloped, recipient));
            if may_part { named.any(|is_named| is_named) } else { named.all(|is_named| is_named) }
        });
        tried.unwrap_or(false)
    }

    fn is_named(&self, enveloped: &EnvelopedData<'_>, recipient: &str) -> bool {
        self.envelope.removable(recipient).is_some_and(|recipient| {
            let mut owned = self.agent.identities.owned_by(&recipient);
            owned.any(|identity| enveloped.recipient_for(identity.certificate()).is_some())
        })
    }

    /// What recipients get by a rule; of those who may be parted what one of them may get, and who may not.
    fn form(
        &mut self,
        recipients: Vec<String>,
        rule: &Arc<IncomingRule>,
        may_part: bool,
    ) -> Result<(Form, Vec<String>), AgentError> {
        // Whom no copy can part from others gets what all of these may get, or the reply would tell which keys were right.
        let of_all = if may_part { &recipients } else { &self.envelope.recipients };
        let addresses: Vec<_> = of_all.iter().map(|recipient| self.envelope.removable(recipient)).collect();
        let may_open = self.fit.may_open()
            && (!self.may_part || may_come_back(self.message, self.agent.max_message_octets()));
        let group = match may_part {
            _ if !rule.decrypt || !may_open => Group::of(Entitled::Nobody),
            true => Group::of_some(&addresses),
            false => Group::of(Entitled::Recipients(&addresses)),
        };
        let Self { agent, envelope, message, answers, .. } = &*self;
        let turn = agent.receiving().receive_whole(message, group, self.fit, self.at);
        let mut whole = turn.wait_asking(message, |identity, question| {
            answers.or_ask(identity, question, || question.ask_decryptor(&agent.audited(identity, envelope)))
        })?;
        let is_closed = rule.decrypt && !may_open && whole.received.opening == Opening::NotEntitled;
        if is_closed && self.would_be_tried(of_all, may_part) {
            whole.received.fail("it is about as large as is taken");
            let octets = self.message.octets().len();
            warn!(
                octets,
                "not decrypted: it is too near to `mta-message-bytes` or `max-message-bytes`, or has a very large header"
            );
        }
        let (recipients, left) = parted(recipients, &whole.left);
        let mut form = self.form_of(recipients, rule, whole);
        if matches!(form.received.opening, Opening::Opened { .. }) && !self.fit.takes(&form.edits) {
            // An MTA that refuses it for its size would tell that it opened.
            let (came, octets) = (self.message.body().len(), form.edits.body.as_ref().map(Vec::len));
            warn!(
                came,
                octets, "not decrypted: it would be larger than what came, or than `mta-message-bytes`"
            );
            return Ok((self.closed(form.recipients, rule, "it would become larger")?, left));
        }
        // Whether it opens must not show in any reply: neither here
        if matches!(form.received.opening, Opening::Opened { .. }) && !form.edits.can_be_written() {
            return Ok((self.closed(form.recipients, rule, "no MTA would write what came out")?, left));
        }
        let Some(body) = form.edits.body.take() else { return Ok((form, left)) };
        form.body = self.bodies.shared(body);
        if form.body.is_none() {
            // nor here.
            form = self.closed(form.recipients, rule, "its forms take too much room")?;
        }
        Ok((form, left))
    }

    /// The same where it stays closed for them, as what does not open.
    fn closed(
        &mut self,
        recipients: Vec<String>,
        rule: &Arc<IncomingRule>,
        why: &str,
    ) -> Result<Form, AgentError> {
        let group = Group::of(Entitled::Nobody);
        let mut whole = self
            .agent
            .receiving()
            .receive_whole(self.message, group, Fit::Any, self.at)
            .wait(self.message)?;
        whole.received.fail(why);
        let mut form = self.form_of(recipients, rule, whole);
        form.body = form.edits.body.take().map(|body| self.bodies.closed(body));
        Ok(form)
    }

    /// The same of what came out.
    fn form_of(&self, recipients: Vec<String>, rule: &Arc<IncomingRule>, whole: Whole) -> Form {
        let Self { agent, envelope, message, .. } = *self;
        let Whole { mut received, content: wrapped, .. } = whole;
        let entity = message.entity();
        let note = note(&received.opening, &received.verdict, rule);
        let mut edits = std::mem::take(&mut received.edits);
        let reports_stay = agent.reports_stay(envelope, &entity);
        let promoted = rewrite::rewrite(
            &mut edits,
            &entity,
            wrapped.as_deref(),
            &received,
            rule,
            reports_stay,
            self.fit,
        );
        let words = rule.subject_tag.then(|| subject::words(&received.opening, received.verdict.result()));
        if agent.incoming().tags_subjects {
            subject::retag(&mut edits, &entity, promoted, words.flatten());
        }
        let decision = rule.decide(&received.opening, received.verdict.result());
        let field = authres::value(&received.verdict, note.as_deref(), agent.authserv_id());
        edits.prepend.push((authres::NAME.to_owned(), field));
        if decision.action != Action::Deliver {
            edits.prepend.push((authres::TAG.to_owned(), decision.cause.to_owned()));
        }
        if rule.details {
            let layers = layers(&received);
            let value = authres::details(&received.verdict, note.as_deref(), &layers);
            edits.prepend.push((authres::DETAILS.to_owned(), value));
        }
        edits.returned = received.opening.returned();
        if edits.returned == Returned::HeadersOnly {
            edits.sender = agent.opened_mail_sender().cloned();
        }
        // Forms are kept one beside the other, and who signed beyond the message.
        let signers = std::mem::take(&mut received.signers);
        if agent.harvests() {
            received.signers = signers.into_iter().map(VerifiedSigner::settled).collect();
        }
        Form { recipients, rule: Arc::clone(rule), edits, body: None, received, note, decision }
    }
}

/// Those who stay, and those at these places.
fn parted(recipients: Vec<String>, left: &[usize]) -> (Vec<String>, Vec<String>) {
    let is_left: std::collections::HashSet<_> = left.iter().collect();
    let (left, stay): (Vec<_>, Vec<_>) =
        recipients.into_iter().enumerate().partition(|(place, _)| is_left.contains(place));
    let names = |some: Vec<(usize, String)>| some.into_iter().map(|(_, name)| name).collect();
    (names(stay), names(left))
}

/// So often a message is looked at for some of the recipients of a rule, each time for those who have another key than those
/// before. An honest one has one key for each layer.
const MOST_TURNS: usize = 4;
