//! Where recipients' certificates come from.

use std::time::{Duration, SystemTime};

use crate::{Certificate, Fault, MailAddress, capabilities::Capabilities};

/// A store of recipients' certificates.
pub trait RecipientCertificates: Send + Sync {
    /// The certificates of an address that are valid at `at`. How long others were waited for is added to `waited`.
    fn lookup(
        &self,
        address: &MailAddress,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Lookup, StoreError>;

    /// What the owner of a certificate that was found has announced in a signature that was found good (RFC 8551 2.7.1).
    /// A store that keeps none knows of none.
    fn capabilities(&self, _: &Certificate) -> Option<Capabilities> {
        None
    }

    /// Why a certificate that came from elsewhere is not to be encrypted to any more: it is revoked, or an administrator
    /// distrusts it. `None` where nothing of the kind is known, which does not say that there is a path. A store that keeps
    /// nothing of it knows nothing.
    fn against(
        &self,
        _: &Certificate,
        _at: SystemTime,
        _waited: &mut Waited,
    ) -> Result<Option<String>, StoreError> {
        Ok(None)
    }
}

/// How long others were waited for on behalf of one message: it has one limit for all of its recipients, and takes nothing
/// away from other messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waited {
    /// Those who may have certificates.
    pub sources: Duration,
    /// Those who know what is revoked.
    pub revocation: Duration,
}

/// Found, not there, not known: because "there is none" and "I don't know" lead to different mail.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// These may be encrypted to.
    Found(Vec<Certificate>),
    /// The address is known to have none.
    Absent,
    /// It has some, and for good none of them can be used: the newest for this reason.
    Unusable(String),
    /// Nothing is known of the address, and there is nobody whom this store could ask.
    Unlisted,
    /// It could not be found out, or not for sure: asking later may give another answer.
    Unknown,
}

/// Why a store gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("certificate store {path}: {reason}")]
pub struct StoreError {
    /// The store.
    pub path: String,
    /// What went wrong.
    pub reason: String,
}

impl StoreError {
    /// Whose fault it is: a store that cannot be read needs its operator.
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}
