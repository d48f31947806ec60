//! One signer's signature checked, aspect by aspect (RFC 5652 section 5.6).

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use const_oid::db::rfc5911;

use super::{Announcement, AuthResult, Finding, Findings, Reason, SignerReport, VerifiedSigner};
use crate::{
    Certificate, Room,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    cms::{SignedData, SignerInfo},
    key::{Digest, SignatureInput},
    path::{self, Budget, Revocation, Strength, Trust, ValidPath},
    public_key,
};

/// How many certificates are tried for one signer, where several have the key identifier it names, and returned of
/// those it wants to be encrypted to.
pub(super) const MAX_CANDIDATES: usize = 3;

/// Checks the signers of one object, each against its content.
pub(super) struct Examiner<'a, 'o> {
    signed_data: &'a SignedData<'o>,
    certificates: Arc<[Certificate]>,
    /// Of the content; `None` where it does not matter.
    digests: Option<Digests<'a>>,
    trust: &'a Trust,
    at: SystemTime,
    budget: &'a mut Budget,
}

impl<'a, 'o> Examiner<'a, 'o> {
    pub(super) fn new(
        signed_data: &'a SignedData<'o>,
        content: Option<&'a [&'a [u8]]>,
        trust: &'a Trust,
        at: SystemTime,
        budget: &'a mut Budget,
        mut room: Room,
    ) -> Self {
        let mut certificates = signed_data.certificates_within(&mut room);
        let mut seen = HashSet::new();
        certificates.retain(|certificate| seen.insert(*certificate.fingerprint()));
        let certificates = certificates.into();
        Self { signed_data, certificates, digests: content.map(Digests::of), trust, at, budget }
    }

    /// What is found of every signer, in the order received, and the signers that were found good.
    pub(super) fn examine(mut self) -> (Vec<SignerReport>, Vec<VerifiedSigner>) {
        let infos = self.signed_data.signer_infos();
        let mut reports: Vec<SignerReport> = Vec::with_capacity(infos.len());
        let mut verified = Vec::new();
        for (position, info) in infos.iter().enumerate() {
            let mut earlier = infos.iter().take(position).zip(&reports);
            if let Some((_, report)) = earlier.find(|(earlier, _)| earlier.is_same_signature(info)) {
                reports.push(report.clone());
                continue;
            }
            reports.push(self.examine_signer(info, &mut verified));
        }
        (reports, verified)
    }

    /// What those signers announce whose signature over it is good. Their paths are not looked for.
    pub(super) fn announcements(mut self) -> Vec<Announcement> {
        let infos = self.signed_data.signer_infos();
        infos.iter().filter_map(|info| self.announcement(info)).collect()
    }

    fn announcement(&mut self, info: &SignerInfo) -> Option<Announcement> {
        let attributes = info.signed_attributes.as_ref()?.as_ref().ok()?;
        let capabilities = attributes.capabilities()?;
        let candidates = self.certificates.iter().filter(|certificate| info.names(certificate));
        let candidates: Vec<_> = candidates.take(MAX_CANDIDATES).cloned().collect();
        let is_good = |examiner: &mut Self, certificate: &Certificate| {
            let algorithm = examiner.algorithm(info, certificate)?;
            examiner.check_attributes(info)?;
            check_certificate(info, certificate)?;
            if !public_key::is_strong(certificate, algorithm) {
                return Err(Reason::Weak);
            }
            examiner.check_signature(info, certificate, algorithm)
        };
        let signer = candidates.into_iter().find(|certificate| is_good(self, certificate).is_ok())?;
        let certificate = match attributes.encryption_key_preference() {
            Some(named) if !named.names(&signer) => {
                self.certificates.iter().find(|other| named.names(other))?.clone()
            }
            _ => signer.clone(),
        };
        Some(Announcement {
            signer,
            certificate,
            capabilities: capabilities.clone(),
            signing_time: attributes.signing_time(),
        })
    }

    /// Several certificates may have the same key identifier (RFC 8551 2.6): the best finding counts.
    fn examine_signer(&mut self, info: &SignerInfo, verified: &mut Vec<VerifiedSigner>) -> SignerReport {
        let attributes = info.signed_attributes.as_ref().and_then(|read| read.as_ref().ok());
        let mut report = SignerReport {
            certificate: None,
            signing_time: attributes.and_then(|attributes| attributes.signing_time()),
            findings: Findings { certificate: Finding::Bad(Reason::NoCertificate), ..Findings::NONE },
            countersigners: info.countersigners.clone(),
            reason: Reason::NoCertificate,
        };
        let candidates = self.certificates.iter().filter(|certificate| info.names(certificate));
        let candidates: Vec<_> = candidates.take(MAX_CANDIDATES).cloned().collect();
        for certificate in candidates {
            let (findings, path) = self.examine_with(info, &certificate);
            let reason = match (findings.worst(), &path) {
                (Some(reason), _) => reason.clone(),
                (None, Some(path)) => reason_of(path),
                // Nothing is wrong and yet there is no path: it was not looked for.
                (None, None) => Reason::BadSignature,
            };
            let passes = AuthResult::from(&reason) == AuthResult::Pass;
            if report.certificate.is_none() || AuthResult::from(&reason) < AuthResult::from(&report.reason) {
                report.certificate = Some(certificate.clone());
                report.findings = findings;
                report.reason = reason;
            }
            if let Some(path) = path.filter(|_| passes) {
                verified.push(VerifiedSigner {
                    certificate,
                    path,
                    attributes: attributes.cloned(),
                    certificates: Arc::clone(&self.certificates),
                    encryption_certificates: OnceLock::new(),
                });
                break;
            }
        }
        report
    }

    fn examine_with(
        &mut self,
        info: &SignerInfo,
        certificate: &Certificate,
    ) -> (Findings, Option<ValidPath>) {
        let mut findings = Findings::NONE;
        let algorithm = match self.algorithm(info, certificate) {
            Ok(algorithm) => algorithm,
            Err(reason) => {
                findings.signature = Finding::Bad(reason);
                return (findings, None);
            }
        };
        findings.attributes = self.check_attributes(info).into();
        findings.signature = match &info.signed_attributes {
            // What is signed cannot be told from attributes that cannot be read.
            Some(Err(_)) => Finding::NotReached,
            _ => self.check_signature(info, certificate, algorithm).into(),
        };
        findings.certificate = check_certificate(info, certificate).into();
        findings.strength =
            if public_key::is_strong(certificate, algorithm) { Ok(()) } else { Err(Reason::Weak) }.into();
        // Who did not sign this costs no search for a path, and causes nothing else (RFC 8550 6).
        let mut path = None;
        if findings.signature.is_good() {
            match path::validate_within(self.budget, certificate, &self.certificates, self.trust, self.at) {
                Ok(valid) => {
                    findings.path = Finding::Good;
                    if valid.strength() == Strength::Legacy {
                        findings.strength = Finding::Bad(Reason::Weak);
                    }
                    path = Some(valid);
                }
                Err(error) => findings.path = Finding::Bad(error.into()),
            }
        }
        (findings, path)
    }

    /// The algorithm, where it is known here and affordable with this certificate.
    fn algorithm(&self, info: &SignerInfo, certificate: &Certificate) -> Result<SignatureAlgorithm, Reason> {
        let digest = DigestAlgorithm::from_identifier(&info.digest_algorithm)
            .ok_or_else(|| unknown(&info.digest_algorithm.oid))?;
        let algorithm = SignatureAlgorithm::from_identifier(&info.signature_algorithm, digest)
            .ok_or_else(|| unknown(&info.signature_algorithm.oid))?;
        if !path::is_cheap(certificate) && !self.trust.anchors.contains(certificate) {
            return Err(unknown(&"with so large a certificate or key"));
        }
        Ok(algorithm)
    }

    fn check_attributes(&self, info: &SignerInfo) -> Result<(), Reason> {
        let attributes = info.signed_attributes.as_ref().ok_or(Reason::NoSignedAttributes)?;
        let attributes = attributes.as_ref().map_err(|error| Reason::Attributes(error.clone()))?;
        let content_type = self.signed_data.content_type();
        if attributes.content_type() != content_type || content_type != rfc5911::ID_DATA {
            return Err(Reason::ContentType);
        }
        if !attributes.protects(&info.digest_algorithm, &info.signature_algorithm) {
            return Err(Reason::OtherAlgorithms);
        }
        Ok(())
    }

    /// The digest of the content, then the signature over the attributes that hold it, or over the content.
    fn check_signature(
        &mut self,
        info: &SignerInfo,
        certificate: &Certificate,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), Reason> {
        let budget = &mut *self.budget;
        let mut verify = |input: &SignatureInput<'_>| {
            budget.operation()?;
            match public_key::verify(certificate, algorithm, input, &info.signature) {
                Ok(()) => Ok(()),
                Err(public_key::VerifyError::Mismatch) => Err(Reason::BadSignature),
                Err(error @ public_key::VerifyError::KeyNotTaken { .. }) => Err(unknown(&error)),
            }
        };
        let Some(attributes) = &info.signed_attributes else {
            let digests = self.digests.as_mut().ok_or(Reason::NoSignedAttributes)?;
            return verify(&digests.input(algorithm));
        };
        let attributes = attributes.as_ref().map_err(|error| Reason::Attributes(error.clone()))?;
        if let Some(digests) = &mut self.digests
            && attributes.message_digest() != digests.get(algorithm.digest()).as_bytes()
        {
            return Err(Reason::ContentChanged);
        }
        let mut found = Err(Reason::BadSignature);
        for octets in attributes.signed_octets() {
            found = verify(&SignatureInput::of(algorithm, octets));
            if found.is_ok() {
                break;
            }
        }
        found
    }
}

