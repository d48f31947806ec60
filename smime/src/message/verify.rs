//! What a signed message is worth: the rules of RFC 8551, RFC 8550 and of what went wrong elsewhere.
//!
//! `pass` needs all of this: the root is the signed entity; every signer's signature covers exactly that
//! entity, with signed attributes; every signer's certificate leads to an anchor for e-mail and is not
//! revoked; and one of them has the single From address. Everything else has a word of its own.

use std::{borrow::Cow, collections::HashSet, time::SystemTime};

use const_oid::db::rfc5911;

use super::{AuthResult, Reason, SignerReport, Verdict, Wrapped};
use crate::{
    Certificate, MailAddress,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    capabilities::Capabilities,
    cms::{Object, SignedAttributes, SignedData, SignerInfo},
    key::{Digest, SignatureInput},
    mime::{Canonical, FromError, MimeEntity},
    path::{self, Budget, Revocation, Trust, ValidPath},
    public_key,
};

/// A signer whose signature, certificate and path were checked: only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedSigner {
    certificate: Certificate,
    path: ValidPath,
    capabilities: Option<Capabilities>,
}

impl VerifiedSigner {
    /// The signer's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its path.
    pub fn path(&self) -> &ValidPath {
        &self.path
    }

    /// What the signer says its mail program can open, where it does (RFC 8551 2.5.2).
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.capabilities.as_ref()
    }

    fn is(&self, sender: &MailAddress) -> bool {
        self.certificate.addresses().contains(sender)
    }
}

/// How many certificates are tried for one signer, where several have the key identifier it names.
const MAX_CANDIDATES: usize = 3;

/// Verifies an entity's signature for the sender that the message names, at the time `at`.
///
/// The signers that were found good are returned beside the verdict, which may still not be `pass`:
/// none of them need be the sender.
pub fn verify(
    entity: &MimeEntity<'_>,
    sender: Result<MailAddress, FromError>,
    trust: &Trust,
    at: SystemTime,
) -> (Verdict, Vec<VerifiedSigner>) {
    verify_within(&mut Budget::default(), entity, sender, trust, at)
}

/// Like [`verify`], with the budget in the caller's hands. Where it is exceeded the verdict is never
/// `pass`: not everything was looked at.
pub fn verify_within(
    budget: &mut Budget,
    entity: &MimeEntity<'_>,
    sender: Result<MailAddress, FromError>,
    trust: &Trust,
    at: SystemTime,
) -> (Verdict, Vec<VerifiedSigner>) {
    let unsigned = |reason| (Verdict::without_signers(reason), Vec::new());
    let wrapped = match Wrapped::read(entity) {
        Ok(Some(wrapped)) => wrapped,
        Ok(None) => return unsigned(Reason::NotSigned),
        Err(error) => return unsigned(Reason::Unreadable(error.to_string())),
    };
    let (object, content) = match &wrapped {
        Wrapped::Clear { content, object } => (object, Some(Canonical::from_signed_part(content.octets()))),
        Wrapped::Opaque(object) => (object, None),
    };
    let signed_data = match Object::parse(object) {
        Ok(Object::SignedData(signed_data)) => signed_data,
        Ok(Object::EnvelopedData(_)) => return unsigned(Reason::Encrypted),
        Ok(Object::CompressedData(_)) => return unsigned(Reason::NotSigned),
        Err(error) => return unsigned(Reason::Unreadable(error.to_string())),
    };
    if signed_data.signer_infos().is_empty() {
        return unsigned(Reason::CertificatesOnly);
    }
    // The IMAP section of the signature: part 2 of multipart/signed, or the body of a single part.
    let part = if content.is_some() { "2" } else { "1" };
    let digests = match (&content, signed_data.content()) {
        (Some(_), Some(_)) => {
            return (Verdict::new(Reason::EmbeddedContent, Some(part), Vec::new()), Vec::new());
        }
        (Some(content), None) => Digests::of(vec![content.octets()]),
        (None, Some(segments)) => Digests::of(segments.to_vec()),
        (None, None) => return (Verdict::new(Reason::NoContent, Some(part), Vec::new()), Vec::new()),
    };
    judge(budget, &signed_data, digests, part, sender, trust, at)
}

