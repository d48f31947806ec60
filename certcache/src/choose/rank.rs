//! The order of those that may be used: which are taken, and until when that holds.

use std::{cmp::Reverse, time::SystemTime};

use super::{Candidate, MAX_AGE, REFUSED_AGE, Refusal, Take};
use crate::TrustState;

/// Decides between candidates that are good by themselves, and puts those first that are taken.
///
/// Pinned ones go before all others, and an address's own before its domain's. A pending one is taken only where no other is left that was there first.
/// Among equals, the one that was asked for last in a signed message (RFC 8551 2.5.3.1), then the newest.
pub(super) fn rank(candidates: &mut [Candidate], take: Take) {
    let of = |candidate: &Candidate, state| candidate.entry.state == state;
    // One that was there first and has not ended keeps the pending ones waiting, also if it cannot be used now.
    let has_earlier =
        candidates.iter().any(|candidate| !of(candidate, TrustState::Pending) && !candidate.has_ended());
    if has_earlier {
        for candidate in candidates.iter_mut() {
            if candidate.is_taken() && of(candidate, TrustState::Pending) {
                candidate.refusal = Some(Refusal::Pending);
            }
        }
    }
    let has_pinned =
        candidates.iter().any(|candidate| candidate.is_taken() && of(candidate, TrustState::Pinned));
    if has_pinned {
        for candidate in candidates.iter_mut() {
            if candidate.is_taken() && !of(candidate, TrustState::Pinned) {
                candidate.refusal = Some(Refusal::Superseded("another one is pinned"));
            }
        }
    }
    if candidates.iter().any(|candidate| candidate.is_taken() && !candidate.is_for_domain) {
        for candidate in candidates.iter_mut() {
            if candidate.is_taken() && candidate.is_for_domain {
                candidate.refusal = Some(Refusal::Superseded("the address has one of its own"));
            }
        }
    }
    candidates.sort_by_key(|candidate| {
        let entry = &candidate.entry;
        Reverse((
            candidate.is_taken(),
            entry.preferred,
            entry.certificate.not_before(),
            *entry.certificate.fingerprint(),
        ))
    });
    // Strangers may have brought any of those that are pending: never all of them.
    let are_pending =
        candidates.iter().any(|candidate| candidate.is_taken() && of(candidate, TrustState::Pending));
    let (most, reason) = match take {
        Take::All if !are_pending => (MOST, "eight others are preferred or newer"),
        _ => (1, "another one is preferred or newer"),
    };
    for candidate in candidates.iter_mut().filter(|candidate| candidate.is_taken()).skip(most) {
        candidate.refusal = Some(Refusal::Superseded(reason));
    }
}

/// So many certificates of one address are taken where all are: a directory may have hundreds, and each makes mail longer.
const MOST: usize = 8;

/// Until when the choice holds: until a certificate begins or ends, what was found of a path ends, or `MAX_AGE`.
pub(super) fn until(candidates: &[Candidate], at: SystemTime) -> SystemTime {
    let is_any_taken = candidates.iter().any(Candidate::is_taken);
    let age = if is_any_taken { MAX_AGE } else { REFUSED_AGE };
    let latest = at.checked_add(age).unwrap_or(at);
    let moments = candidates.iter().flat_map(|candidate| {
        let certificate = &candidate.entry.certificate;
        [Some(certificate.not_before()), Some(certificate.not_after()), candidate.path_until()]
    });
    moments.flatten().filter(|moment| *moment > at).min().map_or(latest, |moment| moment.min(latest))
}
