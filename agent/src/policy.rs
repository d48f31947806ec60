//! What to do with a message, decided from envelope, header and configuration alone.
//!
//! [`Policy::plan`] is a pure function; the agents carry the plan out. A message is outgoing if its client
//! logged in or is in a trusted network, and incoming otherwise. For each recipient of outgoing mail the first rule
//! decides that matches; mail that no rule matches is neither signed nor encrypted.
//!
//! Mail that is signed, encrypted or treated by PGP already is not signed again, and neither is mail from the null
//! sender: its notices are no mail of a person. What must be encrypted is, unless it is ciphertext already or, from a
//! client without a login, a report from the null sender that quotes no text. `required` signs all the rest or refuses it. `when-possible` leaves invitations, TNEF and mail of lists
//! alone too, because some programs no longer understand them when signed, and all that claims cryptography,
//! whatever is behind the claim.
//!
//! What comes from a trusted network without a login and has our results (of `smime`, under our name) in its header came
//! from elsewhere before, and somebody hands it on: a Sieve script, a list, an administrator. It is never signed or
//! encrypted as its `From` says; what a rule requires something of is held.

mod case;
mod pgp;
mod plan;
mod protection;

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use ipnet::IpNet;
use smime::{
    Certificate, MailAddress,
    mime::{Crypto, FromError, Header, MimeEntity, is_smime_or_pgp, originators, single_originator},
};

use self::{
    case::Case,
    protection::{Protection, is_ciphertext, protection},
};
pub(crate) use case::{is_automatic, is_of_list};
pub use plan::{PassReason, Plan, Protect, ReceiveReason, RefuseReason, Requirement, Share};

use crate::{
    Envelope, Level, Settings, authres,
    identity::{base_address, newest_for_signing},
    mailbox::Mailbox,
    settings::{About, Logins, Rule, contain},
};

/// The rules, the trusted networks, and who may sign as whom.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Arc<Rule>>,
    trusted_networks: Vec<IpNet>,
    recipient_delimiter: String,
    /// The name in our results.
    authserv_id: String,
    /// By folded address.
    identities: HashMap<String, Vec<(Certificate, Logins)>>,
}

/// What stored mail is to somebody who wants it encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Only its recipients can read it.
    Ciphertext,
    /// Anybody can, whether it is signed or not.
    Open,
    /// It says that it is protected, and is not in a form that everybody reads alike.
    Doubtful,
}

impl Secrecy {
    /// What is behind the claims of a message, as it is of mail on its way out.
    pub(crate) fn of(message: &MimeEntity<'_>) -> Self {
        match protection(message, is_smime_or_pgp(message)) {
            Protection::Doubtful => Self::Doubtful,
            found if is_ciphertext(message, found) => Self::Ciphertext,
            _ => Self::Open,
        }
    }
}

/// So many recipients may be held against rules where it has to be done soon: some tenths of a millisecond.
const SOON_NAMES: usize = 1_000;
/// So many octets of header may be held against patterns: the same.
const SOON_OCTETS: usize = 128 * 1024;

/// What a rule means for one half of the treatment: signature or encryption.
enum Step {
    Do(Requirement),
    Leave(PassReason),
    Refuse(RefuseReason),
}

impl Policy {
    /// Takes what concerns it from the settings.
    pub fn new(settings: &Settings) -> Self {
        let mut identities: HashMap<String, Vec<(Certificate, Logins)>> = HashMap::new();
        for identity in settings.identities() {
            for address in &identity.addresses {
                let of_address = identities.entry(address.folded()).or_default();
                of_address.push((identity.certificate.clone(), identity.logins.clone()));
            }
        }
        let (trusted_networks, recipient_delimiter, authserv_id) = settings
            .milter()
            .map(|milter| {
                let delimiter = milter.recipient_delimiter.clone();
                (milter.trusted_networks.clone(), delimiter, milter.authserv_id.clone())
            })
            .unwrap_or_default();
        let rules = settings.rules().iter().cloned().map(Arc::new).collect();
        Self { rules, trusted_networks, recipient_delimiter, authserv_id, identities }
    }

    /// Whether a plan for a message takes no time to speak of, by what its rules have to look at.
    pub(crate) fn is_planned_soon(&self, envelope: &Envelope, message: &MimeEntity<'_>) -> bool {
        let header = message.header_octets().len();
        let patterns: usize = self.rules.iter().map(|rule| rule.conditions.headers.len()).sum();
        let names = self.rules.len().saturating_mul(envelope.recipients.len());
        // All who may be the author of what has not one are held against all rules.
        names <= SOON_NAMES
            && patterns.saturating_mul(header) <= SOON_OCTETS
            && single_originator(message).is_ok()
    }

