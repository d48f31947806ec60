//! Path and revocation of one certificate, with the issuers and the status that the cache has.

use std::{sync::Arc, time::SystemTime};

use smime::{
    Certificate,
    path::{Budget, MAX_PATH, PathError, Revocation, Strength, Trust, ValidPath, validate_within},
    store::Waited,
};

use super::status::CachedStatus;
use super::{MAX_AGE, REFUSED_AGE, UNKNOWN_AGE};
use crate::{Cache, CacheError, Rule, TrustState, key};

/// How many issuers are tried for one certificate.
const MAX_ISSUERS: usize = 50;
/// How many characters of a reason are kept.
const MAX_REASON: usize = 300;

/// What came of looking for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathResult {
    pub(crate) outcome: Outcome,
    pub(crate) until: SystemTime,
    /// The names, as keys, of the issuers on its path whose CRLs are about more than what is found by the name.
    pub(crate) above: Vec<[u8; 16]>,
}

impl PathResult {
    /// Whether somebody might have said more, who was not asked or did not answer.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unchecked(_) | Outcome::Unknown(_) | Outcome::Undecided(_))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is one, and nothing on it is revoked.
    Good,
    /// There is one, and nobody could say or asked whether it is revoked.
    Unchecked(String),
    /// There is none because it is not known whether something on it is revoked.
    Unknown(String),
    /// Something on it is revoked.
    Revoked(String),
    /// There is none.
    Untrusted(String),
    /// There is one, and a rule forbids it.
    Rule(u64, String),
    /// Whether there is one was not found out: the search has limits, and whoever may put certificates in, such as those of
    /// cross-certified CAs, can make it reach them.
    Undecided(String),
}

/// Validates with one trust configuration.
#[derive(Debug)]
pub(super) struct Judge {
    cache: Arc<Cache>,
    trust: Trust,
}

