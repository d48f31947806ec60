//! Mail from elsewhere, for all of its recipients: opened for those who own a key, verified, and treated as the rules say.
//!
//! Recipients of whom one owns a key and another does not, or whom different rules are about, get different forms of
//! a message; one stays with the MTA, the others are copies, as with outgoing mail. The answer is one for all, so the
//! strictest of their rules gives it.

mod answers;
mod bodies;
mod rewrite;
mod subject;

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use smime::{
    MailAddress, Room,
    cms::{EnvelopedData, Object},
    message::{AuthResult, Ciphertext, Verdict, VerifiedSigner},
    mime::{Message, MimeEntity, possible_originators, single_originator},
};

use answers::Answers;
use bodies::Bodies;

pub(crate) use bodies::MOST_FORMS;

use crate::{
    Agent, AgentError, Copy, Disposition, Edits, Entitled, Envelope, Keep, Opening, Outcome, Protection,
    Received, Returned, Settings, authres,
    config::Action,
    harvest::Signed,
    receiving::Whole,
    settings::{Decision, IncomingRule},
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
        let rules_of = |recipient: &String| -> Vec<bool> {
            let address = MailAddress::parse(recipient).ok();
            let is_about = |rule: &Arc<IncomingRule>| {
                rule.conditions.hold_for_recipient_of(address.as_ref(), &self.delimiters)
            };
            self.rules.iter().map(is_about).collect()
        };
        envelope.recipients.iter().map(rules_of).collect::<HashSet<_>>().len().max(1)
    }

    /// Which rule is about which recipients of a message; a pure function of envelope, header and size. There is always a
    /// share. Where it is not clear who the author is, readers may show anybody of whom a rule is: then all of these rules
    /// count, each as strict as it is.
    pub fn shares(&self, envelope: &Envelope, message: &MimeEntity<'_>) -> Vec<IncomingShare> {
        let (header, octets) = (message.header(), message.octets().len());
        let from = single_originator(message);
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
            .filter(|rule| rule.conditions.hold_for(envelope, &header, octets))
            .map(|rule| (rule, is_from(rule)))
            .collect();
        let rule_for = |address: Option<&MailAddress>| {
            let mut perhaps: Vec<&Arc<IncomingRule>> = Vec::new();
            let mut surely = &self.default;
            for (rule, about) in &rules {
                if *about == About::Others
                    || !rule.conditions.hold_for_recipient_of(address, &self.delimiters)
                {
                    continue;
                }
                if *about == About::Surely {
                    surely = rule;
                    break;
                }
                perhaps.push(rule);
            }
            let strictest = |rule: Arc<IncomingRule>, other: &Arc<IncomingRule>| Arc::new(rule.with(other));
            perhaps.into_iter().fold(Arc::clone(surely), strictest)
        };
        let mut shares: Vec<IncomingShare> = Vec::new();
        let mut add = |recipient: Option<&String>, address: Option<&MailAddress>| {
            let rule = rule_for(address);
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
            add(Some(recipient), MailAddress::parse(recipient).ok().as_ref());
        }
        if envelope.recipients.is_empty() {
            add(None, None);
        }
        shares
    }
}

/// Whether a rule's `from` is about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Surely,
    /// Its author is not clear, and may be shown as one of those.
    Perhaps,
    Others,
}

/// One form of a message, and who gets it.
struct Form {
    recipients: Vec<String>,
    rule: Arc<IncomingRule>,
    /// All but the body, once that is shared.
    edits: Edits,
    /// Its body, where that is a new one.
    body: Option<Arc<Vec<u8>>>,
    received: Received,
    note: Option<String>,
    decision: Decision,
}

/// What the forms of a message have in common.
struct Common {
    answers: Answers,
    bodies: Bodies,
}

impl Form {
    /// Whether whoever gets this may as well get the other.
    fn is_like(&self, other: &Self) -> bool {
        self.edits == other.edits && self.body == other.body && self.decision == other.decision
    }
}

