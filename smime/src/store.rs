//! Where recipients' certificates come from.

use std::time::SystemTime;

use crate::{Certificate, Fault, MailAddress};

/// A store of recipients' certificates.
pub trait RecipientCertificates: Send + Sync {
    /// The certificates of an address that are valid at `at`.
    fn lookup(&self, address: &MailAddress, at: SystemTime) -> Result<Lookup, StoreError>;
}

/// Three answers, because "there is none" and "I don't know" lead to different mail.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// These may be encrypted to.
    Found(Vec<Certificate>),
    /// The address is known to have none.
    Absent,
    /// Nothing is known of the address.
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