impl Judge {
    pub(super) fn new(cache: Arc<Cache>, mut trust: Trust) -> Self {
        let further = trust.revocation_source.take();
        // Rules and distrusted certificates are asked for below, and told apart.
        trust.distrust = None;
        trust.revocation_source = Some(Arc::new(CachedStatus::new(Arc::clone(&cache), further)));
        Self { cache, trust }
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Looks for a path of the certificate at a time.
    pub(super) fn judge(
        &self,
        certificate: &Certificate,
        rules: &[Rule],
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<PathResult, CacheError> {
        let Issuers { certificates: issuers, is_cut } = self.issuers(certificate)?;
        let age = |age| at.checked_add(age).unwrap_or(at);
        let mut budget = Budget::default().having_waited(waited.revocation);
        let found = validate_within(&mut budget, certificate, &issuers, &self.trust, at);
        waited.revocation = budget.waited();
        let above = found.as_ref().map(|path| above(path.chain())).unwrap_or_default();
        let (outcome, until) = match found {
            Ok(path) => self.of_path(&path, rules, at)?,
            Err(error @ PathError::Revoked { .. }) => (Outcome::Revoked(text(&error)), age(MAX_AGE)),
            Err(error @ PathError::RevocationUnknown { .. }) => {
                (Outcome::Unknown(text(&error)), age(UNKNOWN_AGE))
            }
            Err(error @ PathError::TooManyChecks) => (Outcome::Undecided(text(&error)), age(UNKNOWN_AGE)),
            Err(error) => (Outcome::Untrusted(text(&error)), age(REFUSED_AGE)),
        };
        // Whoever was left out may have led to an anchor.
        let (outcome, until) = match outcome {
            Outcome::Untrusted(why) if is_cut => {
                let why = format!("more issuers are known than are tried; with these: {}", short(&why));
                (Outcome::Undecided(why), age(UNKNOWN_AGE))
            }
            outcome => (outcome, until),
        };
        Ok(PathResult { outcome, until, above })
    }

    /// What a valid path is worth, and until when.
    fn of_path(
        &self,
        path: &ValidPath,
        rules: &[Rule],
        at: SystemTime,
    ) -> Result<(Outcome, SystemTime), CacheError> {
        let age = |age| at.checked_add(age).unwrap_or(at);
        let chain = path.chain();
        let ends = chain.iter().map(Certificate::not_after).min().unwrap_or(at).min(age(MAX_AGE));
        if let Some(rule) = rules.iter().find(|rule| rule.forbids(chain)) {
            return Ok((Outcome::Rule(rule.number, rule.comment.clone()), ends));
        }
        if path.strength() != Strength::Strong {
            return Ok((Outcome::Untrusted("a signature on its path is too weak today".to_owned()), ends));
        }
        if self.cache.distrusted(chain)?.is_some() {
            return Ok((Outcome::Untrusted("an issuer is distrusted by an administrator".to_owned()), ends));
        }
        Ok(match path.revocation() {
            Revocation::Good { until: Some(until), .. } if *until <= at => {
                let why = "not revoked when it was last known, which is past; nothing newer was there";
                (Outcome::Unchecked(why.to_owned()), ends.min(age(UNKNOWN_AGE)))
            }
            Revocation::Good { until, .. } => (Outcome::Good, until.map_or(ends, |until| ends.min(until))),
            Revocation::Unknown(why) => {
                let why = format!("revocation not known: {}", short(why));
                (Outcome::Unchecked(why), ends.min(age(UNKNOWN_AGE)))
            }
            Revocation::NotChecked => (Outcome::Unchecked("revocation not checked".to_owned()), ends),
        })
    }

    /// The first issuer of a certificate, or of its issuers, that an administrator distrusts, whether or not a path leads
    /// over it to an anchor.
    pub(super) fn distrusted_above(
        &self,
        certificate: &Certificate,
    ) -> Result<Option<Certificate>, CacheError> {
        let (mut above, mut is_any_distrusted) = (Vec::<(Certificate, bool)>::new(), false);
        let mut below = vec![certificate.clone()];
        for _ in 0..MAX_PATH {
            let mut next: Vec<Certificate> = Vec::new();
            for certificate in &below {
                let (known, _) = self.cache.issuers_of(certificate)?;
                let given = self.trust.anchors.iter().chain(&self.trust.intermediates);
                let given = given.filter(|given| certificate.is_issued_by(given.subject())).cloned();
                for issuer in known.into_iter().map(|entry| entry.certificate).chain(given) {
                    let is_known = above.iter().any(|(other, _)| *other == issuer);
                    if is_known || above.len() == MAX_ISSUERS || !crate::record::is_ca(&issuer) {
                        continue;
                    }
                    // The first place is the leaf's, which has no cross certificates.
                    let path = [certificate.clone(), issuer.clone()];
                    let is_distrusted = self.cache.distrusted(&path)?.is_some_and(|found| *found == issuer);
                    is_any_distrusted |= is_distrusted;
                    above.push((issuer.clone(), is_distrusted));
                    next.push(issuer);
                }
            }
            below = next;
        }
        if !is_any_distrusted {
            return Ok(None);
        }
        // Anybody can take a name: who signed what is looked at where it matters.
        let mut signed = vec![certificate.clone()];
        while let Some(certificate) = signed.pop() {
            let (of_it, others) =
                above.into_iter().partition::<Vec<_>, _>(|(issuer, _)| certificate.is_signed_by(issuer));
            above = others;
            for (issuer, is_distrusted) in of_it {
                if is_distrusted {
                    return Ok(Some(issuer));
                }
                signed.push(issuer);
            }
        }
        Ok(None)
    }

    /// CA certificates of the cache that may lead on from a certificate, whatever their own path. Of each name those
    /// come first whose key identifier is the wanted one. Whoever makes CA certificates chooses name and identifier, so
    /// others can be pushed out.
    fn issuers(&self, certificate: &Certificate) -> Result<Issuers, CacheError> {
        let mut found: Vec<Certificate> = Vec::new();
        let mut is_cut = false;
        let mut below = vec![certificate.clone()];
        for _ in 0..MAX_PATH {
            let mut next = Vec::new();
            for certificate in &below {
                let (known, are_more) = self.cache.issuers_of(certificate)?;
                is_cut |= are_more;
                for entry in known {
                    let may_issue =
                        crate::record::is_ca(&entry.certificate) && entry.state != TrustState::Distrusted;
                    if !may_issue || found.contains(&entry.certificate) {
                        continue;
                    }
                    if found.len() == MAX_ISSUERS {
                        is_cut = true;
                        continue;
                    }
                    next.push(entry.certificate.clone());
                    found.push(entry.certificate);
                }
            }
            if next.is_empty() {
                break;
            }
            below = next;
        }
        Ok(Issuers { certificates: found, is_cut })
    }
}

/// Who may have issued a certificate, and its issuers.
struct Issuers {
    certificates: Vec<Certificate>,
    /// Whether some were left out.
    is_cut: bool,
}

/// Who issued an issuer, or a certificate that spells the name otherwise.
fn above(chain: &[Certificate]) -> Vec<[u8; 16]> {
    let links = chain.iter().zip(chain.iter().skip(1)).enumerate();
    let found = links.filter_map(|(position, (certificate, issuer))| {
        let name = key::subject(issuer);
        (position > 0 || key::issuer(certificate) != name).then_some(name)
    });
    found.collect()
}

fn text(error: &PathError) -> String {
    short(&error.to_string())
}

fn short(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}