/// Puts the signers' findings together: the worst one decides, and one of them must be the sender.
fn judge(
    budget: &mut Budget,
    signed_data: &SignedData<'_>,
    mut digests: Digests<'_>,
    part: &'static str,
    sender: Result<MailAddress, FromError>,
    trust: &Trust,
    at: SystemTime,
) -> (Verdict, Vec<VerifiedSigner>) {
    let mut certificates = signed_data.certificates();
    let mut seen = HashSet::new();
    certificates.retain(|certificate| seen.insert(*certificate.fingerprint()));
    let mut reports: Vec<SignerReport> = Vec::new();
    let mut verified = Vec::new();
    for (position, info) in signed_data.signer_infos().iter().enumerate() {
        let mut earlier = signed_data.signer_infos().iter().take(position).zip(&reports);
        if let Some((_, report)) = earlier.find(|(earlier, _)| *earlier == info) {
            reports.push(report.clone());
            continue;
        }
        let mut report = SignerReport {
            certificate: None,
            signing_time: info.signed_attributes.as_ref().and_then(|a| a.as_ref().ok()?.signing_time()),
            reason: Reason::NoCertificate,
        };
        // Several certificates may have the same key identifier (RFC 8551 2.6): the best finding counts.
        let candidates = certificates.iter().filter(|certificate| info.names(certificate));
        for certificate in candidates.take(MAX_CANDIDATES) {
            let finding = check_signer(info, certificate, signed_data, &mut digests, trust, budget)
                .and_then(|()| Ok(path::validate_within(budget, certificate, &certificates, trust, at)?));
            let reason = match &finding {
                Ok(path) => reason_of(path),
                Err(reason) => reason.clone(),
            };
            if report.certificate.is_none() || AuthResult::from(&reason) < AuthResult::from(&report.reason) {
                report.certificate = Some(certificate.clone());
                report.reason = reason;
            }
            if let Ok(path) = finding {
                let attributes = info.signed_attributes.as_ref().and_then(|read| read.as_ref().ok());
                verified.push(VerifiedSigner {
                    certificate: certificate.clone(),
                    path,
                    capabilities: attributes.and_then(SignedAttributes::capabilities).cloned(),
                });
                break;
            }
        }
        reports.push(report);
    }

    let worst = reports.iter().map(|report| &report.reason).max_by_key(|reason| AuthResult::from(*reason));
    let reason = worst.cloned().unwrap_or(Reason::CertificatesOnly);
    if AuthResult::from(&reason) != AuthResult::Pass {
        return (Verdict::new(reason, Some(part), reports), verified);
    }
    let verdict = match sender {
        Err(error) => Verdict::new(Reason::From(error.to_string()), Some(part), reports),
        Ok(sender) if verified.iter().any(|signer| signer.is(&sender)) => {
            Verdict::new(reason, Some(part), reports).with_sender(sender)
        }
        Ok(_) => Verdict::new(Reason::OtherSender, Some(part), reports),
    };
    (verdict, verified)
}

fn reason_of(path: &ValidPath) -> Reason {
    match path.revocation() {
        Revocation::Good => Reason::AllGood,
        Revocation::Unknown(why) => Reason::RevocationUnknown(why.clone()),
        Revocation::NotChecked => Reason::RevocationNotChecked,
    }
}

/// Checks one signer's signature with one certificate; its path comes after this.
fn check_signer(
    info: &SignerInfo,
    certificate: &Certificate,
    signed_data: &SignedData<'_>,
    digests: &mut Digests<'_>,
    trust: &Trust,
    budget: &mut Budget,
) -> Result<(), Reason> {
    let unknown = |oid: &dyn std::fmt::Display| Reason::UnknownAlgorithm(oid.to_string());
    let digest_algorithm = DigestAlgorithm::from_identifier(&info.digest_algorithm)
        .ok_or_else(|| unknown(&info.digest_algorithm.oid))?;
    let algorithm = SignatureAlgorithm::from_identifier(&info.signature_algorithm, digest_algorithm)
        .ok_or_else(|| unknown(&info.signature_algorithm.oid))?;
    if !path::is_cheap(certificate) && !trust.anchors.contains(certificate) {
        return Err(unknown(&"with so large a certificate or key"));
    }
    let content_digest = digests.get(digest_algorithm);
    let mut verify = |input: &SignatureInput<'_>| {
        budget.operation()?;
        match public_key::verify(certificate, algorithm, input, &info.signature) {
            Ok(()) => Ok(()),
            Err(public_key::VerifyError::Mismatch) => Err(Reason::BadSignature),
            Err(error @ public_key::VerifyError::KeyNotTaken { .. }) => Err(unknown(&error)),
        }
    };
    let Some(attributes) = &info.signed_attributes else {
        verify(&digests.input(algorithm))?;
        return Err(Reason::NoSignedAttributes);
    };
    let attributes = attributes.as_ref().map_err(|error| Reason::Attributes(error.clone()))?;
    if attributes.message_digest() != content_digest.as_bytes() {
        return Err(Reason::ContentChanged);
    }
    if attributes.content_type() != signed_data.content_type()
        || signed_data.content_type() != rfc5911::ID_DATA
    {
        return Err(Reason::ContentType);
    }
    let mut found = Err(Reason::BadSignature);
    for octets in attributes.signed_octets() {
        found = verify(&SignatureInput::of(algorithm, octets));
        if found.is_ok() {
            break;
        }
    }
    found?;
    if !attributes.protects(&info.digest_algorithm, &info.signature_algorithm) {
        return Err(Reason::OtherAlgorithms);
    }
    if !attributes.binds(certificate) {
        return Err(Reason::OtherCertificate);
    }
    if !public_key::is_strong(certificate, algorithm) {
        return Err(Reason::Weak);
    }
    if !certificate.may_sign() {
        return Err(Reason::NotForSigning);
    }
    Ok(())
}

/// The content's digests, each made once: several signers often share one.
struct Digests<'a> {
    segments: Vec<&'a [u8]>,
    known: Vec<Digest>,
}

impl<'a> Digests<'a> {
    fn of(segments: Vec<&'a [u8]>) -> Self {
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
        match self.segments.as_slice() {
            _ if !algorithm.signs_octets() => self.get(algorithm.digest()).into(),
            [all] => SignatureInput::Octets(Cow::Borrowed(all)),
            segments => SignatureInput::Octets(Cow::Owned(segments.concat())),
        }
    }
}
