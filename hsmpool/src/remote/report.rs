//! What may be asked of a server beside the use of keys: how its tokens are doing, who has which key.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    error::Text,
    wire::{AtMost, Ids, at_most, octets},
};
use crate::{
    TokenMetrics, TokenState, TokenStatus,
    public_key::KeyName,
    shortcomings::{Finding, Need},
};

/// A question, as it stands in its frame: nothing of it is copied before it is known to be somebody's business.
#[derive(Serialize, Deserialize)]
pub(super) enum Inquiry<'a> {
    /// How every token is doing.
    Status,
    /// What every token has done.
    Metrics,
    /// Which of these keys no token has.
    Missing {
        #[serde(borrow, deserialize_with = "at_most::<_, _, MOST_KEYS>")]
        keys: Vec<WireKey<'a>>,
    },
    /// What the tokens can do of what these keys are needed for.
    Needs {
        #[serde(borrow, deserialize_with = "at_most::<_, _, MOST_KEYS>")]
        needs: Vec<WireNeed<'a>>,
    },
}

/// Its answer.
#[derive(Serialize, Deserialize)]
pub(super) enum Report {
    Status(AtMost<WireStatus, MOST_TOKENS>),
    Metrics(AtMost<TokenMetrics, MOST_METRICS>),
    /// For each key that was asked for, in that order. `None`: it is not known at the moment.
    Missing(Option<AtMost<bool, MOST_KEYS>>),
    /// By the places of the needs in the question. `None`: it is not known at the moment.
    Findings(Option<AtMost<Finding, MOST_FINDINGS>>),
}

/// A key, named in full.
#[derive(Serialize, Deserialize)]
pub(super) struct WireKey<'a> {
    #[serde(borrow, with = "octets")]
    pub(super) public_key_info: &'a [u8],
    #[serde(borrow)]
    pub(super) ids: Ids<'a>,
    #[serde(borrow)]
    pub(super) description: &'a str,
}

/// How many keys a question may name; who has more asks more than once.
pub(super) const MOST_KEYS: usize = 100;

/// Of how many tokens the state is told.
pub(super) const MOST_TOKENS: usize = 1000;
/// Of how many tokens the metrics are told: that many fit into a frame.
pub(super) const MOST_METRICS: usize = 16;
/// How many findings there are of a question: each key has a few for each token.
pub(super) const MOST_FINDINGS: usize = 10_000;

/// A [`Need`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireNeed<'a> {
    #[serde(borrow)]
    pub(super) key: WireKey<'a>,
    pub(super) signs: bool,
    pub(super) decrypts: bool,
}

impl<'a> From<&'a Need> for WireNeed<'a> {
    fn from(need: &'a Need) -> Self {
        Self { key: WireKey::from(&need.name), signs: need.signs, decrypts: need.decrypts }
    }
}

impl<'a> From<&'a KeyName> for WireKey<'a> {
    fn from(name: &'a KeyName) -> Self {
        let KeyName { info, ids, description, .. } = name;
        Self { public_key_info: info, ids: Ids::of(ids), description }
    }
}

/// A [`TokenStatus`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireStatus {
    label: Text,
    module: Text,
    state: WireState,
    sessions: u32,
    wanted: u32,
    waiting: u32,
    hanging: u32,
}

#[derive(Serialize, Deserialize)]
enum WireState {
    Connecting,
    Up,
    Down { reason: Text },
}

impl From<&TokenStatus> for WireStatus {
    fn from(status: &TokenStatus) -> Self {
        Self {
            label: Text::of(&status.label),
            module: Text::of(&status.module.to_string_lossy()),
            state: match &status.state {
                TokenState::Connecting => WireState::Connecting,
                TokenState::Up => WireState::Up,
                TokenState::Down { reason } => WireState::Down { reason: Text::of(reason) },
            },
            sessions: u32::try_from(status.sessions).unwrap_or(u32::MAX),
            wanted: u32::try_from(status.wanted).unwrap_or(u32::MAX),
            waiting: u32::try_from(status.waiting).unwrap_or(u32::MAX),
            hanging: u32::try_from(status.hanging).unwrap_or(u32::MAX),
        }
    }
}

impl From<WireStatus> for TokenStatus {
    fn from(status: WireStatus) -> Self {
        Self {
            label: status.label.0,
            module: PathBuf::from(status.module.0),
            state: match status.state {
                WireState::Connecting => TokenState::Connecting,
                WireState::Up => TokenState::Up,
                WireState::Down { reason } => TokenState::Down { reason: reason.0 },
            },
            sessions: usize::try_from(status.sessions).unwrap_or(usize::MAX),
            wanted: usize::try_from(status.wanted).unwrap_or(usize::MAX),
            waiting: usize::try_from(status.waiting).unwrap_or(usize::MAX),
            hanging: usize::try_from(status.hanging).unwrap_or(usize::MAX),
        }
    }
}
