//! What is found of one certificate: whether it may be encrypted to, and if not, why.

use std::time::SystemTime;

use smime::{
    MailAddress,
    cms::{RecipientKey, RecipientKeyError},
};

use super::judge::PathResult;
use crate::{Entry, TrustState, choose::judge::Outcome};

/// A certificate of an address, and what came of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The certificate with what is known of it.
    pub entry: Entry,
    /// Why it is not taken; `None` where it is.
    pub refusal: Option<Refusal>,
    /// What is worth knowing of one that is taken: nobody could say whether it is revoked.
    pub remark: Option<String>,
    /// Whether it was given the address's domain, and nothing nearer to the address.
    pub(super) is_for_domain: bool,
    path: Option<PathResult>,
}

/// Why a certificate is not encrypted to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An administrator said so.
    #[error("distrusted by an administrator")]
    Distrusted,
    /// A distrust rule forbids its path.
    #[error("distrusted by rule {number}: {comment}")]
    Rule {
        /// The rule's number.
        number: u64,
        /// Its comment.
        comment: String,
    },
    /// It did not pass every filter.
    #[error("a candidate only: it did not pass every filter; trust it to use it")]
    CandidateOnly,
    /// Another certificate of the address came first and has not ended.
    #[error("pending: another key of this address came first and has not ended; trust it to use it")]
    Pending,
    /// It is a gateway's for its domain, and nobody entered it for that.
    #[error("a domain's certificate that was not entered for the domain")]
    DomainNotEntered,
    /// It does not name the address and was not given it.
    #[error("it does not name the address")]
    OtherAddress,
    /// It names the address, and came in a signed message from another one that it names, or from a source that was asked for
    /// another one.
    #[error("it came for another of its addresses; trust it to use it for this one")]
    CameForAnother,
    /// keyUsage (RFC 8550 4.4.2).
    #[error("not for encrypting (keyUsage)")]
    KeyUsage,
    /// extKeyUsage (RFC 8550 4.4.4).
    #[error("not for e-mail (extKeyUsage)")]
    ExtendedKeyUsage,
    /// The key or its algorithm is too weak, unknown or malformed.
    #[error("{0}")]
    Key(String),
    /// Before notBefore.
    #[error("not valid yet")]
    NotYetValid,
    /// After notAfter.
    #[error("expired")]
    Expired,
    /// It or an issuer of it is revoked.
    #[error("revoked: {0}")]
    Revoked(String),
    /// Nobody could say whether it is revoked, and that is asked for.
    #[error("revocation not known: {0}")]
    RevocationUnknown(String),
    /// It has no valid path to a trust anchor.
    #[error("not trusted: {0}")]
    Untrusted(String),
    /// It could not be found out within the limits whether it has a valid path.
    #[error("not decided: {0}")]
    Undecided(String),
    /// It may be used, and another one is.
    #[error("superseded: {0}")]
    Superseded(&'static str),
}

impl Candidate {
    /// What the certificate itself and its state say. It may still lack a path.
    pub(super) fn of(entry: Entry, address: &MailAddress, at: SystemTime) -> Self {
        let refusal = refusal(&entry, address, at);
        let is_for_domain =
            !entry.certificate.addresses().contains(address) && !entry.is_assigned_itself(address);
        Self { entry, refusal, remark: None, is_for_domain, path: None }
    }

    /// Whether it is encrypted to.
    pub fn is_taken(&self) -> bool {
        self.refusal.is_none()
    }

    /// Whether all is well but that nobody has looked for its path.
    pub(super) fn needs_path(&self) -> bool {
        self.refusal.is_none() && self.path.is_none()
    }

