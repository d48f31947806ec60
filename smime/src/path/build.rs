//! Looks for a path from a leaf to an anchor among certificates in no order (RFC 4158, in small).

use std::{cmp::Ordering, collections::HashSet, ops::ControlFlow, time::SystemTime};

use super::{
    Budget, LegacySignatures, MAX_CERTIFICATE_LEN, MAX_PATH, PathError, Purpose, Refused, Revocation,
    Strength, Trust, ValidPath,
    budget::is_cheap,
    check, known,
    memory::{Answer, Question},
};
use crate::{Certificate, algorithm::SignatureAlgorithm, ber::Tree, key::SignatureInput, public_key};

/// Finds a valid path for `leaf` at the time `at`, for mail. `surplus` are the certificates that came with the
/// message: helpers on the way, never trusted by themselves.
///
/// The best path counts: one whose certificates are known not to be revoked, before one of which that is not known. What
/// is found revoked on one path stays so on all others.
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
    let search =
        |budget: &mut Budget| validate_for(Purpose::EmailProtection, budget, leaf, surplus, trust, at);
    let Some(memory) = budget.memory() else { return search(budget) };
    let Some(question) = Question::new(leaf, surplus, trust, at) else { return search(budget) };
    if let Some(answer) = budget.take(&memory, &question) {
        return Ok(answer.path.clone());
    }
    let before = budget.operations();
    let path = search(budget)?;
    if let Some(spent) = budget.spent_since(before) {
        memory.add(question, Answer { path: path.clone(), spent });
    }
    Ok(path)
}

/// Like [`validate_within`], for any purpose.
pub(crate) fn validate_for(
    purpose: Purpose,
    budget: &mut Budget,
    leaf: &Certificate,
    surplus: &[Certificate],
    trust: &Trust,
    at: SystemTime,
) -> Result<ValidPath, PathError> {
    let mut chain = vec![leaf.clone()];
    if trust.anchors.contains(leaf) {
        return check::check(&chain, Strength::Strong, purpose, surplus, trust, at, budget)
            .map_err(|refused| refused.error);
    }
    let mut search = Search {
        helpers: helpers(surplus, trust),
        surplus,
        purpose,
        trust,
        at,
        budget,
        best: None,
        revoked: Vec::new(),
        error: None,
    };
    let _ = search.extend(&mut chain, Strength::Strong)?;
    search.result(leaf)
}

/// Whoever may stand between leaf and anchor, each once, and how far from an anchor.
fn helpers<'a>(surplus: &'a [Certificate], trust: &'a Trust) -> Vec<Helper<'a>> {
    let mut seen: HashSet<_> = trust.anchors.iter().map(Certificate::fingerprint).collect();
    let ours = trust.intermediates.iter().map(|certificate| Helper {
        certificate,
        is_affordable: true,
        distance: None,
    });
    let theirs = surplus
        .iter()
        .filter(|certificate| certificate.der().len() <= MAX_CERTIFICATE_LEN)
        .map(|certificate| Helper { certificate, is_affordable: is_cheap(certificate), distance: None });
    let mut helpers: Vec<_> =
        ours.chain(theirs).filter(|helper| seen.insert(helper.certificate.fingerprint())).collect();
    measure(&mut helpers, trust);
    helpers
}

#[derive(Clone, Copy)]
struct Helper<'a> {
    certificate: &'a Certificate,
    /// Whether a signature may be checked with its key.
    is_affordable: bool,
    /// How many certificates an anchor is away by the names alone, if it can be reached at all.
    distance: Option<usize>,
}

