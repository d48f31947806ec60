//! What one message may cost: public-key operations and steps of the search, and what they found.
//!
//! Whoever writes a message chooses how many signers and certificates it has and how they refer to each
//! other. Without one limit for all of it, a small message would keep a processor busy for minutes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    PathError, PathMemory,
    build::SignedError,
    check::Looked,
    memory::{Answer, Question},
};
use crate::{Certificate, algorithm::DigestAlgorithm, key::Digest};

/// How many public-key operations one message may cost: twenty signers below a few CAs, with CRLs,
/// need half of it.
pub const MAX_OPERATIONS: usize = 100;
/// How many certificates the search for paths may stand at, over all signers of a message. Results that
/// are known cost no operation, and among ten certificates that signed each other there are millions
/// of ways.
const MAX_STEPS: usize = 200;
/// How many pairs of a name and a constraint may be compared for one message.
const MAX_COMPARISONS: usize = 500_000;
/// How many octets of certificates may be decoded for one message, counting those again that are decoded again: names are
/// held against the constraints of each path.
const MAX_DECODED: usize = 64 << 20;
/// How many octets a certificate of a message may have: every operation on it reads them all.
pub const MAX_CERTIFICATE_LEN: usize = 65_536;
/// How many bits an RSA key of a message may have. A trust anchor may have more.
pub const MAX_RSA_BITS: usize = 4096;

/// SHA-256 over the exact octets.
type Fingerprint = [u8; 32];

/// What is left of the work that one message may cause, and the results that are already known.
///
/// A budget is for one message: content signatures, certificates and CRLs all draw on it.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    operations: usize,
    steps: usize,
    exceeded: bool,
    /// How long others were waited for.
    waited: Duration,
    /// By the issuer's public key, and by what it is said to have signed.
    known: HashMap<(Fingerprint, Fingerprint), Result<(), SignedError>>,
    /// What certificates say of themselves.
    looked: HashMap<Fingerprint, Looked>,
    /// The octets of those that were decoded for it.
    decoded: usize,
    /// How many names were compared with constraints.
    comparisons: usize,
    /// Paths that were found for other messages.
    memory: Option<Arc<PathMemory>>,
    /// The one of them that was taken; what finding it had found counts as found.
    taken: Option<Arc<Answer>>,
}

/// What finding a path took of a budget that nothing else was taken of but operations.
#[derive(Debug)]
pub(super) struct Spent {
    operations: usize,
    steps: usize,
    decoded: usize,
    comparisons: usize,
    known: HashMap<(Fingerprint, Fingerprint), Result<(), SignedError>>,
    looked: HashMap<Fingerprint, Looked>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(MAX_OPERATIONS)
    }
}

impl Budget {
    /// A budget of so many public-key operations.
    pub fn of(operations: usize) -> Self {
        Self {
            limit: operations,
            operations: 0,
            steps: 0,
            exceeded: false,
            waited: Duration::ZERO,
            known: HashMap::new(),
            looked: HashMap::new(),
            decoded: 0,
            comparisons: 0,
            memory: None,
            taken: None,
        }
    }

    /// The same, with paths that were found for other messages under the same trust. They cost this one what they had
    /// cost the other, so that no verdict depends on what came before.
    #[must_use]
    pub fn remembering(self, memory: &Arc<PathMemory>) -> Self {
        Self { memory: Some(Arc::clone(memory)), ..self }
    }

    /// The memory for a first path: what one costs after others depends on these.
    pub(super) fn memory(&self) -> Option<Arc<PathMemory>> {
        let is_first = self.steps == 0
            && self.decoded == 0
            && self.comparisons == 0
            && self.known.is_empty()
            && self.looked.is_empty()
            && !self.exceeded;
        self.memory.clone().filter(|_| is_first)
    }

    /// Takes what is remembered, if that can be paid for.
    pub(super) fn take(&mut self, memory: &PathMemory, question: &Question) -> Option<Arc<Answer>> {
        let answer = memory.answer(question)?;
        let Spent { operations, steps, decoded, comparisons, .. } = &answer.spent;
        self.operations = self.operations.checked_add(*operations).filter(|sum| *sum <= self.limit)?;
        (self.steps, self.decoded, self.comparisons) = (*steps, *decoded, *comparisons);
        self.taken = Some(Arc::clone(&answer));
        Some(answer)
    }