    /// Decides what to do with a message that came at a time.
    pub fn plan(&self, envelope: &Envelope, message: &MimeEntity<'_>, at: SystemTime) -> Plan {
        if !self.is_outgoing(envelope) {
            return Plan::Receive(ReceiveReason::Incoming);
        }
        let case = Case::of(envelope, message, at);
        let header = message.header();
        let octets = message.octets().len();
        let rules = self.rules_about(envelope, &header, octets);
        let from = single_originator(message);
        let is_handed_on = self.is_handed_on(envelope, message);
        // First: whether it is held must not depend on whether ciphertext opened when it came.
        if is_handed_on && is_demanded_of_anybody(&from, &case, &rules) {
            return Plan::Hold;
        }
        if case.protection == Protection::Whole(Crypto::SmimeOther)
            && self.all_recipients_own_keys(envelope)
            && !is_to_stay_encrypted(&from, &case, &rules)
        {
            return Plan::Receive(ReceiveReason::CiphertextForUs);
        }
        if is_handed_on {
            return Plan::Pass(PassReason::HandedOn);
        }
        let from = match from {
            Ok(from) => from,
            Err(error) => return without_from(error, &case, &rules),
        };
        // Many recipients have few rules between them.
        let mut plans: Vec<(Option<usize>, Plan)> = Vec::new();
        let mut shares: Vec<Share> = Vec::new();
        for (name, recipient) in case.recipients() {
            let Found { perhaps, surely: rule } = Found::of(&rules, &from, &recipient);
            let line = rule.map(|rule| rule.line);
            let known = plans.iter().find(|(known, _)| *known == line).map(|(_, plan)| plan.clone());
            let plan = known.unwrap_or_else(|| {
                let plan = self.plan_of(&case, &from, rule);
                plans.push((line, plan.clone()));
                plan
            });
            if matches!(plan, Plan::Refuse(_)) {
                return plan;
            }
            if let Some(rule) = perhaps.iter().find(|rule| case.is_demanded_beyond(rule, Some(&plan))) {
                let name = name.filter(|_| recipient == Mailbox::Doubtful).unwrap_or(&envelope.sender);
                return Plan::Refuse(RefuseReason::Address { address: name.to_owned(), line: rule.line });
            }
            match shares.iter_mut().find(|share| share.plan.is_like(&plan)) {
                Some(share) => share.recipients.extend(name.map(str::to_owned)),
                None => {
                    shares.push(Share { recipients: name.map(str::to_owned).into_iter().collect(), plan });
                }
            }
        }
        match <[Share; 1]>::try_from(shares) {
            Ok([share]) => share.plan,
            Err(shares) => Plan::Split(shares),
        }
    }

    /// The rule for each recipient of an outgoing message, for those who explain; none for a message without one clear `From`.
    pub fn rules_for(
        &self,
        envelope: &Envelope,
        message: &MimeEntity<'_>,
    ) -> Vec<(String, Option<Arc<Rule>>)> {
        let rules = self.rules_about(envelope, &message.header(), message.octets().len());
        let from = single_originator(message).ok();
        let rule =
            |name: &String| Found::of(&rules, from.as_ref()?, &Mailbox::read(name)).surely.map(Arc::clone);
        envelope.recipients.iter().map(|name| (name.clone(), rule(name))).collect()
    }

    /// The rules that are, or may be, about a message, as far as that is the same for all authors and recipients.
    fn rules_about(
        &self,
        envelope: &Envelope,
        header: &Header<'_>,
        octets: usize,
    ) -> Vec<(&Arc<Rule>, About)> {
        let rules = self.rules.iter().map(|rule| (rule, rule.conditions.about(envelope, header, octets)));
        rules.filter(|(_, about)| *about != About::Others).collect()
    }

