//! What was found of one signer, aspect by aspect.

use std::time::SystemTime;

use super::{AuthResult, Reason};
use crate::{Certificate, cms::SignerIdentifier};

/// What was found of one aspect of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It holds.
    Good,
    /// It does not hold, or not well enough.
    Bad(Reason),
    /// It was not looked at, because something before it is wrong or missing.
    NotReached,
}

impl Finding {
    /// Whether it holds.
    pub fn is_good(&self) -> bool {
        *self == Self::Good
    }
}

impl From<Result<(), Reason>> for Finding {
    fn from(checked: Result<(), Reason>) -> Self {
        checked.map_or_else(Self::Bad, |()| Self::Good)
    }
}

/// The aspects of one signer's signature, each looked at by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The value is the key's over attributes whose digest is that of the content (RFC 5652 5.4, 5.6).
    pub signature: Finding,
    /// The signed attributes are there, each once, and agree with what is around them (RFC 5652 11, RFC 6211).
    pub attributes: Finding,
    /// The certificate is the one that was signed with, and for signatures (RFC 5035, RFC 8550 4.4.2).
    pub certificate: Finding,
    /// Digest, algorithm and key are acceptable today (RFC 8551 2.1, 2.2, RFC 8550 4.3).
    pub strength: Finding,
    /// The certificate leads to an anchor for e-mail, and nothing on the way is revoked (RFC 5280 6).
    pub path: Finding,
    /// The certificate has the address of the sender (RFC 8550 3). Of several signers one must.
    pub address: Finding,
}

impl Findings {
    /// Nothing looked at.
    pub(super) const NONE: Self = Self {
        signature: Finding::NotReached,
        attributes: Finding::NotReached,
        certificate: Finding::NotReached,
        strength: Finding::NotReached,
        path: Finding::NotReached,
        address: Finding::NotReached,
    };

    /// Each aspect with its name.
    pub fn aspects(&self) -> [(&'static str, &Finding); 6] {
        [
            ("signature", &self.signature),
            ("attributes", &self.attributes),
            ("certificate", &self.certificate),
            ("strength", &self.strength),
            ("path", &self.path),
            ("address", &self.address),
        ]
    }

    /// The worst of the reasons against the signature; of equally bad ones the first. The address is the
    /// message's affair.
    pub(super) fn worst(&self) -> Option<&Reason> {
        let mut worst: Option<&Reason> = None;
        for (_, finding) in self.aspects().into_iter().take(5) {
            if let Finding::Bad(reason) = finding
                && worst.is_none_or(|worst| AuthResult::from(reason) > AuthResult::from(worst))
            {
                worst = Some(reason);
            }
        }
        worst
    }
}

/// What was found of one signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerReport {
    /// The signer's certificate, where it is in the message.
    pub certificate: Option<Certificate>,
    /// When the signer says it signed.
    pub signing_time: Option<SystemTime>,
    /// What was found, aspect by aspect.
    pub findings: Findings,
    /// Who is said to have countersigned (RFC 5652 11.4). Nobody's signature covers this, and it is not
    /// checked: it means nothing for the verdict.
    pub countersigners: Vec<SignerIdentifier>,
    /// What its signature is worth: the worst finding, or that all is well.
    pub reason: Reason,
}
