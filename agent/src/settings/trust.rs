//! What encryption wants of revocation, beyond what verification wants.

use std::{fmt, time::Duration};

use smime::path::{RevocationMode, Trust};

use crate::config::revocation_word;

/// How sure it must be that a certificate which is encrypted to is not revoked.
///
/// A verdict can say that nobody knows; mail that has left to a stolen key cannot be called back. So unless said
/// otherwise, somebody must have said that it is not, for some hours also what was said until a short while ago: else
/// whoever keeps us from a CA's server would choose what is encrypted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptionTrust {
    /// What to do where it is not known.
    pub revocation: RevocationMode,
    /// For how long after their end CRLs and OCSP responses still count.
    pub grace: Duration,
}

impl EncryptionTrust {
    /// The same trust, with this mode.
    pub fn of(self, trust: &Trust) -> Trust {
        Trust { revocation: self.revocation, grace: self.grace, ..trust.clone() }
    }
}

impl fmt::Display for EncryptionTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(revocation_word(self.revocation))?;
        if self.revocation == RevocationMode::Off || self.grace.is_zero() {
            return Ok(());
        }
        write!(f, ", also by what ended within {} hours", self.grace.as_secs() / 3600)
    }
}