    /// The plan of one rule, or of none.
    fn plan_of(&self, case: &Case<'_>, from: &MailAddress, rule: Option<&Arc<Rule>>) -> Plan {
        let Some(rule) = rule else {
            return Plan::Pass(case.pass_reason().unwrap_or(PassReason::NoRule { from: from.clone() }));
        };
        let (signature, signer) = self.signature(case, from, rule);
        let (sign, left) = match signature {
            Step::Do(requirement) => (Some(requirement), None),
            Step::Leave(reason) => (None, Some(reason)),
            Step::Refuse(reason) => return Plan::Refuse(reason),
        };
        let encrypt = match case.encryption(rule) {
            Step::Do(requirement) => Some(requirement),
            Step::Refuse(reason) => return Plan::Refuse(reason),
            Step::Leave(reason) if sign.is_none() => {
                // The reason of what was wanted, if anything was.
                let of_signature = left.filter(|_| rule.sign != Level::Never || rule.encrypt == Level::Never);
                return Plan::Pass(of_signature.unwrap_or(reason));
            }
            Step::Leave(_) => None,
        };
        Plan::Protect(Protect { from: from.clone(), sign, signer, encrypt, rule: Arc::clone(rule) })
    }

    /// Whether it is signed, and with which certificate.
    fn signature(&self, case: &Case<'_>, from: &MailAddress, rule: &Rule) -> (Step, Option<Certificate>) {
        let requirement = match case.signature(rule) {
            Step::Do(requirement) => requirement,
            other => return (other, None),
        };
        let of_address = self.identities.get(&from.folded()).into_iter().flatten();
        let candidates = of_address
            .filter(|(certificate, _)| rule.identity.as_ref().is_none_or(|only| only == certificate));
        let identity = newest_for_signing(candidates, |(certificate, _)| certificate, case.at);
        let required = requirement == Requirement::Required;
        let from = from.clone();
        let step = match (identity, case.envelope.login()) {
            (None, _) if required => Step::Refuse(RefuseReason::NoIdentity { from }),
            (None, _) => Step::Leave(PassReason::NoIdentity { from }),
            (Some((_, logins)), Some(login)) if !logins.allow(login, &from) => {
                let login = login.to_owned();
                if required {
                    Step::Refuse(RefuseReason::LoginMayNotUse { login, from })
                } else {
                    Step::Leave(PassReason::LoginMayNotUse { login, from })
                }
            }
            (Some((certificate, _)), _) => return (Step::Do(requirement), Some(certificate.clone())),
        };
        (step, None)
    }

    /// Whether a message is outgoing: its client is logged in or in a trusted network.
    pub fn is_outgoing(&self, envelope: &Envelope) -> bool {
        envelope.login().is_some()
            || envelope.client.is_some_and(|client| contain(&self.trusted_networks, client))
    }

    /// Whether outgoing mail is somebody's from elsewhere, whom nobody asked who he is: who has no login hands it on with what we
    /// found of it when it came.
    fn is_handed_on(&self, envelope: &Envelope, message: &MimeEntity<'_>) -> bool {
        envelope.login().is_none() && authres::has_ours(message, &self.authserv_id)
    }

    /// One body goes to all recipients: if one of them owns no key here, it stays encrypted.
    fn all_recipients_own_keys(&self, envelope: &Envelope) -> bool {
        let owns_key = |recipient: Option<MailAddress>| {
            let Some(recipient) = recipient else {
                return false;
            };
            let base = base_address(&recipient, &self.recipient_delimiter);
            self.identities.contains_key(&recipient.folded())
                || base.is_some_and(|base| self.identities.contains_key(&base.folded()))
        };
        !envelope.recipients.is_empty()
            && envelope.recipients.iter().map(|recipient| envelope.removable(recipient)).all(owns_key)
    }
}

/// The rules about mail from an address to a recipient, up to the one that decides.
struct Found<'a> {
    /// Those before it that would decide if an address of the envelope meant somebody of whom they are.
    perhaps: Vec<&'a Arc<Rule>>,
    /// The first one that surely is about it.
    surely: Option<&'a Arc<Rule>>,
}

