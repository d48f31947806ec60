//! Certification paths (RFC 5280 section 6), for e-mail protection (RFC 8550 section 4.4).
//!
//! `build` looks for a path among the certificates at hand and gives it to `check`; only a path that
//! passes becomes a [`ValidPath`]. Nothing is fetched. What is not understood is refused: constraints on
//! kinds of names that are not compared here, unknown critical extensions.

mod budget;
mod build;
mod check;
mod constraints;
mod known;
mod memory;
mod name;
mod policy;

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, SystemTime},
};

use der::asn1::ObjectIdentifier;

pub use budget::{Budget, MAX_CERTIFICATE_LEN, MAX_OPERATIONS, MAX_RSA_BITS};
pub use build::{validate, validate_within};
pub use memory::PathMemory;

pub use crate::revocation::{Crl, CrlError};

pub use policy::{PolicySettings, ValidPolicies};

pub(crate) use budget::is_cheap;
pub(crate) use build::{SignedError, validate_for, verify_parts};
pub(crate) use check::Refused;
pub(crate) use name::PreparedName;

use crate::{
    Certificate,
    revocation::{Evidence, OcspResponse, RevocationSource, Witness},
};

/// How long a path may be, leaf and anchor included.
pub const MAX_PATH: usize = 10;

/// Whom to trust, and what is known of revocation.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The trust anchors.
    pub anchors: Vec<Certificate>,
    /// CA certificates that help to find paths, and are not trusted by themselves.
    pub intermediates: Vec<Certificate>,
    /// CRLs at hand.
    pub crls: Vec<Crl>,
    /// OCSP responses at hand.
    pub ocsp: Vec<OcspResponse>,
    /// What came with the message. It is looked at last, so that it hides nothing.
    pub enclosed: Evidence,
    /// Who is asked for more of both, once a path has reached an anchor.
    pub revocation_source: Option<Arc<dyn RevocationSource>>,
    /// What to do where revocation is not known.
    pub revocation: RevocationMode,
    /// For how long after their end CRLs and OCSP responses still count, where nobody gives newer ones.
    pub grace: Duration,
    /// What is wanted of certificate policies.
    pub policies: PolicySettings,
    /// What to do with signatures on certificates that are too weak today.
    pub legacy: LegacySignatures,
    /// What is not trusted though it has a valid path.
    pub distrust: Option<Arc<dyn Distrust>>,
}

/// What an administrator does not trust any more: certificates, and what their issuers made.
pub trait Distrust: Debug + Send + Sync {
    /// Why a path, leaf first and anchor last, is not to be used; `None` where nothing is against it. Who cannot
    /// find out is against it.
    fn against(&self, path: &[Certificate]) -> Option<String>;
}

/// What to do with certificates and CRLs that are signed with SHA-1, RSA below 2048 bits or DSA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LegacySignatures {
    /// They are not accepted.
    #[default]
    Refused,
    /// The path is valid and [`Strength::Legacy`]: enough to tell what an old archive holds, never for `pass`.
    Marked,
}

/// How strong the signatures on a path's certificates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Every one is acceptable today.
    Strong,
    /// Somebody may be able to make one of them.
    Legacy,
}

impl Strength {
    /// That of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Strong { other } else { self }
    }
}

/// What the certificate at the end of a path is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Signing or encrypting mail (RFC 8550 4.4.4).
    EmailProtection,
    /// Signing CRLs (RFC 5280 6.3.3 (f)).
    CrlSigning,
    /// Signing OCSP responses (RFC 6960 4.2.2.2).
    OcspSigning,
}

/// What to do where no usable CRL or OCSP response says whether a certificate is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationMode {
    /// The path is not valid: the verdict is `temperror`.
    HardFail,
    /// The path is valid, and the verdict says that revocation is not known.
    #[default]
    SoftFail,
    /// Nobody is asked, and the verdict says so.
    Off,
}

/// A path that was checked: only [`validate`] makes one.
#[derive(Clone, Debug)]
pub struct ValidPath {
    chain: Vec<Certificate>,
    revocation: Revocation,
    policies: ValidPolicies,
    strength: Strength,
}

