//! When an address of ours will no longer be able to sign, for whoever runs for a year and reads no configuration meanwhile.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use smime::{Certificate, MailAddress};

use super::{Settings, Warning, warnings::days_of};
use crate::identity::signing_fault;

/// An address, and the certificate with which it can sign for longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The address.
    pub address: MailAddress,
    /// The certificate.
    pub certificate: Certificate,
    /// The last moment at which it can sign.
    pub until: SystemTime,
}

impl Ending {
    /// How many days before the end somebody should know of it: to order a certificate, to ask where it stays, to hurry.
    pub const MARKS: [u64; 3] = [30, 14, 3];
    /// When it is told: at each mark, then every day, then at the end.
    const TOLD: [u64; 5] = [30, 14, 3, 2, 1];

    /// How long it can still sign at a time; `None`: it no longer can.
    pub fn left(&self, at: SystemTime) -> Option<Duration> {
        self.until.duration_since(at).ok()
    }

    /// What is to be told at `now` and was not yet at `before`.
    pub fn warning(&self, before: SystemTime, now: SystemTime) -> Option<Warning> {
        let passed = |at| match self.left(at) {
            Some(left) => Self::TOLD.iter().filter(|days| days_of(left) < **days).count(),
            None => Self::TOLD.len() + 1,
        };
        if passed(now) <= passed(before) {
            return None;
        }
        let (address, certificate) = (self.address.clone(), self.certificate.clone());
        Some(match self.left(now) {
            Some(left) => Warning::ExpiresSoon { address, certificate, days: days_of(left) },
            None => Warning::CannotSign { address, certificate, reason: "is expired" },
        })
    }
}

impl Settings {
    /// Of each address of our identities that could sign at any time: until when it can.
    pub fn endings(&self) -> Vec<Ending> {
        let all = self.certificates_by_address().into_iter();
        all.filter_map(|(address, certificates)| {
            let certificate = last_to_sign(&certificates)?.clone();
            Some(Ending { address: address.clone(), until: certificate.not_after(), certificate })
        })
        .collect()
    }

    /// The certificates of each address of our identities, in the order of the file.
    pub(super) fn certificates_by_address(&self) -> Vec<(&MailAddress, Vec<&Certificate>)> {
        let (mut places, mut all) = (HashMap::new(), Vec::<(&MailAddress, Vec<&Certificate>)>::new());
        for identity in &self.identities {
            for address in &identity.addresses {
                let place = *places.entry(address.folded()).or_insert_with(|| {
                    all.push((address, Vec::new()));
                    all.len() - 1
                });
                if let Some((_, certificates)) = all.get_mut(place) {
                    certificates.push(&identity.certificate);
                }
            }
        }
        all
    }
}

/// Of an address's certificates the one that can sign for longest.
pub(super) fn last_to_sign<'c>(certificates: &[&'c Certificate]) -> Option<&'c Certificate> {
    let can_sign = certificates.iter().filter(|it| signing_fault(it, it.not_after()).is_none());
    can_sign.max_by_key(|certificate| certificate.not_after()).copied()
}
