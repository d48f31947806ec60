//! The result of verification as data, in the words of RFC 7281.

use std::time::SystemTime;

use super::Reason;
use crate::{Certificate, MailAddress, path::PathError};

/// The results that RFC 7281 section 3 defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthResult {
    /// Not signed.
    None,
    /// Signed, and everything holds.
    Pass,
    /// The signature may be right and is not acceptable here: trust, address, algorithm.
    Policy,
    /// It could not be decided now.
    TempError,
    /// It could not be made sense of.
    Neutral,
    /// It can never be decided: the certificate is missing.
    PermError,
    /// The signature is wrong, or its certificate revoked.
    Fail,
}

impl AuthResult {
    /// The word in an Authentication-Results field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::Neutral => "neutral",
            Self::PermError => "permerror",
            Self::Fail => "fail",
        }
    }
}

impl From<&Reason> for AuthResult {
    /// The one table from reasons to RFC 7281's words.
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::NotSigned | Reason::CertificatesOnly | Reason::Encrypted => Self::None,
            Reason::AllGood | Reason::RevocationUnknown(_) | Reason::RevocationNotChecked => Self::Pass,
            Reason::Unreadable(_) | Reason::NoContent => Self::Neutral,
            Reason::EmbeddedContent
            | Reason::ContentChanged
            | Reason::BadSignature
            | Reason::Attributes(_)
            | Reason::ContentType
            | Reason::OtherCertificate
            | Reason::OtherAlgorithms
            | Reason::Path(PathError::Revoked { .. }) => Self::Fail,
            Reason::NoCertificate => Self::PermError,
            Reason::Path(PathError::RevocationUnknown { .. }) => Self::TempError,
            Reason::NoSignedAttributes
            | Reason::UnknownAlgorithm(_)
            | Reason::Weak
            | Reason::NotForSigning
            | Reason::Path(_)
            | Reason::NotTransportSafe
            | Reason::OtherSender
            | Reason::From(_) => Self::Policy,
        }
    }
}

/// What verification found, for a whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    reason: Reason,
    part: Option<&'static str>,
    signers: Vec<SignerReport>,
    sender: Option<MailAddress>,
}

/// What was found of one signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerReport {
    /// The signer's certificate, where it is in the message.
    pub certificate: Option<Certificate>,
    /// When the signer says it signed.
    pub signing_time: Option<SystemTime>,
    /// What its signature is worth.
    pub reason: Reason,
}

impl Verdict {
    pub(super) fn new(reason: Reason, part: Option<&'static str>, signers: Vec<SignerReport>) -> Self {
        Self { reason, part, signers, sender: None }
    }

    /// The verdict on a message that there is nothing to verify in, or nothing that can be read.
    pub fn without_signers(reason: Reason) -> Self {
        Self::new(reason, None, Vec::new())
    }

    /// The verdict on a message whose signer was bound to the sender.
    pub(super) fn with_sender(mut self, sender: MailAddress) -> Self {
        self.sender = Some(sender);
        self
    }

    /// This verdict, or the one that `reason` stands for where that is worse.
    #[must_use]
    pub fn at_best(mut self, reason: Reason) -> Self {
        if AuthResult::from(&reason) > self.result() {
            self.reason = reason;
        }
        self
    }

    /// RFC 7281's word.
    pub fn result(&self) -> AuthResult {
        AuthResult::from(&self.reason)
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The IMAP section number of the part with the signature (RFC 7281 section 4).
    pub fn part(&self) -> Option<&'static str> {
        self.part
    }

    /// Each signer.
    pub fn signers(&self) -> &[SignerReport] {
        &self.signers
    }

    /// The certificate that the verdict is about: the one that decided it.
    pub fn certificate(&self) -> Option<&Certificate> {
        let deciding = self.signers.iter().find(|signer| signer.reason == self.reason);
        deciding.or(self.signers.first()).and_then(|signer| signer.certificate.as_ref())
    }

    /// The sender where the signer was bound to it, or else the certificate's first address.
    pub fn identifier(&self) -> Option<MailAddress> {
        self.sender.clone().or_else(|| self.certificate()?.addresses().into_iter().next())
    }
}