    /// Adds what was found of path and revocation. A pinned certificate needs no path, but is not used when
    /// somebody says that it is revoked.
    pub(super) fn set_path(&mut self, result: PathResult) {
        let is_pinned = self.entry.state == TrustState::Pinned;
        match &result.outcome {
            Outcome::Good => {}
            Outcome::Unchecked(why) => self.remark = Some(why.clone()),
            Outcome::Revoked(why) => self.refusal = Some(Refusal::Revoked(why.clone())),
            Outcome::Rule(number, comment) => {
                self.refusal = Some(Refusal::Rule { number: *number, comment: comment.clone() });
            }
            Outcome::Unknown(why) if is_pinned => self.remark = Some(format!("revocation not known: {why}")),
            Outcome::Unknown(why) => self.refusal = Some(Refusal::RevocationUnknown(why.clone())),
            Outcome::Untrusted(why) if is_pinned => self.remark = Some(format!("pinned, no path: {why}")),
            Outcome::Untrusted(why) => self.refusal = Some(Refusal::Untrusted(why.clone())),
            Outcome::Undecided(why) if is_pinned => {
                self.remark = Some(format!("pinned, its path was not decided: {why}"));
            }
            // A search that was cut off has not seen all that may be revoked.
            Outcome::Undecided(why) => self.refusal = Some(Refusal::Undecided(why.clone())),
        }
        self.path = Some(result);
    }

    /// Until when what was found of its path holds.
    pub(super) fn path_until(&self) -> Option<SystemTime> {
        self.path.as_ref().map(|result| result.until)
    }

    /// Whether this keeps a new key of the address waiting: it is the address's own, and may be used now or
    /// later.
    pub fn comes_first(&self) -> bool {
        !self.is_for_domain && !self.has_ended()
    }

    /// Whether this is one of the address's own that somebody meant to be used.
    pub(super) fn is_its_own(&self) -> bool {
        !matches!(
            self.refusal,
            Some(
                Refusal::DomainNotEntered
                    | Refusal::OtherAddress
                    | Refusal::CameForAnother
                    | Refusal::CandidateOnly
            )
        )
    }

    /// Whether it may be used later, though nobody does anything about it.
    pub fn may_be_used_later(&self) -> bool {
        matches!(
            self.refusal,
            Some(
                Refusal::RevocationUnknown(_)
                    | Refusal::Undecided(_)
                    | Refusal::NotYetValid
                    | Refusal::Pending
            )
        )
    }

    /// Whether this was in use and has ended, or could never be used: then it does not keep others waiting.
    pub(super) fn has_ended(&self) -> bool {
        match &self.refusal {
            None => false,
            Some(refusal) => matches!(
                refusal,
                Refusal::Expired
                    | Refusal::Revoked(_)
                    | Refusal::Distrusted
                    | Refusal::Untrusted(_)
                    | Refusal::Rule { .. }
                    | Refusal::CandidateOnly
                    | Refusal::DomainNotEntered
                    | Refusal::OtherAddress
                    | Refusal::CameForAnother
                    | Refusal::KeyUsage
                    | Refusal::ExtendedKeyUsage
                    | Refusal::Key(_)
            ),
        }
    }
}

fn refusal(entry: &Entry, address: &MailAddress, at: SystemTime) -> Option<Refusal> {
    let certificate = &entry.certificate;
    match entry.state {
        TrustState::Distrusted => return Some(Refusal::Distrusted),
        TrustState::Candidate => return Some(Refusal::CandidateOnly),
        TrustState::Pending | TrustState::Trusted | TrustState::Pinned => {}
    }
    if !entry.is_of(address) {
        let is_domain = certificate.addresses().iter().any(|own| is_domain_authority(own, address));
        return Some(if is_domain { Refusal::DomainNotEntered } else { Refusal::OtherAddress });
    }
    if !entry.is_used_for(address) {
        return Some(Refusal::CameForAnother);
    }
    match RecipientKey::new(certificate.clone()) {
        Ok(_) => {}
        Err(RecipientKeyError::KeyUsage { .. }) => return Some(Refusal::KeyUsage),
        Err(error) => return Some(Refusal::Key(error.to_string())),
    }
    if let Err(reason) = crate::weak::check(certificate) {
        return Some(Refusal::Key(reason.to_owned()));
    }
    if !certificate.is_for_email() {
        Some(Refusal::ExtendedKeyUsage)
    } else if at < certificate.not_before() {
        Some(Refusal::NotYetValid)
    } else if at > certificate.not_after() {
        Some(Refusal::Expired)
    } else {
        None
    }
}

/// The local part of a certificate that stands for all addresses of a domain (RFC 3183 section 2).
pub(crate) const DOMAIN_AUTHORITY: &str = "domain-confidentiality-authority";

fn is_domain_authority(own: &MailAddress, address: &MailAddress) -> bool {
    own.local().eq_ignore_ascii_case(DOMAIN_AUTHORITY) && own.ascii_domain() == address.ascii_domain()
}
