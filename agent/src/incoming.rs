//! Mail from elsewhere, for all of its recipients: opened for those whose keys do, verified, and treated as the rules say.
//!
//! Recipients of whom one has the key and another has not, or whom different rules are about, get different forms of
//! a message; one stays with the MTA, the others are copies, as with outgoing mail. The answer is one for all, so the
//! strictest of their rules gives it.

mod answers;
mod bodies;
mod forms;
mod rewrite;
mod subject;

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use smime::{
    MailAddress,
    message::{AuthResult, Verdict},
    mime::{Message, MimeEntity, possible_originators, shown_originator, single_originator},
};

use bodies::MOST_FORMS;
use forms::{Form, Making};

use crate::{
    Agent, AgentError, Copy, Disposition, Edits, Envelope, FieldRef, Keep, Opening, Outcome, Protection,
    Received, Returned, Settings, Told, authres,
    config::Action,
    harvest::Signed,
    mailbox::Mailbox,
    settings::{About, IncomingRule},
};

/// The rules for mail from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    rules: Vec<Arc<IncomingRule>>,
    default: Arc<IncomingRule>,
    /// What separates a recipient's own address from what he adds to it.
    delimiters: String,
    /// Whether our tags mean something to readers of subjects here.
    tags_subjects: bool,
}

/// Some recipients, and the rule that is about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingShare {
    /// As they were given.
    pub recipients: Vec<String>,
    /// The rule; of line 0 where none is about them.
    pub rule: Arc<IncomingRule>,
}

impl Incoming {
    /// Takes the rules from the settings.
    pub fn new(settings: &Settings) -> Self {
        let rules: Vec<_> = settings.incoming().iter().cloned().map(Arc::new).collect();
        let tags_subjects = rules.iter().any(|rule| rule.subject_tag);
        let delimiters = settings.milter().map_or_else(String::new, |m| m.recipient_delimiter.clone());
        Self { rules, default: Arc::default(), delimiters, tags_subjects }
    }

    /// Into how many shares the recipients may be parted, at most: those of whom the same rules may be get the same.
    pub(crate) fn most_shares(&self, envelope: &Envelope) -> usize {
        let rules_of = |recipient: &String| -> Vec<About> {
            let mailbox = Mailbox::read(recipient);
            let about =
                |rule: &Arc<IncomingRule>| rule.conditions.about_recipient_of(&mailbox, &self.delimiters);
            self.rules.iter().map(about).collect()
        };
        envelope.recipients.iter().map(rules_of).collect::<HashSet<_>>().len().max(1)
    }

    /// Which rule is about which recipients of a message; a pure function of envelope, header and size. There is always a
    /// share. Where it is not clear who the author is, readers may show anybody of whom a rule is, and where it is not clear
    /// who a recipient or the sender is, it may be anybody of whom a rule is: then all of these rules count, each as strict
    /// as it is.
    pub fn shares(&self, envelope: &Envelope, message: &MimeEntity<'_>) -> Vec<IncomingShare> {
        let (header, octets) = (message.header(), message.octets().len());
        let from = shown_originator(message);
        let possible = possible_originators(message);
        let is_from = |rule: &IncomingRule| {
            let pattern = &rule.conditions.from;
            match (&from, &possible) {
                _ if pattern.matches_what_is_none() => About::Surely,
                (Ok(from), _) if pattern.matches(from) => About::Surely,
                (Ok(_), _) => About::Others,
                (Err(_), Some(all)) if !all.iter().any(|from| pattern.matches(from)) => About::Others,
                (Err(_), _) => About::Perhaps,
            }
        };
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|rule| (rule, rule.conditions.about(envelope, &header, octets).min(is_from(rule))))
            .filter(|(_, about)| *about != About::Others)
            .collect();
        let rule_for = |mailbox: &Mailbox| {
            let mut perhaps: Vec<&Arc<IncomingRule>> = Vec::new();
            let mut surely = &self.default;
            for (rule, about) in &rules {
                match rule.conditions.about_recipient_of(mailbox, &self.delimiters).min(*about) {
                    About::Others => {}
                    About::Perhaps => perhaps.push(rule),
                    About::Surely => {
                        surely = rule;
                        break;
                    }
                }
            }
            let strictest = |rule: Arc<IncomingRule>, other: &Arc<IncomingRule>| Arc::new(rule.with(other));
            perhaps.into_iter().fold(Arc::clone(surely), strictest)
        };
        let mut shares: Vec<IncomingShare> = Vec::new();
        let mut add = |recipient: Option<&String>, mailbox: &Mailbox| {
            let rule = rule_for(mailbox);
            let at = shares.iter().position(|share| share.rule == rule);
            let at = at.unwrap_or_else(|| {
                shares.push(IncomingShare { recipients: Vec::new(), rule });
                shares.len() - 1
            });
            if let (Some(share), Some(recipient)) = (shares.get_mut(at), recipient) {
                share.recipients.push(recipient.clone());
            }
        };
        for recipient in &envelope.recipients {
            add(Some(recipient), &Mailbox::read(recipient));
        }
        if envelope.recipients.is_empty() {
            add(None, &Mailbox::Nobody);
        }
        shares
    }
}