fn check_certificate(info: &SignerInfo, certificate: &Certificate) -> Result<(), Reason> {
    if let Some(Ok(attributes)) = &info.signed_attributes
        && !attributes.binds(certificate)
    {
        return Err(Reason::OtherCertificate);
    }
    if certificate.may_sign() { Ok(()) } else { Err(Reason::NotForSigning) }
}

fn unknown(what: &dyn std::fmt::Display) -> Reason {
    Reason::UnknownAlgorithm(what.to_string())
}

fn reason_of(path: &ValidPath) -> Reason {
    match path.revocation() {
        Revocation::Good { .. } => Reason::AllGood,
        Revocation::Unknown(why) => Reason::RevocationUnknown(why.clone()),
        Revocation::NotChecked => Reason::RevocationNotChecked,
    }
}

/// The content's digests, each made once: several signers often share one.
struct Digests<'a> {
    segments: &'a [&'a [u8]],
    known: Vec<Digest>,
}

impl<'a> Digests<'a> {
    fn of(segments: &'a [&'a [u8]]) -> Self {
        Self { segments, known: Vec::new() }
    }

    fn get(&mut self, algorithm: DigestAlgorithm) -> Digest {
        if let Some(known) = self.known.iter().find(|digest| digest.algorithm() == algorithm) {
            return *known;
        }
        let digest = Digest::of_segments(algorithm, self.segments.iter().copied());
        self.known.push(digest);
        digest
    }

    /// What a signature without signed attributes is over.
    fn input(&mut self, algorithm: SignatureAlgorithm) -> SignatureInput<'a> {
        match self.segments {
            _ if !algorithm.signs_octets() => self.get(algorithm.digest()).into(),
            [all] => SignatureInput::Octets(Cow::Borrowed(all)),
            segments => SignatureInput::Octets(Cow::Owned(segments.concat())),
        }
    }
}
