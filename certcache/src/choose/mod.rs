//! Whom to encrypt to: every certificate of an address, and why it was taken or not.
//!
//! `candidate.rs` says what can be found of a certificate, `judge.rs` looks for its path and revocation, `rank.rs`
//! puts those that may be used in order, `memory.rs` remembers what came of it. A look-up whose result is remembered
//! only reads.

mod candidate;
mod judge;
mod memory;
mod rank;
mod status;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use smime::{
    Certificate, MailAddress,
    algorithm::DigestAlgorithm,
    capabilities::Capabilities,
    key::Digest,
    path::Trust,
    store::{Lookup, RecipientCertificates, StoreError, Waited},
};

pub use candidate::{Candidate, Refusal};
pub use memory::Remembered;
pub use status::CachedStatus;

use crate::{Cache, CacheError, Fingerprint};
use judge::{Judge, Outcome};
use memory::Memory;

/// How long a result is remembered at most, where nothing in it ends earlier.
pub const MAX_AGE: Duration = Duration::from_hours(12);
/// How long it is remembered that a certificate has no valid path, or an address nothing to encrypt to.
const REFUSED_AGE: Duration = Duration::from_mins(30);
/// How long it is remembered that nobody could say whether a certificate is revoked.
const UNKNOWN_AGE: Duration = Duration::from_mins(5);

/// Which of the certificates that may be used are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Take {
    /// One: the one asked for last in a signed message (RFC 8551 2.5.3), or else the newest.
    #[default]
    Newest,
    /// All, the newest eight at most: each device of the owner may have a key of its own. Of pending ones it is one.
    All,
}

/// Chooses certificates to encrypt to, with one trust configuration. It can be shared by threads.
pub struct Chooser {
    cache: Arc<Cache>,
    take: Take,
    identity: Identity,
    judge: Judge,
    memory: Memory,
}

/// The fingerprint of a chosen certificate, and its octets.
pub type ChosenOctets = (Fingerprint, Vec<u8>);

/// What stands for a trust configuration in what is remembered.
pub(crate) type Identity = [u8; 16];

/// All certificates of an address, those that are taken first.
#[derive(Debug)]
pub struct Candidates {
    /// What was found of each.
    pub candidates: Vec<Candidate>,
    /// The error of a record that cannot be read.
    pub damaged: Option<CacheError>,
    /// Until when this holds, if nothing changes.
    pub until: SystemTime,
}

impl Candidates {
    /// The certificates to encrypt to.
    pub fn chosen(&self) -> impl Iterator<Item = &Certificate> {
        let taken = self.candidates.iter().filter(|candidate| candidate.is_taken());
        taken.map(|candidate| &candidate.entry.certificate)
    }
}

impl Chooser {
    /// Chooses by this trust configuration. What was remembered under another one does not count.
    pub fn new(cache: Arc<Cache>, trust: Trust, take: Take) -> Self {
        let identity = identity(&trust, take);
        let memory = Memory::new(Arc::clone(&cache));
        Self { judge: Judge::new(Arc::clone(&cache), trust), cache, take, identity, memory }
    }

    /// The cache it chooses from.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Whom it believes.
    pub fn trust(&self) -> &Trust {
        self.judge.trust()
    }

    /// What is remembered of an address, in one transaction that only reads; `None` where it must be found out.
    pub fn remembered(
        &self,
        address: &MailAddress,
        at: SystemTime,
    ) -> Result<Option<Remembered>, CacheError> {
        self.cache.remembered(address, &self.identity, at)
    }

    /// The read of [`Self::remembered`] alone: the octets of the certificates to encrypt to, neither parsed nor held
    /// against their fingerprints.
    pub fn remembered_octets(
        &self,
        address: &MailAddress,
        at: SystemTime,
    ) -> Result<Option<Vec<ChosenOctets>>, CacheError> {
        self.cache.remembered_octets(address, &self.identity, at, <[u8]>::to_vec)
    }

    /// Everything that is known of an address's certificates, each with the reason it is taken or not. Paths and
    /// revocation are those remembered, or found out now.
    pub fn candidates(&self, address: &MailAddress, at: SystemTime) -> Result<Candidates, CacheError> {
        self.candidates_within(address, at, &mut Waited::default())
    }