/// Finds out who leads to an anchor by the names, which costs no check of a signature.
fn measure(helpers: &mut [Helper<'_>], trust: &Trust) {
    let mut reached: HashSet<&[u8]> =
        trust.anchors.iter().map(|anchor| anchor.prepared_subject().canonical()).collect();
    for distance in 1..MAX_PATH {
        let mut next = HashSet::new();
        for helper in helpers.iter_mut().filter(|helper| helper.distance.is_none()) {
            if reached.contains(helper.certificate.prepared_issuer().canonical()) {
                helper.distance = Some(distance);
                next.insert(helper.certificate.prepared_subject().canonical());
            }
        }
        if next.is_empty() {
            break;
        }
        reached.extend(next);
    }
}

struct Search<'a> {
    helpers: Vec<Helper<'a>>,
    surplus: &'a [Certificate],
    purpose: Purpose,
    trust: &'a Trust,
    at: SystemTime,
    budget: &'a mut Budget,
    /// The best path so far.
    best: Option<ValidPath>,
    /// What was found revoked on a path that is otherwise valid, below whom.
    revoked: Vec<Revoked>,
    /// The reason that says most: of the path that came furthest.
    error: Option<(Weight, PathError)>,
}

struct Revoked {
    certificate: Certificate,
    issuer: Certificate,
    error: PathError,
}

/// How much an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Nobody issued it.
    End,
    /// Who is named as its issuer did not sign it, or must not have.
    Issuer,
    /// A path to an anchor that is not valid.
    Path,
}

