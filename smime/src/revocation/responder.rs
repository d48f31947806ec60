//! Who signed an OCSP response, and whether that one may (RFC 6960 sections 3.2 and 4.2.2.2).
//!
//! The issuer of the certificate itself, or whom it appointed: a certificate that it issued directly, with
//! id-kp-OCSPSigning. A responder trusted by local configuration there is none.

use std::{cmp::Reverse, time::SystemTime};

use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::KeyUsage;

use super::{
    Checker, Crl, Finding, Found, OcspResponse, Standing, Witness, ocsp::Answer, standing::Currency,
};
use crate::{
    Certificate,
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
    /// What the newest good response says of `certificate`; `None` where none is about it.
    pub(super) fn by_ocsp(
        &mut self,
        certificate: &Certificate,
        issuer: &Certificate,
        responses: &[&OcspResponse],
        crls: &[&Crl],
    ) -> Result<Option<Finding>, PathError> {
        let about =
            |response: &&OcspResponse| response.single(certificate, issuer).map(|single| single.this_update);
        let mut responses: Vec<&OcspResponse> =
            responses.iter().filter(|response| about(response).is_some()).copied().collect();
        responses.sort_by_key(|response| Reverse(about(response)));
        let mut reason = None;
        for response in responses.into_iter().take(MAX_RESPONSES) {
            match self.answer(response, certificate, issuer, crls)? {
                Ok(found) => return Ok(Some(Ok(found))),
                Err(why) => _ = reason.get_or_insert(why),
            }
        }
        Ok(reason.map(Err))
    }

    fn answer(
        &mut self,
        response: &OcspResponse,
        certificate: &Certificate,
        issuer: &Certificate,
        crls: &[&Crl],
    ) -> Result<Finding, PathError> {
        let refuse = |why: &str| Ok(Err(format!("the OCSP response cannot be used: {why}")));
        let Some(single) = response.single(certificate, issuer) else { return refuse("it is about another") };
        if let Some(why) = response.unusable().or(single.unusable.as_deref()) {
            return refuse(why);
        }
        let standing = match single.status {
            Answer::Good => Standing::Good,
            Answer::Revoked(entry) => Standing::of(Some(entry), self.at),
            Answer::Unknown => return Ok(Err("the OCSP responder does not know it".into())),
        };
        let (this_update, until) = (single.this_update, single.until);
        if let Currency::Outdated(why) =
            Currency::of(this_update, Some(until), certificate.not_after(), self.at)
            && !standing.is_final()
        {
            return refuse(why);
        }
        match self.check_responder(response, issuer, crls, self.at.max(this_update))? {
            Ok(()) => Ok(Ok(Found { standing, this_update, until, by: Witness::Ocsp })),
            Err(why) => refuse(&why),
        }
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
        let mut reason = String::from("it is not signed by the issuer or whom the issuer appointed");
        for delegate in response.certificates().iter().chain(self.surplus) {
            if !response.names(delegate) || !is_cheap(delegate) {
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
            Ok(path) if path.strength() == Strength::Legacy => *self.strength = Strength::Legacy,
            Ok(_) => {}
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

fn has_extension(certificate: &Certificate, oid: ObjectIdentifier) -> bool {
    let extensions = certificate.decoded().tbs_certificate().extensions();
    extensions.into_iter().flatten().any(|extension| extension.extn_id == oid)
}

/// How many responses about one certificate are looked at.
const MAX_RESPONSES: usize = 10;
/// id-pkix-ocsp-nocheck.
const ID_PKIX_OCSP_NOCHECK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");