    /// Like [`Self::candidates`], on behalf of a message that has waited for others already.
    pub(crate) fn candidates_within(
        &self,
        address: &MailAddress,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Candidates, CacheError> {
        self.find_out(address, at, true, waited)
    }

    /// Like [`Self::candidates`], with nothing taken from memory.
    pub fn candidates_anew(&self, address: &MailAddress, at: SystemTime) -> Result<Candidates, CacheError> {
        self.find_out(address, at, false, &mut Waited::default())
    }

    fn find_out(
        &self,
        address: &MailAddress,
        at: SystemTime,
        remember: bool,
        waited: &mut Waited,
    ) -> Result<Candidates, CacheError> {
        let gathered = self.cache.gather(address)?;
        let rules = self.cache.rules()?;
        let (mut results, mut is_sure) = (Vec::new(), true);
        let judged = gathered.entries.into_iter().map(|entry| {
            let mut candidate = Candidate::of(entry, address, at);
            if candidate.needs_path() {
                let fingerprint = candidate.entry.certificate.fingerprint();
                let known =
                    if remember { self.cache.path_result(fingerprint, &self.identity, at)? } else { None };
                let result = if let Some(known) = known {
                    known
                } else {
                    let has_waited = !waited.revocation.is_zero();
                    let result = self.judge.judge(&candidate.entry.certificate, &rules, at, waited)?;
                    // What one message had no time left to find out is not for others.
                    if has_waited && result.is_unknown() {
                        is_sure = false;
                    } else {
                        results.push((*fingerprint, result.clone()));
                    }
                    result
                };
                candidate.set_path(result);
            }
            Ok(candidate)
        });
        let mut candidates = judged.collect::<Result<Vec<_>, CacheError>>()?;
        rank::rank(&mut candidates, self.take);
        let until = rank::until(&candidates, at);
        let found = Candidates { candidates, damaged: gathered.damaged, until };
        self.memory.remember(memory::Found {
            address: address.clone(),
            identity: self.identity,
            inputs: gathered.inputs,
            results,
            chosen: found.chosen().map(|certificate| *certificate.fingerprint()).collect(),
            is_whole: found.damaged.is_none() && is_sure,
            from: at,
            until,
        });
        Ok(found)
    }

    /// Waits until what was found out so far is written down, at most for a time.
    pub fn flush(&self, within: Duration) -> bool {
        self.memory.flush(within)
    }

    fn look_up(
        &self,
        address: &MailAddress,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Lookup, CacheError> {
        let remembered = self.remembered(address, at)?;
        if let Some(Remembered::Chosen(certificates)) = remembered {
            return Ok(Lookup::Found(certificates));
        }
        // What is remembered as nothing is so of nearly all addresses because there is nothing.
        if remembered.is_none() || !self.cache.gather(address)?.entries.is_empty() {
            let found = self.candidates_within(address, at, waited)?;
            let chosen: Vec<_> = found.chosen().cloned().collect();
            if !chosen.is_empty() {
                return Ok(Lookup::Found(chosen));
            }
            if let Some(damaged) = found.damaged {
                return Err(damaged);
            }
            let own = || found.candidates.iter().filter(|candidate| candidate.is_its_own());
            if own().any(Candidate::may_be_used_later) {
                return Ok(Lookup::Unknown);
            }
            if let Some(refusal) = own().find_map(|candidate| candidate.refusal.as_ref()) {
                return Ok(Lookup::Unusable(refusal.to_string()));
            }
        }
        Ok(if self.cache.is_absent(address, None, at)? { Lookup::Absent } else { Lookup::Unlisted })
    }

    fn judge_against(
        &self,
        certificate: &Certificate,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Option<String>, CacheError> {
        let alone = std::slice::from_ref(certificate);
        let rules = self.cache.rules()?;
        if let Some(rule) = rules.iter().find(|rule| rule.forbids(alone)) {
            return Ok(Some(format!("rule {}: {}", rule.number, rule.comment)));
        }
        if self.cache.distrusted(alone)?.is_some() {
            return Ok(Some("it is distrusted by an administrator".to_owned()));
        }
        Ok(match self.judge.judge(certificate, &rules, at, waited)?.outcome {
            Outcome::Revoked(why) => Some(why),
            Outcome::Rule(number, comment) => Some(format!("rule {number}: {comment}")),
            Outcome::Good | Outcome::Unchecked(_) => None,
            // What is ours needs no path, but whoever issued it may be distrusted.
            Outcome::Unknown(_) | Outcome::Untrusted(_) | Outcome::Undecided(_) => {
                let issuer = self.judge.distrusted_above(certificate)?;
                issuer.map(|issuer| format!("its issuer {issuer} is distrusted by an administrator"))
            }
        })
    }
}

impl RecipientCertificates for Chooser {
    /// Certificates with a valid path, for e-mail and encryption, not revoked as far as the trust configuration
    /// asks for that. An expired, damaged or foreign one never hides a good one; where only damaged ones are left,
    /// that is an error.
    fn lookup(
        &self,
        address: &MailAddress,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Lookup, StoreError> {
        self.look_up(address, at, waited).map_err(|error| error.into_store_error(self.cache.path()))
    }

    /// What came beside a certificate in the newest message that brought it. What cannot be read is none: then the
    /// certificate is asked, and what everybody opens is taken.
    fn capabilities(&self, certificate: &Certificate) -> Option<Capabilities> {
        let entry = self.cache.by_fingerprint(certificate.fingerprint()).ok()??;
        Capabilities::read(&entry.announced?.capabilities).ok()
    }

    /// By the same rules, distrusted certificates and revocation as for those of the cache. What is not known is not
    /// against it.
    fn against(
        &self,
        certificate: &Certificate,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Option<String>, StoreError> {
        self.judge_against(certificate, at, waited).map_err(|error| error.into_store_error(self.cache.path()))
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chooser")
            .field("cache", &self.cache.path())
            .field("take", &self.take)
            .finish_non_exhaustive()
    }
}

/// A hash over all of a trust configuration that decides: anchors, intermediates, modes, policies, files of CRLs.
fn identity(trust: &Trust, take: Take) -> Identity {
    let Trust { revocation, grace, policies, legacy, .. } = trust;
    let mut parts = vec![format!("3 {take:?} {revocation:?} {grace:?} {policies:?} {legacy:?}")];
    for certificates in [&trust.anchors, &trust.intermediates] {
        let mut fingerprints: Vec<_> = certificates.iter().map(Certificate::fingerprint).collect();
        fingerprints.sort();
        parts.push(format!("{fingerprints:?}"));
    }
    parts.extend(trust.crls.iter().map(|crl| format!("{:?}", crl.fingerprint())));
    parts.extend(trust.ocsp.iter().map(|answer| format!("{:?}", answer.fingerprint())));
    let digest = Digest::of(DigestAlgorithm::Sha256, parts.join(" ").as_bytes());
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}
