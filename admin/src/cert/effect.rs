//! Whether mail is encrypted to a certificate of the cache, and what to do where it is not: in the same words whoever tells it.
//!
//! It is chosen as the milter chooses, and what is found out of revocation is remembered for it.

use std::{sync::Arc, time::SystemTime};

use agent::{Settings, chooser};
use anyhow::Result;
use certcache::{Cache, Candidate, Chooser, Entry, Refusal, TrustState};
use lookup::CacheStore;
use smime::{MailAddress, path::PathError};

use super::short;
use crate::explain::WRITING;

/// Who tells it.
pub(crate) struct Effects {
    chooser: Chooser,
}

/// Whether mail to an address is encrypted to a certificate.
pub(crate) struct Effect {
    pub(crate) address: MailAddress,
    candidate: Candidate,
}

impl Effects {
    /// As the milter of a configuration would choose from this cache.
    pub(crate) fn new(settings: &Settings, cache: &Arc<Cache>) -> Self {
        let trust = settings.fetching_trust_in(Box::new(CacheStore::new(Arc::clone(cache))));
        Self { chooser: chooser(settings, Arc::clone(cache), &trust) }
    }

    /// For each address of a certificate, named or given; none where it is a CA's.
    pub(crate) fn of(&self, entry: &Entry, now: SystemTime) -> Result<Vec<Effect>> {
        let mut effects = Vec::new();
        for address in addresses(entry).into_iter().take(MOST) {
            let found = self.chooser.candidates(&address, now)?.candidates.into_iter();
            let is_meant = |other: &Candidate| other.entry.certificate == entry.certificate;
            if let Some(candidate) = found.into_iter().find(is_meant) {
                effects.push(Effect { address, candidate });
            }
        }
        Ok(effects)
    }

    /// Writes down what was found out, for the other programs.
    pub(crate) fn flush(&self) {
        self.chooser.flush(WRITING);
    }
}

/// A certificate that names more addresses is looked at for these.
const MOST: usize = 8;

fn addresses(entry: &Entry) -> Vec<MailAddress> {
    let mut all = entry.certificate.addresses();
    let given = entry.assigned.iter().filter_map(|text| {
        // Of a domain, anybody.
        let text = text.strip_prefix('@').map_or_else(|| text.clone(), |domain| format!("anybody@{domain}"));
        MailAddress::parse(&text).ok()
    });
    for address in given {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

impl Effect {
    /// Why nothing is encrypted to it. That another certificate of the address is used is no such reason.
    pub(crate) fn fault(&self) -> Option<String> {
        match &self.candidate.refusal {
            None | Some(Refusal::Superseded(_)) => None,
            Some(refusal) => Some(words(&self.candidate, refusal)),
        }
    }

    /// Whether it may be used later, though nobody does anything about it.
    pub(crate) fn may_come(&self) -> bool {
        self.candidate.may_be_used_later()
    }

    /// What has it used.
    pub(crate) fn remedy(&self) -> Option<String> {
        remedy(&self.candidate, &self.address)
    }

    /// `yes`, or `no` and why.
    pub(crate) fn answer(&self) -> String {
        let Candidate { refusal, remark, .. } = &self.candidate;
        match (refusal, remark) {
            (Some(refusal), _) => format!("no, {}", words(&self.candidate, refusal)),
            (None, Some(remark)) => format!("yes, {remark}"),
            (None, None) => "yes".to_owned(),
        }
    }
}

/// Why a certificate is taken or not.
pub(crate) fn why(candidate: &Candidate) -> String {
    match (&candidate.refusal, &candidate.remark) {
        (Some(refusal), _) => words(candidate, refusal),
        (None, Some(remark)) => remark.clone(),
        (None, None) if candidate.entry.preferred.is_some() => "its owner asked for it".to_owned(),
        (None, None) => "the newest that is valid".to_owned(),
    }
}

fn words(candidate: &Candidate, refusal: &Refusal) -> String {
    if leads_nowhere(candidate) { NO_PATH.to_owned() } else { refusal.to_string() }
}

const NO_PATH: &str = "no path to a trust anchor";

/// Whether all that is missing is an issuer. The certificate stands beside it wherever that is told.
fn leads_nowhere(candidate: &Candidate) -> bool {
    let Some(Refusal::Untrusted(why)) = &candidate.refusal else { return false };
    let error = PathError::NoPath { certificate: candidate.entry.certificate.to_string() };
    // Long reasons are remembered without their ends.
    !why.is_empty() && error.to_string().starts_with(why.as_str())
}

/// What has a certificate used for an address, where it is not.
pub(crate) fn remedy(candidate: &Candidate, address: &MailAddress) -> Option<String> {
    let short = short(&candidate.entry.certificate);
    let vouch = format!("vouch for it: hsmime cert trust --pin {short}");
    let trust = format!("hsmime cert trust {short}");
    Some(match candidate.refusal.as_ref()? {
        Refusal::Untrusted(_) if leads_nowhere(candidate) => {
            format!("add its CA to `anchors` in [trust], or {vouch}")
        }
        Refusal::Undecided(_) => vouch,
        Refusal::RevocationUnknown(_) => format!("give its CA's list in `crls` in [trust], or {vouch}"),
        Refusal::Rule { number, .. } => format!("hsmime cert rules --remove {number}"),
        Refusal::Distrusted | Refusal::CandidateOnly | Refusal::Pending => trust,
        Refusal::CameForAnother | Refusal::OtherAddress => format!("{trust} --assign {address}"),
        Refusal::DomainNotEntered => format!("{trust} --assign @{}", address.ascii_domain()),
        // Nobody here mends a certificate that has ended, is not for this or has a bad path; and one that is superseded need not be.
        _ => return None,
    })
}

/// Of how many certificates it is told what has them used; of more nobody would read it.
pub(crate) const MOST_REMEDIES: usize = 5;

/// The state in words: that a certificate is accepted does not say yet that it is used.
pub(crate) fn state_words(state: TrustState) -> &'static str {
    if state == TrustState::Trusted { ACCEPTED } else { state.name() }
}

/// What tables call `trusted`.
pub(crate) const ACCEPTED: &str = "accepted";
