//! What becomes of a mail on its way out, in words that can be counted: found out as `hsmime explain` does, with the cache and
//! without the sources of certificates.

use std::{collections::HashSet, time::SystemTime};

use agent::{
    AgentError, Asking, Envelope, Foreseen, Foresight, Form, Plan, Policy, Protect, RefuseReason, Requirement,
};
use anyhow::Result;
use lookup::Instead;
use smime::{
    Fault,
    mime::{Message, MimeEntity},
};

use super::Fate;
use crate::explain::is_unasked;

/// The fates of a mail, one for each kind of recipient.
pub(super) fn fates(
    foresight: &mut Foresight,
    policy: &Policy,
    envelope: &Envelope,
    message: &Message,
    now: SystemTime,
) -> Result<HashSet<Fate>> {
    let entity = message.entity();
    let seen = foresight.of(envelope, message, Asking::Nobody(Instead::Silence), now)?;
    let otherwise = match seen.unasked.as_slice() {
        [] => None,
        _ => Some(foresight.of(envelope, message, Asking::Nobody(Instead::Nothing), now)?),
    };
    let fate = |line, recipient: Option<&str>, plan: &Plan| -> Fate {
        let (action, about) = of_one(&seen, recipient, plan);
        // With a certificate from a source mail to him would leave encrypted, and so would mail to all who wait for that.
        let depends = otherwise.as_ref().is_some_and(|otherwise| {
            let is_unasked = recipient.is_none_or(|recipient| is_unasked(&seen, recipient));
            is_unasked || seen.forms.is_err() || of_one(otherwise, recipient, plan) != (action, about)
        });
        let (action, about) =
            if depends { ("ask", "what sources of certificates say") } else { (action, about) };
        ("outgoing", line, action, about)
    };
    let mut fates: HashSet<Fate> = HashSet::new();
    for (recipient, rule) in policy.rules_for(envelope, &entity) {
        let plan = plan_for(policy, envelope, &entity, &recipient, now);
        fates.insert(fate(rule.map_or(0, |rule| rule.line), Some(&recipient), &plan));
    }
    if fates.is_empty() {
        fates.insert(fate(0, None, &policy.plan(envelope, &entity, now)));
    }
    Ok(fates)
}

fn plan_for(
    policy: &Policy,
    envelope: &Envelope,
    entity: &MimeEntity<'_>,
    recipient: &str,
    now: SystemTime,
) -> Plan {
    let alone = Envelope { recipients: vec![recipient.to_owned()], ..envelope.clone() };
    policy.plan(&alone, entity, now)
}

/// What becomes of it for one recipient, and why.
fn of_one(seen: &Foreseen, recipient: Option<&str>, plan: &Plan) -> (&'static str, &'static str) {
    let forms = match &seen.forms {
        Ok(forms) => forms,
        Err(error) => {
            let action = if error.fault().may_pass() { "wait" } else { "refuse" };
            return (action, why(error));
        }
    };
    let of_recipient =
        |form: &&Form| recipient.is_none_or(|recipient| form.recipients.iter().any(|one| one == recipient));
    let action = match forms.iter().find(of_recipient) {
        None => "nothing",
        Some(Form { is_signed: true, is_encrypted: true, .. }) => "sign and encrypt",
        Some(Form { is_signed: true, .. }) => "sign",
        Some(Form { is_encrypted: true, .. }) => "encrypt",
        Some(_) => "pass",
    };
    let about = match plan {
        _ if recipient.is_none() => "no recipient is named",
        Plan::Protect(Protect { encrypt: Some(Requirement::Required), .. }) => "encryption required",
        Plan::Protect(Protect { encrypt: Some(Requirement::WhenPossible), .. }) => "encryption when possible",
        Plan::Protect(_) => "signature",
        _ => "as it is",
    };
    (action, about)
}

/// Why it does not leave.
fn why(error: &AgentError) -> &'static str {
    match error {
        AgentError::UnknownCertificate { .. } => "nothing is known of a certificate",
        AgentError::NoCertificate { .. } => "a recipient has no certificate",
        AgentError::Mixed { .. } => "its recipients need different messages",
        AgentError::CannotSplit { .. } => "copies are needed, and there is no `reinject`",
        AgentError::NoIdentity(_) | AgentError::Refused(RefuseReason::NoIdentity { .. }) => {
            "no valid identity can sign"
        }
        AgentError::Refused(_) => "policy",
        AgentError::Store(_) => "the cache cannot be read",
        error if error.fault() == Fault::Message => "the message itself",
        _ => "something else",
    }
}