impl Search<'_> {
    /// Tries every issuer of the last certificate, anchors first, until no path can be better. The recursion is bounded
    /// by `MAX_PATH`; an error ends the whole search, as the budget is used up or the leaf was revoked: its issuer has
    /// the same name and key on all paths.
    fn extend(
        &mut self,
        chain: &mut Vec<Certificate>,
        strength: Strength,
    ) -> Result<ControlFlow<()>, PathError> {
        self.budget.step()?;
        let Some(last) = chain.last().cloned() else { return Ok(ControlFlow::Continue(())) };
        let trust = self.trust;
        for anchor in in_order(trust.anchors.iter(), &last, |anchor| anchor, |_| 0) {
            let Some(strength) = self.issued(anchor, chain, strength)? else { continue };
            chain.push(anchor.clone());
            match check::check(chain, strength, self.purpose, self.surplus, trust, self.at, self.budget) {
                Ok(path) => {
                    if self.keep(path).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Err(Refused { error: PathError::TooManyChecks, .. }) => return Err(PathError::TooManyChecks),
                Err(Refused { error, revoked: Some(0) }) => return Err(error),
                Err(Refused { error, revoked }) => {
                    let mut below = chain.iter().skip(revoked.unwrap_or(usize::MAX)).cloned();
                    if let (Some(certificate), Some(issuer)) = (below.next(), below.next()) {
                        self.revoked.push(Revoked { certificate, issuer, error: error.clone() });
                    }
                    self.note(Weight::Path, error);
                }
            }
            chain.pop();
        }
        let room = MAX_PATH.saturating_sub(chain.len() + 1);
        let near = |helper: &Helper<'_>| helper.distance.is_some_and(|distance| distance <= room);
        let helpers = self.helpers.iter().copied().filter(near);
        for helper in in_order(helpers, &last, |helper| helper.certificate, |helper| helper.distance) {
            if is_there(chain, helper.certificate) {
                continue;
            }
            if !helper.is_affordable {
                self.note(Weight::Issuer, PathError::Algorithm { certificate: last.to_string() });
                continue;
            }
            let Some(strength) = self.issued(helper.certificate, chain, strength)? else { continue };
            chain.push(helper.certificate.clone());
            if self.extend(chain, strength)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            chain.pop();
        }
        self.note(Weight::End, PathError::NoPath { certificate: last.to_string() });
        Ok(ControlFlow::Continue(()))
    }

    /// Keeps a path that is better than those before, and ends the search if none can be better.
    fn keep(&mut self, path: ValidPath) -> ControlFlow<()> {
        let rank = |path: &ValidPath| (path.strength == Strength::Strong, !is_unknown(path));
        let found = rank(&path);
        if self.best.as_ref().is_some_and(|best| rank(best) >= found) {
            return ControlFlow::Continue(());
        }
        self.best = Some(path);
        if found == (true, true) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What the whole search has found. Where nothing says that the key of an issuer is still good, it counts that a
    /// certificate of the same name and key was revoked.
    fn result(self, leaf: &Certificate) -> Result<ValidPath, PathError> {
        let Some(best) = self.best else {
            let error = self.error.map(|(_, error)| error);
            return Err(error.unwrap_or_else(|| PathError::NoPath { certificate: leaf.to_string() }));
        };
        let mut revoked = self.revoked.into_iter();
        match revoked.find(|revoked| is_unknown(&best) && is_there(&best.chain, &revoked.certificate)) {
            Some(revoked) => Err(revoked.error),
            None => Ok(best),
        }
    }

    /// Whether `issuer` may have issued the last certificate of a chain, and signed it; and how strong the
    /// chain is with this signature.
    fn issued(
        &mut self,
        issuer: &Certificate,
        chain: &[Certificate],
        strength: Strength,
    ) -> Result<Option<Strength>, PathError> {
        let (Some(last), Some(between)) = (chain.last(), chain.get(1..)) else { return Ok(None) };
        let known = self.revoked.iter().find(|known| {
            known.certificate == *last && is_there(std::slice::from_ref(issuer), &known.issuer)
        });
        if let Some(error) = known.map(|known| known.error.clone()) {
            self.note(Weight::Path, error);
            return Ok(None);
        }
        // This costs nothing, the signature does.
        if let Err(error) = check::check_issuer(issuer, between, self.purpose, self.at, self.budget) {
            self.note(Weight::Issuer, error);
            return Ok(None);
        }
        let certificate = || last.to_string();
        let check = || known::or_check(issuer, last, || check_signature(last, issuer));
        match self.budget.signed(issuer, last.fingerprint(), check)? {
            Ok(()) => return Ok(Some(strength)),
            Err(SignedError::Weak) if self.trust.legacy == LegacySignatures::Marked => {
                return Ok(Some(Strength::Legacy));
            }
            Err(SignedError::Algorithm | SignedError::Weak) => {
                self.note(Weight::Issuer, PathError::Algorithm { certificate: certificate() });
            }
            Err(SignedError::Signature) => {
                self.note(Weight::Issuer, PathError::Signature { certificate: certificate() });
            }
        }
        Ok(None)
    }

    /// Keeps why there is no path this way, unless as much is known.
    fn note(&mut self, weight: Weight, error: PathError) {
        if self.error.as_ref().is_none_or(|(known, _)| *known < weight) {
            self.error = Some((weight, error));
        }
    }
}

/// Who has the name of the issuer of `certificate`, likely ones first. The key identifiers are a hint only (RFC
/// 5280 4.2.1.1): they never hide who signed.
fn in_order<'a, T: Copy + 'a, D: Ord>(
    all: impl Iterator<Item = T>,
    certificate: &Certificate,
    of: impl Fn(&T) -> &'a Certificate,
    distance: impl Fn(&T) -> D,
) -> Vec<T> {
    let name = certificate.prepared_issuer();
    let mut named: Vec<T> = all.filter(|one| of(one).prepared_subject().is(name)).collect();
    if named.len() > 1 {
        let wanted = certificate.authority_key_identifier();
        named.sort_by_cached_key(|one| {
            let hint = match (&wanted, of(one).subject_key_identifier()) {
                (Some(wanted), Some(has)) if has == *wanted => Ordering::Less,
                (None, _) | (_, None) => Ordering::Equal,
                (Some(_), Some(_)) => Ordering::Greater,
            };
            (hint, distance(one))
        });
    }
    named
}

fn is_unknown(path: &ValidPath) -> bool {
    matches!(path.revocation, Revocation::Unknown(_))
}

/// Whether a chain has this name with this key already: going round leads nowhere (RFC 4158 5.2).
fn is_there(chain: &[Certificate], certificate: &Certificate) -> bool {
    chain.iter().any(|other| other.is_same_authority(certificate))
}

fn check_signature(certificate: &Certificate, issuer: &Certificate) -> Result<(), SignedError> {
    let decoded = certificate.decoded();
    let algorithm = decoded.signature_algorithm();
    if algorithm != decoded.tbs_certificate().signature() {
        return Err(SignedError::Algorithm);
    }
    verify_signed(certificate.der(), algorithm, issuer)
}

impl Certificate {
    /// Whether `issuer` has the name and the key that issued it, however weak the signature is. It says nothing of whether
    /// that may issue certificates.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        self.prepared_issuer().is(issuer.prepared_subject())
            && matches!(check_signature(self, issuer), Ok(()) | Err(SignedError::Weak))
    }
}