    /// What was spent since there were so many operations; `None` where not everything was looked at.
    pub(super) fn spent_since(&self, operations: usize) -> Option<Spent> {
        (!self.exceeded).then(|| Spent {
            operations: self.operations.saturating_sub(operations),
            steps: self.steps,
            decoded: self.decoded,
            comparisons: self.comparisons,
            known: self.known.clone(),
            looked: self.looked.clone(),
        })
    }

    /// How many public-key operations were made.
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// The octets of all certificates whose extensions were decoded, as often as they were.
    pub fn decoded(&self) -> usize {
        self.decoded
    }

    /// Whether something was left undone: then nothing may be concluded from what was not found.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// The same for who has waited for a source of CRLs and OCSP responses before.
    #[must_use]
    pub fn having_waited(self, waited: Duration) -> Self {
        Self { waited, ..self }
    }

    /// How long a source of CRLs and OCSP responses was waited for.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The same, to be added to by who waits.
    pub(crate) fn waited_mut(&mut self) -> &mut Duration {
        &mut self.waited
    }

    /// Says that something is left undone, for any other limit.
    pub(crate) fn exceed(&mut self) -> PathError {
        self.exceeded = true;
        PathError::TooManyChecks
    }

    /// Asks for one public-key operation.
    pub(crate) fn operation(&mut self) -> Result<(), PathError> {
        if self.exceeded || self.operations >= self.limit {
            return Err(self.exceed());
        }
        self.operations += 1;
        Ok(())
    }

    /// Asks for one step of a search.
    pub(crate) fn step(&mut self) -> Result<(), PathError> {
        if self.exceeded || self.steps >= MAX_STEPS {
            return Err(self.exceed());
        }
        self.steps += 1;
        Ok(())
    }

    /// What a certificate says of itself; its extensions are decoded once.
    pub(super) fn look_at(&mut self, certificate: &Certificate) -> Looked {
        let taken = self.taken.as_ref().and_then(|taken| taken.spent.looked.get(certificate.fingerprint()));
        if let Some(looked) = taken {
            return looked.clone();
        }
        let decoded = &mut self.decoded;
        let looked = self.looked.entry(*certificate.fingerprint()).or_insert_with(|| {
            *decoded = decoded.saturating_add(certificate.der().len());
            Looked::at(certificate)
        });
        looked.clone()
    }

    /// Asks for so many comparisons of a name with a constraint, of a certificate that has to be decoded for them.
    pub(super) fn compare(&mut self, certificate: &Certificate, comparisons: usize) -> Result<(), PathError> {
        self.decoded = self.decoded.saturating_add(certificate.der().len());
        self.comparisons = self.comparisons.saturating_add(comparisons);
        if self.exceeded || self.comparisons > MAX_COMPARISONS || self.decoded > MAX_DECODED {
            return Err(self.exceed());
        }
        Ok(())
    }

    /// Whether `issuer` signed what has the fingerprint `signed`: known already, or found by `check`.
    pub(crate) fn signed(
        &mut self,
        issuer: &Certificate,
        signed: &Fingerprint,
        check: impl FnOnce() -> Result<(), SignedError>,
    ) -> Result<Result<(), SignedError>, PathError> {
        let key = Digest::of(DigestAlgorithm::Sha256, &issuer.public_key_info());
        let pair = (key.as_bytes().try_into().unwrap_or(*issuer.fingerprint()), *signed);
        let taken = self.taken.as_ref().map(|taken| &taken.spent.known);
        if let Some(known) = self.known.get(&pair).or_else(|| taken?.get(&pair)) {
            return Ok(*known);
        }
        self.operation()?;
        let found = check();
        self.known.insert(pair, found);
        Ok(found)
    }
}

/// Whether operations with the key of a certificate that came with a message are cheap enough.
pub(crate) fn is_cheap(certificate: &Certificate) -> bool {
    certificate.der().len() <= MAX_CERTIFICATE_LEN
        && certificate.rsa_modulus_bits().is_none_or(|bits| bits <= MAX_RSA_BITS)
}