impl Agent {
    /// The edits that take off a message whatever claims to have been found by us: fields, and tags where readers here take
    /// them for ours.
    pub fn without_results(&self, message: &Message) -> Edits {
        let entity = message.entity();
        let mut edits = Edits::default();
        if self.incoming().tags_subjects {
            subject::retag(&mut edits, &entity, None, None);
        }
        edits.remove.extend(self.forged_in(&entity));
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
        let shares = if is_incoming {
            self.incoming().shares(envelope, &entity)
        } else {
            let rule = Arc::clone(&self.incoming().default);
            vec![IncomingShare { recipients: envelope.recipients.clone(), rule }]
        };
        let octets = message.octets().len();
        let mut common = Common { answers: Answers::default(), bodies: Bodies::of(octets) };
        let mut forms: Vec<Form> = Vec::new();
        for IncomingShare { recipients, rule } in shares {
            for recipients in self.by_ownership(recipients, &rule, &entity) {
                let form = self.form(recipients, &rule, envelope, message, at, &mut common)?;
                match forms.iter_mut().find(|known| known.is_like(&form)) {
                    Some(known) => known.recipients.extend(form.recipients),
                    None => forms.push(form),
                }
            }
        }
        let disposition = disposition(&forms)?;
        if disposition != Disposition::Deliver && forms.len() > 1 {
            // Copies would be delivered. One message is held, and so one that all of them may get.
            let strictest =
                forms.iter().max_by_key(|form| form.decision.action).map(|form| Arc::clone(&form.rule));
            let rule = strictest.unwrap_or_default();
            // Their contents are not wanted any more.
            forms.clear();
            common.bodies = Bodies::of(octets);
            let all = envelope.recipients.clone();
            forms = vec![self.form(all, &rule, envelope, message, at, &mut common)?];
        }
        drop(common);
        self.finish(forms, disposition, is_incoming, envelope, message, keep)
    }

