//! Whether certificates of a path are revoked: by CRLs (RFC 5280 section 6.3) and OCSP (RFC 6960).
//!
//! A path is complete, and every signature on it verified, before anything here is asked. CRLs and OCSP responses come
//! from files, from the message (RFC 5652 10.2.1, RFC 5940), and from a [`RevocationSource`]; all of them are checked
//! alike, and the newest counts (RFC 8550 section 6). What is not understood says nothing: revocation is then unknown.

mod cert_id;
mod crl;
mod entries;
mod evidence;
mod locations;
mod lookup;
mod names;
mod ocsp;
mod responder;
mod scope;
mod signer;
mod standing;
mod tlv;

use std::time::SystemTime;

pub use cert_id::OcspRequest;
pub use crl::{Crl, CrlError};
pub use evidence::{Evidence, RevocationSource};
pub use locations::{crl_urls, delta_crl_urls, ocsp_urls};
pub use ocsp::{MAX_AGE_WITHOUT_NEXT_UPDATE, OcspError, OcspResponse};

use standing::Standing;

use crate::{
    Certificate,
    path::{
        Budget, LegacySignatures, PathError, Refused, Revocation, RevocationMode, SignedError, Strength,
        Trust,
    },
};

/// What tells of the revocation of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Witness {
    /// CRLs.
    Crl,
    /// An OCSP response.
    Ocsp,
}

/// Asks for every certificate of a path but its anchor, leaf first. `chain` is valid in everything else. The answer is
/// as strong as the signatures on what it is from.
pub(crate) fn check(
    chain: &[Certificate],
    surplus: &[Certificate],
    trust: &Trust,
    at: SystemTime,
    budget: &mut Budget,
) -> Result<(Revocation, Strength), Refused> {
    let (mut pending, mut strength) = (Vec::new(), Strength::Strong);
    let mut checker =
        Checker { chain, surplus, trust, at, budget, pending: &mut pending, strength: &mut strength };
    let (mut until, mut by): (Option<SystemTime>, Option<Witness>) = (None, None);
    let mut unknown = None;
    for (position, (certificate, issuer)) in chain.iter().zip(chain.iter().skip(1)).enumerate() {
        match checker.status(certificate, issuer)? {
            Ok(Found { standing: Standing::Revoked { since, .. }, .. }) => {
                let error = PathError::Revoked { certificate: certificate.to_string(), since };
                return Err(Refused { error, revoked: Some(position) });
            }
            Ok(found) => {
                until = Some(until.map_or(found.until, |until| until.min(found.until)));
                by = by.or(Some(found.by));
            }
            Err(reason) => {
                let certificate = certificate.to_string();
                if trust.revocation == RevocationMode::HardFail {
                    return Err(PathError::RevocationUnknown { certificate, reason }.into());
                }
                unknown = Some(Revocation::Unknown(format!("{certificate}: {reason}")));
            }
        }
    }
    Ok((unknown.unwrap_or(Revocation::Good { until, by }), strength))
}

/// Looks for the revocation of the certificates of one path.
struct Checker<'a> {
    /// Leaf first, anchor last.
    chain: &'a [Certificate],
    surplus: &'a [Certificate],
    trust: &'a Trust,
    at: SystemTime,
    budget: &'a mut Budget,
    /// The certificates of CRL issuers whose own revocation is being looked for.
    pending: &'a mut Vec<[u8; 32]>,
    /// That of the weakest signature that was taken.
    strength: &'a mut Strength,
}

/// What was found of a certificate.
#[derive(Clone, Copy, Debug)]
struct Found {
    standing: Standing,
    /// When the answer was made, the oldest of several.
    this_update: SystemTime,
    /// Until when it holds.
    until: SystemTime,
    by: Witness,
}

/// Found, or why not.
type Finding = Result<Found, String>;

impl Checker<'_> {
    /// Whether a signature is taken that was found to be so.
    fn takes(&mut self, found: Result<(), SignedError>) -> bool {
        match found {
            Ok(()) => true,
            Err(SignedError::Weak) if self.trust.legacy == LegacySignatures::Marked => {
                *self.strength = Strength::Legacy;
                true
            }
            Err(_) => false,
        }
    }

    /// What CRLs and OCSP responses say of `certificate`. One that says revoked for ever is believed; else the newer.
    fn status(&mut self, certificate: &Certificate, issuer: &Certificate) -> Result<Finding, PathError> {
        let trust = self.trust;
        let more = trust
            .revocation_source
            .as_ref()
            .map(|source| source.evidence(certificate, issuer, self.budget.waited_mut()))
            .unwrap_or_default();
        let crls: Vec<&Crl> = trust.crls.iter().chain(&more.crls).chain(&trust.enclosed.crls).collect();
        let at_hand: Vec<&OcspResponse> = trust.ocsp.iter().chain(&more.ocsp).collect();
        let enclosed: Vec<&OcspResponse> = trust.enclosed.ocsp.iter().collect();
        let by_ocsp = self.by_ocsp(certificate, issuer, [at_hand, enclosed], &crls)?;
        if let Some(Ok(found)) = &by_ocsp
            && found.standing.is_final()
        {
            return Ok(Ok(*found));
        }
        let by_crl = self.by_crls(certificate, &crls)?;
        Ok(match (by_crl, by_ocsp) {
            (Ok(crl), Some(Ok(ocsp))) => {
                Ok(if crl.standing.is_final() || crl.this_update > ocsp.this_update { crl } else { ocsp })
            }
            (Ok(crl), _) => Ok(crl),
            (Err(_), Some(Ok(ocsp))) => Ok(ocsp),
            (Err(crl), ocsp) => {
                let reasons = [Some(crl), ocsp.and_then(Result::err), more.unavailable];
                Err(reasons.into_iter().flatten().collect::<Vec<_>>().join("; "))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::now;

    #[test]
    fn a_weak_signature_on_an_answer_is_taken_only_where_it_is_marked_and_makes_the_path_weak() {
        use {LegacySignatures::*, SignedError::*};
        for (legacy, found, taken) in [
            (Refused, Ok(()), Some(Strength::Strong)),
            (Refused, Err(Weak), None),
            (Refused, Err(Signature), None),
            (Refused, Err(Algorithm), None),
            (Marked, Ok(()), Some(Strength::Strong)),
            (Marked, Err(Weak), Some(Strength::Legacy)),
            (Marked, Err(Signature), None),
            (Marked, Err(Algorithm), None),
        ] {
            let (trust, mut strength) = (Trust { legacy, ..Trust::default() }, Strength::Strong);
            let mut checker = Checker {
                chain: &[],
                surplus: &[],
                trust: &trust,
                at: now(),
                budget: &mut Budget::default(),
                pending: &mut Vec::new(),
                strength: &mut strength,
            };
            assert_eq!(checker.takes(found), taken.is_some(), "{legacy:?} {found:?}");
            assert_eq!(strength, taken.unwrap_or(Strength::Strong), "{legacy:?} {found:?}");
        }
    }
}
