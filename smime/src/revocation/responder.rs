//! Who signed an OCSP response, and whether that one may (RFC 6960 sections 3.2 and 4.2.2.2).
//!
//! The issuer of the certificate itself, or whom it appointed: a certificate that it issued directly, with
//! id-kp-OCSPSigning. A responder trusted by local configuration there is none.

use std::{cmp::Reverse, collections::HashSet, time::SystemTime};

use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::KeyUsage;

use super::{
    Checker, Crl, Finding, Found, OcspResponse, Standing, Witness,
    ocsp::{Answer, Single},
    standing::Currency,
};
use crate::{
    Certificate,
    algorithm::DigestAlgorithm,
    key::Digest,
    path::{Budget, PathError, Purpose, RevocationMode, Strength, Trust, is_cheap, validate_for},
};

impl OcspResponse {
    /// Whether `issuer` signed it, or whom `issuer` appointed and whose revocation need not be looked at, so that
    /// it can be kept; what it says, and for how long, is another matter. Else the reason in words.
    pub fn check_responder(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        at: SystemTime,
    ) -> Result<(), String> {
        let (chain, trust) = ([certificate.clone(), issuer.clone()], Trust::default());
        let (mut budget, mut pending, mut strength) = (Budget::default(), Vec::new(), Strength::Strong);
        let mut checker = Checker {
            chain: &chain,
            surplus: &[],
            trust: &trust,
            at,
            budget: &mut budget,
            pending: &mut pending,
            strength: &mut strength,
        };
        checker.check_responder(self, issuer, &[], at).unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Checker<'_> {
    /// What the newest good response says of `certificate`; `None` where none is about it. Those at hand come first:
    /// what came with the message counts only where it is newer, and may not be so much that not all is looked at.
    pub(super) fn by_ocsp(
        &mut self,
        certificate: &Certificate,
        issuer: &Certificate,
        responses: [Vec<&OcspResponse>; 2],
        crls: &[&Crl],
    ) -> Result<Option<Finding>, PathError> {
        if responses.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let candidates = Candidates::of(issuer, self.surplus);
        let (mut best, mut reason): (Option<Found>, _) = (None, None);
        let mut looked_at = 0;
        for group in responses {
            for (single, response) in newest_first(group, certificate, issuer) {
                if best.is_some_and(|best| best.this_update >= single.this_update) {
                    break;
                }
                let claim = match self.claim(response, single, certificate) {
                    Ok(_) if !candidates.may_have_signed(response) => Err(refuse(NOT_APPOINTED)),
                    claim => claim,
                };
                let claim = match claim {
                    Ok(claim) => claim,
                    Err(why) => {
                        reason.get_or_insert(why);
                        continue;
                    }
                };
                looked_at += 1;
                if looked_at > MAX_RESPONSES {
                    return Err(self.budget.exceed());
                }
                let mut checked =
                    self.check_responder(response, issuer, crls, self.at.max(claim.this_update))?;
                if checked.is_err() && claim.standing.is_final() {
                    // Revoked is for ever: it may outlive the certificate of who said so.
                    checked = self.check_responder(response, issuer, crls, claim.this_update)?;
                }
                match checked {
                    Ok(()) => {
                        best = Some(claim);
                        break;
                    }
                    Err(why) => _ = reason.get_or_insert_with(|| refuse(&why)),
                }
            }
            if best.is_some_and(|best| best.standing.is_final()) {
                break;
            }
        }
        Ok(best.map(Ok).or(reason.map(Err)))
    }

    /// What a response says, whoever signed it.
    fn claim(&self, response: &OcspResponse, single: &Single, certificate: &Certificate) -> Finding {
        if let Some(why) = response.unusable().or(single.unusable.as_deref()) {
            return Err(refuse(why));
        }
        let standing = match single.status {
            Answer::Good => Standing::Good,
            Answer::Revoked(entry) => Standing::of(Some(entry), self.at),
            Answer::Unknown => return Err("the OCSP responder does not know it".into()),
        };
        let (this_update, until) = (single.this_update, single.until);
        if let Currency::Outdated(why) =
            Currency::of(this_update, Some(until), self.trust.grace, certificate.not_after(), self.at)
            && !standing.is_final()
        {
            return Err(refuse(why));
        }
        Ok(Found { standing, this_update, until, by: Witness::Ocsp })
    }

    fn check_responder(
        &mut self,
        response: &OcspResponse,
        issuer: &Certificate,
        crls: &[&Crl],
        at: SystemTime,
    ) -> Result<Result<(), String>, PathError> {
        if response.names(issuer) && self.is_answered_by(response, issuer)? {
            return Ok(Ok(()));
        }
        let mut reason = String::from(NOT_APPOINTED);
        for delegate in response.certificates().iter().chain(self.surplus) {
            if !response.names(delegate) || !is_candidate(delegate, issuer) {
                continue;
            }
            match self.check_delegate(delegate, issuer, crls, at)? {
                Err(why) => reason = format!("{delegate} signed it, and {why}"),
                Ok(()) if self.is_answered_by(response, delegate)? => return Ok(Ok(())),
                Ok(()) => reason = "its signature does not verify".into(),
            }
        }
        Ok(Err(reason))
    }

    fn is_answered_by(
        &mut self,
        response: &OcspResponse,
        responder: &Certificate,
    ) -> Result<bool, PathError> {
        if response.is_known_to_be_of(responder) {
            return Ok(true);
        }
        let check = || response.check_signature(responder);
        let found = self.budget.signed(responder, response.fingerprint(), check)?;
        Ok(self.takes(found))
    }

    /// Whether `issuer` has appointed `delegate` to answer for it.
    fn check_delegate(
        &mut self,
        delegate: &Certificate,
        issuer: &Certificate,
        crls: &[&Crl],
        at: SystemTime,
    ) -> Result<Result<(), String>, PathError> {
        // Directly below the issuer, so that nothing else is there to build a path of.
        let below_issuer = Trust {
            anchors: vec![issuer.clone()],
            revocation: RevocationMode::Off,
            legacy: self.trust.legacy,
            ..Trust::default()
        };
        match validate_for(Purpose::OcspSigning, self.budget, delegate, &[], &below_issuer, at) {
            Ok(path) => *self.strength = self.strength.and(path.strength()),
            Err(PathError::TooManyChecks) => return Err(PathError::TooManyChecks),
            Err(error) => return Ok(Err(error.to_string())),
        }
        match delegate.extension::<KeyUsage>() {
            Ok(None) => {}
            Ok(Some(usage)) if usage.digital_signature() || usage.non_repudiation() => {}
            _ => return Ok(Err("its keyUsage has no digitalSignature".into())),
        }
        if has_extension(delegate, ID_PKIX_OCSP_NOCHECK) {
            return Ok(Ok(()));
        }
        // Else its revocation counts (4.2.2.2.1); by CRL, as OCSP would ask the delegate itself.
        Ok(match self.by_crls(delegate, crls)? {
            Ok(found) if found.standing == Standing::Good => Ok(()),
            Ok(_) => Err("was revoked".into()),
            Err(why) => Err(format!("it is not known whether that was revoked: {why}")),
        })
    }
}

/// Who may have signed a response, but for those whose certificates are in it.
struct Candidates<'a> {
    issuer: &'a Certificate,
    /// Canonical.
    names: HashSet<&'a [u8]>,
    /// SHA-1 over each.
    keys: HashSet<Vec<u8>>,
}