    /// Parts recipients into those for whom the message can be opened, and all others; everybody together where nobody can
    /// get a copy.
    fn by_ownership(
        &self,
        recipients: Vec<String>,
        rule: &IncomingRule,
        entity: &MimeEntity<'_>,
    ) -> Vec<Vec<String>> {
        if !self.can_split || !rule.decrypt || recipients.len() < 2 {
            return vec![recipients];
        }
        let Some(ciphertext) = Ciphertext::find_within(entity, Room::of(entity.octets().len())) else {
            return vec![recipients];
        };
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&ciphertext.object) else {
            return vec![recipients];
        };
        let (owners, others): (Vec<_>, Vec<_>) =
            recipients.into_iter().partition(|recipient| self.owns_a_key_of(&enveloped, recipient));
        [owners, others].into_iter().filter(|some| !some.is_empty()).collect()
    }

    fn owns_a_key_of(&self, enveloped: &EnvelopedData<'_>, recipient: &str) -> bool {
        MailAddress::parse(recipient).is_ok_and(|recipient| {
            let mut owned = self.identities.owned_by(&recipient);
            owned.any(|identity| enveloped.recipient_for(identity.certificate()).is_some())
        })
    }

    /// What some recipients get by a rule.
    fn form(
        &self,
        recipients: Vec<String>,
        rule: &Arc<IncomingRule>,
        envelope: &Envelope,
        message: &Message,
        at: SystemTime,
        Common { answers, bodies }: &mut Common,
    ) -> Result<Form, AgentError> {
        let addresses: Vec<_> =
            recipients.iter().map(|recipient| MailAddress::parse(recipient).ok()).collect();
        let entitled = if rule.decrypt { Entitled::Recipients(&addresses) } else { Entitled::Nobody };
        let turn = self.receiving().receive_whole(message, entitled, at);
        let whole = turn.wait_asking(message, |identity, question| {
            answers.or_ask(identity, question, || question.ask_decryptor(&self.audited(identity, envelope)))
        })?;
        let mut form = self.form_of(recipients, rule, envelope, message, whole);
        let Some(body) = form.edits.body.take() else { return Ok(form) };
        if let Some(shared) = bodies.shared(body) {
            form.body = Some(shared);
            return Ok(form);
        }
        // Whether it opens must not show in any reply: so it stays closed for these, as what does not open.
        let mut whole = self.receiving().receive_whole(message, Entitled::Nobody, at).wait(message)?;
        whole.received.opening = Opening::Failed("its forms take too much room".to_owned());
        let mut form = self.form_of(form.recipients, rule, envelope, message, whole);
        form.body = form.edits.body.take().map(|body| bodies.closed(body));
        Ok(form)
    }

    /// The same of what came out.
    fn form_of(
        &self,
        recipients: Vec<String>,
        rule: &Arc<IncomingRule>,
        envelope: &Envelope,
        message: &Message,
        Whole { mut received, content: wrapped }: Whole,
    ) -> Form {
        let entity = message.entity();
        let note = note(&received.opening, &received.verdict, rule);
        let mut edits = std::mem::take(&mut received.edits);
        let reports_stay = self.reports_stay(envelope, &entity);
        let promoted =
            rewrite::rewrite(&mut edits, &entity, wrapped.as_deref(), &received, rule, reports_stay);
        let words = rule.subject_tag.then(|| subject::words(&received.opening, received.verdict.result()));
        if self.incoming().tags_subjects {
            subject::retag(&mut edits, &entity, promoted, words.flatten());
        }
        let decision = rule.decide(&received.opening, received.verdict.result());
        let field = authres::value(&received.verdict, note.as_deref(), self.authserv_id());
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
            edits.sender = self.opened_mail_sender().cloned();
        }
        // Forms are kept one beside the other, and who signed beyond the message.
        let signers = std::mem::take(&mut received.signers);
        if self.harvests() {
            received.signers = signers.into_iter().map(VerifiedSigner::settled).collect();
        }
        Form { recipients, rule: Arc::clone(rule), edits, body: None, received, note, decision }
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

    /// One outcome of all forms.
    fn finish(
        &self,
        mut forms: Vec<Form>,
        disposition: Disposition,
        is_incoming: bool,
        envelope: &Envelope,
        message: &Message,
        keep: &mut Keep<'_>,
    ) -> Result<Outcome, AgentError> {
        // Only of the form that stays can the MTA be told what bounces may hold.
        let main = forms.iter().enumerate().max_by_key(|(at, form)| {
            let is_open = form.edits.returned == Returned::HeadersOnly;
            (is_open, form.recipients.len(), std::cmp::Reverse(*at))
        });
        let Some(main) = main.map(|(at, _)| at) else { return Err(AgentError::NoSuchShare) };
        let count = forms.len();
        let Form { mut edits, body, received, note, .. } = forms.swap_remove(main);
        if count > 1 && !self.can_split {
            return Err(AgentError::CannotSplit { forms: count });
        }
        let entity = message.entity();
        let forged = self.forged_in(&entity);
        let copies = forms.len();
        for Form { recipients, edits: mut copied, body, .. } in forms {
            copied.remove.extend(forged.iter().cloned());
            edits.remove_recipients.extend(recipients.iter().cloned());
            let (returned, sender) = (copied.returned, copied.sender.clone());
            let octets = copied.into_octets_with(body, message);
            keep(Copy { recipients, octets, returned, sender }).map_err(AgentError::NotKept)?;
        }
        // Nobody else has it any more.
        edits.body = body.map(Arc::unwrap_or_clone);
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
        if copies > 0 {
            reason = format!("{copies} copies for others; {reason}");
        }
        let layers = Some(layers(&received)).filter(|layers| !layers.is_empty());
        let is_delivered = disposition == Disposition::Deliver;
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
