//! What is known of PINs, told by a child process to its parent, so that it outlives the child.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::pool::Records;
use crate::{TokenSettings, login::PinRecord, pin::PinSalt};

/// What a child tells its parent before and after it logs in.
#[derive(Serialize, Deserialize)]
pub(crate) struct PinNotice {
    /// Which of the child's tokens.
    pub(crate) token: u32,
    pub(crate) record: PinRecord,
}

/// The parent's memory.
pub(crate) struct PinMemory {
    pub(super) salt: PinSalt,
    pub(super) records: Records,
}

impl Default for PinMemory {
    fn default() -> Self {
        Self { salt: PinSalt::random(), records: Records::default() }
    }
}

impl PinMemory {
    pub(super) fn note(&self, tokens: &[TokenSettings], notice: PinNotice) {
        let token = usize::try_from(notice.token).ok().and_then(|number| tokens.get(number));
        if let Some(TokenSettings { module, label, .. }) = token {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            records.insert((module.clone(), label.clone()), notice.record);
        }
    }

    /// What is known of these tokens' PINs, in their order.
    pub(super) fn of(&self, tokens: &[TokenSettings]) -> Vec<PinRecord> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |token: &TokenSettings| records.get(&(token.module.clone(), token.label.clone())).cloned();
        tokens.iter().map(|token| of(token).unwrap_or_default()).collect()
    }
}
