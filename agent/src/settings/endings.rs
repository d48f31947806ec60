//! When an address of ours will no longer be able to sign, for whoever runs for a year and reads no configuration meanwhile.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use smime::{Certificate, MailAddress};

use super::{Settings, Warning, warnings::days_of};
use crate::identity::signing_fault;

/// When an address can sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The address.
    pub address: MailAddress,
    /// Without a gap each, in order.
    spans: Vec<Span>,
}

/// A time in which there is always a certificate that can sign.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    from: SystemTime,
    until: SystemTime,
    /// The one that ends it.
    last: Certificate,
}

impl Ending {
    /// How many days before the end somebody should know of it: to order a certificate, to ask where it stays, to hurry.
    pub const MARKS: [u64; 3] = [30, 14, 3];
    /// When it is told: at each mark, then every day, then at the end.
    const TOLD: [u64; 5] = [30, 14, 3, 2, 1];

    /// That of an address with these certificates; `None` where none of them can ever sign.
    pub(super) fn of(address: &MailAddress, certificates: &[&Certificate]) -> Option<Self> {
        let can_sign = |it: &&&Certificate| signing_fault(it, it.not_after()).is_none();
        let mut able: Vec<&Certificate> = certificates.iter().filter(can_sign).copied().collect();
        able.sort_by_key(|certificate| certificate.not_before());
        let mut spans: Vec<Span> = Vec::new();
        for certificate in able {
            let (from, until, last) =
                (certificate.not_before(), certificate.not_after(), certificate.clone());
            match spans.last_mut() {
                Some(span) if span.until.checked_add(SECOND).is_none_or(|end| from <= end) => {
                    if until > span.until {
                        *span = Span { from: span.from, until, last };
                    }
                }
                _ => spans.push(Span { from, until, last }),
            }
        }
        (!spans.is_empty()).then(|| Self { address: address.clone(), spans })
    }

    /// How long it can still sign at a time, and with what at last; `None`: it cannot.
    pub(super) fn end(&self, at: SystemTime) -> Option<(Duration, &Certificate)> {
        let span = self.spans.iter().find(|span| span.from <= at && at <= span.until)?;
        Some((span.until.duration_since(at).ok()?, &span.last))
    }

    /// How long it can still sign at a time; `None`: it cannot.
    pub fn left(&self, at: SystemTime) -> Option<Duration> {
        self.end(at).map(|(left, _)| left)
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
        let address = self.address.clone();
        if let Some((left, last)) = self.end(now) {
            return Some(Warning::ExpiresSoon { address, certificate: last.clone(), days: days_of(left) });
        }
        let ended = self.spans.iter().rev().find(|span| span.until < now)?;
        Some(Warning::CannotSign { address, certificate: ended.last.clone(), reason: "is expired" })
    }
}

impl Settings {
    /// Of each address of our identities that could sign at any time: when it can.
    pub fn endings(&self) -> Vec<Ending> {
        let all = self.certificates_by_address();
        all.iter().filter_map(|(address, certificates)| Ending::of(address, certificates)).collect()
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

/// A certificate that begins in the second behind another's last leaves no gap.
const SECOND: Duration = Duration::from_secs(1);