impl Agent {
    /// The edits that take off a message whatever claims to have been found by us: fields, and tags where readers here take
    /// them for ours. One that has such results, or is known to have had some, came from elsewhere, and stays known as that.
    pub fn without_results(&self, message: &Message, had_results: bool) -> Edits {
        let entity = message.entity();
        let mut edits = Edits::default();
        if self.incoming().tags_subjects {
            subject::retag(&mut edits, &entity, None, None);
        }
        edits.remove.extend(self.forged_in(&entity));
        if had_results || authres::has_ours(&entity, self.authserv_id()) {
            edits.prepend.push(self.not_looked_at());
        }
        edits
    }

    /// Opens, verifies and treats a message.
    pub(crate) fn receive(
        &self,
        envelope: &Envelope,
        message: &Message,
        is_incoming: bool,
        at: SystemTime,
        keep: &mut Keep<'_>,
    ) -> Result<Outcome, AgentError> {
        let entity = message.entity();
        let mut shares = self.incoming().shares(envelope, &entity);
        if !is_incoming {
            // Nothing of the rules is about mail on its way out, but whose mail is not to be opened here.
            let decrypt = shares.iter().all(|share| share.rule.decrypt);
            let rule = Arc::new(IncomingRule { decrypt, ..IncomingRule::default() });
            shares = vec![IncomingShare { recipients: envelope.recipients.clone(), rule }];
        }
        let shares =
            if self.can_split && envelope.is_removable() { shares } else { together(shares, envelope) };
        let counted = opened_forms(shares.len(), envelope);
        let shares = treated_alike(shares);
        let mut making = Making::of(self, envelope, message, at, counted);
        let mut forms: Vec<Form> = Vec::new();
        for IncomingShare { recipients, rule } in &shares {
            making.add(&mut forms, recipients, rule)?;
        }
        let disposition = disposition(&forms)?;
        if disposition != Disposition::Deliver && forms.len() > 1 {
            // Copies would be delivered. One message is held, and so one that all of them may get: by all of their rules.
            let strictest =
                forms.iter().max_by_key(|form| form.decision.action).map(|form| Arc::clone(&form.rule));
            let stricter = |rule: IncomingRule, share: &IncomingShare| rule.with(&share.rule);
            let rule = shares.iter().fold(strictest.as_deref().cloned().unwrap_or_default(), stricter);
            // They are made, all the same, where some of it was put to keys: that they can be kept, and how long that takes, would
            // tell what came of these.
            let is_tried = forms.iter().any(|form| form.edits.returned == Returned::HeadersOnly);
            let stays = main_of(&forms).filter(|_| envelope.told != Told::Rewritten);
            let forged = self.forged_in(&entity);
            for (at, form) in forms.drain(..).enumerate() {
                if is_tried && Some(at) != stays {
                    let Form { recipients, edits, body, .. } = form;
                    keep(copy(recipients, edits, body, &forged, message)).map_err(AgentError::NotKept)?;
                }
            }
            forms.push(making.only(&Arc::new(rule))?);
        }
        drop(making);
        self.finish(forms, disposition, is_incoming, envelope, message, keep)
    }

