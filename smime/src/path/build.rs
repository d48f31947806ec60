//! Looks for a path from a leaf to an anchor among certificates in no order (RFC 4158, in small).

use std::time::SystemTime;

use super::{MAX_PATH, MAX_SIGNATURE_CHECKS, PathError, Trust, ValidPath, check};
use crate::{Certificate, algorithm::SignatureAlgorithm, ber::Tree, key::Digest, public_key};

/// Finds a valid path for `leaf` at the time `at`. `surplus` are the certificates that came with the
/// message: helpers on the way, never trusted by themselves.
pub fn validate(
    leaf: &Certificate,
    surplus: &[Certificate],
    trust: &Trust,
    at: SystemTime,
) -> Result<ValidPath, PathError> {
    let mut search = Search { surplus, trust, at, checks: 0, error: None };
    let mut chain = vec![leaf.clone()];
    if trust.anchors.contains(leaf) {
        return check::check(&chain, trust, at);
    }
    match search.extend(&mut chain) {
        Some(path) => Ok(path),
        None => Err(search.error.unwrap_or_else(|| PathError::NoPath { certificate: leaf.to_string() })),
    }
}

struct Search<'a> {
    surplus: &'a [Certificate],
    trust: &'a Trust,
    at: SystemTime,
    checks: usize,
    /// The reason that says most: of the path that came furthest.
    error: Option<PathError>,
}

impl Search<'_> {
    /// Tries every issuer of the last certificate. The recursion is bounded by MAX_PATH.
    fn extend(&mut self, chain: &mut Vec<Certificate>) -> Option<ValidPath> {
        let last = chain.last()?.clone();
        let trust = self.trust;
        for anchor in trust.anchors.iter().filter(|anchor| issued(anchor, &last)) {
            if !self.is_signed_by(&last, anchor) {
                continue;
            }
            chain.push(anchor.clone());
            match check::check(chain, trust, self.at) {
                Ok(path) => return Some(path),
                Err(error) => self.error = Some(error),
            }
            chain.pop();
        }
        if chain.len() + 1 >= MAX_PATH {
            return None;
        }
        let surplus = self.surplus;
        for issuer in surplus.iter().filter(|issuer| issued(issuer, &last)) {
            if chain.contains(issuer) || trust.anchors.contains(issuer) || !self.is_signed_by(&last, issuer) {
                continue;
            }
            chain.push(issuer.clone());
            if let Some(path) = self.extend(chain) {
                return Some(path);
            }
            chain.pop();
        }
        if self.error.is_none() {
            self.error = Some(PathError::NoPath { certificate: last.to_string() });
        }
        None
    }

    fn is_signed_by(&mut self, certificate: &Certificate, issuer: &Certificate) -> bool {
        self.checks += 1;
        if self.checks > MAX_SIGNATURE_CHECKS {
            self.error = Some(PathError::TooManyChecks);
            return false;
        }
        match check_signature(certificate, issuer) {
            Ok(()) => true,
            Err(error) => {
                if matches!(self.error, None | Some(PathError::NoPath { .. })) {
                    self.error = Some(error);
                }
                false
            }
        }
    }
}

/// Whether `issuer` may have issued `certificate`, by its name and by the key identifiers where both
/// have one.
fn issued(issuer: &Certificate, certificate: &Certificate) -> bool {
    use x509_cert::ext::pkix::AuthorityKeyIdentifier;
    if issuer.subject() != certificate.issuer() {
        return false;
    }
    let wanted = match certificate.extension::<AuthorityKeyIdentifier>() {
        Ok(Some(identifier)) => identifier.key_identifier,
        _ => None,
    };
    match (wanted, issuer.subject_key_identifier()) {
        (Some(wanted), Some(has)) => wanted.as_bytes() == has.as_slice(),
        _ => true,
    }
}

fn check_signature(certificate: &Certificate, issuer: &Certificate) -> Result<(), PathError> {
    let decoded = certificate.decoded();
    let algorithm = decoded.signature_algorithm();
    let named = || certificate.to_string();
    if algorithm != decoded.tbs_certificate().signature() {
        return Err(PathError::Algorithm { certificate: named() });
    }
    match verify_signed(certificate.der(), algorithm, issuer) {
        Ok(()) => Ok(()),
        Err(SignedError::Algorithm) => Err(PathError::Algorithm { certificate: named() }),
        Err(SignedError::Signature) => Err(PathError::Signature { certificate: named() }),
    }
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
    let digest = Digest::of(algorithm.digest(), signed.octets());
    public_key::verify(issuer, algorithm, &digest, signature).map_err(|error| match error {
        public_key::VerifyError::Mismatch => SignedError::Signature,
        public_key::VerifyError::KeyNotTaken { .. } => SignedError::Algorithm,
    })
}
