//! What to do with a message, decided from envelope, header and configuration alone.
//!
//! [`Policy::plan`] is a pure function; the agents carry the plan out. A message is outgoing if its client
//! logged in or is in a trusted network, and incoming otherwise. The first rule whose `from` matches the
//! one address in `From` decides; mail that no rule matches is not signed.
//!
//! Mail that is signed, encrypted or treated by PGP already is left alone, and so is `MAIL FROM:<>`: its
//! notices are no mail of a person. `required` signs all the rest or refuses it. `when-possible` leaves
//! invitations, TNEF and mail of lists alone too, because some programs no longer understand them when
//! signed, and all that claims cryptography, whatever is behind the claim.

mod pgp;
mod plan;
mod protection;

use std::{collections::HashMap, net::IpAddr, time::SystemTime};

use ipnet::IpNet;
use smime::{
    Certificate, MailAddress,
    mime::{
        Crypto, FromError, MimeEntity, Special, is_smime_or_pgp, originators, single_originator, special,
    },
};

use self::protection::{Protection, protection};
pub use plan::{PassReason, Plan, ReceiveReason, RefuseReason, Requirement};

use crate::{
    Envelope, Settings, SignRule,
    identity::{base_address, newest_for_signing},
    settings::{Logins, Rule},
};

/// The rules, the trusted networks, and who may sign as whom.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    trusted_networks: Vec<IpNet>,
    recipient_delimiter: String,
    /// By folded address.
    identities: HashMap<String, Vec<(Certificate, Logins)>>,
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
        let (trusted_networks, recipient_delimiter) = settings
            .milter()
            .map(|milter| (milter.trusted_networks.clone(), milter.recipient_delimiter.clone()))
            .unwrap_or_default();
        Self { rules: settings.rules().to_vec(), trusted_networks, recipient_delimiter, identities }
    }

    /// Decides what to do with a message that came at a time.
    pub fn plan(&self, envelope: &Envelope, message: &MimeEntity<'_>, at: SystemTime) -> Plan {
        if !self.is_outgoing(envelope) {
            return Plan::Receive(ReceiveReason::Incoming);
        }
        let claim = is_smime_or_pgp(message);
        let protection = protection(message, claim);
        match protection {
            Protection::Whole(Crypto::SmimeOther) if self.all_recipients_own_keys(envelope) => {
                return Plan::Receive(ReceiveReason::CiphertextForUs);
            }
            Protection::Whole(crypto) => return Plan::Pass(PassReason::AlreadySecured(crypto)),
            Protection::None | Protection::Doubtful => {}
        }
        if envelope.has_null_sender() {
            return Plan::Pass(PassReason::NullSender);
        }
        let (from, rule) = match self.sender_and_rule(envelope, message) {
            Ok(found) => found,
            Err(plan) => return plan,
        };
        match rule.sign {
            SignRule::Never => Plan::Pass(PassReason::RuleNever { line: rule.line }),
            SignRule::WhenPossible => match exemption(message, claim) {
                Some(reason) => Plan::Pass(reason),
                None => self.sign(envelope, from, rule, Requirement::WhenPossible, at),
            },
            SignRule::Required if protection == Protection::Doubtful => {
                Plan::Refuse(RefuseReason::DoubtfulProtection)
            }
            SignRule::Required => self.sign(envelope, from, rule, Requirement::Required, at),
        }
    }

    fn sign(
        &self,
        envelope: &Envelope,
        from: MailAddress,
        rule: &Rule,
        requirement: Requirement,
        at: SystemTime,
    ) -> Plan {
        let identities = self.identities.get(&from.folded()).into_iter().flatten();
        let identity = newest_for_signing(identities, |(certificate, _)| certificate, at);
        let required = requirement == Requirement::Required;
        match (identity, login(envelope)) {
            (None, _) if required => Plan::Refuse(RefuseReason::NoIdentity { from }),
            (None, _) => Plan::Pass(PassReason::NoIdentity { from }),
            (Some((_, logins)), Some(login)) if !logins.allow(login, &from) => {
                let login = login.to_owned();
                if required {
                    Plan::Refuse(RefuseReason::LoginMayNotUse { login, from })
                } else {
                    Plan::Pass(PassReason::LoginMayNotUse { login, from })
                }
            }
            (Some(_), _) => Plan::Sign { from, requirement, line: rule.line },
        }
    }

    /// The address in `From` and the rule for it, or what to do where there is not one of each.
    fn sender_and_rule(
        &self,
        envelope: &Envelope,
        message: &MimeEntity<'_>,
    ) -> Result<(MailAddress, &Rule), Plan> {
        match single_originator(message) {
            Ok(from) => match self.rules.iter().find(|rule| rule.from.matches(&from)) {
                Some(rule) => Ok((from, rule)),
                None => Err(Plan::Pass(PassReason::NoRule { from })),
            },
            Err(error) if self.could_be_required(&error, envelope, message) => {
                Err(Plan::Refuse(RefuseReason::From(error)))
            }
            Err(error) => Err(Plan::Pass(PassReason::From(error))),
        }
    }

    /// Whether a message without one clear `From` may be one that must be signed. Its addresses, if they
    /// can be read, and its envelope's sender tell; what cannot be read can be anybody's.
    fn could_be_required(&self, error: &FromError, envelope: &Envelope, message: &MimeEntity<'_>) -> bool {
        let mut candidates = match error {
            FromError::Missing => Vec::new(),
            FromError::SeveralMailboxes { .. } => originators(message).unwrap_or_default(),
            _ => return self.rules.iter().any(|rule| rule.sign == SignRule::Required),
        };
        candidates.extend(MailAddress::parse(&envelope.sender));
        let first_rule = |from| self.rules.iter().find(|rule| rule.from.matches(from));
        if candidates.is_empty() {
            return self.rules.iter().any(|rule| rule.sign == SignRule::Required);
        }
        candidates.iter().filter_map(first_rule).any(|rule| rule.sign == SignRule::Required)
    }

    fn is_outgoing(&self, envelope: &Envelope) -> bool {
        login(envelope).is_some() || envelope.client.is_some_and(|client| self.trusts(client))
    }

    fn trusts(&self, client: IpAddr) -> bool {
        // A socket for both protocols shows an IPv4 client as ::ffff:192.0.2.1.
        let client = client.to_canonical();
        self.trusted_networks.iter().any(|network| network.contains(&client))
    }

    /// One body goes to all recipients: if one of them owns no key here, it stays encrypted.
    fn all_recipients_own_keys(&self, envelope: &Envelope) -> bool {
        let owns_key = |recipient: Option<MailAddress>| {
            let Some(recipient) = recipient else {
                return false;
            };
            let base = base_address(&recipient, &self.recipient_delimiter);
            self.identities.contains_key(&recipient.folded())
                || base.is_some_and(|base| self.identities.contains_key(&base))
        };
        !envelope.recipients.is_empty() && envelope.recipient_addresses().all(owns_key)
    }
}

/// The name the client logged in with; an empty one is none.
fn login(envelope: &Envelope) -> Option<&str> {
    envelope.login.as_deref().filter(|login| !login.is_empty())
}

/// Why a message that need not be signed is better not.
fn exemption(message: &MimeEntity<'_>, claim: Option<Crypto>) -> Option<PassReason> {
    if let Some(claim) = claim {
        return Some(PassReason::ClaimsProtection(claim));
    }
    match special(message) {
        Some(Special::Calendar) => return Some(PassReason::Calendar),
        Some(Special::Tnef) => return Some(PassReason::Tnef),
        _ => {}
    }
    is_of_list(message).then_some(PassReason::MailingList)
}

/// Mail that a list sends on (RFC 2919, RFC 2369), or that calls itself bulk.
fn is_of_list(message: &MimeEntity<'_>) -> bool {
    let header = message.header();
    header.fields().any(|field| {
        field.is("List-Id")
            || field.is("List-Post")
            || (field.is("Precedence")
                && ["list", "bulk", "junk"].contains(&field.unfolded().to_ascii_lowercase().as_str()))
    })
}

#[cfg(test)]
mod tests;
