//! A certificate looked up in CRLs (RFC 5280 section 6.3.3).
//!
//! All distribution points of the certificate are gone through, and after them every list of its issuer. The newest
//! lists come first, as an older one may leave the certificate out (RFC 8550 section 6), until every reason for a
//! revocation is covered.

use std::{cmp::Reverse, time::SystemTime};

use x509_cert::ext::pkix::CrlReason;

use super::{
    Checker, Crl, Finding, Found, Witness,
    names::RawFields,
    scope::{Point, Reasons},
    standing::{Currency, Standing},
};
use crate::{Certificate, path::PathError};

impl Checker<'_> {
    /// What `crls` say of `certificate`.
    pub(super) fn by_crls(&mut self, certificate: &Certificate, crls: &[&Crl]) -> Result<Finding, PathError> {
        let Ok(points) = Point::all_of(certificate) else {
            return Ok(Err("its cRLDistributionPoints cannot be read".into()));
        };
        let mut lists: Vec<&Crl> = crls.to_vec();
        lists.sort_by_key(|crl| Reverse(crl.this_update()));
        let (deltas, complete): (Vec<&Crl>, Vec<&Crl>) = lists.into_iter().partition(|crl| crl.is_delta());
        let mut reason = None;
        let mut covered = Reasons::NONE;
        let mut good: Option<Found> = None;
        for point in &points {
            for crl in &complete {
                let reasons = crl.scope().covers(crl, point, certificate);
                if !reasons.adds_to(covered) {
                    continue;
                }
                match self.ask(crl, &deltas, certificate)? {
                    Err(why) => {
                        reason.get_or_insert_with(|| format!("the CRL of its issuer cannot be used: {why}"));
                    }
                    Ok(found) if found.standing != Standing::Good => return Ok(Ok(found)),
                    Ok(found) => {
                        covered = covered.or(reasons);
                        good = Some(good.map_or(found, |good| good.and(found)));
                    }
                }
                if let Some(good) = good.filter(|_| covered == Reasons::ALL) {
                    return Ok(Ok(good));
                }
            }
        }
        Ok(Err(reason.unwrap_or_else(|| match good {
            Some(_) => "no CRL tells of all reasons for which it may be revoked".into(),
            None if complete.iter().any(|crl| crl.prepared_issuer().is(certificate.prepared_issuer())) => {
                "the CRLs of its issuer are about other certificates".into()
            }
            None => "there is no CRL of its issuer".into(),
        })))
    }

    /// What one complete list says, with the newest delta CRL for it.
    fn ask(&mut self, crl: &Crl, deltas: &[&Crl], certificate: &Certificate) -> Result<Finding, PathError> {
        let Ok(fields) = RawFields::of(certificate) else { return Ok(Err("it cannot be read".into())) };
        if let Some(reason) = crl.unusable() {
            return Ok(Err(reason.into()));
        }
        let signer = match self.signer_of(crl)? {
            Ok(signer) => signer,
            Err(reason) => return Ok(Err(reason)),
        };
        let (at, grace) = (self.at, self.trust.grace);
        let currency = |crl: &Crl| {
            Currency::of(crl.this_update(), crl.next_update(), grace, certificate.not_after(), at)
        };
        let mut newest = crl;
        let (mut delta, mut state) = (None, currency(crl));
        let fitting = deltas.iter().filter(|delta| crl.takes(delta) && delta.unusable().is_none());
        let entry_in = |delta: &Crl| delta.entry(fields.serial, certificate.prepared_issuer());
        for candidate in fitting {
            let its_state = currency(candidate);
            // One that has ended may still say that a certificate is revoked for ever; that it is not on hold any more it
            // may not.
            let is_final = entry_in(candidate).is_some_and(|entry| {
                entry.reason != Some(CrlReason::RemoveFromCRL) && Standing::of(Some(entry), at).is_final()
            });
            // Signed with the same key (5.2.4).
            if (its_state == Currency::Current || is_final) && self.is_signed_by(candidate, &signer)? {
                (delta, newest, state) = (Some(*candidate), candidate, its_state);
                break;
            }
        }
        let of_delta = delta.and_then(entry_in);
        let entry = match of_delta {
            Some(entry) if entry.reason == Some(CrlReason::RemoveFromCRL) => None,
            Some(entry) => Some(entry),
            None => crl.entry(fields.serial, certificate.prepared_issuer()),
        };
        let standing = Standing::of(entry, at);
        if let Currency::Outdated(reason) = state
            && !standing.is_final()
        {
            return Ok(Err(reason.into()));
        }
        let until = newest.next_update().unwrap_or(SystemTime::UNIX_EPOCH).max(newest.this_update());
        Ok(Ok(Found { standing, this_update: newest.this_update(), until, by: Witness::Crl }))
    }
}

impl Found {
    /// What two answers for different reasons are together: as old as the older.
    fn and(self, other: Self) -> Self {
        Self {
            this_update: self.this_update.min(other.this_update),
            until: self.until.min(other.until),
            ..self
        }
    }
}