/// What is known of the revocation of a path's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// For each of them a current CRL or OCSP response says that it is not revoked.
    Good {
        /// Until when all of this holds; `None` where the path is an anchor alone, which nobody revokes.
        until: Option<SystemTime>,
        /// What told it of the leaf.
        by: Option<Witness>,
    },
    /// It is not known of this certificate, for this reason.
    Unknown(String),
    /// It was not asked for.
    NotChecked,
}

impl ValidPath {
    /// The certificates, leaf first, anchor last.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// What is known of revocation.
    pub fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// The certificate policies that the path is valid for (RFC 5280 6.1.6).
    pub fn policies(&self) -> &ValidPolicies {
        &self.policies
    }

    /// How strong the signatures on its certificates are.
    pub fn strength(&self) -> Strength {
        self.strength
    }
}

/// Why there is no valid path. The certificate is given by subject and serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// No certificate at hand leads on to a trust anchor.
    #[error("no path from {certificate} to a trust anchor")]
    NoPath {
        /// Where it ended.
        certificate: String,
    },
    /// The [`Budget`] is used up, so that not everything was looked at.
    #[error("the message has more signatures and certificates to check than one message may")]
    TooManyChecks,
    /// A signature on a certificate is wrong.
    #[error("the signature on {certificate} does not verify")]
    Signature {
        /// Which.
        certificate: String,
    },
    /// The algorithm or key that signed a certificate is unknown or too weak.
    #[error("{certificate} is signed with an algorithm or key that is not accepted")]
    Algorithm {
        /// Which.
        certificate: String,
    },
    /// Before notBefore.
    #[error("{certificate} is not valid yet")]
    NotYetValid {
        /// Which.
        certificate: String,
    },
    /// After notAfter.
    #[error("{certificate} has expired")]
    Expired {
        /// Which.
        certificate: String,
    },
    /// An issuer that is no CA: basicConstraints, keyUsage, or too long a path.
    #[error("{certificate} may not issue certificates here: {reason}")]
    NotAnIssuer {
        /// Which.
        certificate: String,
        /// What is missing.
        reason: &'static str,
    },
    /// keyUsage or extKeyUsage forbids the use.
    #[error("{certificate} is not for this use: {reason}")]
    Usage {
        /// Which.
        certificate: String,
        /// Which usage is missing.
        reason: &'static str,
    },
    /// An extension that is critical and not understood, or malformed, or there twice.
    #[error("{certificate} has the extension {oid}: {reason}")]
    Extension {
        /// Which.
        certificate: String,
        /// The extension.
        oid: ObjectIdentifier,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A certificate that breaks the rules of its version, or has no name.
    #[error("{certificate} is malformed: {reason}")]
    Malformed {
        /// Which.
        certificate: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The path is not valid for the policies that are wanted.
    #[error("the policies of {certificate} do not do: {reason}")]
    Policy {
        /// Where it showed.
        certificate: String,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A name is outside what an issuer may issue.
    #[error("a name of {certificate} is outside its issuer's name constraints")]
    NameConstraints {
        /// Which.
        certificate: String,
    },
    /// An administrator does not trust it, or who issued it.
    #[error("{certificate} is not trusted here: {reason}")]
    Distrusted {
        /// The end of the path.
        certificate: String,
        /// Why.
        reason: String,
    },
    /// A CRL lists it, or an OCSP responder says so.
    #[error("{certificate} was revoked")]
    Revoked {
        /// Which.
        certificate: String,
        /// Since when.
        since: SystemTime,
    },
    /// Nothing says whether it is revoked, and that is asked for.
    #[error("it is not known whether {certificate} is revoked: {reason}")]
    RevocationUnknown {
        /// Which.
        certificate: String,
        /// Why not.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::Strength::{self, Legacy, Strong};

    #[test]
    fn what_is_weak_in_one_part_is_weak() {
        let both = |one: Strength, other| one.and(other);
        assert_eq!([both(Strong, Strong), both(Strong, Legacy)], [Strong, Legacy]);
        assert_eq!([both(Legacy, Strong), both(Legacy, Legacy)], [Legacy, Legacy]);
    }
}
