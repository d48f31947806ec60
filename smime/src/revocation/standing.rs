//! What an answer says of a certificate at a time that may be in the past.
//!
//! Mail is also verified as of the time it was received. An answer from later is used too, as it knows more:
//!
//! - Not revoked later means not revoked then, if the certificate had not yet expired when the answer was made;
//!   expired ones are dropped from CRLs (RFC 5280 5.3), and responders forget them.
//! - Revoked later for affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn or certificateHold
//!   means good then: the key was its owner's.
//! - Revoked later for a compromise, or for no reason given, means revoked then as well, unless invalidityDate (5.3.2)
//!   says that the key was its owner's until after that time: nobody knows how long others have had it.
//!
//! An answer that is out of date may still say that a certificate was revoked, as that is for ever; only a hold ends.

use std::time::{Duration, SystemTime};

use x509_cert::ext::pkix::CrlReason;

use super::entries::Entry;

/// Whether a certificate was revoked at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Revoked { since: SystemTime, reason: Option<CrlReason> },
}

impl Standing {
    /// What an entry means at the time `at`.
    pub(super) fn of(entry: Option<Entry>, at: SystemTime) -> Self {
        let Some(Entry { revoked, reason, invalid_since }) = entry else { return Self::Good };
        let since = invalid_since.map_or(revoked, |invalid| invalid.min(revoked));
        let was_its_owners = invalid_since.is_some()
            || matches!(
                reason,
                Some(
                    CrlReason::AffiliationChanged
                        | CrlReason::Superseded
                        | CrlReason::CessationOfOperation
                        | CrlReason::PrivilegeWithdrawn
                        | CrlReason::CertificateHold
                )
            );
        if since > at && was_its_owners { Self::Good } else { Self::Revoked { since, reason } }
    }

    /// Whether it is revoked and will never be anything else.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Revoked { reason, .. } if reason != Some(CrlReason::CertificateHold))
    }
}

/// What the times of an answer make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Currency {
    /// It tells good and revoked apart.
    Current,
    /// It can only say that a certificate is revoked for ever, for this reason.
    Outdated(&'static str),
}

impl Currency {
    /// Of an answer made at `this_update`, good until `until` and a grace after it, for a certificate that ends at
    /// `not_after`.
    pub(super) fn of(
        this_update: SystemTime,
        until: Option<SystemTime>,
        grace: Duration,
        not_after: SystemTime,
        at: SystemTime,
    ) -> Self {
        if this_update > at {
            return if not_after >= this_update {
                Self::Current
            } else {
                Self::Outdated("it was made after the certificate had expired")
            };
        }
        match until {
            Some(until) if until.checked_add(grace).is_none_or(|until| until >= at) => Self::Current,
            Some(_) => Self::Outdated("its nextUpdate has passed"),
            None => Self::Outdated("it has no nextUpdate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(number)
    }

    #[test]
    fn what_was_revoked_later_was_good_before_only_if_the_key_was_its_owners() {
        use CrlReason as R;
        for (reason, invalid_since, good_before) in [
            (None, None, false),
            (Some(R::Unspecified), None, false),
            (Some(R::KeyCompromise), None, false),
            (Some(R::CaCompromise), None, false),
            (Some(R::AaCompromise), None, false),
            (Some(R::RemoveFromCRL), None, false),
            (Some(R::AffiliationChanged), None, true),
            (Some(R::Superseded), None, true),
            (Some(R::CessationOfOperation), None, true),
            (Some(R::PrivilegeWithdrawn), None, true),
            (Some(R::CertificateHold), None, true),
            (Some(R::KeyCompromise), Some(hour(9)), true),
            (Some(R::KeyCompromise), Some(hour(4)), false),
            (Some(R::Superseded), Some(hour(4)), false),
            (Some(R::KeyCompromise), Some(hour(99)), true),
        ] {
            let entry = Some(Entry { revoked: hour(10), reason, invalid_since });
            let found = Standing::of(entry, hour(5));
            assert_eq!(found == Standing::Good, good_before, "{reason:?} {invalid_since:?}");
            assert_ne!(Standing::of(entry, hour(10)), Standing::Good, "{reason:?} {invalid_since:?}");
        }
        assert_eq!(Standing::of(None, hour(5)), Standing::Good);
    }

    #[test]
    fn an_answer_is_current_until_its_end_and_one_from_later_until_the_certificate_has_expired() {
        for (this_update, until, grace, not_after, current) in [
            (1, Some(9), 0, 99, true),
            (5, Some(5), 0, 99, true),
            (5, None, 0, 99, false),
            (1, Some(4), 0, 99, false),
            (1, Some(4), 1, 99, true),
            (1, Some(3), 1, 99, false),
            (1, None, 0, 99, false),
            (1, None, 99, 99, false),
            (7, Some(9), 0, 99, true),
            (7, None, 0, 99, true),
            (7, Some(9), 9, 6, false),
            (7, Some(9), 0, 7, true),
        ] {
            let (grace, not_after) = (Duration::from_hours(grace), hour(not_after));
            let found = Currency::of(hour(this_update), until.map(hour), grace, not_after, hour(5));
            assert_eq!(
                found == Currency::Current,
                current,
                "{this_update} {until:?} {grace:?} {not_after:?}"
            );
        }
    }
}
