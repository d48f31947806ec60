//! What is known of the PINs that were tried, and what of it outlives a process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::pin::PinHash;

/// What is known of the PINs that were tried, without the PINs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinRecord {
    /// The PIN that must not be tried again, and why.
    pub(super) rejected: Option<(PinHash, Rejection)>,
    /// A PIN whose login failed in a way that may have counted as a wrong PIN, or never ended.
    pub(super) doubtful: Option<PinHash>,
    /// The last PIN that was right.
    pub(super) accepted: Option<PinHash>,
}

/// Why a PIN must not be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Rejection {
    Wrong,
    Locked,
    Expired,
    /// The token refused the login without saying that the PIN is wrong.
    Refused {
        code: String,
    },
}

/// Told of each change of a record, before it matters: once it returns `true`, the record is kept even if this process,
/// its parent or the whole system ends at once.
pub(crate) type Witness = Arc<dyn Fn(&PinRecord) -> bool + Send + Sync>;

impl PinRecord {
    /// Whether something is known, but not of this PIN.
    pub(super) fn has_another_than(&self, hash: &PinHash) -> bool {
        let rejected = self.rejected.as_ref().map(|(hash, _)| hash);
        let mut known =
            [rejected, self.doubtful.as_ref(), self.accepted.as_ref()].into_iter().flatten().peekable();
        known.peek().is_some() && known.all(|known| known != hash)
    }

    pub(crate) fn is_rejection(&self) -> bool {
        self.rejected.is_some()
    }

    /// What must be known after a restart: that a PIN was right is found out again at no cost. `None`: nothing.
    pub(crate) fn to_keep(&self) -> Option<Self> {
        let kept = Self { accepted: None, ..self.clone() };
        (kept != Self::default()).then_some(kept)
    }

    /// What is to be known if a login with this PIN may have cost a try. One that was right before has not
    /// become wrong because a process ended.
    pub(crate) fn after_doubt(self, hash: &PinHash, code: &str) -> Self {
        if self.accepted.as_ref() == Some(hash) {
            self
        } else if self.doubtful.as_ref() == Some(hash) {
            let reason = Rejection::Refused { code: code.to_owned() };
            Self { rejected: Some((hash.clone(), reason)), ..self }
        } else {
            Self { doubtful: Some(hash.clone()), ..self }
        }
    }
}