impl<'a> Candidates<'a> {
    fn of(issuer: &'a Certificate, surplus: &'a [Certificate]) -> Self {
        let delegates = surplus.iter().filter(|delegate| is_candidate(delegate, issuer));
        let all: Vec<&Certificate> = [issuer].into_iter().chain(delegates).collect();
        let key =
            |one: &&Certificate| Digest::of(DigestAlgorithm::Sha1, one.public_key()).as_bytes().to_vec();
        Self {
            issuer,
            names: all.iter().map(|one| one.prepared_subject().canonical()).collect(),
            keys: all.iter().map(key).collect(),
        }
    }

    /// Whether it may be worth a check of its signature, by what it says of who signed it.
    fn may_have_signed(&self, response: &OcspResponse) -> bool {
        let mut enclosed = response.certificates().iter();
        response.names_one_of(&self.names, &self.keys)
            || enclosed.any(|delegate| response.names(delegate) && is_candidate(delegate, self.issuer))
    }
}

/// Whether `delegate` says that `issuer` issued it, and a check of its signatures is not too dear.
fn is_candidate(delegate: &Certificate, issuer: &Certificate) -> bool {
    is_cheap(delegate) && delegate.prepared_issuer().is(issuer.prepared_subject())
}

/// The responses about a certificate, each with its answer.
fn newest_first<'a>(
    responses: Vec<&'a OcspResponse>,
    certificate: &Certificate,
    issuer: &Certificate,
) -> Vec<(&'a Single, &'a OcspResponse)> {
    let answer = |response: &'a OcspResponse| Some((response.single(certificate, issuer)?, response));
    let mut answers: Vec<_> = responses.into_iter().filter_map(answer).collect();
    answers.sort_by_key(|(single, _)| Reverse(single.this_update));
    answers
}

fn refuse(why: &str) -> String {
    format!("the OCSP response cannot be used: {why}")
}

fn has_extension(certificate: &Certificate, oid: ObjectIdentifier) -> bool {
    let extensions = certificate.decoded().tbs_certificate().extensions();
    extensions.into_iter().flatten().any(|extension| extension.extn_id == oid)
}

const NOT_APPOINTED: &str = "it is not signed by the issuer or whom the issuer appointed";
/// For how many responses about one certificate signatures are checked.
const MAX_RESPONSES: usize = 10;
/// id-pkix-ocsp-nocheck.
const ID_PKIX_OCSP_NOCHECK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");