impl<'a> Found<'a> {
    fn of(rules: &[(&'a Arc<Rule>, About)], from: &MailAddress, recipient: &Mailbox) -> Self {
        let mut perhaps = Vec::new();
        for (rule, about) in rules {
            if !rule.conditions.from.matches(from) {
                continue;
            }
            match rule.conditions.about_recipient(recipient).min(*about) {
                About::Others => {}
                About::Perhaps => perhaps.push(*rule),
                About::Surely => return Self { perhaps, surely: Some(rule) },
            }
        }
        Self { perhaps, surely: None }
    }
}

/// Whether a rule requires something of those in whose name a message comes. One from elsewhere that is handed on is held then, and
/// not refused, in whatever form it is: its sender would be told, and of some that sent captured ciphertext it tells that it opened.
fn is_demanded_of_anybody(
    from: &Result<MailAddress, FromError>,
    case: &Case<'_>,
    rules: &[(&Arc<Rule>, About)],
) -> bool {
    let demands = |rule: &Rule| rule.sign == Level::Required || rule.encrypt == Level::Required;
    rule_for_anybody(demands, from, case, rules)
}

/// What becomes of mail without one clear `From`: it is refused where it could be mail that a rule requires something of.
fn without_from(error: FromError, case: &Case<'_>, rules: &[(&Arc<Rule>, About)]) -> Plan {
    if could_be_one_that(|rule| case.is_demanded_by(rule), &error, case, rules) {
        return Plan::Refuse(RefuseReason::From(error));
    }
    Plan::Pass(case.pass_reason().unwrap_or(PassReason::From(error)))
}

/// Whether ciphertext is, or could be, mail that a rule wants encrypted where it goes: opened here, it would leave in clear.
fn is_to_stay_encrypted(
    from: &Result<MailAddress, FromError>,
    case: &Case<'_>,
    rules: &[(&Arc<Rule>, About)],
) -> bool {
    rule_for_anybody(|rule| rule.encrypt == Level::Required, from, case, rules)
}

/// Whether a rule of this kind is, or may be, about the mail to one of its recipients.
fn rule_for_anybody(
    is_wanted: impl Fn(&Rule) -> bool,
    from: &Result<MailAddress, FromError>,
    case: &Case<'_>,
    rules: &[(&Arc<Rule>, About)],
) -> bool {
    match from {
        Err(error) => could_be_one_that(is_wanted, error, case, rules),
        Ok(from) => case.recipients().any(|(_, recipient)| {
            let Found { perhaps, surely } = Found::of(rules, from, &recipient);
            perhaps.into_iter().chain(surely).any(|rule| is_wanted(rule))
        }),
    }
}

/// Whether a rule of this kind may be about a message without one clear `From`. Its addresses, if they can be read, and its
/// envelope's sender tell; what cannot be read can be anybody's.
fn could_be_one_that(
    is_wanted: impl Fn(&Rule) -> bool,
    error: &FromError,
    case: &Case<'_>,
    rules: &[(&Arc<Rule>, About)],
) -> bool {
    let could_be_anybodys = || {
        case.recipients().any(|(_, recipient)| {
            let concerns = |rule: &Rule| rule.conditions.about_recipient(&recipient) != About::Others;
            rules.iter().any(|(rule, _)| concerns(rule) && is_wanted(rule))
        })
    };
    let mut candidates = match error {
        FromError::Missing => Vec::new(),
        FromError::SeveralMailboxes { .. } => originators(case.message).unwrap_or_default(),
        _ => return could_be_anybodys(),
    };
    candidates.extend(Mailbox::read(&case.envelope.sender).into_address());
    if candidates.is_empty() {
        return could_be_anybodys();
    }
    // Each candidate is held against each rule once, and not for each recipient.
    let of_rules: Vec<Vec<u64>> = rules
        .iter()
        .map(|(rule, _)| bits(candidates.iter().map(|from| rule.conditions.from.matches(from))))
        .collect();
    case.recipients().any(|(_, recipient)| {
        // Those about whose mail to this recipient an earlier rule decides.
        let mut decided = vec![0; candidates.len().div_ceil(64)];
        rules.iter().zip(&of_rules).any(|((rule, about), of_rule)| {
            let about = rule.conditions.about_recipient(&recipient).min(*about);
            let mut left = of_rule.iter().zip(&decided).map(|(of_rule, decided)| of_rule & !decided);
            if about != About::Others && is_wanted(rule) && left.any(|left| left != 0) {
                return true;
            }
            if about == About::Surely {
                decided.iter_mut().zip(of_rule).for_each(|(decided, of_rule)| *decided |= of_rule);
            }
            false
        })
    })
}

/// One bit for each.
fn bits(all: impl Iterator<Item = bool>) -> Vec<u64> {
    let mut bits = Vec::new();
    for (at, is_set) in all.enumerate() {
        if at % 64 == 0 {
            bits.push(0);
        }
        if let Some(last) = bits.last_mut() {
            *last |= u64::from(is_set) << (at % 64);
        }
    }
    bits
}

#[cfg(test)]
mod tests;