    /// Whether reports on an opened message go to its author, to whom the configuration names, or to nobody: never to a
    /// stranger who sends what he captured.
    fn reports_stay(&self, envelope: &Envelope, entity: &MimeEntity<'_>) -> bool {
        let is_authors = || match (MailAddress::parse(&envelope.sender), single_originator(entity)) {
            (Ok(sender), Ok(author)) => sender.folded() == author.folded(),
            _ => false,
        };
        envelope.has_null_sender() || self.opened_mail_sender().is_some() || is_authors()
    }

    /// One outcome of all forms. One of them stays with the MTA, if that surely removes whoever gets another.
    fn finish(
        &self,
        mut forms: Vec<Form>,
        disposition: Disposition,
        is_incoming: bool,
        envelope: &Envelope,
        message: &Message,
        keep: &mut Keep<'_>,
    ) -> Result<Outcome, AgentError> {
        let Some(main) = main_of(&forms) else { return Err(AgentError::NoSuchShare) };
        let count = forms.len();
        let main = forms.swap_remove(main);
        if count > 1 && !self.can_split {
            return Err(AgentError::CannotSplit { forms: count });
        }
        let entity = message.entity();
        let forged = self.forged_in(&entity);
        let mut removed = Vec::new();
        let mut part_with = |recipients: Vec<String>, edits, body| {
            removed.extend(recipients.iter().cloned());
            keep(copy(recipients, edits, body, &forged, message)).map_err(AgentError::NotKept)
        };
        for Form { recipients, edits, body, .. } in forms {
            part_with(recipients, edits, body)?;
        }
        let Form { recipients, mut edits, body, received, note, .. } = main;
        let is_delivered = disposition == Disposition::Deliver;
        let disposition = if is_delivered && count > 1 && envelope.told == Told::Rewritten {
            part_with(recipients, std::mem::take(&mut edits), body)?;
            Disposition::Replace
        } else {
            edits.remove_recipients = removed;
            // Nobody else has it any more.
            edits.body = body.map(Arc::unwrap_or_clone);
            disposition
        };
        let action = match (&received.opening, disposition) {
            (_, Disposition::Quarantine) => "quarantined",
            (_, Disposition::Discard) => "discarded",
            (Opening::Opened { .. }, _) => "opened",
            _ => "verified",
        };
        let mut reason = match note {
            Some(note) => format!("{note}; {}", received.verdict.reason()),
            None => received.verdict.reason().to_string(),
        };
        if disposition == Disposition::Replace {
            reason = format!("{count} copies for all; {reason}");
        } else if count > 1 {
            reason = format!("{} copies for others; {reason}", count - 1);
        }
        let layers = Some(layers(&received)).filter(|layers| !layers.is_empty());
        let signed = (self.harvests() && is_incoming && is_delivered)
            .then(|| Signed::of(envelope, &entity, &received.verdict, received.signers, &self.identities))
            .flatten()
            .map(Box::new);
        let verdict = Some(received.verdict);
        let outcome =
            Outcome { edits, verdict, disposition, layers, signed, ..Outcome::unchanged(action, reason) };
        Ok(outcome.with_short_reason())
    }
}

/// The form that stays with the MTA: only of that can it be told what bounces may hold.
fn main_of(forms: &[Form]) -> Option<usize> {
    let main = forms.iter().enumerate().max_by_key(|(at, form)| {
        let is_open = form.edits.returned == Returned::HeadersOnly;
        (is_open, form.recipients.len(), std::cmp::Reverse(*at))
    });
    main.map(|(at, _)| at)
}

/// Another form, without the fields that claim to be ours.
fn copy(
    recipients: Vec<String>,
    mut edits: Edits,
    body: Option<Arc<Vec<u8>>>,
    forged: &[FieldRef],
    message: &Message,
) -> Copy {
    edits.remove.extend(forged.iter().cloned());
    let (returned, sender) = (edits.returned, edits.sender.clone());
    Copy { recipients, octets: edits.into_octets_with(body, message), returned, sender }
}

