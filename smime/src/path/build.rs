//! Looks for a path from a leaf to an anchor among certificates in no order (RFC 4158, in small).

use std::time::SystemTime;

use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::{Budget, MAX_CERTIFICATE_LEN, MAX_PATH, PathError, Trust, ValidPath, budget::is_cheap, check};
use crate::{Certificate, algorithm::SignatureAlgorithm, ber::Tree, key::SignatureInput, public_key};

/// Finds a valid path for `leaf` at the time `at`. `surplus` are the certificates that came with the
/// message: helpers on the way, never trusted by themselves.
pub fn validate(
    leaf: &Certificate,
    surplus: &[Certificate],
    trust: &Trust,
    at: SystemTime,
) -> Result<ValidPath, PathError> {
    validate_within(&mut Budget::default(), leaf, surplus, trust, at)
}

/// Like [`validate`], for one of several certificates of a message that share a budget.
pub fn validate_within(
    budget: &mut Budget,
    leaf: &Certificate,
    surplus: &[Certificate],
    trust: &Trust,
    at: SystemTime,
) -> Result<ValidPath, PathError> {
    let mut chain = vec![leaf.clone()];
    if trust.anchors.contains(leaf) {
        return check::check(&chain, trust, at, budget);
    }
    let mut search = Search { surplus, trust, at, budget, error: None };
    match search.extend(&mut chain)? {
        Some(path) => Ok(path),
        None => Err(search.error.unwrap_or_else(|| PathError::NoPath { certificate: leaf.to_string() })),
    }
}

struct Search<'a> {
    surplus: &'a [Certificate],
    trust: &'a Trust,
    at: SystemTime,
    budget: &'a mut Budget,
    /// The reason that says most: of the path that came furthest.
    error: Option<PathError>,
}

impl Search<'_> {
    /// Tries every issuer of the last certificate. The recursion is bounded by `MAX_PATH`; an error ends
    /// the whole search, as the budget is used up.
    fn extend(&mut self, chain: &mut Vec<Certificate>) -> Result<Option<ValidPath>, PathError> {
        self.budget.step()?;
        let Some(last) = chain.last().cloned() else { return Ok(None) };
        let authority_key = authority_key(&last);
        let trust = self.trust;
        for anchor in trust.anchors.iter().filter(|anchor| issued(anchor, &last, authority_key.as_deref())) {
            if !self.is_signed_by(&last, anchor)? {
                continue;
            }
            chain.push(anchor.clone());
            match check::check(chain, trust, self.at, self.budget) {
                Ok(path) => return Ok(Some(path)),
                Err(PathError::TooManyChecks) => return Err(PathError::TooManyChecks),
                Err(error) => self.error = Some(error),
            }
            chain.pop();
        }
        if chain.len() + 1 >= MAX_PATH {
            return Ok(None);
        }
        let surplus = self.surplus;
        let small = surplus.iter().filter(|issuer| issuer.der().len() <= MAX_CERTIFICATE_LEN);
        for issuer in small.filter(|issuer| issued(issuer, &last, authority_key.as_deref())) {
            if chain.contains(issuer) || trust.anchors.contains(issuer) {
                continue;
            }
            if !is_cheap(issuer) {
                self.note(PathError::Algorithm { certificate: last.to_string() });
                continue;
            }
            if !self.is_signed_by(&last, issuer)? {
                continue;
            }
            chain.push(issuer.clone());
            if let Some(path) = self.extend(chain)? {
                return Ok(Some(path));
            }
            chain.pop();
        }
        if self.error.is_none() {
            self.error = Some(PathError::NoPath { certificate: last.to_string() });
        }
        Ok(None)
    }

    fn is_signed_by(&mut self, certificate: &Certificate, issuer: &Certificate) -> Result<bool, PathError> {
        let named = || certificate.to_string();
        let check = || check_signature(certificate, issuer);
        match self.budget.signed(issuer, certificate.fingerprint(), check)? {
            Ok(()) => return Ok(true),
            Err(SignedError::Algorithm) => self.note(PathError::Algorithm { certificate: named() }),
            Err(SignedError::Signature) => self.note(PathError::Signature { certificate: named() }),
        }
        Ok(false)
    }

    /// Keeps why an issuer was not taken, unless more is known.
    fn note(&mut self, error: PathError) {
        if matches!(self.error, None | Some(PathError::NoPath { .. })) {
            self.error = Some(error);
        }
    }
}

/// Whether `issuer` may have issued `certificate`, by the key identifiers where both have one, and by
/// its name.
fn issued(issuer: &Certificate, certificate: &Certificate, authority_key: Option<&[u8]>) -> bool {
    let is_its_key = match (authority_key, issuer.subject_key_identifier()) {
        (Some(wanted), Some(has)) => wanted == has.as_slice(),
        _ => true,
    };
    is_its_key && issuer.subject() == certificate.issuer()
}

/// The key identifier of the issuer, as a certificate gives it.
fn authority_key(certificate: &Certificate) -> Option<Vec<u8>> {
    let identifier: AuthorityKeyIdentifier = certificate.extension().ok()??;
    Some(identifier.key_identifier?.into_bytes().into())
}

fn check_signature(certificate: &Certificate, issuer: &Certificate) -> Result<(), SignedError> {
    let decoded = certificate.decoded();
    let algorithm = decoded.signature_algorithm();
    if algorithm != decoded.tbs_certificate().signature() {
        return Err(SignedError::Algorithm);
    }
    verify_signed(certificate.der(), algorithm, issuer)
}

/// Why a certificate or CRL is not validly signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignedError {
    /// The algorithm or the key is not accepted.
    Algorithm,
    /// The signature does not verify.
    Signature,
}

/// Checks a certificate or CRL, SEQUENCE { to be signed, algorithm, signature }, over its exact octets.
pub(super) fn verify_signed(
    der: &[u8],
    algorithm: &spki::AlgorithmIdentifierOwned,
    issuer: &Certificate,
) -> Result<(), SignedError> {
    let algorithm = SignatureAlgorithm::from_complete(algorithm).ok_or(SignedError::Algorithm)?;
    if !public_key::is_strong(issuer, algorithm) {
        return Err(SignedError::Algorithm);
    }
    let tree = Tree::parse(der).map_err(|_| SignedError::Signature)?;
    let mut fields = tree.root().children();
    let signed = fields.next().ok_or(SignedError::Signature)?;
    let signature = fields.nth(1).ok_or(SignedError::Signature)?;
    // A BIT STRING begins with the number of unused bits.
    let signature = signature.content().strip_prefix(&[0]).ok_or(SignedError::Signature)?;
    let input = SignatureInput::of(algorithm, signed.octets());
    public_key::verify(issuer, algorithm, &input, signature).map_err(|error| match error {
        public_key::VerifyError::Mismatch => SignedError::Signature,
        public_key::VerifyError::KeyNotTaken { .. } => SignedError::Algorithm,
    })
}
