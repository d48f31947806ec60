//! Which certificate signs for an address where several could, as they can while one takes the place of another.

use std::time::SystemTime;

use smime::{Certificate, MailAddress};

use super::Settings;
use crate::identity::{newest_for_signing, signing_fault};

/// The certificates that could sign for an address at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signers<'s> {
    /// The address.
    pub address: &'s MailAddress,
    /// The one that signs: the newest.
    pub used: &'s Certificate,
    /// How many others there are. They still decrypt.
    pub others: usize,
}

impl Settings {
    /// Of each address of our identities for which something can sign: what does.
    pub fn signers(&self, at: SystemTime) -> Vec<Signers<'_>> {
        let mut found: Vec<Signers<'_>> = Vec::new();
        for address in self.identities.iter().flat_map(|identity| &identity.addresses) {
            if found.iter().any(|known| known.address.folded() == address.folded()) {
                continue;
            }
            let of_address = || {
                let is_its = |own: &MailAddress| own.folded() == address.folded();
                let all =
                    self.identities.iter().filter(move |identity| identity.addresses.iter().any(is_its));
                all.map(|identity| &identity.certificate)
            };
            let able = of_address().filter(|certificate| signing_fault(certificate, at).is_none()).count();
            if let Some(used) = newest_for_signing(of_address(), |certificate| certificate, at) {
                found.push(Signers { address, used, others: able.saturating_sub(1) });
            }
        }
        found
    }
}
