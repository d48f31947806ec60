//! Whether the certificates of our identities are valid, and what takes the place of those that are not, or not for long.

use std::time::{Duration, SystemTime};

use agent::{
    Settings,
    settings::{EXPIRES_SOON, IdentitySettings, Signers},
};
use smime::Certificate;
use x509_cert::ext::pkix::{CertificatePolicies, certpolicy::PolicyInformation};

use super::{Findings, Health, name};
use crate::{table::count, time::day};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Sign,
    Encrypt,
}

impl Use {
    fn is_of(self, certificate: &Certificate) -> bool {
        match self {
            Self::Sign => certificate.may_sign(),
            Self::Encrypt => certificate.may_encrypt(),
        }
    }

    /// Behind "no other certificate".
    fn words(self) -> &'static str {
        match self {
            Self::Sign => "signs for",
            Self::Encrypt => "can be encrypted to for",
        }
    }
}

/// Says where a certificate is not valid now, or not for long. Gives whether its path is worth a look.
pub(super) fn examine(
    identity: &IdentitySettings,
    settings: &Settings,
    now: SystemTime,
    findings: &mut Findings,
) -> bool {
    let certificate = &identity.certificate;
    let what = format!("validity of {}", name(identity));
    let (from, until) = (day(certificate.not_before()), day(certificate.not_after()));
    if now < certificate.not_before() {
        let found = match lack(identity, settings, now) {
            None => (Health::Ok, format!("begins on {from}, then it is used; until then there are others")),
            Some(lack) => (Health::Fail, format!("begins on {from}, and until then {lack}")),
        };
        findings.add(found.0, what, found.1);
        return false;
    }
    if !certificate.is_valid_at(now) {
        let found = match lack(identity, settings, now) {
            None => (Health::Ok, format!("ended on {until}: only decrypts, and another took its place")),
            Some(lack) => {
                let advice = "get a new one (hsmime key csr), and keep this one for old mail";
                (Health::Fail, format!("ended on {until}, and {lack}; {advice}"))
            }
        };
        findings.add(found.0, what, found.1);
        return false;
    }
    let soon = now + EXPIRES_SOON;
    if soon > certificate.not_after()
        && let Some(lack) = lack(identity, settings, soon)
    {
        let left = certificate.not_after().duration_since(now).unwrap_or_default();
        let days = usize::try_from(left.as_secs() / (24 * 60 * 60)).unwrap_or(usize::MAX);
        let left = if days == 0 {
            "in less than a day".to_owned()
        } else {
            format!("in {}", count(days, "day", "days"))
        };
        findings.add(
            Health::Warn,
            what,
            format!("ends {left}, on {until}, and then {lack}; get a new one (hsmime key csr)"),
        );
    }
    if let Some(breach) = breach(certificate) {
        findings.add(Health::Warn, format!("validity of {}", name(identity)), breach);
    }
    true
}

/// What is wrong with a certificate that says to be made by the public CAs' rules for S/MIME (CA/Browser Forum, S/MIME
/// Baseline Requirements). A CA of one's own may do as it likes.
fn breach(certificate: &Certificate) -> Option<String> {
    let policies = certificate.extension::<CertificatePolicies>().ok()??;
    let said = |policy: &PolicyInformation| policy.policy_identifier.to_string();
    let generations: Vec<String> = policies
        .0
        .iter()
        .filter_map(|policy| {
            said(policy).strip_prefix(PUBLIC)?.split_once('.').map(|(_, last)| last.to_owned())
        })
        .collect();
    let from = certificate.not_before();
    breach_of(&generations, from, certificate.not_after().duration_since(from).ok()?)
}

/// The same of the last arcs of its policies, its beginning and its time, whose last second counts.
fn breach_of(generations: &[String], from: SystemTime, time: Duration) -> Option<String> {
    let is_legacy = generations.iter().any(|generation| generation == LEGACY);
    if generations.is_empty() {
        return None;
    }
    if is_legacy && from >= SystemTime::UNIX_EPOCH + LEGACY_ENDED {
        return Some(
            "says to be of a \"legacy\" profile (its certificatePolicies), which public CAs issue no more since 2025-07-15; \
             mail programs may refuse it: ask the CA for another"
                .to_owned(),
        );
    }
    let most = if is_legacy { 1185 } else { 825 };
    let days = (time.as_secs() + 1).div_ceil(DAY);
    (days > most).then(|| {
        format!(
            "is valid for {days} days, more than the {most} that public CAs may give by the rules it names \
             (certificatePolicies); mail programs may refuse it: ask the CA for another"
        )
    })
}

const DAY: u64 = 24 * 60 * 60;
/// The policies of the S/MIME Baseline Requirements (7.1.6.1): behind this the kind of subject, then the generation.
const PUBLIC: &str = "2.23.140.1.5.";
const LEGACY: &str = "1";
/// 2025-07-15, when the first generation ended.
const LEGACY_ENDED: Duration = Duration::from_hours(20_284 * 24);

/// What no other certificate does for one of the addresses of an identity, of what this one is for.
fn lack(identity: &IdentitySettings, settings: &Settings, at: SystemTime) -> Option<String> {
    let own = &identity.certificate;
    for address in &identity.addresses {
        for purpose in [Use::Sign, Use::Encrypt].into_iter().filter(|purpose| purpose.is_of(own)) {
            let can_stand_in = |other: &IdentitySettings| {
                let certificate = &other.certificate;
                other.addresses.iter().any(|its| its.folded() == address.folded())
                    && purpose.is_of(certificate)
                    && certificate.is_for_email()
                    && certificate.is_valid_at(at)
            };
            if !settings.identities().iter().any(can_stand_in) {
                return Some(format!("no other certificate {} {address}", purpose.words()));
            }
        }
    }
    None
}

/// Says which certificate signs, and why, where several could.
pub(super) fn signers(settings: &Settings, now: SystemTime, findings: &mut Findings) {
    for Signers { address, used, others } in settings.signers(now) {
        if others > 0 {
            let found = format!(
                "serial {}, the newest of {} that could, valid from {}; the others still decrypt",
                used.serial_hex(),
                others + 1,
                day(used.not_before())
            );
            findings.add(Health::Ok, format!("signer of {address}"), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_by_the_public_rules_is_held_against_them() {
        let before = SystemTime::UNIX_EPOCH + LEGACY_ENDED - Duration::from_secs(1);
        let since = SystemTime::UNIX_EPOCH + LEGACY_ENDED;
        for (generations, from, days, expected) in [
            (&[][..], since, 9000, None),
            (&["2"], since, 825, None),
            (&["2"], since, 826, Some("826 days, more than the 825 ")),
            (&["3"], since, 9000, Some("9000 days, more than the 825 ")),
            (&["1"], before, 1185, None),
            (&["1"], before, 1186, Some("1186 days, more than the 1185 ")),
            (&["1"], since, 10, Some("\"legacy\" profile")),
        ] {
            let generations: Vec<String> =
                generations.iter().map(|&generation: &&str| generation.to_owned()).collect();
            let found = breach_of(&generations, from, Duration::from_secs(days * DAY - 1));
            let is_so = match (&found, expected) {
                (Some(found), Some(expected)) => found.contains(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(is_so, "{generations:?} {days}: {found:?}");
        }
        // The second in which it ends counts.
        let generations = ["2".to_owned()];
        assert!(breach_of(&generations, since, Duration::from_secs(825 * DAY)).is_some());
    }
}
