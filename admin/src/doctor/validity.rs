//! Whether the certificates of our identities are valid, and what takes the place of those that are not, or not for long.

use std::time::SystemTime;

use agent::{
    Settings,
    settings::{EXPIRES_SOON, IdentitySettings, Signers},
};
use smime::Certificate;

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
    true
}

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