/// Why a certificate or CRL is not validly signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignedError {
    /// The algorithm or the key is not accepted.
    Algorithm,
    /// The signature does not verify.
    Signature,
    /// It verifies, and is too weak today.
    Weak,
}

/// Checks a certificate, SEQUENCE { to be signed, algorithm, signature }, over its exact octets.
fn verify_signed(
    der: &[u8],
    algorithm: &spki::AlgorithmIdentifierOwned,
    issuer: &Certificate,
) -> Result<(), SignedError> {
    let tree = Tree::parse(der).map_err(|_| SignedError::Signature)?;
    let mut fields = tree.root().children();
    let signed = fields.next().ok_or(SignedError::Signature)?;
    let signature = fields.nth(1).ok_or(SignedError::Signature)?;
    // A BIT STRING begins with the number of unused bits.
    let signature = signature.content().strip_prefix(&[0]).ok_or(SignedError::Signature)?;
    verify_parts(signed.octets(), algorithm, signature, issuer)
}

/// Checks the signature of a CA or responder over exactly these octets.
pub(crate) fn verify_parts(
    signed: &[u8],
    algorithm: &spki::AlgorithmIdentifierOwned,
    signature: &[u8],
    issuer: &Certificate,
) -> Result<(), SignedError> {
    let algorithm = SignatureAlgorithm::from_complete(algorithm).ok_or(SignedError::Algorithm)?;
    if !public_key::is_strong(issuer, algorithm) && !public_key::is_legacy(issuer, algorithm) {
        return Err(SignedError::Algorithm);
    }
    let input = SignatureInput::of(algorithm, signed);
    match public_key::verify(issuer, algorithm, &input, signature) {
        Ok(()) if public_key::is_strong(issuer, algorithm) => Ok(()),
        Ok(()) => Err(SignedError::Weak),
        Err(public_key::VerifyError::Mismatch) => Err(SignedError::Signature),
        Err(public_key::VerifyError::KeyNotTaken { .. }) => Err(SignedError::Algorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        path::ValidPolicies,
        testing::fixtures::{certificate, now, trust},
    };

    #[test]
    fn a_strong_path_is_looked_for_behind_a_weak_one_and_a_known_one_behind_an_unknown_one() {
        let (trust, budget) = (trust(), &mut Budget::default());
        let unknown = || Revocation::Unknown("nobody says".into());
        let better_and_better = [
            (Strength::Legacy, unknown()),
            (Strength::Legacy, Revocation::NotChecked),
            (Strength::Strong, unknown()),
            (Strength::Strong, Revocation::NotChecked),
        ];
        let path = |(strength, revocation): &(Strength, Revocation)| {
            let (chain, policies) = (vec![certificate("alice")], ValidPolicies::default());
            ValidPath { chain, revocation: revocation.clone(), policies, strength: *strength }
        };
        for (first, one) in better_and_better.iter().enumerate() {
            for (second, other) in better_and_better.iter().enumerate() {
                let mut search = Search {
                    helpers: Vec::new(),
                    surplus: &[],
                    purpose: Purpose::EmailProtection,
                    trust: &trust,
                    at: now(),
                    budget,
                    best: None,
                    revoked: Vec::new(),
                    error: None,
                };
                assert_eq!(search.keep(path(one)).is_break(), first == 3);
                let is_over = search.keep(path(other)).is_break();
                assert_eq!(is_over, second == 3 && first < 3);
                let best = search.best.unwrap();
                assert_eq!((best.strength, best.revocation), better_and_better[first.max(second)]);
            }
        }
    }
}