/// How many bodies of a message may be in memory at a time, of so many shares: see [`Agent::opened_forms`].
pub(crate) fn opened_forms(shares: usize, envelope: &Envelope) -> usize {
    shares.saturating_mul(2).min(envelope.recipients.len()).clamp(1, MOST_FORMS)
}

/// The shares, with those as one whose rules do the same: each of them gets forms of its own.
fn treated_alike(shares: Vec<IncomingShare>) -> Vec<IncomingShare> {
    let mut alike: Vec<IncomingShare> = Vec::new();
    for share in shares {
        match alike.iter_mut().find(|known| known.rule.treats_like(&share.rule)) {
            Some(known) => known.recipients.extend(share.recipients),
            None => alike.push(share),
        }
    }
    alike
}

/// One share of all, by the strictest of their rules: where nobody sends copies, or a recipient is one whom an MTA that is told
/// to remove him may not remove, so that he would get what is for others. It is opened only where all of them may have it, and
/// never with such a recipient, for he owns no key.
fn together(shares: Vec<IncomingShare>, envelope: &Envelope) -> Vec<IncomingShare> {
    let rules = shares.into_iter().map(|share| share.rule);
    let strictest = rules.reduce(|rule, other| Arc::new(rule.with(&other)));
    let all = |rule| IncomingShare { recipients: envelope.recipients.clone(), rule };
    strictest.map(all).into_iter().collect()
}

/// What becomes of the message, which is one for all of its recipients: the strictest that one of their rules says. It is
/// thrown away only where all rules say so.
fn disposition(forms: &[Form]) -> Result<Disposition, AgentError> {
    let is_discarded = |form: &Form| form.decision.action == Action::Discard;
    if !forms.is_empty() && forms.iter().all(is_discarded) {
        return Ok(Disposition::Discard);
    }
    let strictness = |form: &&Form| match form.decision.action {
        Action::Discard => Action::Quarantine,
        other => other,
    };
    let Some(strictest) = forms.iter().max_by_key(strictness) else { return Ok(Disposition::Deliver) };
    let unwanted = |is_final| AgentError::Unwanted { cause: strictest.decision.cause, is_final };
    match strictest.decision.action {
        Action::Deliver | Action::Tag => Ok(Disposition::Deliver),
        Action::Quarantine | Action::Discard => Ok(Disposition::Quarantine),
        Action::Defer => Err(unwanted(false)),
        Action::Reject => Err(unwanted(true)),
    }
}

/// What is said beside the verdict of a message that was, or was not, opened.
fn note(opening: &Opening, verdict: &Verdict, rule: &IncomingRule) -> Option<String> {
    match opening {
        Opening::NotEncrypted => None,
        // CBC alone lets anybody change the content; only a signature inside tells (EFAIL).
        Opening::Opened { cipher, protection } => {
            let weak = if *protection == Protection::Weak { ", weak" } else { "" };
            let signed = verdict.result() == AuthResult::Pass;
            let doubtful = *protection < Protection::Authenticated && !signed;
            let unauthenticated = if doubtful { ", content not authenticated" } else { "" };
            Some(format!("decrypted ({cipher}{weak}){unauthenticated}"))
        }
        Opening::NotEntitled if !rule.decrypt => Some("not decrypted: a rule says so".to_owned()),
        Opening::NotEntitled => Some("not decrypted: not every recipient has the key here".to_owned()),
        Opening::Failed(reason) => Some(format!("not decrypted: {reason}")),
    }
}

/// The layers that were found, from outside in, each with what it is worth.
fn layers(received: &Received) -> String {
    let opened = received.ciphers.iter().map(|cipher| format!("encrypted {cipher}"));
    let signed = received.verdict.layers().iter().map(|layer| {
        let form = match layer.form {
            smime::message::Form::MultipartSigned => "multipart/signed",
            smime::message::Form::SignedData => "signed-data",
            smime::message::Form::EnvelopedData => "enveloped-data",
            smime::message::Form::CompressedData => "compressed-data",
        };
        let decides = if layer.decides { " (decides)" } else { "" };
        format!("{form} {}{decides}", AuthResult::from(&layer.reason).as_str())
    });
    opened.chain(signed).collect::<Vec<_>>().join(", ")
}
