//! Paths that were found valid a moment ago: an archive is the same few signers again and again.
//!
//! A path is valid at a time and as far as is known then, so nothing is remembered for long: whoever has the time says
//! when a new moment has begun ([`PathMemory::begin`]), and all is looked for anew. What is remembered is the whole answer
//! to the whole question, with what finding it had cost the message; only good answers are, and none that anything but
//! the certificates of the message has a part in.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{Trust, ValidPath, budget::Spent};
use crate::Certificate;

/// What was found under one [`Trust`], whose CRLs, sources and distrust may say something else in the next moment.
#[derive(Debug, Default)]
pub struct PathMemory {
    state: Mutex<State>,
}

/// In two halves: when one is full, the other, which is older, is forgotten.
#[derive(Debug, Default)]
struct State {
    moment: Option<u64>,
    young: HashMap<Question, Arc<Answer>>,
    old: HashMap<Question, Arc<Answer>>,
}

/// How many are in one half.
const HALF: usize = 1024;
/// How many certificates a message may have whose paths are remembered.
const MAX_SURPLUS: usize = 10;

/// All that an answer depends on, but what is trusted: the leaf, what came with it, and the time.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    leaf: [u8; 32],
    surplus: Vec<[u8; 32]>,
    at: SystemTime,
}

/// A path, and what finding it took.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) path: ValidPath,
    pub(super) spent: Spent,
}

impl Question {
    /// The question whether there is a path; `None` where its answer is not to be remembered.
    pub(super) fn new(
        leaf: &Certificate,
        surplus: &[Certificate],
        trust: &Trust,
        at: SystemTime,
    ) -> Option<Self> {
        let is_own = trust.enclosed.crls.is_empty() && trust.enclosed.ocsp.is_empty();
        let surplus = Some(surplus).filter(|surplus| is_own && surplus.len() <= MAX_SURPLUS)?;
        let surplus = surplus.iter().map(|certificate| *certificate.fingerprint()).collect();
        Some(Self { leaf: *leaf.fingerprint(), surplus, at })
    }
}

impl PathMemory {
    /// A moment begins, or goes on where it is the same: of those before nothing is remembered.
    pub fn begin(&self, moment: u64) {
        let mut state = self.state();
        if state.moment != Some(moment) {
            *state = State { moment: Some(moment), ..State::default() };
        }
    }

    pub(super) fn answer(&self, question: &Question) -> Option<Arc<Answer>> {
        let state = self.state();
        state.young.get(question).or_else(|| state.old.get(question)).cloned()
    }

    pub(super) fn add(&self, question: Question, answer: Answer) {
        let mut state = self.state();
        if state.young.len() >= HALF {
            state.old = mem::take(&mut state.young);
        }
        state.young.insert(question, Arc::new(answer));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The maps are whole after each statement, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
